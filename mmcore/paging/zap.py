"""Taking PTEs away: a range of an area, a whole address space, a range of a file.

Ranges are handled a table or more at a time in numpy; a range with few PTEs entry by entry, which is faster then.
Linux: zap_page_range, exit_mmap, unmap_mapping_range in mm/memory.c and mm/mmap.c, 2.6.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmcore.areas.vma import VM_NONLINEAR
from mmcore.physical.frames import PG_ANON, PG_RESERVED, PG_SWAPCACHE
from mmcore.physical.pgtable import FILE, PRESENT, A, D
from mmcore.physical.pterange import PteRange, pte_slices

if TYPE_CHECKING:
    from mmcore.areas.vma import VmArea
    from mmcore.files.filemap import AddressSpace
    from mmcore.memory import Memory

FEW = 24  # up to so many entries the scalar loop wins
_SMALL = 8 << 12  # ranges so small are not worth a look at whole tables


def zap_page_range(mem: Memory, vma: VmArea, start: int, end: int) -> None:
    """Unmaps `[start, end)` of an area: PTEs cleared, references dropped, swap entries freed. Cannot fail."""
    if end - start <= _SMALL:
        pgd, ptes, pte_index = vma.vm_mm.pgd, mem.pgtables.ptes, mem.pgtables.pte_index
        few = []
        for address in range(start, end, 4096):
            i = pte_index(pgd, address)
            if i >= 0 and ptes[i]:
                few.append(i)
        if few:
            _zap_few(mem, vma, few)
        return
    span = PteRange.of(mem.pgtables, vma.vm_mm.pgd, start, end)
    if not span.slices:
        return
    at = span.read().filled()
    if len(at) == 0:
        return
    if len(at) <= FEW:
        _zap_few(mem, vma, span.indices(at).tolist())
        return
    span.clear()
    _drop(mem, vma, span, at)


def _zap_few(mem: Memory, vma: VmArea, indices: list[int]) -> None:
    mm, frames, ptes = vma.vm_mm, mem.frames, mem.pgtables.ptes
    flags, nr, mask = frames.flags, frames.nr, mem.pgtables.PFN_MASK
    rmap, put_page = mem.rmap, mem.pages.put_page
    for i in indices:
        pte = ptes[i]
        ptes[i] = 0
        if pte & PRESENT:
            pfn = pte >> 12 & mask
            mm.flush_pending = True
            if pfn >= nr or flags[pfn] & PG_RESERVED:
                continue
            anon = flags[pfn] & PG_ANON
            if pte & D:
                rmap.set_page_dirty(pfn)
            if pte & A and not anon:
                mem.reclaim.mark_page_accessed(pfn)
            rmap.remove(vma, pfn, i)
            if flags[pfn] & PG_SWAPCACHE:
                mem.swap.free_page_and_swap_cache(pfn)
            else:
                put_page(pfn)
        elif not pte & FILE:
            mem.swap.free_swap_and_cache(mem.pgtables.pte_to_swp(pte))


def _drop(mem: Memory, vma: VmArea, cleared: PteRange, at: np.ndarray) -> None:
    """What the cleared PTEs at the positions `at` held is let go."""
    frames, rmap = mem.frames, mem.rmap
    present = cleared.present(at)
    if len(present) < len(at):
        free_swap = mem.swap.free_swap_and_cache
        for entry in cleared.swapped():
            free_swap(entry)
        if len(present) == 0:
            return
    vma.vm_mm.flush_pending = True
    at, pfns = cleared.pages(frames, present)
    if len(pfns) == 0:
        return
    flags = frames.np_flags[pfns]
    anon = (flags & PG_ANON) != 0
    if not anon.all():
        _leave_files(mem, cleared, at[~anon], pfns[~anon])
    distinct = not vma.vm_flags & VM_NONLINEAR
    # Only a scheme that keeps PTEs wants to know which they were.
    where = cleared.indices(at) if rmap.has_remove else at
    rmap.remove_range(vma, pfns, where, distinct, int(np.count_nonzero(anon)))
    cached = (flags & PG_SWAPCACHE) != 0
    if cached.any():
        for pfn, dirty in zip(pfns[cached].tolist(), cleared.has(D, at[cached]).tolist(), strict=True):
            if dirty:
                rmap.set_page_dirty(pfn)
            mem.swap.free_page_and_swap_cache(pfn)
        pfns = pfns[~cached]
    _put_pages(mem, pfns, distinct)


def _leave_files(mem: Memory, cleared: PteRange, at: np.ndarray, pfns: np.ndarray) -> None:
    """What the PTEs of file pages knew is told to their pages: written to, used."""
    rmap, mark = mem.rmap, mem.reclaim.mark_page_accessed
    for pfn, pte in zip(pfns.tolist(), cleared.entries[at].tolist(), strict=True):
        if pte & D:
            rmap.set_page_dirty(pfn)
        if pte & A:
            mark(pfn)


def _put_pages(mem: Memory, pfns: np.ndarray, distinct: bool) -> None:
    """One reference less for each; pages without any are freed. `distinct`: no frame stands twice in `pfns`."""
    np_count = mem.frames.np_count
    if distinct:
        left = np_count[pfns] - np.int32(1)
        np_count[pfns] = left
    else:
        np.subtract.at(np_count, pfns, np.ones(len(pfns), np.int32))
        pfns = np.unique(pfns)
        left = np_count[pfns]
    free = pfns[left == 0]
    if len(free):
        mem.pages.free_bulk(free)


def unmap_mapping_range(mem: Memory, mapping: AddressSpace, first: int, last: int, even_cows: bool = True) -> None:
    """Truncation: no PTE maps pages `first..last` (inclusive) of the file any more; private copies go too unless told
    otherwise."""
    for vma in list(mapping.i_mmap.overlapping(first, last)):
        lo = max(first, vma.vm_pgoff)
        hi = min(last + 1, vma.vm_pgoff + (vma.vm_end - vma.vm_start >> 12))
        if lo < hi:
            start = vma.vm_start + (lo - vma.vm_pgoff << 12)
            end = vma.vm_start + (hi - vma.vm_pgoff << 12)
            if even_cows:
                zap_page_range(mem, vma, start, end)
            else:
                _zap_file_pages(mem, vma, start, end)
    for vma in mapping.nonlinear:
        _zap_nonlinear(mem, vma, first, last)


def _zap_file_pages(mem: Memory, vma: VmArea, start: int, end: int) -> None:
    ptes, mask = mem.pgtables.ptes, mem.pgtables.PFN_MASK
    for i, j in pte_slices(mem.pgtables, vma.vm_mm.pgd, start, end):
        few = [k for k in range(i, j) if ptes[k] & PRESENT and not mem.frames.flags[ptes[k] >> 12 & mask] & PG_ANON]
        _zap_few(mem, vma, few)


def _zap_nonlinear(mem: Memory, vma: VmArea, first: int, last: int) -> None:
    """Truncated pages of a nonlinear area leave a PTE that still names their offset (a later access is SIGBUS, not
    another page)."""
    pgtables, frames = mem.pgtables, mem.frames
    ptes, mask = pgtables.ptes, pgtables.PFN_MASK
    for i, j in pte_slices(pgtables, vma.vm_mm.pgd, vma.vm_start, vma.vm_end):
        for k in range(i, j):
            pte = ptes[k]
            if not pte & PRESENT:
                continue
            pfn = pte >> 12 & mask
            if frames.flags[pfn] & PG_RESERVED or not first <= frames.index[pfn] <= last:
                continue
            index = frames.index[pfn]
            _zap_few(mem, vma, [k])
            ptes[k] = pgtables.file_pte(index)
