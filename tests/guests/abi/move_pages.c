/* move_pages on a machine with one node, and /proc/PID/pagemap: where pages are, who may ask, and that a page which is moved keeps its contents,
   its place and its sharers. */
#include "abi.h"

#define PAGES 10
static void *pages[PAGES + 4];
static int nodes[PAGES + 4], status[PAGES + 4];

static void blank(int node)
{
    for (int i = 0; i < PAGES + 4; i++)
        nodes[i] = node, status[i] = 777;
}

static void say_status(int n)
{
    for (int i = 0; i < n; i++)
        printf(" %d", status[i]);
    putchar('\n');
}

static long entries(int fd, void *into, int n, unsigned long long at)
{
    return answer(syscall(SYS_pread64, fd, into, n, (unsigned)at, (unsigned)(at >> 32)));
}

static uint64_t entry(int fd, const void *page)
{
    uint64_t found = 0;
    entries(fd, &found, 8, (uintptr_t)page / PAGE * 8ull);
    return found;
}

#define FRAME(entry) ((entry) & ((1ull << 55) - 1))
#define BITS(entry) (int)((entry) >> 55)

static void arguments(void)
{
    for (int flags = 0; flags < 17; flags++)
        P(move_pages, 0, 0, NULL, NULL, NULL, flags);
    blank(0);
    P(move_pages, 0, 1, BAD, nodes, status, 2);
    P(move_pages, 0, 1, pages, BAD, status, 2);
    P(move_pages, 0, 1, pages, nodes, BAD, 2);
    P(move_pages, 0, 1, pages, nodes, NULL, 2);
    P(move_pages, 0, 1, pages, NULL, BAD, 2);
    P(move_pages, 0, 1, BAD, NULL, status, 2);
    P(move_pages, -1, 1, pages, nodes, status, 2);
    P(move_pages, 999999, 1, pages, nodes, status, 2);
    P(move_pages, 999999, 1, pages, nodes, status, 8);
    P(move_pages, getpid(), 1, pages, nodes, status, 2);
    P(move_pages, gettid(), 1, pages, NULL, status, 0);
    int child = fork();
    if (!child)
        _exit(0);
    int info[32];
    syscall(SYS_waitid, 1, child, info, 4 | 0x01000000, NULL); /* P_PID, WEXITED | WNOWAIT: it stays a zombie */
    P(move_pages, child, 1, pages, nodes, status, 2);
    waitpid(child, NULL, 0);
    P(move_pages, child, 1, pages, nodes, status, 2);
}

static void statuses(char *a)
{
    blank(0);
    P(move_pages, 0, PAGES + 4, pages, NULL, status, 0);
    say_status(PAGES + 4);
    for (int flags = 0; flags <= 6; flags += 2)
        for (int node = -1; node < 3; node++) {
            blank(node);
            P(move_pages, 0, PAGES + 4, pages, nodes, status, flags);
            say_status(PAGES + 4);
        }
    blank(0);
    nodes[4] = 1;
    P(move_pages, 0, PAGES + 4, pages, nodes, status, 2);
    say_status(PAGES + 4);
    SAY("contents %d %d %d", a[0], a[7 * PAGE], a[9 * PAGE]);
    SAY("and still %d %d %d", touch(a, 'w'), touch(a + 4 * PAGE, 'r'), touch(a + 9 * PAGE, 'w'));
}

static void frames(char *a)
{
    int fd = open("/proc/self/pagemap", O_RDONLY), n = 0;
    for (int i = 0; i < PAGES; i++) {
        uint64_t found = entry(fd, pages[i]);
        SAY("page %d: frame %d, bits %x", i, FRAME(found) != 0, BITS(found));
    }
    uint64_t two[2];
    SAY("%ld %ld %ld %ld", entries(fd, two, 7, 0), entries(fd, two, 9, 0), entries(fd, two, 8, 4), entries(fd, two, 16, 0));
    SAY("%ld %ld %ld", entries(fd, two, 8, 0xc0000ull * 8), entries(fd, two, 16, 0xbffffull * 8), entries(fd, BAD, 8, 0));
    P(lseek, fd, 16, SEEK_SET);
    P(lseek, fd, 8, SEEK_CUR);
    P(lseek, fd, 0, SEEK_END);
    P(read, fd, two, 16);
    P(lseek, fd, 0, SEEK_CUR);
    P(lseek, fd, (ARENA >> 12) * 8, SEEK_SET);
    P(read, fd, two, 8);
    SAY("by its place %d", two[0] == entry(fd, a));
    P(write, fd, two, 8);
    /* A family: everybody's page is the same frame before and after, wherever that is. */
    int order[2], done[2];
    pipe(order), pipe(done);
    int child = fork();
    if (!child) {
        char what;
        int mine = open("/proc/self/pagemap", O_RDONLY);
        while (read(order[0], &what, 1) == 1) {
            if (what == 'w')
                a[1] = 99;
            uint64_t found[2] = { entry(mine, a), (uint64_t)(a[0] * 1000 + a[1]) };
            write(done[1], found, sizeof found);
            if (what == 'q')
                _exit(0);
        }
    }
    char name[40];
    sprintf(name, "/proc/%d/pagemap", child);
    int his = open(name, O_RDONLY);
    for (const char *what = "rmwrmrq"; *what; what++) {
        uint64_t found[2];
        blank(0);
        if (*what == 'm')
            n += (int)S(move_pages, child, 1, pages, nodes, status, 4) | status[0];
        write(order[1], what, 1);
        read(done[0], found, sizeof found);
        SAY("%c: %d, %d %d, bits %x %x, holds %d", *what, n, FRAME(found[0]) == FRAME(entry(fd, a)), *what == 'q' || found[0] == entry(his, a),
            BITS(found[0]), BITS(entry(fd, a)), (int)found[1]);
    }
    waitpid(child, NULL, 0);
    SAY("gone %ld", entries(his, two, 8, (ARENA >> 12) * 8));
    close(his), close(fd);
}

static void permissions(void)
{
    int child = fork();
    if (!child)
        for (;;)
            pause();
    blank(0);
    P(move_pages, child, 1, pages, NULL, status, 0);
    P(move_pages, child, 1, pages, nodes, status, 2);
    P(move_pages, child, 1, pages, nodes, status, 4);
    say_status(1);
    fflush(stdout);
    if (!fork()) {
        syscall(SYS_setresuid32, 1000, 1000, 1000);
        P(move_pages, 0, 1, pages, nodes, status, 2);
        P(move_pages, 0, 1, pages, nodes, status, 4);
        P(move_pages, 999999, 1, pages, nodes, status, 4);
        P(move_pages, child, 1, pages, nodes, status, 2);
        P(move_pages, child, 1, pages, NULL, status, 0);
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

int main(void)
{
    begin();
    char *a = mmap(AT(0), 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (int i = 0; i < PAGES; i++)
        pages[i] = a + (size_t)i * PAGE;
    a[0] = 1;
    (void)*(volatile char *)(a + PAGE); /* page 1 is read only: the zero page; page 2 is not touched */
    mmap(AT(3), PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    a[4 * PAGE] = 1;
    mprotect(a + 4 * PAGE, PAGE, PROT_NONE);
    munmap(a + 5 * PAGE, PAGE);
    for (int i = 6; i < 9; i++)
        mmap(AT(i), PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    a[7 * PAGE] = 7;
    (void)*(volatile char *)(a + 8 * PAGE);
    a[9 * PAGE] = 9;
    pages[PAGES] = a + 17;
    pages[PAGES + 1] = KERNEL;
    pages[PAGES + 2] = (void *)0xfffff000;
    pages[PAGES + 3] = NULL;
    arguments();
    statuses(a);
    frames(a);
    permissions();
    return 0;
}
