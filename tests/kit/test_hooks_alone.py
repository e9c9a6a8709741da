"""A scheme may override any hook alone: it is right, or refused with a line. Of a hook with two forms, the one
overridden serves one page and many."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcore.errors import PluginError
from mmcore.physical.frames import PG_ANON
from mmcore.rmap import HIT, Purpose, RmapScheme, ScanScheme, Walk, WalkScheme
from rmap_plugins.virtual_scan import VirtualScan
from sandbox import Config, Machine, toolchain
from sandbox.kit import suite
from sandbox.kit.replay import Cell
from sandbox.schemes.registry import load_scheme
from tests.mmcore.asking import between
from tests.mmcore.scan_scheme import ScanEverything

HOOKS = sorted(
    name
    for kind in (RmapScheme, WalkScheme, ScanScheme)
    for name, member in vars(kind).items()
    if not name.startswith("_") and (callable(member) or isinstance(member, classmethod))
)
ALONE = """
from {module} import {base} as Base
from tests.mmcore.asking import between
from mmcore.rmap import Walk

class Alone(Base):
    calls = 0
    {decorator}
    def {hook}(cls, *arguments):
        Alone.calls += 1
        return super().{hook}(*arguments) if hasattr(super(), "{hook}") else None
"""


@pytest.fixture(scope="module")
def life() -> str:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    return str(toolchain.compile_c(Path(__file__).with_name("life.c")))


def lives(life: str, scheme: str, **options: Any) -> Any:
    """The guest under full audit in so little memory that it swaps."""
    result = Machine(Config(memory="5M", audit="full", scheme=scheme, **options)).run(
        [life, "400", "exec"], capture=True
    )
    assert (result.notes.stdout, result.exit_status, result.audit.violations) == (b"ok\n", 0, 0), (
        result.notes,
        result.audit,
    )
    assert result.vmstat["pswpout"] > 100 and result.meters["cow"] > 10 and result.audit.checks > 10
    return result


@pytest.mark.parametrize("base", [ScanEverything, VirtualScan], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_is_overridden_alone(hook: str, base: type, life: str, tmp_path: Path) -> None:
    static = hook == "configure"
    file = tmp_path / "alone.py"
    file.write_text(
        ALONE.format(module=base.__module__, base=base.__name__, hook=hook, decorator="@classmethod" if static else "")
    )
    scans = issubclass(base, ScanScheme)
    if hook in (("walk", "nonlinear_addresses") if scans else ("swap_out",)):
        with pytest.raises(PluginError) as refused:
            load_scheme(f"{file}:Alone")
        text = str(refused.value)
        assert str(file) in text and "class Alone" in text and "\n" not in text and f"drop {hook}" in text
        return
    lives(life, f"{file}:Alone")
    calls = next(
        module.Alone.calls for name, module in sys.modules.items() if getattr(module, "__file__", None) == str(file)
    )
    unasked = {"move_check", "migrated"} if scans else set()  # no page of such a scheme is led to by a walk
    assert calls or hook in unasked, "it is never called"


class Book(ScanEverything):
    """Notes every PTE that maps a page, and every anonymous page, as it is told; what it is not told of is missing in
    `check`."""

    def __init__(self, env: Any, options: dict[str, Any]) -> None:
        super().__init__(env, options)
        self.places: dict[int, int] = {}
        self.homes: set[int] = set()

    def add_anon(self, pfn: int, vma: Any, address: int, pte: int, exclusive: bool, token: Any) -> int:
        answer = super().add_anon(pfn, vma, address, pte, exclusive, token)
        if not answer:
            self._put(pfn, pte)
            self.homes.add(pfn)
        return answer

    def add_file(self, pfn: int, vma: Any, address: int, pte: int, token: Any) -> None:
        self._put(pfn, pte)

    def dup(self, src: Any, dst: Any, pfns: Any, src_ptes: Any, dst_ptes: Any, token: Any) -> None:
        for pfn, pte in zip(pfns.tolist(), dst_ptes.tolist()):
            self._put(pfn, pte)

    def move(self, src: Any, dst: Any, delta: int, pfns: Any, src_ptes: Any, dst_ptes: Any, token: Any) -> None:
        super().move(src, dst, delta, pfns, src_ptes, dst_ptes, token)
        for pfn, old in zip(pfns.tolist(), src_ptes.tolist()):
            self._take(pfn, old)
        for pfn, new in zip(pfns.tolist(), dst_ptes.tolist()):
            self._put(pfn, new)

    def migrated(self, old: int, new: int) -> None:
        self.places.update({pte: new for pte, pfn in self.places.items() if pfn == old})
        if old in self.homes:
            self.homes.remove(old)
            self.homes.add(new)

    def walk(self, walk: Walk) -> None:
        def noted(visit: Any, mm: Any, address: int, vma: Any, pte: int) -> int:
            answer: int = visit(mm, address, vma, pte)
            if walk.purpose == Purpose.UNMAP and answer & 3 == HIT:
                self._take(walk.pfn, self.env.pgtables.pte_index(mm.pgd, address) if pte < 0 else pte)
            return answer

        super().walk(between(walk, noted))

    def _put(self, pfn: int, pte: int) -> None:
        assert pte not in self.places, f"PTE {pte:#x} is told of twice"
        self.places[pte] = pfn

    def _take(self, pfn: int, pte: int) -> None:
        assert self.places.pop(pte, None) == pfn, f"PTE {pte:#x} of frame {pfn:#x} was never told of"

    def _leave(self, pfn: int) -> None:
        assert pfn in self.homes, f"frame {pfn:#x} is released twice"
        self.homes.remove(pfn)

    def check(self) -> list[str]:
        frames = self.env.frames
        told = np.bincount(list(self.places.values()), minlength=frames.nr)
        wrong = [
            f"{told[pfn]} PTEs told: {frames.describe(pfn)}"
            for pfn in np.nonzero(told != frames.np_mapcount)[0].tolist()
        ]
        anonymous = set(np.nonzero((frames.np_flags & np.uint32(PG_ANON)) != 0)[0].tolist())
        return wrong + [f"released, or not: {frames.describe(pfn)}" for pfn in anonymous ^ self.homes]


def _remove(self: Any, vma: Any, pfns: np.ndarray, ptes: np.ndarray) -> None:
    assert (
        vma in vma.vm_mm.vmas
        and len(pfns) == len(ptes) > 0
        and isinstance(pfns, np.ndarray)
        and isinstance(ptes, np.ndarray)
    )
    for pfn, pte in zip(pfns.tolist(), ptes.tolist(), strict=True):
        self._take(pfn, pte)


def _released(self: Any, pfns: np.ndarray) -> None:
    for pfn in pfns[(self.env.frames.np_flags[pfns] & PG_ANON) != 0].tolist():
        self._leave(pfn)


def test_whoever_overrides_remove_and_released_is_told_of_all(life: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type("Mine", (Book,), {"remove": _remove, "released": _released})
    monkeypatch.setattr("sandbox.machine.load_scheme", lambda scheme: kind)
    lives(life, "anon_vma")
    for watch in (False, True):
        failure = suite.run_scenarios(
            kind, Cell(watch=watch), ["inherited", "files", "nonlinear", "moved_by_both", "wide_and_deep"]
        ).failure
        assert failure is None, failure.text


class ScanBook(VirtualScan):
    """What a scheme that scans is told: PTEs come and go, through `swap_out` too."""

    def __init__(self, env: Any, options: dict[str, Any]) -> None:
        super().__init__(env, options)
        self.gone: list[tuple[int, int]] = []
        self.left: list[int] = []


@pytest.mark.parametrize("paging", ["pae", "2level"])
def test_a_scan_tells_what_it_took(paging: str, life: str, monkeypatch: pytest.MonkeyPatch) -> None:
    schemes: list[Any] = []

    class Mine(ScanBook):
        def __init__(self, env: Any, options: dict[str, Any]) -> None:
            super().__init__(env, options)
            schemes.append(self)

        def remove(self, vma: Any, pfns: np.ndarray, ptes: np.ndarray) -> None:
            self.gone.extend(zip(pfns.tolist(), ptes.tolist()))

        def released(self, pfns: np.ndarray) -> None:
            self.left.extend(pfns.tolist())

    monkeypatch.setattr("sandbox.machine.load_scheme", lambda scheme: Mine)
    lives(life, "anon_vma", paging=paging)
    assert len(schemes[0].gone) > 1000 and len(schemes[0].left) > 500


def test_the_contract_can_be_learned() -> None:
    """At most 24 methods, a walk and a scan counted once (no scheme has both), and the picture not at all (no machine
    needs it)."""
    assert len({*HOOKS} - {"picture", "swap_out"}) <= 24
