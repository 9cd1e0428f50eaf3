/* The inner loops with the M-profile vector extension of Cortex-M55 and M85 (MVE, "Helium").
 *
 * Sums go along the inputs, sixteen or eight products an instruction, in loops whose last round is predicated by the
 * processor itself (WLSTP, LETP), which the compiler does not write. Outputs are made four at a time. */
#ifndef EAR_MVE_H
#define EAR_MVE_H

#include <arm_mve.h>

#define EAR_MVE_LANES 4
#define EAR_MVE_ALL 0xffffu
/* Elements whose products go into one 32-bit sum: so many of an int16 and an int8 fit. */
#define EAR_MVE_BLOCK 256

/* Sums of `n` products of x with each of four rows: WIDTH bits a lane, LOAD reads eight or sixteen weights. */
#define EAR_MVE_DOT4(NAME, TYPE, WIDTH, LOAD_X, LOAD_W, STEP_W)                                                        \
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
                : [x] "+&r"(x), [w0] "+&l"(w0), [w1] "+&l"(w1), [w2] "+&l"(w2), [w3] "+&l"(w3), [a0] "+&Te"(a0),       \
                  [a1] "+&Te"(a1), [a2] "+&Te"(a2), [a3] "+&Te"(a3)                                                    \
                : [n] "r"(n)                                                                                           \
                : "q0", "q1", "lr", "memory");                                                                         \
        return (int32x4_t){a0, a1, a2, a3};                                                                            \
    }

EAR_MVE_DOT4(ear_mve_dot4_s8, int8_t, "8", "vldrb.8", "vldrb.8", "16")
EAR_MVE_DOT4(ear_mve_dot4_s16, int16_t, "16", "vldrh.16", "vldrb.s16", "8")

/* ear_rescale of four sums. Negative numbers lose one before they are shifted: ties go away from zero. */
static inline int32x4_t ear_mve_rescale(int32x4_t acc, int32x4_t multiplier, int32x4_t left, int32x4_t right) {
    const int32x4_t high = vqrdmulhq_s32(vshlq_s32(acc, left), multiplier);
    return vrshlq_s32(vaddq_s32(high, vshrq_n_s32(vandq_s32(high, right), 31)), right);
}

/* Scales of up to four outputs. */
typedef struct {
    int32x4_t multiplier, left, right;
    mve_pred16_t lanes;
} ear_mve_scales;

static inline ear_mve_scales ear_mve_load_scales(const ear_output *output, int32_t row, int32_t count) {
    const mve_pred16_t lanes = vctp32q((uint32_t)count);
    const int32x4_t shift = vldrbq_z_s32(output->shift + row, lanes);
    const int32x4_t zero = vdupq_n_s32(0);
    return (ear_mve_scales){.multiplier = vldrwq_z_s32(output->multiplier + row, lanes),
                            .left = vmaxq_s32(shift, zero),
                            .right = vminq_s32(shift, zero),
                            .lanes = lanes};
}

static inline int32x4_t ear_mve_clamp(int32x4_t value, const ear_output *output) {
    return vminq_s32(vmaxq_s32(value, vdupq_n_s32(output->low)), vdupq_n_s32(output->high));
}

/* ear_output_s8 with scales in double precision: the upper half of the products decides, unless one lies next to a tie. */
static inline void ear_mve_real_s8(const ear_output *output, int32_t row, int32_t count, int32x4_t acc, int8_t *y) {
    const mve_pred16_t lanes = vctp32q((uint32_t)count);
    const int32x4_t shift = vldrbq_z_s32(output->shift + row, lanes);
    const int32x4_t half = vshlq_s32(vdupq_n_s32(1), vsubq_s32(vdupq_n_s32(-2), shift));
    const int32x4_t mask = vsubq_n_s32(vaddq_s32(half, half), 1);
    const int32x4_t sum = vaddq_s32(vmulhq_s32(acc, vldrwq_z_s32(output->multiplier + row, lanes)), half);
    const int32x4_t rest = vandq_s32(sum, mask);
    const mve_pred16_t sure = vcmpltq_m_s32(rest, mask, vcmpgtq_m_n_s32(rest, 0, vcmpltq_m_n_s32(shift, -1, lanes)));
    if (sure == lanes) {
        const int32x4_t value = vaddq_n_s32(vshlq_s32(sum, vaddq_n_s32(shift, 1)), output->zero_point);
        vstrbq_p_s32(y, ear_mve_clamp(value, output), lanes);
    } else {
        int32_t sums[EAR_MVE_LANES];
        vst1q_s32(sums, acc);
        for (int32_t i = 0; i < count; i++) {
            y[i] = ear_output_s8(output, row + i, sums[i]);
        }
    }
}

#define EAR_HAVE_MATMUL_S8
static inline void ear_matmul_s8(const int8_t *x, int32_t x_stride, int32_t positions, const int8_t *w, int32_t n,
                                 int32_t rows, const int32_t *bias, const ear_output *output, int8_t *y,
                                 int32_t y_stride) {
    for (int32_t r = 0; r < rows; r += EAR_MVE_LANES, w += EAR_MVE_LANES * n) {
        const int32_t count = rows - r < EAR_MVE_LANES ? rows - r : EAR_MVE_LANES;
        /* Rows that are not there are taken from the last one; their sums are not stored. */
        const int8_t *const row[EAR_MVE_LANES] = {w, count > 1 ? w + n : w, count > 2 ? w + 2 * n : w,
                                                  count > 3 ? w + 3 * n : w};
        const ear_mve_scales scales = ear_mve_load_scales(output, r, count);
        const int32x4_t offset = vldrwq_z_s32(bias + r, scales.lanes);
        for (int32_t p = 0; p < positions; p++) {
            const int32x4_t acc = vaddq_s32(ear_mve_dot4_s8(x + p * x_stride, row, n), offset);
            if (output->scale) {
                ear_mve_real_s8(output, r, count, acc, y + p * y_stride + r);
                continue;
            }
            const int32x4_t value = ear_mve_rescale(acc, scales.multiplier, scales.left, scales.right);
            vstrbq_p_s32(y + p * y_stride + r, ear_mve_clamp(vaddq_n_s32(value, output->zero_point), output), scales.lanes);
        }
    }
}

/* Stores ear_output_s16 of up to four sums, bias + sum. Where bias and sum fit 32 bits, the upper half of the product with
 * the multiplier in its upper half, rounded once, is exact. */
static inline void ear_mve_output_s16(const ear_output *output, int32_t row, int32_t count, const int64_t *bias,
                                      int32x4_t sum, int16_t *y) {
    int32_t low[EAR_MVE_LANES] = {0}, fits = output->scale == 0;
    for (int32_t i = 0; i < count; i++) {
        low[i] = (int32_t)bias[i];
        fits &= low[i] == bias[i] && output->shift[row + i] < -1;
    }
    const mve_pred16_t lanes = vctp32q((uint32_t)count);
    const int32x4_t offset = vld1q_s32(low), acc = vaddq_s32(sum, offset);
    if (fits && vcmpneq_m_s32(acc, vqaddq_s32(sum, offset), lanes) == 0) {
        const int32x4_t multiplier = vshlq_n_s32(vldrwq_z_s32(output->multiplier + row, lanes), 16);
        const int32x4_t shift = vaddq_n_s32(vldrbq_z_s32(output->shift + row, lanes), 1);
        vstrhq_p_s32(y, ear_mve_clamp(vrshlq_s32(vmulhq_s32(acc, multiplier), shift), output), lanes);
    } else {
        int32_t sums[EAR_MVE_LANES];
        vst1q_s32(sums, sum);
        for (int32_t i = 0; i < count; i++) {
            y[i] = ear_output_s16(output, row + i, bias[i] + sums[i]);
        }
    }
}

#define EAR_HAVE_MATMUL_S16
static inline void ear_matmul_s16(const int16_t *x, int32_t x_stride, int32_t positions, const int8_t *w, int32_t n,
                                  int32_t rows, const int64_t *bias, const ear_output *output, int16_t *y,
                                  int32_t y_stride) {
    for (int32_t r = 0; r < rows; r += EAR_MVE_LANES, w += EAR_MVE_LANES * n) {
        const int32_t count = rows - r < EAR_MVE_LANES ? rows - r : EAR_MVE_LANES;
        for (int32_t p = 0; p < positions; p++) {
            const int16_t *input = x + p * x_stride;
            int64_t wide[EAR_MVE_LANES] = {0};
            const int64_t *offset = bias + r;
            int32_t k = 0;
            for (; n - k > EAR_MVE_BLOCK; k += EAR_MVE_BLOCK) {
                const int8_t *const row[EAR_MVE_LANES] = {w + k, count > 1 ? w + n + k : w + k,
                                                          count > 2 ? w + 2 * n + k : w + k,
                                                          count > 3 ? w + 3 * n + k : w + k};
                int32_t sums[EAR_MVE_LANES];
                vst1q_s32(sums, ear_mve_dot4_s16(input + k, row, EAR_MVE_BLOCK));
                for (int32_t i = 0; i < count; i++) {
                    wide[i] = (k ? wide[i] : bias[r + i]) + sums[i];
                }
                offset = wide;
            }
            const int8_t *const row[EAR_MVE_LANES] = {w + k, count > 1 ? w + n + k : w + k,
                                                      count > 2 ? w + 2 * n + k : w + k,
                                                      count > 3 ? w + 3 * n + k : w + k};
            ear_mve_output_s16(output, r, count, offset, ear_mve_dot4_s16(input + k, row, n - k), y + p * y_stride + r);
        }
    }
}

/* Four channels at a time. */
#define EAR_HAVE_DEPTHWISE_S8
static inline void ear_depthwise_s8(const int8_t *const *taps, int32_t count, const int8_t *w, int32_t channels,
                                    const int32_t *bias, const ear_output *output, int8_t *y) {
    for (int32_t c = 0; c < channels; c += EAR_MVE_LANES) {
        const ear_mve_scales scales = ear_mve_load_scales(output, c, channels - c);
        int32x4_t acc = vldrwq_z_s32(bias + c, scales.lanes);
        const int8_t *weight = w + c;
        if (channels - c >= EAR_MVE_LANES) {
            for (int32_t t = 0; t < count; t++, weight += channels) {
                acc = vaddq_s32(acc, vmulq_s32(vldrbq_s32(taps[t] + c), vldrbq_s32(weight)));
            }
        } else {
            for (int32_t t = 0; t < count; t++, weight += channels) {
                const int32x4_t input = vldrbq_z_s32(taps[t] + c, scales.lanes);
                acc = vaddq_s32(acc, vmulq_s32(input, vldrbq_z_s32(weight, scales.lanes)));
            }
        }
        const int32x4_t value = ear_mve_rescale(acc, scales.multiplier, scales.left, scales.right);
        vstrbq_p_s32(y + c, ear_mve_clamp(vaddq_n_s32(value, output->zero_point), output), scales.lanes);
    }
}

#define EAR_HAVE_DEPTHWISE_S16
static inline void ear_depthwise_s16(const int16_t *const *taps, int32_t count, const int8_t *w, int32_t channels,
                                     const int64_t *bias, const ear_output *output, int16_t *y) {
    for (int32_t c = 0; c < channels; c += EAR_MVE_LANES) {
        const int32_t left = channels - c < EAR_MVE_LANES ? channels - c : EAR_MVE_LANES;
        const mve_pred16_t lanes = vctp32q((uint32_t)left);
        int32x4_t acc = vdupq_n_s32(0);
        const int8_t *weight = w + c;
        if (left == EAR_MVE_LANES) {
            for (int32_t t = 0; t < count; t++, weight += channels) {
                acc = vaddq_s32(acc, vmulq_s32(vldrhq_s32(taps[t] + c), vldrbq_s32(weight)));
            }
        } else {
            for (int32_t t = 0; t < count; t++, weight += channels) {
                acc = vaddq_s32(acc, vmulq_s32(vldrhq_z_s32(taps[t] + c, lanes), vldrbq_z_s32(weight, lanes)));
            }
        }
        ear_mve_output_s16(output, c, left, bias + c, acc, y + c);
    }
}

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
