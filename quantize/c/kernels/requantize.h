/* Fixed-point rescaling, bit for bit as TensorFlow Lite's reference kernels do it. */
#ifndef EAR_REQUANTIZE_H
#define EAR_REQUANTIZE_H

#include <stdint.h>

/* acc * multiplier * 2^(shift - 31), rounded twice: to nearest at 2^31 (ties up), then to nearest at 2^-shift (ties away
 * from zero). multiplier: 0 or 2^30 .. 2^31 - 1; shift: -31 .. 30.
 * The left shift wraps like the reference's; arithmetic right shifts of negative numbers are assumed, as every compiler
 * for these machines does them. */
static inline int32_t ear_rescale(int32_t acc, int32_t multiplier, int32_t shift) {
    const int32_t left = shift > 0 ? shift : 0;
    const int32_t right = shift > 0 ? 0 : -shift;
    const int64_t product = (int64_t)(int32_t)((uint32_t)acc << left) * multiplier;
    const int32_t high = (int32_t)((product + (1 << 30)) >> 31);
    const int32_t mask = (int32_t)((1u << right) - 1u);
    const int32_t threshold = (mask >> 1) + (high < 0);
    return (high >> right) + ((high & mask) > threshold);
}

/* The rule for 64-bit accumulators (int16 activations): a 16-bit multiplier, rounded once.
 * multiplier: 0 or 2^14 .. 2^15 - 1 (the 32-bit one, rounded to its upper half); shift: -31 .. 7. */
static inline int32_t ear_rescale_wide(int64_t acc, int32_t multiplier, int32_t shift) {
    const int32_t total = 15 - shift;
    return (int32_t)((acc * multiplier + ((int64_t)1 << (total - 1))) >> total);
}

/* acc * scale in double precision, rounded to nearest, ties away from zero: the rule of fully connected layers. In
 * integers wherever they decide it; scale = multiplier * 2^(shift - 31) but for rounding, |acc| < 2^53. */
int32_t ear_rescale_real(int64_t acc, int32_t multiplier, int32_t shift, double scale);

static inline int32_t ear_clamp(int32_t value, int32_t low, int32_t high) {
    return value < low ? low : value > high ? high : value;
}

#endif
