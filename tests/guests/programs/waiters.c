/* Many processes wait for pages in scarce memory, by every road: waiters KIND PROCESSES PAGES. Each of three rounds goes over all pages and checks them.
   read     each reads the whole file into a buffer of its own, with one call for 16 pages
   copy     each maps the file privately and writes to every page
   shared   all write to one shared anonymous area, each to its own byte of every page
   write    each writes pages of its own to a file of its own, and reads them back
   lock     each locks a page at a time (mlock, munlock)
   kill     as shared, for ever; an alarm kills each, most of them while they wait */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, CALL = 16 };
static int pages, fd;
static char *shared;

static int reads(void) {
    static char buffer[CALL * PAGE];
    for (int round = 0; round < 3; round++)
        for (int k = 0; k < pages; k += CALL) {
            if (pread(fd, buffer, sizeof buffer, (off_t)k * PAGE) != (ssize_t)sizeof buffer) return 1;
            for (int j = 0; j < CALL; j++) if (buffer[j * PAGE] != (char)(k + j)) return 1;
        }
    return 0;
}

static int copies(int me) {
    char *p = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    for (int k = 0; k < pages; k++) p[k * PAGE + 1] = me;
    for (int round = 0; round < 2; round++)
        for (int k = 0; k < pages; k++) if (p[k * PAGE] != (char)k || p[k * PAGE + 1] != (char)me) return 1;
    return 0;
}

static int writes_shared(int me) {
    for (int round = 1; round <= 3; round++)
        for (int k = 0; k < pages; k++) {
            if (round > 1 && shared[k * PAGE + me] != (char)(k + round - 1)) return 1;
            shared[k * PAGE + me] = k + round;
        }
    return 0;
}

static int writes(int me) {
    char name[32], *buffer = malloc(CALL * PAGE);
    sprintf(name, "/tmp/w%d", me);
    int own = open(name, O_RDWR | O_CREAT, 0600);
    for (int k = 0; k < pages; k += CALL) {
        for (int j = 0; j < CALL; j++) buffer[j * PAGE] = me + k + j;
        if (pwrite(own, buffer, CALL * PAGE, (off_t)k * PAGE) != CALL * PAGE) return 1;
    }
    for (int k = 0; k < pages; k += CALL) {
        if (pread(own, buffer, CALL * PAGE, (off_t)k * PAGE) != CALL * PAGE) return 1;
        for (int j = 0; j < CALL; j++) if (buffer[j * PAGE] != (char)(me + k + j)) return 1;
    }
    return 0;
}

static int locks(void) {
    char *p = malloc(pages * PAGE);
    for (int k = 0; k < pages; k++) p[k * PAGE] = k;
    for (int k = 0; k < pages; k++) {
        if (mlock(p + k * PAGE, 1) || p[k * PAGE] != (char)k || munlock(p + k * PAGE, 1)) return 1;
    }
    return 0;
}

static int work(const char *kind, int me) {
    if (!strcmp(kind, "read")) return reads();
    if (!strcmp(kind, "copy")) return copies(me);
    if (!strcmp(kind, "write")) return writes(me);
    if (!strcmp(kind, "lock")) return locks();
    if (!strcmp(kind, "kill")) {
        struct itimerval when = {{0, 0}, {0, 200000 + me * 1000}};
        setitimer(ITIMER_REAL, &when, 0);
        for (;;) writes_shared(me);
    }
    return writes_shared(me);
}

int main(int argc, char **argv) {
    const char *kind = argv[1];
    int n = atoi(argv[2]), status, bad = 0;
    pages = atoi(argv[3]);
    fd = open("/tmp/file", O_RDWR | O_CREAT, 0600);
    for (int k = 0; k < pages; k++) {
        char page[PAGE] = {k};
        if (write(fd, page, PAGE) != PAGE) return 2;
    }
    shared = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < n; i++)
        if (!fork()) _exit(work(kind, i));
    for (int i = 0; i < n; i++) {
        wait(&status);
        bad |= !strcmp(kind, "kill") ? status != SIGALRM : status;
    }
    puts(bad ? "bad" : "ok");
    return bad != 0;
}
