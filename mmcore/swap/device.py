"""One swap area: its slots, who uses each, and which is handed out next.

Slot 0 is the header. `map[offset]` counts the users of a slot: every PTE or shmem index that names it, plus one for
the swap cache. The map is vmalloc'ed low memory, 2 bytes a slot. Slots are handed out 256 in a row where such a run is
free, so that what is evicted together lies together.

    on, writeok     in use                             (SWP_USED, SWP_WRITEOK)
    on, no writeok  swapoff empties it: slots are freed, none is handed out
    off             no map; swapon may turn it on again
Linux: mm/swapfile.c, 2.6.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmcore.errors import InvariantViolation
from mmcore.physical.ram import PAGE_SHIFT

if TYPE_CHECKING:
    from mmcore.physical.slab import Slab

SWAPFILE_CLUSTER = 256
SWAP_MAP_MAX = 0x7FFF
SWAP_MAP_BAD = 0x8000


class SwapDevice:
    """Slots of 4096 bytes."""

    __slots__ = (
        "pages",
        "map",
        "np_map",
        "nr_free",
        "total",
        "lowest_bit",
        "highest_bit",
        "cluster_next",
        "cluster_nr",
        "on",
        "writeok",
        "priority",
        "_slab",
        "_token",
    )

    pages: int  # slots, the header among them
    total: int  # usable ones
    nr_free: int  # of them
    # Users of each slot, see above.
    map: memoryview
    np_map: NDArray[np.uint16]
    # No slot below lowest_bit or above highest_bit is free.
    lowest_bit: int
    highest_bit: int
    # The run that slots are handed out of: the next one, and how many are left.
    cluster_next: int
    cluster_nr: int
    priority: int  # `SwapAreas` gives it

    def __init__(self, nbytes: int, slab: Slab, np_map: NDArray[np.uint16]) -> None:
        """`nbytes`: size of the area; `np_map`: its part of the map, all 0. Raises OutOfMemory when low memory cannot
        hold the map."""
        pages = self.pages = nbytes >> PAGE_SHIFT
        self.total = self.nr_free = max(0, pages - 1)
        self.np_map = np_map
        self.map = self.np_map.data
        self.map[0] = SWAP_MAP_BAD
        self._slab = slab
        self._token = slab.vmalloc(pages * 2, "swap_map") if self.total else 0
        self.on = self.writeok = self.total > 0
        self.priority = -1
        self._rewind()

    def _rewind(self) -> None:
        """All slots are free."""
        self.lowest_bit = 1
        self.highest_bit = self.pages - 1 if self.total else 0
        self.cluster_next = self.cluster_nr = 0

    def turn_off(self) -> None:
        """The last slot is free: the map goes. Linux: the end of sys_swapoff."""
        if self.nr_free != self.total:
            raise InvariantViolation(f"swap is turned off with {self.total - self.nr_free} slots in use")
        self.on = self.writeok = False
        self._slab.vfree(self._token)

    def turn_on(self) -> None:
        """Raises OutOfMemory when low memory cannot hold the map. Linux: sys_swapon."""
        self._token = self._slab.vmalloc(self.pages * 2, "swap_map")
        self._rewind()
        self.on = self.writeok = True

    def get_page(self) -> int:
        """A free slot, now with one user; 0 when there is none. Linux: scan_swap_map."""
        if not self.nr_free or not self.writeok:
            return 0
        slots = self.map
        if self.cluster_nr:
            offset, highest = self.cluster_next, self.highest_bit
            while offset <= highest:
                if not slots[offset]:
                    self.cluster_nr -= 1
                    return self._take(offset)
                offset += 1
            self.cluster_next = offset
        self.cluster_nr = SWAPFILE_CLUSTER
        offset = self._empty_cluster()
        if not offset:
            free = np.flatnonzero(self.np_map[self.lowest_bit : self.highest_bit + 1] == 0)
            if not len(free):
                raise InvariantViolation(f"swap: {self.nr_free} slots free on the books, none in the map")
            offset = self.lowest_bit + int(free[0])
            self.lowest_bit = offset + 1
        return self._take(offset)

    def _empty_cluster(self) -> int:
        """The first run of SWAPFILE_CLUSTER free slots, 0 if there is none."""
        lo, hi = self.lowest_bit, self.highest_bit
        if hi - lo + 1 < SWAPFILE_CLUSTER:
            return 0
        used = np.flatnonzero(self.np_map[lo : hi + 1])
        edges = np.concatenate(([-1], used, [hi + 1 - lo]))
        runs = np.flatnonzero(np.diff(edges) > SWAPFILE_CLUSTER)
        return lo + int(edges[runs[0]]) + 1 if len(runs) else 0

    def _take(self, offset: int) -> int:
        if offset == self.lowest_bit:
            self.lowest_bit += 1
        if offset == self.highest_bit:
            self.highest_bit -= 1
        if self.lowest_bit > self.highest_bit:
            self.lowest_bit = self.pages
            self.highest_bit = 0
        self.map[offset] = 1
        self.nr_free -= 1
        self.cluster_next = offset + 1
        return offset

    def free(self, offset: int) -> int:
        """One user less; returns how many are left."""
        n = self.map[offset]
        if n == 0 or n >= SWAP_MAP_BAD:
            raise InvariantViolation(f"swap slot {offset} is freed with map {n:#x}")
        if n == SWAP_MAP_MAX:
            return n  # the count saturated: the slot is never freed
        n -= 1
        self.map[offset] = n
        if not n:
            if offset < self.lowest_bit:
                self.lowest_bit = offset
            if offset > self.highest_bit:
                self.highest_bit = offset
            self.nr_free += 1
        return n

    def readahead_range(self, offset: int, page_cluster: int) -> range:
        """Slots to read together with `offset`: its aligned block, from the block's start up to the first free or bad
        slot. Linux: valid_swaphandles."""
        if not page_cluster:
            return range(0)
        start = offset >> page_cluster << page_cluster
        end = min(start + (1 << page_cluster), self.pages)
        if not start:
            start = 1
        slots = self.map
        stop = start
        while stop < end and slots[stop] and slots[stop] != SWAP_MAP_BAD:
            stop += 1
        return range(start, stop)
