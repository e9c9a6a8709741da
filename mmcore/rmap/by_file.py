"""Walks led by a file's index of areas: from the page's AddressSpace to each area that shows its offset, and through
nonlinear areas, where no formula leads to the PTE.

 frame --mapping, index--> AddressSpace.i_mmap --> areas that show the offset --> address = vm_start + (index - pgoff)
                           nonlinear areas     --> addresses the scheme keeps; else, by purpose, a search of all their
                                                   PTEs (exact users) or the mini virtual scan (try_to_unmap)
Linux: page_referenced_file, try_to_unmap_file, mm/rmap.c, 2.6.7.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from mmcore.areas.vma import VM_LOCKED, VM_MAYSHARE, VM_RESERVED
from mmcore.physical.frames import PG_ANON
from mmcore.physical.pgtable import PRESENT, A
from mmcore.rmap.probe import SWAP_AGAIN, SWAP_FAIL, ProbingWalk, Referenced, Unmap
from mmcore.rmap.walk import STOP, Columns, Purpose, Walk, growing, showing

if TYPE_CHECKING:
    from mmcore.areas.vma import VmArea
    from mmcore.files.index.list import FileIndex
    from mmcore.rmap.core import Rmap

_CLUSTER_BYTES = 32 << 12  # the mini virtual scan's step: 32 pages
_LOCKED_SHARED = VM_LOCKED | VM_MAYSHARE


def _first_locked(areas: list[VmArea]) -> int:
    """The place of the first area that holds its shared pages in memory, -1 for none."""
    return next((i for i, vma in enumerate(areas) if vma.vm_flags & _LOCKED_SHARED == _LOCKED_SHARED), -1)


class FileWalks:
    """What leads from file pages to their PTEs, for one machine."""

    def __init__(self, rmap: Rmap) -> None:
        self.rmap = rmap
        self.mem, self.frames, self.meters, self.pgtables = rmap.mem, rmap.frames, rmap.meters, rmap.pgtables

    def walk(self, walk: Walk) -> None:
        """Offers the areas that map a file page, from its AddressSpace's index.

        A scheme that keeps the user addresses at which nonlinear areas map the page has them offered, for every
        purpose, in place of the mini virtual scan.
        """
        frames, purpose, pfn = self.frames, walk.purpose, walk.pfn
        mapping = self.mem.mappings.get(frames.mapping[pfn])
        if mapping is None:
            return
        nonlinear_addresses = self.rmap.nonlinear_addresses
        addresses = nonlinear_addresses(walk) if nonlinear_addresses is not None else None
        index = frames.index[pfn]
        columns = mapping.i_mmap.columns(walk.many)
        if columns is not None:
            over = self._walk_columns(walk, index, columns)
        else:
            over = self._walk_areas(walk, index, mapping.i_mmap)
        if over:
            return
        if addresses is not None:
            self._offer_nonlinear(walk, mapping.nonlinear, addresses)
        elif isinstance(walk, Unmap):
            if mapping.nonlinear and frames.mapcount[pfn] and self.rmap.setup.unmaps_nonlinear:
                self._unmap_nonlinear(walk, mapping.nonlinear)
        elif purpose != Purpose.REFERENCED:
            self._search_nonlinear(walk, mapping.nonlinear)

    def _walk_areas(self, walk: Walk, index: int, i_mmap: FileIndex) -> bool:
        """One area after the other, as the index finds them; answers whether the walk is over."""
        meters, purpose = self.meters, walk.purpose
        found = i_mmap.overlapping(index, index)
        for vma in islice(found, walk.many):
            mm = vma.vm_mm
            if purpose == Purpose.REFERENCED:
                meters.file_vmas_visited += 1
                if vma.vm_flags & _LOCKED_SHARED == _LOCKED_SHARED and isinstance(walk, Referenced):
                    walk.young += 1
                    return True
            elif purpose != Purpose.AUDIT:
                meters.file_vmas_visited += 1
            if not mm.rss:
                continue
            address = vma.vm_start + (index - vma.vm_pgoff << 12)
            if vma.vm_start <= address < vma.vm_end and walk.visit(mm, address, vma) & STOP:
                return True
        return len(i_mmap) > walk.many and self._walk_on(walk, index, found)

    def _walk_columns(self, walk: Walk, index: int, columns: Columns) -> bool:
        """All areas of a list that has not changed since the last walk, in arrays; answers whether the walk is over."""
        meters = self.meters
        for first, last in columns.parts(0):
            places, _ = columns.showing(index, first, last)
            shown = list(range(first, last)) if places is None else places.tolist()
            areas = columns.areas or ()
            locked = _first_locked([areas[place] for place in shown]) if isinstance(walk, Referenced) else -1
            part = walk.visit_columns(columns, index, first, last if locked < 0 else shown[locked])
            passed, over = part.passed, part.stop
            if not over and locked >= 0 and isinstance(walk, Referenced):
                walk.young += 1
                passed, over = shown[locked] + 1 - first, True
            meters.file_nodes += passed
            if walk.purpose != Purpose.AUDIT:
                meters.file_vmas_visited += bisect_left(shown, first + passed)
            if over:
                return True
        return False

    def _walk_on(self, walk: Walk, index: int, found: Iterator[VmArea]) -> bool:
        """A long walk goes on in arrays; answers whether it is over. Nodes of the index that were passed in vain are
        not metered."""
        meters = self.meters
        for part in growing(((vma, meters.file_nodes) for vma in found), walk.many):
            areas = [vma for vma, _ in part]
            locked = _first_locked(areas) if isinstance(walk, Referenced) else -1
            seen = locked if locked >= 0 else len(areas)
            positions, addresses = showing(areas[:seen], index)
            at = positions.tolist()
            vmas = [areas[i] for i in at]
            visited = walk.visit_many([vma.vm_mm for vma in vmas], addresses[at], vmas, skip_empty=True)
            over = visited.stop
            if over:
                seen = at[visited.looked_at - 1] + 1
            elif isinstance(walk, Referenced) and locked >= 0:
                walk.young += 1
                seen, over = locked + 1, True
            if walk.purpose != Purpose.AUDIT:
                meters.file_vmas_visited += seen
            if over:
                meters.file_nodes = part[seen - 1][1]
                return True
        return False

    def _search_nonlinear(self, walk: Walk, areas: list[VmArea]) -> None:
        """Exact users look through nonlinear areas PTE by PTE."""
        pgtables = self.pgtables
        for vma in areas:
            if walk.purpose != Purpose.AUDIT:
                self.meters.file_vmas_visited += 1
            for first, base in pgtables.tables(vma.vm_mm.pgd, vma.vm_start, vma.vm_end):
                lo = max(vma.vm_start, first) - first >> 12
                hi = min(vma.vm_end, first + (1 << pgtables.SHIFT)) - first >> 12
                part = pgtables.np_ptes[base + lo : base + hi]
                if walk.purpose != Purpose.AUDIT:
                    self.meters.file_ptes_probed += len(part)
                match = walk.np_maps(part) if isinstance(walk, ProbingWalk) else pgtables.np_maps(part, walk.pfn)
                for k in np.nonzero(match)[0].tolist():
                    if walk.visit(vma.vm_mm, first + (lo + k << 12), vma, base + lo + k) & STOP:
                        return

    def _offer_nonlinear(self, walk: Walk, areas: list[VmArea], addresses: Sequence[int]) -> None:
        """Each nonlinear area at the page's linear place, and at every address that is known for it."""
        index = self.frames.index[walk.pfn]
        for vma in areas:
            if walk.purpose != Purpose.AUDIT:
                self.meters.file_vmas_visited += 1
            linear = vma.vm_start + (index - vma.vm_pgoff << 12)
            for address in (linear, *(a for a in addresses if a != linear)):
                if vma.vm_start <= address < vma.vm_end and walk.visit(vma.vm_mm, address, vma) & STOP:
                    return

    # --- the mini virtual scan

    def _unmap_nonlinear(self, walk: Unmap, areas: list[VmArea]) -> None:
        """Nothing leads from the page to its nonlinear PTEs, so clusters of each area are unmapped in turn until as
        many PTEs went as the page has. Linux: try_to_unmap_cluster, 2.6.7."""
        goal = self.frames.mapcount[walk.pfn]
        usable = [v for v in areas if not v.vm_flags & (VM_LOCKED | VM_RESERVED)]
        if not usable:
            walk.result = SWAP_FAIL
            return
        self.meters.file_vmas_visited += len(areas)
        walk.result = SWAP_AGAIN
        longest = max(v.vm_end - v.vm_start for v in usable)
        cursor = max(v.nl_cursor for v in usable) or _CLUSTER_BYTES
        while cursor < longest + _CLUSTER_BYTES:  # the first round is for those that lag behind the furthest
            for vma in usable:
                while vma.vm_mm.rss and vma.nl_cursor < cursor and vma.nl_cursor < vma.vm_end - vma.vm_start:
                    goal -= self._unmap_cluster(vma, vma.vm_start + vma.nl_cursor, walk.pfn)
                    vma.nl_cursor += _CLUSTER_BYTES
                    if goal <= 0:
                        return
            cursor += _CLUSTER_BYTES
        for vma in usable:
            vma.nl_cursor = 0

    def _unmap_cluster(self, vma: VmArea, start: int, wanted: int) -> int:
        """Unmaps what is present, idle and not reserved in one cluster, whether it maps the `wanted` frame (a hit) or
        not; returns how many PTEs."""
        rmap, frames, ptes, mm, meters = self.rmap, self.frames, self.pgtables.ptes, vma.vm_mm, self.meters
        done = 0
        for address in range(start, min(start + _CLUSTER_BYTES, vma.vm_end), 4096):
            pte = rmap.pte_index(mm.pgd, address)
            meters.file_ptes_probed += 1
            if pte < 0:
                continue
            value = ptes[pte]
            if not value & PRESENT:
                continue
            pfn = value >> 12 & rmap.pfn_mask
            if self.mem.is_reserved(pfn) or frames.flags[pfn] & PG_ANON:
                continue
            meters.file_candidates += 1
            if pfn == wanted:
                meters.file_hits += 1
            else:
                meters.file_misses += 1
            if value & A:
                mm.flush_pending = True
                ptes[pte] = value & ~A
                continue
            linear = (address - vma.vm_start >> 12) + vma.vm_pgoff
            left = self.pgtables.file_pte(frames.index[pfn]) if frames.index[pfn] != linear else 0
            n = rmap.take_pte(vma, pfn, pte, value, left)
            rmap.pte_went(vma, pfn, pte, n)
            self.mem.pages.put_page(pfn)
            done += 1
        return done
