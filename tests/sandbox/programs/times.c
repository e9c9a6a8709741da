/* Clocks, sleeps and timers: relations between readings, not readings. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int ticks;
static void tick(int n) { ticks++; }
static long long now(int clock) { struct timespec t; clock_gettime(clock, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }
static int error(long r) { return r < 0 ? errno : 0; }

int main(void)
{
    struct timespec t = { 0, 5000000 }, left = { 0, 0 };
    long long a = now(CLOCK_MONOTONIC), b;
    nanosleep(&t, NULL);
    b = now(CLOCK_MONOTONIC);
    printf("slept enough %d\n", b - a >= 5000000);
    long long wide[2];
    syscall(403, 1, wide);
    printf("64-bit clock agrees %d\n", wide[0] * 1000000000LL + wide[1] - b < 1000000000LL && wide[0] * 1000000000LL + wide[1] >= b);
    struct timeval tv;
    gettimeofday(&tv, NULL);
    printf("wall clocks agree %d\n", tv.tv_sec - time(NULL) <= 0 && time(NULL) - tv.tv_sec < 5);
    t.tv_nsec = 1000000000;
    printf("bad %d %d %d\n", error(nanosleep(&t, NULL)), error(syscall(SYS_clock_gettime, 99, &t)), error(syscall(SYS_clock_nanosleep, 1, 0, (void *)8, NULL)));
    /* an absolute sleep in the past returns at once; one in the future does not */
    clock_gettime(CLOCK_MONOTONIC, &t);
    printf("absolute past %ld\n", syscall(SYS_clock_nanosleep, 1, 1, &t, NULL));
    t.tv_nsec += 3000000;
    if (t.tv_nsec >= 1000000000) { t.tv_nsec -= 1000000000; t.tv_sec++; }
    a = t.tv_sec * 1000000000LL + t.tv_nsec;
    long r = syscall(SYS_clock_nanosleep, 1, 1, &t, NULL);
    printf("absolute %ld late %d\n", r, now(CLOCK_MONOTONIC) >= a);
    /* interrupted: the time left; an ignored signal does not interrupt */
    struct sigaction act = { .sa_handler = tick };
    sigaction(SIGALRM, &act, NULL);
    struct itimerval it = { { 0, 0 }, { 0, 20000 } }, old;
    setitimer(ITIMER_REAL, &it, NULL);
    t = (struct timespec){ 10, 0 };
    r = nanosleep(&t, &left);
    printf("interrupted %ld errno %d left %d\n", r, errno, left.tv_sec == 9 && left.tv_nsec > 900000000);
    pid_t parent = getpid(), child = fork();
    if (!child) { usleep(100000); kill(parent, SIGCHLD); kill(parent, SIGCONT); _exit(0); }
    t = (struct timespec){ 0, 50000000 };
    a = now(CLOCK_MONOTONIC);
    r = nanosleep(&t, &left);
    printf("not interrupted %ld %d\n", r, now(CLOCK_MONOTONIC) - a >= 50000000);
    waitpid(child, NULL, 0);
    /* alarm and its remainder */
    printf("alarm %u", alarm(10));
    printf(" %u", alarm(0));
    printf(" %u\n", alarm(0));
    it = (struct itimerval){ { 0, 2000 }, { 0, 2000 } };
    ticks = 0;
    setitimer(ITIMER_REAL, &it, NULL);
    while (ticks < 4) pause();
    getitimer(ITIMER_REAL, &old);
    printf("interval %d left %d\n", (int)old.it_interval.tv_usec, old.it_value.tv_sec == 0 && old.it_value.tv_usec <= 2000);
    memset(&it, 0, sizeof it);
    setitimer(ITIMER_REAL, &it, NULL);
    it.it_value.tv_usec = 1000000;
    printf("bad timer %d %d\n", error(setitimer(ITIMER_REAL, &it, NULL)), error(syscall(SYS_getitimer, 3, &it)));
    /* CPU time: a busy loop uses it, a sleep does not */
    sigaction(SIGVTALRM, &act, NULL);
    it = (struct itimerval){ { 0, 0 }, { 0, 30000 } };
    ticks = 0;
    setitimer(ITIMER_VIRTUAL, &it, NULL);
    for (volatile long i = 0; !ticks; i++);
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    printf("used cpu %d\n", u.ru_utime.tv_sec * 1000000 + u.ru_utime.tv_usec >= 20000);
    printf("cpu clock %d\n", now(CLOCK_PROCESS_CPUTIME_ID) >= 20000000);
    /* POSIX timers */
    int event[16] = { 77, SIGUSR1, 0 }, id = -1;
    sigaction(SIGUSR1, &act, NULL);
    printf("timer_create %ld", syscall(SYS_timer_create, 1, event, &id));
    struct { struct timespec interval, value; } spec = { { 0, 1000000 }, { 0, 1000000 } }, got;
    ticks = 0;
    printf(" settime %ld", syscall(SYS_timer_settime, id, 0, &spec, NULL));
    while (ticks < 3) pause();
    printf(" gettime %ld", syscall(SYS_timer_gettime, id, &got));
    printf(" interval %ld delete %ld", got.interval.tv_nsec, syscall(SYS_timer_delete, id));
    printf(" gone %d\n", error(syscall(SYS_timer_gettime, id, &got)));
    return 0;
}
