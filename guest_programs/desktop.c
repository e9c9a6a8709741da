/*
 * name:      desktop
 * summary:   Programs of a desktop: a launcher forks them, each maps the same libraries, writes their data and a heap of its own, and stays.
 * drives:    pages of libraries mapped by all, pages of the launcher shared by fork, private pages in many areas
 * arguments: programs=10 libraries=6 text=32 data=4 heap=64 launcher=64
 * look at:   slab:pte_chain (a node or more for each page that two map) against slab:anon_vma and what areas grow by, while all live
 */
#include "gang.h"

/* Sizes are in pages. A library is a file: text, read by all, then data, of which each writer gets a copy. */
static long programs, libraries, text, data, heap, launcher;
static int *files;
static char *inherited;

static uint32_t text_tag(long library, long page)
{
    return mix((uint32_t)library + 77) ^ (uint32_t)page;
}

static uint32_t own_tag(int who, long page)
{
    return mix((uint32_t)who * 0x10001u + 5) ^ (uint32_t)page;
}

static void make_libraries(void)
{
    files = allocate((size_t)libraries, sizeof *files);
    for (long i = 0; i < libraries; i++) {
        files[i] = nameless_file("desktop", (size_t)(text + data));
        char *at = mmap(NULL, (size_t)(text + data) * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, files[i], 0);
        must(at != MAP_FAILED);
        for (long page = 0; page < text + data; page++)
            mark_page(at + page * PAGE, text_tag(i, page));
        must(munmap(at, (size_t)(text + data) * PAGE) == 0);
    }
}

/* Every program needs two thirds of a library's text: which, is its own affair. */
static int needs(int who, long library, long page)
{
    return mix((uint32_t)who ^ mix((uint32_t)(library * 4096 + page))) % 3 != 0;
}

/* Maps all libraries, as a dynamic linker does, and gives what was not as it should be. */
static int load(int who)
{
    int wrong = 0;
    for (long i = 0; i < libraries; i++) {
        char *at = mmap(NULL, (size_t)(text + data) * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, files[i], 0);
        must(at != MAP_FAILED);
        if (data)
            must(mprotect(at + text * PAGE, (size_t)data * PAGE, PROT_READ | PROT_WRITE) == 0);
        for (long page = 0; page < text; page++)
            wrong += needs(who, i, page) && !page_marked(at + page * PAGE, text_tag(i, page));
        for (long page = text; page < text + data; page++) {
            wrong += !page_marked(at + page * PAGE, text_tag(i, page));
            mark_page(at + page * PAGE, own_tag(who, i * data + page));
        }
    }
    return wrong;
}

/* The launcher's pages are read; every eighth is written by whoever it launched. */
static int use(int who, char *own, int written)
{
    int wrong = 0;
    for (long page = 0; page < launcher; page++) {
        char *at = inherited + page * PAGE;
        wrong += !page_marked(at, own_tag(written && page % 8 == 0 ? who : 0, page));
        if (page % 8 == 0)
            mark_page(at, own_tag(who, page));
    }
    for (long page = 0; page < heap; page++) {
        wrong += written && !page_marked(own + page * PAGE, own_tag(who, page));
        mark_page(own + page * PAGE, own_tag(who, page));
    }
    return wrong;
}

__attribute__((noreturn)) static void run(int who)
{
    int wrong = load(who);
    char *own = heap ? map_anonymous((size_t)heap, MAP_PRIVATE) : NULL;
    wrong += use(who, own, 0);
    gang_report(wrong, own_tag(who, 1));
    gang_wait();
    wrong = use(who, own, 1);
    gang_report(wrong, 0);
    gang_wait();
    _exit(wrong != 0);
}

int main(int argc, char **argv)
{
    programs = argument(argc, argv, 1, "programs", 10, 1, 30000);
    libraries = argument(argc, argv, 2, "libraries", 6, 0, 200);
    text = argument(argc, argv, 3, "text", 32, 1, 4096);
    data = argument(argc, argv, 4, "data", 4, 0, 4096);
    heap = argument(argc, argv, 5, "heap", 64, 0, 1 << 16);
    launcher = argument(argc, argv, 6, "launcher", 64, 1, 1 << 16);
    arguments_end(argc, argv);
    pid_t *pids = allocate((size_t)programs, sizeof *pids);
    struct report report, sum = { 0, 0 };

    gang_open();
    make_libraries();
    inherited = map_anonymous((size_t)launcher, MAP_PRIVATE);
    for (long page = 0; page < launcher; page++)
        mark_page(inherited + page * PAGE, own_tag(0, page));
    for (int i = 0; i < programs; i++) {
        pids[i] = gang_fork();
        if (!pids[i])
            run(i + 1);
        report = gang_collect(1); /* one starts after the other, as at login */
        sum.wrong += report.wrong;
        sum.value += report.value;
    }
    printf("%ld programs with %ld libraries: %u wrong, sum %08x\n", programs, libraries, (unsigned)sum.wrong, (unsigned)sum.value);
    gang_go((int)programs);
    sum.wrong += gang_collect((int)programs).wrong;
    sum.wrong += (uint32_t)gang_dismiss((int)programs, pids, (int)programs);
    puts(sum.wrong ? "FAILED: a program found what was not its own" : "all programs found their own pages");
    return sum.wrong != 0;
}
