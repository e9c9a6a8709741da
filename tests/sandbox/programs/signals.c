/* Signals: handlers, masks, queues, frames, stacks, restarts. Prints what native Linux and the sandbox must agree on. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

struct ksigaction { void *handler; unsigned long flags; void *restorer; sigset_t mask; };
static volatile int depth, order[64], ordered;
static char stack[16384];

static void plain(int n) { order[ordered++] = n; }
static void install(int n, void (*f)(int), int flags)
{
    struct sigaction a = { .sa_handler = f, .sa_flags = flags };
    sigaction(n, &a, NULL);
}
static void info(int n, siginfo_t *i, void *c)
{
    ucontext_t *u = c;
    printf("info %d signo %d code %d self %d uid0 %d mask %08lx\n", n, i->si_signo, i->si_code, i->si_pid == getpid(), i->si_uid == getuid(),
           u->uc_sigmask.__bits[0]);
}
static void value(int n, siginfo_t *i, void *c) { printf("value %d code %d value %d\n", n, i->si_code, i->si_value.sival_int); }
static void fault(int n, siginfo_t *i, void *c)
{
    ucontext_t *u = c;
    printf("fault %d code %d addr %x trap %d err %d cr2 %lx", n, i->si_code, i->si_code == 128 ? 0 : (unsigned)(uintptr_t)i->si_addr & 0xfff,
           u->uc_mcontext.gregs[REG_TRAPNO], u->uc_mcontext.gregs[REG_ERR] & 15 /* 16 needs NX */, n == SIGSEGV && u->uc_mcontext.gregs[REG_TRAPNO] == 14 ? u->uc_mcontext.cr2 & 0xfff : 0);
    printf(" cs %x ss %x\n", u->uc_mcontext.gregs[REG_CS] & 3, u->uc_mcontext.gregs[REG_SS] & 3);
    u->uc_mcontext.gregs[REG_EIP] = u->uc_mcontext.gregs[REG_EBX]; /* where to go on */
}
static void nested(int n)
{
    static int entered;
    printf("enter %d depth %d\n", n, ++depth);
    if (++entered % 3) raise(n);
    printf("leave %d depth %d\n", n, depth--);
}
static void on_stack(int n)
{
    char here;
    stack_t s;
    sigaltstack(NULL, &s);
    printf("on altstack %d flags %d change %d\n", &here >= stack && &here < stack + sizeof(stack), s.ss_flags, sigaltstack(&s, NULL) < 0 ? errno : 0);
}
static void fpu(int n) { volatile double d = 1; for (int i = 0; i < 9; i++) d = d * 1.5 + i; __asm__ volatile("pxor %xmm0, %xmm0; pxor %xmm7, %xmm7; fninit"); }

/* Each runs in a child: what the default action, a fault or a handler makes of it. */
#define TRAP(text) __asm__ volatile("movl $1f, %%ebx\n\t" text "\n1:" ::: "eax", "ebx", "ecx", "edx", "memory")
static void faults(void)
{
    static const int all[] = { SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS };
    struct sigaction a = { .sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
    for (unsigned i = 0; i < 5; i++) sigaction(all[i], &a, NULL);
    TRAP("movl $0x123, %%eax; movl (%%eax), %%eax");
    TRAP("movl $0x456, %%eax; movl %%eax, (%%eax)");
    TRAP("movl $main, %%eax; andl $0xfffff000, %%eax; movl %%eax, (%%eax)");
    TRAP("movl $0x789, %%eax; jmp *%%eax");
    TRAP("movl $0xc0000010, %%eax; movl (%%eax), %%eax");
    TRAP("ud2");
    TRAP("xorl %%edx, %%edx; movl $1, %%eax; xorl %%ecx, %%ecx; divl %%ecx");
    TRAP("int3");
    TRAP("hlt");
    TRAP("int $0x21");
    TRAP("movb $0x7f, %%al; addb $1, %%al; into");
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    sigset_t set, old, none = { { 0, 0 } };
    struct sigaction a = { 0 }, b;
    int status;

    a.sa_sigaction = info; a.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &a, NULL);
    kill(getpid(), SIGUSR1);
    syscall(SYS_tkill, getpid(), SIGUSR1);
    sigaction(SIGUSR1, NULL, &b);
    printf("old action %d flags %x\n", b.sa_sigaction == info, b.sa_flags);
    install(SIGUSR1, nested, 0);
    raise(SIGUSR1);
    install(SIGUSR1, nested, SA_NODEFER);
    raise(SIGUSR1);
    install(SIGUSR1, plain, SA_RESETHAND);
    raise(SIGUSR1);
    sigaction(SIGUSR1, NULL, &b);
    printf("reset to default %d\n", b.sa_handler == SIG_DFL);

    /* masks and the order of delivery */
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, &old);
    ordered = 0;
    for (int n = 1; n < 65; n++) if (n != SIGKILL && n != SIGSTOP) install(n, plain, 0);
    a.sa_sigaction = value;
    sigaction(40, &a, NULL);
    kill(getpid(), SIGTERM); kill(getpid(), SIGUSR2); kill(getpid(), SIGUSR2); kill(getpid(), SIGHUP); raise(SIGINT); kill(getpid(), 50); kill(getpid(), 50);
    for (int v = 1; v < 4; v++) {
        int i[32] = { 40, 0, -1, getpid(), 0, v * 11 };
        syscall(SYS_rt_sigqueueinfo, getpid(), 40, i);
    }
    sigpending(&set);
    printf("pending %08lx %08lx\n", set.__bits[0], set.__bits[1]);
    sigprocmask(SIG_SETMASK, &none, NULL);
    printf("order:");
    for (int i = 0; i < ordered; i++) printf(" %d", order[i]);
    printf("\n");
    sigprocmask(SIG_SETMASK, NULL, &set);
    printf("mask now %08lx\n", set.__bits[0]);

    /* waiting for signals */
    sigemptyset(&set); sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(getpid(), SIGUSR2);
    { int i[32]; long r = syscall(SYS_rt_sigtimedwait, &set, i, NULL, 8); printf("sigwait %ld code %d\n", r, i[2]); }
    { struct { long s, n; } t = { 0, 1000 }; long r = syscall(SYS_rt_sigtimedwait, &set, NULL, &t, 8); printf("timed out %ld %d\n", r, errno); }
    ordered = 0;
    kill(getpid(), SIGUSR2);
    printf("suspend %d errno %d ran %d\n", sigsuspend(&none), errno, ordered);
    sigprocmask(SIG_BLOCK, NULL, &set);
    printf("mask after suspend %08lx\n", set.__bits[0]);
    sigprocmask(SIG_SETMASK, &none, NULL);
    alarm(1);
    printf("pause %d errno %d\n", pause(), errno);
    struct itimerval it = { { 0, 1000 }, { 0, 1000 } };
    ordered = 0;
    setitimer(ITIMER_REAL, &it, NULL);
    while (ordered < 5) pause();
    memset(&it, 0, sizeof it);
    setitimer(ITIMER_REAL, &it, NULL);
    printf("interval timer ran\n");

    /* restarts: a handler with and without SA_RESTART, during a read */
    int fds[2];
    char c = 0;
    for (int restart = 0; restart < 2; restart++) {
        pipe(fds);
        install(SIGUSR1, plain, restart ? SA_RESTART : 0);
        pid_t parent = getpid(), child = fork();
        if (!child) { usleep(200000); kill(parent, SIGUSR1); usleep(200000); write(fds[1], "x", 1); _exit(0); }
        errno = 0;
        long n = read(fds[0], &c, 1);
        printf("read %ld errno %d\n", n, n < 0 ? errno : 0);
        waitpid(child, NULL, 0);
        close(fds[0]); close(fds[1]);
    }

    /* alternate stack; the old frame without a restorer; floating point across a handler */
    stack_t s = { .ss_sp = stack, .ss_size = sizeof stack };
    printf("altstack %d\n", sigaltstack(&s, NULL));
    install(SIGUSR1, on_stack, SA_ONSTACK);
    raise(SIGUSR1);
    s.ss_size = 100;
    printf("small altstack %d\n", sigaltstack(&s, NULL) < 0 ? errno : 0);
    for (int rt = 0; rt < 2; rt++) {
        struct ksigaction k = { rt ? (void *)info : (void *)plain, rt ? SA_SIGINFO : 0, 0, { { 0, 0 } } };
        ordered = 0;
        syscall(SYS_rt_sigaction, SIGUSR1, &k, NULL, 8);
        raise(SIGUSR1);
        printf("came back without restorer %d\n", ordered);
    }
    install(SIGUSR1, fpu, 0);
    long double sum;
    uint32_t xmm[4] = { 1, 2, 3, 4 };
    __asm__ volatile("movups %1, %%xmm7\n\tfldpi\n\tint $0x80\n\tmovups %%xmm7, %1\n\tfstpt %0" : "=m"(sum), "+m"(xmm)
                     : "a"(SYS_tkill), "b"(getpid()), "c"(SIGUSR1) : "memory");
    printf("fpu %d %u%u%u%u\n", sum > 3.1415L && sum < 3.1416L, xmm[0], xmm[1], xmm[2], xmm[3]);
    faults();

    /* default actions */
    for (int n = 1; n < 65; n++) {
        pid_t child = fork();
        if (!child) { setpgid(0, 0); if (n != SIGKILL && n != SIGSTOP) install(n, SIG_DFL, 0); raise(n); _exit(7); } /* in a group that is not orphaned */
        waitpid(child, &status, WUNTRACED);
        printf("%d:%x ", n, status & ~0x80);
        if (WIFSTOPPED(status)) { kill(child, SIGKILL); waitpid(child, NULL, 0); }
    }
    printf("\n");
    /* stop and continue, as the parent sees it */
    a.sa_sigaction = value;
    signal(SIGCHLD, SIG_DFL);
    pid_t child = fork();
    if (!child) { setpgid(0, 0); raise(SIGSTOP); raise(SIGTSTP); _exit(3); }
    waitpid(child, &status, WUNTRACED); printf("stop %x\n", status);
    kill(child, SIGCONT);
    waitpid(child, &status, WUNTRACED | WCONTINUED); printf("then %x\n", status);
    waitpid(child, &status, WUNTRACED | WCONTINUED); printf("then %x\n", status);
    kill(child, SIGCONT);
    waitpid(child, &status, 0); printf("end %x\n", status);
    signal(SIGCHLD, SIG_IGN);
    child = fork();
    if (!child) _exit(1);
    printf("ignored child %d %d\n", waitpid(child, &status, 0), errno);
    printf("errors %ld", syscall(SYS_kill, getpid(), 65) < 0 ? (long)errno : 0);
    printf(" %d", kill(99999, 0) < 0 ? errno : 0);
    printf(" %ld", syscall(SYS_rt_sigaction, SIGKILL, &a, NULL, 8) < 0 ? (long)errno : 0);
    printf(" %ld", syscall(SYS_rt_sigaction, 5, (void *)4, NULL, 8) < 0 ? (long)errno : 0);
    printf(" %ld", syscall(SYS_rt_sigprocmask, 9, &set, NULL, 8) < 0 ? (long)errno : 0);
    printf(" %ld\n", syscall(SYS_rt_sigprocmask, 0, &set, NULL, 4) < 0 ? (long)errno : 0);
    return 0;
}
