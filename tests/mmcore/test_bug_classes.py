"""The bugs that history had in reverse mapping, one test per class; numbered as in the list the schemes were specified from.

Left out: 7, 14, 21, 28, 31 are races between processors, of which there is one here; 8, 9 and 18, 24 to 26, 29 and 30 belong to schemes that are not here yet; 20 is swapoff.
"""

from __future__ import annotations

import errno
import itertools
import random
from typing import Any

import pytest

from mmcore.errors import MustWait, OutOfMemory, SysError
from mmcore.fork import dup_mmap
from mmcore.frames import PG_ANON, PG_DIRECT, PG_SWAPCACHE
from mmcore.fremap import remap_file_pages
from mmcore.mlock import do_mlock
from mmcore.mprotect import do_mprotect
from mmcore.mremap import do_mremap
from mmcore.pgtable import FILE, A, D, P, W
from mmcore.rmap.core import SUCCESS
from mmcore.slab import KmemCache
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.pte_chain import PteChain
from tests.mmcore.files import tmpfs_file
from tests.mmcore.machine import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_READ, RW, Fault, Machine
from tests.mmcore.scan_scheme import ScanEverything

SCHEMES: dict[str, tuple[type, dict[str, Any]]] = {
    "anon_vma": (AnonVma, {}), "anon_vma-unshared": (AnonVma, {"sharing": False}), "pte_chain": (PteChain, {}), "scan_everything": (ScanEverything, {}),
}
AT = 0x50000000
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


class Box(Machine):
    """One process to begin with; pages count from ``AT``."""

    def __init__(self, scheme: str, paging: str = "pae", **more: Any) -> None:
        kind, options = SCHEMES[scheme]
        super().__init__(kind, memory=8 << 20, paging=paging, **options, **more)
        self.mm = self.new_mm()

    def map(self, page: int, pages: int, prot: int = RW, flags: int = FIXED, mm: Any = None, **more: Any) -> None:
        self.mmap(mm or self.mm, pages, prot, flags, AT + (page << 12), **more)

    def put(self, *pages: int, mm: Any = None, plus: int = 1000) -> None:
        for page in pages:
            self.store(mm or self.mm, AT + (page << 12), plus + page)

    def has(self, *pages: int, mm: Any = None, plus: int = 1000, shift: int = 0) -> None:
        for page in pages:
            found = self.load(mm or self.mm, AT + (page + shift << 12))
            assert found == plus + page, f"page {page}: {found}"

    def index(self, page: int, mm: Any = None) -> int:
        return self.mem.pgtables.pte_index((mm or self.mm).pgd, AT + (page << 12))

    def pte(self, page: int, mm: Any = None) -> int:
        i = self.index(page, mm)
        return self.mem.pgtables.ptes[i] if i >= 0 else 0

    def pfn(self, page: int, mm: Any = None) -> int:
        assert self.pte(page, mm) & P
        return self.pte(page, mm) >> 12 & self.mem.pgtables.PFN_MASK

    def mremap(self, page: int, pages: int, to: int, mm: Any = None, new: int = 0) -> None:
        """Waits out what has to be waited for."""
        while True:
            try:
                do_mremap(self.mem, mm or self.mm, AT + (page << 12), pages << 12, (new or pages) << 12, 3, AT + (to << 12))
                return
            except MustWait as wait:
                self.mem.reclaim.wait_sync(wait.queue)

    def swap_out(self) -> None:
        self.mem.reclaim.shrink_all(400)

    def out(self, page: int, mm: Any = None) -> bool:
        """The page is on the swap device and not in RAM."""
        pte = self.pte(page, mm)
        return bool(pte) and not pte & P and self.mem.pgtables.pte_to_swp(pte) not in self.mem.swap.cache


each = pytest.mark.parametrize("scheme", SCHEMES)
chains = pytest.mark.parametrize("scheme", ["pte_chain"])


@each
def test_01_removal_after_the_pte_is_cleared(scheme: str) -> None:
    """munmap clears a PTE and then tells the scheme: it must find its record nevertheless."""
    b = Box(scheme)
    b.map(0, 60)
    b.put(*range(60))
    pfns = [b.pfn(k) for k in range(60)]
    b.fork(b.mm)
    b.munmap(b.mm, AT, 5)
    b.munmap(b.mm, AT + (20 << 12), 40)
    b.audit()
    frames = b.mem.frames
    assert all(frames.mapcount[pfn] == 1 for k, pfn in enumerate(pfns) if k < 5 or k >= 20)
    for mm in list(b.mem.mms.values()):
        b.exit(mm)
    b.audit()
    assert not any(frames.mapcount[pfn] or frames.flags[pfn] & (PG_ANON | PG_DIRECT) or (scheme == "pte_chain" and frames.rmap[pfn]) for pfn in pfns)


@each
def test_02_frames_without_reverse_mapping(scheme: str) -> None:
    """The zero page and frames beyond RAM stand in page tables, are copied, moved and unmapped, and are never counted."""
    b = Box(scheme)
    b.map(0, 40)
    for k in range(30):
        assert b.load(b.mm, AT + (k << 12)) == 0
    assert b.pfn(3) == b.mem.zero_pfn and b.mm.rss == 0 and b.mem.frames.mapcount[b.mem.zero_pfn] == 0
    b.mem.pgtables.ptes[b.index(35)] = (b.mem.frames.nr + 77) << 12 | b.mem.pgtables.prot(PROT_READ)  # a device's memory
    child = b.fork(b.mm)
    assert b.pfn(3, child) == b.mem.zero_pfn and child.rss == 0
    b.mremap(0, 40, 100)
    assert b.pfn(103) == b.mem.zero_pfn and b.pfn(135) == b.mem.frames.nr + 77
    b.audit()
    b.put(103)
    assert b.load(child, AT + 0x3000) == 0
    b.swap_out()
    b.audit()
    b.munmap(b.mm, AT + (100 << 12), 36)
    b.exit(child)
    b.audit()
    assert b.mm.rss == 0


@chains
@pytest.mark.parametrize("operation", ["fault", "fork", "mremap"])
def test_03_no_memory_for_a_chain(scheme: str, operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It used to be an oops. Now it is ENOMEM, before anything has changed."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 20)
    other = b.new_mm()
    for mm in (b.mm, other):
        b.map(0, 20, flags=MAP_SHARED | MAP_FIXED, file=file, mm=mm)
    b.put(*range(20))
    b.put(*(range(4) if operation == "fault" else range(20)), mm=other)
    family = [b.fork(b.mm) for _ in range(5)] if operation == "fork" else []  # seven mappings: the heads are full
    cache, chain = b.mem.slab.caches["pte_chain"], b.mem.scheme
    assert isinstance(chain, PteChain)
    if chain._stash:
        chain._cache.free(chain._stash + 0xC0000000)
        chain._stash = 0

    def refuse(name: str) -> None:
        plain = getattr(KmemCache, name)

        def maybe(self: KmemCache, *args: Any, **options: Any) -> Any:
            if self is cache:
                raise OutOfMemory("no chain")
            return plain(self, *args, **options)

        monkeypatch.setattr(KmemCache, name, maybe)

    refuse("alloc")
    refuse("alloc_bulk")
    living = len(b.mem.mms)
    if operation == "fault":
        with pytest.raises(MemoryError):
            b.store(other, AT + 0x5000, 1)
    else:
        with pytest.raises(SysError, match="ENOMEM"):
            b.fork(other) if operation == "fork" else b.mremap(0, 20, 100, mm=other)
    assert len(b.mem.mms) == living
    b.audit("refused")
    monkeypatch.undo()
    b.has(*range(20))
    if operation == "fork":
        b.exit(b.fork(other))
    elif operation == "mremap":
        b.mremap(0, 20, 100, mm=other)
        b.has(*range(20), mm=other, shift=100)
    else:
        b.has(*range(20), mm=other)
    b.audit()
    for mm in family:
        b.has(*range(20), mm=mm)


@chains
def test_04_going_on_after_a_failed_entry(scheme: str) -> None:
    """Chains of 1 to 3 x NRPTE mappings, some of them locked: reclaim takes what it may, and then everybody exits."""
    rng = random.Random(4)
    for processes in range(1, 23):
        b = Box(scheme)
        file = tmpfs_file(b.mem, 3)
        mms = [b.mm, *(b.new_mm() for _ in range(processes - 1))]
        for mm in mms:
            b.map(0, 3, flags=MAP_SHARED | MAP_FIXED, file=file, mm=mm)
            b.put(0, 1, 2, mm=mm)
            if rng.random() < 0.2:
                do_mlock(b.mem, mm, AT + rng.randrange(3) * 4096, 4096)
        b.swap_out()
        b.audit()
        for mm in rng.sample(mms, len(mms)):
            b.has(0, mm=mm)
            b.exit(mm)
            b.audit()
        assert b.mem.slab.caches["pte_chain"].objects <= 1


@each
def test_05_counters_of_mapped_pages(scheme: str) -> None:
    """nr_mapped counts frames with a mapping, not mappings."""
    b = Box(scheme)
    vmstat = b.mem.vmstat
    b.map(0, 30)
    b.put(*range(20))
    for k in range(20, 30):
        b.load(b.mm, AT + (k << 12))
    assert vmstat.nr_mapped == 20, "the zero page is nobody's"
    child = b.fork(b.mm)
    assert vmstat.nr_mapped == 20
    b.put(*range(5), mm=child)
    assert vmstat.nr_mapped == 25
    b.exit(child)
    assert vmstat.nr_mapped == 20
    b.swap_out()
    assert vmstat.nr_mapped == 0
    b.has(*range(20))
    assert vmstat.nr_mapped == 20
    b.mremap(0, 30, 100)
    b.munmap(b.mm, AT + (100 << 12), 30)
    assert vmstat.nr_mapped == 0
    b.audit()


@each
def test_06_mapcount_and_references_at_free(scheme: str) -> None:
    """Free memory, and every counter, are after a storm what they were before it."""
    b = Box(scheme)
    b.map(200, 1)
    b.put(200)
    b.mem.pages.drain_pcp()
    b.mem.slab.shrink_all()
    before = b.mem.pages.nr_free() - (b.mem.slab.caches["pte_chain"].frames if scheme == "pte_chain" else 0)
    rng = random.Random(6)
    b.map(0, 40)
    mms = [b.mm]
    for _ in range(120):
        mm = rng.choice(mms)
        if len(mms) < 6 and rng.random() < 0.2:
            mms.append(b.fork(mm))
        elif len(mms) > 1 and rng.random() < 0.1:
            gone = mms.pop(rng.randrange(1, len(mms)))
            b.exit(gone)
        elif rng.random() < 0.1:
            b.swap_out()
        else:
            b.put(*rng.sample(range(40), 6), mm=mm)
    b.audit()
    for mm in mms[1:]:
        b.exit(mm)
    b.munmap(b.mm, AT, 40)
    b.mem.clock.charge(10**10)
    b.swap_out()
    b.has(200)
    b.audit()
    b.mem.pages.drain_pcp()
    b.mem.slab.shrink_all()
    after = b.mem.pages.nr_free() - (b.mem.slab.caches["pte_chain"].frames if scheme == "pte_chain" else 0)
    assert abs(before - after) <= 1, "one slab of tree nodes, perhaps"
    assert b.mem.swap.device.nr_free >= b.mem.swap.device.total - 1


@pytest.mark.parametrize("order", list(itertools.permutations(("parent", "child"))), ids="-".join)
@pytest.mark.parametrize("mover", ["parent", "child"])
@each
def test_10_moving_while_shared_and_swapped(scheme: str, mover: str, order: tuple[str, str]) -> None:
    """One of two that share a page moves it; it goes out; both bring it in, in either order. Contents are right, and every walk finds all."""
    b = Box(scheme)
    b.map(0, 6)
    b.put(*range(6))
    who = {"parent": b.mm, "child": b.fork(b.mm)}
    b.mremap(0, 6, 100, mm=who[mover])
    b.audit("moved")
    assert (b.mem.meters.mremap_copies == 6) == (scheme == "scan_everything"), "only a scheme with one address per page has to copy"
    b.swap_out()
    assert all(b.out(k + 100 * (name == mover), mm=mm) for name, mm in who.items() for k in range(6))
    b.audit("out")
    for name in order:
        b.has(*range(6), mm=who[name], shift=100 if name == mover else 0)
        b.audit(f"{name} is back")
    b.put(*range(100, 106) if mover == "child" else range(6), mm=who["child"], plus=7)
    b.swap_out()
    b.has(*range(6), mm=who["parent"], shift=100 if mover == "parent" else 0)
    b.audit()


@each
@pytest.mark.parametrize("order", list(itertools.permutations(("parent", "child"))), ids="-".join)
def test_10_moving_what_is_out(scheme: str, order: tuple[str, str]) -> None:
    """Shared on the device, moved there; the second to come back may have to have a copy."""
    b = Box(scheme)
    b.map(0, 6)
    b.put(*range(6))
    who = {"parent": b.mm, "child": b.fork(b.mm)}
    b.swap_out()
    b.mremap(0, 6, 100, mm=who["child"])
    for name in order:
        b.has(*range(6), mm=who[name], shift=100 if name == "child" else 0)
        b.audit(f"{name} is back")
    if scheme == "scan_everything":
        assert b.mem.meters.cow == 6
    b.swap_out()
    for name in order:
        b.has(*range(6), mm=who[name], shift=100 if name == "child" else 0)
    b.audit()


@each
def test_11_truncation_finds_moved_mappings(scheme: str) -> None:
    b = Box(scheme)
    file = tmpfs_file(b.mem, 12)
    b.map(0, 12, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.map(20, 12, flags=MAP_PRIVATE | MAP_FIXED, file=file)
    b.put(*range(12))
    b.put(22, 28)
    child = b.fork(b.mm)
    b.mremap(4, 8, 104)
    b.mremap(24, 8, 124, mm=child)
    file.truncate(6 << 12)
    b.audit("truncated")
    for page, mm in ((6, child), (106, b.mm), (26, b.mm), (126, child), (128, child), (28, b.mm)):
        with pytest.raises(Fault, match="SIGBUS"):
            b.load(mm, AT + (page << 12))
    b.has(0, 1, 2, 3)
    b.has(4, 5, shift=100)
    b.has(22, mm=child)
    b.audit()


@each
@pytest.mark.parametrize("which", range(1, 14))
def test_11_a_move_that_fails_halfway(scheme: str, which: int) -> None:
    """Whatever allocation fails, pages, area and file index are where they were."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 1200)
    b.map(0, 1200, flags=MAP_SHARED | MAP_FIXED, file=file)
    pages = (0, 3, 511, 512, 513, 1024, 1199)
    b.put(*pages)
    left = which

    def inject(order: int) -> bool:
        nonlocal left
        left -= 1
        return left == 0

    b.mem.pages.inject = inject
    try:
        b.mremap(0, 1200, 5000 + 100)
        moved = True
    except SysError as error:
        assert error.errno == errno.ENOMEM and left <= 0
        moved = False
    finally:
        b.mem.pages.inject = None
    assert moved == (left > 0)
    b.audit()
    b.has(*pages, shift=5100 if moved else 0)


@each
def test_12_a_second_mapping_and_overlaps(scheme: str) -> None:
    """Old length 0 doubles a shared mapping and refuses a private one; ranges that overlap are refused; nothing moves then."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 8)
    b.map(0, 8, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.map(20, 8)
    b.put(*range(8), *range(20, 28))
    do_mremap(b.mem, b.mm, AT, 0, 8 << 12, 3, AT + (40 << 12))
    b.has(*range(8), shift=40)
    b.put(3, plus=2000)
    b.has(3, shift=40, plus=2000)
    for args in ((20, 0, 8, 60), (20, 8, 8, 24), (20, 8, 8, 14), (20, 4, 8, 16)):
        with pytest.raises(SysError, match="EINVAL"):
            do_mremap(b.mem, b.mm, AT + (args[0] << 12), args[1] << 12, args[2] << 12, 3, AT + (args[3] << 12))
    b.has(*range(20, 28))
    b.audit()


@each
def test_12_too_many_areas(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """mremap keeps three areas in reserve; munmap's hole needs one."""
    b = Box(scheme)
    monkeypatch.setattr(type(b.mm), "max_map_count", 10)
    for k in range(8):
        b.map(3 * k, 2)
    b.put(*(3 * k for k in range(8)))
    with pytest.raises(SysError, match="ENOMEM"):
        b.mremap(0, 1, 100)
    b.map(30, 3)
    b.map(40, 3)
    with pytest.raises(SysError, match="ENOMEM"):
        b.munmap(b.mm, AT + (31 << 12), 1)
    with pytest.raises(SysError, match="ENOMEM"):
        do_mprotect(b.mem, b.mm, AT + (31 << 12), 4096, PROT_READ)
    assert len(b.mm.vmas) == 10
    b.has(*(3 * k for k in range(8)))
    b.audit()


@each
@pytest.mark.parametrize("upper_has_pages", [True, False])
def test_13_the_boundary_slides_over_anonymous_pages(scheme: str, upper_has_pages: bool) -> None:
    """mprotect moves a boundary: the area that grows must be found by the pages it takes over."""
    b = Box(scheme)
    b.map(0, 8)
    do_mprotect(b.mem, b.mm, AT, 4 << 12, 7)
    pages = range(4, 8) if upper_has_pages else range(4)
    b.put(*pages)
    child = b.fork(b.mm)
    do_mprotect(b.mem, b.mm, AT + (4 << 12 if upper_has_pages else 2 << 12), 2 << 12, 7 if upper_has_pages else RW)
    b.audit("boundary moved")
    do_mprotect(b.mem, child, AT, 8 << 12, RW)
    b.audit("merged in the child")
    b.swap_out()
    assert all(b.out(k) for k in pages)
    b.has(*pages)
    b.has(*pages, mm=child)
    b.audit()


@each
def test_15_offsets_after_merging(scheme: str) -> None:
    """A and B side by side; A goes away and comes back, to the wrong side and to its own: each page's address follows from its index at all times."""
    b = Box(scheme)
    b.map(0, 4)
    b.map(4, 4)
    b.put(*range(8))
    b.mremap(0, 4, 8)
    b.audit("the wrong side")
    b.has(0, 1, 2, 3, shift=8)
    b.mremap(8, 4, 0)
    b.audit("home")
    b.mremap(0, 8, 20)
    b.map(0, 8)
    b.put(*range(8), plus=5000)
    b.mremap(24, 4, 40)
    b.swap_out()
    b.has(0, 1, 2, 3, shift=20)
    b.has(4, 5, 6, 7, shift=36)
    b.has(*range(8), plus=5000)
    b.audit()


@each
def test_16_two_areas_of_one_process_with_the_same_offsets(scheme: str) -> None:
    """Split, move, map anew beside the rest: two areas claim the same indices. A walk trusts the PTE, not the formula, and counts each PTE once."""
    b = Box(scheme)
    b.map(0, 8)
    b.put(*range(8))
    b.mremap(4, 4, 100)
    b.map(4, 4)
    b.put(4, 5, 6, 7, plus=9000)
    if scheme.startswith("anon_vma"):
        here, there = b.mm.find_vma(AT + (4 << 12)), b.mm.find_vma(AT + (100 << 12))
        assert here.anon_vma is there.anon_vma
        assert there.vm_pgoff == here.vm_pgoff + (4 if here.vm_start == AT else 0)
    b.audit()
    hits = b.mem.meters.hits
    assert b.mem.rmap.page_referenced(b.pfn(101)) == 1
    assert b.mem.meters.hits == hits + 1
    b.swap_out()
    b.has(4, 5, 6, 7, plus=9000)
    b.has(4, 5, 6, 7, shift=96)
    b.audit()


@each
@pytest.mark.parametrize("paging", ["pae", "2level"])
def test_17_nonlinear_areas(scheme: str, paging: str) -> None:
    """Pages in an order of the program's own are reclaimed, come back in that order, survive fork and a move, and are gone after truncation."""
    b = Box(scheme, paging)
    file = tmpfs_file(b.mem, 40)
    b.map(0, 40, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(*range(40))
    for k in range(20):
        remap_file_pages(b.mem, b.mm, AT + (k << 12), 4096, 0, 39 - k, 0)
    expected = [1000 + (39 - k if k < 20 else k) for k in range(40)]
    child = b.fork(b.mm)
    b.audit()
    b.swap_out()
    b.audit("reclaimed")
    assert not any(b.pte(k) & P for k in range(40)) and b.pte(3) & FILE
    for mm in (child, b.mm):
        assert [b.load(mm, AT + (k << 12)) for k in range(40)] == expected
    b.mremap(0, 40, 100)
    assert [b.load(b.mm, AT + (100 + k << 12)) for k in range(40)] == expected
    file.truncate(30 << 12)
    b.audit("truncated")
    for k in (0, 9, 35):
        with pytest.raises(Fault, match="SIGBUS"):
            b.load(child, AT + (k << 12))
    assert b.load(child, AT + (10 << 12)) == 1029
    b.audit()


@each
def test_17_one_page_many_times(scheme: str) -> None:
    """A nonlinear area may show one page of the file everywhere."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 40)
    b.map(0, 30, flags=MAP_SHARED | MAP_FIXED, file=file)
    for k in range(30):
        remap_file_pages(b.mem, b.mm, AT + (k << 12), 4096, 0, 7, 0)
    b.store(b.mm, AT, 77)
    child = b.fork(b.mm)
    assert b.mem.frames.mapcount[b.pfn(0)] == 60 and b.mem.vmstat.nr_mapped == 1
    b.audit()
    b.swap_out()
    assert {b.load(child, AT + (k << 12)) for k in range(30)} == {77}
    b.munmap(child, AT, 29)
    b.audit()
    b.exit(b.mm)
    b.audit()


@each
def test_19_a_pinned_page_stays_where_it_is(scheme: str) -> None:
    """Between the pin and the write by the user, reclaim must not take the page away: the device would write into a frame nobody maps."""
    b = Box(scheme)
    b.map(0, 4)
    b.put(*range(4))
    pfn = b.mem.faults.get_user_page(b.mm, AT, True)
    b.auditor.pins = lambda: {pfn: 1}
    for _ in range(3):
        b.swap_out()
    assert b.out(1) and not b.out(0)
    b.audit()
    b.mem.ram.u32[pfn << 10] = 4711  # the device
    b.store(b.mm, AT + 4, 1)
    assert b.pfn(0) == pfn and b.load(b.mm, AT) == 4711
    b.mem.pages.put_page(pfn)
    b.auditor.pins = dict
    b.swap_out()
    b.audit()
    assert b.out(0) and b.load(b.mm, AT) == 4711


@each
def test_19_pinned_in_the_swap_cache(scheme: str) -> None:
    b = Box(scheme)
    b.map(0, 1)
    b.put(0)
    pfn = b.mem.faults.get_user_page(b.mm, AT, False)
    b.auditor.pins = lambda: {pfn: 1}
    b.mem.rmap.page_referenced(pfn)
    assert b.mem.swap.add_to_swap(pfn)
    b.mem.frames.count[pfn] += 1  # the isolator
    assert b.mem.rmap.try_to_unmap(pfn) != SUCCESS and b.pte(0) & P
    b.mem.frames.count[pfn] -= 1
    b.audit()
    b.store(b.mm, AT + 4, 5)
    assert b.pfn(0) == pfn
    b.audit()


@each
@pytest.mark.parametrize("paging", ["pae", "2level"])
def test_22_a_cleared_accessed_bit_is_flushed(scheme: str, paging: str) -> None:
    """The CPU sets A only when it fills a TLB entry: where A is cleared, the entry has to go, or a busy page looks idle."""
    b = Box(scheme, paging)
    b.map(0, 1)
    b.put(0)
    child = b.fork(b.mm)
    b.load(child, AT)
    b.mm.flush_pending = child.flush_pending = False
    assert b.mem.rmap.page_referenced(b.pfn(0)) == 2
    assert b.mm.flush_pending and child.flush_pending
    b.mm.flush_pending = child.flush_pending = False
    assert b.mem.rmap.page_referenced(b.pfn(0)) == 0
    assert not b.mm.flush_pending and not child.flush_pending, "and only there"


@each
@pytest.mark.parametrize("what", ["fork", "mprotect", "munmap", "swap", "copy", "mremap"])
def test_22_whoever_takes_something_away_flushes(scheme: str, what: str) -> None:
    b = Box(scheme)
    b.map(0, 4)
    b.put(0, 1, 2, 3)
    child = b.fork(b.mm) if what == "copy" else None
    b.mm.flush_pending = False
    before = b.pte(0)
    if what == "fork":
        b.fork(b.mm)
        assert not b.pte(0) & W
    elif what == "mprotect":
        do_mprotect(b.mem, b.mm, AT, 4096, PROT_READ)
        assert not b.pte(0) & W
    elif what == "munmap":
        b.munmap(b.mm, AT, 1)
    elif what == "swap":
        b.swap_out()
    elif what == "copy":
        b.put(0, plus=5)
        assert b.pte(0) >> 12 != before >> 12 and child is not None
    else:
        b.mremap(0, 1, 50)
    assert b.mm.flush_pending


@each
@pytest.mark.parametrize("locker", range(3))
def test_23_one_of_many_mappers_locks(scheme: str, locker: int) -> None:
    b = Box(scheme)
    file = tmpfs_file(b.mem, 4)
    mms = [b.mm, b.new_mm(), b.new_mm()]
    for mm in mms:
        b.map(0, 4, flags=MAP_SHARED | MAP_FIXED, file=file, mm=mm)
        b.put(0, 1, 2, 3, mm=mm)
    do_mlock(b.mem, mms[locker], AT, 2 << 12)
    for _ in range(3):
        b.swap_out()
    b.audit()
    assert b.pte(0, mms[locker]) & P and b.pte(1, mms[locker]) & P
    assert all(index in file.mapping.pages for index in (0, 1)) and not any(index in file.mapping.pages for index in (2, 3))
    for mm in mms:
        b.has(0, 1, 2, 3, mm=mm)


@each
def test_23_a_locked_private_page(scheme: str) -> None:
    """fork does not inherit the lock: the child's mapping may be taken, the parent's page stays."""
    b = Box(scheme)
    b.map(0, 4)
    b.put(0, 1, 2, 3)
    do_mlock(b.mem, b.mm, AT, 4 << 12)
    child = b.fork(b.mm)
    assert child.locked_vm == 0
    for _ in range(3):
        b.swap_out()
    assert all(b.pte(k) & P for k in range(4))
    b.audit()
    b.has(0, 1, 2, 3, mm=child)
    b.has(0, 1, 2, 3)


@each
def test_27_a_walk_between_the_two_halves_of_a_move(scheme: str) -> None:
    """While PTEs move, no walk runs; before and after, it finds all. The areas' order on a list does not matter."""
    b = Box(scheme)
    b.map(0, 30)
    b.put(*range(30))
    mms = [b.mm, b.fork(b.mm), b.fork(b.mm)]
    rng = random.Random(27)
    home = {mm: 0 for mm in mms}
    for turn in range(12):
        mm = rng.choice(mms)
        to = 100 + 40 * turn
        b.mremap(home[mm], 30, to, mm=mm)
        home[mm] = to
        b.audit(f"move {turn}")
        if turn % 4 == 3:
            b.swap_out()
            b.audit(f"out after move {turn}")
        for each_mm in mms:
            b.has(*range(30), mm=each_mm, shift=home[each_mm])


@pytest.mark.parametrize("scheme", ["anon_vma", "pte_chain"])
def test_32_costs_grow_as_the_schemes_say(scheme: str) -> None:
    """N children that each copied the page: pte_chain asks 1 place, anon_vma N; for the page that all share, both ask N + 1."""
    for children in (1, 8, 20):
        b = Box(scheme)
        b.map(0, 2)
        b.put(0, 1)
        family = [b.fork(b.mm) for _ in range(children)]
        for mm in family:
            b.put(0, mm=mm, plus=3)
        meters = b.mem.meters

        def candidates(page: int) -> int:
            before = meters.candidates
            b.mem.rmap.page_referenced(b.pfn(page))
            return meters.candidates - before

        assert candidates(1) == children + 1
        assert candidates(0) == (1 if scheme == "pte_chain" else children + 1)


@each
def test_fork_copies_dirty_and_young_as_they_should_be(scheme: str) -> None:
    """2.6.7's copy: private PTEs keep D and lose A in the child; shared ones lose both. No write is lost by that."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 4)
    b.map(0, 2)
    b.map(4, 4, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(0, 4)
    child = b.fork(b.mm)
    assert b.pte(0) & D and b.pte(0, child) & (A | D) == D
    assert b.pte(4) & D and not b.pte(4, child) & (A | D)
    b.exit(b.mm)
    b.swap_out()
    b.has(0, 4, mm=child)
    b.audit()


@each
def test_a_child_that_fails_half_made_leaves_no_trace(scheme: str) -> None:
    """The mm of a failed fork is not among the living, and the parent's pages are as shared as before."""
    b = Box(scheme)
    b.map(0, 30)
    b.put(*range(30))
    other = b.fork(b.mm)
    mapcounts = [b.mem.frames.mapcount[b.pfn(k)] for k in range(30)]
    for n in range(1, 60):
        left = n

        def inject(order: int) -> bool:
            nonlocal left
            left -= 1
            return left == 0

        b.mem.pages.inject = inject
        try:
            child = dup_mmap(b.mem, b.mm)
        except SysError:
            assert left <= 0
        else:
            b.exit(child)
        finally:
            b.mem.pages.inject = None
        assert len(b.mem.mms) == 2
        assert [b.mem.frames.mapcount[b.pfn(k)] for k in range(30)] == mapcounts
        b.audit()
        if left > 0:
            break
    b.has(*range(30), mm=other)
    assert not b.mem.frames.flags[b.pfn(0)] & PG_SWAPCACHE
