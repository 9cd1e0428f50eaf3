/* Files of the machine that emulates or debugs the board, by semihosting: sound.f32 in, enhanced.f32 out, whole hops. */
#include "board.h"
#include "semihosting.h"

static int sound = -1, enhanced = -1;

int board_open(void) {
    sound = semihosting_open("sound.f32", FILE_READ);
    enhanced = semihosting_open("enhanced.f32", FILE_WRITE);
    return sound != -1 && enhanced != -1;
}

int board_read(float *samples, int count) { return semihosting_read(sound, samples, (size_t)count * sizeof *samples); }

int board_write(const float *samples, int count) {
    return semihosting_write(enhanced, samples, (size_t)count * sizeof *samples);
}

int board_close(void) {
    semihosting_close(sound);
    semihosting_close(enhanced);
    return 1;
}
