/* Asks for what the machine has not; with an argument, for nothing, though with wrong arguments. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    static int word;
    int pair[2];
    if (argc > 2) { /* of the mount argv[2] */
        char from[64], to[64];
        snprintf(from, sizeof from, "%s/a", argv[2]);
        snprintf(to, sizeof to, "%s/b", argv[2]);
        int fd = open(from, O_RDWR | O_CREAT, 0600);
        close(open(to, O_RDWR | O_CREAT, 0600));
        syscall(324, fd, 0, 0, 0, 4096, 0); /* fallocate */
        open(argv[2], O_RDWR | 020200000, 0600); /* O_TMPFILE */
        syscall(353, -100, from, -100, to, 2); /* renameat2, RENAME_EXCHANGE */
        return 0;
    }
    if (argc > 1) {
        syscall(SYS_mremap, 1, 4096, 4096, 1, 0); /* not aligned */
        syscall(SYS_madvise, 0, 4096, 77);
        syscall(SYS_waitid, 77, 1, 0, 4, 0);
        syscall(SYS_prctl, 7777, 0, 0, 0, 0);
        return 0;
    }
    syscall(359, 1, 1, 0); /* socket */
    syscall(359, 2, 1, 0);
    syscall(360, 1, 1, 0, pair); /* socketpair */
    long arguments[3] = {1, 1, 0};
    syscall(102, 1, arguments); /* socketcall */
    syscall(SYS_clone, 0x10000000 | SIGCHLD, 0, 0, 0, 0); /* CLONE_NEWUSER */
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mmap(NULL, 4 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | 0x40000, -1, 0);
    syscall(SYS_mremap, page, 4096, 4096, 1 | 4, 0);
    syscall(SYS_madvise, page, 4096, 102);
    syscall(SYS_futex, &word, 6, 0, 0, 0, 0); /* FUTEX_LOCK_PI */
    syscall(SYS_prctl, 22, 2, 0, 0, 0);
    syscall(SYS_prctl, 0x41555856, pair, sizeof pair, 0, 0); /* PR_GET_AUXV */
    syscall(353, -100, "/tmp/a", -100, "/tmp/b", 4); /* renameat2, RENAME_WHITEOUT */
    fcntl(1, 1027, 2); /* F_DUPFD_QUERY */
    syscall(SYS_waitid, 3, 1, 0, 4, 0);
    syscall(329, 0); /* epoll_create1 */
    syscall(21, "none", "/tmp", "tmpfs", 0, 0); /* mount */
    return 0;
}
