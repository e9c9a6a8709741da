/* LTP creat08, write and set-user-ID, lseek11, mkfifo, readlink of /proc/self/fd, fcntl30 and fcntl37: native's answers, run by root.
   Its argument is a directory it may write. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *why(long r) { return r < 0 ? strerror(errno) : "ok"; }

static unsigned mode_of(const char *name)
{
    struct stat st;
    return stat(name, &st) ? 0 : st.st_mode & 07777;
}

/* What each way of changing the content leaves of the mode. */
static void privileges(const char *who)
{
    static const unsigned modes[] = {06777, 04777, 02777, 02767, 06767, 01777};
    for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++) {
        unsigned left[6];
        for (int way = 0; way < 6; way++) {
            static const char *names[] = {"s0", "s1", "s2", "s3", "s4", "s5"};
            const char *name = names[way];
            int fd;
            if (mode_of(name) != modes[i])
                chmod(name, modes[i]);
            fd = open(name, O_RDWR | (way == 4 ? O_TRUNC : 0));
            if (way == 0) write(fd, "x", 1);
            if (way == 1) pwrite(fd, "x", 1, 5);
            if (way == 2) ftruncate(fd, 9);
            if (way == 3) truncate(name, 7);
            if (way == 5) write(fd, "", 0);
            close(fd);
            left[way] = mode_of(name);
        }
        printf("%s %04o: write %04o pwrite %04o ftruncate %04o truncate %04o O_TRUNC %04o nothing %04o\n", who, modes[i], left[0], left[1],
               left[2], left[3], left[4], left[5]);
    }
}

static void suid(void)
{
    static const char *names[] = {"s0", "s1", "s2", "s3", "s4", "s5"};
    for (int i = 0; i < 6; i++)
        close(open(names[i], O_CREAT | O_RDWR, 0666)), chmod(names[i], 0666), syscall(SYS_chown32, names[i], 1000, 1000);
    privileges("root");
    fflush(stdout);
    if (!fork()) {
        syscall(SYS_setgroups32, 0, 0);
        setgid(1000);
        setuid(1000);
        privileges("member");
        fflush(stdout);
        _exit(0);
    }
    wait(0);
    for (int i = 0; i < 6; i++)
        unlink(names[i]);
}

static void holes(void)
{
    int fd = open("holes", O_CREAT | O_RDWR | O_TRUNC, 0600);
    static const long long at[] = {0, 1, 4096, 4097, 8191, 8192, 20000, 40959, 40960, 49151, 49152, 60000, 61439, 61440, -1};
    pwrite(fd, "a", 1, 4096);
    pwrite(fd, "b", 1, 40960);
    ftruncate(fd, 61440);
    for (unsigned i = 0; i < sizeof at / sizeof *at; i++) {
        errno = 0;
        long long data = lseek(fd, at[i], SEEK_DATA);
        int de = errno;
        errno = 0;
        long long hole = lseek(fd, at[i], SEEK_HOLE);
        printf("at %lld: data %lld (%s), hole %lld (%s)\n", at[i], data, de ? strerror(de) : "ok", hole, errno ? strerror(errno) : "ok");
    }
    close(fd);
    unlink("holes");
}

static void fifo(void)
{
    struct stat st;
    char text[8] = "";
    printf("mkfifo %s\n", why(mkfifo("fifo", 0640)));
    printf("again %s\n", why(mkfifo("fifo", 0640)));
    stat("fifo", &st);
    printf("mode %o size %d\n", st.st_mode, (int)st.st_size);
    printf("write end alone: %s\n", why(open("fifo", O_WRONLY | O_NONBLOCK)));
    fflush(stdout);
    if (!fork()) {
        int fd = open("fifo", O_WRONLY);
        write(fd, "through", 7);
        _exit(0);
    }
    int fd = open("fifo", O_RDONLY);
    printf("read %d %s\n", (int)read(fd, text, 7), text);
    wait(0);
    chmod("fifo", 0600);
    stat("fifo", &st);
    printf("mode %o\n", st.st_mode);
    int seen = 0;
    DIR *d = opendir(".");
    for (struct dirent *e; (e = readdir(d));)
        seen += !strcmp(e->d_name, "fifo") && e->d_type == DT_FIFO;
    closedir(d);
    const char *renamed = why(rename("fifo", "fifo2"));
    printf("listed %d, rename %s, unlink %s\n", seen, renamed, why(unlink("fifo2")));
}

static void links(void)
{
    struct stat st;
    lstat("/proc/self/fd/0", &st);
    printf("fd link: size %d\n", (int)st.st_size);
    lstat("/proc/self/exe", &st);
    printf("exe link: size %d\n", (int)st.st_size);
}

static void pipes(const char *who)
{
    static const unsigned sizes[] = {0, 1, 4096, 4097, 65536, 1048576, 1048577, 2097152, 65536, 0x80000001u, 0xffffffffu};
    int p[2];
    pipe(p);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (who[0] == 'r' && sizes[i] > 1048576 && sizes[i] <= 2097152)
            continue; /* root may, where it has CAP_SYS_RESOURCE */
        errno = 0;
        int set = fcntl(p[1], F_SETPIPE_SZ, sizes[i]);
        printf("%s pipe %u: %d %s, now %d\n", who, sizes[i], set, why(set), fcntl(p[0], F_GETPIPE_SZ));
    }
    close(p[0]);
    close(p[1]);
}

int main(int argc, char **argv)
{
    umask(0);
    if (argc < 2 || chdir(argv[1]))
        return 1;
    suid();
    holes();
    fifo();
    links();
    pipes("root");
    fflush(stdout);
    if (!fork()) {
        setgid(1000);
        setuid(1000);
        pipes("user");
        fflush(stdout);
        _exit(0);
    }
    wait(0);
    return 0;
}
