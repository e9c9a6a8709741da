"""The bugs that history had in reverse mapping, continued: 15 and on; more of them in the files named by their numbers.

Races between processors, of which there is one here, are tested as what remains of them: every order of steps, reclaim
at every allocation, other processes wherever a call waits.
"""

from __future__ import annotations

import random

import pytest

from mmcore.calls.fremap import remap_file_pages
from mmcore.calls.mlock import do_mlock
from mmcore.calls.mprotect import do_mprotect
from mmcore.errors import SysError
from mmcore.paging.lifecycle import dup_mmap
from mmcore.physical.frames import PG_SWAPCACHE
from mmcore.physical.pgtable import FILE, A, D, P, W
from mmcore.rmap.core import SUCCESS
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_SHARED, PROT_READ, Fault
from tests.mmcore.box import AT, SCHEMES, Box, needs_walk

each = pytest.mark.parametrize("scheme", SCHEMES)


@each
def test_15_offsets_after_merging(scheme: str) -> None:
    """A and B side by side; A goes away and comes back, to the wrong side and to its own: each page's address follows
    from its index at all times."""
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
    """Split, move, map anew beside the rest: two areas claim the same indices. A walk trusts the PTE, not the formula,
    and counts each PTE once."""
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
    if b.mem.rmap.exact:
        hits = b.mem.meters.hits
        assert b.mem.rmap.page_referenced(b.pfn(101)) == 1
        assert b.mem.meters.hits == hits + 1
    b.swap_out()
    b.has(4, 5, 6, 7, plus=9000)
    b.has(4, 5, 6, 7, shift=96)
    b.audit()


@each
@pytest.mark.parametrize("paging", ["pae", "2level"])
def test_17_one_page_at_many_places_moves(scheme: str, paging: str) -> None:
    """A nonlinear area shows one page of a file at every place, and moves again and again: what a move reserves is
    enough for a page that stands in it many times."""
    b = Box(scheme, paging)
    file = tmpfs_file(b.mem, 40)
    b.map(0, 40, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(0)
    for k in range(1, 30):
        remap_file_pages(b.mem, b.mm, AT + (k << 12), 4096, 0, 0, 0)
        assert b.load(b.mm, AT + (k << 12)) == 1000
        if k in (2, 7, 29):
            b.mremap(0, 40, 100)
            b.audit(f"{k} moved")
            b.mremap(100, 40, 0)
            b.audit(f"{k} moved back")
    b.swap_out()
    assert [b.load(b.mm, AT + (k << 12)) for k in range(30)] == [1000] * 30
    b.audit()


@each
@pytest.mark.parametrize("paging", ["pae", "2level"])
def test_17_nonlinear_areas(scheme: str, paging: str) -> None:
    """Pages in an order of the program's own are reclaimed, come back in that order, survive fork and a move, and are
    gone after truncation."""
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
    if not b.mem.setup.unmaps_nonlinear:
        assert all(b.pte(k) & P for k in range(40)), "until rmap 8 such pages were as good as locked"
    else:
        assert not any(b.pte(k) & P for k in range(40)) and bool(b.pte(3) & FILE) == b.mem.setup.nonlinear_areas
    assert len(b.mm.vmas) == (1 if b.mem.setup.nonlinear_areas else 21)
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
    """Between the pin and the write by the user, reclaim must not take the page away: the device would write into a
    frame nobody maps."""
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
    """The CPU sets A only when it fills a TLB entry: where A is cleared, the entry has to go, or a busy page looks
    idle."""
    needs_walk(scheme)
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
    assert all(index in file.mapping.pages for index in (0, 1)) and not any(
        index in file.mapping.pages for index in (2, 3)
    )
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
    home = dict.fromkeys(mms, 0)
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


@pytest.mark.parametrize("scheme", ["anon_vma", "pte_chain", *(s for s in SCHEMES if s.startswith("anon_vma_chain"))])
def test_32_costs_grow_as_the_schemes_say(scheme: str) -> None:
    """N children that each copied the page: anon_vma asks all younger ones before it comes to the right one; pte_chain
    and anon_vma_chain ask 1 place, for the parent's page because the parent stands first. For the page that all share,
    all ask N + 1."""
    for children in (1, 8, 20):
        b = Box(scheme)
        b.map(0, 2)
        b.put(0, 1)
        family = [b.fork(b.mm) for _ in range(children)]
        for mm in family:
            b.put(0, mm=mm, plus=3)
        for page, expected in ((1, children + 1), (0, children + 1 if scheme == "anon_vma" else 1)):
            before = b.mem.meters.candidates
            b.mem.rmap.page_referenced(b.pfn(page))
            assert b.mem.meters.candidates - before == expected
        for k, mm in enumerate(family):
            before = b.mem.meters.candidates
            b.mem.rmap.page_referenced(b.pfn(0, mm))
            assert b.mem.meters.candidates - before == (children - k if scheme == "anon_vma" else 1)


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


def test_17_the_mini_virtual_scan_lets_those_that_lag_behind_catch_up_first() -> None:
    """Two nonlinear areas, one whose cursor stands at its end and one in its middle: the first round is up to the
    furthest cursor, and no further."""
    b = Box("anon_vma")
    file = tmpfs_file(b.mem, 64)
    for start in (0, 100):
        b.map(start, 64, flags=MAP_SHARED | MAP_FIXED, file=file)
        remap_file_pages(b.mem, b.mm, AT + (start << 12), 4096, 0, 1, 0)
    remap_file_pages(b.mem, b.mm, AT + (140 << 12), 4096, 0, 50, 0)  # in the upper half of the second area
    b.load(b.mm, AT + (140 << 12))
    first, second = (b.mm.find_vma(AT + (start << 12)) for start in (0, 100))
    pte = b.mem.pgtables.pte_index(b.mm.pgd, AT + (140 << 12))
    b.mem.pgtables.ptes[pte] &= ~A
    first.nl_cursor, second.nl_cursor = 64 << 12, 32 << 12
    pfn = b.pfn(140)
    b.mem.frames.count[pfn] += 1  # as whoever isolated it
    assert b.mem.rmap.try_to_unmap(pfn) == SUCCESS
    b.mem.pages.put_page(pfn)
    assert b.pte(140) & FILE and (first.nl_cursor, second.nl_cursor) == (64 << 12, 64 << 12)
    b.audit()
