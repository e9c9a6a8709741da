"""The watch blames what a scheme does, not what the page allocator does for it; and names the constructor that leaves
out its base class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmcore.physical.frames import BOOT, SLAB
from sandbox.kit import suite
from sandbox.kit.replay import Cell
from sandbox.kit.scenarios import SCENARIOS
from sandbox.schemes.registry import load_scheme
from tests.mmcore.scan_scheme import ScanEverything

PROGRAMS = Path(__file__).resolve().parents[1] / "guests/programs"


class PerProcess(ScanEverything):
    """One object per address space and per area; each goes with what it stands for."""

    size = 4096

    def __init__(self, env: Any, options: dict[str, Any]) -> None:
        super().__init__(env, options)
        self.cache = env.cache("per_process", self.size)
        self.held: dict[Any, int] = {}

    def _take(self, key: Any) -> None:
        self.held[key] = self.cache.alloc()

    def _drop(self, key: Any) -> None:
        address = self.held.pop(key, None)
        if address is not None:
            self.cache.free(address)

    def mm_created(self, mm: Any, parent: Any) -> None:
        self._take(mm)

    def mm_exited(self, mm: Any) -> None:
        self._drop(mm)

    def vma_copied(self, dst: Any, src: Any, how: str) -> None:
        self._take(dst)

    def vma_unlinked(self, vma: Any, into: Any) -> None:
        self._drop(vma)


def sized(size: int, **own: Any) -> type:
    return type(f"PerProcess{size}", (PerProcess,), {"size": size, **own})


@pytest.mark.parametrize("size", [40, 4096, 8192])
@pytest.mark.parametrize("paging", ["pae", "2level"])
def test_a_slab_that_goes_back_is_the_allocators(size: int, paging: str) -> None:
    kind = sized(size)
    failure = suite.run_scenarios(
        kind, Cell(paging, watch=True), [*list(SCENARIOS)[::6], "inherited", "generations"]
    ).failure
    assert failure is None, failure.text
    failure = suite.run_wanders(kind, Cell(paging, "scarce", True), range(1), 50, float("inf")).failure
    assert failure is None, failure.text


def _writes_boot(self: Any, mm: Any) -> None:
    PerProcess.mm_exited(self, mm)
    frames = self.env.frames
    frames.count[next(pfn for pfn in range(frames.nr) if frames.owner[pfn] == BOOT)] += 1


def _writes_slab(self: Any, mm: Any) -> None:
    PerProcess.mm_exited(self, mm)
    frames = self.env.frames
    frames.private[next(pfn for pfn in range(frames.nr) if frames.owner[pfn] == SLAB)] = 77


@pytest.mark.parametrize(
    "writes, said", [(_writes_boot, "writes frames.count"), (_writes_slab, "writes frames.private")]
)
def test_what_the_scheme_writes_beside_is_still_seen(writes: Any, said: str) -> None:
    failure = suite.run_scenarios(sized(4096, mm_exited=writes), Cell(watch=True), ["parents_exit_first"]).failure
    assert failure is not None and f"mm_exited {said}" in failure.text, failure


def test_a_constructor_without_super_is_named() -> None:
    kind = load_scheme(f"{PROGRAMS / 'initnosuper.py'}:Base")
    for watch in (True, False):
        failure = suite.run_scenarios(kind, Cell(watch=watch), ["holes"]).failure
        assert failure is not None and "scheme 'base': Base.__init__ (initnosuper.py, line " in failure.text, failure
        assert "call super().__init__(env, options)" in failure.text and not failure.text.startswith("PluginError")
    assert "Base.__init__ (initnosuper.py, line " in suite.check_contract(kind, {}).failure.text  # type: ignore[union-attr]
