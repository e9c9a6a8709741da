/*
 * name:      hello
 * summary:   Says hello, and checks what a program finds when it starts.
 * drives:    execve, the initial stack, text, constants, data and bss, brk
 * arguments: (any words: printed back)
 * look at:   the fewest faults a program can have; low memory with one task in it
 */
#include "rmapbox.h"

static const char constant[] = "hello, world";
static int data = 42;
static char bss[3 * PAGE];

int main(int argc, char **argv)
{
    printf("%s\n", constant);
    for (int i = 1; i < argc; i++)
        printf("argument %d: %s\n", i, argv[i]);
    size_t nonzero = 0;
    for (size_t i = 0; i < sizeof bss; i++)
        nonzero += bss[i] != 0;
    must(nonzero == 0 && data == 42);
    bss[2 * PAGE] = 7;
    data++;
    char *heap = malloc(5 * PAGE);
    must(heap != NULL);
    memset(heap, 'h', 5 * PAGE);
    must(heap[5 * PAGE - 1] == 'h' && bss[2 * PAGE] == 7 && data == 43);
    free(heap);
    return 0;
}
