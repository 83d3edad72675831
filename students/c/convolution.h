/* What a layer is, for all kernels. */
#ifndef STUDENT_CONVOLUTION_H
#define STUDENT_CONVOLUTION_H

#include <stdint.h>

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

/* Positions that are laid out at a time, at most. kernels.py has the same number. */
#define STUDENT_BLOCK 64

static inline int32_t start_sum(const int32_t *bias, int channel) { return bias ? bias[channel] : 0; }

static inline int take_smaller(int a, int b) { return a < b ? a : b; }
static inline int take_larger(int a, int b) { return a > b ? a : b; }
static inline int divide_up(int a, int b) { return (a + b - 1) / b; }

static inline int sees_single_positions(const convolution *layer) {
  return layer->kernel_height == 1 && layer->kernel_width == 1 && layer->stride_height == 1 &&
         layer->stride_width == 1 && layer->pad_top == 0 && layer->pad_left == 0 &&
         layer->in_height == layer->out_height && layer->in_width == layer->out_width;
}

#endif
