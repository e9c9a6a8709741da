"""Pages that move: mremap of what is shared, swapped or in vain, and the stack of exec. Contents are right, and every
walk finds all."""

from __future__ import annotations

import errno
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from mmcore.calls import mremap
from mmcore.calls.exec_stack import bprm_stack, setup_arg_pages
from mmcore.calls.mprotect import do_mprotect
from mmcore.calls.mremap import _Plan, do_mremap
from mmcore.errors import SysError
from mmcore.physical.pgtable import P
from sandbox.kit.files import tmpfs_file
from sandbox.kit.injection import Failing
from sandbox.kit.machine import MAP_FIXED, MAP_SHARED, PROT_READ
from tests.mmcore.asking import walked
from tests.mmcore.box import AT, SCHEMES, Box

each = pytest.mark.parametrize("scheme", SCHEMES)


@pytest.mark.parametrize("order", list(itertools.permutations(("parent", "child"))), ids="-".join)
@pytest.mark.parametrize("mover", ["parent", "child"])
@each
def test_a_shared_page_that_one_moves_is_found_by_both(scheme: str, mover: str, order: tuple[str, str]) -> None:
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
def test_a_swapped_page_that_one_moves_comes_back_to_both(scheme: str, order: tuple[str, str]) -> None:
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
@pytest.mark.parametrize("which", range(1, 14))
def test_a_move_that_fails_halfway_is_undone(scheme: str, which: int) -> None:
    """Whatever allocation fails, pages, area and file index are where they were."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 1200)
    b.map(0, 1200, flags=MAP_SHARED | MAP_FIXED, file=file)
    pages = (0, 3, 511, 512, 513, 1024, 1199)
    b.put(*pages)
    with Failing(b.mem.pages, which) as failing:
        try:
            b.mremap(0, 1200, 5000 + 100)
            moved = True
        except SysError as error:
            assert error.errno == errno.ENOMEM and failing.failed
            moved = False
    assert moved == (not failing.failed)
    b.audit()
    b.has(*pages, shift=5100 if moved else 0)


@each
def test_a_second_mapping_is_made_and_overlaps_are_refused(scheme: str) -> None:
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
def test_too_many_areas_are_refused(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=lambda order: "".join(map(str, order)))
def test_one_page_at_three_addresses_comes_back_to_all(scheme: str, order: tuple[int, ...]) -> None:
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


@each
def test_an_unmap_inside_mremap_that_fails_is_noticed(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
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


@each
def test_offsets_fit_after_moving_away_and_back(scheme: str) -> None:
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
def test_two_areas_with_the_same_offsets_are_told_apart(scheme: str) -> None:
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
def test_walks_before_and_after_moves_find_all(scheme: str) -> None:
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


def in_the_midst(b: Box, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, look: Callable[[], None]) -> None:
    """`owner.name` is what gives an area its new place. From then on, until the PTEs have moved, any allocation is an
    error; `look` is called just before they move."""
    place, move_ptes = getattr(owner, name), _Plan.move
    moved = False

    def inject(order: int) -> bool:
        raise AssertionError("an allocation while PTEs move: reclaim could walk now")

    def placed(*args: Any) -> Any:
        answer = place(*args)
        if not moved:
            b.mem.pages.inject = inject
        return answer

    def move(self: Any, *args: Any) -> None:
        nonlocal moved
        assert b.mem.pages.inject is inject, "the area has its new place"
        look()
        move_ptes(self, *args)
        b.mem.pages.inject = None
        moved = owner is b.mem.scheme  # exec's stack is grown later by the same means

    monkeypatch.setattr(owner, name, placed)
    monkeypatch.setattr(_Plan, "move", move)


@each
@pytest.mark.parametrize("shift", [1 << 20, 0x1000, 0x2000])
def test_exec_moves_its_stack(scheme: str, shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary stack's area goes down first, its pages after it (by less than its length, too). In between a
    scheme that reckons addresses from the area finds nothing, one that knows PTEs or addresses finds all; before and
    after, all do. Nothing allocates in between, so no walk runs there but ours."""
    b = Box(scheme)
    top = 0xC0000000
    stack = bprm_stack(b.mem, b.mm, top)
    addresses = [top - 4096 * k for k in (1, 2, 3)]
    for address in addresses:
        b.store(b.mm, address, address)
    t = b.mem.pgtables
    pfns = {address: t.ptes[t.pte_index(b.mm.pgd, address)] >> 12 & t.PFN_MASK for address in addresses}
    assert not b.mem.rmap.exact or all(len(walked(b, pfn)[0]) == 1 for pfn in pfns.values())
    seen: list[tuple[set[int], int, bool]] = []
    in_the_midst(
        b,
        monkeypatch,
        b.mem.scheme,
        "vma_adjust_end",
        lambda: seen.extend(walked(b, pfn) for pfn in pfns.values() if b.mem.rmap.exact),
    )
    setup_arg_pages(b.mem, stack, top - shift, False)
    b.audit("moved")
    for found, _, by_area in seen:
        assert len(found) == (0 if by_area else 1)
    for address, pfn in pfns.items():
        assert not b.mem.rmap.exact or walked(b, pfn)[0] == {t.pte_index(b.mm.pgd, address - shift)}
        assert b.load(b.mm, address - shift) == address
    b.swap_out()
    b.audit("out")
    child = b.fork(b.mm)
    for address in addresses:
        assert b.load(b.mm, address - shift) == b.load(child, address - shift) == address
    b.audit()


@each
def test_no_walk_can_run_between_the_halves_of_a_move(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Just before the PTEs move every walk finds what is there, wherever the new area stands in its lists; until they
    have moved nothing allocates."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 6)
    b.map(0, 6)
    b.map(10, 6, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(*range(6), *range(10, 16))
    child = b.fork(b.mm)
    b.put(1, mm=child)
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if b.mem.rmap.exact:
            for mm in (b.mm, child):
                for page in (0, 1, 5, 10, 15):
                    if b.pte(page, mm) & P:
                        assert b.index(page, mm) in walked(b, b.pfn(page, mm))[0]

    in_the_midst(b, monkeypatch, mremap, "vma_link_copy", look)
    for page, mm in ((0, b.mm), (10, child), (0, child), (10, b.mm)):
        b.mremap(page, 6, page + 300, mm=mm)
        b.audit(f"{page} has moved")
    assert looks == 4
    b.has(*range(6), *range(10, 16), shift=300)
    b.has(*range(6), *range(10, 16), mm=child, shift=300)
