/* For finding out where two machines part: every frame and every tensor the network computes, to the file `dump`.
 *
 * Compiled in with -DEARSHOT_DUMP -DEARSHOT_TRACE -Wl,--wrap=model_step. Each record: operator, tensor and size as int32,
 * then the tensor's bytes; a frame, which no operator makes, comes as operator -1.
 */
#ifdef EARSHOT_DUMP
#include "model.h"
#include "model_frontend.h"
#include "semihosting.h"

void earshot_trace(int operator_index, int tensor, const void *data, unsigned bytes) {
    static int file; /* handles are positive */
    const int32_t record[3] = {operator_index, tensor, (int32_t)bytes};
    if (!file) {
        file = semihosting_open("dump", FILE_WRITE);
    }
    if (!semihosting_write(file, record, sizeof record) || !semihosting_write(file, data, bytes)) {
        semihosting_exit(1);
    }
}

void __real_model_step(const model_value_t *frame, model_value_t *mask);

void __wrap_model_step(const model_value_t *frame, model_value_t *mask) {
    earshot_trace(-1, -1, frame, MODEL_BINS * sizeof *frame);
    __real_model_step(frame, mask);
}
#else
typedef int nothing_to_dump; /* a source must hold something */
#endif
