/*
 * name:      mremap_storm
 * summary:   After a fork all processes move every page of theirs, one by one, there and back: shared ones, own ones, those of a file.
 * drives:    mremap of single pages by many processes at once, areas falling apart and merging, moves of pages that others map elsewhere
 * arguments: processes=3 pages=32 rounds=3
 * look at:   mremap_copies (anonmm has to copy what others map), merges_refused, links and removal_nodes (a PTE-based scheme rewrites
 *            its entry at each move), misses of walks while each process has the page somewhere else
 */
#include "gang.h"

/* Three parts of `pages` pages each, every one with two places:  [shared by fork][written by each][MAP_SHARED]. */
enum part { INHERITED, OWN, SHARED, PARTS };

static char *place[PARTS][2];
static char *moved[PARTS]; /* per page: is it in the second place? */
static long pages;

static char *at(int part, long page)
{
    return place[part][(int)moved[part][page]] + page * PAGE;
}

/* What was there before the first round is everybody's. */
static uint32_t tag_of(int part, int who, long round, long page)
{
    return part == OWN ? mix((uint32_t)(round ? who : 0) << 20 | (uint32_t)round) ^ (uint32_t)page : (uint32_t)(part << 20) ^ (uint32_t)page;
}

static int inspect(int who, long round)
{
    int wrong = 0;
    for (int part = 0; part < PARTS; part++)
        for (long page = 0; page < pages; page++)
            wrong += !page_marked(at(part, page), tag_of(part, who, round, page));
    return wrong;
}

static void move(int part, long page)
{
    char *from = at(part, page);
    moved[part][page] ^= 1;
    char *to = at(part, page);
    must(mremap(from, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
}

static long common_divisor(long a, long b)
{
    return b ? common_divisor(b, a % b) : a;
}

/* Each page changes its place once, in an order of the process's own; own pages are written at every other move. Half way all places
   are torn, in the end each area is whole again. */
static void storm(int who, long round, long first, long last)
{
    long step = pages / 3 + who + 1;
    while (common_divisor(step, pages) != 1)
        step++;
    for (long i = first; i < last; i++) {
        long page = (long)((long long)i * step % pages);
        for (int part = 0; part < PARTS; part++)
            move(part, page);
        if (page % 2)
            mark_page(at(OWN, page), tag_of(OWN, who, round, page));
    }
}

/* The pages the storm left alone. */
static void write_rest(int who, long round)
{
    for (long page = 0; page < pages; page += 2)
        mark_page(at(OWN, page), tag_of(OWN, who, round, page));
}

/* Between the halves; of the pages that each process writes some are of this round and some of the one before. */
static int inspect_torn(void)
{
    int wrong = 0;
    for (int part = 0; part < PARTS; part++)
        for (long page = 0; page < pages && part != OWN; page++)
            wrong += !page_marked(at(part, page), tag_of(part, 0, 0, page));
    return wrong;
}

static int second_half(int who, long round)
{
    int wrong = inspect_torn();
    storm(who, round, pages / 2, pages);
    write_rest(who, round);
    return wrong + inspect(who, round);
}

__attribute__((noreturn)) static void live(int who, long rounds)
{
    int wrong = 0;
    gang_report(0, 0);
    gang_wait();
    for (long round = 1; round <= rounds; round++) {
        storm(who, round, 0, pages / 2);
        gang_report(0, 0);
        gang_wait();
        wrong = second_half(who, round);
        gang_report(wrong, tag_of(OWN, who, round, pages));
        gang_wait();
    }
    _exit(inspect(who, rounds) != 0);
}

int main(int argc, char **argv)
{
    int processes = (int)argument(argc, argv, 1, "processes", 3, 1, 2000), members = processes - 1;
    pages = argument(argc, argv, 2, "pages", 32, 1, 1 << 13);
    long rounds = argument(argc, argv, 3, "rounds", 3, 0, 4095), all = 0;
    arguments_end(argc, argv);
    pid_t *pids = allocate((size_t)processes, sizeof *pids);

    for (int part = 0; part < PARTS; part++) {
        /* One reservation gives room for both places, with a page between them that nobody has. */
        int flags = part == SHARED ? MAP_SHARED : MAP_PRIVATE;
        moved[part] = allocate((size_t)pages, 1);
        place[part][0] = map_anonymous((size_t)(2 * pages + 1), flags);
        place[part][1] = place[part][0] + (pages + 1) * PAGE;
        must(munmap(place[part][0] + pages * PAGE, (size_t)(pages + 1) * PAGE) == 0);
        for (long page = 0; page < pages; page++)
            mark_page(at(part, page), tag_of(part, 0, 0, page));
    }
    gang_open();
    for (int i = 0; i < members; i++) {
        pids[i] = gang_fork();
        if (!pids[i])
            live(i + 1, rounds);
    }
    gang_collect(members);
    for (long round = 1; round <= rounds; round++) {
        gang_go(members);
        storm(0, round, 0, pages / 2);
        gang_collect(members);
        reclaim(pages * 2);
        gang_go(members);
        int wrong = second_half(0, round);
        struct report report = gang_collect(members);
        reclaim(pages);
        wrong += (int)report.wrong;
        printf("round %ld: %d processes have moved %ld pages each: %d wrong, sum %08x\n", round, processes, PARTS * pages, wrong, (unsigned)report.value);
        all += wrong;
    }
    all += inspect(0, rounds) + gang_dismiss(members, pids, members);
    puts(all ? "FAILED: pages did not follow" : "all pages followed");
    return all != 0;
}
