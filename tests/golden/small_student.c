/* small in C: 1 x 6 x 6 log-mels to logits.
 *
 * Maps are codes 0...255, [channels][rows][columns]; numbers are float32. All lies in the arena. Each step
 * is named after its layers; the numbers beside `arena` are the memory plan, which is above the steps.
 */
#include "student.h"

#include <math.h>
#include <string.h>

#include "kernels.h"
#include "numbers.h"

const char *const student_classes[STUDENT_CLASSES] = {"bus", "a \042park\042", "m\303\251tro"};

static const int8_t stem_weights[8] = {
  6, 2, 0, -5, -4, -9, -8, -9,
};

static const int32_t stem_bias[2] = {
  -65, 62,
};

static const float stem_scale[2] = {
  0.03125f, 0.03125f,
};

static const convolution stem_layer = {
  .in_channels = 1, .in_height = 6, .in_width = 6,
  .out_channels = 2, .out_height = 3, .out_width = 3,
  .kernel_height = 2, .kernel_width = 2,
  .stride_height = 2, .stride_width = 2,
  .pad_top = 0, .pad_left = 0,
  .dilation_height = 1, .dilation_width = 1,
  .groups = 1, .input_zero = 128, .output_zero = 128,
  .input_stride = 36, .output_stride = 9,
  .weights = stem_weights, .bias = stem_bias, .scale = stem_scale,
};

static const float norm_scale[2] = {
  0.5f, 1.5f,
};

static const float norm_shift[2] = {
  -0.25f, 0.75f,
};

static const int8_t deep_weights[18] = {
  2, 7, 0, 1, 8, 4, 2, 0, 1, 7, -5, 5, 3, -9, -2, 6, 0, -9,
};

static const int32_t deep_bias[2] = {
  52, 45,
};

static const float deep_scale[2] = {
  0.015625f, 0.015625f,
};

static const convolution deep_layer = {
  .in_channels = 2, .in_height = 3, .in_width = 3,
  .out_channels = 2, .out_height = 3, .out_width = 3,
  .kernel_height = 3, .kernel_width = 3,
  .stride_height = 1, .stride_width = 1,
  .pad_top = 1, .pad_left = 1,
  .dilation_height = 1, .dilation_width = 1,
  .groups = 2, .input_zero = 16, .output_zero = 128,
  .input_stride = 9, .output_stride = 9,
  .weights = deep_weights, .bias = deep_bias, .scale = deep_scale,
};

static const int8_t mix_weights[6] = {
  6, -6, -8, 6, -9, 0,
};

static const int32_t mix_bias[3] = {
  -84, -40, -4,
};

static const float mix_scale[3] = {
  0.03125f, 0.03125f, 0.03125f,
};

static const convolution mix_layer = {
  .in_channels = 2, .in_height = 3, .in_width = 3,
  .out_channels = 3, .out_height = 3, .out_width = 3,
  .kernel_height = 1, .kernel_width = 1,
  .stride_height = 1, .stride_width = 1,
  .pad_top = 0, .pad_left = 0,
  .dilation_height = 1, .dilation_width = 1,
  .groups = 1, .input_zero = 128, .output_zero = 128,
  .input_stride = 9, .output_stride = 9,
  .weights = mix_weights, .bias = mix_bias, .scale = mix_scale,
};

static const int8_t head_weights[9] = {
  -2, -2, -9, -9, -7, -9, 3, 0, 2,
};

static const int32_t head_bias[3] = {
  -49, 22, 52,
};

static const float head_scale[3] = {
  0.00390625f, 0.00390625f, 0.00390625f,
};

static const convolution head_layer = {
  .in_channels = 3, .in_height = 1, .in_width = 1,
  .out_channels = 3, .out_height = 1, .out_width = 1,
  .kernel_height = 1, .kernel_width = 1,
  .stride_height = 1, .stride_width = 1,
  .pad_top = 0, .pad_left = 0,
  .dilation_height = 1, .dilation_width = 1,
  .groups = 1, .input_zero = 128, .output_zero = 0,
  .input_stride = 1, .output_stride = 4,
  .weights = head_weights, .bias = head_bias, .scale = head_scale,
};

/* The arena: offset, bytes, and what lies there, from its first step to its last one: "begin" is before all steps,
 * "end" behind them. "turn" is what a loop needs for some channels at a time. A map whose channels lie apart
 * counts with the gaps between them.
 *
 *     136      36  input: begin to run_stem
 *       0      18  stem: run_stem to run_deep
 *      24     112  scratch: run_stem
 *       0      18  mix_input: run_deep to run_mix
 *      24     120  scratch: run_deep
 *     144       9  turn: run_deep
 *       0      27  mix: run_mix to make_mean
 *      32      56  scratch: run_mix
 *      32      12  mean: make_mean to make_head_input
 *      16       3  head_input: make_head_input to run_head
 *       0      12  head: run_head to make_logits
 *      16      12  logits: make_logits to end
 */

/* stem: 1x6x6 -> 2x3x3, 2x2 */
static void run_stem(uint8_t *arena) {
  int16_t *const scratch = (int16_t *)(void *)(arena + 24);
  convolve(&stem_layer, arena + 136, arena, scratch);
}

/* deep: 2x3x3 -> 2x3x3, 3x3 of each channel, and more, for one channel at a time */
static void run_deep(uint8_t *arena) {
  int16_t *const scratch = (int16_t *)(void *)(arena + 24);
  for (int c = 0; c < 2; c++) {
    uint8_t table[256];
    /* deep: 2x3x3 -> 2x3x3, 3x3 of each channel */
    for (int code = 0; code < 256; code++) {
      const float number = (rectify((float)(code - 128) * 0.125f) * norm_scale[c]) + norm_shift[c];
      table[code] = quantise(number, 0.0625f, 16);
    }
    convolve_channel(&deep_layer, c, arena + c * 9, table, arena + 144, scratch);
    /* mix_input: 2x3x3 */
    {
      const uint8_t *const deep_codes = arena + 144;
      const uint8_t *const stem_codes = arena + c * 9;
      uint8_t *const codes = arena + c * 9;
      for (int i = 0; i < 9; i++) {
        const float number = rectify((float)(stem_codes[i] - 128) * 0.125f) * norm_scale[c];
        const float number_2 = ((float)(deep_codes[i] - 128) * 0.125f) + (number + norm_shift[c]);
        codes[i] = quantise(number_2, 0.125f, 128);
      }
    }
  }
}

/* mix: 2x3x3 -> 3x3x3, 1x1 */
static void run_mix(uint8_t *arena) {
  int16_t *const scratch = (int16_t *)(void *)(arena + 32);
  convolve_pointwise(&mix_layer, arena, arena, scratch);
}

/* mean: mean of 3x3x3 */
static void make_mean(uint8_t *arena) {
  for (int c = 0; c < 3; c++) {
    const uint8_t *const mix_codes = arena + c * 9;
    float *const mean = (float *)(void *)(arena + 32);
    ordered_sum sum;
    start_ordered(&sum, 9, -(c * 9) & 3);
    for (int i = 0; i < 9; i++) add_ordered(&sum, (float)(mix_codes[i] - 128) * 0.125f);
    mean[c] = finish_ordered(&sum) / 9.0f;
  }
}

/* head_input: 3 */
static void make_head_input(uint8_t *arena) {
  const float *const mean_numbers = (const float *)(const void *)(arena + 32);
  uint8_t *const codes = arena + 16;
  for (int c = 0; c < 3; c++) codes[c] = quantise(mean_numbers[c], 0.125f, 128);
}

/* head: 3 -> 3, linear */
static void run_head(uint8_t *arena) {
  compute_linear(&head_layer, arena + 16, (float *)(void *)(arena));
}

/* logits: 3 */
static void make_logits(uint8_t *arena) {
  const float *const head_numbers = (const float *)(const void *)(arena);
  float *const numbers = (float *)(void *)(arena + 16);
  for (int c = 0; c < 3; c++) numbers[c] = head_numbers[c];
}

uint8_t *student_input(void *arena) { return (uint8_t *)arena + 136; }

uint8_t student_quantise(float log_mel) {
  return quantise(log_mel, STUDENT_INPUT_SCALE, STUDENT_INPUT_ZERO);
}

void student_compute_logits(void *given, float logits[STUDENT_CLASSES]) {
  uint8_t *const arena = given;
  run_stem(arena);
  run_deep(arena);
  run_mix(arena);
  make_mean(arena);
  make_head_input(arena);
  run_head(arena);
  make_logits(arena);
  memcpy(logits, arena + 16, STUDENT_CLASSES * sizeof *logits);
}
