"""The bugs that history had in reverse mapping, 29 to 32: endless chains of forks, reused objects, truncated pages, and
costs that grow too fast."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mmcore.calls.mprotect import do_mprotect
from mmcore.physical.frames import FREE, PCP, PG_ACTIVE, PG_LRU, PG_REFERENCED, PG_UPTODATE
from mmcore.rmap.core import SUCCESS
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.anonmm import AnonMm
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.files import host_file, tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_SHARED, RW
from tests.mmcore.box import AT, SCHEMES, Box

each = pytest.mark.parametrize("scheme", SCHEMES)
GROWING = ("2.6.34", "3.7")  # eras of anon_vma_chain: endless growth was their flaw, mended in 4.0


def endless(b: Box, generations: int, asking: bool) -> int:
    """Each child writes a page, forks, and its parent exits. Answers the most objects the scheme had at a time when one
    process lived."""
    mm, most = b.mm, 0
    for generation in range(generations):
        child = b.fork(mm)
        b.exit(mm)
        mm = child
        b.put(generation % 4, 4 + generation % 3, mm=mm, plus=generation)
        if asking:
            for page in range(8):
                b.mem.rmap.page_referenced(b.pfn(page, mm))
        most = max(most, b.objects())
    b.audit(f"{generations} generations")
    b.mm = mm
    return most


@each
@pytest.mark.parametrize("asking", [False, True])
def test_29_an_endless_chain_of_forks(scheme: str, asking: bool) -> None:
    """A service whose children fork the next and whose parents exit: two areas, eight pages, one process at a time.
    What the scheme keeps is bounded by what lives (a dead home lasts as long as a page names it), not by the
    generations behind; anon_vma_chain before 4.0 keeps something for each of them."""
    b = Box(scheme)
    b.map(0, 4)
    b.map(4, 4, prot=7)
    b.put(*range(8))
    most = endless(b, 60, asking)
    if SCHEMES[scheme][1].get("era") in GROWING:
        assert most > 60
        return
    pages, areas = 8, len(b.mm.vmas)
    assert most <= pages + 8 * areas
    assert endless(b, 120, asking) <= most
    if asking and isinstance(b.mem.scheme, AnonMm):
        assert b.objects("anonmm") == 2, "the living, and the head of its family"
    b.exit(b.mm)
    b.audit("nobody is left")
    assert b.objects() <= 1


@each
def test_30_leaves_that_come_and_go_twice(scheme: str) -> None:
    """A tree of forks whose leaves exit and are made again from the same parents, twice; then their areas are split,
    merged and left. Nothing is freed while a page or an area still needs it, and nothing stays."""
    rng = random.Random(30)
    b = Box(scheme)
    b.map(0, 6)
    b.put(0, 1, 2)
    root = b.mm
    middle = [b.fork(root), b.fork(root)]
    b.put(3, mm=middle[0])
    for round_ in range(3):
        leaves = [b.fork(mm) for mm in (*middle, middle[0], root)]
        for n, leaf in enumerate(leaves):
            b.put(4, n, mm=leaf, plus=round_ * 100)
            do_mprotect(b.mem, leaf, AT + (2 << 12), 2 << 12, 7)
        b.audit(f"leaves {round_}")
        leaves.append(b.fork(leaves[1]))
        if round_ == 2:
            b.exit(middle.pop(0))
        for leaf in leaves[:2]:
            do_mprotect(b.mem, leaf, AT, 6 << 12, RW)
        b.swap_out()
        for n, leaf in enumerate(leaves[:4]):
            b.has(4, n, mm=leaf, plus=round_ * 100)
        b.audit(f"merged {round_}")
        for leaf in rng.sample(leaves, len(leaves)):
            b.exit(leaf)
            b.audit(f"a leaf of round {round_} is gone")
    for mm in (root, *middle):
        b.has(0, 1, 2, mm=mm)
        b.exit(mm)
    b.audit("the whole tree is gone")
    assert b.objects() <= 1


@each
@pytest.mark.parametrize("kind", ["shmem", "file"])
def test_31_page_referenced_meets_a_truncated_page(scheme: str, kind: str) -> None:
    """Truncation took the page out of its file while somebody holds it: it has no mapping any more. Asking and
    unmapping find nothing, and leave the page as it was - unlocked above all - so that it is freed when the holder lets
    go."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 4) if kind == "shmem" else host_file(b.mem, [bytes(4096)] * 4)
    b.map(0, 4, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(0, 1, 2, 3)
    child = b.fork(b.mm)
    b.has(2, mm=child)
    pfn = b.mem.faults.get_user_page(b.mm, AT + 0x2000, True)
    b.auditor.pins = lambda: {pfn: 1}
    b.mem.reclaim.lru_add_drain()
    b.mem.reclaim.mark_page_accessed(pfn)
    frames, rmap = b.mem.frames, b.mem.rmap
    asked = frames.flags[pfn] & PG_REFERENCED
    file.truncate(0x1000)
    b.audit("cut")
    assert not frames.mapcount[pfn] and not frames.mapping[pfn]
    assert rmap.page_referenced(pfn) == bool(asked)
    state = frames.flags[pfn]
    assert state & ~PG_ACTIVE == PG_LRU | PG_UPTODATE, "not locked, not dirty, not being written"
    for _ in range(2):
        assert rmap.page_referenced(pfn) == 0 and frames.flags[pfn] == state
        if b.mem.rmap.exact:
            assert rmap.try_to_unmap(pfn) == SUCCESS and frames.flags[pfn] == state
    for _ in range(3):
        b.swap_out()
    assert frames.flags[pfn] & ~(PG_ACTIVE | PG_REFERENCED) == PG_LRU | PG_UPTODATE and frames.count[pfn] == 1
    b.audit("reclaim passed it by")
    b.auditor.pins = dict
    b.mem.pages.put_page(pfn)
    assert frames.owner[pfn] in (FREE, PCP)
    b.audit("freed")


def _asked(b: Box, pfn: int) -> dict[str, int]:
    """What one page_referenced costs."""
    before = b.mem.meters.as_dict()
    b.mem.rmap.page_referenced(pfn)
    return {name: value - before[name] for name, value in b.mem.meters.as_dict().items()}


@each
@pytest.mark.parametrize("children", [1, 8, 20])
def test_32_fork_and_copy(scheme: str, children: int) -> None:
    """N children that each wrote the same page: to find it, mapped once, a chain asks 1 place, anonmm 1 (it names the
    address space), anon_vma all N + 1."""
    b = Box(scheme)
    kind = b.mem.scheme
    if not isinstance(kind, (PteChain, AnonMm, AnonVma)):
        pytest.skip("its costs are its own tests' subject")
    b.map(0, 2)
    b.put(0, 1)
    family = [b.fork(b.mm) for _ in range(children)]
    for mm in family:
        b.put(0, mm=mm, plus=3)
    looked_at = [_asked(b, b.pfn(0, mm))["candidates"] for mm in (b.mm, *family)]
    if isinstance(kind, AnonVma):
        assert looked_at == [children + 1, *range(children, 0, -1)], "the list's head is the youngest"
    else:
        assert looked_at == [1] * (children + 1)
    assert _asked(b, b.pfn(1))["candidates"] == children + 1, "mapped by all"


@each
def test_32_many_windows_on_one_file(scheme: str) -> None:
    """test-mmap3 in small: each page of the file is mapped by an area of its own, in reverse order, in 4 processes.
    Each page is in 4 of the 160 areas: a list looks at all of them, a tree at those 4 and a few nodes, a chain at its 4
    PTEs."""
    b = Box(scheme)
    windows, processes = 40, 4
    file = tmpfs_file(b.mem, windows)
    for k in range(windows):
        b.map(k, 1, flags=MAP_SHARED | MAP_FIXED, file=file, pgoff=windows - 1 - k)
    mms = [b.mm, *(b.fork(b.mm) for _ in range(processes - 1))]
    for mm in mms:
        b.put(*range(windows), mm=mm)
    if not b.mem.rmap.exact:
        return
    costs = [_asked(b, b.pfn(k)) for k in range(windows)]
    if b.mem.rmap.walks_files:
        assert all(cost["candidates"] == processes and not cost["file_walks"] for cost in costs)
        return
    assert all(cost["file_candidates"] == processes for cost in costs)
    nodes = sum(cost["file_nodes"] for cost in costs) / windows
    if b.mem.setup.file_index == "list":
        # It stops when it has found as many as there are: half-way on average where they stand together, later where
        # they are spread.
        assert nodes > windows * processes / 3
    else:
        assert nodes < processes + 3 * windows.bit_length()


@each
def test_32_many_tasks_with_many_windows(scheme: str) -> None:
    """rmap-test 1 in small: tasks x areas of a few pages each, unrelated processes. The list's cost grows with their
    product, the tree's with the tasks."""
    looked: dict[tuple[int, int], float] = {}
    for tasks, areas in ((2, 8), (4, 8), (4, 16)):
        b = Box(scheme)
        if not b.mem.rmap.exact or b.mem.rmap.walks_files:
            return
        file = tmpfs_file(b.mem, 3 * areas)
        mms: list[Any] = [b.mm, *(b.new_mm() for _ in range(tasks - 1))]
        for mm in mms:
            for k in range(areas):
                b.map(5 * k, 3, flags=MAP_SHARED | MAP_FIXED, file=file, pgoff=3 * k, mm=mm)
                b.put(5 * k + 1, mm=mm)
        costs = [_asked(b, b.pfn(5 * k + 1)) for k in range(areas)]
        assert all(cost["file_candidates"] == tasks for cost in costs)
        looked[tasks, areas] = sum(cost["file_nodes"] for cost in costs) / areas
    if b.mem.setup.file_index == "list":
        assert looked[4, 8] > 1.5 * looked[2, 8] and looked[4, 16] > 1.5 * looked[4, 8]
    else:
        assert looked[4, 16] - looked[4, 8] <= 3, "a level more"
