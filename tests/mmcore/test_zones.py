"""Zones: watermarks as the kernel computed them, buddies against brute force, who may go how low, and the low-memory
account at any moment."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcore.clock import VirtualClock
from mmcore.errors import Hung, InvariantViolation, OutOfMemory
from mmcore.memory import Memory, MemoryConfig
from mmcore.physical.frames import (
    BOOT,
    FREE,
    NR_OWNERS,
    PCP,
    PG_CODE,
    PG_LRU,
    PG_RESERVED,
    SLAB,
    STACK,
    USER,
    Frames,
)
from mmcore.physical.gfp import GFP_ATOMIC, GFP_HIGHUSER, GFP_KERNEL, GFPF_DMA, GFPF_NORETRY, GFPF_WAIT
from mmcore.physical.zone import MAX_ORDER
from mmcore.physical.zones import AllocatorHelp, PageAllocator
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.injection import during_allocations
from sandbox.kit.machine import CpulessMachine
from sandbox.kit.wander import OPERATIONS
from sandbox.kit.world import World

MB = 256  # frames


class Help(AllocatorHelp):
    """Counts who was called for; reclaim frees nothing."""

    def __init__(self) -> None:
        self.woken: list[str] = []
        self.orders: list[int] = []
        self.codes = 0

    def wakeup_kswapd(self) -> None:
        self.woken.append("kswapd")

    def try_to_free_pages(self, gfp: int, order: int) -> int:
        self.orders.append(order)
        return 0

    def code_reused(self) -> None:
        self.codes += 1


def allocator(frames: int, helper: AllocatorHelp | None = None) -> PageAllocator:
    """All frames but the first are free, however many."""
    pages = PageAllocator(Frames(frames), VirtualClock())
    if helper is not None:
        pages.attach(helper)
    pages.free_boot_range(1, frames)
    pages.setup_watermarks()
    return pages


def check(pages: PageAllocator) -> None:
    """Owners by frame are the owners on the books; free blocks are free, aligned, apart, and no two buddies stand side
    by side."""
    frames = pages.frames
    assert np.bincount(frames.np_owner, minlength=NR_OWNERS).tolist() == pages.owned and sum(pages.owned) == frames.nr
    seen: set[int] = set()
    for zone in pages.zones:
        for order, area in enumerate(zone.free_area):
            for pfn in area:
                block = set(range(pfn, pfn + (1 << order)))
                assert (
                    pfn % (1 << order) == 0
                    and zone.start_pfn <= pfn
                    and pfn + (1 << order) <= zone.end_pfn
                    and not block & seen
                )
                seen |= block
                if order < MAX_ORDER - 1:
                    assert pfn ^ 1 << order not in area, "two free buddies are one block"
        assert zone.free_pages == sum(len(area) << order for order, area in enumerate(zone.free_area))
        assert all(frames.owner[pfn] == PCP for pfn in zone.pcp) and len(set(zone.pcp)) == len(zone.pcp)
    assert seen == set(np.nonzero(frames.np_owner == FREE)[0].tolist()) and len(seen) == pages.nr_free()


# --- watermarks


@pytest.mark.parametrize(
    "mbytes, min_free, dma, normal",
    [
        (16, 128, (32, 64, 96), None),
        (64, 256, (16, 32, 48), (48, 96, 144)),
        (256, 512, (8, 16, 24), (120, 240, 360)),
        (896, 957, (4, 8, 12), (234, 468, 702)),
    ],
)
def test_watermarks(mbytes: int, min_free: int, dma: tuple[int, ...], normal: tuple[int, ...] | None) -> None:
    pages = PageAllocator(Frames(mbytes * MB), VirtualClock())
    pages.setup_watermarks()
    assert pages.min_free_kbytes == min_free
    low, high, _ = pages.zones
    assert (low.pages_min, low.pages_low, low.pages_high) == dma
    if normal is None:
        assert high.present_pages == 0
    else:
        assert (high.pages_min, high.pages_low, high.pages_high) == normal


@pytest.mark.parametrize("mbytes, normal, dma", [(64, 96, 128), (256, 240, 256), (896, 468, 476)])
def test_protection(mbytes: int, normal: int, dma: int) -> None:
    """A kernel allocation leaves the normal zone its low mark, and the DMA zone both marks; a DMA allocation only the
    DMA zone's own."""
    pages = PageAllocator(Frames(mbytes * MB), VirtualClock())
    pages.setup_watermarks()
    low, high, _ = pages.zones
    assert (high.protection[1], low.protection[1]) == (normal, dma)
    assert (low.protection[0], high.protection[0]) == (low.pages_low, 0)


GB = 1024 * MB


@pytest.mark.parametrize(
    "frames, high, protection",
    [(GB, (32, 64, 96), (64, 532, 540)), (4 * GB, (128, 256, 384), (256, 724, 732)), (64 * GB, (128, 256, 384), None)],
)
def test_marks_of_high_memory(frames: int, high: tuple[int, ...], protection: tuple[int, ...] | None) -> None:
    """A thousandth of it, 32 to 128 pages; user pages leave each zone its own low mark and those above it. Low memory's
    own marks do not depend on how much high memory there is."""
    pages = PageAllocator(Frames(frames), VirtualClock())
    pages.setup_watermarks()
    dma, normal, highmem = pages.zones
    assert (highmem.pages_min, highmem.pages_low, highmem.pages_high) == high
    assert (normal.pages_min, normal.pages_low, normal.pages_high) == (234, 468, 702) and pages.min_free_kbytes == 957
    assert tuple(zone.protection[2] for zone in (highmem, normal, dma)) == (protection or (256, 724, 732))
    assert (normal.protection[1], dma.protection[1], highmem.protection[1]) == (468, 476, 0)


def test_lower_zone_protection_keeps_lower_zones_for_the_kernel() -> None:
    pages = PageAllocator(Frames(4 * GB), VirtualClock())
    pages.setup_watermarks()
    pages.lower_zone_protection = 100
    pages.apply_watermarks()
    dma, normal, highmem = pages.zones
    assert highmem.protection[2] == 256
    assert normal.protection[2] == 256 + 468 + 100 * 256
    assert dma.protection[2] == normal.protection[2] + 8 + 100 * 468


def test_user_pages_prefer_high_memory_and_the_kernel_never_gets_it() -> None:
    """User pages fill high memory down to its mark and go on in Normal; what the kernel needs comes from low memory,
    and fails while high memory is free."""
    pages = PageAllocator(Frames(34 * MB), VirtualClock(), lowmem_bytes=32 << 20)
    pages.free_boot_range(256, pages.lowmem_end)
    pages.free_highmem()
    pages.setup_watermarks()
    pages.attach(Help())
    high, border = pages.zones[2], pages.lowmem_end
    assert high.present_pages == 512 == high.free_pages
    pfns = [pages.alloc_page(GFP_HIGHUSER, USER) for _ in range(512 + 100)]
    at_first = 512 - high.protection[2] - high.pcp_batch
    assert all(pfn >= border for pfn in pfns[:at_first]) and any(pfn < border for pfn in pfns)
    assert sum(pages.owned) == border and sum(pages.high.owned) == 512
    assert pages.owned[USER] + pages.high.owned[USER] == len(pfns)
    pages.free_bulk(np.array(pfns, np.int64))
    pages.drain_pcp()
    assert high.free_pages == 512 and not pages.high.owned[USER]
    _drain(pages, GFP_KERNEL | GFPF_NORETRY)
    assert high.free_pages == 512 and pages.high.owned[USER] == 0


@pytest.mark.parametrize("mbytes, batch", [(8, 1), (64, 3), (256, 15), (512, 16)])
def test_per_cpu_batches(mbytes: int, batch: int) -> None:
    zone = PageAllocator(Frames(mbytes * MB), VirtualClock()).zones[1 if mbytes > 16 else 0]
    assert (zone.pcp_batch, zone.pcp_low, zone.pcp_high) == (batch, 2 * batch, 6 * batch)


# --- who may go how low


def _drain(pages: PageAllocator, gfp: int) -> int:
    """Takes frames until it fails; how many are left in the buddy lists."""
    with pytest.raises(OutOfMemory):
        while True:
            pages.alloc_page(gfp, USER)
    return pages.nr_free()


def test_each_kind_stops_at_its_mark() -> None:
    pages = allocator(64 * MB, helper := Help())
    low, high, _ = pages.zones
    _drain(pages, GFP_KERNEL | GFPF_NORETRY)
    # A refill of the per-cpu list may take a batch more than the mark allows, as it did.
    assert high.protection[1] - high.pcp_batch <= high.free_pages <= high.protection[1]
    assert low.protection[1] - low.pcp_batch <= low.free_pages <= low.protection[1]
    assert helper.woken, "kswapd is called before anything fails"
    free = pages.nr_free()
    _drain(pages, GFP_ATOMIC)
    assert pages.nr_free() < free
    for zone in (low, high):
        # A quarter of the low mark below the protection; and below that while the zone itself is above its high mark.
        mark = min(zone.protection[1] - zone.pages_low // 4, zone.pages_high)
        assert mark - zone.pcp_batch - 1 <= zone.free_pages <= mark
    _drain(pages, GFPF_DMA | GFPF_WAIT)
    assert low.free_pages <= low.protection[0]
    pages.memalloc = 1
    assert _drain(pages, GFP_KERNEL) == 0, "reclaim itself may take the last frame"
    check(pages)


def test_dma_requests_get_dma_frames() -> None:
    pages = allocator(64 * MB)
    assert pages.alloc_page(GFP_KERNEL, USER) >= 4096
    assert pages.alloc_page(GFP_KERNEL | GFPF_DMA, USER) < 4096
    assert pages.alloc_pages(3, GFP_KERNEL | GFPF_DMA, USER) < 4096


def test_normal_memory_first_then_dma() -> None:
    pages = allocator(20 * MB)
    got = []
    with pytest.raises(OutOfMemory):
        while True:
            got.append(pages.alloc_page(GFP_KERNEL | GFPF_NORETRY, USER))
    turn = next(k for k, pfn in enumerate(got) if pfn < 4096)
    assert all(pfn < 4096 for pfn in got[turn:]) and all(pfn >= 4096 for pfn in got[:turn])


def test_an_allocation_that_reclaim_cannot_help_ends() -> None:
    pages = allocator(8 * MB, helper := Help())
    with pytest.raises(Hung, match="low memory is exhausted .* more --memory"):
        while True:
            pages.alloc_page(GFP_KERNEL, USER)
    assert len(helper.orders) > 100, "order 0 tries again and again, as 2.6.7 did"


def test_large_blocks_fail_where_small_ones_retry() -> None:
    pages = allocator(8 * MB, helper := Help())
    held = [pages.alloc_page(GFP_KERNEL, USER) for _ in range(1500)]
    for pfn in held[::2]:
        pages.put_page(pfn)
    pages.drain_pcp()
    while True:
        try:
            pages.alloc_pages(5, GFP_KERNEL, USER)
        except OutOfMemory:
            break
    assert helper.orders == [5], "order 4 and above: one try"
    assert pages.nr_free() > 700
    check(pages)


def test_reclaim_helps() -> None:
    held: list[int] = []

    class Reclaim(AllocatorHelp):
        def try_to_free_pages(self, gfp: int, order: int) -> int:
            for _ in range(32):
                pages.put_page(held.pop())
            pages.drain_pcp()
            return 1

    pages = allocator(8 * MB, Reclaim())
    for _ in range(4000):
        held.append(pages.alloc_page(GFP_KERNEL, USER))
    check(pages)


# --- buddies


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.sampled_from("aaafbd"), st.integers(0, 5), st.integers(0, 1 << 20)), max_size=80))
def test_any_sequence(steps: list[tuple[str, int, int]]) -> None:
    pages = allocator(512)
    before = [sorted(area) for area in pages.zones[0].free_area]
    pages.memalloc = 1
    live: list[tuple[int, int]] = []
    for what, order, pick in steps:
        if what == "a":
            try:
                pfn = pages.alloc_pages(order, GFP_KERNEL, USER)
            except OutOfMemory:
                continue
            assert pfn % (1 << order) == 0 and pages.frames.count[pfn] == 1
            live.append((pfn, order))
        elif what == "f" and live:
            pages.free_pages(*live.pop(pick % len(live)))
        elif what == "b":
            some = [pfn for pfn, order in live if not order][:: 1 + pick % 3]
            live = [x for x in live if x[0] not in some]
            pages.frames.np_count[some] = 0
            pages.free_bulk(np.array(some, np.int64))
        elif what == "d":
            pages.drain_pcp()
        check(pages)
    for pfn, order in live:
        pages.free_pages(pfn, order)
    pages.drain_pcp()
    assert [sorted(area) for area in pages.zones[0].free_area] == before, "all that was split has merged again"


class OneByOne:
    """rmqueue of order 0 as 2.6.7 has it: the head of the smallest list that is not empty, split down."""

    def __init__(self, areas: list[dict[int, None]]) -> None:
        self.areas = [dict(area) for area in areas]

    def take(self) -> int:
        for order, area in enumerate(self.areas):
            if area:
                pfn, _ = area.popitem()
                while order:
                    order -= 1
                    self.areas[order][pfn + (1 << order)] = None
                return pfn
        return -1


@pytest.mark.parametrize("seed", range(8))
def test_the_refill_in_one_go_takes_what_one_by_one_would(seed: int) -> None:
    pages = allocator(64 * MB)
    zone = pages.zones[1]
    rng = random.Random(seed)
    held = [(pages.alloc_pages(o, GFP_KERNEL, USER), o) for o in (rng.randrange(4) for _ in range(200))]
    for pfn, order in rng.sample(held, 120):
        pages.free_pages(pfn, order)
    for _ in range(30):
        twin = OneByOne(zone.free_area)
        had = list(zone.pcp)
        pages._rmqueue_bulk(zone)
        taken = zone.pcp[: zone.pcp_batch]
        assert zone.pcp[zone.pcp_batch :] == had, "what was there is used first"
        assert taken == [twin.take() for _ in range(zone.pcp_batch)][::-1]
        assert [list(area) for area in zone.free_area] == [list(area) for area in twin.areas]
        zone.pcp = had
        pages.frames.np_owner[taken] = USER
        pages.owned[PCP] -= len(taken)
        pages.owned[USER] += len(taken)
    check(pages)


def test_the_per_cpu_list_is_last_in_first_out_and_bounded() -> None:
    pages = allocator(64 * MB)
    zone = pages.zones[1]
    first = pages.alloc_page(GFP_KERNEL, USER)
    assert [pages.alloc_page(GFP_KERNEL, USER) for _ in range(20)] == list(range(first + 1, first + 21)), (
        "ascending addresses"
    )
    pages.put_page(first)
    assert pages.alloc_page(GFP_KERNEL, USER) == first, "the warmest frame comes back first"
    held = [pages.alloc_page(GFP_KERNEL, USER) for _ in range(100)]
    for pfn in held:
        pages.put_page(pfn)
        assert len(zone.pcp) <= zone.pcp_high
    check(pages)


def test_freeing_what_is_in_use_is_noticed() -> None:
    pages = allocator(8 * MB)
    pfn = pages.alloc_page(GFP_KERNEL, USER)
    pages.frames.mapcount[pfn] = 1
    with pytest.raises(InvariantViolation, match="a frame in use is freed"):
        pages.put_page(pfn)
    pages.frames.mapcount[pfn] = 0
    many = np.array([pages.alloc_page(GFP_KERNEL, USER) for _ in range(20)])
    pages.frames.np_count[many] = 0
    pages.frames.mapcount[int(many[7])] = 2
    with pytest.raises(InvariantViolation, match=f"in use is freed: frame {int(many[7]):#x}"):
        pages.free_bulk(many)
    free = int(np.nonzero(pages.frames.np_owner == FREE)[0][0])
    with pytest.raises(InvariantViolation, match="put_page of a free frame"):
        pages.put_page(free)
    with pytest.raises(InvariantViolation):
        pages.free_page(0)


def test_a_freed_frame_leaves_its_list_and_forgets_its_past() -> None:
    pages = allocator(8 * MB)
    frames, zone = pages.frames, pages.zones[0]
    many = [pages.alloc_page(GFP_KERNEL, USER) for _ in range(20)]
    for pfn in many:
        frames.flags[pfn] |= PG_LRU
        frames.mapping[pfn] = frames.private[pfn] = 5
        zone.inactive.add(pfn)
    pages.put_page(many[3])
    assert zone.inactive.n == 19 and many[3] not in set(zone.inactive)
    frames.np_count[many[5:]] = 0
    pages.free_bulk(np.array(many[5:]))
    assert list(zone.inactive) == [*many[:3], many[4]]
    gone = [many[3], *many[5:]]
    assert not frames.np_flags[gone].any() and not frames.np_mapping[gone].any() and not frames.np_private[gone].any()


def test_translated_code_is_forgotten_when_its_frame_is_used_again() -> None:
    pages = allocator(8 * MB, helper := Help())
    pfn = pages.alloc_page(GFP_KERNEL, USER)
    pages.frames.flags[pfn] |= PG_CODE
    pages.put_page(pfn)
    assert pages.frames.flags[pfn] == PG_CODE and not helper.codes
    assert pages.alloc_page(GFP_KERNEL, USER) == pfn and helper.codes == 1 and pages.frames.flags[pfn] == 0


# --- the account


@pytest.mark.parametrize("scheme", [AnonVma, PteChain])
@pytest.mark.parametrize("seed", range(3))
def test_the_account_holds_at_any_moment(scheme: type, seed: int) -> None:
    """Not only between operations: at every allocation and every free inside them, owners add up to all frames there
    are."""
    world = World(scheme, "pae", 200)
    pages = world.mem.pages
    frames = pages.frames
    moments = 0

    def look(order: int) -> bool:
        nonlocal moments
        moments += 1
        assert sum(pages.owned) == frames.nr
        assert np.bincount(frames.np_owner, minlength=NR_OWNERS).tolist() == pages.owned
        return False

    rng = random.Random(seed)
    names = [name for name in OPERATIONS if name != "tick"]
    for _ in range(160):
        name = rng.choices(names, [OPERATIONS[n][0] for n in names])[0]
        arguments = [rng.randrange(256) for _ in range(OPERATIONS[name][1])]
        with during_allocations(pages, look):
            getattr(world, name)(*arguments)
    assert moments > 100
    world.check("the end")


def test_the_snapshot_at_the_lowest_point_is_of_one_moment() -> None:
    m = CpulessMachine(AnonVma, memory=16 << 20)
    pages = m.mem.pages
    rng = random.Random(1)
    held: list[int] = []
    lowest, owned_then = pages.nr_free(), list(pages.owned)
    for _ in range(300):
        if rng.random() < 0.6:
            for _ in range(rng.randrange(40)):
                held.append(pages.alloc_page(GFP_KERNEL, rng.choice((USER, STACK))))
        else:
            for _ in range(min(len(held), rng.randrange(80))):
                pages.put_page(held.pop(rng.randrange(len(held))))
        if pages.owned[FREE] <= lowest:
            lowest, owned_then = pages.owned[FREE], list(pages.owned)
    report = m.mem.lowmem_report()
    snapshot = m.mem.at_peak
    assert snapshot["owned"][FREE] == pages.min_free == report["min_free"] >> 12 <= lowest
    assert sum(snapshot["owned"]) == m.mem.frames.nr
    assert sum(frames for frames, _, _ in snapshot["slab"].values()) == snapshot["owned"][SLAB]
    if lowest == pages.min_free:
        assert snapshot["owned"][FREE] == owned_then[FREE]


@pytest.mark.parametrize("scheme", [AnonVma, PteChain])
def test_the_report_adds_up_to_all_memory(scheme: type) -> None:
    m = CpulessMachine(scheme, memory=16 << 20)
    mm = m.new_mm()
    at = m.mmap(mm, 900)
    for k in range(900):
        m.store(mm, at + (k << 12), k)
    children = [m.fork(mm) for _ in range(3)]
    for child in children:
        m.exit(child)
    report = m.mem.lowmem_report()
    for table, free in ((report["owners"], report["free"]), (report["at_peak"], report["min_free"])):
        assert sum(row["bytes"] for row in table.values()) + free == report["present"] == 16 << 20
    for name, row in report["owners"].items():
        assert row["bytes"] <= row.get("peak_bytes", row["bytes"]), name
        assert row.get("used_bytes", 0) <= row["bytes"], name
    assert report["at_peak"]["page_tables"]["bytes"] > report["owners"]["page_tables"]["bytes"]


def test_mem_map_is_charged_by_scheme() -> None:
    """28 bytes a frame without reverse mapping, 32 with either scheme here; the zero frame, hole and image are boot's
    too."""
    for scheme in (AnonVma, PteChain):
        m = CpulessMachine(scheme, memory=64 << 20)
        assert m.mem.struct_page_bytes == 32
        assert m.mem.boot_owners["mem_map"] == 64 * MB * 32 // 4096
        assert m.mem.pages.owned[BOOT] == sum(m.mem.boot_owners.values())
        assert int(np.count_nonzero(m.mem.frames.np_flags & PG_RESERVED)) == m.mem.pages.owned[BOOT]
    wide = CpulessMachine(PteChain, memory=64 << 20, highpte=True)
    assert wide.mem.struct_page_bytes == 36


def test_memory_sizes_that_cannot_be() -> None:
    from mmcore.errors import ConfigError
    from mmcore.memory import Memory

    with pytest.raises(ConfigError, match="at least 5M"):
        Memory(MemoryConfig(4 << 20), AnonVma)
    with pytest.raises(ConfigError, match="65 GB is more than pae page tables can name: give at most 64G"):
        Memory(MemoryConfig(65 << 30), AnonVma)
    with pytest.raises(ConfigError, match="5 GB is more than 2level page tables can name: give at most 4G"):
        Memory(MemoryConfig(5 << 30, paging="2level"), AnonVma)
    with pytest.raises(ConfigError, match="lowmem of 16 MB is too little: give at least 32M"):
        Memory(MemoryConfig(64 << 20, lowmem_bytes=16 << 20), AnonVma)
    with pytest.raises(ConfigError, match="65536 MB does not boot: its mem_map takes 512 of 256 MB of low memory"):
        Memory(MemoryConfig(64 << 30, lowmem_bytes=256 << 20), AnonVma)
    for mbytes in (5, 8, 16, 17, 20, 24, 64):
        m = CpulessMachine(AnonVma, memory=mbytes << 20)
        m.audit()
        assert m.mem.pages.nr_free() > 300


def test_who_cannot_wait_may_go_below_the_protection_of_a_balanced_zone() -> None:
    """__alloc_pages: free >= 2**order + protection, or (!wait and free >= pages_high). DMA is protected beyond its high
    mark."""
    mem = Memory(MemoryConfig(64 << 20), AnonVma)
    pages = mem.pages
    dma, normal, _ = pages.zones

    class Reclaim(AllocatorHelp):
        def try_to_free_pages(self, gfp: int, order: int) -> int:
            raise KeyboardInterrupt  # an allocation that can wait has come to reclaim

    pages.attach(Reclaim())
    taken = []
    while normal.free_pages or normal.pcp:
        pfn = pages._buffered_rmqueue(normal, 0, USER)
        if pfn < 0:
            break
        taken.append(pfn)
    while dma.free_pages > dma.pages_high + dma.pcp_batch:
        taken.append(pages._buffered_rmqueue(dma, 0, USER))
    assert dma.pages_high <= dma.free_pages < dma.protection[1] - (dma.pages_low >> 2)
    got = pages.alloc_page(GFP_ATOMIC, USER)
    assert pages.zone_of(got) is dma
    with pytest.raises(KeyboardInterrupt):
        pages.alloc_page(GFP_KERNEL, USER)


def test_an_allocation_naps_twenty_milliseconds_between_retries() -> None:
    m = CpulessMachine(AnonVma)
    pages, clock = m.mem.pages, m.mem.clock
    pages.memalloc = 1
    with pytest.raises(OutOfMemory):
        while True:
            pages.alloc_page(GFP_KERNEL, USER)
    pages.memalloc = 0
    tries: list[int] = []

    class Reclaim(AllocatorHelp):
        def try_to_free_pages(self, gfp: int, order: int) -> int:
            tries.append(clock.now)
            if len(tries) == 3:
                pages.memalloc = 1  # ends the loop: the reserves are empty too
            return 0

    pages.attach(Reclaim())
    with pytest.raises(OutOfMemory):
        pages.alloc_page(GFP_KERNEL, USER)
    assert np.diff(tries).tolist() == [20_000_000, 20_000_000]
