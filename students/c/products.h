/* The loop that all integer layers share: two products in one instruction where the processor has it. */
#ifndef STUDENT_PRODUCTS_H
#define STUDENT_PRODUCTS_H

#include "rounding.h"

/* Sets the sums of `fours` times 2 results at 4 positions, sums[fours][2][4], to a bias of each result. */
static inline void start_sums(int32_t *sums, int fours, int32_t first, int32_t second) {
  for (; fours > 0; fours--, sums += 8) {
    sums[0] = sums[1] = sums[2] = sums[3] = first;
    sums[4] = sums[5] = sums[6] = sums[7] = second;
  }
}

/* Adds products to sums[fours][2][4], from `sums` to `sums_end`.
 *
 * Operands come in pairs of int16_t, products are summed over both of a pair. A tap is one pair of
 * weights for each result, weights[taps][2][2], and one pair of values for each position, values[4][2].
 * Each round takes `taps` taps, whose values begin `distance` pairs apart; the next round's begin `step`
 * bytes after this round's. It ends when all weights up to `end` were taken; there is at least one round.
 * The values of the next 4 positions begin `next` bytes after those of these.
 */
#ifdef STUDENT_ASSEMBLY

/* GCC must not look into these functions: it would take registers that they change for unchanged. */
#ifdef __clang__
#define STUDENT_OPAQUE __attribute__((naked, noinline, unused))
#else
#define STUDENT_OPAQUE __attribute__((naked, noipa, unused))
#endif
#define STUDENT_UNUSED __attribute__((unused))

/* Compilers keep fewer than 14 values in registers, and would spill sums in the innermost loop: hence
 * assembly. r0 weights, r1 values, r2-r5 and r6-r9 sums, r10 and r11 values, r12 and lr weights. On the
 * stack: weights, values, end, step (0 to 12), registers of the caller, then sums, sums_end, next (52 to 60).
 */
#ifdef STUDENT_DSP
#define STUDENT_TAP(first, second)        \
  "ldrd r12, lr, [r0], #8\n\t"            \
  "ldrd r10, r11, [r1, #" #first "]\n\t"  \
  "smlad r2, r12, r10, r2\n\t"            \
  "smlad r6, lr, r10, r6\n\t"             \
  "smlad r3, r12, r11, r3\n\t"            \
  "smlad r7, lr, r11, r7\n\t"             \
  "ldrd r10, r11, [r1, #" #second "]\n\t" \
  "smlad r4, r12, r10, r4\n\t"            \
  "smlad r8, lr, r10, r8\n\t"             \
  "smlad r5, r12, r11, r5\n\t"            \
  "smlad r9, lr, r11, r9\n\t"
#else
#define STUDENT_HALF_TAP(half, first, second)        \
  "ldrsh r12, [r0, #" #half "]\n\t"                  \
  "ldrsh lr, [r0, #4+" #half "]\n\t"                 \
  "ldrsh r10, [r1, #" #half "+" #first "]\n\t"       \
  "mla r2, r12, r10, r2\n\t"                         \
  "mla r6, lr, r10, r6\n\t"                          \
  "ldrsh r11, [r1, #" #half "+4+" #first "]\n\t"     \
  "mla r3, r12, r11, r3\n\t"                         \
  "mla r7, lr, r11, r7\n\t"                          \
  "ldrsh r10, [r1, #" #half "+" #second "]\n\t"      \
  "mla r4, r12, r10, r4\n\t"                         \
  "mla r8, lr, r10, r8\n\t"                          \
  "ldrsh r11, [r1, #" #half "+4+" #second "]\n\t"    \
  "mla r5, r12, r11, r5\n\t"                         \
  "mla r9, lr, r11, r9\n\t"
#define STUDENT_TAP(first, second) \
  STUDENT_HALF_TAP(0, first, second) STUDENT_HALF_TAP(2, first, second) "add r0, r0, #8\n\t"
#endif
#define STUDENT_DEFINE_ADDING(name, taps, distance, text)                                                      \
  STUDENT_OPAQUE static void name(STUDENT_UNUSED const int16_t *weights, STUDENT_UNUSED const int16_t *values, \
                                  STUDENT_UNUSED const int16_t *end, STUDENT_UNUSED int step,                  \
                                  STUDENT_UNUSED int32_t *sums, STUDENT_UNUSED const int32_t *sums_end,        \
                                  STUDENT_UNUSED int next) {                                                   \
    __asm__(                                                                                                   \
        "push {r0-r11, lr}\n\t"                                                                                \
        "ldr lr, [sp, #52]\n"                                                                                  \
        "1:\n\t"                                                                                               \
        "ldm lr, {r2-r9}\n"                                                                                    \
        "2:\n\t" text                                                                                          \
        "ldrd r10, r11, [sp, #8]\n\t"                                                                          \
        "add r1, r1, r11\n\t"                                                                                  \
        "cmp r0, r10\n\t"                                                                                      \
        "bne 2b\n\t"                                                                                           \
        "ldrd lr, r10, [sp, #52]\n\t"                                                                          \
        "stm lr!, {r2-r9}\n\t"                                                                                 \
        "ldrd r0, r1, [sp]\n\t"                                                                                \
        "ldr r11, [sp, #60]\n\t"                                                                               \
        "add r1, r1, r11\n\t"                                                                                  \
        "str r1, [sp, #4]\n\t"                                                                                 \
        "str lr, [sp, #52]\n\t"                                                                                \
        "cmp lr, r10\n\t"                                                                                      \
        "bne 1b\n\t"                                                                                           \
        "pop {r0-r11, pc}");                                                                                   \
  }

#else

static inline void add_products(const int16_t *weights, const int16_t *values, const int16_t *end, int step,
                                int32_t *sums, int taps, int distance) {
  int32_t a0 = sums[0], a1 = sums[1], a2 = sums[2], a3 = sums[3];
  int32_t b0 = sums[4], b1 = sums[5], b2 = sums[6], b3 = sums[7];
  do {
    for (int tap = 0; tap < taps; tap++)
      for (int half = 0; half < 2; half++) {
        const int16_t *v = values + 2 * tap * distance + half;
        const int32_t a = weights[half], b = weights[2 + half];
        a0 += a * v[0], b0 += b * v[0];
        a1 += a * v[2], b1 += b * v[2];
        a2 += a * v[4], b2 += b * v[4];
        a3 += a * v[6], b3 += b * v[6];
        weights += 4 * half;
      }
    values += step / 2;
  } while (weights != end);
  sums[0] = a0, sums[1] = a1, sums[2] = a2, sums[3] = a3;
  sums[4] = b0, sums[5] = b1, sums[6] = b2, sums[7] = b3;
}

#define STUDENT_DEFINE_ADDING(name, taps, distance, text)                                              \
  static inline void name(const int16_t *weights, const int16_t *values, const int16_t *end, int step, \
                          int32_t *sums, const int32_t *sums_end, int next) {                          \
    for (; sums != sums_end; sums += 8, values += next / 2)                                            \
      add_products(weights, values, end, step, sums, taps, distance);                                  \
  }

#endif

STUDENT_DEFINE_ADDING(add_taps, 1, 0, STUDENT_TAP(0, 8))
STUDENT_DEFINE_ADDING(add_3_columns, 3, 1, STUDENT_TAP(0, 8) STUDENT_TAP(4, 12) STUDENT_TAP(8, 16))
STUDENT_DEFINE_ADDING(add_4_columns, 4, 1,
                      STUDENT_TAP(0, 8) STUDENT_TAP(4, 12) STUDENT_TAP(8, 16) STUDENT_TAP(12, 20))
STUDENT_DEFINE_ADDING(add_8_channels, 4, 4,
                      STUDENT_TAP(0, 8) STUDENT_TAP(16, 24) STUDENT_TAP(32, 40) STUDENT_TAP(48, 56))
STUDENT_DEFINE_ADDING(add_16_channels, 8, 4,
                      STUDENT_TAP(0, 8) STUDENT_TAP(16, 24) STUDENT_TAP(32, 40) STUDENT_TAP(48, 56)
                      STUDENT_TAP(64, 72) STUDENT_TAP(80, 88) STUDENT_TAP(96, 104) STUDENT_TAP(112, 120))

#endif
