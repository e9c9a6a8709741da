"""The life of an address space: made by exec or copied by fork, taken apart when its last task goes.

 mm_alloc, dup_mmap -> mm_users tasks -> mmput -> exit_mmap
Linux: kernel/fork.c; exit_mmap, mm/mmap.c, 2.6.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmcore.areas.mm import Mm
from mmcore.areas.placement import arch_pick_mmap_layout
from mmcore.areas.vma import (
    FORK,
    VM_ACCOUNT,
    VM_DONTCOPY,
    VM_LOCKED_MASK,
    VM_WIPEONFORK,
    vm_stat_account,
)
from mmcore.errors import OutOfMemory, SysError
from mmcore.paging.fork import copy_page_range
from mmcore.paging.zap import zap_page_range
from mmcore.physical.pgtable import TASK_SIZE

if TYPE_CHECKING:
    from mmcore.memory import Memory


def _mm_init(mem: Memory) -> Mm:
    """An empty address space with a root table that the scheme does not know yet. Raises OutOfMemory."""
    mm = Mm(mem.mm_cache.alloc())
    try:
        mm.pgd = mem.pgtables.pgd_alloc(mm)
    except OutOfMemory:
        mem.mm_cache.free(mm.addr)
        raise
    mem.mms[mm.addr] = mm
    return mm


def mm_alloc(mem: Memory) -> Mm:
    """exec's address space: empty, with a root table, `mm_users` 1. Raises OutOfMemory, leaving nothing behind.
    Linux: kernel/fork.c, 2.6.7."""
    mm = _mm_init(mem)
    try:
        mem.scheme.mm_created(mm, None)
    except OutOfMemory:
        mm.free(mem)
        raise
    arch_pick_mmap_layout(mem, mm)
    return mm


def mm_fork(mem: Memory, parent: Mm) -> Mm:
    """fork's address space: the parent's layout and totals, no areas yet; memory locks (`def_flags`) are not
    inherited. Raises OutOfMemory, leaving nothing behind. Linux: copy_mm, kernel/fork.c, 2.6.7."""
    mm = _mm_init(mem)
    mm.inherit(parent)
    mm.gap_top = mm.mmap_base  # areas that are not copied leave gaps
    try:
        mem.scheme.mm_created(mm, parent)
    except OutOfMemory:
        mm.free(mem)
        raise
    mm.exe_file = parent.exe_file
    if mm.exe_file is not None:
        mm.exe_file.get()
    return mm


def mmput(mem: Memory, mm: Mm) -> None:
    """One task less runs in `mm`; the last one takes it apart. Linux: kernel/fork.c, 2.6.7."""
    mm.mm_users -= 1
    if mm.mm_users == 0:
        exit_mmap(mem, mm)
        mm.free(mem)


def dup_mmap(mem: Memory, parent: Mm) -> Mm:
    """The child's address space. Raises OutOfMemory (ENOMEM), leaving the parent as it was and nothing of the child."""
    meters = mem.meters
    links, allocations = meters.links, meters.allocations
    child = mm_fork(mem, parent)
    try:
        for src in parent.vmas:
            if src.vm_flags & VM_DONTCOPY:
                vm_stat_account(child, src.vm_flags, -(src.vm_end - src.vm_start >> 12))
                continue
            charge = 0
            if src.vm_flags & VM_ACCOUNT:
                charge = src.vm_end - src.vm_start >> 12
                mem.overcommit.charge(charge)
            try:
                dst = src.clone(mem, child)
            except OutOfMemory:
                mem.overcommit.uncharge(charge)
                raise
            dst.vm_flags &= ~VM_LOCKED_MASK
            try:
                mem.scheme.vma_copied(dst, src, FORK)
            except OutOfMemory:
                mem.overcommit.uncharge(charge)
                dst.free(mem)
                raise
            if src.vm_file is not None:
                dst.vm_file = src.vm_file
                src.vm_file.get()
            if dst.mapping is not None:
                dst.mapping.link_beside(dst, src)
            child.append_vma(dst)
            if not src.vm_flags & VM_WIPEONFORK:
                copy_page_range(mem, src, dst)
    except SysError:
        exit_mmap(mem, child)
        child.free(mem)
        raise
    child.hiwater_rss, child.hiwater_vm = child.rss, child.total_vm
    meters.forks += 1
    meters.fork_ptes += child.rss
    meters.fork_links += meters.links - links
    meters.fork_allocations += meters.allocations - allocations
    return child


def exit_mmap(mem: Memory, mm: Mm) -> None:
    """Everything an address space holds goes: pages, areas, tables. The Mm itself stays for its owner to free."""
    pgtables, scheme, overcommit = mem.pgtables, mem.scheme, mem.overcommit
    for vma in mm.vmas:
        zap_page_range(mem, vma, vma.vm_start, vma.vm_end)
    areas = mm.take_all_vmas()
    for vma in areas:
        if vma.vm_flags & VM_ACCOUNT:
            overcommit.uncharge(vma.vm_end - vma.vm_start >> 12)
        if vma.mapping is not None:
            vma.mapping.unlink(vma)
        scheme.vma_unlinked(vma, None)
        if vma.vm_file is not None:
            vma.vm_file.put()
        vma.free(mem)
    if mm.nr_ptes:
        pgtables.free_pgtables(mm, 0, TASK_SIZE, 0, 0)
    scheme.mm_exited(mm)
