/* Operators that only move elements: slices, concatenations, transpositions, padding. */
#include <string.h>

#include "kernels.h"

void earshot_copy(const earshot_blocks *blocks, void *y, const void *x) {
    const char *from = x;
    char *to = y;
    const size_t run = (size_t)blocks->run;
    for (int32_t i = 0; i < blocks->extent[0]; i++) {
        for (int32_t j = 0; j < blocks->extent[1]; j++) {
            for (int32_t k = 0; k < blocks->extent[2]; k++) {
                const char *source = from + i * blocks->x_stride[0] + j * blocks->x_stride[1] + k * blocks->x_stride[2];
                char *target = to + i * blocks->y_stride[0] + j * blocks->y_stride[1] + k * blocks->y_stride[2];
                for (int32_t l = 0; l < blocks->extent[3]; l++) {
                    if (run == 1) {
                        *target = *source;
                    } else {
                        memcpy(target, source, run);
                    }
                    source += blocks->x_stride[3];
                    target += blocks->y_stride[3];
                }
            }
        }
    }
}

void earshot_fill_s8(int8_t value, int32_t n, int8_t *y) { memset(y, value, (size_t)n); }

void earshot_fill_s16(int16_t value, int32_t n, int16_t *y) {
    for (int32_t i = 0; i < n; i++) {
        y[i] = value;
    }
}
