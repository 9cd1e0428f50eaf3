/* Functions of one integer. */
#include "kernels.h"

void earshot_table_s8(const int8_t *table, int32_t n, const int8_t *x, int8_t *y) {
    for (int32_t i = 0; i < n; i++) {
        y[i] = table[x[i] + 128];
    }
}

void earshot_lines_s16(const int16_t *table, int32_t n, const int16_t *x, int16_t *y) {
    for (int32_t i = 0; i < n; i++) {
        const int16_t *node = table + 256 + (x[i] >> 7);
        const int16_t slope = (int16_t)(node[1] - node[0]);
        y[i] = (int16_t)(node[0] + ((slope * (x[i] & 127) + 64) >> 7));
    }
}

static int32_t scaled(int32_t x, int32_t multiplier, int32_t shift) {
    return (x * multiplier + (shift > 0 ? 1 << (shift - 1) : 0)) >> shift;
}

/* Between the table's nodes on a straight line; `bits` of the argument are the way between two. */
static uint32_t between(const uint16_t *table, uint32_t argument, uint32_t bits) {
    const uint32_t node = argument >> bits;
    const uint32_t low = table[node], rise = table[node + 1] - low;
    return (low << bits) + (argument & ((1u << bits) - 1u)) * rise;
}

void earshot_logistic_s16(const uint16_t *table, int32_t multiplier, int32_t shift, int32_t n, const int16_t *x,
                          int16_t *y) {
    for (int32_t i = 0; i < n; i++) {
        const int32_t argument = scaled(x[i], multiplier, shift);
        const uint32_t size = (uint32_t)(argument < 0 ? -argument : argument);
        const uint32_t value = size >> 9 >= 255 ? 0x7FFFu << 10 : between(table, size, 9);
        y[i] = (int16_t)((argument >= 0 ? value + (1u << 9) : (1u << 25) - value + (1u << 9) - 1u) >> 10);
    }
}

void earshot_tanh_s16(const uint16_t *table, int32_t multiplier, int32_t shift, int32_t n, const int16_t *x,
                      int16_t *y) {
    for (int32_t i = 0; i < n; i++) {
        const int32_t argument = scaled(x[i], multiplier, shift);
        const uint32_t size = (uint32_t)(argument < 0 ? -argument : argument);
        const int32_t value = size >> 8 >= 255 ? 0xFFFF << 8 : (int32_t)between(table, size, 8);
        y[i] = (int16_t)((argument >= 0 ? value - (1 << 23) + (1 << 7) : -value + (1 << 23) + (1 << 7) - 1) >> 8);
    }
}

#define HALVES(NAME, SOURCE, TYPE)                                                                                     \
    void NAME(const earshot_halves *halves, int32_t n, const SOURCE *x, TYPE *y) {                                     \
        for (int32_t i = 0; i < n; i++) {                                                                              \
            const int32_t value = x[i] - halves->x_zero;                                                               \
            const int32_t found = value >= 0                                                                           \
                                      ? ear_rescale(value, halves->multiplier, halves->shift)                          \
                                      : ear_rescale(value, halves->below_multiplier, halves->below_shift);             \
            y[i] = (TYPE)ear_clamp(found + halves->zero_point, halves->low, halves->high);                             \
        }                                                                                                              \
    }

HALVES(earshot_halves_s16, int16_t, int16_t)
HALVES(earshot_halves_s16_s8, int16_t, int8_t)
HALVES(earshot_halves_s8_s16, int8_t, int16_t)
