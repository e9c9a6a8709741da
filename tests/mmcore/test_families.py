"""Families of processes: forks, exits in any order, generations without end. No page is lost, and nothing is kept that
no living page or area needs."""

from __future__ import annotations

import itertools
import random

import pytest

from mmcore.calls.mlock import do_mlock
from mmcore.calls.mprotect import do_mprotect
from mmcore.physical.pgtable import P
from rmap_plugins.anonmm import AnonMm
from sandbox.kit.machine import PROT_READ, RW
from tests.mmcore.box import AT, SCHEMES, Box

each = pytest.mark.parametrize("scheme", SCHEMES)


@each
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=lambda order: "".join(map(str, order)))
def test_a_family_exits_in_any_order(scheme: str, order: tuple[int, ...]) -> None:
    """Head, two children, a grandchild, each with pages of its own and of its elders; they exit in any order. Nothing
    is freed twice, nothing is left."""
    b = Box(scheme)
    b.map(0, 8)
    b.put(0, 1, 2)
    child, other = b.fork(b.mm), b.fork(b.mm)
    b.put(3, mm=child)
    grandchild = b.fork(child)
    b.put(4, mm=grandchild)
    family = [b.mm, child, other, grandchild]
    has = {b.mm: (0, 1, 2), child: (0, 1, 2, 3), other: (0, 1, 2), grandchild: (0, 1, 2, 3, 4)}
    for n, which in enumerate(order):
        b.exit(family[which])
        b.audit(f"exit {n}")
        for later in order[n + 1 :]:
            b.has(*has[family[later]], mm=family[later])
    assert not b.mem.mms and b.objects() <= 1, "one may stay in hand"
    stranger = b.new_mm()
    b.map(0, 2, mm=stranger)
    b.put(0, 1, mm=stranger)
    b.audit("another family")


@each
@pytest.mark.parametrize("locked", [False, True])
def test_a_dead_home_is_left_once_its_pages_were_asked_for(scheme: str, locked: bool) -> None:
    """A middle generation exits, the next one keeps its pages: the home they name goes as soon as they have been asked
    for once - locked ones, too."""
    b = Box(scheme)
    b.map(0, 6)
    middle = b.fork(b.mm)
    b.put(*range(6), mm=middle)
    last = b.fork(middle)
    if locked:
        do_mprotect(b.mem, last, AT, 6 << 12, PROT_READ)  # or locking would copy the pages
        do_mlock(b.mem, last, AT, 6 << 12)
    b.exit(middle)
    b.audit("the middle one is dead")
    anonmms = b.objects("anonmm")
    if anonmms:
        assert anonmms == 3, "the dead one stays: six pages name it"
    for _ in range(2):
        b.swap_out()
    b.audit("reclaim has passed")
    assert all(bool(b.pte(k, last) & P) == locked for k in range(6))
    if anonmms:
        assert b.objects("anonmm") == 2
    b.has(*range(6), mm=last)
    b.exit(last)
    b.exit(b.mm)
    b.audit()
    assert b.objects() <= 1


@each
def test_the_head_of_a_family_stays_no_longer_than_it(scheme: str) -> None:
    """The first of a family exits; its children keep its pages, write some, and exit: the head is the last to be
    freed."""
    b = Box(scheme)
    b.map(0, 6)
    b.put(*range(6))
    family = [b.fork(b.mm) for _ in range(3)]
    b.exit(b.mm)
    for n, mm in enumerate(family):
        b.put(n, mm=mm, plus=50)
    b.audit("the head is dead")
    while family:
        for mm in family:
            for k in range(6):
                b.mem.rmap.page_referenced(b.pfn(k, mm))
        b.audit("asked for all pages")
        if b.objects("anonmm"):
            assert b.objects("anonmm") == len(family) + 1
        b.exit(family.pop(0))
    b.audit()
    assert b.objects() <= 1


@each
@pytest.mark.parametrize("first", ["parent", "child"])
@pytest.mark.parametrize("leaves", ["parent", "child"])
def test_who_brought_a_page_in_exits(scheme: str, first: str, leaves: str) -> None:
    """Both unmapped it; one faults it in and so gives it its home, the other maps it too; one exits; the page must
    still be found."""
    b = Box(scheme)
    b.map(0, 4)
    b.put(0, 1, 2, 3)
    who = {"parent": b.mm, "child": b.fork(b.mm)}
    for _ in range(2):
        b.swap_out()
        b.has(0, 1, 2, 3, mm=who[first])
        for mm in who.values():
            b.has(0, 1, 2, 3, mm=mm)
        b.audit("both have it")
    stays = who.pop("child" if leaves == "parent" else "parent")
    b.exit(who[leaves])
    b.audit("one left")
    b.swap_out()
    assert not any(b.pte(k, stays) & P for k in range(4))
    b.has(0, 1, 2, 3, mm=stays)
    b.audit()


GROWING = ("2.6.34", "3.7")  # eras of anon_vma_chain: endless growth was their flaw, mended in 4.0


def endless(b: Box, generations: int, asking: bool) -> int:
    """Each child writes a page, forks, and its parent exits. Answers the most objects the scheme had at a time when one
    process lived."""
    mm, most = b.mm, 0
    for generation in range(generations):
        child = b.fork(mm)
        b.exit(mm)
        mm = child
        b.put(generation % 4, 4 + generation % 3, mm=mm, plus=generation)
        if asking:
            for page in range(8):
                b.mem.rmap.page_referenced(b.pfn(page, mm))
        most = max(most, b.objects())
    b.audit(f"{generations} generations")
    b.mm = mm
    return most


@each
@pytest.mark.parametrize("asking", [False, True])
def test_an_endless_chain_of_forks_keeps_what_lives(scheme: str, asking: bool) -> None:
    """A service whose children fork the next and whose parents exit: two areas, eight pages, one process at a time.
    What the scheme keeps is bounded by what lives (a dead home lasts as long as a page names it), not by the
    generations behind; anon_vma_chain before 4.0 keeps something for each of them."""
    b = Box(scheme)
    b.map(0, 4)
    b.map(4, 4, prot=7)
    b.put(*range(8))
    most = endless(b, 60, asking)
    if SCHEMES[scheme][1].get("era") in GROWING:
        assert most > 60
        return
    pages, areas = 8, len(b.mm.vmas)
    assert most <= pages + 8 * areas
    assert endless(b, 120, asking) <= most
    if asking and isinstance(b.mem.scheme, AnonMm):
        assert b.objects("anonmm") == 2, "the living, and the head of its family"
    b.exit(b.mm)
    b.audit("nobody is left")
    assert b.objects() <= 1


@each
def test_leaves_that_come_and_go_twice(scheme: str) -> None:
    """A tree of forks whose leaves exit and are made again from the same parents, twice; then their areas are split,
    merged and left. Nothing is freed while a page or an area still needs it, and nothing stays."""
    rng = random.Random(30)
    b = Box(scheme)
    b.map(0, 6)
    b.put(0, 1, 2)
    root = b.mm
    middle = [b.fork(root), b.fork(root)]
    b.put(3, mm=middle[0])
    for round_ in range(3):
        leaves = [b.fork(mm) for mm in (*middle, middle[0], root)]
        for n, leaf in enumerate(leaves):
            b.put(4, n, mm=leaf, plus=round_ * 100)
            do_mprotect(b.mem, leaf, AT + (2 << 12), 2 << 12, 7)
        b.audit(f"leaves {round_}")
        leaves.append(b.fork(leaves[1]))
        if round_ == 2:
            b.exit(middle.pop(0))
        for leaf in leaves[:2]:
            do_mprotect(b.mem, leaf, AT, 6 << 12, RW)
        b.swap_out()
        for n, leaf in enumerate(leaves[:4]):
            b.has(4, n, mm=leaf, plus=round_ * 100)
        b.audit(f"merged {round_}")
        for leaf in rng.sample(leaves, len(leaves)):
            b.exit(leaf)
            b.audit(f"a leaf of round {round_} is gone")
    for mm in (root, *middle):
        b.has(0, 1, 2, mm=mm)
        b.exit(mm)
    b.audit("the whole tree is gone")
    assert b.objects() <= 1
