/* One call that reads or writes more of the program's memory than there is RAM: manypages KIND PAGES.
   exec     so many pages of arguments
   ask      move_pages without nodes, whose three arrays are so many pages in all
   move     move_pages of one page over and over, likewise */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, STRING = 16 };

static char *fresh(int pages)
{
    char *p = mmap(0, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int k = 0; k < pages; k++) p[k * PAGE] = 1;
    return p;
}

static int exec_with(int pages)
{
    char **argv = calloc(pages / STRING + 3, sizeof *argv);
    argv[0] = "manypages";
    argv[1] = "arrived";
    for (int k = 0; k < pages / STRING; k++) {
        argv[k + 2] = fresh(STRING);
        memset(argv[k + 2], 'a' + k % 26, STRING * PAGE - 1);
    }
    munmap(fresh(800), 800 * PAGE);
    execv("/proc/self/exe", argv);
    return 1;
}

static int arrived(int argc, char **argv)
{
    for (int k = 2; k < argc; k++)
        if (strlen(argv[k]) != STRING * PAGE - 1 || argv[k][PAGE] != 'a' + (k - 2) % 26) return 1;
    return 0;
}

static int moves(int pages, int move)
{
    int each = pages / 3, n = each * PAGE / 4;
    void **which = (void *)fresh(each), *page = fresh(1);
    int *nodes = (int *)fresh(each), *status = (int *)fresh(each);
    for (int k = 0; k < n; k++) { which[k] = page; nodes[k] = 0; status[k] = -1; }
    if (syscall(317, 0, n, which, move ? nodes : 0, status, 2)) return 1;
    for (int k = 0; k < n; k++) if (status[k] && status[k] != -2 && status[k] != -16) return 1;
    return 0;
}

int main(int argc, char **argv)
{
    const char *kind = argv[1];
    int pages = argc > 2 ? atoi(argv[2]) : 0;
    int bad = !strcmp(kind, "exec") ? exec_with(pages) : !strcmp(kind, "arrived") ? arrived(argc, argv)
            : moves(pages, kind[0] == 'm');
    puts(bad ? "bad" : "ok");
    return bad;
}
