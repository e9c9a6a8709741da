"""Several runs at a time, each in a process of its own (`sandbox.lab.child`), at most one per processor."""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from typing import Any, NoReturn, Protocol

from mmcore import errors
from mmcore.errors import ConfigError
from sandbox.config import Config
from sandbox.hostsignals import handle_interrupt, restore_interrupt
from sandbox.lab.child import LENGTH, ChildJob
from sandbox.result import Result

_START = "import sys; sys.path[:] = sys.argv[1:]; from sandbox.lab.child import main; main()"


class Watcher(Protocol):
    """Who wants to see how far the runs are."""

    def status(self, label: str, line: str) -> None: ...
    def done(self, label: str) -> None: ...


class _Child:
    """A running process and what it has said so far."""

    def __init__(self, label: str, job: ChildJob) -> None:
        self.label = label
        self.last: tuple[Any, ...] | None = None
        self._read = bytearray()
        self._complaint = tempfile.TemporaryFile()
        path = [entry or os.getcwd() for entry in sys.path]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, *path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaint,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.out = self.process.stdout.fileno()
        try:
            with self.process.stdin as pipe:
                pipe.write(pickle.dumps(job))
        except BrokenPipeError:
            pass  # it is dead already; `result` says so

    def feed(self, watch: Watcher | None) -> bool:
        """Takes what it has written; False at its end."""
        chunk = os.read(self.out, 1 << 20)
        self._read += chunk
        while len(self._read) >= LENGTH.size:
            stop = LENGTH.size + LENGTH.unpack_from(self._read)[0]
            if len(self._read) < stop:
                break
            message = pickle.loads(self._read[LENGTH.size : stop])
            del self._read[:stop]
            if message[0] != "status":
                self.last = message
            elif watch is not None:
                watch.status(self.label, message[1])
        return bool(chunk)

    def result(self) -> Result:
        """After its end. Raises what went wrong in it."""
        status = self.process.wait()
        if self.last is not None and self.last[0] == "result":
            return self.last[1]
        if self.last is not None:
            _raise(self.label, *self.last[1:])
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        self._complaint.seek(0)
        said = self._complaint.read().decode(errors="replace").strip().splitlines()
        raise ConfigError(
            f"the run under {self.label} {how} before it was done{': ' + said[-1] if said else ''}: if this host is "
            f"short of "
            f"memory, give a smaller --memory or --swap, or fewer schemes"
        )

    def close(self) -> None:
        """Ends it, if it has not ended, and forgets it."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._complaint.close()


def _raise(label: str, kind: str, text: str, details: str) -> NoReturn:
    """The error of another process, as this one's."""
    said = text if kind == "PluginError" else f"under {label}: {text}"  # a scheme's own error names it
    if kind == "MemoryError":
        raise MemoryError(said)
    error: Exception = (
        getattr(errors, kind)(said)
        if kind in ("ConfigError", "PluginError", "InvariantViolation")
        else RuntimeError(f"{said} ({kind})")
    )
    error.add_note(details)
    raise error


def run_children(
    jobs: list[tuple[str, Config]], argv: list[str], *, hash_memory: bool = False, watch: Watcher | None = None
) -> list[Result]:
    """The results of `argv` under each (label, configuration), in that order. An error or KeyboardInterrupt ends all of
    them.

    Raises what the first failing run raised, its label in the message; `ConfigError` for one that died without a word.
    """
    workers = len(os.sched_getaffinity(0))
    waiting = deque(enumerate(jobs))
    running: dict[int, tuple[int, _Child]] = {}
    results: dict[int, Result] = {}
    main_thread = threading.current_thread() is threading.main_thread()
    before = handle_interrupt(signal.default_int_handler) if main_thread else None
    try:
        with selectors.DefaultSelector() as selector:
            while waiting or running:
                while waiting and len(running) < workers:
                    number, (label, config) = waiting.popleft()
                    child = _Child(label, ChildJob(config, argv, hash_memory, watch is not None, os.getpid()))
                    running[child.out] = number, child
                    selector.register(child.out, selectors.EVENT_READ)
                for key, _ in selector.select():
                    number, child = running[key.fd]
                    if child.feed(watch):
                        continue
                    selector.unregister(key.fd)
                    results[number] = child.result()
                    del running[key.fd]
                    child.close()
                    if watch is not None:
                        watch.done(child.label)
    finally:
        for _, child in running.values():
            child.close()
        if main_thread:
            restore_interrupt(before)
    return [results[number] for number in range(len(jobs))]
