"""Wait queues: who sleeps for what. The core never sleeps itself; it wakes, and the scheduler above parks and
resumes."""

from __future__ import annotations

from typing import Protocol


class Waiter(Protocol):
    """Who stands in queues; `wake` is told by which it was woken, when it has left that one."""

    def wake(self, queue: WaitQueue) -> None: ...


class WaitQueue:
    """First come, first woken. A woken entry leaves the queue. `name` says what is waited for (shown on deadlock)."""

    __slots__ = ("name", "_entries")

    def __init__(self, name: str) -> None:
        self.name = name
        self._entries: dict[Waiter, None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Waiter) -> None:
        self._entries[entry] = None

    def remove(self, entry: Waiter) -> None:
        self._entries.pop(entry, None)

    def wake(self, n: int = 1) -> int:
        """Wakes at most `n` entries in order of arrival; returns how many were woken."""
        woken = 0
        entries = self._entries
        while entries and woken < n:
            entry = next(iter(entries))
            del entries[entry]
            entry.wake(self)
            woken += 1
        return woken

    def wake_all(self) -> int:
        entries = self._entries
        if not entries:
            return 0
        self._entries = {}
        for entry in entries:
            entry.wake(self)
        return len(entries)
