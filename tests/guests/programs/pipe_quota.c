/* What an unprivileged user may take by pipes: beyond pipe-user-pages-soft a new pipe has two pages and none grows, beyond -hard there is none.
 * With "limits" root sets them first (not for a native run: they are the whole host's). Otherwise they are met as they stand. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#define GETPIPE_SZ 1032
#define SETPIPE_SZ 1031
static long size_of(int fd) { return fcntl(fd, GETPIPE_SZ, 0) / 4096; }
static int set(const char *name, const char *value)
{
    char path[64];
    sprintf(path, "/proc/sys/fs/%s", name);
    int fd = open(path, O_WRONLY);
    if (fd < 0)
        return errno;
    int failed = write(fd, value, strlen(value)) < 0 ? errno : 0;
    close(fd);
    return failed;
}
static void show(const char *name)
{
    char path[64], text[32] = "";
    sprintf(path, "/proc/sys/fs/%s", name);
    int fd = open(path, O_RDONLY), n = (int)read(fd, text, sizeof text - 1);
    close(fd);
    printf("%s %.*s\n", name, n > 0 ? n - 1 : 0, text);
}
static void grow(int fd, int pages) { long got = fcntl(fd, SETPIPE_SZ, pages * 4096); printf("grow to %d: %ld, error %d\n", pages, got, got < 0 ? errno : 0); }
static void make(int rounds)
{
    for (int i = 0, last = -1, p[2]; i < rounds; i++) {
        int failed = pipe(p) ? errno : 0;
        int pages = failed ? -failed : (int)size_of(p[0]);
        if (pages != last)
            printf("pipe %d: %d\n", i, pages);
        last = pages;
    }
}
static void user(void)
{
    if (setgid(54321) || setuid(54321)) /* nobody else's pipes */
        exit(77);
}
int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "limits")) {
        printf("bad %d %d %d\n", set("pipe-user-pages-soft", "-1"), set("pipe-user-pages-hard", "x"), set("pipe-max-size", "-5"));
        printf("set %d %d %d\n", set("pipe-user-pages-soft", "64"), set("pipe-user-pages-hard", "72"), set("pipe-max-size", "70000"));
        show("pipe-max-size"), show("pipe-user-pages-soft"), show("pipe-user-pages-hard");
        int p[2];
        pipe(p);
        grow(p[0], 64);
        mkfifo("/tmp/quota.fifo", 0666);
        chmod("/tmp/quota.fifo", 0666);
        fflush(stdout);
        if (!fork()) {
            user();
            printf("set by a user %d\n", set("pipe-user-pages-soft", "0"));
            make(9);
            int fd = open("/tmp/quota.fifo", O_RDWR);
            printf("fifo %d\n", fd < 0 ? errno : 0);
            close(5), close(6); /* the first of the user's: 3 and 4 are root's */
            fd = open("/tmp/quota.fifo", O_RDWR);
            printf("fifo %d of %ld\n", fd < 0 ? errno : 0, size_of(fd));
            grow(8, 8);
            grow(8, 32);
            grow(8, 16);
            fflush(stdout);
            _exit(0);
        }
        wait(NULL);
        unlink("/tmp/quota.fifo");
        return 0;
    }
    show("pipe-user-pages-soft"), show("pipe-user-pages-hard");
    struct rlimit files = {2100, 2100};
    setrlimit(RLIMIT_NOFILE, &files);
    user();
    make(1030);
    grow(3, 8);
    grow(3, 16);
    grow(3, 32);
    return 0;
}
