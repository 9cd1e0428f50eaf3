/* The network as compiled for @ACCELERATOR@ by Vela @VELA@, system @SYSTEM@, memory mode @MODE@. */
#ifndef MODEL_NPU_H
#define MODEL_NPU_H

#include <stdint.h>

#define MODEL_NPU_BYTES @BYTES@
#define MODEL_NPU_ARENA_BYTES @ARENA@ /* tensors, as Vela estimates them */

#ifdef __cplusplus
extern "C" {
#endif
extern const uint8_t model_npu[MODEL_NPU_BYTES];
#ifdef __cplusplus
}
#endif

/* Which of the graph's inputs and outputs is what. */
#define MODEL_NPU_FRAME @FRAME@
#define MODEL_NPU_MASK @MASK@
typedef struct {
    int input, output, zero_point, bytes;
} model_npu_state_t;
#define MODEL_NPU_STATES @COUNT@
#define MODEL_NPU_STATE_BYTES @STATE_BYTES@
static const model_npu_state_t model_npu_states[MODEL_NPU_STATES] = {
@STATES@};

#endif
