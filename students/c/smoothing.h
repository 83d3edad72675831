/* From the logits of one window after another to the class that is on: smoothing with hysteresis.
 *
 * The same as students/smoothing.py, bit for bit, which says where the scheme comes from. Compile with
 * -ffp-contract=off: a fused multiply-add rounds once where numpy rounds twice.
 *
 *     static smoothing state;
 *     smoothing_start(&state, begins_at, ends_at, 0.39346934f);
 *     ... for each window: int on = smoothing_push(&state, logits);
 *
 * begins_at and ends_at hold the upper and the lower threshold of each class: a class begins where its smoothed
 * probability reaches the upper one, and ends where it falls below the lower one, or where another begins that
 * is likelier. The share, how much a new window counts, is 1 - exp(-hop / time constant): 0.39346934 for a
 * window each 0.25 s and a time constant of 0.5 s, 0.86466472 for a window each second.
 */
#ifndef SMOOTHING_H
#define SMOOTHING_H

#include <stdint.h>
#include <string.h>

#ifndef SMOOTHING_CLASSES
#include "student.h"
#define SMOOTHING_CLASSES STUDENT_CLASSES
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SMOOTHING_NONE_OF_THEM (-1)

typedef struct {
  float begins_at[SMOOTHING_CLASSES];
  float ends_at[SMOOTHING_CLASSES];
  float probabilities[SMOOTHING_CLASSES]; /* smoothed; read them for a display */
  float share;
  int on; /* the class that is on, or SMOOTHING_NONE_OF_THEM */
  int has_begun;
} smoothing;

static inline void smoothing_start(smoothing *state, const float begins_at[SMOOTHING_CLASSES],
                                   const float ends_at[SMOOTHING_CLASSES], float share) {
  memset(state, 0, sizeof *state);
  memcpy(state->begins_at, begins_at, sizeof state->begins_at);
  memcpy(state->ends_at, ends_at, sizeof state->ends_at);
  state->share = share;
  state->on = SMOOTHING_NONE_OF_THEM;
}

/* exp(x) of x <= 0 as 2^n * exp(r), where n is x / ln 2 rounded. */
static inline float smoothing_exponentiate(float x) {
  /* Lower, the result would be no normal number. What is no number ends up here as well. */
  x = x > -87.0f ? x : -87.0f;
  /* Beside 1.5 * 2^23, single precision has no digit below 1: adding it rounds, ties to even. */
  const float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float series = 1.0f / 720.0f;
  series = series * r + 1.0f / 120.0f;
  series = series * r + 1.0f / 24.0f;
  series = series * r + 1.0f / 6.0f;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  const uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return series * power;
}

static inline void smoothing_compute_probabilities(const float logits[SMOOTHING_CLASSES],
                                                   float probabilities[SMOOTHING_CLASSES]) {
  float most = logits[0], sum = 0.0f;
  for (int k = 1; k < SMOOTHING_CLASSES; ++k) most = logits[k] > most ? logits[k] : most;
  for (int k = 0; k < SMOOTHING_CLASSES; ++k) {
    probabilities[k] = smoothing_exponentiate(logits[k] - most);
    sum += probabilities[k];
  }
  for (int k = 0; k < SMOOTHING_CLASSES; ++k) probabilities[k] /= sum;
}

/* Takes the logits of the next window; returns the class that is on, or SMOOTHING_NONE_OF_THEM. */
static inline int smoothing_push(smoothing *state, const float logits[SMOOTHING_CLASSES]) {
  float now[SMOOTHING_CLASSES];
  float *smoothed = state->probabilities;
  smoothing_compute_probabilities(logits, now);
  for (int k = 0; k < SMOOTHING_CLASSES; ++k) {
    smoothed[k] = state->has_begun ? smoothed[k] + state->share * (now[k] - smoothed[k]) : now[k];
  }
  state->has_begun = 1;

  if (state->on >= 0 && smoothed[state->on] < state->ends_at[state->on]) {
    state->on = SMOOTHING_NONE_OF_THEM;
  }
  int best = -1;
  for (int k = 0; k < SMOOTHING_CLASSES; ++k) {
    if (smoothed[k] >= state->begins_at[k] && (best < 0 || smoothed[k] > smoothed[best])) best = k;
  }
  if (best >= 0 && (state->on < 0 || smoothed[best] > smoothed[state->on])) state->on = best;
  return state->on;
}

#ifdef __cplusplus
}
#endif

#endif
