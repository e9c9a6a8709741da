/* futex: waiting, waking, requeueing, timing out, dying with a lock held; private, shared, and through a file. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WAIT, WAKE, FD, REQUEUE, CMP_REQUEUE, WAKE_OP, WAIT_BITSET = 9, WAKE_BITSET = 10, PRIVATE = 128 };
static int error(long r) { return r < 0 ? errno : 0; }
static long futex(volatile int *at, int op, int value, void *timeout, volatile int *at2, int value3)
{
    return syscall(SYS_futex, at, op, value, timeout, at2, value3);
}
static volatile int *words;
static void nothing(int n) { }
static char stacks[4][8192];
static volatile int ready, done[4];

static int waiter(void *arg)
{
    int n = (int)arg;
    __sync_fetch_and_add(&ready, 1);
    futex(words + 10, n == 3 ? WAIT_BITSET : WAIT, 0, NULL, NULL, 4);
    done[n] = 1;
    __sync_fetch_and_sub(&ready, 1);
    return 0;
}
static int dying(void *arg)
{
    struct { void *next; long offset; void *pending; } *head = (void *)(words + 40);
    struct { void *next; int word; } *lock = (void *)(words + 44);
    head->next = lock; head->offset = 4; head->pending = NULL;
    lock->next = head;
    lock->word = (int)syscall(SYS_gettid) | 0x80000000;
    syscall(SYS_set_robust_list, head, 12);
    return 0;
}

int main(void)
{
    struct timespec t = { 0, 2000000 };
    words = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    printf("changed %d\n", error(futex(words, WAIT, 1, NULL, NULL, 0)));
    printf("timeout %d\n", error(futex(words, WAIT, 0, &t, NULL, 0)));
    printf("private timeout %d\n", error(futex(words, WAIT | PRIVATE, 0, &t, NULL, 0)));
    printf("nobody %ld\n", futex(words, WAKE, 1, NULL, NULL, 0));
    printf("unaligned %d null %d unknown %d\n", error(futex((void *)((char *)words + 1), WAIT, 0, &t, NULL, 0)),
           error(futex(NULL, WAIT, 0, &t, NULL, 0)), error(futex(words, 99, 0, NULL, NULL, 0)));
    t.tv_nsec = -1;
    printf("bad time %d bitset %d\n", error(futex(words, WAIT, 0, &t, NULL, 0)), error(futex(words, WAIT_BITSET, 0, NULL, NULL, 0)));
    clock_gettime(CLOCK_MONOTONIC, &t);
    printf("absolute past %d\n", error(futex(words, WAIT_BITSET, 0, &t, NULL, -1)));

    /* a child waits on shared memory */
    pid_t child = fork();
    if (!child) { while (!words[1]) futex(words + 1, WAIT, 0, NULL, NULL, 0); words[2] = 7; futex(words + 2, WAKE, 1, NULL, NULL, 0); _exit(0); }
    usleep(100000);
    words[1] = 1;
    futex(words + 1, WAKE, 1, NULL, NULL, 0);
    while (!words[2]) futex(words + 2, WAIT, 0, NULL, NULL, 0);
    printf("from the child %d\n", words[2]);
    waitpid(child, NULL, 0);

    /* through a file, mapped twice */
    int fd = open("/tmp/futex-test", O_CREAT | O_RDWR | O_TRUNC, 0600);
    ftruncate(fd, 8192);
    volatile int *one = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096), *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unlink("/tmp/futex-test");
    child = fork();
    if (!child) { while (!one[5]) futex(one + 5, WAIT, 0, NULL, NULL, 0); _exit(3); }
    usleep(100000);
    two[1024 + 5] = 1;
    printf("woken through the file %ld\n", futex(two + 1024 + 5, WAKE, 9, NULL, NULL, 0));
    int s;
    waitpid(child, &s, 0);
    printf("child %d\n", WEXITSTATUS(s));

    /* interrupted */
    struct sigaction act = { .sa_handler = nothing };
    sigaction(SIGALRM, &act, NULL);
    alarm(1);
    printf("interrupted %d\n", error(futex(words, WAIT, 0, NULL, NULL, 0)));

    /* four threads, bitsets, requeue */
    for (int i = 0; i < 4; i++)
        clone(waiter, stacks[i] + 8192, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, (void *)i);
    while (ready < 4) sched_yield();
    usleep(200000);
    printf("bitset %ld", futex(words + 10, WAKE_BITSET, 1, NULL, NULL, 2));
    printf(" then %ld\n", futex(words + 10, WAKE, 1, NULL, NULL, 0));
    while (ready > 3) usleep(1000);
    printf("compare %d", error(futex(words + 10, CMP_REQUEUE, 1, (void *)1, words + 11, 5)));
    printf(" requeue %ld", futex(words + 10, CMP_REQUEUE, 1, (void *)1, words + 11, 0));
    while (ready > 2) usleep(1000);
    words[12] = 6;
    printf(" op %ld word %d", futex(words + 10, WAKE_OP, 5, (void *)5, words + 11, 0 << 28 | 1 << 24 | 9 << 12 | 6), words[11]);
    usleep(1000);
    printf(" rest %ld\n", futex(words + 11, WAKE, 5, NULL, NULL, 0));
    while (ready > 0) usleep(1000);
    printf("all done %d\n", done[0] + done[1] + done[2] + done[3]);

    /* a thread dies with a lock */
    volatile int *tid = words + 60;
    *tid = 1;
    clone(dying, stacks[0] + 8192, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID, NULL, NULL, NULL, tid);
    while (*tid) futex(tid, WAIT, 1, NULL, NULL, 0);
    printf("owner died %x\n", words[45] & 0xc0000000);
    return 0;
}
