"""Regressions of a review against the kernel's text: orders, arithmetic and leaks that a run rarely shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mmcore.clock import VirtualClock
from mmcore.errors import MustWait, OutOfMemory
from mmcore.memory import Memory, MemoryConfig
from mmcore.paging.fault import OOM
from mmcore.physical.frames import PG_DIRECT, USER
from mmcore.physical.gfp import GFP_ATOMIC, GFP_KERNEL
from mmcore.physical.zones import AllocatorHelp
from mmcore.reclaim.vmscan import DEF_PRIORITY, SHRINK_BATCH
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.files import host_file
from sandbox.kit.machine import MAP_ANONYMOUS, MAP_SHARED, CpulessMachine
from tests.mmcore.test_oom import SECOND, Size, Task, fail, machine_with

PAGES = 300  # more nodes than two slabs of 32-byte lines hold


def _fork_while(m: CpulessMachine, mm: Any, meanwhile: Callable[[], object]) -> Any:
    """fork, where every new slab of nodes is got after ``meanwhile`` ran, as reclaim or the OOM killer would."""
    scheme: Any = m.mem.scheme
    reserve = scheme.reserve

    def inject(order: int) -> bool:
        if order >= 0:
            m.mem.pages.inject = None
            meanwhile()
        return False

    def reserve_under_pressure(*args: Any) -> Any:
        m.mem.pages.inject = inject
        try:
            return reserve(*args)
        finally:
            m.mem.pages.inject = None

    scheme.reserve = reserve_under_pressure
    try:
        return m.fork(mm)
    finally:
        del scheme.reserve


def _mapped_once(m: CpulessMachine) -> list[int]:
    found: list[int] = np.nonzero(m.mem.frames.np_mapcount == 1)[0].tolist()
    return found


def test_fork_reserves_again_when_reclaim_collapsed_chains_of_one_entry() -> None:
    """A chain with one entry has room for another; direct, the page needs a node. Reclaim makes the one into the other
    while fork reserves."""
    m = CpulessMachine(PteChain)
    mm = m.new_mm()
    base = m.mmap(mm, 2 * PAGES)
    for k in range(PAGES):
        m.store(mm, base + (k << 12), k)
    m.exit(m.fork(mm))
    alone = _mapped_once(m)
    assert len(alone) == PAGES
    for k in range(PAGES, 2 * PAGES):
        m.store(mm, base + (k << 12), k)

    child = _fork_while(m, mm, lambda: [m.mem.rmap.page_referenced(pfn) for pfn in alone])
    m.audit("after the fork")
    assert m.load(child, base + (5 << 12)) == 5
    m.exit(child)
    m.exit(mm)
    m.audit("all gone")


def test_fork_reserves_again_when_another_mapper_died_meanwhile() -> None:
    """The OOM killer takes a victim's memory at once: a head that had room may be gone with it, and the node below is
    full."""
    m = CpulessMachine(PteChain)
    mm = m.new_mm()
    base = m.mmap(mm, 2 * PAGES)
    n = m.mem.scheme.nrpte  # type: ignore[attr-defined]
    for k in range(PAGES):
        m.store(mm, base + (k << 12), k)
    others = [m.fork(mm) for _ in range(n)]  # n + 1 mappings: a full node, and a head with one entry
    for k in range(PAGES, 2 * PAGES):
        m.store(mm, base + (k << 12), k)
    m.mem.current.mm = mm

    child = _fork_while(m, mm, lambda: m.exit(others.pop()))
    m.audit("after the fork")
    for other in (child, mm, *others):
        m.exit(other)
    m.audit("all gone")


@pytest.mark.parametrize(
    ("scheme", "paging", "options", "isolated", "historic"),
    [
        (PteChain, "pae", {}, 32, 40),
        (PteChain, "pae", {"highpte": True}, 36, 44),
        (PteChain, "2level", {"highpte": True}, 32, 40),
        (AnonVma, "pae", {}, 32, 32),
    ],
)
def test_historic_accounting_has_the_struct_page_of_the_release(
    scheme: Any, paging: str, options: dict[str, Any], isolated: int, historic: int
) -> None:
    """2.6.5: 40 bytes, 44 with 64-bit PTE addresses (page->list was there still); 2.6.7: 32 whatever the paging."""
    for accounting, size in (("isolated", isolated), ("historic", historic)):
        mem = Memory(MemoryConfig(64 << 20, 1 << 20, paging, accounting=accounting, scheme_options=options), scheme)
        assert mem.struct_page_bytes == size
        assert mem.lowmem_report()["owners"]["mem_map"]["bytes"] == 16384 * size


def test_structures_have_the_sizes_of_their_kernels() -> None:
    """vm_area_struct 64 and 84 bytes, 47 of the latter in a page; anon_vma 8 or 12, 407 or 290 in a page."""
    assert Memory(MemoryConfig(16 << 20), PteChain).vma_cache.objsize == 64
    for smp, size, per_page in ((False, 8, 407), (True, 12, 290)):
        mem = Memory(MemoryConfig(16 << 20, smp=smp), AnonVma)
        assert (mem.vma_cache.objsize, mem.vma_cache.per_slab) == (84, 47)
        cache = mem.slab.caches["anon_vma"]
        assert (cache.objsize, cache.per_slab, cache.order) == (size, per_page, 0)
    for line, per_page in ((32, 119), (64, 61), (128, 31)):
        mem = Memory(MemoryConfig(16 << 20, cache_line=line), PteChain)
        assert mem.slab.caches["pte_chain"].per_slab == per_page
        assert mem.mm_cache.size % line == 0, "mm_struct is aligned to cache lines"


def test_inodes_grow_by_what_the_scheme_adds_to_address_space() -> None:
    """Two list heads up to 2.6.6, 16 bytes; in 2.6.7 a tree's root, a count and a list head, 20."""
    sizes = {}
    for scheme in (PteChain, AnonVma):
        m = CpulessMachine(scheme)
        m.mmap(m.new_mm(), 1, flags=MAP_SHARED | MAP_ANONYMOUS)
        sizes[scheme] = m.mem.slab.caches["shmem_inode_cache"].objsize
    assert sizes == {PteChain: 392, AnonVma: 396}


def test_distress_is_noted_for_zones_that_direct_reclaim_passes_over() -> None:
    """2.6.7 sets temp_priority and prev_priority before it looks at all_unreclaimable: a zone that yields nothing is in
    distress, not at ease."""
    m = CpulessMachine(AnonVma)
    zone = m.mem.pages.zones[0]
    zone.all_unreclaimable = True
    m.mem.pages.memalloc += 1  # no OOM killer at the end: nobody is there to be killed
    m.mem.oom.out_of_memory = lambda: None  # type: ignore[method-assign]
    assert m.mem.reclaim.try_to_free_pages(GFP_KERNEL, 0) == 0
    assert zone.prev_priority == 0
    zone.all_unreclaimable = False
    m.mem.reclaim.kswapd()
    assert zone.prev_priority == DEF_PRIORITY


def test_who_cannot_wait_may_go_below_the_protection_of_a_balanced_zone() -> None:
    """__alloc_pages: free >= 2**order + protection, or (!wait and free >= pages_high). DMA is protected beyond its high
    mark."""
    mem = Memory(MemoryConfig(64 << 20), AnonVma)
    pages = mem.pages
    dma, normal = pages.zones

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


def test_a_shrinker_that_cannot_now_is_asked_for_the_rest_later() -> None:
    m = CpulessMachine(AnonVma)
    asked: list[int] = []
    able = False

    def scan(n: int, gfp: int) -> int:
        if not n:
            return 1000
        asked.append(n)
        return 1000 if able else -1

    shrinker = m.mem.reclaim.register_shrinker(scan)
    shrinker.nr = 3 * SHRINK_BATCH + 5
    m.mem.reclaim._shrink_slab(1, GFP_KERNEL)
    assert asked == [SHRINK_BATCH] and shrinker.nr > 2 * SHRINK_BATCH
    left, able = shrinker.nr, True
    m.mem.reclaim._shrink_slab(1, GFP_KERNEL)
    assert sum(asked[1:]) >= left and shrinker.nr == 0
    assert m.mem.vmstat.slabs_scanned == sum(asked)


def test_pages_brought_in_by_populate_count_as_faults_of_the_task() -> None:
    """handle_mm_fault counts whoever calls it; what had to wait is major, and leaves nothing behind for the next
    fault."""
    m = CpulessMachine(AnonVma)
    mm = m.new_mm()
    current, vmstat = m.mem.current, m.mem.vmstat
    base = m.mmap(mm, 8)
    assert m.mem.faults.make_pages_present(mm, base, base + (8 << 12)) == 0
    assert (current.min_flt, current.maj_flt, vmstat.pgfault) == (8, 0, 8)
    file = host_file(m.mem, [b"a"])
    at = m.mmap(mm, 1, 1, MAP_SHARED, file=file)
    assert m.mem.faults.make_pages_present(mm, at, at + 4096) == 0
    assert (current.min_flt, current.maj_flt, vmstat.pgfault, vmstat.pgmajfault) == (8, 1, 9, 1)
    m.store(mm, m.mmap(mm, 1), 1)
    assert (current.min_flt, current.maj_flt) == (9, 1)


def test_a_fault_that_fails_after_it_waited_does_not_make_the_next_one_major() -> None:
    m = CpulessMachine(AnonVma)
    mm = m.new_mm()
    file = host_file(m.mem, [b"a"])
    at = m.mmap(mm, 1, 1, MAP_SHARED, file=file)
    with pytest.raises(MustWait) as wait:
        m.mem.faults.do_page_fault(mm, at, 4)
    m.mem.reclaim.wait_sync(wait.value.queue)
    assert m.mem.current.fault_major
    other = m.mmap(mm, 1, addr=0x10000000)  # another table
    m.mem.pages.inject = lambda order: True
    assert m.mem.faults.do_page_fault(mm, other, 6) == OOM
    m.mem.pages.inject = None
    m.store(mm, other, 1)
    assert (m.mem.current.min_flt, m.mem.current.maj_flt) == (1, 0)


def test_cancelled_timers_do_not_pile_up() -> None:
    clock = VirtualClock()
    fired: list[int] = []
    for k in (5, 3, 4):
        clock.at(k * 1000, lambda k=k: fired.append(k))  # type: ignore[misc]
    for _ in range(10_000):
        clock.cancel(clock.at(10**12, lambda: fired.append(0)))
    assert len(clock._heap) < 200
    assert clock.next_due() == 3000
    clock.advance_to(10_000)
    assert fired == [3, 4, 5] and clock.next_due() is None
    twice = clock.at(20_000, lambda: fired.append(1))
    clock.cancel(twice)
    clock.cancel(twice)
    assert clock.next_due() is None and clock._cancelled == 0


def test_direct_flag_follows_the_word() -> None:
    """After each of a fork's two ways of adding (bulk, single) no page is direct and chained at once."""
    for n in (4, 40):
        m = CpulessMachine(PteChain)
        mm = m.new_mm()
        base = m.mmap(mm, n)
        for k in range(n):
            m.store(mm, base + (k << 12), k)
        m.fork(mm)
        shared = np.nonzero(m.mem.frames.np_mapcount == 2)[0]
        assert len(shared) == n and not (m.mem.frames.np_flags[shared] & np.uint32(PG_DIRECT)).any()


def test_a_victim_is_found_even_when_nobody_has_points() -> None:
    """badness divides what root runs by 16: a program of 15 pages has none left, and dies all the same rather than the
    machine."""
    tasks = [Task(1, Size(15), uid=0), Task(2, Size(3), uid=0)]
    m = machine_with(tasks)
    m.mem.clock.charge(100 * SECOND)
    fail(m, 14, 500)
    assert [kill.pid for kill in m.mem.oom.kills] == [1] and m.mem.oom.kills[0].points == 0


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
