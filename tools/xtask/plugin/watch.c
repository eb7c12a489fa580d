/* A QEMU plugin that counts how often the guest loads each byte of some regions, and the
 * instructions of a function, or those of kinds of functions.
 *
 *   -plugin watch.so,mark=ADDRESS,out=FILE[,regions=FILE][,function=ADDRESS][,kinds=FILE]
 *
 * Whenever the guest executes the instruction at the mark a phase ends and the counts begin anew;
 * the end of the run ends the last one. In the file of the regions each has a line "start length"
 * (decimal); in the file of kinds "start length kind", in the order of the starts. Functions of
 * kind 0 (helpers) and 2 count for the kind that ran before. A kind of 100 and more stays until a
 * function of kind 1 runs, whatever is called meanwhile. What a phase writes:
 *
 *   loads PHASE REGION SUM MOST      for each region of which a byte was loaded: the sum over its
 *                                    bytes, and the greatest count of one byte
 *   instructions PHASE ALL INSIDE    all that were executed, and those from an entry into the
 *                                    function to its return, whatever it calls included
 *   kind PHASE KIND ALL HELPERS      instructions of a kind, and those of them in helpers
 *
 * The declarations below are the part of QEMU's plugin interface (qemu-plugin.h) that is used here;
 * distributions do not package that header everywhere.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PLUGIN_VERSION
#define PLUGIN_VERSION 1 /* of the interface: 1 until QEMU 8, 2 from QEMU 9 on */
#endif

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { CB_NO_REGS = 0, MEM_READ_AND_WRITE = 3 };

typedef void (*tb_callback)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*exec_callback)(unsigned int cpu, void *data);
typedef void (*mem_callback)(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address,
                             void *data);
typedef void (*exit_callback)(qemu_plugin_id_t id, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, tb_callback callback);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, exec_callback callback,
                                          int flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, exec_callback callback,
                                            int flags, void *data);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, mem_callback callback,
                                      int flags, int direction, void *data);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, exit_callback callback, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
unsigned int qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t info);

__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_VERSION;

struct region {
    uint64_t start;
    uint64_t length;
};

static struct region *regions;
static size_t region_count;
/* Everything between the first region's start and the last one's end. */
static uint64_t low = UINT64_MAX, high;
static uint32_t *counts;
static bool loaded;
static uint64_t executed, inside;
/* The function's first instruction; where it returns to, while it runs; and the end of the
 * instruction before the present one, which is a call if that is the function's first one. */
static uint64_t function, return_to, previous_end;
static bool running;
static uint64_t mark;
static unsigned phase;

enum { KINDS = 256, HELPER = 0, UNIT = 1, THROUGH = 2, OTHER = 3, STICKY = 100 };
struct function {
    uint64_t start;
    uint64_t length;
    unsigned kind;
};
static struct function *functions;
static size_t function_count;
static unsigned kind = UNIT;
static uint64_t of_kind[KINDS], in_helpers[KINDS];
static FILE *out;

static void on_load(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
    (void)cpu;
    (void)data;
    uint64_t size = 1ull << qemu_plugin_mem_size_shift(info);
    /* Some versions confuse reads and writes when asked for one of them only, but not here. */
    if (qemu_plugin_mem_is_store(info) || address + size <= low || address >= high) {
        return;
    }
    loaded = true;
    for (uint64_t at = address; at < address + size; at++) {
        if (at >= low && at < high) {
            counts[at - low]++;
        }
    }
}

static void on_instruction(unsigned int cpu, void *data)
{
    uint64_t packed = (uint64_t)(uintptr_t)data, address = packed >> 4;
    (void)cpu;
    if (running && address == return_to) {
        running = false;
    } else if (!running && address == function) {
        running = true;
        return_to = previous_end;
    }
    previous_end = address + (packed & 15);
    executed++;
    inside += running;
}

/* Of a block, which lies in one function: its instructions and the function's kind. */
static void on_block(unsigned int cpu, void *data)
{
    uint64_t packed = (uint64_t)(uintptr_t)data, count = packed >> 8;
    unsigned next = packed & 255;
    (void)cpu;
    if (next != HELPER && next != THROUGH && (kind < STICKY || next == UNIT)) {
        kind = next;
    }
    of_kind[kind] += count;
    in_helpers[kind] += next == HELPER ? count : 0;
    executed += count;
}

static unsigned kind_at(uint64_t address)
{
    size_t low_end = 0, high_end = function_count;
    while (low_end < high_end) {
        size_t middle = (low_end + high_end) / 2;
        const struct function *found = functions + middle;
        if (address < found->start) {
            high_end = middle;
        } else if (address >= found->start + found->length) {
            low_end = middle + 1;
        } else {
            return found->kind;
        }
    }
    return OTHER;
}

static void end_phase(void)
{
    fprintf(out, "instructions %u %" PRIu64 " %" PRIu64 "\n", phase, executed, inside);
    executed = inside = 0;
    for (unsigned i = 0; i < KINDS; i++) {
        if (of_kind[i] > 0) {
            fprintf(out, "kind %u %u %" PRIu64 " %" PRIu64 "\n", phase, i, of_kind[i],
                    in_helpers[i]);
        }
        of_kind[i] = in_helpers[i] = 0;
    }
    for (size_t i = 0; loaded && i < region_count; i++) {
        const uint32_t *bytes = counts + (regions[i].start - low);
        uint64_t sum = 0;
        uint32_t most = 0;
        for (uint64_t at = 0; at < regions[i].length; at++) {
            sum += bytes[at];
            most = bytes[at] > most ? bytes[at] : most;
        }
        if (sum > 0) {
            fprintf(out, "loads %u %zu %" PRIu64 " %" PRIu32 "\n", phase, i, sum, most);
        }
    }
    if (loaded) {
        memset(counts, 0, (high - low) * sizeof *counts);
    }
    loaded = false;
    phase++;
}

static void on_mark(unsigned int cpu, void *data)
{
    (void)cpu;
    (void)data;
    end_phase();
}

static void at_exit(qemu_plugin_id_t id, void *data)
{
    (void)id;
    (void)data;
    end_phase();
    fprintf(out, "end %u\n", phase);
    fclose(out);
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    if (function_count > 0) {
        uint64_t first = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0));
        uint64_t packed = (uint64_t)qemu_plugin_tb_n_insns(tb) << 8 | kind_at(first);
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, CB_NO_REGS, (void *)(uintptr_t)packed);
    }
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint64_t address = qemu_plugin_insn_vaddr(insn);
        if (region_count > 0) {
            qemu_plugin_register_vcpu_mem_cb(insn, on_load, CB_NO_REGS, MEM_READ_AND_WRITE, NULL);
        }
        if (function != 0) {
            uint64_t packed = address << 4 | qemu_plugin_insn_size(insn);
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_instruction, CB_NO_REGS,
                                                   (void *)(uintptr_t)packed);
        }
        if (address == mark) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark, CB_NO_REGS, NULL);
        }
    }
}

static int read_regions(const char *path)
{
    FILE *file = fopen(path, "r");
    struct region next;
    if (!file) {
        perror(path);
        return -1;
    }
    while (fscanf(file, "%" SCNu64 " %" SCNu64, &next.start, &next.length) == 2) {
        regions = realloc(regions, (region_count + 1) * sizeof *regions);
        if (!regions) {
            return -1;
        }
        regions[region_count++] = next;
        low = next.start < low ? next.start : low;
        high = next.start + next.length > high ? next.start + next.length : high;
    }
    fclose(file);
    counts = region_count > 0 ? calloc(high - low, sizeof *counts) : NULL;
    return counts ? 0 : -1;
}

static int read_kinds(const char *path)
{
    FILE *file = fopen(path, "r");
    struct function next;
    if (!file) {
        perror(path);
        return -1;
    }
    while (fscanf(file, "%" SCNu64 " %" SCNu64 " %u", &next.start, &next.length, &next.kind) == 3) {
        functions = realloc(functions, (function_count + 1) * sizeof *functions);
        if (!functions || next.kind >= KINDS) {
            return -1;
        }
        functions[function_count++] = next;
    }
    fclose(file);
    return function_count > 0 ? 0 : -1;
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id,
                                                               const void *info, int argc,
                                                               char **argv)
{
    int result = 0;
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "regions=", 8) == 0) {
            result = read_regions(argv[i] + 8);
        } else if (strncmp(argv[i], "kinds=", 6) == 0) {
            result = read_kinds(argv[i] + 6);
        } else if (strncmp(argv[i], "mark=", 5) == 0) {
            mark = strtoull(argv[i] + 5, NULL, 0);
        } else if (strncmp(argv[i], "function=", 9) == 0) {
            function = strtoull(argv[i] + 9, NULL, 0);
        } else if (strncmp(argv[i], "out=", 4) == 0) {
            out = fopen(argv[i] + 4, "w");
        }
    }
    if (result != 0 || mark == 0 || !out) {
        fprintf(stderr, "watch: wants mark=ADDRESS,out=FILE and whole numbers in its files\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
