/*
 * name:      rmap_test
 * summary:   Andrew Morton's rmap-test of 2003, with his options: areas over one file, mapped shared by all tasks, touched in three ways.
 * drives:    many areas over one file, each page mapped by every task through one of them; fork of large shared mappings
 * arguments: [-l|-r|-h] [-i iterations=2] [-n areas=20] [-s pages=8] [-t tasks=8] [-V areas=n] [-v] [FILE]
 * look at:   file_vmas_visited and file_candidates by walk (areas * tasks for a list, tasks for a tree); slab:pte_chain. -l touches
 *            linearly, -r at random (-V areas' worth of pages), -h keeps half of the areas busy; -v tells of each iteration.
 *            After the last iteration, with all tasks alive, all pages are reclaimed once more
 */
#include "gang.h"

/* Every task owns a word of every page, so that tasks that touch one page do not race. Area i begins at file page i * (size + 1): the page
   left out between two keeps them from being one area. */

#define FIRST 4 /* word FIRST + t of each page counts what task t has done to it */
#define MOST_TASKS (WORDS - FIRST)

static struct {
    long iterations, areas, size, tasks, to_do;
    int verbose;
    char pattern;
} want = { 2, 20, 8, 8, -1, 0, 'l' };

static volatile uint32_t **area;
static volatile uint32_t *halt; /* shared: the busy task may stop; [1]: how often it went round */

static volatile uint32_t *words(long page)
{
    return area[page / want.size] + page % want.size * WORDS;
}

static void touch(int task, long page)
{
    words(page)[FIRST + task]++;
}

static void touch_linear(int task, long areas)
{
    for (long page = 0; page < areas * want.size; page++)
        touch(task, page);
}

static struct prng random_of(int task)
{
    return (struct prng){ mix((uint32_t)task + 1) };
}

static void touch_random(int task, struct prng *prng)
{
    for (long i = 0; i < want.to_do * want.size; i++)
        touch(task, prng_below(prng, (int)(want.areas * want.size)));
}

__attribute__((noreturn)) static void live(int task)
{
    struct prng prng = random_of(task);
    gang_report(0, 0);
    gang_wait();
    if (want.pattern == 'h' && !task)
        while (!halt[0]) {
            touch_linear(0, want.areas / 2);
            halt[1]++;
        }
    else
        for (long iteration = 1; iteration <= want.iterations; iteration++) {
            if (want.pattern == 'r')
                touch_random(task, &prng);
            else
                touch_linear(task, want.areas);
            gang_report(0, (uint32_t)iteration);
        }
    gang_report(0, 0);
    gang_wait();
    _exit(0);
}

/* Reports of single iterations until each of `tasks` has made all of them; the busy task makes none. */
static void follow(int tasks)
{
    int *done = allocate((size_t)want.iterations + 1, sizeof *done), ended = 0;
    while (ended < tasks) {
        struct report report;
        receive(gang.arrive[0], &report, sizeof report);
        ended += !report.value;
        /* The last task to make an iteration is the one that completes it, and no later one can be complete before. */
        if (report.value && ++done[report.value] == tasks && want.verbose)
            printf("iteration %u of %ld: %d tasks\n", (unsigned)report.value, want.iterations, tasks);
    }
    free(done);
}

/* What a page's counters must add up to, each with a weight of its own: one number per page and not one per page and task. */
static int verify(void)
{
    long pages = want.areas * want.size;
    uint32_t *expected = allocate((size_t)pages, sizeof *expected);
    int wrong = 0, busy = want.pattern == 'h';
    for (int task = 0; task < want.tasks; task++) {
        uint32_t weight = mix((uint32_t)task + 99);
        struct prng prng = random_of(task);
        if (want.pattern == 'r')
            for (long i = 0; i < want.iterations * want.to_do * want.size; i++)
                expected[prng_below(&prng, (int)pages)] += weight;
        else
            for (long page = 0; page < pages; page++)
                expected[page] += weight * (busy && !task ? page < want.areas / 2 * want.size ? halt[1] : 0 : (uint32_t)want.iterations);
    }
    for (long page = 0; page < pages; page++) {
        volatile uint32_t *word = words(page);
        uint32_t found = 0;
        for (int task = 0; task < want.tasks; task++)
            found += word[FIRST + task] * mix((uint32_t)task + 99);
        wrong += found != expected[page] || word[0] != mix((uint32_t)page);
    }
    free(expected);
    return wrong;
}

static struct option {
    char letter;
    const char *name;
    long *number, least, most;
} options[] = {
    { 'i', "iterations", &want.iterations, 0, 10000000 }, { 'n', "areas", &want.areas, 1, 65000 },
    { 's', "pages", &want.size, 1, 1 << 19 },             { 't', "tasks", &want.tasks, 1, MOST_TASKS },
    { 'V', "areas to do", &want.to_do, 0, 10000000 },
};
#define OPTIONS (sizeof options / sizeof *options)

/* -iN and -i N alike, as getopt takes them; -i iterations=N too. */
static void read_number(const struct option *option, int argc, char **argv, int *at, const char *rest)
{
    if (!*rest && ++*at >= argc)
        die("-%c: a number must follow", option->letter);
    char name[] = { '-', option->letter, 0 };
    const char *word = *rest ? rest : argv[*at], *value = value_in(word, option->name);
    *option->number = number_in(value ? value : word, name, option->least, option->most);
}

/* NAME=VALUE, as the card has it. */
static int read_named(const char *word)
{
    for (size_t k = 0; k < OPTIONS; k++) {
        const char *value = value_in(word, options[k].name);
        if (value) {
            *options[k].number = number_in(value, options[k].name, options[k].least, options[k].most);
            return 1;
        }
    }
    return 0;
}

static const char *read_options(int argc, char **argv)
{
    const char *path = NULL;
    for (int at = 1; at < argc; at++) {
        if (read_named(argv[at]))
            continue;
        if (argv[at][0] != '-') {
            if (path)
                die("%s: one file is enough, and %s is it", argv[at], path);
            path = argv[at];
            continue;
        }
        for (char *letter = argv[at] + 1; *letter; letter++) {
            if (strchr("lrh", *letter))
                want.pattern = *letter;
            else if (*letter == 'v')
                want.verbose = 1;
            else {
                size_t k = 0;
                while (k < OPTIONS && options[k].letter != *letter)
                    k++;
                if (k == OPTIONS)
                    die("-%c: no such option; there are -l -r -h -v and, with a number, -i -n -s -t -V", *letter);
                read_number(&options[k], argc, argv, &at, letter + 1);
                break;
            }
        }
    }
    if (want.to_do < 0)
        want.to_do = want.areas;
    if ((long long)want.areas * want.size > 600000)
        die("%ld areas of %ld pages: more than 600000 pages have no room; choose less", want.areas, want.size);
    return path;
}

/* The file has no name when the tasks run: nothing is left behind, and a file of the caller's is not overwritten. */
static int open_file(const char *path)
{
    size_t pages = (size_t)(want.areas * want.size + want.areas - 1);
    if (!path)
        return nameless_file("rmap_test", pages);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        die("%s: %s; name a file that can be made anew", path, strerror(errno));
    must(unlink(path) == 0 && ftruncate(fd, (off_t)pages * PAGE) == 0);
    return fd;
}

int main(int argc, char **argv)
{
    int file = open_file(read_options(argc, argv)), tasks = (int)want.tasks;
    pid_t *pids = allocate((size_t)tasks, sizeof *pids);

    area = allocate((size_t)want.areas, sizeof *area);
    halt = (volatile uint32_t *)map_anonymous(1, MAP_SHARED);
    for (long i = 0; i < want.areas; i++) {
        area[i] = mmap(NULL, (size_t)want.size * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, (off_t)i * (want.size + 1) * PAGE);
        must(area[i] != MAP_FAILED);
    }
    for (long page = 0; page < want.areas * want.size; page++)
        words(page)[0] = mix((uint32_t)page);
    gang_open();
    for (int task = 0; task < tasks; task++) {
        pids[task] = gang_fork();
        if (!pids[task])
            live(task);
    }
    gang_collect(tasks);
    gang_go(tasks);
    follow(want.pattern == 'h' ? tasks - 1 : tasks);
    if (want.pattern == 'h') {
        halt[0] = 1;
        gang_collect(1);
    }
    reclaim(want.areas * want.size);
    int wrong = verify(), failed = gang_dismiss(tasks, pids, tasks);
    printf("%d tasks, %ld areas of %ld pages, pattern %c, %ld iterations: %d pages wrong\n", tasks, want.areas, want.size, want.pattern,
           want.iterations, wrong);
    puts(wrong || failed ? "FAILED: touches were lost" : "no touch was lost");
    return wrong || failed;
}
