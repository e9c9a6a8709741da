/* Swaps, then prints between bars the disk's line of /proc/diskstats, with what /proc/vmstat counts as paged in and out (kB) before and after. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static char text[8192];
static void slurp(const char *path)
{
    int fd = open(path, O_RDONLY), n = 0, got;
    while ((got = (int)read(fd, text + n, sizeof text - 1 - n)) > 0)
        n += got;
    text[n] = 0;
    close(fd);
}
static long counter(const char *name)
{
    char *at = strstr(text, name);
    return at ? strtol(at + strlen(name), NULL, 10) : -1;
}
static void paged(void)
{
    slurp("/proc/vmstat");
    printf("%ld %ld", counter("pgpgin "), counter("pgpgout "));
}
int main(void)
{
    unsigned pages = 2500;
    unsigned char *p = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < pages; i++)
            p[i * 4096] += 1;
    paged();
    slurp("/proc/diskstats");
    char *at = strstr(text, "hda ");
    if (!at)
        return 1;
    char *end = strchr(at, '\n');
    *end = 0;
    printf("|hda|%s|", at + 4);
    paged();
    return 0;
}
