"""Abuse: schemes that lie, programs that eat everything, streams that are closed. One clear line, the right status,
never a traceback, never a hang."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import toolchain
from tests.cli.conftest import COMMAND, ROOT

SCHEMES = """
from rmap_plugins.anon_vma import AnonVma


class Raises(AnonVma):
    def walk(self, walk):
        raise RuntimeError("first line\\nsecond line")


class RaisesLater(AnonVma):
    calls = 0

    def add_anon(self, pfn, vma, address, pte, exclusive, token):
        self.calls += 1
        if self.calls > 20:
            raise ZeroDivisionError
        return super().add_anon(pfn, vma, address, pte, exclusive, token)


class NeverBuilt(AnonVma):
    def __init__(self, env, options):
        raise ValueError("no")


class Leaves(AnonVma):
    def walk(self, walk):
        raise SystemExit(0)


class Nonsense(AnonVma):
    def walk(self, walk):
        walk.visit(None, -5, None, 10**9)


class FreesForeign(AnonVma):
    def released(self, pfn):
        super().released(pfn)
        self.env.slab.kfree(0xC0000010)


class Misses(AnonVma):
    def walk(self, walk):
        pass


class Endless(AnonVma):
    def walk(self, walk):
        while True:
            pass


class Hog(AnonVma):
    def reserve(self, operation, vma, pfns=None):
        cache = self.env.cache("hog", 64)
        while True:
            cache.alloc()


class Leaks(AnonVma):
    def reserve(self, operation, vma, pfns=None):
        self.env.cache("leak", 4000).alloc()
        return super().reserve(operation, vma, pfns)
"""

BOMB = "#include <unistd.h>\nint main(void) { for (;;) fork(); }\n"
RECURSE = "int f(int n) { volatile char a[2000]; a[0] = n; return f(n + 1) + a[0]; }\nint main(void) { return f(0); }\n"
EAT = """#include <sys/mman.h>
#include <stdio.h>
int main(void)
{
    for (int i = 0;; i++) {
        char *p = mmap(0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return 3;
        for (int k = 0; k < 1 << 20; k += 4096)
            p[k] = 1;
    }
}
"""
AREAS = """#include <sys/mman.h>
#include <stdio.h>
#include <errno.h>
int main(void)
{
    int i, n = 0;
    char *b = mmap(0, 480 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (i = 0; i < 60000 && !mprotect(b + i * 8192, 4096, 3); i++)
        ;
    printf("%d %d\\n", i, errno);
    for (int k = 0; k < i; k += 1000)
        b[k * 8192] = k / 1000;
    for (int k = 0; k < i; k += 1000)
        n += b[k * 8192] == (char)(k / 1000);
    printf("%d\\n", n);
    return munmap(b, 480 << 20);
}
"""
DEADLOCK = """#include <unistd.h>
#include <sys/wait.h>
int main(void)
{
    int p[2], q[2];
    char c;
    pipe(p), pipe(q);
    if (!fork()) {
        read(p[0], &c, 1);
        write(q[1], "x", 1);
        _exit(0);
    }
    read(q[0], &c, 1);
    write(p[1], "x", 1);
    return wait(0) < 0;
}
"""
YES = '#include <stdio.h>\nint main(void) { for (;;) puts("y"); }\n'
COUNT = (
    "#include <stdio.h>\n#include <string.h>\nint main(int c, char **v) { unsigned n = 0; for (int i = 1; i < c; "
    'i++) n += strlen(v[i]); printf("%d %u\\n", c, n); return 0; }\n'
)
CAT = (
    "#include <unistd.h>\nint main(void) { char b[99]; int n; while ((n = read(0, b, 99)) > 0) write(1, b, n); "
    "return n < 0 ? 9 : 0; }\n"
)

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def rmapbox(tmp_path: Path) -> Run:
    """rmapbox(*words, **options of subprocess.run): the command, which must end in time and without a traceback."""

    def call(*words: object, timeout: float = 90, **options: object) -> subprocess.CompletedProcess[bytes]:
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        done = subprocess.run(
            [*COMMAND, "run", *map(str, words)],
            cwd=tmp_path,
            timeout=timeout,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
            **options,
        )  # type: ignore[call-overload]
        assert b"Traceback" not in (done.stderr or b""), done.stderr
        return done

    return call


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str], Path]:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")

    def write(text: str) -> Path:
        path = tmp_path / "prog.c"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def schemes(tmp_path: Path) -> Path:
    path = tmp_path / "schemes.py"
    path.write_text(SCHEMES)
    return path


def one_line(done: subprocess.CompletedProcess[bytes]) -> str:
    """The only line on stderr of a command that failed by its own fault or the user's."""
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("rmapbox: "), done
    return lines[0]


STORM = ("--quiet", "--memory", "6M", "swap_storm", "6", "1")


@pytest.mark.parametrize(
    "name, hook, said",
    [
        ("Raises", "walk", "RuntimeError: first line; second line"),
        ("RaisesLater", "add_anon", "ZeroDivisionError"),
        ("NeverBuilt", "__init__", "ValueError: no"),
        ("Leaves", "walk", "SystemExit: 0"),
        ("Nonsense", "walk", "IndexError"),
        ("FreesForeign", "released", "which kmalloc did not hand out"),
    ],
)
def test_a_scheme_that_fails_is_told_with_its_line(
    rmapbox: Run, schemes: Path, name: str, hook: str, said: str
) -> None:
    line = one_line(rmapbox("--rmap", f"{schemes}:{name}", *STORM))
    assert f"{name}' failed in {hook} (schemes.py, line " in line and said in line


def test_a_scheme_that_lies_is_found_out(rmapbox: Run, schemes: Path) -> None:
    assert "walk of the scheme is wrong" in one_line(
        rmapbox("--rmap", f"{schemes}:Misses", "--audit", "full", "--quiet", "fork_cow")
    )


@pytest.mark.parametrize("name", ["Hog", "Leaks"])
def test_a_scheme_that_eats_memory_does_not_hang(rmapbox: Run, schemes: Path, name: str) -> None:
    done = rmapbox("--rmap", f"{schemes}:{name}", "--memory", "6M", "--time-limit", "60", "swap_storm", "6", "1")
    assert done.returncode != 0
    assert any(word in done.stderr for word in (b"hung: no progress", b"oom", b"killed by")), done.stderr


def test_the_time_limit_ends_a_scheme_that_never_does(rmapbox: Run, schemes: Path) -> None:
    start = time.monotonic()
    done = rmapbox(
        "--rmap", f"{schemes}:Endless", "--time-limit", "1", "--audit", "end", "--memory", "6M", "swap_storm", "6", "1"
    )
    assert done.returncode == 124 and b"time limit" in done.stderr
    assert time.monotonic() - start < 30


def test_a_fork_bomb_is_contained(rmapbox: Run, source: Callable[[str], Path]) -> None:
    done = rmapbox("--memory", "8M", "--swap", "8M", "--time-limit", "4", source(BOMB))
    assert done.returncode in (124, 137), done.stderr


def test_endless_recursion_is_a_crash_report(rmapbox: Run, source: Callable[[str], Path]) -> None:
    done = rmapbox(source(RECURSE))
    assert done.returncode == 139 and b"killed by SIGSEGV" in done.stderr and b"[stack]" in done.stderr


@pytest.mark.parametrize("scheme", ["anon_vma", "pte_chain"])
def test_no_memory_and_no_swap_is_an_oom_kill(rmapbox: Run, source: Callable[[str], Path], scheme: str) -> None:
    done = rmapbox("--memory", "12M", "--swap", "0", "--rmap", scheme, "--audit", "end", source(EAT))
    assert done.returncode == 137 and b"Out of Memory: Killed process" in done.stderr


def test_more_areas_than_there_may_be(rmapbox: Run, source: Callable[[str], Path]) -> None:
    """60,000 changes of protection make two areas each; at 65,536 areas mprotect answers ENOMEM, as natively."""
    done = rmapbox("--audit", "end", source(AREAS))
    split, error, right = done.stdout.split()
    assert done.returncode == 0, done.stderr
    assert 32700 < int(split) < 32768 and int(error) == 12 and int(right) == -(-int(split) // 1000)


def test_a_deadlock_is_told_at_once(rmapbox: Run, source: Callable[[str], Path]) -> None:
    done = rmapbox(source(DEADLOCK))
    assert done.returncode == 1 and b"no task can ever run again" in done.stderr and done.stderr.count(b"pipe:[") >= 2


def test_the_reader_of_the_output_goes(source: Callable[[str], Path], tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", "--quiet", str(source(YES))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )
    try:
        assert process.stdout and process.stdout.read(4) == b"y\ny\n"
        process.stdout.close()
        assert process.stderr and process.stderr.read() == b""
        assert process.wait(60) == 128 + signal.SIGPIPE
    finally:
        process.kill()


@pytest.mark.parametrize("fd", [0, 1, 2])
def test_closed_streams(rmapbox: Run, source: Callable[[str], Path], fd: int) -> None:
    done = rmapbox("--quiet", source(CAT), stdin=None, stdout=None, stderr=None, preexec_fn=lambda: os.close(fd))
    assert done.returncode in ((0, 9) if fd == 0 else (0,))


def test_full_output_and_full_result(rmapbox: Run) -> None:
    with open("/dev/full", "wb") as full:
        assert rmapbox("--quiet", "hello", stdout=full).returncode in (0, 1)
    done = rmapbox("--quiet", "--json", "/dev/full", "hello")
    assert done.stdout == b"hello, world\n" and "--json /dev/full: no space left" in one_line(done)


def test_huge_arguments(rmapbox: Run, source: Callable[[str], Path]) -> None:
    program = source(COUNT)
    word = "x" * 120_000
    assert rmapbox("--quiet", program, word, word, word).stdout == b"4 360000\n"
    assert rmapbox("--quiet", "--memory", "5M", program, *["y"] * 20_000).stdout == b"20001 20000\n"


@pytest.mark.parametrize("kind", ["fifo", "device", "directory"])
def test_programs_that_are_no_files(rmapbox: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    assert str(path) in one_line(rmapbox(path, timeout=20))
    if kind == "device":
        assert "is a device" in one_line(rmapbox("--stdin", path, "hello", timeout=20))


def test_a_mount_over_the_programs_place_keeps_the_host_as_it_is(rmapbox: Run, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hello").write_text("the host's own")
    for guest in ("/bin", "/bin/", "//bin", "/bin/hello"):
        host = tmp_path / "bin" / ("hello" if guest.endswith("hello") else "")
        done = rmapbox("--quiet", "--mount", f"{host}:{guest}:rw", "hello")
        assert (done.returncode, done.stdout) == (0, b"hello, world\n"), done.stderr
    assert (tmp_path / "bin" / "hello").read_text() == "the host's own" and os.listdir(tmp_path / "bin") == ["hello"]


@pytest.mark.parametrize("delay", [0.03, 0.08, 0.15, 0.25, 0.5, 1.0])
def test_ctrl_c_at_any_time(tmp_path: Path, delay: float) -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", "mmfuzz", "3", "4000"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    # Before the interpreter has come to our first line, the signal is Python's own.
    assert (
        process.returncode in (130, -signal.SIGINT)
        and (delay < 0.2 or b"interrupted" in err)
        and (delay < 0.1 or b"Traceback" not in err)
    ), err
