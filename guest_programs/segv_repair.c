/*
 * name:      segv_repair
 * summary:   Faults a handler repairs, so that the instruction restarts; and the signals of every other exception a program can raise.
 * drives:    SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP with si_code and si_addr, mmap and mprotect in a handler, EFAULT
 * arguments: pages=16
 * look at:   faults that end as signals; the instructions that restart
 */
#include "rmapbox.h"
#include <setjmp.h>
#include <ucontext.h>

static char *area;
static size_t size;
static int file = -1;
static volatile int repairs, skip, last_signal, last_code;
static void *volatile last_address;
static volatile unsigned long last_eip;
static enum { OPEN_PAGE, MAP_PAGE, EXTEND_FILE, SKIP, JUMP } cure;
static sigjmp_buf back;

static void on_fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *interrupted = context;
    last_signal = number;
    last_code = info->si_code;
    last_address = info->si_addr;
    last_eip = (unsigned long)interrupted->uc_mcontext.gregs[REG_EIP];
    char *page = (char *)((uintptr_t)info->si_addr & -(uintptr_t)PAGE);
    int inside = (char *)info->si_addr >= area && (char *)info->si_addr < area + size;
    repairs++;
    if (cure == SKIP) {
        interrupted->uc_mcontext.gregs[REG_EIP] += skip;
        return;
    }
    if (cure == JUMP || !inside)
        siglongjmp(back, 1);
    if (cure == OPEN_PAGE)
        must(mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0);
    else if (cure == MAP_PAGE)
        must(mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page);
    else
        must(ftruncate(file, (off_t)size) == 0);
}

static const char *code_name(void)
{
    static const struct { int number, code; const char *name; } names[] = {
        { SIGSEGV, SEGV_MAPERR, "SIGSEGV SEGV_MAPERR" }, { SIGSEGV, SEGV_ACCERR, "SIGSEGV SEGV_ACCERR" }, { SIGSEGV, SI_KERNEL, "SIGSEGV SI_KERNEL" },
        { SIGBUS, BUS_ADRERR, "SIGBUS BUS_ADRERR" }, { SIGFPE, FPE_INTDIV, "SIGFPE FPE_INTDIV" }, { SIGILL, ILL_ILLOPN, "SIGILL ILL_ILLOPN" },
        { SIGTRAP, SI_KERNEL, "SIGTRAP SI_KERNEL" },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == last_signal && names[i].code == last_code)
            return names[i].name;
    static char other[40];
    snprintf(other, sizeof other, "signal %d code %d", last_signal, last_code);
    return other;
}

static void begin(int what)
{
    cure = what;
    repairs = last_signal = last_code = 0;
    last_address = NULL;
}

/* One bad access; what came of it. */
static void try_access(const char *what, volatile char *at, int write)
{
    begin(JUMP);
    if (!sigsetjmp(back, 1)) {
        if (write)
            *at = 1;
        else
            (void)*at;
        printf("%s: no signal\n", what);
        return;
    }
    printf("%s: %s, si_addr %s\n", what, code_name(), last_address == (void *)at ? "is the address" : "is another");
}

/* An instruction at a known place that raises an exception and is then skipped. */
#define TRY_INSTRUCTION(what, setup, length, code)                                                                        \
    do {                                                                                                              \
        unsigned long place;                                                                                          \
        begin(SKIP);                                                                                                  \
        skip = (length);                                                                                              \
        __asm__ volatile(setup "\n\tmovl $1f, %0\n1:\t" code : "=&b"(place) : : "eax", "ecx", "edx", "memory", "cc");            \
        printf("%s: %s, si_addr is %s, eip is %s\n", what, repairs == 1 ? code_name() : "no single signal",            \
               last_address == (void *)place ? "the instruction" : last_address ? "another" : "0",                     \
               last_eip == place ? "the instruction" : "behind it");                                                   \
    } while (0)

int main(int argc, char **argv)
{
    long pages = argument(argc, argv, 1, "pages", 16, 3, 4096);
    arguments_end(argc, argv);
    size = (size_t)pages * PAGE;
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        must(sigaction(signals[i], &action, NULL) == 0);
    int wrong = 0;

    area = map_anonymous((size_t)pages, MAP_PRIVATE);
    must(mprotect(area, size, PROT_NONE) == 0);
    begin(OPEN_PAGE);
    for (long page = 0; page < pages; page++)
        fill_page(area + page * PAGE, (uint32_t)page);
    for (long page = 0; page < pages; page++)
        wrong += !page_is(area + page * PAGE, (uint32_t)page);
    printf("forbidden pages: %d of %ld opened, %s, %d wrong\n", repairs, pages, code_name(), wrong);

    must(munmap(area, size) == 0);
    begin(MAP_PAGE);
    for (long page = pages - 1; page >= 0; page--)
        fill_page(area + page * PAGE, (uint32_t)page + 100);
    for (long page = 0; page < pages; page++)
        wrong += !page_is(area + page * PAGE, (uint32_t)page + 100);
    printf("missing pages: %d of %ld mapped, %s, %d wrong\n", repairs, pages, code_name(), wrong);

    /* One instruction that crosses every page: it must go on where it stopped, not start again. */
    must(mprotect(area, size, PROT_NONE) == 0);
    begin(OPEN_PAGE);
    char *to = area + 100;
    const char *from = to - 50; /* overlapping: starting again would copy from what it has changed */
    size_t count = size - 200;
    must(mprotect(area, size, PROT_READ | PROT_WRITE) == 0);
    for (size_t i = 0; i < size; i++)
        area[i] = (char)(i * 7);
    must(mprotect(area, size, PROT_NONE) == 0);
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    for (size_t i = 100; i < size - 100; i++)
        wrong += area[i] != (char)(((i - 100) % 50 + 50) * 7);
    printf("one rep movsb over %ld forbidden pages: %d repairs, %d wrong\n", pages, repairs, wrong);

    /* A write that crosses a page boundary, second page forbidden. */
    must(mprotect(area + PAGE, PAGE, PROT_READ) == 0);
    begin(OPEN_PAGE);
    *(volatile uint32_t *)(area + PAGE - 2) = 0x44332211;
    wrong += area[PAGE - 2] != 0x11 || area[PAGE - 1] != 0x22 || area[PAGE] != 0x33 || area[PAGE + 1] != 0x44;
    printf("a store across a boundary: %d repair, si_addr %s, %d wrong\n", repairs,
           (char *)last_address == area + PAGE ? "in the second page" : "elsewhere", wrong);
    must(munmap(area, size) == 0);

    file = nameless_file("segv_repair", 1);
    char *mapped = mmap(area, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
    must(mapped == area);
    mapped[0] = 'a';
    begin(EXTEND_FILE);
    ((volatile char *)mapped)[size - 1] = 'z';
    char last = 0;
    must(pread(file, &last, 1, (off_t)size - 1) == 1);
    printf("behind the end of a file: %s, %d repair, the file ends in '%c'\n", code_name(), repairs, last);
    must(ftruncate(file, PAGE) == 0);
    try_access("the file cut short", mapped + PAGE + 5, 0);
    must(munmap(mapped, size) == 0);

    area = NULL;
    size = 0;
    try_access("reading address 0", NULL, 0);
    try_access("writing address 4095", (char *)4095, 1);
    try_access("reading the kernel", (char *)0xc0100000, 0);
    try_access("writing to text", (char *)main, 1);
    static const char constant[] = "constant";
    try_access("writing to a constant", (char *)constant, 1);

    TRY_INSTRUCTION("divide by zero", "xorl %%ecx, %%ecx", 2, "divl %%ecx");
    TRY_INSTRUCTION("ud2", "", 2, "ud2");
    TRY_INSTRUCTION("hlt", "", 1, "hlt");
    TRY_INSTRUCTION("int3", "", 0, "int3");
    TRY_INSTRUCTION("int $14", "", 2, "int $14");
    TRY_INSTRUCTION("a load through 0", "", 5, ".byte 0xa1, 0, 0, 0, 0");

    int pipes[2];
    must(pipe(pipes) == 0);
    errno = 0;
    ssize_t n = write(pipes[1], (char *)16, 4);
    printf("write from a bad address: %s\n", error_name(n < 0 ? errno : 0));
    n = read(file, (char *)main, 4);
    printf("read into text: %s\n", error_name(n < 0 ? errno : 0));
    puts(wrong ? "FAILED: repaired accesses went wrong" : "every repaired access went right");
    return wrong != 0;
}
