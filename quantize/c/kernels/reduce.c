/* Sums and means over axes. */
#include "kernels.h"

#define SUM(NAME, TYPE, LOW, HIGH)                                                                                     \
    static int32_t NAME##_one(const earshot_sums *sums, const TYPE *x) {                                               \
        int32_t acc = sums->bias;                                                                                      \
        for (int32_t i = 0; i < sums->sum_extent[0]; i++) {                                                            \
            for (int32_t j = 0; j < sums->sum_extent[1]; j++) {                                                        \
                const TYPE *from = x + i * sums->sum_stride[0] + j * sums->sum_stride[1];                              \
                for (int32_t k = 0; k < sums->sum_extent[2]; k++, from += sums->sum_stride[2]) {                       \
                    acc += *from;                                                                                      \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
        return acc;                                                                                                    \
    }                                                                                                                  \
    void NAME(const earshot_sums *sums, const TYPE *x, TYPE *y) {                                                      \
        for (int32_t i = 0; i < sums->extent[0]; i++) {                                                                \
            for (int32_t j = 0; j < sums->extent[1]; j++) {                                                            \
                const TYPE *from = x + i * sums->stride[0] + j * sums->stride[1];                                      \
                for (int32_t k = 0; k < sums->extent[2]; k++, from += sums->stride[2]) {                               \
                    const int32_t value = ear_rescale(NAME##_one(sums, from), sums->multiplier, sums->shift);          \
                    *y++ = (TYPE)ear_clamp(value + sums->zero_point, LOW, HIGH);                                       \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

SUM(earshot_sum_s8, int8_t, INT8_MIN, INT8_MAX)
SUM(earshot_sum_s16, int16_t, INT16_MIN, INT16_MAX)
