/* Elementwise operators: a walk over the outer axes, a primitive along the inner one. */
#include "kernels.h"

#define BROADCAST(NAME, PRIMITIVE, TYPE)                                                                               \
    void NAME(const earshot_broadcast *shape, const ear_binary *binary, const TYPE *a, const TYPE *b, TYPE *y) {       \
        for (int32_t i = 0; i < shape->extent[0]; i++) {                                                               \
            for (int32_t j = 0; j < shape->extent[1]; j++) {                                                           \
                for (int32_t k = 0; k < shape->extent[2]; k++, y += shape->n) {                                        \
                    PRIMITIVE(a + i * shape->a_stride[0] + j * shape->a_stride[1] + k * shape->a_stride[2],            \
                              shape->a_step,                                                                           \
                              b + i * shape->b_stride[0] + j * shape->b_stride[1] + k * shape->b_stride[2],            \
                              shape->b_step, shape->n, binary, y);                                                     \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

/* The same around a function of two elements: for operators that are too rare for a primitive. */
#define EACH(NAME, FUNCTION, TYPE)                                                                                     \
    static void NAME##_row(const TYPE *a, int32_t a_step, const TYPE *b, int32_t b_step, int32_t n,                    \
                           const ear_binary *binary, TYPE *y) {                                                        \
        for (int32_t i = 0; i < n; i++, a += a_step, b += b_step) {                                                    \
            y[i] = (TYPE)FUNCTION(binary, *a, *b);                                                                     \
        }                                                                                                              \
    }                                                                                                                  \
    BROADCAST(NAME, NAME##_row, TYPE)

/* The same without scales. */
#define PICK(NAME, CHOSEN, TYPE)                                                                                       \
    static void NAME##_row(const TYPE *a, int32_t a_step, const TYPE *b, int32_t b_step, int32_t n,                    \
                           const ear_binary *binary, TYPE *y) {                                                        \
        (void)binary;                                                                                                  \
        for (int32_t i = 0; i < n; i++, a += a_step, b += b_step) {                                                    \
            y[i] = *a CHOSEN *b ? *a : *b;                                                                             \
        }                                                                                                              \
    }                                                                                                                  \
    static BROADCAST(NAME##_all, NAME##_row, TYPE)                                                                     \
    void NAME(const earshot_broadcast *shape, const TYPE *a, const TYPE *b, TYPE *y) { NAME##_all(shape, 0, a, b, y); }

static int32_t squared_difference(const ear_binary *binary, int32_t a, int32_t b) {
    const int32_t scale = (int32_t)1 << binary->left;
    const int32_t left = ear_rescale((a - binary->a_zero) * scale, binary->a_multiplier, binary->a_shift);
    const int32_t right = ear_rescale((b - binary->b_zero) * scale, binary->b_multiplier, binary->b_shift);
    const int32_t value = ear_rescale((left - right) * (left - right), binary->multiplier, binary->shift);
    return ear_clamp(value + binary->zero_point, binary->low, binary->high);
}

static int32_t prelu(const ear_binary *binary, int32_t a, int32_t b) {
    const int32_t x = a - binary->a_zero;
    const int32_t value = x >= 0 ? ear_rescale(x, binary->a_multiplier, binary->a_shift)
                                 : ear_rescale(x * (b - binary->b_zero), binary->multiplier, binary->shift);
    return ear_clamp(value + binary->zero_point, binary->low, binary->high);
}

/* The upper half of twice a product, rounded to nearest. */
static int32_t high_product(int32_t a, int32_t b) { return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31); }

static int32_t leading_zeros(uint32_t value) {
    int32_t count = 0;
    for (; count < 32 && !(value & 0x80000000u); count++) {
        value <<= 1;
    }
    return count;
}

static int32_t shifted(int32_t value, int32_t left) {
    const int64_t wide = (int64_t)value * ((int64_t)1 << left);
    return wide > INT32_MAX ? INT32_MAX : wide < INT32_MIN ? INT32_MIN : (int32_t)wide;
}

/* 2^31 / (1 + fraction / 2^31) in three steps of Newton's method, numbers with two integer bits. */
static int32_t reciprocal(int32_t fraction) {
    const int32_t half = (int32_t)(((int64_t)fraction + INT32_MAX + 1) / 2);
    int32_t x = 1515870810 + high_product(half, -1010580540); /* 48/17 - 32/17 d */
    for (int i = 0; i < 3; i++) {
        x += shifted(high_product(x, (1 << 29) - high_product(half, x)), 2);
    }
    return shifted(x, 1);
}

static int32_t quotient(const ear_binary *binary, int32_t a, int32_t b) {
    int32_t x = a - binary->a_zero, d = b - binary->b_zero;
    if (d == 0) {
        return x >= 0 ? binary->high : binary->low;
    }
    if (d < 0) {
        x = -x;
        d = -d;
    }
    const int32_t zeros = leading_zeros((uint32_t)d);
    const int32_t inverse = reciprocal((int32_t)(((uint32_t)d << zeros) - 0x80000000u));
    const int32_t headroom = x ? leading_zeros((uint32_t)(x < 0 ? ~x : x)) - 1 : 31;
    const int32_t ratio = high_product((int32_t)((uint32_t)x << headroom), inverse);
    const int32_t shift = binary->shift - (31 - zeros) - headroom;
    const int32_t value = shift < -31 ? 0 : ear_rescale(ratio, binary->multiplier, shift);
    return ear_clamp(value + binary->zero_point, binary->low, binary->high);
}

BROADCAST(earshot_add_s8, ear_add_s8, int8_t)
BROADCAST(earshot_add_s16, ear_add_s16, int16_t)
BROADCAST(earshot_mul_s8, ear_mul_s8, int8_t)
BROADCAST(earshot_mul_s16, ear_mul_s16, int16_t)
EACH(earshot_squared_difference_s8, squared_difference, int8_t)
EACH(earshot_prelu_s8, prelu, int8_t)
EACH(earshot_div_s8, quotient, int8_t)
EACH(earshot_div_s16, quotient, int16_t)
PICK(earshot_maximum_s8, >, int8_t)
PICK(earshot_maximum_s16, >, int16_t)
PICK(earshot_minimum_s8, <, int8_t)
PICK(earshot_minimum_s16, <, int16_t)
