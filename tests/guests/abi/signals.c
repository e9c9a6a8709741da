/* Signals: order and nesting, SA_ flags, alternate stacks and their overflow, siginfo of every kind, faults and their codes, restarts, waiting for signals, timers. */
#include "abi.h"

static volatile int depth, log_[64], logged, hits;
static char alt[32768];
static sigjmp_buf away;

static void note(int n) { log_[logged++ & 63] = n; }
static void show_log(const char *what)
{
    printf("%s:", what);
    for (int i = 0; i < logged; i++)
        printf(" %d", log_[i]);
    printf("\n");
    logged = 0;
}
static void install(int n, void (*f)(int), int flags, unsigned long mask)
{
    struct sigaction a = { .sa_handler = f, .sa_flags = flags, .sa_mask = { { mask, 0 } } };
    sigaction(n, &a, NULL);
}
static void install3(int n, void (*f)(int, siginfo_t *, void *), int flags)
{
    struct sigaction a = { .sa_sigaction = f, .sa_flags = flags | SA_SIGINFO };
    sigaction(n, &a, NULL);
}
#define B(n) (1ul << ((n) - 1))
static void block(int how, unsigned long bits) { sigset_t s = { { bits, 0 } }; sigprocmask(how, &s, NULL); }
static unsigned long mask(void) { sigset_t s; sigprocmask(0, NULL, &s); return s.__bits[0]; }
static unsigned long pending(void) { sigset_t s; sigpending(&s); return s.__bits[0]; }

static void nest(int n)
{
    note(n);
    if (n == SIGUSR1 && depth++ < 2) {
        raise(SIGUSR1);
        raise(SIGUSR2);
    }
    note(-n);
}
static void masks(int n) { SAY("in handler %d mask %lx", n, mask()); }
static void info(int n, siginfo_t *i, void *c)
{
    ucontext_t *u = c;
    SAY("signal %d signo %d errno %d code %d pid %d uid %d value %d; mask before %lx now %lx", n, i->si_signo, i->si_errno, i->si_code, i->si_code <= 0 && i->si_pid == getpid(), i->si_code <= 0 && i->si_uid == getuid(),
        i->si_code == -1 ? i->si_value.sival_int : 0, u->uc_sigmask.__bits[0], mask());
    hits++;
}
static void fault(int n, siginfo_t *i, void *c)
{
    ucontext_t *u = c;
    unsigned where = (unsigned)(uintptr_t)i->si_addr;
    SAY("fault %d code %d trap %d error %x at %s%x", n, i->si_code, u->uc_mcontext.gregs[REG_TRAPNO], u->uc_mcontext.gregs[REG_ERR] & ~0x10,
        where == (unsigned)u->uc_mcontext.gregs[REG_EIP] ? "eip " : "", where == (unsigned)u->uc_mcontext.gregs[REG_EIP] ? 0 : where);
    siglongjmp(away, 1);
}
#define FAULT(code) do { if (!sigsetjmp(away, 1)) { code; SAY("no fault"); } } while (0)
static void deeper(int n) { volatile char here[4096]; here[0] = n; depth = here[0] ? depth + 1 : 0; deeper(n); __asm__ volatile("" :: "r"(here)); }
static void overflow(int n, siginfo_t *i, void *c)
{
    char here;
    stack_t s;
    sigaltstack(NULL, &s);
    SAY("overflow on the alternate stack %d flags %d", &here > alt && &here < alt + sizeof alt, s.ss_flags);
    siglongjmp(away, 1);
}
static void on_alt(int n)
{
    char here;
    stack_t s, other = { alt, 0, sizeof alt };
    sigaltstack(NULL, &s);
    SAY("on it %d flags %d size %u change %d", &here > alt && &here < alt + sizeof alt, s.ss_flags, s.ss_size, sigaltstack(&other, NULL) ? errno : 0);
    if (!depth++)
        raise(SIGUSR1);
}
static void steps(int n, siginfo_t *i, void *c) { hits++; if (i->si_code != TRAP_TRACE) hits += 1000; }
static void edits_mask(int n, siginfo_t *i, void *c) { ((ucontext_t *)c)->uc_sigmask.__bits[0] = B(SIGTERM) | B(SIGKILL) | B(SIGSTOP); }
static void dies_of_kill(void) { struct rlimit none = { 0, 0 }; setrlimit(RLIMIT_CORE, &none); raise(SIGABRT); }
static void bad_return(void) { __asm__ volatile("movl $0x1000, %%esp\n\tmovl $173, %%eax\n\tint $0x80" ::: "memory"); }
static void segv_blocked(void) { signal(SIGSEGV, note); block(SIG_BLOCK, B(SIGSEGV)); *(volatile int *)16 = 1; }
static void segv_ignored(void) { signal(SIGSEGV, SIG_IGN); *(volatile int *)16 = 1; }
static void no_stack(void) { install(SIGUSR1, note, 0, 0); __asm__ volatile("movl $0x100, %%esp\n\tint $0x80" :: "a"(SYS_kill), "b"(getpid()), "c"(SIGUSR1) : "memory"); }
static void handler_at_null(void) { signal(SIGUSR1, (void (*)(int))16); raise(SIGUSR1); }

int main(void)
{
    begin();
    struct timespec soon = { 0, 10000000 };
    /* Order, nesting, masks. */
    for (int n = SIGHUP; n < 32; n++)
        if (n != SIGKILL && n != SIGSTOP && n != SIGSEGV && n != SIGCONT)
            install(n, note, 0, ~0ul);
    for (int n = 34; n < 40; n++)
        install(n, note, 0, ~0ul);
    block(SIG_SETMASK, ~0ul);
    static const int sent[] = { SIGUSR2, SIGTERM, 37, SIGHUP, SIGUSR2, 35, SIGALRM, 37, SIGCHLD, SIGINT, 35 };
    sigset_t all = { { ~0ul, ~0ul } };
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (unsigned i = 0; i < sizeof sent / sizeof *sent; i++)
        kill(getpid(), sent[i]);
    sigset_t p;
    sigpending(&p);
    SAY("pending %lx %lx", p.__bits[0], p.__bits[1]);
    block(SIG_SETMASK, 0);
    show_log("order");
    install(SIGUSR1, nest, 0, 0), install(SIGUSR2, nest, 0, 0);
    raise(SIGUSR1);
    show_log("nested");
    depth = 0;
    install(SIGUSR1, nest, SA_NODEFER, 0);
    raise(SIGUSR1);
    show_log("nodefer");
    depth = 9;
    install(SIGUSR1, nest, SA_RESETHAND | SA_NODEFER, 0);
    raise(SIGUSR1);
    struct sigaction a;
    sigaction(SIGUSR1, NULL, &a);
    SAY("reset %d flags %x", a.sa_handler == SIG_DFL, a.sa_flags);
    install(SIGUSR1, masks, 0, B(SIGTERM)), raise(SIGUSR1);
    install(SIGUSR1, masks, SA_NODEFER, B(SIGINT) | B(SIGKILL) | B(SIGSTOP)), raise(SIGUSR1);
    SAY("mask after %lx", mask());
    install3(SIGUSR1, edits_mask, 0), raise(SIGUSR1);
    SAY("mask from the frame %lx", mask());
    block(SIG_SETMASK, 0);
    for (int n = 0; n < 67; n += 3)
        if (sigaction(n, NULL, &a))
            SAY("sigaction %d: %d", n, errno);
    install(SIGKILL, note, 0, 0), P(rt_sigaction, SIGKILL, &a, NULL, 8); P(rt_sigaction, SIGSTOP, NULL, &a, 8); P(rt_sigaction, 10, NULL, NULL, 4); P(rt_sigprocmask, 3, &all, NULL, 8); P(rt_sigprocmask, 3, NULL, NULL, 8); P(rt_sigprocmask, 0, &all, NULL, 9); P(rt_sigpending, &p, 12);
    P(rt_sigprocmask, SIG_SETMASK, &all, NULL, 8);
    SAY("never blocked %lx", mask() ^ ~0ul);
    block(SIG_SETMASK, 0);
    /* Kinds of siginfo. */
    static const int told[] = { SIGUSR1, SIGCHLD, SIGALRM, 36, SIGPIPE };
    for (int i = 0; i < 5; i++)
        install3(told[i], info, SA_NODEFER);
    block(SIG_BLOCK, B(SIGTERM));
    kill(getpid(), SIGUSR1), tgkill(getpid(), gettid(), SIGUSR1), syscall(SYS_tkill, gettid(), 36);
    siginfo_t q = { .si_signo = 99, .si_errno = 7, .si_code = -1 };
    q.si_pid = getpid(), q.si_uid = getuid(), q.si_value.sival_int = 4711;
    P(rt_sigqueueinfo, getpid(), SIGUSR1, &q); P(rt_sigqueueinfo, getpid(), 36, &q); P(rt_tgsigqueueinfo, getpid(), gettid(), 36, &q);
    q.si_code = 0, P(rt_sigqueueinfo, getpid(), SIGUSR1, &q);
    if (!fork())
        _exit(P(rt_sigqueueinfo, getppid(), 0, &q) != 0);
    while (wait(NULL) < 0)
        ;
    alarm(0);
    struct itimerval t = { { 0, 0 }, { 0, 5000 } };
    setitimer(ITIMER_REAL, &t, NULL);
    pause();
    int pp[2];
    pipe(pp), close(pp[0]), write(pp[1], "x", 1);
    block(SIG_SETMASK, 0);
    /* Real-time signals queue; others do not. */
    install(36, note, 0, 0), install(SIGUSR2, note, 0, 0);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int i = 0; i < 5; i++)
        raise(36), raise(SIGUSR2);
    block(SIG_SETMASK, 0);
    show_log("queued");
    /* Alternate stack. */
    stack_t s = { alt, 0, sizeof alt }, old, small = { alt, 0, 100 }, flags = { alt, 8, sizeof alt };
    P(sigaltstack, NULL, &old);
    SAY("none %d %d", old.ss_flags, old.ss_size);
    P(sigaltstack, &small, NULL); P(sigaltstack, &flags, NULL); P(sigaltstack, &s, &old);
    install(SIGUSR1, on_alt, SA_ONSTACK | SA_NODEFER, 0), depth = 0, raise(SIGUSR1);
    install(SIGUSR1, masks, 0, 0), raise(SIGUSR1);
    install3(SIGSEGV, overflow, SA_ONSTACK);
    struct rlimit l = { 256 << 10, RLIM_INFINITY };
    setrlimit(RLIMIT_STACK, &l);
    depth = 0;
    FAULT(deeper(1));
    SAY("deep enough %d", depth > 30);
    stack_t off = { NULL, SS_DISABLE, 0 };
    P(sigaltstack, &off, NULL);
    /* Faults. */
    static const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP };
    for (int i = 0; i < 5; i++)
        install3(faults[i], fault, 0);
    char name[] = "/tmp/abi-signals-XXXXXX";
    int fd = mkstemp(name);
    unlink(name), write(fd, "x", 1);
    syscall(SYS_mmap2, AT(0), 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    syscall(SYS_mmap2, AT(8), 2 * PAGE, 3, MAP_SHARED | MAP_FIXED, fd, 0);
    mprotect(AT(1), PAGE, PROT_NONE);
    FAULT(*(volatile int *)0 = 1);
    FAULT((void)*(volatile char *)AT(5));
    FAULT(*(volatile char *)AT(0) = 1);
    FAULT((void)*(volatile char *)AT(1));
    FAULT((void)*(volatile char *)AT(9));
    FAULT(*(volatile char *)(ARENA + 9 * PAGE + 5) = 1);
    FAULT((void)*(volatile int *)(ARENA + PAGE - 2));
    FAULT((void)*(volatile char *)0xc0000010);
    FAULT((void)*(volatile char *)0xffffffff);
    FAULT(((void (*)(void))0)());
    FAULT(((void (*)(void))0xc0000000)());
    FAULT(((void (*)(void))AT(5))());
    FAULT(__asm__ volatile("ud2"));
    FAULT(__asm__ volatile(".byte 0x0f, 0xff, 0xc0"));
    FAULT(__asm__ volatile("hlt"));
    FAULT(__asm__ volatile("cli"));
    FAULT(__asm__ volatile("inb $0x80, %%al" ::: "eax"));
    FAULT(__asm__ volatile("movl %%cr0, %%eax" ::: "eax"));
    FAULT(__asm__ volatile("int $0x60"));
    FAULT(__asm__ volatile("int $3"));
    FAULT(__asm__ volatile("int3"));
    FAULT(__asm__ volatile("movl $0, %%ecx\n\tmovl $1, %%eax\n\tcltd\n\tidivl %%ecx" ::: "eax", "ecx", "edx"));
    FAULT(__asm__ volatile("movl $-1, %%ecx\n\tmovl $0x80000000, %%eax\n\tcltd\n\tidivl %%ecx" ::: "eax", "ecx", "edx"));
    FAULT(__asm__ volatile("movb $0x7f, %%al\n\taddb $1, %%al\n\tinto" ::: "eax", "cc"));
    FAULT(__asm__ volatile("movw $0x1234, %%ax\n\tmovw %%ax, %%ds" ::: "eax"));
    FAULT(__asm__ volatile("lock incl %0" :: "m"(*(int *)AT(0))));
    unsigned short cw = 0x37b;
    FAULT(__asm__ volatile("fninit\n\tfldcw %0\n\tfld1\n\tfldz\n\tfdivrp\n\tfwait" :: "m"(cw)));
    __asm__ volatile("fninit");
    /* Single steps. */
    install3(SIGTRAP, steps, 0);
    hits = 0;
    __asm__ volatile("pushfl\n\torl $0x100, (%%esp)\n\tpopfl\n\tnop\n\tnop\n\tnop\n\tpushfl\n\tandl $~0x100, (%%esp)\n\tpopfl\n\tnop" ::: "memory", "cc");
    SAY("steps %d", hits);
    /* Ends. */
    SAY("abort %x", child_status(dies_of_kill) & 0x7f);
    signal(SIGCHLD, SIG_DFL), signal(SIGSEGV, SIG_DFL);
    SAY("bad frame %x", child_status(bad_return) & 0x7f);
    SAY("blocked fault %x", child_status(segv_blocked) & 0x7f);
    SAY("ignored fault %x", child_status(segv_ignored) & 0x7f);
    for (int i = 0; i < 5; i++)
        signal(faults[i], SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    SAY("no stack for the frame %x", child_status(no_stack) & 0x7f);
    SAY("handler nowhere %x", child_status(handler_at_null) & 0x7f);
    for (int n = 1; n < 34; n++) {
        int status;
        if (n >= SIGTSTP && n <= SIGTTOU)
            continue; /* ignored in a process group without a shell */
        pid_t child = fork();
        if (!child) {
            struct rlimit none = { 0, 0 };
            setrlimit(RLIMIT_CORE, &none);
            signal(n, SIG_DFL), block(SIG_SETMASK, 0);
            kill(getpid(), n);
            _exit(0);
        }
        waitpid(child, &status, WUNTRACED);
        printf("default %d: %x\n", n, status);
        if (WIFSTOPPED(status))
            kill(child, SIGKILL), waitpid(child, &status, 0);
    }
    /* Waiting. */
    siginfo_t got;
    sigset_t usr = { { B(SIGUSR1) | B(SIGUSR2), 0 } }, none = { { 0, 0 } };
    struct timespec bad = { 0, -1 }, zero = { 0, 0 };
    install(SIGUSR1, note, 0, 0), install(SIGUSR2, note, 0, 0), install(SIGALRM, note, 0, 0);
    sigprocmask(SIG_BLOCK, &usr, NULL);
    P(rt_sigtimedwait, &usr, &got, &zero, 8); P(rt_sigtimedwait, &usr, &got, &bad, 8); P(rt_sigtimedwait, &usr, &got, &soon, 4); P(rt_sigtimedwait, &usr, &got, &soon, 8);
    raise(SIGUSR2), raise(SIGUSR1);
    P(rt_sigtimedwait, &usr, &got, NULL, 8);
    SAY("code %d", got.si_code);
    P(rt_sigtimedwait, &usr, NULL, NULL, 8);
    t.it_value.tv_usec = 5000, setitimer(ITIMER_REAL, &t, NULL);
    P(rt_sigtimedwait, &usr, &got, NULL, 8);
    raise(SIGUSR1);
    P(rt_sigsuspend, &none, 8);
    SAY("mask back %lx", mask());
    show_log("handled");
    block(SIG_SETMASK, 0);
    /* Restarts. */
    for (int flag = 0; flag < 2; flag++) {
        int fds[2], status;
        char c;
        struct timespec rest = { 9, 9 }, long_ = { 0, 40000000 };
        install(SIGALRM, note, flag ? SA_RESTART : 0, 0);
        t.it_value.tv_usec = 5000;
        SAY("SA_RESTART %d", flag);
        setitimer(ITIMER_REAL, &t, NULL);
        P(nanosleep, &long_, &rest);
        SAY("rest %d", rest.tv_sec == 0 && rest.tv_nsec > 0 && rest.tv_nsec < 40000000);
        setitimer(ITIMER_REAL, &t, NULL);
        P(clock_nanosleep, CLOCK_MONOTONIC, 0, &long_, NULL);
        pid_t child = fork();
        if (!child)
            usleep(300000), _exit(5);
        setitimer(ITIMER_REAL, &t, NULL);
        long r = S(wait4, child, &status, 0, 0);
        SAY("wait4 %ld", r > 0 ? 0 : r);
        waitpid(child, &status, 0);
        pipe(fds);
        if (!(child = fork()))
            usleep(300000), write(fds[1], "x", 1), _exit(5);
        setitimer(ITIMER_REAL, &t, NULL);
        P(read, fds[0], &c, 1);
        waitpid(child, &status, 0);
        setitimer(ITIMER_REAL, &t, NULL);
        P(pause);
        setitimer(ITIMER_REAL, &t, NULL);
        P(rt_sigsuspend, &none, 8);
        setitimer(ITIMER_REAL, &t, NULL);
        P(futex, &status, 0, status, &long_, NULL, 0);
        setitimer(ITIMER_REAL, &t, NULL);
        P(_newselect, 0, NULL, NULL, NULL, NULL);
    }
    logged = 0;
    /* A stop and a continue do not interrupt a sleep. */
    pid_t child = fork();
    if (!child) {
        struct timespec x = { 0, 50000000 };
        _exit(S(nanosleep, &x, NULL) == 0 ? 7 : 8);
    }
    int status;
    usleep(100000), kill(child, SIGSTOP), waitpid(child, &status, WUNTRACED), kill(child, SIGCONT), waitpid(child, &status, 0);
    SAY("slept on %d", WEXITSTATUS(status));
    /* Timers. */
    struct itimerval every = { { 0, 2000 }, { 0, 2000 } }, now, never = { { 0, 0 }, { 0, 0 } }, wrong = { { 0, 0 }, { 0, 1000000 } };
    install(SIGALRM, note, 0, 0), install(SIGVTALRM, note, 0, 0), install(SIGPROF, note, 0, 0);
    setitimer(ITIMER_REAL, &every, NULL);
    while (logged < 3)
        pause();
    setitimer(ITIMER_REAL, &never, &now);
    SAY("interval %ld %ld", now.it_interval.tv_usec, now.it_interval.tv_sec);
    logged = 0;
    setitimer(ITIMER_VIRTUAL, &every, NULL);
    while (logged < 2)
        ;
    setitimer(ITIMER_VIRTUAL, &never, NULL);
    logged = 2;
    show_log("virtual");
    setitimer(ITIMER_PROF, &every, NULL);
    while (logged < 2)
        getppid();
    setitimer(ITIMER_PROF, &never, NULL);
    logged = 2;
    show_log("prof");
    P(setitimer, 3, &every, NULL); P(setitimer, 0, &wrong, NULL); P(getitimer, 3, &now); P(alarm, 100); P(alarm, 0);
    SAY("alarm of the past %u", alarm(0));
    return 0;
}
