"""Boundaries slide, neighbours adopt, merge and split: the pages are found all the same."""

from __future__ import annotations

import itertools

import pytest

from mmcore.calls.mprotect import do_mprotect
from mmcore.physical.pgtable import P
from sandbox.kit.machine import RW
from tests.mmcore.asking import found
from tests.mmcore.box import AT, SCHEMES, Box

each = pytest.mark.parametrize("scheme", SCHEMES)


@each
@pytest.mark.parametrize("upper_has_pages", [True, False])
def test_a_boundary_that_slides_takes_its_pages_along(scheme: str, upper_has_pages: bool) -> None:
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


@pytest.mark.parametrize("scheme", ["anon_vma-flaws", "anon_vma", "anon_vma-2.6.9"])
@pytest.mark.parametrize("upper", [True, False])
def test_in_2_6_7_pages_under_a_sliding_boundary_were_lost(scheme: str, upper: bool) -> None:
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
def test_an_area_without_pages_moves_and_merges(scheme: str) -> None:
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
def test_what_fills_a_hole_merges_where_all_can_share(scheme: str, order: tuple[int, ...]) -> None:
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


@each
def test_neighbours_with_different_histories(scheme: str) -> None:
    """In a child, one of two neighbours is inherited with pages, the other is new, or was inherited without: adopting,
    merging and splitting them in it and in its own child."""
    for prepared in ((0,), (0, 4), (4,)):
        b = Box(scheme)
        b.map(0, 4)
        b.map(4, 4, prot=7)
        b.put(*prepared)
        child = b.fork(b.mm)
        b.put(1, 5, mm=child)
        do_mprotect(b.mem, child, AT + (4 << 12), 4 << 12, RW)
        b.audit("merged in the child, if the scheme lets them")
        grandchild = b.fork(child)
        do_mprotect(b.mem, child, AT + (2 << 12), 3 << 12, 7)
        b.put(2, 3, 4, 6, mm=child)
        b.put(2, 6, mm=grandchild, plus=50)
        b.map(8, 4, mm=grandchild)
        b.put(8, mm=grandchild)
        b.audit("split again")
        do_mprotect(b.mem, child, AT, 8 << 12, RW)
        b.exit(b.mm)
        b.swap_out()
        b.audit("without the first")
        b.has(1, 2, 3, 4, 5, 6, *prepared, mm=child)
        b.has(1, 5, 8, mm=grandchild)
        b.has(2, 6, mm=grandchild, plus=50)
