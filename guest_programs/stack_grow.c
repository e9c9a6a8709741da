/*
 * name:      stack_grow
 * summary:   The stack grows by recursion and by leaps, overflows into SIGSEGV on another stack, and is whole afterwards.
 * drives:    expand_stack, the stack's limit, sigaltstack, swap of stack pages, fork with a deep stack
 * arguments: pages=200 overflows=2
 * look at:   faults of the stack area; its size in /proc/self/maps
 */
#include "rmapbox.h"
#include <alloca.h>
#include <setjmp.h>
#include <sys/resource.h>

static sigjmp_buf back;
static volatile int fault_code, fault_near, handler_on_other_stack;
static char other_stack[32 << 10];
static volatile uintptr_t deepest;
static volatile long bottom = -1; /* a depth that is never reached */

/* A frame of about a page: written on the way down, verified on the way up. */
__attribute__((noinline)) static int descend(long left)
{
    volatile uint32_t frame[WORDS - 16];
    uint32_t tag = mix((uint32_t)left);
    for (int i = 0; i < WORDS - 16; i += 5)
        frame[i] = tag + (uint32_t)i;
    int wrong = left > 1 ? descend(left - 1) : 0;
    for (int i = 0; i < WORDS - 16; i += 5)
        wrong += frame[i] != tag + (uint32_t)i;
    return wrong;
}

/* Room for `pages` at once, touched at the far end first. */
__attribute__((noinline)) static int leap(long pages)
{
    volatile char *room = alloca((size_t)pages * PAGE);
    int wrong = 0;
    room[0] = 'f';
    for (long page = 1; page < pages; page++)
        wrong += room[page * PAGE + 8] != 0 && page < pages / 2; /* the upper half may have been used before */
    for (long page = 0; page < pages; page++)
        room[page * PAGE + 8] = (char)page;
    for (long page = 0; page < pages; page++)
        wrong += room[page * PAGE + 8] != (char)page;
    return wrong + (room[0] != 'f');
}

__attribute__((noinline)) static long for_ever(long depth)
{
    volatile char frame[2048];
    deepest = (uintptr_t)frame;
    frame[0] = (char)depth;
    return depth == bottom ? 0 : for_ever(depth + 1) + frame[0];
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    char here;
    (void)number, (void)context;
    fault_code = info->si_code;
    long distance = (long)((uintptr_t)info->si_addr - deepest);
    fault_near = -3 * PAGE < distance && distance < 3 * PAGE;
    handler_on_other_stack = &here >= other_stack && &here < other_stack + sizeof other_stack;
    siglongjmp(back, 1);
}

/* Runs into the end of the stack and comes back; true unless the fault was where and how it must be. */
__attribute__((noinline)) static int overflow(long number)
{
    if (!sigsetjmp(back, 1))
        for_ever(0);
    printf("overflow %ld: SIGSEGV %s, %s the deepest frame, handler on %s stack\n", number,
           fault_code == SEGV_MAPERR ? "SEGV_MAPERR" : fault_code == SEGV_ACCERR ? "SEGV_ACCERR" : "of another kind",
           fault_near ? "at" : "far from", handler_on_other_stack ? "its own" : "the same");
    return !fault_near | !handler_on_other_stack;
}

int main(int argc, char **argv)
{
    long pages = argument(argc, argv, 1, "pages", 200, 1, 1500), overflows = argument(argc, argv, 2, "overflows", 2, 0, 100);
    arguments_end(argc, argv);
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    stack_t stack = { .ss_sp = other_stack, .ss_size = sizeof other_stack };
    int failed = 0, wrong;

    must(sigaltstack(&stack, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0);
    wrong = leap(pages / 2 + 1);
    printf("a leap of %ld pages: %d wrong\n", pages / 2 + 1, wrong);
    failed |= wrong;
    wrong = descend(pages);
    printf("a descent of %ld frames: %d wrong\n", pages, wrong);
    failed |= wrong;
    reclaim(pages);
    wrong = descend(pages / 2 + 1);
    printf("half as deep again: %d wrong\n", wrong);
    failed |= wrong;

    /* A lower limit holds for the running process, and keeps what follows short. */
    struct rlimit limit;
    must(getrlimit(RLIMIT_STACK, &limit) == 0);
    limit.rlim_cur = 8u << 20 < limit.rlim_max ? 8u << 20 : limit.rlim_max;
    must(setrlimit(RLIMIT_STACK, &limit) == 0);
    for (long i = 1; i <= overflows; i++)
        failed |= overflow(i);
    pid_t pid = fork_quietly();
    if (!pid)
        _exit(descend(pages) != 0);
    int status = reap(pid);
    wrong = descend(pages) + status;
    printf("child and parent descend again: %d wrong\n", wrong);
    failed |= wrong;
    puts(failed ? "FAILED: the stack is not what was put there" : "the stack held");
    return failed != 0;
}
