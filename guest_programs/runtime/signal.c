/* Signals. Every action carries a restorer of ours: a stack that is not executable cannot hold the kernel's trampoline. */
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>
#include "internal.h"
#include "syscall.h"

/* The kernel's struct sigaction of rt_sigaction. */
struct kernel_sigaction {
    void *handler;
    unsigned long flags;
    void (*restorer)(void);
    sigset_t mask;
};

/* The old frame's return leaves the signal number on the stack; the new frame's leaves nothing to drop. */
void __restore(void);
void __restore_rt(void);
__asm__(".section .text\n.globl __restore\n.type __restore, @function\n__restore:\n\tpopl %eax\n\tmovl $119, %eax\n\tint $0x80\n"
        ".globl __restore_rt\n.type __restore_rt, @function\n__restore_rt:\n\tmovl $173, %eax\n\tint $0x80\n");

int sigaction(int number, const struct sigaction *restrict action, struct sigaction *restrict old)
{
    struct kernel_sigaction to, from;
    if (action) {
        to.handler = (void *)action->sa_handler;
        to.flags = (unsigned long)action->sa_flags | SA_RESTORER;
        to.restorer = action->sa_flags & SA_SIGINFO ? __restore_rt : __restore;
        to.mask = action->sa_mask;
    }
    long result = syscall4(SYS_rt_sigaction, number, (long)(action ? &to : NULL), (long)(old ? &from : NULL), sizeof(sigset_t));
    if (!result && old) {
        old->sa_handler = (void (*)(int))from.handler;
        old->sa_flags = (int)(from.flags & ~SA_RESTORER);
        old->sa_mask = from.mask;
    }
    return checked(result);
}

sighandler_t signal(int number, sighandler_t handler)
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART }, old;
    return sigaction(number, &action, &old) ? SIG_ERR : old.sa_handler;
}

int sigprocmask(int how, const sigset_t *restrict set, sigset_t *restrict old)
{
    return checked(syscall4(SYS_rt_sigprocmask, how, (long)set, (long)old, sizeof(sigset_t)));
}

int sigpending(sigset_t *set)
{
    return checked(syscall2(SYS_rt_sigpending, (long)set, sizeof(sigset_t)));
}

int sigsuspend(const sigset_t *mask)
{
    return checked(syscall2(SYS_rt_sigsuspend, (long)mask, sizeof(sigset_t)));
}

int sigaltstack(const stack_t *restrict stack, stack_t *restrict old)
{
    return checked(syscall2(SYS_sigaltstack, (long)stack, (long)old));
}

int sigemptyset(sigset_t *set)
{
    set->__bits[0] = set->__bits[1] = 0;
    return 0;
}

int sigfillset(sigset_t *set)
{
    set->__bits[0] = set->__bits[1] = -1UL;
    return 0;
}

static int bad_number(int number)
{
    if (number > 0 && number < _NSIG)
        return 0;
    errno = EINVAL;
    return -1;
}

int sigaddset(sigset_t *set, int number)
{
    if (bad_number(number))
        return -1;
    set->__bits[(number - 1) / 32] |= 1UL << (number - 1) % 32;
    return 0;
}

int sigdelset(sigset_t *set, int number)
{
    if (bad_number(number))
        return -1;
    set->__bits[(number - 1) / 32] &= ~(1UL << (number - 1) % 32);
    return 0;
}

int sigismember(const sigset_t *set, int number)
{
    if (bad_number(number))
        return -1;
    return set->__bits[(number - 1) / 32] >> (number - 1) % 32 & 1;
}

int kill(pid_t pid, int number)
{
    return checked(syscall2(SYS_kill, pid, number));
}

int tgkill(pid_t group, pid_t thread, int number)
{
    return checked(syscall3(SYS_tgkill, group, thread, number));
}

int raise(int number)
{
    return tgkill(getpid(), gettid(), number);
}

/* setjmp keeps what a call preserves: ebx, esi, edi, ebp, the stack after its own return, and that return. */
__asm__(".section .text\n.globl setjmp\n.type setjmp, @function\nsetjmp:\n\t"
        "movl 4(%esp), %eax\n\tmovl %ebx, (%eax)\n\tmovl %esi, 4(%eax)\n\tmovl %edi, 8(%eax)\n\tmovl %ebp, 12(%eax)\n\t"
        "leal 4(%esp), %ecx\n\tmovl %ecx, 16(%eax)\n\tmovl (%esp), %ecx\n\tmovl %ecx, 20(%eax)\n\txorl %eax, %eax\n\tret\n"
        ".globl longjmp\n.type longjmp, @function\nlongjmp:\n\t"
        "movl 4(%esp), %edx\n\tmovl 8(%esp), %eax\n\ttestl %eax, %eax\n\tjnz 1f\n\tincl %eax\n1:\t"
        "movl (%edx), %ebx\n\tmovl 4(%edx), %esi\n\tmovl 8(%edx), %edi\n\tmovl 12(%edx), %ebp\n\t"
        "movl 16(%edx), %esp\n\tjmp *20(%edx)\n");

void __save_signal_mask(sigjmp_buf context, int save)
{
    context->__mask_saved = save;
    if (save)
        sigprocmask(SIG_SETMASK, NULL, &context->__mask);
}

void siglongjmp(sigjmp_buf context, int value)
{
    if (context->__mask_saved)
        sigprocmask(SIG_SETMASK, &context->__mask, NULL);
    longjmp(context, value);
}
