/* Numbers between two integer layers: float32, in the order of ONNX Runtime, so that the codes that they
 * are rounded to are the same. Compile with -ffp-contract=off.
 */
#ifndef STUDENT_NUMBERS_H
#define STUDENT_NUMBERS_H

#include "kernels.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Rounds a number to a code, half to even.
 *
 * It is divided by the step, not multiplied with its inverse, which would round other numbers up.
 */
static inline uint8_t quantise(float value, float step, int zero) { return round_to_code(value / step, zero); }

/* A function of codes, and what it is multiplied with in a sum, as integers: see round_sums. */
typedef struct {
  const int32_t *numbers; /* [256] */
  const uint8_t *codes;
  int32_t factor;
} fixed_term;

/* Takes the numbers of a table in units of a power of 2. */
STUDENT_APART void fill_fixed(const float numbers[256], float per_unit, int32_t fixed[256]) {
  for (int code = 0; code < 256; code++) fixed[code] = (int32_t)(numbers[code] * per_unit);
}

/* The same for what codes themselves stand for. */
STUDENT_APART void fill_fixed_codes(int zero, int32_t per_unit, int32_t fixed[256]) {
  for (int code = 0; code < 256; code++) fixed[code] = (code - zero) * per_unit;
}

/* Rounds sums of terms to codes, from position i on, until the first position whose sum is nearer to a tie
 * than its errors may be: it returns that, or else `count`. Sums have 16 bits behind the point; `offset`
 * makes a shift round, adds the zero, and is so much more that doubtful sums have 0 in all bits of `certain`.
 */
static inline int round_sums(const fixed_term *terms, int n_terms, int32_t offset, uint32_t certain, int i, int count,
                             uint8_t *codes) {
  const fixed_term a = terms[0], b = terms[n_terms > 1 ? 1 : 0], c = terms[n_terms > 2 ? 2 : 0];
  for (; i < count; i++) {
    int64_t products = (int64_t)a.numbers[a.codes[i]] * a.factor;
    if (n_terms > 1) products += (int64_t)b.numbers[b.codes[i]] * b.factor;
    if (n_terms > 2) products += (int64_t)c.numbers[c.codes[i]] * c.factor;
    /* Compilers for these processors shift negative numbers down with their sign. */
    const int32_t sum = offset + (int32_t)(products >> 32);
    if (((uint32_t)sum & certain) == 0) return i;
    codes[i] = clamp_code(sum >> 16);
  }
  return i;
}

STUDENT_APART int round_sums_of_1(const fixed_term *terms, int32_t offset, uint32_t certain, int i, int count,
                                  uint8_t *codes) {
  return round_sums(terms, 1, offset, certain, i, count, codes);
}

STUDENT_APART int round_sums_of_2(const fixed_term *terms, int32_t offset, uint32_t certain, int i, int count,
                                  uint8_t *codes) {
  return round_sums(terms, 2, offset, certain, i, count, codes);
}

STUDENT_APART int round_sums_of_3(const fixed_term *terms, int32_t offset, uint32_t certain, int i, int count,
                                  uint8_t *codes) {
  return round_sums(terms, 3, offset, certain, i, count, codes);
}

/* Rounds a term for each code, from `code` on. */
STUDENT_APART int round_table(const int32_t numbers[256], int32_t factor, int32_t offset, uint32_t certain, int code,
                              uint8_t table[256]) {
  for (; code < 256; code++) {
    const int32_t sum = offset + (int32_t)(((int64_t)numbers[code] * factor) >> 32);
    if (((uint32_t)sum & certain) == 0) return code;
    table[code] = clamp_code(sum >> 16);
  }
  return code;
}

/* Adds two codes: each times its step in units of the sum's, and an offset for all zeros. */
static inline uint8_t add_codes(uint8_t left, uint8_t right, float by_left, float by_right, float offset) {
  return round_to_code(fmaf((float)left, by_left, fmaf((float)right, by_right, offset)), 0);
}

static inline float take_largest(float one, float other) { return one > other ? one : other; }

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
