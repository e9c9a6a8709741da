"""All swap areas: which of them gives the next slot, and where a slot is.

The areas lie behind each other on one device, so an entry is one number: the slot's place on it. `map` counts the users
of every slot of every area.

    by priority, highest first    one after the other is filled
    of equal priority             take turns, a slot each
Linux: get_swap_page and sys_swapon, mm/swapfile.c, 2.6.7.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmcore.physical.ram import PAGE_SHIFT
from mmcore.swap.device import SwapDevice

if TYPE_CHECKING:
    from mmcore.physical.slab import Slab


class SwapAreas(Sequence[SwapDevice]):
    """In the order of their numbers (`type` of an entry)."""

    map: memoryview  # users of each slot of all areas
    np_map: NDArray[np.uint16]
    pages: int  # slots, headers among them

    def __init__(self, given: Sequence[tuple[int, int | None]], slab: Slab) -> None:
        """`given`: bytes of each area, and its priority (None: below all before). Raises OutOfMemory when low memory
        cannot hold the maps."""
        sizes = [nbytes >> PAGE_SHIFT for nbytes, _ in given]
        self._first = [sum(sizes[:i]) for i in range(len(sizes))]
        self.pages = sum(sizes)
        self.np_map = np.zeros(max(self.pages, 1), np.uint16)
        self.map = self.np_map.data
        self._least_priority = 0
        self._order: list[SwapDevice] = []  # those that give slots, highest priority first
        self._next = 0  # whose turn it is
        self._areas = [
            SwapDevice(size << PAGE_SHIFT, slab, self.np_map[first : first + max(size, 1)])
            for size, first in zip(sizes, self._first, strict=True)
        ]
        for area, (_, priority) in zip(self._areas, given, strict=True):
            if area.on:
                self._enter(area, priority)

    def __len__(self) -> int:
        return len(self._areas)

    def __getitem__(self, number: int) -> SwapDevice:  # type: ignore[override]  # no slices
        return self._areas[number]

    def __iter__(self) -> Iterator[SwapDevice]:
        return iter(self._areas)

    # --- on and off

    def turn_on(self, area: SwapDevice, priority: int | None = None) -> None:
        """`priority`: None for one below all given so far. Raises OutOfMemory when low memory cannot hold the map."""
        area.turn_on()
        self._enter(area, priority)

    def leave(self, area: SwapDevice) -> None:
        """The area gives no slots any more."""
        area.writeok = False
        self._order.remove(area)
        self._next = 0

    def come_back(self, area: SwapDevice) -> None:
        """It was not emptied, and is in use as before."""
        area.writeok = True
        self._insert(area)

    def _enter(self, area: SwapDevice, priority: int | None) -> None:
        if priority is None:
            self._least_priority -= 1
            priority = self._least_priority
        area.priority = priority
        self._insert(area)

    def _insert(self, area: SwapDevice) -> None:
        """Before others of its priority, as sys_swapon does."""
        place = next((i for i, other in enumerate(self._order) if area.priority >= other.priority), len(self._order))
        self._order.insert(place, area)
        self._next = 0

    # --- slots

    def get_page(self) -> int:
        """A free slot of the area whose turn it is, or else of the next, now with one user; 0 when there is none."""
        order = self._order
        for turn in self._turns():
            area = order[turn]
            offset = area.get_page()
            if offset:
                following = turn + 1
                alike = following < len(order) and order[following].priority == area.priority
                self._next = following if alike else 0
                return self._first[self._areas.index(area)] + offset
        return 0

    def _turns(self) -> Iterator[int]:
        """Places in the order: from whose turn it is to the last of its priority, then all from the first."""
        order = self._order
        for turn in range(self._next, len(order)):
            if order[turn].priority != order[self._next].priority:
                break
            yield turn
        yield from range(len(order))

    def number_of(self, entry: int) -> int:
        """The number of the area that a slot is in."""
        return bisect_right(self._first, entry) - 1 if len(self._first) > 1 else 0

    def offset_of(self, entry: int) -> int:
        """The slot's number in its area."""
        return entry - self._first[self.number_of(entry)]

    def slots(self, area: SwapDevice) -> range:
        """The slots of an area, but for its header."""
        first = self._first[self._areas.index(area)]
        return range(first + 1, first + area.pages)

    def free(self, entry: int) -> int:
        """One user less; returns how many are left."""
        number = self.number_of(entry)
        return self._areas[number].free(entry - self._first[number])

    def readahead_range(self, entry: int, page_cluster: int) -> range:
        """Slots to read together with `entry`: see SwapDevice."""
        number = self.number_of(entry)
        first = self._first[number]
        near = self._areas[number].readahead_range(entry - first, page_cluster)
        return range(first + near.start, first + near.stop)

    def is_slot(self, entry: int) -> bool:
        """Whether a number is that of a slot, not of a header or of nothing."""
        return 0 < entry < self.pages and entry not in self._first
