"""The core's walks: each place a scheme offers is probed in the page tables and metered; each user says what becomes of
a PTE that is found.

 place offered --probe--> maps the frame? no: MISS
                                          yes: `found`  Referenced   young bit counted and cleared     page_referenced
                                                          Unmap        swap entry, file offset, nothing  try_to_unmap
Linux: page_check_address, page_referenced_one, try_to_unmap_one, mm/rmap.c, 2.6.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from mmcore.areas.vma import VM_LOCKED, VM_RESERVED
from mmcore.errors import SysError
from mmcore.physical.frames import PG_ANON, PG_SWAPCACHE
from mmcore.physical.pgtable import PRESENT, A
from mmcore.rmap.walk import ANSWER, FAIL, HIT, MISS, STOP, Columns, Purpose, Seen, Visited, Walk

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.rmap.core import Rmap

SUCCESS, SWAP_AGAIN, SWAP_FAIL = 0, 1, 2
_RSS = attrgetter("rss")
_FEW = 8  # places that are not worth arrays


class ProbingWalk(Walk):
    """A walk that looks for PTEs of its frame. `by_file`: the file's index leads it, not the scheme, and it is
    metered apart."""

    __slots__ = ("rmap", "by_file")

    def __init__(self, rmap: Rmap, pfn: int, purpose: Purpose) -> None:
        self.rmap = rmap
        self.pfn = pfn
        self.purpose = purpose
        self.by_file = False

    def found(self, mm: Mm, address: int, vma: VmArea | None, pte: int) -> int:
        """A PTE maps the frame: what becomes of it, and the answer to the scheme."""
        raise NotImplementedError

    def maps(self, value: int) -> bool:
        """Is this entry what the walk looks for?"""
        return self.rmap.pgtables.maps(value, self.pfn)

    def np_maps(self, values: np.ndarray) -> np.ndarray:
        """`maps` for many entries (bool each)."""
        return self.rmap.pgtables.np_maps(values, self.pfn)

    def visit(self, mm: Mm, address: int, vma: VmArea | None = None, pte: int = -1) -> int:
        """HOT: `probe` is in line for what a scheme's walk looks for most, PTEs that map its frame."""
        rmap = self.rmap
        meters = rmap.meters
        if self.by_file:
            pte = self.probe(mm, address, pte)
            return self.found(mm, address, vma, pte) if pte >= 0 else MISS
        meters.candidates += 1
        if pte < 0:
            pte = rmap.pte_index(mm.pgd, address)
            meters.ptes_probed += 1
        value = rmap.ptes[pte] if pte >= 0 else 0
        if not value & PRESENT or value >> 12 & rmap.pfn_mask != self.pfn:
            meters.misses += 1
            return MISS
        meters.hits += 1
        return self.found(mm, address, vma, pte)

    def probe(self, mm: Mm, address: int, pte: int) -> int:
        """Index of the PTE if it is what the walk looks for, else -1; meters the candidate."""
        rmap = self.rmap
        probed = pte < 0
        if probed:
            pte = rmap.pte_index(mm.pgd, address)
        hit = pte >= 0 and self.maps(rmap.ptes[pte])
        self._meter(1, probed, hit)
        return pte if hit else -1

    def visit_many(
        self,
        mms: Sequence[Mm],
        addresses: int | np.ndarray,
        vmas: Sequence[VmArea] | None = None,
        skip_empty: bool = False,
    ) -> Visited:
        """All places are probed together, in arrays. What is found is then handled in order, and looked at once more:
        the same PTE may have been offered twice."""
        rmap, n = self.rmap, len(mms)
        ptes, indices = rmap.ptes, rmap.pgtables.np_pte_indices([mm.pgd for mm in mms], addresses)
        values = rmap.pgtables.np_ptes[np.maximum(indices, 0)]
        asked = np.fromiter((mm.rss for mm in mms), bool, n) if skip_empty else np.ones(n, bool)
        hits, first_hit, looked_at, stop = 0, -1, n, False
        for k in np.nonzero(self.np_maps(values) & (indices >= 0))[0].tolist():
            pte, mm = int(indices[k]), mms[k]
            if not self.maps(ptes[pte]):
                continue
            hits += 1
            address = addresses if isinstance(addresses, int) else int(addresses[k])
            answer = self.found(mm, address, vmas[k] if vmas is not None else None, pte)
            if first_hit < 0 and answer & ANSWER == HIT:
                first_hit = k
            if answer & STOP:
                looked_at, stop = k + 1, True
                break
            if skip_empty and not mm.rss:  # its last page went
                asked[[j for j in range(k + 1, n) if mms[j] is mm]] = False
        n = int(np.count_nonzero(asked[:looked_at]))
        self._meter(n, n, hits)
        return Visited(looked_at, stop, first_hit)

    def visit_columns(self, columns: Columns, at: int, first: int, last: int) -> Seen:
        """All places are probed together, in arrays; what is found is then handled in order, as by `visit_many`. A few
        are asked one by one, which takes less."""
        places, addresses = (None, at) if columns.areas is None else columns.showing(at, first, last)
        if (last - first if places is None else len(places)) < _FEW:
            return Walk.visit_columns(self, columns, at, first, last)
        pgtables, ptes = self.rmap.pgtables, self.rmap.ptes
        if places is None:
            assert isinstance(addresses, int)  # all at one address
            mms, tables = columns.mms[first:last], self._tables(columns, addresses)[first:last]
        else:
            mms = [columns.mms[place] for place in places.tolist()]
            tables = pgtables.np_first_entries(columns.roots[places], addresses)
        emptied: dict[Mm, int] = {}  # at which place its last page went
        indices = tables + (addresses >> 12 & pgtables.PTRS - 1)
        values = pgtables.np_ptes[indices]
        matches = np.nonzero(self.np_maps(values) & (tables != 0))[0].tolist()
        hits, first_hit, looked_at, stop = 0, -1, len(mms), False
        if len(matches) > _FEW and isinstance(self, Referenced):
            hits, stop = self.found_together(mms, indices, matches)
            first_hit = first + matches[0] if places is None else int(places[matches[0]])
            looked_at = matches[hits - 1] + 1 if stop else looked_at
            matches = []
        for k in matches:
            pte, mm = int(indices[k]), mms[k]
            if not self.maps(ptes[pte]):
                continue
            hits += 1
            place = first + k if places is None else int(places[k])
            address = addresses if isinstance(addresses, int) else int(addresses[k])
            answer = self.found(mm, address, None if columns.areas is None else columns.areas[place], pte)
            if first_hit < 0 and answer & ANSWER == HIT:
                first_hit = place
            if not mm.rss:
                emptied[mm] = k
            if answer & STOP:
                looked_at, stop = k + 1, True
                break
        if emptied:
            asked = sum(mm.rss > 0 or emptied.get(mm, -1) >= k for k, mm in enumerate(mms[:looked_at]))
        else:
            populated = self._populated(columns)
            part = populated[first : first + looked_at] if places is None else populated[places[:looked_at]]
            asked = int(np.count_nonzero(part))
        self._meter(asked, asked, hits)
        passed = last - first
        if stop:
            passed = looked_at if places is None else int(places[looked_at - 1]) + 1 - first
        return Seen(passed, asked, stop, first_hit)

    def _populated(self, columns: Columns) -> np.ndarray:
        """Which of the address spaces have pages (bool each), as seen last while none got its first or lost its
        last."""
        at = self.rmap.populations
        if columns.populated_at != at:
            columns.populated = np.fromiter(map(_RSS, columns.mms), bool, len(columns))
            columns.populated_at = at
        return columns.populated

    def _tables(self, columns: Columns, address: int) -> np.ndarray:
        """The first entries of all tables that hold the PTE of this address (int64; 0: no table), as found by the last
        walk while no table came or went."""
        pgtables = self.rmap.pgtables
        at = (address >> pgtables.SHIFT, pgtables.changes)
        if columns.tables_at != at:
            columns.tables, columns.tables_at = pgtables.np_first_entries(columns.roots, address), at
        return columns.tables

    def _meter(self, candidates: int, probed: int, hits: int) -> None:
        meters = self.rmap.meters
        if self.by_file:
            meters.file_candidates += candidates
            meters.file_ptes_probed += probed
            meters.file_hits += hits
            meters.file_misses += candidates - hits
        else:
            meters.candidates += candidates
            meters.ptes_probed += probed
            meters.hits += hits
            meters.misses += candidates - hits


class Referenced(ProbingWalk):
    """page_referenced: `young` PTEs were found. Over when all `left` PTEs of the frame were seen."""

    __slots__ = ("left", "young")

    def __init__(self, rmap: Rmap, pfn: int) -> None:
        self.rmap = rmap
        self.pfn = pfn
        self.purpose = Purpose.REFERENCED
        self.by_file = False
        self.left = rmap.mapcount[pfn]
        self.young = 0

    def visit(self, mm: Mm, address: int, vma: VmArea | None = None, pte: int = -1) -> int:
        """HOT: `found` is in line too, a tenth of what ageing a page takes."""
        rmap = self.rmap
        ptes = rmap.ptes
        if self.by_file:
            pte = self.probe(mm, address, pte)
            return self.found(mm, address, vma, pte) if pte >= 0 else MISS
        meters = rmap.meters
        meters.candidates += 1
        if pte < 0:
            pte = rmap.pte_index(mm.pgd, address)
            meters.ptes_probed += 1
        value = ptes[pte] if pte >= 0 else 0
        if not value & PRESENT or value >> 12 & rmap.pfn_mask != self.pfn:
            meters.misses += 1
            return MISS
        meters.hits += 1
        if value & A:
            ptes[pte] = value & ~A
            mm.flush_pending = True  # the CPU sets A again only when it fills a TLB entry
            self.young += 1
        self.left -= 1
        return HIT if self.left else HIT | STOP

    def found(self, mm: Mm, address: int, vma: VmArea | None, pte: int) -> int:
        ptes = self.rmap.ptes
        value = ptes[pte]
        if value & A:
            ptes[pte] = value & ~A
            mm.flush_pending = True
            self.young += 1
        self.left -= 1
        return HIT if self.left else HIT | STOP

    def found_together(self, mms: list[Mm], indices: np.ndarray, matches: list[int]) -> tuple[int, bool]:
        """`found` for PTEs of which none is named twice: how many were looked at, and whether the walk is over."""
        matches = matches[: self.left]
        young = np.nonzero(self.rmap.pgtables.np_clear_young(indices[matches]))[0].tolist()
        for k in young:
            mms[matches[k]].flush_pending = True
        self.young += len(young)
        self.left -= len(matches)
        return len(matches), not self.left


class Unmap(ProbingWalk):
    """try_to_unmap. `result`: SWAP_FAIL where a PTE may not go just now, SWAP_AGAIN where others went instead."""

    __slots__ = ("result",)

    def __init__(self, rmap: Rmap, pfn: int) -> None:
        self.rmap = rmap
        self.pfn = pfn
        self.purpose = Purpose.UNMAP
        self.by_file = False
        self.result = SUCCESS

    def found(self, mm: Mm, address: int, vma: VmArea | None, pte: int) -> int:
        """The PTE goes, leaving a swap entry (anonymous) or nothing (file) behind, unless something speaks against
        it."""
        rmap, pfn = self.rmap, self.pfn
        setup = rmap.setup
        if vma is None:
            vma = rmap.scheme.env.find_vma(mm, address)
            rmap.meters.vmas_visited += 1
            if vma is None or vma.vm_start > address:
                return self._fail() if setup.unmap_needs_vma else MISS
        frames = rmap.frames
        value = rmap.ptes[pte]
        if vma.vm_flags & (VM_LOCKED | VM_RESERVED):
            return self._fail()
        if value & A and setup.unmap_checks_young:
            rmap.ptes[pte] = value & ~A
            mm.flush_pending = True
            return self._fail()
        flags = rmap.flags[pfn]
        if flags & PG_SWAPCACHE and frames.count[pfn] != rmap.mapcount[pfn] + 2:
            # Somebody pinned the page (get_user_pages): unmapped now, a later write fault would copy it behind his
            # back.
            return self._fail()
        if flags & PG_ANON:
            entry = frames.private[pfn]
            try:
                rmap.mem.swap.swap_duplicate(entry)
            except SysError:
                return self._fail()
            left = rmap.pgtables.swp_pte(entry)
        elif vma.mapping is not None and frames.index[pfn] != (address - vma.vm_start >> 12) + vma.vm_pgoff:
            left = rmap.pgtables.file_pte(frames.index[pfn])
        else:
            left = 0
        n = rmap.take_pte(vma, pfn, pte, value, left)
        frames.count[pfn] -= 1
        if not rmap.has_remove:
            return HIT if n else HIT | STOP
        if self.by_file:  # the scheme sees no HIT
            rmap.tell_removed(vma, pfn, pte)
        return HIT

    def _fail(self) -> int:
        self.result = SWAP_FAIL
        return FAIL | STOP
