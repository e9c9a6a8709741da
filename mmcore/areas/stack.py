"""Areas that are put in ready-made, and the stack: an area that grows down by faults.

 expand_stack    down to the faulting page, unless that comes within 256 pages of what lies below
Linux: insert_vm_struct, mm/mmap.c; expand_downwards, mm/vma.c, 6.18.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmcore.areas.adjust import vma_adjust, vma_link
from mmcore.areas.overcommit import RLIMIT_STACK, may_expand_vm, mlock_future_ok, rlimit
from mmcore.areas.placement import MMAP_MIN_ADDR
from mmcore.areas.vma import (
    STACK_GUARD_GAP,
    VM_ACCESS_FLAGS,
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_LOCKED,
    VmArea,
    vm_stat_account,
)
from mmcore.errors import SysError

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory


def insert_vm_struct(mem: Memory, mm: Mm, vma: VmArea) -> None:
    """Puts a ready-made area into its mm. Raises ENOMEM when something is there or the commit limit says no. Linux:
    mm/vma.c."""
    if mm.find_vma_intersection(vma.vm_start, vma.vm_end) is not None:
        raise SysError(errno.ENOMEM)
    pages = vma.vm_end - vma.vm_start >> 12
    if vma.vm_flags & VM_ACCOUNT:
        mem.overcommit.vm_enough_memory(mm, pages)
    if vma.mapping is None:
        vma.vm_pgoff = vma.vm_start >> 12
    vma_link(mem, mm, mm.find_index(vma.vm_start), vma)
    vm_stat_account(mm, vma.vm_flags, pages)
    if vma.vm_flags & VM_LOCKED:
        mm.locked_vm += pages


def expand_stack(mem: Memory, vma: VmArea, address: int) -> None:
    """Grows a VM_GROWSDOWN area down to `address` (bytes). Raises EFAULT (it does not grow), EPERM (too low), ENOMEM
    (guard gap, limits). Linux: expand_downwards, 6.18."""
    address &= ~4095
    mm, flags = vma.vm_mm, vma.vm_flags
    if not flags & VM_GROWSDOWN:
        raise SysError(errno.EFAULT)
    if address >= vma.vm_start:
        return
    if address < MMAP_MIN_ADDR:
        raise SysError(errno.EPERM)
    i = mm.index_of(vma)
    if i:
        below = mm.vmas[i - 1]
        if address < below.vm_end:
            raise SysError(errno.ENOMEM)
        if (
            not below.vm_flags & VM_GROWSDOWN
            and below.vm_flags & VM_ACCESS_FLAGS
            and address - below.vm_end < STACK_GUARD_GAP
        ):
            raise SysError(errno.ENOMEM)
    grow = vma.vm_start - address >> 12
    if grow > vma.vm_pgoff:
        raise SysError(errno.ENOMEM)
    if not may_expand_vm(mem, mm, flags, grow) or vma.vm_end - address > rlimit(mem, RLIMIT_STACK):
        raise SysError(errno.ENOMEM)
    if not mlock_future_ok(mem, mm, flags, grow << 12):
        raise SysError(errno.ENOMEM)
    if flags & VM_ACCOUNT:
        mem.overcommit.vm_enough_memory(mm, grow)
    try:
        vma_adjust(mem, mm, i, address, vma.vm_end)
    except SysError:
        if flags & VM_ACCOUNT:
            mem.overcommit.uncharge(grow)
        raise
    vm_stat_account(mm, flags, grow)
    if flags & VM_LOCKED:
        mm.locked_vm += grow  # what lies between comes in when it is touched
