/* What another user's files allow: names in the directory of its argument, made by the test. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *why(long r) { return r < 0 ? strerror(errno) : "ok"; }

static void look(const char *name)
{
    struct stat st;
    printf("%s:", name);
    printf(" r %s", why(open(name, O_RDONLY)));
    printf(" w %s", why(open(name, O_WRONLY)));
    printf(" rw %s", why(open(name, O_RDWR)));
    printf(" trunc %s", why(truncate(name, 1)));
    printf(" path %s", why(open(name, O_PATH)));
    printf(" stat %s", why(lstat(name, &st)));
    for (int mode = 0; mode < 8; mode++)
        printf(" a%d %s", mode, why(access(name, mode)));
    printf(" eaccess %s\n", why(syscall(439, AT_FDCWD, name, R_OK, AT_EACCESS)));
}

static void list(const char *name)
{
    char here[64];
    int n = 0;
    DIR *d = opendir(name);
    printf("list %s: %s", name, d ? "ok" : strerror(errno));
    errno = 0;
    if (d)
        for (struct dirent *e; (e = readdir(d));)
            n += e->d_name[0] == '.' ? 1 : e->d_type == DT_REG ? 10 : e->d_type == DT_DIR ? 100 : 1000;
    printf(" %d", n);
    getcwd(here, sizeof here);
    printf(" chdir %s", why(chdir(name)));
    chdir(here);
    char inner[64];
    snprintf(inner, sizeof inner, "%s/f", name);
    printf(" inner %s", why(open(inner, O_RDONLY)));
    snprintf(inner, sizeof inner, "%s/new", name);
    printf(" new %s", why(open(inner, O_CREAT | O_WRONLY, 0600)));
    printf(" mkdir %s\n", why(mkdir("w/d", 0700)));
    rmdir("w/d");
}

int main(int argc, char **argv)
{
    if (argc < 2 || chdir(argv[1]))
        return 1;
    look("readable");
    look("secret");
    look("open");
    look("blind");
    list("blind");
    list("unsearchable");
    list("closed");
    list("plain");
    printf("unlink %s", why(unlink("w/secret")));
    printf(" rename over %s\n", why(rename("w/mine", "w/secret2")));
    return 0;
}
