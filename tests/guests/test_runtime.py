"""The runtime's C library: what it prints and computes is what another C library, or Python, prints and computes."""

from __future__ import annotations

import ctypes
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from sandbox import Config, Machine
from tests.guests.native import run_native, why_not_native

HEADERS = "".join(
    f"#include <{name}.h>\n"
    for name in (
        "assert",
        "ctype",
        "dirent",
        "errno",
        "fcntl",
        "inttypes",
        "limits",
        "linux/stat",
        "poll",
        "pthread",
        "sched",
        "setjmp",
        "signal",
        "stdarg",
        "stdbool",
        "stddef",
        "stdint",
        "stdio",
        "stdlib",
        "string",
        "strings",
        "sys/auxv",
        "sys/mman",
        "sys/resource",
        "sys/stat",
        "sys/syscall",
        "sys/time",
        "sys/wait",
        "time",
        "unistd",
    )
)


def host_format(form: str, value: int | bytes) -> bytes:
    """What the host's C library makes of one conversion; integers as long long or int, whichever the format says."""
    room = ctypes.create_string_buffer(256)
    argument = (
        ctypes.c_longlong(value)
        if "ll" in form
        else ctypes.c_int(value)
        if isinstance(value, int)
        else ctypes.c_char_p(value)
    )
    ctypes.CDLL(None).snprintf(room, len(room), form.encode(), argument)
    return room.value


def literal(value: int) -> str:
    if value == -(1 << 63):
        return "(-9223372036854775807LL - 1)"
    return f"{value}LL" if abs(value) >= 1 << 31 else f"({value})"


def test_printf_integers(native, compile_guest):
    numbers = [0, 1, -1, 7, -42, 123456, 2147483647, -2147483648]
    wide = [*numbers, 10**18, -(10**18), (1 << 63) - 1, -(1 << 63), 4294967296, 0xDEADBEEFCAFE]
    cases = []
    for flags, width, precision, kind in itertools.product(
        ("", "-", "0", "+", " ", "#", "-+", "0#", "+0"), ("", "1", "12"), ("", ".0", ".5"), "diuxXo"
    ):
        for length, values in (("", numbers), ("ll", wide), ("hh", numbers), ("h", numbers)):
            cases.append(
                (
                    f"%{flags}{width}{precision}{length}{kind}",
                    random.Random(f"{flags}{width}{precision}{length}{kind}").choice(values),
                )
            )
    source = (
        HEADERS
        + "int main(void)\n{\n"
        + "".join(
            f'    printf("{form}|\\n", {"(long long)" if "ll" in form else "(int)"}{literal(value)});\n'
            for form, value in cases
        )
        + "    return 0;\n}\n"
    )
    result = native(compile_guest(source, "printf_integers", flags=("-Wno-format", "-O1")))
    lines = result.stdout.split(b"\n")[:-1]
    assert len(lines) == len(cases)
    for line, (form, value) in zip(lines, cases, strict=True):
        assert line == host_format(form, value) + b"|", (form, value)


def test_printf_text(native, compile_guest):
    source = (
        HEADERS
        + r"""
int main(void)
{
    int count = 0;
    char small[6];
    printf("[%s][%10s][%-10s][%.2s][%10.3s][%.0s]\n", "abc", "abc", "abc", "abc", "abcdef", "abc");
    printf("[%c][%3c][%-3c][%%][%*d][%-*d][%.*s]\n", 'x', 'y', 'z', 5, 42, 5, 42, 2, "abc");
    printf("[%p][%zu][%jd][%td][%ld][%lu]\n", (void *)0x1234, sizeof(long long), (intmax_t)-5, (ptrdiff_t)7, -8L, 9UL);
    printf("12345%n\n", &count);
    printf("%d %s\n", count, (char *)NULL);
    printf("%d [%s]\n", snprintf(small, sizeof small, "%d", 1234567), small);
    printf("%d\n", snprintf(NULL, 0, "%s", "seven77"));
    fprintf(stdout, "%s\n", "to a file");
    dprintf(1, "%s", ""); /* writes nothing, orders nothing */
    puts("done");
    return 0;
}
"""
    )
    assert native(compile_guest(source, "printf_text")).stdout.decode().splitlines() == [
        "[abc][       abc][abc       ][ab][       abc][]",
        "[x][  y][z  ][%][   42][42   ][ab]",
        "[0x1234][8][-5][7][-8][9]",
        "12345",
        "5 (null)",
        "7 [12345]",
        "7",
        "to a file",
        "done",
    ]


def test_division_of_64_bits(native, compile_guest):
    chance = random.Random(64)
    edge = [
        0,
        1,
        2,
        3,
        10,
        0xFFFFFFFF,
        1 << 32,
        (1 << 32) + 1,
        (1 << 63) - 1,
        1 << 63,
        (1 << 64) - 1,
        0x8000000100000000,
    ]
    pairs = [(a, b) for a in edge for b in edge if b] + [
        (chance.getrandbits(chance.randint(1, 64)), chance.getrandbits(chance.randint(1, 64)) or 1) for _ in range(300)
    ]
    table = ",\n".join(f"{{ {a}ULL, {b}ULL }}" for a, b in pairs)
    source = (
        HEADERS
        + f"static const volatile uint64_t pairs[][2] = {{ {table} }};\n"
        + r"""
int main(void)
{
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        uint64_t a = pairs[i][0], b = pairs[i][1];
        printf("%llu %llu", a / b, a % b);
        if ((int64_t)b != -1) /* the one quotient that does not fit */
            printf(" %lld %lld", (int64_t)a / (int64_t)b, (int64_t)a % (int64_t)b);
        puts("");
    }
    return 0;
}
"""
    )

    def signed(value: int) -> int:
        return value - (1 << 64) if value >> 63 else value

    def c_divide(a: int, b: int) -> tuple[int, int]:
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        return quotient, a - quotient * b

    expected = []
    for a, b in pairs:
        words = [a // b, a % b]
        if signed(b) != -1:
            words += c_divide(signed(a), signed(b))
        expected.append(" ".join(map(str, words)))
    assert native(compile_guest(source, "divide")).stdout.decode().splitlines() == expected


def test_strings_and_numbers(native, compile_guest):
    """Checks itself: assert() tells file and line on stderr."""
    source = (
        HEADERS
        + r"""
static int by_value(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
int main(void)
{
    char room[64], *end, *state;
    assert(!memcmp(memmove(strcpy(room, "0123456789") + 2, room, 8), "01234567", 8));
    assert(!strcmp(memmove(strcpy(room, "0123456789"), room + 3, 8), "3456789"));
    assert(memset(room, 'x', 13) == room && room[12] == 'x' && memchr(room, 'y', 13) == NULL && memchr("abc", 'c',
        3) != NULL);
    assert(strcmp("abc", "abd") < 0 && strcmp("b", "a\xff") > 0 && strcmp("a", "a\xff") < 0 && !strncmp("abc", "abd",
        2) && !strcasecmp("AbC", "aBc"));
    assert(!strcmp(strcat(strcpy(room, "ab"), "cd"), "abcd") && !strcmp(strncat(room, "efgh", 2), "abcdef"));
    strncpy(room, "xy", 5);
    assert(!memcmp(room, "xy\0\0\0", 5));
    assert(!strcmp(strchr("hello", 'l'), "llo") && !strcmp(strrchr("hello", 'l'), "lo") && *strchr("a", 0) == 0
        && !strrchr("a", 'b'));
    assert(!strcmp(strstr("one two", "tw"), "two") && !strstr("one", "tw"));
    assert(strspn("aab", "a") == 2 && strcspn("aab", "b") == 2 && *strpbrk("abc", "cb") == 'b');
    strcpy(room, "::a:b::c");
    assert(!strcmp(strtok_r(room, ":", &state), "a") && !strcmp(strtok_r(NULL, ":", &state), "b")
        && !strcmp(strtok_r(NULL, ":", &state), "c"));
    assert(!strtok_r(NULL, ":", &state) && strnlen("abc", 2) == 2);
    assert(strtol(" -0x1Fz", &end, 0) == -31 && *end == 'z' && strtol("077", NULL, 0) == 63 && strtol("zz", NULL,
        36) == 35 * 37);
    assert(strtol("0x", &end, 16) == 0 && *end == 'x' && strtol("none", &end, 10) == 0 && *end == 'n');
    errno = 0;
    assert(strtol("99999999999", NULL, 10) == LONG_MAX && errno == ERANGE);
    errno = 0;
    assert(strtol("-99999999999", NULL, 10) == LONG_MIN && errno == ERANGE && strtol("-2147483648", NULL,
        10) == LONG_MIN);
    assert(strtoull("18446744073709551615", NULL, 10) == UINT64_MAX && strtoll("-9223372036854775808", NULL,
        10) == INT64_MIN && atoi("12x") == 12);
    errno = 0;
    assert(strtoull("18446744073709551616", NULL, 10) == UINT64_MAX && errno == ERANGE && strtoul("-1", NULL,
        10) == ULONG_MAX);

    int numbers[500], key = 77;
    unsigned seed = 5;
    for (int i = 0; i < 500; i++) numbers[i] = rand_r(&seed) % 200;
    numbers[123] = key;
    qsort(numbers, 500, sizeof *numbers, by_value);
    for (int i = 1; i < 500; i++) assert(numbers[i - 1] <= numbers[i]);
    assert(*(int *)bsearch(&key, numbers, 500, sizeof *numbers, by_value) == key);
    key = 1000;
    assert(!bsearch(&key, numbers, 500, sizeof *numbers, by_value));

    int a, b; long long c; char word[8], set[8], two[2]; short s; unsigned x;
    assert(sscanf("12 -7 word", "%d %d %7s", &a, &b, word) == 3 && a == 12 && b == -7 && !strcmp(word, "word"));
    assert(sscanf("08048000-0804a000 r-xp", "%x-%*x %4s", &x, word) == 2 && x == 0x8048000 && !strcmp(word, "r-xp"));
    assert(sscanf("123456789012 70000", "%lld %hd", &c, &s) == 2 && c == 123456789012LL && s == (short)70000);
    assert(sscanf("12345", "%3d%n%d", &a, &b, (int *)&x) == 2 && a == 123 && b == 3 && x == 45);
    assert(sscanf("abcXY]", "%[a-c]%2c]", set, two) == 2 && !strcmp(set, "abc") && two[0] == 'X' && sscanf("", "%d",
        &a) == EOF && sscanf("x", "%d", &a) == 0);
    assert(sscanf("key=v", "%[^=]=%7s", set, word) == 2 && !strcmp(set, "key") && *word == 'v');
    puts("ok");
    return 0;
}
"""
    )
    result = native(compile_guest(source, "strings", flags=("-fno-builtin",)))
    assert (result.stdout, result.stderr, result.status) == (b"ok\n", b"", 0)


def test_heap(native, compile_guest):
    """Random allocations keep their contents, are aligned, and do not overlap; freed memory is used again."""
    source = (
        HEADERS
        + r"""
static unsigned seed = 11;
static unsigned next(unsigned bound) { return (unsigned)rand_r(&seed) % bound; }
static size_t pick(void) { unsigned k = next(20); return k < 12 ? next(200) : k < 17 ? next(5000) : k < 19
    ? next(60000) : next(400000); }
int main(void)
{
    enum { SLOTS = 200 };
    static unsigned char *memory[SLOTS];
    static size_t size[SLOTS];
    char *start = sbrk(0);
    for (int step = 0; step < 20000; step++) {
        int slot = (int)next(SLOTS);
        for (size_t i = 0; i < size[slot]; i += size[slot] / 9 + 1)
            assert(memory[slot][i] == (unsigned char)(slot + i));
        size_t wanted = pick();
        if (next(3) == 0 && memory[slot]) {
            size_t kept = wanted < size[slot] ? wanted : size[slot];
            memory[slot] = realloc(memory[slot], wanted ? wanted : 1);
            for (size_t i = 0; i < kept; i++)
                assert(memory[slot][i] == (unsigned char)(slot + i));
        } else if (next(2)) {
            free(memory[slot]);
            memory[slot] = malloc(wanted);
        } else {
            free(memory[slot]);
            memory[slot] = calloc(1, wanted);
            for (size_t i = 0; i < wanted; i++)
                assert(memory[slot][i] == 0);
        }
        size[slot] = wanted;
        assert(memory[slot] && (uintptr_t)memory[slot] % 16 == 0);
        for (size_t i = 0; i < wanted; i++)
            memory[slot][i] = (unsigned char)(slot + i);
    }
    for (int slot = 0; slot < SLOTS; slot++)
        free(memory[slot]);
    char *high = sbrk(0);
    assert(high - start < 64 << 20);
    void *again = malloc(100000); /* all is one free chunk again */
    assert(again && sbrk(0) == high);
    errno = 0;
    assert(!malloc((size_t)-5) && errno == ENOMEM && !calloc(1 << 20, 1 << 20));
    free(NULL);
    puts("ok");
    return 0;
}
"""
    )
    result = native(compile_guest(source, "heap"))
    assert (result.stdout, result.stderr, result.status) == (b"ok\n", b"", 0)


def test_files_and_processes(native, compile_guest, tmp_path):
    source = (
        HEADERS
        + r"""
static void last(void) { printf("last\n"); }
static void first(void) { printf("first\n"); }
static jmp_buf back;
static volatile int signals;
static void on_signal(int number) { signals += number; }
static void on_jump(int number) { siglongjmp(back, number); }
static __thread int local = 3;
int main(int argc, char **argv)
{
    if (argc > 1) {
        printf("executed with %s, %s\n", argv[1], getenv("TOLD"));
        return 7;
    }
    char line[64];
    FILE *file = fopen("made", "w+");
    assert(file && fputs("one\ntwo\nthree", file) >= 0 && fflush(file) == 0);
    for (int i = 0; i < 5000; i++) assert(fprintf(file, " %d", i) > 0);
    rewind(file);
    assert(fgets(line, sizeof line, file) && !strcmp(line, "one\n") && ftell(file) == 4);
    assert(fgetc(file) == 't' && ungetc('T', file) == 'T' && fgets(line, 3, file) && !strcmp(line, "Tw"));
    assert(fseek(file, 8, SEEK_SET) == 0 && fread(line, 1, 5, file) == 5 && !memcmp(line, "three", 5));
    assert(fseek(file, -5, SEEK_END) == 0 && fgets(line, sizeof line, file) && !strcmp(line, " 4999") && !fgets(line,
        9, file) && feof(file));
    assert(fclose(file) == 0);
    file = fopen("made", "a");
    assert(file && fputs("!", file) >= 0 && fclose(file) == 0);
    struct stat status;
    assert(stat("made", &status) == 0 && S_ISREG(status.st_mode)
        && status.st_size == 13 + 10 + 90 * 2 + 900 * 3 + 4000 * 4 + 5000 + 1);
    assert(remove("made") == 0 && stat("made", &status) == -1 && errno == ENOENT && !fopen("made", "r"));

    assert(signal(SIGUSR1, on_signal) == SIG_DFL && raise(SIGUSR1) == 0 && signals == SIGUSR1);
    sigset_t block, pending;
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    assert(!sigprocmask(SIG_BLOCK, &block, NULL) && !raise(SIGUSR1) && signals == SIGUSR1 && !sigpending(&pending)
        && sigismember(&pending, SIGUSR1));
    assert(!sigprocmask(SIG_UNBLOCK, &block, NULL) && signals == 2 * SIGUSR1);
    signal(SIGUSR2, on_jump);
    for (volatile int i = 0; i < 3; i++) {
        int came = sigsetjmp(back, 1);
        if (!came) raise(SIGUSR2);
        assert(came == SIGUSR2); /* the mask is restored: the signal comes again */
    }
    assert(!setjmp(back) || !"jumped");

    local++;
    printf("before fork");
    fflush(stdout);
    int state;
    pid_t pid = vfork();
    if (!pid) {
        char *const arguments[] = { argv[0], "an argument", NULL }, *const environment[] = { "TOLD=yes", NULL };
        execve(argv[0], arguments, environment);
        _exit(99);
    }
    puts("");
    assert(waitpid(pid, &state, 0) == pid && WIFEXITED(state) && WEXITSTATUS(state) == 7);
    pid = fork();
    if (!pid) { assert(local == 4); abort(); }
    assert(waitpid(pid, &state, 0) == pid && WIFSIGNALED(state) && WTERMSIG(state) == SIGABRT);
    assert(waitpid(-1, &state, 0) == -1 && errno == ECHILD);
    assert(__builtin_popcount((unsigned)getpid() * 0 + 0xf0f0) == 8
        && __builtin_popcountll(-1ULL - (unsigned)(getpid() * 0)) == 64);
    assert(getauxval(AT_PAGESZ) == 4096 && sysconf(_SC_PAGESIZE) == 4096 && sysconf(_SC_NPROCESSORS_ONLN) >= 1
        && getenv("NOTHING") == NULL);
    struct timespec a, b, wait = { 0, 2000000 };
    clock_gettime(CLOCK_MONOTONIC, &a);
    nanosleep(&wait, NULL);
    clock_gettime(CLOCK_MONOTONIC, &b);
    assert((b.tv_sec - a.tv_sec) * 1000000000LL + b.tv_nsec - a.tv_nsec >= 2000000);
    struct rlimit limit;
    assert(getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur >= 1 << 20);
    atexit(last);
    atexit(first);
    printf("unfinished line");
    exit(3);
}
"""
    )
    result = native(compile_guest(source, "files"), cwd=tmp_path)
    assert result.stderr == b"" and result.status == 3
    assert result.stdout.decode().splitlines() == [
        "before forkexecuted with an argument, yes",
        "",
        "unfinished linefirst",
        "last",
    ]


def test_ordinary_main_returns_zero_and_aborts_are_told(native, compile_guest):
    assert native(compile_guest("int main(void) { }\n", "empty")).status == 0
    result = native(compile_guest(HEADERS + "int main(void) { assert(1 > 2); }\n", "asserts"))
    assert result.status == 134 and b"asserts.c" in result.stderr and b"1 > 2" in result.stderr


def test_layout_of_a_program(guest_elf):
    """Linked at i386's address, text and constants apart from data, and a stack that is not executable."""
    with open(guest_elf("threads"), "rb") as file:
        elf = ELFFile(file)
        assert (elf["e_type"], elf["e_machine"]) == ("ET_EXEC", "EM_386")
        segments = list(elf.iter_segments())
        loads = [segment for segment in segments if segment["p_type"] == "PT_LOAD"]
        assert loads[0]["p_vaddr"] == 0x08048000
        assert [segment["p_flags"] for segment in loads] == [4, 5, 4, 6]  # headers R, text RX, constants R, data RW
        (stack,) = (segment for segment in segments if segment["p_type"] == "PT_GNU_STACK")
        assert stack["p_flags"] == 6
        assert any(segment["p_type"] == "PT_TLS" for segment in segments)


NUMBERS_AND_DIRECTORIES = r"""
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
int main(void)
{
    static const char *numbers[] = {"0.1", "-1e23", "2.2250738585072011e-308", "4.9e-324", "2e-324",
        "1.7976931348623159e308", "9007199254740993",
                                    "1e", ".", "-.5e-3x", "inf", "123456789012345678901234567890", "0x", "nan"};
    char line[64], word[8], *end;
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        union { double value; unsigned long long bits; } u = {.value = strtod(numbers[i], &end)};
        printf("%s: %016llx, %d taken\n", numbers[i], u.bits, (int)(end - numbers[i]));
    }
    char name[] = "/tmp/rmapbox-runtime";
    mkdir(name, 0700);
    snprintf(line, sizeof line, "%s/f", name);
    FILE *file = fopen(line, "w");
    fprintf(file, "cpu 12 0x1f 2.50 word\n7 -8");
    fclose(file);
    int a = 0, b = 0, c = 0, d = 0;
    double real = 0;
    file = fopen(line, "r");
    int n = fscanf(file, "cpu %d %i %lf %7s", &a, &b, &real, word);
    printf("%d: %d %d %d %s\n", n, a, b, (int)(real * 100), word);
    n = fscanf(file, "%d", &c);
    printf("%d %d, next %d\n", n, c, fgetc(file));
    n = fscanf(file, "%d", &d);
    printf("%d %d, then %d\n", n, d, fscanf(file, "%d", &d));
    fclose(file);
    DIR *directory = opendir(name);
    int entries = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        entries += entry->d_name[0] == '.' ? 1 : 100;
    printf("%d; %d\n", entries, closedir(directory));
    printf("%d %d\n", opendir("/nonexistent") == NULL, opendir(line) == NULL);
    unlink(line);
    rmdir(name);
    return 0;
}
"""


def test_numbers_and_directories_as_natively(compile_guest: Callable[..., Path]) -> None:
    program = compile_guest(NUMBERS_AND_DIRECTORIES, "runtime")
    result = Machine(Config(time_limit=60)).run([str(program)], capture=True)
    lines = result.stdout.decode().splitlines()
    assert result.exit_status == 0
    # IEEE 754, round to nearest even: a tie, the largest subnormal, the smallest, half of it, and one beyond the
    # largest number
    assert lines[:7] == [
        "0.1: 3fb999999999999a, 3 taken",
        "-1e23: c4b52d02c7e14af6, 5 taken",
        "2.2250738585072011e-308: 000fffffffffffff, 23 taken",
        "4.9e-324: 0000000000000001, 8 taken",
        "2e-324: 0000000000000000, 6 taken",
        "1.7976931348623159e308: 7ff0000000000000, 22 taken",
        "9007199254740993: 4340000000000000, 16 taken",
    ]
    assert lines[14:] == ["4: 12 31 250 word", "1 7, next 32", "1 -8, then -1", "102; 0", "1 1"]
    if why_not_native():
        pytest.skip(f"natively not asked: {why_not_native()}")
    assert run_native(program).stdout.decode().splitlines() == lines
