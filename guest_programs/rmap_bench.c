/*
 * name:      rmap_bench
 * summary:   Measures one thing a kernel's memory management does, and prints `ROW units nanoseconds`.
 * drives:    faults, copy on write, fork, mremap, mmap, mprotect, files, system calls, pipes, plain computing, swapping
 * arguments: row=touch n=0
 * look at:   nanoseconds by unit, natively and here with --clock host; n=0 takes the row's own default, row `all` runs each of them
 *            but swapwrite, row `list` names them
 */
#include "rmapbox.h"
#include <sys/syscall.h>
#include <time.h>

#define MEGABYTE (1 << 20)
#define PAGES_IN(megabytes) ((size_t)(megabytes) * (MEGABYTE / PAGE))

struct result {
    long units;
    long long nanoseconds;
};

static long long now(void)
{
    struct timespec t;
    must(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void touch(char *memory, size_t pages)
{
    for (size_t page = 0; page < pages; page++)
        *(volatile uint32_t *)(memory + page * PAGE) = (uint32_t)page;
}

/* Memory of our own that huge pages do not spoil: a fault is to be a fault on 4 kB, natively as well. */
static char *small_pages(size_t pages)
{
    char *memory = map_anonymous(pages, MAP_PRIVATE);
    madvise(memory, pages * PAGE, 15 /* MADV_NOHUGEPAGE; older kernels do not know it and need it not */);
    return memory;
}

/* First touch of anonymous memory; a unit is a page. */
static struct result bench_touch(long megabytes)
{
    size_t pages = PAGES_IN(megabytes);
    char *memory = small_pages(pages);
    long long start = now();
    touch(memory, pages);
    return (struct result){ (long)pages, now() - start };
}

/* A child writes to each page it shares with its parent; a unit is a page. */
static struct result bench_cow(long megabytes)
{
    size_t pages = PAGES_IN(megabytes);
    char *memory = small_pages(pages);
    int result[2];
    long long time;
    touch(memory, pages);
    must(pipe(result) == 0);
    pid_t pid = fork_quietly();
    if (!pid) {
        long long start = now();
        touch(memory, pages);
        time = now() - start;
        send(result[1], &time, sizeof time);
        _exit(0);
    }
    receive(result[0], &time, sizeof time);
    must(reap(pid) == 0);
    return (struct result){ (long)pages, time };
}

static struct result fork_exit_wait(long count)
{
    long long start = now();
    for (long i = 0; i < count; i++) {
        pid_t pid = fork();
        if (!pid)
            _exit(0);
        must(pid > 0 && reap(pid) == 0);
    }
    return (struct result){ count, now() - start };
}

/* fork + exit + wait of a process that has touched 64 MB, and of an empty one; a unit is one of the three together. */
static struct result bench_fork64(long count)
{
    touch(small_pages(PAGES_IN(64)), PAGES_IN(64));
    return fork_exit_wait(count);
}

static struct result bench_fork0(long count)
{
    return fork_exit_wait(count);
}

/* A child that has touched 64 MB, all its own, ends; a unit is its end, from the word to go to the parent's wait. */
static struct result bench_exit64(long count)
{
    long long time = 0;
    for (long i = 0; i < count; i++) {
        int ready[2], go[2];
        char byte = 'b';
        must(pipe(ready) == 0 && pipe(go) == 0);
        pid_t pid = fork_quietly();
        if (!pid) {
            touch(small_pages(PAGES_IN(64)), PAGES_IN(64));
            send(ready[1], &byte, 1);
            receive(go[0], &byte, 1);
            _exit(0);
        }
        receive(ready[0], &byte, 1);
        long long start = now();
        send(go[1], &byte, 1);
        must(reap(pid) == 0);
        time += now() - start;
        close(ready[0]), close(ready[1]), close(go[0]), close(go[1]);
    }
    return (struct result){ count, time };
}

/* 64 MB move between two places whose page tables are not the same; a unit is a move. */
static struct result bench_mremap64(long count)
{
    size_t size = 64 * MEGABYTE;
    char *places = small_pages(2 * PAGES_IN(64) + 1), *here = places, *there = places + size + PAGE;
    must(munmap(here + size, size + PAGE) == 0);
    touch(here, PAGES_IN(64));
    long long start = now();
    for (long i = 0; i < count; i++) {
        must(mremap(here, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, there) == there);
        char *from = here;
        here = there;
        there = from;
    }
    return (struct result){ count, now() - start };
}

/* A unit is mmap + munmap of one page, without and with a touch between. */
static struct result map_unmap(long count, int touching)
{
    long long start = now();
    for (long i = 0; i < count; i++) {
        char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (touching)
            *(volatile char *)page = 1;
        munmap(page, PAGE);
    }
    return (struct result){ count, now() - start };
}

static struct result bench_mmap_munmap(long count)
{
    return map_unmap(count, 0);
}

static struct result bench_mmap_touch_munmap(long count)
{
    return map_unmap(count, 1);
}

/* The middle page of seven becomes read-only and writable again: areas split and merge; a unit is one mprotect. */
static struct result bench_mprotect_split(long count)
{
    char *memory = small_pages(7);
    touch(memory, 7);
    long long start = now();
    for (long i = 0; i < count / 2; i++) {
        mprotect(memory + 3 * PAGE, PAGE, PROT_READ);
        mprotect(memory + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE);
    }
    return (struct result){ count / 2 * 2, now() - start };
}

/* First touch of file pages that are in the page cache; a unit is a page. */
static struct result bench_shared_touch(long megabytes)
{
    size_t pages = PAGES_IN(megabytes);
    static char content[16 * PAGE];
    int file = nameless_file("rmap_bench", pages);
    for (size_t page = 0; page < pages; page += 16)
        must(pwrite(file, content, sizeof content, (off_t)page * PAGE) == sizeof content);
    char *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    must(memory != MAP_FAILED);
    long long start = now();
    touch(memory, pages);
    return (struct result){ (long)pages, now() - start };
}

static struct result bench_getppid(long count)
{
    long long start = now();
    for (long i = 0; i < count; i++)
        syscall(SYS_getppid);
    return (struct result){ count, now() - start };
}

/* A byte goes to another process and comes back; a unit is a round. */
static struct result bench_pipe(long count)
{
    int there[2], back[2];
    char byte = 'b';
    must(pipe(there) == 0 && pipe(back) == 0);
    pid_t pid = fork_quietly();
    if (!pid) {
        for (long i = 0; i < count; i++) {
            receive(there[0], &byte, 1);
            send(back[1], &byte, 1);
        }
        _exit(0);
    }
    long long start = now();
    for (long i = 0; i < count; i++) {
        send(there[1], &byte, 1);
        receive(back[0], &byte, 1);
    }
    long long time = now() - start;
    must(reap(pid) == 0);
    return (struct result){ count, time };
}

/* A linear congruential generator whose state lives in memory; a unit is an iteration. */
static struct result bench_lcg(long millions)
{
    static volatile uint32_t state = 1;
    long count = millions * 1000000;
    long long start = now();
    for (long i = 0; i < count; i++)
        state = state * 1664525u + 1013904223u;
    return (struct result){ count, now() - start };
}

static void sort(uint32_t *low, uint32_t *high)
{
    while (high - low > 12) {
        uint32_t pivot = low[(high - low) / 2], *left = low, *right = high - 1;
        while (left <= right) {
            while (*left < pivot)
                left++;
            while (*right > pivot)
                right--;
            if (left <= right) {
                uint32_t t = *left;
                *left++ = *right;
                *right-- = t;
            }
        }
        sort(low, right + 1);
        low = left;
    }
    for (uint32_t *item = low + 1; item < high; item++) {
        uint32_t value = *item, *at = item;
        for (; at > low && at[-1] > value; at--)
            *at = at[-1];
        *at = value;
    }
}

/* Compiled code without system calls: quicksort of 50,000 numbers; a unit is one sort. */
static struct result bench_compute(long count)
{
    enum { NUMBERS = 50000 };
    static uint32_t numbers[NUMBERS];
    struct prng prng = { 1 };
    touch((char *)numbers, sizeof numbers / PAGE);
    long long start = now();
    for (long i = 0; i < count; i++) {
        for (int j = 0; j < NUMBERS; j++)
            numbers[j] = prng_next(&prng);
        sort(numbers, numbers + NUMBERS);
        for (int j = 1; j < NUMBERS; j++)
            must(numbers[j - 1] <= numbers[j]);
    }
    return (struct result){ count, now() - start };
}

/* Two instructions over and over; a unit is an iteration. */
static struct result bench_tightloop(long millions)
{
    long count = millions * 1000000, left = count;
    long long start = now();
    __asm__ volatile("1:\tdecl %0\n\tjnz 1b" : "+r"(left) : : "cc");
    return (struct result){ count, now() - start };
}

/* Every word of so many megabytes, one after the other, then a check of the first page; a unit is a page. */
static struct result bench_swapwrite(long megabytes)
{
    size_t pages = PAGES_IN(megabytes);
    char *memory = small_pages(pages);
    long long start = now();
    for (size_t page = 0; page < pages; page++)
        fill_page(memory + page * PAGE, (uint32_t)page);
    long long time = now() - start;
    must(page_is(memory, 0));
    return (struct result){ (long)pages, time };
}

static const struct {
    const char *name;
    struct result (*run)(long n);
    long fallback, most;
} rows[] = {
    { "touch", bench_touch, 64, 2048 },
    { "cow", bench_cow, 64, 1024 },
    { "fork64", bench_fork64, 20, 1000000 },
    { "fork0", bench_fork0, 200, 1000000 },
    { "exit64", bench_exit64, 3, 1000 },
    { "mremap64", bench_mremap64, 50, 1000000 },
    { "mmap_munmap", bench_mmap_munmap, 20000, 100000000 },
    { "mmap_touch_munmap", bench_mmap_touch_munmap, 20000, 100000000 },
    { "mprotect_split", bench_mprotect_split, 20000, 100000000 },
    { "shared_touch", bench_shared_touch, 16, 1024 },
    { "getppid", bench_getppid, 200000, 1000000000 },
    { "pipe", bench_pipe, 20000, 100000000 },
    { "lcg", bench_lcg, 100, 2000 },
    { "compute", bench_compute, 20, 1000000 },
    { "tightloop", bench_tightloop, 200, 2000 },
    { "swapwrite", bench_swapwrite, 128, 2800 },
};
#define ROWS (sizeof rows / sizeof *rows)

static void measure(size_t row, long n)
{
    struct result result = rows[row].run(n ? n : rows[row].fallback);
    printf("%s %ld %lld\n", rows[row].name, result.units, result.nanoseconds);
}

int main(int argc, char **argv)
{
    const char *name = argument_word(argc, argv, 1, "row", "touch"), *n = argument_word(argc, argv, 2, "n", "0");
    arguments_end(argc, argv);
    int found = 0, all = !strcmp(name, "all");
    for (size_t row = 0; row < ROWS; row++) {
        if (!strcmp(name, "list")) {
            puts(rows[row].name);
            found = 1;
        } else if (all && strcmp(rows[row].name, "swapwrite")) {
            /* A child for each, so that none meets the memory of the others. */
            pid_t pid = fork_quietly();
            if (!pid) {
                measure(row, 0);
                exit(0);
            }
            must(reap(pid) == 0);
            found = 1;
        } else if (!strcmp(name, rows[row].name)) {
            measure(row, number_in(n, "n", 0, rows[row].most));
            found = 1;
        }
    }
    if (!found)
        die("%s: no such row; `rmap_bench list` names them", name);
    return 0;
}
