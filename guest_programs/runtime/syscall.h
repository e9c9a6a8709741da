/* System calls: number in eax; arguments in ebx, ecx, edx, esi, edi, ebp; a result of -4095..-1 is -errno.
   The way in is int $0x80, or the kernel's own entry where it offers one (AT_SYSINFO), which can be thirty times as fast. */
#ifndef RUNTIME_SYSCALL_H
#define RUNTIME_SYSCALL_H
#include <errno.h>
#include <sys/syscall.h>

extern const void *__system_entry;
#define ENTER "call *__system_entry"

static inline long syscall0(long number)
{
    long result;
    __asm__ volatile(ENTER : "=a"(result) : "0"(number) : "memory");
    return result;
}

static inline long syscall1(long number, long a)
{
    long result;
    __asm__ volatile(ENTER : "=a"(result) : "0"(number), "b"(a) : "memory");
    return result;
}

static inline long syscall2(long number, long a, long b)
{
    long result;
    __asm__ volatile(ENTER : "=a"(result) : "0"(number), "b"(a), "c"(b) : "memory");
    return result;
}

static inline long syscall3(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile(ENTER : "=a"(result) : "0"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

static inline long syscall4(long number, long a, long b, long c, long d)
{
    long result;
    __asm__ volatile(ENTER : "=a"(result) : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
    return result;
}

static inline long syscall5(long number, long a, long b, long c, long d, long e)
{
    long result;
    __asm__ volatile(ENTER : "=a"(result) : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
    return result;
}

/* ebp carries the sixth argument and no constraint can name it: it travels through the stack. */
static inline long syscall6(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    __asm__ volatile("pushl %[sixth]\n\tpushl %%ebp\n\tmovl 4(%%esp), %%ebp\n\t" ENTER "\n\tpopl %%ebp\n\taddl $4, %%esp"
                     : "=a"(result)
                     : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), [sixth] "m"(f)
                     : "memory", "cc");
    return result;
}

/* The C convention for a system call's result: -1 and errno, or the value. */
static inline long checked(long result)
{
    if ((unsigned long)result > -4096UL) {
        errno = -result;
        return -1;
    }
    return result;
}
#endif
