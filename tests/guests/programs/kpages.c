/* Frames as /proc/kpagecount and kpageflags tell of them: a page of one's own, one shared by fork, one of a file, the
   zero page; and what the files refuse. Prints only what holds on any Linux; ends with 77 where frames are not shown. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t word(const char *name, uint64_t at)
{
    uint64_t value = 0;
    int fd = open(name, O_RDONLY);
    if (fd < 0 || pread(fd, &value, 8, (at * 8)) != 8)
        exit(77);
    close(fd);
    return value;
}

static uint64_t frame(volatile char *address)
{
    uint64_t entry = word("/proc/self/pagemap", (uintptr_t)address >> 12);
    if (!(entry >> 63) || !(entry & ((1ULL << 55) - 1)))
        exit(77);
    return entry & ((1ULL << 55) - 1);
}

static void tell(const char *what, volatile char *address)
{
    uint64_t pfn = frame(address), flags = word("/proc/kpageflags", pfn);
    printf("%s: mapped %d times, mmap %d anon %d uptodate %d slab %d buddy %d swapbacked %d pgtable %d\n", what,
           (int)word("/proc/kpagecount", pfn), (int)(flags >> 11 & 1), (int)(flags >> 12 & 1), (int)(flags >> 3 & 1),
           (int)(flags >> 7 & 1), (int)(flags >> 10 & 1), (int)(flags >> 14 & 1), (int)(flags >> 26 & 1));
}

int main(void)
{
    char *own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *untouched = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t buffer[4];
    int fd, ends[2], status;

    *(volatile char *)own = 1;
    *(volatile char *)shared = 1;
    (void)*(volatile char *)untouched;
    tell("one's own", own);
    tell("shared memory", shared);
    uint64_t zero = word("/proc/self/pagemap", (uintptr_t)untouched >> 12) & ((1ULL << 55) - 1);
    printf("the zero page: %d\n", (int)(word("/proc/kpageflags", zero) >> 24 & 1));
    fflush(stdout);
    if (pipe(ends))
        return 1;
    pid_t pid = fork();
    if (!pid) {
        char byte;
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) != 0 || *(volatile char *)own != 1);
    }
    tell("after fork", own);
    close(ends[1]);
    waitpid(pid, &status, 0);
    tell("the child gone", own);
    fd = open("/proc/kpageflags", O_RDONLY);
    int n = (int)pread(fd, buffer, 8, 4);
    printf("at an odd place: %d %d\n", n, errno);
    n = (int)pread(fd, buffer, 12, 8);
    printf("an odd length: %d %d\n", n, errno);
    printf("beyond the end: %d\n", (int)pread(fd, buffer, 8, 0x7ffffff8));
    n = (int)lseek(fd, 0, SEEK_END);
    printf("seek to the end: %d %d\n", n, errno);
    printf("four: %d\n", (int)pread(fd, buffer, 32, 4096));
    return status != 0;
}
