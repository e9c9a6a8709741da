/* Directories as streams of entries: <dirent.h>. Entries are handed out where getdents64 has put them. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "syscall.h"

struct __directory {
    int fd;
    unsigned next, end; /* offsets into room */
    char room[4096] __attribute__((aligned(8)));
};

DIR *fdopendir(int fd)
{
    struct stat status;
    if (fstat(fd, &status))
        return NULL;
    if (!S_ISDIR(status.st_mode)) {
        errno = ENOTDIR;
        return NULL;
    }
    DIR *directory = malloc(sizeof *directory);
    if (directory) {
        directory->fd = fd;
        directory->next = directory->end = 0;
    }
    return directory;
}

DIR *opendir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    DIR *directory = fdopendir(fd);
    if (!directory) {
        int error = errno;
        close(fd);
        errno = error;
    }
    return directory;
}

/* NULL at the end, with errno as it was, and for an error, with errno set. */
struct dirent *readdir(DIR *directory)
{
    if (directory->next == directory->end) {
        long got = checked(syscall3(SYS_getdents64, directory->fd, (long)directory->room, sizeof directory->room));
        if (got <= 0)
            return NULL;
        directory->next = 0;
        directory->end = (unsigned)got;
    }
    struct dirent *entry = (struct dirent *)(directory->room + directory->next);
    directory->next += entry->d_reclen;
    return entry;
}

void rewinddir(DIR *directory)
{
    lseek(directory->fd, 0, SEEK_SET);
    directory->next = directory->end = 0;
}

int dirfd(DIR *directory)
{
    return directory->fd;
}

int closedir(DIR *directory)
{
    int fd = directory->fd;
    free(directory);
    return close(fd);
}
