/* Integer layers of a student: codes in, codes out, equal to ONNX Runtime's bit for bit.
 *
 * A map is uint8_t codes [channels][height][width]; a code stands for (code - zero) * step. A layer sums
 * products of integers in int32_t, adds its bias, multiplies by one float per output channel, rounds
 * half to even, adds the output's zero and clamps to 0...255 (QLinearConv of ONNX).
 *
 * All layers come down to one loop, `add_products`: 2 results at each of 4 positions, and two products in
 * one instruction (SMLAD) where the processor has it. The 2 results are two output channels, or two
 * neighbouring outputs of a depthwise layer. Its operands are laid out in the scratch that each kernel
 * takes, so that the loop reads them in order.
 */
#ifndef STUDENT_KERNELS_H
#define STUDENT_KERNELS_H

#include "convolution.h"
#include "depthwise.h"
#include "products.h"
#include "rounding.h"

/* Positions that are laid out at a time: as many as this many pairs of inputs allow, within limits. With
 * more of them the weights are laid out less often. kernels.py has the same numbers.
 */
#define STUDENT_SMALLEST_BLOCK 32
#define STUDENT_BLOCK_PAIRS 2048

/* ---- Layers whose outputs see all inputs of a group: a product of matrices ---- */

/* Positions in a block, in fours. */
static inline int limit_block(int size, int pairs) {
  const int block = take_larger(STUDENT_SMALLEST_BLOCK, take_smaller(STUDENT_BLOCK, STUDENT_BLOCK_PAIRS / pairs / 4 * 4));
  return take_smaller(block, (size + 3) / 4 * 4);
}

/* Lays out the weights of 2 outputs, `inputs` of each: [pairs][2][2]; a missing input is 0. */
static inline void lay_out_weights(const int8_t *first, const int8_t *second, int inputs, int16_t *laid) {
  int i = 0;
#ifdef STUDENT_DSP
  for (; i + 4 <= inputs; i += 4, laid += 8) {
    uint32_t four[2], out[4];
    memcpy(&four[0], first + i, 4);
    memcpy(&four[1], second + i, 4);
    for (int n = 0; n < 2; n++) {
      const uint32_t even = (uint32_t)__sxtb16((int32_t)four[n]), odd = (uint32_t)__sxtb16((int32_t)(four[n] >> 8));
      out[n] = (even & 0xFFFFu) | odd << 16;
      out[2 + n] = even >> 16 | (odd & 0xFFFF0000u);
    }
    memcpy(laid, out, sizeof out);
  }
#endif
  for (; i < inputs; i += 2, laid += 4) {
    const int whole = i + 1 < inputs;
    laid[0] = first[i], laid[1] = whole ? first[i + 1] : 0;
    laid[2] = second[i], laid[3] = whole ? second[i + 1] : 0;
  }
}

/* Multiplies values that are laid out as [positions / 4][pairs][4][2] with the weights of some outputs. */
static inline void multiply_block(const convolution *layer, int first, int outputs, int inputs, int positions,
                                  const int16_t *values, int16_t *laid, uint8_t *output) {
  const int pairs = (inputs + 1) / 2, in_8 = pairs / 4 * 4, fours = (positions + 3) / 4;
  const int16_t *middle = laid + 4 * in_8, *end = laid + 4 * pairs;
  const int next = (int)sizeof(int16_t) * 8 * pairs;
  int32_t sums[2 * STUDENT_BLOCK];
  for (int o = first; o < first + outputs; o += 2) {
    const int other = o + 1 < first + outputs ? o + 1 : o; /* the last of an odd number is computed twice */
    uint8_t *to = output + o * layer->output_stride;
    lay_out_weights(layer->weights + o * inputs, layer->weights + other * inputs, inputs, laid);
    start_sums(sums, fours, start_sum(layer->bias, o), start_sum(layer->bias, other));
    if (pairs % 8 == 0)
      add_16_channels(laid, values, end, 128, sums, sums + 8 * fours, next);
    else if (in_8)
      add_8_channels(laid, values, middle, 64, sums, sums + 8 * fours, next);
    if (middle != end) add_taps(middle, values + 8 * in_8, end, 16, sums, sums + 8 * fours, next);
    const rounding how = prepare_rounding(layer->scale[o], layer->output_zero);
    store_codes(sums, positions, &how, to, 1);
    if (other != o) {
      const rounding how_other = prepare_rounding(layer->scale[other], layer->output_zero);
      store_codes(sums + 4, positions, &how_other, to + layer->output_stride, 1);
    }
  }
}

/* Lays out one input at `positions` positions, of which the last 4 may be fewer. */
static inline void lay_out_row(const uint8_t *codes, int zero, int positions, int pairs, int16_t *laid) {
  for (; positions >= 4; positions -= 4, codes += 4, laid += 8 * pairs) {
    laid[0] = (int16_t)(codes[0] - zero);
    laid[2] = (int16_t)(codes[1] - zero);
    laid[4] = (int16_t)(codes[2] - zero);
    laid[6] = (int16_t)(codes[3] - zero);
  }
  for (int p = 0; p < positions; p++) laid[2 * p] = (int16_t)(codes[p] - zero);
}

/* Lays out a pair of inputs. */
static inline void lay_out_rows(const uint8_t *first, const uint8_t *second, int zero, int positions, int pairs,
                                int16_t *laid) {
#ifdef STUDENT_DSP
  const uint32_t less = 0x10001u * (uint16_t)(0 - zero); /* minus the zero, in both halves */
  for (; positions >= 4; positions -= 4, first += 4, second += 4, laid += 8 * pairs) {
    uint32_t a, b, out[4];
    memcpy(&a, first, 4);
    memcpy(&b, second, 4);
    const uint32_t even_a = __uxtab16(less, a), odd_a = __uxtab16(less, a >> 8);
    const uint32_t even_b = __uxtab16(less, b), odd_b = __uxtab16(less, b >> 8);
    out[0] = (even_a & 0xFFFFu) | even_b << 16, out[1] = (odd_a & 0xFFFFu) | odd_b << 16;
    out[2] = even_a >> 16 | (even_b & 0xFFFF0000u), out[3] = odd_a >> 16 | (odd_b & 0xFFFF0000u);
    memcpy(laid, out, sizeof out);
  }
#endif
  lay_out_row(first, zero, positions, pairs, laid);
  lay_out_row(second, zero, positions, pairs, laid + 1);
}

/* Lays out what one output position of a group sees: [inputs of the group][kernel_height][kernel_width]. */
static inline void lay_out_patch(const convolution *layer, const uint8_t *input, int row, int column, int16_t *laid) {
  const int bottom = row + (layer->kernel_height - 1) * layer->dilation_height;
  const int right = column + (layer->kernel_width - 1) * layer->dilation_width;
  const int whole = row >= 0 && column >= 0 && bottom < layer->in_height && right < layer->in_width;
  const int width = layer->in_width, zero = layer->input_zero;
  int step = 1; /* to the other of a pair; from there it is 7 to the next pair */
  for (int channel = 0; channel < layer->in_channels / layer->groups; channel++, input += layer->input_stride)
    for (int ky = 0; ky < layer->kernel_height; ky++) {
      const int y = row + ky * layer->dilation_height;
      for (int kx = 0; kx < layer->kernel_width; kx++, laid += step, step = 8 - step) {
        const int x = column + kx * layer->dilation_width;
        const int inside = whole || (y >= 0 && y < layer->in_height && x >= 0 && x < width);
        *laid = (int16_t)(inside ? input[y * width + x] - zero : 0);
      }
    }
}

/* Lays out what a group sees at `positions` output positions from `first` on: [positions / 4][pairs][4][2]. */
static inline void lay_out_block(const convolution *layer, const uint8_t *input, int first, int positions, int pairs,
                                 int16_t *values) {
  if (sees_single_positions(layer)) {
    const int inputs = layer->in_channels / layer->groups, zero = layer->input_zero;
    const uint8_t *row = input + first;
    for (int i = 0; i + 1 < inputs; i += 2, row += 2 * layer->input_stride, values += 8)
      lay_out_rows(row, row + layer->input_stride, zero, positions, pairs, values);
    if (inputs % 2) lay_out_row(row, zero, positions, pairs, values);
    return;
  }
  int y = first / layer->out_width, x = first % layer->out_width;
  for (int p = 0; p < positions; p++) {
    lay_out_patch(layer, input, y * layer->stride_height - layer->pad_top, x * layer->stride_width - layer->pad_left,
                  values + p / 4 * 8 * pairs + p % 4 * 2);
    if (++x == layer->out_width) x = 0, y++;
  }
}

/* Any convolution. Not in place. */
static inline void convolve(const convolution *layer, const uint8_t *input, uint8_t *output, int16_t *scratch) {
  const int in_group = layer->in_channels / layer->groups, out_group = layer->out_channels / layer->groups;
  const int inputs = in_group * layer->kernel_height * layer->kernel_width, pairs = (inputs + 1) / 2;
  const int size = layer->out_height * layer->out_width, block = limit_block(size, pairs);
  int16_t *values = scratch + 4 * pairs;
  /* The second of the last pair stays 0 if there is an odd number of inputs. */
  memset(values, 0, sizeof(int16_t) * 2 * (size_t)(block * pairs));
  for (int group = 0; group < layer->groups; group++, input += in_group * layer->input_stride)
    for (int p = 0; p < size; p += block) {
      const int positions = take_smaller(block, size - p);
      lay_out_block(layer, input, p, positions, pairs, values);
      multiply_block(layer, group * out_group, out_group, inputs, positions, values, scratch, output + p);
    }
}

/* A convolution of 1x1 with stride 1, no padding and one group. In place if `output` is `input` and both
 * have the same stride: all channels of a block are read before any of it is written.
 */
static inline void convolve_pointwise(const convolution *layer, const uint8_t *input, uint8_t *output,
                                      int16_t *scratch) {
  convolve(layer, input, output, scratch);
}

/* A linear layer whose outputs stay float: the input has in_channels codes, the output out_channels. */
static inline void compute_linear(const convolution *layer, const uint8_t *input, float *output) {
  const int8_t *weights = layer->weights;
  for (int o = 0; o < layer->out_channels; o++) {
    int32_t sum = start_sum(layer->bias, o);
    for (int i = 0; i < layer->in_channels; i++) sum += *weights++ * (input[i * layer->input_stride] - layer->input_zero);
    output[o] = (float)sum * layer->scale[o];
  }
}

#endif
