/* futex operations and their errors, thread-local descriptors, robust lists, many threads over one counter, threads that fault, fork and map at once. */
#include "abi.h"
#include <pthread.h>

static int word, other;
static char stacks[4][16384] __attribute__((aligned(16)));
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static volatile int counter, stage;
static __thread int mine = 7;
enum { WAIT, WAKE, FD, REQUEUE, CMP_REQUEUE, WAKE_OP, WAIT_BITSET = 9, WAKE_BITSET, PRIVATE = 128, REALTIME = 256 };
struct desc { unsigned number, base, limit, flags; };

static int waiter(void *arg) { long r = S(futex, &word, (long)arg, 0, NULL, NULL, 1); __atomic_add_fetch(&counter, r == 0, __ATOMIC_SEQ_CST); return 0; }
static void start(int k, long op) { clone(waiter, stacks[k] + sizeof stacks[k], CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | SIGCHLD, (void *)op); }
static void all_gone(void) { while (wait(NULL) > 0) ; }

static void *adds(void *arg)
{
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&lock);
        int seen = counter;
        if (i % 50 == 0)
            sched_yield();
        counter = seen + 1;
        pthread_mutex_unlock(&lock);
        mine++;
    }
    return (void *)(long)(mine + (long)arg);
}
static void *takes_turns(void *arg)
{
    for (int i = 0; i < 20; i++) {
        pthread_mutex_lock(&lock);
        while (stage % 3 != (long)arg)
            pthread_cond_wait(&turn, &lock);
        stage++;
        pthread_cond_broadcast(&turn);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}
static void *maps(void *arg)
{
    long wrong = 0;
    for (int i = 0; i < 20; i++) {
        int *p = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int k = 0; k < 8; k++)
            p[k * 1024] = (long)arg * 100 + k;
        if (i % 5 == 0) {
            pid_t child = fork();
            if (!child) {
                for (int k = 0; k < 8; k++)
                    wrong += p[k * 1024]++ != (long)arg * 100 + k;
                _exit(wrong != 0);
            }
            int status;
            waitpid(child, &status, 0);
            wrong += status != 0;
        }
        mprotect(p, 4 * PAGE, PROT_READ);
        for (int k = 0; k < 8; k++)
            wrong += p[k * 1024] != (long)arg * 100 + k;
        munmap(p, 8 * PAGE);
    }
    return (void *)wrong;
}

int main(void)
{
    begin();
    struct timespec soon = { 0, 5000000 }, bad = { 0, 1000000000 }, negative = { -1, 0 }, past = { 1, 0 };
    P(futex, &word, WAIT, 1, NULL, NULL, 0); P(futex, &word, WAIT, 0, &soon, NULL, 0); P(futex, &word, WAIT | PRIVATE, 0, &soon, NULL, 0); P(futex, &word, WAIT, 0, &bad, NULL, 0); P(futex, &word, WAIT, 0, &negative, NULL, 0);
    P(futex, &word, WAKE, 10, NULL, NULL, 0); P(futex, (char *)&word + 1, WAIT, 0, NULL, NULL, 0); P(futex, (char *)&word + 2, WAKE, 1, NULL, NULL, 0); P(futex, &word, 99, 0, NULL, NULL, 0); P(futex, BAD, WAIT, 0, NULL, NULL, 0);
    P(futex, &word, WAIT_BITSET, 0, &soon, NULL, 0); P(futex, &word, WAIT_BITSET, 0, &past, NULL, 1); P(futex, &word, WAIT_BITSET | REALTIME, 0, &past, NULL, 1); P(futex, &word, WAKE_BITSET, 1, NULL, NULL, 0); P(futex, &word, WAIT | REALTIME, 0, &past, NULL, 0); P(futex, &word, WAKE | REALTIME, 1, NULL, NULL, 0);
    P(futex, &word, CMP_REQUEUE, 1, 1, &other, 5); P(futex, &word, REQUEUE, 1, 1, &other, 0); P(futex, &word, REQUEUE, 1, 1, BAD, 0); P(futex, &word, CMP_REQUEUE, -1, 1, &other, 0);
    start(0, WAIT), start(1, WAIT), start(2, WAIT);
    usleep(200000);
    P(futex, &word, WAKE, 1, NULL, NULL, 0); P(futex, &word, CMP_REQUEUE, 1, 5, &other, 0); P(futex, &word, WAKE, 9, NULL, NULL, 0); P(futex, &other, WAKE, 9, NULL, NULL, 0);
    all_gone();
    SAY("woken %d", counter);
    counter = 0;
    start(0, WAIT_BITSET), start(1, WAIT);
    usleep(200000);
    P(futex, &word, WAKE_BITSET, 9, NULL, NULL, 2); P(futex, &word, WAKE_BITSET, 9, NULL, NULL, 1);
    all_gone();
    SAY("woken %d", counter);
    counter = 0, other = 5;
    start(0, WAIT), start(1, WAIT);
    usleep(200000);
    P(futex, &word, WAKE_OP, 1, 1, &other, 0 << 28 | 0 << 24 | 9 << 12 | 5);
    SAY("set %d", other);
    P(futex, &word, WAKE_OP, 1, 1, &word, 1 << 28 | 0 << 24 | 0 << 12 | 0); P(futex, &word, WAKE, 9, NULL, NULL, 0);
    all_gone();
    SAY("woken %d word %d", counter, word);
    word = 0;
    /* Shared between processes by the page behind it, not the address. */
    int *a = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *b = mremap(a, 0, PAGE, MREMAP_MAYMOVE);
    pid_t child = fork();
    if (!child)
        _exit(-S(futex, a, WAIT, 0, NULL, NULL, 0));
    usleep(200000);
    P(futex, b, WAKE | PRIVATE, 1, NULL, NULL, 0); P(futex, b, WAKE, 1, NULL, NULL, 0);
    int status;
    waitpid(child, &status, 0);
    SAY("woken through the other mapping %d", WEXITSTATUS(status));
    signal(SIGALRM, (void (*)(int))all_gone);
    /* TLS descriptors. */
    unsigned gs;
    __asm__("movl %%gs, %0" : "=r"(gs));
    struct desc d = { (unsigned)-1, (uintptr_t)&other, 0xfffff, 0x51 };
    P(set_thread_area, &d);
    SAY("entry %d", d.number - gs / 8 > 0 && d.number - gs / 8 < 3);
    other = 4711;
    int through;
    __asm__ volatile("movw %w1, %%fs\n\tmovl %%fs:0, %0" : "=r"(through) : "r"(d.number * 8 + 3));
    SAY("through fs %d", through);
    struct desc e = { d.number, 0, 0, 0 };
    P(get_thread_area, &e);
    SAY("back %d %x %x", e.base == d.base, e.limit, e.flags);
    d.number = 5, P(set_thread_area, &d), d.number = 15, P(set_thread_area, &d), d.number = 5, P(get_thread_area, &d);
    d = (struct desc){ (unsigned)-1, 0, 0, 0x28 };
    d.number = e.number, P(set_thread_area, &d);
    P(get_thread_area, &d);
    P(set_robust_list, NULL, 11); P(set_robust_list, &word, 12); unsigned head[2]; P(get_robust_list, 0, &head[0], &head[1]);
    SAY("robust %d %d", head[0] == (unsigned)(uintptr_t)&word, head[1]);
    P(set_robust_list, NULL, 12);
    /* Threads. */
    pthread_t t[6];
    counter = 0;
    for (long i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, adds, (void *)i);
    for (long i = 0; i < 4; i++) {
        void *result;
        pthread_join(t[i], &result);
        SAY("thread-local %ld", (long)result - i);
    }
    SAY("counter %d mine %d", counter, mine);
    for (long i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, takes_turns, (void *)i);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    SAY("turns %d", stage);
    for (long i = 0; i < 6; i++)
        pthread_create(&t[i], NULL, maps, (void *)i);
    long wrong = 0;
    for (int i = 0; i < 6; i++) {
        void *result;
        pthread_join(t[i], &result);
        wrong += (long)result;
    }
    SAY("wrong %ld", wrong);
    return 0;
}
