/* Dies with more memory written than the machine has, and a core name of its own; argv: a directory. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
enum { PAGES = 2600 };
int main(int argc, char **argv)
{
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    char pattern[200];
    setrlimit(RLIMIT_CORE, &all);
    int fd = open("/proc/sys/kernel/core_pattern", O_WRONLY);
    sprintf(pattern, "%s/%%%%of.%%e.%%p.%%s.%%u\n", argv[1]);
    if (write(fd, pattern, strlen(pattern)) < 0 || argc < 2)
        return 1;
    if (!fork()) {
        int *pages = mmap((void *)0x50000000, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int i = 0; i < PAGES; i++)
            pages[i * 1024 + 7] = i + 1;
        __asm__ volatile("movl $0x1234567, %%esi\n\tmovl $0, 0x10" : : : "esi", "memory");
    }
    int status;
    wait(&status);
    printf("%x\n", status);
    return 0;
}
