/* Elementwise operators: a walk over the outer axes, a primitive along the inner one. */
#include "kernels.h"

#define BROADCAST(NAME, PRIMITIVE, TYPE)                                                                               \
    void NAME(const earshot_broadcast *shape, const ear_binary *binary, const TYPE *a, const TYPE *b, TYPE *y) {       \
        for (int32_t i = 0; i < shape->extent[0]; i++) {                                                               \
            for (int32_t j = 0; j < shape->extent[1]; j++) {                                                           \
                for (int32_t k = 0; k < shape->extent[2]; k++, y += shape->n) {                                        \
                    PRIMITIVE(a + i * shape->a_stride[0] + j * shape->a_stride[1] + k * shape->a_stride[2],            \
                              shape->a_step,                                                                           \
                              b + i * shape->b_stride[0] + j * shape->b_stride[1] + k * shape->b_stride[2],            \
                              shape->b_step, shape->n, binary, y);                                                     \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

BROADCAST(earshot_add_s8, ear_add_s8, int8_t)
BROADCAST(earshot_add_s16, ear_add_s16, int16_t)
BROADCAST(earshot_mul_s8, ear_mul_s8, int8_t)
BROADCAST(earshot_mul_s16, ear_mul_s16, int16_t)
