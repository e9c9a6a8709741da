// Which pages of a tmpfs file are data to SEEK_DATA and SEEK_HOLE: what fallocate reserved is, once it is mapped or written.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096
#define KEEP_SIZE 1
#define PUNCH_HOLE 2

static int reserve(int fd, int mode, long page, long pages)
{
    return syscall(324, fd, mode, page * PAGE, 0, pages * PAGE, 0);
}

static void show(int fd, const char *when)
{
    printf("%s:", when);
    for (off_t at = 0; at <= 16 * PAGE; at += 2 * PAGE)
        printf(" %ld/%ld", (long)lseek(fd, at, SEEK_DATA), (long)lseek(fd, at, SEEK_HOLE));
    printf("\n");
}

int main(void)
{
    static char buffer[PAGE];
    int fd = syscall(356, "reserved", 0), holes = syscall(356, "holes", 0);
    show(fd, "empty");
    printf("%d\n", reserve(fd, 0, 0, 8));
    show(fd, "reserved");
    pwrite(fd, "a", 1, 3 * PAGE);
    show(fd, "one written");
    volatile char *p = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), seen = p[5 * PAGE];
    show(fd, "one mapped and read");
    p[6 * PAGE] = 1;
    show(fd, "one stored to");
    pread(fd, buffer, PAGE, 0);
    show(fd, "one read");
    printf("%d\n", reserve(fd, 0, 0, 8));
    show(fd, "reserved again");
    ftruncate(fd, 16 * PAGE);
    show(fd, "longer");
    printf("%d\n", reserve(fd, KEEP_SIZE, 16, 4));
    show(fd, "reserved beyond the end");
    printf("%d\n", reserve(fd, PUNCH_HOLE | KEEP_SIZE, 3, 1));
    show(fd, "punched");
    ftruncate(holes, 8 * PAGE);
    p = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, holes, 0);
    seen += p[2 * PAGE];
    pread(holes, buffer, PAGE, 4 * PAGE);
    show(holes, "holes mapped and read");
    return seen;
}
