/* What becomes of a timer's pending signal: two timers with one signal send two; one that is deleted or set anew sends none. */
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static unsigned long long set = 1ULL << 13;
static void take(const char *what)
{
    int info[32];
    struct timespec none = {0, 0};
    long sig;
    printf("%s:", what);
    while ((sig = syscall(SYS_rt_sigtimedwait, &set, info, &none, 8)) > 0)
        printf(" %ld from %d", sig, info[2] == -2 ? info[3] : -1);
    puts("");
}
static void arm(int timer, long ms)
{
    long times[4] = {0, 0, 0, ms * 1000000};
    syscall(SYS_timer_settime, timer, 0, times, NULL);
}
int main(void)
{
    int one, two;
    struct timespec while_it_rings = {0, 30000000};
    syscall(SYS_rt_sigprocmask, 0, &set, NULL, 8);
    syscall(SYS_timer_create, 1, NULL, &one);
    syscall(SYS_timer_create, 1, NULL, &two);
    arm(one, 1);
    arm(two, 5);
    nanosleep(&while_it_rings, NULL);
    take("two timers");
    arm(one, 1);
    arm(two, 5);
    nanosleep(&while_it_rings, NULL);
    syscall(SYS_timer_delete, one);
    take("one deleted");
    arm(two, 1);
    nanosleep(&while_it_rings, NULL);
    arm(two, 0);
    take("disarmed");
    arm(two, 1);
    nanosleep(&while_it_rings, NULL);
    arm(two, 1);
    nanosleep(&while_it_rings, NULL);
    take("set anew");
    arm(two, 1);
    nanosleep(&while_it_rings, NULL);
    kill(getpid(), SIGALRM);
    take("and a standard one");
    return 0;
}
