"""Reclaim without a reverse map: what 2.5.26 did where 2.6.7 asks which PTEs map a page.

 refill_inactive   PG_referenced? another round : inactive, PG_referenced set       nobody can ask a page's PTEs
 shrink_cache      mapped? kept and counted : freed as ever                         too many met: stop, and
 swap_out          the scheme goes through address spaces ──> try_to_swap_out       PTEs go; young ones mark their page
                                                                                    pages without PTEs wait on the
                                                                                    inactive list to be met

Zones, watermarks, priorities, kswapd, direct reclaim, write-back and OOM stay 2.6.7's (`vmscan`); exactly what a
scheme with SCAN instead of WALK cannot answer is replaced. 2.5.26 counted priorities from 6 to 1, two of 2.6.7's 12 to
0 for each of them. Linux: mm/vmscan.c, 2.5.26.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmcore.areas.vma import VM_LOCKED, VM_NONLINEAR, VM_RESERVED
from mmcore.physical.frames import PG_ACTIVE, PG_ANON, PG_LOCKED, PG_LRU, PG_REFERENCED, PG_SWAPCACHE, PG_WRITEBACK
from mmcore.physical.gfp import GFP_KERNEL
from mmcore.physical.pgtable import A
from mmcore.physical.pterange import PteRange
from mmcore.physical.zone import Zone
from mmcore.reclaim.vmscan import SWAP_CLUSTER_MAX, ScanControl, Vmscan
from mmcore.rmap.scheme import ScanScheme

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmcore.areas.vma import VmArea
    from mmcore.memory import Memory

_FEW = 8  # up to so many pages are marked one by one
_BUSY = np.uint32(PG_ACTIVE | PG_LOCKED)


def _never_used(pfn: int) -> int:
    return 0


def priority_24(priority: int) -> int:
    """2.6.7's priority, 12 to 0, on the scale of 2.4 and 2.5.26: 6 (at ease) to 1 (desperate)."""
    return max(1, (priority + 1) // 2)


class SwapOut(Vmscan):
    """Reclaim for a ScanScheme, which asks for `try_to_swap_out`."""

    def __init__(self, mem: Memory) -> None:
        super().__init__(mem)
        # Mapped pages met since the last swap_out, per zone: a pass of 2.6.7 looks at as few as 32 pages, so they add
        # up over passes.
        self._mapped_met = [0] * len(self.zones)
        self._found = 0  # pages that the last swap_out made freeable, by our own count

    # --- the lists

    def _refill_inactive_zone(self, zone: Zone, nr_pages: int, sc: ScanControl) -> None:
        """Moves pages from the active list's tail to the inactive list, sparing those marked since last asked. Whether
        a page is mapped plays no part, so `swappiness` plays none. A page that goes down is marked: one more use,
        seen by the scan, and it comes back. Linux: refill_inactive, 2.5.26."""
        self.lru_add_drain()
        active, inactive, flags = zone.active, zone.inactive, self.flags
        no_swap = not self.swap.total
        held = active.take_tail(nr_pages)
        up, down = [], []
        for pfn in held:
            f = flags[pfn]
            if f & PG_REFERENCED:
                flags[pfn] = f & ~PG_REFERENCED
                up.append(pfn)
            elif no_swap and f & PG_ANON:
                up.append(pfn)
            else:
                flags[pfn] = f & ~PG_ACTIVE | PG_REFERENCED
                down.append(pfn)
        for pfn in down:
            inactive.add(pfn)
        for pfn in up:
            active.add(pfn)
        self.vmstat.pgdeactivate += len(down)
        self.vmstat.count_refill(zone.index, len(held))

    def _shrink_cache(self, zone: Zone, max_scan: int, sc: ScanControl) -> int:
        """Like 2.6.7's, 32 pages at a time, but mapped pages only go to the list's head and are counted. When more were
        met than the priority allows, the scheme has to scan, and the pass is over. Allowed are 32 << (9 - priority),
        and a tenth of the list's share for the priority if that is less: 2.4.17's bound, without which a small machine
        would never come to scan. At the last priority the pass goes on: in 2.5.26 that one saw all of a small machine's
        list, and what can be freed may be further on."""
        self.lru_add_drain()
        inactive, met = zone.inactive, self._mapped_met
        priority = priority_24(sc.priority)
        freed = scanned = 0
        swapped_out = False
        while scanned < max_scan and inactive.n:
            page_list, looked_at, mapped = inactive.take_unmapped(SWAP_CLUSTER_MAX, PG_LOCKED | PG_WRITEBACK)
            scanned += looked_at
            zone.pages_scanned += looked_at
            sc.nr_scanned += 2 * mapped  # they weigh double against slab, as 2.6.7's do
            met[zone.index] += mapped
            if page_list:
                freed += self._shrink_batch(zone, page_list, sc)
            if not swapped_out and met[zone.index] > min(
                SWAP_CLUSTER_MAX << 9 - priority, inactive.n // priority // 10
            ):
                met[zone.index] = 0
                self._swap_out(zone, sc.priority)
                if priority > 1:
                    break
                swapped_out = True
        self.vmstat.count_scan(zone.index, sc.kswapd, scanned, freed)
        return freed

    def _asks_for_use(self) -> Callable[[int], int]:
        """PG_referenced plays no part once a page is isolated: only refill looks at it."""
        return _never_used

    def _swap_out(self, zone: Zone, priority: int, goal: int = SWAP_CLUSTER_MAX) -> None:
        scheme = self.mem.scheme
        assert isinstance(scheme, ScanScheme)
        self.mem.meters.scans += 1
        self._found = 0
        scheme.swap_out(priority, zone, goal)
        if self._found:
            # Pages that nobody maps any more can be freed, only not by this pass: the zone is not given up for having
            # freed none.
            zone.pages_scanned = 0
            zone.all_unreclaimable = False

    def shrink_all(self, nr_pages: int) -> int:
        """The same trigger as with a reverse map. As many of the oldest pages as are wanted are looked at; for the
        mapped ones among them a scan takes out as many, which need not be the same ones, and they are met further on.
        Gives up when nothing came of several looks at every page."""
        zones = [z for z in reversed(self.zones) if z.present_pages]
        vmstat, meters = self.vmstat, self.mem.meters
        self.lru_add_drain()
        sc = ScanControl(GFP_KERNEL, True, vmstat.nr_mapped)
        sc.priority = 0
        freed = in_vain = 0
        self.pages.memalloc += 1
        try:
            while freed < nr_pages and in_vain <= 6 + 3 * sum(z.active.n for z in zones) // max(
                SWAP_CLUSTER_MAX, nr_pages - freed
            ):
                before = freed, meters.scan_unmapped, vmstat.pswpout
                for zone in zones:
                    want = nr_pages - freed
                    if zone.inactive.n < want:
                        self._refill_inactive_zone(zone, max(SWAP_CLUSTER_MAX, want - zone.inactive.n), sc)
                    n, mapped = self._pass(zone, want, want, sc)
                    freed += n
                    if mapped and freed < nr_pages:
                        self._swap_out(zone, 0, min(mapped, nr_pages - freed))
                        if self._found:
                            freed += self._pass(zone, zone.inactive.n, nr_pages - freed, sc)[0]
                    if freed >= nr_pages:
                        break
                in_vain = in_vain + 1 if before == (freed, meters.scan_unmapped, vmstat.pswpout) else 0
                self._wait_for_disk()
        finally:
            self.pages.memalloc -= 1
        return freed

    def _pass(self, zone: Zone, max_scan: int, limit: int, sc: ScanControl) -> tuple[int, int]:
        """Looks at the oldest `max_scan` inactive pages until `limit` are freed: (freed, mapped ones met)."""
        self.lru_add_drain()
        freed = scanned = met = 0
        while scanned < max_scan and freed < limit and zone.inactive.n:
            page_list, looked_at, mapped = zone.inactive.take_unmapped(
                min(SWAP_CLUSTER_MAX, max_scan - scanned), PG_LOCKED | PG_WRITEBACK
            )
            scanned += looked_at
            met += mapped
            if page_list:
                freed += self._shrink_batch(zone, page_list, sc)
        self.vmstat.count_scan(zone.index, sc.kswapd, scanned, freed)
        return freed, met

    def _nap(self) -> None:
        """2.5.26 went on at once; a nap makes sense only when there is nothing to go on with."""
        if self._found:
            self._found = 0
        else:
            super()._nap()

    # --- the scan

    def try_to_swap_out(self, vma: VmArea, start: int, end: int, zone: Zone, goal: int) -> tuple[int, int]:
        """Looks at the PTEs of `[start, end)`, which lies in `vma`, in order, until `goal` pages became freeable:
        no PTE and nobody but their cache holds them. Returns (how many did, the address to go on at).

        A young PTE, and every PTE of a VM_LOCKED area, marks its page accessed and is young no more (locked ones keep
        A); pages that are active, locked or of another zone are passed over; other PTEs go: an anonymous page gets a
        place in swap, a file page is dropped, dirty bits move to the page. A VM_RESERVED area is left alone. So is an
        anonymous page that somebody pinned, by 2.6.7's check; 2.5.26 unmapped it behind his back. Raises ValueError for
        a range that is not the area's. Linux: swap_out_vma to try_to_swap_out, mm/vmscan.c, 2.5.26.
        """
        if not vma.vm_start <= start <= end <= vma.vm_end or (start | end) & 4095:
            raise ValueError(f"try_to_swap_out: {start:#x} to {end:#x} are not pages of {vma}")
        if vma.vm_flags & VM_RESERVED or start == end:
            return 0, end
        if goal <= 0:
            return 0, start
        pgtables = self.mem.pgtables
        span = 1 << pgtables.SHIFT
        done = 0
        for first, base in pgtables.tables(vma.vm_mm.pgd, start, end):
            lo, hi = max(start, first), min(end, first + span)
            i = base + (lo - first >> 12)
            found, stop = self._scan(vma, i, i + (hi - lo >> 12), zone, goal - done)
            done += found
            self._found += found
            if done >= goal:
                return done, lo + (stop - i << 12)
        return done, end

    def _scan(self, vma: VmArea, i: int, j: int, zone: Zone, goal: int) -> tuple[int, int]:
        """PTEs i to j - 1 of one table: (pages that became freeable, PTE to go on at). Only PTEs that go are handled
        one by one."""
        pgtables, frames, meters = self.mem.pgtables, self.frames, self.mem.meters
        entries = PteRange(pgtables, [(i, j)]).read()
        at = entries.present()
        if not len(at):
            meters.ptes_probed += j - i
            return 0, j
        at, pfns = entries.pages(frames, at)
        if vma.vm_flags & VM_NONLINEAR and len(np.unique(pfns)) < len(pfns):
            return self._scan_in_turn(vma, i, j, at.tolist(), zone, goal)
        locked = vma.vm_flags & VM_LOCKED
        stop, done = j, 0
        young = np.ones(len(at), bool) if locked else entries.has(A, at)
        if not young.all():
            flags = frames.np_flags[pfns]
            idle = ~young & ((flags & _BUSY) == 0) & (pfns >= zone.start_pfn) & (pfns < zone.end_pfn)
            if not self.swap.nr_swap_pages:
                idle &= (flags & np.uint32(PG_ANON | PG_SWAPCACHE)) != np.uint32(PG_ANON)
            if idle.any():
                done, seen = self._unmap_idle(vma, (at[idle] + i).tolist(), pfns[idle].tolist(), goal)
                if done == goal:
                    stop = seen + 1
                    young &= at < stop - i  # the scan does not come to the others
        meters.ptes_probed += stop - i
        if young.any():
            at, pfns = at[young], pfns[young]
            meters.scan_young += len(at)
            if not locked:
                entries.clear_bits_at(A, at)
                vma.vm_mm.flush_pending = True
            self._mark_accessed(pfns)
        return done, stop

    def _scan_in_turn(self, vma: VmArea, i: int, j: int, at: list[int], zone: Zone, goal: int) -> tuple[int, int]:
        """A nonlinear area that maps a page twice: what one PTE does to the page counts for the next."""
        done, last = 0, i
        for k in at:
            self.mem.meters.ptes_probed += i + k - last
            last = i + k + 1
            done += self._scan(vma, i + k, last, zone, 1)[0]
            if done == goal:
                return done, last
        self.mem.meters.ptes_probed += j - last
        return done, j

    def _mark_accessed(self, pfns: np.ndarray) -> None:
        """mark_page_accessed for distinct frames."""
        if len(pfns) <= _FEW:
            for pfn in pfns.tolist():
                self.mark_page_accessed(pfn)
            return
        frames = self.frames
        flags = frames.np_flags[pfns]
        marked = (flags & np.uint32(PG_REFERENCED)) != 0
        frames.np_flags[pfns[~marked]] |= np.uint32(PG_REFERENCED)
        climbing = pfns[marked & ((flags & np.uint32(PG_ACTIVE | PG_LRU)) == np.uint32(PG_LRU))]
        if not len(climbing):
            return
        frames.np_flags[climbing] = frames.np_flags[climbing] & np.uint32(~PG_REFERENCED & 0xFFFFFFFF) | np.uint32(
            PG_ACTIVE
        )
        frames.np_stamp[climbing] += np.uint32(1)
        for zone in self.zones:
            here = climbing[(climbing >= zone.start_pfn) & (climbing < zone.end_pfn)]
            if len(here):
                zone.inactive.removed_bulk(len(here))
                zone.active.add_bulk(here)
        self.vmstat.pgactivate += len(climbing)

    def _unmap_idle(self, vma: VmArea, where: list[int], pfns: list[int], goal: int) -> tuple[int, int]:
        """HOT. Takes away the idle PTEs `where` of the frames `pfns`, where that can be, until `goal` pages
        became freeable: (how many did, the last PTE looked at)."""
        frames, flags, count, mapcount, private = (
            self.frames,
            self.flags,
            self.count,
            self.mapcount,
            self.frames.private,
        )
        mem, swap = self.mem, self.swap
        rmap, pgtables, ptes, mappings = mem.rmap, mem.pgtables, mem.pgtables.ptes, mem.mappings
        nonlinear = vma.vm_flags & VM_NONLINEAR
        taken = done = pte = 0
        for pte, pfn in zip(where, pfns, strict=True):
            f = flags[pfn]
            if f & PG_ANON:
                cached = f & PG_SWAPCACHE
                if count[pfn] != mapcount[pfn] + (1 if cached else 0):
                    continue  # pinned: a later write fault would copy the page behind somebody's back
                if not cached and not swap.add_to_swap(pfn):
                    continue
                entry = private[pfn]
                swap.swap_duplicate(entry)
                left = pgtables.swp_pte(entry)
            else:
                if frames.mapping[pfn] not in mappings:
                    continue
                left = 0
                if nonlinear and frames.index[pfn] != (pgtables.address_of(pte)[1] - vma.vm_start >> 12) + vma.vm_pgoff:
                    left = pgtables.file_pte(frames.index[pfn])
            taken += 1
            rmap.pte_went(vma, pfn, pte, rmap.take_pte(vma, pfn, pte, ptes[pte], left))
            n = count[pfn] - 1
            count[pfn] = n
            if n == 1:
                done += 1
                if done == goal:
                    break
        mem.meters.scan_unmapped += taken
        return done, pte
