"""madvise, mincore, msync: what a program says and asks about its pages. Linux: mm/madvise.c, mm/mincore.c, mm/msync.c;
errors as in 6.18."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmcore.areas.adjust import vma_modify_flags
from mmcore.areas.vma import (
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_IO,
    VM_LOCKED,
    VM_MAYWRITE,
    VM_NONLINEAR,
    VM_RAND_READ,
    VM_READ,
    VM_SEQ_READ,
    VM_SHARED,
    VM_SPECIAL,
    VM_WIPEONFORK,
    VM_WRITE,
    VmArea,
    linear_page_index,
)
from mmcore.errors import NotHere, SysError
from mmcore.paging.zap import zap_page_range
from mmcore.physical.frames import PG_UPTODATE
from mmcore.physical.pgtable import FILE, PRESENT, TASK_SIZE, A, D, P
from mmcore.physical.pterange import pte_slices

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.files.filemap import AddressSpace
    from mmcore.memory import Memory

(MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED) = range(5)
MADV_FREE, MADV_REMOVE, MADV_DONTFORK, MADV_DOFORK, MADV_MERGEABLE, MADV_UNMERGEABLE = range(8, 14)
MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_DODUMP, MADV_WIPEONFORK, MADV_KEEPONFORK = range(14, 20)
MADV_COLD, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_DONTNEED_LOCKED = range(20, 25)

# advice -> (vm_flags set, vm_flags cleared)
_FLAG_ADVICE = {
    MADV_NORMAL: (0, VM_RAND_READ | VM_SEQ_READ),
    MADV_RANDOM: (VM_RAND_READ, VM_SEQ_READ),
    MADV_SEQUENTIAL: (VM_SEQ_READ, VM_RAND_READ),
    MADV_DONTFORK: (VM_DONTCOPY, 0),
    MADV_DOFORK: (0, VM_DONTCOPY),
    MADV_DONTDUMP: (VM_DONTDUMP, 0),
    MADV_DODUMP: (0, VM_DONTDUMP),
    MADV_WIPEONFORK: (VM_WIPEONFORK, 0),
    MADV_KEEPONFORK: (0, VM_WIPEONFORK),
}
_NOT_LOCKED = (MADV_DONTNEED, MADV_REMOVE, MADV_FREE, MADV_COLD, MADV_PAGEOUT)  # not for a VM_LOCKED area
# Linux knows advice only about what it was built with.
_NOT_HERE = {
    MADV_MERGEABLE: "MADV_MERGEABLE",
    MADV_UNMERGEABLE: "MADV_UNMERGEABLE",
    MADV_HUGEPAGE: "MADV_HUGEPAGE",
    MADV_NOHUGEPAGE: "MADV_NOHUGEPAGE",
    25: "MADV_COLLAPSE",
    100: "MADV_HWPOISON",
    101: "MADV_SOFT_OFFLINE",
    102: "MADV_GUARD_INSTALL",
    103: "MADV_GUARD_REMOVE",
}
_KNOWN = set(_FLAG_ADVICE) | {
    MADV_WILLNEED,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_REMOVE,
    MADV_COLD,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_DONTNEED_LOCKED,
}


def do_madvise(mem: Memory, mm: Mm, start: int, length: int, advice: int) -> None:
    """Takes advice about `[start, start + length)` (bytes). Raises EINVAL (arguments, an area the advice does not
    fit), EBADF, EACCES, EFAULT, ENOMEM (holes; all areas between are advised nevertheless)."""
    if advice in _NOT_HERE:
        raise NotHere(errno.EINVAL, f"{_NOT_HERE[advice]} (madvise)")
    if advice not in _KNOWN or start & 4095:
        raise SysError(errno.EINVAL)
    end = start + (length + 4095 & ~4095)
    if end == start:
        return
    holes = False
    while start < end:
        i = mm.find_index(start)
        if i >= len(mm.vmas) or mm.starts[i] >= end:
            holes = True
            break
        vma = mm.vmas[i]
        if vma.vm_start > start:
            if advice in (MADV_POPULATE_READ, MADV_POPULATE_WRITE):
                break
            holes = True
            start = vma.vm_start
        stop = min(end, vma.vm_end)
        _advise(mem, mm, i, vma, start, stop, advice)
        start = stop
    if holes or start < end:
        raise SysError(errno.ENOMEM)


def _advise(mem: Memory, mm: Mm, i: int, vma: VmArea, start: int, end: int, advice: int) -> None:
    """One area's share."""
    flags = vma.vm_flags
    if advice in _FLAG_ADVICE:
        _advise_flags(mem, mm, i, vma, start, end, advice)
    elif advice in _NOT_LOCKED and flags & VM_LOCKED:
        raise SysError(errno.EINVAL)
    elif advice in (MADV_DONTNEED, MADV_DONTNEED_LOCKED):
        if flags & VM_NONLINEAR:
            _forget_nonlinear(mem, vma, start, end)
        else:
            zap_page_range(mem, vma, start, end)
    elif advice == MADV_WILLNEED:
        if vma.mapping is not None:
            vma.mapping.read_ahead(linear_page_index(vma, start), end - start >> 12)
    elif advice == MADV_REMOVE:
        _remove(vma, start, end)
    elif advice in (MADV_POPULATE_READ, MADV_POPULATE_WRITE):
        _populate(mem, mm, vma, start, end, advice == MADV_POPULATE_WRITE)
    elif advice == MADV_FREE:
        # The kernel may drop the pages from now on, or keep them: they are kept.
        if vma.mapping is not None:
            raise SysError(errno.EINVAL)
    elif advice in (MADV_COLD, MADV_PAGEOUT):
        _age(mem, vma, start, end)


def _advise_flags(mem: Memory, mm: Mm, i: int, vma: VmArea, start: int, end: int, advice: int) -> None:
    """Advice that is kept as flags of the area. Raises EINVAL (an area it does not fit), ENOMEM."""
    flags = vma.vm_flags
    if (advice == MADV_DOFORK and flags & VM_IO) or (advice == MADV_DODUMP and flags & VM_SPECIAL):
        raise SysError(errno.EINVAL)
    if advice == MADV_WIPEONFORK and (vma.mapping is not None or flags & VM_SHARED):
        raise SysError(errno.EINVAL)
    set_, cleared = _FLAG_ADVICE[advice]
    flags = flags & ~cleared | set_
    if flags != vma.vm_flags:
        vma_modify_flags(mem, mm, i, start, end, flags).vm_flags = flags


def _remove(vma: VmArea, start: int, end: int) -> None:
    """Punches a hole into the file. Raises EINVAL (no file), EACCES (not shared and writable), EPERM (sealed)."""
    if vma.mapping is None:
        raise SysError(errno.EINVAL)
    if vma.vm_flags & (VM_SHARED | VM_MAYWRITE) != VM_SHARED | VM_MAYWRITE:
        raise SysError(errno.EACCES)
    if vma.mapping.write_sealed:
        raise SysError(errno.EPERM)
    pos = linear_page_index(vma, start) << 12
    vma.mapping.punch_hole(pos, pos + end - start)


def _forget_nonlinear(mem: Memory, vma: VmArea, start: int, end: int) -> None:
    """Drops the pages of a nonlinear area, not which page of the file stands where."""
    pgtables, frames = mem.pgtables, mem.frames
    ptes = pgtables.ptes
    offsets: list[tuple[int, int]] = []
    for first, base in pgtables.tables(vma.vm_mm.pgd, start, end):
        for addr in range(max(start, first), min(end, first + (1 << pgtables.SHIFT)), 4096):
            k = base + (addr - first >> 12)
            pte = ptes[k]
            if pte & PRESENT:
                index = frames.index[pte >> 12 & pgtables.PFN_MASK]
                if index != linear_page_index(vma, addr):
                    offsets.append((k, pgtables.file_pte(index)))
            elif pte & FILE:
                offsets.append((k, pte))
    zap_page_range(mem, vma, start, end)
    for k, pte in offsets:
        ptes[k] = pte


def _populate(mem: Memory, mm: Mm, vma: VmArea, start: int, end: int, write: bool) -> None:
    """Faults a range in, for reading or for writing. Raises EINVAL (no permission), EFAULT (no page)."""
    if not vma.vm_flags & (VM_WRITE if write else VM_READ):
        raise SysError(errno.EINVAL)
    for addr in range(start, end, 4096):
        try:
            mem.faults.fault_in(mm, addr, write)
        except SysError as error:
            raise SysError(errno.EFAULT if error.errno == errno.EFAULT else errno.ENOMEM) from None


def _age(mem: Memory, vma: VmArea, start: int, end: int) -> None:
    """The pages look idle to the next ageing."""
    ptes, young = mem.pgtables.ptes, ~0x20
    for i, j in pte_slices(mem.pgtables, vma.vm_mm.pgd, start, end):
        for k in range(i, j):
            pte = ptes[k]
            if pte & P and pte & A:
                ptes[k] = pte & young
                vma.vm_mm.flush_pending = True


def do_mincore(mem: Memory, mm: Mm, start: int, length: int) -> bytes:
    """One byte per page of `[start, start + length)`: 1 if it is in RAM (mapped or, for files, cached). Raises
    EINVAL, ENOMEM (holes)."""
    if start & 4095:
        raise SysError(errno.EINVAL)
    end = start + (length + 4095 & ~4095)
    if end > TASK_SIZE:
        raise SysError(errno.ENOMEM)
    out = bytearray()
    while start < end:
        vma = mm.find_vma(start)
        if vma is None or vma.vm_start > start:
            raise SysError(errno.ENOMEM)
        stop = min(end, vma.vm_end)
        out += bytes(_resident(mem, vma, addr) for addr in range(start, stop, 4096))
        start = stop
    return bytes(out)


def _resident(mem: Memory, vma: VmArea, addr: int) -> int:
    pgtables = mem.pgtables
    k = pgtables.pte_index(vma.vm_mm.pgd, addr)
    pte = pgtables.ptes[k] if k >= 0 else 0
    if pte & PRESENT:
        return 1
    if pte and not pte & FILE:
        pfn = mem.swap.lookup_swap_cache(pgtables.pte_to_swp(pte))
    elif vma.mapping is not None:
        pfn = vma.mapping.find_get_page(pgtables.pte_to_pgoff(pte) if pte else linear_page_index(vma, addr))
    else:
        return 0
    if pfn < 0:
        return 0
    uptodate = mem.frames.flags[pfn] & PG_UPTODATE
    mem.pages.put_page(pfn)
    return 1 if uptodate else 0


MS_ASYNC, MS_INVALIDATE, MS_SYNC = 1, 2, 4


def do_msync(mem: Memory, mm: Mm, start: int, length: int, flags: int) -> tuple[list[AddressSpace], bool]:
    """Sends what was written to shared file mappings in `[start, start + length)` on its way (MS_SYNC). Returns the
    files to wait for, and whether there were holes (ENOMEM once they are done). Raises EINVAL, EBUSY (MS_INVALIDATE of
    locked memory)."""
    if (
        flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)
        or start & 4095
        or flags & (MS_ASYNC | MS_SYNC) == MS_ASYNC | MS_SYNC
    ):
        raise SysError(errno.EINVAL)
    end = start + (length + 4095 & ~4095)
    holes = False
    synced: dict[AddressSpace, None] = {}
    while start < end:
        vma = mm.find_vma(start)
        if vma is None:
            return list(synced), True
        if vma.vm_start > start:
            holes = True
            start = vma.vm_start
            if flags == MS_ASYNC or start >= end:
                break
        if flags & MS_INVALIDATE and vma.vm_flags & VM_LOCKED:
            raise SysError(errno.EBUSY)
        stop = min(end, vma.vm_end)
        if vma.vm_flags & VM_SHARED and vma.mapping is not None and flags & MS_SYNC:
            _collect_dirty(mem, vma, start, stop)
            vma.mapping.writeback()
            synced[vma.mapping] = None
        start = vma.vm_end
    return list(synced), holes


def _collect_dirty(mem: Memory, vma: VmArea, start: int, end: int) -> None:
    """Dirty bits of PTEs move to their pages. Linux: filemap_sync, mm/msync.c, 2.6.7."""
    ptes, mask, set_page_dirty = mem.pgtables.ptes, mem.pgtables.PFN_MASK, mem.rmap.set_page_dirty
    for i, j in pte_slices(mem.pgtables, vma.vm_mm.pgd, start, end):
        for k in range(i, j):
            pte = ptes[k]
            if pte & P and pte & D:
                ptes[k] = pte & ~D
                set_page_dirty(pte >> 12 & mask)
                vma.vm_mm.flush_pending = True
