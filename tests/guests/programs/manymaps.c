/* One page of a file under N mappings of a single process: manymaps N. They are written to, made clean (msync), and taken away from the oldest on:
   a scheme that keeps a list of mappings per page finds each of them at the list's far end. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096 };

int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 32000, bad = 0;
    int fd = open("/tmp/page", O_RDWR | O_CREAT, 0600);
    if (ftruncate(fd, PAGE)) return 2;
    char *base = (char *)0x20000000;
    for (int k = 0; k < n; k++)
        if (mmap(base + 2 * k * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) return 3;
    for (int k = 0; k < n; k++) {
        volatile int *word = (volatile int *)(base + 2 * k * PAGE);
        bad |= *word != k;
        *word = k + 1;
    }
    bad |= msync(base, PAGE, MS_SYNC) != 0;
    for (int k = 0; k < n; k++)
        bad |= munmap(base + 2 * k * PAGE, PAGE) != 0;
    puts(bad ? "bad" : "ok");
    return bad;
}
