"""A frame's home: page.mapping and PG_ANON are there while somebody maps the page, and lead nowhere afterwards."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from mmcore.physical.frames import PG_ANON, PG_SWAPCACHE
from mmcore.rmap.core import SUCCESS
from tests.mmcore.asking import walked
from tests.mmcore.box import AT, SCHEMES, Box

each = pytest.mark.parametrize("scheme", SCHEMES)


@each
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=lambda order: "".join(map(str, order)))
def test_a_cached_page_is_anonymous_while_somebody_maps_it(scheme: str, order: tuple[int, ...]) -> None:
    """Two processes share a page that is in the swap cache and in no page table; they read it, write it, let go of it
    and reclaim takes it, in all orders."""
    b = Box(scheme)
    b.map(0, 2)
    b.put(0, 1)
    child = b.fork(b.mm)
    b.swap_out()
    gone: set[Any] = set()
    expected = {b.mm: 1000, child: 1000}

    def write(mm: Any, value: int) -> None:
        if mm not in gone:
            b.store(mm, AT, value)
            expected[mm] = value

    def leave() -> None:
        b.munmap(child, AT, 1)
        gone.add(child)

    steps: list[Callable[[], object]] = [
        lambda: b.load(b.mm, AT),
        lambda: write(child, 5),
        lambda: b.mem.reclaim.shrink_all(2),
        leave,
    ]
    b.load(b.mm, AT + 4096)  # reads its neighbour in, too
    for step in order:
        steps[step]()
        b.audit(f"step {step}")
        frames = b.mem.frames
        for pfn in b.mem.swap.cache.values():
            assert bool(frames.flags[pfn] & PG_ANON) == (frames.mapcount[pfn] > 0) and frames.flags[pfn] & PG_SWAPCACHE
    with b.reclaiming():
        write(b.mm, 6)
    assert b.load(b.mm, AT) == 6
    if child not in gone:
        assert b.load(child, AT) == expected[child]
    b.audit()


@each
def test_a_frame_without_mapping_leads_nowhere(scheme: str) -> None:
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
        assert not b.mem.rmap.exact or walked(b, pfn)[0] == set()
    b.audit()


@each
def test_a_cached_page_has_no_home(scheme: str) -> None:
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
    assert frames.mapping[pfn] == 0 and not frames.flags[pfn] & PG_ANON and walked(b, pfn)[0] == set()
    b.exit(b.mm)
    b.has(0, mm=child)
    assert b.pfn(0, child) == pfn and walked(b, pfn)[0] == {b.index(0, child)}
    b.audit()


@each
def test_frames_and_objects_are_used_again_by_others(scheme: str) -> None:
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
            assert not b.mem.rmap.exact or walked(b, b.pfn(k, stranger))[0] == {b.index(k, stranger)}
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
