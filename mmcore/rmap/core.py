"""What the core does with a scheme's answers: counting mappings, ageing, unmapping.

`frames.mapcount` is kept here, for every scheme alike, so that a scheme that loses a mapping cannot hide it.

 page_referenced(pfn)   young PTEs found and cleared (+1 for PG_referenced)
 try_to_unmap(pfn)      SUCCESS: no PTE maps the frame any more. FAIL: locked, reserved, young or pinned.
                        AGAIN: not all found
Linux: mm/rmap.c, 2.6.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmcore.errors import InvariantViolation
from mmcore.physical.frames import PG_ANON, PG_DIRTY, PG_REFERENCED, PG_SWAPCACHE
from mmcore.physical.pgtable import D
from mmcore.rmap.by_file import FileWalks
from mmcore.rmap.picture import Picture, add_lost, of_file
from mmcore.rmap.probe import SUCCESS, SWAP_AGAIN, SWAP_FAIL, ProbingWalk, Referenced, Unmap
from mmcore.rmap.scheme import RmapScheme, WalkScheme
from mmcore.rmap.walk import Walk
from mmcore.stats import WalkLengths

if TYPE_CHECKING:
    from mmcore.areas.vma import VmArea
    from mmcore.memory import Memory


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
        self.walk_file = FileWalks(self).walk
        self.walk = scheme.walk if isinstance(scheme, WalkScheme) else self.walk_file
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
        self.populations = 0  # times that an address space got its first page or lost its last

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
        if rss == 1:
            self.populations += 1
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
        if rss == 1:
            self.populations += 1
        if vma.mapping is not None and vma.mapping.is_shmem:
            mm.shmem_rss += 1

    def copied_file(self, vma: VmArea) -> None:
        """Copy on write: an anonymous page takes the place of a file's page, whose PTE `forget` is told of."""
        mm = vma.vm_mm
        mm.anon_rss += 1
        if vma.mapping is not None and vma.mapping.is_shmem:
            mm.shmem_rss -= 1

    def count_left(self, vma: VmArea, pages: int, anon: int) -> None:
        """`pages` PTEs of an area, `anon` of them of anonymous pages, count no longer in its mm's rss."""
        mm = vma.vm_mm
        before = mm.rss
        mm.rss -= pages
        if not (before and mm.rss):
            self.populations += 1
        mm.anon_rss -= anon
        if pages != anon and vma.mapping is not None and vma.mapping.is_shmem:
            mm.shmem_rss -= pages - anon

    def remove(self, vma: VmArea, pfn: int, pte: int) -> None:
        """One PTE of an area no longer maps the frame (the reference it held is the caller's to drop)."""
        self.count_left(vma, 1, 1 if self.frames.flags[pfn] & PG_ANON else 0)
        self.forget(vma, pfn, pte)

    def forget(self, vma: VmArea, pfn: int, pte: int) -> None:
        """The part of `remove` that is about the frame: its address space stays as large as it was."""
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
        """fork copied PTEs: one more mapping and reference each. `distinct`: no frame stands twice in `pfns`."""
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
        """PTEs are gone, `nr_anon` of them of anonymous pages: one mapping less each (references are the caller's to
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
        if self.mapcount[pfn] and self.exact:
            walk = Referenced(self, pfn)
            self._metered(walk, f)
            return found + walk.young
        return found

    def _metered(self, walk: ProbingWalk, flags: int) -> None:
        """A walk, and how many objects it looked at: the most of one kind (candidates, areas, address spaces, nodes).
        The scheme's own walks and the file index's are metered apart, and kinds alike."""
        if not (flags & PG_ANON or self.walks_files):
            self._metered_by_file(walk)
            return
        meters = self.meters
        meters.walks += 1
        candidates, vmas, mms = meters.candidates, meters.vmas_visited, meters.mms_visited
        nodes = meters.nodes + meters.vma_lookup_nodes
        self.walk(walk)
        length = meters.candidates - candidates  # max() of four would take twice as long
        if length < meters.vmas_visited - vmas:
            length = meters.vmas_visited - vmas
        if length < meters.mms_visited - mms:
            length = meters.mms_visited - mms
        if length < meters.nodes + meters.vma_lookup_nodes - nodes:
            length = meters.nodes + meters.vma_lookup_nodes - nodes
        self.walk_lengths.counts[length.bit_length()] += 1
        if length > meters.longest_walk:
            meters.longest_walk = length

    def _metered_by_file(self, walk: ProbingWalk) -> None:
        """The file's index leads; what its scheme is asked on the way (nonlinear_addresses) counts too."""
        walk.by_file = True
        meters = self.meters
        meters.file_walks += 1
        candidates, vmas = meters.file_candidates, meters.file_vmas_visited + meters.vmas_visited
        nodes = meters.nodes + meters.file_nodes + meters.vma_lookup_nodes
        self.walk_file(walk)
        length = max(
            meters.file_candidates - candidates,
            meters.file_vmas_visited + meters.vmas_visited - vmas,
            meters.nodes + meters.file_nodes + meters.vma_lookup_nodes - nodes,
        )
        self.file_walk_lengths.counts[length.bit_length()] += 1
        if length > meters.file_longest_walk:
            meters.file_longest_walk = length

    def ask(self, walk: ProbingWalk) -> None:
        """A metered walk for an exact user (migrate.py, mkclean.py). File pages are found by their file's index under a
        scheme that cannot walk."""
        self._metered(walk, self.flags[walk.pfn] if self.exact else 0)

    def offer(self, walk: Walk) -> None:
        """A walk of the scheme, or of the file's index, metered by nobody: the audit's."""
        if self.flags[walk.pfn] & PG_ANON or self.walks_files:
            self.walk(walk)
        else:
            self.walk_file(walk)

    def picture(self, pfn: int) -> Picture:
        """What leads from a frame to its PTEs: the scheme's structures, or the file's index, and PTEs that nothing
        leads to. Metered by nobody."""
        before = self.meters.as_dict()  # the file's index meters its visits
        if self.flags[pfn] & PG_ANON or self.walks_files or not self.exact:
            picture = self.scheme.picture(pfn)
        else:
            mapping = self.frames.mapping[pfn]
            picture = of_file(self.scheme.env, pfn, mapping, self.walk_file)
        self.meters.restore(before)
        return add_lost(self.scheme.env, picture)

    # --- unmapping

    def try_to_unmap(self, pfn: int) -> int:
        """Takes the frame out of every page table, leaving swap entries (anonymous) or nothing (file) behind.

        The caller isolated the page and holds a reference of its own. SUCCESS | SWAP_AGAIN | SWAP_FAIL (always, where a
        scheme has no walk).
        """
        if not self.exact:
            return SWAP_FAIL
        walk = Unmap(self, pfn)
        self._metered(walk, self.flags[pfn])
        if self.mapcount[pfn] == 0:
            self.last_pte_went(pfn)
            return SUCCESS
        return walk.result or SWAP_AGAIN

    def take_pte(self, vma: VmArea, pfn: int, pte: int, value: int, left: int) -> int:
        """A PTE stops mapping the frame and holds `left` instead of `value`, whose dirty bit moves to the page.
        Answers how many PTEs map the frame still; the reference it held, and what the scheme is told, are the
        caller's."""
        mapcount = self.mapcount
        self.ptes[pte] = left
        mm = vma.vm_mm
        mm.flush_pending = True
        if value & D:
            self.set_page_dirty(pfn)
        mm.rss -= 1
        if not mm.rss:
            self.populations += 1
        if self.flags[pfn] & PG_ANON:
            mm.anon_rss -= 1
        elif vma.mapping is not None and vma.mapping.is_shmem:
            mm.shmem_rss -= 1
        self.unmapped += 1
        n = mapcount[pfn] - 1
        mapcount[pfn] = n
        if n == 0:
            self.vmstat.nr_mapped -= 1
        return n

    def pte_went(self, vma: VmArea, pfn: int, pte: int, n: int) -> None:
        """What follows `take_pte` where no walk of the scheme led to the PTE: the scheme is told. `n`: how many map
        the frame still."""
        if self.has_remove:
            self.tell_removed(vma, pfn, pte)
        if n == 0:
            self.last_pte_went(pfn)

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
