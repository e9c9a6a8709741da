/* A page's life in short: fork, copies on write, mremap of shared pages, areas that split and join, files, migration, exec, and pressure that swaps
 * `pages` pages out. Prints ok when every word read is the one written. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#define PAGE 4096
#define N 40
static void check(const char *p, int pages, int seed) {
    for (int i = 0; i < pages; i++)
        if (*(const int *)(p + i * PAGE) != seed + i) { printf("page %d holds %d, not %d\n", i, *(const int *)(p + i * PAGE), seed + i); exit(1); }
}
static void fill(char *p, int pages, int seed) { for (int i = 0; i < pages; i++) *(int *)(p + i * PAGE) = seed + i; }
static char *map(int pages) { return mmap(0, pages * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }
int main(int argc, char **argv) {
    int pages = argc > 1 ? atoi(argv[1]) : 400;
    char *a = map(N), *hog;
    fill(a, N, 1000);
    for (int round = 0; round < 2; round++) {
        int pid = fork();
        if (!pid) {
            check(a, N, 1000);
            fill(a, 3, 50);                         /* copies on write, one at a time */
            char *moved = mremap(a + 10 * PAGE, 10 * PAGE, 10 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, map(10));
            check(moved, 10, 1010);
            check(a, 3, 50);
            munmap(moved, 2 * PAGE);                /* few */
            fill(moved + 2 * PAGE, 8, 90);
            hog = map(pages);                         /* pressure: all of it goes to swap and comes back */
            fill(hog, pages, 7);
            check(hog, pages, 7);
            check(moved + 2 * PAGE, 8, 90);
            munmap(hog, pages * PAGE);                /* many */
            _exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
        if (status) { printf("status %x\n", status); return 1; }
        check(a, N, 1000);
    }
    mprotect(a + 8 * PAGE, 8 * PAGE, PROT_READ);    /* split, then one again */
    mprotect(a + 8 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE);
    fill(a, N, 2000);                               /* alone again */
    int fd = open("/tmp/file", O_RDWR | O_CREAT, 0600);
    ftruncate(fd, N * PAGE);
    char *f = mmap(0, N * PAGE, 3, MAP_SHARED, fd, 0), *g = mmap(0, N * PAGE, 3, MAP_PRIVATE, fd, 0);
    fill(f, N, 3000);
    check(g, N, 3000);
    fill(g, 5, 10);
    remap_file_pages(f, 4 * PAGE, 0, 8, 0);
    check(f, 4, 3008);
    void *page = a; int node = 0, where;
    syscall(SYS_move_pages, 0, 1UL, &page, &node, &where, 0);
    ftruncate(fd, 3 * PAGE);
    munmap(g, N * PAGE);
    check(a, N, 2000);
    if (argc > 2) execl(argv[0], argv[0], "20", (char *)0);
    puts("ok");
    return 0;
}
