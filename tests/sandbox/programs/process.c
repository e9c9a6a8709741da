/* Processes: birth, exec, death, waiting, groups, threads. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
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

static const char *self;
static volatile int shared, tid_word;
static char thread_stack[2][16384];

static void status(const char *what, int s) { printf("%s exited %d code %d signal %d\n", what, WIFEXITED(s), WEXITSTATUS(s), WTERMSIG(s)); }

static int error(long r) { return r < 0 ? errno : 0; }

static int run(const char *path, char *const argv[], char *const envp[])
{
    int s;
    fflush(stdout);
    pid_t child = fork();
    if (!child) { execve(path, argv, envp); _exit(100 + errno); }
    waitpid(child, &s, 0);
    return s;
}

static int sleeper(void *arg) { for (;;) pause(); return 0; }
static int execer(void *arg) { char *argv[] = { (char *)self, "child", "from-thread", NULL }; execve(self, argv, NULL); syscall(SYS_exit_group, 100 + errno); return 1; }
static int quitter(void *arg) { syscall(SYS_exit_group, 9); return 0; }
static int adder(void *arg) { shared += 5; return 0; }

int main(int argc, char **argv, char **envp)
{
    int s;
    self = argv[0];
    if (argc > 1 && !strncmp(argv[1], "child", 5)) {
        if (strlen(argv[1]) > 100) { printf("child got %u bytes\n", (unsigned)strlen(argv[1])); return 42; }
        printf("child argc %d:", argc);
        for (int i = 1; i < argc; i++) printf(" [%s]", argv[i]);
        for (int i = 0; envp[i]; i++) printf(" {%s}", envp[i]);
        printf("\n");
        return 42;
    }
    if (argc == 1 && !argv[0][0]) return 7; /* exec'd without any argument */
    setvbuf(stdout, NULL, _IOLBF, 0);
    pid_t child = fork();
    if (!child) _exit(300 & 0xff);
    printf("wait %d\n", waitpid(child, &s, 0) == child); status("exit", s);
    printf("no child %d\n", error(wait(&s)));
    child = fork();
    if (!child) { raise(SIGKILL); }
    waitpid(child, &s, 0); status("kill", s);
    printf("options %d\n", error(waitpid(-1, &s, 0x1000)));

    /* vfork shares memory and the parent waits */
    shared = 1;
    child = vfork();
    if (!child) { shared = 2; _exit(0); }
    printf("vfork %d\n", shared);
    waitpid(child, NULL, 0);

    /* WNOHANG, groups, waitid */
    int fds[2];
    pipe(fds);
    child = fork();
    if (!child) { char c; setpgid(0, 0); read(fds[0], &c, 1); _exit(5); }
    printf("nohang %d\n", waitpid(child, &s, WNOHANG));
    while (getpgid(child) != child) sched_yield();
    printf("own group only %d\n", error(waitpid(0, &s, WNOHANG)));
    printf("setpgid %d %d %d\n", error(setpgid(1, 0)), error(setpgid(child, 99999)), error(setpgid(child, -1)));
    write(fds[1], "x", 1);
    int info[32];
    memset(info, 0, sizeof info);
    printf("waitid %ld", syscall(SYS_waitid, 2, child, info, 4 | 0x01000000, NULL)); /* P_PGID, WEXITED | WNOWAIT */
    printf(" signo %d code %d pid %d status %d\n", info[0], info[2], info[3] == child, info[5]);
    struct rusage usage;
    printf("wait4 %d\n", wait4(-child, &s, 0, &usage) == child); status("group", s);
    printf("waitid errors %d %d\n", error(syscall(SYS_waitid, 0, 0, info, 0, NULL)), error(syscall(SYS_waitid, 9, 0, info, 4, NULL)));

    /* orphans go to somebody else */
    pipe(fds);
    child = fork();
    if (!child) {
        if (!fork()) { char c; close(fds[1]); read(fds[0], &c, 1); _exit(0); }
        _exit(0);
    }
    waitpid(child, NULL, 0);
    close(fds[0]); close(fds[1]);
    printf("orphan not mine %d\n", error(wait(&s)));

    /* exec */
    char *args[] = { "name", "child", "a b", "", NULL }, *vars[] = { "X=1", "Y=", NULL };
    status("exec", run(self, args, vars));
    status("null argv", run(self, NULL, NULL));
    char path[] = "/tmp/script-process-test", text[4200];
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0755);
    sprintf(text, "#! %s  child x y \n", self);
    write(fd, text, strlen(text));
    close(fd);
    char *script_args[] = { "ignored", "one", NULL };
    status("script", run(path, script_args, vars));
    chmod(path, 0644);
    printf("not executable %d\n", WEXITSTATUS(run(path, args, vars)) - 100);
    chmod(path, 0755);
    fd = open(path, O_TRUNC | O_WRONLY); write(fd, "garbage\n", 8); close(fd);
    printf("garbage %d\n", WEXITSTATUS(run(path, args, vars)) - 100);
    fd = open(path, O_TRUNC | O_WRONLY); write(fd, "#!\n", 3); close(fd);
    printf("empty line %d\n", WEXITSTATUS(run(path, args, vars)) - 100);
    fd = open(path, O_TRUNC | O_WRONLY); write(fd, "#!/no/such\n", 11); close(fd);
    printf("no interpreter %d\n", WEXITSTATUS(run(path, args, vars)) - 100);
    fd = open(path, O_TRUNC | O_WRONLY); write(fd, "#!/tmp/script-process-test\n", 27); close(fd);
    printf("loop %d\n", WEXITSTATUS(run(path, args, vars)) - 100);
    fd = open(path, O_TRUNC | O_WRONLY); write(fd, "\177ELF\2\1\1", 52); close(fd);
    printf("64-bit header %d\n", WEXITSTATUS(run(path, args, vars)) - 100);
    unlink(path);
    printf("missing %d directory %d empty %d\n", WEXITSTATUS(run("/no/such", args, vars)) - 100, WEXITSTATUS(run("/tmp", args, vars)) - 100,
           WEXITSTATUS(run("", args, vars)) - 100);
    printf("bad pointer %d\n", error(syscall(SYS_execve, self, (void *)16, NULL)));
    char *big = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(big, 'x', (1 << 20) - 1);
    char *huge[] = { big, NULL };
    printf("too big %d\n", WEXITSTATUS(run(self, huge, vars)) - 100);
    big[131071] = 0;
    huge[0] = "n";
    char *long_args[] = { "n", big + 100000, NULL };
    memcpy(big + 100000, "child", 5);
    status("long argument", run(self, long_args, (char *[]){ "Z=1", NULL }));
    printf("open comes before the arguments %d\n", error(syscall(SYS_execve, "/no/such", (void *)16, NULL)));

    /* close on exec, and what survives */
    pipe(fds);
    fcntl(fds[1], F_SETFD, FD_CLOEXEC);
    child = fork();
    if (!child) { execve(self, args, vars); _exit(100 + errno); }
    char c;
    close(fds[1]);
    int got = read(fds[0], &c, 1);
    waitpid(child, NULL, 0);
    printf("cloexec read %d\n", got);

    /* threads */
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    shared = 0;
    tid_word = -1;
    clone(adder, thread_stack[0] + 16384, flags | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID, NULL, &tid_word, NULL, &tid_word);
    while (tid_word) syscall(SYS_futex, &tid_word, 0, tid_word, NULL);
    printf("thread added %d\n", shared);
    child = fork();
    if (!child) { clone(sleeper, thread_stack[0] + 16384, flags, NULL); clone(execer, thread_stack[1] + 16384, flags, NULL); sleeper(NULL); }
    waitpid(child, &s, 0); status("exec in thread", s);
    child = fork();
    if (!child) { clone(quitter, thread_stack[0] + 16384, flags, NULL); sleeper(NULL); }
    waitpid(child, &s, 0); status("group exit", s);
    child = fork();
    if (!child) { clone(sleeper, thread_stack[0] + 16384, flags, NULL); syscall(SYS_exit, 3); }
    usleep(200000);
    printf("leader gone, group alive %d\n", waitpid(child, &s, WNOHANG));
    kill(child, SIGTERM);
    waitpid(child, &s, 0); status("then killed", s);
    printf("clone flags %d %d\n", error(syscall(SYS_clone, CLONE_THREAD | SIGCHLD, 0, 0, 0, 0)), error(syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0)));

    /* sessions */
    child = fork();
    if (!child) {
        int first = setsid() == getpid(), again = error(setsid());
        printf("setsid %d again %d group %d setpgid %d\n", first, again, getpgrp() == getpid(), error(setpgid(0, 0)));
        _exit(0);
    }
    waitpid(child, &s, 0);

    /* limits and names */
    struct rlimit limit = { 10, 20 };
    printf("setrlimit %d", setrlimit(RLIMIT_NOFILE, &limit));
    int last = -1, next;
    while ((next = dup(1)) >= 0) last = next;
    printf(" last %d errno %d\n", last, errno);
    for (int i = 3; i <= last; i++) close(i);
    limit.rlim_cur = 30;
    printf("soft above hard %d\n", error(setrlimit(RLIMIT_NOFILE, &limit)));
    char name[16];
    syscall(SYS_prctl, 15, "a-rather-long-name");
    syscall(SYS_prctl, 16, name);
    printf("name %s\n", name);
    printf("priority %ld %ld %ld\n", syscall(SYS_setpriority, 0, 0, 5), syscall(SYS_getpriority, 0, 0), syscall(SYS_nice, 3) + syscall(SYS_getpriority, 0, 0));
    return 0;
}
