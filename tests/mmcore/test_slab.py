"""Slab caches: packing, addresses, what is kept and given back, and what happens when reclaim runs inside an
allocation."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcore.clock import VirtualClock
from mmcore.errors import InvariantViolation, OutOfMemory
from mmcore.physical.frames import PG_SLAB, SLAB, VMALLOC, Frames
from mmcore.physical.gfp import GFP_KERNEL
from mmcore.physical.slab import PAGE_OFFSET, KmemCache, Slab, objects_per_slab
from mmcore.physical.zones import PageAllocator
from sandbox.kit.injection import Failing


def allocator(frames: int = 2048) -> PageAllocator:
    pages = PageAllocator(Frames(frames), VirtualClock())
    pages.free_boot_range(1, frames)
    pages.setup_watermarks()
    return pages


# Objects a 4 KB slab holds
@pytest.mark.parametrize(
    "size, per_page",
    [
        (32, 119),
        (64, 61),
        (128, 31),
        (8, 407),
        (12, 290),
        (24, 156),
        (20, 185),
        (84, 47),
        (88, 45),
    ],
)
def test_packing(size: int, per_page: int) -> None:
    assert objects_per_slab(size, 0) == per_page
    cache = KmemCache(allocator(), "x", size)
    assert (cache.order, cache.per_slab) == (0, per_page)


@pytest.mark.parametrize(
    "size, small, large",
    [
        (448, (0, 9), (0, 9)),  # 40 bytes left over
        (512, (0, 8), (0, 8)),  # from here on the header is kept elsewhere
        (
            1664,
            (1, 4),
            (1, 4),
        ),  # 768 of 4096 would be lost, 1536 of 8192: but two pages are the most a small machine takes
        (4096, (0, 1), (0, 1)),
        (8192, (1, 1), (1, 1)),
        (6000, (1, 1), (2, 2)),
    ],
)
def test_order(size: int, small: tuple[int, int], large: tuple[int, int]) -> None:
    """A larger slab while more than an eighth is wasted: up to two pages, four with more than 32 MB of RAM."""
    cache = KmemCache(allocator(), "x", size)
    assert (cache.order, cache.per_slab) == small
    cache = KmemCache(allocator(16384), "x", size)
    assert cache.order >= small[0]
    if size != 1664:
        assert (cache.order, cache.per_slab) == large


@pytest.mark.parametrize(
    "size, align, hwcache",
    [
        (8, 0, 0),
        (12, 0, 0),
        (32, 0, 32),
        (84, 0, 0),
        (100, 0, 64),
        (128, 0, 128),
        (396, 0, 0),
        (512, 0, 0),
        (1664, 0, 0),
        (24, 16, 0),
    ],
)
def test_objects_lie_apart_in_frames_of_the_cache(size: int, align: int, hwcache: int) -> None:
    pages = allocator()
    cache = KmemCache(pages, "x", size, align, hwcache)
    addresses = sorted(cache.alloc() for _ in range(3 * cache.per_slab))
    step = max(align, hwcache, 4)
    assert all(b - a >= size for a, b in pairwise(addresses))
    for address in addresses:
        assert address % step == 0
        for byte in (address, address + size - 1):
            pfn = byte - PAGE_OFFSET >> 12
            assert pages.frames.flags[pfn] & PG_SLAB and pages.frames.owner[pfn] == SLAB
        assert address - PAGE_OFFSET >> 12 >> cache.order == address + size - 1 - PAGE_OFFSET >> 12 >> cache.order, (
            "no object lies across slabs"
        )
    assert pages.owned[SLAB] == cache.frames == 3 << cache.order


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.sampled_from("aaaffsb"), st.integers(0, 1 << 20)), max_size=150))
def test_any_sequence(steps: list[tuple[str, int]]) -> None:
    pages = allocator()
    cache = KmemCache(pages, "x", 600)  # six to a slab
    live: list[int] = []
    peak = 0
    for what, pick in steps:
        if what == "a":
            live.append(cache.alloc())
        elif what == "b":
            live += cache.alloc_bulk(pick % 20)
        elif what == "f" and live:
            cache.free(live.pop(pick % len(live)))
        elif what == "s":
            cache.shrink()
            assert cache.slabs <= len(live), "every slab holds an object"
        peak = max(peak, len(live))
        assert len(set(live)) == len(live) == cache.objects and cache.check() == []
        assert pages.owned[SLAB] == cache.frames and cache.frames << 12 >= len(live) * 600
    assert cache.peak_objects == peak
    for address in live:
        cache.free(address)
    cache.shrink()
    assert pages.owned[SLAB] == cache.slabs == 0


def test_bulk_is_what_single_allocations_are() -> None:
    one, many = KmemCache(allocator(), "x", 84), KmemCache(allocator(), "x", 84)
    for cache in (one, many):
        held = [cache.alloc() for _ in range(100)]
        for address in held[10:60:3]:
            cache.free(address)
    assert [one.alloc() for _ in range(120)] == many.alloc_bulk(120)
    assert (one.objects, one.allocations, one.peak_objects, one.slabs) == (
        many.objects,
        many.allocations,
        many.peak_objects,
        many.slabs,
    )


def test_failing_leaves_nothing() -> None:
    pages = allocator(1024)
    cache = KmemCache(pages, "x", 2000)
    with pytest.raises(OutOfMemory):
        cache.alloc_bulk(10_000, gfp=0)
    assert cache.objects == 0 and cache.check() == []
    assert cache.slabs <= 2, "an empty slab may be kept, and the current one"


def test_what_was_not_handed_out_cannot_be_freed() -> None:
    cache = KmemCache(allocator(), "x", 100)
    address = cache.alloc()
    with pytest.raises(InvariantViolation, match="slab x"):
        cache.free(address + (8 << 12))
    cache.free(address)
    with pytest.raises(InvariantViolation, match="slab x"):
        cache.free(address)


def test_reclaim_inside_an_allocation_may_use_the_same_cache() -> None:
    """The frame for a new slab is got by reclaim, which frees objects of this cache and allocates others (swap's tree
    nodes do): no slab with room is forgotten."""
    pages = allocator()
    cache = KmemCache(pages, "x", 1000)  # four to a slab
    held = [cache.alloc() for _ in range(8)]
    plain = pages.alloc_pages
    calls = 0

    def reclaiming(order: int, gfp: int, owner: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            cache.free(held.pop())  # of the slab that was full
            cache.free(held.pop(0))
            held.extend(cache.alloc() for _ in range(3))  # grows the cache from within
        return plain(order, gfp, owner)

    pages.alloc_pages = reclaiming  # type: ignore[method-assign]
    held.append(cache.alloc())
    assert cache.check() == []
    slabs = cache.slabs
    room = slabs * cache.per_slab - cache.objects
    held += [cache.alloc() for _ in range(room)]
    assert cache.slabs == slabs, "all room is used before the cache grows"
    assert len(set(held)) == len(held)


def test_caches_by_name() -> None:
    slab = Slab(allocator())
    assert slab.cache("a", 84) is slab.cache("a", 84)
    with pytest.raises(ValueError, match="a exists with objects of 84 bytes"):
        slab.cache("a", 88)
    with pytest.raises(ValueError, match="out of range"):
        slab.cache("b", 0)


def test_kmalloc() -> None:
    slab = Slab(allocator())
    small, big = slab.kmalloc(33), slab.kmalloc(5000)
    assert slab.caches["size-64"].objects == slab.caches["size-8192"].objects == 1
    slab.kfree(small)
    slab.kfree(big)
    assert slab.caches["size-64"].objects == slab.caches["size-8192"].objects == 0
    with pytest.raises(InvariantViolation, match="kfree"):
        slab.kfree(0xC0000000)
    with pytest.raises(OutOfMemory):
        slab.kmalloc(1 << 20)


def test_vmalloc_takes_all_or_nothing() -> None:
    pages = allocator(1024)
    slab = Slab(pages)
    token = slab.vmalloc(10 * 4096 + 1, "swap_map")
    assert slab.vmalloc_areas() == [("swap_map", 11)] and pages.owned[VMALLOC] == 11
    with Failing(pages, 5), pytest.raises(OutOfMemory):
        slab.vmalloc(20 * 4096, "more")
    assert pages.owned[VMALLOC] == 11
    slab.vfree(token)
    assert pages.owned[VMALLOC] == 0 and slab.vmalloc_areas() == []


def test_shrink_all_counts_frames() -> None:
    pages = allocator()
    slab = Slab(pages)
    cache = slab.cache("a", 2000)
    for address in [cache.alloc(GFP_KERNEL) for _ in range(10)]:
        cache.free(address)
    held = pages.owned[SLAB]
    assert slab.shrink_all() == held > 0 and pages.owned[SLAB] == 0
