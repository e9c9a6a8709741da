// x87 state stored to pages that fault first, exceptions that are not masked, and a handler that clears what was raised.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096
#define ROUNDED_UP 0xfdff // C1 differs
static uint32_t before, at;
static sigjmp_buf back;

static void fault(int number, siginfo_t *info, void *context)
{
    (void)info;
    at = ((ucontext_t *)context)->uc_mcontext.gregs[REG_EIP];
    siglongjmp(back, number);
}

static void clearing(int number)
{
    (void)number;
    __asm__ volatile("fninit");
}

#define HERE "call 7f\n7: popl %0\n\taddl $8f-7b, %0\n"
#define TRY(name, page, code) do { \
    int got = sigsetjmp(back, 1); \
    if (!got) \
        __asm__ volatile(HERE code : "+m"(before) : "r"(page) : "eax", "memory"); \
    printf("%s: signal %d, at the instruction %d\n", name, got, got && at == before); \
} while (0)

int main(void)
{
    struct sigaction action = { .sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
    char *fresh = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *none = mmap(0, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    __asm__ volatile("fninit; fld1; fldpi; fdivr %%st(1), %%st" ::);
    TRY("fnsave", fresh, "8: fnsave (%1)");
    TRY("frstor", fresh, "8: frstor (%1)");
    TRY("fnstenv", fresh + 2 * PAGE - 8, "8: fnstenv (%1)");
    TRY("fldenv", fresh + 2 * PAGE - 8, "8: fldenv (%1)");
    TRY("fxsave", fresh + 3 * PAGE, "8: fxsave (%1)");
    TRY("fxrstor", fresh + 3 * PAGE, "8: fxrstor (%1)");
    printf("status %04x %04x %04x\n", *(uint16_t *)(fresh + 4) & ROUNDED_UP, *(uint16_t *)(fresh + 2 * PAGE - 4) & ROUNDED_UP,
           *(uint16_t *)(fresh + 3 * PAGE + 2) & ROUNDED_UP);
    TRY("fnsave nowhere", none, "8: fnsave (%1)");
    TRY("frstor nowhere", none, "8: frstor (%1)");
    TRY("fnstenv nowhere", none, "8: fnstenv (%1)");
    TRY("fldenv nowhere", none, "8: fldenv (%1)");
    TRY("fxsave nowhere", none, "8: fxsave (%1)");
    TRY("fxrstor nowhere", none, "8: fxrstor (%1)");
    TRY("fnstsw nowhere", none, "8: fnstsw (%1)");

    static const uint16_t unmasked = 0x340;
    memcpy(fresh, &unmasked, 2);
    TRY("fwait", fresh, "fninit; fldcw (%1); fld1; fldz; fdivrp; 8: fwait");
    TRY("fprem", fresh, "fninit; fldcw (%1); fldz; fld1; fprem; 8: fwait");
    __asm__ volatile("fninit");

    signal(SIGUSR1, clearing);
    uint16_t raised, kept;
    __asm__ volatile("fninit; fldpi; fld1; faddp");
    kill(getpid(), SIGUSR1);
    __asm__ volatile("fnstsw %0; fnclex; fnstsw %1" : "=m"(raised), "=m"(kept));
    printf("behind the handler %x, cleared %x\n", raised & 0x3f, kept & 0x3f);
    return 0;
}
