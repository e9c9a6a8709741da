"""swapoff: what is on the device comes back, and the device goes; or it fails, and everything is as usable as
before."""

from __future__ import annotations

import errno
import random
from collections.abc import Generator
from typing import Any

import pytest

from mmcore.calls import swapoff
from mmcore.calls.mprotect import do_mprotect
from mmcore.calls.swapoff import swap_off
from mmcore.errors import InvariantViolation, OutOfMemory, SysError
from mmcore.paging.zap import zap_page_range
from mmcore.physical.frames import PG_DIRTY, PG_SWAPCACHE
from mmcore.physical.pgtable import FILE, PRESENT, PROTNONE, TASK_SIZE, A, P, W
from mmcore.swap import cache as swap_room
from mmcore.swap import device as swapfile
from sandbox.kit.files import tmpfs_file
from sandbox.kit.injection import Failing
from sandbox.kit.machine import MAP_FIXED, MAP_PRIVATE, MAP_SHARED, RW
from tests.mmcore.box import AT, SCHEMES, Box

each = pytest.mark.parametrize("scheme", SCHEMES)


def finish(b: Box, going: Generator[Any, None, None]) -> int:
    """Runs a swapoff to its end, waiting where it waits; returns how often it did."""
    waits = 0
    for queue in going:
        b.mem.reclaim.wait_sync(queue)
        waits += 1
    return waits


def assert_off(b: Box) -> None:
    mem = b.mem
    assert not mem.swap.areas[0].on and not mem.swap.cache and not mem.swap.areas[0].np_map[1:].any()
    assert mem.swap.total == mem.swap.nr_swap_pages == 0 and mem.swap.si_swapinfo() == (0, 0)
    assert "swap_map" not in dict(mem.slab.vmalloc_areas())
    for mm in mem.mms.values():
        assert not swap_entries(b, mm)


def swap_entries(b: Box, mm: Any) -> int:
    t = b.mem.pgtables
    entries = [t.ptes[base + k] for _, base in t.tables(mm.pgd, 0, TASK_SIZE) for k in range(t.PTRS)]
    return sum(1 for pte in entries if pte and not pte & (PRESENT | FILE))


@each
@pytest.mark.parametrize("paging", ["pae", "2level"])
def test_everything_comes_back(scheme: str, paging: str) -> None:
    """Private pages of a family, some written since, some moved, some cached, some out; and the pages of a tmpfs
    file."""
    b = Box(scheme, paging)
    file = tmpfs_file(b.mem, 40)
    b.map(0, 40)
    b.map(100, 40, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(*range(30), *range(100, 130))
    child = b.fork(b.mm)
    b.swap_out()
    b.put(0, 1, mm=child, plus=7)
    b.has(4, 5)
    b.swap_out()
    b.has(0, 1, 2, mm=b.mm)
    total, limit = b.mem.swap.total, b.mem.overcommit.commit_limit()
    finish(b, swap_off(b.mem, b.mem.swap.areas[0]))
    b.audit("off")
    assert_off(b)
    assert b.mem.overcommit.commit_limit() == limit - total
    b.has(*range(30))
    b.has(*range(2, 30), mm=child)
    b.has(0, 1, mm=child, plus=7)
    b.has(*range(100, 130), mm=child)
    assert not file.mapping.swapped and b.mem.meters.mremap_copies == 0
    b.put(*range(30), plus=99)
    b.has(5, mm=child)
    b.swap_out()
    b.audit("nothing can go out any more")
    assert all(b.pte(k) & P for k in range(30))


@each
def test_what_comes_back_is_old_protected_and_dirty(scheme: str) -> None:
    """It is nowhere but in RAM now: were swap turned on again, it would have to be written."""
    b = Box(scheme)
    b.map(0, 4)
    b.put(0, 1, 2, 3)
    b.swap_out()
    finish(b, swap_off(b.mem, b.mem.swap.areas[0]))
    assert all(b.pte(k) & (P | A | W) == P and b.mem.frames.flags[b.pfn(k)] & PG_DIRTY for k in range(4))
    b.mem.swap.areas.turn_on(b.mem.swap.areas[0])
    written = b.mem.vmstat.pswpout
    b.swap_out()
    assert b.mem.vmstat.pswpout == written + 4 and all(b.out(k) for k in range(4))
    b.has(0, 1, 2, 3)
    b.audit()


def test_an_area_that_is_off_or_going_off_cannot_be_turned_off() -> None:
    b = Box("anon_vma")
    b.map(0, 4)
    b.put(0, 1, 2, 3)
    b.swap_out()
    first = swap_off(b.mem, b.mem.swap.areas[0])
    next(first)
    for _ in range(2):
        with pytest.raises(SysError) as caught:
            next(swap_off(b.mem, b.mem.swap.areas[0]))
        assert caught.value.errno == errno.EINVAL
        finish(b, first)
    b.has(0, 1, 2, 3)


def test_while_it_goes_the_totals_say_so() -> None:
    b = Box("anon_vma")
    swap = b.mem.swap
    b.map(0, 40)
    b.put(*range(40))
    b.swap_out()
    going = swap_off(b.mem, b.mem.swap.areas[0])
    b.mem.reclaim.wait_sync(next(going))
    left = int((swap.areas[0].np_map[1:] > 0).sum())
    assert 0 < left <= 40
    assert swap.total == 0 and swap.nr_swap_pages == -left and swap.vm_swap_full() and swap.si_swapinfo() == (left, 0)
    assert swap.areas[0].get_page() == 0
    b.swap_out()
    b.audit("in the middle of it")
    finish(b, going)
    b.has(*range(40))
    assert_off(b)


def test_on_again_with_its_priority() -> None:
    b = Box("anon_vma")
    device = b.mem.swap.areas[0]
    assert device.priority == -1
    for given, shown in ((None, -2), (7, 7), (None, -3)):
        b.map(0, 8)
        b.put(*range(8))
        b.swap_out()
        finish(b, swap_off(b.mem, b.mem.swap.areas[0]))
        b.mem.swap.areas.turn_on(device, given)
        assert device.priority == shown and b.mem.swap.nr_swap_pages == device.total
        b.audit()
    assert dict(b.mem.slab.vmalloc_areas())["swap_map"] == 4


def test_no_low_memory_for_the_map_of_swapon() -> None:
    b = Box("anon_vma")
    finish(b, swap_off(b.mem, b.mem.swap.areas[0]))
    with Failing(b.mem.pages, 1, every=1), pytest.raises(OutOfMemory):
        b.mem.swap.areas.turn_on(b.mem.swap.areas[0])
    assert not b.mem.swap.areas[0].on
    b.audit()
    b.mem.swap.areas.turn_on(b.mem.swap.areas[0])
    b.audit()


@each
def test_no_memory_halfway(scheme: str) -> None:
    """Whichever allocation fails: ENOMEM, swap in use again, nothing lost; and a second attempt succeeds."""
    for which in (1, 2, 3, 5, 9, 14, 20):
        b = Box(scheme)
        file = tmpfs_file(b.mem, 30)
        b.map(0, 20)
        b.map(100, 30, flags=MAP_SHARED | MAP_FIXED, file=file)
        b.put(*range(20), *range(100, 130))
        child = b.fork(b.mm)
        b.swap_out()
        b.mremap(0, 20, 40, mm=child)
        b.mem.pages.drain_pcp()
        with Failing(b.mem.pages, which) as failing, pytest.raises(SysError) as caught:
            finish(b, swap_off(b.mem, b.mem.swap.areas[0]))
        assert caught.value.errno == errno.ENOMEM and failing.failed
        assert b.mem.swap.total == b.mem.swap.areas[0].total > 0
        b.audit("half-way")
        b.swap_out()
        b.audit("swap is in use again")
        finish(b, swap_off(b.mem, b.mem.swap.areas[0]))
        b.has(*range(20))
        b.has(*range(20), mm=child, shift=40)
        b.has(*range(100, 130))
        b.audit()


def test_the_overcommit_limit_forbids_it() -> None:
    b = Box("anon_vma")
    b.mem.overcommit.mode, b.mem.overcommit.ratio = 2, 0
    b.mem.overcommit.committed = committed = 2000
    with pytest.raises(SysError) as caught:
        finish(b, swap_off(b.mem, b.mem.swap.areas[0]))
    assert caught.value.errno == errno.ENOMEM and b.mem.swap.total > 0 and b.mem.overcommit.committed == committed
    b.mem.overcommit.committed = 0


def test_a_signal_ends_it() -> None:
    b = Box("anon_vma")
    b.map(0, 40)
    b.put(*range(40))
    b.swap_out()
    asked = 0

    def interrupted() -> bool:
        nonlocal asked
        asked += 1
        return asked == 20

    with pytest.raises(SysError) as caught:
        finish(b, swap_off(b.mem, b.mem.swap.areas[0], interrupted))
    assert caught.value.errno == errno.EINTR and asked == 20 and b.mem.swap.total > 0
    assert sum(1 for k in range(40) if b.pte(k) & P) == 19
    b.audit()
    b.has(*range(40))


@each
@pytest.mark.parametrize("whose", ["its own", "a relative's", "the only one's"])
def test_the_reservation_costs_somebody_his_memory(scheme: str, whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reserving for a PTE may run out of memory, and the killer may take apart the very address space that is being
    served, or one that waits its turn."""
    b = Box(scheme)
    b.map(0, 2)
    b.put(0, 1)
    child = b.mm if whose == "the only one's" else b.fork(b.mm)
    b.swap_out()
    plain, taken = b.mem.scheme.reserve, []

    def reserve(operation: str, vma: Any, pfns: Any = None) -> Any:
        if not taken:
            victim = vma.vm_mm if whose != "a relative's" else child if vma.vm_mm is b.mm else b.mm
            taken.append(victim)
            for area in victim.vmas:
                zap_page_range(b.mem, area, area.vm_start, area.vm_end)
        return plain(operation, vma, pfns)

    monkeypatch.setattr(b.mem.scheme, "reserve", reserve)
    finish(b, swap_off(b.mem, b.mem.swap.areas[0]))
    b.audit()
    assert_off(b)
    (victim,) = taken
    assert not victim.rss
    if child is not b.mm:
        b.has(0, 1, mm=child if victim is b.mm else b.mm)


@pytest.mark.parametrize("scheme", ["anon_vma", "anonmm", "pte_chain"])
def test_a_count_that_saturated(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More users than a count can hold: the slot would never be freed, but swapoff finds them all."""
    for room in (swapfile, swapoff, swap_room):
        monkeypatch.setattr(room, "SWAP_MAP_MAX", 4)
    b = Box(scheme)
    b.map(0, 3)
    b.put(0, 1, 2)
    family = [b.mm, *(b.fork(b.mm) for _ in range(6))]
    b.swap_out()
    assert set(b.mem.swap.areas[0].np_map[1:].tolist()) == {0, 4}
    b.exit(family.pop())
    finish(b, swap_off(b.mem, b.mem.swap.areas[0]))
    assert_off(b)
    for mm in family:
        b.has(0, 1, 2, mm=mm)
    b.audit()


def test_a_user_that_nobody_knows_is_corruption() -> None:
    b = Box("anon_vma")
    b.map(0, 1)
    b.put(0)
    b.swap_out()
    entry = b.mem.pgtables.pte_to_swp(b.pte(0))
    b.mem.swap.swap_duplicate(entry)
    with pytest.raises(InvariantViolation, match="1 users are in no page table and no file"):
        finish(b, swap_off(b.mem, b.mem.swap.areas[0]))


@each
def test_an_area_without_access(scheme: str) -> None:
    """Pages come back into areas that nobody may touch, and stay untouchable."""
    b = Box(scheme)
    b.map(0, 4)
    b.map(10, 4)
    b.put(0, 1, 10, 11)
    b.swap_out()
    do_mprotect(b.mem, b.mm, AT, 4 << 12, 0)
    finish(b, swap_off(b.mem, b.mem.swap.areas[0]))
    b.audit()
    assert_off(b)
    assert b.pte(0) & PRESENT == PROTNONE
    do_mprotect(b.mem, b.mm, AT, 4 << 12, RW)
    b.has(0, 1, 10, 11)


@each
def test_a_file_that_is_cut_while_its_page_is_read(scheme: str) -> None:
    """The entry is the file's no more, the page stays in the swap cache until its I/O has ended: it goes, and not back
    into the file."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 8)
    b.map(0, 8, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(*range(8))
    b.swap_out()
    going = swap_off(b.mem, b.mem.swap.areas[0])
    queue = next(going)
    file.truncate(0)
    b.audit("cut")
    b.mem.reclaim.wait_sync(queue)
    finish(b, going)
    assert_off(b)
    assert not file.mapping.pages and not file.mapping.swapped
    b.audit()


@each
def test_private_copies_of_a_file(scheme: str) -> None:
    b = Box(scheme)
    file = tmpfs_file(b.mem, 8)
    file.mapping.write(0, bytes(range(256)) * 128)
    b.map(0, 8, flags=MAP_PRIVATE | MAP_FIXED, file=file)
    b.put(2, 3)
    child = b.fork(b.mm)
    b.swap_out()
    finish(b, swap_off(b.mem, b.mem.swap.areas[0]))
    assert_off(b)
    for mm in (child, b.mm):
        b.has(2, 3, mm=mm)
        assert b.load(mm, AT) == 0x03020100
    assert not any(f & PG_SWAPCACHE for f in b.mem.frames.np_flags.tolist())
    b.audit()


@each
@pytest.mark.parametrize("seed", range(3))
def test_swapoff_while_others_fork_exit_and_move(scheme: str, seed: int) -> None:
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
    going = swap_off(b.mem, b.mem.swap.areas[0])
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
    assert turns >= 8 and not b.mem.swap.areas[0].on
    t = b.mem.pgtables
    for mm in at:
        entries = [t.ptes[base + k] for _, base in t.tables(mm.pgd, 0, TASK_SIZE) for k in range(t.PTRS)]
        assert not any(pte and not pte & (PRESENT | FILE) for pte in entries)
        assert [b.load(mm, AT + (at[mm] + k << 12)) for k in range(16)] == has[mm]
        b.has(*range(300, 308), mm=mm)
    b.audit()


@each
def test_two_addresses_of_one_page_come_back(scheme: str) -> None:
    """Shared and out, then moved by one of two: a scheme with one address per page has to copy for one of them, as at a
    fault."""
    b = Box(scheme)
    b.map(0, 6)
    b.put(*range(6))
    child = b.fork(b.mm)
    b.swap_out()
    b.mremap(0, 6, 100, mm=child)
    cow = b.mem.meters.cow
    for queue in swap_off(b.mem, b.mem.swap.areas[0]):
        b.mem.reclaim.wait_sync(queue)
    b.audit("off")
    assert b.mem.meters.cow - cow == (6 if b.mem.rmap.has_move_check else 0)
    b.has(*range(6))
    b.has(*range(6), mm=child, shift=100)
    b.put(*range(6), plus=1)
    b.has(*range(6), mm=child, shift=100)
    b.audit()
