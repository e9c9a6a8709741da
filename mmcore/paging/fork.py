"""fork: a copy of an address space, and its end.

Per area: first every table and everything the scheme could need is allocated (this may reclaim, and reclaim may unmap
what is about to be copied), then the PTEs are read, copied, counted and write-protected with no allocation in between.
Linux: dup_mmap, copy_page_range, exit_mmap, 2.6.7; private PTEs of shared mappings are copied too, as it did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmcore.areas.vma import (
    VM_MAYWRITE,
    VM_NONLINEAR,
    VM_SHARED,
)
from mmcore.paging.zap import FEW
from mmcore.physical.frames import PG_ANON, PG_RESERVED
from mmcore.physical.pgtable import FILE, PRESENT, A, D, W
from mmcore.physical.pterange import PteRange, pte_slices

if TYPE_CHECKING:
    import numpy as np

    from mmcore.areas.vma import VmArea
    from mmcore.memory import Memory


_SHORT = 64  # entries that a list holds sooner than numpy finds them


def copy_page_range(mem: Memory, src: VmArea, dst: VmArea) -> None:
    """Copies the PTEs of `src` into `dst`, write-protecting both where the pages are to be copied on write. Raises
    OutOfMemory."""
    pgtables, rmap = mem.pgtables, mem.rmap
    tables = pgtables.tables(src.vm_mm.pgd, src.vm_start, src.vm_end)
    if len(tables) <= 2 and not rmap.has_dup:
        few = _populated(mem, src, tables)
        if len(few) <= FEW:
            _copy_few(mem, src, dst, few)
            return
    source, target = _make_tables(mem, src, dst, tables)
    if not source.slices:
        return
    present, at, pfns, token = _read_and_reserve(mem, source, dst)
    if len(present) < len(source.entries):
        for entry in source.swapped():
            mem.swap.swap_duplicate(entry)
    if src.vm_flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE:
        source.clear_bits(W)
        src.vm_mm.flush_pending = True
    target.write(source.without(A | D if src.vm_flags & VM_SHARED else A))
    if len(pfns):
        src_ptes, dst_ptes = (source.indices(at), target.indices(at)) if rmap.has_dup else (at, at)
        rmap.dup_range(src, dst, pfns, src_ptes, dst_ptes, token, not src.vm_flags & VM_NONLINEAR)
    if token is not None:
        mem.scheme.release(token)


def _make_tables(mem: Memory, src: VmArea, dst: VmArea, tables: list[tuple[int, int]]) -> tuple[PteRange, PteRange]:
    """Makes the child's tables; one with nothing in it is not made. Answers where there is something to copy, and where
    it is copied to, slice by slice. Raises OutOfMemory."""
    pgtables, child = mem.pgtables, dst.vm_mm
    ptes, np_ptes = pgtables.ptes, pgtables.np_ptes
    sources, targets = [], []
    slices = pte_slices(pgtables, src.vm_mm.pgd, src.vm_start, src.vm_end)
    for (first, base), (i, j) in zip(tables, slices, strict=True):
        if ptes[i] or np_ptes[i:j].any():
            delta = pgtables.pte_alloc(child, first) - base
            sources.append((i, j))
            targets.append((i + delta, j + delta))
    return PteRange(pgtables, sources), PteRange(pgtables, targets)


def _read_and_reserve(mem: Memory, source: PteRange, dst: VmArea) -> tuple[np.ndarray, np.ndarray, np.ndarray, object]:
    """Reads the PTEs and has the scheme reserve what it needs for their pages, again if that unmapped any of them.
    Answers (positions of present entries, positions and pfns of those that count, the reservation or None). Raises
    OutOfMemory."""
    rmap, scheme = mem.rmap, mem.scheme
    token = None
    while True:
        present = source.read().present()
        at, pfns = source.pages(mem.frames, present)
        if not rmap.has_dup or not len(pfns):
            break
        before = rmap.unmapped
        if token is not None:
            scheme.release(token)
        token = scheme.reserve("fork", dst, pfns)
        if rmap.unmapped == before:
            break
    return present, at, pfns, token


def _populated(mem: Memory, vma: VmArea, tables: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(PTE index, address) of the entries of an area that hold anything."""
    ptes, span = mem.pgtables.ptes, 1 << mem.pgtables.SHIFT
    found: list[tuple[int, int]] = []
    for first, base in tables:
        start, end = max(vma.vm_start, first), min(vma.vm_end, first + span)
        i, j = base + (start - first >> 12), base + (end - first >> 12)
        if j - i <= _SHORT:
            found += [(i + k, start + (k << 12)) for k, pte in enumerate(ptes[i:j].tolist()) if pte]
        else:
            found += [(i + k, start + (k << 12)) for k in mem.pgtables.np_ptes[i:j].nonzero()[0].tolist()]
    return found


def _copy_few(mem: Memory, src: VmArea, dst: VmArea, where: list[tuple[int, int]]) -> None:
    """copy_page_range entry by entry, for a scheme that need not be told: most areas of most processes hold a handful
    of pages."""
    pgtables, frames = mem.pgtables, mem.frames
    ptes, mask = pgtables.ptes, pgtables.PFN_MASK
    targets = [pgtables.pte_alloc(dst.vm_mm, address) for _, address in where]
    flags, count, mapcount, nr = frames.flags, frames.count, frames.mapcount, frames.nr
    private = src.vm_flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE
    keep = ~(A | D) if src.vm_flags & VM_SHARED else ~A
    rss = anon = 0
    for (i, _), j in zip(where, targets):
        pte = ptes[i]
        if pte & PRESENT:
            if private and pte & W:
                pte &= ~W
                ptes[i] = pte
                src.vm_mm.flush_pending = True
            ptes[j] = pte & keep
            pfn = pte >> 12 & mask
            if pfn < nr and not flags[pfn] & PG_RESERVED:
                count[pfn] += 1
                mapcount[pfn] += 1
                rss += 1
                if flags[pfn] & PG_ANON:
                    anon += 1
        elif pte:  # making tables may have reclaimed what stood here
            if not pte & FILE:
                mem.swap.swap_duplicate(pgtables.pte_to_swp(pte))
            ptes[j] = pte
    mem.rmap.count_left(dst, -rss, -anon)
