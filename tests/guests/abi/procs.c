/* fork, vfork, clone and its flags, threads, wait4 and waitid in all forms, stop and continue, process groups, orphans, CLONE_CHILD_CLEARTID, rlimits, unknown calls. */
#include "abi.h"

static char stacks[8][16384] __attribute__((aligned(16)));
static volatile int shared, tid_word, parent_word, child_events;
static int plain = 1;

static void describe(const char *what, int s)
{
    printf("%s: %s %d core %d\n", what, WIFEXITED(s) ? "exit" : WIFSTOPPED(s) ? "stop" : s == 0xffff ? "continued" : "signal",
           WIFEXITED(s) ? WEXITSTATUS(s) : WIFSTOPPED(s) ? WSTOPSIG(s) : WTERMSIG(s), 0);
}
static void on_child(int n, siginfo_t *i, void *c)
{
    child_events++;
    SAY("SIGCHLD code %d status %d pid known %d", i->si_code, i->si_status, i->si_pid > 0);
}
static int sets(void *arg) { shared = (long)arg; plain = 99; return 12; }
static int changes_dir(void *arg) { chdir("/tmp"); umask(022); return 0; }
static int closes(void *arg) { close((long)arg); return 0; }
static int handles(void *arg) { struct sigaction a = { .sa_handler = SIG_IGN }; sigaction(SIGUSR1, &a, NULL); return 0; }
static int sleeps(void *arg) { for (;;) pause(); return 0; }
static int exits_group(void *arg) { usleep(1000); syscall(SYS_exit_group, 44); return 0; }
static int reports_ids(void *arg)
{
    SAY("thread: same process %d, other tid %d, parent %d", getpid() == (long)arg, syscall(SYS_gettid) != getpid(), getppid() > 0);
    return 0;
}
static int kills_self(void *arg) { syscall(SYS_tkill, syscall(SYS_gettid), SIGKILL); return 0; }
#define TOP(k) (stacks[k] + sizeof stacks[k])
#define THREAD (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)

static long waitid_(int type, int id, int options)
{
    int info[32] = { 0 };
    memset(info, 0x11, sizeof info);
    long r = S(waitid, type, id, info, options, NULL);
    if (!r)
        SAY("signo %d errno %d code %d pid %d status %d", info[0], info[1], info[2], info[3] > 0 && info[3] != 0x11111111 ? 1 : info[3], info[5]);
    return r;
}

static void forks(void)
{
    int s;
    struct sigaction a = { .sa_sigaction = on_child, .sa_flags = SA_SIGINFO }, d = { .sa_handler = SIG_DFL };
    sigaction(SIGCHLD, &a, NULL);
    pid_t child = fork();
    if (!child)
        _exit(300);
    while (!child_events)
        ;
    SAY("waited %d", waitpid(child, &s, 0) == child);
    describe("exit", s);
    child = fork();
    if (!child)
        sleeps(0);
    kill(child, SIGSTOP);
    while (child_events < 2)
        ;
    SAY("stopped %d", waitpid(child, &s, WUNTRACED) == child), describe("stop", s);
    SAY("told once %ld", (long)waitpid(child, &s, WUNTRACED | WNOHANG));
    kill(child, SIGCONT);
    while (child_events < 3)
        ;
    SAY("continued %d", waitpid(child, &s, WCONTINUED) == child), describe("continue", s);
    SAY("told once %ld", (long)waitpid(child, &s, WCONTINUED | WNOHANG));
    sigaction(SIGCHLD, &d, NULL);
    kill(child, SIGSTOP);
    SAY("stopped again %d", waitpid(child, &s, WUNTRACED) == child), describe("stop", s);
    kill(child, SIGTERM);
    SAY("SIGTERM waits %ld", (long)waitpid(child, &s, WNOHANG));
    kill(child, SIGCONT);
    SAY("now it ends %d", waitpid(child, &s, 0) == child), describe("end", s);
    a.sa_flags |= SA_NOCLDSTOP;
    sigaction(SIGCHLD, &a, NULL);
    int before = child_events;
    child = fork();
    if (!child)
        sleeps(0);
    kill(child, SIGSTOP);
    waitpid(child, &s, WUNTRACED);
    kill(child, SIGCONT);
    waitpid(child, &s, WCONTINUED);
    SAY("SA_NOCLDSTOP %d", child_events - before);
    kill(child, SIGKILL);
    waitpid(child, &s, 0), describe("kill", s);
    sigaction(SIGCHLD, &d, NULL);
    struct sigaction ignore = { .sa_handler = SIG_IGN }, nowait = { .sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT };
    sigaction(SIGCHLD, &ignore, NULL);
    if (!fork())
        _exit(1);
    P(wait4, -1, &s, 0, 0);
    sigaction(SIGCHLD, &nowait, NULL);
    if (!fork())
        _exit(1);
    P(wait4, -1, &s, 0, 0);
    sigaction(SIGCHLD, &d, NULL);
    shared = 0;
    child = vfork();
    if (!child) {
        shared = 5;
        _exit(6);
    }
    SAY("vfork %d", shared);
    waitpid(child, &s, 0), describe("vfork", s);
    /* An orphan goes on; its group leader is gone. */
    int fds[2];
    pipe(fds);
    if (!fork()) {
        pid_t parent = getpid();
        if (!fork()) {
            while (getppid() == parent)
                usleep(1000);
            write(fds[1], "orphan", 6);
            _exit(0);
        }
        _exit(0);
    }
    close(fds[1]);
    wait(&s);
    char text[16] = "";
    SAY("orphan wrote %d %s", (int)read(fds[0], text, 15), text);
    close(fds[0]);
}

static void waits(void)
{
    int s;
    P(wait4, -1, &s, 0, 0); P(wait4, -1, &s, WNOHANG, 0); P(wait4, 0x80000000, &s, 0, 0); P(wait4, 1, &s, 0, 0); P(wait4, -1, &s, 0x20, 0); P(wait4, -99999, &s, 0, 0);
    P(waitid, 0, 0, NULL, 0, NULL); P(waitid, 4, 0, NULL, 4, NULL); P(waitid, 1, 0, NULL, 4, NULL); P(waitid, 1, -5, NULL, 4, NULL); P(waitid, 2, -5, NULL, 4, NULL); P(waitid, 0, 0, NULL, 4 | 0x100, NULL);
    pid_t child = fork();
    if (!child)
        sleeps(0);
    SAY("nothing yet %ld", waitid_(0, 0, 4 | WNOHANG));
    SAY("%ld", waitid_(1, child, 4 | WNOHANG));
    kill(child, SIGSTOP);
    SAY("%ld", waitid_(1, child, 2 | 0x01000000));
    SAY("%ld", waitid_(0, 0, 2));
    kill(child, SIGCONT);
    SAY("%ld", waitid_(1, child, 8));
    kill(child, SIGUSR1);
    SAY("%ld", waitid_(1, child, 4 | 0x01000000));
    SAY("%ld", waitid_(1, child, 4));
    SAY("%ld", waitid_(1, child, 4));
    /* Groups. */
    pid_t a = fork();
    if (!a) {
        setpgid(0, 0);
        _exit(1);
    }
    setpgid(a, a);
    SAY("not in our group %ld", (long)waitpid(0, &s, WNOHANG));
    SAY("its own %d", waitpid(-a, &s, 0) == a);
    struct rusage usage;
    child = fork();
    if (!child) {
        for (volatile int i = 0; i < 3000000; i++)
            ;
        _exit(0);
    }
    SAY("usage %d", wait4(child, &s, 0, &usage) == child && (usage.ru_utime.tv_sec || usage.ru_utime.tv_usec) && usage.ru_minflt > 0);
    child = fork();
    if (!child) {
        int group = getpgrp(), session = syscall(SYS_getsid, 0);
        SAY("setsid %d", setsid() == getpid());
        SAY("moved %d %d %d", getpgrp() != group, syscall(SYS_getsid, 0) != session, syscall(SYS_getsid, 0) == getpgrp());
        P(setsid); P(setpgid, 0, 0); P(setpgid, getppid(), 0); P(setpgid, 0, 99999); P(setpgid, 0, -1); P(getpgid, 99999); P(getsid, 99999); P(setpgid, 99999, 0);
        _exit(0);
    }
    waitpid(child, &s, 0);
    P(kill, 99999, 0); P(kill, getpid(), 0); P(kill, getpid(), 65); P(kill, getpid(), -1); P(tkill, 0, 10); P(tkill, -1, 10); P(tkill, 99999, 10); P(tgkill, getpid(), 99999, 10); P(tgkill, 99999, getpid(), 0); P(tgkill, getpid(), getpid(), 0); P(tgkill, 0, 1, 0); P(kill, -99999, 0);
}

static void clones(void)
{
    int s;
    long child;
    P(clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0); P(clone, CLONE_THREAD | CLONE_VM, 0, 0, 0, 0); P(clone, CLONE_THREAD | CLONE_SIGHAND, 0, 0, 0, 0); P(clone, 0x00000200 | 0x00020000, 0, 0, 0, 0);
    plain = 1;
    child = clone(sets, TOP(0), SIGCHLD, (void *)7);
    SAY("own memory %d", waitpid(child, &s, 0) == child), describe("clone", s);
    SAY("unchanged %d %d", shared, plain);
    child = clone(sets, TOP(0), CLONE_VM | SIGCHLD, (void *)8);
    waitpid(child, &s, 0), describe("clone vm", s);
    SAY("changed %d %d", shared, plain);
    chdir("/"), umask(077);
    child = clone(changes_dir, TOP(0), CLONE_FS | SIGCHLD, NULL);
    waitpid(child, &s, 0);
    SAY("fs shared %s %o", getcwd(stacks[1], 64), umask(022));
    child = clone(changes_dir, TOP(0), SIGCHLD, NULL), chdir("/");
    waitpid(child, &s, 0);
    SAY("fs copied %s", getcwd(stacks[1], 64));
    int fd = dup(1);
    child = clone(closes, TOP(0), SIGCHLD, (void *)(long)fd);
    waitpid(child, &s, 0);
    SAY("files copied %d", fcntl(fd, F_GETFD));
    child = clone(closes, TOP(0), CLONE_FILES | SIGCHLD, (void *)(long)fd);
    waitpid(child, &s, 0);
    SAY("files shared %d", fcntl(fd, F_GETFD));
    struct sigaction a;
    child = clone(handles, TOP(0), CLONE_VM | CLONE_SIGHAND | SIGCHLD, NULL);
    waitpid(child, &s, 0);
    sigaction(SIGUSR1, NULL, &a);
    SAY("handlers shared %d", a.sa_handler == SIG_IGN);
    signal(SIGUSR1, SIG_DFL);
    /* No signal at the end: only __WCLONE or __WALL sees it. */
    child = clone(sets, TOP(0), CLONE_VM, (void *)9);
    P(wait4, -1, &s, 0, 0);
    SAY("__WCLONE %d", waitpid(child, &s, 0x80000000) == child);
    sigset_t block = { { 1 << (SIGUSR2 - 1), 0 } }, pending;
    sigprocmask(SIG_BLOCK, &block, NULL);
    child = clone(sets, TOP(0), CLONE_VM | SIGUSR2, (void *)9);
    SAY("__WALL %d", waitpid(child, &s, 0x40000000) == child);
    tid_word = 1, parent_word = 0;
    child = clone(sets, TOP(0), CLONE_VM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | SIGCHLD, (void *)1, &parent_word, NULL, &tid_word);
    waitpid(child, &s, 0);
    SAY("tids %d %d", parent_word == child, tid_word);
    /* Threads: not waited for; the tid word is cleared and woken. */
    tid_word = 1;
    child = clone(reports_ids, TOP(1), THREAD | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID, (void *)(long)getpid(), NULL, NULL, &tid_word);
    while (tid_word)
        syscall(SYS_futex, &tid_word, 0, child, NULL, NULL, 0);
    SAY("thread gone");
    P(wait4, -1, &s, WNOHANG | 0x40000000, 0);
    child = fork();
    if (!child) {
        clone(sleeps, TOP(2), THREAD, NULL);
        clone(sleeps, TOP(3), THREAD, NULL);
        clone(exits_group, TOP(4), THREAD, NULL);
        sleeps(0);
    }
    SAY("exit_group by a thread %d", waitpid(child, &s, 0) == child), describe("group", s);
    child = fork();
    if (!child) {
        clone(kills_self, TOP(2), THREAD, NULL);
        sleeps(0);
    }
    SAY("SIGKILL to a thread ends all %d", waitpid(child, &s, 0) == child), describe("group", s);
    child = fork();
    if (!child) {
        clone(exits_group, TOP(2), THREAD, NULL);
        syscall(SYS_exit, 3);
    }
    SAY("the first thread goes first %d", waitpid(child, &s, 0) == child), describe("group", s);
    sigpending(&pending);
    SAY("end told by signal %d", pending.__bits[0] == block.__bits[0]);
    signal(SIGUSR2, SIG_IGN);
    sigprocmask(SIG_UNBLOCK, &block, NULL);
}

static void limits(void)
{
    struct rlimit l = { 8, 10 }, old;
    unsigned words[4] = { 0 };
    getrlimit(RLIMIT_NOFILE, &old);
    P(prlimit64, 0, 7, NULL, NULL); P(prlimit64, 0, 16, NULL, NULL); P(prlimit64, 99999, 7, NULL, NULL); P(ugetrlimit, 16, words); P(setrlimit, 16, words);
    P(ugetrlimit, 3, words);
    SAY("stack %u", words[0]);
    if (!fork()) {
        SAY("set %d", setrlimit(RLIMIT_NOFILE, &l));
        P(open, "/", O_RDONLY); P(open, "/", O_RDONLY); P(open, "/", O_RDONLY); P(open, "/", O_RDONLY); P(open, "/", O_RDONLY); P(open, "/", O_RDONLY); P(dup, 0); P(pipe, words); P(fcntl64, 0, F_DUPFD, 9); P(dup2, 0, 9); P(dup2, 0, 7);
        l.rlim_cur = 11;
        SAY("soft above hard %d %d", setrlimit(RLIMIT_NOFILE, &l), errno);
        _exit(0);
    }
    wait(NULL);
    if (!fork()) {
        struct rlimit f = { 5000, 5000 };
        char name[] = "/tmp/abi-limit-XXXXXX", data[4000] = "";
        int fd = mkstemp(name);
        unlink(name);
        setrlimit(RLIMIT_FSIZE, &f);
        signal(SIGXFSZ, SIG_IGN);
        P(write, fd, data, 4000); P(write, fd, data, 4000); P(write, fd, data, 1); P(ftruncate, fd, 5001); P(ftruncate, fd, 5000); P(pwrite64, fd, data, 10, 4995, 0); P(pwrite64, fd, data, 10, 6000, 0);
        signal(SIGXFSZ, SIG_DFL);
        P(write, fd, data, 1);
        _exit(0);
    }
    int s;
    wait(&s), describe("SIGXFSZ", s);
    if (!fork()) {
        struct rlimit v = { 6 << 20, RLIM_INFINITY };
        setrlimit(RLIMIT_AS, &v);
        P(mmap2, 0, 64 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        OK(mmap2, 0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        _exit(0);
    }
    wait(NULL);
    if (!fork()) {
        struct rlimit c = { 1, 1 };
        setrlimit(RLIMIT_CPU, &c);
        for (;;)
            ;
    }
    wait(&s), describe("RLIMIT_CPU", s);
    if (!fork()) {
        struct rlimit st = { 64 << 10, RLIM_INFINITY };
        setrlimit(RLIMIT_STACK, &st);
        char *sp = (char *)&st;
        int low = 0;
        for (int i = 0; i < 64; i++)
            if (touch(sp - i * PAGE, 'r')) {
                low = i;
                break;
            }
        SAY("stack ends %d", low > 8 && low <= 34);
        _exit(0);
    }
    wait(NULL);
    P(getpriority, 0, 0); P(setpriority, 0, 0, 5); P(getpriority, 0, 0); P(nice, 3); P(getpriority, 0, 0); P(getpriority, 9, 0); P(getpriority, 0, 99999); P(sched_getscheduler, 0); P(sched_get_priority_max, 1); P(sched_get_priority_min, 1); P(sched_get_priority_max, 9); P(sched_yield);
}

static void unknown(void)
{
    P(break); P(stty); P(gtty); P(ftime); P(prof); P(lock); P(mpx); P(ulimit); P(profil); P(create_module); P(get_kernel_syms); P(query_module); P(afs_syscall); P(getpmsg); P(putpmsg); P(vserver);
    for (int nr = 470; nr < 520; nr += 7)
        SAY("%d %ld", nr, answer(syscall(nr, 0, 0, 0, 0, 0, 0)));
    SAY("%ld %ld %ld", answer(syscall(-1, 0)), answer(syscall(0x7fffffff, 0)), answer(syscall(1 << 20, 0)));
    SAY("restart_syscall out of place %ld", S(restart_syscall));
    char host[8];
    P(prctl, 9999, 0); P(prctl, 15, "a long process name"); P(prctl, 16, stacks[0]);
    SAY("%s", stacks[0]);
    P(umask, 0777); P(umask, 027777); P(umask, 022); P(getrandom, host, 4, 8); P(getrandom, host, 4, 0); P(sync);
}

int main(void)
{
    begin();
    forks();
    waits();
    clones();
    limits();
    unknown();
    return 3;
}
