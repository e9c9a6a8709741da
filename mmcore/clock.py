"""Virtual time: nanoseconds since boot, advanced only by what the emulated machine does.

Nothing here reads the host's clock, so equal inputs give equal times. Timers fire in order of (time, order of
creation).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Timer:
    """`fn()` is called once, at `when` (ns since boot); None: cancelled."""

    __slots__ = ("when", "fn")

    def __init__(self, when: int, fn: Callable[[], None] | None) -> None:
        self.when = when
        self.fn = fn


class VirtualClock:
    """`now` is read freely, and so is `due`, when something may fall due (NEVER: nothing will); time moves by
    `charge` (work done) and `advance_to` (everybody sleeps). `models_waits` False: the disk and the allocator's
    naps take no time, as where the host's clock counts."""

    __slots__ = ("now", "due", "_heap", "_sequence", "_running", "_cancelled", "models_waits")

    NEVER = 1 << 62

    def __init__(self) -> None:
        self.now = 0
        self.models_waits = True
        self._heap: list[tuple[int, int, Timer]] = []
        self._sequence = 0
        self._running = False
        self._cancelled = 0  # timers in the heap that will not fire
        self.due = self.NEVER

    def charge(self, ns: int) -> None:
        """Work took `ns`; what falls due meanwhile runs."""
        self.now += ns
        if self.now >= self.due:
            self.run_due()

    def nap(self, ns: int) -> None:
        """The machine itself waits `ns`."""
        self.charge(ns if self.models_waits else 0)

    def at(self, when: int, fn: Callable[[], None]) -> Timer:
        """Calls `fn()` once `now >= when` (at the earliest from the next charge)."""
        timer = Timer(when, fn)
        self._sequence += 1
        heapq.heappush(self._heap, (when, self._sequence, timer))
        if when < self.due:
            self.due = when
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """`timer` will not fire; None, and one that has fired or was cancelled, are let pass."""
        if timer is None or timer.fn is None:
            return
        timer.fn = None
        self._cancelled += 1
        heap = self._heap
        if self._cancelled > 64 and self._cancelled * 2 > len(heap):
            # A timeout that is set and cancelled a million times would otherwise stay until its time comes.
            heap[:] = [entry for entry in heap if entry[2].fn is not None]
            heapq.heapify(heap)
            self._cancelled = 0

    def next_due(self) -> int | None:
        """When the next live timer fires, or None."""
        heap = self._heap
        while heap and heap[0][2].fn is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        self.due = heap[0][0] if heap else self.NEVER
        return heap[0][0] if heap else None

    def advance_to(self, when: int) -> None:
        """Everybody sleeps until `when` (ns since boot; a time gone by changes nothing); what is due then runs."""
        if when > self.now:
            self.now = when
        self.run_due()

    def run_due(self) -> None:
        """Runs what is due. A timer's function may charge time itself; it does not re-enter."""
        if self._running:
            return
        self._running = True
        heap = self._heap
        try:
            while heap and heap[0][0] <= self.now:
                timer = heapq.heappop(heap)[2]
                fn = timer.fn
                if fn is not None:
                    timer.fn = None
                    fn()
                else:
                    self._cancelled -= 1
        finally:
            self._running = False
        self.due = heap[0][0] if heap else self.NEVER
