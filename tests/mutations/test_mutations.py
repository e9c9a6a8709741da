"""The kit kills the deliberate faults of each scheme's table: at least 95 of 100, and each survivor is explained.

A scheme added to rmap_plugins gets a file beside this one.
"""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import tests.mutations
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.suite import quick
from tests.mutations.runner import Mutant, killed, source_of

TABLES = {m.name: importlib.import_module(f"tests.mutations.{m.name}") for m in pkgutil.iter_modules(tests.mutations.__path__)
          if m.name != "runner" and not m.name.startswith("test_")}
ALL = [pytest.param(name, mutant, id=f"{name}-{mutant}") for name, table in TABLES.items() for mutant in table.MUTANTS]
LIVE = [pytest.param(name, mutant, id=f"{name}-{mutant}") for name, table in TABLES.items() for mutant in table.MUTANTS if mutant.name not in table.SURVIVORS]
SURVIVING = [pytest.param(name, mutant, id=f"{name}-{mutant}") for name, table in TABLES.items() for mutant in table.MUTANTS if mutant.name in table.SURVIVORS]


@pytest.mark.parametrize("name, mutant", ALL)
def test_each_fault_still_applies(name: str, mutant: Mutant) -> None:
    text, path = source_of(TABLES[name].MODULE)
    assert text.count(mutant.old) == 1, f"{path.name}: the text of {mutant.name!r} stands {text.count(mutant.old)} times"
    compile(text.replace(mutant.old, mutant.new), str(path), "exec")


@pytest.mark.parametrize("name", TABLES)
def test_enough_of_them_are_killed(name: str) -> None:
    """Each that is not listed as a survivor is held to it below."""
    table = TABLES[name]
    names = [mutant.name for mutant in table.MUTANTS]
    assert len(names) == len(set(names)) >= 10
    assert set(table.SURVIVORS) <= set(names)
    assert 1 - len(table.SURVIVORS) / len(names) >= 0.95
    assert all(len(reason) > 40 for reason in table.SURVIVORS.values())


@pytest.mark.parametrize("name, mutant", LIVE)
def test_killed(name: str, mutant: Mutant) -> None:
    failure = killed(TABLES[name].MODULE, mutant, getattr(TABLES[name], "counts", None))
    assert failure is not None, f"{name}: nothing notices {mutant.name!r}"


@pytest.mark.slow
@pytest.mark.parametrize("name, mutant", SURVIVING)
def test_survivors_still_survive(name: str, mutant: Mutant) -> None:
    """One that is killed now is no survivor any more: strike it from the list."""
    assert killed(TABLES[name].MODULE, mutant, getattr(TABLES[name], "counts", None)) is None


def test_the_scheme_itself_passes() -> None:
    """What kills the faults does not kill the scheme."""
    assert quick(PteChain, {"highpte": True, "cache_line": 64}) is None
