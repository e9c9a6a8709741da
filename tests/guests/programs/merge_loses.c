/* A fork tree in which 4.0's anon_vma_chain lets two areas of one process be at home in one anon_vma with unlike chains; they merge, the relatives exit,
   and memory runs short. The last process says what its two pages hold. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEP 50000
#define STORE (14 << 20)

static volatile char *pages;

static void last(void)
{
    char *store;
    int round, sum = 0;
    size_t at;

    mprotect((void *)pages, 4096, PROT_READ | PROT_WRITE); /* alike again: one area, if they may merge */
    usleep(4 * STEP);                                      /* child and middle are gone */
    store = mmap(NULL, STORE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (round = 0; round < 2; round++)
        for (at = 0; at < STORE; at += 4096)
            sum += ++store[at];
    printf("%d %d, %d\n", pages[0], pages[4096], sum);
    fflush(stdout);
}

static void middle(void)
{
    int holder, child;

    mprotect((void *)pages, 4096, PROT_READ);
    holder = fork();
    if (!holder) {
        usleep(2 * STEP);
        _exit(0);
    }
    child = fork();
    if (!child) {
        pages[4096] = 9;
        usleep(3 * STEP); /* the holder is gone */
        if (!fork()) {
            last();
            _exit(0);
        }
        usleep(STEP);
        _exit(0);
    }
    waitpid(holder, NULL, 0);
    waitpid(child, NULL, 0);
    _exit(0);
}

int main(void)
{
    int end[2];
    char byte;

    pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pages[0] = 1;
    pages[4096] = 2;
    pipe(end);
    if (!fork()) { /* one */
        if (!fork()) { /* two */
            usleep(STEP);
            if (!fork()) {
                usleep(STEP);
                middle();
            }
            _exit(0);
        }
        _exit(0);
    }
    close(end[1]);
    while (read(end[0], &byte, 1) > 0) /* until all others are gone */
        ;
    return 0;
}
