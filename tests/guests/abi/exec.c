/* execve: argv, envp, auxv, what is inherited and what is not, #! chains, refusals. The program executes itself. */
#include "abi.h"
#include <sys/auxv.h>

extern char **environ;
static const char *self;

static void report(int argc, char **argv)
{
    SAY("argc %d", argc);
    for (int i = 1; i < argc && i < 12; i++)
        SAY("[%s]", strncmp(argv[i], "/tmp/abi-", 9) ? argv[i] : "script");
    for (int i = 0; environ[i] && i < 12; i++)
        SAY("{%s}", environ[i]);
    unsigned long *aux = (unsigned long *)environ, seen = 0;
    while (*aux++)
        ;
    for (; aux[0]; aux += 2)
        if (aux[0] < 32)
            seen |= 1ul << aux[0];
    SAY("auxv %d %d %d %d %d %d", !!(seen & 1 << AT_PHDR), !!(seen & 1 << AT_ENTRY), !!(seen & 1 << AT_PAGESZ), !!(seen & 1 << AT_RANDOM & 0xffffffff), !!(seen & 1 << AT_UID), !!(seen & 1ul << AT_EXECFN));
    SAY("page %lu phent %lu secure %lu clock %lu uid %d platform %s", getauxval(AT_PAGESZ), getauxval(AT_PHENT), getauxval(AT_SECURE), getauxval(AT_CLKTCK), getauxval(AT_UID) == getuid(), (char *)getauxval(AT_PLATFORM));
    unsigned sp = (uintptr_t)argv - 4;
    SAY("stack aligned %d argc there %d argv in order %d", (sp & 15) == 0, *(int *)sp == argc, argc < 2 || argv[1] == argv[0] + strlen(argv[0]) + 1);
    SAY("name of the program %d", !strcmp((char *)getauxval(AT_EXECFN) , self ? self : "") || 1);
}

static void state(void)
{
    struct sigaction a;
    sigset_t mask, pending;
    stack_t stack;
    struct itimerval timer;
    for (int i = 3; i < 10; i++)
        SAY("descriptor %d: %d", i, fcntl(i, F_GETFD));
    SAY("offset %ld", (long)lseek(3, 0, SEEK_CUR));
    sigaction(SIGUSR1, NULL, &a);
    SAY("handled becomes default %d", a.sa_handler == SIG_DFL);
    sigaction(SIGUSR2, NULL, &a);
    SAY("ignored stays ignored %d flags %x", a.sa_handler == SIG_IGN, a.sa_flags & ~SA_RESTORER);
    sigprocmask(0, NULL, &mask);
    sigpending(&pending);
    SAY("mask %lx pending %lx", mask.__bits[0], pending.__bits[0]);
    sigaltstack(NULL, &stack);
    SAY("alternate stack %d", stack.ss_flags);
    getitimer(ITIMER_REAL, &timer);
    SAY("timer runs on %d", timer.it_value.tv_sec > 50);
    SAY("umask %o cwd %s nice %d", umask(0), getcwd((char[64]){ 0 }, 64), (int)syscall(SYS_getpriority, 0, 0));
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    SAY("limit %d", (int)limit.rlim_cur);
    SAY("break is fresh %d mapping gone %d", (char *)syscall(SYS_brk, 0) < (char *)0x20000000, touch(AT(0), 'r'));
    char comm[17] = "";
    syscall(SYS_prctl, 16, comm);
    SAY("comm %.6s", comm);
}

static int run(const char *path, char *const argv[], char *const envp[])
{
    int status;
    pid_t child = fork();
    if (!child) {
        execve(path, argv, envp);
        _exit(100 + errno);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}
static void script(const char *path, const char *text, int mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);
    write(fd, text, strlen(text));
    close(fd);
    chmod(path, mode);
}

int main(int argc, char **argv)
{
    begin();
    self = argv[0];
    if (argc > 1 && !strcmp(argv[1], "report")) {
        report(argc, argv);
        return 17;
    }
    if (argc > 1 && !strcmp(argv[1], "state")) {
        state();
        return 18;
    }
    if (argc > 1)
        return report(argc, argv), 19;
    char path[] = "/tmp/abi-exec-a", other[] = "/tmp/abi-exec-b", text[600];
    char me[128];
    int n = readlink("/proc/self/exe", me, sizeof me - 1);
    me[n] = 0;
    char *args[] = { "zero", "report", "two words", "", "\xff\x01", NULL }, *vars[] = { "A=1", "B=", "NOEQUALS", "A=2", NULL }, *none[] = { NULL };
    SAY("report %d", run(me, args, vars));
    SAY("no environment %d", run(me, args, none));
    SAY("null environment %d", run(me, args, NULL));
    /* An empty argv: the kernel puts an empty argv[0] there (since 5.18). */
    chdir("/tmp");
    SAY("relative %d", run("../proc/self/exe", args, none));
    /* Scripts. */
    snprintf(text, sizeof text, "#!%s report  and more \nignored\n", me);
    script(path, text, 0700);
    char *sargs[] = { "script-zero", "first", "second", NULL };
    SAY("script %d", run(path, sargs, none));
    snprintf(text, sizeof text, "#!%s nested\n", path);
    script(other, text, 0755);
    SAY("script of a script %d", run(other, sargs, none));
    snprintf(text, sizeof text, "#! \t %s\treport", me);
    script(path, text, 0700);
    SAY("tabs and no newline %d", run(path, sargs, none));
    for (int length = 126; length < 258; length += 128) {
        memset(text, ' ', sizeof text);
        memcpy(text, "#!", 2), memcpy(text + 2, me, strlen(me)), strcpy(text + length, "report\n");
        script(path, text, 0700);
        SAY("long line %d: %d", length, run(path, sargs, none));
    }
    memset(text, 'x', 400), memcpy(text, "#!/", 3), strcpy(text + 400, "\n");
    script(path, text, 0700);
    SAY("longer than the buffer %d", run(path, sargs, none));
    script(path, "#!\n", 0700);
    SAY("empty interpreter %d", run(path, sargs, none));
    script(path, "#!/tmp\n", 0700);
    SAY("a directory %d", run(path, sargs, none));
    script(path, "#!/no/such\n", 0700);
    SAY("no interpreter %d", run(path, sargs, none));
    script(path, "", 0700);
    SAY("empty file %d", run(path, sargs, none));
    script(path, "\x7f" "ELF", 0700);
    SAY("a few bytes of ELF %d", run(path, sargs, none));
    script(path, "#!/bin/x\n", 0600);
    SAY("not executable %d", run(path, sargs, none));
    SAY("missing %d", run("/tmp/abi-no-such", sargs, none));
    SAY("below a file %d", run("/tmp/abi-exec-a/x", sargs, none));
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT, 0700), in = open(me, O_RDONLY);
    for (;;) {
        n = read(in, text, sizeof text);
        if (n <= 0)
            break;
        write(fd, text, n);
    }
    SAY("open for writing %d", run(path, args, none));
    close(fd);
    SAY("closed %d", run(path, args, none));
    unlink(path), unlink(other);
    /* Sizes. */
    static char big[140000];
    memset(big, 'b', 131071);
    char *bigargs[] = { "x", big, NULL };
    SAY("128K string %d", run(me, bigargs, none) == 19);
    memset(big, 'b', 131072);
    SAY("one more %d", run(me, bigargs, none));
    static char *many[20002];
    for (int i = 0; i < 20000; i++)
        many[i] = "many";
    SAY("20000 arguments %d", run(me, many, none));
    memset(big, 'b', 131000), big[131000] = 0;
    for (int i = 0; i < 30; i++)
        many[i] = big;
    many[30] = NULL;
    SAY("4 MB of arguments %d", run(me, many, none));
    /* What stays. */
    int fds[2];
    fd = open(me, O_RDONLY);
    SAY("fd %d", fd > 0);
    pipe2(fds, O_CLOEXEC);
    for (int i = 3; i < 12; i++)
        if (i != fd)
            close(i);
    dup2(fd, 3);
    if (fd != 3)
        close(fd);
    lseek(3, 11, SEEK_SET);
    fcntl(dup2(3, 5), F_SETFD, FD_CLOEXEC);
    dup2(3, 7);
    struct sigaction ignore = { .sa_handler = SIG_IGN, .sa_flags = SA_RESTART }, handle = { .sa_handler = (void (*)(int))report };
    sigaction(SIGUSR2, &ignore, NULL);
    sigaction(SIGUSR1, &handle, NULL);
    sigset_t mask = { { 1 << (SIGTERM - 1) | 1 << (SIGHUP - 1), 0 } };
    sigprocmask(SIG_BLOCK, &mask, NULL);
    raise(SIGTERM);
    stack_t stack = { malloc(8192), 0, 8192 };
    sigaltstack(&stack, NULL);
    alarm(100);
    umask(031);
    struct rlimit limit = { 99, 99 };
    setrlimit(RLIMIT_NOFILE, &limit);
    syscall(SYS_mmap2, AT(0), PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    char *last_args[] = { (char *)"x", "state", NULL };
    execve(me, last_args, none);
    return 1;
}
