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

#include "products.h"
#include "rounding.h"

typedef struct {
  int in_channels, in_height, in_width;
  int out_channels, out_height, out_width;
  int kernel_height, kernel_width;
  int stride_height, stride_width;
  int pad_top, pad_left;
  int dilation_height, dilation_width;
  int groups;
  int input_zero, output_zero;
  int input_stride;      /* bytes from one channel of the input to the next */
  int output_stride;     /* the same of the output */
  const int8_t *weights; /* [out_channels][in_channels / groups][kernel_height][kernel_width] */
  const int32_t *bias;   /* [out_channels], or 0 */
  const float *scale;    /* [out_channels]: steps of input and weight over the step of the output */
} convolution;

/* Positions that are laid out at a time: as many as this many pairs of inputs allow, within limits. With
 * more of them the weights are laid out less often. kernels.py has the same numbers.
 */
#define STUDENT_BLOCK 64
#define STUDENT_SMALLEST_BLOCK 32
#define STUDENT_BLOCK_PAIRS 2048

static inline int32_t start_sum(const int32_t *bias, int channel) { return bias ? bias[channel] : 0; }

/* ---- Layers whose outputs see all inputs of a group: a product of matrices ---- */

static inline int take_smaller(int a, int b) { return a < b ? a : b; }
static inline int take_larger(int a, int b) { return a > b ? a : b; }

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

static inline int sees_single_positions(const convolution *layer) {
  return layer->kernel_height == 1 && layer->kernel_width == 1 && layer->stride_height == 1 &&
         layer->stride_width == 1 && layer->pad_top == 0 && layer->pad_left == 0 &&
         layer->in_height == layer->out_height && layer->in_width == layer->out_width;
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

/* ---- Layers whose outputs see one channel ---- */

/* One direction of a depthwise layer: its sizes, and how far neighbours lie apart in memory. */
typedef struct {
  int in, out, kernel, stride, dilation, pad;
  int in_step, out_step, weight_step;
} direction;

/* How a channel is laid out. Outputs that are neighbours `across` are summed together, and so are 4
 * neighbours `along`.
 *
 * Inputs across are laid out in pairs, [phases][lines][slots][2]: with a dilation d, every d-th input is
 * in one phase. Along, a stride s has its inputs in s parts of the slots, so that the 4 values of a tap
 * always follow one another.
 */
typedef struct {
  direction across, along;
  int lines;      /* pairs across, in each phase */
  int part;       /* slots along, for each part */
  int tap_lines;  /* lines that 2 outputs see */
} depthwise_plan;

static inline int divide_up(int a, int b) { return (a + b - 1) / b; }

static inline depthwise_plan plan_depthwise(direction across, direction along) {
  depthwise_plan plan = {across, along, 0, 0, (across.kernel + across.stride + 1) / 2};
  const int steps = divide_up(divide_up(across.out, across.dilation), 2);
  plan.lines = take_larger((steps - 1) * across.stride + plan.tap_lines,
                           (across.in + across.pad - 1) / across.dilation / 2 + 1);
  plan.part = take_larger((along.out + 3) / 4 * 4 + (along.kernel - 1) * along.dilation / along.stride,
                          (along.in + along.pad - 1) / along.stride + 1);
  return plan;
}

static inline int has_wide_taps(const depthwise_plan *plan) {
  const int kernel = plan->along.kernel;
  return plan->along.stride == 1 && plan->along.dilation == 1 && (kernel == 3 || kernel == 4);
}

/* Estimates the instructions of a plan: of two directions, the better one may be across. */
static inline int32_t estimate_depthwise(const depthwise_plan *plan) {
  const int steps = plan->across.dilation * divide_up(divide_up(plan->across.out, plan->across.dilation), 2);
  const int taps = plan->tap_lines * plan->along.kernel;
  const int each = has_wide_taps(plan) ? 13 * taps + 12 : 15 * taps + 12 * plan->along.kernel;
  if (plan->across.stride > 1 && plan->across.dilation > 1) return INT32_MAX;
  return steps * divide_up(plan->along.out, 4) * each;
}

/* Copies `count` codes that are `step` apart, after a table if there is one, to every second int16_t. */
static inline void lay_out_codes(const uint8_t *codes, int count, int step, const uint8_t *table, int16_t *laid) {
  for (; count >= 4; count -= 4, codes += 4 * step, laid += 8) {
    const uint8_t a = codes[0], b = codes[step], c = codes[2 * step], d = codes[3 * step];
    laid[0] = table ? table[a] : a;
    laid[2] = table ? table[b] : b;
    laid[4] = table ? table[c] : c;
    laid[6] = table ? table[d] : d;
  }
  for (int n = 0; n < count; n++) laid[2 * n] = table ? table[codes[n * step]] : codes[n * step];
}

/* Lays out a channel; what lies around it is its zero. */
static inline void lay_out_channel(const depthwise_plan *plan, const uint8_t *codes, const uint8_t *table, int zero,
                                   int16_t *laid) {
  const direction along = plan->along, across = plan->across;
  const int line = 2 * plan->part * along.stride, size = across.dilation * plan->lines * line;
  const int16_t around[4] = {(int16_t)zero, (int16_t)zero, (int16_t)zero, (int16_t)zero};
  for (int n = 0; n < size / 4; n++) memcpy(laid + 4 * n, around, sizeof around);
  for (int n = size / 4 * 4; n < size; n++) laid[n] = (int16_t)zero;
  for (int u = 0; u < across.in; u++) {
    const int place = (u + across.pad) / across.dilation, phase = (u + across.pad) % across.dilation;
    int16_t *to = laid + (phase * plan->lines + place / 2) * line + place % 2;
    for (int first = 0; first < along.stride && first < along.in; first++) {
      const int slot = (first + along.pad) % along.stride * plan->part + (first + along.pad) / along.stride;
      lay_out_codes(codes + u * across.in_step + first * along.in_step, divide_up(along.in - first, along.stride),
                    along.stride * along.in_step, table, to + 2 * slot);
    }
  }
}

/* Lays out the weights of a channel for both of 2 outputs: [taps][2][2], with 0 where one sees nothing. */
static inline void lay_out_taps(const depthwise_plan *plan, const int8_t *weights, int16_t *laid) {
  const direction along = plan->along, across = plan->across;
  const int wide = has_wide_taps(plan), from_line = 4 * (wide ? along.kernel : 1);
  const int from_column = 4 * (wide ? 1 : plan->tap_lines);
  for (int n = 0; n < 4 * plan->tap_lines * along.kernel; n++) laid[n] = 0;
  for (int k = 0; k < along.kernel; k++, laid += from_column)
    for (int place = 0; place < across.kernel; place++) {
      const int8_t weight = weights[place * across.weight_step + k * along.weight_step];
      const int later = place + across.stride; /* the second output begins a stride later */
      laid[place / 2 * from_line + place % 2] = weight;
      laid[later / 2 * from_line + 2 + later % 2] = weight;
    }
}

/* Adds all products of 2 outputs across and `fours` times 4 along, whose inputs begin at `values`. */
static inline void add_windows(const depthwise_plan *plan, const int16_t *taps, const int16_t *values, int32_t *sums,
                               int fours) {
  const direction along = plan->along;
  const int step = (int)sizeof(int16_t) * 2 * plan->part * along.stride, each = 4 * plan->tap_lines;
  const int16_t *end = taps + each * along.kernel;
  const int32_t *sums_end = sums + 8 * fours;
  if (has_wide_taps(plan) && along.kernel == 3) {
    add_3_columns(taps, values, end, step, sums, sums_end, 16);
  } else if (has_wide_taps(plan)) {
    add_4_columns(taps, values, end, step, sums, sums_end, 16);
  } else if (plan->tap_lines == 1 && along.stride == 1) {
    add_taps(taps, values, end, (int)sizeof(int16_t) * 2 * along.dilation, sums, sums_end, 16);
  } else {
    for (int k = 0; k < along.kernel; k++, taps += each) {
      const int reach = k * along.dilation;
      const int16_t *from = values + 2 * (reach % along.stride * plan->part + reach / along.stride);
      add_taps(taps, from, taps + each, step, sums, sums_end, 16);
    }
  }
}

/* Computes the outputs of a channel that is laid out. */
static inline void compute_channel(const depthwise_plan *plan, const int16_t *taps, const int16_t *laid, int32_t bias,
                                   const rounding *how, uint8_t *output) {
  const direction along = plan->along, across = plan->across;
  const int line = 2 * plan->part * along.stride;
  int32_t sums[2 * STUDENT_BLOCK];
  for (int phase = 0; phase < across.dilation; phase++) {
    const int16_t *values = laid + phase * plan->lines * line;
    for (int y = phase; y < across.out; y += 2 * across.dilation, values += across.stride * line)
      for (int x = 0; x < along.out; x += STUDENT_BLOCK) {
        const int count = take_smaller(STUDENT_BLOCK, along.out - x), fours = (count + 3) / 4;
        uint8_t *to = output + y * across.out_step + x * along.out_step;
        start_sums(sums, fours, bias, bias);
        add_windows(plan, taps, values + 2 * x, sums, fours);
        store_codes(sums, count, how, to, along.out_step);
        if (y + across.dilation < across.out)
          store_codes(sums + 4, count, how, to + across.dilation * across.out_step, along.out_step);
      }
  }
}

/* Computes a channel whose outputs each see one input: what a code becomes is the same everywhere. */
static inline void map_channel(const uint8_t *input, const uint8_t *table, int size, int32_t bias, int weight,
                               const rounding *how, uint8_t *output) {
  uint8_t codes[256];
  if (size < 512) {
    for (int p = 0; p < size; p++)
      output[p] = round_sum(bias + weight * (table ? table[input[p]] : input[p]), how);
    return;
  }
  for (int code = 0; code < 256; code++)
    codes[code] = round_sum(bias + weight * (table ? table[code] : code), how);
  for (; size >= 4; size -= 4, input += 4, output += 4) {
    output[0] = codes[input[0]];
    output[1] = codes[input[1]];
    output[2] = codes[input[2]];
    output[3] = codes[input[3]];
  }
  for (int p = 0; p < size; p++) output[p] = codes[input[p]];
}

/* One channel of a depthwise convolution: from its codes, after a table if there is one, to its outputs.
 * In place if `output` is `input`. A direction that has a stride has no dilation.
 */
static inline void convolve_channel(const convolution *layer, int channel, const uint8_t *input, const uint8_t *table,
                                    uint8_t *output, int16_t *scratch) {
  const direction rows = {layer->in_height,      layer->out_height,      layer->kernel_height,
                          layer->stride_height,  layer->dilation_height, layer->pad_top,
                          layer->in_width,       layer->out_width,       layer->kernel_width};
  const direction columns = {layer->in_width, layer->out_width, layer->kernel_width,
                             layer->stride_width, layer->dilation_width, layer->pad_left, 1, 1, 1};
  const int n_weights = rows.kernel * columns.kernel, zero = layer->input_zero;
  const int8_t *weights = layer->weights + channel * n_weights;
  const rounding how = prepare_rounding(layer->scale[channel], layer->output_zero);
  /* Codes are multiplied as they are, so what their zero adds is taken off before. */
  int32_t bias = start_sum(layer->bias, channel);
  for (int n = 0; n < n_weights; n++) bias -= weights[n] * zero;
  if (sees_single_positions(layer)) {
    map_channel(input, table, rows.in * columns.in, bias, *weights, &how, output);
    return;
  }
  depthwise_plan plan = plan_depthwise(rows, columns);
  const depthwise_plan turned = plan_depthwise(columns, rows);
  if (estimate_depthwise(&turned) < estimate_depthwise(&plan)) plan = turned;
  int16_t *laid = scratch + 4 * plan.tap_lines * plan.along.kernel;
  lay_out_taps(&plan, weights, scratch);
  lay_out_channel(&plan, input, table, zero, laid);
  compute_channel(&plan, scratch, laid, bias, &how, output);
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
