/* Depthwise convolutions: the addresses of a window's taps, then one primitive for a position. */
#include <string.h>

#include "kernels.h"

#define DEPTHWISE(NAME, PRIMITIVE, TYPE, BIAS)                                                                         \
    void NAME(const earshot_window *window, const TYPE *x, const int8_t *w, const BIAS *bias,                          \
              const ear_output *output, TYPE *zeros, TYPE *y) {                                                        \
        const TYPE *taps[EARSHOT_TAPS];                                                                                \
        const int32_t image = window->in_height * window->in_width * window->channels;                                 \
        if (zeros) {                                                                                                   \
            memset(zeros, window->zero, (size_t)window->channels * sizeof(TYPE));                                      \
        }                                                                                                              \
        for (int32_t batch = 0; batch < window->batches; batch++, x += image, y += window->y_batch) {                  \
            for (int32_t i = 0; i < window->out_height; i++) {                                                         \
                for (int32_t j = 0; j < window->out_width; j++) {                                                      \
                    const int32_t column = j * window->stride_width - window->pad_left;                                \
                    int32_t count = 0;                                                                                 \
                    int32_t row = i * window->stride_height - window->pad_top;                                         \
                    for (int32_t ky = 0; ky < window->kernel_height; ky++, row += window->dilation_height) {           \
                        const TYPE *line = x + row * window->in_width * window->channels;                              \
                        int32_t at = column;                                                                           \
                        for (int32_t kx = 0; kx < window->kernel_width; kx++, at += window->dilation_width) {          \
                            const int hangs = row < 0 || row >= window->in_height || at < 0 || at >= window->in_width; \
                            taps[count++] = hangs ? zeros : line + at * window->channels;                              \
                        }                                                                                              \
                    }                                                                                                  \
                    PRIMITIVE(taps, count, w, window->channels, bias, output,                                          \
                              y + i * window->y_row + j * window->y_column);                                           \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

DEPTHWISE(earshot_depthwise_s8, ear_depthwise_s8, int8_t, int32_t)
DEPTHWISE(earshot_depthwise_s16, ear_depthwise_s16, int16_t, int64_t)
