"""The disk: one head, a queue of reads and one of writes, on virtual time.

Bytes move when a request is submitted; what takes time is the completion, which clears PG_LOCKED (reads) or
PG_WRITEBACK (writes) and wakes who waits. Neighbouring pages join one request while it is queued. Reads go before
writes, but not for ever. Linux: drivers/block/ll_rw_blk.c and deadline-iosched.c, 2.6.7 (128 requests a direction,
congested at 113); mm/page_io.c and mm/filemap.c for what a completion does.

 submit -> queued (may grow) -> under the head until `seek + pages x transfer` has passed -> end_read / end_write
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mmcore.clock import Timer
from mmcore.physical.frames import (
    PG_ERROR,
    PG_LOCKED,
    PG_RECLAIM,
    PG_UPTODATE,
    PG_WRITEBACK,
)
from mmcore.wait import WaitQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmcore.clock import VirtualClock
    from mmcore.files.filespace import FileSpace
    from mmcore.physical.frames import Frames
    from mmcore.stats import VmStat

TRANSFER_NS = 50_000  # one page passing under the head: 80 MB/s
SEEK_NS = 4_000_000  # before a request that does not begin where the last one ended
MAX_PAGES = 31  # of a request: 255 sectors
FIRST_FILE = 1 << 32  # position of the first file, in pages: behind the swap device
FILE_DISTANCE = 1 << 24  # pages between the beginnings of two files
NR_REQUESTS = 128  # queued in one direction before a submitter has to wait
CONGESTION_ON = 113
CONGESTION_OFF = 103
WRITES_STARVED = 2  # reads that may pass waiting writes


class Request:
    """`start`: when it was queued, ns."""

    __slots__ = ("write", "position", "pfns", "start")

    def __init__(self, write: bool, position: int, pfn: int, start: int) -> None:
        self.write = write
        self.start = start
        self.position = position
        self.pfns = [pfn]


class Done:
    """What completed in one direction."""

    __slots__ = ("requests", "merged", "pages", "ns")

    requests: int
    merged: int  # pages that joined a request that was queued
    pages: int
    ns: int  # between queueing and completion, of all requests

    def __init__(self) -> None:
        self.requests = self.merged = self.pages = self.ns = 0


class Disk:
    """Positions are in pages: the swap device from 0, files far behind. `writes_done` counts completed write
    requests; `done`, by direction (reads, writes), and `busy_ns` are for /proc/diskstats."""

    __slots__ = (
        "_written",
        "clock",
        "frames",
        "vmstat",
        "waits",
        "writes_done",
        "congested",
        "_reads",
        "_writes",
        "_active",
        "_done_at",
        "_head",
        "_starved",
        "_timer",
        "_next_file",
        "dirty_files",
        "done",
        "_busy_ns",
        "_busy_since",
    )

    def __init__(
        self, clock: VirtualClock, frames: Frames, vmstat: VmStat, written: Callable[[list[int]], None]
    ) -> None:
        """`written`: told of the frames of each write that ends, while they bear PG_WRITEBACK (below 0: gone)."""
        self.clock = clock
        self.frames = frames
        self.vmstat = vmstat
        self._written = written
        self.waits: dict[int, WaitQueue] = {}
        self.writes_done = 0
        self.congested = False
        self.done = (Done(), Done())
        self._busy_ns = self._busy_since = 0
        self._reads: deque[Request] = deque()
        self._writes: deque[Request] = deque()
        self._active: Request | None = None
        self._done_at = 0
        self._head = 0
        self._starved = 0
        self._timer: Timer | None = None
        self._next_file = FIRST_FILE
        self.dirty_files: dict[FileSpace, None] = {}  # in the order in which they became dirty

    def file_position(self) -> int:
        """Where a new file's pages begin: files lie far apart."""
        position = self._next_file
        self._next_file += FILE_DISTANCE
        return position

    # --- waiting

    def page_wait(self, pfn: int) -> WaitQueue:
        """The queue of those who wait until the frame's I/O ends."""
        queue = self.waits.get(pfn)
        if queue is None:
            queue = self.waits[pfn] = WaitQueue("page I/O")
        return queue

    def wake_page(self, pfn: int) -> None:
        """I/O of the frame is over: whoever waits for it looks again."""
        queue = self.waits.pop(pfn, None)
        if queue is not None:
            queue.wake_all()

    @property
    def idle(self) -> bool:
        return self._active is None

    @property
    def queued(self) -> int:
        """Requests under the head or waiting for it."""
        return len(self._reads) + len(self._writes) + (self._active is not None)

    @property
    def busy_ns(self) -> int:
        """How long there was a request under the head."""
        return self._busy_ns + (0 if self._active is None else max(0, self.clock.now - self._busy_since))

    def wait_next(self) -> bool:
        """Charges the time until the request under the head completes. False when there is none, or time cannot move
        here."""
        active = self._active
        if active is None:
            return False
        self.clock.charge(max(0, self._done_at - self.clock.now))
        return self._active is not active

    def congestion_wait(self, timeout_ns: int) -> None:
        """Until a write request completes, at most `timeout_ns`. Linux: blk_congestion_wait."""
        clock = self.clock
        deadline = clock.now + timeout_ns
        before = self.writes_done
        while self.writes_done == before and clock.now < deadline:
            if self._active is None or self._done_at > deadline:
                clock.nap(deadline - clock.now)
                return
            if not self.wait_next():
                return

    # --- requests

    def submit(self, write: bool, position: int, pfn: int) -> None:
        """Queues the transfer of one frame, whose flags say already what is under way. Waits for room in a full
        queue."""
        if write:
            self.vmstat.pgpgout += 4
            queue = self._writes
        else:
            self.vmstat.pgpgin += 4
            queue = self._reads
        if queue:
            last = queue[-1]
            if last.position + len(last.pfns) == position and len(last.pfns) < MAX_PAGES:
                last.pfns.append(pfn)
                self.done[write].merged += 1
                return
            while len(queue) >= NR_REQUESTS and self.wait_next():
                pass
        queue.append(Request(write, position, pfn, self.clock.now))
        if write and len(queue) >= CONGESTION_ON:
            self.congested = True
        if self._active is None:
            self._dispatch(self.clock.now)

    def _dispatch(self, now: int) -> None:
        reads, writes = self._reads, self._writes
        if reads and (not writes or self._starved < WRITES_STARVED):
            request = reads.popleft()
            self._starved = self._starved + 1 if writes else 0
        elif writes:
            request = writes.popleft()
            self._starved = 0
        else:
            self._active = None
            return
        self._active = request
        self._busy_since = now
        n = len(request.pfns)
        cost = n * TRANSFER_NS
        if request.position != self._head:
            cost += SEEK_NS
        self._head = request.position + n
        self._done_at = now + cost if self.clock.models_waits else now
        self._timer = self.clock.at(self._done_at, self._complete)

    def _complete(self) -> None:
        request = self._active
        assert request is not None
        done = self.done[request.write]
        done.requests += 1
        done.pages += len(request.pfns)
        done.ns += self._done_at - request.start
        self._busy_ns += self._done_at - self._busy_since
        if request.write:
            self._end_write(request.pfns)
            self.writes_done += 1
            if self.congested and len(self._writes) < CONGESTION_OFF:
                self.congested = False
        else:
            self._end_read(request.pfns)
        self._dispatch(self._done_at)  # time may have been charged beyond the completion; the disk did not idle

    def _end_read(self, pfns: list[int]) -> None:
        flags, waits = self.frames.flags, self.waits
        for pfn in pfns:
            if pfn < 0:
                continue
            f = flags[pfn] & ~PG_LOCKED
            flags[pfn] = f if f & PG_ERROR else f | PG_UPTODATE
            if pfn in waits:
                self.wake_page(pfn)

    def _end_write(self, pfns: list[int]) -> None:
        flags, waits, vmstat = self.frames.flags, self.waits, self.vmstat
        self._written(pfns)
        for pfn in pfns:
            if pfn < 0:
                continue
            vmstat.nr_writeback -= 1
            f = flags[pfn]
            flags[pfn] = f & ~(PG_WRITEBACK | PG_RECLAIM)
            if pfn in waits:
                self.wake_page(pfn)

    def forget(self, pfn: int) -> None:
        """Truncation takes a page whose I/O is under way. The bytes have moved already, so nobody needs to wait for the
        disk."""
        flags = self.frames.flags
        if flags[pfn] & PG_WRITEBACK:
            self.vmstat.nr_writeback -= 1
        flags[pfn] &= ~(PG_LOCKED | PG_WRITEBACK | PG_RECLAIM)
        for request in (self._active, *self._reads, *self._writes):
            if request is not None and pfn in request.pfns:
                request.pfns[request.pfns.index(pfn)] = -1
                break
        self.wake_page(pfn)
