/* A stream: sound in, enhanced sound out, hop by hop, until there is no more.
 *
 * board.h is where your hardware comes in. What comes out is MODEL_DELAY samples late.
 */
#include "board.h"
#include "model_frontend.h"

static float hop[MODEL_HOP * MODEL_CHANNELS], enhanced[MODEL_HOP];

int main(void) {
    if (!board_open()) {
        return 1;
    }
    model_reset();
    model_frontend_reset();
    while (board_read(hop, MODEL_HOP * MODEL_CHANNELS)) {
        model_enhance(hop, enhanced);
        if (!board_write(enhanced, MODEL_HOP)) {
            return 1;
        }
    }
    return !board_close();
}
