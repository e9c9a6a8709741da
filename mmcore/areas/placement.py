"""Where a new mapping goes when its address is left to the kernel.

 topdown (default)   highest gap below mmap_base that is large enough; none there: lowest gap above 0x40000000
 legacy              lowest gap above 0x40000000 (2.6.7's bottom-up)

      0x40000000                        mmap_base              stack
 ---------|--------------- <- maps ---------|-- gap >= 128M -----|  0xc0000000
 A growing area (stack) keeps 256 pages below it free in either search.

Walking all gaps from the top at each call is quadratic in areas; `mm.gap_top` and `mm.gap_size` remember what is
known to be too small: *every free gap below mmap_base that ends above gap_top is smaller than gap_size*. Whoever frees
address space raises gap_top to the new gap's end. Linux: arch/x86/mm/mmap.c, arch/x86/kernel/sys_x86_64.c, mm/vma.c,
6.18, for a 32-bit task with ADDR_LIMIT_3GB and ADDR_NO_RANDOMIZE.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmcore.areas.overcommit import RLIMIT_STACK, capable, rlimit
from mmcore.areas.vma import STACK_GUARD_GAP, VM_GROWSDOWN
from mmcore.errors import OutOfMemory, SysError
from mmcore.physical.pgtable import TASK_SIZE

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory

TASK_UNMAPPED_BASE = TASK_SIZE // 3  # 0x40000000
MMAP_MIN_ADDR = 65536
MMAP_RND_PAGES = 256  # with a seed mmap_base moves down by fewer. Linux: CONFIG_ARCH_MMAP_RND_COMPAT_BITS = 8, i386
_GAP_MIN = 128 << 20
_GAP_MAX = TASK_SIZE // 6 * 5


def arch_pick_mmap_layout(mem: Memory, mm: Mm) -> None:
    """Sets where mappings go, from the machine's layout and the current task's RLIMIT_STACK (exec calls it on the fresh
    mm)."""
    limit = rlimit(mem, RLIMIT_STACK) if mem.current.rlimits is not None else 0
    gap = min(max(limit + STACK_GUARD_GAP, _GAP_MIN), _GAP_MAX)
    mm.mmap_base = TASK_SIZE - gap + 4095 & ~4095
    if mem.layout_rng is not None:
        mm.mmap_base -= mem.layout_rng.randrange(MMAP_RND_PAGES) << 12
    mm.topdown = mem.config.layout != "legacy"
    mm.gap_top = mm.mmap_base
    mm.gap_size = 0


def get_unmapped_area(mem: Memory, mm: Mm, addr: int, length: int, fixed: bool) -> int:
    """An address for `length` bytes (a multiple of the page size): `addr` itself if `fixed`, near it if it is a
    free hint, else the layout's choice. Raises ENOMEM (no room), EINVAL (fixed and unaligned), EPERM (below
    mmap_min_addr). Linux: __get_unmapped_area."""
    if length > TASK_SIZE:
        raise SysError(errno.ENOMEM)
    if not fixed:
        addr = _hint(mm, addr, length) if addr else 0
        if not addr:
            addr = _topdown(mm, length) if mm.topdown else -1
            if addr < 0:
                addr = _bottomup(mm, length)
    if addr > TASK_SIZE - length:
        raise SysError(errno.ENOMEM)
    if addr & 4095:
        raise SysError(errno.EINVAL)
    if addr < MMAP_MIN_ADDR and not capable(mem):
        raise SysError(errno.EPERM)
    return addr


def _hint(mm: Mm, addr: int, length: int) -> int:
    """`addr` rounded to a page if that range is free, else 0."""
    addr = addr & ~4095 if mm.topdown else addr + 4095 & ~4095
    if not addr or addr > TASK_SIZE - length:
        return 0
    vma = mm.find_vma(addr)
    if vma is not None:
        start = vma.vm_start
        if vma.vm_flags & VM_GROWSDOWN:
            start -= STACK_GUARD_GAP
        if addr + length > start:
            return 0
    return addr


def _topdown(mm: Mm, length: int) -> int:
    """Start of the highest piece of `length` bytes below mmap_base, or -1."""
    base = mm.mmap_base
    top = mm.gap_top
    if length < mm.gap_size or top > base:
        top = base
        mm.gap_size = 0
    vmas = mm.vmas
    i = mm.find_index(top - 1)
    largest = mm.gap_size
    ceiling = top
    if i < len(vmas):
        # The area at or above the search's start bounds the first gap.
        vma = vmas[i]
        start = vma.vm_start - STACK_GUARD_GAP if vma.vm_flags & VM_GROWSDOWN else vma.vm_start
        if start < ceiling:
            ceiling = start
    while True:
        i -= 1
        floor = vmas[i].vm_end if i >= 0 else 4096
        room = ceiling - floor
        if room >= length:
            mm.gap_top = ceiling
            mm.gap_size = largest
            return ceiling - length
        if room >= largest:
            largest = room + 1
        if i < 0:
            mm.gap_top = 4096
            mm.gap_size = largest
            return -1
        vma = vmas[i]
        ceiling = vma.vm_start - STACK_GUARD_GAP if vma.vm_flags & VM_GROWSDOWN else vma.vm_start


def _bottomup(mm: Mm, length: int) -> int:
    """Start of the lowest piece of `length` bytes from TASK_UNMAPPED_BASE up. Raises ENOMEM."""
    vmas = mm.vmas
    floor = TASK_UNMAPPED_BASE
    for i in range(mm.find_index(floor), len(vmas)):
        vma = vmas[i]
        start = vma.vm_start - STACK_GUARD_GAP if vma.vm_flags & VM_GROWSDOWN else vma.vm_start
        if start - floor >= length:
            return floor
        if vma.vm_end > floor:
            floor = vma.vm_end
    if TASK_SIZE - floor >= length:
        return floor
    raise OutOfMemory("no room in the address space")


def gap_grew(mm: Mm, i: int) -> None:
    """Address space just below the area at position `i` (or below the end, if there is none) was freed."""
    vmas = mm.vmas
    top = mm.mmap_base
    if i < len(vmas) and vmas[i].vm_start < top:
        top = vmas[i].vm_start
    if top > mm.gap_top:
        mm.gap_top = top
