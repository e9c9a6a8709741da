/* Long waits on the guest's own clock. Only in the sandbox: natively it would take a month. */
#include "abi.h"

static volatile int rang;
static void ring(int n) { rang = 1; }

static long long now(int clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}
static long since(long long start) { return (long)((now(CLOCK_MONOTONIC) - start + 500) / 1000); }

int main(void)
{
    struct timespec hour = { 3600, 0 };
    struct timeval week = { 604800, 0 };
    struct itimerval month = { { 0, 0 }, { 2592000, 0 } };
    begin();
    long long start = now(CLOCK_MONOTONIC), real = now(CLOCK_REALTIME), first = start;
    nanosleep(&hour, NULL);
    printf("slept %ld s\n", since(start)), start = now(CLOCK_MONOTONIC);
    poll(NULL, 0, 86400000);
    printf("poll %ld s\n", since(start)), start = now(CLOCK_MONOTONIC);
    syscall(SYS__newselect, 0, NULL, NULL, NULL, &week);
    printf("select %ld s\n", since(start)), start = now(CLOCK_MONOTONIC);
    signal(SIGALRM, ring);
    alarm(86400);
    while (!rang)
        pause();
    printf("alarm rang after %ld s\n", since(start)), start = now(CLOCK_MONOTONIC);
    rang = 0;
    setitimer(ITIMER_REAL, &month, NULL);
    while (!rang)
        pause();
    printf("timer rang after %ld s\n", since(start)), start = now(CLOCK_MONOTONIC);
    int word = 0;
    syscall(SYS_futex, &word, 0, 0, &hour, NULL, 0);
    printf("futex gave up after %ld s\n", since(start));
    struct timeval day;
    gettimeofday(&day, NULL);
    long long passed = now(CLOCK_MONOTONIC) - first, passed_real = now(CLOCK_REALTIME) - real, seconds = syscall(SYS_time, NULL);
    puts(passed - passed_real < 100 && passed_real - passed < 100 && seconds - day.tv_sec < 2 ? "clocks agree" : "clocks differ");
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    puts(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec == 0 ? "cpu time is small" : "cpu time is wrong");
    return 0;
}
