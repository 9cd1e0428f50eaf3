/* The inner loops with the dual 16-bit multiply-accumulate of Cortex-M4, M7 and M33 (SMLAD).
 *
 * Inputs are widened to 16 bits once, into a buffer on the stack, and then serve every row. A word of four weights is
 * widened to its even and its odd bytes (SXTB16), so the buffer has that order too: of elements 0 1 2 3, the pair 0 and 2,
 * then the pair 1 and 3. The innermost loops are assembly, because the compiler would load word by word and spill. */
#ifndef EAR_DSP_H
#define EAR_DSP_H

#ifndef __OPTIMIZE__
#error "the loops of dsp.h need all registers: compile with -O1 or more, or without EARSHOT_DSP"
#endif

#include <arm_acle.h>
#include <string.h>

#include "dsp_output.h"

/* Elements whose products go into one 32-bit sum: so many of an int16 and an int8 fit. */
#define EAR_DSP_BLOCK 256
/* Elements the buffer holds: those of a tile, or of one long vector. */
#define EAR_DSP_VECTOR (EAR_DSP_TILE * EAR_DSP_BLOCK)
/* Rows whose sums are made before they become outputs; a multiple of four. */
#define EAR_DSP_ROWS 16

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

/* sums[4 r + i]: the products of row r with position i, whose pairs lie interleaved. The last n % 4 are left out. */
EAR_DSP_APART void ear_dsp_tile(const int32_t *pairs, const int8_t *w, int32_t n, int32_t rows, int32_t *sums) {
    const int32_t rest = n & 3, *const end = sums + 4 * rows;
    for (; sums != end; w += rest) {
        const int32_t *x = pairs;
        int32_t fours = n >> 2, a0 = 0, a1 = 0, a2 = 0, a3 = 0, even, odd, x0, x1;
        __asm__("cbz %[fours], 2f\n"
                "1:\n\t"
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
                "bne 1b\n"
                "2:"
                : [w] "+&r"(w), [x] "+&r"(x), [fours] "+&l"(fours), [a0] "+&r"(a0), [a1] "+&r"(a1), [a2] "+&r"(a2),
                  [a3] "+&r"(a3), [even] "=&r"(even), [odd] "=&r"(odd), [x0] "=&r"(x0), [x1] "=&r"(x1)
                :
                : "cc", "memory");
        *sums++ = a0;
        *sums++ = a1;
        *sums++ = a2;
        *sums++ = a3;
    }
}

/* sums[r]: the products of row r with the fours of one position, for `rows` rows, a multiple of four, that lie n apart. */
EAR_DSP_APART void ear_dsp_vector(const int32_t *pairs, const int8_t *w, int32_t n, int32_t fours, int32_t rows,
                                  int32_t *sums) {
#define EAR_DSP_ROW(SUM, ADDRESS)                                                                                      \
    "ldr %[word], " ADDRESS "\n\t"                                                                                     \
    "sxtb16 %[half], %[word]\n\t"                                                                                      \
    "sxtb16 %[word], %[word], ror #8\n\t"                                                                              \
    "smlad %[" SUM "], %[even], %[half], %[" SUM "]\n\t"                                                               \
    "smlad %[" SUM "], %[odd], %[word], %[" SUM "]\n\t"
#define EAR_DSP_FOUR                                                                                                   \
    "ldrd %[even], %[odd], [%[x]], #8\n\t" EAR_DSP_ROW("a3", "[%[w], %[third]]")                                       \
        EAR_DSP_ROW("a2", "[%[w], %[n], lsl #1]") EAR_DSP_ROW("a1", "[%[w], %[n]]") EAR_DSP_ROW("a0", "[%[w]], #4")
    const int32_t third = 3 * n;
    for (; rows > 0; rows -= 4, w += 4 * (n - fours)) {
        const int32_t *x = pairs;
        const int8_t *const end = w + 4 * (fours & ~1);
        int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0, even, odd, word, half;
        if (w != end) {
            __asm__("1:\n\t" EAR_DSP_FOUR EAR_DSP_FOUR "cmp %[w], %[end]\n\t"
                    "bne 1b"
                    : [w] "+&r"(w), [x] "+&r"(x), [a0] "+&r"(a0), [a1] "+&r"(a1), [a2] "+&r"(a2), [a3] "+&r"(a3),
                      [even] "=&r"(even), [odd] "=&r"(odd), [word] "=&r"(word), [half] "=&r"(half)
                    : [n] "r"(n), [third] "r"(third), [end] "r"(end)
                    : "cc", "memory");
        }
        if (fours & 1) {
            __asm__(EAR_DSP_FOUR
                    : [w] "+&r"(w), [x] "+&r"(x), [a0] "+&r"(a0), [a1] "+&r"(a1), [a2] "+&r"(a2), [a3] "+&r"(a3),
                      [even] "=&r"(even), [odd] "=&r"(odd), [word] "=&r"(word), [half] "=&r"(half)
                    : [n] "r"(n), [third] "r"(third)
                    : "memory");
        }
        *sums++ = a0, *sums++ = a1, *sums++ = a2, *sums++ = a3;
    }
#undef EAR_DSP_FOUR
#undef EAR_DSP_ROW
}

/* Both widths of activation: tile, all rows at EAR_DSP_TILE positions, n <= EAR_DSP_BLOCK; vector, all rows at one. */
#define EAR_DSP_MATMUL(WIDTH, TYPE, SUM)                                                                               \
    static inline void ear_dsp_tile_##WIDTH(const TYPE *x, int32_t x_stride, const int8_t *w, int32_t n, int32_t rows, \
                                            const SUM *bias, const ear_output *output, int32_t *pairs, TYPE *y,        \
                                            int32_t y_stride) {                                                        \
        int32_t sums[EAR_DSP_TILE * EAR_DSP_ROWS];                                                                     \
        for (int32_t i = 0; i < EAR_DSP_TILE; i++) {                                                                   \
            ear_dsp_widen_##WIDTH(x + i * x_stride, n >> 2, 2 * EAR_DSP_TILE, pairs + 2 * i);                          \
        }                                                                                                              \
        for (int32_t row = 0; row < rows; row += EAR_DSP_ROWS, w += EAR_DSP_ROWS * n) {                                \
            const int32_t some = rows - row < EAR_DSP_ROWS ? rows - row : EAR_DSP_ROWS;                                \
            ear_dsp_tile(pairs, w, n, some, sums);                                                                     \
            for (int32_t k = n & ~3; k < n; k++) {                                                                     \
                for (int32_t r = 0; r < some; r++) {                                                                   \
                    for (int32_t i = 0; i < EAR_DSP_TILE; i++) {                                                       \
                        sums[EAR_DSP_TILE * r + i] += x[i * x_stride + k] * w[r * n + k];                              \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
            ear_dsp_tile_outputs_##WIDTH(output, row, some, bias + row, sums, y + row, y_stride);                      \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    static inline void ear_dsp_vector_##WIDTH(const TYPE *x, const int8_t *w, int32_t n, int32_t rows,                 \
                                              const SUM *bias, const ear_output *output, int32_t *pairs, TYPE *y) {    \
        int32_t sums[EAR_DSP_ROWS];                                                                                    \
        SUM acc[EAR_DSP_ROWS];                                                                                         \
        for (int32_t row = 0; row < rows; row += EAR_DSP_ROWS, w += EAR_DSP_ROWS * n) {                                \
            const int32_t some = rows - row < EAR_DSP_ROWS ? rows - row : EAR_DSP_ROWS, whole = some & ~3;             \
            for (int32_t r = n > 0 ? whole : 0; r < some; r++) {                                                       \
                acc[r] = bias[row + r];                                                                                \
            }                                                                                                          \
            for (int32_t k = 0; k < n; k += EAR_DSP_BLOCK) {                                                           \
                const int32_t count = n - k < EAR_DSP_BLOCK ? n - k : EAR_DSP_BLOCK, fours = count >> 2;               \
                int32_t *const place = pairs + k % EAR_DSP_VECTOR / 2;                                                 \
                if (row == 0 || n > EAR_DSP_VECTOR) {                                                                  \
                    ear_dsp_widen_##WIDTH(x + k, fours, 2, place);                                                     \
                }                                                                                                      \
                ear_dsp_vector(place, w + k, n, fours, whole, sums);                                                   \
                if (k == 0) {                                                                                          \
                    for (int32_t r = 0; r < whole; r++) {                                                              \
                        acc[r] = bias[row + r] + sums[r];                                                              \
                    }                                                                                                  \
                } else {                                                                                               \
                    for (int32_t r = 0; r < whole; r++) {                                                              \
                        acc[r] += sums[r];                                                                             \
                    }                                                                                                  \
                }                                                                                                      \
                for (int32_t i = k + 4 * fours; i < k + count; i++) {                                                  \
                    for (int32_t r = 0; r < whole; r++) {                                                              \
                        acc[r] += x[i] * w[r * n + i];                                                                 \
                    }                                                                                                  \
                }                                                                                                      \
                for (int32_t r = whole; r < some; r++) {                                                               \
                    for (int32_t i = k; i < k + count; i++) {                                                          \
                        acc[r] += x[i] * w[r * n + i];                                                                 \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
            ear_dsp_outputs_##WIDTH(output, row, some, acc, y + row);                                                  \
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

/* Sums of `some` channels, a multiple of four, from c on. */
EAR_DSP_APART void ear_dsp_taps_s8(const int8_t *const *taps, int32_t count, const int8_t *w, int32_t channels,
                                   int32_t c, int32_t some, const int32_t *bias, int32_t *acc) {
    const int8_t *const *const end = taps + count;
    for (some += c; c < some; c += 4) {
        int32_t a0 = *bias++, a1 = *bias++, a2 = *bias++, a3 = *bias++;
        const int8_t *weight = w + c;
        for (const int8_t *const *tap = taps; tap != end; weight += channels) {
            const uint32_t inputs = ear_dsp_load(*tap++ + c), weights = ear_dsp_load(weight);
            const int32_t even = ear_dsp_even(inputs), odd = ear_dsp_odd(inputs);
            const int32_t even_weights = ear_dsp_even(weights), odd_weights = ear_dsp_odd(weights);
            a0 = __smlabb(even, even_weights, a0);
            a1 = __smlabb(odd, odd_weights, a1);
            a2 = __smlatt(even, even_weights, a2);
            a3 = __smlatt(odd, odd_weights, a3);
        }
        *acc++ = a0, *acc++ = a1, *acc++ = a2, *acc++ = a3;
    }
}

EAR_DSP_APART void ear_dsp_taps_s16(const int16_t *const *taps, int32_t count, const int8_t *w, int32_t channels,
                                    int32_t c, int32_t some, const int64_t *bias, int64_t *acc) {
    const int16_t *const *const end = taps + count;
    for (some += c; c < some; c += 4) {
        int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
        const int8_t *weight = w + c;
        for (const int16_t *const *tap = taps; tap != end; weight += channels) {
            const int16_t *x = *tap++ + c;
            const int32_t low = (int32_t)ear_dsp_load(x), high = (int32_t)ear_dsp_load(x + 2);
            const uint32_t weights = ear_dsp_load(weight);
            const int32_t even = ear_dsp_even(weights), odd = ear_dsp_odd(weights);
            a0 = __smlabb(low, even, a0);
            a1 = __smlatb(low, odd, a1);
            a2 = __smlabt(high, even, a2);
            a3 = __smlatt(high, odd, a3);
        }
        *acc++ = *bias++ + a0, *acc++ = *bias++ + a1, *acc++ = *bias++ + a2, *acc++ = *bias++ + a3;
    }
}

#define EAR_DSP_DEPTHWISE(WIDTH, TYPE, SUM)                                                                            \
    static inline void ear_depthwise_##WIDTH(const TYPE *const *taps, int32_t count, const int8_t *w,                  \
                                             int32_t channels, const SUM *bias, const ear_output *output, TYPE *y) {   \
        for (int32_t first = 0; first < channels; first += EAR_DSP_ROWS) {                                             \
            const int32_t some = channels - first < EAR_DSP_ROWS ? channels - first : EAR_DSP_ROWS;                    \
            SUM acc[EAR_DSP_ROWS];                                                                                     \
            ear_dsp_taps_##WIDTH(taps, count, w, channels, first, some & ~3, bias + first, acc);                       \
            for (int32_t c = first + (some & ~3); c < first + some; c++) {                                             \
                SUM sum = bias[c];                                                                                     \
                for (int32_t t = 0; t < count; t++) {                                                                  \
                    sum += taps[t][c] * w[t * channels + c];                                                           \
                }                                                                                                      \
                acc[c - first] = sum;                                                                                  \
            }                                                                                                          \
            ear_dsp_outputs_##WIDTH(output, first, some, acc, y + first);                                              \
        }                                                                                                              \
    }

#define EAR_HAVE_DEPTHWISE_S8
EAR_DSP_DEPTHWISE(s8, int8_t, int32_t)
#define EAR_HAVE_DEPTHWISE_S16
EAR_DSP_DEPTHWISE(s16, int16_t, int64_t)

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

#define EAR_DSP_MUL(WIDTH, TYPE, BITS)                                                                                 \
    static inline void ear_mul_##WIDTH(const TYPE *a, int32_t a_step, const TYPE *b, int32_t b_step, int32_t n,        \
                                       const ear_binary *binary, TYPE *y) {                                            \
        const int32_t a_zero = binary->a_zero, b_zero = binary->b_zero, multiplier = binary->multiplier;               \
        const int32_t last = ~binary->shift, fix = 2 * binary->zero_point + 1;                                         \
        const int32_t usual = last >= 0 && !ear_dsp_narrow(binary->low, binary->high, BITS);                           \
        for (; n > 0; n--, a += a_step, b += b_step) {                                                                 \
            *y++ = (TYPE)(usual ? __ssat(ear_dsp_rescale((*a - a_zero) * (*b - b_zero), multiplier, last, fix), BITS)  \
                                : ear_product(binary, *a, *b));                                                        \
        }                                                                                                              \
    }

#define EAR_HAVE_ADD_S8
EAR_DSP_ADD(s8, int8_t, 8, 21, ear_dsp_round(ear_dsp_mulr(2 * sum, f.multiplier), ~f.shift, fix))
#define EAR_HAVE_ADD_S16
EAR_DSP_ADD(s16, int16_t, 16, 16, ear_dsp_rescale(sum, f.multiplier, ~f.shift, fix))

#define EAR_HAVE_MUL_S8
EAR_DSP_MUL(s8, int8_t, 8)
#define EAR_HAVE_MUL_S16
EAR_DSP_MUL(s16, int16_t, 16)

#endif
