"""The kit's own machinery: what it shrinks, what its watch notices, how it survives a scheme that does not end."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import pytest

from mmcore.rmap import COPY, OK, Card, MachineFacts, ScanScheme, Setup, Walk
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.anonmm_chained import AnonMmChained
from rmap_plugins.pte_chain import PteChain
from rmap_plugins.rmap_series import RmapSeries
from rmap_plugins.virtual_scan import VirtualScan
from sandbox.kit import suite
from sandbox.kit.processes import Late
from sandbox.kit.replay import Cell, boot, replay, script, shrink
from sandbox.kit.scenarios import SCENARIOS, Script
from tests.mmcore.asking import between
from tests.mmcore.scan_scheme import ScanEverything


class Forgets(AnonVma):
    """A moved area is not linked."""

    def vma_copied(self, dst: Any, src: Any, how: str) -> None:
        if how != "move":
            super().vma_copied(dst, src, how)
        else:
            dst.anon_vma = src.anon_vma

    def check(self) -> list[str]:
        return []


class Writes(ScanEverything):
    def released(self, pfns: Any) -> None:
        self.env.frames.count[int(pfns[0])] += 1


class Allocates(ScanEverything):
    def released(self, pfns: Any) -> None:
        self.env.cache("mine", 32).alloc()


class Refuses(ScanEverything):
    def add_anon(self, *arguments: Any) -> int:
        return COPY if arguments[4] else OK


class GoesOn(ScanEverything):
    def walk(self, walk: Walk) -> None:
        super().walk(between(walk, lambda visit, *place: visit(*place) & ~8))


def _cannot_shrink(self: Any, vma: Any, start: int, end: int, nxt: Any) -> Any:
    from mmcore.errors import OutOfMemory

    raise OutOfMemory("not now")


CannotShrink = type("CannotShrink", (ScanEverything,), {"vma_adjust_begin": _cannot_shrink})


def run(kind: type, name: str, **more: Any) -> Any:
    return suite.run_scenarios(kind, Cell(**more), [name]).failure


def test_a_failure_is_shrunk_and_stays_what_it_is() -> None:
    big = suite.run_wanders(Forgets, Cell(), range(20), 150, time.monotonic() + 600).failure
    assert big is not None
    small = shrink(Forgets, big, 20)
    assert small.kind == big.kind and len(small.steps) <= 5 < len(big.steps)
    again = replay(Forgets, small.cell, small.steps)
    assert again is not None and again.kind == big.kind
    assert replay(AnonVma, small.cell, small.steps) is None


@pytest.mark.parametrize(
    "kind, name, said",
    [
        (Writes, "parents_exit_first", r"released.* writes frames.count"),
        (Allocates, "parents_exit_first", r"released.* allocates 1 object"),
        (Refuses, "holes", r"add_anon answers COPY for an exclusive page"),
        (GoesOn, "parents_exit_first", r"walk goes on after it was told STOP"),
        (CannotShrink, "holes", r"vma_adjust_begin fails for an area that only shrinks"),
    ],
)
def test_the_watch_notices(kind: type, name: str, said: str) -> None:
    import re

    failure = run(kind, name, watch=True)
    assert failure is not None and re.search(said, failure.text), failure
    assert failure.steps


@pytest.mark.parametrize("kind", [AnonVma, PteChain])
def test_the_core_keeps_its_promises(kind: type) -> None:
    """Hooks in order, with what they are said to be called with, for a scheme that is told of areas and one that is
    told of every PTE."""
    calls: dict[str, int] = {}
    for name in (
        "parents_exit_first",
        "move_shared_middle_up",
        "boundary_up_empty_faulted",
        "exec_moves_its_stack",
        "nonlinear",
    ):
        world = boot(kind, Cell(watch=True))
        SCENARIOS[name](Script(world))
        world.end()
        for hook, n in world.mem.scheme._watch.calls.items():  # type: ignore[attr-defined]
            calls[hook] = calls.get(hook, 0) + n
    expected = {
        "reserve",
        "release",
        "add_anon",
        "vma_copied",
        "vma_unlinked",
        "vma_adjust_begin",
        "vma_adjust_end",
        "can_merge",
        "move_pgoff",
        "mm_created",
        "mm_exited",
    }
    if kind is PteChain:
        expected |= {"dup", "move", "remove", "add_file"}
    assert expected <= {hook for hook, n in calls.items() if n}


def test_a_job_that_does_not_end_or_dies_is_told_so() -> None:
    todo = [(lambda: time.sleep(600), 0.5), (lambda: os._exit(3), 5.0), (lambda: 42, 5.0)]
    assert dict(suite.in_processes(todo)) == {0: Late(0.5, True), 1: None, 2: 42}


class Boasts(VirtualScan):
    """Finds more than it found."""

    def swap_out(self, priority: int, zone: Any, goal: int) -> int:
        return super().swap_out(priority, zone, goal) + 1


class Stays(VirtualScan):
    """Never looks into the first area of an address space."""

    def _swap_out_mm(self, place: Any, zone: Any, left: int) -> int:
        place.swap_address = max(place.swap_address, place.mm.vmas[0].vm_end) if place.mm.vmas else place.swap_address
        return super()._swap_out_mm(place, zone, left)


class Keeps(AnonMmChained):
    """What a failed reservation had got is not given back."""

    def _fill(self, n: int) -> None:
        while len(self._spare) < n:
            self._spare.append(self._nodes.alloc())


@pytest.mark.parametrize(
    "kind, watch, said", [(Boasts, True, "swap_out answers"), (Stays, False, "a page that could go is left")]
)
def test_scans_are_held_to_what_they_find(kind: type, watch: bool, said: str) -> None:
    failure = run(kind, "parents_exit_first", watch=watch)
    assert failure is not None and said in failure.text, failure


def test_an_operation_that_is_given_up_keeps_nothing() -> None:
    failure = suite.run_failures(Keeps, Cell(), ["mremap of shared pages"]).failure
    assert failure is not None and "are left in rmap_chain" in failure.text, failure
    assert failure.steps[-1][2]["fail"] < 0 and not failure.cell.look
    again = replay(Keeps, failure.cell, failure.steps)
    assert again is not None and again.kind == failure.kind
    assert replay(AnonMmChained, failure.cell, failure.steps) is None


def test_a_scheme_that_loses_pages_by_its_card_is_not_exact() -> None:
    rows, todo = suite.jobs("rmap_series", RmapSeries, {"stage": 9}, time.monotonic())
    row = rows[2]
    assert (row.verdict, "after rmap 9" in row.note) == (suite.NOT_EXACT, True)
    assert any(job.row == "exact walks" for job in todo)


def test_a_scheme_that_loses_pages_must_find_those_of_files() -> None:
    class Loses(AnonVma):
        @classmethod
        def configure(cls, machine: MachineFacts, options: dict[str, Any]) -> Setup:
            return replace(super().configure(machine, options), incomplete="nothing is found", files=True)

        def walk(self, walk: Walk) -> None:
            pass

    assert run(Loses, "parents_exit_first") is None
    failure = run(Loses, "shared_memory")
    assert failure is not None and "PTEs not found" in failure.text


def test_a_scheme_without_walks_is_not_asked_for_them() -> None:
    class Scans(ScanScheme):
        card = Card("scans", "t", "k", "o", "c")

    rows, todo = suite.jobs("scans", Scans, {}, time.monotonic())
    assert {row.name: row.verdict for row in rows}["exact walks"] == suite.NOT_APPLICABLE
    assert not any(job.row == "exact walks" for job in todo)


def test_the_contract_before_a_run() -> None:
    class Misspelt(ScanEverything):
        def vma_unlink(self, vma: Any) -> None:
            pass

    class Odd(ScanEverything):
        card = Card("odd", "", "k", "o", "c")

    assert "did you mean vma_unlinked" in suite.check_contract(Misspelt, {}).failure.text  # type: ignore[union-attr]
    assert "title" in suite.check_contract(Odd, {}).failure.text  # type: ignore[union-attr]
    assert suite.check_contract(PteChain, {"highpte": True}).failure is None


def test_the_script_is_python_and_names_the_failure() -> None:
    failure = run(Forgets, "move_private_whole_up")
    text = script("some.py:Forgets", failure, "x.py")
    compile(text, "x.py", "exec")
    assert "again('some.py:Forgets', Cell()" in text and "'mremap'" in text
