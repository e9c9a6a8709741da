/* Reading, writing, positions, descriptors, locks, pipes, poll: every answer compared with native Linux. Run in an empty directory of a tmpfs. */
#include "probe.h"

static char buf[262144], big[262144];
static int hash(const char *p, int n) { unsigned h = 5381; while (n-- > 0) h = h * 33 + (unsigned char)*p++; return h & 0x7fffffff; }
struct pfd { int fd; short events, revents; };
struct flock { short type, whence; int start, len, pid; };
static int p[2], q[2];

static long sleep_ms(int ms) { struct ts t = {ms / 1000, ms % 1000 * 1000000L}; return S(nanosleep_, &t, 0); }
static long reap(void) { int st = 0; long r = S(waitpid_, -1, &st, 0); return r > 0 ? st : r; }

static void files(void)
{
    int fd, fd2, i;
    char *edge = (char *)S(mmap2_, 0, 8192, 3, 0x22, -1, 0);
    long long res;
    S(munmap_, edge + 4096, 4096);
    fd = P(open_, "f", 0102, 0644); P(wr_, fd, "0123456789", 10); P(lseek_, fd, 2, 0); P(rd_, fd, buf, 3); printf("%.3s\n", buf); P(lseek_, fd, 0, 1); P(lseek_, fd, -3, 2); P(rd_, fd, buf, 100); P(rd_, fd, buf, 100); P(rd_, fd, buf, 0);
    P(lseek_, fd, -1, 0); P(lseek_, fd, 0, 9); P(lseek_, fd, 0x7fffffff, 0); P(lseek_, fd, 1, 1); P(llseek_, fd, 1, 5, &res, 0); printf("%d %d\n", (int)(res >> 32), (int)res); P(llseek_, fd, 0, 0, BAD, 0); P(llseek_, fd, -1, -1, &res, 0); P(lseek_, 99, 0, 0);
    P(lseek_, fd, 100, 0); P(wr_, fd, "end", 3); P(lseek_, fd, 0, 0); P(rd_, fd, buf, 200); printf("%d\n", hash(buf, 103)); P(lseek_, fd, 3, 3); P(lseek_, fd, 0, 4); P(lseek_, fd, 500, 3);
    P(rd_, fd, BAD, 0); P(rd_, fd, BAD, 10); P(pread_, fd, BAD, 10, 0, 0); P(rd_, 99, buf, 1); P(wr_, fd, BAD, 10); P(wr_, fd, BAD, 0); P(rd_, fd, buf, -1); P(wr_, fd, buf, -1); P(pread_, fd, buf, 4, 1, 0); printf("%.4s\n", buf); P(pread_, fd, buf, 4, 0, -1); P(pwrite_, fd, "XY", 2, 4, 0); P(pread_, fd, buf, 9, 0, 0); printf("%.9s\n", buf);
    P(lseek_, fd, 0, 0); P(rd_, fd, edge + 4090, 50); P(lseek_, fd, 0, 1); memset(edge, 'e', 4096); P(lseek_, fd, 0, 0); P(wr_, fd, edge + 4086, 50); P(lseek_, fd, 0, 1); P(lseek_, fd, 0, 0);
    { struct iov v[3] = {{buf, 3}, {buf + 100, 0}, {buf + 200, 5}}, w[3] = {{"abc", 3}, {BAD, 5}, {"z", 1}}, u = {buf, -1};
      P(readv_, fd, v, 3); printf("%.3s %.5s\n", buf, buf + 200); P(writev_, fd, w, 3); P(writev_, fd, w + 1, 1); P(writev_, fd, BAD, 1); P(writev_, fd, &u, 1); P(writev_, fd, w, 1025); P(writev_, fd, w, 0); P(readv_, fd, v, -1); P(preadv_, fd, v, 3, 1, 0); P(pwritev_, fd, v, 1, 2, 0); P(preadv2_, fd, v, 3, -1, -1, 0); P(preadv2_, fd, v, 3, 0, 0, 64); P(pwritev2_, fd, v, 1, 0, 0, 0x10); }
    P(close_, fd); fd = P(open_, "f", 02001); P(wr_, fd, "app", 3); P(lseek_, fd, 0, 1); P(rd_, fd, buf, 1); P(pwrite_, fd, "Q", 1, 0, 0); P(close_, fd); fd = P(open_, "f", 0); P(rd_, fd, buf, 300); printf("%d\n", hash(buf, last)); P(wr_, fd, "x", 1); P(ftruncate_, fd, 1); P(close_, fd);
    for (i = 0; i < 262144; i++) big[i] = i * 7 + i / 251;
    fd = P(open_, "big", 01102, 0600); P(wr_, fd, big, 262144); P(wr_, fd, big, 100001); P(lseek_, fd, 5, 0); P(rd_, fd, buf, 262144); printf("%d\n", hash(buf, 262144)); P(rd_, fd, buf, 262144); printf("%d\n", hash(buf, last)); P(pread_, fd, buf, 200000, 70001, 0); printf("%d\n", hash(buf, last));
    P(ftruncate_, fd, 5000); P(ftruncate64_, fd, 9000, 0); P(pread_, fd, buf, 9000, 0, 0); printf("%d\n", hash(buf, last)); P(ftruncate_, fd, -1); P(truncate_, "big", 100); P(truncate_, "none", 1); P(truncate_, ".", 1); P(truncate_, "big", -1); P(truncate64_, "big", 0xc000000, 0); P(lseek_, fd, 0, 2); P(ftruncate64_, fd, 10, 0); P(ftruncate_, 99, 1);
    P(fallocate_, fd, 0, 0, 0, 20000, 0); P(lseek_, fd, 0, 2); P(fallocate_, fd, 1, 20000, 0, 50000, 0); P(lseek_, fd, 0, 2); P(pwrite_, fd, big, 20000, 0, 0); P(fallocate_, fd, 3, 4000, 0, 9000, 0); P(pread_, fd, buf, 20000, 0, 0); printf("%d\n", hash(buf, last)); P(fallocate_, fd, 2, 0, 0, 10, 0); P(fallocate_, fd, 0, 0, 0, 0, 0); P(fallocate_, fd, 0x10, 0, 0, 10, 0); P(fallocate_, 99, 0, 0, 0, 1, 0); P(fallocate_, fd, 0, -1, -1, 5, 0);
    fd2 = P(open_, "copy", 01102, 0600); P(lseek_, fd, 0, 0); P(sendfile_, fd2, fd, 0, 7000); P(lseek_, fd, 0, 1); i = 5; P(sendfile_, fd2, fd, &i, 100); printf("%d\n", i); res = 9; P(sendfile64_, fd2, fd, &res, 100); P(pread_, fd2, buf, 9000, 0, 0); printf("%d\n", hash(buf, last)); P(sendfile_, fd2, 99, 0, 1); P(sendfile_, fd2, fd, BAD, 1);
    P(fsync_, fd); P(fdatasync_, fd); P(fsync_, 99); P(sync_); P(fadvise_, fd, 0, 0, 0, 0, 4); P(fadvise_, fd, 0, 0, 0, 0, 9); P(fadvise_, 99, 0, 0, 0, 0, 0); P(ioctl_, fd, 0x5401, buf); P(ioctl_, fd, 0x541b, &i); printf("%d\n", i); P(ioctl_, 99, 0, 0);
    P(close_, fd); P(close_, fd2);
    fd = P(memfd_, "name", 2); P(wr_, fd, "seal", 4); P(fcntl64_, fd, 1034, 0); P(fcntl64_, fd, 1033, 4); P(wr_, fd, "more", 4); P(pwrite_, fd, "SE", 2, 0, 0); P(ftruncate_, fd, 2); P(ftruncate_, fd, 9); P(fcntl64_, fd, 1033, 9); P(pwrite_, fd, "S", 1, 0, 0); P(fcntl64_, fd, 1033, 2); P(fcntl64_, fd, 1034, 0); snprintf(buf, 50, "/proc/self/fd/%d", fd); i = S(readlink_, buf, big, 90); printf("%.*s\n", i, big); P(memfd_, "x", 64); P(memfd_, BAD, 0); P(close_, fd);
    fd = P(open_, "/dev/full", 2); P(wr_, fd, "x", 1); P(rd_, fd, buf, 5); P(close_, fd); fd = P(open_, "/dev/null", 2); P(wr_, fd, big, 100000); P(rd_, fd, buf, 5); P(lseek_, fd, 55, 0); P(pread_, fd, buf, 1, 0, 0); P(close_, fd); fd = P(open_, "/dev/zero", 2); P(rd_, fd, buf, 200000); printf("%d\n", hash(buf, 200000)); P(close_, fd); fd = P(open_, "/dev/urandom", 0); P(rd_, fd, buf, 100); P(close_, fd);
    P(open_, "/proc/self/status", 2); P(open_, "/proc/self/nope", 0); P(open_, "/proc/99999/stat", 0); P(mkdir_, "/proc/x", 0700); P(open_, "/proc/self/x", 0102, 0600); P(unlink_, "/proc/version"); fd = P(open_, "/proc/version", 0); P(rd_, fd, buf, 5); printf("%.5s\n", buf); P(lseek_, fd, 2, 0); P(rd_, fd, buf, 3); printf("%.3s\n", buf); P(lseek_, fd, 0, 2); P(close_, fd);
}

static void descriptors(void)
{
    int fd = S(open_, "f", 2), i;
    struct flock l = {1, 0, 10, 20, 0};
    P(dup_, fd); P(dup_, 99); P(dup2_, fd, 50); P(dup2_, fd, fd); P(dup2_, 99, 3); P(dup2_, fd, 5000); P(dup2_, fd, -1); P(dup3_, fd, 51, 02000000); P(dup3_, fd, fd, 0); P(dup3_, fd, 52, 1); P(dup_, 51);
    P(fcntl64_, 51, 1, 0); P(fcntl64_, 50, 1, 0); P(fcntl64_, 50, 2, 1); P(fcntl64_, 50, 1, 0); P(fcntl64_, fd, 0, 60); P(fcntl64_, fd, 1030, 60); P(fcntl64_, 61, 1, 0); P(fcntl64_, fd, 0, 5000); P(fcntl64_, fd, 3, 0); P(fcntl64_, fd, 4, 06000); P(fcntl64_, fd, 3, 0); P(fcntl64_, 60, 3, 0); P(fcntl64_, fd, 4, 0); P(fcntl64_, 99, 1, 0); P(fcntl64_, fd, 999, 0); P(fcntl64_, fd, 9, 0); P(fcntl64_, fd, 1032, 0);
    P(lseek_, fd, 7, 0); P(lseek_, 60, 0, 1); P(close_range_, 50, 70, 0); P(fcntl64_, 60, 1, 0); P(close_range_, 5, 4, 0); P(close_range_, 90, -1, 4);
    P(fcntl_, fd, 5, &l); printf("%d %d %d %d\n", l.type, l.start, l.len, l.pid); l.type = 1; P(fcntl_, fd, 6, &l); l.type = 7; P(fcntl_, fd, 6, &l); l.type = 1; l.whence = 5; P(fcntl_, fd, 6, &l); l.whence = 0; l.start = -5; P(fcntl_, fd, 6, &l);
    if (!S(fork_)) { /* both sides print: they take turns, far enough apart for a loaded machine */
        struct flock m = {0, 0, 15, 2, 0};
        sleep_ms(200);
        fd = S(open_, "f", 2);
        P(fcntl_, fd, 5, &m); printf("%d %d %d %d\n", m.type, m.start, m.len, m.pid == S(64)); m.type = 0; m.start = 15; m.len = 2; P(fcntl_, fd, 6, &m); m.start = 30; m.len = 0; P(fcntl_, fd, 6, &m); m.start = 0; m.len = 10; m.type = 1; P(fcntl_, fd, 6, &m);
        m.start = 12; m.len = 1; P(fcntl_, fd, 7, &m); P(flock_, fd, 6); P(flock_, fd, 2); fflush(stdout); S(exit_, 3);
    }
    P(flock_, fd, 1); P(flock_, fd, 2); sleep_ms(600); l.type = 2; l.start = 0; l.len = 0; i = S(fcntl_, fd, 6, &l); sleep_ms(400); printf("unlocked %d\n", i); S(flock_, fd, 8); printf("%lx\n", reap()); P(flock_, fd, 77); P(flock_, 99, 1); P(close_, fd);
    for (i = 3; i < 1200; i++) if ((last = S(dup_, 0)) < 0) break;
    printf("limit %d %ld\n", i, last); P(open_, "f", 0); P(pipe_, p); P(close_range_, 3, -1, 0); P(open_, "f", 0); P(close_, 3);
}

static void pipes(void)
{
    struct pfd f[3];
    struct ts t = {0, 0};
    unsigned rs, ws;
    struct { long s, u; } tv = {0, 20000};
    long i, n;
    P(pipe_, BAD); P(pipe2_, p, 1); P(pipe2_, p, 04000); printf("%d %d\n", p[0], p[1]); P(rd_, p[0], buf, 10); P(rd_, p[1], buf, 1); P(wr_, p[0], buf, 1); P(lseek_, p[0], 0, 0); P(pread_, p[0], buf, 1, 0, 0); P(fcntl64_, p[0], 1032, 0); P(rd_, p[0], buf, 0); P(wr_, p[1], buf, 0);
    f[0] = (struct pfd){p[0], 1, 9}; f[1] = (struct pfd){p[1], 4, 9}; f[2] = (struct pfd){99, 1, 9}; P(poll_, f, 3, 0); printf("%d %d %d\n", f[0].revents, f[1].revents, f[2].revents); P(poll_, f, 1, 10); P(poll_, BAD, 1, 0); P(poll_, 0, 0, 5); P(poll_, f, 99999, 0); f[2].fd = -1; P(poll_, f, 3, -1);
    P(wr_, p[1], big, 70000); P(wr_, p[1], big, 1); P(poll_, f, 3, 0); printf("%d %d %d\n", f[0].revents, f[1].revents, f[2].revents); P(rd_, p[0], buf, 100); P(wr_, p[1], big, 1); P(rd_, p[0], buf, 4000); P(wr_, p[1], big, 4096); P(wr_, p[1], big, 5000); P(rd_, p[0], buf, 100000); printf("%d\n", hash(buf, last)); P(rd_, p[0], buf, 1);
    for (n = i = 0; (i = S(wr_, p[1], big, 2049)) > 0; n += i) ; printf("2049s: %ld %ld\n", n, i); P(ioctl_, p[0], 0x541b, &i); printf("%ld\n", i); while (S(rd_, p[0], buf, 65536) > 0) ;
    for (n = i = 0; (i = S(wr_, p[1], big, 1)) > 0; n += i) ; printf("1s: %ld %ld\n", n, i); while (S(rd_, p[0], buf, 65536) > 0) ; P(fcntl64_, p[1], 1031, 5000); P(wr_, p[1], big, 70000); P(fcntl64_, p[1], 1031, 4096); P(close_, p[1]); P(poll_, f, 1, 0); printf("%d\n", f[0].revents); P(rd_, p[0], buf, 100000); P(rd_, p[0], buf, 1); P(poll_, f, 1, -1); printf("%d\n", f[0].revents); P(close_, p[0]);
    S(48, 13, 1); P(pipe_, p); P(close_, p[0]); P(wr_, p[1], "x", 1); f[0] = (struct pfd){p[1], 4, 0}; P(poll_, f, 1, 0); printf("%d\n", f[0].revents); P(close_, p[1]);
    P(pipe_, p); P(pipe_, q);
    if (!S(fork_)) { S(close_, p[1]); for (n = 0; (i = S(rd_, p[0], buf + n, 30000)) > 0; n += i) ; i = hash(buf, n); S(wr_, q[1], &i, 4); S(wr_, q[1], &n, 4); S(exit_, 0); }
    S(close_, p[0]); P(wr_, p[1], big, 200000); P(close_, p[1]); P(rd_, q[0], &i, 4); P(rd_, q[0], &n, 4); printf("%d %ld %ld\n", hash(big, 200000) == i, n, reap());
    if (!S(fork_)) { sleep_ms(200); S(wr_, q[1], "ping", 4); S(exit_, 0); }
    f[0] = (struct pfd){q[0], 1, 0}; P(poll_, f, 1, 5); P(poll_, f, 1, 5000); printf("%d\n", f[0].revents); P(rd_, q[0], buf, 10); reap();
    if (!S(fork_)) { sleep_ms(200); S(wr_, q[1], "pong", 4); S(exit_, 0); }
    rs = 1 << q[0]; ws = 0; P(select_, q[0] + 1, &rs, 0, 0, &tv); printf("%d %ld\n", rs, tv.s + tv.u); rs = 1 << q[0]; tv.s = 5; P(select_, q[0] + 1, &rs, 0, 0, &tv); printf("%d %d\n", rs == 1u << q[0], tv.s < 5 && tv.s > 2); P(rd_, q[0], buf, 10); reap();
    rs = 1 << q[0]; ws = 1 << q[1]; tv.s = tv.u = 0; P(select_, q[1] + 1, &rs, &ws, 0, &tv); printf("%d %d\n", rs, ws == 1u << q[1]); P(select_, -1, 0, 0, 0, &tv); P(select_, 32, BAD, 0, 0, &tv); rs = 0x40000000; P(select_, 31, &rs, 0, 0, &tv); tv.u = -1; P(select_, 0, 0, 0, 0, &tv); rs = 1 << q[0]; P(pselect_, q[0] + 1, &rs, 0, 0, &t, 0); P(ppoll_, f, 1, &t, 0, 8); { long long m = 0; P(ppoll_, f, 1, &t, &m, 4); P(ppoll_, f, 1, &t, &m, 8); } t.nsec = -1; P(ppoll_, f, 1, &t, 0, 8);
    f[0] = (struct pfd){0, 1, 0}; i = S(open_, "f", 2); f[0].fd = i; f[0].events = 5; P(poll_, f, 1, 0); printf("%d\n", f[0].revents); i = S(open_, ".", 0); f[0].fd = i; P(poll_, f, 1, 0);
    i = S(open_, "f", 0); P(sendfile_, q[1], i, 0, 10); P(rd_, q[0], buf, 100); P(fallocate_, q[1], 0, 0, 0, 1, 0); P(fadvise_, q[0], 0, 0, 0, 0, 0); P(fsync_, q[0]); P(ftruncate_, q[1], 0);
    if (!S(fork_)) { char *a[] = {0}; (void)a; S(48, 13, 0); S(close_, q[0]); S(close_, p[0]); P(pipe_, p); S(close_, p[0]); fflush(stdout); S(wr_, p[1], "x", 1); S(exit_, 9); }
    printf("%lx\n", reap());
    P(mknod_, "ff", 010600, 0); if (!S(fork_)) { i = S(open_, "ff", 1); sleep_ms(200); S(wr_, i, "fifo", 4); S(exit_, 0); } i = P(open_, "ff", 0); P(rd_, i, buf, 9); P(rd_, i, buf, 9); reap();
}

int main(void)
{
    setvbuf(stdout, 0, _IOLBF, 0);
    { long limit[2] = {1024, 1024}; S(75, 7, limit); }
    files(); descriptors(); pipes();
    return 0;
}
