"""The kernel itself: how runs end, what a failed call leaves behind, what is counted and reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import toolchain
from sandbox.kit.injection import Failing
from tests.sandbox.box import Box

HEADERS = "\n".join(
    f"#include <{name}.h>"
    for name in (
        "errno",
        "fcntl",
        "pthread",
        "sched",
        "signal",
        "stdio",
        "stdlib",
        "string",
        "sys/mman",
        "sys/resource",
        "sys/syscall",
        "sys/wait",
        "time",
        "unistd",
    )
)


@pytest.fixture
def build(tmp_path: Path):
    """C statements of main -> ELF file."""
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")

    def compile_body(body: str, before: str = "", **options) -> Path:
        source = tmp_path / "prog.c"
        source.write_text(f"{HEADERS}\n{before}\nint main(int argc, char **argv, char **envp) {{ {body} }}\n")
        return toolchain.compile_c(source, **options)

    return compile_body


# --- endings


def test_exit_status(build) -> None:
    ending = Box().run(build("return 7;"))
    assert (ending.kind, ending.status, ending.signal) == ("exited", 7, None)


def test_killed_by_a_signal_and_its_report(build) -> None:
    box = Box()
    ending = box.run(build("*(volatile int *)0x1234 = 5; return 0;"))
    assert (ending.kind, ending.status, ending.signal) == ("signalled", None, 11)
    (crash,) = box.kernel.crashes
    assert (crash.signal, crash.code, crash.address) == (11, 1, 0x1234)
    assert crash.code_bytes and any(
        area.start <= crash.registers[8] < area.end and "x" in area.perms for area in crash.areas
    )
    assert any(area.name == "[stack]" for area in crash.areas)


def test_a_jump_into_nowhere_has_no_code_bytes(build) -> None:
    box = Box()
    box.run(build("((void (*)(void))0x100)(); return 0;"))
    assert box.kernel.crashes[0].code_bytes == b""
    assert box.kernel.crashes[0].registers[8] == 0x100


def test_deadlock_says_what_each_waits_for(build) -> None:
    box = Box()
    ending = box.run(
        build(
            "int f[2]; char c; pipe(f); if (!fork()) { static int w; syscall(SYS_futex, &w, 0, 0, NULL); } "
            "read(f[0], &c, 1); return 0;"
        )
    )
    assert ending.kind == "deadlock"
    text = "\n".join(ending.detail)
    assert "[2] in read waits for pipe" in text
    assert "[3] in futex waits for futex 0x" in text


def test_time_limit(build) -> None:
    ending = Box(time_limit=0.3).run(build("for (;;); return 0;"))
    assert ending.kind == "time_limit"


def test_time_limit_in_system_calls(build) -> None:
    ending = Box(time_limit=0.3).run(build("for (;;) getppid(); return 0;"))
    assert ending.kind == "time_limit"


def test_an_hour_passes_at_once(build) -> None:
    box = Box()
    ending = box.run(build("struct timespec t = { 3600, 0 }; return nanosleep(&t, NULL);"))
    assert ending.status == 0
    assert 3600 * 10**9 <= box.kernel.clock.now < 3601 * 10**9


def test_background_processes_finish(build) -> None:
    box = Box()
    ending = box.run(build('if (!fork()) { sleep(100); write(1, "late\\n", 5); } return 3;'))
    assert (ending.kind, ending.status, box.out) == ("exited", 3, "late\n")
    assert [(record.pid, record.status) for record in box.kernel.task_records()] == [(2, 3), (3, 3)]


def test_background_processes_do_not_run_for_ever(build) -> None:
    box = Box()
    box.kernel.linger_ns = 50_000_000
    ending = box.run(build("if (!fork()) for (;;); return 3;"))
    assert (ending.kind, ending.status) == ("exited", 3)


@pytest.mark.parametrize(
    "what",
    [
        "for (;;) sleep(1);",
        "struct itimerval t = { { 0, 10000 }, { 0, 10000 } }; signal(SIGALRM, SIG_IGN);"
        " setitimer(ITIMER_REAL, &t, NULL); for (;;) pause();",
    ],
    ids=["sleeps", "ignores its timer"],
)
def test_background_processes_do_not_sleep_for_ever(build, what: str) -> None:
    ending = Box(time_limit=20).run(build(f"if (!fork()) {{ {what} }} return 3;"))
    assert (ending.kind, ending.status) == ("exited", 3)


def test_a_background_process_may_sleep_often(build) -> None:
    box = Box()
    loop = 'if (!fork()) { for (int k = 0; k < 5000; k++) usleep(100000); write(1, "late\\n", 5); } return 3;'
    ending = box.run(build(loop))
    assert (ending.kind, box.out) == ("exited", "late\n")


def test_a_request_to_stop_ends_the_run(build) -> None:
    box = Box(tick_hook=lambda: setattr(box.kernel, "stop_requested", "interrupted"))
    assert box.run(build("for (;;); return 0;")).kind == "interrupted"


def test_not_an_executable() -> None:
    box = Box()
    ending = box.run(b"what is this")
    assert (ending.kind, ending.status) == ("exited", 126)
    assert "ENOEXEC" in ending.detail[0]


# --- what is counted


def test_unknown_system_calls_are_counted(build) -> None:
    box = Box()
    ending = box.run(
        build(
            "return syscall(999) != -1 || errno != ENOSYS || syscall(26) != -1 || syscall(999) != -1 || errno != "
            "ENOSYS;"
        )
    )
    assert ending.status == 0
    assert box.kernel.unknown_syscalls == {999: 2, 26: 1}


def test_zombies_keep_their_stack(build) -> None:
    """A zombie holds its task_struct and its two stack frames until it is waited for; nothing else."""
    seen = []

    def look() -> None:
        objects = box.kernel.objects
        seen.append((objects.task_struct.objects, box.mem.mm_cache.objects, objects.files.objects))

    box = Box(tick_hook=look)
    box.run(
        build(
            "if (!fork()) return 0; for (volatile int i = 0; i < 20000000; i++); wait(NULL); for (volatile int i = "
            "0; i < 20000000; i++); return 0;"
        )
    )
    assert (2, 1, 1) in seen
    assert seen[-1] == (1, 1, 1)


def test_cpu_time_is_accounted(build) -> None:
    box = Box()
    box.run(
        build("""
        struct rusage u; for (volatile int i = 0; i < 5000000; i++); getrusage(RUSAGE_SELF, &u);
        long user = u.ru_utime.tv_sec * 1000000 + u.ru_utime.tv_usec;
        for (int i = 0; i < 50000; i++) getppid();
        getrusage(RUSAGE_SELF, &u);
        long more = u.ru_stime.tv_sec * 1000000 + u.ru_stime.tv_usec;
        printf("%d %d\\n", user > 10000, more >= 20000); return 0;""")
    )
    assert box.out == "1 1\n"


# --- exec


def test_auxiliary_vector(build) -> None:
    box = Box()
    ending = box.run(
        build("""
        char **p = envp; while (*p) p++;
        unsigned *aux = (unsigned *)(p + 1), have = 0;
        for (; aux[0]; aux += 2) {
            if (aux[0] < 32) have |= 1u << aux[0];
            if (aux[0] == 6 && aux[1] != 4096) return 1;
            if (aux[0] == 15 && strcmp((char *)aux[1], "i686")) return 2;
            if (aux[0] == 31 && strcmp((char *)aux[1], argv[0])) return 3;
            if (aux[0] == 3 && *(unsigned *)(aux[1] - 52) != 0x464c457f) return 4;
            if (aux[0] == 17 && aux[1] != 100) return 5;
        }
        unsigned need = 1u << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 11 | 1 << 12 | 1 << 13
            | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 17 | 1 << 23 | 1 << 25 | 1u << 31;
        return (have & need) == need ? ((unsigned)&argc & 15) < 16 ? 0 : 6 : 7;""")
    )
    assert ending.status == 0


def test_seed_moves_the_stack_and_repeats(build) -> None:
    image = build('printf("%p\\n", (void *)argv); return 0;')
    places = []
    for seed in (None, 1, 1, 2):
        box = Box(seed=seed)
        box.run(image)
        places.append(box.out)
    assert places[1] == places[2]
    assert len(set(places)) == 3


def test_executable_stack_follows_the_header(build) -> None:
    body = (
        'static char line[200]; int f = open("/proc/self/maps", 0); char b[4000]; b[read(f, b, 3999)] = 0; char '
        '*s = strstr(b, "[stack]"); while (*s != 10 && s > b) s--; printf("%.4s\\n", strchr(s, 32) + 1); return 0;'
    )
    box = Box()
    box.run(build(body))
    assert box.out == "rw-p\n"


# --- failing allocations


FORK_AND_TELL = """
    int s; char *p = mmap(NULL, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); memset(p, 1, 1 << 20);
    write(1, "go\\n", 3);
    pid_t child = fork();
    if (child < 0) { write(1, errno == ENOMEM ? "ENOMEM\\n" : "other\\n", errno == ENOMEM ? 7 : 6); return 0; }
    if (!child) { p[5] = 2; _exit(p[5] + p[6]); }
    waitpid(child, &s, 0);
    write(1, "forked\\n", 7);
    return WEXITSTATUS(s) != 3 || p[5] != 1;"""


def test_fork_fails_at_every_allocation_and_leaves_nothing(build, monkeypatch: pytest.MonkeyPatch) -> None:
    image = build(FORK_AND_TELL)
    from sandbox.kernel import fork as fork_module

    real_copy = fork_module.copy_process
    results = []
    for n in range(1, 91):
        box = Box()

        def copy_process(*args, n=n, box=box):
            with Failing(box.mem.pages, n):
                return real_copy(*args)

        monkeypatch.setattr(fork_module, "copy_process", copy_process)
        ending = box.run(image)
        assert ending.status == 0, n
        results.append(box.out)
        assert (
            box.kernel.objects.task_struct.objects
            == box.kernel.objects.sighand.objects
            == box.kernel.objects.fs.objects
            == 0
        )
        assert box.mem.vma_cache.objects == box.mem.mm_cache.objects == 0
        if box.out == "go\nforked\n":
            break
    assert results[-1] == "go\nforked\n"
    assert len(results) > 10
    assert set(results[:-1]) == {"go\nENOMEM\n"}


def test_registers_and_memory_survive_swapping(build) -> None:
    """Faults, system call arguments, signal frames and exec strings that have to wait for the swap device."""
    body = """
        static char *p; size_t n = 24 << 20; int f[2], s, bad = 0;
        p = mmap(NULL, n, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (size_t i = 0; i < n; i += 4096) *(unsigned *)(p + i) = i ^ 0xabcd;
        pipe(f);
        signal(SIGUSR1, note);
        for (size_t i = 0; i < n; i += 65536) {
            unsigned back;
            write(f[1], p + i, 4);
            read(f[0], p + ((i + n / 2) % n) + 8, 4);
            if (*(unsigned *)(p + ((i + n / 2) % n) + 8) != (i ^ 0xabcd)) bad++;
            raise(SIGUSR1);
            if (!(i & 0xfffff)) { pid_t c = fork(); if (!c) _exit(*(unsigned *)(p + i) != (i ^ 0xabcd)); waitpid(c,
                &s, 0); if (s) bad++; }
        }
        for (size_t i = 0; i < n; i += 4096) if (*(unsigned *)(p + i) != (i ^ 0xabcd)) bad++;
        printf("bad %d signals %d\\n", bad, got); return 0;"""
    box = Box(memory=16 << 20, swap=64 << 20, time_limit=100)
    ending = box.run(build(body, "static volatile int got; static void note(int n) { got++; }"))
    assert ending.kind == "exited", ending
    assert box.out == "bad 0 signals 384\n"
    assert box.mem.vmstat.pswpin > 100 and box.mem.vmstat.pswpout > 1000
