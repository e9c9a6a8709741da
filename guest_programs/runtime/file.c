/* Descriptors and names: <unistd.h>, <fcntl.h>, <sys/stat.h>. Offsets are 64 bits wide and travel as two words, the low one first. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "syscall.h"

#define LOW(offset) ((long)(offset))
#define HIGH(offset) ((long)((offset) >> 32))

int openat(int directory, const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list list;
        va_start(list, flags);
        mode = va_arg(list, mode_t);
        va_end(list);
    }
    return checked(syscall4(SYS_openat, directory, (long)path, flags | O_LARGEFILE, (long)mode));
}

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list list;
        va_start(list, flags);
        mode = va_arg(list, mode_t);
        va_end(list);
    }
    return checked(syscall3(SYS_open, (long)path, flags | O_LARGEFILE, (long)mode));
}

int creat(const char *path, mode_t mode)
{
    return open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

int fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    long argument = va_arg(list, long);
    va_end(list);
    return checked(syscall3(SYS_fcntl64, fd, command, argument));
}

ssize_t read(int fd, void *to, size_t n)
{
    return checked(syscall3(SYS_read, fd, (long)to, (long)n));
}

ssize_t write(int fd, const void *from, size_t n)
{
    return checked(syscall3(SYS_write, fd, (long)from, (long)n));
}

ssize_t pread(int fd, void *to, size_t n, off_t offset)
{
    return checked(syscall5(SYS_pread64, fd, (long)to, (long)n, LOW(offset), HIGH(offset)));
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t offset)
{
    return checked(syscall5(SYS_pwrite64, fd, (long)from, (long)n, LOW(offset), HIGH(offset)));
}

off_t lseek(int fd, off_t offset, int whence)
{
    off_t at;
    return checked(syscall5(SYS__llseek, fd, HIGH(offset), LOW(offset), (long)&at, whence)) ? -1 : at;
}

int close(int fd)
{
    return checked(syscall1(SYS_close, fd));
}

int pipe(int fds[2])
{
    return checked(syscall1(SYS_pipe, (long)fds));
}

int pipe2(int fds[2], int flags)
{
    return checked(syscall2(SYS_pipe2, (long)fds, flags));
}

int dup(int fd)
{
    return checked(syscall1(SYS_dup, fd));
}

int dup2(int from, int to)
{
    return checked(syscall2(SYS_dup2, from, to));
}

int fsync(int fd)
{
    return checked(syscall1(SYS_fsync, fd));
}

int fdatasync(int fd)
{
    return checked(syscall1(SYS_fdatasync, fd));
}

int ftruncate(int fd, off_t length)
{
    return checked(syscall3(SYS_ftruncate64, fd, LOW(length), HIGH(length)));
}

int truncate(const char *path, off_t length)
{
    return checked(syscall3(SYS_truncate64, (long)path, LOW(length), HIGH(length)));
}

int access(const char *path, int mode)
{
    return checked(syscall2(SYS_access, (long)path, mode));
}

int unlink(const char *path)
{
    return checked(syscall1(SYS_unlink, (long)path));
}

int link(const char *from, const char *to)
{
    return checked(syscall2(SYS_link, (long)from, (long)to));
}

int symlink(const char *target, const char *path)
{
    return checked(syscall2(SYS_symlink, (long)target, (long)path));
}

ssize_t readlink(const char *restrict path, char *restrict to, size_t size)
{
    return checked(syscall3(SYS_readlink, (long)path, (long)to, (long)size));
}

int rmdir(const char *path)
{
    return checked(syscall1(SYS_rmdir, (long)path));
}

int rename(const char *from, const char *to)
{
    return checked(syscall2(SYS_rename, (long)from, (long)to));
}

int remove(const char *path)
{
    int result = unlink(path);
    return result && errno == EISDIR ? rmdir(path) : result;
}

int chdir(const char *path)
{
    return checked(syscall1(SYS_chdir, (long)path));
}

char *getcwd(char *to, size_t size)
{
    return checked(syscall2(SYS_getcwd, (long)to, (long)size)) < 0 ? NULL : to;
}

/* TCGETS succeeds on terminals alone. */
int isatty(int fd)
{
    char termios[60];
    return syscall3(SYS_ioctl, fd, 0x5401, (long)termios) == 0;
}

int stat(const char *restrict path, struct stat *restrict to)
{
    return checked(syscall2(SYS_stat64, (long)path, (long)to));
}

int lstat(const char *restrict path, struct stat *restrict to)
{
    return checked(syscall2(SYS_lstat64, (long)path, (long)to));
}

int fstat(int fd, struct stat *to)
{
    return checked(syscall2(SYS_fstat64, fd, (long)to));
}

int mkdir(const char *path, mode_t mode)
{
    return checked(syscall2(SYS_mkdir, (long)path, (long)mode));
}

int mknod(const char *path, mode_t mode, dev_t device)
{
    return checked(syscall3(SYS_mknod, (long)path, (long)mode, (long)device));
}

int mkfifo(const char *path, mode_t mode)
{
    return mknod(path, mode | S_IFIFO, 0);
}

int fchmod(int fd, mode_t mode)
{
    return checked(syscall2(SYS_fchmod, fd, (long)mode));
}

int chmod(const char *path, mode_t mode)
{
    return checked(syscall2(SYS_chmod, (long)path, (long)mode));
}

mode_t umask(mode_t mask)
{
    return (mode_t)syscall1(SYS_umask, (long)mask);
}
