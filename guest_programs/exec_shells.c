/*
 * name:      exec_shells
 * summary:   Shells run scripts: each forks command after command, which exec the program anew, touch some memory and exit; some are shells too.
 * drives:    fork and exec in quick succession, short-lived address spaces, many processes that share few pages each, exit
 * arguments: shells=3 commands=4 depth=2 pages=8
 * look at:   fork_links and fork_allocations by fork, links and removal_nodes: the whole price of a process that hardly uses what fork
 *            gave it; slab:pte_chain, a node for each page that two or three processes share
 */
#include "gang.h"

/* The program in its other parts:  exec_shells +PART FD PATH COMMANDS DEPTH PAGES.  PATH tells processes apart: a hash of the way from the
   first one down. A process that has ended well has sent its path through FD. */

static char *program; /* argv[0]; what is executed is the file itself */
static long commands, pages;

static uint32_t path_of(uint32_t path, long number)
{
    return mix(path ^ (uint32_t)(number + 1) * 0x9e3779b9u);
}

__attribute__((noreturn)) static void execute(int results, uint32_t path, long depth)
{
    char fd[12], way[12], count[12], level[12], size[12];
    snprintf(fd, sizeof fd, "%d", results);
    snprintf(way, sizeof way, "%08x", (unsigned)path);
    snprintf(count, sizeof count, "%ld", commands);
    snprintf(level, sizeof level, "%ld", depth);
    snprintf(size, sizeof size, "%ld", pages);
    char *words[] = { program, depth ? "+shell" : "+command", fd, way, count, level, size, NULL };
    execv("/proc/self/exe", words);
    execv(program, words); /* no /proc in a chroot */
    die("FAILED: exec: %s", strerror(errno));
}

/* A child writes a little of what it shares with its parent, as a shell does between fork and exec, and becomes another program. */
static pid_t spawn(char *memory, int results, uint32_t path, long depth)
{
    pid_t pid = fork_quietly();
    if (pid)
        return pid;
    if (memory)
        mark_page(memory, path);
    execute(results, path, depth);
}

/* A call of its own, so that the pid, which is chance, stays in no frame that lives on. */
__attribute__((noinline)) static int run(char *memory, int results, uint32_t path, long depth)
{
    return reap(spawn(memory, results, path, depth)) != 0;
}

static int inspect(char *memory, uint32_t path)
{
    int wrong = 0;
    for (long page = 0; page < pages; page++)
        wrong += !page_marked(memory + page * PAGE, path + (uint32_t)page);
    return wrong;
}

/* A shell or, at depth 0, a command: memory of its own, commands one after the other, and a look whether the memory is as it was. */
static int part(int argc, char **argv)
{
    if (argc != 7 || (strcmp(argv[1], "+shell") && strcmp(argv[1], "+command")))
        die("%s: the program starts its parts itself; shells must be a number", argv[1]);
    int results = atoi(argv[2]), failed = 0;
    uint32_t path = (uint32_t)strtoul(argv[3], NULL, 16);
    long depth = atol(argv[5]);
    commands = atol(argv[4]);
    pages = atol(argv[6]);

    char *memory = pages ? map_anonymous((size_t)pages, MAP_PRIVATE) : NULL;
    for (long page = 0; page < pages; page++)
        mark_page(memory + page * PAGE, path + (uint32_t)page);
    for (long i = 0; depth && i < commands; i++)
        failed += run(memory, results, path_of(path, i), depth - 1);
    int wrong = inspect(memory, path);
    struct report report = { (uint32_t)(wrong + failed), path };
    send(results, &report, sizeof report);
    return report.wrong != 0;
}

int main(int argc, char **argv)
{
    program = argv[0];
    if (argc > 1 && argv[1][0] == '+')
        return part(argc, argv);
    long shells = argument(argc, argv, 1, "shells", 3, 1, 1000);
    commands = argument(argc, argv, 2, "commands", 4, 0, 10000);
    long depth = argument(argc, argv, 3, "depth", 2, 1, 8);
    pages = argument(argc, argv, 4, "pages", 8, 0, 1 << 16);
    arguments_end(argc, argv);
    struct report report, sum = { 0, 0 };
    int results[2];
    long long count = shells, level = shells;
    pid_t *pids = allocate((size_t)shells, sizeof *pids);

    for (long i = 0; i < depth; i++) {
        level *= commands;
        count += level;
        if (count > 10000000)
            die("%ld shells with %ld commands, %ld deep: more than 10000000 processes; choose less", shells, commands, depth);
    }
    must(pipe(results) == 0);
    for (long i = 0; i < shells; i++)
        pids[i] = spawn(NULL, results[1], path_of(1, i), depth);
    close(results[1]); /* so that the last one's death is an end of file */
    for (long long i = 1; i <= count; i++) {
        receive(results[0], &report, sizeof report);
        sum.wrong += report.wrong;
        sum.value += report.value;
        if (i % 32 == 0)
            reclaim(shells * (depth + 1) * pages / 2);
    }
    int failed = 0;
    for (long i = 0; i < shells; i++)
        failed += reap(pids[i]) != 0;
    memset(pids, 0, (size_t)shells * sizeof *pids); /* who got which, and who came last, is chance */
    report = sum;
    printf("%ld shells, %ld deep, with %ld commands each: %lld processes, %u wrong, sum %08x\n", shells, depth, commands, count,
           (unsigned)sum.wrong, (unsigned)sum.value);
    puts(sum.wrong || failed ? "FAILED: a process found what was not its own" : "all processes ended well");
    return sum.wrong || failed;
}
