/* The inner loops in plain C: what primitives.h describes, and what the other implementations must equal bit for bit. */
#ifndef EAR_PLAIN_H
#define EAR_PLAIN_H

/* Sums of products, in functions of their own (plain.c): inlined, their loops run out of registers on small machines.
 * Four rows of w, `n` apart: acc[r] += sum over i < n of x[i] * w[r * n + i]. */
void ear_dot4_s8(const int8_t *x, const int8_t *w, int32_t n, int32_t *acc);
void ear_dot4_s16(const int16_t *x, const int8_t *w, int32_t n, int64_t *acc);
/* One row. */
int32_t ear_dot_s8(const int8_t *x, const int8_t *w, int32_t n);
int64_t ear_dot_s16(const int16_t *x, const int8_t *w, int32_t n);
/* Four channels from c on: acc[k] += sum over t < count of taps[t][c + k] * w[t * channels + c + k]. */
void ear_taps4_s8(const int8_t *const *taps, int32_t count, const int8_t *w, int32_t channels, int32_t c, int32_t *acc);
void ear_taps4_s16(const int16_t *const *taps, int32_t count, const int8_t *w, int32_t channels, int32_t c,
                   int32_t *acc);

#ifndef EAR_HAVE_MATMUL_S8
static inline void ear_matmul_s8(const int8_t *x, int32_t x_stride, int32_t positions, const int8_t *w, int32_t n,
                                 int32_t rows, const int32_t *bias, const ear_output *output, int8_t *y,
                                 int32_t y_stride) {
    for (int32_t p = 0; p < positions; p++, x += x_stride, y += y_stride) {
        const int8_t *row = w;
        int32_t r = 0;
        for (; r + 4 <= rows; r += 4, row += 4 * n) {
            int32_t acc[4] = {bias[r], bias[r + 1], bias[r + 2], bias[r + 3]};
            ear_dot4_s8(x, row, n, acc);
            for (int32_t k = 0; k < 4; k++) {
                y[r + k] = ear_output_s8(output, r + k, acc[k]);
            }
        }
        for (; r < rows; r++, row += n) {
            y[r] = ear_output_s8(output, r, bias[r] + ear_dot_s8(x, row, n));
        }
    }
}
#endif

#ifndef EAR_HAVE_MATMUL_S16
static inline void ear_matmul_s16(const int16_t *x, int32_t x_stride, int32_t positions, const int8_t *w, int32_t n,
                                  int32_t rows, const int64_t *bias, const ear_output *output, int16_t *y,
                                  int32_t y_stride) {
    for (int32_t p = 0; p < positions; p++, x += x_stride, y += y_stride) {
        const int8_t *row = w;
        int32_t r = 0;
        for (; r + 4 <= rows; r += 4, row += 4 * n) {
            int64_t acc[4] = {bias[r], bias[r + 1], bias[r + 2], bias[r + 3]};
            ear_dot4_s16(x, row, n, acc);
            for (int32_t k = 0; k < 4; k++) {
                y[r + k] = ear_output_s16(output, r + k, acc[k]);
            }
        }
        for (; r < rows; r++, row += n) {
            y[r] = ear_output_s16(output, r, bias[r] + ear_dot_s16(x, row, n));
        }
    }
}
#endif

#ifndef EAR_HAVE_DEPTHWISE_S8
static inline void ear_depthwise_s8(const int8_t *const *taps, int32_t count, const int8_t *w, int32_t channels,
                                    const int32_t *bias, const ear_output *output, int8_t *y) {
    int32_t c = 0;
    for (; c + 4 <= channels; c += 4) {
        int32_t acc[4] = {bias[c], bias[c + 1], bias[c + 2], bias[c + 3]};
        ear_taps4_s8(taps, count, w, channels, c, acc);
        for (int32_t k = 0; k < 4; k++) {
            y[c + k] = ear_output_s8(output, c + k, acc[k]);
        }
    }
    for (; c < channels; c++) {
        int32_t acc = bias[c];
        for (int32_t t = 0; t < count; t++) {
            acc += taps[t][c] * w[t * channels + c];
        }
        y[c] = ear_output_s8(output, c, acc);
    }
}
#endif

#ifndef EAR_HAVE_DEPTHWISE_S16
static inline void ear_depthwise_s16(const int16_t *const *taps, int32_t count, const int8_t *w, int32_t channels,
                                     const int64_t *bias, const ear_output *output, int16_t *y) {
    int32_t c = 0;
    for (; c + 4 <= channels; c += 4) {
        int32_t acc[4] = {0, 0, 0, 0};
        ear_taps4_s16(taps, count, w, channels, c, acc);
        for (int32_t k = 0; k < 4; k++) {
            y[c + k] = ear_output_s16(output, c + k, bias[c + k] + acc[k]);
        }
    }
    for (; c < channels; c++) {
        int32_t acc = 0;
        for (int32_t t = 0; t < count; t++) {
            acc += taps[t][c] * w[t * channels + c];
        }
        y[c] = ear_output_s16(output, c, bias[c] + acc);
    }
}
#endif

#ifndef EAR_HAVE_ADD_S8
static inline void ear_add_s8(const int8_t *a, int32_t a_step, const int8_t *b, int32_t b_step, int32_t n,
                              const ear_binary *binary, int8_t *y) {
    for (int32_t i = 0; i < n; i++, a += a_step, b += b_step) {
        y[i] = (int8_t)ear_sum(binary, *a, *b);
    }
}
#endif

#ifndef EAR_HAVE_MUL_S8
static inline void ear_mul_s8(const int8_t *a, int32_t a_step, const int8_t *b, int32_t b_step, int32_t n,
                              const ear_binary *binary, int8_t *y) {
    for (int32_t i = 0; i < n; i++, a += a_step, b += b_step) {
        y[i] = (int8_t)ear_product(binary, *a, *b);
    }
}
#endif

#ifndef EAR_HAVE_ADD_S16
static inline void ear_add_s16(const int16_t *a, int32_t a_step, const int16_t *b, int32_t b_step, int32_t n,
                               const ear_binary *binary, int16_t *y) {
    for (int32_t i = 0; i < n; i++, a += a_step, b += b_step) {
        y[i] = (int16_t)ear_sum(binary, *a, *b);
    }
}
#endif

#ifndef EAR_HAVE_MUL_S16
static inline void ear_mul_s16(const int16_t *a, int32_t a_step, const int16_t *b, int32_t b_step, int32_t n,
                               const ear_binary *binary, int16_t *y) {
    for (int32_t i = 0; i < n; i++, a += a_step, b += b_step) {
        y[i] = (int16_t)ear_product(binary, *a, *b);
    }
}
#endif

#endif
