/* For finding out where two machines part: every tensor the network computes, to the file `dump`.
 *
 * Compiled in with -DEARSHOT_DUMP -DEARSHOT_TRACE. Each record: operator, tensor and size as int32, then the tensor's bytes.
 */
#ifdef EARSHOT_DUMP
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
#else
typedef int nothing_to_dump; /* a source must hold something */
#endif
