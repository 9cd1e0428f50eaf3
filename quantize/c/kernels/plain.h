/* The inner loops in plain C: what primitives.h describes, and what the other implementations must equal bit for bit. */
#ifndef EAR_PLAIN_H
#define EAR_PLAIN_H

#ifndef EAR_HAVE_MATMUL_S8
static inline void ear_matmul_s8(const int8_t *x, int32_t x_stride, int32_t positions, const int8_t *w, int32_t n,
                                 int32_t rows, const int32_t *bias, const ear_output *output, int8_t *y,
                                 int32_t y_stride) {
    for (int32_t p = 0; p < positions; p++, x += x_stride, y += y_stride) {
        const int8_t *w0 = w;
        int32_t r = 0;
        /* Four rows at once: an input is loaded once for four products. */
        for (; r + 4 <= rows; r += 4) {
            const int8_t *w1 = w0 + n, *w2 = w1 + n, *w3 = w2 + n;
            int32_t a0 = bias[r], a1 = bias[r + 1], a2 = bias[r + 2], a3 = bias[r + 3];
            for (int32_t i = 0; i < n; i++) {
                const int32_t value = x[i];
                a0 += value * *w0++;
                a1 += value * *w1++;
                a2 += value * *w2++;
                a3 += value * *w3++;
            }
            y[r] = ear_output_s8(output, r, a0);
            y[r + 1] = ear_output_s8(output, r + 1, a1);
            y[r + 2] = ear_output_s8(output, r + 2, a2);
            y[r + 3] = ear_output_s8(output, r + 3, a3);
            w0 = w3;
        }
        for (; r < rows; r++) {
            int32_t acc = bias[r];
            for (int32_t i = 0; i < n; i++) {
                acc += x[i] * *w0++;
            }
            y[r] = ear_output_s8(output, r, acc);
        }
    }
}
#endif

#ifndef EAR_HAVE_MATMUL_S16
/* So many products of an int16 and an int8 fit an int32 sum; longer sums go on in 64 bits. */
#define EAR_S16_BLOCK 256

static inline void ear_matmul_s16(const int16_t *x, int32_t x_stride, int32_t positions, const int8_t *w, int32_t n,
                                  int32_t rows, const int64_t *bias, const ear_output *output, int16_t *y,
                                  int32_t y_stride) {
    for (int32_t p = 0; p < positions; p++, x += x_stride, y += y_stride) {
        const int8_t *row = w;
        int32_t r = 0;
        for (; r + 2 <= rows; r += 2, row += 2 * n) {
            int64_t acc0 = bias[r], acc1 = bias[r + 1];
            for (int32_t start = 0; start < n; start += EAR_S16_BLOCK) {
                const int32_t count = n - start < EAR_S16_BLOCK ? n - start : EAR_S16_BLOCK;
                const int16_t *values = x + start;
                const int8_t *w0 = row + start, *w1 = w0 + n;
                int32_t a0 = 0, a1 = 0;
                for (int32_t i = 0; i < count; i++) {
                    a0 += values[i] * w0[i];
                    a1 += values[i] * w1[i];
                }
                acc0 += a0;
                acc1 += a1;
            }
            y[r] = ear_output_s16(output, r, acc0);
            y[r + 1] = ear_output_s16(output, r + 1, acc1);
        }
        for (; r < rows; r++, row += n) {
            int64_t acc = bias[r];
            for (int32_t start = 0; start < n; start += EAR_S16_BLOCK) {
                const int32_t count = n - start < EAR_S16_BLOCK ? n - start : EAR_S16_BLOCK;
                int32_t sum = 0;
                for (int32_t i = start; i < start + count; i++) {
                    sum += x[i] * row[i];
                }
                acc += sum;
            }
            y[r] = ear_output_s16(output, r, acc);
        }
    }
}
#endif

#ifndef EAR_HAVE_DEPTHWISE_S8
static inline void ear_depthwise_s8(const int8_t *const *taps, int32_t count, const int8_t *w, int32_t channels,
                                    const int32_t *bias, const ear_output *output, int8_t *y) {
    for (int32_t c = 0; c < channels; c++) {
        const int8_t *weight = w + c;
        int32_t acc = bias[c];
        for (int32_t t = 0; t < count; t++, weight += channels) {
            acc += taps[t][c] * *weight;
        }
        y[c] = ear_output_s8(output, c, acc);
    }
}
#endif

#ifndef EAR_HAVE_DEPTHWISE_S16
static inline void ear_depthwise_s16(const int16_t *const *taps, int32_t count, const int8_t *w, int32_t channels,
                                     const int64_t *bias, const ear_output *output, int16_t *y) {
    for (int32_t c = 0; c < channels; c++) {
        const int8_t *weight = w + c;
        int64_t acc = bias[c];
        for (int32_t t = 0; t < count; t++, weight += channels) {
            acc += taps[t][c] * *weight;
        }
        y[c] = ear_output_s16(output, c, acc);
    }
}
#endif

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
