"""Programs on real C libraries, natively and here: musl (from ziglang, when it is installed) and Debian's glibc,
static.

Threads, locks, condition variables, cancellation, stdio, malloc, popen and system (the shell is Debian's busybox),
longjmp out of a fault, floating point.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import Config, Machine
from tests.guests.debian import package, system
from tests.guests.native import run_native, why_not_native

SOURCE = Path(__file__).with_name("libc") / "threads.c"


def glibc() -> list[str]:
    """gcc's options for Debian's own i386 glibc, headers and libgcc, unpacked in the cache."""
    root = system("devel-1", "libc6-dev", "libgcc-12-dev", "linux-libc-dev", "libcrypt-dev")
    if isinstance(root, str):
        pytest.skip(root)
    libraries, own = root / "usr/lib/i386-linux-gnu", root / "usr/lib/gcc/i686-linux-gnu/12"
    headers = (own / "include", root / "usr/include", root / "usr/include/i386-linux-gnu")
    return [
        "-nostdinc",
        *(f"-isystem{path}" for path in headers),
        f"-B{libraries}/",
        f"-B{own}/",
        f"-L{libraries}",
        f"-L{own}",
    ]


def compiled(library: str, directory: Path) -> Path:
    """SOURCE as a static i386 program on `library`; skips with the reason."""
    reason = why_not_native()
    if reason:
        pytest.skip(reason)
    program = directory / f"threads-{library}"
    if library == "musl":
        if importlib.util.find_spec("ziglang") is None:
            pytest.skip("no musl: pip install ziglang")
        command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86-linux-musl", "-static", "-fno-sanitize=all"]
    else:
        if not shutil.which("gcc"):
            pytest.skip("no gcc")
        command = ["gcc", "-m32", "-static", "-pthread", *glibc()]
    done = subprocess.run(
        [*command, "-O1", "-w", str(SOURCE), "-o", str(program), "-lm"], capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return program


@pytest.fixture(scope="module", params=["musl", "glibc"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(request.param, tmp_path_factory.mktemp("libc"))


@pytest.mark.parametrize("scheme, paging, memory", [("anon_vma", "pae", "64M"), ("pte_chain", "2level", "7M")])
def test_same_as_natively(program: Path, scheme: str, paging: str, memory: str) -> None:
    wanted = run_native(program, [])
    result = Machine(Config(scheme=scheme, paging=paging, memory=memory, stdin=b"", time_limit=120, audit="end")).run(
        [str(program)], capture=True
    )
    assert result.stdout.decode() == wanted.stdout.decode(), result.notes
    assert (result.exit_status, wanted.status) == (21, 21)
    assert result.audit.violations == 0


def test_popen_and_system(program: Path, tmp_path: Path) -> None:
    """The shell that /bin/sh leads to is another program, executed by the C library's own fork or posix_spawn."""
    shell = package("busybox-static")
    if isinstance(shell, str):
        pytest.skip(shell)
    if not os.path.exists("/bin/sh"):
        pytest.skip("this host has no /bin/sh")
    shutil.copy(shell / "bin" / "busybox", tmp_path / "sh")
    wanted = run_native(program, ["popen"])
    result = Machine(Config(mounts=(f"{tmp_path}:/bin",), stdin=b"", time_limit=120, audit="end")).run(
        [str(program), "popen"], capture=True
    )
    assert result.stdout.decode() == wanted.stdout.decode(), result.notes
    assert "from popen\npclose 3\nsystem 4\n" in result.stdout.decode()
    assert result.audit.violations == 0
