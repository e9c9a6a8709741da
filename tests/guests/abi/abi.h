/* Raw system calls, one line of output each: "line: call(arguments) = result", an error as -errno. Nothing printed depends on
 * addresses the kernel chose, process ids, inode numbers or time. */
#ifndef ABI_H
#define ABI_H
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define ARENA 0x20000000u
#define AT(page) ((void *)(ARENA + (page) * PAGE))
#define BAD ((void *)0x1000)
#define KERNEL ((void *)0xc0001000)

static inline long answer(long r) { return r == -1 ? -errno : r; }
/* The result of a raw call: >= 0, or -errno. */
#define S(name, ...) answer(syscall(SYS_##name, ##__VA_ARGS__))
/* ... printed. */
#define P(name, ...) (printf("%d: " #name "(" #__VA_ARGS__ ") = %ld\n", __LINE__, last = S(name, ##__VA_ARGS__)), last)
/* ... when only its sign or error counts. */
#define OK(name, ...) (last = S(name, ##__VA_ARGS__), printf("%d: " #name "(" #__VA_ARGS__ ") = %ld\n", __LINE__, last < 0 && last > -4096 ? last : 0L), last)
/* ... an address, shown from ARENA. */
#define M(name, ...) (last = S(name, ##__VA_ARGS__), last > -4096 && last < 0 ? printf("%d: " #name "(" #__VA_ARGS__ ") = %ld\n", __LINE__, last) \
    : printf("%d: " #name "(" #__VA_ARGS__ ") = page %ld\n", __LINE__, (last - (long)ARENA) / (long)PAGE), last)
#define SAY(text, ...) printf("%d: " text "\n", __LINE__, ##__VA_ARGS__)
static long last __attribute__((unused));

static void begin(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
}

static sigjmp_buf __away __attribute__((unused));
static volatile int __signal, __code __attribute__((unused));
static void *volatile __where __attribute__((unused));

static void __on_fault(int n, siginfo_t *info, void *context)
{
    __signal = n;
    __code = info->si_code;
    __where = info->si_addr;
    siglongjmp(__away, 1);
}

/* "r", "w" or "x": touches the byte (calls the address) and answers the signal that came, 100 * signal + code; 0 for none. */
static int __attribute__((unused)) touch(const void *at, char how)
{
    static const int faults[] = { SIGSEGV, SIGBUS, SIGILL };
    struct sigaction mine = { .sa_sigaction = __on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER }, old[3];
    volatile int result = 0;
    for (int i = 0; i < 3; i++)
        sigaction(faults[i], &mine, &old[i]);
    if (!sigsetjmp(__away, 1)) {
        if (how == 'r')
            (void)*(const volatile char *)at;
        else if (how == 'w')
            *(volatile char *)at = 0x55;
        else
            ((void (*)(void))at)();
    } else {
        result = 100 * __signal + __code;
        if (__signal != SIGILL && __where != at)
            result = -result;
    }
    for (int i = 0; i < 3; i++)
        sigaction(faults[i], &old[i], NULL);
    return result;
}

/* How a child that runs `f` ends: its status word. */
static int __attribute__((unused)) child_status(void (*f)(void))
{
    int status = -1;
    pid_t child = fork();
    if (!child) {
        f();
        _exit(0);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}
#endif
