"""Files: what native Linux answers to a program is what is answered here."""

from __future__ import annotations

import functools
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from sandbox.config import Mount
from sandbox.result import Result
from tests.guests.native import run_native, why_not_native

PROGRAMS = Path(__file__).with_name("programs")


def program(name: str) -> Path:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    return toolchain.compile_c(PROGRAMS / f"{name}.c")


def boxed(name: str, *arguments: str, **settings: object) -> Result:
    config = Config(**{"stdin": b"", "time_limit": 60, "audit": "end", **settings})  # type: ignore[arg-type]
    result = Machine(config).run([str(program(name)), *arguments], capture=True)
    assert result.exit_status == 0 and result.audit.violations == 0, result.notes.detail
    return result


def lines(result: Result) -> list[str]:
    return result.stdout.decode().splitlines()


def native(name: str, *arguments: str, root: bool = False, cwd: Path | None = None) -> list[str]:
    reason = why_not_native() or ("natively it asks what root may do" if root and os.geteuid() else "")
    if reason:
        pytest.skip(reason)
    return run_native(program(name), arguments, cwd=cwd).stdout.decode().splitlines()


def test_a_running_program_is_not_written(tmp_path: Path) -> None:
    result = boxed("etxtbsy")
    assert lines(result) == [
        "exec while open for writing: Text file busy",
        "open running for writing: Text file busy",
        "open running truncating: Text file busy",
        "truncate running: Text file busy",
        "creat running: Text file busy",
        "after: ok",
    ]
    assert lines(result) == native("etxtbsy", cwd=tmp_path)


def test_privileges_holes_fifos_links_pipes(shared: Path) -> None:
    """Who writes keeps or loses set-user-ID; SEEK_DATA; mkfifo; the size of descriptor links; F_SETPIPE_SZ."""
    result = boxed("filemisc", "/tmp")
    assert lines(result) == native("filemisc", str(shared), root=True)


def test_what_fallocate_reserved_is_no_data_yet() -> None:
    assert lines(boxed("reserved")) == native("reserved")


def test_a_fifo_in_a_writable_mount(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    result = boxed("filemisc", "/m", mounts=(Mount(str(tmp_path), "/m", "rw"),))
    said = lines(result)
    at = said.index("mkfifo ok")
    assert said[at : at + 3] == ["mkfifo ok", "again File exists", "mode 10640 size 0"]
    assert said[at + 4 : at + 7] == ["read 7 through", "mode 10600", "listed 1, rename ok, unlink ok"]
    assert not any(stat.S_ISFIFO(path.lstat().st_mode) for path in tmp_path.iterdir())


def test_times_of_64_bits(shared: Path) -> None:
    assert (
        lines(boxed("time64"))
        == ["0 atime 4294967296.5 mtime 4294967303", "0 atime -5 mtime -1"]
        == native("time64", cwd=shared)
    )
    assert lines(boxed("times64", "/tmp")) == native("times64", str(shared))


SET_CLOCK = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static void set(long long seconds)
{
    struct { long long sec; int ns, pad; } to = {seconds, 0, 0}, now;
    struct statx x;
    long r = syscall(SYS_clock_settime64, 0, &to);
    printf("%lld %s", seconds, r ? strerror(errno) : "ok");
    syscall(SYS_clock_gettime64, 0, &now);
    close(open("/tmp/f", O_CREAT | O_WRONLY, 0600));
    syscall(SYS_statx, AT_FDCWD, "/tmp/f", 0, STATX_BASIC_STATS, &x);
    unlink("/tmp/f");
    printf(" %lld %d\n", now.sec, x.stx_mtime.tv_sec - now.sec == 0);
}
int main(void)
{
    int before = -5;
    set(1LL << 31);
    set(1LL << 32);
    set((1LL << 32) + 100);
    set(8277292035LL);
    set(8277292036LL);
    set(1LL << 40);
    set(-1);
    printf("stime %ld %s\n", syscall(SYS_stime, &before), strerror(errno));
    return 0;
}
"""


def test_the_clock_set_beyond_2106(compile_guest: Callable[..., Path]) -> None:
    """Never tried natively: the host's clock is nobody's to set. The limits are Linux's: TIME_SETTOD_SEC_MAX."""
    result = Machine(Config(stdin=b"", time_limit=60)).run([str(compile_guest(SET_CLOCK, "set_clock"))], capture=True)
    refused = [f"{value} Invalid argument 8277292035 1" for value in (8277292036, 1 << 40, -1)]
    assert lines(result) == [
        *(f"{value} ok {value} 1" for value in (1 << 31, 1 << 32, (1 << 32) + 100, 8277292035)),
        *refused,
        "stime -1 Invalid argument",
    ]


NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """What runs inside may do what an ordinary user may."""
    if os.geteuid():
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def others() -> Iterator[Path]:
    """A directory with another user's files, which only root can make."""
    if os.geteuid():
        pytest.skip("only root can make files of another user")
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    for name, mode in (("blind", 0o711), ("unsearchable", 0o744), ("closed", 0o700), ("plain", 0o755), ("w", 0o777)):
        (place / name).mkdir()
        (place / name / "f").write_text("inner")
        (place / name / "sub").mkdir()
        (place / name).chmod(mode)
    for name, mode in (
        ("readable", 0o644),
        ("secret", 0o600),
        ("open", 0o666),
        ("w/secret", 0o600),
        ("w/secret2", 0o600),
        ("w/mine", 0o644),
    ):
        (place / name).write_text(name)
        (place / name).chmod(mode)
    (place / "bin").mkdir()
    (place / "bin").chmod(0o755)
    yield place
    shutil.rmtree(place)


def natively(file: Path, *arguments: str) -> list[str]:
    if why_not_native():
        pytest.skip(why_not_native())
    done = subprocess.run(
        [str(file), *arguments],
        capture_output=True,
        check=False,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        timeout=20,
    )
    return done.stdout.decode().splitlines()


@functools.cache
def everything_loaded() -> None:
    """The user nobody may be unable to reach this checkout: what a run imports is imported before."""
    Machine(Config(stdin=b"", time_limit=60, audit="end")).run([str(program("denied")), "/"], capture=True)


def in_mount(file: Path, mount: Mount, *arguments: str) -> list[str]:
    settings = Config(stdin=b"", time_limit=60, audit="end", mounts=(mount,))
    everything_loaded()
    with unprivileged():
        return lines(Machine(settings).run([str(file), *arguments], capture=True))


def test_what_the_host_refuses(others: Path) -> None:
    """A directory that the host's user may not read, a file that he may not write: EACCES when it is opened, as
    natively."""
    tried = Path(shutil.copy(program("denied"), others / "bin" / "denied"))
    here = in_mount(tried, Mount(str(others), "/m", "rw"), "/m")
    for name, mode in (("w/secret", 0o600), ("w/secret2", 0o600), ("w/mine", 0o644)):
        (others / name).write_text(name)
        (others / name).chmod(mode)
    assert here == natively(tried, str(others))


def test_an_unreadable_directory(others: Path) -> None:
    tried = Path(shutil.copy(program("unreadable_dir"), others / "bin" / "unreadable_dir"))
    for name in ("blind", "closed", "unsearchable", "plain"):
        assert in_mount(tried, Mount(str(others), "/m"), f"/m/{name}") == natively(tried, str(others / name))
