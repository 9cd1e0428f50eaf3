/* The matrix products, each compiled once. */
#include "kernels.h"

void earshot_matmul_s8(const int8_t *x, int32_t x_stride, int32_t positions, const int8_t *w, int32_t n, int32_t rows,
                       const int32_t *bias, const ear_output *output, int8_t *y, int32_t y_stride) {
    ear_matmul_s8(x, x_stride, positions, w, n, rows, bias, output, y, y_stride);
}

void earshot_matmul_s16(const int16_t *x, int32_t x_stride, int32_t positions, const int8_t *w, int32_t n,
                        int32_t rows, const int64_t *bias, const ear_output *output, int16_t *y, int32_t y_stride) {
    ear_matmul_s16(x, x_stride, positions, w, n, rows, bias, output, y, y_stride);
}

void earshot_dense_s8(int32_t batches, int32_t depth, int32_t rows, const int8_t *x, const int8_t *w,
                      const int32_t *bias, const ear_output *output, int8_t *y) {
    earshot_matmul_s8(x, depth, batches, w, depth, rows, bias, output, y, rows);
}

void earshot_dense_s16(int32_t batches, int32_t depth, int32_t rows, const int16_t *x, const int8_t *w,
                       const int64_t *bias, const ear_output *output, int16_t *y) {
    earshot_matmul_s16(x, depth, batches, w, depth, rows, bias, output, y, rows);
}
