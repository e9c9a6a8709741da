"""What the core does with a scheme's answers: counting mappings, ageing, unmapping.

``frames.mapcount`` is kept here, for every scheme alike, so that a scheme that loses a mapping cannot hide it.

 page_referenced(pfn)   young PTEs found and cleared (+1 for PG_referenced)
 try_to_unmap(pfn)      SUCCESS: no PTE maps the frame any more. FAIL: locked, reserved, young or pinned. AGAIN: not all
 found
Linux: mm/rmap.c, 2.6.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmcore.areas.vma import VM_LOCKED, VM_MAYSHARE, VM_RESERVED
from mmcore.errors import InvariantViolation, SysError
from mmcore.physical.frames import PG_ANON, PG_DIRTY, PG_REFERENCED, PG_SWAPCACHE
from mmcore.physical.pgtable import FILE, PRESENT, A, D
from mmcore.rmap.picture import Picture, add_lost, of_file
from mmcore.rmap.scheme import FAIL, HIT, MISS, STOP, Purpose, RmapScheme, Visit, WalkScheme
from mmcore.stats import WalkLengths

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.memory import Memory

SUCCESS, SWAP_AGAIN, SWAP_FAIL = 0, 1, 2
_REFERENCED, _UNMAP = Purpose.REFERENCED, Purpose.UNMAP
_CLUSTER_BYTES = 32 << 12  # the mini virtual scan's step: 32 pages


class Rmap:
    """The core's side of reverse mapping for one machine."""

    def __init__(self, mem: Memory, scheme: RmapScheme) -> None:
        self.mem = mem
        self.scheme = scheme
        self.frames = mem.frames
        self.flags, self.mapcount = mem.frames.flags, mem.frames.mapcount
        self.vmstat = mem.vmstat
        self.meters = mem.meters
        self.pgtables = mem.pgtables
        self.ptes = mem.pgtables.ptes
        self.pte_index = mem.pgtables.pte_index
        self.pfn_mask = mem.pgtables.PFN_MASK
        self.exact = isinstance(scheme, WalkScheme)
        self.walk = scheme.walk if isinstance(scheme, WalkScheme) else self._walk_file
        kind = type(scheme)
        # Hooks a scheme does not override are not called on hot paths.
        self.has_dup = kind.dup is not RmapScheme.dup
        self.has_remove = kind.remove is not RmapScheme.remove
        self.has_released = kind.released is not RmapScheme.released
        # What tells a hook of one page: an array made for each would cost 0.4 us.
        self._one_pfn, self._one_pte = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self.has_reused = kind.reused is not RmapScheme.reused
        self.has_file = kind.add_file is not RmapScheme.add_file
        self.setup = scheme.env.setup
        self.walks_files = self.setup.files
        self.has_move = kind.move is not RmapScheme.move
        self.has_move_check = kind.move_check is not RmapScheme.move_check
        self.nonlinear_addresses = None
        if isinstance(scheme, WalkScheme) and type(scheme).nonlinear_addresses is not WalkScheme.nonlinear_addresses:
            self.nonlinear_addresses = scheme.nonlinear_addresses
        self.walk_lengths, self.file_walk_lengths = WalkLengths(), WalkLengths()
        # PTEs taken by try_to_unmap (or moved) so far: whoever reserves compares it to see whether reclaim ran over
        # what he read
        self.unmapped = 0
        # State of the walk under way (walks do not nest, AUDIT aside).
        self._left = 0
        self._young = 0
        self._result = SUCCESS
        self._by_file = False
        self.moving = (
            -1
        )  # migration's second pass: walks look for the migration entries of this frame instead of the PTEs of theirs

    # --- one page

    def add_anon(self, pfn: int, vma: VmArea, address: int, pte: int, exclusive: bool, token: object) -> int:
        """A PTE is about to map an anonymous page. Answers COPY (and changes nothing) where the scheme cannot record
        it."""
        frames = self.frames
        flags = frames.flags
        n = frames.mapcount[pfn]
        fresh = not flags[pfn] & PG_ANON
        flags[pfn] |= PG_ANON
        if self.scheme.add_anon(pfn, vma, address, pte, exclusive, token):
            if fresh:
                flags[pfn] &= ~PG_ANON
            return 1
        frames.mapcount[pfn] = n + 1
        if n == 0:
            self.vmstat.nr_mapped += 1
        mm = vma.vm_mm
        mm.anon_rss += 1
        mm.rss = rss = mm.rss + 1
        if rss > mm.hiwater_rss:
            mm.hiwater_rss = rss
        return 0

    def add_file(self, pfn: int, vma: VmArea, address: int, pte: int, token: object) -> None:
        mapcount = self.frames.mapcount
        if self.has_file:
            self.scheme.add_file(pfn, vma, address, pte, token)
        n = mapcount[pfn]
        mapcount[pfn] = n + 1
        if n == 0:
            self.vmstat.nr_mapped += 1
        mm = vma.vm_mm
        mm.rss = rss = mm.rss + 1
        if rss > mm.hiwater_rss:
            mm.hiwater_rss = rss
        if vma.mapping is not None and vma.mapping.is_shmem:
            mm.shmem_rss += 1

    def copied_file(self, vma: VmArea) -> None:
        """Copy on write: an anonymous page takes the place of a file's page, whose PTE ``forget`` is told of."""
        mm = vma.vm_mm
        mm.anon_rss += 1
        if vma.mapping is not None and vma.mapping.is_shmem:
            mm.shmem_rss -= 1

    def count_left(self, vma: VmArea, pages: int, anon: int) -> None:
        """``pages`` PTEs of an area, ``anon`` of them of anonymous pages, count no longer in its mm's rss."""
        mm = vma.vm_mm
        mm.rss -= pages
        mm.anon_rss -= anon
        if pages != anon and vma.mapping is not None and vma.mapping.is_shmem:
            mm.shmem_rss -= pages - anon

    def remove(self, vma: VmArea, pfn: int, pte: int) -> None:
        """One PTE of an area no longer maps the frame (the reference it held is the caller's to drop)."""
        self.count_left(vma, 1, 1 if self.frames.flags[pfn] & PG_ANON else 0)
        self.forget(vma, pfn, pte)

    def forget(self, vma: VmArea, pfn: int, pte: int) -> None:
        """The part of ``remove`` that is about the frame: its address space stays as large as it was."""
        self.uncount(pfn)
        if self.has_remove:
            self.tell_removed(vma, pfn, pte)
        if self.frames.mapcount[pfn] == 0:
            self.last_pte_went(pfn)

    def tell_removed(self, vma: VmArea, pfn: int, pte: int) -> None:
        """The scheme hears of one PTE that went."""
        self._one_pfn[0], self._one_pte[0] = pfn, pte
        self.scheme.remove(vma, self._one_pfn, self._one_pte)

    def uncount(self, pfn: int) -> None:
        mapcount = self.frames.mapcount
        n = mapcount[pfn] - 1
        if n < 0:
            raise InvariantViolation("a PTE more than were counted is removed: " + self.frames.describe(pfn))
        mapcount[pfn] = n
        if n == 0:
            self.vmstat.nr_mapped -= 1

    def last_pte_went(self, pfn: int) -> None:
        """The last PTE of a page went: 2.6.7 clears an anonymous page's mapping and PG_anon at once."""
        frames = self.frames
        if self.has_released:
            self._one_pfn[0] = pfn
            self.scheme.released(self._one_pfn)
        if frames.flags[pfn] & PG_ANON:
            frames.flags[pfn] &= ~PG_ANON
            frames.mapping[pfn] = 0

    # --- ranges

    def dup_range(
        self,
        src: VmArea,
        dst: VmArea,
        pfns: np.ndarray,
        src_ptes: np.ndarray,
        dst_ptes: np.ndarray,
        token: object,
        distinct: bool,
    ) -> None:
        """fork copied PTEs: one more mapping and reference each. ``distinct``: no frame stands twice in ``pfns``."""
        frames = self.frames
        n = len(pfns)
        anon = n if dst.mapping is None else int(np.count_nonzero(frames.np_flags[pfns] & np.uint32(PG_ANON)))
        self.count_left(dst, -n, -anon)
        if distinct:
            frames.np_count[pfns] += 1
            frames.np_mapcount[pfns] += 1
        else:
            ones = np.ones(len(pfns), np.int32)
            np.add.at(frames.np_count, pfns, ones)
            np.add.at(frames.np_mapcount, pfns, ones)
        if self.has_dup:
            self.scheme.dup(src, dst, pfns, src_ptes, dst_ptes, token)

    def remove_range(self, vma: VmArea, pfns: np.ndarray, ptes: np.ndarray, distinct: bool, nr_anon: int) -> None:
        """PTEs are gone, ``nr_anon`` of them of anonymous pages: one mapping less each (references are the caller's to
        drop)."""
        frames = self.frames
        self.count_left(vma, len(pfns), nr_anon)
        if distinct:
            left = frames.np_mapcount[pfns] - np.int32(1)
            frames.np_mapcount[pfns] = left
            gone = pfns[left == 0]
        else:
            np.subtract.at(frames.np_mapcount, pfns, np.ones(len(pfns), np.int32))
            gone = np.unique(pfns)
            left = frames.np_mapcount[gone]
            gone = gone[left == 0]
        if len(left) and int(left.min()) < 0:
            raise InvariantViolation(
                "a PTE more than were counted is removed: " + frames.describe(int(pfns[int(left.argmin())]))
            )
        self.vmstat.nr_mapped -= len(gone)
        if self.has_remove:
            self.scheme.remove(vma, pfns, ptes)
        if len(gone):
            flags = frames.np_flags[gone]
            is_anon = (flags & np.uint32(PG_ANON)) != 0
            anon = gone[is_anon]
            if self.has_released:
                for alike in (gone[~is_anon], anon):
                    if len(alike):
                        self.scheme.released(alike)
            frames.np_flags[anon] &= np.uint32(~PG_ANON & 0xFFFFFFFF)
            frames.np_mapping[anon] = 0

    # --- ageing

    def page_referenced(self, pfn: int) -> int:
        """How often the page was used since last asked: its young PTEs (cleared now), plus PG_referenced (cleared now).
        Without walks only the latter."""
        f = self.flags[pfn]
        found = 0
        if f & PG_REFERENCED:
            self.flags[pfn] = f & ~PG_REFERENCED
            found = 1
        n = self.mapcount[pfn]
        if n and self.exact:
            self._left = n
            self._young = 0
            self._metered_walk(pfn, f, _REFERENCED, self._referenced_one)
            return found + self._young
        return found

    def _metered_walk(self, pfn: int, flags: int, purpose: Purpose, visit: Visit) -> None:
        """A walk, and how many objects it looked at: the most of one kind (candidates, areas, address spaces, nodes),
        whoever looked at them. The scheme's own walks and the file index's are metered apart, and kinds alike."""
        meters = self.meters
        by_file = self._by_file = not (flags & PG_ANON or self.walks_files)
        candidates, mms = meters.candidates + meters.file_candidates, meters.mms_visited
        vmas, nodes = (
            meters.vmas_visited + meters.file_vmas_visited,
            meters.nodes + meters.file_nodes + meters.vma_lookup_nodes,
        )
        if by_file:
            meters.file_walks += 1
        else:
            meters.walks += 1
        if by_file:
            self._walk_file(pfn, purpose, visit)
        else:
            self.walk(pfn, purpose, visit)
        length = max(
            meters.candidates + meters.file_candidates - candidates,
            meters.vmas_visited + meters.file_vmas_visited - vmas,
            meters.mms_visited - mms,
            meters.nodes + meters.file_nodes + meters.vma_lookup_nodes - nodes,
        )
        if by_file:
            self.file_walk_lengths.counts[length.bit_length()] += 1
            if length > meters.file_longest_walk:
                meters.file_longest_walk = length
        else:
            self.walk_lengths.counts[length.bit_length()] += 1
            if length > meters.longest_walk:
                meters.longest_walk = length

    def ask(self, pfn: int, purpose: Purpose, visit: Visit) -> None:
        """A metered walk for an exact user (migrate.py, mkclean.py), whose ``visit`` calls ``find`` once for each
        candidate. File pages are found by their file's index under a scheme that cannot walk."""
        self._metered_walk(pfn, self.flags[pfn] if self.exact else 0, purpose, visit)

    def offer(self, pfn: int, purpose: Purpose, visit: Visit) -> None:
        """A walk of the scheme, or of the file's index, metered by nobody: the audit's."""
        if self.flags[pfn] & PG_ANON or self.walks_files:
            self.walk(pfn, purpose, visit)
        else:
            self._walk_file(pfn, purpose, visit)

    def picture(self, pfn: int) -> Picture:
        """What leads from a frame to its PTEs: the scheme's structures, or the file's index, and PTEs that nothing
        leads to. Metered by nobody."""
        before = self.meters.as_dict()  # the file's index meters its visits
        if self.flags[pfn] & PG_ANON or self.walks_files or not self.exact:
            picture = self.scheme.picture(pfn)
        else:
            mapping = self.frames.mapping[pfn]
            picture = of_file(self.scheme.env, pfn, mapping, lambda visit: self._walk_file(pfn, Purpose.AUDIT, visit))
        self.meters.restore(before)
        return add_lost(self.scheme.env, picture)

    def _find(self, pfn: int, mm: Mm, address: int, pte: int) -> int:
        """Index of the PTE if it maps the frame, else -1; meters the candidate."""
        meters = self.meters
        probed = pte < 0
        if probed:
            pte = self.pte_index(mm.pgd, address)
        hit = False
        if pte >= 0:
            value = self.ptes[pte]
            if self.moving < 0:
                hit = value >> 12 & self.pfn_mask == pfn and value & PRESENT != 0
            else:
                hit = self.pgtables.migration_pfn(value) == self.moving
        if self._by_file:
            meters.file_candidates += 1
            meters.file_ptes_probed += probed
            if hit:
                meters.file_hits += 1
                return pte
            meters.file_misses += 1
            return -1
        meters.candidates += 1
        meters.ptes_probed += probed
        if hit:
            meters.hits += 1
            return pte
        meters.misses += 1
        return -1

    find = _find

    def _referenced_one(self, pfn: int, mm: Mm, address: int, vma: VmArea | None, pte: int) -> int:
        """HOT: what _find does is in line where the scheme finds the page."""
        ptes = self.ptes
        if self._by_file:
            pte = self._find(pfn, mm, address, pte)
            if pte < 0:
                return MISS
            value = ptes[pte]
        else:
            meters = self.meters
            meters.candidates += 1
            if pte < 0:
                pte = self.pte_index(mm.pgd, address)
                meters.ptes_probed += 1
            value = ptes[pte] if pte >= 0 else 0
            if not value & PRESENT or value >> 12 & self.pfn_mask != pfn:
                meters.misses += 1
                return MISS
            meters.hits += 1
        if value & A:
            ptes[pte] = value & ~A
            mm.flush_pending = True  # the CPU sets A again only when it fills a TLB entry
            self._young += 1
        self._left -= 1
        return HIT if self._left else HIT | STOP

    # --- unmapping

    def try_to_unmap(self, pfn: int) -> int:
        """Takes the frame out of every page table, leaving swap entries (anonymous) or nothing (file) behind.

        The caller isolated the page and holds a reference of its own. SUCCESS | SWAP_AGAIN | SWAP_FAIL (always, where a
        scheme has no walk)."""
        if not self.exact:
            return SWAP_FAIL
        self._result = SUCCESS
        self._left = 1
        self._metered_walk(pfn, self.flags[pfn], _UNMAP, self._unmap_one)
        if self.mapcount[pfn] == 0:
            self.last_pte_went(pfn)
            return SUCCESS
        return self._result or SWAP_AGAIN

    def _unmap_one(self, pfn: int, mm: Mm, address: int, vma: VmArea | None, pte: int) -> int:  # noqa: C901 HOT, flat
        pte = self._find(pfn, mm, address, pte)
        if pte < 0:
            return MISS
        setup = self.setup
        if vma is None:
            vma = self.scheme.env.find_vma(mm, address)
            self.meters.vmas_visited += 1
            if vma is None or vma.vm_start > address:
                if setup.unmap_needs_vma:
                    self._result = SWAP_FAIL
                    return FAIL | STOP
                return MISS
        frames, ptes = self.frames, self.ptes
        value = ptes[pte]
        if vma.vm_flags & (VM_LOCKED | VM_RESERVED):
            self._result = SWAP_FAIL
            return FAIL | STOP
        if value & A and setup.unmap_checks_young:
            ptes[pte] = value & ~A
            mm.flush_pending = True
            self._result = SWAP_FAIL
            return FAIL | STOP
        flags = frames.flags[pfn]
        if flags & PG_SWAPCACHE and frames.count[pfn] != frames.mapcount[pfn] + 2:
            # Somebody pinned the page (get_user_pages): unmapped now, a later write fault would copy it behind his
            # back.
            self._result = SWAP_FAIL
            return FAIL | STOP
        if flags & PG_ANON:
            entry = frames.private[pfn]
            try:
                self.mem.swap.swap_duplicate(entry)
            except SysError:
                self._result = SWAP_FAIL
                return FAIL | STOP
            ptes[pte] = self.pgtables.swp_pte(entry)
        elif vma.mapping is not None and frames.index[pfn] != (address - vma.vm_start >> 12) + vma.vm_pgoff:
            ptes[pte] = self.pgtables.file_pte(frames.index[pfn])
        else:
            ptes[pte] = 0
        mm.flush_pending = True
        if value & D:
            self.set_page_dirty(pfn)
        mm.rss -= 1
        if flags & PG_ANON:
            mm.anon_rss -= 1
        elif vma.mapping is not None and vma.mapping.is_shmem:
            mm.shmem_rss -= 1
        self.unmapped += 1
        n = frames.mapcount[pfn] - 1
        frames.mapcount[pfn] = n
        frames.count[pfn] -= 1
        if self._by_file and self.has_remove:  # the scheme saw no HIT
            self.tell_removed(vma, pfn, pte)
        if n == 0:
            self.vmstat.nr_mapped -= 1
            return HIT | STOP if not self.has_remove else HIT
        return HIT

    def set_page_dirty(self, pfn: int) -> None:
        """A dirty bit moves from a PTE to the page."""
        frames = self.frames
        if frames.flags[pfn] & PG_ANON or frames.flags[pfn] & PG_SWAPCACHE:
            frames.flags[pfn] |= PG_DIRTY
            return
        mapping = self.mem.mappings.get(frames.mapping[pfn])
        if mapping is not None:
            mapping.set_page_dirty(pfn)
        else:
            frames.flags[pfn] |= PG_DIRTY

    # --- file pages, by object

    def _walk_file(self, pfn: int, purpose: Purpose, visit: Visit) -> None:
        """Offers the areas that map a file page, from its AddressSpace's index. Linux: page_referenced_file,
        try_to_unmap_file, 2.6.7.

        A scheme that keeps the user addresses at which nonlinear areas map the page has them offered, for every
        purpose, in place of the mini virtual scan."""
        frames = self.frames
        mapping = self.mem.mappings.get(frames.mapping[pfn])
        if mapping is None:
            return
        addresses = self.nonlinear_addresses(pfn, purpose) if self.nonlinear_addresses is not None else None
        index = frames.index[pfn]
        meters = self.meters
        for vma in mapping.i_mmap.overlapping(index, index):
            mm = vma.vm_mm
            if purpose == Purpose.REFERENCED:
                meters.file_vmas_visited += 1
                if vma.vm_flags & (VM_LOCKED | VM_MAYSHARE) == VM_LOCKED | VM_MAYSHARE:
                    self._young += 1
                    return
            elif purpose != Purpose.AUDIT:
                meters.file_vmas_visited += 1
            if not mm.rss:
                continue
            address = vma.vm_start + (index - vma.vm_pgoff << 12)
            if vma.vm_start <= address < vma.vm_end and visit(pfn, mm, address, vma, -1) & STOP:
                return
        if addresses is not None:
            self._offer_nonlinear(pfn, mapping.nonlinear, addresses, purpose, visit)
        elif purpose == Purpose.UNMAP and mapping.nonlinear and frames.mapcount[pfn]:
            if self.setup.unmaps_nonlinear:
                self._unmap_nonlinear(pfn, mapping.nonlinear)
        elif purpose in (Purpose.AUDIT, Purpose.MIGRATE, Purpose.MKCLEAN):
            self._search_nonlinear(pfn, mapping.nonlinear, visit, purpose)

    def _search_nonlinear(self, pfn: int, areas: list[VmArea], visit: Visit, purpose: Purpose) -> None:
        """Exact users look through nonlinear areas PTE by PTE: no formula leads there."""
        ptes, pgtables = self.pgtables.np_ptes, self.pgtables
        for vma in areas:
            if purpose != Purpose.AUDIT:
                self.meters.file_vmas_visited += 1
            for first, base in pgtables.tables(vma.vm_mm.pgd, vma.vm_start, vma.vm_end):
                lo = max(vma.vm_start, first) - first >> 12
                hi = min(vma.vm_end, first + (1 << pgtables.SHIFT)) - first >> 12
                part = ptes[base + lo : base + hi]
                if purpose != Purpose.AUDIT:
                    self.meters.file_ptes_probed += len(part)
                kind = part.dtype.type
                if self.moving >= 0:
                    match = (part & kind(PRESENT | FILE)) == 0
                    match[match] = pgtables.np_migration_pfn(part[match]) == self.moving
                else:
                    match = pgtables.np_present(part) & (pgtables.np_pfns(part) == pfn)
                for k in np.nonzero(match)[0].tolist():
                    if visit(pfn, vma.vm_mm, first + (lo + k << 12), vma, base + lo + k) & STOP:
                        return

    def _offer_nonlinear(
        self, pfn: int, areas: list[VmArea], addresses: Sequence[int], purpose: Purpose, visit: Visit
    ) -> None:
        """Each nonlinear area at the page's linear place, and at every address that is known for it."""
        index = self.frames.index[pfn]
        for vma in areas:
            if purpose != Purpose.AUDIT:
                self.meters.file_vmas_visited += 1
            linear = vma.vm_start + (index - vma.vm_pgoff << 12)
            for address in (linear, *(a for a in addresses if a != linear)):
                if vma.vm_start <= address < vma.vm_end and visit(pfn, vma.vm_mm, address, vma, -1) & STOP:
                    return

    def _unmap_nonlinear(self, pfn: int, areas: list[VmArea]) -> None:
        """The mini virtual scan: nothing leads from the page to its nonlinear PTEs, so clusters of each area are
        unmapped in turn until as many PTEs went as the page has. Linux: try_to_unmap_cluster, 2.6.7."""
        goal = self.frames.mapcount[pfn]
        usable = [v for v in areas if not v.vm_flags & (VM_LOCKED | VM_RESERVED)]
        if not usable:
            self._result = SWAP_FAIL
            return
        self.meters.file_vmas_visited += len(areas)
        longest = max(v.vm_end - v.vm_start for v in usable)
        cursor = max(v.nl_cursor for v in usable) or _CLUSTER_BYTES
        while cursor < longest + _CLUSTER_BYTES:  # the first round is for those that lag behind the furthest
            for vma in usable:
                while vma.vm_mm.rss and vma.nl_cursor < cursor and vma.nl_cursor < vma.vm_end - vma.vm_start:
                    goal -= self._unmap_cluster(vma, vma.vm_start + vma.nl_cursor, pfn)
                    vma.nl_cursor += _CLUSTER_BYTES
                    if goal <= 0:
                        self._result = SWAP_AGAIN
                        return
            cursor += _CLUSTER_BYTES
        for vma in usable:
            vma.nl_cursor = 0
        self._result = SWAP_AGAIN

    def _unmap_cluster(self, vma: VmArea, start: int, wanted: int) -> int:
        """Unmaps what is present, idle and not reserved in one cluster, whether it maps the ``wanted`` frame (a hit) or
        not; returns how many PTEs."""
        frames, ptes, mm, meters = self.frames, self.ptes, vma.vm_mm, self.meters
        done = 0
        for address in range(start, min(start + _CLUSTER_BYTES, vma.vm_end), 4096):
            pte = self.pte_index(mm.pgd, address)
            meters.file_ptes_probed += 1
            if pte < 0:
                continue
            value = ptes[pte]
            if not value & PRESENT:
                continue
            pfn = value >> 12 & self.pfn_mask
            if self.mem.is_reserved(pfn) or frames.flags[pfn] & PG_ANON:
                continue
            meters.file_candidates += 1
            if pfn == wanted:
                meters.file_hits += 1
            else:
                meters.file_misses += 1
            mm.flush_pending = True
            if value & A:
                ptes[pte] = value & ~A
                continue
            linear = (address - vma.vm_start >> 12) + vma.vm_pgoff
            ptes[pte] = self.pgtables.file_pte(frames.index[pfn]) if frames.index[pfn] != linear else 0
            if value & D:
                self.set_page_dirty(pfn)
            self.unmapped += 1
            self.remove(vma, pfn, pte)
            self.mem.pages.put_page(pfn)
            done += 1
        return done
