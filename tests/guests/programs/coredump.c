/* Who leaves a core: by signal, RLIMIT_CORE, dumpable and what stands at its place; what wait and SIGCHLD say of it. argv: a directory to leave it in. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static void limit(unsigned long bytes) { unsigned long long l[2] = {bytes, ~0ULL}; syscall(SYS_prlimit64, 0, RLIMIT_CORE, l, NULL); }
static void report(const char *what, const char *file)
{
    int info[32], status = 0;
    struct stat st;
    syscall(SYS_waitid, 0, 0, info, 4 | 0x01000000 /* WEXITED, WNOWAIT */, NULL);
    wait(&status);
    printf("%s: status %x code %d value %d, file %d", what, status, info[2], info[5], !stat(file, &st));
    printf(" mode %o\n", stat(file, &st) ? 0 : st.st_mode & 0777);
    unlink(file);
}
int main(int argc, char **argv)
{
    static const int signals[] = {SIGABRT, SIGSEGV, SIGQUIT, SIGTERM, SIGKILL, 31, 40, SIGXCPU};
    if (argc > 1 && chdir(argv[1]))
        return 1;
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) {
        char what[20];
        limit(~0UL);
        if (!fork()) {
            kill(getpid(), signals[i]);
            _exit(9);
        }
        sprintf(what, "signal %d", signals[i]);
        report(what, "core");
    }
    if (!fork()) {
        limit(0);
        abort();
    }
    report("limit 0", "core");
    if (!fork()) {
        limit(4095);
        abort();
    }
    report("limit 4095", "core");
    if (!fork()) {
        limit(8192);
        abort();
    }
    struct stat st;
    int n = -1, status;
    wait(&status);
    n = stat("core", &st);
    printf("limit 8192: status %x size at most %d\n", status, !n && st.st_size <= 8192);
    unlink("core");
    if (!fork()) {
        syscall(SYS_prctl, 4, 0, 0, 0, 0);
        abort();
    }
    report("not dumpable", "core");
    int fd = open("core", O_CREAT | O_WRONLY, 0644);
    fchmod(fd, 0644);
    close(fd);
    if (!fork())
        abort();
    report("a file of another mode", "core");
    symlink("elsewhere", "core");
    if (!fork())
        abort();
    report("a symbolic link", "core");
    mkdir("core", 0700);
    if (!fork())
        abort();
    report("a directory", "core");
    rmdir("core");
    if (!fork()) {
        if (!fork()) {
            limit(0);
            abort();
        }
        wait(&status);
        _exit(WIFSIGNALED(status) && !(status & 0x80) ? 0 : 1);
    }
    report("its child without", "core");
    signal(SIGCHLD, SIG_DFL);
    if (!fork()) {
        char *anon = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        strcpy(anon + 100, "written in its own memory");
        strcpy(shared + 100, "written in shared memory");
        abort();
    }
    wait(&status);
    printf("left %x\n", status);
    return 0;
}
