/*
 * name:      oom_bomb
 * summary:   A process takes memory until it is stopped, by a limit of its address space or by the out-of-memory killer; bystanders live on.
 * drives:    exhaustion: allocation that reclaim cannot help, the choice of a victim, the release of all it had
 * arguments: limit=16M how=touch bystanders=3 pages=32
 * look at:   the report of the empty memory (oom in the result): zones, owners, tasks with their badness. limit=0 takes away the limit:
 *            inside, the killer comes; natively that is refused. how=fork: each page in a new child, how=shared: one segment of all
 */
#include "gang.h"
#include <sys/resource.h>

#define STRIDE 64 /* pages asked for at once */

static long limit, pages;
static const char *how;

static uint32_t tag_of(int who, long page)
{
    return mix((uint32_t)who + 31) ^ (uint32_t)page;
}

/* Somebody with a little memory who hopes to keep it. */
__attribute__((noreturn)) static void stand_by(int who)
{
    char *own = map_anonymous((size_t)pages, MAP_PRIVATE);
    int wrong = 0;
    for (long page = 0; page < pages; page++)
        mark_page(own + page * PAGE, tag_of(who, page));
    gang_report(0, 0);
    gang_wait();
    for (long page = 0; page < pages; page++)
        wrong += !page_marked(own + page * PAGE, tag_of(who, page));
    gang_report(wrong, tag_of(who, pages));
    gang_wait();
    _exit(wrong != 0);
}

static char *take(void)
{
    int flags = strcmp(how, "shared") ? MAP_PRIVATE : MAP_SHARED;
    char *at = mmap(NULL, STRIDE * PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        _exit(errno == ENOMEM ? 42 : 43);
    for (long page = 0; page < STRIDE; page++)
        mark_page(at + page * PAGE, (uint32_t)page);
    return at;
}

/* Ends with status 42 at the limit; without one only a signal ends it. */
__attribute__((noreturn)) static void explode(void)
{
    if (limit) {
        struct rlimit room = { (rlim_t)limit, (rlim_t)limit };
        must(setrlimit(RLIMIT_AS, &room) == 0);
    }
    for (long taken = 0;; taken++) {
        take();
        if (strcmp(how, "fork") || taken % 64)
            continue;
        /* The next generation goes on with all this one has; whoever waits is what the killer finds beside it. */
        pid_t pid = fork();
        if (pid < 0)
            _exit(errno == ENOMEM || errno == EAGAIN ? 42 : 43);
        if (pid)
            _exit(reap(pid));
    }
}

int main(int argc, char **argv)
{
    limit = argument(argc, argv, 1, "limit", 16 << 20, 0, 2047L << 20);
    how = argument_word(argc, argv, 2, "how", "touch");
    int bystanders = (int)argument(argc, argv, 3, "bystanders", 3, 0, 1000);
    pages = argument(argc, argv, 4, "pages", 32, 1, 1 << 16);
    arguments_end(argc, argv);
    if (strcmp(how, "touch") && strcmp(how, "fork") && strcmp(how, "shared"))
        die("%s: how must be touch, fork or shared", how);
    if (!limit && access("/proc/sys/vm/rmapbox_reclaim", F_OK))
        die("limit=0 would take all memory of this computer: it is for a sandbox");
    pid_t *pids = allocate((size_t)bystanders + 1, sizeof *pids);

    gang_open();
    for (int i = 0; i < bystanders; i++) {
        pids[i] = gang_fork();
        if (!pids[i])
            stand_by(i + 1);
    }
    gang_collect(bystanders);
    gang.dismissed = 1; /* the bomb may die; a bystander's death shows when it does not answer */
    pid_t bomb = fork_quietly();
    if (!bomb) {
        gang_join();
        explode();
    }
    int status = reap(bomb);
    printf("the bomb (%s) ended %s\n", how, status == 42 ? "at its limit: ENOMEM" : status == 128 + SIGKILL ? "by SIGKILL" : "otherwise");
    gang_go(bystanders);
    struct report report = gang_collect(bystanders);
    int failed = gang_dismiss(bystanders, pids, bystanders), bad = report.wrong || failed || status != (limit ? 42 : 128 + SIGKILL);
    printf("%d bystanders live: %u wrong, sum %08x\n", bystanders, (unsigned)report.wrong, (unsigned)report.value);
    puts(bad ? "FAILED: somebody else died, or the bomb did not" : "only the bomb is gone");
    return bad;
}
