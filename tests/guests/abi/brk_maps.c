/* brk, and /proc/self/maps after a sequence of operations: areas joined where permissions, file and contiguous offset agree. */
#include "abi.h"

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

static char *heap0;

/* The current break, from its start, rounded as it is. */
static long at_break(void) { return (char *)syscall(SYS_brk, 0) - heap0; }
static long set(long offset) { return (char *)syscall(SYS_brk, heap0 + offset) - heap0; }

/* The areas between two addresses, coalesced. */
static void maps(unsigned from, unsigned to)
{
    static char text[65536];
    int fd = open("/proc/self/maps", O_RDONLY), size = 0, n;
    while ((n = read(fd, text + size, sizeof text - 1 - size)) > 0)
        size += n;
    text[size] = 0;
    close(fd);
    unsigned start = 0, end = 0, offset = 0, inode = 0;
    char perms[8] = "", name[64] = "";
    for (char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        unsigned a, b, o, i = 0, major, minor;
        char p[8], f[64] = "";
        if (sscanf(line, "%x-%x %7s %x %x:%x %u", &a, &b, p, &o, &major, &minor, &i) < 7)
            continue;
        char *slash = strchr(line, '/'), *newline = strchr(line, '\n');
        if (slash && slash < newline) {
            int length = newline - slash < 63 ? newline - slash : 63;
            memcpy(f, slash, length), f[length] = 0;
            if (strstr(f, "abi-"))
                strcpy(f, strstr(f, "deleted") ? "file (deleted)" : "file");
        }
        if (b <= from || a >= to)
            continue;
        if (start && a == end && !strcmp(p, perms) && !strcmp(f, name) && i == inode && (!i || o == offset + (end - start))) {
            end = b;
            continue;
        }
        if (start)
            printf("  %08x-%08x %s %x %s\n", start, end, perms, inode ? offset : 0, name);
        start = a, end = b, offset = o, inode = i;
        strcpy(perms, p), strcpy(name, f);
    }
    if (start)
        printf("  %08x-%08x %s %x %s\n", start, end, perms, inode ? offset : 0, name);
}
#define MAPS() (SAY("maps"), maps(ARENA, ARENA + 0x1000000))

static void breaks(void)
{
    struct rlimit limit = { 1 << 20, RLIM_INFINITY }, old;
    SAY("start %ld", at_break());
    SAY("grow %ld", set(100));
    heap0[99] = 'h';
    SAY("same page %ld", set(4000));
    SAY("touch %d %d", touch(heap0 + 4095, 'w'), touch((void *)(((uintptr_t)heap0 + 3 * PAGE) & ~4095), 'r'));
    SAY("large %ld", set(10 * PAGE + 5));
    heap0[10 * PAGE] = 'e';
    SAY("shrink %ld", set(5));
    SAY("grow again %ld", set(11 * PAGE));
    SAY("zero %d, kept %c", heap0[10 * PAGE], heap0[99]);
    SAY("below the start %ld", set(-4096));
    SAY("far below %ld", (char *)syscall(SYS_brk, 16) - heap0);
    SAY("into the kernel %ld", (char *)syscall(SYS_brk, 0xc0001000) - heap0);
    SAY("all of it %ld", (char *)syscall(SYS_brk, 0xffffffff) - heap0);
    uintptr_t next = ((uintptr_t)heap0 + 16 * PAGE) & ~4095;
    syscall(SYS_mmap2, next, PAGE, RW, ANON | MAP_FIXED, -1, 0);
    SAY("into an area %ld", set(20 * PAGE));
    SAY("up to it %ld", (long)((uintptr_t)syscall(SYS_brk, next) == next));
    munmap((void *)next, PAGE);
    getrlimit(RLIMIT_DATA, &old);
    setrlimit(RLIMIT_DATA, &limit);
    SAY("beyond the limit %ld", set(3 << 20));
    SAY("below the limit %d", set(600 << 10) == 600 << 10);
    setrlimit(RLIMIT_DATA, &old);
    limit.rlim_cur = 1 << 20, limit.rlim_max = RLIM_INFINITY;
    getrlimit(RLIMIT_AS, &old);
    setrlimit(RLIMIT_AS, &limit);
    SAY("address space %ld", set(3 << 20) == 3 << 20);
    setrlimit(RLIMIT_AS, &old);
    munmap((void *)(((uintptr_t)heap0 + 3 * PAGE) & ~4095), 4 * PAGE);
    SAY("hole in it: grow %ld", set(700 << 10) == 700 << 10);
    SAY("hole in it: shrink %ld", set(PAGE) == PAGE);
    syscall(SYS_mlockall, MCL_FUTURE);
    SAY("locked %ld", set(20 * PAGE));
    unsigned char vec[32] = { 0 };
    SAY("present %ld", S(mincore, ((uintptr_t)heap0 + 12 * PAGE) & ~4095, 2 * PAGE, vec));
    SAY("pages %d %d", vec[0] & 1, vec[1] & 1);
    syscall(SYS_munlockall);
}

int main(void)
{
    char name[] = "/tmp/abi-maps-XXXXXX";
    begin();
    heap0 = (char *)syscall(SYS_brk, 0);
    int fd = mkstemp(name), ro = open(name, O_RDONLY);
    ftruncate(fd, 64 * PAGE);
    M(mmap2, AT(0), 64 * PAGE, RW, ANON | MAP_FIXED, -1, 0);
    MAPS();
    P(mprotect, AT(10), 10 * PAGE, PROT_READ);
    P(mprotect, AT(15), 10 * PAGE, PROT_READ | PROT_EXEC);
    MAPS();
    P(mprotect, AT(0), 64 * PAGE, RW);
    MAPS();
    P(munmap, AT(20), 5 * PAGE);
    M(mmap2, AT(20), 5 * PAGE, RW, MAP_PRIVATE | MAP_FIXED, fd, 20);
    M(mmap2, AT(21), 2 * PAGE, RW, MAP_PRIVATE | MAP_FIXED, fd, 40);
    M(mmap2, AT(21), 2 * PAGE, RW, MAP_PRIVATE | MAP_FIXED, fd, 21);
    MAPS();
    M(mmap2, AT(40), 8 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, ro, 3);
    M(mmap2, AT(48), 8 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, ro, 11);
    M(mmap2, AT(56), 8 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 19);
    MAPS();
    M(mremap, AT(42), 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(100));
    M(mremap, AT(0), 4 * PAGE, 6 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(200));
    M(mremap, AT(200), 6 * PAGE, 2 * PAGE, 0, 0);
    M(mremap, AT(200), 2 * PAGE, 9 * PAGE, 0, 0);
    MAPS();
    unlink(name);
    MAPS();
    P(mlock, AT(6), 3 * PAGE);
    P(madvise, AT(12), 2 * PAGE, MADV_DONTFORK);
    MAPS();
    M(mmap2, AT(300), 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    M(mmap2, AT(304), 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    M(mmap2, AT(308), 4 * PAGE, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
    M(mmap2, AT(316), 4 * PAGE, RW, ANON | MAP_FIXED | MAP_NORESERVE, -1, 0);
    P(munmap, AT(300), 8 * PAGE);
    MAPS();
    if (!fork()) {
        SAY("in the child");
        MAPS();
        _exit(0);
    }
    wait(NULL);
    P(munmap, AT(0), 512 * PAGE);
    MAPS();
    breaks();
    return 0;
}
