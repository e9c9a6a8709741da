/*
 * name:      mlock_pressure
 * summary:   Locks every other page of its memory while a crowd of unlocked pages comes and goes; locked pages stay, the others come back.
 * drives:    mlock, munlock and mlockall under reclaim: walks that find an area locked and give up, pages that no scan may take
 * arguments: locked=64 pages=512 rounds=2
 * look at:   pages scanned against pages reclaimed, and activated pages: a locked page goes back to the active list at each
 *            scan. Choose `pages` beyond the memory of the machine; locked pages must not be more than it has
 */
#include "gang.h"

static char *memory, *crowd;
static long locked, pages;

/* Locked and unlocked pages by turns: each is an area of its own. */
static char *at(long page)
{
    return memory + page * PAGE;
}

static int resident(long page)
{
    unsigned char state = 0;
    must(mincore(at(page), PAGE, &state) == 0);
    return state & 1;
}

static long inspect(long round)
{
    long wrong = 0;
    for (long page = 0; page < 2 * locked; page++)
        wrong += !page_marked(at(page), (uint32_t)(page * 16 + round));
    return wrong;
}

static long swarm(long round)
{
    long wrong = 0;
    for (long page = 0; page < pages; page++)
        mark_page(crowd + page * PAGE, (uint32_t)(page * 32 + round));
    for (long page = 0; page < pages; page++)
        wrong += !page_marked(crowd + page * PAGE, (uint32_t)(page * 32 + round));
    return wrong;
}

static long count_absent(void)
{
    long absent = 0;
    for (long page = 0; page < 2 * locked; page += 2)
        absent += !resident(page);
    return absent;
}

int main(int argc, char **argv)
{
    locked = argument(argc, argv, 1, "locked", 64, 1, 1 << 15);
    pages = argument(argc, argv, 2, "pages", 512, 1, 600000);
    long rounds = argument(argc, argv, 3, "rounds", 2, 1, 1000), wrong = 0, absent = 0;
    arguments_end(argc, argv);
    memory = map_anonymous((size_t)locked * 2, MAP_PRIVATE);
    crowd = map_anonymous((size_t)pages, MAP_PRIVATE);

    for (long round = 1; round <= rounds; round++) {
        for (long page = 0; page < 2 * locked; page++)
            mark_page(at(page), (uint32_t)(page * 16 + round));
        for (long page = 0; page < 2 * locked; page += 2)
            if (mlock(at(page), PAGE))
                die("FAILED: mlock of page %ld: %s; `ulimit -l` or the machine's memory is too small", page, strerror(errno));
        wrong += swarm(round);
        reclaim(pages);
        absent += count_absent();
        wrong += inspect(round);
        /* Unlocked they may go, and are the same when they come back. */
        must(munlock(memory, (size_t)locked * 2 * PAGE) == 0);
        reclaim(pages);
        wrong += swarm(round + 16) + inspect(round);
    }
    printf("%ld locked pages beside %ld others, %ld rounds: %ld locked and not there, %ld wrong\n", locked, pages, rounds, absent, wrong);

    /* A child has its parent's pages, not its locks. */
    must(mlock(memory, (size_t)locked * 2 * PAGE) == 0);
    pid_t pid = fork_quietly();
    if (!pid) {
        for (long page = 0; page < 2 * locked; page += 2)
            mark_page(at(page), (uint32_t)page + 7);
        reclaim(pages);
        for (long page = 0; page < 2 * locked; page++)
            wrong += !page_marked(at(page), page % 2 ? (uint32_t)(page * 16 + rounds) : (uint32_t)page + 7);
        _exit(wrong != 0);
    }
    int failed = reap(pid) != 0;
    absent += count_absent();
    wrong += inspect(rounds);
    printf("after a child wrote its copies: %ld locked and not there, %ld wrong\n", absent, wrong);
    puts(wrong || absent || failed ? "FAILED: a locked page went, or a page was lost" : "locked pages stayed, the others came back");
    return wrong || absent || failed;
}
