/* RLIMIT_SIGPENDING: who queues more real-time signals with a value than it allows is told EAGAIN; signals that need no place arrive without
 * their value; a POSIX timer holds a place for its signal; the places come back. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static int queue(int sig, int value)
{
    char info[128] = {0};
    ((int *)info)[0] = sig;
    ((int *)info)[2] = -1 /* SI_QUEUE */;
    ((int *)info)[3] = getpid();
    ((int *)info)[4] = getuid();
    ((int *)info)[5] = value;
    return syscall(SYS_rt_sigqueueinfo, getpid(), sig, info) ? errno : 0;
}
static int taken(unsigned long long set)
{
    int info[32];
    struct timespec none = {0, 0};
    int sig = (int)syscall(SYS_rt_sigtimedwait, &set, info, &none, 8);
    if (sig > 0)
        printf("took %d code %d pid %d value %d\n", sig, info[2], info[3] == getpid(), info[5]);
    return sig > 0;
}
static unsigned long counted(void)
{
    static char text[4096];
    FILE *f = fopen("/proc/self/status", "r");
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    char *at = strstr(text, "SigQ:\t");
    return at ? strtoul(at + 6, NULL, 10) : ~0UL;
}
int main(void)
{
    unsigned long long set = 1ULL << 33 | 1ULL << 34 | 1ULL << 9;
    if (!getuid() && setuid(54321)) /* a user nobody else has signals queued for */
        return 1;
    struct rlimit limit = {3, 3};
    setrlimit(11 /* RLIMIT_SIGPENDING */, &limit);
    syscall(SYS_rt_sigprocmask, 0, &set, NULL, 8);
    for (int i = 0; i < 5; i++)
        printf("queue %d: %d\n", i, queue(34, 100 + i));
    printf("counted %lu\n", counted());
    printf("kill %d\n", kill(getpid(), 35) ? errno : 0);
    printf("standard %d\n", queue(SIGUSR1, 7));
    printf("tkill %d\n", syscall(SYS_tkill, getpid(), 35) ? errno : 0);
    while (taken(set))
        ;
    printf("counted %lu\n", counted());
    int timers[4];
    for (int i = 0; i < 4; i++)
        printf("timer %d: %d\n", i, syscall(SYS_timer_create, 1, NULL, &timers[i]) ? errno : 0);
    printf("queue beside timers %d\n", queue(34, 1));
    syscall(SYS_timer_delete, timers[1]);
    printf("queue after one went %d, counted %lu\n", queue(34, 2), counted());
    while (taken(set))
        ;
    return 0;
}
