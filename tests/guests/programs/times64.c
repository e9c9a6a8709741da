/* Every call that carries a 64-bit time, with times beyond 2038 and 2106 and before 1970. Its argument is a directory on tmpfs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

typedef long long wide;
struct spec { wide sec; int nsec, pad; };

static const char *why(long r) { return r < 0 ? strerror(errno) : "ok"; }
static void nothing(int n) { (void)n; }

static void show(const char *what, long r, const char *name)
{
    struct statx x;
    struct stat s;
    syscall(SYS_statx, AT_FDCWD, name, 0, STATX_BASIC_STATS, &x);
    stat(name, &s);
    printf("%s %s: atime %lld.%09u mtime %lld.%09u; stat64 %08x %08x\n", what, why(r), (wide)x.stx_atime.tv_sec, x.stx_atime.tv_nsec,
           (wide)x.stx_mtime.tv_sec, x.stx_mtime.tv_nsec, (unsigned)s.st_atime, (unsigned)s.st_mtime);
}

static void files(void)
{
    static const wide times[] = {0, -1, 0x7fffffff, 0x80000000LL, 0xffffffffLL, 1LL << 32, (1LL << 34) - 1, 1LL << 34, 1LL << 40, -(1LL << 31),
                                 -(1LL << 31) - 1, -(1LL << 40), 0x7fffffffffffffffLL, -0x7fffffffffffffffLL - 1};
    close(open("t", O_CREAT | O_RDWR, 0600));
    for (unsigned i = 0; i < sizeof times / sizeof *times; i++) {
        struct spec ts[2] = {{times[i], 5, -1}, {times[i], 999999999, 77}};
        show("utimensat_time64", syscall(SYS_utimensat_time64, AT_FDCWD, "t", ts, 0), "t");
    }
    int old[4] = {-3, 4, 0x7fffffff, 6};
    show("utimensat", syscall(SYS_utimensat, AT_FDCWD, "t", old, 0), "t");
    int seconds[2] = {-7, 0x7fffffff};
    show("utime", syscall(SYS_utime, "t", seconds), "t");
    int micro[4] = {-9, 10, -11, 12};
    show("utimes", syscall(SYS_utimes, "t", micro), "t");
    show("futimesat", syscall(SYS_futimesat, AT_FDCWD, "t", micro), "t");
    struct spec bad[2] = {{1, 1000000000, 0}, {1, 0, 0}};
    show("too many ns", syscall(SYS_utimensat_time64, AT_FDCWD, "t", bad, 0), "t");
    unlink("t");
}

static void soon(void)
{
    struct itimerval in = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &in, 0);
}

static const char *about(wide left, wide of) { return left <= of && left >= of - 2 ? "all but a moment" : "something else"; }

static void waits(void)
{
    struct sigaction act;
    memset(&act, 0, sizeof act);
    act.sa_handler = nothing;
    sigaction(SIGALRM, &act, 0);
    const wide far = 1LL << 33;
    struct spec ts = {far, 5, 0}, left = {0, 0, 0};
    int word = 0;
    soon();
    long r = syscall(SYS_clock_nanosleep_time64, 1, 0, &ts, &left);
    printf("clock_nanosleep %s, left %s\n", why(r), about(left.sec, far));
    soon();
    r = syscall(SYS_futex_time64, &word, 0, 0, &ts, 0, 0);
    printf("futex %s\n", why(r));
    soon();
    left = ts;
    r = syscall(SYS_ppoll_time64, 0, 0, &left, 0, 8);
    printf("ppoll %s, left %s\n", why(r), about(left.sec, far));
    soon();
    left = ts;
    r = syscall(SYS_pselect6_time64, 0, 0, 0, 0, &left, 0);
    printf("pselect6 %s, left %s\n", why(r), about(left.sec, far));
    soon();
    unsigned set[2] = {1u << (SIGUSR1 - 1), 0};
    r = syscall(SYS_rt_sigtimedwait_time64, set, 0, &ts, 8);
    printf("rt_sigtimedwait %s\n", why(r));
    ts.sec = -1;
    printf("negative: %s", why(syscall(SYS_clock_nanosleep_time64, 1, 0, &ts, 0)));
    printf(" %s", why(syscall(SYS_ppoll_time64, 0, 0, &ts, 0, 8)));
    printf(" %s\n", why(syscall(SYS_futex_time64, &word, 0, 0, &ts, 0, 0)));
}

static void timers(void)
{
    struct { struct spec interval, value; } in = {{1LL << 34, 7, 0}, {1LL << 33, 0, 0}}, was;
    int id;
    printf("timer_create %s\n", why(syscall(SYS_timer_create, 1, 0, &id)));
    printf("timer_settime %s\n", why(syscall(SYS_timer_settime64, id, 0, &in, 0)));
    printf("timer_gettime %s", why(syscall(SYS_timer_gettime64, id, &was)));
    printf(" value %s interval %lld.%d\n", about(was.value.sec, 1LL << 33), was.interval.sec, was.interval.nsec);
    in.value.sec = 0;
    printf("timer_settime %s", why(syscall(SYS_timer_settime64, id, 0, &in, &was)));
    printf(" value %s interval %lld.%d\n", about(was.value.sec, 1LL << 33), was.interval.sec, was.interval.nsec);
    struct spec now;
    int narrow[2];
    syscall(SYS_clock_gettime64, 0, &now);
    syscall(SYS_clock_gettime, 0, narrow);
    printf("two forms of the time %s\n", (unsigned)now.sec - (unsigned)narrow[0] + 1 < 3 ? "agree" : "differ");
}

int main(int argc, char **argv)
{
    if (argc < 2 || chdir(argv[1]))
        return 1;
    files();
    waits();
    timers();
    return 0;
}
