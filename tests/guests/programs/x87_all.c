// Every x87 instruction on the two topmost registers, over many operands and several control words: sums over the values, the exception
// flags (but DE) with C0, C2 and C3, and the tags that it leaves.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct fpu { uint16_t control, r0, status, r1, tags, r2; uint32_t where[4]; uint8_t st[8][10]; } __attribute__((packed));

static uint32_t state = 12345;
static uint32_t next(void) { state ^= state << 13; state ^= state >> 17; return state ^= state << 5; }

static void operand(uint8_t *real)
{
    static const uint16_t heads[] = { 0, 1, 0x7fff, 0x3fff, 0x3ffe, 0x4000, 0x403e, 0x7ffe, 0x3fc0, 0x3ffd, 0x400e, 0x43fe, 0x3c00, 0x3c01, 0x3f80, 0x3f81, 0x407e };
    uint64_t mantissa = (uint64_t)next() << 32 | next();
    uint32_t form = next();
    uint16_t head = form & 0x100 ? heads[form % (sizeof heads / sizeof *heads)] : 0x3fff - 40 + form % 80;
    if (form & 0x600) mantissa |= 1ull << 63;
    if ((form & 0x3800) == 0) mantissa = 1ull << 63;
    if ((form & 0xc000) == 0) mantissa &= ~0x7ffull;
    if (head == 0) mantissa = form & 0x10000 ? mantissa & ~(1ull << 63) : 0; else mantissa |= 1ull << 63;
    head |= (form >> 20 & 1) << 15;
    memcpy(real, &mantissa, 8);
    memcpy(real + 8, &head, 2);
}

static uint32_t sum(uint32_t h, const void *data, int n) { const uint8_t *p = data; while (n--) h = (h ^ *p++) * 16777619u; return h; }

#define ROUNDS 400
#define SHOWN 0x453d
static uint8_t a[10], b[10];
static struct fpu after;
static int32_t i32; static int16_t i16; static int64_t i64; static float f32; static double f64; static uint8_t bcd[10];

#define TRY(name, code) do { \
    uint32_t values = 2166136261u, flags = values, tags = values; state = 777; \
    for (int i = 0; i < ROUNDS; i++) { \
        operand(a); operand(b); i64 = f64 = i32 = i16 = f32 = 0; memset(bcd, 0, 10); \
        __asm__ volatile("fninit; fldcw %1; fldt %2; fldt %3; fnclex; " code "; fnsave %0" : "=m"(after) : "m"(control), "m"(a), "m"(b), "m"(i32), "m"(i16) \
                         : "eax", "cc", "memory"); \
        values = sum(values, after.st, 80); values = sum(values, &i32, 4); values = sum(values, &i16, 2); values = sum(values, &i64, 8); \
        values = sum(values, &f32, 4); values = sum(values, &f64, 8); values = sum(values, bcd, 10); \
        after.status &= SHOWN; flags = sum(flags, &after.status, 2); tags = sum(tags, &after.tags, 2); \
    } \
    printf("%04x %-8s %08x %08x %08x\n", control, name, values, flags, tags); \
} while (0)

int main(void)
{
    static const uint16_t controls[] = { 0x37f, 0x27f, 0x07f, 0xf7f, 0x77f, 0xb7f };
    for (unsigned c = 0; c < sizeof controls / sizeof *controls; c++) {
        uint16_t control = controls[c];
        TRY("fadd", "fadd %%st(1), %%st"); TRY("faddp", "faddp"); TRY("fsub", "fsub %%st(1), %%st"); TRY("fsubr", "fsubr %%st(1), %%st");
        TRY("fmul", "fmul %%st(1), %%st"); TRY("fdiv", "fdiv %%st(1), %%st"); TRY("fdivr", "fdivr %%st(1), %%st");
        TRY("fsqrt", "fsqrt"); TRY("frndint", "frndint"); TRY("fscale", "fscale"); TRY("fxtract", "fxtract"); TRY("fchs", "fchs"); TRY("fabs", "fabs"); TRY("fxam", "fxam"); TRY("ftst", "ftst");
        TRY("fcom", "fcom"); TRY("fucom", "fucom"); TRY("fcompp", "fcompp"); TRY("fcomi", "fcomi %%st(1), %%st"); TRY("fucomi", "fucomi %%st(1), %%st");
        TRY("fistl", "fistl %4"); TRY("fists", "fists %5"); TRY("fistpll", "fistpll i64"); TRY("fisttpl", "fisttpl i32"); TRY("fisttps", "fisttps i16"); TRY("fisttpll", "fisttpll i64");
        TRY("fsts", "fsts f32"); TRY("fstl", "fstl f64"); TRY("fbstp", "fbstp bcd"); TRY("fstpt", "fstpt bcd");
        TRY("fprem", "fprem"); TRY("fprem1", "fprem1"); TRY("fyl2x", "fyl2x"); TRY("fyl2xp1", "fyl2xp1"); TRY("f2xm1", "f2xm1"); TRY("fpatan", "fpatan");
        TRY("fptan", "fptan"); TRY("fsin", "fsin"); TRY("fcos", "fcos"); TRY("fsincos", "fsincos");
        TRY("empty1", "fstp %%st; fprem"); TRY("empty", "fstp %%st; fstp %%st; fsin"); TRY("full", "fld1; fld1; fld1; fld1; fld1; fld1; fsincos");
    }
    return 0;
}
