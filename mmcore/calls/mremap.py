"""mremap: an area shrinks, grows in place, or moves with its pages.

 move_vma   1 copy first   pages the scheme cannot move while they are shared (anonmm) are copied at the old address;
                           may wait
            2 reserve      the new area, the scheme's needs, page tables at the target, the splits at both ends; undone
                           on failure
            3 commit       what lay at the target goes - the new area is linked - PTEs move, whole tables at a time -
                           the old range goes
            4 merge        the new area joins its neighbours

Nothing has changed for the guest when 1 or 2 fail; 3 and 4 cannot fail.

Linux: mm/mremap.c; arguments, errors and moves across several areas as in 6.18, rmap of moved pages as in 2.6.7.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmcore.areas.adjust import split_vma, vma_link_copy, vma_merge
from mmcore.areas.overcommit import may_expand_vm, mlock_future_ok
from mmcore.areas.placement import get_unmapped_area
from mmcore.areas.vma import MOVE, VM_ACCOUNT, VM_DONTEXPAND, VM_LOCKED, VM_MAYSHARE, VM_SHARED, VmArea, vm_stat_account
from mmcore.calls.mmap import do_munmap, unmap_areas
from mmcore.errors import NotHere, OutOfMemory, SysError
from mmcore.paging.fault import DONE
from mmcore.physical.pgtable import TASK_SIZE
from mmcore.physical.pterange import PteRange, move_ptes

if TYPE_CHECKING:
    import numpy as np

    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory

MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4


def do_mremap(mem: Memory, mm: Mm, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> int:
    """Resizes or moves `[addr, addr + old_len)` to `new_len` bytes; returns where it is. `new_addr` counts with
    MREMAP_FIXED only.

    `old_len` 0: a second mapping of a shared area. MREMAP_DONTUNMAP is refused. Raises EINVAL, EFAULT (no area, or
    across areas), ENOMEM, EAGAIN (locked), MustWait; everything is as it was, except that a move of several areas may
    have moved the first ones.
    """
    old_len = old_len + 4095 & ~4095
    new_len = new_len + 4095 & ~4095
    _check_arguments(mm, addr, old_len, new_len, flags, new_addr)
    if flags & MREMAP_FIXED and old_len == new_len:
        return _move_areas(mem, mm, addr, old_len, new_addr)
    vma = mm.find_vma(addr)
    if vma is None or vma.vm_start > addr:
        raise SysError(errno.EFAULT)
    if flags & MREMAP_FIXED:
        return _move_to(mem, mm, vma, addr, old_len, new_addr, new_len)
    if old_len == new_len:
        return addr
    if old_len > new_len:
        do_munmap(mem, mm, addr + new_len, old_len - new_len)
        return addr
    _check_range(mem, mm, vma, addr, old_len, new_len)
    if old_len and addr + old_len == vma.vm_end and _expand_in_place(mem, mm, vma, new_len - old_len):
        return addr
    if not flags & MREMAP_MAYMOVE:
        raise SysError(errno.ENOMEM)
    new_addr = get_unmapped_area(mem, mm, 0, new_len, fixed=False)
    return move_vma(mem, mm, vma, addr, old_len, new_addr, new_len, replace=False)


def _check_arguments(mm: Mm, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> None:
    """What can be said before any area is looked at; lengths in whole pages. Raises EINVAL, ENOMEM (too many areas)."""
    if flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED) or addr & 4095 or not new_len or new_len > TASK_SIZE:
        if flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED) == MREMAP_DONTUNMAP and flags & MREMAP_MAYMOVE:
            raise NotHere(errno.EINVAL, "MREMAP_DONTUNMAP (mremap)")
        raise SysError(errno.EINVAL)
    if flags & MREMAP_FIXED:
        if new_addr > TASK_SIZE - new_len or new_addr & 4095 or not flags & MREMAP_MAYMOVE:
            raise SysError(errno.EINVAL)
        if addr + old_len > new_addr and new_addr + new_len > addr:
            raise SysError(errno.EINVAL)
        if len(mm.vmas) + 2 >= mm.max_map_count - 3:
            raise SysError(errno.ENOMEM, "too many areas")


def _move_to(mem: Memory, mm: Mm, vma: VmArea, addr: int, old_len: int, new_addr: int, new_len: int) -> int:
    """MREMAP_FIXED with another length; returns `new_addr`."""
    end = addr + old_len
    if old_len > new_len:  # what does not move may span areas and gaps (6.17 and later)
        _check_range(mem, mm, vma, addr, new_len, new_len)
        old_len = min(old_len, vma.vm_end - addr)
    _check_range(mem, mm, vma, addr, old_len, new_len)
    get_unmapped_area(mem, mm, new_addr, new_len, fixed=True)
    move_vma(mem, mm, vma, addr, old_len, new_addr, new_len, replace=True)
    if addr + old_len < end:
        # From an area's end on: no hole to cut, so it cannot fail.
        do_munmap(mem, mm, addr + old_len, end - addr - old_len)
    return new_addr


def _check_range(mem: Memory, mm: Mm, vma: VmArea, addr: int, old_len: int, new_len: int) -> None:
    """Whether the area lets this part of it move or grow. Linux: check_prep_vma, 6.18."""
    if not old_len and not vma.vm_flags & (VM_SHARED | VM_MAYSHARE):
        raise SysError(errno.EINVAL)
    if old_len > vma.vm_end - addr:
        raise SysError(errno.EFAULT)
    if new_len <= old_len:
        return
    if vma.mapping is not None and vma.vm_pgoff + (addr - vma.vm_start >> 12) + (new_len >> 12) > 1 << 32:
        raise SysError(errno.EINVAL)
    if vma.vm_flags & VM_DONTEXPAND:
        raise SysError(errno.EFAULT)
    if not mlock_future_ok(mem, mm, vma.vm_flags, new_len - old_len):
        raise SysError(errno.EAGAIN)
    if not may_expand_vm(mem, mm, vma.vm_flags, new_len - old_len >> 12):
        raise SysError(errno.ENOMEM)


def _move_areas(mem: Memory, mm: Mm, start: int, length: int, new_start: int) -> int:
    """A move without resize may span areas and the gaps between them (6.17 and later); each area moves by itself."""
    end = start + length
    vma = mm.find_vma(start)
    if vma is None or vma.vm_start > start:
        raise SysError(errno.EFAULT)
    addr = start
    while vma is not None and vma.vm_start < end:
        addr = max(addr, vma.vm_start)
        n = min(end, vma.vm_end) - addr
        target = new_start + addr - start
        get_unmapped_area(mem, mm, target, n, fixed=True)
        move_vma(mem, mm, vma, addr, n, target, n, replace=True)
        addr += n
        vma = mm.find_vma(addr)
    return new_start


def _expand_in_place(mem: Memory, mm: Mm, vma: VmArea, delta: int) -> bool:
    """Grows the area by `delta` bytes if what follows is free. Raises ENOMEM."""
    start = vma.vm_end
    end = start + delta
    i = mm.index_of(vma) + 1
    if end > TASK_SIZE or (i < len(mm.vmas) and mm.starts[i] < end):
        return False
    pages, flags = delta >> 12, vma.vm_flags
    charged = flags & VM_ACCOUNT
    if charged:
        mem.overcommit.vm_enough_memory(mm, pages)
    pgoff = vma.vm_pgoff + vma.pages
    if vma_merge(mem, mm, i, start, end, flags, None, vma.vm_file, pgoff) is None:
        if charged:
            mem.overcommit.uncharge(pages)
        raise OutOfMemory("the area cannot grow")
    vm_stat_account(mm, flags, pages)
    if flags & VM_LOCKED:
        mm.locked_vm += pages
        mem.faults.make_pages_present(mm, start, end)
    return True


def move_vma(
    mem: Memory, mm: Mm, vma: VmArea, addr: int, old_len: int, new_addr: int, new_len: int, replace: bool
) -> int:
    """`[addr, addr + old_len)` of one area becomes `[new_addr, new_addr + new_len)`; `replace`: whatever lies
    there goes. The ranges do not overlap; limits are checked. `old_len` 0 leaves the old mapping. Raises
    SysError(ENOMEM) or MustWait with nothing changed."""
    if len(mm.vmas) >= mm.max_map_count - 3:
        raise SysError(errno.ENOMEM, "too many areas")
    moved = min(old_len, new_len)
    more = new_len - old_len >> 12 if vma.vm_flags & VM_ACCOUNT and new_len > old_len else 0
    _copy_shared(mem, mm, vma, addr, moved, new_addr - addr)
    if more:
        mem.overcommit.vm_enough_memory(mm, more)
    plan = _Plan(mem, mm)
    try:
        new = plan.make_area(vma, addr, new_addr, new_len)
        if old_len:
            plan.cut_hole(addr, addr + old_len)
        if replace:
            plan.cut_hole(new_addr, new_addr + new_len)
        vma = mm.vmas[mm.find_index(addr)]
        plan.reserve(vma, new, addr, moved, new_addr - addr)
    except SysError:
        plan.undo()
        if more:
            mem.overcommit.uncharge(more)
        raise
    _commit_move(mem, plan, vma, new, addr, old_len)
    return new_addr


def _commit_move(mem: Memory, plan: _Plan, vma: VmArea, new: VmArea, addr: int, old_len: int) -> None:
    """Links `new` instead of what lies there, moves the PTEs, unmaps the old range and merges. Nothing in it
    allocates, and nothing fails."""
    mm, flags = plan.mm, vma.vm_flags
    new_addr, new_end = new.vm_start, new.vm_end
    new_pages = new_end - new_addr >> 12
    peak = max(mm.hiwater_vm, mm.total_vm)
    if flags & VM_ACCOUNT:
        # The old range's promise moves; unmapping it gives it back.
        mem.overcommit.committed += min(old_len >> 12, new_pages)
    i = mm.find_index(new_addr)
    if i < len(mm.vmas) and mm.starts[i] < new_end:
        unmap_areas(mem, mm, i, new_addr, new_end, keep_tables=True)
        i = mm.find_index(new_addr)
        plan.free_unused_tables(i, new_addr, new_end)
    vma_link_copy(mem, mm, i, new)
    vm_stat_account(mm, flags, new_pages)
    if flags & VM_LOCKED:
        mm.locked_vm += new_pages
    plan.move(vma, new)
    if plan.token is not None:
        plan.release()
    if old_len:
        unmap_areas(mem, mm, mm.find_index(addr), addr, addr + old_len)
        mm.hiwater_vm = peak  # what moves is not there twice
    i = mm.find_index(new_addr)
    vma_merge(mem, mm, i, new_addr, new_end, flags, new, new.vm_file, new.vm_pgoff)
    if flags & VM_LOCKED:
        mem.faults.make_pages_present(mm, new_addr + old_len, new_end)


def _rejoin(mem: Memory, mm: Mm, at: int) -> None:
    """Undoes a split at `at`."""
    i = mm.find_index(at)
    upper = mm.vmas[i]
    vma_merge(mem, mm, i, upper.vm_start, upper.vm_end, upper.vm_flags, upper, upper.vm_file, upper.vm_pgoff)


# --- pages


def _mapped(mem: Memory, vma: VmArea, start: int, end: int) -> tuple[PteRange, np.ndarray, np.ndarray]:
    """(PTEs of a range of an area, positions and pfns of the present ones of counted pages)."""
    found = PteRange.of(mem.pgtables, vma.vm_mm.pgd, start, end).read()
    at, pfns = found.pages(mem.frames, found.present())
    return found, at, pfns


def _copy_shared(mem: Memory, mm: Mm, vma: VmArea, start: int, length: int, delta: int) -> None:
    """Copies, at their old addresses, the pages that the scheme cannot move while others share them. Linux:
    make_page_exclusive, rmap 11. Raises MustWait, OutOfMemory; copies made stay, which only the counters can tell."""
    if not mem.rmap.has_move_check or not length:
        return
    while True:
        found, at, pfns = _mapped(mem, vma, start, start + length)
        shared = mem.scheme.move_check(vma, vma, delta, pfns, found.indices(at)) if len(pfns) else None
        if shared is None or not len(shared):
            return
        for address in found.addresses(at)[shared].tolist():
            if mem.faults.handle_mm_fault(mm, vma, address, True) > DONE:
                raise OutOfMemory("a page to copy before it moves")
            mem.meters.mremap_copies += 1


class _Plan:
    """A move in the making: all that can fail, each gain with its undo, and then the move itself.

    sources   runs `[i, j)` of PTE indices, cut where either side's table ends
    targets   where each of them goes; the tables exist
    whole     (address, target) of tables that move as they are: all their entries move together, and the scheme need
              not be told
    token     what the scheme reserved, or None
    """

    __slots__ = (
        "mem",
        "mm",
        "sources",
        "targets",
        "whole",
        "delta",
        "apart",
        "token",
        "_made",
        "_cuts",
        "_area",
        "_told",
    )

    def __init__(self, mem: Memory, mm: Mm) -> None:
        self.mem = mem
        self.mm = mm
        # What prepare decides.
        self.sources: list[tuple[int, int]]
        self.targets: list[tuple[int, int]]
        self.whole: list[tuple[int, int]]
        self.delta: int
        self.apart: bool  # the ranges do not overlap
        self.token: object = None
        self._made: list[int] = []  # first addresses of tables made for it
        self._cuts: list[int] = []  # where areas were split for it
        self._area: VmArea | None = None
        self._told = False  # the scheme knows the area

    # --- what can fail

    def make_area(self, vma: VmArea, addr: int, new_addr: int, new_len: int) -> VmArea:
        """The area that what lies at `addr` in `vma` moves into, known to the scheme, not linked. Raises
        OutOfMemory."""
        scheme = self.mem.scheme
        self._area = new = vma.clone(self.mem, self.mm)
        new.vm_start, new.vm_end = new_addr, new_addr + new_len
        if vma.mapping is not None:
            new.vm_pgoff = vma.vm_pgoff + (addr - vma.vm_start >> 12)
        else:
            new.vm_pgoff = scheme.move_pgoff(vma, addr, new_addr)
        scheme.vma_copied(new, vma, MOVE)
        self._told = True
        return new

    def cut_hole(self, start: int, end: int) -> None:
        """Splits the area that has `[start, end)` in its middle at `end`, so that unmapping the range cannot fail.
        Raises SysError(ENOMEM)."""
        mm = self.mm
        i = mm.find_index(start)
        if i < len(mm.vmas):
            vma = mm.vmas[i]
            if vma.vm_start < start and vma.vm_end > end:
                split_vma(self.mem, mm, i, end, new_below=False)
                self._cuts.append(end)

    def reserve(self, vma: VmArea, new: VmArea, start: int, length: int, delta: int) -> None:
        """Tables, and what the scheme needs for the pages of `[start, start + length)` of `vma` in `new`;
        again if making room unmapped some of them. Raises OutOfMemory."""
        mem, rmap = self.mem, self.mem.rmap
        while True:
            self.prepare(start, length, delta)
            if not rmap.has_move or not length:
                return
            before = rmap.unmapped
            self.release()
            self.token = mem.scheme.reserve("move", new, _mapped(mem, vma, start, start + length)[2])
            if rmap.unmapped == before:
                return

    def release(self) -> None:
        """The scheme gets back what it did not need."""
        if self.token is not None:
            self.mem.scheme.release(self.token)
            self.token = None

    def undo(self) -> None:
        """Everything is as it was, in the reverse order: the tables it made are empty and go."""
        self.release()
        pgtables = self.mem.pgtables
        span = 1 << pgtables.SHIFT
        for first in self._made:
            pgtables.free_pgtables(self.mm, first, first + span, first, first + span)
        for at in reversed(self._cuts):
            _rejoin(self.mem, self.mm, at)
        if self._area is not None:
            if self._told:
                self.mem.scheme.vma_unlinked(self._area, None)
            self._area.free(self.mem)

    def prepare(self, start: int, length: int, delta: int) -> None:
        """Plans (or plans again) the move of `[start, start + length)` by `delta` bytes and makes the tables it
        needs. Raises OutOfMemory."""
        self.sources, self.targets, self.whole, self.delta = [], [], [], delta
        self.apart = abs(delta) >= length
        if not length:
            return
        pgtables, mm = self.mem.pgtables, self.mm
        ptes, np_ptes, span = pgtables.ptes, pgtables.np_ptes, 1 << pgtables.SHIFT
        end = start + length
        movable = not delta & span - 1 and self.apart and not self.mem.rmap.has_move
        for first, base in pgtables.tables(mm.pgd, start, end):
            if movable and first >= start and first + span <= end:
                self.whole.append((first, first + delta))
                continue
            addr = max(start, first)
            stop = min(end, first + span)
            while addr < stop:
                target = addr + delta
                until = min(stop, addr + span - (target & span - 1))
                i = base + (addr - first >> 12)
                n = until - addr >> 12
                if ptes[i] or np_ptes[i : i + n].any():
                    nr = mm.nr_ptes
                    j = pgtables.pte_alloc(mm, target)
                    if mm.nr_ptes > nr:
                        self._made.append(target >> pgtables.SHIFT << pgtables.SHIFT)
                    self.sources.append((i, i + n))
                    self.targets.append((j, j + n))
                addr = until

    # --- what cannot

    def free_unused_tables(self, i: int, start: int, end: int) -> None:
        """What lay at the target `[start, end)` is gone, area `i` is the first above: tables there that the move
        does not fill go too."""
        pgtables, mm = self.mem.pgtables, self.mm
        span = 1 << pgtables.SHIFT
        floor = mm.vmas[i - 1].vm_end if i else 0
        ceiling = mm.starts[i] if i < len(mm.starts) else 0
        needed = {j // pgtables.PTRS * pgtables.PTRS for j, _ in self.targets}
        for first, base in pgtables.tables(mm.pgd, start, end):
            if base not in needed:
                pgtables.free_pgtables(mm, max(first, start), min(first + span, end), floor, ceiling)

    def move(self, vma: VmArea, new: VmArea) -> None:
        """Moves the PTEs, whatever they hold, and tells the scheme. The ranges may overlap (exec's stack)."""
        mem, mm, pgtables = self.mem, self.mm, self.mem.pgtables
        for first, target in self.whole:
            pgtables.move_table(mm, first, target)
            mm.flush_pending = True
        if not self.sources:
            return
        move_ptes(pgtables, self.sources, self.targets, self.apart)
        mm.flush_pending = True
        if not mem.rmap.has_move:
            return
        sources, targets = PteRange(pgtables, self.sources), PteRange(pgtables, self.targets)
        at, pfns = targets.pages(mem.frames, targets.read().present())
        if len(pfns):
            mem.scheme.move(vma, new, self.delta, pfns, sources.indices(at), targets.indices(at), self.token)


def shift_arg_pages(mem: Memory, vma: VmArea, shift: int) -> None:
    """exec: the temporary stack and its pages move down by `shift` > 0 bytes into free space; vm_pgoff stays, so each
    page keeps its linear index. Raises OutOfMemory or ENOMEM with nothing changed. Linux: fs/exec.c, 2.6.23."""
    mm, pgtables, scheme = vma.vm_mm, mem.pgtables, mem.scheme
    start, end = vma.vm_start, vma.vm_end
    new_start, new_end = start - shift, end - shift
    i = mm.index_of(vma)
    if new_start < (mm.vmas[i - 1].vm_end if i else 0):
        raise SysError(errno.ENOMEM)
    plan = _Plan(mem, mm)
    try:
        plan.prepare(start, end - start, -shift)
        if mem.rmap.has_move:
            plan.token = scheme.reserve("move", vma, _mapped(mem, vma, start, end)[2])
        adjusting = scheme.vma_adjust_begin(vma, new_start, new_end, None)
    except OutOfMemory:
        scheme.release(plan.token)
        plan.token = None
        plan.undo()
        raise
    vma.vm_start = mm.starts[i] = new_start
    vma.vm_end = new_end
    mm.mmap_cache = None
    scheme.vma_adjust_end(adjusting)
    plan.move(vma, vma)
    scheme.release(plan.token)
    pgtables.free_pgtables(mm, max(start, new_end), end, new_end, mm.starts[i + 1] if i + 1 < len(mm.starts) else 0)
