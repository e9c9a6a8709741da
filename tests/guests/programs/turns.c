/* Who waits for a lock gets it, while another takes and drops it in a loop. Arguments: record, flock or futex, the turns of padding
   inside the lock, and how many children wait (1). Prints how often the loop had the lock first. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct record { short type, whence; int start, len, pid; };  /* struct flock of i386 */
static volatile int *shared;                                  /* 0: the futex, 1: how many children had it */
static char kind;
static int fd;

static void take(void)
{
    struct record whole = {1, 0, 0, 1, 0};
    if (kind == 'r') syscall(SYS_fcntl, fd, 7, &whole);                     /* F_SETLKW, F_WRLCK */
    else if (kind == 'f') syscall(SYS_flock, fd, 2);                        /* LOCK_EX */
    else while (__sync_lock_test_and_set(shared, 2)) syscall(SYS_futex, shared, 0, 2, 0);
}

static void drop(void)
{
    struct record whole = {2, 0, 0, 1, 0};
    if (kind == 'r') syscall(SYS_fcntl, fd, 7, &whole);
    else if (kind == 'f') syscall(SYS_flock, fd, 8);
    else __sync_lock_release(shared);
    if (kind == 'u') syscall(SYS_futex, shared, 1, 1, 0);
}

int main(int argc, char **argv)
{
    int padding = argc > 2 ? atoi(argv[2]) : 1, children = argc > 3 ? atoi(argv[3]) : 1, first = 0;
    kind = !strcmp(argv[1], "futex") ? 'u' : argv[1][0];
    shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fd = open("turns.lock", O_RDWR | O_CREAT, 0600);
    for (int i = 0; i < children; i++)
        if (!fork()) {
            fd = open("turns.lock", O_RDWR);
            take(); shared[1]++; drop();
            _exit(0);
        }
    for (; shared[1] < children; first++) {
        take();
        for (volatile int i = 0; i < padding; i++);
        drop();
    }
    while (children--) wait(0);
    printf("%d\n", first);
    return 0;
}
