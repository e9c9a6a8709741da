/*
 * name:      swap_storm
 * summary:   Touches more memory than the machine has, in several orders, and verifies every word of it again and again.
 * drives:    kswapd and direct reclaim, swap-out and swap-in, the swap cache, swap shared by a forked child
 * arguments: megabytes=16 rounds=2 seed=1
 * look at:   pages swapped out and in, walks and hits; choose `megabytes` at twice the RAM (with a p behind it, 65p, it counts pages)
 */
#include "rmapbox.h"

static char *memory;
static long pages;
static uint32_t *versions;

static uint32_t tag_of(long page)
{
    return (uint32_t)page * 8 + versions[page];
}

/* Visits every page once in one of four orders: up, down, by a stride, and pseudo-randomly. */
static long page_at(int order, long i)
{
    switch (order) {
    case 0: return i;
    case 1: return pages - 1 - i;
    case 2: { /* 64 pages apart */
        long columns = (pages + 63) / 64, full = pages % 64 ? pages % 64 : 64;
        long row = i < full * columns ? i / columns : full + (i - full * columns) / (columns - 1);
        long column = i < full * columns ? i % columns : (i - full * columns) % (columns - 1);
        return column * 64 + row;
    }
    }
    return i;
}

static long verify(int order, uint32_t *hash)
{
    long wrong = 0;
    for (long i = 0; i < pages; i++) {
        long page = page_at(order, i);
        char *at = memory + page * PAGE;
        wrong += !page_is(at, tag_of(page));
        *hash = hash_words(*hash, at + (page * 64) % PAGE, 64);
    }
    return wrong;
}

static long show(const char *what, int order)
{
    static const char *const orders[] = { "upwards", "downwards", "by strides" };
    uint32_t hash = HASH_START;
    long wrong = verify(order, &hash);
    printf("%s, verified %s: %ld wrong, hash %08x\n", what, orders[order], wrong, (unsigned)hash);
    return wrong;
}

int main(int argc, char **argv)
{
    char size[24];
    int length = snprintf(size, sizeof size, "%s", argument_word(argc, argv, 1, "megabytes", "16"));
    if (length < (int)sizeof size && length && size[length - 1] == 'p') {
        size[length - 1] = 0;
        pages = number_in(size, "pages", 1, 700000);
    } else
        pages = number_in(size, "megabytes", 1, 2700) * ((1 << 20) / PAGE);
    long rounds = argument(argc, argv, 2, "rounds", 2, 0, 1000), wrong = 0;
    struct prng prng = { (uint32_t)argument(argc, argv, 3, "seed", 1, 0, 0x7fffffff) };
    arguments_end(argc, argv);

    memory = map_anonymous((size_t)pages, MAP_PRIVATE);
    versions = calloc((size_t)pages, sizeof *versions);
    must(versions != NULL);
    for (long page = 0; page < pages; page++)
        fill_page(memory + page * PAGE, tag_of(page));
    wrong += show("filled", 0);
    for (long round = 1; round <= rounds; round++) {
        printf("round %ld\n", round);
        for (long i = 0; i < pages / 2; i++) {
            long page = prng_below(&prng, (int)pages);
            wrong += !page_is(memory + page * PAGE, tag_of(page));
            versions[page] = (versions[page] + 1) % 8;
            fill_page(memory + page * PAGE, tag_of(page));
        }
        wrong += show("rewritten at random", (int)(round % 3));
        for (long i = 0; i < pages; i += 3) {
            long page = page_at(2, i);
            must(madvise(memory + page * PAGE, PAGE, MADV_DONTNEED) == 0);
            wrong += *(volatile uint32_t *)(memory + page * PAGE + PAGE - 4) != 0;
            fill_page(memory + page * PAGE, tag_of(page));
        }
        wrong += show("a third dropped and filled anew", 1);
    }
    /* A child reads what its parent had swapped out and keeps its own copy of what it writes. */
    pid_t pid = fork_quietly();
    if (!pid) {
        uint32_t hash = HASH_START;
        long bad = verify(1, &hash);
        for (long page = 0; page < pages; page += 4) {
            versions[page] ^= 4;
            fill_page(memory + page * PAGE, tag_of(page));
        }
        bad += verify(0, &hash);
        _exit(bad != 0);
    }
    int status = reap(pid);
    printf("child exits %d\n", status);
    wrong += show("after the child", 2);
    puts(wrong || status ? "FAILED: contents were lost" : "all contents kept");
    return wrong || status;
}
