/* Sound in, chunks of samples out to a network that works on them, and back: the frontend without a transform. */
#include "model_frontend.h"
#include "model_frontend_quantize.h"

model_value_t model_frame[MODEL_FRAME_SIZE], model_mask[MODEL_MASK_SIZE];

void model_frontend_reset(void) {}

void model_analyse(const float hop[MODEL_HOP * MODEL_CHANNELS], model_value_t frame[MODEL_FRAME_SIZE]) {
    for (int n = 0; n < MODEL_HOP * MODEL_CHANNELS; n++) {
        frame[n] = quantized(hop[n]);
    }
}

void model_synthesise(const model_value_t mask[MODEL_MASK_SIZE], float hop[MODEL_HOP]) {
    for (int n = 0; n < MODEL_HOP; n++) {
        hop[n] = (float)(mask[n] - MODEL_MASK_ZERO_POINT) * MODEL_MASK_SCALE;
    }
}

void model_enhance(const float hop[MODEL_HOP * MODEL_CHANNELS], float enhanced[MODEL_HOP]) {
    model_analyse(hop, model_frame);
    model_step(model_frame, model_mask);
    model_synthesise(model_mask, enhanced);
}
