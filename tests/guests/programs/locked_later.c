/* What locks memory that is to come, and whether it comes in at once: by mremap, mmap, brk, a growing area, mprotect; on fault and not. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#define P 4096
static int in(char *p, int n) { unsigned char v[64]; int k = 0; mincore(p, n * P, v); for (int i = 0; i < n; i++) k += v[i] & 1; return k; }
static char *map(int n, int flags) { return mmap(0, n * P, 3, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0); }
static void grow(char *name, int flags) {
    char *m = map(4, 0), *far = map(64, 0);
    syscall(376, m, 4 * P, flags);
    printf("%s: locked %d", name, in(m, 4));
    m = mremap(m, 4 * P, 8 * P, MREMAP_MAYMOVE); printf(", grown %d", in(m, 8));
    m = mremap(m, 8 * P, 12 * P, MREMAP_MAYMOVE | MREMAP_FIXED, far); printf(", moved %d", in(m, 12));
    mprotect(m, 12 * P, 1); mprotect(m, 12 * P, 3); printf(", protected %d\n", in(m, 12));
    munmap(m, 64 * P);
}
static void later(char *name, int flags, unsigned long at) {
    mlockall(flags);
    char *m = map(8, 0); printf("%s: mmap %d", name, in(m, 8));
    m = mremap(m, 8 * P, 12 * P, MREMAP_MAYMOVE); printf(", grown %d", in(m, 12)); munmap(m, 12 * P);
    m = map(8, MAP_POPULATE); printf(", populate %d", in(m, 8)); munmap(m, 8 * P);
    m = map(8, MAP_LOCKED); printf(", MAP_LOCKED %d", in(m, 8)); munmap(m, 8 * P);
    char *b = (char *)(((unsigned long)sbrk(0) + P - 1) & -P); brk(b + 8 * P); printf(", brk %d", in(b, 8));
    char *g = mmap((void *)at, 2 * P, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
    g[-6 * P] = 1; printf(", growing down %d", in(g - 6 * P, 8));
    munlockall(); m = map(8, 0); printf(", afterwards %d\n", in(m, 8));
}
int main(void) {
    grow("mlock", 0); grow("on fault", 1);
    later("future", 2, 0x50000000); later("future on fault", 2 | 4, 0x51000000);
    return 0;
}
