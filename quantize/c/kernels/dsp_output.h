/* How the machines of dsp.h make outputs of sums: ear_output_s8 and ear_output_s16 for many rows at once. What is rarely
 * needed (a shift to the left, a product next to a tie, a clamp) stands apart, so that the loops keep their registers. */
#ifndef EAR_DSP_OUTPUT_H
#define EAR_DSP_OUTPUT_H

#include <arm_acle.h>

/* Positions whose outputs are made together. */
#define EAR_DSP_TILE 4

#define EAR_DSP_APART static __attribute__((noinline, unused))

/* (a * b + 2^31) >> 32: ear_rescale's first rounding of a / 2. */
static inline int32_t ear_dsp_mulr(int32_t a, int32_t b) {
    int32_t high;
    __asm__("smmulr %0, %1, %2" : "=r"(high) : "r"(a), "r"(b));
    return high;
}

/* ear_rescale's second rounding, for right = last + 1 > 0, and the zero point on top: `fix`, 2 zero_point + 1, rounds when
 * it is added before the last halving. Ties go away from zero: negative numbers lose one first. */
static inline int32_t ear_dsp_round(int32_t high, int32_t last, int32_t fix) {
    return (((high + (high >> 31)) >> last) + fix) >> 1;
}

static inline int32_t ear_dsp_rescale(int32_t acc, int32_t multiplier, int32_t last, int32_t fix) {
    return ear_dsp_round((int32_t)(((int64_t)acc * multiplier + (1 << 30)) >> 31), last, fix);
}

/* The general rules. */
EAR_DSP_APART int8_t ear_dsp_rare_s8(const ear_output *output, int32_t row, int32_t acc) {
    return ear_output_s8(output, row, acc);
}

EAR_DSP_APART int16_t ear_dsp_rare_s16(const ear_output *output, int32_t row, int64_t acc) {
    return ear_output_s16(output, row, acc);
}

/* Whether clamping is more than saturation to so many bits. */
static inline int32_t ear_dsp_narrow(int32_t low, int32_t high, int32_t bits) {
    return low != -(1 << (bits - 1)) || high != (1 << (bits - 1)) - 1;
}

#define EAR_DSP_CLAMP(WIDTH, TYPE, BITS)                                                                               \
    EAR_DSP_APART void ear_dsp_clamp_##WIDTH(const ear_output *output, int32_t rows, TYPE *y) {                        \
        for (; ear_dsp_narrow(output->low, output->high, BITS) && rows > 0; rows--, y++) {                             \
            *y = (TYPE)ear_clamp(*y, output->low, output->high);                                                       \
        }                                                                                                              \
    }

EAR_DSP_CLAMP(s8, int8_t, 8)
EAR_DSP_CLAMP(s16, int16_t, 16)

/* Outputs of `rows` rows from `row` on at EAR_DSP_TILE positions. A shift to the right has a bitwise complement >= 0. */
EAR_DSP_APART void ear_dsp_tile_outputs_s8(const ear_output *output, int32_t row, int32_t rows, const int32_t *bias,
                                           const int32_t *sums, int8_t *y, int32_t y_stride) {
    const int32_t fix = 2 * output->zero_point + 1;
    for (int32_t r = 0; r < rows; r++, sums += EAR_DSP_TILE) {
        const int32_t multiplier = output->multiplier[row + r], last = ~output->shift[row + r], offset = bias[r];
        int8_t *down = y + r;
        if (last < 0 || output->scale) {
            for (int32_t i = 0; i < EAR_DSP_TILE; i++, down += y_stride) {
                *down = ear_dsp_rare_s8(output, row + r, offset + sums[i]);
            }
        } else {
            for (int32_t i = 0; i < EAR_DSP_TILE; i++, down += y_stride) {
                *down = (int8_t)__ssat(ear_dsp_rescale(offset + sums[i], multiplier, last, fix), 8);
            }
        }
    }
    for (int32_t i = 0; i < EAR_DSP_TILE; i++, y += y_stride) {
        ear_dsp_clamp_s8(output, rows, y);
    }
}

/* Outputs with scales in double precision. The upper half of a product decides, unless it lies next to a tie. */
#define EAR_DSP_REAL(WIDTH, TYPE, SUM, BITS)                                                                           \
    EAR_DSP_APART void ear_dsp_real_##WIDTH(const ear_output *output, int32_t row, int32_t rows, const SUM *acc,       \
                                            TYPE *y) {                                                                 \
        const int32_t *multipliers = output->multiplier + row;                                                         \
        const int8_t *shifts = output->shift + row;                                                                    \
        const int32_t zero_point = output->zero_point;                                                                 \
        for (const SUM *const end = acc + rows; acc != end;) {                                                         \
            const SUM sum = *acc++;                                                                                    \
            const int32_t multiplier = *multipliers++, last = ~*shifts++;                                              \
            if (last > 0 && sum == (int32_t)sum) {                                                                     \
                const int32_t half = (int32_t)1 << (last - 1), mask = 2 * half - 1;                                    \
                const int32_t high = (int32_t)(((int64_t)(int32_t)sum * multiplier) >> 32) + half, rest = high & mask; \
                if (rest != 0 && rest != mask) {                                                                       \
                    *y++ = (TYPE)__ssat((high >> last) + zero_point, BITS);                                            \
                    continue;                                                                                          \
                }                                                                                                      \
            }                                                                                                          \
            *y++ = ear_dsp_rare_##WIDTH(output, row + rows - (int32_t)(end - acc) - 1, sum);                           \
        }                                                                                                              \
    }

EAR_DSP_REAL(s8, int8_t, int32_t, 8)
EAR_DSP_REAL(s16, int16_t, int64_t, 16)

/* Outputs of `rows` rows from `row` on at one position. */
EAR_DSP_APART void ear_dsp_outputs_s8(const ear_output *output, int32_t row, int32_t rows, const int32_t *acc,
                                      int8_t *y) {
    int8_t *const first = y;
    if (output->scale) {
        ear_dsp_real_s8(output, row, rows, acc, y);
    } else {
        const int32_t *multipliers = output->multiplier + row, *const end = acc + rows;
        const int8_t *shifts = output->shift + row;
        const int32_t fix = 2 * output->zero_point + 1;
        while (acc != end) {
            const int32_t sum = *acc++, multiplier = *multipliers++, last = ~*shifts++;
            if (last < 0) {
                *y++ = ear_dsp_rare_s8(output, row + rows - (int32_t)(end - acc) - 1, sum);
            } else {
                *y++ = (int8_t)__ssat(ear_dsp_rescale(sum, multiplier, last, fix), 8);
            }
        }
    }
    ear_dsp_clamp_s8(output, rows, first);
}

/* ear_output_s16 for 8 <= total = 15 - shift < 32 and without a scale; what else is to be clamped than all 16 bits, or
 * with `positive` the upper 15, is left to be done. */
static inline int16_t ear_dsp_output_s16(int64_t acc, uint32_t multiplier, int32_t total, int32_t positive) {
    const int64_t sum = acc * multiplier + (1u << (total - 1));
    const int32_t value = (int32_t)((uint32_t)sum >> total | (uint32_t)(sum >> 32) << (32 - total));
    return (int16_t)(positive ? (int32_t)__usat(value, 15) : __ssat(value, 16));
}

static inline int32_t ear_dsp_positive(const ear_output *output) {
    return output->low == 0 && output->high == INT16_MAX;
}

EAR_DSP_APART void ear_dsp_tile_outputs_s16(const ear_output *output, int32_t row, int32_t rows, const int64_t *bias,
                                            const int32_t *sums, int16_t *y, int32_t y_stride) {
    const int32_t positive = ear_dsp_positive(output);
    for (int32_t r = 0; r < rows; r++, sums += EAR_DSP_TILE) {
        const uint32_t multiplier = (uint32_t)output->multiplier[row + r];
        const int32_t total = 15 - output->shift[row + r];
        const int64_t offset = bias[r];
        int16_t *down = y + r;
        if (output->scale || total >= 32) {
            for (int32_t i = 0; i < EAR_DSP_TILE; i++, down += y_stride) {
                *down = ear_dsp_rare_s16(output, row + r, offset + sums[i]);
            }
        } else {
            for (int32_t i = 0; i < EAR_DSP_TILE; i++, down += y_stride) {
                *down = ear_dsp_output_s16(offset + sums[i], multiplier, total, positive);
            }
        }
    }
    for (int32_t i = 0; i < EAR_DSP_TILE && (output->scale || !positive); i++, y += y_stride) {
        ear_dsp_clamp_s16(output, rows, y);
    }
}

EAR_DSP_APART void ear_dsp_outputs_s16(const ear_output *output, int32_t row, int32_t rows, const int64_t *acc,
                                       int16_t *y) {
    int16_t *const first = y;
    if (output->scale) {
        ear_dsp_real_s16(output, row, rows, acc, y);
    } else {
        const uint32_t *multipliers = (const uint32_t *)output->multiplier + row;
        const int8_t *shifts = output->shift + row;
        const int32_t positive = ear_dsp_positive(output);
        for (const int64_t *const end = acc + rows; acc != end;) {
            const int64_t sum = *acc++;
            const uint32_t multiplier = *multipliers++;
            const int32_t total = 15 - *shifts++;
            if (total >= 32) {
                *y++ = ear_dsp_rare_s16(output, row + rows - (int32_t)(end - acc) - 1, sum);
            } else {
                *y++ = ear_dsp_output_s16(sum, multiplier, total, positive);
            }
        }
    }
    if (output->scale || !ear_dsp_positive(output)) {
        ear_dsp_clamp_s16(output, rows, first);
    }
}

#endif
