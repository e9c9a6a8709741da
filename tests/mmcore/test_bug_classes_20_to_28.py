"""The bugs that history had in reverse mapping, 20 to 28: swapoff, truncation, homes that die, the stack that exec
moves, walks in the midst of a move."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from mmcore.calls import mremap
from mmcore.calls.exec_stack import bprm_stack, setup_arg_pages
from mmcore.calls.fremap import remap_file_pages
from mmcore.calls.mprotect import do_mprotect
from mmcore.calls.mremap import _Plan
from mmcore.calls.swapoff import swap_off
from mmcore.errors import MustWait
from mmcore.paging.fault import SIGBUS
from mmcore.physical.frames import PG_ANON
from mmcore.physical.pgtable import FILE, PRESENT, TASK_SIZE, P
from mmcore.rmap import HIT, MISS, Purpose
from mmcore.rmap.core import SUCCESS
from sandbox.kit.files import host_file, tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_PRIVATE, MAP_SHARED, RW, Fault
from tests.mmcore.asking import Asking
from tests.mmcore.box import AT, SCHEMES, Box

each = pytest.mark.parametrize("scheme", SCHEMES)


def walk(b: Box, pfn: int) -> tuple[set[int], int, bool]:
    """An audit's walk: (PTEs found to map the frame, places offered, whether an area was named)."""
    found: set[int] = set()
    offered, by_area = 0, False
    t = b.mem.pgtables

    def visit(frame: int, mm: Any, address: int, vma: Any, pte: int) -> int:
        nonlocal offered, by_area
        offered += 1
        by_area |= vma is not None
        i = pte if pte >= 0 else t.pte_index(mm.pgd, address)
        if i >= 0 and t.ptes[i] & PRESENT and t.ptes[i] >> 12 & t.PFN_MASK == frame:
            found.add(i)
            return HIT
        return MISS

    b.mem.rmap.offer(Asking(pfn, Purpose.AUDIT, visit))
    return found, offered, by_area


# --- 20: swapoff against fork, exit, mremap


@each
@pytest.mark.parametrize("seed", range(3))
def test_20_swapoff_while_others_fork_exit_and_move(scheme: str, seed: int) -> None:
    """Whenever swapoff waits for the disk, somebody forks, exits, moves, writes or unmaps what is out - the one it
    would begin with, too. No swap PTE is left."""
    b = Box(scheme)
    rng = random.Random(seed)
    file = tmpfs_file(b.mem, 8)
    b.map(0, 16)
    b.map(300, 8, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(*range(16), *range(300, 308))
    at, has = {b.mm: 0}, {b.mm: [1000 + k for k in range(16)]}

    def fork(mm: Any) -> None:
        child = b.fork(mm)
        at[child], has[child] = at[mm], list(has[mm])

    for _ in range(3):
        fork(b.mm)
    b.swap_out()
    going = swap_off(b.mem)
    turns = 0
    for queue in going:
        turns += 1
        mm = rng.choice(list(at))
        what = rng.randrange(5)
        if what == 0 and len(at) < 7:
            fork(mm)
        elif what == 1 and len(at) > 1:
            b.exit(mm)
            del at[mm], has[mm]
        elif what == 2:
            b.mremap(at[mm], 16, at[mm] + 20, mm=mm)
            at[mm] += 20
        elif what == 3:
            k = rng.randrange(16)
            b.store(mm, AT + (at[mm] + k << 12), turns)
            has[mm][k] = turns
        else:
            b.munmap(mm, AT + (at[mm] + 15 << 12), 1)
            b.map(at[mm] + 15, 1, mm=mm)
            has[mm][15] = 0
        b.audit(f"swapoff waits, turn {turns}")
        b.mem.reclaim.wait_sync(queue)
    b.audit("off")
    assert turns >= 8 and not b.mem.swap.device.on
    t = b.mem.pgtables
    for mm in at:
        entries = [t.ptes[base + k] for _, base in t.tables(mm.pgd, 0, TASK_SIZE) for k in range(t.PTRS)]
        assert not any(pte and not pte & (PRESENT | FILE) for pte in entries)
        assert [b.load(mm, AT + (at[mm] + k << 12)) for k in range(16)] == has[mm]
        b.has(*range(300, 308), mm=mm)
    b.audit()


@each
def test_20_two_addresses_of_one_page_come_back(scheme: str) -> None:
    """Shared and out, then moved by one of two: a scheme with one address per page has to copy for one of them, as at a
    fault."""
    b = Box(scheme)
    b.map(0, 6)
    b.put(*range(6))
    child = b.fork(b.mm)
    b.swap_out()
    b.mremap(0, 6, 100, mm=child)
    cow = b.mem.meters.cow
    for queue in swap_off(b.mem):
        b.mem.reclaim.wait_sync(queue)
    b.audit("off")
    assert b.mem.meters.cow - cow == (6 if b.mem.rmap.has_move_check else 0)
    b.has(*range(6))
    b.has(*range(6), mm=child, shift=100)
    b.put(*range(6), plus=1)
    b.has(*range(6), mm=child, shift=100)
    b.audit()


# --- 21: truncation against faults


@each
@pytest.mark.parametrize("kind", ["shared", "private", "nonlinear", "swapped"])
def test_21_truncated_while_a_fault_waits(scheme: str, kind: str) -> None:
    """A fault has started to read the page in; before it is there the file is cut. The fault starts over, finds the end
    of the file, and maps nothing."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 8) if kind == "swapped" else host_file(b.mem, [bytes([k + 1]) * 4096 for k in range(8)])
    b.map(0, 8, flags=MAP_FIXED | (MAP_PRIVATE if kind == "private" else MAP_SHARED), file=file)
    if kind == "nonlinear":
        remap_file_pages(b.mem, b.mm, AT, 4096, 0, 6, 0x10000)
    if kind == "swapped":
        b.put(*range(8))
        b.swap_out()
        assert 6 in file.mapping.swapped
    page = 0 if kind == "nonlinear" else 6
    address, write = AT + (page << 12), 2 if kind != "nonlinear" else 0
    with pytest.raises(MustWait) as wait:
        b.mem.faults.do_page_fault(b.mm, address, 4 | write)
    file.truncate(5 << 12)
    b.audit("cut")
    b.mem.reclaim.wait_sync(wait.value.queue)
    b.mem.clock.charge(10**9)
    for _ in range(3):
        assert b.mem.faults.do_page_fault(b.mm, address, 4 | write) == SIGBUS
    assert not b.pte(page) & P and 6 not in file.mapping.pages
    b.audit()
    file.truncate(8 << 12)
    assert b.load(b.mm, address) == 0, "a hole now"
    b.audit()


@each
def test_21_the_index_is_held_against_the_size(scheme: str) -> None:
    """Linear and nonlinear, read, write and populate: what lies behind the end is not installed; the page that the end
    cuts is."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 8)
    b.map(0, 12, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.map(20, 12, flags=MAP_PRIVATE | MAP_FIXED, file=file)
    b.put(*range(8))
    file.truncate((4 << 12) + 4)
    for page in (5, 7, 8, 11, 25, 28):
        for touch in (b.load, lambda mm, address: b.store(mm, address, 1)):
            with pytest.raises(Fault, match="SIGBUS"):
                touch(b.mm, AT + (page << 12))
    remap_file_pages(b.mem, b.mm, AT, 2 << 12, 0, 4, 0)  # installs page 4, and notes page 5
    assert b.pte(0) & P and not b.pte(1) & P
    assert b.load(b.mm, AT) == 1004 and b.load(b.mm, AT + 4) == 0
    with pytest.raises(Fault, match="SIGBUS"):
        b.load(b.mm, AT + 4096)
    b.put(24, plus=5)
    assert sorted(file.mapping.pages) == [0, 1, 2, 3, 4]
    b.audit()


@each
def test_21_truncation_of_what_is_being_reclaimed(scheme: str) -> None:
    """Pages under write-back, in the swap cache and half unmapped are cut."""
    b = Box(scheme)
    file = host_file(b.mem, [bytes(4096)] * 16)
    b.map(0, 16, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.map(20, 16, flags=MAP_PRIVATE | MAP_FIXED, file=file)
    b.put(*range(16), *range(20, 36))
    b.fork(b.mm)
    b.mem.reclaim.shrink_all(10)
    file.mapping.writeback(6)
    file.truncate(3 << 12)
    b.audit("cut")
    b.swap_out()
    b.mem.clock.charge(10**9)
    b.audit()
    b.has(0, 1, 2, 20, 21)
    with pytest.raises(Fault, match="SIGBUS"):
        b.load(b.mm, AT + (23 << 12))


# --- 24 and 25: homes that others share


@each
@pytest.mark.parametrize("first", ["parent", "child"])
@pytest.mark.parametrize("leaves", ["parent", "child"])
def test_24_who_brought_a_page_in_exits(scheme: str, first: str, leaves: str) -> None:
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


@each
def test_25_neighbours_with_different_histories(scheme: str) -> None:
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


# --- 26 and 27: in the midst of a move


def in_the_midst(b: Box, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, look: Callable[[], None]) -> None:
    """``owner.name`` is what gives an area its new place. From then on, until the PTEs have moved, any allocation is an
    error; ``look`` is called just before they move."""
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
def test_26_exec_moves_its_stack(scheme: str, shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert not b.mem.rmap.exact or all(len(walk(b, pfn)[0]) == 1 for pfn in pfns.values())
    seen: list[tuple[set[int], int, bool]] = []
    in_the_midst(
        b,
        monkeypatch,
        b.mem.scheme,
        "vma_adjust_end",
        lambda: seen.extend(walk(b, pfn) for pfn in pfns.values() if b.mem.rmap.exact),
    )
    setup_arg_pages(b.mem, stack, top - shift, False)
    b.audit("moved")
    for found, _, by_area in seen:
        assert len(found) == (0 if by_area else 1)
    for address, pfn in pfns.items():
        assert not b.mem.rmap.exact or walk(b, pfn)[0] == {t.pte_index(b.mm.pgd, address - shift)}
        assert b.load(b.mm, address - shift) == address
    b.swap_out()
    b.audit("out")
    child = b.fork(b.mm)
    for address in addresses:
        assert b.load(b.mm, address - shift) == b.load(child, address - shift) == address
    b.audit()


@each
def test_27_no_walk_can_run_between_the_halves_of_a_move(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
                        assert b.index(page, mm) in walk(b, b.pfn(page, mm))[0]

    in_the_midst(b, monkeypatch, mremap, "vma_link_copy", look)
    for page, mm in ((0, b.mm), (10, child), (0, child), (10, b.mm)):
        b.mremap(page, 6, page + 300, mm=mm)
        b.audit(f"{page} has moved")
    assert looks == 4
    b.has(*range(6), *range(10, 16), shift=300)
    b.has(*range(6), *range(10, 16), mm=child, shift=300)


# --- 28: stale homes


@each
def test_28_a_frame_without_mapping_leads_nowhere(scheme: str) -> None:
    """When the last PTE goes, by unmap, exit or reclaim, the frame forgets its home; nothing walks from a free or
    merely cached frame to anybody."""
    b = Box(scheme)
    b.map(0, 6)
    b.put(*range(6))
    child = b.fork(b.mm)
    b.put(0, 1, mm=child)
    frames = b.mem.frames
    pfns = [b.pfn(k) for k in range(6)] + [b.pfn(k, child) for k in (0, 1)]
    b.swap_out()
    b.has(0)
    b.mem.reclaim.shrink_all(1)
    b.exit(child)
    b.munmap(b.mm, AT, 6)
    for pfn in pfns:
        assert frames.mapcount[pfn] == 0 and frames.mapping[pfn] == 0 and not frames.rmap[pfn]
        assert not b.mem.rmap.exact or walk(b, pfn)[0] == set()
    b.audit()


@each
def test_28_a_cached_page_has_no_home(scheme: str) -> None:
    """Reclaim unmapped it, the disk has not had it yet: nothing in it says whose it was; whoever faults next gives it
    his."""
    b = Box(scheme)
    b.map(0, 1)
    b.put(0)
    child = b.fork(b.mm)
    if not b.mem.rmap.exact:
        return
    frames, pfn = b.mem.frames, b.pfn(0)
    b.mem.rmap.page_referenced(pfn)
    assert b.mem.swap.add_to_swap(pfn)
    frames.count[pfn] += 1  # the isolator
    assert b.mem.rmap.try_to_unmap(pfn) == SUCCESS
    frames.count[pfn] -= 1
    assert frames.mapping[pfn] == 0 and not frames.flags[pfn] & PG_ANON and walk(b, pfn)[0] == set()
    b.exit(b.mm)
    b.has(0, mm=child)
    assert b.pfn(0, child) == pfn and walk(b, pfn)[0] == {b.index(0, child)}
    b.audit()


@each
def test_28_frames_and_objects_are_used_again_by_others(scheme: str) -> None:
    """A family goes; a stranger gets its frames and its objects' addresses, half of the time at other places. No walk
    leads from the new owner's pages to old ones, nor from pages that a relative kept to the new owner."""
    b = Box(scheme)
    rng = random.Random(28)
    b.map(0, 8)
    b.put(*range(8))
    keeper = b.fork(b.mm)
    again = 0
    old: set[int] = set()
    for turn in range(12):
        b.mem.reclaim.lru_add_drain()
        stranger = b.new_mm()
        place = rng.choice((0, 0, 40))
        b.map(place, 8, mm=stranger)
        b.put(*range(place, place + 8), mm=stranger, plus=turn * 100)
        pfns = {b.pfn(k, stranger) for k in range(place, place + 8)}
        again += len(pfns & old)
        for k in range(place, place + 8):
            assert not b.mem.rmap.exact or walk(b, b.pfn(k, stranger))[0] == {b.index(k, stranger)}
        b.audit(f"stranger {turn}")
        if turn % 4 == 3:
            b.swap_out()
            b.has(*range(8), mm=keeper)
            b.audit("the keeper's are back")
        if turn == 6:
            b.exit(b.mm)
        b.has(*range(place, place + 8), mm=stranger, plus=turn * 100)
        old |= {b.pfn(k, stranger) for k in range(place, place + 8)}
        b.exit(stranger)
    assert again > 20, "frames were used again"
    b.has(*range(8), mm=keeper)
    b.audit()
