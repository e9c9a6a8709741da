"""The heap: brk. Linux: sys_brk, do_brk_flags, vm_brk_flags in mm/mmap.c and mm/vma.c, 6.18."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmcore.areas.adjust import vma_link, vma_merge
from mmcore.areas.overcommit import RLIM_INFINITY, RLIMIT_DATA, may_expand_vm, mlock_future_ok, rlimit
from mmcore.areas.placement import get_unmapped_area
from mmcore.areas.vma import (
    STACK_GUARD_GAP,
    VM_ACCOUNT,
    VM_DATA_FLAGS,
    VM_EXEC,
    VM_LOCKED,
    VmArea,
    vm_start_gap,
    vm_stat_account,
)
from mmcore.calls.mmap import do_munmap
from mmcore.errors import SysError

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory


def set_brk(mem: Memory, mm: Mm, brk: int) -> int:
    """The brk system call: moves the end of the heap to `brk` if that can be; returns where it is afterwards. Never
    raises."""
    old = mm.brk
    if brk < mm.start_brk:
        return old
    limit = rlimit(mem, RLIMIT_DATA)
    if limit < RLIM_INFINITY and brk - mm.start_brk + mm.end_data - mm.start_data > limit:
        return old
    new_end = brk + 4095 & ~4095
    old_end = old + 4095 & ~4095
    if new_end == old_end:
        mm.brk = brk
        return brk
    try:
        if new_end < old_end:
            if mm.find_vma_intersection(new_end, old_end) is None:
                return old
            do_munmap(mem, mm, new_end, old_end - new_end)
            mm.brk = brk
            return brk
        _check_brk_limits(mem, mm, old_end, new_end - old_end)
        above = mm.find_vma(old_end)
        if (
            above is not None
            and above.vm_start < new_end + 4096 + STACK_GUARD_GAP
            and new_end + 4096 > vm_start_gap(above)
        ):
            return old
        _do_brk(mem, mm, old_end, new_end)
    except SysError:
        return old
    mm.brk = brk
    if mm.def_flags & VM_LOCKED:
        mem.faults.make_pages_present(mm, old_end, new_end)
    return brk


def do_brk(mem: Memory, mm: Mm, addr: int, length: int, executable: bool = False) -> None:
    """Anonymous private writable memory at `[addr, addr + length)`, replacing what is there (exec's bss). Raises
    SysError, leaving everything as it was but for what was replaced."""
    length = length + 4095 & ~4095
    if not length:
        return
    _check_brk_limits(mem, mm, addr, length)
    if mm.find_vma_intersection(addr, addr + length) is not None:
        do_munmap(mem, mm, addr, length)
    _do_brk(mem, mm, addr, addr + length, VM_EXEC if executable else 0)
    if mm.def_flags & VM_LOCKED:
        mem.faults.make_pages_present(mm, addr, addr + length)


def _check_brk_limits(mem: Memory, mm: Mm, addr: int, length: int) -> None:
    get_unmapped_area(mem, mm, addr, length, fixed=True)
    if not mlock_future_ok(mem, mm, mm.def_flags, length):
        raise SysError(errno.EAGAIN)


def _do_brk(mem: Memory, mm: Mm, start: int, end: int, more: int = 0) -> None:
    flags = VM_DATA_FLAGS | VM_ACCOUNT | mm.def_flags | more
    if mm.read_implies_exec:
        flags |= VM_EXEC
    pages = end - start >> 12
    if not may_expand_vm(mem, mm, flags, pages):
        raise SysError(errno.ENOMEM, "address space limit")
    if len(mm.vmas) > mm.max_map_count:
        raise SysError(errno.ENOMEM, "too many areas")
    mem.overcommit.vm_enough_memory(mm, pages)
    i = mm.find_index(start)
    if vma_merge(mem, mm, i, start, end, flags, None, None, start >> 12) is None:
        try:
            address = mem.vma_cache.alloc()
        except SysError:
            mem.overcommit.uncharge(pages)
            raise
        vma_link(mem, mm, i, VmArea(mm, address, start, end, flags, mem.pgtables.prot(flags), start >> 12, None, None))
    vm_stat_account(mm, flags, pages)
    if flags & VM_LOCKED:
        mm.locked_vm += pages
