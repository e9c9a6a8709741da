/*
 * The trap loop: one guest task runs until something needs the kernel, and everything the kernel needs to know is read
 * out of the engine in the same call. Nothing of Unicorn is on the stack when Python sees the trap.
 *
 *   struct task  regs[] --+                                      +--> regs[], kind, vector, error_code, CR2, blocks
 *                         v                                      |
 *             saved context --restore--> engine --emu_start--> hooks --stop--> saved context
 *
 * Unicorn's functions are called through addresses taken from the library that the Python binding has loaded already:
 * nothing is linked, so the two can never be different copies. Its private CPU state is touched only inside the saved
 * context, at offsets that calibrate.py measures at start (Unicorn 2.1.4: a saved context is a plain copy of the CPU
 * state up to the fields that survive a reset).
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef void uc_engine;
typedef void uc_context;
typedef int uc_err;

enum { /* unicorn.h and x86.h, release 2.x; stable ABI numbers */
    HOOK_INTR = 1 << 0, HOOK_INSN = 1 << 1, HOOK_BLOCK = 1 << 3, HOOK_INSN_INVALID = 1 << 14,
    INS_IN = 218, INS_OUT = 500, INS_SYSCALL = 699, INS_SYSENTER = 700,
    REG_EFLAGS = 25, REG_CR3 = 53,
};
#define CTL_WRITE(type) ((uint32_t)(type) | 1u << 30)
#define CTL_TB_FLUSH CTL_WRITE(10)
#define CTL_TLB_FLUSH CTL_WRITE(11)

enum trap_kind { /* sandbox/cpu/trap.py */
    SYSCALL, PAGE_FAULT, PROTECTION, ILLEGAL, DIVIDE, BREAKPOINT, OVERFLOW, BUDGET, BAD_INT, FPU, ALIGNMENT, DEBUG,
    RUNNING = -1, LOST = -2,
};

enum { EAX, ESP = 4, EIP = 8, EFLAGS, CS, SS, DS, ES, FS, GS, NREGS }; /* sandbox/cpu/regs.py */

/* What a program may have in EFLAGS: CF PF AF ZF SF TF DF OF NT RF AC ID. IF is always on, IOPL and VM always off. */
#define USER_EFLAGS 0x00254dd5u
#define FIXED_EFLAGS 0x00000202u

struct api {
    uc_err (*emu_start)(uc_engine *, uint64_t begin, uint64_t until, uint64_t timeout, size_t count);
    uc_err (*emu_stop)(uc_engine *);
    uc_err (*hook_add)(uc_engine *, size_t *, int type, void *callback, void *user, uint64_t begin, uint64_t end, ...);
    uc_err (*ctl)(uc_engine *, uint32_t control, ...);
    uc_err (*reg_read)(uc_engine *, int, void *);
    uc_err (*reg_write)(uc_engine *, int, const void *);
    uc_err (*context_alloc)(uc_engine *, uc_context **);
    uc_err (*context_free)(uc_context *);
    size_t (*context_size)(uc_engine *);
    uc_err (*context_save)(uc_engine *, uc_context *);
    uc_err (*context_restore)(uc_engine *, uc_context *);
    uc_err (*context_reg_read)(uc_context *, int, void *);
    uc_err (*context_reg_write)(uc_context *, int, const void *);
};

/* Byte offsets into a saved context. gpr: EAX, seven more follow 8 bytes apart. fs: base field of a segment cache whose
 * neighbours are selector (-8), limit (+8), flags (+12); the six caches ES CS SS DS FS GS lie 24 bytes apart. */
struct offsets {
    uint32_t gpr, eip, eflags, cr2, cr3, fs, error_code, is_int, old_exception;
};

struct task {
    uint32_t regs[NREGS];
    uint8_t *saved;
};

struct cpu {
    uc_engine *uc;
    const uint8_t *gdt;    /* host address of the guest's descriptor table */
    uint32_t gdt_entries;
    uint32_t idle_cr3;     /* a root without user mappings */
    uint32_t loaded_cr3;
    int32_t flush_tlb, flush_code;
    size_t context_size;

    int32_t kind;          /* RUNNING until the first event of this run */
    int32_t uc_error;
    int64_t budget;        /* blocks this run may still start */
    struct task *task;     /* whose state a hook must save at once, or NULL */
    int32_t saved;         /* the hook did */

    /* facts of the last trap, read by Python */
    int64_t blocks;
    uint32_t fault_address, error_code, vector;

    /* pages in which blocks ran since the last drain (2-level paging has no NX to tell) */
    uint32_t *seen;        /* bitmap over the 2^20 virtual pages */
    uint32_t *pages;
    uint32_t page_count, page_room;
    uint32_t last_page;    /* noted already */
};

static struct api api;
static struct offsets offsets;

static inline uint64_t *field64(uint8_t *saved, uint32_t offset) { return (uint64_t *)(saved + offset); }
static inline int32_t *field32(uint8_t *saved, uint32_t offset) { return (int32_t *)(saved + offset); }

/* --- hooks */

static void stop(struct cpu *cpu, int kind)
{
    cpu->kind = kind;
    api.emu_stop(cpu->uc);
}

/* Called at the start of every block, before its first instruction: a stop here leaves EIP at the block and the block
 * undone. */
static void on_block(uc_engine *uc, uint64_t address, uint32_t size, struct cpu *cpu)
{
    if (--cpu->budget < 0 && cpu->kind == RUNNING)
        stop(cpu, BUDGET);
}

static int note_page(struct cpu *cpu, uint32_t page)
{
    uint32_t *word = &cpu->seen[page >> 5], bit = 1u << (page & 31);

    if (*word & bit)
        return 0;
    if (cpu->page_count == cpu->page_room) {
        uint32_t room = cpu->page_room * 2;
        uint32_t *pages = realloc(cpu->pages, room * sizeof(*pages));
        if (!pages)
            return -1;
        cpu->pages = pages;
        cpu->page_room = room;
    }
    *word |= bit;
    cpu->pages[cpu->page_count++] = page;
    return 0;
}

static void on_block_noting_pages(uc_engine *uc, uint64_t address, uint32_t size, struct cpu *cpu)
{
    uint32_t first = (uint32_t)address >> 12, last = ((uint32_t)address + size - 1) >> 12;

    if (--cpu->budget < 0) {
        if (cpu->kind == RUNNING)
            stop(cpu, BUDGET);
        return;
    }
    if (first == last && first == cpu->last_page)
        return;
    if (note_page(cpu, first) || note_page(cpu, last))
        stop(cpu, LOST);
    cpu->last_page = last;
}

/* The vector is kept as a provisional kind >= 256; decode() names it once the facts are at hand. */
static void on_interrupt(uc_engine *uc, uint32_t vector, struct cpu *cpu)
{
    if (cpu->kind != RUNNING)
        return;
    cpu->vector = vector;
    stop(cpu, 256);
}

static _Bool on_invalid(uc_engine *uc, struct cpu *cpu)
{
    on_interrupt(uc, 6, cpu);
    return 1;
}

/* in, out, sysenter and syscall do not fault by themselves, and after this hook the rest of the block would go on until
 * the next memory access. So: keep the state of now (EIP at the instruction), then take every user mapping away, so
 * that the access cannot have an effect. */
static void refuse(struct cpu *cpu, int kind, uint32_t vector)
{
    if (cpu->kind != RUNNING)
        return;
    cpu->vector = vector;
    cpu->error_code = 0;
    if (cpu->task) {
        uint64_t eflags = 0, idle = cpu->idle_cr3;
        api.context_save(cpu->uc, cpu->task->saved);
        api.reg_read(cpu->uc, REG_EFLAGS, &eflags);
        *field64(cpu->task->saved, offsets.eflags) = (uint32_t)eflags;
        api.reg_write(cpu->uc, REG_CR3, &idle);
        cpu->loaded_cr3 = cpu->idle_cr3;
        cpu->saved = 1;
    }
    stop(cpu, kind);
}

static uint32_t on_in(uc_engine *uc, uint32_t port, int size, struct cpu *cpu)
{
    refuse(cpu, PROTECTION, 13);
    return 0;
}
static void on_out(uc_engine *uc, uint32_t port, int size, uint32_t value, struct cpu *cpu)
{
    refuse(cpu, PROTECTION, 13);
}
static void on_fast_call(uc_engine *uc, struct cpu *cpu) { refuse(cpu, ILLEGAL, 6); }

/* --- set-up */

static void trap_load_api(void **address)
{
    memcpy(&api, address, sizeof(api));
}

static size_t trap_api_entries(void) { return sizeof(api) / sizeof(void *); }

static void trap_set_offsets(const struct offsets *o) { offsets = *o; }

static struct cpu *trap_open(void *uc, int note_pages)
{
    struct cpu *cpu = calloc(1, sizeof(*cpu));
    size_t handle;
    uc_err err = 0;

    if (!cpu)
        return NULL;
    cpu->uc = uc;
    cpu->context_size = api.context_size(uc);
    if (note_pages) {
        cpu->seen = calloc(1u << 15, sizeof(uint32_t));
        cpu->page_room = 256;
        cpu->last_page = UINT32_MAX;
        cpu->pages = malloc(cpu->page_room * sizeof(uint32_t));
        err |= !cpu->seen || !cpu->pages;
    }
    /* before the first run: code translated earlier would never call them */
    err = err || api.hook_add(uc, &handle, HOOK_BLOCK, note_pages ? on_block_noting_pages : on_block, cpu, 1, 0);
    err = err || api.hook_add(uc, &handle, HOOK_INTR, on_interrupt, cpu, 1, 0);
    err = err || api.hook_add(uc, &handle, HOOK_INSN_INVALID, on_invalid, cpu, 1, 0);
    err = err || api.hook_add(uc, &handle, HOOK_INSN, on_in, cpu, 1, 0, INS_IN);
    err = err || api.hook_add(uc, &handle, HOOK_INSN, on_out, cpu, 1, 0, INS_OUT);
    err = err || api.hook_add(uc, &handle, HOOK_INSN, on_fast_call, cpu, 1, 0, INS_SYSENTER);
    err = err || api.hook_add(uc, &handle, HOOK_INSN, on_fast_call, cpu, 1, 0, INS_SYSCALL);
    if (err) {
        free(cpu->seen);
        free(cpu->pages);
        free(cpu);
        return NULL;
    }
    return cpu;
}

static void trap_close(struct cpu *cpu)
{
    free(cpu->seen);
    free(cpu->pages);
    free(cpu);
}

static struct task *trap_task_new(struct cpu *cpu)
{
    struct task *task = calloc(1, sizeof(*task));

    if (task && api.context_alloc(cpu->uc, (uc_context **)&task->saved)) {
        free(task);
        return NULL;
    }
    return task;
}

static void trap_task_free(struct task *task)
{
    api.context_free(task->saved);
    free(task);
}

static void trap_task_copy(struct cpu *cpu, struct task *to, const struct task *from)
{
    memcpy(to->regs, from->regs, sizeof(to->regs));
    memcpy(to->saved, from->saved, cpu->context_size);
}

static int trap_task_save(struct cpu *cpu, struct task *task) { return api.context_save(cpu->uc, task->saved); }
static int trap_task_reg_read(struct task *t, int reg, void *value)
{
    return api.context_reg_read(t->saved, reg, value);
}
static int trap_task_reg_write(struct task *t, int reg, const void *value)
{
    return api.context_reg_write(t->saved, reg, value);
}

/* --- running */

/* A data segment register from the descriptor table, as `mov fs, ax` in ring 3 would load it; a selector that
 * would fault becomes null, as it does when the kernel returns to user space with one. */
static void load_segment(const struct cpu *cpu, uint8_t *base, uint32_t selector)
{
    uint32_t lo = 0, hi = 0, limit = 0;

    selector &= 0xffff;
    if (selector & ~3u) {
        uint32_t index = selector >> 3;
        if (!(selector & 4) && index < cpu->gdt_entries) {
            memcpy(&lo, cpu->gdt + index * 8, 4);
            memcpy(&hi, cpu->gdt + index * 8 + 4, 4);
        }
        /* present, code or data, DPL 3; code must be readable */
        if ((hi & 0xf000) != 0xf000 || (hi & 0x0a00) == 0x0800)
            selector = lo = hi = 0;
        else {
            limit = (lo & 0xffff) | (hi & 0x000f0000);
            if (hi & 0x00800000)
                limit = limit << 12 | 0xfff;
        }
    }
    *(uint32_t *)(base - 8) = selector;
    *(uint64_t *)base = lo >> 16 | (hi & 0xff) << 16 | (hi & 0xff000000);
    *(uint32_t *)(base + 8) = limit;
    *(uint32_t *)(base + 12) = hi;
}

static void put_registers(const struct cpu *cpu, struct task *task, uint32_t cr3)
{
    uint8_t *s = task->saved;
    const uint32_t *regs = task->regs;
    uint64_t *gpr = field64(s, offsets.gpr);

    for (int i = 0; i < 8; i++)
        gpr[i] = regs[i];
    *field64(s, offsets.eip) = regs[EIP];
    *field64(s, offsets.eflags) = (regs[EFLAGS] & USER_EFLAGS) | FIXED_EFLAGS;
    *field64(s, offsets.cr3) = cr3;
    /* Nothing was delivered through the IDT, so the engine still holds the last exception as in flight and would
     * make the next one a double fault. */
    *field32(s, offsets.old_exception) = -1;
    load_segment(cpu, s + offsets.fs, regs[FS]);
    load_segment(cpu, s + offsets.fs + 24, regs[GS]);
}

static void get_registers(struct task *task)
{
    uint8_t *s = task->saved, *es = s + offsets.fs - 8 - 4 * 24;
    uint32_t *regs = task->regs;
    const uint64_t *gpr = field64(s, offsets.gpr);

    for (int i = 0; i < 8; i++)
        regs[i] = (uint32_t)gpr[i];
    regs[EIP] = (uint32_t)*field64(s, offsets.eip);
    regs[EFLAGS] = (uint32_t)*field64(s, offsets.eflags);
    regs[ES] = *(uint32_t *)es;
    regs[CS] = *(uint32_t *)(es + 24);
    regs[SS] = *(uint32_t *)(es + 48);
    regs[DS] = *(uint32_t *)(es + 72);
    regs[FS] = *(uint32_t *)(es + 96);
    regs[GS] = *(uint32_t *)(es + 120);
}

/* From vector and facts to the kind of trap, with EIP where i386 Linux reports it. */
static int decode(struct cpu *cpu, struct task *task)
{
    uint8_t *s = task->saved;
    uint32_t vector = cpu->vector;

    cpu->error_code = (uint32_t)*field32(s, offsets.error_code);
    if (*field32(s, offsets.is_int)) {
        switch (vector) {
        case 0x80: return SYSCALL;
        case 3: return BREAKPOINT;
        case 4: return OVERFLOW;
        }
        /* The engine makes no privilege check; every other gate has DPL 0. EIP back onto the two bytes of `int n`. */
        if (vector != 6) /* which comes by the hook for invalid instructions, not yet stepped over */
            task->regs[EIP] -= 2;
        cpu->error_code = vector * 8 + 2;
        cpu->vector = 13;
        return PROTECTION;
    }
    switch (vector) {
    case 0: return DIVIDE;
    case 1: return DEBUG;
    case 6: return ILLEGAL;
    case 13: return PROTECTION;
    case 14: cpu->fault_address = (uint32_t)*field64(s, offsets.cr2); return PAGE_FAULT;
    case 16: case 19: return FPU;
    case 17: return ALIGNMENT;
    default: return vector < 32 && vector != 8 ? BAD_INT : LOST;
    }
}

static int trap_run(struct cpu *cpu, struct task *task, uint32_t cr3, int64_t budget)
{
    int kind;

    if (budget < 0)
        budget = 0;
    put_registers(cpu, task, cr3);
    cpu->kind = RUNNING;
    cpu->vector = UINT32_MAX;
    cpu->saved = 0;
    cpu->task = task;
    cpu->budget = budget;
    api.context_restore(cpu->uc, task->saved);
    if (cpu->loaded_cr3 != cr3 || cpu->flush_tlb) { /* restoring a context does not flush */
        api.ctl(cpu->uc, CTL_TLB_FLUSH);
        cpu->loaded_cr3 = cr3;
        cpu->flush_tlb = 0;
    }
    if (cpu->flush_code) {
        api.ctl(cpu->uc, CTL_TB_FLUSH);
        cpu->flush_code = 0;
    }
    cpu->uc_error = api.emu_start(cpu->uc, task->regs[EIP], 0, 0, 0);
    cpu->task = NULL;
    cpu->blocks = budget - (cpu->budget < 0 ? 0 : cpu->budget);
    if (!cpu->saved)
        api.context_save(cpu->uc, task->saved);
    get_registers(task);
    kind = cpu->kind;
    if (kind == 256)
        kind = decode(cpu, task);
    if (kind == RUNNING || (cpu->uc_error && !cpu->saved))
        kind = LOST;
    /* A program's iret must not change EFLAGS.VM; the engine lets it enter virtual-8086 mode. */
    if ((task->regs[EFLAGS] & 0x20000) || (task->regs[CS] & 3) != 3)
        kind = LOST;
    return kind;
}

/* Run from a saved state, at any privilege, to the first exception; the state after it replaces the saved one. For
 * calibration and boot. Returns the vector, or -1. */
static int trap_probe(struct cpu *cpu, struct task *task, uint32_t eip)
{
    cpu->kind = RUNNING;
    cpu->budget = 1000;
    cpu->vector = 0;
    api.context_restore(cpu->uc, task->saved);
    api.ctl(cpu->uc, CTL_TLB_FLUSH);
    cpu->uc_error = api.emu_start(cpu->uc, eip, 0, 0, 0);
    api.context_save(cpu->uc, task->saved);
    return cpu->uc_error || cpu->kind != 256 ? -1 : (int)cpu->vector;
}

/* Empty the list of executed pages into `out` (room for page_count); returns how many. */
static uint32_t trap_drain_pages(struct cpu *cpu, uint32_t *out)
{
    uint32_t count = cpu->page_count;

    for (uint32_t i = 0; i < count; i++) {
        out[i] = cpu->pages[i];
        cpu->seen[cpu->pages[i] >> 5] = 0;
    }
    cpu->page_count = 0;
    cpu->last_page = UINT32_MAX;
    return count;
}
