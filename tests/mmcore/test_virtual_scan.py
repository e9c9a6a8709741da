"""virtual_scan and the reclaim under it: the order of the scan, what it passes over, when a page can go, and that
memory does not run out before its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcore.areas.vma import VM_RESERVED
from mmcore.calls.fremap import remap_file_pages
from mmcore.calls.mlock import do_mlock
from mmcore.errors import PluginError
from mmcore.memory import Memory, MemoryConfig
from mmcore.physical.frames import PG_ACTIVE, PG_ANON, PG_DIRTY, PG_LOCKED, PG_REFERENCED, PG_SWAPCACHE
from mmcore.physical.gfp import GFP_KERNEL
from mmcore.physical.pgtable import FILE, A, P
from mmcore.reclaim.scan24 import priority_24
from mmcore.reclaim.vmscan import ScanControl
from mmcore.rmap import Card, ScanScheme
from mmcore.rmap.core import SWAP_FAIL
from rmap_plugins.virtual_scan import VirtualScan
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_READ, CpulessMachine
from sandbox.schemes.registry import load_scheme
from tests.mmcore.box import AT, Box
from tests.mmcore.test_filemap import file_space, pattern

both = pytest.mark.parametrize("paging", ["pae", "2level"])
END = 2000  # a page beyond everything: its area is the last one of the address space


class Scan(Box):
    """A box under virtual_scan. `idle` makes pages candidates: not young, on the inactive list."""

    def __init__(self, paging: str = "pae", **more: Any) -> None:
        super().__init__("virtual_scan", paging, **more)
        self.zone = self.mem.pages.zones[0]
        self.scheme: Any = self.mem.scheme

    def idle(self, *pages: int, mm: Any = None) -> None:
        self.mem.reclaim.lru_add_drain()
        for page in pages:
            i, pfn = self.index(page, mm), self.pfn(page, mm)
            self.mem.pgtables.ptes[i] &= ~A
            self.down(pfn)

    def down(self, pfn: int) -> None:
        flags = self.mem.frames.flags
        if flags[pfn] & PG_ACTIVE:
            self.zone.active.remove(pfn)
            self.zone.inactive.add(pfn)
        flags[pfn] &= ~(PG_ACTIVE | PG_REFERENCED)

    def touched(self, first: int, pages: int, mm: Any = None) -> None:
        """An area of idle pages, each with a word of its own."""
        self.map(first, pages, mm=mm)
        self.put(*range(first, first + pages), mm=mm)
        self.idle(*range(first, first + pages), mm=mm)

    def scan(self, goal: int = 32) -> int:
        return self.scheme.swap_out(12, self.zone, goal)

    def gone(self, pages: range, mm: Any = None) -> list[int]:
        """Which of the pages have no PTE any more."""
        return [page for page in pages if not self.pte(page, mm) & P]

    def ring(self) -> list[Any]:
        found, place = [], self.scheme._init_mm.next
        while place is not self.scheme._init_mm:
            found.append(place.mm)
            place = place.next
        return found


# --- the order


def test_mmlist_has_the_execed_first_and_the_forked_after_their_parents() -> None:
    b = Scan()
    second = b.new_mm()
    child = b.fork(b.mm)
    other = b.fork(b.mm)
    grandchild = b.fork(child)
    assert b.ring() == [second, b.mm, other, child, grandchild]
    b.exit(child)
    assert b.ring() == [second, b.mm, other, grandchild]
    b.audit()


def test_an_mm_that_exits_hands_the_scan_to_the_next() -> None:
    b = Scan()
    second = b.new_mm()
    for mm in (second, b.mm):
        b.touched(0, 8, mm)
        b.map(END, 1, mm=mm)
    assert b.scan(3) == 3 and b.scheme._swap_mm is second.rmap
    b.exit(second)
    assert b.scheme._swap_mm is b.mm.rmap
    assert b.scan(3) == 3 and b.gone(range(8)) == [0, 1, 2]
    b.exit(b.mm)
    assert b.scheme._swap_mm is b.scheme._init_mm and b.scan() == 0
    b.audit()


@both
def test_round_robin_from_each_mms_cursor(paging: str) -> None:
    b = Scan(paging)
    second = b.new_mm()  # before b.mm on mmlist
    for mm in (b.mm, second):
        b.touched(0, 10, mm)
        b.touched(1024, 10, mm)  # in another table
        b.map(END, 1, mm=mm)
    low, high = range(10), range(1024, 1034)
    assert b.scan(4) == 4
    assert b.gone(low, second) == [0, 1, 2, 3] and second.rmap.swap_address == AT + (4 << 12)
    assert b.scan(8) == 8  # over the end of the area into the next one
    assert b.gone(low, second) == list(low) and b.gone(high, second) == [1024, 1025] and not b.gone(low)
    b.audit()
    assert b.scan(10) == 10  # to the end of the mm, and on in the next one
    assert b.gone(high, second) == list(high) and b.gone(low) == [0, 1]
    assert second.rmap.swap_address == 0 and b.mm.rmap.swap_address == AT + (2 << 12)
    b.load(second, AT)
    b.idle(0, mm=second)
    assert b.scan(19) == 19  # what is left of b.mm, and second from its start
    assert b.gone(low) == list(low) and b.gone(high) == list(high) and b.gone(low, second) == list(low)
    assert b.mm.rmap.swap_address == 0 and second.rmap.swap_address == AT + (1 << 12)
    assert b.scan() == 0
    b.audit()
    for mm in (b.mm, second):
        b.has(*low, *high, mm=mm)


def test_a_goal_met_in_the_last_area_ends_the_round() -> None:
    """2.5.26 looked for the next area before it looked at the goal."""
    b = Scan()
    b.touched(0, 10)
    assert b.scan(4) == 4 and b.gone(range(10)) == [0, 1, 2, 3] and b.mm.rmap.swap_address == 0xC0000000
    b.load(b.mm, AT)
    b.idle(0)
    assert b.scan(2) == 2 and b.gone(range(10)) == [0, 1, 2, 3, 4]  # from the start again


def test_every_mm_is_visited_once_and_the_first_a_second_time() -> None:
    b = Scan()
    mms = [b.mm, b.new_mm(), b.new_mm()]
    for mm in mms:
        b.map(0, 1, mm=mm)
    meters = b.mem.meters
    assert b.scan() == 0 and meters.mms_visited == 4 == meters.vmas_visited
    b.touched(0, 1, mms[0])
    assert b.scan() == 1 and meters.mms_visited == 8


# --- what is passed over


@both
def test_what_the_scan_leaves_alone(paging: str) -> None:
    b = Scan(paging)
    mem, flags, ptes = b.mem, b.mem.frames.flags, b.mem.pgtables.ptes
    b.touched(0, 20)
    b.map(40, 2, PROT_READ)
    b.load(b.mm, AT + (40 << 12))  # the zero page
    b.touched(50, 2)
    do_mlock(mem, b.mm, AT + (50 << 12), 2 << 12)
    b.idle(50, 51)
    b.touched(60, 2)
    b.mm.find_vma(AT + (60 << 12)).vm_flags |= VM_RESERVED
    b.touched(70, 3)
    b.map(END, 1)
    ptes[b.index(3)] |= A
    flags[b.pfn(5)] |= PG_LOCKED
    locked = b.pfn(5)
    b.zone.inactive.remove(b.pfn(7))
    b.zone.active.add(b.pfn(7))
    flags[b.pfn(7)] |= PG_ACTIVE
    pin = mem.faults.get_user_page(b.mm, AT + (9 << 12), True)
    b.idle(9)
    mem.meters.ptes_probed = 0
    assert b.scan(16 + 3) == 16 + 3
    there = [p for p in range(80) if b.pte(p) & P]
    assert there == [3, 5, 7, 9, 40, 50, 51, 60, 61]
    assert b.pte(3) & P and not b.pte(3) & A and flags[b.pfn(3)] & PG_REFERENCED
    assert all(flags[b.pfn(p)] & PG_REFERENCED for p in (50, 51))
    assert mem.meters.scan_young == 3 and mem.meters.scan_unmapped == 19 and mem.meters.ptes_probed == 20 + 2 + 2 + 3
    flags[locked] &= ~PG_LOCKED
    mem.pages.put_page(pin)
    b.mm.find_vma(AT + (60 << 12)).vm_flags &= ~VM_RESERVED
    b.audit()
    b.has(*range(20), 50, 51, 60, 61, 70, 71, 72)


def test_pages_of_another_zone_are_passed_over() -> None:
    m = CpulessMachine(VirtualScan, memory=24 << 20)
    mem = m.mem
    mm = m.new_mm()
    at = m.mmap(mm, 64)
    pfns = []
    for page in range(64):
        m.store(mm, at + (page << 12), page)
        pfns.append(mem.pgtables.ptes[mem.pgtables.pte_index(mm.pgd, at + (page << 12))] >> 12 & mem.pgtables.PFN_MASK)
    mem.reclaim.lru_add_drain()
    dma, normal, _ = mem.pages.zones
    assert all(pfn >= normal.start_pfn for pfn in pfns)
    for pfn in pfns:
        normal.active.remove(pfn)
        normal.inactive.add(pfn)
        mem.frames.flags[pfn] &= ~PG_ACTIVE
    _rest(m, mm)
    assert mem.scheme.swap_out(12, dma, 32) == 0 and mm.rss == 64
    assert mem.scheme.swap_out(12, normal, 32) == 32 and mm.rss == 32
    m.audit()


def _rest(m: CpulessMachine, mm: Any) -> None:
    ptes = m.mem.pgtables.np_ptes
    for _, base in m.mem.pgtables.tables(mm.pgd, 0, 0xC0000000):
        ptes[base : base + m.mem.pgtables.PTRS] &= ptes.dtype.type(~A & (1 << 8 * ptes.itemsize) - 1)


# --- what becomes of a page


@both
def test_anonymous_pages_get_swap_file_pages_are_dropped_dirt_moves_to_the_page(paging: str) -> None:
    b = Scan(paging)
    mem, flags, v = b.mem, b.mem.frames.flags, b.mem.vmstat
    space, _, file = file_space(b, pattern(4 << 12))
    b.touched(0, 2)
    b.map(10, 4, flags=MAP_FIXED | MAP_SHARED, file=file)
    b.load(b.mm, AT + (10 << 12))
    b.store(b.mm, AT + (11 << 12), 77)
    b.map(20, 2, flags=MAP_FIXED | MAP_PRIVATE, file=file)
    b.store(b.mm, AT + (20 << 12), 78)
    b.map(END, 1)
    b.idle(10, 11, 20)
    for pfn in space.pages.values():
        b.down(pfn)
    anon, clean, dirty, copied = b.pfn(0), b.pfn(10), b.pfn(11), b.pfn(20)
    assert flags[copied] & PG_ANON and not flags[dirty] & PG_DIRTY
    assert b.scan() == 5 and b.mm.rss == 0 and v.nr_mapped == 0
    assert b.pte(10) == 0 == b.pte(11) and not flags[clean] & PG_DIRTY and flags[dirty] & PG_DIRTY
    for pfn, page in ((anon, 0), (copied, 20)):
        assert flags[pfn] & (PG_SWAPCACHE | PG_DIRTY | PG_ANON) == PG_SWAPCACHE | PG_DIRTY
        assert (
            mem.pgtables.pte_to_swp(b.pte(page)) == mem.frames.private[pfn]
            and mem.swap.swap_count(mem.frames.private[pfn]) == 2
        )
    b.audit()
    faults = v.pgmajfault
    b.has(0, 1)
    assert b.load(b.mm, AT + (20 << 12)) == 78 and b.load(b.mm, AT + (11 << 12)) == 77
    assert v.pgmajfault == faults and b.pfn(0) == anon  # all were in memory still
    b.audit()


def test_neighbours_in_memory_are_neighbours_in_swap() -> None:
    """Slots are given in the order of addresses, whatever the order of the frames."""
    b = Scan()
    b.map(0, 24)
    b.put(*reversed(range(24)))
    b.idle(*range(24))
    b.map(END, 1)
    assert b.scan() == 24
    slots = [b.mem.pgtables.pte_to_swp(b.pte(page)) for page in range(24)]
    assert slots == list(range(slots[0], slots[0] + 24))


def test_a_page_that_cannot_have_a_slot_keeps_its_pte() -> None:
    b = Scan(swap=6 << 12)  # five slots
    b.touched(0, 8)
    b.map(END, 1)
    assert b.scan() == 5 and b.mm.rss == 3 and b.gone(range(8)) == [0, 1, 2, 3, 4]
    b.audit()
    assert b.scan() == 0 and b.mm.rss == 3
    b.has(*range(8))


@both
@pytest.mark.parametrize("sharers", [2, 3, 7])
def test_a_page_mapped_n_times_goes_when_the_scan_met_them_all(paging: str, sharers: int) -> None:
    """... and a minor fault in between maps it again."""
    b = Scan(paging)
    b.map(0, 1)
    b.map(END, 1)
    b.put(0)
    mms = [b.mm] + [b.fork(b.mm) for _ in range(sharers - 1)]
    b.idle(0)
    for mm in mms[1:]:
        b.idle(0, mm=mm)
    pfn, frames, v = b.pfn(0), b.mem.frames, b.mem.vmstat
    order = b.ring()
    scan_one = lambda mm: b.mem.reclaim.try_to_swap_out(mm.find_vma(AT), AT, AT + 4096, b.zone, 1)  # noqa: E731
    for n, mm in enumerate(order[:-1], 1):
        assert scan_one(mm) == (0, AT + 4096)
        assert frames.mapcount[pfn] == sharers - n and v.nr_mapped == 1 and frames.flags[pfn] & PG_ANON and mm.rss == 0
        b.audit()
    b.has(0, mm=order[0])  # minor: it is in the swap cache
    assert v.pgmajfault == 0 and frames.mapcount[pfn] == 2 and b.pfn(0, order[0]) == pfn
    b.idle(0, mm=order[0])
    assert scan_one(order[-1]) == (0, AT + 4096) and frames.mapcount[pfn] == 1
    assert scan_one(order[0]) == (1, AT + 4096) and frames.mapcount[pfn] == 0 and v.nr_mapped == 0
    assert not frames.flags[pfn] & PG_ANON and b.mem.meters.scan_unmapped == sharers + 1
    b.audit()
    for mm in mms:
        b.has(0, mm=mm)


def test_one_pass_over_young_pages_frees_nothing() -> None:
    b = Scan()
    b.map(0, 40)
    b.put(*range(40))
    b.map(END, 1)
    b.mem.reclaim.lru_add_drain()
    flags, v = b.mem.frames.flags, b.mem.vmstat
    b.mm.flush_pending = False
    meters = b.mem.meters
    assert b.scan() == 0 and b.mm.rss == 40 and meters.scan_young == 40 and meters.scan_unmapped == 0
    assert b.mm.flush_pending and not any(b.pte(page) & A for page in range(40))
    assert all(flags[b.pfn(page)] & (PG_REFERENCED | PG_ACTIVE) == PG_REFERENCED | PG_ACTIVE for page in range(40))
    b.mm.flush_pending = False
    assert b.scan() == 0 and b.mm.rss == 40 and not b.mm.flush_pending  # active pages stay; nothing was young
    sc = ScanControl(GFP_KERNEL, True, 40)
    b.mem.reclaim._refill_inactive_zone(b.zone, 40, sc)
    assert v.pgdeactivate == 0 and len(b.zone.active) == 40  # marked: another round
    b.mem.reclaim._refill_inactive_zone(b.zone, 40, sc)
    assert v.pgdeactivate == 40 and all(
        flags[b.pfn(page)] & (PG_REFERENCED | PG_ACTIVE) == PG_REFERENCED for page in range(40)
    )
    b.load(b.mm, AT + (6 << 12))
    assert b.scan() == 32 and b.gone(range(40)) == [page for page in range(33) if page != 6]
    assert flags[b.pfn(6)] & (PG_REFERENCED | PG_ACTIVE) == PG_ACTIVE  # one use brought it back
    b.audit()


def test_the_goal_stops_the_scan_to_the_pte() -> None:
    b = Scan()
    b.touched(0, 20)
    b.map(END, 1)
    ptes = b.mem.pgtables.ptes
    for page in (2, 10):
        ptes[b.index(page)] |= A
    b.mem.meters.ptes_probed = 0
    assert b.scan(6) == 6
    assert b.gone(range(20)) == [0, 1, 3, 4, 5, 6] and b.mm.rmap.swap_address == AT + (7 << 12)
    assert not b.pte(2) & A and b.pte(10) & A  # the scan did not come to the second
    assert b.mem.meters.ptes_probed == 7 and b.mem.meters.scan_young == 1 and b.mem.meters.scan_unmapped == 6
    b.audit()


@pytest.mark.parametrize("referenced", [False, True])
def test_many_pages_are_marked_as_one_by_one(referenced: bool) -> None:
    one, many = Scan(), Scan()
    for b in (one, many):
        b.touched(0, 30)
        for page in range(0, 30, 3):
            b.mem.reclaim.mark_page_accessed(b.pfn(page))
            if referenced:
                b.mem.reclaim.mark_page_accessed(b.pfn(page))
    pfns = [one.pfn(page) for page in range(30)]
    for pfn in pfns:
        one.mem.reclaim.mark_page_accessed(pfn)
    many.mem.reclaim._mark_accessed(np.array(pfns))
    assert list(one.zone.active) == list(many.zone.active) and list(one.zone.inactive) == list(many.zone.inactive)
    assert one.mem.frames.np_flags.tolist() == many.mem.frames.np_flags.tolist()
    assert one.mem.vmstat.pgactivate == many.mem.vmstat.pgactivate > 0
    many.audit()


@both
def test_nonlinear_areas_keep_their_offsets(paging: str) -> None:
    """... and an area that maps a page twice counts it once, when its second PTE goes."""
    b = Scan(paging)
    file = tmpfs_file(b.mem, 8)
    b.map(0, 8, flags=MAP_FIXED | MAP_SHARED, file=file)
    b.put(*range(8))
    assert remap_file_pages(b.mem, b.mm, AT, 0x2000, 0, 5, 0) is None  # pages 0, 1 show 5, 6, which 5 and 6 show too
    b.map(END, 1)
    for page, shows in ((0, 5), (1, 6)):
        assert b.load(b.mm, AT + (page << 12)) == 1000 + shows
    b.idle(*range(8))
    before = b.mem.meters.ptes_probed
    assert b.scan(6) == 6 and b.mm.rss == 0  # 2-7: pages 0 and 1 of the file lost their PTEs to remap_file_pages
    assert b.mem.meters.ptes_probed - before == 8 and b.mem.meters.scan_unmapped == 8
    assert [b.mem.pgtables.pte_to_pgoff(b.pte(page)) for page in (0, 1)] == [5, 6] and b.pte(0) & FILE
    assert b.pte(5) == 0 == b.pte(2)
    b.audit()
    b.has(*range(2, 8))
    assert b.load(b.mm, AT) == 1005 and b.load(b.mm, AT + 4096) == 1006
    # Young through one PTE, the page is active before the scan comes to the other.
    b.idle(*range(8))
    b.mem.pgtables.ptes[b.index(0)] |= A
    b.mem.reclaim.mark_page_accessed(b.pfn(0))
    assert b.scan(5) == 5 and b.gone(range(8)) == [1, 2, 3, 4, 6, 7]
    b.audit()


# --- reclaim


def test_a_page_can_not_be_asked() -> None:
    b = Scan()
    b.touched(0, 1)
    pfn, rmap = b.pfn(0), b.mem.rmap
    b.mem.pgtables.ptes[b.index(0)] |= A
    assert rmap.page_referenced(pfn) == 0
    b.mem.frames.flags[pfn] |= PG_REFERENCED
    assert rmap.page_referenced(pfn) == 1 and not b.mem.frames.flags[pfn] & PG_REFERENCED and b.pte(0) & A
    assert rmap.try_to_unmap(pfn) == SWAP_FAIL and b.pte(0) & P
    assert b.mem.meters.walks == 0 == b.mem.meters.file_walks


def test_priorities_on_the_old_scale() -> None:
    assert [priority_24(p) for p in range(12, -1, -1)] == [6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 1]


@pytest.mark.parametrize(("priority", "allowed"), [(12, 5), (9, 6), (5, 10), (1, 30)])
def test_mapped_pages_stay_and_too_many_call_for_a_scan(
    priority: int, allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 pages on the list, of which a tenth of a 6th, 5th, 3rd or all may be met mapped; they add up over passes, and
    over no more than one scan."""
    b = Scan()
    b.touched(0, 300)
    scans: list[int] = []
    monkeypatch.setattr(b.mem.scheme, "swap_out", lambda priority, zone, goal: scans.append(priority) or 0)
    sc = ScanControl(GFP_KERNEL, True, 300)
    sc.priority = priority
    oldest = list(b.zone.inactive)
    met = 0
    while not scans:
        b.mem.reclaim._shrink_cache(b.zone, 1, sc)  # at least one batch
        met += 32
        assert list(b.zone.inactive)[-32:] == oldest[met - 32 : met]
    assert met == -(-(allowed + 1) // 32) * 32 and scans == [priority] and b.mm.rss == 300
    assert b.mem.reclaim._mapped_met == [0, 0, 0] and sc.nr_scanned == 2 * met
    b.mem.reclaim._shrink_cache(b.zone, 300, sc)
    assert len(scans) == 2
    b.audit()


def test_unmapped_pages_go_the_usual_way_referenced_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    b = Scan()
    b.touched(0, 20)
    b.touched(100, 4)
    b.map(END, 1)
    pfns = [b.pfn(page) for page in range(20)]
    assert b.scan(20) == 20
    for pfn in pfns:
        b.mem.frames.flags[pfn] |= PG_REFERENCED
    monkeypatch.setattr(b.mem.scheme, "swap_out", lambda priority, zone, goal: 0)
    sc = ScanControl(GFP_KERNEL, True, 4)
    reclaim, v = b.mem.reclaim, b.mem.vmstat
    assert reclaim._shrink_cache(b.zone, 24, sc) == 0 and v.pswpout == 20 and v.pgactivate == 0
    assert all(b.mem.frames.flags[pfn] & PG_REFERENCED for pfn in pfns)
    while b.mem.disk.wait_next():
        pass
    assert reclaim._shrink_cache(b.zone, 24, sc) == 20 and b.mm.rss == 4
    b.audit()
    b.has(*range(20), *range(100, 104))


def test_without_swap_anonymous_pages_stay_active() -> None:
    b = Scan(swap=0)
    b.touched(0, 32)
    b.mem.reclaim.lru_add_drain()
    for page in range(32):
        b.zone.inactive.remove(b.pfn(page))
        b.zone.active.add(b.pfn(page))
        b.mem.frames.flags[b.pfn(page)] |= PG_ACTIVE
    b.mem.reclaim._refill_inactive_zone(b.zone, 32, ScanControl(GFP_KERNEL, True, 32))
    assert len(b.zone.active) == 32 and not len(b.zone.inactive)


@pytest.mark.parametrize("asked", [1, 40, 300, 1000])
def test_the_trigger_frees_what_was_asked(asked: int) -> None:
    """Young, active, shared: several looks at every page, but no more pages than asked for."""
    b = Scan()
    b.map(0, 500)
    b.put(*range(500))
    child = b.fork(b.mm)
    b.has(*range(500), mm=child)
    assert b.mem.reclaim.shrink_all(asked) == min(asked, 500)
    b.audit()
    assert b.mem.vmstat.pswpout == min(asked, 500) == sum(b.out(page) for page in range(500))
    b.has(*range(500))
    b.has(*range(500), mm=child)


def test_the_trigger_gives_up_on_locked_memory() -> None:
    b = Scan()
    b.touched(0, 200)
    do_mlock(b.mem, b.mm, AT, 200 << 12)
    assert b.mem.reclaim.shrink_all(10) == 0 and b.mm.rss == 200 and b.mem.meters.scans < 60
    b.audit()


def _free(m: CpulessMachine) -> int:
    return sum(zone.free_pages for zone in m.mem.pages.zones)


@both
def test_twice_the_memory_and_most_of_it_locked(paging: str) -> None:
    """A storm over what two thirds of locked memory leave: it ends, nobody is killed, every word is right."""
    m = CpulessMachine(VirtualScan, memory=8 << 20, paging=paging)
    mm = m.new_mm()
    total = _free(m)
    locked, pages = total * 2 // 3, total
    keep = m.mmap(mm, locked)
    do_mlock(m.mem, mm, keep, locked << 12)
    at = m.mmap(mm, pages)
    for page in range(pages):
        m.store(mm, at + (page << 12), page)
    for page in range(0, pages, 3):
        assert m.load(mm, at + (page << 12)) == page
    assert mm.rss >= locked and m.mem.vmstat.pswpout > pages // 2 and not m.mem.oom.kills
    m.audit()


@both
@pytest.mark.parametrize("sharing", [MAP_PRIVATE, MAP_SHARED])
def test_files_beyond_memory_without_swap(paging: str, sharing: int) -> None:
    m = CpulessMachine(VirtualScan, memory=7 << 20, swap=0, paging=paging)
    mm = m.new_mm()
    pages = 2 * _free(m)
    _, _, file = file_space(m, pattern(pages << 12))
    keep = m.mmap(mm, 100)
    for page in range(100):
        m.store(mm, keep + (page << 12), page)
    at = m.mmap(mm, pages, PROT_READ | 2 * (sharing == MAP_SHARED), sharing, file=file)
    first = m.load(mm, at)
    for page in range(pages):
        m.load(mm, at + (page << 12))
        if sharing == MAP_SHARED and page % 5 == 0:
            m.store(mm, at + (page << 12) + 8, page)
    assert m.load(mm, at) == first and all(m.load(mm, keep + (page << 12)) == page for page in range(100))
    if sharing == MAP_SHARED:
        assert all(m.load(mm, at + (page << 12) + 8) == page for page in range(0, pages, 25))
    assert m.mem.meters.scan_unmapped > pages // 2 and not m.mem.oom.kills and m.mem.vmstat.pswpout == 0
    m.audit()


def test_many_sharers_of_more_than_memory() -> None:
    m = CpulessMachine(VirtualScan, memory=8 << 20, swap=32 << 20)
    mm = m.new_mm()
    pages = _free(m) * 5 // 4
    at = m.mmap(mm, pages)
    for page in range(pages):
        m.store(mm, at + (page << 12), page)
    children = [m.fork(mm) for _ in range(6)]
    for step in range(3 * pages):
        child, page = children[step * 7 % 6], step * 13 % pages
        assert m.load(child, at + (page << 12)) == page
    m.audit()
    assert not m.mem.oom.kills
    for one in (mm, *children):
        m.exit(one)
    m.audit()


# --- what it takes, and its own invariants


@pytest.mark.parametrize(("accounting", "page"), [("isolated", 28), ("historic", 36)])
def test_sizes(accounting: str, page: int) -> None:
    mem = Memory(MemoryConfig(memory_bytes=8 << 20, accounting=accounting), VirtualScan)
    assert mem.struct_page_bytes == page and mem.vma_cache.objsize == 64 and mem.mm_cache.objsize >= 452
    assert mem.setup.file_index == "list" and not mem.scheme.env.scheme_caches


CONTRACT = """
from mmcore.rmap import Card, RmapScheme, ScanScheme, WalkScheme
class Mine({bases}):
    card = Card(name="mine", title="", kernels="", origin="", complexity="")
    {hook}
"""


@pytest.mark.parametrize(
    ("bases", "hook", "said"),
    [
        ("ScanScheme", "pass", "lacks the hook swap_out(priority, zone, goal)"),
        ("ScanScheme", "def swap_out(self, zone): pass", "swap_out(zone) must take (priority, zone, goal)"),
        ("ScanScheme", "def swap_out(self, priority, zone, goal): return 0", ""),
        (
            "ScanScheme",
            "def walk(self, walk): pass\n    def swap_out(self, priority, zone, goal): return 0",
            "drop walk, or derive from WalkScheme",
        ),
        ("WalkScheme", "def swap_out(self, priority, zone, goal): return 0", "lacks the hook walk"),
        ("WalkScheme, ScanScheme", "pass", "derives from both WalkScheme and ScanScheme: keep one"),
        ("RmapScheme", "pass", "does not derive from mmcore.rmap.WalkScheme or ScanScheme"),
    ],
)
def test_the_contract_of_a_scan(tmp_path: Path, bases: str, hook: str, said: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(CONTRACT.format(bases=bases, hook=hook))
    if not said:
        assert load_scheme(f"{path}:Mine").card.name == "mine"
        return
    with pytest.raises(PluginError) as caught:
        load_scheme(f"{path}:Mine")
    assert said in str(caught.value)


def test_the_documented_example_works() -> None:
    """... and a scheme that wants to know hears of each PTE that a scan takes away."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "writing-a-scheme.md").read_text()
    block = next(part for part in text.split("```") if part.startswith("python\ndef swap_out"))
    names: dict[str, Any] = {}
    exec(block.removeprefix("python\n"), names)
    taken: list[int] = []

    class Example(ScanScheme):
        card = Card(name="example", title="", kernels="", origin="", complexity="")
        swap_out = names["swap_out"]

        def remove(self, vma: Any, pfns: Any, ptes: Any) -> None:
            taken.extend(pfns.tolist())

    m = CpulessMachine(Example, memory=8 << 20)
    mm = m.new_mm()
    pages = _free(m) * 3 // 2
    at = m.mmap(mm, pages)
    for page in range(pages):
        m.store(mm, at + (page << 12), page)
    assert all(m.load(mm, at + (page << 12)) == page for page in range(pages))
    assert len(taken) == m.mem.meters.scan_unmapped == m.mem.rmap.unmapped > pages // 2
    m.audit()


def test_a_range_that_is_not_the_areas() -> None:
    b = Scan()
    b.touched(0, 4)
    vma = b.mm.find_vma(AT)
    for start, end in ((AT - 4096, AT + 4096), (AT, AT + 0x5000), (AT + 0x2000, AT + 0x1000), (AT + 4, AT + 4096)):
        with pytest.raises(ValueError, match="are not pages of"):
            b.mem.reclaim.try_to_swap_out(vma, start, end, b.zone, 1)
    assert b.mem.reclaim.try_to_swap_out(vma, AT, AT, b.zone, 1) == (0, AT)
    assert b.mem.reclaim.try_to_swap_out(vma, AT, AT + 0x4000, b.zone, 0) == (0, AT)
    assert b.mm.rss == 4


def _forward(b: Scan) -> None:
    b.mm.rmap.next.prev = b.mm.rmap.prev


def _lost(b: Scan) -> None:
    b.mm.rmap.unlink()


def _cursor(b: Scan) -> None:
    b.mm.rmap.swap_address = 0xC0001000


def _swap_mm(b: Scan) -> None:
    place = b.mm.rmap
    b.exit(b.mm)
    b.scheme._swap_mm = place


def _count(b: Scan) -> None:
    b.scheme._mmlist_nr += 1


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_count, "has 2 address spaces and counts 3"),
        (_forward, "no link back"),
        (_lost, "has 1 address spaces, 2 live"),
        (_cursor, "swap_address 0xc0001000"),
        (_swap_mm, "swap_mm is not on mmlist"),
    ],
)
def test_damage_to_mmlist_is_noticed(damage: Any, said: str) -> None:
    b = Scan()
    b.fork(b.mm)
    assert not b.auditor.audit()
    damage(b)
    assert any(said in text for text in b.auditor.audit()), b.auditor.violations
