/* Runs the calls of the file `calls` with both implementations and writes what each left in memory to `results`.
 *
 * A call is 32 words and then its arrays. Words: 0 operation (0 ends), 1 bytes of the output, 2 bytes by which every
 * address is skewed, 3 the array that ends where RAM ends, so that reading past it faults (-1 none), 4 the array the output
 * goes over (-1 a place of its own), 5 .. 10 bytes of the arrays, from 11 the operation's arguments, 31 whether the machine's
 * own gets an array 1 with one bit changed.
 * The results of a call are what lies in and around the output after plain C, then after the machine's own. */
#include <string.h>

#include "functions.h"
#include "semihosting.h"

#define ARRAYS 6
#define GUARD 32
#define ROOM 200000

static int32_t call[32];
static uint8_t kept[ARRAYS][ROOM];
static uint8_t used[ARRAYS][ROOM] __attribute__((aligned(8))), output[ROOM] __attribute__((aligned(8)));

/* Instructions are counted between these; no two of them may become one. */
__attribute__((noinline)) void mark_plain(void) { __asm__ volatile("nop"); }
__attribute__((noinline)) void mark_fast(void) { __asm__ volatile("nop\n\tnop"); }
__attribute__((noinline)) void mark_end(void) { __asm__ volatile("nop\n\tnop\n\tnop"); }

static void run(int fast, void *const *a, void *y) {
    const int32_t *argument = call + 11;
    const ear_output scales = {.multiplier = a[3],
                               .shift = a[4],
                               .scale = call[5 + 5] ? a[5] : 0,
                               .zero_point = argument[5],
                               .low = argument[6],
                               .high = argument[7]};
    const int8_t *taps8[16];
    const int16_t *taps16[16];
    ear_binary binary;
    memcpy(&binary, argument + 3, sizeof binary);
    for (int32_t tap = 0; tap < 16; tap++) {
        taps8[tap] = (const int8_t *)a[0] + tap * argument[2];
        taps16[tap] = (const int16_t *)a[0] + tap * argument[2];
    }
#define MATMUL_CALL(NAME)                                                                                              \
    (fast ? fast_##NAME : plain_##NAME)(a[0], argument[0], argument[1], a[1], argument[2], argument[3], a[2], &scales, \
                                        y, argument[4])
#define DEPTHWISE_CALL(NAME, TAPS)                                                                                     \
    (fast ? fast_##NAME : plain_##NAME)(TAPS, argument[0], a[1], argument[1], a[2], &scales, y)
#define ELEMENTWISE_CALL(NAME)                                                                                         \
    (fast ? fast_##NAME : plain_##NAME)(a[0], argument[0], a[1], argument[1], argument[2], &binary, y)
    switch (call[0]) {
    case 1: MATMUL_CALL(matmul_s8); break;
    case 2: MATMUL_CALL(matmul_s16); break;
    case 3: DEPTHWISE_CALL(depthwise_s8, taps8); break;
    case 4: DEPTHWISE_CALL(depthwise_s16, taps16); break;
    case 5: ELEMENTWISE_CALL(add_s8); break;
    case 6: ELEMENTWISE_CALL(mul_s8); break;
    case 7: ELEMENTWISE_CALL(add_s16); break;
    case 8: ELEMENTWISE_CALL(mul_s16); break;
    default: semihosting_exit(3);
    }
}

int main(void) {
    const int calls = semihosting_open("calls", FILE_READ), results = semihosting_open("results", FILE_WRITE);
    while (semihosting_read(calls, call, sizeof call) && call[0]) {
        for (int32_t i = 0; i < ARRAYS; i++) {
            if (call[5 + i] && !semihosting_read(calls, kept[i], (size_t)call[5 + i])) {
                return 4;
            }
        }
        for (int fast = 0; fast < 2; fast++) {
            void *place[ARRAYS];
            for (int32_t i = 0; i < ARRAYS; i++) {
                const size_t size = (size_t)call[5 + i];
                /* Only numbers of one or two bytes may lie askew. */
                place[i] = i == call[3] ? (uint8_t *)RAM_END - size : used[i] + GUARD + (i < 2 ? call[2] : 0);
                memcpy(place[i], kept[i], size);
                if (i == 1 && fast && call[31]) {
                    ((uint8_t *)place[i])[size - 1] ^= 1;
                }
            }
            uint8_t *own = output + GUARD + call[2];
            memset(output, 0xa5, sizeof output);
            uint8_t *y = call[4] < 0 ? own : place[call[4]];
            (fast ? mark_fast : mark_plain)();
            run(fast, place, y);
            mark_end();
            memmove(own, y, (size_t)call[1]);
            semihosting_write(results, own - GUARD, (size_t)call[1] + 2 * GUARD);
        }
    }
    semihosting_close(results);
    return 0;
}
