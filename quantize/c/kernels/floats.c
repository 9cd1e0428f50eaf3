/* What is left in single precision: operators that the integer form of a network keeps float, and the way there and back. */
#include <float.h>
#include <string.h>

#include "kernels.h"

#define DEQUANTIZE(NAME, TYPE)                                                                                         \
    void NAME(float scale, int32_t zero_point, int32_t n, const TYPE *x, float *y) {                                   \
        for (int32_t i = 0; i < n; i++) {                                                                              \
            y[i] = scale * (float)(x[i] - zero_point);                                                                 \
        }                                                                                                              \
    }

DEQUANTIZE(earshot_dequantize_s8, int8_t)
DEQUANTIZE(earshot_dequantize_s16, int16_t)

/* To nearest, ties away from zero; far outside of what is kept anyway, any number as far will do. */
static int32_t nearest(float value) {
    if (value >= 1e6f || value <= -1e6f) {
        return value > 0 ? 1000000 : -1000000;
    }
    const int32_t whole = (int32_t)value;
    const float part = value - (float)whole;
    return whole + (part >= 0.5f) - (part <= -0.5f);
}

#define QUANTIZE(NAME, TYPE, LOW, HIGH)                                                                                \
    void NAME(float scale, int32_t zero_point, int32_t n, const float *x, TYPE *y) {                                   \
        for (int32_t i = 0; i < n; i++) {                                                                              \
            y[i] = (TYPE)ear_clamp(nearest(x[i] / scale) + zero_point, LOW, HIGH);                                     \
        }                                                                                                              \
    }

QUANTIZE(earshot_quantize_s8, int8_t, INT8_MIN, INT8_MAX)
QUANTIZE(earshot_quantize_s16, int16_t, INT16_MIN, INT16_MAX)

void earshot_slopes_f32(float slope, float low, float high, int32_t n, const float *x, float *y) {
    for (int32_t i = 0; i < n; i++) {
        const float value = x[i] > 0 ? x[i] : x[i] * slope;
        y[i] = value < low ? low : value > high ? high : value;
    }
}

void earshot_magnitude_f32(int32_t n, const float *x, float *y) {
    for (int32_t i = 0; i < n; i++) {
        y[i] = x[i] < 0 ? -x[i] : x[i];
    }
}

void earshot_raise_f32(float number, int32_t n, const float *x, float *y) {
    for (int32_t i = 0; i < n; i++) {
        y[i] = x[i] + number;
    }
}

static float power_of_two(int32_t exponent) {
    const uint32_t bits = (uint32_t)(exponent + 127) << 23;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The square root of a positive number, to nearest, in integers: not every C library's is on every core. */
static float root(float x) {
    uint32_t bits;
    const int32_t raised = x < FLT_MIN ? 48 : 0; /* denormal numbers have no leading bit of their own */
    const float normal = raised ? x * power_of_two(raised) : x;
    memcpy(&bits, &normal, sizeof bits);
    const int32_t exponent = (int32_t)(bits >> 23) - 150; /* normal = mantissa * 2^exponent */
    const int32_t left = exponent & 1 ? 25 : 26;
    uint64_t rest = (uint64_t)((bits & 0x7FFFFFu) | 0x800000u) << left, found = 0;
    for (uint64_t bit = (uint64_t)1 << 48; bit; bit >>= 2) {
        if (rest >= found + bit) {
            rest -= found + bit;
            found = (found >> 1) + bit;
        } else {
            found >>= 1;
        }
    }
    /* 25 bits were found; no root of 24 bits lies in the middle between two numbers. */
    return (float)(int32_t)((found + 1) >> 1) * power_of_two((exponent - left - raised) / 2 + 1);
}

void earshot_inverse_root_f32(int32_t n, const float *x, float *y) {
    for (int32_t i = 0; i < n; i++) {
        y[i] = x[i] > 0 ? 1.0f / root(x[i]) : FLT_MAX;
    }
}
