"""Whoever waits for a page keeps it: between the end of the read and the task's turn reclaim leaves the page, the
auditor counts the reference, and the page is free to go once the access is made, or the task is dead."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mmcore.calls.swapoff import swap_off
from mmcore.errors import MustWait
from mmcore.memory import CurrentTask
from mmcore.paging.fault import DONE
from mmcore.paging.pagewait import TURN_NS, TURN_PAGES
from sandbox.kit.files import host_file, tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_PRIVATE, MAP_SHARED
from tests.mmcore.box import AT, DISTINCT, Box

each = pytest.mark.parametrize("scheme", DISTINCT)


BYTES = [bytes([k + 1]) * 4096 for k in range(8)]


def _swap(b: Box) -> Callable[[], object]:
    b.map(0, 8)
    b.put(*range(8))
    b.swap_out()
    return lambda: b.mem.faults.do_page_fault(b.mm, AT, 4)


def _file(flags: int, write: int) -> Callable[[Box], Callable[[], object]]:
    def prepare(b: Box) -> Callable[[], object]:
        b.map(0, 8, flags=MAP_FIXED | flags, file=host_file(b.mem, BYTES))
        return lambda: b.mem.faults.do_page_fault(b.mm, AT, 4 | write)

    return prepare


def _tmpfs(b: Box) -> Callable[[], object]:
    b.map(0, 8, flags=MAP_FIXED | MAP_SHARED, file=tmpfs_file(b.mem, 8))
    b.put(*range(8))
    b.swap_out()
    return lambda: b.mem.faults.do_page_fault(b.mm, AT, 4)


def _kernel(b: Box) -> Callable[[], object]:
    _swap(b)
    return lambda: b.mem.faults.fault_in(b.mm, AT, True)


def _read(b: Box) -> Callable[[], object]:
    space = host_file(b.mem, BYTES).mapping
    return lambda: space.read(0, 4096)


def _write(b: Box) -> Callable[[], object]:
    space = host_file(b.mem, BYTES).mapping
    return lambda: space.write(1, b"x")


ROADS = {
    "swap": _swap,
    "shared file": _file(MAP_SHARED, 0),
    "early copy": _file(MAP_PRIVATE, 2),
    "tmpfs": _tmpfs,
    "kernel": _kernel,
    "read": _read,
    "write": _write,
}


def waits(access: Callable[[], object], b: Box) -> bool:
    """Tries the access; whether it has to wait (then the page is there when this returns)."""
    try:
        access()
    except MustWait as wait:
        b.audit("waits")
        b.mem.reclaim.wait_sync(wait.queue)
        return True
    return False


@each
@pytest.mark.parametrize("road", ROADS)
def test_the_page_is_there_when_its_reader_runs(scheme: str, road: str) -> None:
    b = Box(scheme)
    access = ROADS[road](b)
    assert waits(access, b)
    reads = b.mem.vmstat.pgpgin
    b.swap_out()  # takes all it can get
    b.audit("between")
    assert not waits(access, b) and b.mem.vmstat.pgpgin == reads
    b.mem.awaited.let_go(b.mem.current)
    b.audit("done")
    assert not b.mem.awaited.held and not b.mem.awaited.users


@each
@pytest.mark.parametrize("road", ROADS)
def test_a_reader_that_dies_gives_the_page_back(scheme: str, road: str) -> None:
    b = Box(scheme)
    access = ROADS[road](b)
    assert waits(access, b)
    (pfn,) = b.mem.awaited.references()
    b.mem.awaited.let_go(b.mem.current)
    b.audit("dead")
    b.swap_out()
    assert b.mem.frames.count[pfn] == 0
    assert waits(access, b)  # it is read once more
    b.mem.awaited.let_go(b.mem.current)


def test_the_auditor_counts_the_reference() -> None:
    b = Box("anon_vma")
    assert waits(_swap(b), b)
    b.mem.frames.count[next(iter(b.mem.awaited.references()))] += 1
    assert any("count is not that of its 2 users" in text for text in b.auditor.audit())
    b.mem.awaited.held.clear()
    assert any("count is not that of its 1 users" in text for text in b.auditor.audit())


def test_two_wait_for_one_page_and_the_second_finds_it_exclusive() -> None:
    """References of the wait do not make a copy where the page is the task's own."""
    b = Box("pte_chain")
    access = _swap(b)
    first, second = CurrentTask(), CurrentTask()
    for task in (first, second):
        b.mem.current = task
        with pytest.raises(MustWait) as wait:
            b.mem.faults.do_page_fault(b.mm, AT, 6)
    assert list(b.mem.awaited.references().values()) == [2]
    b.audit("two")
    b.mem.reclaim.wait_sync(wait.value.queue)
    b.mem.current = first
    b.mem.awaited.let_go(second)
    cow = b.mem.meters.cow
    assert b.mem.faults.do_page_fault(b.mm, AT, 6) == DONE and b.mem.meters.cow == cow
    assert access() == DONE
    b.mem.awaited.let_go(first)
    b.audit("done")


def test_a_call_that_needs_several_pages_gets_them_all() -> None:
    """Between two waits everything is taken that can be taken: each attempt gets one page further all the same."""
    b = Box("anon_vma")
    _swap(b)
    for attempt in range(8 + 1):
        try:
            for page in range(8):
                b.mem.faults.fault_in(b.mm, AT + (page << 12), True)
            break
        except MustWait as wait:
            b.mem.reclaim.wait_sync(wait.queue)
            b.swap_out()
            b.audit(f"attempt {attempt}")
    else:
        raise AssertionError("the call does not get its pages")
    b.mem.awaited.let_go(b.mem.current)
    b.audit("done")
    b.has(*range(8))


def test_swapoff_keeps_the_page_it_waits_for() -> None:
    b = Box("anon_vma")
    _swap(b)
    reads = b.mem.vmstat.pswpin
    for queue in swap_off(b.mem, b.mem.swap.areas[0]):
        b.mem.reclaim.wait_sync(queue)
        b.audit("between")
        b.swap_out()
    assert b.mem.vmstat.pswpin - reads == 8
    b.has(*range(8))
    b.audit("off")


def test_where_waiting_tasks_hold_half_of_the_pages_few_may_read() -> None:
    b = Box("anon_vma")
    _swap(b)
    awaited, mem = b.mem.awaited, b.mem
    b.map(100, 40)
    b.put(*range(100, 140))
    tasks = [CurrentTask() for _ in range(60)]
    for task, page in zip(tasks, range(100, 140)):
        mem.current = task
        awaited.keep(b.pfn(page))
    listed = sum(zone.active.n + zone.inactive.n for zone in mem.pages.zones)
    turns = max(1, listed // TURN_PAGES)
    reading, queued = [], []
    for task in tasks[40:]:
        mem.current = task
        try:
            awaited.take_turn()
            reading.append(task)
        except MustWait as wait:
            wait.queue.add(waiter := _Waiter())
            queued.append(waiter)
    assert len(reading) == turns and len(queued) == 20 - turns
    mem.current = tasks[0]
    awaited.take_turn()  # who holds a page goes on
    awaited.end_turn(reading[0])
    assert [waiter.woken for waiter in queued].count(True) == 1
    mem.clock.advance_to(mem.clock.now + 2 * TURN_NS)  # nobody has ended, but each had its turn
    assert [waiter.woken for waiter in queued].count(True) > 1
    for task in tasks:
        awaited.let_go(task)
    b.audit("done")


def test_mlock_needs_no_turn() -> None:
    """It waits on the spot, where nobody else could go on."""
    b = Box("anon_vma")
    _swap(b)
    b.map(100, 4)
    b.put(*range(100, 104))
    other, me = CurrentTask(), b.mem.current
    b.mem.current = other
    for page in range(100, 104):
        b.mem.awaited.keep(b.pfn(page))
    b.mem.awaited.turns[other] = b.mem.clock.now + TURN_NS
    b.mem.current = me
    assert b.mem.faults.make_pages_present(b.mm, AT, AT + (8 << 12)) == 0
    assert not b.mem.awaited.held.get(me)
    b.mem.awaited.let_go(other)
    b.audit("done")


def test_the_last_resort_takes_what_others_keep() -> None:
    b = Box("anon_vma")
    assert waits(_swap(b), b)
    (pfn,) = b.mem.awaited.references()
    b.mem.current = CurrentTask()
    assert not b.mem.awaited.revoke()  # the disk is at work yet, and may bring what is wanted
    while b.mem.disk.wait_next():
        pass
    assert b.mem.awaited.revoke() and not b.mem.awaited.revoke()
    b.audit("revoked")
    b.swap_out()
    assert b.mem.frames.count[pfn] == 0


class _Waiter:
    woken = False

    def wake(self, queue: object) -> None:
        self.woken = True
