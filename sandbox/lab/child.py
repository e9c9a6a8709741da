"""One run in a process of its own: `rmapbox compare` starts one per scheme.

    parent ── ChildJob, pickled ──> standard input
    parent <── messages, each 8 bytes of length and a pickled tuple ── standard output
               ("status", line)   how far it is, a few times a second, when asked
               ("result", Result)  or  ("error", kind, text, details)   the last one

It ends when its parent does, and leaves Ctrl-C to it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import signal
import struct
import sys
import traceback
from typing import IO, Any, NamedTuple, cast

from sandbox.config import Config

LENGTH = struct.Struct("<Q")
_PR_SET_PDEATHSIG = 1
_KNOWN = ("ConfigError", "PluginError", "InvariantViolation", "MemoryError")
"""Errors that the command tells in its own way; any other is an internal one."""


class ChildJob(NamedTuple):
    """What to run, for `parent` (its pid); `report`: send status lines."""

    config: Config
    argv: list[str]
    hash_memory: bool
    report: bool
    parent: int


class _StatusStream:
    """Stands for the terminal of `Machine.run(status=...)`: its lines go to the parent."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, text: str) -> None:
        line = text.replace("\r", "").replace("\x1b[K", "").strip()
        if line:
            send(self._fd, ("status", line))

    def flush(self) -> None:
        pass


def send(fd: int, message: tuple[Any, ...]) -> None:
    """One message, whole."""
    data = pickle.dumps(message)
    view = memoryview(LENGTH.pack(len(data)) + data)
    while view:
        view = view[os.write(fd, view) :]


def die_with(parent: int) -> None:
    """The kernel kills this process when `parent`, which started it, ends in any way."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the line above
        os._exit(1)


def _run(job: ChildJob, out: int) -> tuple[Any, ...]:
    try:
        from sandbox.machine import Machine

        status = cast(IO[str], _StatusStream(out)) if job.report else None
        return "result", Machine(job.config).run(job.argv, capture=True, status=status, hash_memory=job.hash_memory)
    except Exception as error:
        from sandbox.hostlimits import shortage

        lacking = shortage(error)
        if lacking is not None:
            return "error", "ConfigError", lacking, ""
        kind = next((base.__name__ for base in type(error).__mro__ if base.__name__ in _KNOWN), type(error).__name__)
        text = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.filename:
            kind, text = "ConfigError", f"{error.filename}: {(error.strerror or str(error)).lower()}"
        return "error", kind, text, "".join(traceback.format_exception(error))


def main() -> None:
    """The whole of the process. Standard output is the parent's alone: whatever else writes there is lost."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.set_threshold(100_000, 50, 100)
    out = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    job: ChildJob = pickle.load(sys.stdin.buffer)
    os.dup2(null, 0)
    os.dup2(null, 1)
    die_with(job.parent)
    send(out, _run(job, out))
