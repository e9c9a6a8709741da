/* mremap that shrinks: over several areas and gaps, in place and to a fixed place. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#define P 4096
static char *base;
static void lay(void) { /* rw 0-3, hole 4, r 5-6, hole 7, rw 8-9 */
    mmap(base, 64 * P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    munmap(base, 64 * P);
    mmap(base, 4 * P, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mmap(base + 5 * P, 2 * P, 1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mmap(base + 8 * P, 2 * P, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}
static void try(int from, int old, int new, int flags, int to) {
    lay();
    char *r = mremap(base + from * P, old * P, new * P, flags, base + to * P);
    printf("%d+%d -> %d, flags %d, to %d: ", from, old, new, flags, to);
    if (r == MAP_FAILED) printf("%s;", strerror(errno)); else printf("%d;", (int)(r - base) / P);
    for (int i = 0; i < 48; i++) { unsigned char v; putchar(mincore(base + i * P, P, &v) ? '.' : 'm'); }
    puts("");
}
int main(void) {
    base = mmap(0, 64 * P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static const int range[][3] = {{0, 4, 2}, {0, 5, 2}, {0, 7, 2}, {0, 10, 2}, {0, 10, 4}, {0, 10, 5}, {0, 10, 6}, {0, 10, 9}, {2, 8, 1}, {4, 6, 2}, {5, 5, 1}, {9, 3, 1}, {20, 4, 2}};
    for (int flags = 0; flags < 4; flags += flags == 1 ? 2 : 1)
        for (unsigned i = 0; i < sizeof range / sizeof *range; i++) try(range[i][0], range[i][1], range[i][2], flags, 30);
    return 0;
}
