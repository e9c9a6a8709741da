/*
 * name:      shared_segment
 * summary:   Processes map one shared segment and touch all of it; while all live memory gets short, then each looks at it again.
 * drives:    file pages mapped by every process, page tables of a large shared mapping, reclaim of pages with many mappings
 * arguments: processes=8 pages=128 kind=anonymous
 * look at:   slab:pte_chain and page_tables in low memory (processes * pages mappings); candidates of file_walks; kind=file maps a
 *            file in each process anew, kind=anonymous inherits MAP_SHARED | MAP_ANONYMOUS by fork
 */
#include "gang.h"

#define FIRST 8 /* word FIRST + p of each page belongs to process p; the words before it to the page */
#define MOST (WORDS - FIRST - 2)

static volatile uint32_t *segment;
static long pages;
static int processes, file = -1;

static uint32_t value_of(int who, long page)
{
    return mix((uint32_t)who * 0x10001u + 7) ^ (uint32_t)page;
}

static void map_segment(void)
{
    int flags = file < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
    segment = mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, flags, file, 0);
    must(segment != MAP_FAILED);
}

/* Every page is read before it is written: what process 0 put there must be there. */
static int touch_all(int who)
{
    int wrong = 0;
    for (long page = 0; page < pages; page++) {
        volatile uint32_t *word = segment + page * WORDS;
        wrong += who && word[0] != value_of(-1, page);
        word[0] = value_of(-1, page);
        word[FIRST + who] = value_of(who, page);
    }
    return wrong;
}

/* The page's word, our own and that of the next process. */
static int inspect(int who)
{
    int wrong = 0, next = (who + 1) % processes;
    for (long page = 0; page < pages; page++) {
        volatile uint32_t *word = segment + page * WORDS;
        wrong += word[0] != value_of(-1, page) || word[FIRST + who] != value_of(who, page) || word[FIRST + next] != value_of(next, page);
    }
    return wrong;
}

__attribute__((noreturn)) static void member(int who)
{
    /* All are born before anybody touches: fork has no pages to copy, each process faults in its own. */
    gang_report(0, 0);
    gang_wait();
    if (file >= 0)
        map_segment();
    gang_report(touch_all(who), value_of(who, pages));
    gang_wait();
    int wrong = inspect(who);
    gang_report(wrong, value_of(who, pages));
    gang_wait();
    _exit(wrong != 0);
}

int main(int argc, char **argv)
{
    processes = (int)argument(argc, argv, 1, "processes", 8, 1, MOST);
    pages = argument(argc, argv, 2, "pages", 128, 1, 600000);
    const char *kind = argument_word(argc, argv, 3, "kind", "anonymous");
    arguments_end(argc, argv);
    if (strcmp(kind, "anonymous") && strcmp(kind, "file"))
        die("%s: kind must be anonymous or file", kind);
    int members = processes - 1;
    uint32_t all = 0, hash = HASH_START;
    pid_t *pids = allocate((size_t)processes, sizeof *pids);

    gang_open();
    if (!strcmp(kind, "file"))
        file = nameless_file("shared_segment", (size_t)pages);
    else
        map_segment();
    for (int i = 0; i < members; i++) {
        pids[i] = gang_fork();
        if (!pids[i])
            member(i + 1);
    }
    gang_collect(members);
    if (file >= 0)
        map_segment();
    all += (uint32_t)touch_all(0);
    gang_go(members);
    struct report report = gang_collect(members);
    printf("%d processes have touched %ld pages: %u wrong, sum %08x\n", processes, pages, (unsigned)(all + report.wrong), (unsigned)report.value);
    all += report.wrong;
    reclaim(pages);
    gang_go(members);
    report = gang_collect(members);
    uint32_t wrong = report.wrong + (uint32_t)inspect(0);
    printf("after reclaim all look again: %u wrong\n", (unsigned)wrong);
    all += wrong;
    /* Once more, with the others standing still: what was swapped out comes back into one process only. */
    reclaim(pages);
    wrong = (uint32_t)inspect(0);
    printf("after reclaim one looks again: %u wrong\n", (unsigned)wrong);
    all += wrong;
    all += (uint32_t)gang_dismiss(members, pids, members);
    /* Alone with it: every word of every process. */
    wrong = 0;
    for (long page = 0; page < pages; page++) {
        for (int who = 0; who < processes; who++)
            wrong += segment[page * WORDS + FIRST + who] != value_of(who, page);
        hash = hash_words(hash, (void *)(segment + page * WORDS), 64);
    }
    printf("the segment in the end: %u wrong, hash %08x\n", (unsigned)wrong, (unsigned)hash);
    all += wrong;
    puts(all ? "FAILED: the segment is not what was written" : "all see one segment");
    return all != 0;
}
