"""Signals of the host: what this process was started with stands."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]
Previous = Handler | int | None  # SIG_DFL and SIG_IGN are ints; None: a handler that is not Python's


def handle_interrupt(handler: Handler) -> Previous:
    """SIGINT goes to `handler`, unless it was ignored at start (nohup, a background job of a script): it stays so.
    Answers what to give back to `restore_interrupt`."""
    before = signal.getsignal(signal.SIGINT)
    if before != signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)
    return before


def restore_interrupt(before: Previous) -> None:
    """`before` is what `handle_interrupt` answered."""
    if before is not None and before != signal.SIG_IGN:
        signal.signal(signal.SIGINT, before)
