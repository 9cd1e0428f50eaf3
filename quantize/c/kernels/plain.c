/* Sums of products in plain C. */
#include "primitives.h"

/* So many products of an int16 and an int8 fit an int32 sum; longer sums go on in 64 bits. */
#define BLOCK 256

void ear_dot4_s8(const int8_t *x, const int8_t *w, int32_t n, int32_t *acc) {
    const int8_t *w1 = w + n, *w2 = w1 + n, *w3 = w2 + n, *const end = x + n;
    int32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
    while (x < end) {
        const int32_t value = *x++; /* loaded once for four products */
        a0 += value * *w++;
        a1 += value * *w1++;
        a2 += value * *w2++;
        a3 += value * *w3++;
    }
    acc[0] = a0;
    acc[1] = a1;
    acc[2] = a2;
    acc[3] = a3;
}

static void block4_s16(const int16_t *x, const int8_t *w, int32_t n, int32_t count, int64_t *acc) {
    const int8_t *w1 = w + n, *w2 = w1 + n, *w3 = w2 + n;
    const int16_t *const end = x + count;
    int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
    while (x < end) {
        const int32_t value = *x++;
        a0 += value * *w++;
        a1 += value * *w1++;
        a2 += value * *w2++;
        a3 += value * *w3++;
    }
    acc[0] += a0;
    acc[1] += a1;
    acc[2] += a2;
    acc[3] += a3;
}

void ear_dot4_s16(const int16_t *x, const int8_t *w, int32_t n, int64_t *acc) {
    for (int32_t start = 0; start < n; start += BLOCK) {
        block4_s16(x + start, w + start, n, n - start < BLOCK ? n - start : BLOCK, acc);
    }
}

int32_t ear_dot_s8(const int8_t *x, const int8_t *w, int32_t n) {
    int32_t acc = 0;
    for (int32_t i = 0; i < n; i++) {
        acc += x[i] * w[i];
    }
    return acc;
}

int64_t ear_dot_s16(const int16_t *x, const int8_t *w, int32_t n) {
    int64_t acc = 0;
    for (int32_t start = 0; start < n; start += BLOCK) {
        const int32_t stop = n - start < BLOCK ? n : start + BLOCK;
        int32_t sum = 0;
        for (int32_t i = start; i < stop; i++) {
            sum += x[i] * w[i];
        }
        acc += sum;
    }
    return acc;
}

#define TAPS4(NAME, TYPE)                                                                                              \
    void NAME(const TYPE *const *taps, int32_t count, const int8_t *w, int32_t channels, int32_t c, int32_t *acc) {    \
        int32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];                                                    \
        w += c;                                                                                                        \
        for (int32_t t = 0; t < count; t++, w += channels) {                                                           \
            const TYPE *x = taps[t] + c;                                                                               \
            a0 += x[0] * w[0];                                                                                         \
            a1 += x[1] * w[1];                                                                                         \
            a2 += x[2] * w[2];                                                                                         \
            a3 += x[3] * w[3];                                                                                         \
        }                                                                                                              \
        acc[0] = a0;                                                                                                   \
        acc[1] = a1;                                                                                                   \
        acc[2] = a2;                                                                                                   \
        acc[3] = a3;                                                                                                   \
    }

TAPS4(ear_taps4_s8, int8_t)
TAPS4(ear_taps4_s16, int16_t)
