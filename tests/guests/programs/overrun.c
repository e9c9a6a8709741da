/* A timer whose first expiry lies far back: its overruns end at DELAYTIMER_MAX (LTP's timer_settime03, CVE-2018-12896). */
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int main(void)
{
    static const long long back[] = {100000000, 5000000000LL};
    for (int i = 0; i < 2; i++) {
        unsigned long long set = 1ULL << 13; /* SIGALRM */
        struct timespec now;
        int timer, info[32];
        long times[4] = {0, 1, 0, 0};
        syscall(SYS_rt_sigprocmask, 0, &set, NULL, 8);
        syscall(SYS_timer_create, CLOCK_REALTIME, NULL, &timer);
        clock_gettime(CLOCK_REALTIME, &now);
        long long at = now.tv_sec * 1000000000LL + now.tv_nsec - back[i];
        times[2] = (long)(at / 1000000000);
        times[3] = (long)(at % 1000000000);
        printf("set %d\n", syscall(SYS_timer_settime, timer, 1, times, NULL) ? errno : 0);
        printf("took %ld\n", syscall(SYS_rt_sigtimedwait, &set, info, NULL, 8));
        long overrun = syscall(SYS_timer_getoverrun, timer);
        printf("the most %d, at least as many as periods passed %d, siginfo has it %d\n", overrun == 0x7fffffff, overrun >= (i ? 0x7fffffff : 100000000),
               info[4] == overrun);
        syscall(SYS_timer_delete, timer);
    }
    return 0;
}
