/* Counts the instructions a processor with one core executes, and says how many there were whenever it comes by a mark.
 *
 *     -plugin libcount.so,marks=FILE,out=FILE
 *
 * marks: one hexadecimal address a line. out: one line each time an instruction at such an address is about to be
 * executed, its address and the number of instructions executed before it.
 *
 * A translated block adds its length when it is entered, and always runs to its end: only an exception could leave it
 * early, and a program that ends with one is not counted. A mark inside a block takes back what the block still has
 * ahead of it.
 */
#include "qemu_plugin_api.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = PLUGIN_VERSION;

enum { MAX_MARKS = 65536 };

struct passing {
    uint64_t address, ahead;
};

static uint64_t executed;
static uint64_t marks[MAX_MARKS];
static size_t mark_count;
static FILE *out;

static int compare(const void *a, const void *b) {
    const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void enter_block(unsigned core, void *length) {
    (void)core;
    executed += (uintptr_t)length;
}

static void pass_mark(unsigned core, void *data) {
    const struct passing *passing = data;
    (void)core;
    fprintf(out, "%" PRIx64 " %" PRIu64 "\n", passing->address, executed - passing->ahead);
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    const size_t length = qemu_plugin_tb_n_insns(block);
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, enter_block, QEMU_PLUGIN_CB_NO_REGS, (void *)(uintptr_t)length);
    for (size_t i = 0; i < length; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        const uint64_t address = qemu_plugin_insn_vaddr(instruction);
        if (!bsearch(&address, marks, mark_count, sizeof *marks, compare)) {
            continue;
        }
        struct passing *passing = malloc(sizeof *passing); /* as long as the emulator lives: blocks are not many */
        if (!passing) {
            abort();
        }
        *passing = (struct passing){address, length - i};
        qemu_plugin_register_vcpu_insn_exec_cb(instruction, pass_mark, QEMU_PLUGIN_CB_NO_REGS, passing);
    }
}

static void finish(qemu_plugin_id_t id, void *data) {
    (void)id;
    (void)data;
    fclose(out);
}

static int read_marks(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) {
        perror(path);
        return -1;
    }
    while (mark_count < MAX_MARKS && fscanf(file, "%" SCNx64, &marks[mark_count]) == 1) {
        mark_count++;
    }
    fclose(file);
    qsort(marks, mark_count, sizeof *marks, compare);
    return 0;
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "marks=", 6) && read_marks(argv[i] + 6)) {
            return -1;
        }
        if (!strncmp(argv[i], "out=", 4)) {
            out = fopen(argv[i] + 4, "w");
        }
    }
    if (!out) {
        fputs("count: out=FILE cannot be written\n", stderr);
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_atexit_cb(id, finish, NULL);
    return 0;
}
