// The network on the NPU: model_reset and model_step of src/model.h, in place of src/model.c, by TensorFlow Lite for
// Microcontrollers with its Ethos-U kernel. The signal processing in src/ stays as it is.
//
// Order, sizes and zero points are those of npu/model_npu.h, read from the compiled file.
#include <cstring>

#include "model_npu.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

extern "C" {
#include "model_frontend.h"
}

namespace {

// The tensors, and what the interpreter needs for itself; arena_used_bytes() tells how much that was.
alignas(16) uint8_t arena[MODEL_NPU_ARENA_BYTES + 16 * 1024];

// States between frames. They are kept outside the arena, where an output may lie on another's input.
uint8_t carried[MODEL_NPU_STATE_BYTES];

bool failed = false;

tflite::MicroInterpreter& network() {
    static tflite::MicroMutableOpResolver<@OPERATORS@> resolver;
    static const bool registered = [] {
        bool good = resolver.AddEthosU() == kTfLiteOk;
@REGISTER@        return good;
    }();
    static tflite::MicroInterpreter interpreter(tflite::GetModel(model_npu), resolver, arena, sizeof arena);
    static const bool allocated = interpreter.AllocateTensors() == kTfLiteOk;
    failed = failed || !registered || !allocated;
    return interpreter;
}

}  // namespace

// 1 when the network cannot run: an arena that is too small, a driver older than the compiler.
extern "C" int model_npu_failed(void) {
    network();
    return failed;
}

extern "C" void model_reset(void) {
    uint8_t* place = carried;
    for (const model_npu_state_t& state : model_npu_states) {
        std::memset(place, state.zero_point, state.bytes);  // 16-bit states are symmetric: their zero point is 0
        place += state.bytes;
    }
}

extern "C" void model_step(const model_value_t* frame, model_value_t* mask) {
    tflite::MicroInterpreter& net = network();
    if (failed) {
        return;
    }
    uint8_t* place = carried;
    std::memcpy(net.input(MODEL_NPU_FRAME)->data.raw, frame, MODEL_FRAME_SIZE * sizeof *frame);
    for (const model_npu_state_t& state : model_npu_states) {
        std::memcpy(net.input(state.input)->data.raw, place, state.bytes);
        place += state.bytes;
    }
    failed = net.Invoke() != kTfLiteOk;
    place = carried;
    std::memcpy(mask, net.output(MODEL_NPU_MASK)->data.raw, MODEL_MASK_SIZE * sizeof *mask);
    for (const model_npu_state_t& state : model_npu_states) {
        std::memcpy(place, net.output(state.output)->data.raw, state.bytes);
        place += state.bytes;
    }
}
