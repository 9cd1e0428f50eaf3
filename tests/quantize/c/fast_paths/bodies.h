/* The primitives as functions of their own, once for each implementation: PREFIX names them apart. */
#include "functions.h"

#define JOIN(prefix, name) prefix##name
#define NAMED(prefix, name) JOIN(prefix, name)
#define NAME(name) NAMED(PREFIX, name)

void NAME(matmul_s8)(const int8_t *x, int32_t x_stride, int32_t positions, const int8_t *w, int32_t n, int32_t rows,
                     const int32_t *bias, const ear_output *output, int8_t *y, int32_t y_stride) {
    ear_matmul_s8(x, x_stride, positions, w, n, rows, bias, output, y, y_stride);
}

void NAME(matmul_s16)(const int16_t *x, int32_t x_stride, int32_t positions, const int8_t *w, int32_t n, int32_t rows,
                      const int64_t *bias, const ear_output *output, int16_t *y, int32_t y_stride) {
    ear_matmul_s16(x, x_stride, positions, w, n, rows, bias, output, y, y_stride);
}

void NAME(depthwise_s8)(const int8_t *const *taps, int32_t count, const int8_t *w, int32_t channels,
                        const int32_t *bias, const ear_output *output, int8_t *y) {
    ear_depthwise_s8(taps, count, w, channels, bias, output, y);
}

void NAME(depthwise_s16)(const int16_t *const *taps, int32_t count, const int8_t *w, int32_t channels,
                         const int64_t *bias, const ear_output *output, int16_t *y) {
    ear_depthwise_s16(taps, count, w, channels, bias, output, y);
}

#define BINARY(OPERATION, TYPE)                                                                                        \
    void NAME(OPERATION)(const TYPE *a, int32_t a_step, const TYPE *b, int32_t b_step, int32_t n,                      \
                         const ear_binary *binary, TYPE *y) {                                                          \
        ear_##OPERATION(a, a_step, b, b_step, n, binary, y);                                                           \
    }

BINARY(add_s8, int8_t)
BINARY(mul_s8, int8_t)
BINARY(add_s16, int16_t)
BINARY(mul_s16, int16_t)
