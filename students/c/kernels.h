/* Integer layers of a student: codes in, codes out, equal to ONNX Runtime's bit for bit.
 *
 * A map is uint8_t codes [channels][height][width]; a code stands for (code - zero) * step. A layer sums
 * products of integers in int32_t, adds its bias, multiplies by one float per output channel, rounds
 * half to even, adds the output's zero and clamps to 0...255 (QLinearConv of ONNX).
 */
#ifndef STUDENT_KERNELS_H
#define STUDENT_KERNELS_H

#include <stdint.h>
#include <string.h>

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
  const int8_t *weights; /* [out_channels][in_channels / groups][kernel_height][kernel_width] */
  const int32_t *bias;   /* [out_channels], or 0 */
  const float *scale;    /* [out_channels]: steps of input and weight over the step of the output */
} convolution;

/* Writes what each stored code of a channel becomes before a layer reads it. */
typedef void (*fill_table)(int channel, uint8_t table[256]);

/* Rounds a sum to a code.
 *
 * A float at 1.5 * 2^23 has a step of 1, so adding that number rounds half to even and leaves the
 * integer in the low bits. As floats of one sign are ordered like their bits, the clamp is right for
 * values beyond +-2^22 too, and no float is ever converted to an integer that cannot hold it.
 */
static inline uint8_t quantise_sum(int32_t sum, float scale, int zero) {
  const int32_t middle = 0x4B400000; /* the bits of 12582912.0f */
  float shifted = (float)sum * scale + 12582912.0f;
  int32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  if (bits < middle - zero) return 0;
  if (bits > middle - zero + 255) return 255;
  return (uint8_t)(bits - (middle - zero));
}

static inline int32_t start_sum(const int32_t *bias, int channel) { return bias ? bias[channel] : 0; }

/* Any convolution. Never in place. */
static inline void convolve(const convolution *layer, const uint8_t *input, uint8_t *output, int16_t *scratch) {
  const convolution c = *layer;
  const int in_group = c.in_channels / c.groups, out_group = c.out_channels / c.groups;
  const int taps = c.kernel_height * c.kernel_width;
  (void)scratch;
  for (int o = 0; o < c.out_channels; o++)
    for (int y = 0; y < c.out_height; y++)
      for (int x = 0; x < c.out_width; x++) {
        int32_t sum = start_sum(c.bias, o);
        for (int i = 0; i < in_group; i++) {
          const uint8_t *channel = input + (o / out_group * in_group + i) * c.input_stride;
          const int8_t *weights = c.weights + (o * in_group + i) * taps;
          for (int ky = 0; ky < c.kernel_height; ky++)
            for (int kx = 0; kx < c.kernel_width; kx++) {
              int row = y * c.stride_height - c.pad_top + ky * c.dilation_height;
              int column = x * c.stride_width - c.pad_left + kx * c.dilation_width;
              if (row >= 0 && row < c.in_height && column >= 0 && column < c.in_width)
                sum += weights[ky * c.kernel_width + kx] * (channel[row * c.in_width + column] - c.input_zero);
            }
        }
        *output++ = quantise_sum(sum, c.scale[o], c.output_zero);
      }
}

/* A convolution of 1x1 with stride 1, no padding and one group. */
static inline void convolve_pointwise(const convolution *layer, const uint8_t *input, uint8_t *output,
                                      int16_t *scratch) {
  const int positions = layer->in_height * layer->in_width, n_in = layer->in_channels;
  for (int p = 0; p < positions; p++) {
    for (int i = 0; i < n_in; i++) scratch[i] = (int16_t)(input[i * layer->input_stride + p] - layer->input_zero);
    for (int o = 0; o < layer->out_channels; o++) {
      int32_t sum = start_sum(layer->bias, o);
      for (int i = 0; i < n_in; i++) sum += layer->weights[o * n_in + i] * scratch[i];
      output[o * positions + p] = quantise_sum(sum, layer->scale[o], layer->output_zero);
    }
  }
}

/* A convolution of each channel alone; what a table makes of the stored codes is its input. */
static inline void convolve_depthwise(const convolution *layer, const uint8_t *input, fill_table fill,
                                      uint8_t *output, int16_t *scratch) {
  uint8_t table[256];
  convolution one = *layer;
  uint8_t *channel = (uint8_t *)scratch;
  const int in_size = layer->in_height * layer->in_width, out_size = layer->out_height * layer->out_width;
  one.in_channels = one.out_channels = one.groups = 1;
  for (int o = 0; o < layer->out_channels; o++) {
    memcpy(channel, input + o * layer->input_stride, (size_t)in_size);
    if (fill) {
      fill(o, table);
      for (int p = 0; p < in_size; p++) channel[p] = table[channel[p]];
    }
    one.weights = layer->weights + o * layer->kernel_height * layer->kernel_width;
    one.bias = layer->bias ? layer->bias + o : 0;
    one.scale = layer->scale + o;
    convolve(&one, channel, output + o * out_size, 0);
  }
}

/* Sums of a linear layer, with its bias: sums[outputs], weights [outputs][inputs]. */
static inline void sum_linear(int inputs, int outputs, int input_zero, const int8_t *weights, const int32_t *bias,
                              const uint8_t *input, int32_t *sums) {
  for (int o = 0; o < outputs; o++) {
    int32_t sum = start_sum(bias, o);
    for (int i = 0; i < inputs; i++) sum += weights[o * inputs + i] * (input[i] - input_zero);
    sums[o] = sum;
  }
}

#endif
