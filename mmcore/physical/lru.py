"""LRU lists that many frames can leave at once.

2.6 threads its lists through struct page. Here a list is a queue of entries `pfn | stamp << 24`, and an entry is
valid while its stamp equals the frame's in `Frames.stamp`. Leaving a list is one increment of the stamp, in numpy for
a range, so that the exit of a large process unlinks thousands of frames in one operation; scans skip entries that went
stale. A frame with PG_LRU has exactly one valid entry (the auditor checks).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from mmcore.physical.frames import Frames

_PFN_BITS = 24
_PFN_MASK = (1 << _PFN_BITS) - 1


class LruList:
    """`n` members; the tail is the oldest. Members are added at the head unless said otherwise."""

    __slots__ = ("n", "_frames", "_stamp", "_queue")

    def __init__(self, frames: Frames) -> None:
        self.n = 0
        self._frames = frames
        self._stamp = frames.stamp
        self._queue: deque[int] = deque()  # left = tail (oldest), right = head (newest)

    def __len__(self) -> int:
        return self.n

    def add(self, pfn: int) -> None:
        """Adds a frame that is on no list, at the head."""
        self.n += 1
        self._queue.append(pfn | self._stamp[pfn] << _PFN_BITS)

    def add_tail(self, pfn: int) -> None:
        self.n += 1
        self._queue.appendleft(pfn | self._stamp[pfn] << _PFN_BITS)

    def extend(self, entries: list[int]) -> None:
        """Adds frames given as entries (see above) with their present stamps, in order."""
        self.n += len(entries)
        self._queue.extend(entries)

    def add_bulk(self, pfns: np.ndarray) -> None:
        """Adds frames in order, the last one ends up newest."""
        self.n += len(pfns)
        entries = pfns.astype(np.int64) | self._frames.np_stamp[pfns].astype(np.int64) << _PFN_BITS
        self._queue.extend(entries.tolist())

    def remove(self, pfn: int) -> None:
        """Takes a member out, wherever it stands."""
        self.n -= 1
        stamp = self._stamp
        stamp[pfn] = (stamp[pfn] + 1) & 0xFFFFFFFF
        if len(self._queue) > 4 * self.n + 4096:
            self._compact()

    def replace(self, pfn: int, new: int) -> None:
        """A frame that is on no list takes a member's place."""
        queue, stamp = self._queue, self._stamp
        queue[queue.index(pfn | stamp[pfn] << _PFN_BITS)] = new | stamp[new] << _PFN_BITS
        stamp[pfn] = (stamp[pfn] + 1) & 0xFFFFFFFF

    def removed_bulk(self, n: int) -> None:
        """`n` members have left: their stamps were incremented by the caller."""
        self.n -= n
        if len(self._queue) > 4 * self.n + 4096:
            self._compact()

    def pop_tail(self) -> int:
        """Removes and returns the oldest member, -1 if there is none."""
        queue, stamp = self._queue, self._stamp
        while queue:
            entry = queue.popleft()
            pfn = entry & _PFN_MASK
            if stamp[pfn] == entry >> _PFN_BITS:
                stamp[pfn] = (stamp[pfn] + 1) & 0xFFFFFFFF
                self.n -= 1
                return pfn
        return -1

    def take_tail(self, n: int) -> list[int]:
        """Removes the oldest `n` members (fewer if there are not so many), oldest first."""
        queue, stamp = self._queue, self._stamp
        taken: list[int] = []
        n = min(n, self.n)
        left = n
        while left:
            entry = queue.popleft()
            pfn = entry & _PFN_MASK
            old = entry >> _PFN_BITS
            if stamp[pfn] == old:
                stamp[pfn] = (old + 1) & 0xFFFFFFFF
                taken.append(pfn)
                left -= 1
        self.n -= n
        return taken

    def rotate_tail(self, n: int, mask: int) -> int:
        """If all of the oldest `n` members (fewer if there are not so many) have a flag of `mask`, they go to the
        head, in order, as if taken off and added again; returns how many. Otherwise nothing changes, and the answer is
        0."""
        queue, stamp, flags = self._queue, self._stamp, self._frames.flags
        moved: list[int] = []
        n = min(n, self.n)
        while len(moved) < n:
            entry = queue.popleft()
            pfn = entry & _PFN_MASK
            if stamp[pfn] == entry >> _PFN_BITS:
                moved.append(entry)
                if not flags[pfn] & mask:
                    moved.reverse()
                    queue.extendleft(moved)
                    return 0
        queue.extend(moved)
        return n

    def take_unmapped(self, n: int, busy: int) -> tuple[list[int], int, int]:
        """Looks at the oldest `n` members (fewer if there are not so many): mapped ones go to the head, in order, the
        others are removed. Returns (these, oldest first; how many were looked at; how many mapped ones had no flag of
        `busy`)."""
        queue, stamp, flags, mapcount = self._queue, self._stamp, self._frames.flags, self._frames.mapcount
        taken: list[int] = []
        n = left = min(n, self.n)
        mapped = 0
        while left:
            entry = queue.popleft()
            pfn = entry & _PFN_MASK
            old = entry >> _PFN_BITS
            if stamp[pfn] != old:
                continue
            left -= 1
            if mapcount[pfn]:
                queue.append(entry)
                if not flags[pfn] & busy:
                    mapped += 1
            else:
                stamp[pfn] = (old + 1) & 0xFFFFFFFF
                taken.append(pfn)
        self.n -= len(taken)
        return taken, n, mapped

    def __iter__(self) -> Iterator[int]:
        """Members from the oldest to the newest."""
        stamp = self._stamp
        for entry in self._queue:
            pfn = entry & _PFN_MASK
            if stamp[pfn] == entry >> _PFN_BITS:
                yield pfn

    def _compact(self) -> None:
        stamp = self._stamp
        self._queue = deque(e for e in self._queue if stamp[e & _PFN_MASK] == e >> _PFN_BITS)
