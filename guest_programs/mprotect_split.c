/*
 * name:      mprotect_split
 * summary:   Protections change at random places, splitting areas and merging them; every page is then tried for reading and writing.
 * drives:    mprotect, splitting and merging of areas, SIGSEGV with si_addr and si_code, /proc/self/maps
 * arguments: pages=48 rounds=12 seed=1
 * look at:   vmas and the scheme's objects that splits make; merges_refused
 */
#include "rmapbox.h"
#include <setjmp.h>

static char *area;
static long pages;
static int protection[4096];
static sigjmp_buf back;
static siginfo_t last;

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    last = *info;
    siglongjmp(back, 1);
}

/* Tries one access; 0 when it worked, 1 when it was refused as it should be, 2 for a wrong address or code. */
static int try_access(volatile char *at, int write)
{
    if (sigsetjmp(back, 1)) {
        /* Linux: the address is that of the access, the code tells a missing area from a forbidding one. */
        return last.si_signo == SIGSEGV && last.si_addr == (void *)at && last.si_code == SEGV_ACCERR ? 1 : 2;
    }
    if (write)
        *at = *at ^ 0x55;
    else
        (void)*at;
    return 0;
}

/* Areas in our range as /proc/self/maps shows them, neighbours of equal permissions counted once: where Linux may or may not merge
   the number stays the same. Checks the permissions shown against ours. */
static int count_areas(int *mismatches)
{
    char line[256], permissions[5], before[5] = "";
    unsigned long low, high, end = 0;
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps)
        die("FAILED: /proc/self/maps: %s", strerror(errno));
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx %4s", &low, &high, permissions) != 3)
            die("FAILED: a line of /proc/self/maps reads %s", line);
        if (high <= (unsigned long)area || low >= (unsigned long)area + (unsigned long)pages * PAGE)
            continue;
        if (low < (unsigned long)area)
            low = (unsigned long)area;
        if (high > (unsigned long)area + (unsigned long)pages * PAGE)
            high = (unsigned long)area + (unsigned long)pages * PAGE;
        count += low != end || strcmp(before, permissions) != 0;
        for (unsigned long at = low; at < high; at += PAGE) {
            int ours = protection[(at - (unsigned long)area) / PAGE];
            *mismatches += (permissions[0] == 'r') != !!(ours & PROT_READ) || (permissions[1] == 'w') != !!(ours & PROT_WRITE);
        }
        end = high;
        strcpy(before, permissions);
    }
    fclose(maps);
    return count;
}

static int try_all(void)
{
    int wrong = 0;
    for (long page = 0; page < pages; page++) {
        volatile char *at = area + page * PAGE + (page * 37) % PAGE;
        wrong += try_access(at, 0) != !(protection[page] & PROT_READ);
        if (try_access(at, 1) != !(protection[page] & PROT_WRITE))
            wrong++;
        else if (protection[page] & PROT_WRITE)
            wrong += try_access(at, 1) != 0; /* a second time: the pattern is as before */
    }
    return wrong;
}

static int inspect(void)
{
    int wrong = 0;
    for (long page = 0; page < pages; page++)
        wrong += !page_is(area + page * PAGE, (uint32_t)page);
    return wrong;
}

int main(int argc, char **argv)
{
    static const int kinds[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
    static const char letters[] = "-rRw";
    pages = argument(argc, argv, 1, "pages", 48, 2, 4096);
    long rounds = argument(argc, argv, 2, "rounds", 12, 0, 100000);
    struct prng prng = { (uint32_t)argument(argc, argv, 3, "seed", 1, 0, 0x7fffffff) };
    arguments_end(argc, argv);
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    int wrong = 0, all = 0;

    must(sigaction(SIGSEGV, &action, NULL) == 0);
    /* A page nobody has on either side keeps other areas from being neighbours. */
    area = map_anonymous((size_t)pages + 2, MAP_PRIVATE) + PAGE;
    must(munmap(area - PAGE, PAGE) == 0 && munmap(area + pages * PAGE, PAGE) == 0);
    for (long page = 0; page < pages; page++) {
        protection[page] = PROT_READ | PROT_WRITE;
        fill_page(area + page * PAGE, (uint32_t)page);
    }
    for (long round = 1; round <= rounds; round++) {
        for (int change = 0; change < 4; change++) {
            int first = prng_below(&prng, (int)pages), count = 1 + prng_below(&prng, (int)pages - first);
            int kind = kinds[prng_below(&prng, 3)];
            must(mprotect(area + (long)first * PAGE, (size_t)count * PAGE, kind) == 0);
            for (int page = first; page < first + count; page++)
                protection[page] = kind;
        }
        printf("round %ld: ", round);
        for (long page = 0; page < pages; page++)
            putchar(letters[protection[page]]);
        int mismatches = 0, areas = count_areas(&mismatches);
        wrong = try_all() + mismatches;
        printf(" %d areas, %d wrong\n", areas, wrong);
        all += wrong;
        if (round % 4)
            continue;
        must(mprotect(area, (size_t)pages * PAGE, PROT_READ | PROT_WRITE) == 0);
        for (long page = 0; page < pages; page++)
            protection[page] = PROT_READ | PROT_WRITE;
        areas = count_areas(&mismatches);
        wrong = inspect();
        printf("all open again: %d area, %d wrong\n", areas, wrong);
        all += wrong;
    }
    /* A hole in the range: what lies before it has changed, and the call says ENOMEM. */
    must(mprotect(area, (size_t)pages * PAGE, PROT_READ | PROT_WRITE) == 0 && munmap(area + pages / 2 * PAGE, PAGE) == 0);
    int result = mprotect(area, (size_t)pages * PAGE, PROT_READ);
    printf("over a hole: %s, before it writing is %s\n", error_name(result ? errno : 0), try_access(area, 1) == 1 ? "refused" : "possible");
    puts(all ? "FAILED: accesses and protections disagree" : "accesses and protections agree");
    return all != 0;
}
