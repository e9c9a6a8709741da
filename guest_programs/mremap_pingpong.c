/*
 * name:      mremap_pingpong
 * summary:   Pages shared by fork are moved back and forth in one process after another, whole and in parts; contents must follow.
 * drives:    mremap (move, grow, shrink) of pages mapped elsewhere at other addresses, reclaim and swap-in of moved pages
 * arguments: pages=64 rounds=6 children=2
 * look at:   mremap_copies (anonmm must copy what is shared), hits of walks after the move, nodes rewritten by a PTE-based scheme
 */
#include "rmapbox.h"

#define MOST 16

static char *here, *there; /* two places of `pages` pages; the area is in `here`, the other is a hole */
static long pages;
static uint32_t versions[1 << 14]; /* what this process has written into each page */

static uint32_t tag_of(long page)
{
    return (uint32_t)page ^ versions[page] << 16;
}

static int inspect(void)
{
    int wrong = 0;
    for (long page = 0; page < pages; page++)
        wrong += !page_is(here + page * PAGE, tag_of(page));
    return wrong;
}

static void move_part(long first, long count)
{
    must(mremap(here + first * PAGE, (size_t)count * PAGE, (size_t)count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, there + first * PAGE)
         == there + first * PAGE);
}

static void change_places(void)
{
    char *from = here;
    here = there;
    there = from;
}

/* One turn: move, touch some, reclaim, inspect. Odd rounds move the area in one piece, even ones in three. */
static int turn(int who, long round)
{
    long third = pages / 3;
    if (round % 2 || !third)
        move_part(0, pages);
    else {
        /* Out of order, so that each piece finds a different neighbour. */
        move_part(third, third);
        move_part(2 * third, pages - 2 * third);
        move_part(0, third);
    }
    change_places();
    for (long page = who; page < pages; page += 5 + who) {
        versions[page] = (uint32_t)(round * 16 + who + 1);
        fill_page(here + page * PAGE, tag_of(page));
    }
    reclaim(pages / 2);
    return inspect();
}

/* The area shrinks by half and grows again: the pages that come back are new ones. */
static int shrink_and_grow(void)
{
    long half = pages / 2;
    if (!half)
        return 0;
    must(mremap(here, (size_t)pages * PAGE, (size_t)half * PAGE, 0) == here);
    must(mremap(here, (size_t)half * PAGE, (size_t)pages * PAGE, 0) == here);
    static const char zero[PAGE];
    int wrong = 0;
    for (long page = half; page < pages; page++) {
        wrong += memcmp(here + page * PAGE, zero, PAGE) != 0;
        versions[page] = 0x7777;
        fill_page(here + page * PAGE, tag_of(page));
    }
    return wrong + inspect();
}

__attribute__((noreturn)) static void child(int number, int orders, int answers)
{
    long round;
    for (;;) {
        receive(orders, &round, sizeof round);
        int wrong = round < 0 ? inspect() : round == 0 ? shrink_and_grow() : turn(number, round);
        send(answers, &wrong, sizeof wrong);
        if (!round)
            _exit(wrong != 0);
    }
}

int main(int argc, char **argv)
{
    pages = argument(argc, argv, 1, "pages", 64, 1, 1 << 14);
    long rounds = argument(argc, argv, 2, "rounds", 6, 0, 100000);
    int children = (int)argument(argc, argv, 3, "children", 2, 0, MOST);
    arguments_end(argc, argv);
    int orders[MOST][2], answers[MOST][2], wrong = 0, all = 0;
    pid_t pids[MOST];

    /* One reservation, given back, is room for both places with a page between them that nobody has. */
    here = map_anonymous((size_t)(2 * pages + 1), MAP_PRIVATE);
    there = here + (pages + 1) * PAGE;
    must(munmap(here + pages * PAGE, (size_t)(pages + 1) * PAGE) == 0);
    for (long page = 0; page < pages; page++)
        fill_page(here + page * PAGE, tag_of(page));
    for (int i = 0; i < children; i++) {
        must(pipe(orders[i]) == 0 && pipe(answers[i]) == 0);
        pids[i] = fork_quietly();
        if (!pids[i])
            child(i + 1, orders[i][0], answers[i][1]);
        close(answers[i][1]);
    }
    for (long round = 1; round <= rounds; round++) {
        int mover = (int)(round - 1) % (children + 1);
        if (!mover)
            wrong = turn(0, round);
        else {
            send(orders[mover - 1][1], &round, sizeof round);
            receive(answers[mover - 1][0], &wrong, sizeof wrong);
        }
        printf("round %ld: process %d moves %ld pages: %d wrong;", round, mover, pages, wrong);
        all += wrong;
        long look = -1;
        for (int i = 0; i < children; i++) {
            send(orders[i][1], &look, sizeof look);
            receive(answers[i][0], &wrong, sizeof wrong);
            printf(" child %d sees %d wrong,", i + 1, wrong);
            all += wrong;
        }
        wrong = inspect();
        printf(" parent %d\n", wrong);
        all += wrong;
    }
    wrong = shrink_and_grow();
    printf("parent shrinks and grows: %d wrong\n", wrong);
    all += wrong;
    for (int i = 0; i < children; i++) {
        long last = 0;
        send(orders[i][1], &last, sizeof last);
        receive(answers[i][0], &wrong, sizeof wrong);
        printf("child %d shrinks and grows: %d wrong, exits %d\n", i + 1, wrong, reap(pids[i]));
        all += wrong;
    }
    wrong = inspect();
    printf("parent, alone: %d wrong\n", wrong);
    puts(all + wrong ? "FAILED: contents did not follow their pages" : "contents followed their pages");
    return all + wrong != 0;
}
