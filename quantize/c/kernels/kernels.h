/* What model.c calls: operators of TensorFlow Lite on int8 and int16 tensors, bit for bit as its reference kernels do.
 * Tensors are channels-last; extents and strides are in elements unless they say bytes. Nothing allocates, nothing
 * recurses, nothing keeps state. */
#ifndef EARSHOT_KERNELS_H
#define EARSHOT_KERNELS_H

#include <stdint.h>

#include "primitives.h"

/* Most taps a depthwise window may have: their addresses stand on the stack. */
#define EARSHOT_TAPS 64

/* The matrix products of primitives.h. */
void earshot_matmul_s8(const int8_t *x, int32_t x_stride, int32_t positions, const int8_t *w, int32_t n, int32_t rows,
                       const int32_t *bias, const ear_output *output, int8_t *y, int32_t y_stride);
void earshot_matmul_s16(const int16_t *x, int32_t x_stride, int32_t positions, const int8_t *w, int32_t n,
                        int32_t rows, const int64_t *bias, const ear_output *output, int16_t *y, int32_t y_stride);

/* How a window slides over an image, [batches, in_height, in_width, channels]. */
typedef struct {
    int32_t batches;
    int32_t in_height, in_width;
    int32_t channels; /* elements between neighbours on the width axis */
    int32_t depth;    /* channels a window takes: fewer than `channels` in a grouped convolution */
    int32_t kernel_height, kernel_width;
    int32_t stride_height, stride_width;
    int32_t dilation_height, dilation_width;
    int32_t pad_top, pad_left;
    int32_t out_height, out_width;
    int32_t rows; /* output channels */
    int32_t y_batch, y_row, y_column; /* elements between outputs: a transposed convolution writes interleaved */
    int32_t zero;                     /* what stands outside the image */
} earshot_window;

/* Convolution. w: [rows, kernel_height, kernel_width, depth]; patch: room for one window,
 * kernel_height * kernel_width * depth elements (unused, and may be null, where every window lies in one piece). */
void earshot_conv_s8(const earshot_window *window, const int8_t *x, const int8_t *w, const int32_t *bias,
                     const ear_output *output, int8_t *patch, int8_t *y);
void earshot_conv_s16(const earshot_window *window, const int16_t *x, const int8_t *w, const int64_t *bias,
                      const ear_output *output, int16_t *patch, int16_t *y);

/* Depthwise convolution, one output for every input channel. w: [kernel_height, kernel_width, channels]; zeros: room for
 * `channels` elements (unused, and may be null, without padding). */
void earshot_depthwise_s8(const earshot_window *window, const int8_t *x, const int8_t *w, const int32_t *bias,
                          const ear_output *output, int8_t *zeros, int8_t *y);
void earshot_depthwise_s16(const earshot_window *window, const int16_t *x, const int8_t *w, const int64_t *bias,
                           const ear_output *output, int16_t *zeros, int16_t *y);

/* Fully connected: `batches` vectors of `depth` elements. w: [rows, depth]. */
void earshot_dense_s8(int32_t batches, int32_t depth, int32_t rows, const int8_t *x, const int8_t *w,
                      const int32_t *bias, const ear_output *output, int8_t *y);
void earshot_dense_s16(int32_t batches, int32_t depth, int32_t rows, const int16_t *x, const int8_t *w,
                       const int64_t *bias, const ear_output *output, int16_t *y);

/* Two operands broadcast onto one output [extent[0], extent[1], extent[2], n]; a stride or step of 0 repeats. */
typedef struct {
    int32_t extent[3];
    int32_t a_stride[3];
    int32_t b_stride[3];
    int32_t n;
    int32_t a_step, b_step;
} earshot_broadcast;

void earshot_add_s8(const earshot_broadcast *shape, const ear_binary *binary, const int8_t *a, const int8_t *b,
                    int8_t *y);
void earshot_add_s16(const earshot_broadcast *shape, const ear_binary *binary, const int16_t *a, const int16_t *b,
                     int16_t *y);
void earshot_mul_s8(const earshot_broadcast *shape, const ear_binary *binary, const int8_t *a, const int8_t *b,
                    int8_t *y);
void earshot_mul_s16(const earshot_broadcast *shape, const ear_binary *binary, const int16_t *a, const int16_t *b,
                     int16_t *y);

/* The larger and the smaller of two tensors of one scale. */
void earshot_maximum_s8(const earshot_broadcast *shape, const int8_t *a, const int8_t *b, int8_t *y);
void earshot_maximum_s16(const earshot_broadcast *shape, const int16_t *a, const int16_t *b, int16_t *y);
void earshot_minimum_s8(const earshot_broadcast *shape, const int8_t *a, const int8_t *b, int8_t *y);
void earshot_minimum_s16(const earshot_broadcast *shape, const int16_t *a, const int16_t *b, int16_t *y);

/* (a - b)^2, both scaled as for sums. */
void earshot_squared_difference_s8(const earshot_broadcast *shape, const ear_binary *binary, const int8_t *a,
                                   const int8_t *b, int8_t *y);
/* a / b; where b is zero, the end of the range. */
void earshot_div_s8(const earshot_broadcast *shape, const ear_binary *binary, const int8_t *a, const int8_t *b,
                    int8_t *y);
void earshot_div_s16(const earshot_broadcast *shape, const ear_binary *binary, const int16_t *a, const int16_t *b,
                     int16_t *y);
/* a where it is not negative (a's multiplier and shift), else a * b (the output's). */
void earshot_prelu_s8(const earshot_broadcast *shape, const ear_binary *binary, const int8_t *a, const int8_t *b,
                      int8_t *y);

/* Sums over axes: y[i, j, k] = clamp(zero_point + rescale(bias + sum of x, multiplier, shift)); strides in elements. */
typedef struct {
    int32_t extent[3];
    int32_t stride[3];
    int32_t sum_extent[3];
    int32_t sum_stride[3];
    int32_t bias;
    int32_t multiplier, shift;
    int32_t zero_point;
} earshot_sums;

void earshot_sum_s8(const earshot_sums *sums, const int8_t *x, int8_t *y);
void earshot_sum_s16(const earshot_sums *sums, const int16_t *x, int16_t *y);

/* Copies blocks of `run` bytes from everywhere to anywhere: strides in bytes, negative ones walk backwards. */
typedef struct {
    int32_t extent[4];
    int32_t x_stride[4];
    int32_t y_stride[4];
    int32_t run;
} earshot_blocks;

void earshot_copy(const earshot_blocks *blocks, void *y, const void *x);
void earshot_fill_s8(int8_t value, int32_t n, int8_t *y);
void earshot_fill_s16(int16_t value, int32_t n, int16_t *y);

/* y[i] = table[x[i] + 128]: any function of one int8. */
void earshot_table_s8(const int8_t *table, int32_t n, const int8_t *x, int8_t *y);
/* A function of one int16, by its 513 values at every 128th, with straight lines between them. */
void earshot_lines_s16(const int16_t *table, int32_t n, const int16_t *x, int16_t *y);

/* Sigmoid and hyperbolic tangent by the sigmoid's table of 256; the input is scaled by multiplier * 2^-shift first. */
void earshot_logistic_s16(const uint16_t *table, int32_t multiplier, int32_t shift, int32_t n, const int16_t *x,
                          int16_t *y);
void earshot_tanh_s16(const uint16_t *table, int32_t multiplier, int32_t shift, int32_t n, const int16_t *x,
                      int16_t *y);

/* Numbers at or above zero scaled by one factor, those below by another. */
typedef struct {
    int32_t multiplier, shift;
    int32_t below_multiplier, below_shift;
    int32_t low, high;
    int32_t x_zero, zero_point;
} earshot_halves;

void earshot_halves_s16(const earshot_halves *halves, int32_t n, const int16_t *x, int16_t *y);
void earshot_halves_s16_s8(const earshot_halves *halves, int32_t n, const int16_t *x, int8_t *y);
void earshot_halves_s8_s16(const earshot_halves *halves, int32_t n, const int8_t *x, int16_t *y);

/* Between integers and single precision. */
void earshot_dequantize_s8(float scale, int32_t zero_point, int32_t n, const int8_t *x, float *y);
void earshot_dequantize_s16(float scale, int32_t zero_point, int32_t n, const int16_t *x, float *y);
void earshot_quantize_s8(float scale, int32_t zero_point, int32_t n, const float *x, int8_t *y);
void earshot_quantize_s16(float scale, int32_t zero_point, int32_t n, const float *x, int16_t *y);
/* Single precision: numbers above zero times one, those below times `slope`, all within bounds; magnitudes. */
void earshot_slopes_f32(float slope, float low, float high, int32_t n, const float *x, float *y);
void earshot_magnitude_f32(int32_t n, const float *x, float *y);
/* Plus a number; 1 / sqrt(x), both steps rounded to nearest, and the largest number where x is zero or below. */
void earshot_raise_f32(float number, int32_t n, const float *x, float *y);
void earshot_inverse_root_f32(int32_t n, const float *x, float *y);

#endif
