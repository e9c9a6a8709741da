/*
 * name:      shared_map
 * summary:   Processes map one file, shared and private, and write through the mapping and through write(); all must agree.
 * drives:    one page cache for mappings and read/write, file pages mapped many times, private copies of file pages, msync, truncation
 * arguments: processes=4 pages=32 rounds=4
 * look at:   walks through the file's index of areas; file pages written back or swapped rather than lost
 */
#include "rmapbox.h"

#define MOST 16

/* Process p owns word p of every 16-word group in every page; only it writes there, by turns through its mapping and by pwrite().
   The last group of a page belongs to the private mappings: nobody may see what is written there by another. */

#define GROUP 16
#define GROUPS (WORDS / GROUP)

static int file;
static long pages;
static volatile uint32_t *shared, *private;

static uint32_t value_of(int who, long round, long page, int group)
{
    return mix((uint32_t)(who << 24 | group << 16) ^ (uint32_t)(round * 65537 + page));
}

static void write_round(int who, long round)
{
    for (long page = 0; page < pages; page++)
        for (int group = 0; group < GROUPS - 1; group++) {
            long word = page * WORDS + group * GROUP + who;
            uint32_t value = value_of(who, round, page, group);
            /* write() is dear: one group of eight goes that way. */
            if ((group + round) % 8 == 0)
                must(pwrite(file, &value, sizeof value, word * 4) == sizeof value);
            else
                shared[word] = value;
        }
}

/* What process `writer` wrote in `round` must be in our mapping, in a read(), and in our private mapping where we did not write. */
static int check_round(int writer, long round)
{
    static uint32_t page_read[WORDS];
    int wrong = 0;
    for (long page = 0; page < pages; page++) {
        must(pread(file, page_read, PAGE, page * PAGE) == PAGE);
        for (int group = 0; group < GROUPS - 1; group++) {
            uint32_t value = value_of(writer, round, page, group);
            long word = group * GROUP + writer;
            wrong += shared[page * WORDS + word] != value || page_read[word] != value;
            if (page % 2 == 0) /* even pages of the private mapping are only read: they are the file's pages */
                wrong += private[page * WORDS + word] != value;
        }
    }
    return wrong;
}

static void write_private(int who)
{
    for (long page = 1; page < pages; page += 2)
        private[page * WORDS + WORDS - 1] = (uint32_t)(who * 1000 + page);
}

static int check_private(int who)
{
    int wrong = 0;
    for (long page = 0; page < pages; page++) {
        wrong += private[page * WORDS + WORDS - 1] != (page % 2 ? (uint32_t)(who * 1000 + page) : 0);
        wrong += shared[page * WORDS + WORDS - 1] != 0;
    }
    return wrong;
}

struct order {
    int write, who;
    long round;
};

static int obey(int me, struct order order)
{
    if (order.write) {
        write_round(me, order.round);
        return 0;
    }
    return check_round(order.who, order.round) + check_private(me);
}

static void map_both(void)
{
    shared = mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    private = mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    must(shared != MAP_FAILED && private != MAP_FAILED);
}

__attribute__((noreturn)) static void child(int me, int orders, int answers)
{
    struct order order;
    if (me % 2) { /* odd ones map anew, even ones keep what fork gave them */
        must(munmap((void *)shared, (size_t)pages * PAGE) == 0 && munmap((void *)private, (size_t)pages * PAGE) == 0);
        map_both();
    }
    write_private(me);
    for (;;) {
        receive(orders, &order, sizeof order);
        if (order.round < 0)
            _exit(0);
        int wrong = obey(me, order);
        send(answers, &wrong, sizeof wrong);
    }
}

int main(int argc, char **argv)
{
    int processes = (int)argument(argc, argv, 1, "processes", 4, 1, MOST);
    pages = argument(argc, argv, 2, "pages", 32, 1, 1 << 14);
    long rounds = argument(argc, argv, 3, "rounds", 4, 0, 100000);
    arguments_end(argc, argv);
    int orders[MOST][2], answers[MOST][2], wrong, all = 0;
    pid_t pids[MOST];

    file = nameless_file("shared_map", (size_t)pages);
    map_both();
    for (int i = 1; i < processes; i++) {
        must(pipe(orders[i]) == 0 && pipe(answers[i]) == 0);
        pids[i] = fork_quietly();
        if (!pids[i])
            child(i, orders[i][0], answers[i][1]);
        close(answers[i][1]);
    }
    write_private(0);
    for (long round = 1; round <= rounds; round++)
        for (int writer = 0; writer < processes; writer++) {
            int sum = 0;
            for (int phase = 1; phase >= 0; phase--)
                for (int i = 0; i < processes; i++) {
                    struct order order = { phase, writer, round };
                    if (phase && i != writer)
                        continue;
                    if (i) {
                        send(orders[i][1], &order, sizeof order);
                        receive(answers[i][0], &wrong, sizeof wrong);
                    } else
                        wrong = obey(0, order);
                    sum += wrong;
                }
            reclaim(pages / 2);
            printf("round %ld: process %d writes %ld pages, %d processes see %d wrong\n", round, writer, pages, processes, sum);
            all += sum;
        }
    for (int i = 1; i < processes; i++) {
        struct order order = { 0, 0, -1 };
        send(orders[i][1], &order, sizeof order);
        printf("process %d exits %d\n", i, reap(pids[i]));
    }
    must(msync((void *)shared, (size_t)pages * PAGE, MS_SYNC) == 0);
    uint32_t mapped = hash_words(HASH_START, (void *)shared, (size_t)pages * PAGE), hash = HASH_START;
    must(munmap((void *)shared, (size_t)pages * PAGE) == 0);
    for (long page = 0; page < pages; page++) {
        uint32_t buffer[WORDS];
        must(pread(file, buffer, PAGE, page * PAGE) == PAGE);
        hash = hash_words(hash, buffer, PAGE);
    }
    printf("the file's hash is %08x mapped and %08x read\n", (unsigned)mapped, (unsigned)hash);
    puts(all || mapped != hash ? "FAILED: the processes disagree" : "all agree");
    return all || mapped != hash;
}
