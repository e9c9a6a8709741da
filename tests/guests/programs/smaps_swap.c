/* What is out to swap: of an area, Rss and Swap together are what was written; the rollup has the sum over the areas. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
static long total(const char *path, const char *row, unsigned long only)
{
    static char line[300];
    long sum = 0;
    unsigned long start = 0, end;
    FILE *f = fopen(path, "r");
    size_t n = strlen(row);
    while (fgets(line, sizeof line, f)) {
        long kb;
        unsigned long low;
        if (sscanf(line, "%lx-%lx ", &low, &end) == 2)
            start = low;
        else if (!strncmp(line, row, n) && line[n] == ':' && sscanf(line + n + 1, "%ld", &kb) == 1 && (!only || start == only))
            sum += kb;
    }
    fclose(f);
    return sum;
}
int main(void)
{
    enum { MB = 10 };
    char *anon = mmap(NULL, MB << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *shared = mmap(NULL, MB << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(anon, 1, MB << 20);
    memset(shared, 2, MB << 20);
    const char *smaps = "/proc/self/smaps";
    printf("%ld %ld\n", total(smaps, "Rss", (unsigned long)anon) + total(smaps, "Swap", (unsigned long)anon),
           total(smaps, "Rss", (unsigned long)shared) + total(smaps, "Swap", (unsigned long)shared));
    long swap = total(smaps, "Swap", 0), again = total("/proc/self/smaps_rollup", "Swap", 0);
    printf("%d %d\n", labs(swap - again) < 100, swap > 0);
    return 0;
}
