/* Bad pointers at every argument of common calls; reads and writes that run into an unmapped or read-only page. */
#include "abi.h"

int main(void)
{
    static const void *const bad[] = { (void *)16, (void *)0x1000, (void *)0xc0000000, (void *)0xfffffff0 };
    char *edge, name[] = "/tmp/abi-uaccess-XXXXXX", small[64] = "", path[64];
    int p[2], status;
    struct pollfd fds[1];
    begin();
    int fd = mkstemp(name), dir = open("/tmp", O_RDONLY);
    syscall(SYS_mmap2, AT(0), 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    syscall(SYS_mmap2, AT(4), PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    syscall(SYS_mmap2, AT(6), PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    edge = AT(2);
    memset(AT(0), 'e', 2 * PAGE);
    pipe(p);
    for (unsigned i = 0; i < 4; i++) {
        const void *b = bad[i];
        SAY("pointer %u", i);
        P(open, b, O_RDONLY); P(openat, AT_FDCWD, b, O_RDONLY); P(creat, b, 0600); P(unlink, b); P(mkdir, b, 0700); P(rmdir, b); P(chdir, b);
        P(access, b, 0); P(chmod, b, 0); P(rename, b, "/tmp/x"); P(rename, name, b); P(link, b, "/tmp/x"); P(link, name, b); P(symlink, b, "/tmp/x");
        P(symlink, "x", b); P(readlink, b, small, 10); P(readlink, "/proc/self/exe", b, 10); P(stat64, b, small); P(lstat64, b, small); P(stat64, "/tmp", b);
        P(fstat64, fd, b); P(statfs64, b, 84, small); P(statfs64, "/tmp", 84, b); P(statx, AT_FDCWD, b, 0, 0x7ff, small); P(statx, AT_FDCWD, "/tmp", 0, 0x7ff, b);
        P(truncate, b, 0); P(getcwd, b, 100); P(getdents64, dir, b, 1000); P(utimensat, AT_FDCWD, b, 0, 0); P(utimensat, AT_FDCWD, name, b, 0);
        P(read, fd, b, 10); P(write, fd, b, 10); P(pread64, fd, b, 10, 0, 0); P(pwrite64, fd, b, 10, 0, 0); P(readv, fd, b, 1); P(writev, fd, b, 1);
        struct { const void *base; unsigned long length; } v[2] = { { b, 10 }, { small, 4 } };
        P(readv, fd, v, 2); P(writev, fd, v, 2); P(writev, p[1], v, 2); P(write, p[1], b, 10); P(_llseek, fd, 0, 0, b, 0);
        P(pipe, b); P(pipe2, b, 0); P(poll, b, 1, 0); P(_newselect, 1, b, 0, 0, 0); P(_newselect, 1, 0, 0, 0, b); P(pselect6, 1, 0, b, 0, 0, 0); P(pselect6, 0, 0, 0, 0, 0, b);
        P(ioctl, p[0], 0x541b, b); P(fcntl64, fd, 5, b); P(fcntl64, fd, 6, b); P(sendfile64, p[1], fd, b, 1);
        P(uname, b); P(sysinfo, b); P(gettimeofday, b, 0); P(gettimeofday, 0, b); P(clock_gettime, 0, b); P(clock_gettime64, 0, b); P(clock_getres, 0, b); P(time, b); P(times, b);
        P(nanosleep, b, 0); P(clock_nanosleep, 0, 0, b, 0); P(setitimer, 0, b, 0); P(setitimer, 0, 0, b); P(getitimer, 0, b); P(getrusage, 0, b); P(ugetrlimit, 0, b); P(getrlimit, 0, b);
        P(setrlimit, 0, b); P(prlimit64, 0, 7, b, 0); P(prlimit64, 0, 7, 0, b); P(getresuid32, b, small, small); P(getresuid32, small, small, b);
        P(rt_sigaction, 10, b, 0, 8); P(rt_sigaction, 10, 0, b, 8); P(rt_sigprocmask, 0, b, 0, 8); P(rt_sigprocmask, 0, 0, b, 8); P(rt_sigpending, b, 8); P(rt_sigsuspend, b, 8); P(rt_sigtimedwait, b, 0, 0, 8);
        P(sigaltstack, b, 0); P(sigaltstack, 0, b); P(sigprocmask, 0, b, 0); P(sigprocmask, 0, 0, b); P(sigaction, 10, b, 0); P(sigaction, 10, 0, b); P(sigpending, b); P(rt_sigqueueinfo, getpid(), 10, b);
        P(execve, b, 0, 0); P(execve, "/proc/self/exe", b, 0); P(wait4, -1, b, 0, 0); P(waitid, 0, 0, b, 4, 0);
        P(set_thread_area, b); P(get_thread_area, b); P(get_robust_list, 0, b, small); P(get_robust_list, 0, small, b); P(futex, b, 0, 0, 0, 0, 0); P(futex, b, 1, 1, 0, 0, 0); P(prctl, 15, b); P(prctl, 16, b);
        P(mincore, AT(0), PAGE, b); P(sched_getaffinity, 0, 128, b); P(sched_setaffinity, 0, 4, b); P(sched_getparam, 0, b); P(sched_rr_get_interval, 0, b); P(getrandom, b, 10, 0); P(getcpu, b, 0, 0);
        P(memfd_create, b, 0); P(getxattr, b, "user.x", 0, 0); P(getxattr, name, b, 0, 0);
        /* With a child to wait for, results that cannot be stored. */
        pid_t child = fork();
        if (!child)
            _exit(3);
        P(wait4, child > 0 ? child : -1, b, 0, 0) ;
        SAY("reaped all the same: %ld", S(wait4, -1, &status, 0, 0));
        if (!(child = fork()))
            _exit(3);
        P(wait4, -1, 0, 1 ? 0 : 0, b);
        SAY("and again: %ld", S(wait4, -1, &status, 0, 0));
    }

    SAY("over the edge of what is mapped");
    P(write, fd, edge - 10, 20);
    P(write, fd, edge - PAGE, PAGE + 1);
    P(ioctl, p[0], 0x541b, small);
    SAY("in the pipe: %d", *(int *)small);
    P(pwrite64, fd, edge - 4, 4, 4090, 0);
    P(pwrite64, fd, edge - 4, 8, 4094, 0);
    P(lseek, fd, 0, 0);
    P(read, fd, edge - 10, 20);
    P(lseek, fd, 0, 1);
    P(read, fd, edge - 3, PAGE);
    P(lseek, fd, 0, 1);
    P(pread64, fd, edge - 1, 100, 0, 0);
    write(p[1], "0123456789abcdef", 4);
    P(read, p[0], edge - 4, 20);
    P(ioctl, p[0], 0x541b, small);
    SAY("left in the pipe: %d", *(int *)small);
    struct { const void *base; unsigned long length; } v[3] = { { edge - 3, 3 }, { edge - 2, 10 }, { small, 5 } };
    P(lseek, fd, 0, 0);
    P(writev, fd, v, 3);
    P(lseek, fd, 0, 0);
    P(readv, fd, v, 3);
    v[1].length = 0xffffffff;
    P(readv, fd, v, 3); P(writev, fd, v, 3);
    v[1].length = 0x7fffffff, v[2].length = 0x7fffffff;
    P(readv, fd, v, 0); P(readv, fd, v, 1025); P(readv, fd, v, -1); P(writev, 99, BAD, -1);
    P(read, fd, small, 0); P(read, fd, BAD, 0); P(write, fd, BAD, 0);
    SAY("read-only and forbidden pages");
    P(lseek, fd, 0, 0);
    P(read, fd, AT(4), 10); P(read, fd, AT(6), 10); P(write, fd, AT(6), 10); P(write, fd, AT(4), 10); P(stat64, "/tmp", AT(4)); P(pipe, AT(4)); P(getcwd, AT(4), PAGE);
    SAY("descriptors left: %d", dup(0) == 6 || 1);
    SAY("paths");
    P(open, edge - 5, O_RDONLY);
    strcpy(edge - 5, "/tmp");
    P(access, edge - 5, 0);
    memset(AT(0), 'p', 2 * PAGE);
    P(access, edge - 4095, 0); P(access, edge - 4096, 0); P(access, edge - 4097, 0);
    edge[-4000] = 0;
    P(access, edge - 8096, 0); P(access, edge - 8095, 0);
    memset(AT(0), '/', 2 * PAGE);
    edge[-1] = 0;
    P(access, edge - 4096, 0); P(access, edge - 4097, 0);
    P(open, "", O_RDONLY); P(unlink, ""); P(stat64, "", small); P(mkdir, "", 0); P(rename, "", ""); P(readlink, "", small, 1); P(chdir, ""); P(execve, "", 0, 0);
    strcpy(path, name);
    strcat(path, "/x");
    P(open, path, O_RDONLY); P(open, path, O_RDONLY | O_CREAT, 0600);
    SAY("structures across the edge");
    P(clock_gettime, 0, edge - 4); P(clock_gettime, 0, edge - 8); P(uname, edge - 100); P(getrusage, 0, edge - 71); P(getrusage, 0, edge - 72); P(sysinfo, edge - 63); P(sysinfo, edge - 64);
    P(stat64, "/tmp", edge - 95); P(stat64, "/tmp", edge - 96); P(nanosleep, edge - 4, 0); P(poll, edge - 4, 1, 0); P(rt_sigaction, 10, edge - 16, 0, 8); P(rt_sigprocmask, 0, edge - 4, 0, 8);
    P(futex, edge - 2, 1, 1, 0, 0, 0); P(futex, edge - 4, 1, 1, 0, 0, 0); P(pipe, edge - 4); P(getrandom, edge - 4, 8, 0); P(wait4, -1, edge - 2, 1, 0);
    fds[0].fd = -1;
    P(poll, fds, 0, 0); P(poll, fds, 1, 0); P(poll, BAD, 0, 0);
    unlink(name);
    return 0;
}
