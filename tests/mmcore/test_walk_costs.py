"""What it costs to ask for one page grows as the schemes say: with the relatives, with the areas of its file, or not
at all."""

from __future__ import annotations

from typing import Any

import pytest

from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.anonmm import AnonMm
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_SHARED
from tests.mmcore.box import SCHEMES, Box


@pytest.mark.parametrize("scheme", ["anon_vma", "pte_chain", *(s for s in SCHEMES if s.startswith("anon_vma_chain"))])
def test_relatives_that_copied_a_page_cost_what_the_schemes_say(scheme: str) -> None:
    """N children that each copied the page: anon_vma asks all younger ones before it comes to the right one; pte_chain
    and anon_vma_chain ask 1 place, for the parent's page because the parent stands first. For the page that all share,
    all ask N + 1."""
    for children in (1, 8, 20):
        b = Box(scheme)
        b.map(0, 2)
        b.put(0, 1)
        family = [b.fork(b.mm) for _ in range(children)]
        for mm in family:
            b.put(0, mm=mm, plus=3)
        for page, expected in ((1, children + 1), (0, children + 1 if scheme == "anon_vma" else 1)):
            before = b.mem.meters.candidates
            b.mem.rmap.page_referenced(b.pfn(page))
            assert b.mem.meters.candidates - before == expected
        for k, mm in enumerate(family):
            before = b.mem.meters.candidates
            b.mem.rmap.page_referenced(b.pfn(0, mm))
            assert b.mem.meters.candidates - before == (children - k if scheme == "anon_vma" else 1)


each = pytest.mark.parametrize("scheme", SCHEMES)


def _asked(b: Box, pfn: int) -> dict[str, int]:
    """What one page_referenced costs."""
    before = b.mem.meters.as_dict()
    b.mem.rmap.page_referenced(pfn)
    return {name: value - before[name] for name, value in b.mem.meters.as_dict().items()}


@each
@pytest.mark.parametrize("children", [1, 8, 20])
def test_fork_and_copy(scheme: str, children: int) -> None:
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
def test_many_windows_on_one_file(scheme: str) -> None:
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
def test_many_tasks_with_many_windows(scheme: str) -> None:
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
