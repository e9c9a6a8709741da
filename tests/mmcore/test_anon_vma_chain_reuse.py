"""anon_vma_chain's dead ancestors: when a fork uses one again, and what came of it where that happened twice.
Numbers in brackets: docs/bug-classes.md."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.kit.machine import PROT_READ, RW
from tests.mmcore.chains import Chains, reusing


@pytest.mark.parametrize("era, generations", [("2.6.34", 100), ("3.7", 100), ("4.0", 2000), ("2022", 2000)])
def test_generations_whose_parents_die(era: str, generations: int) -> None:
    """(29) Each child writes and forks in its turn, and its parent exits. Before 4.0 the survivor drags every dead
    ancestor along; since then an ancestor without areas is used again: two anon_vmas per area with pages, and the root,
    which is never used again."""
    b = Chains(era)
    for k in range(3):
        b.map(2 * k, 1)
        b.put(2 * k)
    mm = b.fork(b.mm)
    most = 0
    for k in range(generations):
        child = b.fork(mm)
        b.exit(mm)
        mm = child
        b.put(2 * (k % 3), mm=mm, plus=k)
        most = max(most, b.counts()[0])
    b.audit()
    if era in ("2.6.34", "3.7"):
        assert b.counts() == (3 * (generations + 2), 3 * (generations + 3))
    else:
        areas = len(b.mm.vmas) + len(mm.vmas)
        assert b.counts()[0] <= most <= 2 * areas
        assert b.counts() == (3 + 2 * 3, 3 + 3 * 3)
    b.exit(mm)
    assert b.counts() == (3, 3)


@reusing
def test_an_empty_generation_is_used_again(era: str) -> None:
    """The parent is gone and has one child: the grandchild is at home in the parent's anon_vma, and no object is made.
    The root and a populated one are left alone."""
    b = Chains(era)
    b.map(0, 1)
    b.put(0)
    parent = b.fork(b.mm)
    middle = b.own(0, parent)
    child = b.fork(parent)
    b.exit(parent)
    objects = b.counts()[0]
    grandchild = b.fork(child)
    assert b.own(0, grandchild) is middle and b.counts()[0] == objects
    assert b.chain(0, grandchild) == b.chain(0, child) and len(b.chain(0, child)) == 3
    assert (middle.children, middle.active) == (1, 1)
    again = b.fork(child)
    assert b.own(0, again) is not middle and b.counts()[0] == objects + 1, "it has an area now"
    b.put(0, mm=grandchild, plus=3)
    assert b.home(0, grandchild) is middle and b.asked(0, grandchild) == [child, grandchild, again], (
        "the price: relatives are looked at again"
    )
    b.audit()


def _leaf(b: Chains) -> Any:
    """A process whose chain has an anon_vma without areas and without children, the dead parent's: the process itself
    reused the grandparent's."""
    one = b.fork(b.mm)
    two = b.fork(one)
    b.exit(one)
    leaf = b.own(0, two)
    mm = b.fork(two)
    b.exit(two)
    assert b.own(0, mm) is not leaf and leaf in b.chain(0, mm) and (leaf.children, leaf.active) == (0, 0)
    return mm, leaf


@reusing
def test_a_leaf_is_used_twice(era: str) -> None:
    """(30) A degree of 1 is one child, or one area. 4.0 takes the area for a child and lets a second fork be at home
    in the same leaf; 2022 does not."""
    b = Chains(era)
    b.map(0, 1)
    b.put(0)
    mm, leaf = _leaf(b)
    first = b.fork(mm)
    assert b.own(0, first) is leaf and (leaf.children, leaf.active) == (0, 1)
    second = b.fork(mm)
    assert (b.own(0, second) is leaf) == (era == "4.0")
    assert leaf.active == (2 if era == "4.0" else 1)
    third = b.fork(mm)
    assert b.own(0, third) is not leaf, "its degree is 2"
    b.audit()


@pytest.mark.parametrize("era", ["4.0", "4.0-flaws", "2022"])
def test_a_leaf_used_twice_and_a_merge_lose_pages(era: str) -> None:
    """What came of it: two areas of one process at home in the same anon_vma, each with a link the other lacks; merged,
    one set of links goes, and with the last relative the anon_vma of a page that is still mapped. Linux: commit message
    of 2555283eb40d."""
    b = Chains(era)
    b.map(0, 2)
    b.put(0, 1)
    mm, leaf = _leaf(b)
    b.protect(0, 1, PROT_READ, mm)  # two areas, one anon_vma
    holder = b.fork(mm)  # 4.0: both its areas are at home in the leaf, which is full then
    child = b.fork(mm)  # so that this one's areas get an anon_vma each
    assert b.own(0, child) is not b.own(1, child)
    b.put(1, mm=child, plus=7)
    b.exit(holder)  # nobody is at home in the leaf any more
    last = b.fork(child)  # 4.0: both its areas
    unlike = b.own(0, last) is b.own(1, last) and b.chain(0, last) != b.chain(1, last)
    assert unlike == (era != "2022")
    b.protect(0, 1, RW, last)
    assert (len(last.vmas) == 1) == (era == "4.0-flaws")
    b.exit(child)
    b.exit(mm)
    if era != "4.0-flaws":
        b.audit()
        b.swap_out()
        assert b.out(1, last)
        b.has(1, mm=last, plus=7)
        b.audit()
        return
    assert b.mem.frames.mapping[b.pfn(1, last)] not in b.scheme._objects, "4.0: the page's anon_vma was freed"
    b.audit()  # the card says so, and the auditor does not complain
    b.swap_out()
    assert not b.out(1, last), "reclaim cannot find it"
