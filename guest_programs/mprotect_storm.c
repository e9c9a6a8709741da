/*
 * name:      mprotect_storm
 * summary:   One touched area is split into very many by protections that alternate; it is reclaimed split, verified, and made whole again.
 * drives:    splits of an area that has its pages already, reclaim while they last, merges; with processes > 1 in each of them after a fork
 * arguments: areas=300 pages=2 rounds=2 processes=1
 * look at:   vmas_visited by walk: all pieces share one anon_vma, and its list is searched for each page (areas * processes); merges_refused;
 *            nothing at all under a scheme per page or per address space. areas=10000 pages=1 is the case that led to the interval tree
 */
#include "gang.h"

static char *memory;
static long areas, pages;

/* What was there before the first round is everybody's. */
static uint32_t tag_of(int who, long round, long page)
{
    return mix((uint32_t)(round ? who : 0) << 16 | (uint32_t)round) ^ (uint32_t)page;
}

/* Every second piece of `pages` pages may only be read. */
static void split(void)
{
    for (long area = 1; area < areas; area += 2)
        must(mprotect(memory + area * pages * PAGE, (size_t)pages * PAGE, PROT_READ) == 0);
}

static void make_whole(void)
{
    must(mprotect(memory, (size_t)(areas * pages) * PAGE, PROT_READ | PROT_WRITE) == 0);
}

/* The pieces that may be written are of round `even`, the others of round `odd`. */
static int inspect(int who, long even, long odd)
{
    int wrong = 0;
    for (long page = 0; page < areas * pages; page++)
        wrong += !page_marked(memory + page * PAGE, tag_of(who, page / pages % 2 ? odd : even, page));
    return wrong;
}

/* Writes the pieces that may be written, or all when the area is whole. */
static void write_pieces(int who, long round, int whole)
{
    for (long page = 0; page < areas * pages; page++)
        if (whole || page / pages % 2 == 0)
            mark_page(memory + page * PAGE, tag_of(who, round, page));
}

/* Where members stand still the leader reclaims: in each round twice with the area split and once with it whole. */
static void stand_still(int wrong)
{
    gang_report(wrong, 0);
    gang_wait();
}

static int members;
static uint32_t all;

static void reclaim_meanwhile(int wrong)
{
    all += gang_collect(members).wrong + (uint32_t)wrong;
    reclaim(areas * pages);
    gang_go(members);
}

static void live(int who, long rounds, void (*stand)(int wrong))
{
    for (long round = 1; round <= rounds; round++) {
        split();
        stand(inspect(who, round - 1, round - 1));
        write_pieces(who, round, 0);
        stand(inspect(who, round, round - 1));
        make_whole();
        write_pieces(who, round, 1);
        stand(inspect(who, round, round));
        if (!who)
            printf("round %ld: %ld areas of %ld pages in %d processes, and one again: %u wrong so far\n", round, areas, pages, members + 1, (unsigned)all);
    }
}

int main(int argc, char **argv)
{
    areas = argument(argc, argv, 1, "areas", 300, 1, 65000);
    pages = argument(argc, argv, 2, "pages", 2, 1, 1 << 16);
    long rounds = argument(argc, argv, 3, "rounds", 2, 0, 1000);
    members = (int)argument(argc, argv, 4, "processes", 1, 1, 1000) - 1;
    arguments_end(argc, argv);
    if ((long long)areas * pages > 600000)
        die("%ld areas of %ld pages: more than 600000 pages have no room; choose less", areas, pages);
    pid_t *pids = allocate((size_t)members + 1, sizeof *pids);

    /* A page nobody has on either side keeps other areas from being neighbours. */
    memory = map_anonymous((size_t)(areas * pages + 2), MAP_PRIVATE) + PAGE;
    must(munmap(memory - PAGE, PAGE) == 0 && munmap(memory + areas * pages * PAGE, PAGE) == 0);
    write_pieces(0, 0, 1);
    gang_open();
    for (int i = 0; i < members; i++) {
        pids[i] = gang_fork();
        if (!pids[i]) {
            live(i + 1, rounds, stand_still);
            int wrong = inspect(i + 1, rounds, rounds);
            gang_report(wrong, 0);
            gang_wait();
            _exit(wrong != 0);
        }
    }
    live(0, rounds, reclaim_meanwhile);
    all += gang_collect(members).wrong + (uint32_t)inspect(0, rounds, rounds);
    all += (uint32_t)gang_dismiss(members, pids, members);
    puts(all ? "FAILED: contents were lost" : "all contents kept");
    return all != 0;
}
