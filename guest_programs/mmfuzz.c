/*
 * name:      mmfuzz
 * summary:   Random memory calls in an arena at a fixed address; prints each result and hashes of all that can be read.
 * drives:    mmap, munmap, mremap, mprotect, madvise, msync, mlock, mincore, brk, fork, touches, files cut and extended under their mappings
 * arguments: seed=1 steps=400 pages=64
 * look at:   two runs with one seed, natively and here, under any scheme and memory size: not a line may differ
 */
#include "rmapbox.h"
#include <setjmp.h>
#include <sys/syscall.h>

/* Everything about a call is drawn before it is made, and what is printed follows from the kernel's rules alone. One thing does not:
   which neighbours the kernel has merged into one area depends on its version and on the reverse-mapping scheme, and mremap refuses
   a range that crosses areas. So the program keeps borders of its own, wherever a call may have split an area, and gives mremap
   ranges without a border inside. */

#define BASE ((char *)0x60000000)
#define MOST 4096
#define WAITING 3 /* children that sleep with a copy of the arena until released */
#define DEPTH 2

static int pages, file, depth;
static int region[MOST + 1]; /* by page: 0 a hole, else a number shared by pages that are certainly in one area */
static int last_region;
static struct prng prng;
static struct { pid_t pid; int go; } waiting[WAITING];
static int waiting_count;
static char *heap_base;
static int heap_pages;
static sigjmp_buf back;
static siginfo_t fault;

static char *at(int page)
{
    return BASE + (size_t)page * PAGE;
}

static int below(int bound)
{
    return prng_below(&prng, bound);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    fault = *info;
    siglongjmp(back, 1);
}

static const char *fault_name(const volatile void *address)
{
    if (fault.si_addr != (void *)address)
        return "a signal for another address";
    if (fault.si_signo == SIGBUS)
        return fault.si_code == BUS_ADRERR ? "SIGBUS" : "SIGBUS of another kind";
    return fault.si_code == SEGV_MAPERR ? "SIGSEGV MAPERR" : fault.si_code == SEGV_ACCERR ? "SIGSEGV ACCERR" : "SIGSEGV of another kind";
}

/* --- borders */

static void split_at(int page)
{
    if (page <= 0 || page >= pages || !region[page] || region[page] != region[page - 1])
        return;
    int old = region[page];
    last_region++;
    for (; page < pages && region[page] == old; page++)
        region[page] = last_region;
}

static void borders(int first, int count)
{
    split_at(first);
    split_at(first + count);
}

static void assign(int first, int count, int number)
{
    borders(first, count);
    for (int page = first; page < first + count; page++)
        region[page] = number;
}

/* Pages from `first` on that lie in its region; 0 for a hole. */
static int extent(int first)
{
    int count = 0;
    if (region[first])
        while (first + count < pages && region[first + count] == region[first])
            count++;
    return count;
}

/* --- what is printed */

static void say_address(const char *address)
{
    if (address == (char *)MAP_FAILED)
        printf("%s\n", error_name(errno));
    else if (address >= BASE && address < at(pages))
        printf("page %d\n", (int)(address - BASE) / PAGE);
    else
        printf("elsewhere\n");
}

static void say(long result)
{
    if (result < 0)
        printf("%s\n", error_name(errno));
    else
        printf("%ld\n", result);
}

/* Hash of a page, or how reading it fails: '.' no area, '-' no permission, 'b' beyond the file. */
static char read_page(const char *page, volatile uint32_t *hash)
{
    if (sigsetjmp(back, 0))
        return fault.si_signo == SIGBUS ? 'b' : fault.si_code == SEGV_MAPERR ? '.' : '-';
    *hash = hash_words(*hash, page, PAGE);
    return 'r';
}

/* The whole arena: a letter and, for runs of equal letters, a hash. */
static void show_memory(void)
{
    volatile uint32_t hash = HASH_START;
    char before = 0;
    int run = 0;
    printf("  memory");
    for (int page = 0; page <= pages; page++) {
        volatile uint32_t one = HASH_START;
        char kind = page < pages ? read_page(at(page), &one) : 0;
        if (kind != before || (region[page] != region[page - 1] && kind == 'r')) {
            if (before)
                printf(before == 'r' ? " %c%d:%08x" : " %c%d", before, run, (unsigned)hash);
            run = 0;
            hash = HASH_START;
        }
        before = kind;
        run++;
        hash = (hash ^ one) * 16777619u;
    }
    hash = HASH_START;
    for (int page = 0; page < heap_pages; page++)
        hash = hash_words(hash, heap_base + (size_t)page * PAGE, PAGE);
    printf(" heap%d:%08x\n", heap_pages, (unsigned)hash);
}

/* Permissions of every page of the arena as /proc/self/maps gives them: how areas are merged does not show. */
static void show_maps(void)
{
    static char text[1 << 16], permissions[MOST + 1];
    int fd = open("/proc/self/maps", O_RDONLY), length = 0, n;
    must(fd >= 0);
    while ((n = read(fd, text + length, sizeof text - 1 - (size_t)length)) > 0)
        length += n;
    close(fd);
    text[length] = 0;
    memset(permissions, '.', (size_t)pages);
    permissions[pages] = 0;
    for (char *line = text, *end; *line; line = end + 1) {
        char *rest;
        unsigned long low = strtoul(line, &rest, 16), high = strtoul(rest + 1, &rest, 16);
        end = strchr(line, '\n');
        if (!end)
            break;
        for (unsigned long address = low; address < high; address += PAGE)
            if (address >= (unsigned long)BASE && address < (unsigned long)at(pages)) {
                char kind = rest[2] == 'w' ? 'w' : rest[1] == 'r' ? 'r' : '-';
                permissions[(address - (unsigned long)BASE) / PAGE] = rest[4] == 's' ? kind == '-' ? '=' : (char)(kind - 32) : kind;
            }
    }
    memset(text, 0, sizeof text); /* where areas end is the kernel's affair, and stays out of what the program holds */
    printf("  maps %s\n", permissions);
}

/* --- the calls */

static int pick_range(int *count)
{
    int first = below(pages), room = pages - first;
    *count = 1 + below(room < 12 ? room : below(4) ? 12 : room);
    return first;
}

/* Mostly a range without holes. */
static int pick_mapped(int *count)
{
    int first = pick_range(count);
    if (below(5) == 0)
        return first;
    for (int tries = 0; !region[first] && tries < 16; tries++)
        first = below(pages);
    int run = 0;
    while (first + run < pages && region[first + run])
        run++;
    if (*count > run)
        *count = run ? run : 1;
    return first;
}

static int pick_protection(void)
{
    static const int kinds[] = { PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE };
    return kinds[below(5)];
}

static const char *protection_name(int protection)
{
    return protection & PROT_WRITE ? "rw" : protection & PROT_READ ? "r" : "none";
}

static void do_map(void)
{
    static const char *const kinds[] = { "private", "shared", "private file", "shared file" };
    int count, first = pick_range(&count), kind = below(10), protection = pick_protection(), how = below(10), offset = below(pages / 3 + 3);
    kind = kind < 4 ? 0 : kind < 6 ? 1 : kind < 8 ? 2 : 3;
    int flags = kind & 1 ? MAP_SHARED : MAP_PRIVATE;
    const char *manner = "";
    if (kind < 2)
        flags |= MAP_ANONYMOUS;
    if (how < 6) {
        flags |= MAP_FIXED;
        manner = " fixed";
    } else if (how < 8) {
        flags |= MAP_FIXED_NOREPLACE;
        manner = " not replacing";
    }
    if (below(8) == 0) {
        flags |= MAP_POPULATE;
        printf("populating ");
    }
    if (below(8) == 0)
        flags |= MAP_NORESERVE;
    printf("mmap %d+%d %s %s%s", first, count, kinds[kind], protection_name(protection), manner);
    if (kind >= 2)
        printf(" from %d", offset);
    printf(": ");
    char *to = mmap(at(first), (size_t)count * PAGE, protection, flags, kind < 2 ? -1 : file, kind < 2 ? 0 : (off_t)offset * PAGE);
    say_address(to);
    if (to == at(first))
        assign(first, count, ++last_region);
    else if (to != MAP_FAILED)
        must(munmap(to, (size_t)count * PAGE) == 0);
}

static void do_munmap(void)
{
    int count, first = pick_range(&count);
    if (count > 8)
        count = 8;
    printf("munmap %d+%d: ", first, count);
    say(munmap(at(first), (size_t)count * PAGE));
    assign(first, count, 0);
}

static void do_mprotect(void)
{
    int count, first = pick_mapped(&count), protection = pick_protection();
    printf("mprotect %d+%d %s: ", first, count, protection_name(protection));
    say(mprotect(at(first), (size_t)count * PAGE, protection));
    borders(first, count);
}

static void moved(int first, int old, int to, int count)
{
    assign(first, old, 0);
    assign(to, count, ++last_region);
}

static void do_mremap(void)
{
    int first = below(pages), way = below(8), count, to;
    for (int tries = 0; !region[first] && tries < 8; tries++)
        first = below(pages);
    int room = extent(first), old = room ? 1 + below(room) : 1;
    char *result;
    if (!room) {
        printf("mremap of a hole %d: ", first);
        say_address(mremap(at(first), PAGE, 2 * PAGE, MREMAP_MAYMOVE));
    } else if (way < 2) {
        count = 1 + below(old);
        printf("mremap %d+%d to %d: ", first, old, count);
        result = mremap(at(first), (size_t)old * PAGE, (size_t)count * PAGE, below(2));
        say_address(result);
        if (result == at(first))
            assign(first + count, old - count, 0);
    } else if (way < 3) {
        count = old + 1 + below(4);
        if (first + count > pages)
            count = pages - first;
        printf("mremap %d+%d to %d in place: ", first, old, count);
        result = mremap(at(first), (size_t)old * PAGE, (size_t)count * PAGE, 0);
        say_address(result);
        if (result == at(first) && count > old)
            assign(first + old, count - old, region[first]);
    } else if (way < 4) {
        count = old + 1 + below(4);
        if (first + count > pages)
            count = pages - first;
        to = below(pages - count + 1);
        printf("mremap %d+%d to %d anywhere: ", first, old, count);
        result = mremap(at(first), (size_t)old * PAGE, (size_t)count * PAGE, MREMAP_MAYMOVE);
        say_address(result);
        if (result == at(first)) {
            if (count > old)
                assign(first + old, count - old, region[first]);
        } else if (result != MAP_FAILED) {
            assign(first, old, 0);
            printf("  and back to %d: ", to);
            say_address(mremap(result, (size_t)count * PAGE, (size_t)count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(to)));
            assign(to, count, ++last_region);
        }
    } else if (way < 7) {
        count = below(3) ? old : 1 + below(old + 3);
        if (count > pages)
            count = pages;
        to = below(pages - count + 1);
        printf("mremap %d+%d to %d+%d: ", first, old, to, count);
        result = mremap(at(first), (size_t)old * PAGE, (size_t)count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(to));
        say_address(result);
        if (result == at(to))
            moved(first, old, to, count);
    } else {
        /* Length 0: a second mapping of what is shared; refused for what is private. */
        count = 1 + below(room);
        to = below(pages - count + 1);
        if (to < first + count && first < to + count) {
            printf("no second mapping of %d+%d at %d\n", first, count, to);
            return;
        }
        /* Old kernels empty the target before they refuse, new ones do not: it is emptied here. */
        must(munmap(at(to), (size_t)count * PAGE) == 0);
        assign(to, count, 0);
        printf("mremap %d+0 to %d+%d: ", first, to, count);
        result = mremap(at(first), 0, (size_t)count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(to));
        say_address(result);
        if (result == at(to))
            assign(to, count, ++last_region);
    }
}

static void do_madvise(void)
{
    static const struct { int advice; const char *name; } advices[] = {
        { MADV_DONTNEED, "DONTNEED" }, { MADV_DONTNEED, "DONTNEED" }, { MADV_DONTNEED, "DONTNEED" },
        { MADV_NORMAL, "NORMAL" }, { MADV_RANDOM, "RANDOM" }, { MADV_SEQUENTIAL, "SEQUENTIAL" },
    };
    int count, first = pick_mapped(&count), which = below(6);
    printf("madvise %d+%d %s: ", first, count, advices[which].name);
    say(madvise(at(first), (size_t)count * PAGE, advices[which].advice));
    borders(first, count);
}

static void do_lock_and_sync(void)
{
    static unsigned char residency[MOST];
    int count, first = pick_mapped(&count);
    switch (below(3)) {
    case 0:
        printf("msync %d+%d: ", first, count);
        say(msync(at(first), (size_t)count * PAGE, below(2) ? MS_SYNC : MS_ASYNC));
        break;
    case 1: /* few pages: within everybody's RLIMIT_MEMLOCK */
        if (count > 4)
            count = 4;
        printf("mlock %d+%d: ", first, count);
        say(mlock(at(first), (size_t)count * PAGE));
        printf("  munlock: ");
        say(munlock(at(first), (size_t)count * PAGE));
        borders(first, count);
        break;
    case 2:
        printf("mincore %d+%d: ", first, count);
        say(mincore(at(first), (size_t)count * PAGE, residency));
        memset(residency, 0, sizeof residency); /* as is what lies in memory */
    }
}

static void do_brk(void)
{
    int count = below(17);
    printf("brk +%d: ", count);
    char *end = heap_base + (size_t)count * PAGE;
    puts((char *)syscall(SYS_brk, end) == end ? "0" : "refused");
    for (int page = heap_pages; page < count; page++) /* what comes back must be zero */
        must(*(volatile uint32_t *)(heap_base + (size_t)page * PAGE) == 0);
    heap_pages = count;
    if (count) {
        int page = below(count), word = below(WORDS);
        ((volatile uint32_t *)heap_base)[page * WORDS + word] = prng_next(&prng);
    }
}

/* Reads or writes one word of each of some pages, up to the first that refuses. */
static void do_touch(int write)
{
    int count, first = pick_mapped(&count), word = below(WORDS);
    uint32_t value = prng_next(&prng);
    volatile uint32_t sum = 0;
    volatile int done = 0;
    printf("%s %d+%d: ", write ? "write" : "read", first, count);
    if (sigsetjmp(back, 0)) {
        printf("%d pages, then %s\n", done, fault_name(at(first + done) + word * 4));
        return;
    }
    for (; done < count; done++) {
        volatile uint32_t *there = (volatile uint32_t *)at(first + done) + word;
        if (write)
            *there = value + (uint32_t)done;
        else
            sum = sum * 31 + *there;
    }
    if (write)
        printf("all\n");
    else
        printf("%08x\n", (unsigned)sum);
}

static void do_file(void)
{
    static uint32_t content[WORDS];
    int way = below(5), page = below(pages / 3 + 1), where = below(pages);
    switch (way) {
    case 0:
        printf("ftruncate %d: ", page);
        say(ftruncate(file, (off_t)page * PAGE));
        break;
    case 1:
        fill_page(content, prng_next(&prng));
        printf("pwrite page %d: ", page);
        say(pwrite(file, content, PAGE, (off_t)page * PAGE));
        break;
    case 2:
        printf("pread page %d into %d: ", page, where);
        say(pread(file, at(where), PAGE, (off_t)page * PAGE));
        break;
    case 3:
        /* Never past the end: 6.16 and later leave a file longer although a write to it failed with EFAULT. */
        if ((off_t)page * PAGE >= lseek(file, 0, SEEK_END))
            page = 0;
        printf("pwrite page %d from %d: ", page, where);
        say(pwrite(file, at(where), PAGE, (off_t)page * PAGE));
        break;
    case 4: {
        memset(content, 0, sizeof content);
        printf("pread page %d: ", page);
        ssize_t n = pread(file, content, PAGE, (off_t)page * PAGE);
        printf("%d %08x\n", (int)n, (unsigned)hash_words(HASH_START, content, PAGE));
    }
    }
}

/* Calls that must be refused, and change nothing. */
static void do_nonsense(void)
{
    int page = below(pages - 4), which = below(15);
    char *here = at(page);
    printf("nonsense %d: ", which);
    switch (which) {
    case 0: say_address(mmap(here, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)); break;
    case 1: say_address(mmap(here + 1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)); break;
    case 2: say_address(mmap(here, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0)); break;
    case 3: say_address(mmap(here, PAGE, PROT_READ, MAP_PRIVATE, -1, 0)); break;
    case 4: say_address(mmap(NULL, 0xbff00000u, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)); break;
    case 5: say_address(mmap((void *)0xbffff000u, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)); break;
    case 6: say(munmap(here + 8, PAGE)); break;
    case 7: say(munmap(here, 0)); break;
    case 8: say(syscall(SYS_mprotect, here + 8, PAGE, PROT_READ)); break; /* musl's function would round the address */
    case 9: say(mprotect(here, PAGE, 0x80)); break;
    case 10: say_address(mremap(here + 8, PAGE, PAGE, MREMAP_MAYMOVE)); break;
    case 11: say_address(mremap(here, PAGE, 0, MREMAP_MAYMOVE)); break;
    case 12: say_address(mremap(here, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, here + PAGE)); break;
    case 13: say(madvise(here, PAGE, 99)); break;
    case 14: say(msync(here, PAGE, MS_SYNC | MS_ASYNC)); break;
    }
}

/* --- processes */

static void run(long steps, const char *who);

/* Lets the oldest waiting child run, alone, to its end. */
static void release(void)
{
    pid_t pid = waiting[0].pid;
    fflush(stdout);
    send(waiting[0].go, "g", 1);
    close(waiting[0].go);
    waiting_count--;
    memmove(waiting, waiting + 1, sizeof waiting - sizeof *waiting);
    printf("child exits %d\n", reap(pid));
}

static void do_fork(long step)
{
    static const char *const names[] = { "", " child", " grandchild" };
    int go[2];
    if (depth == DEPTH) {
        printf("no fork so deep\n");
        return;
    }
    if (waiting_count == WAITING) {
        printf("release the oldest child\n");
        release();
        return;
    }
    uint32_t seed = prng_next(&prng);
    int steps = 1 + below(12);
    printf("fork, to run %d steps later\n", steps);
    must(pipe(go) == 0);
    pid_t pid = fork_quietly();
    if (!pid) {
        char token;
        close(go[1]);
        receive(go[0], &token, 1);
        close(go[0]);
        waiting_count = 0;
        depth++;
        prng.state = seed ^ (uint32_t)step;
        show_memory();
        run(steps, names[depth]);
        fflush(stdout);
        _exit(0);
    }
    close(go[0]);
    waiting[waiting_count].pid = pid;
    waiting[waiting_count++].go = go[1];
}

static void run(long steps, const char *who)
{
    for (long step = 1; step <= steps; step++) {
        int what = below(100);
        printf("%ld%s ", step, who);
        if (what < 16)
            do_map();
        else if (what < 22)
            do_munmap();
        else if (what < 30)
            do_mprotect();
        else if (what < 44)
            do_mremap();
        else if (what < 50)
            do_madvise();
        else if (what < 56)
            do_lock_and_sync();
        else if (what < 59)
            do_brk();
        else if (what < 75)
            do_touch(1);
        else if (what < 82)
            do_touch(0);
        else if (what < 89)
            do_file();
        else if (what < 92)
            do_nonsense();
        else if (what < 97)
            do_fork(step);
        else {
            int count = 1 + below(pages);
            printf("reclaim %d\n", count);
            reclaim(count);
        }
        if (step % 32 == 0 || step == steps) {
            show_memory();
            show_maps();
        }
    }
    while (waiting_count)
        release();
    show_memory();
}

int main(int argc, char **argv)
{
    prng.state = (uint32_t)argument(argc, argv, 1, "seed", 1, 0, 0x7fffffff);
    long steps = argument(argc, argv, 2, "steps", 400, 0, 100000000);
    pages = (int)argument(argc, argv, 3, "pages", 64, 8, MOST);
    arguments_end(argc, argv);
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };

    must(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);
    /* Nothing else may lie in the arena, nor so near that it could merge. */
    char *room = mmap(BASE - PAGE, (size_t)(pages + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    must(room == BASE - PAGE && munmap(room, (size_t)(pages + 2) * PAGE) == 0);
    file = nameless_file("mmfuzz", (size_t)pages / 4);
    heap_base = (char *)(((uintptr_t)syscall(SYS_brk, 0) + PAGE - 1) & -(uintptr_t)PAGE);
    must((char *)syscall(SYS_brk, heap_base) == heap_base);
    run(steps, "");
    for (int page = 0; page < pages / 3 + 1; page++) {
        static uint32_t content[WORDS];
        ssize_t n = pread(file, content, PAGE, (off_t)page * PAGE);
        printf("file page %d: %d %08x\n", page, (int)n, (unsigned)(n > 0 ? hash_words(HASH_START, content, (size_t)n) : 0));
    }
    return 0;
}
