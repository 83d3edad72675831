/* Layers whose outputs see one channel. */
#ifndef STUDENT_DEPTHWISE_H
#define STUDENT_DEPTHWISE_H

#include "convolution.h"
#include "products.h"
#include "rounding.h"

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

/* A layer with several outputs of each channel. In place if `output` is `input`, and the outputs of a channel take no
 * more bytes than the channel, which is copied before they are written.
 */
static inline void convolve_channels(const convolution *layer, const uint8_t *input, uint8_t *output,
                                     int16_t *scratch) {
  const int outputs = layer->out_channels / layer->in_channels, size = layer->in_height * layer->in_width;
  uint8_t *const copy = (uint8_t *)scratch;
  int16_t *const rest = scratch + divide_up(size, 4) * 2;
  for (int o = 0; o < layer->out_channels; o++, output += layer->output_stride) {
    if (o % outputs == 0) memcpy(copy, input + o / outputs * layer->input_stride, (size_t)size);
    convolve_channel(layer, o, copy, 0, output, rest);
  }
}

#endif
