/*
 * name:      fork_chain
 * summary:   Each generation forks the next, which writes some pages; then the parent exits, or all stay; the last one must see every write.
 * drives:    fork to any depth, pages whose first owners are gone, pages inherited untouched through all generations, orphans
 * arguments: generations=24 pages=48 written=6 mode=exit every=0
 * look at:   slab:anon_vma and slab:anon_vma_chain at the end (without bound before 4.0), address spaces visited by walk (anonmm's dead
 *            ones), misses. A quarter of the pages is never written after the first generation. mode=stay keeps all generations alive;
 *            every=N reclaims after each N-th generation too, not only at the end
 */
#include "gang.h"
#include <sys/syscall.h>

#define SET_CHILD_SUBREAPER 36 /* of prctl */

static char *memory;
static long generations, pages, written;
static uint32_t *last; /* per page: the generation that wrote it last, as far as this process knows */
static int stay;

static uint32_t tag_of(long page)
{
    return last[page] << 18 ^ (uint32_t)page;
}

static int inspect(void)
{
    int wrong = 0;
    for (long page = 0; page < pages; page++)
        wrong += !page_marked(memory + page * PAGE, tag_of(page));
    return wrong;
}

/* `written` pages, beginning where the generation before has ended; the last quarter is left alone. */
static void write_some(long generation)
{
    long reach = pages - pages / 4;
    for (long i = 0; i < written; i++) {
        long page = (long)(((long long)generation * written + i) % reach);
        last[page] = (uint32_t)generation;
        mark_page(memory + page * PAGE, tag_of(page));
    }
}

/* Waits until nobody has the other end of the pipe any more. */
static void wait_for_end(int fd)
{
    char byte;
    ssize_t n;
    while ((n = read(fd, &byte, 1)) != 0)
        if (n < 0 && errno != EINTR)
            die("FAILED: read from a pipe: %s", strerror(errno));
    close(fd);
}

/* The end of the line, and in mode=stay of every generation: report, wait for the reclaim, look again. */
__attribute__((noreturn)) static void finish(long generation, pid_t next)
{
    int wrong = inspect();
    gang_report(wrong, hash_words(HASH_START, last, (size_t)pages * sizeof *last));
    gang_wait();
    wrong += inspect();
    gang_report(wrong, (uint32_t)generation);
    gang_wait();
    if (next)
        wrong += reap(next) != 0;
    _exit(wrong != 0);
}

/* A generation is born, writes while its parent still shares the pages, sees the parent off, and forks the next. In mode=stay the last one
   begins to report when all are there; the others have nothing else to do till then. */
__attribute__((noreturn)) static void live(long generation, long every)
{
    for (;;) {
        int born[2], alive[2];
        char token = 'b';
        if (generation == generations)
            finish(generation, 0);
        must(pipe(born) == 0 && pipe(alive) == 0);
        pid_t next = fork_quietly();
        if (next) {
            close(born[1]);
            close(alive[0]);
            receive(born[0], &token, 1);
            if (stay) {
                close(born[0]);
                finish(generation, next);
            }
            _exit(0); /* the pipe `alive` ends with the memory gone */
        }
        generation++;
        close(born[0]);
        close(alive[1]);
        write_some(generation);
        send(born[1], &token, 1);
        close(born[1]);
        if (stay)
            close(alive[0]);
        else
            wait_for_end(alive[0]);
        if (every && generation % every == 0) {
            reclaim(pages);
            if (inspect())
                die("FAILED: generation %ld has lost pages", generation);
        }
    }
}

int main(int argc, char **argv)
{
    generations = argument(argc, argv, 1, "generations", 24, 1, 10000);
    pages = argument(argc, argv, 2, "pages", 48, 1, 1 << 16);
    written = argument(argc, argv, 3, "written", pages < 8 ? 1 : 6, 0, pages - pages / 4);
    const char *mode = argument_word(argc, argv, 4, "mode", "exit");
    if (strcmp(mode, "exit") && strcmp(mode, "stay"))
        die("%s: mode must be exit or stay", mode);
    stay = !strcmp(mode, "stay");
    if (stay && generations > 1000)
        die("%ld: of generations that stay there can be 1000", generations);
    long every = argument(argc, argv, 5, "every", 0, 0, 1000000);
    arguments_end(argc, argv);
    int members = stay ? (int)generations + 1 : 1;

    gang_open();
    /* Orphans come to the leader, and nobody has to wait for them: they must not pile up as zombies where init is slow to look.
       Should the line break, the pipe of reports ends. */
    syscall(SYS_prctl, SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    must(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    if (!fork_quietly()) {
        must(signal(SIGCHLD, SIG_DFL) != SIG_ERR);
        gang_join();
        /* The leader has none of this memory: when the parents are gone, they are gone. */
        memory = map_anonymous((size_t)pages, MAP_PRIVATE);
        last = allocate((size_t)pages, sizeof *last);
        for (long page = 0; page < pages; page++)
            mark_page(memory + page * PAGE, tag_of(page));
        live(0, every);
    }
    close(gang.arrive[1]);
    struct report before = gang_collect(members);
    reclaim(pages + (stay ? generations * written : 0));
    gang_go(members);
    struct report after = gang_collect(members);
    gang_go(members);
    while (wait(NULL) > 0 || errno == EINTR) /* until the last has gone */
        ;
    printf("%ld generations, each writing %ld of %ld pages, parents %s\n", generations, written, pages, stay ? "stay" : "exit");
    printf("%d alive in the end: %u wrong before reclaim, %u after it, sum %08x\n", members, (unsigned)before.wrong, (unsigned)after.wrong,
           (unsigned)(before.value + after.value));
    int wrong = before.wrong || after.wrong;
    puts(wrong ? "FAILED: writes were lost on the way" : "every write has come down");
    return wrong;
}
