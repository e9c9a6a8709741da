/* A seeded random walk over the system calls on address spaces: prints every result, and /proc/self/maps at the end.
 *
 *   areas_walk top                  where the first mapping goes
 *   areas_walk SEED STEPS FILLER    FILLER pages at the top of the mmap area stand for the vdso that the other side has
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096u
#define ARENA 0x20000000u
#define SPAN 512u
#define FILE_PAGES 96u

static unsigned state;

static unsigned next(unsigned n)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % n;
}

static void show(const char *what, void *result)
{
    if (result == MAP_FAILED)
        printf("%s: errno %d\n", what, errno);
    else
        printf("%s: %08x\n", what, (unsigned)result);
}

static void show_int(const char *what, int result)
{
    if (result == -1)
        printf("%s: errno %d\n", what, errno);
    else
        printf("%s: %d\n", what, result);
}

static void print_maps(void)
{
    static char buffer[4096];
    int fd = open("/proc/self/maps", O_RDONLY);
    int n;

    fflush(stdout);
    while ((n = read(fd, buffer, sizeof buffer)) > 0)
        write(1, buffer, n);
    close(fd);
}

int main(int argc, char **argv)
{
    static const int prots[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC};
    static const int advice[] = {MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_DONTNEED, MADV_WILLNEED, 10, 11, 16, 17, 18, 19};
    char *brk0 = sbrk(0);
    unsigned steps, i;
    int fd;

    if (argc == 2) {
        printf("%08x\n", (unsigned)mmap(0, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + PAGE);
        return 0;
    }
    if (argc != 4)
        return 2;
    state = (unsigned)strtoul(argv[1], 0, 0);
    steps = (unsigned)strtoul(argv[2], 0, 0);
    if (atoi(argv[3]))
        mmap(0, (unsigned)atoi(argv[3]) * PAGE, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fd = open("/tmp/areas_walk.data", O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || ftruncate(fd, FILE_PAGES * PAGE))
        return 1;
    unlink("/tmp/areas_walk.data");
    for (i = 0; i < steps; i++) {
        unsigned page = next(SPAN), pages = next(8) ? 1 + next(24) : 1 + next(200), other = next(SPAN), more = 1 + next(40);
        char *at = (char *)(ARENA + page * PAGE), *to = (char *)(ARENA + other * PAGE);
        unsigned length = pages * PAGE;
        int prot = prots[next(5)];
        int fixed = next(4) ? MAP_FIXED : 0;

        switch (next(20)) {
        case 0: case 1: case 2: case 3:
            show("anonymous", mmap(at, length, prot, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0));
            break;
        case 4:
            show("shared", mmap(at, length, prot, MAP_SHARED | MAP_ANONYMOUS | fixed, -1, 0));
            break;
        case 5: case 6:
            show("file shared", mmap(at, length, prot, MAP_SHARED | fixed, fd, other % 64 * PAGE));
            break;
        case 7: case 8:
            show("file private", mmap(at, length, prot, MAP_PRIVATE | fixed, fd, other % 64 * PAGE));
            break;
        case 9: case 10:
            show_int("munmap", munmap(at, length));
            break;
        case 11: case 12: case 13:
            show_int("mprotect", mprotect(at, length, prot));
            break;
        case 14:
            show("mremap to", mremap(at, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to + (next(2) ? 0x1000000 : 0)));
            break;
        case 15:
            show("mremap", mremap(at, length, more * PAGE, next(2) ? MREMAP_MAYMOVE : 0));
            break;
        case 16:
            show_int("madvise", madvise(at, length, advice[next(11)]));
            break;
        case 17:
            if (next(2))
                show_int("mlock", mlock(at, length % (4 * PAGE)));
            else
                show_int("munlock", munlock(at, length));
            break;
        case 18:
            show_int("brk", brk(brk0 + next(40) * 1000));
            break;
        case 19:
            show("anywhere", mmap(0, (1 + pages % 16) * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | (next(8) ? 0 : MAP_NORESERVE), -1, 0));
            break;
        }
        /* Pages come in only where they can: the byte is read by the kernel, which answers EFAULT where the program would crash. */
        if (!next(3)) {
            static int pipes[2];
            char byte;

            if (!pipes[0])
                pipe(pipes);
            if (next(2)) {
                if (write(pipes[1], at, 1) == 1)
                    read(pipes[0], &byte, 1);
            } else {
                write(pipes[1], "x", 1);
                if (read(pipes[0], at, 1) != 1)
                    read(pipes[0], &byte, 1);
            }
        }
    }
    print_maps();
    return 0;
}
