/* Threads over clone and futex: tasks that share one mm, each with a stack and thread-local storage of its own. */
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "internal.h"
#include "syscall.h"

#define STACK_SIZE (64u << 10)
#define GUARD_SIZE 4096u

/* The child starts on a stack that holds the function and its argument: it pops the one and calls it with the other. */
long __clone_call(long flags, void *stack, int *parent_tid, void *tls, int *child_tid);
__asm__(".section .text\n.globl __clone_call\n.type __clone_call, @function\n__clone_call:\n\t"
        "pushl %ebx\n\tpushl %esi\n\tpushl %edi\n\tmovl 16(%esp), %ebx\n\tmovl 20(%esp), %ecx\n\tmovl 24(%esp), %edx\n\t"
        "movl 28(%esp), %esi\n\tmovl 32(%esp), %edi\n\tmovl $120, %eax\n\tint $0x80\n\ttestl %eax, %eax\n\tjz 1f\n\t"
        "popl %edi\n\tpopl %esi\n\tpopl %ebx\n\tret\n"
        "1:\txorl %ebp, %ebp\n\tpopl %eax\n\tcall *%eax\n\tmovl %eax, %ebx\n\tmovl $1, %eax\n\tint $0x80\n\thlt\n");

/* Lays function and argument out for the child above, the argument aligned as at a call. */
static void *child_stack(void *top, void *function, void *argument)
{
    void **at = (void **)((uintptr_t)top & -16) - 4;
    at[0] = argument;
    at[-1] = function;
    return at - 1;
}

int clone(int (*function)(void *), void *stack_top, int flags, void *argument, ...)
{
    va_list list;
    va_start(list, argument);
    int *parent_tid = va_arg(list, int *);
    void *tls = va_arg(list, void *);
    int *child_tid = va_arg(list, int *);
    va_end(list);
    return checked(__clone_call(flags, child_stack(stack_top, (void *)function, argument), parent_tid, tls, child_tid));
}

static inline long futex(int *word, int operation, int value)
{
    return syscall4(SYS_futex, (long)word, operation | FUTEX_PRIVATE_FLAG, value, 0);
}

void __lock(int *word)
{
    int seen = 0;
    if (__atomic_compare_exchange_n(word, &seen, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return;
    while (__atomic_exchange_n(word, 2, __ATOMIC_ACQUIRE))
        futex(word, FUTEX_WAIT, 2);
}

void __unlock(int *word)
{
    if (__atomic_exchange_n(word, 0, __ATOMIC_RELEASE) == 2)
        futex(word, FUTEX_WAKE, 1);
}

pthread_t pthread_self(void)
{
    pthread_t self;
    __asm__("movl %%gs:0, %0" : "=r"(self));
    return self;
}

int pthread_equal(pthread_t a, pthread_t b)
{
    return a == b;
}

int pthread_attr_init(pthread_attr_t *attributes)
{
    attributes->__stack_size = STACK_SIZE;
    return 0;
}

int pthread_attr_destroy(pthread_attr_t *attributes)
{
    (void)attributes;
    return 0;
}

int pthread_attr_setstacksize(pthread_attr_t *attributes, size_t size)
{
    if (size < 4096)
        return EINVAL;
    attributes->__stack_size = size;
    return 0;
}

static int thread_main(void *argument)
{
    pthread_t self = argument;
    self->value = self->function(self->argument);
    return 0;
}

int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attributes, void *(*function)(void *), void *restrict argument)
{
    size_t size = attributes ? attributes->__stack_size : STACK_SIZE;
    size = (size + __tls_room() + GUARD_SIZE + 4095) & -4096UL;
    char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return EAGAIN;
    mprotect(stack, GUARD_SIZE, PROT_NONE);
    pthread_t block = __place_tls(stack + size);
    char *top = stack + size - __tls_room();
    block->stack = stack;
    block->stack_size = size;
    block->function = function;
    block->argument = argument;
    struct user_desc tls = { __tls_entry, (unsigned)block, 0xfffff, TLS_FLAGS };
    long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID
               | CLONE_CHILD_CLEARTID;
    *thread = block;
    long result = __clone_call(flags, child_stack(top, (void *)thread_main, block), &block->tid, &tls, &block->tid);
    if (result < 0) {
        munmap(stack, size);
        return EAGAIN;
    }
    return 0;
}

/* The kernel clears the tid and wakes its futex when the thread has let go of its stack: then the stack can go. That wake
   is not a private one. */
int pthread_join(pthread_t thread, void **value)
{
    for (int tid; (tid = __atomic_load_n(&thread->tid, __ATOMIC_ACQUIRE));)
        syscall4(SYS_futex, (long)&thread->tid, FUTEX_WAIT, tid, 0);
    if (value)
        *value = thread->value;
    munmap(thread->stack, thread->stack_size);
    return 0;
}

void pthread_exit(void *value)
{
    pthread_self()->value = value;
    for (;;)
        syscall1(SYS_exit, 0);
}

int pthread_once(pthread_once_t *once, void (*function)(void))
{
    int seen = 0;
    if (__atomic_compare_exchange_n(&once->__state, &seen, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)) {
        function();
        __atomic_store_n(&once->__state, 2, __ATOMIC_RELEASE);
        futex(&once->__state, FUTEX_WAKE, 0x7fffffff);
        return 0;
    }
    while (__atomic_load_n(&once->__state, __ATOMIC_ACQUIRE) == 1)
        futex(&once->__state, FUTEX_WAIT, 1);
    return 0;
}

int pthread_mutex_init(pthread_mutex_t *restrict mutex, const pthread_mutexattr_t *restrict attributes)
{
    (void)attributes;
    mutex->__futex = 0;
    return 0;
}

int pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    return mutex->__futex ? EBUSY : 0;
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    __lock(&mutex->__futex);
    return 0;
}

int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
    int seen = 0;
    return __atomic_compare_exchange_n(&mutex->__futex, &seen, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED) ? 0 : EBUSY;
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    __unlock(&mutex->__futex);
    return 0;
}

int pthread_cond_init(pthread_cond_t *restrict cond, const pthread_condattr_t *restrict attributes)
{
    (void)attributes;
    cond->__sequence = 0;
    return 0;
}

int pthread_cond_destroy(pthread_cond_t *cond)
{
    (void)cond;
    return 0;
}

/* A signal between unlock and wait changes the sequence, and the wait returns at once. */
int pthread_cond_wait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex)
{
    int sequence = __atomic_load_n(&cond->__sequence, __ATOMIC_RELAXED);
    pthread_mutex_unlock(mutex);
    futex(&cond->__sequence, FUTEX_WAIT, sequence);
    pthread_mutex_lock(mutex);
    return 0;
}

static int wake_cond(pthread_cond_t *cond, int count)
{
    __atomic_add_fetch(&cond->__sequence, 1, __ATOMIC_RELAXED);
    futex(&cond->__sequence, FUTEX_WAKE, count);
    return 0;
}

int pthread_cond_signal(pthread_cond_t *cond)
{
    return wake_cond(cond, 1);
}

int pthread_cond_broadcast(pthread_cond_t *cond)
{
    return wake_cond(cond, 0x7fffffff);
}

int pthread_barrier_init(pthread_barrier_t *restrict barrier, const pthread_barrierattr_t *restrict attributes, unsigned count)
{
    (void)attributes;
    if (!count)
        return EINVAL;
    *barrier = (pthread_barrier_t){ .__needed = count };
    return 0;
}

int pthread_barrier_destroy(pthread_barrier_t *barrier)
{
    (void)barrier;
    return 0;
}

int pthread_barrier_wait(pthread_barrier_t *barrier)
{
    int last = 0;
    pthread_mutex_lock(&barrier->__lock);
    unsigned round = barrier->__round;
    if (++barrier->__waiting == barrier->__needed) {
        barrier->__waiting = 0;
        barrier->__round++;
        last = 1;
        pthread_cond_broadcast(&barrier->__turn);
    } else
        while (barrier->__round == round)
            pthread_cond_wait(&barrier->__turn, &barrier->__lock);
    pthread_mutex_unlock(&barrier->__lock);
    return last ? PTHREAD_BARRIER_SERIAL_THREAD : 0;
}
