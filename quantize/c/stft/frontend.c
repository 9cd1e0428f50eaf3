/* Sound in, frames out; masks in, sound out: the streaming short-time Fourier frontend around the network.
 *
 *   frame      the last two hops, times the window
 *   spectrum   real FFT of the frame
 *   features   (|X|^2 + epsilon)^(compression / 2), log(1 + |X|), or X itself, as the network's integers
 *   masked     mask times the spectrum of the first microphone
 *   sound      inverse FFT, times the window, overlap-added
 *
 * Single precision, no library functions, no recursion, no memory but the arrays below.
 */
#include "model_frontend.h"
#include "model_frontend_quantize.h"
#include "model_frontend_tables.h"

#include <string.h>

#define HALF (MODEL_FFT / 2) /* the real FFT is a complex one of half the length */

typedef struct {
    float re, im;
} complex_t;

static float previous[MODEL_HOP * MODEL_CHANNELS]; /* the hop before this one */
static float pending[MODEL_HOP];                   /* the second half of the last enhanced frame */
static complex_t spectrum[MODEL_BINS];             /* of the first microphone, kept from analysis to synthesis */
static complex_t work[HALF];

model_value_t model_frame[MODEL_FRAME_SIZE], model_mask[MODEL_MASK_SIZE];

static inline complex_t add(complex_t a, complex_t b) { return (complex_t){a.re + b.re, a.im + b.im}; }
static inline complex_t subtract(complex_t a, complex_t b) { return (complex_t){a.re - b.re, a.im - b.im}; }
static inline complex_t multiply(complex_t a, complex_t b) {
    return (complex_t){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
/* exp(-2 pi i index / HALF), index < HALF */
static inline complex_t twiddle(int index) {
    return (complex_t){model_twiddles[index][0], model_twiddles[index][1]};
}

/* One stage of Stockham's FFT splits transforms of length r * m, interleaved by `stride`, into r of length m each:
 *   y[q + stride * (r * p + i)] = w^(i p) * sum over k of x[q + stride * (p + m * k)] * w_r^(i k)
 */
static void radix_2(const complex_t *x, complex_t *y, int m, int stride) {
    for (int p = 0; p < m; p++) {
        const complex_t w = twiddle(p * stride);
        const complex_t *from = x + stride * p;
        complex_t *to = y + stride * 2 * p;
        for (int q = 0; q < stride; q++) {
            const complex_t a = from[q], b = from[q + stride * m];
            to[q] = add(a, b);
            to[q + stride] = multiply(w, subtract(a, b));
        }
    }
}

static void radix_4(const complex_t *x, complex_t *y, int m, int stride) {
    for (int p = 0; p < m; p++) {
        const complex_t w1 = twiddle(p * stride), w2 = twiddle(2 * p * stride), w3 = twiddle(3 * p * stride);
        const complex_t *from = x + stride * p;
        complex_t *to = y + stride * 4 * p;
        for (int q = 0; q < stride; q++) {
            const complex_t a = from[q], b = from[q + stride * m];
            const complex_t c = from[q + 2 * stride * m], d = from[q + 3 * stride * m];
            const complex_t even = add(a, c), odd = add(b, d), ac = subtract(a, c);
            const complex_t turned = {d.im - b.im, b.re - d.re}; /* i (b - d) */
            to[q] = add(even, odd);
            to[q + stride] = multiply(w1, subtract(ac, turned));
            to[q + 2 * stride] = multiply(w2, subtract(even, odd));
            to[q + 3 * stride] = multiply(w3, add(ac, turned));
        }
    }
}

/* Any other radix, by the definition: for the primes that are left when the length is no power of two. */
static void radix_any(const complex_t *x, complex_t *y, int r, int m, int stride) {
    for (int p = 0; p < m; p++) {
        for (int i = 0; i < r; i++) {
            const int turn = i * (HALF / r);
            for (int q = 0; q < stride; q++) {
                complex_t sum = {0.0f, 0.0f};
                int index = i * p * stride; /* below r * m * stride = HALF */
                for (int k = 0; k < r; k++) {
                    sum = add(sum, multiply(twiddle(index), x[q + stride * (p + m * k)]));
                    index += turn;
                    index -= index >= HALF ? HALF : 0;
                }
                y[q + stride * (r * p + i)] = sum;
            }
        }
    }
}

/* Complex FFT of `spectrum`, with `work` as the other buffer; returns the one that holds the result. */
static const complex_t *transform(void) {
    complex_t *x = spectrum, *y = work;
    int stride = 1;
    for (int stage = 0; stage < MODEL_STAGES; stage++) {
        const int r = model_radices[stage], m = HALF / (stride * r);
        if (r == 4) {
            radix_4(x, y, m, stride);
        } else if (r == 2) {
            radix_2(x, y, m, stride);
        } else {
            radix_any(x, y, r, m, stride);
        }
        complex_t *const done = y;
        y = x;
        x = done;
        stride *= r;
    }
    return x;
}

#if !MODEL_COMPLEX_FEATURES
static inline float float_of(int32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The series leave out what lies below the rounding of a float on their ranges. */

/* log2 of a normal, positive number: its exponent, and the series of artanh for its fraction. */
static inline float log2_of(float x) {
    const int32_t bits = bits_of(x);
    const int32_t whole = (bits - 0x3f3504f3) >> 23; /* so that the fraction lies in sqrt(1/2) .. sqrt(2) */
    const float fraction = float_of(bits - whole * (1 << 23));
    const float s = (fraction - 1.0f) / (fraction + 1.0f), s2 = s * s;
    const float series = s * (1.0f + s2 * (1.0f / 3 + s2 * (1.0f / 5 + s2 * (1.0f / 7))));
    return (float)whole + 2.88539008f * series; /* 2 / ln 2 */
}

/* x^exponent = 2^(exponent log2 x) of a normal, positive x, to some 1e-6 of the result. */
static inline float power(float x, float exponent) {
    const float y = exponent * log2_of(x);
    const float rounded = y + ROUNDER;
    const float z = 0.693147181f * (y - (rounded - ROUNDER)); /* ln 2 */
    const float root =
        1.0f + z * (1 + z * (1.0f / 2 + z * (1.0f / 6 + z * (1.0f / 24 + z * (1.0f / 120 + z * (1.0f / 720))))));
    return float_of(bits_of(root) + (bits_of(rounded) - bits_of(ROUNDER)) * (1 << 23));
}

static inline float feature(complex_t x) {
    const float squared = x.re * x.re + x.im * x.im + MODEL_EPSILON;
#if MODEL_LOG_FEATURES
    return 0.693147181f * log2_of(1.0f + power(squared, 0.5f)); /* ln 2 */
#else
    return power(squared, MODEL_COMPRESSION / 2);
#endif
}
#endif

void model_frontend_reset(void) {
    memset(previous, 0, sizeof previous);
    memset(pending, 0, sizeof pending);
}

/* The spectrum of a microphone's last two hops, to `spectrum`. */
static void analyse_microphone(const float *hop, int channel) {
    /* Even samples are real parts, odd ones imaginary parts; what the FFT has beyond the window is zero. */
    float *samples = (float *)spectrum;
    for (int n = 0; n < MODEL_HOP; n++) {
        const int sample = n * MODEL_CHANNELS + channel;
        samples[n] = previous[sample] * model_window[n];
        samples[MODEL_HOP + n] = hop[sample] * model_window[MODEL_HOP + n];
    }
    for (int n = MODEL_WINDOW; n < MODEL_FFT; n++) {
        samples[n] = 0.0f;
    }

    /* The spectra of even and odd samples, E and O, out of that of the packed ones, Z:
     *   E = (Z[k] + Z*[HALF - k]) / 2,  O = (Z[k] - Z*[HALF - k]) / 2i,  X[k] = E + w^k O,  X[HALF - k] = E* - (w^k O)*
     */
    const complex_t *packed = transform();
    const complex_t first = packed[0];
    for (int k = 1; k <= HALF / 2; k++) {
        const complex_t a = packed[k], b = packed[HALF - k];
        const complex_t even = {0.5f * (a.re + b.re), 0.5f * (a.im - b.im)};
        const complex_t odd = {0.5f * (a.im + b.im), 0.5f * (b.re - a.re)};
        const complex_t turned = multiply((complex_t){model_split[k][0], model_split[k][1]}, odd);
        spectrum[k] = add(even, turned);
        spectrum[HALF - k] = (complex_t){even.re - turned.re, turned.im - even.im};
    }
    spectrum[0] = (complex_t){first.re + first.im, 0.0f};
    spectrum[HALF] = (complex_t){first.re - first.im, 0.0f};
}

void model_analyse(const float hop[MODEL_HOP * MODEL_CHANNELS], model_value_t frame[MODEL_FRAME_SIZE]) {
    /* The first microphone comes last, because its spectrum is the one that is kept. */
    for (int channel = MODEL_CHANNELS - 1; channel >= 0; channel--) {
        analyse_microphone(hop, channel);
        for (int k = 0; k < MODEL_BINS; k++) {
#if MODEL_COMPLEX_FEATURES
            model_value_t *to = frame + 2 * (MODEL_CHANNELS * k + channel);
            to[0] = quantized(spectrum[k].re);
            to[1] = quantized(spectrum[k].im);
#else
            frame[k] = quantized(feature(spectrum[k]));
#endif
        }
    }
    memcpy(previous, hop, sizeof previous);
}

/* The inverse FFT's 1 / MODEL_FFT goes into the mask's scale. */
static inline float gain(model_value_t value) {
    return (float)(value - MODEL_MASK_ZERO_POINT) * (MODEL_MASK_SCALE / MODEL_FFT);
}

static inline complex_t masked(const model_value_t *mask, int k) {
#if MODEL_COMPLEX_MASK
    return multiply((complex_t){gain(mask[2 * k]), gain(mask[2 * k + 1])}, spectrum[k]);
#else
    return (complex_t){gain(mask[k]) * spectrum[k].re, gain(mask[k]) * spectrum[k].im};
#endif
}

void model_synthesise(const model_value_t mask[MODEL_MASK_SIZE], float hop[MODEL_HOP]) {
    /* Z[k] = E + i O of the masked spectrum. Real and imaginary parts change places on the way in and on the way out,
     * which makes the forward transform the inverse one. */
    const complex_t first = masked(mask, 0), last = masked(mask, HALF);
    for (int k = 1; k <= HALF / 2; k++) {
        const complex_t a = masked(mask, k), b = masked(mask, HALF - k);
        const complex_t even = {a.re + b.re, a.im - b.im}, twice_odd = {a.re - b.re, a.im + b.im};
        const complex_t odd = multiply((complex_t){model_split[k][0], -model_split[k][1]}, twice_odd);
        spectrum[k] = (complex_t){even.im + odd.re, even.re - odd.im};
        spectrum[HALF - k] = (complex_t){odd.re - even.im, even.re + odd.im};
    }
    spectrum[0] = (complex_t){first.re - last.re, first.re + last.re};

    const float *samples = (const float *)transform(); /* sample n is number n ^ 1, the places being changed */
    for (int n = 0; n < MODEL_HOP; n++) {
        const int later = MODEL_HOP + n;
        hop[n] = pending[n] + model_window[n] * samples[n ^ 1];
        pending[n] = model_window[later] * samples[later ^ 1];
    }
}

void model_enhance(const float hop[MODEL_HOP * MODEL_CHANNELS], float enhanced[MODEL_HOP]) {
    model_analyse(hop, model_frame);
    model_step(model_frame, model_mask);
    model_synthesise(model_mask, enhanced);
}
