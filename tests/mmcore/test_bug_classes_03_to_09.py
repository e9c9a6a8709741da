"""The bugs that history had in reverse mapping, 3 to 9, for every scheme: allocation, failed entries, counters,
PG_anon, families and their dead."""

from __future__ import annotations

import errno
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from mmcore.calls.fremap import remap_file_pages
from mmcore.calls.mlock import do_mlock
from mmcore.calls.mprotect import do_mprotect
from mmcore.calls.swapoff import swap_off
from mmcore.errors import InvariantViolation, OutOfMemory, SysError
from mmcore.physical.frames import FREE, PCP, PG_ANON, PG_SWAPCACHE
from mmcore.physical.pgtable import P
from mmcore.physical.slab import KmemCache
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_SHARED, PROT_READ
from tests.mmcore.box import AT, SCHEMES, Box

each = pytest.mark.parametrize("scheme", SCHEMES)


# --- 3: the scheme's allocation fails


def _swapoff(b: Box, mms: list[Any]) -> None:
    for queue in swap_off(b.mem):
        b.mem.reclaim.wait_sync(queue)


OPERATIONS: dict[str, Callable[[Box, list[Any]], object]] = {
    "exec": lambda b, mms: b.exit(b.new_mm()),
    "fault": lambda b, mms: b.put(30, mm=mms[1]),
    "file_fault": lambda b, mms: b.has(51, mm=mms[-1]),
    "fork": lambda b, mms: b.exit(b.fork(mms[2])),
    "mremap": lambda b, mms: b.mremap(0, 16, 100, mm=mms[3]),
    "swap-in": lambda b, mms: [b.has(0, 1, 2, mm=mm) for mm in mms],
    "swapoff": _swapoff,
}
# Who has to allocate where; the fault path preallocates what it may not need.
NEEDS = {
    "pte_chain": {"fault", "file_fault", "fork", "mremap", "swap-in", "swapoff"},
    "partial_objrmap": {"fault", "fork", "mremap", "swap-in", "swapoff"},
    "anonmm": {"exec", "fork"},
    "anonmm_chained": {"exec", "fault", "fork", "mremap", "swap-in", "swapoff"},
    "anon_vma": {"fault"},
    "rmap_series-7": {"fault", "fork", "mremap", "swap-in", "swapoff"},
    "rmap_series-17": {"exec", "fork"},
}


@each
@pytest.mark.parametrize("operation", OPERATIONS)
def test_03_no_memory_for_an_object_of_the_schemes(
    scheme: str, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven processes share 16 pages and a file; then the scheme's caches are empty. An operation that needs an object
    fails with ENOMEM, before it has changed anything; it works once there is memory."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 4)
    b.map(0, 16)
    b.map(50, 4, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(*range(16), 50, 51)
    mms = [b.mm, *(b.fork(b.mm) for _ in range(6))]
    for mm in mms:
        b.map(30, 1, mm=mm)
        if mm is not mms[-1]:
            b.has(51, mm=mm)
    b.munmap(mms[-1], AT + (51 << 12), 1)
    b.map(51, 1, flags=MAP_SHARED | MAP_FIXED, file=file, pgoff=1, mm=mms[-1])
    if operation in ("swap-in", "swapoff"):
        b.swap_out()
        b.mremap(0, 3, 200, mm=mms[4])
        b.mremap(200, 3, 0, mm=mms[4])
    caches = b.mem.scheme.env.scheme_caches
    _use_up(b)
    refused = 0

    def refuse(name: str) -> None:
        plain = getattr(KmemCache, name)

        def maybe(self: KmemCache, *args: Any, **options: Any) -> Any:
            nonlocal refused
            if self in caches:
                refused += 1
                raise OutOfMemory("no object for the scheme")
            return plain(self, *args, **options)

        monkeypatch.setattr(KmemCache, name, maybe)

    refuse("alloc")
    refuse("alloc_bulk")
    living = set(b.mem.mms)
    try:
        OPERATIONS[operation](b, mms)
    except SysError as error:
        assert error.errno == errno.ENOMEM and refused
    except MemoryError:
        assert refused
    else:
        assert not refused
    assert set(b.mem.mms) == living
    b.audit("refused")
    monkeypatch.undo()
    if refused or operation not in ("mremap", "swapoff"):
        OPERATIONS[operation](b, mms)
    b.audit("afterwards")
    for mm in mms:
        b.has(*range(16), mm=mm, shift=100 if operation == "mremap" and mm is mms[3] else 0)
        b.has(50, 51, mm=mm)
    if scheme in NEEDS:
        assert (operation in NEEDS[scheme]) == (refused > 0)


def _use_up(b: Box) -> None:
    """The one node that pte_chain (its per-cpu stash) and anonmm_chained keep in hand goes back."""
    scheme: Any = b.mem.scheme
    if getattr(scheme, "_stash", 0):
        scheme._cache.free(scheme._stash + 0xC0000000)
        scheme._stash = 0
    for node in getattr(scheme, "_spare", ()):
        scheme._nodes.free(node)
    if hasattr(scheme, "_spare"):
        scheme._spare.clear()


# --- 4: entries that stay


@each
def test_04_some_entries_of_a_page_cannot_go(scheme: str) -> None:
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


# --- 5 and 6: counters


@each
def test_05_counters_of_mapped_file_pages(scheme: str) -> None:
    """Linear, nonlinear and truncated: nr_mapped counts pages that somebody maps."""
    b = Box(scheme)
    vmstat = b.mem.vmstat
    file = tmpfs_file(b.mem, 20)
    b.map(0, 20, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(*range(10))
    child = b.fork(b.mm)
    assert vmstat.nr_mapped == 10
    for k in range(5):
        remap_file_pages(b.mem, b.mm, AT + (k << 12), 4096, 0, 9, 0)
    assert vmstat.nr_mapped == 10
    b.exit(child)
    assert vmstat.nr_mapped == 5, "pages 5 to 9; the last one six times"
    b.audit()
    file.truncate(8 << 12)
    assert vmstat.nr_mapped == 3
    b.munmap(b.mm, AT, 20)
    assert vmstat.nr_mapped == 0
    b.audit()


@each
def test_06_a_frame_that_is_mapped_cannot_be_freed_nor_unmapped_twice(scheme: str) -> None:
    b = Box(scheme)
    b.map(0, 2)
    b.put(0, 1)
    pfn, frames = b.pfn(0), b.mem.frames
    frames.count[pfn] = 0
    with pytest.raises(InvariantViolation, match="mapcount 1"):
        b.mem.pages.free_page(pfn)
    frames.count[pfn] = 1
    b.audit()
    b.munmap(b.mm, AT, 1)
    assert frames.owner[pfn] in (FREE, PCP) and frames.mapcount[pfn] == 0
    with pytest.raises(InvariantViolation, match="a PTE more than were counted"):
        b.mem.rmap.forget(b.mm.vmas[0], pfn, b.index(0))


# --- 7: PG_anon and page.mapping


@each
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=lambda order: "".join(map(str, order)))
def test_07_a_cached_page_that_two_map_and_unmap(scheme: str, order: tuple[int, ...]) -> None:
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
def test_07_reclaim_in_the_midst_of_everything(scheme: str) -> None:
    """At each allocation of forks, faults and moves, reclaim takes pages that are just being copied, mapped or
    moved."""
    b = Box(scheme)
    b.map(0, 12)
    b.put(*range(12))
    rng = random.Random(7)
    mms, at = [b.mm], {b.mm: 0}
    for turn in range(24):
        mm = rng.choice(mms)
        with b.reclaiming():
            if turn % 6 == 5 and len(mms) > 1:
                mms.remove(mm)
                b.exit(mm)
            elif turn % 3 == 0:
                child = b.fork(mm)
                mms.append(child)
                at[child] = at[mm]
            elif turn % 3 == 1:
                b.mremap(at[mm], 12, at[mm] + 100, mm=mm)
                at[mm] += 100
            else:
                b.put(*(at[mm] + k for k in rng.sample(range(12), 3)), mm=mm, plus=1000 - at[mm])
        b.audit(f"turn {turn}")
    for mm in mms:
        b.has(*range(12), mm=mm, shift=at[mm])


# --- 8 and 9: families


@each
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=lambda order: "".join(map(str, order)))
def test_08_the_last_of_a_family_exit(scheme: str, order: tuple[int, ...]) -> None:
    """Head, two children, a grandchild, each with pages of its own and of its elders; they exit in any order. Nothing
    is freed twice, nothing is left."""
    b = Box(scheme)
    b.map(0, 8)
    b.put(0, 1, 2)
    child, other = b.fork(b.mm), b.fork(b.mm)
    b.put(3, mm=child)
    grandchild = b.fork(child)
    b.put(4, mm=grandchild)
    family = [b.mm, child, other, grandchild]
    has = {b.mm: (0, 1, 2), child: (0, 1, 2, 3), other: (0, 1, 2), grandchild: (0, 1, 2, 3, 4)}
    for n, which in enumerate(order):
        b.exit(family[which])
        b.audit(f"exit {n}")
        for later in order[n + 1 :]:
            b.has(*has[family[later]], mm=family[later])
    assert not b.mem.mms and b.objects() <= 1, "one may stay in hand"
    stranger = b.new_mm()
    b.map(0, 2, mm=stranger)
    b.put(0, 1, mm=stranger)
    b.audit("another family")


@each
@pytest.mark.parametrize("locked", [False, True])
def test_09_a_dead_home_is_left(scheme: str, locked: bool) -> None:
    """A middle generation exits, the next one keeps its pages: the home they name goes as soon as they have been asked
    for once - locked ones, too."""
    b = Box(scheme)
    b.map(0, 6)
    middle = b.fork(b.mm)
    b.put(*range(6), mm=middle)
    last = b.fork(middle)
    if locked:
        do_mprotect(b.mem, last, AT, 6 << 12, PROT_READ)  # or locking would copy the pages
        do_mlock(b.mem, last, AT, 6 << 12)
    b.exit(middle)
    b.audit("the middle one is dead")
    anonmms = b.objects("anonmm")
    if anonmms:
        assert anonmms == 3, "the dead one stays: six pages name it"
    for _ in range(2):
        b.swap_out()
    b.audit("reclaim has passed")
    assert all(bool(b.pte(k, last) & P) == locked for k in range(6))
    if anonmms:
        assert b.objects("anonmm") == 2
    b.has(*range(6), mm=last)
    b.exit(last)
    b.exit(b.mm)
    b.audit()
    assert b.objects() <= 1


@each
def test_09_the_head_stays_for_its_family_only(scheme: str) -> None:
    """The first of a family exits; its children keep its pages, write some, and exit: the head is the last to be
    freed."""
    b = Box(scheme)
    b.map(0, 6)
    b.put(*range(6))
    family = [b.fork(b.mm) for _ in range(3)]
    b.exit(b.mm)
    for n, mm in enumerate(family):
        b.put(n, mm=mm, plus=50)
    b.audit("the head is dead")
    while family:
        for mm in family:
            for k in range(6):
                b.mem.rmap.page_referenced(b.pfn(k, mm))
        b.audit("asked for all pages")
        if b.objects("anonmm"):
            assert b.objects("anonmm") == len(family) + 1
        b.exit(family.pop(0))
    b.audit()
    assert b.objects() <= 1
