"""remap_file_pages: pages of a shared file mapping in an order of the program's own.

The area becomes VM_NONLINEAR: it leaves the file's index for the list of nonlinear areas, and a PTE that is not the
linear page says which page it is (a file PTE) whenever it is not present. Linux: mm/fremap.c, 2.6.7; arguments and
errors as the emulation of 4.0 and later has them.

A scheme of a time that had no nonlinear areas any more (4.0 and later) gets ordinary ones: the range is mapped again
from the other offset, which cuts the area and makes new ones. Linux: remap_file_pages, mm/mmap.c, 4.0.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmcore.areas.vma import VM_ACCESS_FLAGS, VM_LOCKED, VM_NONLINEAR, VM_SHARED, linear_page_index
from mmcore.calls.mmap import MAP_FIXED, MAP_NONBLOCK, MAP_POPULATE, MAP_SHARED, do_mmap
from mmcore.errors import SysError
from mmcore.paging.zap import zap_page_range
from mmcore.physical.pgtable import FILE

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory


def remap_file_pages(mem: Memory, mm: Mm, start: int, size: int, prot: int, pgoff: int, flags: int) -> None:
    """`[start, start + size)` (bytes), inside one shared mapping, shows the file from page `pgoff` on. Raises
    EINVAL, or ENOMEM (no page table) with nothing changed."""
    start &= ~4095
    size &= ~4095
    end = start + size
    if prot or not size:
        raise SysError(errno.EINVAL)
    pgtables = mem.pgtables
    limit = 1 << (29 if pgtables.ENTRY == 4 else 32)  # PTE_FILE_MAX_BITS
    vma = mm.find_vma(start)
    if vma is None or vma.vm_start > start or not vma.vm_flags & VM_SHARED or vma.mapping is None or end > vma.vm_end:
        raise SysError(errno.EINVAL)
    if pgoff + (size >> 12) > limit:
        raise SysError(errno.EINVAL)
    if not mem.setup.nonlinear_areas:
        file = vma.vm_file
        assert file is not None  # whose mapping it is
        file.get()  # the last area of the file may be the one that is replaced
        try:
            populate = MAP_POPULATE | flags & MAP_NONBLOCK | vma.vm_flags & VM_LOCKED  # which is MAP_LOCKED's bit too
            do_mmap(
                mem, mm, start, size, vma.vm_flags & VM_ACCESS_FLAGS, MAP_SHARED | MAP_FIXED | populate, file, pgoff
            )
        finally:
            file.put()
        return
    linear = pgoff == linear_page_index(vma, start)
    if not linear or vma.vm_flags & VM_NONLINEAR:
        nr = size >> 12
        places = [pgtables.pte_alloc(mm, start + (k << 12)) for k in range(nr)]
        if not vma.vm_flags & VM_NONLINEAR:
            vma.mapping.unlink(vma)
            vma.vm_flags |= VM_NONLINEAR
            vma.nl_cursor = 0
            vma.mapping.link(vma)
        zap_page_range(mem, vma, start, end)
        ptes = pgtables.ptes
        for k, place in enumerate(places):
            ptes[place] = 0 if linear else pgtables.file_pte(pgoff + k) | FILE
    if not flags & MAP_NONBLOCK and vma.vm_flags & VM_ACCESS_FLAGS:
        mem.faults.make_pages_present(mm, start, end)
