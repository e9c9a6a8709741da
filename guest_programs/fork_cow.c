/*
 * name:      fork_cow
 * summary:   A parent and its children share anonymous pages, write some of them, and all check that nobody saw another's write.
 * drives:    fork, copy on write, reuse of a page whose other owners are gone, reclaim of pages mapped by many processes
 * arguments: pages=256 children=3 writes=64
 * look at:   copies on write, and the cost of one page in (children + 1) address spaces: while all children live each of them adds
 *            `pages` mappings, of which `writes` become pages of its own
 */
#include "rmapbox.h"

struct report {
    uint32_t hash;
    int wrong, written;
};

#define MOST (1 << 18)

static char *memory;
static long pages;
/* Who wrote each page last and in which turn, as this process believes: (pages + 4095) / 4096 pages more that all share. */
static uint8_t last[MOST] __attribute__((aligned(PAGE)));

static uint32_t tag_of(long page)
{
    return (uint32_t)last[page] << 20 ^ (uint32_t)page;
}

static long common_divisor(long a, long b)
{
    return b ? common_divisor(b, a % b) : a;
}

/* Writes `count` different pages in an order of the writer's own: a step without a common divisor meets every page once. */
static int write_some(int writer, long count, int turn)
{
    struct prng prng = { (uint32_t)(writer * 1000 + turn) };
    long start = prng_below(&prng, (int)pages), step = pages / 2 + writer;
    while (common_divisor(step, pages) != 1)
        step++;
    for (long i = 0, page = start; i < count; i++, page = (page + step) % pages) {
        last[page] = (uint8_t)(turn << 6 | writer);
        fill_page(memory + page * PAGE, tag_of(page));
    }
    return (int)count;
}

static struct report inspect(int written)
{
    struct report report = { HASH_START, 0, written };
    for (long page = 0; page < pages; page++) {
        report.wrong += !page_is(memory + page * PAGE, tag_of(page));
        report.hash = hash_words(report.hash, memory + page * PAGE, PAGE);
    }
    return report;
}

static int show(const char *who, int number, const char *when, struct report report)
{
    printf("%s %d %s: wrote %d pages, %d of %ld wrong, hash %08x\n", who, number, when, report.written, report.wrong, pages, (unsigned)report.hash);
    return report.wrong;
}

/* A child: writes, reports, waits until everybody has written, reports again. */
__attribute__((noreturn)) static void child(int number, long writes, int reports, int go)
{
    char token;
    struct report report = inspect(0);
    if (report.wrong)
        die("FAILED: child %d finds %d wrong pages at birth", number, report.wrong);
    report = inspect(write_some(number, writes, 1));
    send(reports, &report, sizeof report);
    receive(go, &token, 1);
    report = inspect(write_some(number, writes / 2, 2));
    send(reports, &report, sizeof report);
    receive(go, &token, 1);
    _exit(report.wrong != 0);
}

int main(int argc, char **argv)
{
    pages = argument(argc, argv, 1, "pages", 256, 1, MOST);
    long children = argument(argc, argv, 2, "children", 3, 1, 32);
    long writes = argument(argc, argv, 3, "writes", 64, 0, pages);
    arguments_end(argc, argv);
    if (writes > pages)
        writes = pages;
    int reports[32][2], go[32][2], wrong = 0;
    pid_t pids[32];
    struct report report;

    memory = map_anonymous((size_t)pages, MAP_PRIVATE);
    for (long page = 0; page < pages; page++)
        fill_page(memory + page * PAGE, tag_of(page));
    wrong += show("parent", 0, "before", inspect((int)pages));
    for (int i = 0; i < children; i++) {
        must(pipe(reports[i]) == 0 && pipe(go[i]) == 0);
        pids[i] = fork_quietly();
        if (!pids[i])
            child(i + 1, writes, reports[i][1], go[i][0]);
        close(reports[i][1]); /* so that a child's death is an end of file */
    }
    reclaim(pages / 2);
    write_some(0, writes, 1);
    for (int i = 0; i < children; i++) {
        receive(reports[i][0], &report, sizeof report);
        wrong += show("child", i + 1, "first", report);
    }
    reclaim(pages);
    wrong += show("parent", 0, "first", inspect((int)writes));
    for (int i = 0; i < children; i++)
        send(go[i][1], "g", 1);
    for (int i = 0; i < children; i++) {
        receive(reports[i][0], &report, sizeof report);
        wrong += show("child", i + 1, "second", report);
    }
    reclaim(pages / 4);
    for (int i = 0; i < children; i++) {
        send(go[i][1], "g", 1);
        printf("child %d exits %d\n", i + 1, reap(pids[i]));
    }
    /* The parent is the last owner of what it did not write: the pages can be written in place. */
    wrong += show("parent", 0, "last", inspect(write_some(0, pages, 3)));
    puts(wrong ? "FAILED: writes were lost or seen by others" : "no write was lost");
    return wrong != 0;
}
