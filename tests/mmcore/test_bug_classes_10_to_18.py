"""The bugs that history had in reverse mapping, 10 to 18: moves, boundaries, adopted anon_vmas, pages that become
nonlinear; and the flaws themselves."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from mmcore.calls.fremap import remap_file_pages
from mmcore.calls.mprotect import do_mprotect
from mmcore.calls.mremap import do_mremap
from mmcore.errors import SysError
from mmcore.physical.pgtable import P
from mmcore.rmap import HIT, MISS, Purpose
from mmcore.rmap.core import SUCCESS
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_PRIVATE, MAP_SHARED, RW
from tests.mmcore.asking import Asking
from tests.mmcore.box import AT, SCHEMES, Box

each = pytest.mark.parametrize("scheme", SCHEMES)


def found(b: Box, page: int, mm: Any = None) -> int:
    """How many of the frame's PTEs an audit's walk finds."""
    pfn, n = b.pfn(page, mm), 0
    t = b.mem.pgtables

    def visit(frame: int, where: Any, address: int, vma: Any, pte: int) -> int:
        nonlocal n
        i = pte if pte >= 0 else t.pte_index(where.pgd, address)
        hit = i >= 0 and t.ptes[i] & P and t.ptes[i] >> 12 & t.PFN_MASK == frame
        n += bool(hit)
        return HIT if hit else MISS

    b.mem.scheme.walk(Asking(pfn, Purpose.AUDIT, visit))
    return n


# --- 10: mremap of what is shared, or swapped


@each
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=lambda order: "".join(map(str, order)))
def test_10_three_addresses_of_one_page(scheme: str, order: tuple[int, ...]) -> None:
    """Three relatives have a page in three places: moved while it is in RAM, moved while it is out, and not moved. They
    bring it in in any order."""
    b = Box(scheme)
    b.map(0, 5)
    b.put(*range(5))
    mms = [b.mm, b.fork(b.mm), b.fork(b.mm)]
    b.mremap(0, 5, 100, mm=mms[1])
    b.swap_out()
    b.mremap(0, 5, 200, mm=mms[2])
    for which in order:
        b.has(*range(5), mm=mms[which], shift=100 * which)
        b.audit(f"{which} has it back")
    b.swap_out()
    b.audit("out again")
    for which in order:
        assert not b.pte(100 * which, mms[which]) & P
        b.put(*(100 * which + k for k in range(2)), mm=mms[which], plus=1000 - 100 * which)
        b.has(*range(5), mm=mms[which], shift=100 * which)
        b.exit(mms[which])
        b.audit(f"{which} is gone")


@pytest.mark.parametrize("scheme", ["rmap_series-10", "rmap_series-11"])
@pytest.mark.parametrize("shared", [False, True])
def test_10_after_rmap_10_a_moved_page_cannot_be_swapped_out(scheme: str, shared: bool) -> None:
    """rmap 10 brought anonmm, rmap 11 its mremap. In between a page that moved was at an address where no walk looks:
    as good as locked."""
    b = Box(scheme)
    b.map(0, 8)
    b.put(*range(8))
    child = b.fork(b.mm) if shared else None
    b.mremap(0, 4, 100)
    b.audit()
    flawed = scheme.endswith("-10")
    assert found(b, 100) == (0 if flawed and not shared else 1)
    if shared:
        assert b.mem.frames.mapcount[b.pfn(0, child)] == (2 if flawed else 1), "rmap 11 copied it first"
    for _ in range(3):
        b.swap_out()
    b.audit()
    assert all(not b.pte(k) & P for k in range(4, 8))
    assert all(bool(b.pte(100 + k) & P) == flawed for k in range(4))
    b.has(0, 1, 2, 3, shift=100)
    b.mremap(100, 4, 0)
    b.swap_out()
    assert not any(b.pte(k) & P for k in range(8)), "back home it is found again"
    b.has(*range(8))
    if child:
        b.has(*range(8), mm=child)
    b.audit()


@pytest.mark.parametrize("stage", [9, 38])
def test_10_between_two_schemes_no_anonymous_page_goes(stage: int) -> None:
    """rmap 9 took the chains away before rmap 10 brought anonmm, rmap 38 took that before rmap 39 brought anon_vma:
    such a kernel cannot swap but files."""
    b = Box(f"rmap_series-{stage}")
    file = tmpfs_file(b.mem, 4)
    b.map(0, 4)
    b.map(10, 4, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(0, 1, 2, 3, 10, 11)
    b.fork(b.mm)
    for _ in range(3):
        b.swap_out()
    b.audit()
    assert all(b.pte(k) & P and found(b, k) == 0 for k in range(4)) and not b.pte(10) & P
    assert b.mem.rmap.try_to_unmap(b.pfn(0)) != SUCCESS
    b.has(0, 1, 2, 3, 10, 11)


# --- 12: arguments and limits


@each
def test_12_an_unmap_inside_mremap_that_fails_is_noticed(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """mremap unmaps: what lies at the target, the tail of what shrinks. Where that needs one area too many, it fails
    and nothing has changed (in 2004 the answer of do_munmap was not looked at)."""
    b = Box(scheme)
    for k in range(6):
        b.map(20 * k, 9)
        b.put(*range(20 * k, 20 * k + 9))
    child = b.fork(b.mm)
    monkeypatch.setattr(type(b.mm), "max_map_count", 6)
    before = [(v.vm_start, v.vm_end, v.vm_pgoff) for v in b.mm.vmas]
    for page, pages, new, to in ((2, 4, 2, None), (0, 2, 2, 23), (0, 9, 3, 100)):
        with pytest.raises(SysError, match="ENOMEM"):
            flags, target = (1, 0) if to is None else (3, AT + (to << 12))
            do_mremap(b.mem, b.mm, AT + (page << 12), pages << 12, new << 12, flags, target)
        assert [(v.vm_start, v.vm_end, v.vm_pgoff) for v in b.mm.vmas] == before
        b.audit()
    for mm in (b.mm, child):
        b.has(*(20 * k + n for k in range(6) for n in range(9)), mm=mm)
    do_mremap(b.mem, b.mm, AT, 9 << 12, 3 << 12, 1, 0)
    b.has(0, 1, 2)
    assert not b.pte(3)
    b.audit()


# --- 13 to 15: who grows, who adopts, who merges


@pytest.mark.parametrize("scheme", ["anon_vma-flaws", "anon_vma", "anon_vma-2.6.9"])
@pytest.mark.parametrize("upper", [True, False])
def test_13_in_2_6_7_pages_under_a_sliding_boundary_were_lost(scheme: str, upper: bool) -> None:
    """mprotect moves a boundary over anonymous pages; the area that grows has had none. 2.6.7 gave it no anon_vma: no
    walk finds the pages, they stay in RAM as if locked. Mended on 2004-06-20."""
    b = Box(scheme)
    b.map(0, 8)
    do_mprotect(b.mem, b.mm, AT, 4 << 12, 7)
    pages = range(4, 8) if upper else range(4)
    b.put(*pages)
    lost = range(4, 6) if upper else range(2, 4)
    do_mprotect(b.mem, b.mm, AT + (lost[0] << 12), 2 << 12, 7 if upper else RW)
    assert len(b.mm.vmas) == 2 and b.mm.vmas[0].vm_end == AT + (6 << 12 if upper else 2 << 12)
    flawed = scheme == "anon_vma-flaws"
    b.audit()
    assert all(found(b, k) == (0 if flawed and k in lost else 1) for k in pages)
    for _ in range(3):
        b.swap_out()
    assert all(bool(b.pte(k) & P) == (flawed and k in lost) for k in pages)
    b.has(*pages)
    b.audit()


@each
@pytest.mark.parametrize("seed", range(3))
def test_14_a_neighbours_anon_vma_is_adopted_around_forks(scheme: str, seed: int) -> None:
    """Two areas that differ in access only: the second takes the first one's anon_vma at its first page. Before or
    after forks, in parent and children, with reclaim at every allocation: the lists stay whole."""
    b = Box(scheme)
    rng = random.Random(seed)
    b.map(0, 4)
    b.map(4, 4, prot=7)
    b.map(8, 4)
    mms, wrote = [b.mm], {b.mm: {}}
    for turn in range(16):
        mm = rng.choice(mms)
        with b.reclaiming():
            if turn in (2, 5, 8):
                child = b.fork(mm)
                mms.append(child)
                wrote[child] = dict(wrote[mm])
            elif turn == 12:
                mms.remove(mm)
                b.exit(mm)
            else:
                page = rng.choice((0, 3, 4, 7, 8, 11))
                b.put(page, mm=mm, plus=turn * 100)
                wrote[mm][page] = turn * 100
        b.audit(f"turn {turn}")
    for mm in mms:
        do_mprotect(b.mem, mm, AT + (4 << 12), 4 << 12, RW)
        b.audit("merged, as far as the scheme allows")
    b.swap_out()
    for mm in mms:
        for page, plus in wrote[mm].items():
            b.has(page, mm=mm, plus=plus)
    b.audit()


@each
def test_15_an_area_without_pages_moves_and_merges(scheme: str) -> None:
    """Nothing leads to it yet, so its vm_pgoff starts afresh; one with pages keeps it where the pages' index is the
    offset, and does not merge."""
    b = Box(scheme)
    b.map(0, 4)
    b.put(0, 1, 2, 3)
    b.map(50, 4)
    b.mremap(50, 4, 4)
    assert len(b.mm.vmas) == 1
    b.put(4, 5)
    b.map(60, 4)
    b.put(60, 61)
    b.mremap(60, 4, 8)
    b.audit("three pieces side by side")
    do_mprotect(b.mem, b.mm, AT, 12 << 12, 7)
    do_mprotect(b.mem, b.mm, AT, 12 << 12, RW)
    b.audit("after mprotect over all of them")
    child = b.fork(b.mm)
    b.swap_out()
    for mm in (b.mm, child):
        b.has(*range(6), mm=mm)
        b.has(60, 61, mm=mm, shift=-52)
    b.audit()


@each
@pytest.mark.parametrize("order", list(itertools.permutations((0, 4, 2))), ids=lambda order: "".join(map(str, order)))
def test_15_a_hole_between_two_is_filled(scheme: str, order: tuple[int, ...]) -> None:
    """The outer two have pages, and so their homes; what fills the hole may merge with both only where all three can
    share one."""
    b = Box(scheme)
    for page in order:
        b.map(page, 2)
        b.put(page)
        b.audit(f"{page} is there")
    b.put(1, 3, 5)
    do_mprotect(b.mem, b.mm, AT + (2 << 12), 2 << 12, 7)
    do_mprotect(b.mem, b.mm, AT + (2 << 12), 2 << 12, RW)
    b.audit("torn and mended")
    child = b.fork(b.mm)
    b.swap_out()
    assert not any(b.pte(k) & P for k in range(6))
    for mm in (child, b.mm):
        b.has(*range(6), mm=mm)
    b.audit()


# --- 18: a page becomes nonlinear


@each
@pytest.mark.parametrize("seed", range(3))
def test_18_pages_become_nonlinear_while_others_map_them(scheme: str, seed: int) -> None:
    """Three processes and their children map one file; pages are shown in second places, twice in one process, in place
    of others, and back in their own; others map, unmap, write, fork and exit meanwhile, reclaim runs in the midst of
    it."""
    b = Box(scheme)
    rng = random.Random(seed)
    file = tmpfs_file(b.mem, 12)
    shown: dict[Any, list[int]] = {}
    content = [0] * 12
    for mm in (b.mm, b.new_mm(), b.new_mm()):
        b.map(0, 12, flags=MAP_SHARED | MAP_FIXED, file=file, mm=mm)
        shown[mm] = list(range(12))
    b.map(20, 12, flags=MAP_PRIVATE | MAP_FIXED, file=file)
    b.load(b.mm, AT + (25 << 12))
    for turn in range(40):
        mm = rng.choice(list(shown))
        place, page = rng.randrange(12), rng.randrange(12)
        choice = rng.random()
        with b.reclaiming(4):
            if choice < 0.35:
                page = place if choice < 0.08 else page
                remap_file_pages(b.mem, mm, AT + (place << 12), 4096, 0, page, 0 if choice < 0.25 else 0x10000)
                shown[mm][place] = page
            elif choice < 0.65:
                content[shown[mm][place]] = turn
                b.store(mm, AT + (place << 12), turn)
            elif choice < 0.75 and len(shown) < 6:
                child = b.fork(mm)
                shown[child] = list(shown[mm])
            elif choice < 0.82 and mm is not b.mm:
                b.exit(mm)
                del shown[mm]
            elif choice < 0.9:
                b.swap_out()
            else:
                assert b.load(mm, AT + (place << 12)) == content[shown[mm][place]]
        b.audit(f"turn {turn}")
        if not shown.keys() - {b.mm}:
            mm = b.fork(b.mm)
            shown[mm] = list(shown[b.mm])
    for mm, pages in shown.items():
        assert [b.load(mm, AT + (k << 12)) for k in range(12)] == [content[page] for page in pages]
    assert b.load(b.mm, AT + (25 << 12)) == content[5]
    file.truncate(4 << 12)
    b.audit("truncated")
    for mm in list(shown):
        b.exit(mm)
    b.audit("all gone")
