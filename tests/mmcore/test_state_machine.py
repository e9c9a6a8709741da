"""Random programs against the model, for every scheme, both pagings, ample and scarce memory; the auditor and every
page's contents after each step.

A scheme of your own: add it to `SCHEMES` of box.py. `pytest -m thorough` runs more cells, `pytest -m slow` many
more and longer programs.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from mmcore.rmap import WalkScheme
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.wander import OPERATIONS, wander
from sandbox.kit.world import World
from tests.mmcore import box

SCHEMES: dict[str, tuple[type, dict[str, Any]]] = {
    **box.SCHEMES,
    "pte_chain-64": (PteChain, {"cache_line": 64}),
    "pte_chain-128": (PteChain, {"cache_line": 128}),
    "pte_chain-highpte": (PteChain, {"highpte": True}),
}
SPARE = {"ample": None, "scarce": 200}

number = st.integers(0, 255)
few = st.integers(0, 3)
fail = st.sampled_from((0,) * 12 + (1, 2, 3, 4))


class ProgramMachine(RuleBasedStateMachine):
    """Hypothesis chooses the operations and shrinks what fails. Subclasses set the cell."""

    scheme: type
    options: dict[str, Any]
    paging: str
    spare: int | None

    @initialize()
    def boot(self) -> None:
        self.world = World(self.scheme, self.paging, self.spare, **self.options)
        self.world.step("mmap", 0, 0, 11, 2, 1, 0)

    @rule(
        who=few,
        kind=st.integers(0, 7),
        pages=number,
        prot=number,
        place=st.one_of(st.just(0), number),
        index=number,
        fail=fail,
    )
    def mmap(self, who: int, kind: int, pages: int, prot: int, place: int, index: int, fail: int) -> None:
        self.world.step("mmap", who, kind, pages, prot, place, index, fail=fail)

    @rule(who=few, at=number, pages=number, fail=fail)
    def munmap(self, who: int, at: int, pages: int, fail: int) -> None:
        self.world.step("munmap", who, at, pages, fail=fail)

    @rule(who=few, which=number, skip=number, pages=number, prot=number, fail=fail)
    def mprotect(self, who: int, which: int, skip: int, pages: int, prot: int, fail: int) -> None:
        self.world.step("mprotect", who, which, skip, pages, prot, fail=fail)

    @rule(who=few, which=number, skip=number, pages=number, new=number, place=number, how=few, fail=fail)
    def mremap(self, who: int, which: int, skip: int, pages: int, new: int, place: int, how: int, fail: int) -> None:
        self.world.step("mremap", who, which, skip, pages, new, place, how, fail=fail)

    @rule(who=few, which=number, skip=number, pages=number, index=number, fail=fail)
    def remap_file_pages(self, who: int, which: int, skip: int, pages: int, index: int, fail: int) -> None:
        self.world.step("remap", who, which, skip, pages, index, fail=fail)

    @rule(who=few, which=number, skip=number, pages=number)
    def madvise(self, who: int, which: int, skip: int, pages: int) -> None:
        self.world.step("madvise", who, which, skip, pages)

    @rule(who=few, which=number, skip=number, pages=number, lock=st.booleans())
    def mlock(self, who: int, which: int, skip: int, pages: int, lock: bool) -> None:
        self.world.step("mlock", who, which, skip, pages, lock)

    @rule(who=few, pages=number)
    def brk(self, who: int, pages: int) -> None:
        self.world.step("brk", who, pages)

    @rule(who=few, fail=fail)
    def fork(self, who: int, fail: int) -> None:
        self.world.step("fork", who, fail=fail)

    @rule(who=few)
    def exit(self, who: int) -> None:
        self.world.step("exit", who)

    @rule(word=number, shift=st.integers(0, 699))
    def exec(self, word: int, shift: int) -> None:
        self.world.step("exec", word, shift)

    @rule(who=few, pages=number, word=number)
    def grow_stack(self, who: int, pages: int, word: int) -> None:
        self.world.step("grow_stack", who, pages, word)

    @rule(who=few, which=number, skip=number, pages=number, word=number, fail=fail)
    def store(self, who: int, which: int, skip: int, pages: int, word: int, fail: int) -> None:
        self.world.step("store", who, which, skip, pages, word, fail=fail)

    @rule(who=few, which=number, skip=number, pages=number, fail=fail)
    def load(self, who: int, which: int, skip: int, pages: int, fail: int) -> None:
        self.world.step("load", who, which, skip, pages, fail=fail)

    @rule(which=few, index=number, word=number)
    def file_write(self, which: int, index: int, word: int) -> None:
        self.world.step("file_write", which, index, word)

    @rule(which=few, index=number, pages=number)
    def file_read(self, which: int, index: int, pages: int) -> None:
        self.world.step("file_read", which, index, pages)

    @rule(which=few, size=number)
    def truncate(self, which: int, size: int) -> None:
        self.world.step("truncate", which, size)

    @rule(who=few, which=number, skip=number, write=st.booleans())
    def pin(self, who: int, which: int, skip: int, write: bool) -> None:
        self.world.step("pin", who, which, skip, write)

    @rule(which=number)
    def unpin(self, which: int) -> None:
        self.world.step("unpin", which)

    @rule(who=few, which=number, fail=fail)
    def migrate(self, who: int, which: int, fail: int) -> None:
        self.world.step("migrate", who, which, fail=fail)

    @rule(limit=number)
    def writeback(self, limit: int) -> None:
        self.world.step("writeback", limit)

    @rule(pages=number)
    def reclaim(self, pages: int) -> None:
        self.world.step("reclaim", pages)

    @rule(ns=st.integers(1, 20_000))
    def time_passes(self, ns: int) -> None:
        self.world.step("tick", ns)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.end()


def _machine(scheme: str, paging: str, spare: str) -> type[ProgramMachine]:
    kind, options = SCHEMES[scheme]
    return type(
        "Program", (ProgramMachine,), {"scheme": kind, "options": options, "paging": paging, "spare": SPARE[spare]}
    )


def _settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
    )


EVERY = [(scheme, paging, spare) for scheme in SCHEMES for paging in ("pae", "2level") for spare in SPARE]
DISTINCT = [scheme for scheme in SCHEMES if scheme in box.DISTINCT or scheme not in box.SCHEMES]
CELLS = [cell for cell in EVERY if cell[0] in DISTINCT]


@pytest.mark.covering
@pytest.mark.parametrize("scheme, paging, spare", CELLS)
def test_programs(scheme: str, paging: str, spare: str) -> None:
    """A few short programs for each cell, chosen by hypothesis, shrunk where they fail."""
    run_state_machine_as_test(_machine(scheme, paging, spare), settings=_settings(8, 50))


@pytest.mark.covering
@pytest.mark.parametrize("scheme, paging, spare", CELLS)
def test_wandering(scheme: str, paging: str, spare: str) -> None:
    """Longer programs with the weights of OPERATIONS: they reach states that need a history."""
    for seed in range(4):
        kind, options = SCHEMES[scheme]
        wander(World(kind, paging, SPARE[spare], **options), seed + 100 * CELLS.index((scheme, paging, spare)), 150)


@pytest.mark.slow
@pytest.mark.parametrize("scheme, paging, spare", EVERY)
def test_programs_at_length(scheme: str, paging: str, spare: str) -> None:
    run_state_machine_as_test(_machine(scheme, paging, spare), settings=_settings(200, 80))


@pytest.mark.slow
@pytest.mark.parametrize("scheme, paging, spare", EVERY)
def test_wandering_at_length(scheme: str, paging: str, spare: str) -> None:
    kind, options = SCHEMES[scheme]
    for seed in range(
        100_000 + 1000 * EVERY.index((scheme, paging, spare)), 100_100 + 1000 * EVERY.index((scheme, paging, spare))
    ):
        wander(World(kind, paging, SPARE[spare], **options), seed, 400)


def test_every_operation_has_a_rule() -> None:
    """What the wanderer can do, hypothesis can do."""
    rules = {"remap_file_pages": "remap", "time_passes": "tick"}
    assert set(OPERATIONS) - {"munmap_area"} <= {rules.get(name, name) for name in vars(ProgramMachine)}


@pytest.mark.parametrize(
    "scheme", [scheme if scheme in DISTINCT else pytest.param(scheme, marks=pytest.mark.thorough) for scheme in SCHEMES]
)
def test_the_programs_reach_what_they_are_for(scheme: str) -> None:
    """A wander in scarce memory swaps, unmaps shared pages by walks, copies on write, reads files again: else the tests
    above prove little."""
    kind, options = SCHEMES[scheme]
    asked = ("walks", "hits", "migrations") if issubclass(kind, WalkScheme) else ("scans", "scan_unmapped")
    wanted = ("cow", "reuse", "zero_page", *asked, "pswpin", "pswpout", "pgmajfault", "kswapd_steal")
    total: dict[str, int] = {}
    for seed in range(6):
        world = World(kind, "pae", SPARE["scarce"], **options)
        wander(world, seed, 200)
        for name, n in (world.mem.meters.as_dict() | world.mem.sync_vmstat().as_dict()).items():
            total[name] = total.get(name, 0) + n
        if all(total[name] > 3 for name in wanted):
            break
    for name in wanted:
        assert total[name] > 3, f"{name} is {total[name]}"
