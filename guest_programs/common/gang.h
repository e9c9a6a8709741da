/* A gang: processes that are all alive at once and go on together, and marks in pages for programs that have very many of them.

   The leader and its members share three pipes. A member reports and waits; the leader collects one report of each, does what is to be
   done while all stand still, and lets them go: a byte for each, in one pipe and in the other by turns, so that a quick member cannot
   take the byte of a slow one. What the leader learns does not depend on the order in which they came. */
#ifndef GANG_H
#define GANG_H
#include "rmapbox.h"

struct report {
    uint32_t wrong, value;
};

static struct {
    int go[2][2], arrive[2]; /* a byte to each member; a report from each */
    int turn;                /* which of the two: everybody counts alike */
    pid_t leader;
    volatile sig_atomic_t dismissed; /* members may exit now */
} gang;

/* A member that dies before its time would leave the leader waiting for ever. */
__attribute__((unused)) static void on_member(int number)
{
    static const char words[] = "FAILED: a process of the gang died\n";
    (void)number;
    if (!gang.dismissed && getpid() == gang.leader)
        _exit(write(2, words, sizeof words - 1) > 0 ? 1 : 2);
}

/* Before the first member. Only the leader is told of deaths: whoever else has children reaps them. */
__attribute__((unused)) static void gang_open(void)
{
    struct sigaction action = { .sa_handler = on_member, .sa_flags = SA_NOCLDSTOP | SA_RESTART };
    gang.leader = getpid();
    must(pipe(gang.go[0]) == 0 && pipe(gang.go[1]) == 0 && pipe(gang.arrive) == 0);
    must(sigaction(SIGCHLD, &action, NULL) == 0);
}

/* A new process is a member: the leader's ends of the pipes are not its own, so that the leader's death is an end of file. */
__attribute__((unused)) static void gang_join(void)
{
    close(gang.go[0][1]);
    close(gang.go[1][1]);
}

/* fork of a member by the leader, seen from both sides as fork is. From now on no member may die before it is dismissed. */
__attribute__((unused)) static pid_t gang_fork(void)
{
    gang.dismissed = 0;
    pid_t pid = fork_quietly();
    if (!pid)
        gang_join();
    return pid;
}

/* A member tells what it found. */
__attribute__((unused)) static void gang_report(int wrong, uint32_t value)
{
    struct report report = { (uint32_t)wrong, value };
    send(gang.arrive[1], &report, sizeof report); /* less than PIPE_BUF: never torn */
}

/* A member stands still until the leader lets it go. */
__attribute__((unused)) static void gang_wait(void)
{
    char token;
    ssize_t n;
    while ((n = read(gang.go[gang.turn][0], &token, 1)) < 0 && errno == EINTR)
        ;
    gang.turn ^= 1;
    if (n != 1)
        _exit(1); /* the leader has told why */
}

/* One report of each of `members`, added up: the sum is the same in any order. */
__attribute__((unused)) static struct report gang_collect(int members)
{
    struct report sum = { 0, 0 }, report;
    for (int i = 0; i < members; i++) {
        receive(gang.arrive[0], &report, sizeof report);
        sum.wrong += report.wrong;
        sum.value += report.value;
    }
    return sum;
}

/* All have reported, so each has taken its byte of the turn before. */
__attribute__((unused)) static void gang_go(int members)
{
    char bytes[256] = { 0 };
    for (int left = members; left > 0; left -= (int)sizeof bytes)
        send(gang.go[gang.turn][1], bytes, left < (int)sizeof bytes ? (size_t)left : sizeof bytes);
    gang.turn ^= 1;
}

/* Lets the members go for the last time; the leader's own children among them are reaped. The count of those that failed. */
__attribute__((unused)) static int gang_dismiss(int members, const pid_t *pids, int children)
{
    int failed = 0;
    gang.dismissed = 1;
    gang_go(members);
    for (int i = 0; i < children; i++)
        failed += reap(pids[i]) != 0;
    return failed;
}

__attribute__((unused)) static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory)
        die("FAILED: no memory for %zu objects of %zu bytes", count, size);
    return memory;
}

/* --- marks: a page told by three words instead of all */

/* The first word, the last, and one whose place the tag decides: a page that is another's, old or zero shows in any of them.
   For programs whose pages are so many that filling them would take longer than what they measure. */
__attribute__((unused)) static void mark_page(void *page, uint32_t tag)
{
    volatile uint32_t *word = page;
    word[0] = mix(tag + 1);
    word[1 + tag % (WORDS - 2)] = mix(tag + 2);
    word[WORDS - 1] = mix(tag + 3);
}

__attribute__((unused)) static int page_marked(const void *page, uint32_t tag)
{
    const volatile uint32_t *word = page;
    return word[0] == mix(tag + 1) && word[1 + tag % (WORDS - 2)] == mix(tag + 2) && word[WORDS - 1] == mix(tag + 3);
}
#endif
