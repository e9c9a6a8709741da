/* What the guest programs share. Header only: they are compiled with our runtime, with musl or with glibc.

   A program prints only what the program itself decides, so that its output is the same natively and in the sandbox: no
   address, pid, time, residency or inode number. */
#ifndef RMAPBOX_H
#define RMAPBOX_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define WORDS (PAGE / 4)

__attribute__((format(printf, 1, 2), noreturn, unused)) static void die(const char *format, ...)
{
    va_list list;
    fflush(stdout);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    _exit(1);
}

/* For calls that have no reason to fail. */
#define must(condition) ((condition) ? (void)0 : die("FAILED: %s (line %d): %s", #condition, __LINE__, strerror(errno)))

/* The name of an error number: strerror's words differ between C libraries. */
__attribute__((unused)) static const char *error_name(int number)
{
    static char other[16];
    switch (number) {
    case 0: return "ok";
    case EPERM: return "EPERM";
    case EBADF: return "EBADF";
    case EAGAIN: return "EAGAIN";
    case ENOMEM: return "ENOMEM";
    case EACCES: return "EACCES";
    case EFAULT: return "EFAULT";
    case EBUSY: return "EBUSY";
    case EEXIST: return "EEXIST";
    case EINVAL: return "EINVAL";
    case EPIPE: return "EPIPE";
    }
    snprintf(other, sizeof other, "errno %d", number);
    return other;
}

/* --- arguments: sizes and words, each at its place or as NAME=VALUE anywhere */

#define MOST_ARGUMENTS 8
static struct {
    const char *name[MOST_ARGUMENTS + 1]; /* by place, from 1 */
    int count;
} arguments;

/* What stands behind NAME= in `word`; NULL when it does not start so. */
__attribute__((unused)) static const char *value_in(const char *word, const char *name)
{
    size_t length = strlen(name);
    return !strncmp(word, name, length) && word[length] == '=' ? word + length + 1 : NULL;
}

/* Is it NAME=VALUE, whatever the name? */
__attribute__((unused)) static int is_named(const char *word)
{
    size_t length = strspn(word, "abcdefghijklmnopqrstuvwxyz_");
    return length && word[length] == '=';
}

/* The argument `name`, which stands at argv[index] unless it is given by its name; else `fallback`. */
__attribute__((unused)) static const char *argument_word(int argc, char **argv, int index, const char *name, const char *fallback)
{
    const char *found = index < argc && !is_named(argv[index]) ? argv[index] : NULL;
    arguments.name[index] = name;
    if (index > arguments.count)
        arguments.count = index;
    for (int i = 1; i < argc; i++)
        if (value_in(argv[i], name)) {
            if (found)
                die("%s: %s is given twice", argv[i], name);
            found = value_in(argv[i], name);
        }
    return found ? found : fallback;
}

/* The number that `text` is; suffixes K and M multiply. A value out of range ends the program. */
__attribute__((unused)) static long long number_in(const char *text, const char *name, long long least, long long most)
{
    char *end;
    long value = strtol(text, &end, 0);
    int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    long long number = (long long)value * (1LL << shift);
    end += shift != 0;
    if (end == text || *end || number < least || number > most)
        die("%s: %s must be a number from %lld to %lld", text, name, least, most);
    return number;
}

/* As argument_word, for a number. */
__attribute__((unused)) static long long argument(int argc, char **argv, int index, const char *name, long long fallback, long long least, long long most)
{
    const char *word = argument_word(argc, argv, index, name, NULL);
    return word ? number_in(word, name, least, most) : fallback;
}

/* After the last argument has been asked for: a word that was not is a mistake. */
__attribute__((unused)) static void arguments_end(int argc, char **argv)
{
    char names[160] = "";
    for (int k = 1; k <= arguments.count; k++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", k > 1 ? ", " : "", arguments.name[k]);
    for (int i = 1; i < argc; i++) {
        int known = !is_named(argv[i]) && i <= arguments.count;
        for (int k = 1; k <= arguments.count; k++)
            known |= value_in(argv[i], arguments.name[k]) != NULL;
        if (!known)
            die("%s: no such argument; there are, in this order or as NAME=VALUE: %s", argv[i], names);
    }
}

/* Asks the sandbox's kernel to reclaim `pages` pages now. Native Linux has no such file: nothing happens there. */
__attribute__((unused)) static void reclaim(long pages)
{
    char text[16];
    int fd = open("/proc/sys/vm/rmapbox_reclaim", O_WRONLY);
    if (fd < 0)
        return;
    int length = snprintf(text, sizeof text, "%ld\n", pages);
    if (write(fd, text, (size_t)length) != length)
        die("FAILED: the kernel would not reclaim %ld pages: %s", pages, strerror(errno));
    close(fd);
}

/* --- pseudo-random numbers: splitmix32, the same on every machine */

struct prng {
    uint32_t state;
};

__attribute__((unused)) static uint32_t mix(uint32_t z)
{
    z = (z ^ (z >> 16)) * 0x85ebca6bu;
    z = (z ^ (z >> 13)) * 0xc2b2ae35u;
    return z ^ (z >> 16);
}

__attribute__((unused)) static uint32_t prng_next(struct prng *prng)
{
    return mix(prng->state += 0x9e3779b9u);
}

/* From 0 to bound - 1. The slight bias of the remainder does not matter here. */
__attribute__((unused)) static int prng_below(struct prng *prng, int bound)
{
    return (int)(prng_next(prng) % (uint32_t)bound);
}

/* --- whole pages of a pattern, told by a tag */

__attribute__((unused)) static void fill_page(void *page, uint32_t tag)
{
    volatile uint32_t *word = page;
    uint32_t seed = mix(tag + 1);
    for (int i = 0; i < WORDS; i++)
        word[i] = seed + (uint32_t)i * 0x9e3779b9u;
}

__attribute__((unused)) static int page_is(const void *page, uint32_t tag)
{
    const volatile uint32_t *word = page;
    uint32_t seed = mix(tag + 1);
    for (int i = 0; i < WORDS; i++)
        if (word[i] != seed + (uint32_t)i * 0x9e3779b9u)
            return 0;
    return 1;
}

/* FNV-1a by words; `bytes` is a multiple of 4. */
#define HASH_START 2166136261u
__attribute__((unused)) static uint32_t hash_words(uint32_t hash, const void *memory, size_t bytes)
{
    const volatile uint32_t *word = memory;
    for (size_t i = 0; i < bytes / 4; i++)
        hash = (hash ^ word[i]) * 16777619u;
    return hash;
}

__attribute__((unused)) static char *map_anonymous(size_t pages, int flags)
{
    char *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        die("FAILED: mmap of %zu pages: %s", pages, strerror(errno));
    return memory;
}

/* --- processes */

/* fork with nothing in the output buffer, so that it is not printed twice. */
__attribute__((unused)) static pid_t fork_quietly(void)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        die("FAILED: fork: %s", strerror(errno));
    return pid;
}

/* Waits for `pid`; its exit status, or 128 + the signal that ended it. */
__attribute__((unused)) static int reap(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            die("FAILED: waitpid: %s", strerror(errno));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* All of `size` bytes through a pipe. */
__attribute__((unused)) static void send(int fd, const void *from, size_t size)
{
    const char *at = from;
    while (size) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            die("FAILED: write to a pipe: %s", strerror(errno));
        at += n;
        size -= (size_t)n;
    }
}

/* All of `size` bytes; an end of file means that the writer died. */
__attribute__((unused)) static void receive(int fd, void *to, size_t size)
{
    char *at = to;
    while (size) {
        ssize_t n = read(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            die("FAILED: read from a pipe: %s", n ? strerror(errno) : "end of file");
        at += n;
        size -= (size_t)n;
    }
}

/* A private file of `pages` zero pages with no name left; read and write. */
__attribute__((unused)) static int nameless_file(const char *program, size_t pages)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/%s.%d", program, (int)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        die("FAILED: %s: %s", path, strerror(errno));
    must(unlink(path) == 0);
    must(ftruncate(fd, (off_t)pages * PAGE) == 0);
    return fd;
}
#endif
