/* A shared futex word has to lie in a page that is there: every operation, every way in which it is not. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
enum { WAIT, WAKE, FD, REQUEUE, CMP_REQUEUE, WAKE_OP, WAIT_BITSET = 9, WAKE_BITSET };
static int own[4];
static void ask(const char *where, int *word) {
    static const struct { const char *name; int op; } op[] = {{"wait", WAIT}, {"wake", WAKE}, {"requeue", REQUEUE}, {"cmp_requeue", CMP_REQUEUE},
        {"wake_op", WAKE_OP}, {"wait_bitset", WAIT_BITSET}, {"wake_bitset", WAKE_BITSET}};
    for (int private = 0; private < 256; private += 128) {
        printf("%s%s:", where, private ? " private" : "");
        for (unsigned i = 0; i < sizeof op / sizeof *op; i++) {
            int value = op[i].op == WAIT || op[i].op == WAIT_BITSET ? 99 : 1;
            long first = syscall(SYS_futex, word, op[i].op | private, value, 0, own, op[i].op == CMP_REQUEUE ? 99 : -1);
            int error = first == -1 ? errno : 0;
            printf(" %s %d", op[i].name, error);
            if (op[i].op >= REQUEUE && op[i].op <= WAKE_OP) {
                own[2] = 0;
                long second = syscall(SYS_futex, own + 2, op[i].op | private, 1, 1, word, 0);
                printf("/%d", second == -1 ? errno : 0);
            }
        }
        puts("");
    }
}
int main(void) {
    int anon = MAP_PRIVATE | MAP_ANONYMOUS, fd = syscall(356, "f", 0);
    int *gone = mmap(0, 4096, 3, anon, -1, 0), *p;
    munmap(gone, 4096);
    ask("unmapped", gone);
    ask("no access", mmap(0, 4096, PROT_NONE, anon, -1, 0));
    ask("write only", mmap(0, 4096, PROT_WRITE, anon, -1, 0));
    ask("read only, untouched", mmap(0, 4096, PROT_READ, anon, -1, 0));
    p = mmap(0, 4096, 3, anon, -1, 0); *p = 1; mprotect(p, 4096, PROT_READ);
    ask("read only, written", p);
    ask("anonymous", mmap(0, 4096, 3, anon, -1, 0));
    ask("shared, no access", mmap(0, 4096, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    ask("shared", mmap(0, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    ftruncate(fd, 4096);
    ask("file", mmap(0, 4096, 3, MAP_SHARED, fd, 0));
    ask("file, read only", mmap(0, 4096, 1, MAP_SHARED, fd, 0));
    ask("file, private, read only", mmap(0, 4096, 1, MAP_PRIVATE, fd, 0));
    ask("file, private", mmap(0, 4096, 3, MAP_PRIVATE, fd, 0));
    ask("file, beyond its end", mmap(0, 4096, 3, MAP_SHARED, fd, 4096));
    ask("file, beyond its end, read only", mmap(0, 4096, 1, MAP_SHARED, fd, 4096));
    ask("file, private, beyond its end", mmap(0, 4096, 3, MAP_PRIVATE, fd, 4096));
    return 0;
}
