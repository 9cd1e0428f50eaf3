/* The rare and long part of rescaling. */
#include "requantize.h"

int32_t ear_rescale_real(int64_t acc, int32_t multiplier, int32_t shift, double scale) {
    /* The multiplier is off by less than a half, so the product by less than |acc|: only this near to a tie does the
     * double have to decide. */
    const int32_t bits = 31 - shift;
    const int64_t one = (int64_t)1 << bits;
    const int64_t doubt = acc < 0 ? -acc : acc;
    if (doubt < (int64_t)1 << 31) { /* the product fits 64 bits */
        const int64_t sum = acc * multiplier + (one >> 1);
        const int64_t rest = sum & (one - 1);
        if (rest >= doubt && rest <= one - doubt) {
            return (int32_t)(sum >> bits);
        }
    }
    /* volatile: the product is rounded to a double before anything else is done to it. */
    const volatile double value = (double)acc * scale;
    const int32_t whole = (int32_t)value;
    const double part = value - whole;
    return whole + (part >= 0.5) - (part <= -0.5);
}
