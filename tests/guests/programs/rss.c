/* What /proc/self/status, statm and getrusage say of memory, as differences: by kind of page, after fork, copies, unmapping, growing. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#define P 4096
#define N 400
#define F 200
static const char *names[] = {"VmPeak:", "VmSize:", "VmLck:", "VmHWM:", "VmRSS:", "RssAnon:", "RssFile:", "RssShmem:", "VmData:", "VmStk:", "VmLib:", "VmSwap:"};
enum { HWM = 3, SWAP = 11, ROWS = sizeof names / sizeof *names };
static long was[ROWS + 2], now[ROWS + 2];
static char buf[8192], buf_status[8192];
static void get(long *to) {
    int fd = open("/proc/self/status", O_RDONLY), n = read(fd, buf, sizeof buf - 1);
    close(fd); buf[n] = 0;
    for (int i = 0; i < ROWS; i++) { char *at = strstr(buf, names[i]); to[i] = at ? atol(at + strlen(names[i])) : -1; }
    strcpy(buf_status, buf);
    fd = open("/proc/self/statm", O_RDONLY); n = read(fd, buf, sizeof buf - 1); close(fd); buf[n] = 0;
    to[HWM] = (to[HWM] + 400) / 800 * 800; /* native Linux keeps it but roughly */
    char *at = buf; strtol(at, &at, 10); to[ROWS] = strtol(at, &at, 10) * 4; to[ROWS + 1] = strtol(at, &at, 10) * 4;
}
static void start(void) { get(was); }
static void say(const char *what) {
    get(now); printf("%s:", what);
    for (int i = 0; i < ROWS + 2; i++) if (now[i] != was[i]) printf(" %s %+ld", i < ROWS ? names[i] : i == ROWS ? "resident" : "shared", now[i] - was[i]);
    puts(""); fflush(stdout); start();
}
static void touch(char *p, int n, int write) { for (int i = 0; i < n; i++) { if (write) p[i * P] = 1; else (void)*(volatile char *)(p + i * P); } }
static int deep(int n) { volatile char page[P]; page[0] = n; return n ? deep(n - 1) + page[0] : 0; }
int main(int argc, char **argv) {
    static char filler[64 * P];
    if (argc > 1) { /* more than there is room for */
        start(); char *many = mmap(0, 2000 * P, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); touch(many, 2000, 1); get(now);
        printf("%ld resident or in swap, %ld in swap, highest %s\n", now[5] - was[5] + now[SWAP] - was[SWAP], now[SWAP], now[HWM] >= now[4] ? "right" : "wrong");
        munmap(many, 2000 * P); get(now); printf("then %ld in swap\n", now[SWAP] > 400 ? now[SWAP] : 0); return 0;
    }
    int fd = syscall(356, "f", 0);
    for (int i = 0; i < F; i++) write(fd, filler, P);
    get(was); get(now); say("nothing"); start(); say("nothing");
    char *a = mmap(0, N * P, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); say("map");
    touch(a, N, 0); say("zero pages"); touch(a, N, 1); say("anonymous");
    char *s = mmap(0, N * P, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0); say("map shared"); touch(s, N, 1); say("shared");
    char *f = mmap(0, F * P, 3, MAP_PRIVATE, fd, 0); for (int i = 0; i < F; i++) (void)*(volatile char *)(f + i * P); say("private of tmpfs, read");
    touch(f, 100, 1); say("private of tmpfs, written");
    int status; pid_t pid = fork();
    if (!pid) { get(was); touch(a, 50, 1); touch(f + 100 * P, 10, 1); say("child wrote"); munmap(a, N * P); say("child unmapped"); madvise(f, 108 * P, MADV_DONTNEED); say("child dropped"); _exit(0); }
    waitpid(pid, &status, 0); start(); touch(a, N, 1); say("parent wrote");
    char *m = mremap(a, N * P, 2 * N * P, 1 | 2, 0x50000000); say("moved, grown"); touch(m, 2 * N, 1); say("touched");
    munmap(m, 2 * N * P); say("unmapped"); munmap(s, N * P); say("unmapped shared"); munmap(f, F * P); say("unmapped private");
    mlock(filler, 8 * P); start(); munlock(filler, 8 * P); say("munlock");
    void *heap = sbrk(0); brk((char *)heap + 40 * P); say("brk"); brk(heap); say("brk back");
    char *far = mmap((void *)0x60000000, 20 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); far[0] = 1; get(was);
    long tables = atol(strstr(buf_status, "VmPTE:") + 6); for (int i = 1; i < 10; i++) far[i << 21] = 1;
    get(was); printf("VmPTE: %+ld\n", atol(strstr(buf_status, "VmPTE:") + 6) - tables);
    start(); deep(120); get(now); printf("stack: VmStk %s, RssAnon %s\n", now[9] - was[9] >= 300 ? "grew" : "stayed", now[5] - was[5] >= 400 ? "grew" : "stayed");
    return 0;
}
