/* Names the class of each clip, or its classes, of the files on the command line, with its logits.
 *
 * A student with its front-end reads WAV files (16-bit PCM at STUDENT_SAMPLE_RATE); one without
 * reads log-mels, float32 [C][F][T], one clip after the other. It runs on a computer, and on a
 * Cortex-M in QEMU, where files are opened by semihosting.
 */
#include "student.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All that a student remembers. A board may place it anywhere, aligned to 8 bytes. */
static _Alignas(8) uint8_t arena[STUDENT_ARENA_BYTES];

static int complain(const char *file, const char *what) {
  fprintf(stderr, "student: %s: %s\n", file, what);
  return 1;
}

static void print_clip(const char *file, unsigned index) {
  float logits[STUDENT_CLASSES];
  student_compute_logits(arena, logits);
  printf("%s\t%u\t", file, index);
#ifdef STUDENT_HAS_SEVERAL_LABELS
  int named = 0;
  for (int k = 0; k < STUDENT_CLASSES; k++) {
    if (logits[k] > 0) printf("%s%s", named++ ? "|" : "", student_classes[k]);
  }
  printf("%s\t", named ? "" : "none of them");
#else
  int best = 0;
  for (int k = 1; k < STUDENT_CLASSES; k++) {
    if (logits[k] > logits[best]) best = k;
  }
  printf("%s\t", student_classes[best]);
#endif
  for (int k = 0; k < STUDENT_CLASSES; k++) printf(" %.4f", (double)logits[k]);
  printf("\n");
}

#ifdef STUDENT_HAS_FRONT_END

/* A piece of 10 ms, as a microphone's driver would hand it over. */
#define PIECE ((STUDENT_SAMPLE_RATE) / 100)
#define MOST_CHANNELS 8

typedef struct {
  unsigned channels;
  uint32_t data_bytes;
} wav_header;

static uint32_t read_number(const uint8_t *bytes, int count) {
  uint32_t number = 0;
  for (int i = count - 1; i >= 0; i--) number = number << 8 | bytes[i];
  return number;
}

/* Reads up to the samples; returns what is wrong with the file, or 0. */
static const char *read_header(FILE *opened, wav_header *header) {
  uint8_t head[12], chunk[8], format[16];
  header->channels = 0;
  if (fread(head, 1, 12, opened) != 12 || memcmp(head, "RIFF", 4) || memcmp(head + 8, "WAVE", 4))
    return "no WAV file";
  while (fread(chunk, 1, 8, opened) == 8) {
    const uint32_t size = read_number(chunk + 4, 4);
    if (!memcmp(chunk, "data", 4)) {
      header->data_bytes = size;
      return header->channels ? 0 : "its samples come before their format";
    }
    uint32_t read = 0;
    if (!memcmp(chunk, "fmt ", 4)) {
      if (fread(format, 1, 16, opened) != 16) return "ends within its header";
      const uint32_t kind = read_number(format, 2);
      if ((kind != 1 && kind != 0xFFFE) || read_number(format + 14, 2) != 16)
        return "no 16-bit PCM: ffmpeg -i FILE -c:a pcm_s16le out.wav";
      const uint32_t rate = read_number(format + 4, 4);
      if (rate != STUDENT_SAMPLE_RATE) {
        static char fault[128];
        snprintf(fault, sizeof fault, "%lu Hz, expected %lu: ffmpeg -i FILE -ar %lu out.wav",
                 (unsigned long)rate, (unsigned long)STUDENT_SAMPLE_RATE,
                 (unsigned long)STUDENT_SAMPLE_RATE);
        return fault;
      }
      header->channels = read_number(format + 2, 2);
      if (header->channels < 1 || header->channels > MOST_CHANNELS)
        return "has no channel, or more than 8";
      read = 16;
    }
    /* Chunks begin at even bytes. Skipped by reading: a pipe cannot seek. */
    for (uint32_t left = size + size % 2 - read; left > 0; left--) {
      if (getc(opened) == EOF) return "ends within its header";
    }
  }
  return "has no samples";
}

/* Reads up to PIECE samples, mixed down to one channel; returns how many. */
static size_t read_piece(FILE *opened, wav_header *header, int16_t *samples) {
  uint8_t frame[2 * MOST_CHANNELS];
  const size_t frame_bytes = 2 * header->channels;
  size_t count = 0;
  while (count < PIECE && header->data_bytes >= frame_bytes &&
         fread(frame, 1, frame_bytes, opened) == frame_bytes) {
    int32_t sum = 0;
    for (unsigned c = 0; c < header->channels; c++) {
      sum += (int16_t)(uint16_t)read_number(frame + 2 * c, 2);
    }
    samples[count++] = (int16_t)(sum / (int32_t)header->channels);
    header->data_bytes -= (uint32_t)frame_bytes;
  }
  return count;
}

/* Gives a piece to the student, and prints each clip that becomes complete. */
static unsigned push_piece(const char *file, const int16_t *samples, size_t count, unsigned index) {
  while (count > 0) {
    const size_t taken = student_push(arena, samples, count);
    samples += taken;
    count -= taken;
    if (student_ready(arena)) {
      print_clip(file, index++);
      student_start(arena);
    }
  }
  return index;
}

static int classify(const char *file, FILE *opened) {
  wav_header header;
  const char *fault = read_header(opened, &header);
  if (fault) return complain(file, fault);
  int16_t samples[PIECE];
  unsigned index = 0;
  size_t total = 0, count;
  student_start(arena);
  while ((count = read_piece(opened, &header, samples)) > 0) {
    index = push_piece(file, samples, count, index);
    total += count;
  }
  if (total == 0) return complain(file, "has no samples");
  /* Sound that is shorter than a clip is followed by silence; a rest behind clips is left out. */
  memset(samples, 0, sizeof samples);
  while (index == 0) index = push_piece(file, samples, PIECE, index);
  return 0;
}

#else

#define CLIP_VALUES (STUDENT_CHANNELS * STUDENT_BANDS * STUDENT_FRAMES)

static int classify(const char *file, FILE *opened) {
  unsigned index = 0;
  for (;; index++) {
    uint8_t *codes = student_input(arena);
    size_t count = 0;
    float log_mel;
    while (count < CLIP_VALUES && fread(&log_mel, sizeof log_mel, 1, opened) == 1) {
      codes[count++] = student_quantise(log_mel);
    }
    if (count == 0 && index > 0) return 0;
    if (count < CLIP_VALUES)
      return complain(file, "does not hold whole clips: float32 [C][F][T], sizes in student.h");
    print_clip(file, index);
  }
}

#endif

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "student: expected files: student FILE...\n");
    return 2;
  }
  int failed = 0;
  for (int i = 1; i < argc; i++) {
    FILE *opened = fopen(argv[i], "rb");
    if (!opened) {
      failed |= complain(argv[i], "cannot be opened");
      continue;
    }
    failed |= classify(argv[i], opened);
    fclose(opened);
  }
  exit(failed); /* start.c calls it only if it is linked, and so if it is named here */
}
