"""fork: a copy of an address space, and its end.

Per area: first every table and everything the scheme could need is allocated (this may reclaim, and reclaim may unmap
what is about to be copied), then the PTEs are read, copied, counted and write-protected with no allocation in between.
Linux: dup_mmap, copy_page_range, exit_mmap, 2.6.7; private PTEs of shared mappings are copied too, as it did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmcore.areas.vma import (
    VM_MAYWRITE,
    VM_NONLINEAR,
    VM_SHARED,
)
from mmcore.paging.zap import FEW, pte_slices
from mmcore.physical.frames import PG_ANON, PG_RESERVED
from mmcore.physical.pgtable import FILE, PRESENT, A, D, W

if TYPE_CHECKING:
    from mmcore.areas.vma import VmArea
    from mmcore.memory import Memory


_SHORT = 64  # entries that a list holds sooner than numpy finds them


def copy_page_range(mem: Memory, src: VmArea, dst: VmArea) -> None:  # noqa: C901, PLR0915 to be cut
    """Copies the PTEs of ``src`` into ``dst``, write-protecting both where the pages are to be copied on write. Raises
    OutOfMemory."""
    pgtables, frames, rmap, scheme = mem.pgtables, mem.frames, mem.rmap, mem.scheme
    ptes, np_ptes, child = pgtables.ptes, pgtables.np_ptes, dst.vm_mm
    # Tables first; one with nothing in it is not made.
    pairs: list[tuple[int, int, int]] = []
    tables = pgtables.tables(src.vm_mm.pgd, src.vm_start, src.vm_end)
    if len(tables) <= 2 and not rmap.has_dup:
        few = _populated(mem, src, tables)
        if len(few) <= FEW:
            _copy_few(mem, src, dst, few)
            return
    for (first, base), (i, j) in zip(tables, pte_slices(mem, src, src.vm_start, src.vm_end), strict=True):
        if ptes[i] or np_ptes[i:j].any():
            pairs.append((i, j, pgtables.pte_alloc(child, first) - base))
    if not pairs:
        return
    kind = np_ptes.dtype.type
    present_bits = kind(PRESENT)
    token = None
    while True:
        entries = (
            np_ptes[pairs[0][0] : pairs[0][1]].copy()
            if len(pairs) == 1
            else np.concatenate([np_ptes[i:j] for i, j, _ in pairs])
        )
        present = (entries & present_bits) != 0
        at = present.nonzero()[0]
        full = len(at) == len(entries)
        pfns = pgtables.np_pfns(entries if full else entries[at])
        counted = frames.counted(pfns)
        if not counted.all():
            at, pfns = at[counted], pfns[counted]
        if not rmap.has_dup or not len(pfns):
            break
        before = rmap.unmapped
        if token is not None:
            scheme.release(token)
        token = scheme.reserve("fork", dst, pfns)
        if rmap.unmapped == before:
            break
    if not full:
        swapped = entries[~present & (entries != 0)]
        swapped = swapped[(swapped & kind(FILE)) == 0]
        for entry in pgtables.np_pte_to_swp(swapped).tolist():
            mem.swap.swap_duplicate(entry)
    if src.vm_flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE:
        keep = ~kind(W)
        protected = entries & keep if full else np.where(present, entries & keep, entries)
        k = 0
        for i, j, _ in pairs:
            np_ptes[i:j] = protected[k : k + j - i]
            k += j - i
        src.vm_mm.flush_pending = True
        new = protected & ~kind(A) if full else np.where(present, protected & ~kind(A), protected)
    else:
        bits = kind(A | D) if src.vm_flags & VM_SHARED else kind(A)
        new = np.where(present, entries & ~bits, entries)
    k = 0
    for i, j, delta in pairs:
        np_ptes[i + delta : j + delta] = new[k : k + j - i]
        k += j - i
    if len(pfns):
        src_ptes = dst_ptes = at
        if rmap.has_dup:
            src_ptes = np.concatenate([np.arange(i, j) for i, j, _ in pairs])[at]
            dst_ptes = np.concatenate([np.arange(i + d, j + d) for i, j, d in pairs])[at]
        rmap.dup_range(src, dst, pfns, src_ptes, dst_ptes, token, not src.vm_flags & VM_NONLINEAR)
    if token is not None:
        scheme.release(token)


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
