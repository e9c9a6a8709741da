"""The event log: everything that decides a run, folded into one hash.

Faults, system calls with their results, signals, forks, exits and scheduling decisions are 64-bit integers, the kind in
the top four bits. Two runs of equal inputs give equal hashes; what only looks (audits, status lines, summaries) never
enters it.
"""

from __future__ import annotations

import hashlib
from array import array

EVENT_FAULT = 1 << 60  # | answer << 40 | error code << 32 | address
EVENT_SYSCALL = 2 << 60  # | number << 32 | result
EVENT_SWITCH = 3 << 60  # | pid, then the virtual time
EVENT_TRAP = 9 << 60  # | kind << 32 | EIP

_FOLD = 1 << 15  # events kept before they are folded


class EventLog:
    """`append` is the hot path: an array of unsigned 64-bit integers."""

    __slots__ = ("events", "append", "count", "_hash")

    def __init__(self) -> None:
        self.events = array("Q")
        self.append = self.events.append
        self.count = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def fold(self, force: bool = False) -> None:
        """Called now and then; keeps memory bounded."""
        n = len(self.events)
        if n >= _FOLD or (force and n):
            self._hash.update(self.events.tobytes())
            del self.events[:]
            self.count += n

    def digest(self) -> str:
        """Hexadecimal hash of everything so far."""
        self.fold(True)
        return self._hash.hexdigest()
