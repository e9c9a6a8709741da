/* /proc/stat, /proc/uptime, /proc/self/stat, sysinfo and the clocks agree on when the machine was switched on, and on who used the time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static long long number_after(const char *path, const char *what)
{
    static char text[65536];
    FILE *f = fopen(path, "r");
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    char *at = strstr(text, what);
    return at ? atoll(at + strlen(what)) : -1;
}
static long long cpu_line(int which)
{
    long long v[10];
    FILE *f = fopen("/proc/stat", "r");
    if (fscanf(f, "cpu %lld %lld %lld %lld %lld %lld %lld %lld %lld %lld", v, v + 1, v + 2, v + 3, v + 4, v + 5, v + 6, v + 7, v + 8, v + 9) != 10)
        exit(9);
    fclose(f);
    return v[which];
}
static void burn(long ms)
{
    struct timespec t;
    do {
        for (volatile int i = 0; i < 500000; i++)
            ;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    } while (t.tv_sec * 1000 + t.tv_nsec / 1000000 < ms);
}
int main(void)
{
    struct timespec boot, real;
    double up;
    long info[32];
    long long start;
    FILE *f = fopen("/proc/uptime", "r");
    fscanf(f, "%lf", &up);
    fclose(f);
    clock_gettime(7, &boot);
    clock_gettime(CLOCK_REALTIME, &real);
    syscall(SYS_sysinfo, info);
    printf("uptime is the boot clock %d, sysinfo %d\n", labs((long)up - boot.tv_sec) < 2, labs(info[0] - boot.tv_sec) < 2);
    printf("switched on at btime %d\n", labs((long)(real.tv_sec - boot.tv_sec - number_after("/proc/stat", "btime "))) < 2);
    f = fopen("/proc/self/stat", "r");
    fscanf(f, "%*d %*s %*c %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %lld", &start);
    fclose(f);
    printf("started now %d\n", labs((long)(start / 100 - boot.tv_sec)) < 5);
    long long user = cpu_line(0) + cpu_line(2), nice = cpu_line(1);
    burn(100);
    printf("user and system time %d\n", cpu_line(0) + cpu_line(2) >= user + 8);
    if (!fork()) {
        syscall(SYS_setpriority, 0, 0, 5);
        if (!fork()) {
            burn(150);
            _exit(0);
        }
        wait(NULL);
        _exit(0);
    }
    wait(NULL);
    printf("nice time %d\n", cpu_line(1) >= nice + 8);
    return 0;
}
