/*
 * name:      pipe_pingpong
 * summary:   Two processes pass a counter back and forth, then a long stream, then meet a closed end.
 * drives:    pipes, switching between two address spaces, blocking, SIGPIPE and EPIPE, poll
 * arguments: rounds=200 kilobytes=256
 * look at:   context switches; virtual time of a round trip
 */
#include "rmapbox.h"
#include <poll.h>

static volatile int pipe_signals;

static void on_pipe(int number)
{
    (void)number;
    pipe_signals++;
}

static void fill(char *to, long bytes, long at)
{
    for (long i = 0; i < bytes; i++)
        to[i] = (char)((at + i) * 31 >> 3);
}

__attribute__((noreturn)) static void other(int in, int out, long rounds, long bytes)
{
    static char block[10000];
    uint32_t number;
    for (long i = 0; i < rounds; i++) {
        receive(in, &number, sizeof number);
        number = mix(number);
        send(out, &number, sizeof number);
    }
    for (long at = 0; at < bytes;) {
        long part = bytes - at < (long)sizeof block ? bytes - at : (long)sizeof block;
        fill(block, part, at);
        send(out, block, (size_t)part);
        at += part;
    }
    close(out);
    char byte;
    ssize_t n = read(in, &byte, 1); /* ends when the other side closes */
    _exit(n == 0 ? 5 : 1);
}

int main(int argc, char **argv)
{
    long rounds = argument(argc, argv, 1, "rounds", 200, 0, 10000000), bytes = argument(argc, argv, 2, "kilobytes", 256, 0, 1 << 20) * 1024;
    arguments_end(argc, argv);
    int there[2], back[2], failed = 0;
    must(pipe(there) == 0 && pipe(back) == 0);
    pid_t pid = fork_quietly();
    if (!pid) {
        close(there[1]);
        close(back[0]);
        other(there[0], back[1], rounds, bytes);
    }
    close(there[0]);
    close(back[1]);

    uint32_t number = 1, expected = 1;
    for (long i = 0; i < rounds; i++) {
        send(there[1], &number, sizeof number);
        receive(back[0], &number, sizeof number);
        expected = mix(expected);
        failed |= number != expected;
    }
    printf("%ld rounds: the counter is %08x\n", rounds, (unsigned)number);

    struct pollfd ready = { .fd = back[0], .events = POLLIN };
    must(poll(&ready, 1, -1) == 1);
    printf("poll: %s\n", ready.revents & (POLLIN | POLLHUP) ? "readable" : "nothing");
    static char block[7000], should[7000];
    long at = 0;
    ssize_t n;
    while ((n = read(back[0], block, sizeof block)) > 0) {
        fill(should, n, at);
        failed |= memcmp(block, should, (size_t)n) != 0;
        at += n;
    }
    printf("a stream of %ld bytes: %s\n", at, failed || at != bytes ? "wrong" : "right");
    failed |= at != bytes || n != 0;
    close(there[1]);
    int status = reap(pid);
    printf("the other side exits %d\n", status);
    failed |= status != 5;

    /* Nobody reads any more. */
    struct sigaction action = { .sa_handler = on_pipe };
    must(sigaction(SIGPIPE, &action, NULL) == 0 && pipe(there) == 0);
    close(there[0]);
    errno = 0;
    n = write(there[1], "x", 1);
    printf("write to nobody: %s, %d SIGPIPE\n", error_name(n < 0 ? errno : 0), pipe_signals);

    /* A full pipe that does not block takes what it has room for, then says EAGAIN. */
    must(pipe(there) == 0 && fcntl(there[1], F_SETFL, O_NONBLOCK) == 0);
    int eagain = 0;
    for (int i = 0; i < 100 && !eagain; i++)
        eagain = write(there[1], block, PAGE) < 0 && errno == EAGAIN;
    printf("a full pipe: %s\n", eagain ? "EAGAIN" : "takes 100 pages");
    puts(failed ? "FAILED: bytes were lost" : "no byte was lost");
    return failed != 0;
}
