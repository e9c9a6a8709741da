"""The bugs that history had in reverse mapping, one test per class; numbered as in the list the schemes were specified
from. Here 1 to 13; more of them in the files named by their numbers."""

from __future__ import annotations

import errno
import itertools
import random
from typing import Any

import pytest

from mmcore.calls.mlock import do_mlock
from mmcore.calls.mprotect import do_mprotect
from mmcore.calls.mremap import do_mremap
from mmcore.errors import OutOfMemory, SysError
from mmcore.physical.frames import PG_ANON, PG_DIRECT
from mmcore.physical.slab import KmemCache
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_READ, RW, Fault
from tests.mmcore.box import AT, SCHEMES, Box

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
    assert not any(
        frames.mapcount[pfn]
        or frames.flags[pfn] & (PG_ANON | PG_DIRECT)
        or (scheme == "pte_chain" and frames.rmap[pfn])
        for pfn in pfns
    )


@each
def test_02_frames_without_reverse_mapping(scheme: str) -> None:
    """The zero page and frames beyond RAM stand in page tables, are copied, moved and unmapped, and are never
    counted."""
    b = Box(scheme)
    b.map(0, 40)
    for k in range(30):
        assert b.load(b.mm, AT + (k << 12)) == 0
    assert b.pfn(3) == b.mem.zero_pfn and b.mm.rss == 0 and b.mem.frames.mapcount[b.mem.zero_pfn] == 0
    b.mem.pgtables.ptes[b.index(35)] = (b.mem.frames.nr + 77) << 12 | b.mem.pgtables.prot(
        PROT_READ
    )  # a device's memory
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
    """One of two that share a page moves it; it goes out; both bring it in, in either order. Contents are right, and
    every walk finds all."""
    b = Box(scheme)
    b.map(0, 6)
    b.put(*range(6))
    who = {"parent": b.mm, "child": b.fork(b.mm)}
    b.mremap(0, 6, 100, mm=who[mover])
    b.audit("moved")
    assert (b.mem.meters.mremap_copies == 6) == b.mem.rmap.has_move_check, (
        "only a scheme with one address per page has to copy"
    )
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
    """Old length 0 doubles a shared mapping and refuses a private one; ranges that overlap are refused; nothing moves
    then."""
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
