/* The front-end of a student: @SETTINGS@.

   Log-mels become codes of 8 bits as frames are complete; see front_end.h. The same samples give the same
   codes, in pieces of any size and on every processor: compile with -ffp-contract=off. */
#include "front_end.h"

#include <string.h>

enum {
  N_FFT = @N_FFT@,
  /* Pairs of samples, which are transformed as complex numbers. */
  POINTS = N_FFT / 2,
  LAST_RADIX = @LAST_RADIX@,
  /* Angles of the table of sines. */
  CIRCLE = @CIRCLE@,
  QUARTER = CIRCLE / 4,
  /* An even number of samples: the last one may have no weight. */
  WINDOW = @WINDOW@,
  /* Samples of the transform before the window. */
  WINDOW_BEFORE = @WINDOW_BEFORE@,
  /* Weights in the table; each one after them is that of sample WINDOW_MIRROR - i (0: there are none). */
  WINDOW_HALF = @WINDOW_HALF@,
  WINDOW_MIRROR = @WINDOW_MIRROR@,
  /* With the sample before the window, which the mirrored end of a clip needs. */
  HISTORY = WINDOW + 1,
  HOP = @HOP@,
  /* Whether there is a pre-emphasis. */
  EMPHASISES = @EMPHASISES@,
  FIRST_BIN = @FIRST_BIN@,
  PIECES = @PIECES@,
  /* Whether weights rise along parabolas, or else along lines. */
  BENT = @BENT@,
  /* Whether bands have factors of their own. */
  SCALED = @SCALED@,
  KEPT_BYTES = @KEPT_BYTES@,
  INPUT_ZERO = @INPUT_ZERO@
};

#define PRE_EMPHASIS @PRE_EMPHASIS@
#define LOG_OFFSET @LOG_OFFSET@

/* Of the passes of the transform, the first one first. */
static const uint8_t radices[] = {@RADICES@};

@TABLES@

/* A sample as it came, or what pre-emphasis made of it. */
typedef @HELD@ held;

typedef struct {
  float re, im;
} point;

#define BEGUN 0xB16C11F5u

typedef struct {
  union {
    /* A frame: its samples in pairs, then its spectrum, then the power of bin k at [k].re. */
    point spectrum[POINTS + 1];
    /* A band's logarithms, with its first and its last twice more at either end. */
    int32_t row[FRONT_END_FRAMES + 4];
  } work;
  /* [0] is the sample before the window, which only the mirrored end of a clip needs. */
  held history[HISTORY];
  uint32_t begun; /* BEGUN between start and stop: elsewhere memory may hold anything */
  int32_t taken;  /* samples of the clip so far */
  int32_t filled; /* samples in the history; below 0 are that many to skip */
  int32_t frame;  /* frames that are done */
  int16_t previous;
  /* What of the logarithms has no room in the codes. */
  uint8_t kept[KEPT_BYTES];
} front_end;

_Static_assert(sizeof(front_end) == FRONT_END_SCRATCH_BYTES, "the scratch is as large as promised");

/* ---- Numbers ---- */

/* Natural logarithm of a positive normal number, to 3e-7 of its size: the same on every processor
   and with every C library. x = 2^exponent m with m from sqrt(1/2) to sqrt(2), and
   ln m = 2 artanh((m - 1) / (m + 1)). */
static inline float take_log(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  bits += 0x3f800000u - 0x3f3504f3u;
  const int32_t exponent = (int32_t)(bits >> 23) - 127;
  bits = (bits & 0x007fffffu) + 0x3f3504f3u;
  float m;
  memcpy(&m, &bits, sizeof m);
  const float s = (m - 1.0f) / (m + 1.0f);
  const float z = s * s;
  const float series = 2.0f + z * (0.666666667f + z * (0.4f + z * 0.285714286f));
  return (float)exponent * 0.693147181f + s * series;
}

/* Code of a value in steps from 0: rounded half to even, as the sum with 1.5 * 2^23 is. */
static inline uint8_t round_code(float steps) {
  steps = steps < (float)(0 - INPUT_ZERO) ? (float)(0 - INPUT_ZERO) : steps;
  steps = steps > (float)(255 - INPUT_ZERO) ? (float)(255 - INPUT_ZERO) : steps;
  return (uint8_t)((int32_t)((steps + 12582912.0f) - 12582912.0f) + INPUT_ZERO);
}

@TRANSFORM@

/* ---- From samples to power ---- */

/* Sample i of the window, weighted; 0 outside. */
static float weigh(const held *samples, int i) {
  if (i < 0 || i >= WINDOW) {
    return 0.0f;
  }
  return (float)samples[i] * window[i < WINDOW_HALF ? i : WINDOW_MIRROR - i];
}

/* Point q of a group lies between those of the same q of other groups, which the last pass takes apart. */
static inline point *find_point(point *spectrum, int here, int next, int q) {
  return spectrum + (q > LAST_RADIX / 2 ? next : here) + q * (POINTS / LAST_RADIX);
}

/* Loads a group whose weights follow one another in the table, forwards or backwards. */
static inline void load_group(point *spectrum, int here, int next, const held *samples,
                              const float *weights, int forwards) {
  for (int q = 0; q < LAST_RADIX; q++) {
    *find_point(spectrum, here, next, q) =
        (point){(float)samples[2 * q] * weights[2 * q * forwards],
                (float)samples[2 * q + 1] * weights[(2 * q + 1) * forwards]};
  }
}

/* Sample 2 n becomes the real part of point n, sample 2 n + 1 its imaginary part; each point is put where
   the passes expect it. */
static void load(front_end *state) {
  const held *samples = state->history + 1;
  point *spectrum = state->work.spectrum;
  for (int group = 0, here = 0, next; group < POINTS / LAST_RADIX; group++, here = next) {
    const int from = 2 * LAST_RADIX * group - WINDOW_BEFORE, to = from + 2 * LAST_RADIX;
    next = find_place(group + 1);
    if (from >= 0 && to <= WINDOW_HALF) {
      load_group(spectrum, here, next, samples + from, window + from, 1);
    } else if (from >= WINDOW_HALF && to <= WINDOW && WINDOW_MIRROR > 0) {
      load_group(spectrum, here, next, samples + from, window + WINDOW_MIRROR - from, -1);
    } else {
      for (int q = 0; q < LAST_RADIX; q++) {
        *find_point(spectrum, here, next, q) =
            (point){weigh(samples, from + 2 * q), weigh(samples, from + 2 * q + 1)};
      }
    }
  }
}

/* The spectrum of N_FFT samples from that of POINTS pairs, as power: the window has halved them. */
static void take_power(point *spectrum) {
  const float sum = spectrum[0].re + spectrum[0].im, difference = spectrum[0].re - spectrum[0].im;
  spectrum[0].re = 4.0f * sum * sum;
  spectrum[POINTS].re = 4.0f * difference * difference;
  for (int k = 1; k <= POINTS / 2; k++) {
    const point a = spectrum[k], b = spectrum[POINTS - k], w = find_near_root(CIRCLE / N_FFT * k);
    const point even = {a.re + b.re, a.im - b.im}, odd = {a.im + b.im, b.re - a.re};
    const point turned = multiply(odd, w);
    const point low = add(even, turned), high = subtract(even, turned);
    spectrum[k].re = low.re * low.re + low.im * low.im;
    spectrum[POINTS - k].re = high.re * high.re + high.im * high.im;
  }
}

/* ---- From power to codes [channels][bands][frames] ---- */

@CODES@

static void finish_band(front_end *state, uint8_t *codes, int band, float power) {
  const float log_power = take_log(power * band_gains[SCALED ? band : 0] + LOG_OFFSET);
  store(state, codes, band, log_power);
}

/* Each bin lies between the peaks of two triangles: what of its power does not rise to the one falls from
   the other. */
static void sum_bands(front_end *state, uint8_t *codes) {
  const point *bin = state->work.spectrum + FIRST_BIN;
  float risen = 0.0f, rising = 0.0f, falling = 0.0f;
  for (int piece = 0, band = -1; piece < PIECES; piece++) {
    float weight = first_weights[piece], step = weight_steps[piece];
    const float bend = weight_bends[BENT ? piece : 0];
    for (int n = piece_bins[piece] & 127; n > 0; n--, bin++) {
      const float part = bin->re * weight;
      rising += part;
      falling += bin->re - part;
      weight += step;
      step += BENT ? bend : 0.0f;
    }
    if (piece_bins[piece] & 128) {
      continue; /* the next piece has the same two triangles */
    }
    if (band >= 0) {
      finish_band(state, codes, band, risen + falling);
    }
    risen = rising;
    rising = falling = 0.0f;
    band++;
  }
}

/* ---- A clip, as its samples come ---- */

static void finish_frame(front_end *state, uint8_t *codes) {
  load(state);
  transform(state->work.spectrum);
  take_power(state->work.spectrum);
  sum_bands(state, codes);
  state->frame++;
  for (int i = HOP; i < HISTORY; i++) {
    state->history[i - HOP] = state->history[i];
  }
  state->filled -= HOP;
}

/* Mirrors the first half of the first window at the clip's first sample. */
static void mirror_start(held *history) {
  const int first = 1 + WINDOW / 2;
  for (int k = 1; k < WINDOW / 2; k++) {
    history[first - k] = history[first + k];
  }
}

/* Finishes the frames that reach beyond the clip, mirrored at its last sample. */
static void finish_end(front_end *state, uint8_t *codes) {
  while (state->frame < FRONT_END_FRAMES) {
    const int last = state->filled - 1;
    for (int i = last + 1; i < HISTORY; i++) {
      state->history[i] = state->history[2 * last - i];
    }
    finish_frame(state, codes);
  }
  finish_clip(state, codes);
}

static void take_sample(front_end *state, uint8_t *codes, held sample) {
  if (state->filled >= 0) {
    state->history[state->filled] = sample;
  }
  if (++state->filled == HISTORY) {
    if (state->frame == 0) {
      mirror_start(state->history);
    }
    finish_frame(state, codes);
  }
}

void front_end_start(void *scratch) {
  front_end *state = scratch;
  state->begun = BEGUN;
  state->taken = state->frame = 0;
  state->filled = 1 + WINDOW / 2;
  /* Neither has a weight in the first window, but 0 times what memory holds may be no number. */
  state->history[0] = state->history[1] = 0;
}

size_t front_end_push(void *scratch, uint8_t *codes, const int16_t *samples, size_t count) {
  front_end *state = scratch;
  if (state->begun != BEGUN) {
    return 0;
  }
  const size_t lacks = (size_t)(FRONT_END_CLIP_SAMPLES - state->taken);
  const size_t takes = count < lacks ? count : lacks;
  for (size_t i = 0; i < takes; i++) {
    if (!EMPHASISES) {
      take_sample(state, codes, (held)samples[i]);
    } else if (state->taken + (int32_t)i > 0) {
      take_sample(state, codes, (held)((float)samples[i] - PRE_EMPHASIS * (float)state->previous));
    }
    state->previous = samples[i];
  }
  state->taken += (int32_t)takes;
  if (takes > 0 && state->taken == FRONT_END_CLIP_SAMPLES) {
    finish_end(state, codes);
  }
  return takes;
}

int front_end_ready(const void *scratch) {
  const front_end *state = scratch;
  return state->begun == BEGUN && state->taken == FRONT_END_CLIP_SAMPLES;
}

void front_end_stop(void *scratch) {
  front_end *state = scratch;
  state->begun = 0;
}
