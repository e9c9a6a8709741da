/* From the kernel's first instruction to main and back: arguments, auxiliary vector, thread-local storage, exit. */
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>
#include "internal.h"
#include "syscall.h"

char **environ;
__thread int errno;
unsigned __tls_entry;
static unsigned long *auxiliary;
static const char *tls_image;
static size_t tls_image_size, tls_size, tls_align = 1;

/* The stack at entry: argc, argv[], 0, envp[], 0, auxv pairs. The ABI wants ebp 0 and esp aligned to 16 at a call. */
__asm__(".section .text\n.globl _start\n.type _start, @function\n_start:\n\t"
        "xorl %ebp, %ebp\n\tmovl %esp, %eax\n\tandl $-16, %esp\n\tsubl $12, %esp\n\tpushl %eax\n\tcall __start_c\n\thlt\n");

/* Where there is no AT_SYSINFO, a system call is this. */
__asm__(".section .text\n.globl __interrupt_entry\n.type __interrupt_entry, @function\n__interrupt_entry:\n\tint $0x80\n\tret\n");
void __interrupt_entry(void);
const void *__system_entry = (const void *)__interrupt_entry;

/* Unlike others it leaves errno alone: it is called before errno, which is thread-local, has a place. */
unsigned long getauxval(unsigned long type)
{
    for (unsigned long *entry = auxiliary; entry[0] != AT_NULL; entry += 2)
        if (entry[0] == type)
            return entry[1];
    return 0;
}

/* Bytes a thread needs for its TLS and its block, whatever the alignment of the place. */
size_t __tls_room(void)
{
    return tls_size + sizeof(struct __thread_block) + 2 * (tls_align < 16 ? 16 : tls_align);
}

/* Lays a thread's TLS and block out below `end` and answers the block: variant II, data below the thread pointer. */
struct __thread_block *__place_tls(char *end)
{
    size_t align = tls_align < 16 ? 16 : tls_align;
    uintptr_t pointer = ((uintptr_t)end - sizeof(struct __thread_block)) & -align;
    struct __thread_block *block = (struct __thread_block *)pointer;
    char *data = (char *)(pointer - ((tls_size + tls_align - 1) & -tls_align));
    memcpy(data, tls_image, tls_image_size);
    memset(data + tls_image_size, 0, tls_size - tls_image_size);
    memset(block, 0, sizeof *block);
    block->self = block;
    return block;
}

static void find_tls_segment(void)
{
    const Elf32_Phdr *header = (const Elf32_Phdr *)getauxval(AT_PHDR);
    for (size_t left = getauxval(AT_PHNUM); left--; header++)
        if (header->p_type == PT_TLS) {
            tls_image = (const char *)header->p_vaddr;
            tls_image_size = header->p_filesz;
            tls_size = header->p_memsz;
            tls_align = header->p_align ? header->p_align : 1;
        }
}

static void start_tls(void)
{
    static char room[1024] __attribute__((aligned(64)));
    char *place = room;
    size_t size = sizeof room;
    if (__tls_room() > size) {
        size = (__tls_room() + 4095) & -4096UL;
        place = (char *)syscall6(SYS_mmap2, 0, size, 3, 0x22, -1, 0);
    }
    struct __thread_block *block = __place_tls(place + size);
    struct user_desc tls = { -1u, (unsigned)block, 0xfffff, TLS_FLAGS };
    if (syscall1(SYS_set_thread_area, (long)&tls) < 0) {
        static const char words[] = "this kernel gives no thread-local storage (set_thread_area)\n";
        syscall3(SYS_write, 2, (long)words, sizeof words - 1);
        syscall1(SYS_exit_group, 127);
        syscall1(SYS_exit, 127);
    }
    __tls_entry = tls.entry_number;
    __asm__ volatile("movw %w0, %%gs" : : "r"(tls.entry_number * 8 + 3));
    block->tid = syscall1(SYS_set_tid_address, (long)&block->tid);
}

#define EXIT_FUNCTIONS 32
static void (*exit_functions[EXIT_FUNCTIONS])(void);
static int exit_count;

int atexit(void (*function)(void))
{
    if (exit_count == EXIT_FUNCTIONS)
        return -1;
    exit_functions[exit_count++] = function;
    return 0;
}

void _exit(int status)
{
    for (;;)
        syscall1(SYS_exit_group, status);
}

void _Exit(int status)
{
    _exit(status);
}

void exit(int status)
{
    while (exit_count)
        exit_functions[--exit_count]();
    __flush_all();
    _exit(status);
}

int main(int argc, char **argv, char **envp);

__attribute__((noreturn, used)) void __start_c(long *stack)
{
    int argc = (int)stack[0];
    char **argv = (char **)(stack + 1);
    environ = argv + argc + 1;
    char **end = environ;
    while (*end)
        end++;
    auxiliary = (unsigned long *)(end + 1);
    if (getauxval(AT_SYSINFO))
        __system_entry = (const void *)getauxval(AT_SYSINFO);
    find_tls_segment();
    start_tls();
    exit(main(argc, argv, environ));
}
