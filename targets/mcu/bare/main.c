/* A bare-metal program around a generated network: sound from a file, hop by hop, enhanced sound to another.
 *
 *     sound.f32       float32 samples, whole hops; those of several microphones side by side
 *     enhanced.f32    as many samples of one sound, MODEL_DELAY samples late
 *     frames          the network's input and output of each hop, integers
 *     stack           bytes of stack that one hop took at most (uint32)
 *
 * In a product the loop below is the audio interrupt or task: model_enhance() on a hop of the microphone's buffer.
 */
#include "model.h"
#include "model_frontend.h"
#include "semihosting.h"

#include <stdint.h>

extern uint32_t stack_limit[];

enum { PAINT = 0x5eed5eed };

/* Fills the unused stack; nothing of it is written until the next call. Returns its upper end. */
static inline uint32_t *paint_stack(void) {
    uint32_t *top;
    __asm__ volatile("mov %0, sp" : "=r"(top));
    for (uint32_t *word = stack_limit; word < top; word++) {
        *(volatile uint32_t *)word = PAINT;
    }
    return top;
}

static inline uint32_t stack_used(const uint32_t *top) {
    const uint32_t *word = stack_limit;
    while (word < top && *(const volatile uint32_t *)word == PAINT) {
        word++;
    }
    return (uint32_t)((top - word) * sizeof *word);
}

/* Where counting of a hop ends. */
__attribute__((noinline)) void hop_done(void) { __asm__ volatile(""); }

int main(void) {
    static float hop[MODEL_HOP * MODEL_CHANNELS];
    const int sound = semihosting_open("sound.f32", FILE_READ);
    const int enhanced = semihosting_open("enhanced.f32", FILE_WRITE);
    const int frames = semihosting_open("frames", FILE_WRITE);
    const int stack = semihosting_open("stack", FILE_WRITE);
    uint32_t deepest = 0;
    if (sound == -1 || enhanced == -1 || frames == -1 || stack == -1) {
        return 1;
    }
    model_reset();
    model_frontend_reset();
    while (semihosting_read(sound, hop, sizeof hop)) {
        const uint32_t *top = paint_stack();
        model_enhance(hop, hop);
        hop_done();
        const uint32_t used = stack_used(top);
        deepest = used > deepest ? used : deepest;
        if (!semihosting_write(enhanced, hop, MODEL_HOP * sizeof *hop) || !semihosting_write(frames, model_frame, sizeof model_frame) ||
            !semihosting_write(frames, model_mask, sizeof model_mask)) {
            return 1;
        }
    }
    return !semihosting_write(stack, &deepest, sizeof deepest);
}
