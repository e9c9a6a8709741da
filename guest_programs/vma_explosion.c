/*
 * name:      vma_explosion
 * summary:   One process has very many areas that cannot merge, touches all, forks if told to, and verifies them after reclaim.
 * drives:    the number of areas itself: mmap, the areas' own memory, fork and exit of very many, max_map_count
 * arguments: areas=400 kind=apart processes=1 pages=1 reclaim=yes
 * look at:   slab:vm_area_struct and what a scheme adds to it (slab:anon_vma with kind=apart: one for each area); vmas_visited by walk
 *            with kind=protections (neighbours share one anon_vma) and kind=file (the file's index). kind: apart (a hole between two),
 *            protections (touching, every second one executable), file (shared file pages in reverse order)
 */
#include "gang.h"

static char *memory;
static long areas, pages, stride; /* pages from the beginning of one area to that of the next */

static char *at(long area, long page)
{
    return memory + (area * stride + page) * PAGE;
}

static uint32_t tag_of(long area, long page, int turn)
{
    return mix((uint32_t)turn + 5) ^ (uint32_t)(area * pages + page);
}

static void touch(int turn)
{
    for (long area = 0; area < areas; area++)
        for (long page = 0; page < pages; page++)
            mark_page(at(area, page), tag_of(area, page, turn));
}

static int inspect(int turn)
{
    int wrong = 0;
    for (long area = 0; area < areas; area++)
        for (long page = 0; page < pages; page++)
            wrong += !page_marked(at(area, page), tag_of(area, page, turn));
    return wrong;
}

static void build(const char *kind)
{
    size_t room = (size_t)(areas * stride) * PAGE;
    int is_file = !strcmp(kind, "file"), file = is_file ? nameless_file("vma_explosion", (size_t)(areas * pages)) : -1;
    /* Room for all, given back: holes are then ours to fill. */
    memory = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    must(memory != MAP_FAILED && munmap(memory, room) == 0);
    for (long area = 0; area < areas; area++) {
        int protection = PROT_READ | PROT_WRITE | (!strcmp(kind, "protections") && area % 2 ? PROT_EXEC : 0);
        int flags = MAP_FIXED | (is_file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
        void *got = mmap(at(area, 0), (size_t)pages * PAGE, protection, flags, file, is_file ? (off_t)(areas - 1 - area) * pages * PAGE : 0);
        if (got != at(area, 0))
            die("FAILED: mmap of area %ld: %s; vm.max_map_count allows 65530", area, strerror(errno));
    }
}

/* A child reads what it has inherited; private areas it then writes, and has pages of its own. */
__attribute__((noreturn)) static void live(int who, int private)
{
    gang_report(0, 0);
    gang_wait();
    int wrong = inspect(0);
    if (private)
        touch(who);
    gang_report(wrong, 0);
    gang_wait();
    wrong = inspect(private ? who : 0);
    gang_report(wrong, 0);
    gang_wait();
    _exit(wrong != 0);
}

int main(int argc, char **argv)
{
    areas = argument(argc, argv, 1, "areas", 400, 1, 65000);
    const char *kind = argument_word(argc, argv, 2, "kind", "apart");
    if (strcmp(kind, "apart") && strcmp(kind, "protections") && strcmp(kind, "file"))
        die("%s: kind must be apart, protections or file", kind);
    int members = (int)argument(argc, argv, 3, "processes", 1, 1, 16384) - 1;
    pages = argument(argc, argv, 4, "pages", 1, 1, 1 << 16);
    const char *shortage = argument_word(argc, argv, 5, "reclaim", "yes");
    arguments_end(argc, argv);
    if (strcmp(shortage, "yes") && strcmp(shortage, "no"))
        die("%s: reclaim must be yes or no", shortage);
    stride = pages + !strcmp(kind, "apart");
    if ((long long)areas * stride > 600000)
        die("%ld areas of %ld pages: more than 600000 pages have no room; choose less", areas, pages);
    int private = strcmp(kind, "file") != 0, wrong;
    uint32_t all = 0;
    pid_t *pids = allocate((size_t)members + 1, sizeof *pids);

    build(kind);
    touch(0);
    gang_open();
    for (int i = 0; i < members; i++) {
        pids[i] = gang_fork();
        if (!pids[i])
            live(i + 1, private);
    }
    gang_collect(members);
    for (int pass = 1; pass <= 2; pass++) {
        if (!strcmp(shortage, "yes"))
            reclaim(areas * pages);
        gang_go(members);
        wrong = inspect(0);
        all += (uint32_t)wrong + gang_collect(members).wrong;
        printf("%ld areas of %ld pages (%s) in %d processes: %u wrong after reclaim %d\n", areas, pages, kind, members + 1, (unsigned)all, pass);
    }
    all += (uint32_t)gang_dismiss(members, pids, members);
    /* From the middle outwards, so that areas go in an order that is not theirs. */
    for (long i = 0; i < areas; i++) {
        long area = areas / 2 + (i % 2 ? -(i + 1) / 2 : i / 2);
        must(munmap(at(area, 0), (size_t)pages * PAGE) == 0);
    }
    puts(all ? "FAILED: areas do not hold what was written" : "all areas held what was written");
    return all != 0;
}
