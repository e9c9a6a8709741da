/* Asks for what the machine has not; with an argument, for nothing, though with wrong arguments. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    static int word;
    int pair[2];
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
    syscall(SYS_waitid, 3, 1, 0, 4, 0);
    syscall(329, 0); /* epoll_create1 */
    syscall(21, "none", "/tmp", "tmpfs", 0, 0); /* mount */
    return 0;
}
