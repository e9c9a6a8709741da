/*
 * name:      lowmem_crisis
 * summary:   Processes that all live share one large segment; what the kernel keeps for each page of it in each process adds up.
 * drives:    page tables and records of very many mappings of few pages: low memory runs out while high memory and swap are free
 * arguments: processes=8 size=1M how=fork
 * look at:   who holds low memory at its fullest, and how many processes there were: on a machine of 16 GB, 1100 processes with 256M
 *            each do not fit under pte_chain; how=fork copies the page tables of the parent, how=attach lets each map a file and read it
 */
#include "gang.h"

#define STEP 512 /* a page in so many is looked at: one in each page table */

static volatile uint32_t *segment;
static long pages;
static int file = -1;

static uint32_t value_of(long page)
{
    return mix((uint32_t)page) | 1;
}

static void map_segment(void)
{
    int flags = file < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
    segment = mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, flags, file, 0);
    must(segment != MAP_FAILED);
}

static int look(long step)
{
    int wrong = 0;
    for (long page = 0; page < pages; page += step)
        wrong += segment[page * WORDS] != value_of(page);
    return wrong;
}

__attribute__((noreturn)) static void member(void)
{
    if (file >= 0)
        map_segment();
    int wrong = look(file >= 0 ? 1 : STEP);
    gang_report(wrong, 1);
    gang_wait();
    _exit(wrong + look(STEP) != 0);
}

int main(int argc, char **argv)
{
    int processes = (int)argument(argc, argv, 1, "processes", 8, 1, 30000);
    pages = (long)(argument(argc, argv, 2, "size", 1 << 20, PAGE, 2816LL << 20) / PAGE);
    const char *how = argument_word(argc, argv, 3, "how", "fork");
    arguments_end(argc, argv);
    if (strcmp(how, "fork") && strcmp(how, "attach"))
        die("%s: how must be fork or attach", how);
    int members = processes - 1, wrong = 0;
    pid_t *pids = allocate((size_t)processes, sizeof *pids);

    gang_open();
    if (!strcmp(how, "attach"))
        file = nameless_file("lowmem_crisis", (size_t)pages);
    map_segment();
    for (long page = 0; page < pages; page++)
        segment[page * WORDS] = value_of(page);
    for (int i = 0; i < members; i++) {
        pids[i] = gang_fork();
        if (!pids[i])
            member();
        wrong += (int)gang_collect(1).wrong; /* one after the other: the last one tells how far it went */
    }
    printf("%d processes share %ld pages: %d wrong\n", processes, pages, wrong);
    wrong += gang_dismiss(members, pids, members) + look(1);
    puts(wrong ? "FAILED: the segment is not what was written" : "all saw one segment");
    return wrong != 0;
}
