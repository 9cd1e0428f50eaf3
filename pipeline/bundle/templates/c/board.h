/* Where sound comes from and goes to. host/board.c and qemu/board.c read sound.f32 and write enhanced.f32; on your board
 * it is the microphone's and the loudspeaker's buffer. Samples are floats, full scale is 1; those of several microphones
 * stand side by side. Each function returns 1, or 0 when that failed or the sound is at its end.
 */
#ifndef BOARD_H
#define BOARD_H

int board_open(void);
int board_read(float *samples, int count);
int board_write(const float *samples, int count);
int board_close(void);

#endif
