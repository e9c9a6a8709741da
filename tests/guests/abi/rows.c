/* Every call that real programs need most, once at least, with a plain question each: files, directories, identity, times. */
#include "abi.h"

static void stats(const char *path)
{
    struct stat s;
    long r = answer(lstat(path, &s));
    printf("%s: %ld", path, r);
    if (!r)
        printf(" mode %o links %d size %lld blocks %lld rdev %llx", s.st_mode, S_ISDIR(s.st_mode) ? -1 : (int)s.st_nlink, S_ISDIR(s.st_mode) ? 0 : s.st_size, S_ISREG(s.st_mode) ? s.st_blocks : -1, S_ISCHR(s.st_mode) ? s.st_rdev : 0);
    printf("\n");
}
static int by_name(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }
static void list(const char *path)
{
    static char buffer[8192];
    char *names[100];
    int n = 0, fd = open(path, O_RDONLY | O_DIRECTORY), size, total = 0;
    while ((size = syscall(SYS_getdents64, fd, buffer + total, 200)) > 0) {
        for (int at = total; at < total + size;) {
            unsigned char *d = (unsigned char *)buffer + at;
            names[n++] = (char *)d + 19;
            at += d[16] | d[17] << 8;
        }
        total += size;
    }
    qsort(names, n, sizeof *names, by_name);
    printf("entries %ld:", size < 0 ? -(long)errno : 0);
    for (int i = 0; i < n; i++)
        printf(" %s", names[i]);
    printf("\n");
    close(fd);
}

int main(void)
{
    char b[4096], c[4096] = "", words[512];
    struct { const void *base; unsigned long length; } v[3] = { { "one", 3 }, { "", 0 }, { "three", 5 } }, w[2] = { { b, 2 }, { b + 100, 100 } };
    struct timespec t[2] = { { 1000000000, 5 }, { 1000000001, 6 } };
    long long big;
    begin();
    umask(022);

    P(mkdir, "/tmp/abi-rows", 0755); P(mkdir, "/tmp/abi-rows", 0755); P(chdir, "/tmp/abi-rows"); P(getcwd, b, 4096); P(getcwd, b, 5); P(mkdirat, AT_FDCWD, "d", 0700);
    SAY("%s", b);
    int fd = P(open, "f", O_RDWR | O_CREAT | O_EXCL, 0666);
    P(open, "f", O_RDWR | O_CREAT | O_EXCL, 0666); P(open, "d", O_RDWR); P(open, "d", O_RDONLY | O_CREAT, 0); P(open, "f", O_DIRECTORY); P(open, "none", O_RDONLY); P(open, "f/x", O_RDONLY); P(open, "f/", O_RDONLY); P(open, "d/new/", O_CREAT | O_RDWR, 0600); P(open, "none/x", O_CREAT, 0600); P(open, "f", 3);
    P(write, fd, "hello world", 11); P(writev, fd, v, 3); P(lseek, fd, 0, 0); P(readv, fd, w, 2); P(lseek, fd, -1, 0); P(lseek, fd, 0, 9); P(lseek, fd, 100, 2); P(write, fd, "x", 1); P(_llseek, fd, 1, 0, &big, 0); lseek(fd, 302, 0);
    SAY("%lld", big);
    P(pread64, fd, b, 10, 6, 0); P(pwrite64, fd, "PW", 2, 300, 0); P(pread64, fd, b, 10, -1, -1); P(pwrite64, fd, b, 1, 0, 0x80000000); P(ftruncate, fd, 50); P(ftruncate64, fd, 60, 0); P(ftruncate64, fd, 0, 0x80000000); P(truncate, "f", 55); P(truncate, "d", 0); P(truncate64, "none", 0, 0);
    stats("f");
    P(fallocate, fd, 0, 0, 0, 9000, 0); stats("f"); P(fallocate, fd, 1, 0, 0, 20000, 0); P(fallocate, fd, 3, 0, 0, 4096, 0); P(fallocate, fd, 2, 0, 0, 10, 0); P(fallocate, fd, 0, 0, 0, 0, 0); P(fallocate, fd, 0, -1, -1, 5, 0); P(fadvise64_64, fd, 0, 0, 0, 0, 0); P(fadvise64_64, fd, 0, 0, 0, 0, 99); P(fsync, fd); P(fdatasync, fd); P(sync);
    P(chmod, "f", 0640); P(fchmod, fd, 04755); stats("f"); P(chmod, "none", 0); P(chown32, "f", -1, -1); P(fchown32, fd, -1, -1); P(lchown32, "none", 0, 0); P(access, "f", 0); P(access, "f", 8); P(access, "none", 0); P(faccessat, AT_FDCWD, "f", 4);
    P(link, "f", "f2"); P(link, "f", "f2"); P(link, "d", "d2"); P(symlink, "f", "s"); P(symlink, "nowhere", "dangling"); P(symlink, "s", "s"); P(readlink, "s", c, 4096); P(readlink, "f", c, 10); P(readlink, "s", c, 0); P(open, "dangling", O_RDONLY); P(open, "s", O_RDONLY | O_NOFOLLOW); P(open, "dangling", O_CREAT | O_EXCL, 0600);
    stats("f"), stats("s"), stats("d"), stats("dangling");
    P(symlink, "loop2", "loop1"); P(symlink, "loop1", "loop2"); P(open, "loop1", O_RDONLY); P(stat64, "loop1", words); P(lstat64, "loop1", words);
    P(rename, "f2", "f3"); P(rename, "none", "x"); P(rename, "d", "f"); P(rename, "f", "d"); P(rename, "d", "d/sub"); P(rename, "f", "f"); P(rename, "f3", "f"); P(renameat2, AT_FDCWD, "f", AT_FDCWD, "s", 1); P(renameat2, AT_FDCWD, "f", AT_FDCWD, "s", 2); P(renameat2, AT_FDCWD, "f", AT_FDCWD, "s", 2); P(renameat2, AT_FDCWD, "f", AT_FDCWD, "s", 9);
    list(".");
    P(unlink, "none"); P(unlink, "d"); P(rmdir, "f"); P(rmdir, "none"); P(rmdir, "."); P(rmdir, "d/.."); P(unlinkat, AT_FDCWD, "f3", 0); P(unlinkat, AT_FDCWD, "d", 0); P(unlinkat, AT_FDCWD, "d", 1); P(unlinkat, AT_FDCWD, "d", 0x200);
    P(mknod, "fifo", 0010600, 0); P(mknod, "reg", 0100600, 0); P(mknod, "reg", 0100600, 0); P(mknod, "dir", 0040700, 0); stats("fifo"); P(open, "fifo", O_WRONLY | O_NONBLOCK); int fifo = P(open, "fifo", O_RDONLY | O_NONBLOCK) ; P(read, fifo, b, 1); P(close, fifo);
    P(unlink, "f"); stats("f"); P(fstat64, fd, words); P(write, fd, "gone", 4); P(lseek, fd, 0, 0);
    int d = P(open, ".", O_RDONLY | O_DIRECTORY); P(read, d, b, 10); P(write, d, b, 1); P(getdents64, d, b, 10); P(getdents64, fd, b, 100); P(openat, d, "s", O_RDONLY); P(openat, fd, "s", O_RDONLY); P(openat, 99, "s", O_RDONLY); P(openat, 99, "/", O_RDONLY); P(fchdir, d); P(fchdir, fd); P(lseek, d, 0, 0);
    P(utimensat, AT_FDCWD, "s", t, 0); P(utimensat, AT_FDCWD, "s", t, 0x100); P(utimensat, AT_FDCWD, "reg", t, 0); struct stat st; lstat("reg", &st); SAY("times %ld %ld %ld %ld", st.st_atim.tv_sec, st.st_atim.tv_nsec, st.st_mtim.tv_sec, st.st_mtim.tv_nsec); t[0].tv_nsec = 0x3ffffffe; P(utimensat, AT_FDCWD, "reg", t, 0); t[1].tv_nsec = 1000000000; P(utimensat, AT_FDCWD, "reg", t, 0); lstat("reg", &st); SAY("times %ld %ld", st.st_atim.tv_sec, st.st_mtim.tv_sec); P(utimensat, AT_FDCWD, NULL, t, 0);
    P(statx, AT_FDCWD, "reg", 0, 0x7ff, words); SAY("statx %o %u", ((unsigned short *)words)[14], ((unsigned *)words)[10]); P(statx, AT_FDCWD, "reg", 0x8000, 0x7ff, words); P(statx, AT_FDCWD, "reg", 0, 0x80000000, words); P(statx, fd, "", 0x1000, 0x7ff, words); P(statx, fd, "", 0, 0x7ff, words); P(fstatat64, AT_FDCWD, "reg", words, 0x1); P(statfs64, "/tmp", 84, words); P(statfs64, "/tmp", 80, words); P(statfs64, "/none", 84, words); P(fstatfs64, fd, 84, words);
    /* Descriptors. */
    int e = P(dup, fd); P(fcntl64, e, F_GETFL, 0); P(fcntl64, e, F_SETFL, O_APPEND | O_NONBLOCK); P(fcntl64, fd, F_GETFL, 0); P(write, fd, "end", 3); P(lseek, e, 0, 1); P(fcntl64, e, F_SETFD, 1); P(fcntl64, e, F_GETFD, 0); P(fcntl64, fd, F_GETFD, 0); P(fcntl64, fd, F_DUPFD, 30); P(fcntl64, fd, F_DUPFD_CLOEXEC, 30); P(fcntl64, 31, F_GETFD, 0); P(fcntl64, fd, 9999, 0); P(fcntl64, fd, F_GETPIPE_SZ, 0); P(dup3, fd, 40, O_CLOEXEC); P(dup2, fd, 41); P(close_range, 30, 50, 0); P(fcntl64, 41, F_GETFD, 0); P(close, e); P(close, e);
    P(flock, fd, 2); int g = open("reg", O_RDWR), h = open("reg", O_RDWR); P(flock, g, 2); P(flock, h, 2 | 4); P(flock, h, 1 | 4); P(flock, g, 1); P(flock, h, 1 | 4); P(flock, g, 8); P(flock, g, 3); P(flock, 99, 2);
    struct { short type, whence; long start, length; int pid; } lock = { 1, 0, 10, 10, 0 }; P(fcntl64, g, 6, &lock); if (!fork()) { P(fcntl64, g, 6, &lock); lock.start = 15; P(fcntl64, g, 5, &lock); SAY("lock %d %ld %ld %d", lock.type, lock.start, lock.length, lock.pid == getppid()); lock.type = 1, lock.start = 0; P(fcntl64, g, 6, &lock); _exit(0); } wait(NULL); lock.type = 2; P(fcntl64, g, 6, &lock); lock.type = 9; P(fcntl64, g, 6, &lock);
    P(sendfile64, g, fd, NULL, 100); int p[2]; pipe(p); P(lseek, fd, 0, 0); P(sendfile64, p[1], fd, NULL, 20); P(read, p[0], b, 100); P(sendfile64, p[1], p[0], NULL, 1); P(ioctl, fd, 0x5401, b); P(ioctl, p[0], 0x5401, b); P(ioctl, 99, 0x5401, b); P(ioctl, p[0], 0x541b, words); P(ioctl, p[0], 0x5421, &last); OK(memfd_create, "m", 0); P(memfd_create, "m", 0x80);
    P(preadv, fd, w, 2, 3, 0); P(pwritev, fd, v, 3, 7, 0); P(preadv2, fd, w, 2, -1, -1, 0);
    /* Identity, times, the rest. */
    OK(getpid); OK(getppid); OK(gettid); OK(getuid32); OK(geteuid32); OK(getgid32); OK(getegid32); OK(getresuid32, words, words + 4, words + 8); OK(getpgid, 0); OK(getsid, 0); OK(getpgrp); P(uname, b); P(getgroups32, -1, b); OK(sysinfo, words); OK(time, NULL); OK(times, NULL); OK(times, words); P(gettimeofday, words, words + 8); P(clock_gettime, 0, words); P(clock_gettime, 1, words); P(clock_gettime, 99, words); P(clock_gettime64, 1, words); P(clock_getres, 1, words);
    t[0].tv_sec = 0, t[0].tv_nsec = 1000; P(nanosleep, t, NULL); P(clock_nanosleep, 1, 0, t, NULL); P(clock_nanosleep, 1, 1, t, NULL); P(clock_nanosleep, 3, 0, t, NULL); P(clock_nanosleep, 99, 0, t, NULL); t[0].tv_nsec = 1000000000; P(nanosleep, t, NULL); t[0].tv_nsec = -1; P(nanosleep, t, NULL); t[0].tv_nsec = 0, t[0].tv_sec = -1; P(nanosleep, t, NULL);
    P(getrusage, 0, words); P(getrusage, -1, words); P(getrusage, 1, words); P(getrusage, 5, words); P(ugetrlimit, 7, words); P(prlimit64, 0, 3, NULL, words); P(sched_yield); long cpus = S(sched_getaffinity, 0, 512, words); SAY("affinity %d", cpus > 0 && cpus % 4 == 0); P(sched_getaffinity, 0, 3, words); P(getcpu, words, NULL, NULL); P(prctl, 3, 0); P(prctl, 4, 1); P(prctl, 4, 7); P(getpriority, 0, 0); P(madvise, 0, 0, 0); P(set_robust_list, words, 12); P(ugetrlimit, 7, words); P(restart_syscall); P(getrandom, b, 16, 0);
    P(socketcall, 99, words); P(alarm, 0); P(umask, 022);
    chdir("/tmp");
    char *left[] = { "s", "f", "dangling", "loop1", "loop2", "fifo", "reg", "f2", "f3" };
    for (int i = 0; i < 9; i++) { strcpy(b, "/tmp/abi-rows/"), strcat(b, left[i]); unlink(b); }
    rmdir("/tmp/abi-rows/dir"), rmdir("/tmp/abi-rows/d");
    list("/tmp/abi-rows");
    P(rmdir, "/tmp/abi-rows");
    return 0;
}
