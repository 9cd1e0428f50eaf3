/* Files and exit through the debugger or emulator, by Arm's semihosting calls. A product has none of this. */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stddef.h>
#include <stdint.h>

/* As the processor's registers have them: CFSR, HFSR, BFAR, and the pushed LR and PC. */
struct fault {
    uint32_t cfsr, hfsr, address, lr, pc;
};

enum file_mode { FILE_READ = 1, FILE_WRITE = 5 }; /* "rb", "wb" */

/* A handle, or -1. */
int semihosting_open(const char *path, enum file_mode mode);
/* 1 when all `size` bytes were read or written. */
int semihosting_read(int file, void *bytes, size_t size);
int semihosting_write(int file, const void *bytes, size_t size);
void semihosting_close(int file);

_Noreturn void semihosting_exit(int code);
/* Writes the fault to the file `fault` and ends. */
_Noreturn void semihosting_fault(struct fault fault);

#endif
