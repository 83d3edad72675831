/* Codes: what integer sums and numbers are rounded to, and what the processor has for that. */
#ifndef STUDENT_ROUNDING_H
#define STUDENT_ROUNDING_H

#include <stdint.h>
#include <string.h>

/* What the processor has. Tests define STUDENT_INTEGER_ROUNDING where it is not needed. */
#if defined(__thumb2__) && defined(__GNUC__)
#define STUDENT_ASSEMBLY
#endif
#ifdef __ARM_FEATURE_DSP
#define STUDENT_DSP
#endif
#if defined(__arm__) && !defined(__ARM_FP)
#define STUDENT_INTEGER_ROUNDING
#endif
#if defined(STUDENT_DSP) || defined(__ARM_FEATURE_SAT)
#include <arm_acle.h>
#endif

/* For functions that are called from several places and would be copied for each. */
#if defined(__GNUC__) && !defined(__clang__)
#define STUDENT_APART static __attribute__((noinline, noclone, unused))
#elif defined(__GNUC__)
#define STUDENT_APART static __attribute__((noinline, unused))
#else
#define STUDENT_APART static inline
#endif

static inline uint8_t clamp_code(int32_t code) {
#ifdef __ARM_FEATURE_SAT
  return (uint8_t)__usat(code, 8);
#else
  return (uint8_t)(code < 0 ? 0 : code > 255 ? 255 : code);
#endif
}

/* Rounds a number of steps to a code, half to even.
 *
 * A float at 1.5 * 2^23 has a step of 1, so adding that number rounds half to even and leaves the
 * integer in the low bits. As floats of one sign are ordered like their bits, the clamp is right for
 * numbers beyond +-2^22 too, and no float is ever converted to an integer that cannot hold it.
 */
static inline uint8_t round_to_code(float steps, int zero) {
  const int32_t lowest = 0x4B400000 - zero; /* the bits of 12582912.0f, less the zero: code 0 */
  const float shifted = steps + 12582912.0f;
  int32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
#ifdef STUDENT_DSP
  return clamp_code(__qsub(bits, lowest));
#else
  return (uint8_t)(bits < lowest ? 0 : bits > lowest + 255 ? 255 : bits - lowest);
#endif
}

/* Multiplies a sum and rounds it to a code. */
static inline uint8_t quantise_sum(int32_t sum, float scale, int zero) {
  return round_to_code((float)sum * scale, zero);
}

/* How the sums of one output channel are rounded, here and without floats. */
typedef struct {
  float scale;
  int zero;
  int32_t mantissa; /* of the scale, at least 2^30 */
  int places;       /* bits behind the point in the upper word of a product */
  int32_t offset;   /* what makes a shift round, and adds the zero */
  uint32_t mask;    /* the bits behind the point */
  uint32_t near;    /* products that end below this are rounded as floats */
} rounding;

/* Without floats: the product is exact but for its lower word. Floats round twice, to 24 bits and then to
 * an integer, which for codes moves the product by less than 2^-15. Only a product that is as near to a
 * tie as that, or that the upper word cannot tell from one, is rounded as a float; so is any if the scale
 * is beyond what layers of codes have.
 */
STUDENT_APART rounding prepare_rounding(float scale, int zero) {
  rounding how = {scale, zero, 0, 0, 0, 0, 1};
#ifdef STUDENT_INTEGER_ROUNDING
  uint32_t bits;
  memcpy(&bits, &scale, sizeof bits);
  const int places = 125 - (int)(bits >> 23);
  if (places < 1 || places > 22) return how;
  const int32_t near = places > 15 ? 1 << (places - 15) : 1;
  how.mantissa = (int32_t)(((bits & 0x7FFFFFu) | 0x800000u) << 7);
  how.places = places;
  how.offset = zero * (1 << places) + (1 << (places - 1)) + near;
  how.mask = (1u << places) - 1;
  how.near = 2 * (uint32_t)near;
#endif
  return how;
}

STUDENT_APART uint8_t round_near_tie(int32_t sum, const rounding *how) {
  return quantise_sum(sum, how->scale, how->zero);
}

static inline uint8_t round_sum(int32_t sum, const rounding *how) {
#ifdef STUDENT_INTEGER_ROUNDING
  /* Shifts of negative numbers keep the sign in every compiler for these processors. */
  const int32_t upper = (int32_t)(((int64_t)sum * how->mantissa) >> 32) + how->offset;
  if (((uint32_t)upper & how->mask) < how->near) return round_near_tie(sum, how);
  return clamp_code(upper >> how->places);
#else
  return quantise_sum(sum, how->scale, how->zero);
#endif
}

/* Writes the codes of `count` sums that come in fours, 8 apart; the codes are `stride` bytes apart. */
STUDENT_APART void store_codes(const int32_t *sums, int count, const rounding *given, uint8_t *output, int stride) {
  const rounding how = *given;
  for (; count >= 8; count -= 8, sums += 16)
    for (int n = 0; n < 8; n++, output += stride) *output = round_sum(sums[n / 4 * 8 + n % 4], &how);
  for (int n = 0; n < count; n++, output += stride) *output = round_sum(sums[n / 4 * 8 + n % 4], &how);
}

#endif
