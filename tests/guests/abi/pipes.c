/* Pipes and waiting for descriptors: atomic writes, O_NONBLOCK, EPIPE, readers and writers that go, poll, select, pselect. */
#include "abi.h"

static int fds[2];
static volatile int got;
static void count(int n) { got = n; }

static int poll1(int fd, int events, int timeout)
{
    struct pollfd p = { fd, events, 0 };
    int n = poll(&p, 1, timeout);
    return n < 0 ? -errno : n * 1000 + p.revents;
}
static void refill(void) { if (fds[0]) close(fds[0]), close(fds[1]); pipe2(fds, O_NONBLOCK); }

int main(void)
{
    static char data[200000];
    char buffer[100];
    begin();
    signal(SIGPIPE, SIG_IGN);
    refill();
    P(read, fds[0], buffer, 10);
    P(read, fds[0], buffer, 0);
    P(read, fds[1], buffer, 10); P(write, fds[0], "x", 1); P(lseek, fds[0], 0, 1); P(pread64, fds[0], buffer, 1, 0, 0); P(pwrite64, fds[1], "x", 1, 0, 0); P(ftruncate, fds[1], 0); P(fsync, fds[0]);
    P(write, fds[1], data, 0);
    SAY("empty %d %d", poll1(fds[0], POLLIN, 0), poll1(fds[1], POLLOUT, 0));
    P(write, fds[1], data, 60000);
    SAY("rest %ld %ld", S(write, fds[1], data, 4096), S(write, fds[1], data, 4096));
    P(write, fds[1], data, 10000);
    P(write, fds[1], data, 1);
    SAY("full %d %d", poll1(fds[0], POLLIN, 0), poll1(fds[1], POLLOUT, 0));
    long total = 0, n;
    while ((n = S(read, fds[0], data, 7777)) > 0)
        total += n;
    SAY("all %ld then %ld", total, n);
    P(fcntl64, fds[1], F_GETPIPE_SZ, 0); P(fcntl64, fds[1], F_SETPIPE_SZ, 5000); P(fcntl64, fds[1], F_GETPIPE_SZ, 0); P(write, fds[1], data, 20000); P(write, fds[1], data, 1);
    P(fcntl64, fds[1], F_SETPIPE_SZ, 4096); P(fcntl64, fds[1], F_SETPIPE_SZ, 65536);
    close(fds[1]);
    SAY("writer gone %d", poll1(fds[0], POLLIN, 0));
    P(read, fds[0], data, 10000); P(read, fds[0], data, 10);
    SAY("end %d", poll1(fds[0], POLLIN, -1));
    fds[0] ? close(fds[0]) : 0;
    pipe(fds);
    close(fds[0]);
    P(write, fds[1], "x", 1);
    P(write, fds[1], "x", 0);
    SAY("reader gone %d", poll1(fds[1], POLLOUT, -1));
    signal(SIGPIPE, count);
    P(write, fds[1], "x", 1);
    SAY("signal %d", got);
    close(fds[1]);
    /* A child that dies of it; a writer longer than the pipe while the reader is slow; small writes never mixed. */
    signal(SIGPIPE, SIG_DFL);
    pipe(fds);
    pid_t child = fork();
    if (!child) {
        close(fds[0]);
        for (;;)
            write(fds[1], data, 4096);
    }
    close(fds[1]);
    total = 0;
    while (total < 30000) /* how much one read finds is a matter of timing */
        total += read(fds[0], data, 30000 - total < 1000 ? 30000 - total : 1000);
    close(fds[0]);
    int status;
    waitpid(child, &status, 0);
    SAY("child %d bytes %ld", WTERMSIG(status), total);
    pipe(fds);
    for (int k = 0; k < 3; k++)
        if (!fork()) {
            char line[512];
            memset(line, 'a' + k, sizeof line);
            for (int i = 0; i < 300; i++)
                write(fds[1], line, sizeof line);
            _exit(0);
        }
    close(fds[1]);
    int mixed = 0, lines = 0;
    for (;;) {
        char line[512];
        int have = 0;
        while (have < 512 && (n = read(fds[0], line + have, 512 - have)) > 0)
            have += n;
        if (have < 512)
            break;
        lines++;
        for (int i = 1; i < 512; i++)
            mixed += line[i] != line[0];
    }
    while (wait(NULL) > 0)
        ;
    SAY("lines %d mixed %d", lines, mixed);
    close(fds[0]);
    /* One write larger than the pipe is read in parts; the writer waits. */
    pipe(fds);
    if (!fork()) {
        close(fds[0]);
        for (unsigned i = 0; i < sizeof data; i++)
            data[i] = i * 7;
        _exit(write(fds[1], data, sizeof data) == sizeof data ? 5 : 6);
    }
    close(fds[1]);
    total = 0;
    int wrong = 0;
    while ((n = read(fds[0], buffer, 97)) > 0)
        for (int i = 0; i < n; i++)
            wrong += buffer[i] != (char)(total++ * 7);
    wait(&status);
    SAY("total %ld wrong %d writer %d", total, wrong, WEXITSTATUS(status));
    close(fds[0]);
    /* EINTR, restart, and what was written before the signal. */
    struct sigaction a = { .sa_handler = count };
    sigaction(SIGALRM, &a, NULL);
    pipe(fds);
    struct itimerval soon = { { 0, 0 }, { 0, 20000 } };
    setitimer(ITIMER_REAL, &soon, NULL);
    P(read, fds[0], buffer, 1);
    setitimer(ITIMER_REAL, &soon, NULL);
    P(write, fds[1], data, sizeof data);
    setitimer(ITIMER_REAL, &soon, NULL);
    P(write, fds[1], data, 10);
    setitimer(ITIMER_REAL, &soon, NULL);
    SAY("poll %d", poll1(fds[1], POLLOUT, -1));
    a.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &a, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    SAY("poll is never restarted %d", poll1(fds[1], POLLOUT, 1000));
    close(fds[1]), close(fds[0]);
    pipe(fds);
    if (!fork()) {
        usleep(60000);
        write(fds[1], "late", 4);
        _exit(0);
    }
    setitimer(ITIMER_REAL, &soon, NULL);
    P(read, fds[0], buffer, 10);
    wait(NULL);
    /* poll. */
    struct pollfd p[5] = { { fds[0], POLLIN, 9 }, { fds[1], POLLOUT, 9 }, { -1, POLLIN, 9 }, { 77, POLLIN, 9 }, { fds[0], 0, 9 } };
    P(poll, p, 5, 0);
    for (int i = 0; i < 5; i++)
        SAY("revents %x", p[i].revents);
    P(poll, p, 100000, 0); P(poll, NULL, 0, 5); P(poll, NULL, 1, 0);
    struct timespec ten = { 0, 10000000 }, bad = { 0, 1000000000 }, negative = { -1, 0 };
    P(ppoll, p, 1, &ten, NULL, 8); P(ppoll, p, 1, &bad, NULL, 8); P(ppoll, p, 1, &negative, NULL, 8); P(ppoll, p, 1, &ten, p, 4);
    /* select. */
    unsigned long r[32] = { 0 }, w[32] = { 0 }, x[32] = { 0 };
    struct timeval tv = { 0, 10000 }, badtv = { 0, -1 };
#define BIT(s, fd) (s[(fd) / 32] & 1ul << (fd) % 32)
#define SET(s, fd) (s[(fd) / 32] |= 1ul << (fd) % 32)
    SET(r, fds[0]), SET(w, fds[1]), SET(x, fds[0]);
    P(_newselect, fds[1] + 1, r, w, x, &tv);
    SAY("sets %d %d %d time left %d", !!BIT(r, fds[0]), !!BIT(w, fds[1]), !!BIT(x, fds[0]), tv.tv_usec <= 10000);
    write(fds[1], "x", 1);
    SET(r, fds[0]);
    P(_newselect, fds[1] + 1, r, NULL, NULL, NULL);
    SAY("readable %d", !!BIT(r, fds[0]));
    SET(r, 60);
    P(_newselect, 61, r, NULL, NULL, &tv); P(_newselect, -1, r, NULL, NULL, &tv); P(_newselect, 0, NULL, NULL, NULL, &badtv);
    tv.tv_usec = 3000000, tv.tv_sec = 0, r[1] = 0;
    SET(r, fds[0]);
    P(_newselect, fds[0] + 1, r, NULL, NULL, &tv);
    tv.tv_sec = tv.tv_usec = 0;
    SET(r, fds[0]);
    P(_newselect, fds[0], r, NULL, NULL, &tv);
    struct { unsigned long *args[5]; } old = { { (void *)1, NULL, NULL, NULL, (void *)&tv } };
    P(select, &old);
    /* pselect6 with a mask: the signal is delivered inside, and the mask is back after. */
    sigset_t block = { { 1 << (SIGALRM - 1), 0 } }, none = { { 0, 0 } }, now;
    struct { const void *set; unsigned size; } mask = { &none, 8 };
    sigprocmask(SIG_BLOCK, &block, NULL);
    got = 0;
    raise(SIGALRM);
    P(pselect6, 0, NULL, NULL, NULL, NULL, &mask);
    sigprocmask(0, NULL, &now);
    SAY("delivered %d masked again %d", got, now.__bits[0] == block.__bits[0]);
    mask.size = 4;
    P(pselect6, 0, NULL, NULL, NULL, &ten, &mask);
    got = 0;
    raise(SIGALRM);
    P(ppoll, NULL, 0, NULL, &none, 8);
    SAY("delivered %d", got);
    /* Regular files and devices are always ready; descriptors above the limit. */
    int null = open("/dev/null", O_RDWR), file = open("/proc/self/exe", O_RDONLY);
    SAY("ready %d %d", poll1(null, POLLIN | POLLOUT, -1), poll1(file, POLLIN | POLLOUT, -1));
    P(dup2, fds[0], 1000); P(dup2, fds[0], 1 << 20); P(dup2, fds[0], -1); P(dup2, 99, 99); P(dup2, fds[0], fds[0]); P(dup3, fds[0], fds[0], 0); P(dup3, fds[0], 50, 1); P(fcntl64, fds[0], F_DUPFD, 1 << 20); P(fcntl64, fds[0], F_DUPFD, 500);
    P(pipe2, fds, 1); P(close, 500); P(close, 500); P(close, -1);
    return 0;
}
