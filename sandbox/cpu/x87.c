/*
 * x87 as the host's processor computes it, where Unicorn's does it in double precision or forgets the exception flags.
 *
 *   translated code --call--> helper_fprem() here --frstor, fprem, fnsave--> the engine's FPU registers
 *   translated code --call--> helper_fnstsw() here: flags of the arithmetic since --> status word; then Unicorn's own
 *
 * Unicorn's library calls its helpers through its symbol table, and this module is loaded first, with its symbols
 * global (interpose.py): the linker gives it these. Nothing is added to the way of any other instruction. The helpers
 * know the engine's FPU by offsets that x87.py measures; until they are known, and on another processor, Unicorn's own
 * are called.
 *
 * Its soft floating point notes IE, ZE, OE, UE and PE as x87 does, in the same bits, and never forgets one; Unicorn 2.1
 * only does not carry them into the status word. That is done when the program looks.
 */
struct x87_offsets { uint32_t top, status, control, tags, registers, flags; };

#define SHARED __attribute__((visibility("default")))
#define BUSY 0x8080u       /* ES and B: an exception that the control word does not mask */
#define EXCEPTIONS 0x3fu
#define STACK_FAULT 0x40u
#define CONDITIONS 0x4700u /* C0 to C3 */
#define NOTED 0x3du        /* all but DE */

#define HELPERS(one) \
    one(fprem) one(fprem1) one(fyl2x) one(fyl2xp1) one(f2xm1) one(fpatan) one(fptan) one(fsin) one(fcos) one(fsincos) \
    one(fscale) one(fxtract) one(fsqrt) one(fist_ST0) one(fistt_ST0) one(fisttl_ST0) one(fisttll_ST0) \
    one(fsts_ST0) one(fstl_ST0) \
    one(fnstsw) one(fwait) one(fstenv) one(fsave) one(fxsave) \
    one(fclex) one(fninit) one(fldenv) one(frstor) one(fxrstor)

enum {
#define NUMBER(name) U_##name,
    HELPERS(NUMBER)
#undef NUMBER
    NHELPERS
};

static const char *const x87_helpers[] = {
#define NAME(name) #name,
    HELPERS(NAME)
#undef NAME
};

static struct x87_offsets x87;
static int x87_known;
static void *unicorns[NHELPERS] __attribute__((used));
static uint8_t *x87_caller; /* whose fprem was called last while the offsets were not known */

static size_t x87_helper_count(void) { return NHELPERS; }
static const char *x87_helper(size_t i) { return x87_helpers[i]; }
static void x87_load(void **address) { memcpy(unicorns, address, sizeof(unicorns)); }
static uint8_t *x87_last_caller(void) { return x87_caller; }

static void x87_set_offsets(const struct x87_offsets *o)
{
    x87_known = o != NULL;
    if (o)
        x87 = *o;
}

#ifdef __x86_64__ /* elsewhere there is no x87 to ask */
static void note(uint8_t *env, uint32_t status)
{
    uint16_t *held = (uint16_t *)(env + x87.status);
    uint32_t control = *(uint16_t *)(env + x87.control);

    status |= *held;
    *held = (uint16_t)(status & ~control & EXCEPTIONS ? status | BUSY : status);
}

__attribute__((used)) static void merge_flags(uint8_t *env)
{
    if (x87_known && env[x87.flags]) {
        note(env, env[x87.flags] & NOTED);
        env[x87.flags] = 0;
    }
}

__attribute__((used)) static void forget_flags(uint8_t *env)
{
    if (x87_known)
        env[x87.flags] = 0;
}

struct image { /* FSAVE, 32-bit protected mode */
    uint16_t control, r0, status, r1, tags, r2;
    uint32_t instruction[4];
    uint8_t st[8][10];
} __attribute__((packed));

static void to_image(const uint8_t *env, struct image *image)
{
    uint32_t top = *(uint32_t *)(env + x87.top);

    memset(image, 0, sizeof(*image));
    image->control = *(uint16_t *)(env + x87.control);
    image->status = (uint16_t)(top << 11); /* no old exception, or the instruction would report it */
    for (uint32_t i = 0; i < 8; i++) {
        image->tags |= (uint16_t)((env[x87.tags + i] ? 3 : 0) << 2 * i);
        memcpy(image->st[i], env + x87.registers + 16 * ((top + i) & 7), 10);
    }
}

static void from_image(uint8_t *env, const struct image *image)
{
    uint32_t top = image->status >> 11 & 7;

    *(uint32_t *)(env + x87.top) = top;
    for (uint32_t i = 0; i < 8; i++) {
        env[x87.tags + i] = (image->tags >> 2 * i & 3) == 3;
        memcpy(env + x87.registers + 16 * ((top + i) & 7), image->st[i], 10);
    }
    *(uint16_t *)(env + x87.status) &= (uint16_t)~CONDITIONS;
    note(env, image->status & (CONDITIONS | EXCEPTIONS | STACK_FAULT));
}

/* fnsave leaves the FPU as fninit does, with nothing pending; the caller's control word comes back. */
#define COMPUTE(name) \
    SHARED void helper_##name##_x86_64(uint8_t *env) \
    { \
        struct image image; \
        uint16_t control; \
        if (!x87_known) { \
            x87_caller = env; \
            ((void (*)(uint8_t *))unicorns[U_##name])(env); \
            return; \
        } \
        to_image(env, &image); \
        __asm__ volatile("fnstcw %1\n\tfrstor %0\n\t" #name "\n\tfnsave %0\n\tfldcw %1" : "+m"(image), "=m"(control) : \
                         : "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"); \
        from_image(env, &image); \
    }
COMPUTE(fprem) COMPUTE(fprem1) COMPUTE(fyl2x) COMPUTE(fyl2xp1) COMPUTE(f2xm1)
COMPUTE(fpatan) COMPUTE(fptan) COMPUTE(fsin) COMPUTE(fcos) COMPUTE(fsincos)
COMPUTE(fscale) COMPUTE(fxtract) COMPUTE(fsqrt)

/* Integers out of ST0. The translated code stores what is returned, and pops. */
#define ROUND(name, result, type, instruction) \
    SHARED result helper_##name##_x86_64(uint8_t *env) \
    { \
        uint16_t status, own, control; \
        type value; \
        if (!x87_known) \
            return ((result (*)(uint8_t *))unicorns[U_##name])(env); \
        control = *(uint16_t *)(env + x87.control) | EXCEPTIONS; \
        __asm__ volatile("fnstcw %2\n\tfldcw %3\n\tfnclex\n\tfldt (%4)\n\t" instruction " %0\n\t" \
                         "fnstsw %1\n\tfnclex\n\tfldcw %2" \
                         : "=m"(value), "=m"(status), "=m"(own) \
                         : "m"(control), "r"(env + x87.registers + 16 * *(uint32_t *)(env + x87.top)) \
                         : "st", "memory"); \
        note(env, status & EXCEPTIONS); \
        return value; \
    }
ROUND(fist_ST0, int32_t, int16_t, "fistps") ROUND(fistt_ST0, int32_t, int16_t, "fisttps")
ROUND(fisttl_ST0, int32_t, int32_t, "fisttpl") ROUND(fisttll_ST0, int64_t, int64_t, "fisttpll")

/* Narrower reals out of ST0: Unicorn's own, but a signalling NaN becomes a quiet one. */
#define NARROW(name, type, infinity, quiet) \
    SHARED type helper_##name##_x86_64(uint8_t *env) \
    { \
        type value = ((type (*)(uint8_t *))unicorns[U_##name])(env); \
        return (value & ~(type)0 >> 1) > infinity ? value | quiet : value; \
    }
NARROW(fsts_ST0, uint32_t, 0x7f800000u, 1u << 22) NARROW(fstl_ST0, uint64_t, 0x7ff0000000000000u, (uint64_t)1 << 51)

/* `first`, then a jump to Unicorn's own: a jump, because that finds the program's place by its return address when
 * memory faults. */
#define BEFORE(first, name, number) \
    _Static_assert(U_##name == number, #name); \
    __asm__(".pushsection .text\n\t.globl helper_" #name "_x86_64\n\t.type helper_" #name "_x86_64, @function\n" \
            "helper_" #name "_x86_64:\n\tpush %rdi\n\tpush %rsi\n\tpush %rdx\n\tcall " #first "\n\t" \
            "pop %rdx\n\tpop %rsi\n\tpop %rdi\n\t" \
            "jmp *(unicorns+8*" #number ")(%rip)\n\t.popsection");
/* What reads the status word. fwait also delivers what is not masked. */
BEFORE(merge_flags, fnstsw, 19) BEFORE(merge_flags, fwait, 20) BEFORE(merge_flags, fstenv, 21)
BEFORE(merge_flags, fsave, 22) BEFORE(merge_flags, fxsave, 23)
/* What replaces it. */
BEFORE(forget_flags, fclex, 24) BEFORE(forget_flags, fninit, 25) BEFORE(forget_flags, fldenv, 26)
BEFORE(forget_flags, frstor, 27) BEFORE(forget_flags, fxrstor, 28)
#endif
