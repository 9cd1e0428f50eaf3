/* Convolutions as matrix products over windows. */
#include <stddef.h>
#include <string.h>

#include "kernels.h"

/* Where windows of one output row lie wholly inside the image: outputs first .. last - 1. */
typedef struct {
    int32_t first, last;
} span;

static span inside(const earshot_window *window) {
    const int32_t reach = (window->kernel_width - 1) * window->dilation_width;
    const int32_t room = window->in_width - 1 - reach + window->pad_left;
    span found = {(window->pad_left + window->stride_width - 1) / window->stride_width, 0};
    found.last = room < 0 ? 0 : room / window->stride_width + 1;
    if (found.last > window->out_width) {
        found.last = window->out_width;
    }
    if (found.first > found.last) {
        found.first = found.last;
    }
    return found;
}

/* A window lies in one piece in memory if it is one row high or as wide as the image, undilated, over all channels. */
static int in_one_piece(const earshot_window *window) {
    const int whole = window->kernel_width == window->in_width && window->pad_left == 0 && window->dilation_height == 1;
    return window->depth == window->channels && window->dilation_width == 1 && (window->kernel_height == 1 || whole);
}

/* The window at (row, column) of the image, byte for byte, with zero points where it hangs over. */
static void gather(const earshot_window *window, const char *x, int32_t row, int32_t column, size_t size, char *patch) {
    const size_t depth = (size_t)window->depth * size;
    const size_t line = (size_t)window->kernel_width * depth;
    for (int32_t ky = 0; ky < window->kernel_height; ky++, row += window->dilation_height, patch += line) {
        if (row < 0 || row >= window->in_height) {
            memset(patch, window->zero, line);
            continue;
        }
        const char *source = x + ((ptrdiff_t)row * window->in_width + column) * window->channels * (ptrdiff_t)size;
        const int32_t end = column + (window->kernel_width - 1) * window->dilation_width;
        if (column >= 0 && end < window->in_width && window->dilation_width == 1 && window->depth == window->channels) {
            memcpy(patch, source, line);
            continue;
        }
        char *target = patch;
        int32_t at = column;
        for (int32_t kx = 0; kx < window->kernel_width; kx++, target += depth, at += window->dilation_width) {
            if (at < 0 || at >= window->in_width) {
                memset(target, window->zero, depth);
            } else {
                memcpy(target, x + ((size_t)row * (size_t)window->in_width + (size_t)at) * (size_t)window->channels * size,
                       depth);
            }
        }
    }
}

/* One body for both widths of activation. */
#define CONV(NAME, MATMUL, TYPE, BIAS)                                                                                 \
    void NAME(const earshot_window *window, const TYPE *x, const int8_t *w, const BIAS *bias,                          \
              const ear_output *output, TYPE *patch, TYPE *y) {                                                        \
        const int32_t n = window->kernel_height * window->kernel_width * window->depth;                                \
        const int32_t step = window->stride_width * window->channels;                                                  \
        const span columns = inside(window);                                                                           \
        const int direct = in_one_piece(window);                                                                       \
        const int32_t image = window->in_height * window->in_width * window->channels;                                 \
        for (int32_t batch = 0; batch < window->batches; batch++, x += image, y += window->y_batch) {                  \
            for (int32_t i = 0; i < window->out_height; i++) {                                                         \
                const int32_t row = i * window->stride_height - window->pad_top;                                       \
                const int whole = row >= 0 && row + window->kernel_height <= window->in_height;                        \
                TYPE *line = y + i * window->y_row;                                                                    \
                int32_t j = 0;                                                                                         \
                while (j < window->out_width) {                                                                        \
                    const int32_t column = j * window->stride_width - window->pad_left;                                \
                    TYPE *target = line + j * window->y_column;                                                        \
                    if (direct && whole && j == columns.first && columns.last > j) {                                   \
                        const TYPE *source = x + (row * window->in_width + column) * window->channels;                 \
                        MATMUL(source, step, columns.last - j, w, n, window->rows, bias, output, target,               \
                               window->y_column);                                                                      \
                        j = columns.last;                                                                              \
                    } else {                                                                                           \
                        if (n) { /* a phase of a transposed convolution may have no tap at all */                      \
                            gather(window, (const char *)x, row, column, sizeof(TYPE), (char *)patch);                 \
                        }                                                                                              \
                        MATMUL(patch, 0, 1, w, n, window->rows, bias, output, target, 0);                              \
                        j++;                                                                                           \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

CONV(earshot_conv_s8, earshot_matmul_s8, int8_t, int32_t)
CONV(earshot_conv_s16, earshot_matmul_s16, int16_t, int64_t)
