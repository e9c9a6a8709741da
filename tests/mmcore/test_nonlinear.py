"""Nonlinear areas: pages in an order of the program, under reclaim, fork, mremap and truncation."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mmcore.calls.fremap import remap_file_pages
from mmcore.physical.pgtable import FILE, A, P
from mmcore.rmap.core import SUCCESS
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_PRIVATE, MAP_SHARED, Fault
from tests.mmcore.box import AT, SCHEMES, Box

each = pytest.mark.parametrize("scheme", SCHEMES)


@each
@pytest.mark.parametrize("seed", range(3))
def test_pages_become_nonlinear_while_others_map_them(scheme: str, seed: int) -> None:
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


@each
@pytest.mark.parametrize("paging", ["pae", "2level"])
def test_one_page_at_many_places_moves(scheme: str, paging: str) -> None:
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
def test_pages_keep_the_order_that_the_program_gave_them(scheme: str, paging: str) -> None:
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
def test_one_page_many_times_is_counted_each_time(scheme: str) -> None:
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


def test_the_mini_virtual_scan_lets_those_that_lag_behind_catch_up_first() -> None:
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
