#include "semihosting.h"

enum operation { SYS_OPEN = 0x01, SYS_CLOSE = 0x02, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };

enum { APPLICATION_EXIT = 0x20026, FAULT_EXIT_CODE = 70 };

static int call(enum operation operation, const uintptr_t *block) {
    register int r0 __asm__("r0") = operation;
    register const uintptr_t *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

int semihosting_open(const char *path, enum file_mode mode) {
    size_t length = 0;
    while (path[length]) {
        length++;
    }
    return call(SYS_OPEN, (uintptr_t[]){(uintptr_t)path, mode, length});
}

/* Both calls return how many bytes were left over. */
int semihosting_read(int file, void *bytes, size_t size) {
    return call(SYS_READ, (uintptr_t[]){(uintptr_t)file, (uintptr_t)bytes, size}) == 0;
}

int semihosting_write(int file, const void *bytes, size_t size) {
    return call(SYS_WRITE, (uintptr_t[]){(uintptr_t)file, (uintptr_t)bytes, size}) == 0;
}

void semihosting_close(int file) { call(SYS_CLOSE, (uintptr_t[]){(uintptr_t)file}); }

_Noreturn void semihosting_exit(int code) {
    for (;;) {
        call(SYS_EXIT_EXTENDED, (uintptr_t[]){APPLICATION_EXIT, (uintptr_t)code});
    }
}

_Noreturn void semihosting_fault(struct fault fault) {
    const int file = semihosting_open("fault", FILE_WRITE);
    if (file != -1) {
        semihosting_write(file, &fault, sizeof fault);
        semihosting_close(file);
    }
    semihosting_exit(FAULT_EXIT_CODE);
}
