"""page_mkclean: what was written through mappings of a file page is known to the page, and the next write will be
noticed.

 PTE D | W --page_mkclean--> PTE clean, write-protected --next store--> fault: set_page_dirty, D | W

Who writes a page back calls it first. Without it (before 2.6.19) a page that stays mapped can be written to for hours,
and nobody knows before the mapping goes. Linux: mm/rmap.c, 2.6.19.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmcore.areas.vma import VM_SHARED
from mmcore.physical.frames import PG_ANON
from mmcore.physical.pgtable import D, W
from mmcore.rmap.scheme import HIT, MISS, STOP, Purpose

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.memory import Memory


def page_mkclean(mem: Memory, pfn: int) -> int:
    """Clears D and W in every PTE through which a shared area maps the file page. Returns how many of them were dirty;
    the caller sees to it that the page is."""
    rmap, ptes = mem.rmap, mem.pgtables.ptes
    left = mem.frames.mapcount[pfn]
    if not left or mem.frames.flags[pfn] & PG_ANON:
        return 0
    dirty = 0

    def clean_one(pfn: int, mm: Mm, address: int, vma: VmArea | None, pte: int) -> int:
        nonlocal left, dirty
        pte = rmap.find(pfn, mm, address, pte)
        if pte < 0:
            return MISS
        if vma is None:
            vma = mem.scheme.env.find_vma(mm, address)
            mem.meters.vmas_visited += 1
        if vma is not None and vma.vm_start <= address and vma.vm_flags & VM_SHARED:
            value = ptes[pte]
            if value & (D | W):
                dirty += bool(value & D)
                ptes[pte] = value & ~(D | W)
                mm.flush_pending = True
        left -= 1
        return HIT if left else HIT | STOP

    rmap.ask(pfn, Purpose.MKCLEAN, clean_one)
    return dirty
