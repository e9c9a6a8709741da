/*
 * name:      fork_server
 * summary:   A server forks children that all live at once; each writes some of the server's pages, memory gets short, and all verify.
 * drives:    fork, copies on write by many processes at once, reclaim of pages mapped by all of them and of pages mapped by one
 * arguments: children=8 pages=64 written=16 rounds=2 reclaim=yes
 * look at:   candidates and misses by walk (written=0 keeps every page in children + 1 processes, written=pages leaves each in one),
 *            slab:pte_chain against slab:anon_vma, fork_links
 */
#include "gang.h"

static char *memory;
static long pages, written;

/* Page `page` as the server has it after `round` rounds, and as child `who` (from 1) writes it. */
static uint32_t tag_of(int who, long round, long page)
{
    return mix((uint32_t)round << 16 | (uint32_t)who) ^ (uint32_t)page;
}

/* Of the pages that `who` sees in this round: the first `written` are its own, the others the server's. */
static int inspect(int who, long round)
{
    int wrong = 0;
    for (long page = 0; page < pages; page++)
        wrong += !page_marked(memory + page * PAGE, tag_of(page < written ? who : 0, round, page));
    return wrong;
}

static void write_pages(int who, long round, long count)
{
    for (long page = 0; page < count; page++)
        mark_page(memory + page * PAGE, tag_of(who, round, page));
}

__attribute__((noreturn)) static void serve(int who, long round)
{
    /* Nobody writes before all are born: whether a page was shared must not depend on who ran first. */
    gang_report(0, 0);
    gang_wait();
    write_pages(who, round, written);
    gang_report(inspect(who, round), tag_of(who, round, pages));
    gang_wait();
    int wrong = inspect(who, round);
    gang_report(wrong, tag_of(who, round, pages));
    gang_wait();
    _exit(wrong != 0);
}

int main(int argc, char **argv)
{
    int children = (int)argument(argc, argv, 1, "children", 8, 1, 16384);
    pages = argument(argc, argv, 2, "pages", 64, 1, 1 << 16);
    written = argument(argc, argv, 3, "written", pages < 16 ? pages : 16, 0, pages);
    long rounds = argument(argc, argv, 4, "rounds", 2, 0, 1000), all = 0;
    const char *shortage = argument_word(argc, argv, 5, "reclaim", "yes");
    arguments_end(argc, argv);
    if (strcmp(shortage, "yes") && strcmp(shortage, "no"))
        die("%s: reclaim must be yes or no", shortage);
    pid_t *pids = allocate((size_t)children, sizeof *pids);

    gang_open();
    memory = map_anonymous((size_t)pages, MAP_PRIVATE);
    for (long round = 1; round <= rounds; round++) {
        write_pages(0, round, pages);
        for (int i = 0; i < children; i++) {
            pids[i] = gang_fork();
            if (!pids[i])
                serve(i + 1, round);
        }
        gang_collect(children);
        gang_go(children);
        struct report before = gang_collect(children);
        /* As many as there are now: the server's, and each child's own. */
        if (!strcmp(shortage, "yes"))
            reclaim(pages + children * written);
        gang_go(children);
        struct report after = gang_collect(children);
        int server = inspect(0, round), failed = gang_dismiss(children, pids, children);
        printf("round %ld: %d children with %ld of %ld pages of their own; wrong: %u before reclaim, %u after it, %d in the server; sum %08x\n",
               round, children, written, pages, (unsigned)before.wrong, (unsigned)after.wrong, server, (unsigned)(before.value ^ after.value * 3));
        all += before.wrong + after.wrong + (uint32_t)server + (uint32_t)failed;
    }
    puts(all ? "FAILED: pages were lost or seen by others" : "everybody saw its own pages");
    return all != 0;
}
