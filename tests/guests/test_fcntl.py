"""fcntl's owners, hints, leases and notification: native Linux's answers, taken on the spot."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from sandbox.result import Result
from tests.guests.native import native_agrees, run_native, why_not_native

PROGRAMS = Path(__file__).with_name("programs")


def boxed(program: Path, *arguments: str) -> Result:
    result = Machine(Config(stdin=b"", time_limit=60, audit="end")).run([str(program), *arguments], capture=True)
    assert result.exit_status == 0 and result.audit.violations == 0, result.notes.detail
    return result


def program_of(name: str) -> Path:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    return toolchain.compile_c(PROGRAMS / f"{name}.c")


def natively(program: Path, stdout: bytes, cwd: Path, *arguments: str) -> list[str]:
    reason = why_not_native() or ("natively it asks what root may do" if os.geteuid() else "")
    if reason:
        pytest.skip(reason)
    return native_agrees(lambda: run_native(program, arguments, cwd=cwd), stdout).stdout.decode().splitlines()


def test_owners_hints_and_leases_of_one_process(shared: Path) -> None:
    result = boxed(program_of("fcntl_misc"))
    lines = result.stdout.decode().splitlines()
    assert lines[:6] == [
        "F_SETLEASE RDLCK: ok",
        "F_GETLEASE: ok",
        "F_SETLEASE UNLCK: ok",
        "F_GETOWN_EX: ok",
        "F_SETOWN_EX: ok",
        "F_SETOWN: ok",
    ]
    assert "F_NOTIFY: ok" in lines and "get_robust_list of another user: Operation not permitted" in lines
    assert lines == natively(program_of("fcntl_misc"), result.stdout, shared)


def test_owners_leases_notification(shared: Path) -> None:
    """All ways to break a lease, by both kinds of holders, and what a watched directory tells of 32 operations by each
    event."""
    program = program_of("leases")
    result = boxed(program, "/tmp")
    lines = result.stdout.decode().splitlines()
    assert "interrupted: Interrupted system call" in lines
    assert lines == natively(program, result.stdout, shared, str(shared))


FORGOTTEN = r"""
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <sys/wait.h>
static void nothing(int n) { (void)n; }
static void by(const char *what, int flags, int kind)
{
    int fd = open("/tmp/l", O_CREAT | O_RDONLY, 0600);
    fcntl(fd, F_SETLEASE, kind);
    fflush(stdout);
    if (!fork()) {
        close(fd);
        time_t before = time(0);
        int other = open("/tmp/l", flags);
        printf("%s: opened %d after %ld s\n", what, other >= 0, (long)(time(0) - before));
        fflush(stdout);
        _exit(0);
    }
    while (wait(0) < 0)
        ;
    printf("left %d\n", fcntl(fd, F_GETLEASE));
    close(fd);
}
int main(void)
{
    signal(SIGIO, nothing);
    by("write", O_WRONLY, F_RDLCK);
    by("read", O_RDONLY, F_WRLCK);
    by("read beside a reader", O_RDONLY, F_RDLCK);
    return 0;
}
"""


def test_a_lease_that_is_not_given_back(compile_guest: Callable[..., Path]) -> None:
    """Natively it takes 45 s, too: /proc/sys/fs/lease-break-time, which is the host's."""
    lines = boxed(compile_guest(FORGOTTEN, "forgotten")).stdout.decode().splitlines()
    assert lines == [
        "write: opened 1 after 45 s",
        "left 2",
        "read: opened 1 after 45 s",
        "left 0",
        "read beside a reader: opened 1 after 0 s",
        "left 0",
    ]
