/* Runs a generated model over frames from stdin; every tensor that the trace sees goes to stdout as
 * (operator, tensor, bytes: int32 each, content). With the argument `states` every frame is preceded by the states to start
 * from, with `reset` every frame starts a stream. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "model.h"
#include "model_state.h"

#ifndef ELEMENT
#define ELEMENT int8_t
#endif

void earshot_trace(int operator_index, int tensor, const void *data, unsigned bytes) {
    const int32_t head[3] = {operator_index, tensor, (int32_t)bytes};
    fwrite(head, sizeof head, 1, stdout);
    fwrite(data, 1, bytes, stdout);
}

int main(int count, char **arguments) {
    static ELEMENT frame[MODEL_FRAME_SIZE], mask[MODEL_MASK_SIZE];
    const int states = count > 1 && strcmp(arguments[1], "states") == 0;
    const int reset = count > 1 && strcmp(arguments[1], "reset") == 0;
    model_reset();
    for (;;) {
        if (reset) {
            model_reset();
        }
        if (states && fread(&model_state, sizeof model_state, 1, stdin) != 1) {
            break;
        }
        if (fread(frame, sizeof frame, 1, stdin) != 1) {
            break;
        }
        model_step(frame, mask);
        earshot_trace(-1, -1, &model_state, sizeof model_state);
        earshot_trace(-1, -2, mask, sizeof mask);
    }
    return 0;
}
