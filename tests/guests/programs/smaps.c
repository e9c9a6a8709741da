/* /proc/self/smaps, smaps_rollup, map_files and syscall of areas whose pages are known. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static char text[200000];
static const char *slurp(const char *path)
{
    int fd = open(path, O_RDONLY), n, total = 0;
    if (fd < 0)
        return "";
    while ((n = read(fd, text + total, sizeof text - 1 - total)) > 0)
        total += n;
    close(fd);
    text[total] = 0;
    return text;
}
static void show(const char *name, void *area, const char *rows)
{
    char start[16], row[32];
    sprintf(start, "%08lx-", (unsigned long)area);
    char *at = strstr(slurp("/proc/self/smaps"), start);
    printf("%s: %.4s", name, at ? at + 18 : "gone");
    for (; at && *rows; rows += strcspn(rows, " ") + (strcspn(rows, " ") < strlen(rows))) {
        int n = (int)strcspn(rows, " ");
        sprintf(row, "\n%.*s:", n, rows);
        char *found = strstr(at, row);
        if (!strncmp(rows, "VmFlags", 7))
            printf(" flags%.*s", (int)strcspn(found + strlen(row), "\n"), found + strlen(row));
        else
            printf(" %.*s %d", n, rows, found ? atoi(found + strlen(row)) : -1);
    }
    puts("");
}
#define COUNTS "Size Rss Pss Pss_Dirty Shared_Clean Shared_Dirty Private_Clean Private_Dirty Referenced Anonymous Swap SwapPss Locked"
int main(void)
{
    char *anon = mmap(NULL, 64 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); /* keeps areas apart */
    char *locked = mmap(NULL, 16 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = (int)syscall(SYS_memfd_create, "smapped", 0);
    ftruncate(fd, 32 << 10);
    char *shared = mmap(NULL, 32 << 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *twice = mmap(NULL, 32 << 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *private = mmap(NULL, 32 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    for (int i = 0; i < 5; i++)
        anon[i * 4096] = 1;
    ((volatile char *)anon)[6 * 4096]; /* a zero page */
    mlock(locked, 16 << 10);
    for (int i = 0; i < 4; i++)
        shared[i * 4096] = twice[i * 4096] = 1;
    private[0] = private[5 * 4096] = 1;
    show("anon", anon, COUNTS);
    show("locked", locked, COUNTS);
    show("shared", shared, COUNTS);
    show("twice", twice, COUNTS);
    show("private", private, COUNTS);
    int ends[2];
    pipe(ends);
    int child = fork();
    if (!child) {
        char c;
        close(ends[1]);
        anon[0] = 2; /* a copy of its own */
        read(ends[0], &c, 1);
        _exit(0);
    }
    usleep(100000);
    show("anon with a child", anon, COUNTS);
    char path[64];
    sprintf(path, "/proc/%d/syscall", child);
    const char *call = slurp(path);
    char *rest;
    long nr = strtol(call, &rest, 10), arg = strtoul(rest, &rest, 16), buffer = strtoul(rest, &rest, 16), count = strtoul(rest, &rest, 16);
    printf("child in call %ld of %d, buffer %d, count %ld\n", nr, (int)arg == ends[0], buffer > 0xb0000000UL, count);
    printf("own call %ld\n", strtol(slurp("/proc/self/syscall"), NULL, 10));
    close(ends[1]);
    wait(NULL);
    const char *roll = slurp("/proc/self/smaps_rollup");
    printf("rollup %d %d %d\n", strstr(roll, "[rollup]\nRss: ") != NULL, strstr(roll, "\nPss_Shmem: ") != NULL, strstr(roll, "\nSize:") != NULL);
    struct stat st;
    sprintf(path, "/proc/self/map_files/%lx-%lx", (unsigned long)shared, (unsigned long)shared + (32 << 10));
    int n = readlink(path, text, 100);
    printf("map_files %d %.*s", n, n > 0 ? n : 0, text);
    n = lstat(path, &st);
    printf(" link %d mode %o size %ld\n", n, n ? 0 : st.st_mode & 0777, n ? 0L : (long)st.st_size);
    sprintf(path, "/proc/self/map_files/%lx-%lx", (unsigned long)anon, (unsigned long)anon + (64 << 10));
    n = lstat(path, &st);
    printf("of anonymous memory %d %d\n", n, errno);
    DIR *d = opendir("/proc/self/map_files");
    int files = 0;
    struct dirent *e;
    while (d && (e = readdir(d)))
        files += e->d_name[0] != '.';
    printf("files at least ours %d\n", files >= 4);
    show("flags of anon", anon, "VmFlags");
    show("flags of shared", shared, "VmFlags");
    show("flags of private", private, "VmFlags");
    show("flags of locked", locked, "VmFlags");
    return 0;
}
