/* Numbers between two integer layers: float32, in the order of ONNX Runtime, so that the codes that they
 * are rounded to are the same. Compile with -ffp-contract=off.
 */
#ifndef STUDENT_NUMBERS_H
#define STUDENT_NUMBERS_H

#include "kernels.h"

#include <stdint.h>
#include <string.h>

/* Rounds a number to a code, half to even.
 *
 * It is divided by the step, not multiplied with its inverse, which would round other numbers up.
 */
static inline uint8_t quantise(float value, float step, int zero) { return round_to_code(value / step, zero); }

static inline float rectify(float value) { return value > 0.0f ? value : 0.0f; }

/* A sum in the order of ONNX Runtime's means: in 8 lanes, which begin behind `head` values, where its
 * own memory is aligned to 16 bytes; then what is left.
 */
typedef struct {
  float lanes[8], others[12];
  int next, head, end, n_others;
} ordered_sum;

static inline void start_ordered(ordered_sum *sum, int count, int head) {
  const int few = count - head < 4;
  memset(sum->lanes, 0, sizeof sum->lanes);
  sum->next = sum->n_others = 0;
  sum->head = few ? count : head;
  sum->end = few ? 0 : head + (count - head) / 8 * 8;
}

static inline void add_ordered(ordered_sum *sum, float value) {
  const int position = sum->next++;
  if (position >= sum->head && position < sum->end) {
    sum->lanes[(position - sum->head) & 7] += value;
  } else {
    sum->others[sum->n_others++] = value;
  }
}

static inline float finish_ordered(const ordered_sum *sum) {
  float packet[4];
  const float *rest = sum->others + sum->head;
  int n_rest = sum->n_others - sum->head;
  for (int lane = 0; lane < 4; lane++) packet[lane] = sum->lanes[lane] + sum->lanes[lane + 4];
  if (n_rest >= 4) {
    for (int lane = 0; lane < 4; lane++) packet[lane] += *rest++;
    n_rest -= 4;
  }
  float total = (packet[0] + packet[2]) + (packet[1] + packet[3]);
  for (int i = 0; i < sum->head; i++) total += sum->others[i];
  for (int i = 0; i < n_rest; i++) total += rest[i];
  return total;
}

#endif
