/* The inner loops with the dual 16-bit multiply-accumulate of Cortex-M4, M7 and M33 (SMLAD).
 *
 * Inputs are widened to 16 bits once, into a buffer on the stack, and then serve every row. A word of four weights is
 * widened to its even and its odd bytes (SXTB16), so the buffer has that order too: of elements 0 1 2 3, the pair 0 and 2,
 * then the pair 1 and 3. The two innermost loops are assembly, because the compiler spills and loads word by word. */
#ifndef EAR_DSP_H
#define EAR_DSP_H

#include <arm_acle.h>
#include <string.h>

/* Positions that share a row's weights. */
#define EAR_DSP_TILE 4
/* Elements whose products go into one 32-bit sum: so many of an int16 and an int8 fit. */
#define EAR_DSP_BLOCK 256
/* Elements the buffer holds: those of a tile, or of one long vector. */
#define EAR_DSP_VECTOR (EAR_DSP_TILE * EAR_DSP_BLOCK)

/* What is rarely needed stands apart, so that the loops around it keep their registers. */
#define EAR_DSP_APART static __attribute__((noinline, unused))

static inline uint32_t ear_dsp_load(const void *bytes) {
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static inline int32_t ear_dsp_even(uint32_t bytes) {
    return __sxtb16(bytes);
}

static inline int32_t ear_dsp_odd(uint32_t bytes) {
    int32_t pair;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(bytes));
    return pair;
}

/* Widens four elements at a time; `step` words lie between the pairs of one four and those of the next. */
static inline void ear_dsp_widen_s8(const int8_t *x, int32_t fours, int32_t step, int32_t *pairs) {
    for (; fours > 0; fours--, x += 4, pairs += step) {
        const uint32_t word = ear_dsp_load(x);
        pairs[0] = ear_dsp_even(word);
        pairs[1] = ear_dsp_odd(word);
    }
}

static inline void ear_dsp_widen_s16(const int16_t *x, int32_t fours, int32_t step, int32_t *pairs) {
    for (; fours > 0; fours--, x += 4, pairs += step) {
        const uint32_t low = ear_dsp_load(x), high = ear_dsp_load(x + 2);
        pairs[0] = (int32_t)((low & 0xffffu) | high << 16);
        pairs[1] = (int32_t)(low >> 16 | (high & 0xffff0000u));
    }
}

/* Adds to four sums the products of one row with four positions, whose pairs lie interleaved. fours > 0. */
static inline void ear_dsp_tile(const int32_t *pairs, const int8_t *w, int32_t fours, int32_t *sums) {
    int32_t a0 = sums[0], a1 = sums[1], a2 = sums[2], a3 = sums[3], even, odd, x0, x1;
    __asm__("1:\n\t"
            "ldr %[odd], [%[w]], #4\n\t"
            "ldrd %[x0], %[x1], [%[x]], #8\n\t"
            "sxtb16 %[even], %[odd]\n\t"
            "sxtb16 %[odd], %[odd], ror #8\n\t"
            "smlad %[a0], %[x0], %[even], %[a0]\n\t"
            "smlad %[a0], %[x1], %[odd], %[a0]\n\t"
            "ldrd %[x0], %[x1], [%[x]], #8\n\t"
            "smlad %[a1], %[x0], %[even], %[a1]\n\t"
            "smlad %[a1], %[x1], %[odd], %[a1]\n\t"
            "ldrd %[x0], %[x1], [%[x]], #8\n\t"
            "smlad %[a2], %[x0], %[even], %[a2]\n\t"
            "smlad %[a2], %[x1], %[odd], %[a2]\n\t"
            "ldrd %[x0], %[x1], [%[x]], #8\n\t"
            "subs %[fours], #1\n\t"
            "smlad %[a3], %[x0], %[even], %[a3]\n\t"
            "smlad %[a3], %[x1], %[odd], %[a3]\n\t"
            "bne 1b"
            : [w] "+&r"(w), [x] "+&r"(pairs), [fours] "+&r"(fours), [a0] "+&r"(a0), [a1] "+&r"(a1), [a2] "+&r"(a2),
              [a3] "+&r"(a3), [even] "=&r"(even), [odd] "=&r"(odd), [x0] "=&r"(x0), [x1] "=&r"(x1)
            :
            : "cc", "memory");
    sums[0] = a0, sums[1] = a1, sums[2] = a2, sums[3] = a3;
}

/* Adds to four sums the products of four rows, n apart, with one position. */
EAR_DSP_APART void ear_dsp_rows(const int32_t *pairs, const int8_t *w, int32_t n, int32_t fours, int32_t *sums) {
    int32_t a0 = sums[0], a1 = sums[1], a2 = sums[2], a3 = sums[3], even, odd, word, half;
    const int8_t *const end = w + 4 * (fours & ~1);
    const int32_t third = 3 * n;
#define EAR_DSP_ROW(SUM, ADDRESS)                                                                                      \
    "ldr %[word], " ADDRESS "\n\t"                                                                                     \
    "sxtb16 %[half], %[word]\n\t"                                                                                      \
    "sxtb16 %[word], %[word], ror #8\n\t"                                                                              \
    "smlad %[" SUM "], %[even], %[half], %[" SUM "]\n\t"                                                               \
    "smlad %[" SUM "], %[odd], %[word], %[" SUM "]\n\t"
#define EAR_DSP_FOUR                                                                                                   \
    "ldrd %[even], %[odd], [%[x]], #8\n\t" EAR_DSP_ROW("a3", "[%[w], %[third]]")                                       \
        EAR_DSP_ROW("a2", "[%[w], %[n], lsl #1]") EAR_DSP_ROW("a1", "[%[w], %[n]]") EAR_DSP_ROW("a0", "[%[w]], #4")
    if (w != end) {
        __asm__("1:\n\t" EAR_DSP_FOUR EAR_DSP_FOUR "cmp %[w], %[end]\n\t"
                "bne 1b"
                : [w] "+&r"(w), [x] "+&r"(pairs), [a0] "+&r"(a0), [a1] "+&r"(a1), [a2] "+&r"(a2), [a3] "+&r"(a3),
                  [even] "=&r"(even), [odd] "=&r"(odd), [word] "=&r"(word), [half] "=&r"(half)
                : [n] "r"(n), [third] "r"(third), [end] "r"(end)
                : "cc", "memory");
    }
    if (fours & 1) {
        __asm__(EAR_DSP_FOUR
                : [w] "+&r"(w), [x] "+&r"(pairs), [a0] "+&r"(a0), [a1] "+&r"(a1), [a2] "+&r"(a2), [a3] "+&r"(a3),
                  [even] "=&r"(even), [odd] "=&r"(odd), [word] "=&r"(word), [half] "=&r"(half)
                : [n] "r"(n), [third] "r"(third)
                : "memory");
    }
#undef EAR_DSP_FOUR
#undef EAR_DSP_ROW
    sums[0] = a0, sums[1] = a1, sums[2] = a2, sums[3] = a3;
}

/* (a * b + 2^31) >> 32: ear_rescale's first rounding, where half of `a` fits 32 bits twice over. */
static inline int32_t ear_dsp_mulr(int32_t a, int32_t b) {
    int32_t high;
    __asm__("smmulr %0, %1, %2" : "=r"(high) : "r"(a), "r"(b));
    return high;
}

/* The general rules. */
EAR_DSP_APART int8_t ear_dsp_rare_s8(const ear_output *output, int32_t row, int32_t acc) {
    return ear_output_s8(output, row, acc);
}

EAR_DSP_APART int16_t ear_dsp_rare_s16(const ear_output *output, int32_t row, int64_t acc) {
    return ear_output_s16(output, row, acc);
}

/* Whether saturation to so many bits is not all there is to clamping; it hardly ever is not. */
static inline int32_t ear_dsp_narrow(int32_t low, int32_t high, int32_t bits) {
    return low != -(1 << (bits - 1)) || high != (1 << (bits - 1)) - 1;
}

static inline int8_t ear_dsp_clamp_s8(int32_t value, const ear_output *output, int32_t narrow) {
    value = __ssat(value, 8);
    return (int8_t)(narrow ? ear_clamp(value, output->low, output->high) : value);
}

/* ear_rescale's second rounding, for right = -shift > 0, and the zero point on top: `fix`, 2 zero_point + 1, rounds when it
 * is added before the last halving. Ties go away from zero: negative numbers lose one first. */
static inline int32_t ear_dsp_round(int32_t high, int32_t right, int32_t fix) {
    return (((high + (high >> 31)) >> (right - 1)) + fix) >> 1;
}

static inline int32_t ear_dsp_rescale(int32_t acc, int32_t multiplier, int32_t right, int32_t fix) {
    const int32_t high = (int32_t)(((int64_t)acc * multiplier + (1 << 30)) >> 31);
    return ear_dsp_round(high, right, fix);
}

/* ear_output_s8 with a scale. The upper half of the product decides, unless it lies next to a tie. */
static inline int8_t ear_dsp_real_s8(const ear_output *output, int32_t row, int32_t acc) {
    const int32_t right = -output->shift[row];
    if (right > 1) {
        const int32_t half = (int32_t)1 << (right - 2), mask = 2 * half - 1;
        const int32_t sum = (int32_t)(((int64_t)acc * output->multiplier[row]) >> 32) + half;
        const int32_t rest = sum & mask;
        if (rest > 0 && rest < mask) {
            return (int8_t)ear_clamp((sum >> (right - 1)) + output->zero_point, output->low, output->high);
        }
    }
    return ear_dsp_rare_s8(output, row, acc);
}

/* Outputs of one row at EAR_DSP_TILE positions. */
static inline void ear_dsp_down_s8(const ear_output *output, int32_t row, const int32_t *acc, int8_t *y,
                                   int32_t y_stride) {
    const int32_t multiplier = output->multiplier[row], right = -output->shift[row];
    const int32_t fix = 2 * output->zero_point + 1, narrow = ear_dsp_narrow(output->low, output->high, 8);
    if (right > 0 && !output->scale) {
        for (int32_t i = 0; i < EAR_DSP_TILE; i++, y += y_stride) {
            *y = ear_dsp_clamp_s8(ear_dsp_rescale(acc[i], multiplier, right, fix), output, narrow);
        }
    } else {
        for (int32_t i = 0; i < EAR_DSP_TILE; i++, y += y_stride) {
            *y = ear_dsp_rare_s8(output, row, acc[i]);
        }
    }
}

/* Outputs of four rows at one position. */
EAR_DSP_APART void ear_dsp_across_s8(const ear_output *output, int32_t row, const int32_t *acc, int8_t *y) {
    const int32_t *multiplier = output->multiplier + row, *const end = acc + 4;
    const int8_t *shift = output->shift + row;
    const int32_t fix = 2 * output->zero_point + 1, narrow = ear_dsp_narrow(output->low, output->high, 8);
    if (output->scale) {
        for (; acc != end; row++) {
            *y++ = ear_dsp_real_s8(output, row, *acc++);
        }
        return;
    }
    for (; acc != end; row++) {
        const int32_t right = -*shift++, sum = *acc++, factor = *multiplier++;
        *y++ = right > 0 ? ear_dsp_clamp_s8(ear_dsp_rescale(sum, factor, right, fix), output, narrow)
                         : ear_dsp_rare_s8(output, row, sum);
    }
}

/* ear_output_s16 without a scale for 8 <= total = 15 - shift < 32. */
static inline int16_t ear_dsp_output_s16(const ear_output *output, int64_t acc, uint32_t multiplier, int32_t total) {
    const int64_t sum = acc * multiplier + ((int64_t)1 << (total - 1));
    const int32_t value = (int32_t)((uint32_t)sum >> total | (uint32_t)(sum >> 32) << (32 - total));
    return (int16_t)ear_clamp(value, output->low, output->high);
}

static inline void ear_dsp_down_s16(const ear_output *output, int32_t row, const int64_t *acc, int16_t *y,
                                    int32_t y_stride) {
    const int32_t total = 15 - output->shift[row];
    const uint32_t multiplier = (uint32_t)output->multiplier[row];
    if (total < 32 && !output->scale) {
        for (int32_t i = 0; i < EAR_DSP_TILE; i++, y += y_stride) {
            *y = ear_dsp_output_s16(output, acc[i], multiplier, total);
        }
    } else {
        for (int32_t i = 0; i < EAR_DSP_TILE; i++, y += y_stride) {
            *y = ear_dsp_rare_s16(output, row, acc[i]);
        }
    }
}

EAR_DSP_APART void ear_dsp_across_s16(const ear_output *output, int32_t row, const int64_t *acc, int16_t *y) {
    for (int32_t i = 0; i < 4; i++, row++) {
        const int32_t total = 15 - output->shift[row];
        y[i] = total < 32 && !output->scale
                   ? ear_dsp_output_s16(output, acc[i], (uint32_t)output->multiplier[row], total)
                   : ear_dsp_rare_s16(output, row, acc[i]);
    }
}

/* Both widths of activation: tile, all rows at EAR_DSP_TILE positions, n <= EAR_DSP_BLOCK; vector, all rows at one. */
#define EAR_DSP_MATMUL(WIDTH, TYPE, SUM)                                                                               \
    static inline void ear_dsp_tile_##WIDTH(const TYPE *x, int32_t x_stride, const int8_t *w, int32_t n, int32_t rows, \
                                            const SUM *bias, const ear_output *output, int32_t *pairs, TYPE *y,        \
                                            int32_t y_stride) {                                                        \
        const int32_t fours = n >> 2;                                                                                  \
        for (int32_t i = 0; i < EAR_DSP_TILE; i++) {                                                                   \
            ear_dsp_widen_##WIDTH(x + i * x_stride, fours, 2 * EAR_DSP_TILE, pairs + 2 * i);                           \
        }                                                                                                              \
        for (int32_t r = 0; r < rows; r++, w += n) {                                                                   \
            int32_t sums[EAR_DSP_TILE] = {0};                                                                          \
            SUM acc[EAR_DSP_TILE];                                                                                     \
            if (fours) {                                                                                               \
                ear_dsp_tile(pairs, w, fours, sums);                                                                   \
            }                                                                                                          \
            for (int32_t k = 4 * fours; k < n; k++) {                                                                  \
                for (int32_t i = 0; i < EAR_DSP_TILE; i++) {                                                           \
                    sums[i] += x[i * x_stride + k] * w[k];                                                             \
                }                                                                                                      \
            }                                                                                                          \
            for (int32_t i = 0; i < EAR_DSP_TILE; i++) {                                                               \
                acc[i] = bias[r] + sums[i];                                                                            \
            }                                                                                                          \
            ear_dsp_down_##WIDTH(output, r, acc, y + r, y_stride);                                                     \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    static inline void ear_dsp_vector_##WIDTH(const TYPE *x, const int8_t *w, int32_t n, int32_t rows,                 \
                                              const SUM *bias, const ear_output *output, int32_t *pairs, TYPE *y) {    \
        int32_t r = 0;                                                                                                 \
        for (; r + 4 <= rows; r += 4, w += 4 * n) {                                                                    \
            SUM acc[4] = {bias[r], bias[r + 1], bias[r + 2], bias[r + 3]};                                             \
            for (int32_t k = 0; k < n; k += EAR_DSP_BLOCK) {                                                           \
                const int32_t count = n - k < EAR_DSP_BLOCK ? n - k : EAR_DSP_BLOCK;                                   \
                int32_t *const place = pairs + k % EAR_DSP_VECTOR / 2;                                                 \
                int32_t sums[4] = {0};                                                                                 \
                if (r == 0 || n > EAR_DSP_VECTOR) {                                                                    \
                    ear_dsp_widen_##WIDTH(x + k, count >> 2, 2, place);                                                \
                }                                                                                                      \
                ear_dsp_rows(place, w + k, n, count >> 2, sums);                                                       \
                for (int32_t i = 0; i < 4; i++) {                                                                      \
                    for (int32_t j = k + (count & ~3); j < k + count; j++) {                                           \
                        sums[i] += x[j] * w[i * n + j];                                                                \
                    }                                                                                                  \
                    acc[i] += sums[i];                                                                                 \
                }                                                                                                      \
            }                                                                                                          \
            ear_dsp_across_##WIDTH(output, r, acc, y + r);                                                             \
        }                                                                                                              \
        for (; r < rows; r++, w += n) {                                                                                \
            SUM acc = bias[r];                                                                                         \
            for (int32_t k = 0; k < n; k++) {                                                                          \
                acc += x[k] * w[k];                                                                                    \
            }                                                                                                          \
            y[r] = ear_dsp_rare_##WIDTH(output, r, acc);                                                               \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    static inline void ear_matmul_##WIDTH(const TYPE *x, int32_t x_stride, int32_t positions, const int8_t *w,         \
                                          int32_t n, int32_t rows, const SUM *bias, const ear_output *output, TYPE *y, \
                                          int32_t y_stride) {                                                          \
        int32_t pairs[EAR_DSP_VECTOR / 2] __attribute__((aligned(8)));                                                 \
        for (; n <= EAR_DSP_BLOCK && positions >= EAR_DSP_TILE; positions -= EAR_DSP_TILE) {                           \
            ear_dsp_tile_##WIDTH(x, x_stride, w, n, rows, bias, output, pairs, y, y_stride);                           \
            x += EAR_DSP_TILE * x_stride;                                                                              \
            y += EAR_DSP_TILE * y_stride;                                                                              \
        }                                                                                                              \
        for (; positions > 0; positions--, x += x_stride, y += y_stride) {                                             \
            ear_dsp_vector_##WIDTH(x, w, n, rows, bias, output, pairs, y);                                             \
        }                                                                                                              \
    }

#define EAR_HAVE_MATMUL_S8
EAR_DSP_MATMUL(s8, int8_t, int32_t)
#define EAR_HAVE_MATMUL_S16
EAR_DSP_MATMUL(s16, int16_t, int64_t)

/* Four channels at a time: their inputs and weights as even and odd pairs. */
#define EAR_HAVE_DEPTHWISE_S8
static inline void ear_depthwise_s8(const int8_t *const *taps, int32_t count, const int8_t *w, int32_t channels,
                                    const int32_t *bias, const ear_output *output, int8_t *y) {
    int32_t c = 0;
    for (; c + 4 <= channels; c += 4) {
        int32_t a0 = bias[c], a1 = bias[c + 1], a2 = bias[c + 2], a3 = bias[c + 3];
        const int8_t *weight = w + c;
        for (int32_t t = 0; t < count; t++, weight += channels) {
            const uint32_t inputs = ear_dsp_load(taps[t] + c), weights = ear_dsp_load(weight);
            const int32_t even = ear_dsp_even(inputs), odd = ear_dsp_odd(inputs);
            const int32_t even_weights = ear_dsp_even(weights), odd_weights = ear_dsp_odd(weights);
            a0 = __smlabb(even, even_weights, a0);
            a1 = __smlabb(odd, odd_weights, a1);
            a2 = __smlatt(even, even_weights, a2);
            a3 = __smlatt(odd, odd_weights, a3);
        }
        const int32_t acc[4] = {a0, a1, a2, a3};
        ear_dsp_across_s8(output, c, acc, y + c);
    }
    for (; c < channels; c++) {
        int32_t acc = bias[c];
        for (int32_t t = 0; t < count; t++) {
            acc += taps[t][c] * w[t * channels + c];
        }
        y[c] = ear_dsp_rare_s8(output, c, acc);
    }
}

/* One operand of an addition on the common scale; `up` brings it to 31 bits, `right` = -shift >= 0. */
static inline int32_t ear_dsp_operand(int32_t value, int32_t zero, int32_t up, int32_t multiplier, int32_t right) {
    const int32_t high = ear_dsp_mulr((value - zero) * (1 << up), multiplier);
    const int32_t ties = right ? -1 : 0, half = (int32_t)((1u << right) >> 1);
    return (high + ((high >> 31) & ties) + half) >> right;
}

/* Addition and subtraction where every shift goes right. The sum of int8 operands may be doubled, that of int16 not. */
#define EAR_DSP_ADD(WIDTH, TYPE, BITS, UP, RESCALE)                                                                    \
    static inline void ear_dsp_add_##WIDTH(const TYPE *a, int32_t a_step, const TYPE *b, int32_t b_step, int32_t n,    \
                                           const ear_binary *binary, int32_t subtract, TYPE *y) {                      \
        const ear_binary f = *binary;                                                                                  \
        const int32_t fix = 2 * f.zero_point + 1, narrow = ear_dsp_narrow(f.low, f.high, BITS);                        \
        for (; n > 0; n--, a += a_step, b += b_step) {                                                                 \
            const int32_t left = ear_dsp_operand(*a, f.a_zero, UP, f.a_multiplier, -f.a_shift);                        \
            const int32_t right = ear_dsp_operand(*b, f.b_zero, UP, f.b_multiplier, -f.b_shift);                       \
            const int32_t sum = subtract ? left - right : left + right;                                                \
            int32_t value = __ssat(RESCALE, BITS);                                                                     \
            if (narrow) {                                                                                              \
                value = ear_clamp(value, f.low, f.high);                                                               \
            }                                                                                                          \
            *y++ = (TYPE)value;                                                                                        \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    static inline void ear_add_##WIDTH(const TYPE *a, int32_t a_step, const TYPE *b, int32_t b_step, int32_t n,        \
                                       const ear_binary *binary, TYPE *y) {                                            \
        const int32_t usual = binary->left == UP - 1 && binary->a_shift <= 0 && binary->b_shift <= 0 &&                \
                              binary->shift < 0 && (BITS == 8 || (binary->a_zero == 0 && binary->b_zero == 0));        \
        if (!usual) {                                                                                                  \
            for (; n > 0; n--, a += a_step, b += b_step) {                                                             \
                *y++ = (TYPE)ear_sum(binary, *a, *b);                                                                  \
            }                                                                                                          \
        } else if (binary->subtract) {                                                                                 \
            ear_dsp_add_##WIDTH(a, a_step, b, b_step, n, binary, 1, y);                                                \
        } else {                                                                                                       \
            ear_dsp_add_##WIDTH(a, a_step, b, b_step, n, binary, 0, y);                                                \
        }                                                                                                              \
    }

#define EAR_HAVE_ADD_S8
EAR_DSP_ADD(s8, int8_t, 8, 21, ear_dsp_round(ear_dsp_mulr(2 * sum, f.multiplier), -f.shift, fix))
#define EAR_HAVE_ADD_S16
EAR_DSP_ADD(s16, int16_t, 16, 16, ear_dsp_rescale(sum, f.multiplier, -f.shift, fix))

#endif
