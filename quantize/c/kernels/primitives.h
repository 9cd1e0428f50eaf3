/* The inner loops, all that is worth writing by hand for a machine. Everything else in this folder is plain C around them.
 *
 * The implementation is chosen when the kernels are compiled:
 *   (nothing)        plain.h   C99
 *   -DEARSHOT_DSP    dsp.h     dual 16-bit multiply-accumulate (Cortex-M4, M7, M33)
 *   -DEARSHOT_MVE    mve.h     M-profile vector extension (Cortex-M55, M85)
 *
 * A header of a machine writes any of the functions below as `static inline` and defines EAR_HAVE_<FUNCTION IN CAPITALS>
 * for each (EAR_HAVE_MATMUL_S8 for ear_matmul_s8); plain.h gives the others. Whatever it does inside, every output must be
 * bit for bit that of plain.h. Rules for all of them:
 *   - pointers have the alignment of their element only; nothing outside the stated extents is read or written;
 *   - outputs overlap no input, except in ear_add_* and ear_mul_*, where y may be exactly a or b when that operand's step
 *     is 1;
 *   - accumulators of the s8 functions do not overflow 32 bits, those of the s16 functions 64 bits: the generator has
 *     checked the weights;
 *   - zero points of inputs are already in the biases, and padding is already in the inputs.
 */
#ifndef EAR_PRIMITIVES_H
#define EAR_PRIMITIVES_H

#include <stdint.h>

#include "requantize.h"

/* How sums become outputs: a multiplier and a shift for every output channel, and for fully connected layers a scale. */
typedef struct {
    const int32_t *multiplier; /* [rows] */
    const int8_t *shift;       /* [rows] */
    const double *scale;       /* [rows], or null */
    int32_t zero_point;        /* 0 for s16 */
    int32_t low;
    int32_t high;
} ear_output;

static inline int8_t ear_output_s8(const ear_output *output, int32_t row, int32_t acc) {
    const int32_t multiplier = output->multiplier[row], shift = output->shift[row];
    const int32_t value = output->scale ? ear_rescale_real(acc, multiplier, shift, output->scale[row])
                                        : ear_rescale(acc, multiplier, shift);
    return (int8_t)ear_clamp(value + output->zero_point, output->low, output->high);
}

static inline int16_t ear_output_s16(const ear_output *output, int32_t row, int64_t acc) {
    const int32_t multiplier = output->multiplier[row], shift = output->shift[row];
    const int32_t value = output->scale ? ear_rescale_real(acc, multiplier, shift, output->scale[row])
                                        : ear_rescale_wide(acc, multiplier, shift);
    return (int16_t)ear_clamp(value, output->low, output->high);
}

/* Addition and multiplication of numbers with different scales.
 *   add s8, s16:  y = clamp(zero_point + rescale(A + B, multiplier, shift), low, high)
 *                 A = rescale((a - a_zero) << left, a_multiplier, a_shift), B alike; left is 20 (s8) or 15 (s16).
 *                 Subtraction is addition with `subtract` set: A - B.
 *   mul s8, s16:  y = clamp(zero_point + rescale((a - a_zero) * (b - b_zero), multiplier, shift), low, high)
 * all with ear_rescale. */
typedef struct {
    int32_t a_zero, a_multiplier, a_shift;
    int32_t b_zero, b_multiplier, b_shift;
    int32_t left;
    int32_t subtract;
    int32_t multiplier, shift;
    int32_t zero_point;
    int32_t low;
    int32_t high;
} ear_binary;

static inline int32_t ear_sum(const ear_binary *binary, int32_t a, int32_t b) {
    const int32_t scale = (int32_t)1 << binary->left;
    const int32_t left = ear_rescale((a - binary->a_zero) * scale, binary->a_multiplier, binary->a_shift);
    const int32_t right = ear_rescale((b - binary->b_zero) * scale, binary->b_multiplier, binary->b_shift);
    const int32_t sum = binary->subtract ? left - right : left + right;
    const int32_t value = ear_rescale(sum, binary->multiplier, binary->shift) + binary->zero_point;
    return ear_clamp(value, binary->low, binary->high);
}

static inline int32_t ear_product(const ear_binary *binary, int32_t a, int32_t b) {
    const int32_t product = (a - binary->a_zero) * (b - binary->b_zero);
    const int32_t value = ear_rescale(product, binary->multiplier, binary->shift) + binary->zero_point;
    return ear_clamp(value, binary->low, binary->high);
}

/* A matrix product: `rows` outputs at each of `positions` input vectors of n elements,
 *   y[p * y_stride + r] = ear_output_s8(output, r, bias[r] + sum over i < n of x[p * x_stride + i] * w[r * n + i])
 * (ear_output_s16 for s16). Input vectors may overlap (x_stride < n). n may be 0. All convolutions and fully connected layers come here.
 *
 *   static inline void ear_matmul_s8(const int8_t *x, int32_t x_stride, int32_t positions,
 *                                    const int8_t *w, int32_t n, int32_t rows, const int32_t *bias,
 *                                    const ear_output *output, int8_t *y, int32_t y_stride);
 *   static inline void ear_matmul_s16(const int16_t *x, int32_t x_stride, int32_t positions,
 *                                     const int8_t *w, int32_t n, int32_t rows, const int64_t *bias,
 *                                     const ear_output *output, int16_t *y, int32_t y_stride);
 *
 * A depthwise window at one position: `count` taps, each a vector of `channels` elements,
 *   y[c] = ear_output_s8(output, c, bias[c] + sum over t < count of taps[t][c] * w[t * channels + c]).
 * Taps outside the image point at zero points. Depth multipliers other than 1 do not come here.
 *
 *   static inline void ear_depthwise_s8(const int8_t *const *taps, int32_t count, const int8_t *w, int32_t channels,
 *                                       const int32_t *bias, const ear_output *output, int8_t *y);
 *   static inline void ear_depthwise_s16(const int16_t *const *taps, int32_t count, const int8_t *w, int32_t channels,
 *                                        const int64_t *bias, const ear_output *output, int16_t *y);
 *
 * Elementwise arithmetic on n elements; a step of 0 repeats one element, 1 walks:
 *   y[i] = the sum or product above of a[i * a_step] and b[i * b_step].
 *
 *   static inline void ear_add_s8(const int8_t *a, int32_t a_step, const int8_t *b, int32_t b_step, int32_t n,
 *                                 const ear_binary *binary, int8_t *y);
 *   ear_mul_s8, and ear_add_s16, ear_mul_s16 on int16_t.
 */
#if defined(EARSHOT_MVE)
#include "mve.h"
#elif defined(EARSHOT_DSP)
#include "dsp.h"
#endif
#include "plain.h"

#endif
