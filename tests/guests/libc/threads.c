/* A real C library at work: threads, locks, condition variables, stdio, processes, sorting, jumps, floating point. */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER, emptied = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static sem_t sem;
static int slots[4], used, produced, consumed, sum, onces, destroyed, serial;
static __thread int own = 3;
static jmp_buf env;

static void destroy(void *p) { __atomic_add_fetch(&destroyed, 1, __ATOMIC_SEQ_CST); free(p); }
static void init_once(void) { onces++; }
static void *producer(void *arg)
{
    for (int i = 0; i < 100; i++) {
        pthread_mutex_lock(&lock);
        while (used == 4)
            pthread_cond_wait(&emptied, &lock);
        slots[used++] = (int)(long)arg + i;
        produced++;
        pthread_cond_signal(&filled);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}
static void *consumer(void *arg)
{
    for (int i = 0; i < 100; i++) {
        pthread_mutex_lock(&lock);
        while (!used)
            pthread_cond_wait(&filled, &lock);
        sum += slots[--used];
        consumed++;
        pthread_cond_signal(&emptied);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}
static void *worker(void *arg)
{
    int *mine = malloc(100 * sizeof *mine);
    pthread_setspecific(key, mine);
    pthread_once(&once, init_once);
    own += (int)(long)arg;
    for (int i = 0; i < 100; i++)
        mine[i] = rand_r((unsigned *)&(unsigned){ i + own });
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
        __atomic_add_fetch(&serial, 1, __ATOMIC_SEQ_CST);
    pthread_rwlock_rdlock(&rw);
    pthread_rwlock_unlock(&rw);
    sem_post(&sem);
    return (void *)(long)own;
}
static void *sleeper(void *arg) { for (;;) sleep(1000); return NULL; }
static void *timed(void *arg)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 20000000;
    if (t.tv_nsec >= 1000000000)
        t.tv_sec++, t.tv_nsec -= 1000000000;
    pthread_mutex_lock(&lock);
    int r;
    do
        r = pthread_cond_timedwait(&filled, &lock, &t);
    while (!r);
    pthread_mutex_unlock(&lock);
    return (void *)(long)r;
}
static int by_value(const void *a, const void *b) { double x = *(double *)a, y = *(double *)b; return x < y ? -1 : x > y; }
static void on_signal(int n) { longjmp(env, n); }

int main(int argc, char **argv)
{
    pthread_t t[16];
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (long i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, producer, (void *)(i * 1000)), pthread_create(&t[i + 4], NULL, consumer, NULL);
    for (int i = 0; i < 8; i++)
        pthread_join(t[i], NULL);
    printf("produced %d consumed %d sum %d\n", produced, consumed, sum);
    pthread_barrier_init(&barrier, NULL, 10);
    pthread_key_create(&key, destroy);
    sem_init(&sem, 0, 0);
    for (long i = 0; i < 10; i++)
        pthread_create(&t[i], NULL, worker, (void *)i);
    int total = 0;
    for (int i = 0; i < 10; i++) {
        void *r;
        sem_wait(&sem);
        pthread_join(t[i], &r);
        total += (int)(long)r;
    }
    printf("total %d own %d once %d destroyed %d serial %d\n", total, own, onces, destroyed, serial);
    void *r;
    pthread_create(&t[0], NULL, sleeper, NULL);
    pthread_cancel(t[0]);
    pthread_join(t[0], &r);
    printf("cancelled %d\n", r == PTHREAD_CANCELED);
    pthread_create(&t[0], NULL, timed, NULL);
    pthread_join(t[0], &r);
    printf("timed out %d\n", (int)(long)r == ETIMEDOUT);
    static double values[5000];
    unsigned seed = 5;
    for (int i = 0; i < 5000; i++)
        values[i] = sin(rand_r(&seed)) * 1000;
    qsort(values, 5000, sizeof *values, by_value);
    int sorted = 1;
    for (int i = 1; i < 5000; i++)
        sorted &= values[i - 1] <= values[i];
    printf("sorted %d; %.6f %.10g %a %Lg\n", sorted, exp(1.5), atan2(1, -1), 1.0 / 3, 1.0L / 7);
    char **blocks = calloc(300, sizeof *blocks);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 300; i++) {
            blocks[i] = realloc(blocks[i], 1 + (i * 7919 + k * 104729) % 60000);
            blocks[i][0] = (char)i;
        }
    int good = 0;
    for (int i = 0; i < 300; i++)
        good += blocks[i][0] == (char)i, free(blocks[i]);
    free(blocks);
    printf("blocks %d\n", good);
    char name[] = "/tmp/libc-XXXXXX", line[100];
    FILE *f = fdopen(mkstemp(name), "w+");
    unlink(name);
    for (int i = 0; i < 1000; i++)
        fprintf(f, "line %d of %s\n", i, "text");
    rewind(f);
    int lines = 0, number;
    while (fscanf(f, "line %d of %99s\n", &number, line) == 2)
        lines += number == lines;
    fseek(f, -13, SEEK_END);
    fgets(line, sizeof line, f);
    printf("lines %d last %s", lines, line);
    fclose(f);
    signal(SIGSEGV, on_signal);
    int n = setjmp(env);
    if (!n)
        *(volatile int *)8 = 1;
    printf("jumped %d\n", n);
    if (!fork()) {
        printf("child\n");
        exit(7);
    }
    int status;
    wait(&status);
    printf("status %d\n", WEXITSTATUS(status));
    if (argc > 1) {
        f = popen("echo from popen; exit 3", "r");
        while (fgets(line, sizeof line, f))
            printf("%s", line);
        printf("pclose %d\n", WEXITSTATUS(pclose(f)));
        printf("system %d\n", WEXITSTATUS(system("exit 4")));
    }
    time_t when = 86400 * 365;
    strftime(line, sizeof line, "%Y-%m-%d %H:%M:%S", gmtime(&when));
    printf("%s\n", line);
    return 21;
}
