"""mlock and its kin: areas marked VM_LOCKED are faulted in and left alone by reclaim. Linux: mm/mlock.c, 6.18."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmcore.areas.adjust import vma_modify_flags
from mmcore.areas.overcommit import RLIMIT_MEMLOCK, can_do_mlock, capable, rlimit
from mmcore.areas.vma import VM_LOCKED, VM_LOCKED_MASK, VM_LOCKONFAULT, VM_SPECIAL
from mmcore.errors import SysError
from mmcore.physical.pgtable import TASK_SIZE

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory

MLOCK_ONFAULT = 1
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4


def mlock_fixup(mem: Memory, mm: Mm, i: int, start: int, end: int, flags: int) -> None:
    """`[start, end)` of the area at position `i` becomes locked or unlocked. Raises SysError(ENOMEM) with nothing
    changed."""
    old = mm.vmas[i].vm_flags
    if flags == old or old & VM_SPECIAL:
        return
    area = vma_modify_flags(mem, mm, i, start, end, flags)
    area.vm_flags = flags
    pages = end - start >> 12
    if flags & VM_LOCKED:
        if not old & VM_LOCKED:
            mm.locked_vm += pages
    elif old & VM_LOCKED:
        mm.locked_vm -= pages


def _apply_vma_lock_flags(mem: Memory, mm: Mm, start: int, end: int, lock: int) -> None:
    """Raises ENOMEM at a hole (what lies before it is changed), EINVAL where the range wraps."""
    if start == end:
        return
    while True:
        i = mm.find_index(start)
        if i >= len(mm.vmas) or mm.vmas[i].vm_start > start:
            raise SysError(errno.ENOMEM)
        vma = mm.vmas[i]
        stop = min(vma.vm_end, end)
        mlock_fixup(mem, mm, i, start, stop, vma.vm_flags & ~VM_LOCKED_MASK | lock)
        if stop >= end:
            return
        start = stop


def do_mlock(mem: Memory, mm: Mm, start: int, length: int, flags: int = 0) -> None:
    """mlock and mlock2 (`flags` MLOCK_ONFAULT): locks the pages of `[start, start + length)` and, unless on fault,
    brings them in. Raises EINVAL, EPERM, ENOMEM (holes, RLIMIT_MEMLOCK, inaccessible pages)."""
    if flags & ~MLOCK_ONFAULT:
        raise SysError(errno.EINVAL)
    if not can_do_mlock(mem):
        raise SysError(errno.EPERM)
    end = start + length + 4095 & ~4095
    start &= ~4095
    limit = rlimit(mem, RLIMIT_MEMLOCK) >> 12
    locked = (end - start >> 12) + mm.locked_vm
    if locked > limit and not capable(mem):
        locked -= _locked_pages(mm, start, end)
        if locked > limit:
            raise SysError(errno.ENOMEM)
    _apply_vma_lock_flags(mem, mm, start, end, VM_LOCKED | VM_LOCKONFAULT if flags else VM_LOCKED)
    if not flags:
        # What cannot be brought in (no access, beyond the end of its file) fails the call, but it is locked.
        failed = mem.faults.make_pages_present(mm, start, end, go_on=False)
        if failed:
            raise SysError(errno.EAGAIN if failed == errno.ENOMEM else errno.ENOMEM)


def _locked_pages(mm: Mm, start: int, end: int) -> int:
    """Pages of `[start, end)` that are locked already."""
    return sum(
        min(end, v.vm_end) - max(start, v.vm_start) >> 12
        for v in mm.vmas[mm.find_index(start) :]
        if v.vm_flags & VM_LOCKED and v.vm_start < end
    )


def do_munlock(mem: Memory, mm: Mm, start: int, length: int) -> None:
    """Unlocks the pages of `[start, start + length)`. Raises ENOMEM at a hole."""
    end = start + length + 4095 & ~4095
    _apply_vma_lock_flags(mem, mm, start & ~4095, end, 0)


def do_mlockall(mem: Memory, mm: Mm, flags: int) -> None:
    """Locks what there is (MCL_CURRENT), what will be (MCL_FUTURE), pages only as they come in (MCL_ONFAULT). Raises
    EINVAL, EPERM, ENOMEM."""
    if not flags or flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) or flags == MCL_ONFAULT:
        raise SysError(errno.EINVAL)
    if not can_do_mlock(mem):
        raise SysError(errno.EPERM)
    if flags & MCL_CURRENT and mm.total_vm > rlimit(mem, RLIMIT_MEMLOCK) >> 12 and not capable(mem):
        raise SysError(errno.ENOMEM)
    lock = VM_LOCKED | VM_LOCKONFAULT if flags & MCL_ONFAULT else VM_LOCKED
    mm.def_flags = mm.def_flags & ~VM_LOCKED_MASK | (lock if flags & MCL_FUTURE else 0)
    if flags & MCL_CURRENT:
        _lock_all(mem, mm, lock)
        if not flags & MCL_ONFAULT:
            mem.faults.make_pages_present(mm, 0, TASK_SIZE)


def do_munlockall(mem: Memory, mm: Mm) -> None:
    mm.def_flags &= ~VM_LOCKED_MASK
    _lock_all(mem, mm, 0)


def _lock_all(mem: Memory, mm: Mm, lock: int) -> None:
    """Every area, errors ignored."""
    start = 0
    while True:
        i = mm.find_index(start)
        if i >= len(mm.vmas):
            return
        vma = mm.vmas[i]
        start = vma.vm_end
        try:
            mlock_fixup(mem, mm, i, vma.vm_start, vma.vm_end, vma.vm_flags & ~VM_LOCKED_MASK | lock)
        except SysError:
            pass
