"""The live status line: one line on the terminal, rewritten a few times a second while the guest runs.

It reads counters that the machine keeps anyway, from a thread of its own, and so changes nothing the guest or the event
hash can see. Whatever the guest writes to a terminal goes through `StatusLine.around`, which takes the line off first;
while the guest's last line is unfinished (a prompt), the status line stays away, for it would overwrite it.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from typing import IO, NamedTuple

INTERVAL = 0.25
"""Seconds between two lines: often enough to be alive, rare enough to cost nothing."""


def can_rewrite(stream: IO[str]) -> bool:
    """Is the stream a terminal that can go back over its line?"""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")


class Sample(NamedTuple):
    """What the line shows: virtual ns, live tasks, faults so far, free low memory and used swap in bytes."""

    virtual_ns: int
    tasks: int
    faults: int
    free: int
    swap_used: int


def status_line(sample: Sample, faults_per_second: float) -> str:
    """The text of one line."""
    return (
        f"{sample.virtual_ns / 1e9:9.3f} s virtual  {sample.tasks} tasks  {faults_per_second:8.0f} faults/s  "
        f"{sample.free >> 10} kB free  {sample.swap_used >> 10} kB swapped"
    )


class StatusLine:
    """Draws `sample()` on `stream` (a terminal) until `stop`; a context manager."""

    def __init__(self, sample: Callable[[], Sample], stream: IO[str]) -> None:
        self._sample = sample
        self._stream = stream
        self._lock = threading.RLock()
        self._shown = False
        self._line_start = True
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def __enter__(self) -> StatusLine:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._done.set()
        self._thread.join()
        with self._lock:
            self._erase()

    def around(self, write: Callable[[bytes], None], data: bytes) -> None:
        """Takes the line off the terminal and calls `write(data)`; a later tick draws it again."""
        with self._lock:
            self._erase()
            write(data)
            self._line_start = data.endswith(b"\n")

    def _erase(self) -> None:
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False

    def _run(self) -> None:
        faults, before = 0, time.monotonic()
        while not self._done.wait(INTERVAL):
            seconds = -before + (before := time.monotonic())
            faults = self._draw(seconds, faults)

    def _draw(self, seconds: float, faults_before: int = 0) -> int:
        """Draws one line for the last `seconds`; the faults so far."""
        sample = self._sample()
        text = status_line(sample, (sample.faults - faults_before) / seconds)
        width = shutil.get_terminal_size().columns - 1
        with self._lock:
            if self._line_start:
                self._stream.write("\r\x1b[K" + text[:width])
                self._stream.flush()
                self._shown = True
        return sample.faults
