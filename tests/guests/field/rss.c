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
enum { HWM = 3, ROWS = sizeof names / sizeof *names };
static long was[ROWS + 2], now[ROWS + 2];
static char buf[8192];
static void get(long *to) {
    int fd = open("/proc/self/status", O_RDONLY), n = read(fd, buf, sizeof buf - 1);
    close(fd); buf[n] = 0;
    for (int i = 0; i < ROWS; i++) { char *at = strstr(buf, names[i]); to[i] = at ? atol(at + strlen(names[i])) : -1; }
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
    if (argc > 1) for (int i = 0; i < 64 * P; i++) filler[i] = 1;
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
    start(); deep(120); get(now); printf("stack: VmStk %s, RssAnon %s\n", now[9] - was[9] >= 300 ? "grew" : "stayed", now[5] - was[5] >= 400 ? "grew" : "stayed");
    return 0;
}
