/* Buffered files. stdout is line-buffered on a terminal and block-buffered elsewhere; stderr is not buffered; exit flushes. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "internal.h"
#include "syscall.h"

enum { READS = 1, WRITES = 2, APPENDS = 4, AT_EOF = 8, FAILED = 16, OWNS_BUFFER = 32, DECIDED = 64 };

/* The buffer holds either input not yet taken, at[0..filled), or output not yet written, buffer[0..used): never both. */
struct __file {
    int fd, flags, mode, lock;
    char *buffer, *at;
    size_t size, filled, used;
    int pushed_back; /* -1: none */
    char single;     /* the buffer of an unbuffered input */
    struct __file *next;
};

static char input_room[BUFSIZ], output_room[BUFSIZ];
static struct __file standard[3] = {
    { .fd = 0, .flags = READS | DECIDED, .buffer = input_room, .size = BUFSIZ, .pushed_back = -1 },
    { .fd = 1, .flags = WRITES, .buffer = output_room, .size = BUFSIZ, .pushed_back = -1 },
    { .fd = 2, .flags = WRITES | DECIDED, .mode = _IONBF, .pushed_back = -1 },
};
FILE *const stdin = &standard[0], *const stdout = &standard[1], *const stderr = &standard[2];
static struct __file *opened;
static int opened_lock;

static int flush_locked(FILE *file)
{
    size_t done = 0;
    while (done < file->used) {
        ssize_t n = write(file->fd, file->buffer + done, file->used - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            file->flags |= FAILED;
            file->used = 0;
            return EOF;
        }
        done += n;
    }
    file->used = 0;
    return 0;
}

/* Gives read-ahead back, so that the descriptor stands where the program thinks it stands; a pipe keeps it. */
static void discard_input(FILE *file)
{
    off_t ahead = (off_t)file->filled + (file->pushed_back >= 0);
    if (ahead && lseek(file->fd, -ahead, SEEK_CUR) >= 0) {
        file->filled = 0;
        file->pushed_back = -1;
    }
}

static void write_locked(FILE *file, const char *text, size_t length)
{
    if (!(file->flags & DECIDED)) {
        file->flags |= DECIDED;
        file->mode = isatty(file->fd) ? _IOLBF : _IOFBF;
    }
    if (file->filled)
        discard_input(file);
    if (file->mode == _IONBF || !file->size) {
        file->buffer = (char *)text;
        file->used = length;
        flush_locked(file);
        file->buffer = NULL;
        return;
    }
    int line = file->mode == _IOLBF && memchr(text, '\n', length);
    while (length) {
        size_t part = file->size - file->used;
        if (part > length)
            part = length;
        memcpy(file->buffer + file->used, text, part);
        file->used += part;
        text += part;
        length -= part;
        if (file->used == file->size && flush_locked(file))
            return;
    }
    if (line)
        flush_locked(file);
}

static void file_sink(void *to, const char *text, size_t length)
{
    write_locked(to, text, length);
}

/* An unbuffered file still gets one write per call, as other C libraries do it: the text is gathered on the stack. */
int vfprintf(FILE *restrict file, const char *restrict format, va_list list)
{
    char gathered[512];
    __lock(&file->lock);
    int loose = file->mode == _IONBF && (file->flags & DECIDED);
    if (loose) {
        file->buffer = gathered;
        file->size = sizeof gathered;
        file->mode = _IOFBF;
    }
    int total = __format(file_sink, file, format, list);
    if (loose) {
        flush_locked(file);
        file->buffer = NULL;
        file->size = 0;
        file->mode = _IONBF;
    }
    if (file->flags & FAILED)
        total = -1;
    __unlock(&file->lock);
    return total;
}

int vprintf(const char *restrict format, va_list list)
{
    return vfprintf(stdout, format, list);
}

int printf(const char *restrict format, ...)
{
    va_list list;
    va_start(list, format);
    int total = vfprintf(stdout, format, list);
    va_end(list);
    return total;
}

int fprintf(FILE *restrict file, const char *restrict format, ...)
{
    va_list list;
    va_start(list, format);
    int total = vfprintf(file, format, list);
    va_end(list);
    return total;
}

int dprintf(int fd, const char *restrict format, ...)
{
    struct __file file = { .fd = fd, .flags = WRITES | DECIDED, .mode = _IONBF, .pushed_back = -1 };
    va_list list;
    va_start(list, format);
    int total = vfprintf(&file, format, list);
    va_end(list);
    return total;
}

size_t fwrite(const void *restrict from, size_t size, size_t count, FILE *restrict file)
{
    if (!size || !count)
        return 0;
    __lock(&file->lock);
    write_locked(file, from, size * count);
    int failed = file->flags & FAILED;
    __unlock(&file->lock);
    return failed ? 0 : count;
}

int fputs(const char *restrict s, FILE *restrict file)
{
    size_t length = strlen(s);
    return fwrite(s, 1, length, file) == length ? 0 : EOF;
}

int fputc(int c, FILE *file)
{
    char letter = (char)c;
    return fwrite(&letter, 1, 1, file) == 1 ? (unsigned char)c : EOF;
}

int putc(int c, FILE *file)
{
    return fputc(c, file);
}

int putchar(int c)
{
    return fputc(c, stdout);
}

int puts(const char *s)
{
    return fputs(s, stdout) == EOF || putchar('\n') == EOF ? EOF : 0;
}

int fflush(FILE *file)
{
    if (!file) {
        __flush_all();
        return 0;
    }
    __lock(&file->lock);
    int result = flush_locked(file);
    if (file->filled)
        discard_input(file);
    __unlock(&file->lock);
    return result;
}

void __flush_all(void)
{
    __lock(&opened_lock);
    for (struct __file *file = opened; file; file = file->next)
        fflush(file);
    __unlock(&opened_lock);
    fflush(stdout);
}

static int refill(FILE *file)
{
    if (file->used)
        flush_locked(file);
    if (file->fd == 0)
        fflush(stdout);
    ssize_t n;
    char *room = file->buffer;
    size_t size = file->size;
    if (!room || file->mode == _IONBF) {
        room = &file->single;
        size = 1;
    }
    do
        n = read(file->fd, room, size);
    while (n < 0 && errno == EINTR);
    if (n <= 0) {
        file->flags |= n < 0 ? FAILED : AT_EOF;
        return EOF;
    }
    file->at = room;
    file->filled = n;
    return 0;
}

static int get_locked(FILE *file)
{
    if (file->pushed_back >= 0) {
        int c = file->pushed_back;
        file->pushed_back = -1;
        return c;
    }
    if (!file->filled && refill(file))
        return EOF;
    file->filled--;
    return (unsigned char)*file->at++;
}

int fgetc(FILE *file)
{
    __lock(&file->lock);
    int c = get_locked(file);
    __unlock(&file->lock);
    return c;
}

int getc(FILE *file)
{
    return fgetc(file);
}

int getchar(void)
{
    return fgetc(stdin);
}

int ungetc(int c, FILE *file)
{
    if (c == EOF || file->pushed_back >= 0)
        return EOF;
    file->flags &= ~AT_EOF;
    return file->pushed_back = (unsigned char)c;
}

char *fgets(char *restrict to, int size, FILE *restrict file)
{
    int n = 0, c = 0;
    __lock(&file->lock);
    while (n < size - 1 && c != '\n' && (c = get_locked(file)) != EOF)
        to[n++] = (char)c;
    __unlock(&file->lock);
    if (!n)
        return NULL;
    to[n] = 0;
    return to;
}

size_t fread(void *restrict to, size_t size, size_t count, FILE *restrict file)
{
    size_t wanted = size * count, done = 0;
    char *out = to;
    __lock(&file->lock);
    while (done < wanted) {
        if (file->filled && file->pushed_back < 0) {
            size_t part = file->filled < wanted - done ? file->filled : wanted - done;
            memcpy(out + done, file->at, part);
            file->at += part;
            file->filled -= part;
            done += part;
            continue;
        }
        int c = get_locked(file);
        if (c == EOF)
            break;
        out[done++] = (char)c;
    }
    __unlock(&file->lock);
    return size ? done / size : 0;
}

FILE *fdopen(int fd, const char *mode)
{
    FILE *file = malloc(sizeof *file + BUFSIZ);
    if (!file)
        return NULL;
    *file = (struct __file){ .fd = fd, .flags = DECIDED, .buffer = (char *)(file + 1), .size = BUFSIZ, .pushed_back = -1 };
    file->flags |= mode[0] == 'r' ? READS : mode[0] == 'a' ? WRITES | APPENDS : WRITES;
    if (strchr(mode, '+'))
        file->flags |= READS | WRITES;
    __lock(&opened_lock);
    file->next = opened;
    opened = file;
    __unlock(&opened_lock);
    return file;
}

FILE *fopen(const char *restrict path, const char *restrict mode)
{
    int flags = strchr(mode, '+') ? O_RDWR : mode[0] == 'r' ? O_RDONLY : O_WRONLY;
    if (mode[0] == 'w')
        flags |= O_CREAT | O_TRUNC;
    else if (mode[0] == 'a')
        flags |= O_CREAT | O_APPEND;
    else if (mode[0] != 'r') {
        errno = EINVAL;
        return NULL;
    }
    if (strchr(mode, 'e'))
        flags |= O_CLOEXEC;
    int fd = open(path, flags, 0666);
    if (fd < 0)
        return NULL;
    FILE *file = fdopen(fd, mode);
    if (!file)
        close(fd);
    return file;
}

int fclose(FILE *file)
{
    int result = fflush(file);
    if (close(file->fd))
        result = EOF;
    __lock(&opened_lock);
    for (struct __file **link = &opened; *link; link = &(*link)->next)
        if (*link == file) {
            *link = file->next;
            break;
        }
    __unlock(&opened_lock);
    if (file < standard || file >= standard + 3)
        free(file);
    return result;
}

int setvbuf(FILE *restrict file, char *restrict buffer, int mode, size_t size)
{
    flush_locked(file);
    file->flags |= DECIDED;
    file->mode = mode;
    if (mode == _IONBF)
        file->size = 0;
    else if (buffer && size) {
        file->buffer = buffer;
        file->size = size;
    }
    return 0;
}

void setbuf(FILE *restrict file, char *restrict buffer)
{
    setvbuf(file, buffer, buffer ? _IOFBF : _IONBF, BUFSIZ);
}

int fseek(FILE *file, long offset, int whence)
{
    __lock(&file->lock);
    flush_locked(file);
    discard_input(file);
    file->flags &= ~AT_EOF;
    int result = lseek(file->fd, offset, whence) < 0 ? -1 : 0;
    __unlock(&file->lock);
    return result;
}

long ftell(FILE *file)
{
    off_t at = lseek(file->fd, 0, SEEK_CUR);
    return at < 0 ? -1 : (long)(at - file->filled + file->used - (file->pushed_back >= 0));
}

void rewind(FILE *file)
{
    fseek(file, 0, SEEK_SET);
    clearerr(file);
}

int feof(FILE *file)
{
    return (file->flags & AT_EOF) != 0;
}

int ferror(FILE *file)
{
    return (file->flags & FAILED) != 0;
}

void clearerr(FILE *file)
{
    file->flags &= ~(AT_EOF | FAILED);
}

int fileno(FILE *file)
{
    return file->fd;
}

void perror(const char *what)
{
    int number = errno;
    fprintf(stderr, "%s%s%s\n", what ? what : "", what && *what ? ": " : "", strerror(number));
}
