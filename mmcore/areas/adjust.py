"""Areas joined, cut and moved against each other: link, unlink, adjust, split, merge.

Merging looks at a range P that is about to have certain flags, between its neighbours. What can become of `PPPPNNNN`
and its like:

 new range (mmap, brk, mremap)      1 prev+P+next  -> prev     2 prev+P -> prev       3 P+next -> next
 range of an area (mprotect & co)   4 prev's end   -> next     5 next's head -> prev
                                    6 prev+area+next -> prev   7 prev+area -> prev    8 area+next -> area, next's place

Order of work, always: scheme.vma_adjust_begin (may refuse, nothing has changed) - out of the file's index - keys - into
the index - vma_adjust_end. Linux: vma_adjust, vma_merge, split_vma, mm/mmap.c, 2.6.7; anonymous areas compare vm_pgoff
since rmap-39.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmcore.areas.vma import SPLIT, VM_NONLINEAR, VM_SPECIAL, VmArea
from mmcore.errors import OutOfMemory, SysError

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory
    from mmcore.outside import MappedFile


def vma_link(mem: Memory, mm: Mm, i: int, vma: VmArea) -> None:
    """A new area takes position `i` of its mm and joins its file's index. Cannot fail."""
    mm.vmas.insert(i, vma)
    mm.starts.insert(i, vma.vm_start)
    if vma.mapping is not None:
        vma.mapping.link(vma)


def vma_link_copy(mem: Memory, mm: Mm, i: int, vma: VmArea) -> None:
    """A copy, which the scheme knows from vma_copied, takes position `i`; its file gains a reference. Cannot fail."""
    mm.vmas.insert(i, vma)
    mm.starts.insert(i, vma.vm_start)
    if vma.vm_file is not None:
        vma.vm_file.get()
    if vma.mapping is not None:
        vma.mapping.link(vma)


def vma_adjust(
    mem: Memory, mm: Mm, i: int, start: int, end: int, insert: VmArea | None = None, absorb: int = 0
) -> None:
    """The area at position `i` becomes `[start, end)`.

    Without more: it shrinks, or grows into free space; if it then overlaps the next area, that one starts at `end`;
    if it shrinks from a neighbour that touches it *and* `absorb` is -1, the neighbour grows down to `end`
    (mprotect's case 4). `insert`: a copy that takes the part cut off (split). `absorb` 1: the next area, which ends
    at `end`, is swallowed whole. Raises OutOfMemory with nothing changed (a scheme's begin or copy may; never for an
    area that only shrinks).
    """
    vmas, starts = mm.vmas, mm.starts
    vma = vmas[i]
    nxt: VmArea | None = None
    if absorb or (insert is None and i + 1 < len(vmas) and end > starts[i + 1]):
        nxt = vmas[i + 1]
    scheme = mem.scheme
    token = scheme.vma_adjust_begin(vma, start, end, nxt)
    if insert is not None:
        try:
            scheme.vma_copied(insert, vma, SPLIT)
        except OutOfMemory:
            scheme.vma_adjust_end(token)
            raise
    mapping = vma.mapping
    index = mapping.i_mmap if mapping is not None and not vma.vm_flags & VM_NONLINEAR else None
    if index is not None:
        index.remove(vma)
        if nxt is not None and absorb <= 0:
            index.remove(nxt)
    if start != vma.vm_start:
        vma.vm_pgoff += start - vma.vm_start >> 12
        vma.vm_start = starts[i] = start
    vma.vm_end = end
    if nxt is not None and absorb <= 0:
        nxt.vm_pgoff += end - nxt.vm_start >> 12
        nxt.vm_start = starts[i + 1] = end
        if index is not None:
            index.insert(nxt)
    if index is not None:
        index.insert(vma)
    if insert is not None:
        vma_link_copy(mem, mm, i if insert.vm_start < start else i + 1, insert)
    if absorb > 0:
        _absorb_next(mem, mm, i)
    mm.mmap_cache = vma
    scheme.vma_adjust_end(token)


def _absorb_next(mem: Memory, mm: Mm, i: int) -> None:
    """The area after position `i` has been swallowed by the one at `i`."""
    gone = mm.vmas.pop(i + 1)
    del mm.starts[i + 1]
    mem.scheme.vma_unlinked(gone, mm.vmas[i])
    if gone.mapping is not None:
        gone.mapping.unlink(gone)
    if gone.vm_file is not None:
        gone.vm_file.put()
    gone.free(mem)


def split_vma(mem: Memory, mm: Mm, i: int, addr: int, new_below: bool) -> None:
    """Cuts the area at position `i` at `addr`: afterwards positions `i` and `i + 1` hold the halves. The new
    object is the lower half if `new_below`, which moves the old one to `i + 1`. Raises OutOfMemory or
    SysError(ENOMEM) with nothing changed."""
    vmas = mm.vmas
    if len(vmas) >= mm.max_map_count:
        raise SysError(errno.ENOMEM, "too many areas")
    vma = vmas[i]
    new = vma.clone(mem, mm)
    if new_below:
        new.vm_end = addr
        start, end = addr, vma.vm_end
    else:
        new.vm_start = addr
        new.vm_pgoff += addr - vma.vm_start >> 12
        start, end = vma.vm_start, addr
    try:
        vma_adjust(mem, mm, i, start, end, new)
    except OutOfMemory:
        new.free(mem)
        raise


def vma_modify_flags(mem: Memory, mm: Mm, i: int, start: int, end: int, flags: int) -> VmArea:
    """Gives `[start, end)`, part of the area at position `i`, an area that may carry `flags`: merged into a
    neighbour that has them, or split off. Returns it; the caller sets its flags. Raises SysError(ENOMEM) with nothing
    changed."""
    vma = mm.vmas[i]
    cut = start > vma.vm_start
    if not cut or end == vma.vm_end:  # else no neighbour touches the range
        pgoff = vma.vm_pgoff + (start - vma.vm_start >> 12)
        merged = vma_merge(mem, mm, i, start, end, flags, vma, vma.vm_file, pgoff)
        if merged is not None:
            return merged
    if cut:
        split_vma(mem, mm, i, start, new_below=True)
        i += 1
    if end < vma.vm_end:
        try:
            split_vma(mem, mm, i, end, new_below=False)
        except SysError:
            if cut:  # the halves join again, under the lower one's object
                below = mm.vmas[i - 1]
                vma_adjust(mem, mm, i - 1, below.vm_start, vma.vm_end, absorb=1)
            raise
    return vma


def can_vma_merge(mem: Memory, area: VmArea, like: VmArea | None, flags: int, file: MappedFile | None) -> bool:
    """Whether a range with `flags` and `file` (and, if given, the pages of the area `like`) may become part of
    `area`, addresses and offsets apart. A refusal that is the scheme's alone is counted."""
    if area.vm_flags != flags or area.vm_file is not file or flags & VM_SPECIAL:
        return False
    if like is None or mem.scheme.can_merge(area, like):
        return True
    mem.meters.merges_refused += 1
    return False


def _alike(
    mem: Memory,
    mm: Mm,
    i: int,
    start: int,
    end: int,
    flags: int,
    vma: VmArea | None,
    file: MappedFile | None,
    pgoff: int,
) -> tuple[VmArea | None, VmArea | None]:
    """The neighbours below and above that `vma_merge` may join the range to; both only if all three may be one area.
    An area's own rest is no neighbour of its."""
    vmas = mm.vmas
    prev = nxt = None
    if vma is None or start == vma.vm_start:
        if i and vmas[i - 1].vm_end == start:
            prev = vmas[i - 1]
            if prev.vm_pgoff + (start - prev.vm_start >> 12) != pgoff or not can_vma_merge(mem, prev, vma, flags, file):
                prev = None
    if vma is None or end == vma.vm_end:
        j = i if vma is None else i + 1
        if j < len(vmas) and vmas[j].vm_start == end:
            nxt = vmas[j]
            if nxt.vm_pgoff != pgoff + (end - start >> 12) or not can_vma_merge(mem, nxt, vma, flags, file):
                nxt = None
    if prev is not None and nxt is not None and not mem.scheme.can_merge(prev, nxt):
        mem.meters.merges_refused += 1
        nxt = None
    return prev, nxt


def vma_merge(
    mem: Memory,
    mm: Mm,
    i: int,
    start: int,
    end: int,
    flags: int,
    vma: VmArea | None,
    file: MappedFile | None,
    pgoff: int,
) -> VmArea | None:
    """Joins the range `[start, end)` to its neighbours if they are alike; returns the area that holds it now, or
    None.

    `vma` is the area that has the range now (mprotect & co; it is at position `i`), None for a range that is free
    (then `i` is the position of the first area above it; the caller accounts the new pages). Never fails: a scheme's
    refusal is "cannot merge".
    """
    if flags & VM_SPECIAL:
        return None
    prev, nxt = _alike(mem, mm, i, start, end, flags, vma, file, pgoff)
    if prev is None and nxt is None:
        return None
    whole = vma is not None and start == vma.vm_start and end == vma.vm_end
    at_prev = i - 1
    joined = False
    try:
        if prev is not None:
            if nxt is not None:  # 1, 6
                if whole:
                    vma_adjust(mem, mm, at_prev, prev.vm_start, end, absorb=1)
                    joined = True
                vma_adjust(mem, mm, at_prev, prev.vm_start, nxt.vm_end, absorb=1)
            elif whole:  # 7
                vma_adjust(mem, mm, at_prev, prev.vm_start, end, absorb=1)
            else:  # 2, 5
                vma_adjust(mem, mm, at_prev, prev.vm_start, end)
            return prev
        assert nxt is not None
        if vma is None:  # 3
            vma_adjust(mem, mm, i, start, nxt.vm_end)
            return nxt
        if whole:  # 8: the area takes over what follows, under the flags and objects both share
            vma_adjust(mem, mm, i, start, nxt.vm_end, absorb=1)
            return vma
        vma_adjust(mem, mm, i, vma.vm_start, start, absorb=-1)  # 4
        return nxt
    except OutOfMemory:
        return prev if joined else None
