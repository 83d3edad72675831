/* Runs the clips of a file: clips.bin -> results.bin.
 *
 * A clip is int16 samples [STUDENT_CLIP_SAMPLES], or float32 log-mels [C][F][T]. A result is its
 * logits as float32, and as uint64 what the front-end and the student took (instructions, or
 * nanoseconds) and the bytes of stack so far.
 */
#include "board.h"
#include "student.h"

static _Alignas(8) uint8_t arena[STUDENT_ARENA_BYTES];

#ifdef STUDENT_HAS_FRONT_END

/* Hears one clip in pieces of 10 ms; returns whether there was one. */
static int take_clip(int clips, uint64_t *spent) {
  int16_t samples[STUDENT_SAMPLE_RATE / 100];
  *spent = 0;
  student_start(arena);
  for (size_t left = STUDENT_CLIP_SAMPLES; left > 0;) {
    const size_t most = sizeof samples / sizeof *samples;
    const size_t count = left < most ? left : most;
    if (board_read(clips, samples, count * sizeof *samples) != count * sizeof *samples) return 0;
    const uint64_t before = board_count();
    for (size_t done = 0; done < count;) done += student_push(arena, samples + done, count - done);
    *spent += board_count() - before;
    left -= count;
  }
  return student_ready(arena);
}

#else

#define CLIP_VALUES (STUDENT_CHANNELS * STUDENT_BANDS * STUDENT_FRAMES)

static int take_clip(int clips, uint64_t *spent) {
  uint8_t *codes = student_input(arena);
  float log_mels[64];
  *spent = 0;
  for (size_t done = 0; done < CLIP_VALUES;) {
    const size_t left = CLIP_VALUES - done, count = left < 64 ? left : 64;
    if (board_read(clips, log_mels, count * sizeof *log_mels) != count * sizeof *log_mels) return 0;
    for (size_t i = 0; i < count; i++) codes[done++] = student_quantise(log_mels[i]);
  }
  return 1;
}

#endif

int main(void) {
  const int clips = board_open("clips.bin", 0), results = board_open("results.bin", 1);
  if (clips < 0 || results < 0) return 1;
  float logits[STUDENT_CLASSES];
  uint64_t spent[3];
  board_paint_stack();
  while (take_clip(clips, &spent[0])) {
    const uint64_t before = board_count();
    student_compute_logits(arena, logits);
    spent[1] = board_count() - before;
    spent[2] = board_measure_stack();
    board_write(results, logits, sizeof logits);
    board_write(results, spent, sizeof spent);
  }
  return 0;
}
