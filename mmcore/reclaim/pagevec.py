"""How pages come onto the LRU lists: sixteen at a time, through two pagevecs, and up by use.

A pagevec entry names a frame and its stamp (see lru.py) and holds no reference; a frame freed before the pagevec drains
has another stamp and is skipped. Until then a page is on no list, and has no PG_LRU. Linux: mm/swap.c, 2.6.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmcore.errors import InvariantViolation
from mmcore.physical.frames import PG_ACTIVE, PG_DIRTY, PG_LOCKED, PG_LRU, PG_RECLAIM, PG_REFERENCED, Frames
from mmcore.physical.lru import LruList
from mmcore.physical.zones import DMA_END, Zone
from mmcore.stats import VmStat

if TYPE_CHECKING:
    from mmcore.memory import Memory

PAGEVEC_SIZE = 16
_PFN_BITS = 24
_PFN_MASK = (1 << _PFN_BITS) - 1


class LruCache:
    """The way in to the zones' lists."""

    def __init__(self, frames: Frames, zones: list[Zone], vmstat: VmStat) -> None:
        self.frames = frames
        self.flags = frames.flags
        self.stamp = frames.stamp
        self.zones = zones
        self.vmstat = vmstat
        self._active_pvec: list[int] = []
        self._inactive_pvec: list[int] = []

    def lru_cache_add_active(self, pfn: int) -> None:
        """A new anonymous page: onto the active list, sixteen at a time."""
        pvec = self._active_pvec
        pvec.append(pfn | self.stamp[pfn] << _PFN_BITS)
        if len(pvec) >= PAGEVEC_SIZE:
            self._drain_active()

    def lru_cache_add(self, pfn: int) -> None:
        """A new page-cache page: onto the inactive list, sixteen at a time."""
        pvec = self._inactive_pvec
        pvec.append(pfn | self.stamp[pfn] << _PFN_BITS)
        if len(pvec) >= PAGEVEC_SIZE:
            self._drain_inactive()

    def lru_add_drain(self) -> None:
        """Empties both pagevecs."""
        if self._inactive_pvec:
            self._drain_inactive()
        if self._active_pvec:
            self._drain_active()

    def _drain_active(self) -> None:
        pvec, self._active_pvec = self._active_pvec, []
        dma, normal = self.zones
        self._drain(pvec, PG_LRU | PG_ACTIVE, dma.active, normal.active)

    def _drain_inactive(self) -> None:
        pvec, self._inactive_pvec = self._inactive_pvec, []
        dma, normal = self.zones
        self._drain(pvec, PG_LRU, dma.inactive, normal.inactive)

    def _drain(self, pvec: list[int], mark: int, dma: LruList, normal: LruList) -> None:
        """HOT. A pagevec's entries are the lists' own, so they go over as they are."""
        flags, stamp = self.flags, self.stamp
        high: list[int] = []
        low: list[int] = []
        for entry in pvec:
            pfn = entry & _PFN_MASK
            if stamp[pfn] == entry >> _PFN_BITS:
                f = flags[pfn]
                if f & PG_LRU:
                    raise InvariantViolation("a page is added to the LRU twice: " + self.frames.describe(pfn))
                flags[pfn] = f | mark
                if pfn >= DMA_END:
                    high.append(entry)
                else:
                    low.append(entry)
        if high:
            normal.extend(high)
        if low:
            dma.extend(low)

    def pagevec_pages(self) -> set[int]:
        """Frames that wait in a pagevec (for the auditor)."""
        stamp = self.stamp
        return {
            e & _PFN_MASK for e in (*self._active_pvec, *self._inactive_pvec) if stamp[e & _PFN_MASK] == e >> _PFN_BITS
        }

    def replace_page(self, pfn: int, new: int) -> None:
        """Migration: `new`, on no list, takes the place of `pfn` and its flags PG_LRU and PG_ACTIVE; in another
        zone it becomes the newest. Pagevecs are empty."""
        flags = self.flags
        f = flags[pfn] & (PG_LRU | PG_ACTIVE)
        if not f & PG_LRU:
            raise InvariantViolation("a page that is on no list has no place there: " + self.frames.describe(pfn))
        before, after = self.zones[pfn >= DMA_END], self.zones[new >= DMA_END]
        lru = before.active if f & PG_ACTIVE else before.inactive
        if before is after:
            lru.replace(pfn, new)
        else:
            lru.remove(pfn)
            (after.active if f & PG_ACTIVE else after.inactive).add(new)
        flags[pfn] &= ~(PG_LRU | PG_ACTIVE)
        flags[new] |= f

    def mark_page_accessed(self, pfn: int) -> None:
        """inactive, unreferenced -> inactive, referenced -> active, unreferenced -> active, referenced."""
        f = self.flags[pfn]
        if not f & PG_REFERENCED:
            self.flags[pfn] = f | PG_REFERENCED
        elif f & (PG_ACTIVE | PG_LRU) == PG_LRU:
            zone = self.zones[pfn >= DMA_END]
            zone.inactive.remove(pfn)
            self.flags[pfn] = (f | PG_ACTIVE) & ~PG_REFERENCED
            zone.active.add(pfn)
            self.vmstat.pgactivate += 1


def end_of_writes(mem: Memory, pfns: list[int]) -> None:
    """Pages that reclaim wrote go to the tail of the inactive list: they are clean and next to be freed. `pfns`: of a
    write that ends; below 0: gone. Linux: rotate_reclaimable_page, 2.6.7."""
    flags, zones = mem.frames.flags, mem.pages.zones
    for zone in zones:
        # Clean pages can be freed: 2.6.7 scans slowly enough to see them come; here a whole scan takes no time, and a
        # zone given up while all its pages were under way would be given up for ever.
        zone.all_unreclaimable = False
        zone.pages_scanned = 0
    for pfn in pfns:
        if pfn < 0:
            continue
        f = flags[pfn]
        if f & PG_RECLAIM and f & (PG_LOCKED | PG_DIRTY | PG_ACTIVE | PG_LRU) == PG_LRU:
            inactive = zones[pfn >= DMA_END].inactive
            inactive.remove(pfn)
            inactive.add_tail(pfn)
            mem.vmstat.pgrotated += 1
