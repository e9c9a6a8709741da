"""The system calls swapon and swapoff, by a program in the sandbox (a host keeps its swap)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import toolchain
from tests.sandbox.box import Box

_HEADERS = "\n".join(
    f"#include <{name}.h>"
    for name in (
        "errno",
        "fcntl",
        "signal",
        "stdio",
        "stdlib",
        "string",
        "sys/mman",
        "sys/syscall",
        "sys/wait",
        "unistd",
    )
)
_HELPERS = r"""
static long off(const char *path) { return syscall(SYS_swapoff, path) ? errno : 0; }
static long on(const char *path, int flags) { return syscall(SYS_swapon, path, flags) ? errno : 0; }
static void cat(const char *path, const char *word) {
    static char text[8192]; int fd = open(path, O_RDONLY); int n = 0, k;
    while ((k = read(fd, text + n, sizeof text - 1 - n)) > 0) n += k;
    text[n] = 0; close(fd);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) { *end = 0; if (strstr(line,
        word)) printf("%s\n", line); }
}
"""


@pytest.fixture
def run(tmp_path: Path):
    """C statements of main -> the box that ran them."""
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")

    def compile_and_run(body: str, **options) -> Box:
        source = tmp_path / "prog.c"
        source.write_text(f"{_HEADERS}\n{_HELPERS}\nint main(void) {{ {body} }}\n")
        box = Box(**options)
        ending = box.run(toolchain.compile_c(source))
        assert (ending.kind, ending.status) == ("exited", 0), (ending, box.err)
        assert not box.kernel.unknown_syscalls
        return box

    return compile_and_run


def test_errors(run) -> None:
    box = run(r"""
        char *hole = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(hole + 4096, 4096); memset(hole, 'x', 4096);
        close(open("/tmp/plain", O_CREAT | O_RDWR, 0600));
        printf("%ld %ld %ld %ld\n", off("/dev/none"), off("/tmp"), off("/tmp/plain"), off("/dev/null"));
        printf("%ld %ld %ld\n", off(""), off((char *)16), off(hole + 1));
        printf("%ld %ld %ld %ld %ld\n", on("/dev/hda2", 0), on("/tmp/plain", 0), on("/dev/hda2", 1 << 20), on("/tmp",
            0), on("/dev/none", 0));
        printf("%d ", open("/dev/hda2", O_RDONLY)); printf("%d\n", errno);
        cat("/proc/swaps", "");
        syscall(SYS_setuid32, 77);
        printf("%ld %ld\n", off("/dev/hda2"), on("/dev/hda2", 0));
        return 0;""")
    assert box.out.splitlines() == [
        "2 21 22 22",
        "2 14 14",
        "16 22 22 21 2",
        "-1 6",
        "Filename\t\t\t\tType\t\tSize\tUsed\tPriority",
        f"{'/dev/hda2':<40}partition\t16380\t0\t-1",
        "1 1",
    ]


def test_several_areas(run) -> None:
    """Each is a partition of its own; one goes with what is on it and comes back with the priority asked for."""
    box = run(
        r"""
        enum { PAGES = 2500 };
        unsigned *a = mmap(0, PAGES << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int k = 0; k < PAGES; k++) a[k << 10] = k;
        cat("/proc/swaps", "/dev");
        long first = off("/dev/hda3"), second = off("/dev/hda3");
        printf("%ld %ld %ld\n", first, second, off("/dev/hda5"));
        cat("/proc/swaps", "hda3");
        first = on("/dev/hda3", 0x8000 | 9);
        printf("%ld %ld\n", first, on("/dev/hda3", 0));
        cat("/proc/swaps", "hda3");
        int wrong = 0;
        for (int k = 0; k < PAGES; k++) wrong += a[k << 10] != k;
        printf("%d\n", wrong);
        return 0;""",
        memory=8 << 20,
        swap_areas=((2 << 20, 5), (2 << 20, 5), (16 << 20, None)),
    )
    lines = box.out.splitlines()
    shown = [line.split() for line in lines[:3]]
    assert [(name, size, priority) for name, _, size, _, priority in shown] == [
        ("/dev/hda2", "2044", "5"),
        ("/dev/hda3", "2044", "5"),
        ("/dev/hda4", "16380", "-1"),
    ]
    assert all(int(used) > 1900 for *_, used, _ in shown[:2]) and int(shown[2][3]) > 100
    assert lines[3] == "0 22 2" and lines[4] == "0 16"
    assert lines[5].split()[0] == "/dev/hda3" and lines[5].split()[-1] == "9" and lines[6:] == ["0"]


@pytest.mark.parametrize("scheme", ["anon_vma", "anonmm", "pte_chain"])
def test_off_and_on_under_a_family(run, scheme: str) -> None:
    """Two processes share what is out, one has moved it; others fork and exit while swapoff waits for the disk."""
    box = run(
        r"""
        enum { PAGES = 2200, KEEP = 300 };
        unsigned *a = mmap(0, PAGES << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        unsigned *s = mmap(0, KEEP << 12, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        int f[2]; char c = 0; pipe(f);
        for (int k = 0; k < KEEP; k++) a[k << 10] = k, s[k << 10] = k + 7;
        for (int k = KEEP; k < PAGES; k++) a[k << 10] = k;
        munmap(a + (KEEP << 10), PAGES - KEEP << 12);
        int child = fork();
        if (!child) {
            unsigned *b = mremap(a, KEEP << 12, KEEP << 12, MREMAP_MAYMOVE | MREMAP_FIXED, 0x30000000);
            for (int turn = 0; turn < 3000 && s[0] == 7; turn++) {
                int n = fork();
                if (!n) _exit(b[200 << 10] != 200);
                int status; waitpid(n, &status, 0);
                if (status) _exit(1);
                usleep(5000);
            }
            for (int k = 0; k < KEEP; k++) if (b[k << 10] != k || s[k << 10] != k + (k ? 7 : 8)) _exit(2);
            _exit(0);
        }
        a[5 << 10] = 55;
        printf("%ld\n", off("/dev/hda2"));
        cat("/proc/meminfo", "Swap"); cat("/proc/swaps", "/dev");
        for (int k = 0; k < KEEP; k++) if (a[k << 10] != (k == 5 ? 55 : k) || s[k << 10] != k + 7) return 3;
        s[0]++;
        int status; wait(&status);
        printf("%d\n", status);
        printf("%ld ", off("/dev/hda2")); printf("%ld\n", on("/dev/hda2", 0x8000 | 9));
        cat("/proc/swaps", "/dev"); cat("/proc/meminfo", "SwapTotal");
        return 0;""",
        memory=11 << 20,
        swap=32 << 20,
        scheme=scheme,
    )
    assert box.out.splitlines() == [
        "0",
        "SwapCached:         0 kB",
        "SwapTotal:          0 kB",
        "SwapFree:           0 kB",
        "0",
        "22 0",
        f"{'/dev/hda2':<40}partition\t32764\t0\t9",
        "SwapTotal:      32764 kB",
    ]
    assert box.mem.vmstat.pswpin > 100 and box.kernel.total_forks > 20


def test_the_task_in_swapoff_dies_first(run) -> None:
    """No room for what is out: the killer picks the task that asks for it, larger ones notwithstanding, and swap stays
    in use."""
    box = run(
        r"""
        enum { PAGES = 2600 };
        unsigned *a = mmap(0, PAGES << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        int f[2]; char c; pipe(f);
        int child = fork();
        if (!child) { close(f[1]); read(f[0], &c, 1); _exit(off("/dev/hda2")); }
        for (int k = 0; k < PAGES; k++) a[k << 10] = k;
        write(f[1], "x", 1);
        int status; wait(&status);
        printf("%#x\n", status);
        for (int k = 0; k < PAGES; k++) if (a[k << 10] != k) return 3;
        cat("/proc/meminfo", "SwapTotal");
        return 0;""",
        memory=11 << 20,
        swap=32 << 20,
    )
    assert box.out.splitlines() == ["0x9", "SwapTotal:      32764 kB"]
    assert [kill.pid for kill in box.mem.oom.kills] == [3]
