/* A user id above 2^31, and exit signals that are and are not signals, in every siginfo the kernel fills. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static void handler(int s, siginfo_t *i, void *u) { (void)u; printf("signal %d code %d\n", s, i->si_code); }
int main(void) {
    static const int exits[] = {0, 17, 64, 65, 127, 128, 200, 255};
    struct sigaction a = {0};
    a.sa_sigaction = handler; a.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &a, 0); sigaction(SIGCHLD, &a, 0); sigaction(64, &a, 0);
    setvbuf(stdout, 0, _IONBF, 0);
    printf("setuid %d\n", (int)syscall(213, 0xfffffff0u));
    kill(getpid(), SIGUSR1); syscall(SYS_tkill, getpid(), SIGUSR1);
    for (unsigned i = 0; i < sizeof exits / sizeof *exits; i++) {
        int st = -1;
        pid_t p = syscall(SYS_clone, exits[i], 0, 0, 0, 0);
        if (!p) _exit(3);
        pid_t got; while ((got = waitpid(p, &st, __WALL)) < 0) ;
        printf("%d: %d %x\n", exits[i], got == p, st);
    }
    printf("pdeath %d %d\n", (int)syscall(SYS_prctl, 1, 64, 0, 0, 0), (int)syscall(SYS_prctl, 1, 65, 0, 0, 0));
    return 0;
}
