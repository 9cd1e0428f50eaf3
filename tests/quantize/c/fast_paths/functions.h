/* One set of primitives, as functions.c makes it for plain C and for the machine's own. */
#ifndef FUNCTIONS_H
#define FUNCTIONS_H

#include "primitives.h"

#define MATMUL(NAME, TYPE, BIAS)                                                                                       \
    void NAME(const TYPE *x, int32_t x_stride, int32_t positions, const int8_t *w, int32_t n, int32_t rows,            \
              const BIAS *bias, const ear_output *output, TYPE *y, int32_t y_stride)
#define DEPTHWISE(NAME, TYPE, BIAS)                                                                                    \
    void NAME(const TYPE *const *taps, int32_t count, const int8_t *w, int32_t channels, const BIAS *bias,             \
              const ear_output *output, TYPE *y)
#define ELEMENTWISE(NAME, TYPE)                                                                                        \
    void NAME(const TYPE *a, int32_t a_step, const TYPE *b, int32_t b_step, int32_t n, const ear_binary *binary,       \
              TYPE *y)

MATMUL(plain_matmul_s8, int8_t, int32_t);
MATMUL(fast_matmul_s8, int8_t, int32_t);
MATMUL(plain_matmul_s16, int16_t, int64_t);
MATMUL(fast_matmul_s16, int16_t, int64_t);
DEPTHWISE(plain_depthwise_s8, int8_t, int32_t);
DEPTHWISE(fast_depthwise_s8, int8_t, int32_t);
DEPTHWISE(plain_depthwise_s16, int16_t, int64_t);
DEPTHWISE(fast_depthwise_s16, int16_t, int64_t);
ELEMENTWISE(plain_add_s8, int8_t);
ELEMENTWISE(fast_add_s8, int8_t);
ELEMENTWISE(plain_mul_s8, int8_t);
ELEMENTWISE(fast_mul_s8, int8_t);
ELEMENTWISE(plain_add_s16, int16_t);
ELEMENTWISE(fast_add_s16, int16_t);
ELEMENTWISE(plain_mul_s16, int16_t);
ELEMENTWISE(fast_mul_s16, int16_t);

#endif
