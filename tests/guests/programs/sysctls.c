/* Files of /proc that tools and test suites read before they start. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#define prctl(...) (int)syscall(SYS_prctl, __VA_ARGS__)
static const char *files[] = {"kernel/tainted", "kernel/core_pattern", "kernel/core_uses_pid", "kernel/shmmax", "kernel/shmall", "kernel/shmmni",
                              "fs/pipe-user-pages-soft", "fs/pipe-user-pages-hard"};
int main(void)
{
    char path[64], text[4096];
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        sprintf(path, "/proc/sys/%s", files[i]);
        int fd = open(path, O_RDONLY), n = fd < 0 ? -1 : (int)read(fd, text, 200);
        close(fd);
        printf("%s %d\n", files[i], n > 1 && text[n - 1] == '\n');
    }
    static const char *rows[] = {"MemTotal", "MemFree", "MemAvailable", "Shmem", "CommitLimit", "Committed_AS"};
    int fd = open("/proc/meminfo", O_RDONLY), n = (int)read(fd, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = 0;
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        sprintf(path, "%s:", rows[i]);
        char *at = strstr(text, path);
        printf("%s %d\n", rows[i], at && strtol(at + strlen(path), NULL, 10) >= 0);
    }
    fd = open("/proc/sys/kernel/cap_last_cap", O_RDONLY);
    n = (int)read(fd, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = 0;
    n = atoi(text); /* the bounding set ends with it */
    printf("last %d, beyond %d\n", prctl(23, n, 0, 0, 0), prctl(23, n + 1, 0, 0, 0));
    return 0;
}
