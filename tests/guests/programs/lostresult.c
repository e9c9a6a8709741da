/* Calls whose deed stands though their result cannot be written: EFAULT, and what was asked for has happened. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#define BAD ((void *)16)
static int failed(long result) { return result < 0 ? errno : 0; }
int main(void)
{
    unsigned action[5] = {1, 0, 0, 0, 0}, now[5];
    printf("sigaction %d", failed(syscall(SYS_rt_sigaction, SIGUSR1, action, BAD, 8)));
    syscall(SYS_rt_sigaction, SIGUSR1, NULL, now, 8);
    printf(" ignored %u\n", now[0]);
    printf("old sigaction %d", failed(syscall(SYS_sigaction, SIGUSR2, action, BAD)));
    syscall(SYS_rt_sigaction, SIGUSR2, NULL, now, 8);
    printf(" ignored %u\n", now[0]);
    unsigned long long set = 1ULL << 9, mask = 0;
    printf("sigprocmask %d", failed(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, BAD, 8)));
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
    printf(" mask %llx\n", mask);
    unsigned low = 1 << 11;
    printf("old sigprocmask %d", failed(syscall(SYS_sigprocmask, SIG_SETMASK, &low, BAD)));
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
    printf(" mask %llx\n", mask);
    static char room[8192];
    unsigned stack[3] = {(unsigned)(unsigned long)room, 0, sizeof room}, got[3];
    printf("sigaltstack %d", failed(syscall(SYS_sigaltstack, stack, BAD)));
    syscall(SYS_sigaltstack, NULL, got);
    printf(" size %u\n", got[2]);
    long timer[4] = {0, 0, 1000, 0}, left[4];
    printf("setitimer %d", failed(syscall(SYS_setitimer, 0, timer, BAD)));
    syscall(SYS_getitimer, 0, left);
    printf(" armed %d\n", left[2] > 900);
    int ident;
    syscall(SYS_timer_create, 1, NULL, &ident);
    printf("timer_settime %d", failed(syscall(SYS_timer_settime, ident, 0, timer, BAD)));
    syscall(SYS_timer_gettime, ident, left);
    printf(" armed %d\n", left[2] > 900);
    unsigned long long limit[2] = {77, 99}, read[2] = {0, 0};
    printf("prlimit %d", failed(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, limit, BAD)));
    syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, read);
    printf(" soft %llu\n", read[0]);
    if (!fork())
        _exit(3);
    printf("wait4 %d", failed(syscall(SYS_wait4, -1, BAD, 0, NULL)));
    printf(" then %d\n", failed(syscall(SYS_wait4, -1, NULL, 0, NULL)));
    if (!fork())
        _exit(3);
    printf("wait4's rusage %d", failed(syscall(SYS_wait4, -1, NULL, 0, BAD)));
    printf(" then %d\n", failed(syscall(SYS_wait4, -1, NULL, 0, NULL)));
    if (!fork())
        _exit(3);
    printf("waitid %d", failed(syscall(SYS_waitid, 0, 0, BAD, 4, NULL)));
    printf(" then %d\n", failed(syscall(SYS_wait4, -1, NULL, 0, NULL)));
    int status = 0;
    long child = syscall(SYS_clone, CLONE_PARENT_SETTID | SIGCHLD, 0, BAD, 0, 0);
    if (!child)
        _exit(5);
    printf("clone %d", child > 0);
    printf(" waits %d status %x\n", syscall(SYS_wait4, -1, &status, 0, NULL) == child, status);
    int ends = dup(1);
    printf("pipe %d", failed(syscall(SYS_pipe, BAD)));
    printf(" gives back %d\n", dup(1) == ends + 1);
    return 0;
}
