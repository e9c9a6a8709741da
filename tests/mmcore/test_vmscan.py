"""Reclaim: the arithmetic of 2.6.7, the steps of a page, the pagevecs, the disk under it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcore.calls.mlock import do_mlock
from mmcore.disk import CONGESTION_ON, MAX_PAGES, NR_REQUESTS, SEEK_NS, TRANSFER_NS
from mmcore.physical.frames import (
    PG_ACTIVE,
    PG_DIRTY,
    PG_LRU,
    PG_REFERENCED,
    PG_SWAPCACHE,
    PG_UPTODATE,
    PG_WRITEBACK,
    USER,
    Frames,
)
from mmcore.physical.gfp import GFP_HIGHUSER, GFP_KERNEL, GFP_NOFS, GFP_NOIO
from mmcore.physical.lru import LruList
from mmcore.physical.pgtable import A
from mmcore.reclaim.pagevec import PAGEVEC_SIZE
from mmcore.reclaim.vmscan import DEF_PRIORITY, SHRINK_BATCH, ScanControl
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.machine import MAP_PRIVATE, PROT_READ, CpulessMachine
from tests.mmcore.test_filemap import file_space, pattern, waiting


def touched(pages: int, scheme: type = AnonVma, **kw: int) -> tuple[CpulessMachine, object, int]:
    m = CpulessMachine(scheme, **kw)
    mm = m.new_mm()
    a = m.mmap(mm, pages)
    for i in range(pages):
        m.store(mm, a + (i << 12), i)
    m.mem.reclaim.lru_add_drain()
    return m, mm, a


def pfn_at(m: CpulessMachine, mm: object, address: int) -> int:
    pte = m.mem.pgtables.ptes[m.mem.pgtables.pte_index(mm.pgd, address)]
    return pte >> 12 & m.mem.pgtables.PFN_MASK


# --- lists


def test_pagevecs_hold_sixteen_and_forget_the_freed():
    m = CpulessMachine(AnonVma)
    mem = m.mem
    zone = mem.pages.zones[0]
    pfns = [mem.pages.alloc_page(GFP_HIGHUSER, USER) for _ in range(PAGEVEC_SIZE)]
    for pfn in pfns[:-1]:
        mem.reclaim.lru_cache_add(pfn)
    assert len(zone.inactive) == 0 and mem.reclaim.pagevec_pages() == set(pfns[:-1])
    mem.pages.put_page(pfns[3])
    mem.pages.drain_pcp()
    again, others = -1, []
    while again != pfns[3]:  # the same frame with another life, on the other pagevec
        again = mem.pages.alloc_page(GFP_HIGHUSER, USER)
        others.append(again)
    mem.reclaim.lru_cache_add_active(again)
    mem.reclaim.lru_cache_add(pfns[-1])
    assert len(zone.inactive) == PAGEVEC_SIZE - 1 and len(zone.active) == 0
    mem.reclaim.lru_add_drain()
    assert list(zone.active) == [again] and mem.frames.flags[again] & PG_ACTIVE
    for pfn in {*pfns, *others}:
        mem.pages.put_page(pfn)
    m.audit()


def test_mark_page_accessed_climbs_in_three_steps():
    m = CpulessMachine(AnonVma)
    mem, flags = m.mem, m.mem.frames.flags
    pfn = mem.pages.alloc_page(GFP_HIGHUSER, USER)
    mark = mem.reclaim.mark_page_accessed
    mem.reclaim.lru_cache_add(pfn)
    mark(pfn)
    mark(pfn)
    assert flags[pfn] & (PG_REFERENCED | PG_ACTIVE) == PG_REFERENCED  # on no list yet: it cannot be activated
    mem.reclaim.lru_add_drain()
    mark(pfn)
    assert flags[pfn] & (PG_REFERENCED | PG_ACTIVE) == PG_ACTIVE and mem.vmstat.pgactivate == 1
    mark(pfn)
    assert flags[pfn] & (PG_REFERENCED | PG_ACTIVE) == PG_ACTIVE | PG_REFERENCED
    mark(pfn)
    assert mem.vmstat.pgactivate == 1
    mem.pages.put_page(pfn)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["add", "tail", "remove", "take", "rotate"]), st.integers(0, 40)), max_size=60),
    st.sets(st.integers(0, 40)),
)
def test_bulk_list_operations_are_the_single_ones(steps, busy):
    frames = Frames(64)
    for pfn in busy:
        frames.flags[pfn] = PG_WRITEBACK
    lru, model = LruList(frames), []
    for what, n in steps:
        if what in ("add", "tail") and n not in model:
            if what == "add":
                lru.add(n)
                model.append(n)
            else:
                lru.add_tail(n)
                model.insert(0, n)
        elif what == "remove" and n in model:
            lru.remove(n)
            model.remove(n)
        elif what == "take":
            assert lru.take_tail(n) == model[:n]
            del model[:n]
        elif what == "rotate":
            moved = lru.rotate_tail(n, PG_WRITEBACK)
            if all(pfn in busy for pfn in model[:n]):
                assert moved == min(n, len(model))
                model = model[n:] + model[:n]
            else:
                assert moved == 0
        assert list(lru) == model and len(lru) == len(model)


# --- shrink_zone


@pytest.mark.parametrize(
    ("active", "inactive", "priority", "refill", "shrink"),
    [
        (4000, 1000, 12, 0, 0),  # 1 inactive, 1 * 4000 // 2001 + 1 active: below 32, carried over
        (4000, 1000, 6, 78 * 4000 // 2001 + 1, 78),
        (9000, 10, 6, 4 * 140 + 1, 140),  # active is four times (twice inactive plus one): the cap
        (0, 64, 1, 0, 32),
    ],
)
def test_how_much_is_scanned(active, inactive, priority, refill, shrink, monkeypatch):
    m = CpulessMachine(AnonVma)
    scan, asked = m.mem.reclaim, {"refill": 0, "shrink": 0}
    zone = m.mem.pages.zones[0]
    monkeypatch.setattr(scan, "_refill_inactive_zone", lambda z, n, sc: asked.__setitem__("refill", n))
    monkeypatch.setattr(scan, "_shrink_cache", lambda z, n, sc: asked.__setitem__("shrink", n) or 0)
    zone.active.n, zone.inactive.n = active, inactive
    sc = ScanControl(GFP_KERNEL, False, 0)
    sc.priority = priority
    scan._shrink_zone(zone, sc)
    zone.active.n = zone.inactive.n = 0
    assert asked == {"refill": refill, "shrink": shrink}


def test_small_scans_add_up():
    m, mm, a = touched(200)
    zone = m.mem.pages.zones[0]
    sc = ScanControl(GFP_KERNEL, False, 0)
    sc.priority = 5
    n = len(zone.active) >> 5
    rounds = 0
    while not m.mem.vmstat.pgrefill_dma:
        m.mem.reclaim._shrink_zone(zone, sc)
        rounds += 1
    per_round = 4 * n + 1
    assert rounds == -(-32 // per_round) and m.mem.vmstat.pgrefill_dma == rounds * per_round


def test_mapped_pages_are_spared_until_swap_tendency_reaches_100():
    m, mm, a = touched(300, memory=16 << 20)
    scan, zone, v = m.mem.reclaim, m.mem.pages.zones[0], m.mem.vmstat
    for i in range(300):  # idle, so that only the tendency decides
        m.mem.pgtables.ptes[m.mem.pgtables.pte_index(mm.pgd, a + (i << 12))] &= ~A
    n = len(zone.active)
    total = scan.total_memory
    for prev_priority, nr_mapped, down in (
        (12, 0, False),
        (12, total * 78 // 100, False),
        (2, 0, False),
        (12, total * 82 // 100, True),
    ):
        zone.prev_priority = prev_priority
        before = v.pgdeactivate
        scan._refill_inactive_zone(zone, 32, ScanControl(GFP_KERNEL, False, nr_mapped))
        assert (v.pgdeactivate - before) == (32 if down else 0), (prev_priority, nr_mapped)
    zone.prev_priority = 1  # distress 50
    before = v.pgdeactivate
    scan._refill_inactive_zone(zone, 32, ScanControl(GFP_KERNEL, False, 0))
    assert v.pgdeactivate - before == 32 and len(zone.active) == n - 64
    m.audit()


def test_young_pages_get_another_round():
    m, mm, a = touched(64)
    zone = m.mem.pages.zones[0]
    zone.prev_priority = 0
    sc = ScanControl(GFP_KERNEL, False, 64)
    m.mem.reclaim._refill_inactive_zone(zone, 64, sc)
    assert m.mem.vmstat.pgdeactivate == 0 and mm.flush_pending
    m.load(mm, a + 0x5000)
    hot = pfn_at(m, mm, a + 0x5000)
    m.mem.reclaim._refill_inactive_zone(zone, 64, sc)
    assert m.mem.vmstat.pgdeactivate == 63 and list(zone.active) == [hot]


def test_without_swap_anonymous_pages_stay_active():
    m, mm, a = touched(64, swap=0)
    zone = m.mem.pages.zones[0]
    zone.prev_priority = 0
    for _ in range(3):
        m.mem.reclaim._refill_inactive_zone(zone, 64, ScanControl(GFP_KERNEL, False, 64))
    assert len(zone.inactive) == 0 and len(zone.active) == 64


# --- a page's way


def to_inactive(m: CpulessMachine, mm: object, a: int, pages: int) -> list[int]:
    zone = m.mem.pages.zones[0]
    zone.prev_priority = 0
    for i in range(pages):
        m.mem.pgtables.ptes[m.mem.pgtables.pte_index(mm.pgd, a + (i << 12))] &= ~A
    m.mem.reclaim._refill_inactive_zone(zone, len(zone.active), ScanControl(GFP_KERNEL, False, 1 << 20))
    return list(zone.inactive)


@pytest.mark.parametrize("scheme", [AnonVma, PteChain])
def test_an_idle_anonymous_page_is_unmapped_written_rotated_freed(scheme):
    m, mm, a = touched(32, scheme)
    mem, zone, v, flags = m.mem, m.mem.pages.zones[0], m.mem.vmstat, m.mem.frames.flags
    pfns = to_inactive(m, mm, a, 32)
    sc = ScanControl(GFP_KERNEL, True, 32)
    assert mem.reclaim._shrink_cache(zone, 32, sc) == 0
    assert v.pswpout == 32 and v.nr_writeback == 32 and mm.rss == 0 and v.nr_mapped == 0
    assert all(
        flags[p] & (PG_WRITEBACK | PG_SWAPCACHE | PG_DIRTY | PG_LRU) == PG_WRITEBACK | PG_SWAPCACHE | PG_LRU
        for p in pfns
    )
    assert sc.nr_scanned == 64  # mapped pages count twice
    assert mem.reclaim._shrink_cache(zone, 64, sc) == 0 and sc.nr_scanned == 64  # still being written: only passed over
    m.audit("being written")
    while mem.disk.wait_next():
        pass
    assert v.pgrotated == 32 and v.nr_writeback == 0
    assert mem.reclaim._shrink_cache(zone, 32, sc) == 32
    assert v.pgsteal_dma == 32 == v.kswapd_steal and not mem.swap.cache
    m.audit("freed")
    assert all(m.load(mm, a + (i << 12)) == i for i in range(32))


def test_a_referenced_mapped_page_is_activated():
    m, mm, a = touched(32)
    pfns = to_inactive(m, mm, a, 32)
    m.load(mm, a + 0x7000)
    hot = pfn_at(m, mm, a + 0x7000)
    zone = m.mem.pages.zones[0]
    m.mem.reclaim._shrink_cache(zone, 32, ScanControl(GFP_KERNEL, False, 32))
    assert list(zone.active) == [hot] and m.mem.vmstat.pgactivate == 1 and len(pfns) == 32
    m.audit()


def test_locked_areas_are_never_unmapped():
    m, mm, a = touched(32)
    do_mlock(m.mem, mm, a, 16 << 12)
    to_inactive(m, mm, a, 32)
    zone = m.mem.pages.zones[0]
    m.mem.reclaim._shrink_cache(zone, 32, ScanControl(GFP_KERNEL, False, 32))
    assert mm.rss == 16 and len(zone.active) == 16 and m.mem.vmstat.pswpout == 16
    m.audit()


@pytest.mark.parametrize(("gfp", "written"), [(GFP_NOIO, 0), (GFP_NOFS, 32), (GFP_KERNEL, 32)])
def test_swap_needs_io_and_files_need_fs(gfp, written):
    m, mm, a = touched(32)
    to_inactive(m, mm, a, 32)
    m.mem.reclaim._shrink_cache(m.mem.pages.zones[0], 32, ScanControl(gfp, False, 32))
    assert m.mem.vmstat.pswpout == written
    space, store, _ = file_space(m, b"")
    space.write(0, pattern(4 << 12))
    m.mem.reclaim.lru_add_drain()
    for pfn in space.pages.values():
        m.mem.frames.flags[pfn] &= ~PG_REFERENCED
    m.mem.reclaim._shrink_cache(m.mem.pages.zones[0], 64, ScanControl(gfp, False, 0))
    assert store.writes == (4 if gfp == GFP_KERNEL else 0)
    m.audit()


def test_clean_unmapped_file_pages_go_at_once():
    m = CpulessMachine(AnonVma)
    space, store, file = file_space(m, pattern(20 << 12))
    waiting(m, space.read, 0, 20 << 12)
    m.mem.reclaim.lru_add_drain()
    zone = m.mem.pages.zones[0]
    sc = ScanControl(GFP_KERNEL, False, 0)
    assert m.mem.reclaim._shrink_cache(zone, 20, sc) == 20  # referenced, but in no page table
    assert not space.pages
    mm = m.new_mm()
    a = m.mmap(mm, 20, PROT_READ, MAP_PRIVATE, file=file)
    for i in range(20):
        m.load(mm, a + (i << 12))
    m.mem.reclaim.lru_add_drain()
    assert m.mem.reclaim._shrink_cache(zone, 20, sc) == 0
    assert len(zone.active) == 20  # young
    m.audit()


def test_a_failing_disk_slot_activates():
    m, mm, a = touched(40, swap=16 << 12)  # 15 slots
    to_inactive(m, mm, a, 40)
    zone = m.mem.pages.zones[0]
    m.mem.reclaim._shrink_cache(zone, 40, ScanControl(GFP_KERNEL, False, 40))
    assert m.mem.vmstat.pswpout == 15 and len(zone.active) == 25
    m.audit()


# --- who calls


def test_kswapd_restores_the_high_mark_and_does_nothing_above_it():
    m = CpulessMachine(AnonVma, memory=16 << 20)
    mem, zone = m.mem, m.mem.pages.zones[0]
    mem.reclaim.kswapd()
    assert mem.vmstat.pgscan_kswapd_dma == 0
    space, _, _ = file_space(m, pattern(1000 << 12))
    for i in range(0, 1000, 32):
        waiting(m, space.read, i << 12, 32 << 12)
    held = []
    while zone.free_pages > zone.pages_low:
        held.append(mem.pages.alloc_page(GFP_HIGHUSER, USER))
    mem.reclaim.wakeup_kswapd()
    assert mem.reclaim.kswapd_wanted
    mem.reclaim.kswapd()
    mem.pages.drain_pcp()
    assert zone.free_pages > zone.pages_high and mem.vmstat.kswapd_steal > 0 and not mem.reclaim.kswapd_wanted
    for pfn in held:
        mem.pages.put_page(pfn)
    m.audit()


def test_unreclaimable_zones_are_given_up_and_taken_up_again():
    m, mm, a = touched(400, memory=8 << 20, swap=0)
    mem, zone = m.mem, m.mem.pages.zones[0]
    do_mlock(mem, mm, a, 400 << 12)
    held = []
    while zone.free_pages > zone.pages_low:
        held.append(mem.pages.alloc_page(GFP_HIGHUSER, USER))
    zone.pages_scanned = 2 * zone.present_pages + 1
    mem.reclaim.kswapd()
    assert zone.all_unreclaimable
    scanned = mem.vmstat.pgrefill_dma
    mem.reclaim.kswapd()
    assert mem.vmstat.pgrefill_dma - scanned < 100  # at the first priority only
    for pfn in held:
        mem.pages.put_page(pfn)
    mem.pages.drain_pcp()
    assert not zone.all_unreclaimable and zone.pages_scanned == 0


def test_direct_reclaim_counts_and_restores_priorities():
    m, mm, a = touched(1500, memory=8 << 20)
    v, zone = m.mem.vmstat, m.mem.pages.zones[0]
    stalls = v.allocstall
    while not m.mem.reclaim.try_to_free_pages(GFP_KERNEL, 0):
        pass
    assert v.allocstall > stalls and v.pgscan_direct_dma >= v.pgsteal_dma - v.kswapd_steal >= 32
    assert zone.prev_priority == zone.temp_priority and m.mem.pages.memalloc == 0
    m.audit()


def test_shrink_all_frees_about_what_was_asked():
    m, mm, a = touched(1000)
    freed = m.mem.reclaim.shrink_all(100)
    assert 100 <= freed < 132 and 1000 - 200 < mm.rss <= 900
    m.audit()
    assert all(m.load(mm, a + (i << 12)) == i for i in range(1000))


def test_slab_shrinkers_are_asked_in_proportion():
    m, mm, a = touched(320)
    asked: list[int] = []
    objects = 100_000

    def scan(n: int, gfp: int) -> int:
        if n:
            asked.append(n)
        return objects

    shrinker = m.mem.reclaim.register_shrinker(scan)
    lru = sum(z.active.n + z.inactive.n for z in m.mem.pages.zones)
    m.mem.reclaim._shrink_slab(1, GFP_KERNEL)
    due = 4 * 1 // 2 * objects // (lru + 1)
    assert sum(asked) == due and m.mem.vmstat.slabs_scanned == due and max(asked) <= 128 and shrinker.nr == 0


def test_reclaim_is_deterministic():
    def run() -> tuple[object, ...]:
        m, mm, a = touched(3000, memory=8 << 20)
        for i in range(0, 3000, 3):
            m.load(mm, a + (i << 12))
        return (
            m.mem.clock.now,
            m.mem.vmstat.as_dict(),
            m.mem.meters.as_dict(),
            bytes(m.mem.frames.np_flags),
            bytes(m.mem.swap.areas[0].np_map),
        )

    assert run() == run()


# --- the disk


def submit(m: CpulessMachine, write: bool, position: int) -> int:
    pfn = m.mem.pages.alloc_page(GFP_HIGHUSER, USER)
    m.mem.frames.flags[pfn] |= PG_WRITEBACK if write else 1
    m.mem.vmstat.nr_writeback += write
    m.mem.disk.submit(write, position, pfn)
    return pfn


def test_seeks_cost_and_neighbours_share_a_request():
    m = CpulessMachine(AnonVma)
    disk, clock = m.mem.disk, m.mem.clock
    start = clock.now
    pfns = [submit(m, True, 100 + i) for i in range(1 + MAX_PAGES + 1)]
    while disk.wait_next():
        pass
    # the first goes alone, the next 31 together, one more; only the first seeks
    assert disk.writes_done == 3 and clock.now - start == SEEK_NS + len(pfns) * TRANSFER_NS
    start = clock.now
    submit(m, True, 5)
    while disk.wait_next():
        pass
    assert clock.now - start == SEEK_NS + TRANSFER_NS


def test_reads_pass_writes_but_not_for_ever():
    m = CpulessMachine(AnonVma)
    order: list[str] = []
    disk, flags = m.mem.disk, m.mem.frames.flags
    writes = [submit(m, True, i * 100) for i in range(4)]
    reads = [submit(m, False, 10_000 + i * 100) for i in range(6)]
    pending = dict.fromkeys(writes, "w") | dict.fromkeys(reads, "r")
    while disk.wait_next():
        for pfn in [p for p in pending if not flags[p] & (PG_WRITEBACK | 1)]:
            order.append(pending.pop(pfn))
    assert "".join(order) == "wrrwrrwrrw"
    assert all(flags[p] & PG_UPTODATE for p in reads)


def test_a_long_charge_lets_the_disk_work_all_the_while():
    m = CpulessMachine(AnonVma)
    for i in range(10):
        submit(m, True, i * 100)
    m.mem.clock.charge(20 * (SEEK_NS + TRANSFER_NS))
    assert m.mem.disk.writes_done == 10


def test_congestion_and_a_full_queue():
    m = CpulessMachine(AnonVma)
    disk, clock = m.mem.disk, m.mem.clock
    for i in range(CONGESTION_ON + 1):
        assert not disk.congested
        submit(m, True, i * 100)
    assert disk.congested
    start = clock.now
    disk.congestion_wait(100_000_000)
    assert 0 < clock.now - start <= SEEK_NS + TRANSFER_NS
    for i in range(NR_REQUESTS):
        submit(m, True, 1_000_000 + i * 100)
    assert disk.writes_done > 1  # submitting had to wait for room
    while disk.wait_next():
        pass
    assert not disk.congested
    start = clock.now
    disk.congestion_wait(100_000_000)
    assert clock.now - start == 100_000_000  # nothing to wait for: the whole timeout


def test_distress_is_noted_for_zones_that_direct_reclaim_passes_over() -> None:
    """2.6.7 sets temp_priority and prev_priority before it looks at all_unreclaimable: a zone that yields nothing is in
    distress, not at ease."""
    m = CpulessMachine(AnonVma)
    zone = m.mem.pages.zones[0]
    zone.all_unreclaimable = True
    m.mem.pages.memalloc += 1  # no OOM killer at the end: nobody is there to be killed
    m.mem.oom.out_of_memory = lambda gfp, order: None  # type: ignore[method-assign]
    assert m.mem.reclaim.try_to_free_pages(GFP_KERNEL, 0) == 0
    assert zone.prev_priority == 0
    zone.all_unreclaimable = False
    m.mem.reclaim.kswapd()
    assert zone.prev_priority == DEF_PRIORITY


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
