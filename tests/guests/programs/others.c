/* LTP get_robust_list01, sched_setaffinity01, setpriority02, prlimit, sched_setscheduler, membarrier01, close_range02, prctl01 to 10: run by root. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *why(long r) { return r < 0 ? strerror(errno) : "ok"; }
static long prctl(long o, long a, long b, long c, long d) { return syscall(SYS_prctl, o, a, b, c, d); }

/* What one may do to the process `pid`. */
static void touch(const char *who, int pid)
{
    unsigned long list, length, mask = 1, limits[4];
    int none = 0, one = 1;
    printf("%s: robust %s", who, why(syscall(SYS_get_robust_list, pid, &list, &length)));
    printf(", setaffinity %s", why(syscall(SYS_sched_setaffinity, pid, 4, &mask)));
    mask = 0;
    printf(" empty %s", why(syscall(SYS_sched_setaffinity, pid, 4, &mask)));
    printf(" getaffinity %s", why(syscall(SYS_sched_getaffinity, pid, 128, limits) > 0 ? 0 : -1));
    printf(", setpriority 5 %s", why(syscall(SYS_setpriority, 0, pid, 5)));
    printf(" 3 %s", why(syscall(SYS_setpriority, 0, pid, 3)));
    printf(", other %s", why(syscall(SYS_sched_setscheduler, pid, 0, &none)));
    printf(" batch %s", why(syscall(SYS_sched_setscheduler, pid, 3, &none)));
    printf(" fifo %s", why(syscall(SYS_sched_setscheduler, pid, 1, &one)));
    printf(" bad %s", why(syscall(SYS_sched_setscheduler, pid, 1, &none)));
    printf(" param %s", why(syscall(SYS_sched_setparam, pid, &none)));
    printf(" idle %s", why(syscall(SYS_sched_setscheduler, pid, 5, &none)));
    printf(" other again %s", why(syscall(SYS_sched_setscheduler, pid, 0, &none)));
    printf(" get %s", why(syscall(SYS_sched_getscheduler, pid)));
    if (strcmp(who, "root at him")) { /* CAP_SYS_RESOURCE, which a container may keep from root */
        printf(", prlimit get %s", why(syscall(SYS_prlimit64, pid, 7, 0, limits)));
        printf(" set %s", why(syscall(SYS_prlimit64, pid, 7, limits, 0)));
    }
    printf(", kill %s\n", why(syscall(SYS_kill, pid, 0)));
    fflush(stdout);
}

static void as(const char *who, int uid, int (*pid)(void))
{
    fflush(stdout);
    if (!fork()) {
        if (uid) {
            setgid(uid);
            setuid(uid);
        }
        touch(who, pid());
        _exit(0);
    }
    wait(0);
}

static int victim;
static int the_victim(void) { return victim; }

static void others(void)
{
    int p[2];
    char c;
    pipe(p);
    as("root at root", 0, getppid);
    syscall(SYS_setpriority, 0, 0, 0);
    as("user at root", 1000, getppid);
    as("user at himself", 1000, getpid);
    if (!(victim = fork())) {
        close(p[0]);
        setgid(1000);
        setuid(1000);
        write(p[1], "x", 1);
        pause();
    }
    read(p[0], &c, 1);
    as("user at his own", 1000, the_victim);
    as("another at him", 1001, the_victim);
    as("root at him", 0, the_victim);
    kill(victim, SIGKILL);
    wait(0);
    as("root at nobody", 0, the_victim);
}

static void barriers(void)
{
    static const int commands[] = {1, 2, 8, 32, 512, 4, 512, 64, 512, 8, 32, 16, 512, 8, 3, 1024};
    printf("membarrier query has %x, flags %s\n", (unsigned)syscall(SYS_membarrier, 0, 0, 0) & 0x7f, why(syscall(SYS_membarrier, 0, 1, 0)));
    for (unsigned i = 0; i < sizeof commands / sizeof *commands; i++) {
        long r = syscall(SYS_membarrier, commands[i], 0, 0);
        printf(" %d: %ld %s", commands[i], r, why(r));
    }
    fflush(stdout);
    if (!fork()) {
        printf("; child %ld %s\n", syscall(SYS_membarrier, 512, 0, 0), why(syscall(SYS_membarrier, 8, 0, 0)));
        fflush(stdout);
        _exit(0);
    }
    wait(0);
}

static int shared_child(void *unused)
{
    (void)unused;
    errno = 0;
    long r = syscall(SYS_close_range, 60, 70, 2);
    printf("UNSHARE in a shared table: %s\n", why(r));
    r = fcntl(60, F_GETFD);
    printf("closed here: %s, still there: %s\n", why(r), why(fcntl(59, F_GETFD)));
    fflush(stdout);
    _exit(0);
}

static void ranges(void)
{
    static char stack[65536];
    dup2(1, 59);
    dup2(1, 60);
    fflush(stdout);
    int pid = clone(shared_child, stack + sizeof stack, CLONE_VM | CLONE_FILES | SIGCHLD, 0);
    waitpid(pid, 0, 0);
    printf("still open in the parent: %s\n", why(fcntl(60, F_GETFD)));
    printf("UNSHARE|CLOEXEC %s", why(syscall(SYS_close_range, 59, 60, 6)));
    printf(" flags %d %d, bad flag %s, first > last %s\n", fcntl(59, F_GETFD), fcntl(60, F_GETFD), why(syscall(SYS_close_range, 59, 60, 8)),
           why(syscall(SYS_close_range, 60, 59, 0)));
}

static void subreaper(void)
{
    int p[2], on = -1;
    pipe(p);
    printf("subreaper set %s", why(prctl(36, 2, 0, 0, 0)));
    printf(" get %s", why(prctl(37, (long)&on, 0, 0, 0)));
    printf(" %d\n", on);
    int me = getpid();
    fflush(stdout);
    int child = fork();
    if (!child) {
        prctl(37, (long)&on, 0, 0, 0);
        int between = getpid();
        if (!fork()) {
            char c;
            close(p[1]);
            prctl(1, SIGUSR1, 0, 0, 0);
            signal(SIGUSR1, SIG_IGN);
            read(p[0], &c, 1); /* until the parent has closed its end and the one between is gone */
            for (int i = 0; i < 1000 && getppid() == between; i++)
                usleep(1000);
            printf("inherited %d, adopted by the subreaper %d\n", on, getppid() == me);
            fflush(stdout);
            _exit(7);
        }
        _exit(3);
    }
    int status;
    close(p[0]);
    waitpid(child, &status, 0);
    close(p[1]);
    int got = wait(&status);
    printf("reaped it: %d status %d; none left %s\n", got > 0 && got != child, status >> 8, why(wait(&status)));
    prctl(36, 0, 0, 0, 0);
}

static void timer_slack(void)
{
    char text[32] = "";
    int fd, n;
    printf("slack %ld", prctl(30, 0, 0, 0, 0));
    prctl(29, 70000, 0, 0, 0);
    fd = open("/proc/self/timerslack_ns", O_RDONLY);
    n = fd < 0 ? -1 : (int)read(fd, text, 31);
    printf(" %ld shown %d %.*s", prctl(30, 0, 0, 0, 0), n, n > 0 ? n - 1 : 0, text);
    fflush(stdout);
    if (!fork()) {
        printf("; child %ld", prctl(30, 0, 0, 0, 0));
        prctl(29, 1234, 0, 0, 0);
        printf(" set %ld", prctl(30, 0, 0, 0, 0));
        prctl(29, 0, 0, 0, 0);
        printf(" back %ld\n", prctl(30, 0, 0, 0, 0));
        fflush(stdout);
        _exit(0);
    }
    wait(0);
    prctl(29, 0, 0, 0, 0);
    printf("default again %ld\n", prctl(30, 0, 0, 0, 0));
}

static void tsc(void)
{
    int mode = -1, status;
    printf("tsc get %s", why(prctl(25, (long)&mode, 0, 0, 0)));
    printf(" %d, bad %s %s", mode, why(prctl(26, 0, 0, 0, 0)), why(prctl(26, 3, 0, 0, 0)));
    printf(", nowhere %s", why(prctl(25, 8, 0, 0, 0)));
    fflush(stdout);
    if (!fork()) {
        prctl(26, 2, 0, 0, 0);
        prctl(25, (long)&mode, 0, 0, 0);
        printf(", set %d", mode);
        fflush(stdout);
        if (!fork()) {
            unsigned low, high;
            __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
            _exit(0);
        }
        wait(&status);
        printf(", child ends by signal %d", status & 127);
        prctl(26, 1, 0, 0, 0);
        unsigned low, high;
        __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
        printf(", again allowed\n");
        fflush(stdout);
        _exit(0);
    }
    wait(&status);
}

static void arguments(const char *who)
{
    static const long calls[][5] = {
        {1, 65, 0, 0, 0}, {1, -1, 0, 0, 0}, {1, 0, 0, 0, 0}, {4, 2, 0, 0, 0}, {4, 1, 0, 0, 0}, {8, 2, 0, 0, 0}, {14, 1, 0, 0, 0}, {14, 0, 0, 0, 0},
        {15, 8, 0, 0, 0}, {16, 8, 0, 0, 0}, {23, 40, 0, 0, 0}, {23, 41, 0, 0, 0}, {24, 41, 0, 0, 0}, {24, 22, 0, 0, 0}, {23, 22, 0, 0, 0},
        {37, 8, 0, 0, 0}, {38, 0, 0, 0, 0}, {38, 1, 1, 0, 0}, {38, 1, 0, 1, 0}, {38, 1, 0, 0, 1}, {39, 1, 0, 0, 0}, {39, 0, 1, 0, 0}, {39, 0, 0, 0, 0},
        {38, 1, 0, 0, 0}, {39, 0, 0, 0, 0}, {42, 1, 0, 0, 0}, {42, 0, 1, 0, 0}, {42, 0, 0, 0, 0}, {2, 8, 0, 0, 0}, {0, 0, 0, 0, 0}, {9999, 0, 0, 0, 0}};
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        errno = 0;
        long r = prctl(calls[i][0], calls[i][1], calls[i][2], calls[i][3], calls[i][4]);
        printf("%s prctl %ld %ld %ld: %ld %s\n", who, calls[i][0], calls[i][1], calls[i][2], r, why(r));
    }
    fflush(stdout);
}

int main(void)
{
    others();
    barriers();
    ranges();
    subreaper();
    timer_slack();
    tsc();
    fflush(stdout);
    for (int uid = 0; uid <= 1000; uid += 1000) {
        if (!fork()) {
            if (uid)
                setuid(uid);
            arguments(uid ? "user" : "root");
            _exit(0);
        }
        wait(0);
    }
    return 0;
}
