/*
 * name:      threads
 * summary:   Threads that share one address space count, wait for each other, map and fault at the same time.
 * drives:    clone with CLONE_VM, futex, thread-local storage (set_thread_area), faults and mmap by several tasks of one mm, join
 * arguments: threads=4 rounds=100 pages=16
 * look at:   one mm_struct for many task_structs; what an anonymous page costs when threads, not processes, share it
 */
#include "rmapbox.h"
#include <pthread.h>
#include <sched.h>

#define MOST 32

static __thread int private_number = 7;
static __thread int private_zero;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t all;
static long rounds, pages, count, turn_of, threads;
static char *area; /* written by every thread in its own words */
static volatile int wrong[MOST];

static void *work(void *argument)
{
    long me = (long)argument;
    int bad = private_number != 7 || private_zero != 0;
    private_number = (int)(1000 + me);

    /* A counter under a lock, given up at bad moments. */
    for (long i = 0; i < rounds; i++) {
        pthread_mutex_lock(&lock);
        long seen = count;
        if (i % 8 == 0)
            sched_yield();
        count = seen + 1;
        pthread_mutex_unlock(&lock);
    }
    pthread_barrier_wait(&all);
    bad += count != rounds * threads;

    /* Pages nobody has touched: several threads fault on each. */
    for (long page = 0; page < pages; page++)
        for (long word = me; word < WORDS; word += threads)
            ((volatile uint32_t *)area)[page * WORDS + word] = mix((uint32_t)(page * WORDS + word));
    pthread_barrier_wait(&all);
    for (long word = 0; word < pages * WORDS; word++)
        bad += ((volatile uint32_t *)area)[word] != mix((uint32_t)word);

    /* By turns: each thread adds its number when it is its turn. */
    for (long i = 0; i < rounds / 4; i++) {
        pthread_mutex_lock(&lock);
        while (turn_of % threads != me)
            pthread_cond_wait(&turn, &lock);
        turn_of++;
        pthread_cond_broadcast(&turn);
        pthread_mutex_unlock(&lock);
    }

    /* Mappings of its own, made and dropped while the others do the same. */
    for (long i = 0; i < rounds / 8 + 1; i++) {
        char *own = map_anonymous(3, MAP_PRIVATE);
        fill_page(own + PAGE, (uint32_t)(me * 1000 + i));
        sched_yield();
        bad += !page_is(own + PAGE, (uint32_t)(me * 1000 + i));
        must(munmap(own, 3 * PAGE) == 0);
        char *heap = malloc(100 + (size_t)i * 10);
        must(heap != NULL);
        memset(heap, (int)me, 100);
        sched_yield();
        bad += heap[99] != (char)me;
        free(heap);
    }
    errno = (int)me;
    sched_yield();
    bad += errno != (int)me || private_number != 1000 + (int)me;
    wrong[me] = bad;
    return (void *)(me * me);
}

int main(int argc, char **argv)
{
    threads = argument(argc, argv, 1, "threads", 4, 1, MOST);
    rounds = argument(argc, argv, 2, "rounds", 100, 1, 1000000);
    pages = argument(argc, argv, 3, "pages", 16, 1, 4096);
    arguments_end(argc, argv);
    pthread_t thread[MOST];
    int failed = 0;

    area = map_anonymous((size_t)pages, MAP_PRIVATE);
    pthread_barrier_init(&all, NULL, (unsigned)threads);
    for (long i = 0; i < threads; i++)
        must(pthread_create(&thread[i], NULL, work, (void *)i) == 0);
    for (long i = 0; i < threads; i++) {
        void *value;
        must(pthread_join(thread[i], &value) == 0);
        printf("thread %ld: %d wrong, answers %ld\n", i, wrong[i], (long)value);
        failed |= wrong[i] | ((long)value != i * i);
    }
    printf("%ld threads counted to %ld, took %ld turns, hash %08x\n", threads, count, turn_of,
           (unsigned)hash_words(HASH_START, area, (size_t)pages * PAGE));
    failed |= private_number != 7;

    /* fork in a process that had threads: the child is one task with the whole memory. */
    pid_t pid = fork_quietly();
    if (!pid) {
        int bad = 0;
        for (long word = 0; word < pages * WORDS; word++)
            bad += ((volatile uint32_t *)area)[word] != mix((uint32_t)word);
        _exit(bad || private_number != 7);
    }
    int status = reap(pid);
    printf("child exits %d\n", status);
    puts(failed || status ? "FAILED: threads saw what they must not" : "threads agree");
    return failed || status;
}
