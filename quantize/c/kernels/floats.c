/* What is left in single precision: operators that the integer form of a network keeps float, and the way there and back. */
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
