/* Writing to files of /proc with a position and without, and advice on them: every answer compared with native Linux. */
#include "probe.h"

enum { readahead_ = 225 };

static char buf[64];

static void show(int fd)
{
    memset(buf, 0, sizeof buf);
    S(pread_, fd, buf, 60, 0, 0);
    printf("%s", buf);
}

int main(void)
{
    int fd = P(open_, "/proc/self/comm", 2);
    P(wr_, fd, "first", 5); P(lseek_, fd, 0, 1); show(fd); P(wr_, fd, "second", 6); P(lseek_, fd, 0, 1); show(fd);
    P(pwrite_, fd, "third", 5, 0, 0); P(pwrite_, fd, "third", 5, 3, 0); P(lseek_, fd, 0, 1); show(fd);
    P(close_, fd); fd = P(open_, "/proc/self/comm", 0); P(wr_, fd, "x", 1); P(close_, fd);

    fd = P(open_, "/proc/self/timerslack_ns", 2);
    P(wr_, fd, "60000\n", 6); show(fd); P(pwrite_, fd, "70000\n", 6, 0, 0); show(fd); P(close_, fd);

    fd = P(open_, "/proc/self/oom_score_adj", 2);
    P(wr_, fd, "7\n", 2); show(fd); P(pwrite_, fd, "8\n", 2, 0, 0); show(fd); P(pwrite_, fd, "9\n", 2, 5, 0); show(fd);
    P(close_, fd); fd = P(open_, "/proc/self/oom_score_adj", 0); P(pwrite_, fd, "8\n", 2, 0, 0); P(close_, fd);

    fd = P(open_, "/proc/meminfo", 0);
    P(fadvise_, fd, 0, 0, 0, 0, 4); P(fadvise_, fd, 0, 0, 0, 0, 0); P(readahead_, fd, 0, 0, 4096); P(close_, fd);
    return 0;
}
