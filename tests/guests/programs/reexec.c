/* Starts itself again by argv[0], as programs do that re-exec: what stands there names a file that exists. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    if (argc > 1) {
        puts("again");
        return 0;
    }
    char path[300];
    char *words[] = {argv[0], "again", NULL};
    puts(strchr(argv[0], '/') ? "by its path" : "by its name");
    snprintf(path, sizeof path, "%s%s", strchr(argv[0], '/') ? "" : "/bin/", argv[0]);
    fflush(stdout);
    execv(path, words);
    perror(argv[0]);
    return 1;
}
