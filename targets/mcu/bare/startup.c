/* From reset to main on any Cortex-M: vectors, floating point on, memory set up; and what is said when a fault ends it. */
#include "semihosting.h"

#include <stdint.h>
#include <string.h>

int main(void);

extern uint32_t stack_top[], stack_limit[];
extern uint8_t data_start[], data_end[], data_source[], bss_start[], bss_end[];

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define CPACR REGISTER(0xe000ed88u) /* coprocessor access: 10 and 11 are floating point and vectors */
#define CFSR REGISTER(0xe000ed28u)  /* why a fault was taken */
#define HFSR REGISTER(0xe000ed2cu)
#define BFAR REGISTER(0xe000ed38u) /* the address that was refused */

/* Before main: the stack pointer comes from the vector table. */
void reset_handler(void) {
#if __ARM_ARCH >= 8
    __asm__ volatile("msr msplim, %0" : : "r"(stack_limit)); /* a stack that runs over faults at once */
#endif
    CPACR |= 0xfu << 20;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
    memcpy(data_start, data_source, (size_t)(data_end - data_start));
    memset(bss_start, 0, (size_t)(bss_end - bss_start));
    semihosting_exit(main());
}

/* frame: what the processor pushed when it took the fault, or null when the stack pointer is no use. */
__attribute__((used)) void report_fault(const uint32_t *frame) {
    semihosting_fault((struct fault){
        .cfsr = CFSR,
        .hfsr = HFSR,
        .address = BFAR,
        .lr = frame ? frame[5] : 0,
        .pc = frame ? frame[6] : 0,
    });
}

/* A fresh stack, because the old one may be what failed. */
__attribute__((naked)) static void fault_handler(void) {
    __asm__ volatile("mrs r0, msp\n\t"
                     "ldr r1, =stack_limit\n\t"
                     "cmp r0, r1\n\t"
                     "it lo\n\t"
                     "movlo r0, #0\n\t"
#if __ARM_ARCH >= 8
                     "movs r1, #0\n\t"
                     "msr msplim, r1\n\t"
#endif
                     "ldr r1, =stack_top\n\t"
                     "mov sp, r1\n\t"
                     "b report_fault\n\t");
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top,     (void *)reset_handler, (void *)fault_handler, (void *)fault_handler,
    (void *)fault_handler, (void *)fault_handler, (void *)fault_handler, (void *)fault_handler,
    0, 0, 0, (void *)fault_handler, (void *)fault_handler, 0, (void *)fault_handler, (void *)fault_handler,
};
