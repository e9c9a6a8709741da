/* Registers across preemption, fork and signals: integer, x87, SSE and flags come back as they were; a handler may change them. */
#include "abi.h"

struct fpstate { unsigned cw, sw, tag, ipoff, cssel, dataoff, datasel; unsigned char st[8][10]; unsigned short status, magic; unsigned fxsr[6], mxcsr, mxcsr_mask; };

static volatile int handled;

static void clobber(int n)
{
    handled++;
    unsigned mxcsr = 0x1fa0;
    unsigned short cw = 0x27f;
    __asm__ volatile("fninit\n\tfldcw %1\n\tfldpi\n\tfld1\n\tldmxcsr %0\n\tpcmpeqd %%xmm0, %%xmm0\n\tpcmpeqd %%xmm3, %%xmm3\n\tpcmpeqd %%xmm7, %%xmm7\n\tstd\n\tcld" :: "m"(mxcsr), "m"(cw) : "memory");
    volatile double d = 3;
    for (int i = 0; i < 100; i++)
        d = d * 1.01 / (d + 0.5);
    raise(n == SIGUSR1 ? SIGUSR2 : SIGCHLD);
}

static void edits(int n, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    struct fpstate *fp = u->uc_mcontext.fpregs;
    SAY("frame cw %04x sw top %d magic %x mxcsr %x", fp->cw & 0xffff, (fp->sw >> 11) & 7, fp->magic == 0, fp->mxcsr);
    u->uc_mcontext.gregs[REG_EAX] = 0x1234;
    u->uc_mcontext.gregs[REG_EDX] = 0x5678;
    u->uc_mcontext.gregs[REG_EFL] |= 0x41; /* carry and zero */
    fp->cw = (fp->cw & ~0xffffu) | 0x0f7f;
    handled++;
}

/* Loads every register file with a pattern, lets `body` happen, and says what is different. */
static int survives(void (*body)(void), unsigned seed)
{
    static unsigned char in[8][16] __attribute__((aligned(16))), out[8][16] __attribute__((aligned(16)));
    long double st[8], back[8];
    unsigned mxcsr = 0x1f80 | (seed & 3) << 13, mxcsr_out;
    unsigned short cw = 0x37f ^ (seed & 3) << 10, cw_out;
    int wrong = 0;
    for (int i = 0; i < 8; i++) {
        for (int k = 0; k < 16; k++)
            in[i][k] = seed * 31 + i * 16 + k;
        st[i] = seed * 1.25L + i * 0.1L;
    }
    __asm__ volatile("fninit\n\tfldcw %0\n\tldmxcsr %1" :: "m"(cw), "m"(mxcsr));
    for (int i = 7; i >= 0; i--)
        __asm__ volatile("fldt %0" :: "m"(st[i]));
    __asm__ volatile("movaps (%0), %%xmm0\n\tmovaps 16(%0), %%xmm1\n\tmovaps 32(%0), %%xmm2\n\tmovaps 48(%0), %%xmm3\n\tmovaps 64(%0), %%xmm4\n\t"
                     "movaps 80(%0), %%xmm5\n\tmovaps 96(%0), %%xmm6\n\tmovaps 112(%0), %%xmm7" :: "r"(in) : "memory");
    body();
    __asm__ volatile("movaps %%xmm0, (%0)\n\tmovaps %%xmm1, 16(%0)\n\tmovaps %%xmm2, 32(%0)\n\tmovaps %%xmm3, 48(%0)\n\tmovaps %%xmm4, 64(%0)\n\t"
                     "movaps %%xmm5, 80(%0)\n\tmovaps %%xmm6, 96(%0)\n\tmovaps %%xmm7, 112(%0)" :: "r"(out) : "memory");
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr_out), "=m"(cw_out));
    for (int i = 0; i < 8; i++)
        __asm__ volatile("fstpt %0" : "=m"(back[i]));
    __asm__ volatile("fninit");
    for (int i = 0; i < 8; i++)
        wrong += memcmp(&st[i], &back[i], 10) != 0;
    wrong += 100 * (memcmp(in, out, sizeof in) != 0) + 1000 * (mxcsr != mxcsr_out) + 10000 * (cw != cw_out);
    mxcsr = 0x1f80;
    __asm__ volatile("ldmxcsr %0" :: "m"(mxcsr));
    return wrong;
}

static void nothing(void) { }
static void signalled(void) { syscall(SYS_tkill, syscall(SYS_gettid), SIGUSR1); }
static void yields(void) { for (int i = 0; i < 20; i++) syscall(SYS_sched_yield); }
static void sleeps(void) { struct timespec t = { 0, 1000000 }; syscall(SYS_nanosleep, &t, 0); }
static void spins(void) { for (volatile int i = 0; i < 300000; i++) ; }
static void faults(void)
{
    char *p = (char *)syscall(SYS_mmap2, 0, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 64; i++)
        p[i * PAGE] = i;
    syscall(SYS_munmap, p, 64 * PAGE);
}
static void forks(void)
{
    long child = syscall(SYS_fork);
    if (!child)
        syscall(SYS_exit, 0);
    syscall(SYS_wait4, child, 0, 0, 0);
}

int main(void)
{
    begin();
    struct sigaction a = { .sa_handler = clobber }, e = { .sa_sigaction = edits, .sa_flags = SA_SIGINFO };
    sigaction(SIGUSR1, &a, NULL);
    sigaction(SIGUSR2, &a, NULL);
    SAY("nothing %d", survives(nothing, 1));
    SAY("signal %d, handlers %d", survives(signalled, 2), handled);
    SAY("yield %d", survives(yields, 3));
    SAY("sleep %d", survives(sleeps, 4));
    SAY("page faults %d", survives(faults, 5));
    SAY("fork %d", survives(forks, 6));
    struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = { { 0, 0 }, { 0, 0 } };
    sigaction(SIGALRM, &a, NULL);
    handled = 0;
    setitimer(ITIMER_REAL, &often, NULL);
    SAY("timer while it computes %d", survives(spins, 7));
    while (handled < 5)
        ;
    setitimer(ITIMER_REAL, &never, NULL);
    /* Several processes compute with different contents of the same registers. */
    for (int i = 0; i < 4; i++)
        if (!fork()) {
            int wrong = 0;
            for (int k = 0; k < 5; k++)
                wrong += survives(spins, 10 + i + k);
            _exit(wrong != 0);
        }
    int status, failed = 0;
    while (wait(&status) > 0)
        failed += status != 0;
    SAY("four at once %d", failed);
    sigaction(SIGUSR1, &e, NULL);
    unsigned eax, edx, flags;
    unsigned short cw;
    handled = 0;
    __asm__ volatile("fninit\n\tfldz\n\tmovl %3, %%eax\n\tmovl %4, %%ebx\n\tmovl %5, %%ecx\n\txorl %%edx, %%edx\n\tint $0x80\n\tpushfl\n\tpopl %2\n\tfnstcw %6\n\tfstp %%st(0)"
                     : "=&a"(eax), "=&d"(edx), "=&r"(flags) : "i"(SYS_kill), "m"((pid_t){ getpid() }), "i"(SIGUSR1), "m"(cw) : "ebx", "ecx", "memory");
    SAY("handler's registers %x %x flags %x cw %x", eax, edx, flags & 0x41, cw);
    /* The direction flag is clear in a handler and set again behind it; TF steps once per instruction. */
    SAY("ran %d", handled);
    unsigned before = 0x200d55, after; /* ID, OF, DF, TF off, ZF, PF, AF, CF mixed */
    __asm__ volatile("pushl %1\n\tpopfl\n\tpushfl\n\tpopl %0\n\tcld" : "=r"(after) : "r"(before & ~0x100u) : "cc");
    SAY("flags %x", after & 0xcd5);
    float f = 1.0f, z = 0.0f;
    double q;
    __asm__ volatile("flds %1\n\tfdivs %2\n\tfstpl %0" : "=m"(q) : "m"(f), "m"(z));
    SAY("masked division by zero %d", q > 1e300);
    return 0;
}
