/* Raw system calls and one line of output for each: "text = result". */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long sys6(long n, long a, long b, long c, long d, long e, long f)
{
    long r;
    __asm__ volatile("pushl %[f]\n\tpushl %%ebp\n\tmovl 4(%%esp), %%ebp\n\tint $0x80\n\tpopl %%ebp\n\taddl $4, %%esp"
                     : "=a"(r) : "0"(n), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), [f] "m"(f) : "memory", "cc");
    return r;
}
#define S(n, ...) S_(n, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define S_(n, a, b, c, d, e, f, ...) sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
/* Prints what a call answered. */
#define P(n, ...) (printf("%d: %s(%s) = %ld\n", __LINE__, #n, #__VA_ARGS__, last = S(n, ##__VA_ARGS__)), last)
static long last;
enum { rd_ = 3, wr_ = 4, open_ = 5, close_ = 6, creat_ = 8, link_ = 9, unlink_ = 10, chdir_ = 12, mknod_ = 14, chmod_ = 15, lseek_ = 19,
       utime_ = 30, access_ = 33, sync_ = 36, rename_ = 38, mkdir_ = 39, rmdir_ = 40, dup_ = 41, pipe_ = 42, ioctl_ = 54, fcntl_ = 55,
       umask_ = 60, dup2_ = 63, symlink_ = 83, readlink_ = 85, readdir_ = 89, truncate_ = 92, ftruncate_ = 93, fchmod_ = 94, statfs_ = 99,
       stat_ = 106, lstat_ = 107, fstat_ = 108, fsync_ = 118, fchdir_ = 133, llseek_ = 140, getdents_ = 141, select_ = 142, flock_ = 143,
       readv_ = 145, writev_ = 146, fdatasync_ = 148, poll_ = 168, pread_ = 180, pwrite_ = 181, getcwd_ = 183, sendfile_ = 187,
       truncate64_ = 193, ftruncate64_ = 194, stat64_ = 195, lstat64_ = 196, fstat64_ = 197, lchown32_ = 198, fchown32_ = 207, chown32_ = 212,
       getdents64_ = 220, fcntl64_ = 221, sendfile64_ = 239, fadvise_ = 272, statfs64_ = 268, fstatfs64_ = 269, utimes_ = 271, openat_ = 295,
       mkdirat_ = 296, mknodat_ = 297, fchownat_ = 298, fstatat64_ = 300, unlinkat_ = 301, renameat_ = 302, linkat_ = 303, symlinkat_ = 304,
       readlinkat_ = 305, fchmodat_ = 306, faccessat_ = 307, pselect_ = 308, ppoll_ = 309, utimensat_ = 320, fallocate_ = 324, dup3_ = 330,
       pipe2_ = 331, preadv_ = 333, pwritev_ = 334, renameat2_ = 353, memfd_ = 356, preadv2_ = 378, pwritev2_ = 379, statx_ = 383,
       utimensat64_ = 412, close_range_ = 436, faccessat2_ = 439, fork_ = 2, waitpid_ = 7, exit_ = 1, kill_ = 37, getpid_ = 20, alarm_ = 27,
       nanosleep_ = 162, mmap2_ = 192, munmap_ = 91 };
#define CWD -100
#define BAD ((void *)0x1000)
struct iov { const void *base; unsigned len; };
struct ts { long sec, nsec; };
