"""Functions in processes of their own, each with a deadline of processor time: a busy machine makes nothing late.

What counts is the time of the process and of those it started. One that neither computes nor is waiting for a processor
(a lock never released, a sleep) would never use up its time, so the wall time it idles is counted too, by itself.
Linux: fields of /proc/PID/stat as in proc(5).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sandbox.lab.child import die_with

if TYPE_CHECKING:
    from collections.abc import Generator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_POLL = 0.25  # wall seconds between looks at running processes
_TICK = os.sysconf("SC_CLK_TCK")


class Late(NamedTuple):
    """A function did not end within `seconds` of processor time, or `idle`: of doing nothing."""

    seconds: float
    idle: bool = False

    def __str__(self) -> str:
        return f"{self.seconds:g} s of " + ("waiting for nothing that runs" if self.idle else "processor time")


def family(pid: int) -> list[int]:
    """The process and all it started that are alive, itself first."""
    pids = [pid]
    for parent in pids:  # grows while it is gone through
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
    return pids


def usage(pid: int) -> tuple[float, bool]:
    """(processor seconds of the process and all it started, is one of them running or waiting for a processor?)."""
    ticks, runs = 0, False
    for member in family(pid):
        with suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # utime, stime, and those of children it has waited for
            runs = runs or fields[0] in ("R", "D")
    return ticks / _TICK, runs


class _Child:
    """One process and what it has used."""

    def __init__(self, position: int, seconds: float, process: BaseProcess) -> None:
        assert process.pid is not None, "it has not begun"
        self.position, self.seconds, self.process, self.pid = position, seconds, process, process.pid
        self.used = self.idle = 0.0

    def late(self, passed: float) -> Late | None:
        """Looks again, `passed` wall seconds later. A look that comes late itself (the suite was stopped) counts as
        one of usual length."""
        used, runs = usage(self.pid)
        self.idle = 0.0 if runs or used > self.used else self.idle + min(passed, 2 * _POLL)
        self.used = max(used, self.used)
        if self.used >= self.seconds:
            return Late(self.seconds)
        return Late(self.seconds, True) if self.idle >= self.seconds else None

    def kill(self) -> None:
        for pid in family(self.pid):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.process.join()


def _child(pipe: Connection, fn: Callable[[], Any], parent: int, failed: Callable[[BaseException], Any]) -> None:
    """The function's process: nothing it prints reaches the table, it does not outlive the suite, and it leaves Ctrl-C
    to it."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    answer: Any
    try:
        answer = fn()
    except BaseException as error:
        answer = failed(error)
    pipe.send(answer)
    pipe.close()


def in_processes(
    todo: Sequence[tuple[Callable[[], Any], float]], failed: Callable[[BaseException], Any] = repr
) -> Generator[tuple[int, Any], None, None]:
    """(position, answer) of each (function, processor seconds it may use) as it ends, as many at a time as there are
    processors.

    The answer is `Late` when it did not end in time, None when its process died, `failed(error)` when it raised.
    """
    context = multiprocessing.get_context("fork")
    running: dict[Connection, _Child] = {}
    waiting = list(enumerate(todo))
    looked = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < max(1, os.cpu_count() or 1):
                position, (fn, seconds) = waiting.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(theirs, fn, os.getpid(), failed), daemon=True)
                process.start()
                theirs.close()
                running[ours] = _Child(position, seconds, process)
            for ready in cast("list[Connection]", wait(list(running), _POLL)):
                job = running.pop(ready)
                try:
                    answer = ready.recv()
                except EOFError:
                    answer = None
                job.process.join()
                yield job.position, answer
            now = time.monotonic()
            if now - looked < _POLL:
                continue
            for ours, job in list(running.items()):
                late = job.late(now - looked)
                if late is not None and not ours.poll():
                    del running[ours]
                    job.kill()
                    yield job.position, late
            looked = now
    finally:
        for job in running.values():
            job.kill()
