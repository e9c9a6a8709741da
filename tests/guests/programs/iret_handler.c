/* The child's iret sets VM, with a handler for every synchronous signal and another signal pending; then an innocent parent goes on. */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
static void handler(int s) { (void)s; _exit(9); }
int main(void) {
    int st = -1;
    pid_t p = fork();
    if (!p) {
        signal(SIGSEGV, handler); signal(SIGILL, handler); signal(SIGTRAP, handler);
        __asm__ volatile("pushfl; orl $0x20000, (%%esp); pushl %%cs; pushl $1f; iretl; 1:" ::: "memory", "cc");
        _exit(0);
    }
    printf("%d\n", waitpid(p, &st, 0) == p);
    puts("the parent goes on");
    return 0;
}
