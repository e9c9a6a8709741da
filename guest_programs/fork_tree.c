/*
 * name:      fork_tree
 * summary:   A random family of processes; one member writes, moves, forks or exits, and all others check what they see.
 * drives:    fork at every depth, orphans whose parents are gone, copy on write, mremap of single shared pages, reclaim and migration in between
 * arguments: processes=8 pages=32 steps=60 seed=1
 * look at:   a scheme's cost when parents die before children (families of address spaces, chains of anon_vmas) and when shared
 *            pages move in one member only; migrations, each two walks that must find every PTE (root is told the frames, and
 *            members that shared one before must share one after)
 */
#include "rmapbox.h"
#include <sys/syscall.h>

/* The first process is member 0 and leads: it sends one order at a time and waits for the answer. Every member knows for itself
   what each of its pages must hold and where it has put it; fork hands that knowledge down together with the pages. */

enum order { WRITE, MOVE, MIGRATE, FRAME, CHECK, FORK, REAP, EXIT };
struct message {
    int order, page, slot, member;
    uint32_t tag;
    pid_t pid;
};

#define MOST 64
#define MOST_PAGES 1024
static int orders[MOST][2], answers[MOST][2];
static char *arena; /* 2 * pages slots, of which `pages` are mapped */
static int pages;
static struct { /* changes with fork, WRITE and MOVE, in this process only */
    uint32_t tag[MOST_PAGES];
    int slot[MOST_PAGES];
} mine;

__attribute__((noreturn)) static void live(int member);

static char *at(int page)
{
    return arena + (size_t)mine.slot[page] * PAGE;
}

static int inspect(void)
{
    int wrong = 0;
    for (int page = 0; page < pages; page++)
        wrong += !page_is(at(page), mine.tag[page]);
    return wrong;
}

/* Asks for the page to be moved to memory node 0, for all who share it. The sandbox moves it to another frame; natively it is there
   already. Where the call is missing, or moving others' pages is not allowed, nothing happens. */
static void migrate(void *page)
{
    int node = 0, status;
    if (syscall(SYS_move_pages, 0, 1L, &page, &node, &status, 4 /* MPOL_MF_MOVE_ALL */) < 0)
        syscall(SYS_move_pages, 0, 1L, &page, &node, &status, 2 /* MPOL_MF_MOVE */);
}

/* The number of a page's frame, low word first; 0 when it is in none, or when we are not told. Frame numbers are the kernel's affair: they stand nowhere
   but in `own`, `before` and `after`, go from hand to hand by system calls only, so that none is left on the stack, and are wiped at once: the program's
   memory is the same whatever they are. */
typedef volatile uint32_t frame_number[2];
static frame_number own;

/* The page is not touched. */
static void look_up_frame(const void *page, frame_number frame)
{
    frame[0] = frame[1] = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY);
    if (fd < 0)
        return;
    if (lseek(fd, (off_t)((uintptr_t)page / PAGE * sizeof own), SEEK_SET) < 0 || read(fd, (void *)frame, sizeof own) != sizeof own || !(frame[1] >> 31))
        frame[0] = frame[1] = 0;
    frame[1] &= 0x7fffff; /* the flags of a present page stand above */
    close(fd);
}

/* Carries an order out; the answer is a count of wrong pages, a pid or an exit status. */
static int obey(const struct message *message)
{
    switch (message->order) {
    case WRITE:
        mine.tag[message->page] = message->tag;
        fill_page(at(message->page), message->tag);
        return !page_is(at(message->page), message->tag);
    case MOVE: {
        char *to = arena + (size_t)message->slot * PAGE;
        must(mremap(at(message->page), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
        mine.slot[message->page] = message->slot;
        return 0;
    }
    case MIGRATE:
        migrate(at(message->page));
        return 0;
    case CHECK:
        return inspect();
    case FORK: {
        pid_t pid = fork_quietly();
        if (!pid)
            live(message->member);
        return (int)pid;
    }
    case REAP:
        return reap(message->pid);
    }
    return 0;
}

static void live(int member)
{
    for (;;) {
        struct message message;
        receive(orders[member][0], &message, sizeof message);
        if (message.order == FRAME) {
            look_up_frame(at(message.page), own);
            send(answers[member][1], (void *)own, sizeof own);
            own[0] = own[1] = 0;
            continue;
        }
        int answer = obey(&message);
        send(answers[member][1], &answer, sizeof answer);
        if (message.order == EXIT)
            _exit(inspect() != 0);
    }
}

static int command(int member, struct message message)
{
    int answer;
    if (!member)
        return obey(&message);
    send(orders[member][1], &message, sizeof message);
    receive(answers[member][0], &answer, sizeof answer);
    return answer;
}

/* What the leader knows of the family. */
static struct {
    int alive, parent, orphan, slot[MOST_PAGES]; /* where the member has its pages, for choosing a free slot */
    pid_t pid;
} family[MOST];
static int born, living;

static void give_birth(int parent)
{
    int member = born++;
    family[member].pid = command(parent, (struct message){ .order = FORK, .member = member });
    family[member].alive = 1;
    family[member].parent = parent;
    memcpy(family[member].slot, family[parent].slot, sizeof family[member].slot);
    living++;
    printf("member %d forks member %d", parent, member);
}

/* A member leaves; its parent, if it still lives, collects its status. */
static int bury(int member)
{
    command(member, (struct message){ .order = EXIT });
    family[member].alive = 0;
    living--;
    for (int child = 0; child < born; child++)
        if (family[child].parent == member)
            family[child].orphan = 1;
    if (family[member].orphan) {
        printf("member %d, an orphan, exits", member);
        return 0;
    }
    int status = command(family[member].parent, (struct message){ .order = REAP, .pid = family[member].pid });
    printf("member %d exits with %d", member, status);
    return status;
}

static int choose(struct prng *prng, int least)
{
    int member;
    do
        member = prng_below(prng, born);
    while (!family[member].alive || member < least);
    return member;
}

static void move_page(struct prng *prng, int member, int page)
{
    int slot, taken;
    do {
        slot = prng_below(prng, 2 * pages);
        taken = 0;
        for (int other = 0; other < pages; other++)
            taken |= family[member].slot[other] == slot;
    } while (taken);
    command(member, (struct message){ .order = MOVE, .page = page, .slot = slot });
    printf("member %d moves page %d from slot %d to %d", member, page, family[member].slot[page], slot);
    family[member].slot[page] = slot;
}

static frame_number before[MOST], after[MOST];

static void ask_frames(int page, frame_number *frames)
{
    struct message message = { .order = FRAME, .page = page };
    for (int member = 0; member < born; member++) {
        frames[member][0] = frames[member][1] = 0;
        if (!family[member].alive)
            continue;
        if (!member) {
            look_up_frame(at(page), frames[member]);
        } else {
            send(orders[member][1], &message, sizeof message);
            receive(answers[member][0], (void *)frames[member], sizeof *frames);
        }
    }
}

static int same(frame_number one, frame_number other)
{
    return !memcmp((void *)one, (void *)other, sizeof own); /* in registers only */
}

static int known(frame_number number)
{
    static frame_number none;
    return !same(number, none);
}

/* A page of one member is migrated. Whoever had it in one frame must have it in one frame: one that a walk missed would be left behind.
   The host may move pages on its own between two questions, so a disagreement counts when it lasts. */
static int migrate_page(int member, int page)
{
    int parted = 1;
    ask_frames(page, before);
    command(member, (struct message){ .order = MIGRATE, .page = page });
    for (int try = 0; parted && try < 5; try++) {
        parted = 0;
        ask_frames(page, after);
        for (int one = 0; one < born; one++)
            for (int other = 0; other < one; other++)
                if (known(before[one]) && same(before[one], before[other]) && known(after[one]) && known(after[other]))
                    parted += !same(after[one], after[other]);
    }
    memset((void *)before, 0, sizeof before);
    memset((void *)after, 0, sizeof after);
    printf("; page %d of member %d asked to node 0, %s", page, member, parted ? "FAILED: its sharers have parted" : "its sharers agree");
    return parted;
}

int main(int argc, char **argv)
{
    int most = (int)argument(argc, argv, 1, "processes", 8, 1, MOST);
    pages = (int)argument(argc, argv, 2, "pages", 32, 1, MOST_PAGES);
    long steps = argument(argc, argv, 3, "steps", 60, 0, 1000000);
    struct prng prng = { (uint32_t)argument(argc, argv, 4, "seed", 1, 0, 0x7fffffff) };
    arguments_end(argc, argv);
    int wrong = 0;

    arena = map_anonymous((size_t)pages * 2, MAP_PRIVATE);
    must(munmap(arena + (size_t)pages * PAGE, (size_t)pages * PAGE) == 0);
    /* All pipes before the first fork: whoever forks a member must have its pipes to hand down. */
    for (int member = 1; member < most; member++)
        must(pipe(orders[member]) == 0 && pipe(answers[member]) == 0);
    for (int page = 0; page < pages; page++) {
        mine.slot[page] = family[0].slot[page] = page;
        mine.tag[page] = (uint32_t)page;
        fill_page(at(page), (uint32_t)page);
    }
    family[0].alive = born = living = 1;
    for (long step = 1; step <= steps; step++) {
        int kind = prng_below(&prng, 100), member = choose(&prng, 0), page = prng_below(&prng, pages);
        printf("step %ld: ", step);
        if (kind < 20 && born < most)
            give_birth(member);
        else if (kind < 26 && living > 2)
            wrong += bury(choose(&prng, 1));
        else if (kind < 55)
            move_page(&prng, member, page);
        else {
            command(member, (struct message){ .order = WRITE, .page = page, .tag = (uint32_t)(step << 12 | member) });
            printf("member %d writes page %d", member, page);
        }
        if (kind % 8 == 0)
            reclaim(pages * living / 2);
        if (kind % 4 == 1)
            wrong += migrate_page(choose(&prng, 0), page);
        int bad = 0;
        for (int other = 0; other < born; other++)
            if (family[other].alive)
                bad += command(other, (struct message){ .order = CHECK });
        wrong += bad;
        printf("; %d members see %d wrong pages\n", living, bad);
    }
    /* Children before parents: a parent is older, its number lower. */
    for (int member = born - 1; member > 0; member--)
        if (family[member].alive) {
            wrong += bury(member);
            putchar('\n');
        }
    printf("%d members lived; %s\n", born, wrong ? "FAILED: some saw what they must not" : "everyone saw what it must");
    return wrong != 0;
}
