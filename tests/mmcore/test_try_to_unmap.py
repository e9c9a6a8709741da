"""Reclaim takes the PTEs of a page: which may go, which stay, and that what stays is whole; under every scheme."""

from __future__ import annotations

import random

import pytest

from mmcore.calls.mlock import do_mlock
from mmcore.physical.pgtable import P
from mmcore.rmap.core import SUCCESS
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_SHARED
from tests.mmcore.box import AT, SCHEMES, Box

each = pytest.mark.parametrize("scheme", SCHEMES)


chains = pytest.mark.parametrize("scheme", ["pte_chain"])


@chains
def test_long_chains_with_locked_mappers_leave_nothing(scheme: str) -> None:
    """Chains of 1 to 3 x NRPTE mappings, some of them locked: reclaim takes what it may, and then everybody exits."""
    rng = random.Random(4)
    for processes in range(1, 23):
        b = Box(scheme)
        file = tmpfs_file(b.mem, 3)
        mms = [b.mm, *(b.new_mm() for _ in range(processes - 1))]
        for mm in mms:
            b.map(0, 3, flags=MAP_SHARED | MAP_FIXED, file=file, mm=mm)
            b.put(0, 1, 2, mm=mm)
            if rng.random() < 0.2:
                do_mlock(b.mem, mm, AT + rng.randrange(3) * 4096, 4096)
        b.swap_out()
        b.audit()
        for mm in rng.sample(mms, len(mms)):
            b.has(0, mm=mm)
            b.exit(mm)
            b.audit()
        assert b.mem.slab.caches["pte_chain"].objects <= 1


@each
def test_entries_that_cannot_go_leave_nothing_behind(scheme: str) -> None:
    """Anonymous pages of 1 to 22 processes (up to three chains' worth), some of them locked, young or pinned by
    somebody; after reclaim everybody exits, in any order, and leaves nothing."""
    rng = random.Random(4)
    for processes in (1, 2, 8, 22):
        b = Box(scheme)
        b.map(0, 4)
        b.put(*range(4))
        mms = [b.mm, *(b.fork(b.mm) for _ in range(processes - 1))]
        pinned = -1
        for mm in mms:
            if rng.random() < 0.2:
                do_mlock(b.mem, mm, AT + rng.randrange(2) * 4096, 4096)
            if rng.random() < 0.3:
                b.has(rng.randrange(4), mm=mm)
        if rng.random() < 0.5:
            pinned = b.mem.faults.get_user_page(rng.choice(mms), AT + 0x3000, False)
            b.auditor.pins = lambda pfn=pinned: {pfn: 1}
        for _ in range(2):
            b.swap_out()
            b.audit()
        for n, mm in enumerate(rng.sample(mms, len(mms))):
            if n % 3 == 1:
                b.swap_out()
            b.has(*range(4), mm=mm)
            b.exit(mm)
            if n % 3 == 1:
                b.audit()
        if pinned >= 0:
            b.mem.pages.put_page(pinned)
            b.auditor.pins = dict
        b.mem.clock.charge(10**10)  # what was being written when its last user went
        b.swap_out()
        b.audit("at the end")
        assert b.objects() <= 1, "one may stay in hand"
        assert b.mem.swap.nr_swap_pages == b.mem.swap.total


@each
def test_a_pinned_page_stays_where_it_is(scheme: str) -> None:
    """Between the pin and the write by the user, reclaim must not take the page away: the device would write into a
    frame nobody maps."""
    b = Box(scheme)
    b.map(0, 4)
    b.put(*range(4))
    pfn = b.mem.faults.get_user_page(b.mm, AT, True)
    b.auditor.pins = lambda: {pfn: 1}
    for _ in range(3):
        b.swap_out()
    assert b.out(1) and not b.out(0)
    b.audit()
    b.mem.ram.u32[pfn << 10] = 4711  # the device
    b.store(b.mm, AT + 4, 1)
    assert b.pfn(0) == pfn and b.load(b.mm, AT) == 4711
    b.mem.pages.put_page(pfn)
    b.auditor.pins = dict
    b.swap_out()
    b.audit()
    assert b.out(0) and b.load(b.mm, AT) == 4711


@each
def test_a_pinned_page_of_the_swap_cache_stays_mapped(scheme: str) -> None:
    b = Box(scheme)
    b.map(0, 1)
    b.put(0)
    pfn = b.mem.faults.get_user_page(b.mm, AT, False)
    b.auditor.pins = lambda: {pfn: 1}
    b.mem.rmap.page_referenced(pfn)
    assert b.mem.swap.add_to_swap(pfn)
    b.mem.frames.count[pfn] += 1  # the isolator
    assert b.mem.rmap.try_to_unmap(pfn) != SUCCESS and b.pte(0) & P
    b.mem.frames.count[pfn] -= 1
    b.audit()
    b.store(b.mm, AT + 4, 5)
    assert b.pfn(0) == pfn
    b.audit()


@each
@pytest.mark.parametrize("locker", range(3))
def test_what_one_of_many_mappers_locks_stays(scheme: str, locker: int) -> None:
    b = Box(scheme)
    file = tmpfs_file(b.mem, 4)
    mms = [b.mm, b.new_mm(), b.new_mm()]
    for mm in mms:
        b.map(0, 4, flags=MAP_SHARED | MAP_FIXED, file=file, mm=mm)
        b.put(0, 1, 2, 3, mm=mm)
    do_mlock(b.mem, mms[locker], AT, 2 << 12)
    for _ in range(3):
        b.swap_out()
    b.audit()
    assert b.pte(0, mms[locker]) & P and b.pte(1, mms[locker]) & P
    assert all(index in file.mapping.pages for index in (0, 1)) and not any(
        index in file.mapping.pages for index in (2, 3)
    )
    for mm in mms:
        b.has(0, 1, 2, 3, mm=mm)


@each
def test_a_child_does_not_inherit_the_lock(scheme: str) -> None:
    """fork does not inherit the lock: the child's mapping may be taken, the parent's page stays."""
    b = Box(scheme)
    b.map(0, 4)
    b.put(0, 1, 2, 3)
    do_mlock(b.mem, b.mm, AT, 4 << 12)
    child = b.fork(b.mm)
    assert child.locked_vm == 0
    for _ in range(3):
        b.swap_out()
    assert all(b.pte(k) & P for k in range(4))
    b.audit()
    b.has(0, 1, 2, 3, mm=child)
    b.has(0, 1, 2, 3)
