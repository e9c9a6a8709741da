"""Swap: slots, the swap cache, and what comes back from the device."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcore.errors import InvariantViolation, SysError
from mmcore.physical.frames import PG_LOCKED, PG_SWAPCACHE, PG_WRITEBACK
from mmcore.physical.gfp import GFP_KERNEL
from mmcore.reclaim.vmscan import ScanControl
from mmcore.swap.device import SWAPFILE_CLUSTER, SwapDevice
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.machine import CpulessMachine
from tests.mmcore.box import KINDS as SCHEMES


class NoSlab:
    def vmalloc(self, nbytes: int, name: str) -> int:
        return 1


def device(slots: int) -> SwapDevice:
    return SwapDevice(slots << 12, NoSlab(), np.zeros(max(slots, 1), np.uint16))  # type: ignore[arg-type]


# --- slots


def test_slots_come_in_order_and_never_the_header():
    d = device(1000)
    assert [d.get_page() for _ in range(999)] == list(range(1, 1000))
    assert d.get_page() == 0 and d.nr_free == 0


def test_a_new_cluster_is_the_first_free_run_of_256():
    d = device(2000)
    for _ in range(1999):
        d.get_page()
    for offset in [*range(10, 200), *range(700, 700 + SWAPFILE_CLUSTER), *range(1500, 1900)]:
        d.free(offset)
    d.cluster_nr = 0
    assert [d.get_page() for _ in range(3)] == [700, 701, 702]


def test_without_a_free_run_the_lowest_free_slot_is_taken():
    d = device(600)
    for _ in range(599):
        d.get_page()
    for offset in (17, 300, 44):
        d.free(offset)
    d.cluster_nr = 0
    assert d.get_page() == 17
    assert {d.get_page(), d.get_page()} == {44, 300}
    assert d.get_page() == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1 << 30)), max_size=400), st.integers(2, 600))
def test_slots_never_leak_nor_double(steps, slots):
    d = device(slots)
    used: list[int] = []
    for take, pick in steps:
        if take or not used:
            offset = d.get_page()
            assert (offset == 0) == (len(used) == slots - 1)
            if offset:
                assert offset not in used and 0 < offset < slots
                used.append(offset)
        else:
            assert d.free(used.pop(pick % len(used))) == 0
        assert d.nr_free == slots - 1 - len(used)


def test_a_free_slot_cannot_be_freed():
    d = device(10)
    d.free(d.get_page())
    with pytest.raises(InvariantViolation):
        d.free(1)


def test_readahead_is_the_aligned_block_up_to_the_first_free_slot():
    d = device(64)
    for _ in range(40):
        d.get_page()
    assert list(d.readahead_range(21, 3)) == list(range(16, 24))
    assert list(d.readahead_range(5, 3)) == list(range(1, 8))  # slot 0 is the header
    d.free(19)
    assert list(d.readahead_range(21, 3)) == [16, 17, 18]  # the entry itself is beyond: read alone
    assert list(d.readahead_range(21, 0)) == []


# --- pages


@pytest.mark.parametrize("scheme", SCHEMES)
def test_twice_the_ram_is_written_and_read_back(scheme):
    m = CpulessMachine(scheme, memory=8 << 20, swap=32 << 20)
    mm = m.new_mm()
    pages = 3000
    a = m.mmap(mm, pages)
    for i in range(pages):
        m.store(mm, a + (i << 12), i * 2654435761 & 0xFFFFFFFF)
    m.audit("written")
    for i in range(pages):
        assert m.load(mm, a + (i << 12)) == i * 2654435761 & 0xFFFFFFFF
    m.audit("read")
    v = m.mem.vmstat
    assert v.pswpout > 0 and v.pswpin > 0 and v.pgmajfault > 0 and v.pgrotated > 0
    m.exit(mm)
    m.mem.reclaim.shrink_all(10000)
    m.audit("gone")
    assert m.mem.swap.nr_swap_pages == m.mem.swap.total and not m.mem.swap.cache and m.mem.vmstat.nr_writeback == 0


@pytest.mark.parametrize("scheme", [AnonVma, PteChain])
@pytest.mark.parametrize("first", ["parent", "child"])
def test_shared_by_fork_then_swapped_then_written(scheme, first):
    """Both come back from one slot; a write after swap-in is seen by its writer only."""
    m = CpulessMachine(scheme, swap=16 << 20)
    mm = m.new_mm()
    a = m.mmap(mm, 64)
    for i in range(64):
        m.store(mm, a + (i << 12), i + 1)
    child = m.fork(mm)
    m.audit("forked")
    m.mem.reclaim.shrink_all(200)
    assert m.mem.vmstat.pswpout >= 64
    m.audit("out")
    order = (mm, child) if first == "parent" else (child, mm)
    for i in range(64):
        m.store(order[0], a + (i << 12), 1000 + i)
        assert m.load(order[1], a + (i << 12)) == i + 1
        assert m.load(order[0], a + (i << 12)) == 1000 + i
    m.audit("in")
    m.exit(child)
    m.exit(mm)
    m.audit("exit")
    assert m.mem.swap.nr_swap_pages == m.mem.swap.total


def test_a_pinned_page_stays_under_its_address():
    """Class 19 of docs/bug-classes.md: the holder of a pin and the process go on seeing the same frame."""
    m = CpulessMachine(AnonVma, swap=16 << 20)
    mm = m.new_mm()
    a = m.mmap(mm, 8)
    for i in range(8):
        m.store(mm, a + (i << 12), i)
    m.mem.current.mm = mm
    pfn = m.mem.faults.get_user_page(mm, a + 0x3000, True)
    m.mem.reclaim.shrink_all(100)
    assert m.mem.vmstat.pswpout >= 7
    m.store(mm, a + 0x3000, 77)
    assert m.mem.ram.u32[pfn << 10] == 77
    m.mem.pages.put_page(pfn)
    m.audit("unpinned")


def test_an_exclusive_page_gives_up_its_slot_when_swap_is_half_full():
    m = CpulessMachine(AnonVma, memory=16 << 20, swap=1 << 20)
    mm = m.new_mm()
    a = m.mmap(mm, 200)
    for i in range(200):
        m.store(mm, a + (i << 12), i)
    m.mem.reclaim.shrink_all(400)
    assert m.mem.swap.vm_swap_full()
    free = m.mem.swap.nr_swap_pages
    for i in range(50):
        assert m.load(mm, a + (i << 12)) == i
    assert m.mem.swap.nr_swap_pages >= free + 40
    m.audit()


def test_a_zapped_entry_frees_slot_and_cached_page():
    m = CpulessMachine(AnonVma, swap=16 << 20)
    mm = m.new_mm()
    a = m.mmap(mm, 32)
    for i in range(32):
        m.store(mm, a + (i << 12), i)
    m.mem.reclaim.shrink_all(100)
    assert m.load(mm, a) == 0  # readahead: neighbours sit in the cache, unmapped
    assert len(m.mem.swap.cache) > 1
    while m.mem.disk.wait_next():
        pass
    m.munmap(mm, a, 32)
    assert not m.mem.swap.cache and m.mem.swap.nr_swap_pages == m.mem.swap.total
    m.audit()


def test_swap_in_reads_neighbours_together_and_waits():
    m = CpulessMachine(AnonVma, swap=16 << 20)
    mem = m.mem
    mm = m.new_mm()
    a = m.mmap(mm, 64)
    for i in range(64):
        m.store(mm, a + (i << 12), i)
    mem.reclaim.shrink_all(200)
    pte = mem.pgtables.ptes[mem.pgtables.pte_index(mm.pgd, a + 0x8000)]
    entry = mem.pgtables.pte_to_swp(pte)
    mem.swap.swapin_readahead(entry)
    assert mem.vmstat.pswpin == len(mem.swap.areas[0].readahead_range(entry, 3))
    pfn = mem.swap.lookup_swap_cache(entry)
    assert mem.frames.flags[pfn] & (PG_LOCKED | PG_SWAPCACHE) == PG_LOCKED | PG_SWAPCACHE
    before = mem.clock.now
    queue = mem.reclaim.page_wait(pfn)
    mem.reclaim.wait_sync(queue)
    assert not mem.frames.flags[pfn] & PG_LOCKED and mem.clock.now > before
    mem.pages.put_page(pfn)
    m.audit()


def test_swap_duplicate_refuses_what_is_not_in_use():
    m = CpulessMachine(AnonVma, swap=1 << 20)
    for entry in (0, 5, 1 << 20, -1):
        with pytest.raises(SysError):
            m.mem.swap.swap_duplicate(entry)


def test_the_audit_notices_damage():
    m = CpulessMachine(AnonVma, swap=16 << 20)
    mm = m.new_mm()
    a = m.mmap(mm, 16)
    for i in range(16):
        m.store(mm, a + (i << 12), i)
    m.mem.reclaim.shrink_all(100)
    m.audit()
    m.mem.swap.map[3] += 1
    assert any("users" in text or "nobody" in text for text in m.auditor.audit())
    m.mem.swap.map[3] -= 1
    m.mem.swap.areas[0].nr_free -= 1
    assert any("on the books" in text for text in m.auditor.audit())


def test_nothing_is_lost_while_it_is_written():
    """A page taken back while its write is under way keeps the newer bytes."""
    m = CpulessMachine(AnonVma, swap=16 << 20)
    mem = m.mem
    mm = m.new_mm()
    a = m.mmap(mm, 40)
    for i in range(40):
        m.store(mm, a + (i << 12), i)
    sc = ScanControl(GFP_KERNEL, True, mem.vmstat.nr_mapped)
    for zone in mem.pages.zones:
        zone.prev_priority = 0
        for sc.priority in (4, 2, 0, 0):
            if zone.present_pages:
                mem.reclaim._shrink_zone(zone, sc)
    busy = [p for p in mem.swap.cache.values() if mem.frames.flags[p] & PG_WRITEBACK]
    assert busy
    for i in range(40):
        m.store(mm, a + (i << 12), 500 + i)
    mem.reclaim.shrink_all(200)
    for i in range(40):
        assert m.load(mm, a + (i << 12)) == 500 + i
    m.audit()
