/* From real numbers to the network's integers. */
#ifndef MODEL_FRONTEND_QUANTIZE_H
#define MODEL_FRONTEND_QUANTIZE_H

#include "model_frontend.h"

#include <string.h>

/* Adding 1.5 * 2^23 to a number below 2^22 rounds it to the nearest integer, ties to even: the low bits of the sum. */
static const float ROUNDER = 12582912.0f;

static inline int32_t bits_of(float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline model_value_t quantized(float real) {
    const float lowest = MODEL_VALUE_MIN - MODEL_FRAME_ZERO_POINT, highest = MODEL_VALUE_MAX - MODEL_FRAME_ZERO_POINT;
    const float steps = real * (1.0f / MODEL_FRAME_SCALE);
    const float above = steps > lowest ? steps : lowest;
    return (model_value_t)bits_of((above < highest ? above : highest) + (ROUNDER + MODEL_FRAME_ZERO_POINT));
}

#endif
