/* Files of this machine: sound.f32 in, enhanced.f32 out, 32-bit floats as the machine has them. */
#include "board.h"

#include <stdio.h>

static FILE *sound, *enhanced;

int board_open(void) {
    sound = fopen("sound.f32", "rb");
    enhanced = fopen("enhanced.f32", "wb");
    return sound && enhanced;
}

/* A last hop that is not whole is filled up with silence. */
int board_read(float *samples, int count) {
    const size_t found = fread(samples, sizeof *samples, (size_t)count, sound);
    for (size_t i = found; i < (size_t)count; i++) {
        samples[i] = 0.0f;
    }
    return found > 0;
}

int board_write(const float *samples, int count) {
    return fwrite(samples, sizeof *samples, (size_t)count, enhanced) == (size_t)count;
}

int board_close(void) { return fclose(sound) == 0 && fclose(enhanced) == 0; }
