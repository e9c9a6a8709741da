"""mmap and munmap: areas appear and disappear.

 do_mmap      checks, in the order the guest can observe  ->  a free range  ->  mmap_region
 mmap_region  limits and commit  ->  everything that can fail is got  ->  what lay there goes  ->  merge with a
              neighbour, or a new area
 do_munmap    a hole inside one area splits it first (the only step that can fail), then pages, areas, page tables

Linux: do_mmap, mmap_region, do_munmap; errors and their order as in 6.18, page tables freed as from 2.6.12 on.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmcore.areas.adjust import split_vma, vma_adjust, vma_link, vma_merge
from mmcore.areas.overcommit import OVERCOMMIT_NEVER, can_do_mlock, may_expand_vm, mlock_future_ok
from mmcore.areas.placement import MMAP_MIN_ADDR, gap_grew, get_unmapped_area
from mmcore.areas.vma import (
    VM_ACCESS_FLAGS,
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_MAY_FLAGS,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_NORESERVE,
    VM_SHARED,
    VM_WRITE,
    VmArea,
    accountable_mapping,
    page_prot,
    vm_stat_account,
)
from mmcore.errors import NotHere, SysError
from mmcore.outside import Device
from mmcore.paging.zap import zap_page_range
from mmcore.physical.pgtable import TASK_SIZE

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory
    from mmcore.outside import MappedFile

PROT_READ, PROT_WRITE, PROT_EXEC, PROT_SEM = 1, 2, 4, 8
MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE, MAP_DROPPABLE, MAP_TYPE = 1, 2, 3, 8, 0xF
MAP_FIXED, MAP_ANONYMOUS = 0x10, 0x20
MAP_GROWSDOWN, MAP_DENYWRITE, MAP_EXECUTABLE, MAP_LOCKED, MAP_NORESERVE = 0x100, 0x800, 0x1000, 0x2000, 0x4000
MAP_POPULATE, MAP_NONBLOCK, MAP_STACK, MAP_HUGETLB, MAP_SYNC, MAP_FIXED_NOREPLACE = (
    0x8000,
    0x10000,
    0x20000,
    0x40000,
    0x80000,
    0x100000,
)
# Flags MAP_SHARED_VALIDATE knows. Linux: LEGACY_MAP_MASK, include/linux/mman.h, 6.18 (with the huge-page sizes and
# MAP_32BIT, MAP_ABOVE4G).
_LEGACY_MAP_MASK = 0x7C07F9F3
_FMODE_READ, _FMODE_WRITE = 1, 2


def do_mmap(
    mem: Memory, mm: Mm, addr: int, length: int, prot: int, flags: int, file: MappedFile | None, pgoff: int
) -> int:
    """Maps `length` bytes and returns where. `addr` and `length` in bytes as the guest gave them, `pgoff` in
    pages.

    `file` None: MAP_ANONYMOUS is taken as set. Raises SysError, leaving everything as it was. Linux: do_mmap,
    6.18.
    """
    if not length:
        raise SysError(errno.EINVAL)
    if mm.read_implies_exec and prot & PROT_READ:
        prot |= PROT_EXEC
    fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0
    if addr and not fixed:
        addr &= ~4095
        if addr and addr < MMAP_MIN_ADDR:
            addr = MMAP_MIN_ADDR
    length = length + 4095 & ~4095
    if len(mm.vmas) > mm.max_map_count:
        raise SysError(errno.ENOMEM, "too many areas")
    vm_flags = prot & VM_ACCESS_FLAGS | mm.def_flags | VM_MAY_FLAGS
    if flags & (MAP_GROWSDOWN | MAP_LOCKED):
        vm_flags |= flags & (MAP_GROWSDOWN | MAP_LOCKED)  # the same bits as VM_GROWSDOWN and VM_LOCKED
    addr = get_unmapped_area(mem, mm, addr, length, fixed)
    if flags & MAP_FIXED_NOREPLACE and mm.find_vma_intersection(addr, addr + length) is not None:
        raise SysError(errno.EEXIST)
    if flags & MAP_LOCKED and not can_do_mlock(mem):
        raise SysError(errno.EPERM)
    if vm_flags & VM_LOCKED and not mlock_future_ok(mem, mm, vm_flags, length):
        raise SysError(errno.EAGAIN)
    if file is not None:
        vm_flags = _file_flags(file, flags & MAP_TYPE, flags, prot, vm_flags, pgoff, length)
        if file.mapping is None:
            file = None  # /dev/zero
    else:
        vm_flags = _anonymous_flags(flags & MAP_TYPE, vm_flags)
    if file is None:
        pgoff = 0 if vm_flags & VM_MAYSHARE else addr >> 12
    if flags & MAP_NORESERVE and mem.overcommit.mode != OVERCOMMIT_NEVER:
        vm_flags |= VM_NORESERVE
    mmap_region(mem, mm, addr, length, vm_flags, pgoff, file)
    if vm_flags & VM_LOCKED or flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE:
        mem.faults.make_pages_present(mm, addr, addr + length)
    return addr


def _file_flags(file: MappedFile, kind: int, flags: int, prot: int, vm_flags: int, pgoff: int, length: int) -> int:
    """vm_flags of a file mapping, or the error for what its file does not allow."""
    if pgoff + (length >> 12) > 1 << 32:
        raise SysError(errno.EOVERFLOW)  # page->index has 32 bits here
    mode = file.f_mode
    if kind in (MAP_SHARED, MAP_SHARED_VALIDATE):
        if kind == MAP_SHARED_VALIDATE and flags & ~_LEGACY_MAP_MASK:
            raise SysError(errno.EOPNOTSUPP)
        if prot & PROT_WRITE and not mode & _FMODE_WRITE:
            raise SysError(errno.EACCES)
        vm_flags |= VM_SHARED | VM_MAYSHARE
        if not mode & _FMODE_WRITE:
            vm_flags &= ~(VM_MAYWRITE | VM_SHARED)
    elif kind != MAP_PRIVATE:
        raise SysError(errno.EINVAL)
    if not mode & _FMODE_READ:
        raise SysError(errno.EACCES)
    if file.mapping is None:
        assert isinstance(file, Device)
        if file.mmap_file(False, length) is not None:
            raise SysError(errno.ENODEV)
    if vm_flags & VM_GROWSDOWN:
        raise SysError(errno.EINVAL)
    if vm_flags & VM_SHARED and file.mapping is not None and file.mapping.write_sealed:
        if vm_flags & VM_WRITE:
            raise SysError(errno.EPERM)
        vm_flags &= ~VM_MAYWRITE
    return vm_flags


def _anonymous_flags(kind: int, vm_flags: int) -> int:
    """vm_flags of a mapping without a file. Raises EINVAL, EOPNOTSUPP."""
    if kind == MAP_PRIVATE:
        return vm_flags
    if kind == MAP_DROPPABLE:
        raise NotHere(errno.EOPNOTSUPP, "MAP_DROPPABLE (mmap)")
    if kind != MAP_SHARED or vm_flags & VM_GROWSDOWN:
        raise SysError(errno.EINVAL)
    return vm_flags | VM_SHARED | VM_MAYSHARE


def _covered(mm: Mm, i: int, start: int, end: int) -> tuple[int, int]:
    """Pages of `[start, end)` that lie in areas (those from position `i` on), and how many of them are charged to
    the commit."""
    covered = accounted = 0
    vmas = mm.vmas
    while i < len(vmas) and vmas[i].vm_start < end:
        vma = vmas[i]
        i += 1
        n = min(end, vma.vm_end) - max(start, vma.vm_start) >> 12
        covered += n
        if vma.vm_flags & VM_ACCOUNT:
            accounted += n
    return covered, accounted


def _new_area(mem: Memory, mm: Mm, start: int, end: int, vm_flags: int, pgoff: int, file: MappedFile | None) -> VmArea:
    """An area that is in no list yet. Raises OutOfMemory."""
    mapping = file.mapping if file is not None else None
    prot = page_prot(mem, mapping, vm_flags)
    return VmArea(mm, mem.vma_cache.alloc(), start, end, vm_flags, prot, pgoff, file, mapping)


def mmap_region(
    mem: Memory, mm: Mm, addr: int, length: int, vm_flags: int, pgoff: int, file: MappedFile | None
) -> VmArea:
    """`[addr, addr + length)` becomes (part of) an area, replacing what is there. `file` None and VM_SHARED: fresh
    shared memory. Raises SysError(ENOMEM), leaving everything as it was."""
    end = addr + length
    pages = length >> 12
    i = mm.find_index(addr)
    overlapped, accounted = _covered(mm, i, addr, end)
    if not may_expand_vm(mem, mm, vm_flags, pages - overlapped):
        raise SysError(errno.ENOMEM, "address space limit")
    charged = 0
    if accountable_mapping(vm_flags):
        vm_flags |= VM_ACCOUNT
        mem.overcommit.vm_enough_memory(mm, pages - accounted)
        mem.overcommit.committed += accounted  # munmap below takes these back
        charged = pages
    shared_memory: MappedFile | None = None
    new: VmArea | None = None
    vma: VmArea | None = None
    try:
        if file is None and vm_flags & VM_SHARED:
            file = shared_memory = mem.shmem_zero_setup(length, not vm_flags & VM_NORESERVE)
        if overlapped:
            new = _new_area(mem, mm, addr, end, vm_flags, pgoff, file)
            do_munmap(mem, mm, addr, length)
            i = mm.find_index(addr)
        if shared_memory is None:
            vma = vma_merge(mem, mm, i, addr, end, vm_flags, None, file, pgoff)
        if vma is None and new is None:
            new = _new_area(mem, mm, addr, end, vm_flags, pgoff, file)
    except SysError:
        if new is not None:
            new.free(mem)
        if shared_memory is not None:
            shared_memory.put()
        mem.overcommit.committed -= charged
        raise
    if vma is None:
        assert new is not None
        vma = new
        if file is not None and shared_memory is None:
            file.get()
        vma_link(mem, mm, i, vma)
    elif new is not None:
        new.free(mem)
    vm_stat_account(mm, vm_flags, pages)
    if vm_flags & VM_LOCKED:
        mm.locked_vm += pages
    return vma


def do_munmap(mem: Memory, mm: Mm, start: int, length: int) -> None:
    """Unmaps every page of `[start, start + length)`; holes in it are no error. Raises EINVAL, or ENOMEM when a hole
    inside an area would make one too many or cannot be had, leaving everything as it was. Linux: do_vmi_munmap,
    6.18."""
    if start & 4095 or start > TASK_SIZE or length > TASK_SIZE - start or not length:
        raise SysError(errno.EINVAL)
    end = start + (length + 4095 & ~4095)
    i = mm.find_index(start)
    vmas, starts = mm.vmas, mm.starts
    if i >= len(vmas) or starts[i] >= end:
        return
    first = vmas[i]
    if first.vm_start < start and first.vm_end > end:
        split_vma(mem, mm, i, end, new_below=False)
    unmap_areas(mem, mm, i, start, end)


def unmap_areas(mem: Memory, mm: Mm, i: int, start: int, end: int, keep_tables: bool = False) -> None:
    """Unmaps `[start, end)`, which overlaps the area at position `i` and leaves no area with two rests. Cannot
    fail. `keep_tables`: page tables stay even if nothing uses them any more (mremap is about to)."""
    vmas, starts = mm.vmas, mm.starts
    if mm.total_vm > mm.hiwater_vm:
        mm.hiwater_vm = mm.total_vm
    unaccount = 0
    j = i
    tables = mm.nr_ptes
    n = len(vmas)
    while j < n and starts[j] < end:
        vma = vmas[j]
        lo = starts[j]
        hi = vma.vm_end
        if lo < start:
            lo = start
        if hi > end:
            hi = end
        if tables:
            zap_page_range(mem, vma, lo, hi)
        pages = hi - lo >> 12
        flags = vma.vm_flags
        if flags & VM_ACCOUNT:
            unaccount += pages
        if flags & VM_LOCKED:
            mm.locked_vm -= pages
        vm_stat_account(mm, flags, -pages)
        j += 1
    if unaccount:
        mem.overcommit.committed -= unaccount
    if starts[i] < start:
        vma_adjust(mem, mm, i, starts[i], start)
        i += 1
    if j > i and vmas[j - 1].vm_end > end:
        j -= 1
        vma_adjust(mem, mm, j, end, vmas[j].vm_end)
    if i < j:
        gone = vmas[i:j]
        del vmas[i:j], starts[i:j]
        mm.mmap_cache = None
        _remove_areas(mem, gone)
    gap_grew(mm, i)
    if tables and not keep_tables:
        floor = vmas[i - 1].vm_end if i else 0
        ceiling = starts[i] if i < len(starts) else 0
        mem.pgtables.free_pgtables(mm, start, end, floor, ceiling)


def _remove_areas(mem: Memory, gone: list[VmArea]) -> None:
    """They are out of their address space, and their pages unmapped. Linux: remove_vma."""
    unlinked = mem.scheme.vma_unlinked
    for vma in gone:
        unlinked(vma, None)
        if vma.mapping is not None:
            vma.mapping.unlink(vma)
        if vma.vm_file is not None:
            vma.vm_file.put()
        vma.free(mem)
