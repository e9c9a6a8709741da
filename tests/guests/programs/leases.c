/* LTP fcntl23, 24, 25, 26, 27, 31, 32, 33, 38, 39 and fcntl's hints: owners, leases and directory notification. Run by root; its argument is a
   directory on tmpfs. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *why(long r) { return r < 0 ? strerror(errno) : "ok"; }
static volatile int told, told_fd, told_code, told_band, on_told = -1, told_lease;

static void handler(int number, siginfo_t *info, void *context)
{
    (void)context;
    told++;
    told_code = info->si_code;
    told_band = ((int *)info)[3];
    told_fd = number == SIGIO ? -1 : ((int *)info)[4];
    if (on_told >= 0)
        fcntl(told_lease, F_SETLEASE, on_told);
}

static void listen_for(int number)
{
    struct sigaction act;
    memset(&act, 0, sizeof act);
    act.sa_sigaction = handler;
    act.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(number, &act, 0);
}

static void moment(void) { usleep(20000); }

static void show_owner(const char *what, int fd)
{
    struct f_owner_ex ex = {77, 77};
    int own = syscall(SYS_fcntl64, fd, F_GETOWN, 0), me = getpid();
    errno = 0;
    int r = fcntl(fd, F_GETOWN_EX, &ex);
    printf("%s: own %s, ex %s type %d %s\n", what, own == me ? "me" : own == 0 ? "nobody" : own < 0 ? "a group" : "another", why(r), ex.type,
           ex.pid == me ? "me" : ex.pid == 0 ? "nobody" : "another");
}

static void owners(void)
{
    int p[2], gone;
    pipe(p);
    show_owner("at first", p[0]);
    printf("set %s\n", why(fcntl(p[0], F_SETOWN, getpid())));
    show_owner("me", p[0]);
    printf("a group %s\n", why(fcntl(p[0], F_SETOWN, -getpgrp())));
    show_owner("group", p[0]);
    printf("no such process %s, group %s, the least %s\n", why(fcntl(p[0], F_SETOWN, 999999)), why(fcntl(p[0], F_SETOWN, -999999)),
           why(fcntl(p[0], F_SETOWN, 1 << 31)));
    show_owner("still", p[0]);
    for (int type = -1; type < 4; type++) {
        struct f_owner_ex ex = {type, type == F_OWNER_PGRP ? getpgrp() : getpid()};
        printf("ex %d %s\n", type, why(fcntl(p[0], F_SETOWN_EX, &ex)));
        show_owner("then", p[0]);
    }
    struct f_owner_ex ex = {F_OWNER_PID, 999999};
    printf("ex no such process %s", why(fcntl(p[0], F_SETOWN_EX, &ex)));
    ex.pid = 0;
    printf(", nobody %s, nowhere %s %s\n", why(fcntl(p[0], F_SETOWN_EX, &ex)), why(fcntl(p[0], F_SETOWN_EX, 8)), why(fcntl(p[0], F_GETOWN_EX, 8)));
    show_owner("nobody", p[0]);
    if (!(gone = fork()))
        pause();
    fcntl(p[0], F_SETOWN, gone);
    show_owner("child", p[0]);
    kill(gone, SIGKILL);
    waitpid(gone, 0, 0);
    show_owner("child that is gone", p[0]);
    printf("signals: %s %s %s, now %d\n", why(fcntl(p[0], F_SETSIG, 65)), why(fcntl(p[0], F_SETSIG, -1)), why(fcntl(p[0], F_SETSIG, SIGUSR2)),
           fcntl(p[0], F_GETSIG));
}

static void hints(void)
{
    int fd = open("h", O_CREAT | O_RDWR, 0600), other = open("h", O_RDONLY), p[2];
    for (int i = 0; i < 8; i++) {
        unsigned long long in = i, out = 99;
        printf("hint %d %s", i, why(fcntl(fd, F_SET_RW_HINT, &in)));
        printf(" %s %lld", why(fcntl(other, F_GET_RW_HINT, &out)), out);
    }
    unsigned long long out = 99, wide = 1LL << 32;
    pipe(p);
    printf("; wide %s, pipe %s %lld, nowhere %s, of the descriptor %s %s\n", why(fcntl(fd, F_SET_RW_HINT, &wide)), why(fcntl(p[0], F_GET_RW_HINT, &out)),
           out, why(fcntl(fd, F_GET_RW_HINT, 8)), why(fcntl(fd, F_GET_FILE_RW_HINT, &out)), why(fcntl(fd, F_SET_FILE_RW_HINT, &out)));
    fflush(stdout);
    if (!fork()) {
        setuid(1000);
        out = 1;
        printf("another user's hint %s, lease %s\n", why(fcntl(fd, F_SET_RW_HINT, &out)), why(fcntl(other, F_SETLEASE, F_RDLCK)));
        fflush(stdout);
        _exit(0);
    }
    wait(0);
    unlink("h");
}

static void may_lease(void)
{
    static const int opens[] = {O_RDONLY, O_WRONLY, O_RDWR};
    int p[2];
    pipe(p);
    close(open("l", O_CREAT | O_RDWR, 0600));
    printf("pipe %s, directory %s, bad kind %s %s\n", why(fcntl(p[0], F_SETLEASE, F_RDLCK)),
           why(fcntl(open(".", O_RDONLY), F_SETLEASE, F_RDLCK)), why(fcntl(open("l", O_RDONLY), F_SETLEASE, 3)),
           why(fcntl(open("l", O_RDONLY), F_SETLEASE, -1)));
    for (int i = 3; i < 64; i++)
        close(i);
    for (int i = 0; i < 3; i++)
        for (int j = -1; j < 3; j++) {
            int fd = open("l", opens[i]), second = j < 0 ? -1 : open("l", opens[j]);
            printf("open %d and %d:", i, j);
            printf(" none %d, read %s", fcntl(fd, F_GETLEASE), why(fcntl(fd, F_SETLEASE, F_RDLCK)));
            printf(" %d, write %s", fcntl(fd, F_GETLEASE), why(fcntl(fd, F_SETLEASE, F_WRLCK)));
            printf(" %d, read again %s", fcntl(fd, F_GETLEASE), why(fcntl(fd, F_SETLEASE, F_RDLCK)));
            printf(" %d, of the second %d %s", fcntl(fd, F_GETLEASE), j < 0 ? 9 : fcntl(second, F_GETLEASE),
                   j < 0 ? "-" : why(fcntl(second, F_SETLEASE, F_RDLCK)));
            printf(", none %s", why(fcntl(fd, F_SETLEASE, F_UNLCK)));
            printf(" %s %d\n", why(fcntl(fd, F_SETLEASE, F_UNLCK)), fcntl(fd, F_GETLEASE));
            close(fd);
            close(second);
        }
}

/* A lease of `kind`, and what another process finds that does `way`. */
static void breaks(int kind, int way, int signal_number, int answer)
{
    int fd = open("l", O_RDONLY), dup_fd = dup(fd), status, go[2];
    char c;
    if (signal_number)
        fcntl(fd, F_SETSIG, signal_number);
    printf("lease %d %s, way %d:", kind, why(fcntl(fd, F_SETLEASE, kind)), way);
    told = told_fd = told_code = told_band = 0;
    told_lease = fd;
    on_told = answer;
    fflush(stdout);
    pipe(go);
    if (!fork()) {
        static const int flags[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_WRONLY | O_TRUNC};
        close(fd);
        close(dup_fd);
        errno = 0;
        if (answer < 0)
            printf(" %s;", way < 5 ? why(open("l", flags[way] | O_NONBLOCK)) : way == 5 ? "not asked" : why(chmod("l", 0600)));
        else
            printf(" %s;", way < 5 ? why(open("l", flags[way])) : way == 5 ? why(truncate("l", 3)) : why(chmod("l", 0600)));
        fflush(stdout);
        write(go[1], "x", 1);
        _exit(0);
    }
    while (read(go[0], &c, 1) < 0)
        ;
    wait(&status);
    printf(" told %d code %d band %x fd %d, now %d", told, told_code, told_band, told_fd == fd ? 1 : told_fd, fcntl(fd, F_GETLEASE));
    on_told = -1;
    printf(", given back %s\n", why(fcntl(fd, F_SETLEASE, F_UNLCK)));
    close(go[0]);
    close(go[1]);
    close(dup_fd);
    close(fd);
}

static void interrupted(void)
{
    int fd = open("l", O_RDONLY);
    fcntl(fd, F_SETLEASE, F_WRLCK);
    told = 0;
    int pid = fork();
    if (!pid) {
        struct sigaction act;
        close(fd);
        memset(&act, 0, sizeof act);
        act.sa_sigaction = handler;
        act.sa_flags = SA_SIGINFO;
        sigaction(SIGALRM, &act, 0);
        alarm(1);
        errno = 0;
        printf("interrupted: %s\n", why(open("l", O_WRONLY)));
        fflush(stdout);
        _exit(0);
    }
    while (waitpid(pid, 0, 0) < 0)
        ;
    printf("told %d, pending %d\n", told, fcntl(fd, F_GETLEASE));
    close(fd); /* the last descriptor takes the lease with it */
    printf("after close: %s\n", why(open("l", O_RDWR | O_NONBLOCK)));
}

static void leases(void)
{
    listen_for(SIGIO);
    listen_for(40);
    may_lease();
    for (int i = 3; i < 64; i++)
        close(i);
    for (int kind = 0; kind < 2; kind++)
        for (int way = 0; way < 7; way++) {
            breaks(kind, way, 0, -1);
            breaks(kind, way, 40, F_UNLCK);
        }
    breaks(F_WRLCK, 0, 0, F_RDLCK);
    interrupted();
    unlink("l");
}

static int watched;

static void count(const char *what)
{
    printf(" %s %d%s", what, told, told && told_fd != watched ? " elsewhere" : "");
    told = 0;
}

static void events(unsigned mask)
{
    char c;
    struct spec { int sec, ns; } times[2] = {{5, 5}, {6, 6}}, one[2] = {{5, 5}, {0, (1 << 30) - 2}};
    mkdir("d", 0700);
    mkdir("d/sub", 0700);
    mkdir("e", 0700);
    int old = open("d/old", O_CREAT | O_RDWR, 0600);
    watched = open("d", O_RDONLY | O_DIRECTORY);
    fcntl(watched, F_SETSIG, 40);
    printf("mask %x %s:", mask, why(fcntl(watched, F_NOTIFY, mask | DN_MULTISHOT)));
    told = 0;
    write(old, "abc", 3), count("write");
    pwrite(old, "abc", 3, 0), count("pwrite");
    lseek(old, 0, SEEK_SET), read(old, &c, 1), count("read");
    pread(old, &c, 1, 0), count("pread");
    read(old, &c, 0), count("read nothing");
    ftruncate(old, 1), count("ftruncate");
    truncate("d/old", 2), count("truncate");
    chmod("d/old", 0640), count("chmod");
    fchmod(old, 0600), count("fchmod");
    syscall(SYS_chown32, "d/old", 0, 0), count("chown");
    syscall(SYS_utimensat, AT_FDCWD, "d/old", times, 0), count("utimes");
    syscall(SYS_utimensat, AT_FDCWD, "d/old", one, 0), count("atime");
    int fd = open("d/new", O_CREAT | O_RDWR, 0600);
    count("create");
    close(open("d/new", O_CREAT | O_RDWR, 0600)), count("open");
    close(open("d/new", O_RDWR | O_TRUNC)), count("trunc");
    rename("d/new", "d/name"), count("rename");
    write(fd, "x", 1), count("write renamed");
    rename("d/name", "e/name"), count("out");
    write(fd, "x", 1), count("write moved");
    rename("e/name", "d/name"), count("in");
    link("d/name", "d/link"), count("link");
    symlink("name", "d/symlink"), count("symlink");
    mkfifo("d/fifo", 0600), count("mkfifo");
    mkdir("d/dir", 0700), count("mkdir");
    chmod("d/dir", 0700), count("chmod of a directory in it");
    close(open("d/sub/deep", O_CREAT | O_RDWR, 0600)), count("create deeper");
    unlink("d/sub/deep"), count("unlink deeper");
    rmdir("d/dir"), count("rmdir");
    unlink("d/link"), count("unlink link");
    unlink("d/name"), count("unlink");
    unlink("d/symlink"), count("unlink symlink");
    unlink("d/fifo"), count("unlink fifo");
    chmod("d", 0750), count("chmod of itself");
    DIR *listing = opendir("d");
    readdir(listing), count("readdir");
    closedir(listing);
    printf("; off %s", why(fcntl(watched, F_NOTIFY, 0)));
    write(old, "x", 1), chmod("d/old", 0644), count("then");
    fcntl(watched, F_NOTIFY, mask);
    lseek(old, 0, SEEK_SET);
    for (int i = 0; i < 3; i++)
        write(old, "x", 1), pread(old, &c, 1, 0), chmod("d/old", 0600), close(open("d/again", O_CREAT, 0600)), rename("d/again", "d/2"), unlink("d/2");
    count("one shot");
    fcntl(watched, F_NOTIFY, mask | DN_MULTISHOT);
    close(dup(watched));
    write(old, "x", 1), chmod("d/old", 0644), count("after the close of a copy");
    close(fd);
    unlink("d/old");
    close(old);
    close(watched);
    rmdir("d/sub");
    rmdir("d");
    rmdir("e");
    printf("\n");
}

int main(int argc, char **argv)
{
    umask(0);
    if (argc < 2 || chdir(argv[1]))
        return 1;
    owners();
    hints();
    leases();
    int fd = open("file", O_CREAT | O_RDWR, 0600);
    printf("notify on a file %s, nothing %s\n", why(fcntl(fd, F_NOTIFY, DN_MODIFY)), why(fcntl(fd, F_NOTIFY, 0)));
    unlink("file");
    for (unsigned mask = 1; mask < 64; mask <<= 1)
        events(mask);
    events(63);
    moment();
    return 0;
}
