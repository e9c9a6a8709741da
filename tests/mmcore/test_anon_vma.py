"""anon_vma: who shares an object, in which order a walk meets the areas, what survives mremap and mprotect, and how
many objects there are."""

from __future__ import annotations

from typing import Any

import pytest

from mmcore.calls.mlock import do_mlock
from mmcore.calls.mprotect import do_mprotect
from mmcore.calls.mremap import do_mremap
from mmcore.errors import OutOfMemory
from mmcore.memory import Memory, MemoryConfig
from mmcore.physical.frames import PG_ANON
from mmcore.physical.slab import objects_per_slab
from mmcore.rmap import MISS, STOP, MachineFacts, Purpose
from mmcore.rmap.core import SUCCESS, SWAP_FAIL
from rmap_plugins.anon_vma import AnonVma
from sandbox.kit.files import tmpfs_file
from sandbox.kit.injection import OBJECT, Failing
from sandbox.kit.machine import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, RW, CpulessMachine
from tests.mmcore.asking import Asking

AT = 0x50000000
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


class Box(CpulessMachine):
    """One process and short words for what the tests do; pages count from `AT`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(AnonVma, memory=8 << 20, **options)
        self.mm = self.new_mm()
        self.scheme: Any = self.mem.scheme

    def map(self, page: int, pages: int, prot: int = RW, **more: Any) -> None:
        self.mmap(
            self.mm, pages, prot, FIXED if "file" not in more else MAP_PRIVATE | MAP_FIXED, AT + (page << 12), **more
        )

    def touch(self, *pages: int, mm: Any = None) -> None:
        for page in pages:
            self.store(mm or self.mm, AT + (page << 12), 1000 + page)

    def protect(self, page: int, pages: int, prot: int) -> None:
        do_mprotect(self.mem, self.mm, AT + (page << 12), pages << 12, prot)

    def move(self, page: int, pages: int, to: int, mm: Any = None) -> None:
        do_mremap(self.mem, mm or self.mm, AT + (page << 12), pages << 12, pages << 12, 3, AT + (to << 12))

    def area(self, page: int, mm: Any = None) -> Any:
        vma = (mm or self.mm).find_vma(AT + (page << 12))
        assert vma is not None and vma.vm_start <= AT + (page << 12)
        return vma

    def pfn(self, page: int, mm: Any = None) -> int:
        pte = self.mem.pgtables.ptes[self.mem.pgtables.pte_index((mm or self.mm).pgd, AT + (page << 12))]
        assert pte & 1
        return pte >> 12 & self.mem.pgtables.PFN_MASK

    def swap_out(self, pages: int = 400) -> None:
        self.mem.reclaim.shrink_all(pages)

    def contents(self, *pages: int, mm: Any = None) -> bool:
        return all(self.load(mm or self.mm, AT + (page << 12)) == 1000 + page for page in pages)

    @property
    def objects(self) -> int:
        return self.mem.slab.caches["anon_vma"].objects


@pytest.fixture
def box() -> Box:
    return Box()


# --- sizes


@pytest.mark.parametrize("smp, size, per_page", [(False, 8, 407), (True, 12, 290)])
def test_sizes(smp: bool, size: int, per_page: int) -> None:
    mem = Memory(MemoryConfig(8 << 20, 1 << 20, smp=smp), AnonVma)
    cache = mem.slab.caches["anon_vma"]
    assert cache.objsize == size and cache.per_slab == objects_per_slab(size, 0) == per_page
    setup = AnonVma.configure(MachineFacts("pae", smp, 32, "isolated"), {})
    assert setup.vma == 12 + 8, "list node and pointer, and 8 more for the priority search tree's node"
    assert mem.vma_cache.objsize == 84 and mem.vma_cache.per_slab == 47


def test_worst_case_is_24_bytes_an_area_on_smp() -> None:
    """12 in the area and 12 for an object of its own; less where an object is shared."""
    box = Box(sharing=False)
    areas = 50
    for k in range(areas):
        box.map(2 * k, 1)
        box.touch(2 * k)
    assert box.objects == areas
    smp = AnonVma.configure(MachineFacts("pae", True, 32, "isolated"), {}).vma - 8
    assert smp + 12 == 24


# --- anon_vma_prepare


def test_an_object_comes_with_the_first_written_page(box: Box) -> None:
    box.map(0, 4)
    assert box.area(0).anon_vma is None
    box.load(box.mm, AT)
    assert box.area(0).anon_vma is None, "the zero page has no reverse mapping"
    box.touch(0, 1)
    anon_vma = box.area(0).anon_vma
    assert anon_vma is not None and box.objects == 1
    pfn = box.pfn(1)
    assert box.mem.frames.mapping[pfn] == anon_vma.address and box.mem.frames.index[pfn] == (AT >> 12) + 1
    assert box.mem.frames.flags[pfn] & PG_ANON
    box.munmap(box.mm, AT, 4)
    assert box.objects == 0
    box.audit()


@pytest.mark.parametrize("sharing", [True, False])
@pytest.mark.parametrize("first, then", [(0, 4), (4, 0)])
def test_a_neighbour_that_differs_in_access_only_is_shared_with(sharing: bool, first: int, then: int) -> None:
    """rmap-40. The neighbour above is asked first, then the one below."""
    box = Box(sharing=sharing)
    box.map(0, 8)
    box.protect(4, 4, 7)
    box.touch(first)
    box.touch(then)
    assert (box.area(0).anon_vma is box.area(4).anon_vma) == sharing
    assert box.objects == (1 if sharing else 2)
    box.protect(4, 4, RW)
    assert (len(box.mm.vmas) == 1) == sharing, "mprotect back: they merge only if they share"
    assert box.mem.meters.merges_refused == (0 if sharing else 1)
    box.audit()


def test_next_is_asked_before_previous() -> None:
    box = Box()
    box.map(0, 2)
    box.touch(0)
    box.map(4, 2)
    box.touch(4)
    box.map(2, 2, prot=7)
    assert box.area(0).anon_vma is not box.area(4).anon_vma
    box.touch(2)
    assert box.area(2).anon_vma is box.area(4).anon_vma and box.objects == 2
    box.audit()


@pytest.mark.parametrize("case", ["gap", "locked", "file", "offset"])
def test_who_could_not_merge_does_not_share(case: str) -> None:
    box = Box()
    file = tmpfs_file(box.mem, 20)
    if case == "file":
        box.map(0, 4)
        box.map(4, 4, prot=7, file=file)
    elif case == "offset":
        box.map(0, 4, file=file, pgoff=0)
        box.map(4, 4, prot=7, file=file, pgoff=9)
    elif case == "locked":
        box.map(0, 4)
        box.map(4, 4, prot=7)
        do_mlock(box.mem, box.mm, AT + 0x4000, 0x4000)
    else:
        box.map(0, 4)
        box.map(5, 4, prot=7)
    box.touch(0)
    box.touch(5)
    assert box.area(0).anon_vma is not box.area(5).anon_vma and box.objects == 2
    box.audit()


def test_a_file_area_with_contiguous_offsets_shares() -> None:
    box = Box()
    file = tmpfs_file(box.mem, 20)
    box.map(0, 4, file=file, pgoff=3)
    box.map(4, 4, prot=7, file=file, pgoff=7)
    box.touch(0, 5)
    assert box.area(0).anon_vma is box.area(4).anon_vma and box.objects == 1


def test_no_memory_for_an_object(box: Box) -> None:
    box.map(0, 1)
    with Failing(box.mem.pages, 1, counts=lambda order: order == OBJECT), pytest.raises(OutOfMemory):
        box.scheme.reserve("anon_fault", box.area(0))
    assert box.area(0).anon_vma is None and box.objects == 0
    box.touch(0)
    box.audit()


# --- fork, split, exit


def test_fork_and_split_share_one_object(box: Box) -> None:
    """The list is (processes) x (pieces) long; there is one object."""
    box.map(0, 12)
    box.touch(*range(12))
    children = [box.fork(box.mm) for _ in range(5)]
    assert box.objects == 1 and len(box.area(0).anon_vma.areas) == 6
    for page in (2, 6, 10):
        box.protect(page, 1, PROT_READ)
    assert box.objects == 1 and len(box.area(0).anon_vma.areas) == 5 + 7
    grandchild = box.fork(box.mm)
    assert len(box.area(0).anon_vma.areas) == 5 + 14
    box.exit(box.mm)
    assert box.objects == 1 and len(box.area(0, grandchild).anon_vma.areas) == 5 + 7
    box.audit()
    for mm in (*children, grandchild):
        box.exit(mm)
    assert box.objects == 0
    box.audit()


@pytest.mark.parametrize("areas, processes", [(1, 1), (3, 4), (10, 3)])
def test_objects_follow_the_closed_form(areas: int, processes: int) -> None:
    """Areas that do not touch, written before the fork: one object each, however many processes. Written after it: as
    many again."""
    box = Box()
    for k in range(areas):
        box.map(3 * k, 2)
        box.map(3 * k + 100, 2)
        box.touch(3 * k)
    mms = [box.mm, *(box.fork(box.mm) for _ in range(processes - 1))]
    assert box.objects == areas
    for mm in mms:
        for k in range(areas):
            box.touch(3 * k, 3 * k + 100, mm=mm)
    cache = box.mem.slab.caches["anon_vma"]
    assert box.objects == cache.peak_objects == areas + areas * processes
    box.audit()


def test_the_newest_area_is_asked_first(box: Box) -> None:
    box.map(0, 4)
    box.touch(0, 1)
    first = box.fork(box.mm)
    second = box.fork(first)
    order: list[Any] = []

    def visit(pfn: int, mm: Any, address: int, vma: Any, pte: int) -> int:
        assert address == AT + 0x1000 and vma is box.area(1, mm)
        order.append(mm)
        return MISS

    box.scheme.walk(Asking(box.pfn(1), Purpose.AUDIT, visit))
    assert order == [second, first, box.mm]
    order.clear()
    box.scheme.walk(Asking(box.pfn(1), Purpose.REFERENCED, lambda *a: order.append(a[1]) or STOP))
    assert order == [second] and box.mem.meters.vmas_visited == 1


def test_pieces_elsewhere_cost_a_look_and_no_probe(box: Box) -> None:
    """An area of the list whose range does not reach the page is passed over without a page-table access."""
    box.map(0, 20)
    box.touch(*range(20))
    for page in range(1, 20, 2):
        box.protect(page, 1, PROT_READ)
    before = box.mem.meters.as_dict()
    box.mem.rmap.page_referenced(box.pfn(0))
    after = box.mem.meters.as_dict()
    grown = {name: after[name] - before[name] for name in after}
    assert grown["candidates"] == grown["ptes_probed"] == grown["hits"] == grown["walks"] == 1
    assert 1 <= grown["vmas_visited"] <= 20


def test_a_copied_page_is_searched_in_every_relative(box: Box) -> None:
    """Worst case of 4.8: the page is mapped once, but every process of the family that has the area is probed."""
    box.map(0, 1)
    box.touch(0)
    children = [box.fork(box.mm) for _ in range(6)]
    for mm in children:
        box.store(mm, AT, 77)
    before = box.mem.meters.misses
    box.mem.rmap.page_referenced(box.pfn(0))
    assert box.mem.meters.misses - before == 6, "the parent's area is the oldest: all children's come first"


# --- mremap


def test_moved_pages_keep_offset_and_index(box: Box) -> None:
    box.map(0, 8)
    box.touch(*range(8))
    child = box.fork(box.mm)
    pfn = box.pfn(3)
    box.move(2, 4, 40)
    vma = box.area(40)
    assert vma.vm_pgoff == (AT >> 12) + 2 and box.pfn(41) == pfn
    assert box.mem.frames.index[pfn] == (AT >> 12) + 3 and box.mem.meters.mremap_copies == 0
    box.audit("moved while shared")
    box.swap_out()
    assert box.load(box.mm, AT + (41 << 12)) == 1003 and box.load(child, AT + (3 << 12)) == 1003
    box.audit()


def test_a_moved_area_without_pages_starts_afresh(box: Box) -> None:
    box.map(0, 4)
    box.move(0, 4, 40)
    assert box.area(40).vm_pgoff == (AT >> 12) + 40
    box.map(44, 4)
    assert len(box.mm.vmas) == 1, "it merges with what is mapped beside it"


def test_moved_areas_merge_only_where_the_offsets_meet(box: Box) -> None:
    box.map(0, 8)
    box.touch(*range(8))
    box.move(4, 4, 40)
    box.map(44, 2)
    assert len(box.mm.vmas) == 3, "a new area beside a moved one has another offset"
    box.move(40, 4, 4)
    assert len(box.mm.vmas) == 2 and box.area(0).pages == 8, "back home they are one again"
    assert box.contents(*range(8))
    box.audit()


def test_areas_with_different_objects_never_merge() -> None:
    box = Box()
    box.map(0, 4)
    box.touch(0)
    box.map(8, 4)
    box.touch(8)
    assert box.objects == 2
    box.map(4, 4)
    assert [vma.pages for vma in box.mm.vmas] == [8, 4] and box.mem.meters.merges_refused == 1
    box.audit()


def test_an_area_without_object_adopts_what_it_absorbs(box: Box) -> None:
    box.map(4, 4)
    box.touch(4)
    box.map(0, 4)
    assert len(box.mm.vmas) == 1 and box.area(0).anon_vma is not None and box.objects == 1
    box.map(8, 4)
    assert len(box.mm.vmas) == 1 and len(box.area(0).anon_vma.areas) == 1
    box.audit()


# --- mprotect: the boundary slides


def _two_areas(box: Box, with_pages: int) -> None:
    """[0,4) and [4,8), read-write and read-only, pages in one of them only; alike in all else."""
    box.map(0, 4, prot=PROT_READ)
    box.map(4, 4)
    if with_pages == 4:
        box.touch(4, 5, 6, 7)
        box.protect(4, 4, PROT_READ)
        box.protect(0, 4, RW)
    else:
        box.map(0, 8)
        box.munmap(box.mm, AT + 0x4000, 4)
        box.touch(0, 1, 2, 3)
        box.map(4, 4, prot=PROT_READ)
        box.protect(4, 4, RW)
        box.munmap(box.mm, AT + 0x4000, 4)
        box.map(4, 4, prot=7)
        box.protect(4, 4, PROT_READ)
    assert len(box.mm.vmas) == 2
    assert (box.area(with_pages).anon_vma is None, box.area(4 - with_pages).anon_vma is None) == (False, True)


def test_the_lower_area_grows_over_pages_of_the_upper(box: Box) -> None:
    """Class 13 of docs/bug-classes.md (mended 2004-06-20): who grows takes the object of the one that shrinks."""
    _two_areas(box, with_pages=4)
    box.protect(4, 2, RW)
    assert [vma.pages for vma in box.mm.vmas] == [6, 2]
    assert box.area(0).anon_vma is box.area(6).anon_vma is not None
    box.audit("boundary moved up")
    box.swap_out()
    assert box.contents(4, 5, 6, 7)
    box.audit()


def test_the_upper_area_grows_over_pages_of_the_lower(box: Box) -> None:
    _two_areas(box, with_pages=0)
    box.protect(2, 2, PROT_READ)
    assert [vma.pages for vma in box.mm.vmas] == [2, 6]
    assert box.area(0).anon_vma is box.area(2).anon_vma is not None
    box.audit("boundary moved down")
    box.swap_out()
    assert box.contents(0, 1, 2, 3)
    box.audit()


# --- unmapping


def _unmap(box: Box, pfn: int) -> int:
    box.mem.frames.count[pfn] += 1
    try:
        return box.mem.rmap.try_to_unmap(pfn)
    finally:
        box.mem.pages.put_page(pfn)


def _idle(box: Box, pfn: int) -> None:
    box.mem.rmap.page_referenced(pfn)
    assert box.mem.swap.add_to_swap(pfn)


def test_unmapping_all_relatives(box: Box) -> None:
    box.map(0, 2)
    box.touch(0, 1)
    mms = [box.mm, *(box.fork(box.mm) for _ in range(4))]
    pfn = box.pfn(0)
    _idle(box, pfn)
    entry = box.mem.frames.private[pfn]
    assert _unmap(box, pfn) == SUCCESS
    assert box.mem.swap.swap_count(entry) == 6, "five PTEs and the swap cache"
    assert box.mem.frames.mapping[pfn] == 0 and not box.mem.frames.flags[pfn] & PG_ANON
    box.audit()
    assert all(box.contents(0, 1, mm=mm) for mm in mms)
    box.audit()


def test_a_young_page_is_not_unmapped(box: Box) -> None:
    box.map(0, 1)
    box.touch(0)
    pfn = box.pfn(0)
    assert box.mem.swap.add_to_swap(pfn)
    assert _unmap(box, pfn) == SWAP_FAIL, "2.6.7 looks at the accessed bit once more"
    assert _unmap(box, pfn) == SUCCESS
    box.audit()


def test_a_locked_relative_keeps_the_page(box: Box) -> None:
    box.map(0, 1)
    box.touch(0)
    child = box.fork(box.mm)
    pfn = box.pfn(0)
    _idle(box, pfn)
    child.find_vma(AT).vm_flags |= 0x2000  # VM_LOCKED, without mlock's copy
    child.locked_vm += 1
    assert _unmap(box, pfn) == SWAP_FAIL and box.pfn(0, child) == pfn
    box.audit()


def test_the_released_2_6_7_puts_who_adopts_where_the_other_stood() -> None:
    """__anon_vma_merge links beside the area that goes; a fork's child stands in front of it and is still asked
    first."""
    box = Box(flaws=True)
    box.map(0, 2)
    box.protect(0, 1, PROT_READ)
    box.touch(1)
    child = box.fork(box.mm)
    anon_vma = box.area(1).anon_vma
    box.protect(0, 1, RW)
    assert len(box.mm.vmas) == 1 and box.area(0).anon_vma is anon_vma
    assert list(reversed(anon_vma.areas)) == [box.area(1, child), box.area(0)]
    assert not box.mem.scheme.check()
