/*
 * name:      mmap_windows
 * summary:   A window over a file, each page of it mapped by an area of its own in reverse order; forks double the processes; then reclaim.
 * drives:    thousands of areas over one file in every process, each covering one page; remap_file_pages as the way around them
 * arguments: cache=400 processes=4 how=mmap
 * look at:   file_vmas_visited by walk: areas * processes on a list, processes in a tree; slab:vm_area_struct. The shape of Ingo Molnar's
 *            test-mmap2 (cache=2000 processes=32) and test-mmap3 (cache=20000 processes=32) of 2004; how=remap builds the same window in
 *            one nonlinear area
 */
#include "gang.h"

/* Word 0 of each file page tells which page it is, word 1 is the leader's through the window, word FIRST + p belongs to process p. */
#define FIRST 8
#define MOST (WORDS - FIRST)

static char *window;
static long pages; /* of the window */
static int processes;

static volatile uint32_t *words(long page)
{
    return (volatile uint32_t *)(window + page * PAGE);
}

/* Page i of the window shows this page of the file: neighbours in memory are neighbours in the file the wrong way round. */
static long file_page(long page)
{
    return pages - page;
}

static uint32_t value_of(int who, long page)
{
    return mix((uint32_t)who + 77) ^ (uint32_t)page;
}

/* What the page is, what was written through the window before the forks, and what `writers` have written since. */
static int inspect(int writers)
{
    int wrong = 0;
    for (long page = 0; page < pages; page++) {
        volatile uint32_t *word = words(page);
        int bad = word[0] != mix((uint32_t)file_page(page)) || word[1] != (uint32_t)page + 1;
        for (int who = 0; who < writers; who++)
            bad |= word[FIRST + who] != value_of(who, page);
        wrong += bad;
    }
    return wrong;
}

static void write_own(int who)
{
    for (long page = 0; page < pages; page++)
        words(page)[FIRST + who] = value_of(who, page);
}

/* Every process forks in every step, as long as there are to be more: after k steps 2^k live. The caller's number. */
static int multiply(pid_t *pids, int *children)
{
    int me = 0;
    *children = 0;
    for (int step = 1; step < processes; step *= 2)
        if (me + step < processes) {
            pid_t pid = me ? fork_quietly() : gang_fork();
            if (!pid) {
                me += step;
                *children = 0;
            } else
                pids[(*children)++] = pid;
        }
    return me;
}

static void build(int file, int remap)
{
    window = mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    must(window != MAP_FAILED);
    for (long page = 0; page < pages; page++) {
        char *at = window + page * PAGE;
        if (remap)
            must(remap_file_pages(at, PAGE, 0, (size_t)file_page(page), 0) == 0);
        else
            must(mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, (off_t)file_page(page) * PAGE) == at);
        words(page)[1] = (uint32_t)page + 1;
    }
}

int main(int argc, char **argv)
{
    long cache = argument(argc, argv, 1, "cache", 400, 2, 72000);
    processes = (int)argument(argc, argv, 2, "processes", 4, 1, MOST);
    const char *how = argument_word(argc, argv, 3, "how", "mmap");
    arguments_end(argc, argv);
    if (strcmp(how, "mmap") && strcmp(how, "remap"))
        die("%s: how must be mmap or remap", how);
    pages = cache * 9 / 10;
    pid_t pids[16];
    int children, wrong = 0;

    int file = nameless_file("mmap_windows", (size_t)cache);
    char *whole = mmap(NULL, (size_t)cache * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    must(whole != MAP_FAILED);
    for (long page = 0; page < cache; page++)
        *(volatile uint32_t *)(whole + page * PAGE) = mix((uint32_t)page);
    must(munmap(whole, (size_t)cache * PAGE) == 0);
    build(file, !strcmp(how, "remap"));
    gang_open();
    int me = multiply(pids, &children);
    if (me) {
        gang_report(0, 0);
        gang_wait();
        wrong = inspect(0);
        write_own(me);
        gang_report(wrong, value_of(me, pages));
        gang_wait();
        wrong = inspect(processes);
        gang_report(wrong, 0);
        gang_wait();
        int failed = 0;
        for (int i = 0; i < children; i++)
            failed += reap(pids[i]) != 0;
        _exit(wrong || failed);
    }
    gang_collect(processes - 1);
    printf("%ld pages of a file of %ld, back to front, in %d processes\n", pages, cache, processes);
    int all = 0;
    for (int pass = 1; pass <= 2; pass++) {
        reclaim(pages);
        gang_go(processes - 1);
        wrong = inspect(pass == 1 ? 0 : processes);
        if (pass == 1)
            write_own(0);
        struct report report = gang_collect(processes - 1);
        wrong += (int)report.wrong;
        printf("after reclaim %d: %d wrong, sum %08x\n", pass, wrong, (unsigned)report.value);
        all += wrong;
    }
    all += gang_dismiss(processes - 1, pids, children);
    puts(all ? "FAILED: the windows do not show what they must" : "all windows show the file");
    return all != 0;
}
