/* Seals of a memfd against shared mappings: new ones, earlier ones, and what may become writable by mprotect. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
enum { SHRINK = 2, GROW = 4, WRITE = 8, FUTURE = 16, ADD = 1033, GET = 1034 };
static const char *e(long r) { return r == -1 ? strerror(errno) : "ok"; }
static void *map(int fd, int prot, int flags) { return mmap(0, 4096, prot, flags, fd, 0); }
static long fallocate(int fd, int mode, int at, int length) { return syscall(324, fd, mode, at, 0, length, 0); }
static int file(void) { int fd = syscall(356, "f", 2); ftruncate(fd, 8192); return fd; }
#define SAY(what) printf("%s: %s\n", #what, e((long)(what)))
int main(void) {
    int fd = file(), ro;
    char *writable, *readable, *copy, path[40];
    writable = map(fd, 3, MAP_SHARED);
    SAY(fcntl(fd, ADD, WRITE));
    SAY(mprotect(writable, 4096, 1));
    SAY(fcntl(fd, ADD, WRITE));
    SAY(munmap(writable, 4096));
    readable = map(fd, 1, MAP_SHARED);
    SAY(fcntl(fd, ADD, WRITE));
    munmap(readable, 4096);
    copy = map(fd, 3, MAP_PRIVATE);
    SAY(fcntl(fd, ADD, WRITE));
    SAY(map(fd, 3, MAP_SHARED));
    SAY(map(fd, 2, MAP_SHARED));
    SAY(readable = map(fd, 1, MAP_SHARED));
    SAY(mprotect(readable, 4096, 3));
    SAY(mprotect(readable, 4096, 5));
    SAY(mprotect(copy, 4096, 3)); copy[0] = 1;
    SAY(map(fd, 3, MAP_PRIVATE));
    SAY(write(fd, "x", 1));
    SAY(fallocate(fd, 3, 0, 4096));
    SAY(madvise(readable, 4096, MADV_REMOVE));

    fd = file(); puts("future");
    writable = map(fd, 3, MAP_SHARED);
    char *earlier = map(fd, 1, MAP_SHARED);
    SAY(fcntl(fd, ADD, FUTURE)); printf("seals %x\n", fcntl(fd, GET, 0));
    writable[0] = 7;
    SAY(mprotect(earlier, 4096, 3));
    SAY(map(fd, 3, MAP_SHARED));
    SAY(readable = map(fd, 1, MAP_SHARED));
    printf("%d\n", readable[0]);
    SAY(mprotect(readable, 4096, 3));
    SAY(mremap(readable, 4096, 8192, 1));
    SAY(write(fd, "x", 1)); SAY(pwrite(fd, "x", 1, 0));
    SAY(fallocate(fd, 3, 0, 4096));
    SAY(madvise(writable, 4096, MADV_REMOVE));
    SAY(fcntl(fd, ADD, WRITE));
    munmap(writable, 4096); munmap(earlier, 4096);
    SAY(fcntl(fd, ADD, WRITE)); printf("seals %x\n", fcntl(fd, GET, 0));
    SAY(fcntl(fd, ADD, 0x4000));
    snprintf(path, 40, "/proc/self/fd/%d", fd);
    SAY(ro = open(path, 0)); SAY(map(ro, 1, MAP_SHARED)); SAY(map(ro, 3, MAP_SHARED)); SAY(fcntl(ro, ADD, 0x4000)); SAY(fcntl(ro, ADD, GROW));

    fd = file(); puts("size");
    fcntl(fd, ADD, GROW | SHRINK);
    SAY(fallocate(fd, 1, 8192, 4096)); SAY(fallocate(fd, 0, 4096, 4096)); SAY(ftruncate(fd, 4096)); SAY(pwrite(fd, "xy", 2, 8191)); SAY(fallocate(fd, 3, 4096, 8192));
    return 0;
}
