/* Processes: fork, exec, wait, identity, limits, time. */
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "internal.h"
#include "syscall.h"

pid_t fork(void)
{
    return checked(syscall0(SYS_fork));
}

/* The child returns through the parent's stack: the return address waits in ecx, which a system call preserves. */
__asm__(".section .text\n.globl vfork\n.type vfork, @function\nvfork:\n\t"
        "popl %ecx\n\tmovl $190, %eax\n\tint $0x80\n\tpushl %ecx\n\tcmpl $-4095, %eax\n\tjae 1f\n\tret\n"
        "1:\tpushl %eax\n\tcall __vfork_failed\n\taddl $4, %esp\n\tret\n");

__attribute__((used)) long __vfork_failed(long result)
{
    return checked(result);
}

int execve(const char *path, char *const argv[], char *const envp[])
{
    return checked(syscall3(SYS_execve, (long)path, (long)argv, (long)envp));
}

int execv(const char *path, char *const argv[])
{
    return execve(path, argv, environ);
}

int execl(const char *path, const char *argument, ...)
{
    char *argv[64] = { (char *)argument };
    int count = 0;
    va_list list;
    va_start(list, argument);
    while (argv[count] && count < 62)
        argv[++count] = va_arg(list, char *);
    va_end(list);
    argv[count] = NULL;
    return execv(path, argv);
}

pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
    return checked(syscall4(SYS_wait4, pid, (long)status, options, (long)usage));
}

pid_t waitpid(pid_t pid, int *status, int options)
{
    return wait4(pid, status, options, NULL);
}

pid_t wait(int *status)
{
    return wait4(-1, status, 0, NULL);
}

pid_t getpid(void)
{
    return syscall0(SYS_getpid);
}

pid_t getppid(void)
{
    return syscall0(SYS_getppid);
}

pid_t gettid(void)
{
    return syscall0(SYS_gettid);
}

pid_t getpgid(pid_t pid)
{
    return checked(syscall1(SYS_getpgid, pid));
}

pid_t getpgrp(void)
{
    return getpgid(0);
}

int setpgid(pid_t pid, pid_t group)
{
    return checked(syscall2(SYS_setpgid, pid, group));
}

pid_t setsid(void)
{
    return checked(syscall0(SYS_setsid));
}

uid_t getuid(void)
{
    return syscall0(SYS_getuid32);
}

uid_t geteuid(void)
{
    return syscall0(SYS_geteuid32);
}

gid_t getgid(void)
{
    return syscall0(SYS_getgid32);
}

gid_t getegid(void)
{
    return syscall0(SYS_getegid32);
}

int setuid(uid_t user)
{
    return checked(syscall1(SYS_setuid32, (long)user));
}

int setgid(gid_t group)
{
    return checked(syscall1(SYS_setgid32, (long)group));
}

int nice(int increment)
{
    return checked(syscall1(SYS_nice, increment));
}

int pause(void)
{
    return checked(syscall0(SYS_pause));
}

unsigned alarm(unsigned seconds)
{
    return syscall1(SYS_alarm, (long)seconds);
}

int sched_yield(void)
{
    return checked(syscall0(SYS_sched_yield));
}

int getrusage(int who, struct rusage *usage)
{
    return checked(syscall2(SYS_getrusage, who, (long)usage));
}

int getrlimit(int resource, struct rlimit *limit)
{
    return checked(syscall4(SYS_prlimit64, 0, resource, 0, (long)limit));
}

int setrlimit(int resource, const struct rlimit *limit)
{
    return checked(syscall4(SYS_prlimit64, 0, resource, (long)limit, 0));
}

int getpagesize(void)
{
    return 4096;
}

long sysconf(int name)
{
    struct rlimit limit;
    switch (name) {
    case _SC_PAGESIZE: return 4096;
    case _SC_CLK_TCK: return 100;
    case _SC_OPEN_MAX: return getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur > LONG_MAX ? -1 : (long)limit.rlim_cur;
    case _SC_NPROCESSORS_CONF:
    case _SC_NPROCESSORS_ONLN: {
        unsigned long set[32];
        long bytes = syscall3(SYS_sched_getaffinity, 0, sizeof set, (long)set), count = 0;
        for (long i = 0; i < bytes / (long)sizeof *set; i++)
            count += __builtin_popcountl(set[i]);
        return count ? count : 1;
    }
    }
    errno = EINVAL;
    return -1;
}

long syscall(long number, ...)
{
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    return checked(syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    return checked(syscall3(SYS_poll, (long)fds, (long)count, timeout));
}

/* clock_gettime64 (Linux 5.1) first; its seconds are 64 bits wide. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    struct { long long seconds; long nanoseconds, pad; } wide;
    long result = syscall2(SYS_clock_gettime64, clock, (long)&wide);
    if (result == -ENOSYS)
        return checked(syscall2(SYS_clock_gettime, clock, (long)now));
    if (!result) {
        now->tv_sec = (time_t)wide.seconds;
        now->tv_nsec = wide.nanoseconds;
    }
    return checked(result);
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    return checked(syscall2(SYS_gettimeofday, (long)now, (long)zone));
}

time_t time(time_t *now)
{
    struct timespec t = { 0, 0 };
    clock_gettime(CLOCK_REALTIME, &t);
    if (now)
        *now = t.tv_sec;
    return t.tv_sec;
}

clock_t clock(void)
{
    struct timespec t;
    return clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) ? -1 : t.tv_sec * CLOCKS_PER_SEC + t.tv_nsec / 1000;
}

int nanosleep(const struct timespec *duration, struct timespec *left)
{
    return checked(syscall2(SYS_nanosleep, (long)duration, (long)left));
}

int usleep(unsigned microseconds)
{
    struct timespec duration = { (time_t)(microseconds / 1000000), (long)(microseconds % 1000000) * 1000 };
    return nanosleep(&duration, NULL);
}

unsigned sleep(unsigned seconds)
{
    struct timespec duration = { (time_t)seconds, 0 };
    return nanosleep(&duration, &duration) ? (unsigned)duration.tv_sec : 0;
}

int setitimer(int which, const struct itimerval *restrict value, struct itimerval *restrict old)
{
    return checked(syscall3(SYS_setitimer, which, (long)value, (long)old));
}

int getitimer(int which, struct itimerval *value)
{
    return checked(syscall2(SYS_getitimer, which, (long)value));
}
