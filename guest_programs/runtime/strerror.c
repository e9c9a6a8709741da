/* Words for the error and signal numbers that programs meet. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const char *const errors[] = {
    [0] = "No error information", [EPERM] = "Operation not permitted", [ENOENT] = "No such file or directory",
    [ESRCH] = "No such process", [EINTR] = "Interrupted system call", [EIO] = "I/O error", [E2BIG] = "Argument list too long",
    [ENOEXEC] = "Exec format error", [EBADF] = "Bad file descriptor", [ECHILD] = "No child process",
    [EAGAIN] = "Resource temporarily unavailable", [ENOMEM] = "Out of memory", [EACCES] = "Permission denied",
    [EFAULT] = "Bad address", [EBUSY] = "Resource busy", [EEXIST] = "File exists", [ENODEV] = "No such device",
    [ENOTDIR] = "Not a directory", [EISDIR] = "Is a directory", [EINVAL] = "Invalid argument", [ENFILE] = "Too many open files in system",
    [EMFILE] = "No file descriptors available", [ENOTTY] = "Not a tty", [ETXTBSY] = "Text file busy", [EFBIG] = "File too large",
    [ENOSPC] = "No space left on device", [ESPIPE] = "Invalid seek", [EROFS] = "Read-only file system", [EPIPE] = "Broken pipe",
    [ERANGE] = "Result not representable", [EDEADLK] = "Resource deadlock would occur", [ENAMETOOLONG] = "Filename too long",
    [ENOSYS] = "Function not implemented", [ENOTEMPTY] = "Directory not empty", [EOVERFLOW] = "Value too large for data type",
    [EOPNOTSUPP] = "Not supported", [ETIMEDOUT] = "Operation timed out",
};

static const char *const signals[] = {
    [SIGHUP] = "Hangup", [SIGINT] = "Interrupt", [SIGQUIT] = "Quit", [SIGILL] = "Illegal instruction", [SIGTRAP] = "Trace/breakpoint trap",
    [SIGABRT] = "Aborted", [SIGBUS] = "Bus error", [SIGFPE] = "Arithmetic exception", [SIGKILL] = "Killed", [SIGUSR1] = "User defined signal 1",
    [SIGSEGV] = "Segmentation fault", [SIGUSR2] = "User defined signal 2", [SIGPIPE] = "Broken pipe", [SIGALRM] = "Alarm clock",
    [SIGTERM] = "Terminated", [SIGCHLD] = "Child process status", [SIGCONT] = "Continued", [SIGSTOP] = "Stopped (signal)",
};

static char *named(const char *const *names, int count, int number, const char *kind)
{
    static __thread char unknown[32];
    if (number >= 0 && number < count && names[number])
        return (char *)names[number];
    snprintf(unknown, sizeof unknown, "%s %d", kind, number);
    return unknown;
}

char *strerror(int number)
{
    return named(errors, sizeof errors / sizeof *errors, number, "Error");
}

char *strsignal(int number)
{
    return named(signals, sizeof signals / sizeof *signals, number, "Signal");
}
