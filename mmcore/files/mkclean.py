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
from mmcore.rmap.probe import ProbingWalk
from mmcore.rmap.walk import HIT, STOP, Purpose

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.memory import Memory
    from mmcore.rmap.core import Rmap


def page_mkclean(mem: Memory, pfn: int) -> int:
    """Clears D and W in every PTE through which a shared area maps the file page. Returns how many of them were dirty;
    the caller sees to it that the page is."""
    if not mem.frames.mapcount[pfn] or mem.frames.flags[pfn] & PG_ANON:
        return 0
    clean = _Clean(mem.rmap, pfn)
    mem.rmap.ask(clean)
    return clean.dirty


class _Clean(ProbingWalk):
    """`dirty` PTEs were found. Over when all `left` PTEs of the page were seen."""

    __slots__ = ("left", "dirty")

    def __init__(self, rmap: Rmap, pfn: int) -> None:
        super().__init__(rmap, pfn, Purpose.MKCLEAN)
        self.left = rmap.mapcount[pfn]
        self.dirty = 0

    def found(self, mm: Mm, address: int, vma: VmArea | None, pte: int) -> int:
        rmap = self.rmap
        if vma is None:
            vma = rmap.scheme.env.find_vma(mm, address)
            rmap.meters.vmas_visited += 1
        if vma is not None and vma.vm_start <= address and vma.vm_flags & VM_SHARED:
            value = rmap.ptes[pte]
            if value & (D | W):
                self.dirty += bool(value & D)
                rmap.ptes[pte] = value & ~(D | W)
                mm.flush_pending = True
        self.left -= 1
        return HIT if self.left else HIT | STOP
