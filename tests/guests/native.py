"""Run an i386 program on the host itself: what native Linux does is what the sandbox must do.

`setarch -R -3` gives it the sandbox's address space: no randomisation, 3 GB, the stack ending at 0xc0000000.
"""

from __future__ import annotations

import functools
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

ENVIRONMENT = {"PATH": "/bin:/usr/bin", "TZ": "UTC", "LC_ALL": "C"}
STACK = 8 << 20  # decides how far below the stack mmap starts
FILE_SIZE = 256 << 20


class NativeResult(NamedTuple):
    """`status` is a shell's: the exit status, or 128 + the number of the signal."""

    stdout: bytes
    stderr: bytes
    status: int


def _limits(seconds: float) -> None:
    for what, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_CPU, int(seconds) + 1),
        (resource.RLIMIT_STACK, STACK),
    ):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def run_native(
    program: str | Path,
    arguments: Sequence[str] = (),
    *,
    stdin: bytes = b"",
    timeout: float = 20.0,
    environment: dict[str, str] | None = None,
    cwd: str | Path | None = None,
) -> NativeResult:
    """Run `program` with `arguments`; it and all its children are killed after `timeout` seconds of wall time.

    Raises TimeoutError. Only `environment` (or ENVIRONMENT) is inherited.
    """
    command = ["setarch", "-R", "-3", os.fspath(program), *arguments]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=ENVIRONMENT if environment is None else environment,
        start_new_session=True,
        preexec_fn=lambda: _limits(timeout),
    )
    try:
        stdout, stderr = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise TimeoutError(f"{Path(program).name} {' '.join(arguments)}: still running after {timeout} s") from None
    status = process.returncode
    return NativeResult(stdout, stderr, status if status >= 0 else 128 - status)


def native_agrees(run: Callable[[], NativeResult], stdout: bytes, tries: int = 3) -> NativeResult:
    """The native run that printed `stdout`, or the last of `tries`.

    Programs whose processes take turns by sleeping can be overtaken on a loaded host; the sandbox's own run, on virtual
    time, gets one try.
    """
    result = run()
    for _ in range(tries - 1):
        if result.stdout == stdout:
            break
        result = run()
    return result


@functools.cache
def why_not_native() -> str:
    """Empty when the host runs i386 programs under setarch, else the reason, for pytest.skip."""
    from sandbox import toolchain

    if not shutil.which("setarch"):
        return "no setarch on this host (util-linux)"
    try:
        result = run_native(toolchain.program_path("hello"))
    except toolchain.CompileError as error:
        return f"no i386 program to try: {error}"
    except (OSError, TimeoutError) as error:
        return f"this host does not run i386 programs: {error}"
    return (
        ""
        if result.status == 0
        else f"this host does not run i386 programs: {result.stderr.decode(errors='replace').strip()}"
    )
