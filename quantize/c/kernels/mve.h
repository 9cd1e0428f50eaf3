/* The inner loops with the M-profile vector extension of Cortex-M55 and M85 (MVE, "Helium").
 *
 * Sums go along the inputs, sixteen or eight products an instruction, in loops whose last round is predicated by the
 * processor itself (WLSTP, LETP), which the compiler does not write. Outputs are made four at a time. */
#ifndef EAR_MVE_H
#define EAR_MVE_H

#include <arm_mve.h>

#define EAR_MVE_LANES 4
/* Elements whose products go into one 32-bit sum: so many of an int16 and an int8 fit. */
#define EAR_MVE_BLOCK 256

/* Sums of `n` products of x with each of four rows, WIDTH bits a lane. Loads that widen address by low registers only. */
#define EAR_MVE_DOT4(NAME, TYPE, WIDTH, LOAD_X, LOAD_W, STEP_W, BASE)                                                  \
    static inline int32x4_t NAME(const TYPE *x, const int8_t *const *w, int32_t n) {                                   \
        const int8_t *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];                                                   \
        int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;                                                                        \
        __asm__("wlstp." WIDTH " lr, %[n], 2f\n"                                                                       \
                "1:\n\t" LOAD_X " q0, [%[x]], #16\n\t"                                                                 \
                LOAD_W " q1, [%[w0]], #" STEP_W "\n\t"                                                                 \
                "vmladava.s" WIDTH " %[a0], q0, q1\n\t"                                                                \
                LOAD_W " q1, [%[w1]], #" STEP_W "\n\t"                                                                 \
                "vmladava.s" WIDTH " %[a1], q0, q1\n\t"                                                                \
                LOAD_W " q1, [%[w2]], #" STEP_W "\n\t"                                                                 \
                "vmladava.s" WIDTH " %[a2], q0, q1\n\t"                                                                \
                LOAD_W " q1, [%[w3]], #" STEP_W "\n\t"                                                                 \
                "vmladava.s" WIDTH " %[a3], q0, q1\n\t"                                                                \
                "letp lr, 1b\n"                                                                                        \
                "2:"                                                                                                   \
                : [x] "+&r"(x), [w0] BASE(w0), [w1] BASE(w1), [w2] BASE(w2), [w3] BASE(w3), [a0] "+&Te"(a0),           \
                  [a1] "+&Te"(a1), [a2] "+&Te"(a2), [a3] "+&Te"(a3)                                                    \
                : [n] "r"(n)                                                                                           \
                : "q0", "q1", "lr", "memory");                                                                         \
        return (int32x4_t){a0, a1, a2, a3};                                                                            \
    }

EAR_MVE_DOT4(ear_mve_dot4_s8, int8_t, "8", "vldrb.8", "vldrb.8", "16", "+&r")
EAR_MVE_DOT4(ear_mve_dot4_s16, int16_t, "16", "vldrh.16", "vldrb.s16", "8", "+&l")

/* What turns up to four sums of neighbouring rows into outputs. */
typedef struct {
    int32x4_t offset;     /* bias */
    int32x4_t multiplier; /* s16 without scales: in its upper half */
    int32x4_t shift;
    int32_t count; /* EAR_MVE_LANES, or fewer */
    int32_t rare;  /* the general rules are needed */
} ear_mve_rows;

static inline ear_mve_rows ear_mve_load(const ear_output *output, int32_t row, int32_t count, int32_t highest_shift) {
    if (count >= EAR_MVE_LANES) {
        const int32x4_t shift = vldrbq_s32(output->shift + row);
        return (ear_mve_rows){.multiplier = vldrwq_s32(output->multiplier + row),
                              .shift = shift,
                              .count = EAR_MVE_LANES,
                              .rare = vcmpgtq_n_s32(shift, highest_shift) != 0};
    }
    const mve_pred16_t lanes = vctp32q((uint32_t)count);
    const int32x4_t shift = vldrbq_z_s32(output->shift + row, lanes);
    return (ear_mve_rows){.multiplier = vldrwq_z_s32(output->multiplier + row, lanes),
                          .shift = shift,
                          .count = count,
                          .rare = vcmpgtq_m_n_s32(shift, highest_shift, lanes) != 0};
}

static inline ear_mve_rows ear_mve_rows_s8(const ear_output *output, const int32_t *bias, int32_t row, int32_t count) {
    ear_mve_rows rows = ear_mve_load(output, row, count, output->scale ? -2 : 0);
    rows.offset = count >= EAR_MVE_LANES ? vldrwq_s32(bias + row) : vldrwq_z_s32(bias + row, vctp32q((uint32_t)count));
    return rows;
}

static inline ear_mve_rows ear_mve_rows_s16(const ear_output *output, const int64_t *bias, int32_t row, int32_t count) {
    ear_mve_rows rows = ear_mve_load(output, row, count, -2);
    int32_t low[EAR_MVE_LANES] = {0};
    for (int32_t i = 0; i < EAR_MVE_LANES && i < count; i++) {
        low[i] = (int32_t)bias[row + i];
        /* So that a sum of 31 bits may be added. */
        rows.rare |= bias[row + i] >= 1 << 30 || bias[row + i] <= -(1 << 30);
    }
    rows.offset = vld1q_s32(low);
    if (!output->scale) {
        rows.multiplier = vshlq_n_s32(rows.multiplier, 16);
    }
    return rows;
}

static __attribute__((noinline, unused)) void ear_mve_rare_s8(const ear_output *output, int32_t row, int32_t count,
                                                              int32x4_t acc, int8_t *y) {
    int32_t sums[EAR_MVE_LANES];
    vst1q_s32(sums, acc);
    for (int32_t i = 0; i < count; i++) {
        y[i] = ear_output_s8(output, row + i, sums[i]);
    }
}

static __attribute__((noinline, unused)) void ear_mve_rare_s16(const ear_output *output, const int64_t *bias,
                                                               int32_t row, int32_t count, int32x4_t sum,
                                                               int16_t *y) {
    int32_t sums[EAR_MVE_LANES];
    vst1q_s32(sums, sum);
    for (int32_t i = 0; i < count; i++) {
        y[i] = ear_output_s16(output, row + i, bias[row + i] + sums[i]);
    }
}

/* ear_rescale for shifts to the right. Negative numbers lose one before they are shifted: ties go away from zero. */
static inline int32x4_t ear_mve_rescale(int32x4_t acc, int32x4_t multiplier, int32x4_t shift) {
    const int32x4_t high = vqrdmulhq_s32(acc, multiplier);
    return vrshlq_s32(vaddq_s32(high, vshrq_n_s32(vandq_s32(high, shift), 31)), shift);
}

/* ear_rescale_real for shifts below -1, where the upper half of the product decides; returns whether it does not in some
 * lane, because it lies next to a tie. */
static inline int32_t ear_mve_real(int32x4_t acc, const ear_mve_rows *rows, int32x4_t *value) {
    const int32x4_t half = vshlq_s32(vdupq_n_s32(1), vsubq_s32(vdupq_n_s32(-2), rows->shift));
    const int32x4_t mask = vsubq_n_s32(vaddq_s32(half, half), 1);
    const int32x4_t sum = vaddq_s32(vmulhq_s32(acc, rows->multiplier), half);
    const int32x4_t rest = vandq_s32(sum, mask);
    *value = vshlq_s32(sum, vaddq_n_s32(rows->shift, 1));
    const mve_pred16_t lanes = vctp32q((uint32_t)rows->count);
    return vcmpltq_m_s32(rest, mask, vcmpgtq_m_n_s32(rest, 0, lanes)) != lanes;
}

static inline int32x4_t ear_mve_clamp(int32x4_t value, const ear_output *output) {
    return vminq_s32(vmaxq_s32(value, vdupq_n_s32(output->low)), vdupq_n_s32(output->high));
}

/* Outputs of sums to which the bias has still to be added. */
static inline void ear_mve_output_s8(const ear_output *output, int32_t row, const ear_mve_rows *rows, int32x4_t sum,
                                     int8_t *y) {
    const int32x4_t acc = vaddq_s32(sum, rows->offset);
    int32x4_t value = ear_mve_rescale(acc, rows->multiplier, rows->shift);
    if (rows->rare || (output->scale && ear_mve_real(acc, rows, &value))) {
        ear_mve_rare_s8(output, row, rows->count, acc, y);
        return;
    }
    value = ear_mve_clamp(vaddq_n_s32(value, output->zero_point), output);
    if (rows->count == EAR_MVE_LANES) {
        vstrbq_s32(y, value);
    } else {
        vstrbq_p_s32(y, value, vctp32q((uint32_t)rows->count));
    }
}

/* |sum| <= 2^30. The upper half of the product with a multiplier that lies in the upper half is the product without its 16
 * lowest bits: rounded once, it is ear_rescale_wide. */
static inline void ear_mve_output_s16(const ear_output *output, const int64_t *bias, int32_t row,
                                      const ear_mve_rows *rows, int32x4_t sum, int16_t *y) {
    const int32x4_t acc = vaddq_s32(sum, rows->offset);
    int32x4_t value = vrshlq_s32(vmulhq_s32(acc, rows->multiplier), vaddq_n_s32(rows->shift, 1));
    if (rows->rare || (output->scale && ear_mve_real(acc, rows, &value))) {
        ear_mve_rare_s16(output, bias, row, rows->count, sum, y);
        return;
    }
    value = ear_mve_clamp(value, output);
    if (rows->count == EAR_MVE_LANES) {
        vstrhq_s32(y, value);
    } else {
        vstrhq_p_s32(y, value, vctp32q((uint32_t)rows->count));
    }
}

/* Addresses of up to four rows n apart; those that are not there stand at the first, and their sums are not stored. */
#define EAR_MVE_ADDRESSES(W, N, COUNT)                                                                                 \
    {(W), (COUNT) > 1 ? (W) + (N) : (W), (COUNT) > 2 ? (W) + 2 * (N) : (W), (COUNT) > 3 ? (W) + 3 * (N) : (W)}

#define EAR_HAVE_MATMUL_S8
static inline void ear_matmul_s8(const int8_t *x, int32_t x_stride, int32_t positions, const int8_t *w, int32_t n,
                                 int32_t rows, const int32_t *bias, const ear_output *output, int8_t *y,
                                 int32_t y_stride) {
    for (int32_t r = 0; r < rows; r += EAR_MVE_LANES, w += EAR_MVE_LANES * n) {
        const int32_t count = rows - r;
        const int8_t *const addresses[EAR_MVE_LANES] = EAR_MVE_ADDRESSES(w, n, count);
        const ear_mve_rows group = ear_mve_rows_s8(output, bias, r, count);
        for (int32_t p = 0; p < positions; p++) {
            ear_mve_output_s8(output, r, &group, ear_mve_dot4_s8(x + p * x_stride, addresses, n), y + p * y_stride + r);
        }
    }
}

/* More products than fit 32 bits, which is rare. */
static __attribute__((noinline, unused)) void ear_mve_long_s16(const int16_t *x, const int8_t *w, int32_t n,
                                                               int32_t rows, const int64_t *bias,
                                                               const ear_output *output, int16_t *y) {
    for (int32_t r = 0; r < rows; r += EAR_MVE_LANES, w += EAR_MVE_LANES * n) {
        const int32_t count = rows - r;
        int64_t acc[EAR_MVE_LANES] = {0};
        ear_mve_rows group;
        for (int32_t k = 0; k < n; k += EAR_MVE_BLOCK) {
            const int8_t *const addresses[EAR_MVE_LANES] = EAR_MVE_ADDRESSES(w + k, n, count);
            int32_t sums[EAR_MVE_LANES];
            vst1q_s32(sums, ear_mve_dot4_s16(x + k, addresses, n - k < EAR_MVE_BLOCK ? n - k : EAR_MVE_BLOCK));
            for (int32_t i = 0; i < EAR_MVE_LANES && i < count; i++) {
                acc[i] = (k ? acc[i] : bias[r + i]) + sums[i];
            }
        }
        group = ear_mve_rows_s16(output, acc - r, r, count);
        ear_mve_output_s16(output, acc - r, r, &group, vdupq_n_s32(0), y + r);
    }
}

#define EAR_HAVE_MATMUL_S16
static inline void ear_matmul_s16(const int16_t *x, int32_t x_stride, int32_t positions, const int8_t *w, int32_t n,
                                  int32_t rows, const int64_t *bias, const ear_output *output, int16_t *y,
                                  int32_t y_stride) {
    if (n > EAR_MVE_BLOCK) {
        for (int32_t p = 0; p < positions; p++) {
            ear_mve_long_s16(x + p * x_stride, w, n, rows, bias, output, y + p * y_stride);
        }
        return;
    }
    for (int32_t r = 0; r < rows; r += EAR_MVE_LANES, w += EAR_MVE_LANES * n) {
        const int32_t count = rows - r;
        const int8_t *const addresses[EAR_MVE_LANES] = EAR_MVE_ADDRESSES(w, n, count);
        const ear_mve_rows group = ear_mve_rows_s16(output, bias, r, count);
        for (int32_t p = 0; p < positions; p++) {
            ear_mve_output_s16(output, bias, r, &group, ear_mve_dot4_s16(x + p * x_stride, addresses, n),
                               y + p * y_stride + r);
        }
    }
}

/* Sixteen channels at a time share the walk over the taps, then four, then those that are left over. */
#define EAR_MVE_DEPTHWISE(WIDTH, TYPE, SUM, LOAD, LOAD_SOME, OUTPUT)                                                   \
    static inline int32x4_t ear_mve_tap_##WIDTH(int32x4_t sum, const TYPE *x, const int8_t *w) {                       \
        return vaddq_s32(sum, vmulq_s32(LOAD(x), vldrbq_s32(w)));                                                      \
    }                                                                                                                  \
                                                                                                                       \
    static inline void ear_depthwise_##WIDTH(const TYPE *const *taps, int32_t count, const int8_t *w, int32_t channels,\
                                             const SUM *bias, const ear_output *output, TYPE *y) {                     \
        const TYPE *const *const end = taps + count;                                                                   \
        const int32x4_t zero = vdupq_n_s32(0);                                                                         \
        int32_t c = 0;                                                                                                 \
        for (; c + 16 <= channels; c += 16) {                                                                          \
            int32x4_t s0 = zero, s1 = zero, s2 = zero, s3 = zero;                                                      \
            const int8_t *weight = w + c;                                                                              \
            for (const TYPE *const *tap = taps; tap != end; weight += channels) {                                      \
                const TYPE *x = *tap++ + c;                                                                            \
                s0 = ear_mve_tap_##WIDTH(s0, x, weight);                                                               \
                s1 = ear_mve_tap_##WIDTH(s1, x + 4, weight + 4);                                                       \
                s2 = ear_mve_tap_##WIDTH(s2, x + 8, weight + 8);                                                       \
                s3 = ear_mve_tap_##WIDTH(s3, x + 12, weight + 12);                                                     \
            }                                                                                                          \
            OUTPUT(c, EAR_MVE_LANES, s0);                                                                              \
            OUTPUT(c + 4, EAR_MVE_LANES, s1);                                                                          \
            OUTPUT(c + 8, EAR_MVE_LANES, s2);                                                                          \
            OUTPUT(c + 12, EAR_MVE_LANES, s3);                                                                         \
        }                                                                                                              \
        for (; c + EAR_MVE_LANES <= channels; c += EAR_MVE_LANES) {                                                    \
            int32x4_t sum = zero;                                                                                      \
            const int8_t *weight = w + c;                                                                              \
            for (const TYPE *const *tap = taps; tap != end; weight += channels) {                                      \
                sum = ear_mve_tap_##WIDTH(sum, *tap++ + c, weight);                                                    \
            }                                                                                                          \
            OUTPUT(c, EAR_MVE_LANES, sum);                                                                             \
        }                                                                                                              \
        if (c < channels) {                                                                                            \
            const mve_pred16_t lanes = vctp32q((uint32_t)(channels - c));                                              \
            const int8_t *weight = w + c;                                                                              \
            int32x4_t sum = zero;                                                                                      \
            for (const TYPE *const *tap = taps; tap != end; weight += channels) {                                      \
                sum = vaddq_s32(sum, vmulq_s32(LOAD_SOME(*tap++ + c, lanes), vldrbq_z_s32(weight, lanes)));            \
            }                                                                                                          \
            OUTPUT(c, channels - c, sum);                                                                              \
        }                                                                                                              \
    }

/* Apart: taken in four times, it would leave no registers. */
static __attribute__((noinline, unused)) void ear_mve_four_s8(const ear_output *output, const int32_t *bias, int32_t row,
                                                              int32_t count, int32x4_t sum, int8_t *y) {
    const ear_mve_rows rows = ear_mve_rows_s8(output, bias, row, count);
    ear_mve_output_s8(output, row, &rows, sum, y + row);
}

static __attribute__((noinline, unused)) void ear_mve_four_s16(const ear_output *output, const int64_t *bias,
                                                               int32_t row, int32_t count, int32x4_t sum, int16_t *y) {
    const ear_mve_rows rows = ear_mve_rows_s16(output, bias, row, count);
    ear_mve_output_s16(output, bias, row, &rows, sum, y + row);
}

#define EAR_MVE_FOUR_S8(ROW, COUNT, SUM) ear_mve_four_s8(output, bias, ROW, COUNT, SUM, y)
#define EAR_MVE_FOUR_S16(ROW, COUNT, SUM) ear_mve_four_s16(output, bias, ROW, COUNT, SUM, y)

#define EAR_HAVE_DEPTHWISE_S8
EAR_MVE_DEPTHWISE(s8, int8_t, int32_t, vldrbq_s32, vldrbq_z_s32, EAR_MVE_FOUR_S8)
#define EAR_HAVE_DEPTHWISE_S16
EAR_MVE_DEPTHWISE(s16, int16_t, int64_t, vldrhq_s32, vldrhq_z_s32, EAR_MVE_FOUR_S16)

/* ear_rescale by one multiplier. */
typedef struct {
    int32_t multiplier, left, right;
    int32x4_t ties;
} ear_mve_scale;

static inline ear_mve_scale ear_mve_scale_of(int32_t multiplier, int32_t shift) {
    return (ear_mve_scale){multiplier, shift > 0 ? shift : 0, shift > 0 ? 0 : shift, vdupq_n_s32(shift < 0 ? -1 : 0)};
}

static inline int32x4_t ear_mve_rescale_all(int32x4_t acc, const ear_mve_scale *scale) {
    const int32x4_t high = vqrdmulhq_n_s32(vshlq_r_s32(acc, scale->left), scale->multiplier);
    return vrshlq_n_s32(vaddq_s32(high, vshrq_n_s32(vandq_s32(high, scale->ties), 31)), scale->right);
}

/* Loads and stores of four int8 or int16 widened to 32 bits; a step of 0 repeats one. */
#define EAR_MVE_BINARY(WIDTH, TYPE, LOAD, STORE)                                                                       \
    static inline int32x4_t ear_mve_take_##WIDTH(const TYPE *from, int32_t step, mve_pred16_t lanes) {                 \
        return step ? LOAD(from, lanes) : vdupq_n_s32(*from);                                                          \
    }                                                                                                                  \
                                                                                                                       \
    static inline void ear_add_##WIDTH(const TYPE *a, int32_t a_step, const TYPE *b, int32_t b_step, int32_t n,        \
                                       const ear_binary *binary, TYPE *y) {                                            \
        const ear_binary f = *binary;                                                                                  \
        const ear_mve_scale a_scale = ear_mve_scale_of(f.a_multiplier, f.a_shift);                                     \
        const ear_mve_scale b_scale = ear_mve_scale_of(f.b_multiplier, f.b_shift);                                     \
        const ear_mve_scale scale = ear_mve_scale_of(f.multiplier, f.shift);                                           \
        const int32x4_t low = vdupq_n_s32(f.low), high = vdupq_n_s32(f.high);                                          \
        for (; n > 0; n -= EAR_MVE_LANES, y += EAR_MVE_LANES) {                                                        \
            const mve_pred16_t lanes = vctp32q((uint32_t)n);                                                           \
            int32x4_t left = vsubq_n_s32(ear_mve_take_##WIDTH(a, a_step, lanes), f.a_zero);                            \
            int32x4_t right = vsubq_n_s32(ear_mve_take_##WIDTH(b, b_step, lanes), f.b_zero);                           \
            left = ear_mve_rescale_all(vshlq_r_s32(left, f.left), &a_scale);                                           \
            right = ear_mve_rescale_all(vshlq_r_s32(right, f.left), &b_scale);                                         \
            const int32x4_t sum = f.subtract ? vsubq_s32(left, right) : vaddq_s32(left, right);                        \
            const int32x4_t value = vaddq_n_s32(ear_mve_rescale_all(sum, &scale), f.zero_point);                       \
            STORE(y, vminq_s32(vmaxq_s32(value, low), high), lanes);                                                   \
            a += EAR_MVE_LANES * a_step;                                                                               \
            b += EAR_MVE_LANES * b_step;                                                                               \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    static inline void ear_mul_##WIDTH(const TYPE *a, int32_t a_step, const TYPE *b, int32_t b_step, int32_t n,        \
                                       const ear_binary *binary, TYPE *y) {                                            \
        const ear_binary f = *binary;                                                                                  \
        const ear_mve_scale scale = ear_mve_scale_of(f.multiplier, f.shift);                                           \
        const int32x4_t low = vdupq_n_s32(f.low), high = vdupq_n_s32(f.high);                                          \
        for (; n > 0; n -= EAR_MVE_LANES, y += EAR_MVE_LANES) {                                                        \
            const mve_pred16_t lanes = vctp32q((uint32_t)n);                                                           \
            const int32x4_t left = vsubq_n_s32(ear_mve_take_##WIDTH(a, a_step, lanes), f.a_zero);                      \
            const int32x4_t right = vsubq_n_s32(ear_mve_take_##WIDTH(b, b_step, lanes), f.b_zero);                     \
            const int32x4_t product = ear_mve_rescale_all(vmulq_s32(left, right), &scale);                             \
            const int32x4_t value = vaddq_n_s32(product, f.zero_point);                                                \
            STORE(y, vminq_s32(vmaxq_s32(value, low), high), lanes);                                                   \
            a += EAR_MVE_LANES * a_step;                                                                               \
            b += EAR_MVE_LANES * b_step;                                                                               \
        }                                                                                                              \
    }

#define EAR_HAVE_ADD_S8
#define EAR_HAVE_MUL_S8
EAR_MVE_BINARY(s8, int8_t, vldrbq_z_s32, vstrbq_p_s32)
#define EAR_HAVE_ADD_S16
#define EAR_HAVE_MUL_S16
EAR_MVE_BINARY(s16, int16_t, vldrhq_z_s32, vstrhq_p_s32)

#endif
