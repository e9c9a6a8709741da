/* What the files of the runtime know of each other and programs do not. */
#ifndef RUNTIME_INTERNAL_H
#define RUNTIME_INTERNAL_H
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* What %gs:0 points to: one per thread, right above the thread's copy of the TLS segment. The ABI fixes the first word. */
struct __thread_block {
    struct __thread_block *self;
    int tid; /* cleared by the kernel at the thread's exit, which wakes pthread_join */
    void *stack;
    size_t stack_size;
    void *(*function)(void *);
    void *argument, *value;
};

/* The kernel's struct user_desc, argument of set_thread_area and of clone's CLONE_SETTLS. */
struct user_desc {
    unsigned entry_number, base_addr, limit, flags;
};
#define TLS_FLAGS 0x51 /* 32-bit, limit in pages, useable */

struct __thread_block *__place_tls(char *end);
size_t __tls_room(void);
extern unsigned __tls_entry;

/* A lock of one word, usable before and without threads: 0 free, 1 held, 2 held and waited for. */
void __lock(int *futex);
void __unlock(int *futex);

/* Formats into a sink; returns the characters the format produces. */
typedef void sink_function(void *to, const char *text, size_t length);
int __format(sink_function *sink, void *to, const char *format, va_list list);

void __flush_all(void);
uint64_t __udivmoddi4(uint64_t dividend, uint64_t divisor, uint64_t *remainder);
#endif
