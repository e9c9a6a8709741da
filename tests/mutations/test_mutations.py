"""The kit kills the deliberate faults of each scheme's table: at least 95 of 100, and each survivor is explained.
Faults that only cost are left to the table's own counts.

A scheme added to rmap_plugins gets a file beside this one.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from typing import Any

import pytest

import rmap_plugins
import tests.mutations
from sandbox.kit.suite import quick
from sandbox.schemes.registry import load_scheme
from tests.mutations.fragments import replaced
from tests.mutations.runner import Mutant, killed, source_of

TABLES = {
    m.name: importlib.import_module(f"tests.mutations.{m.name}")
    for m in pkgutil.iter_modules(tests.mutations.__path__)
    if m.name not in ("runner", "fragments") and not m.name.startswith("test_")
}
ALL = [pytest.param(name, mutant, id=f"{name}-{mutant}") for name, table in TABLES.items() for mutant in table.MUTANTS]
LIVE = [
    pytest.param(name, mutant, id=f"{name}-{mutant}")
    for name, table in TABLES.items()
    for mutant in table.MUTANTS
    if mutant.name not in table.SURVIVORS
]
SURVIVING = [
    pytest.param(name, mutant, id=f"{name}-{mutant}")
    for name, table in TABLES.items()
    for mutant in table.MUTANTS
    if mutant.name in table.SURVIVORS
]


@pytest.mark.parametrize("name, mutant", ALL)
def test_each_fault_still_applies(name: str, mutant: Mutant) -> None:
    text, path = source_of(TABLES[name].MODULE)
    changed = replaced(text, mutant.old, mutant.new, mutant.at)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text)), "nothing is changed"
    compile(changed, str(path), "exec")


def test_every_bundled_scheme_has_a_table() -> None:
    assert set(TABLES) == {module.name for module in pkgutil.iter_modules(rmap_plugins.__path__)}


@pytest.mark.parametrize("name", TABLES)
def test_enough_of_them_are_killed(name: str) -> None:
    """Each that is not listed as a survivor is held to it below."""
    table = TABLES[name]
    names = [mutant.name for mutant in table.MUTANTS]
    assert len(names) == len(set(names)) >= 10
    assert set(table.SURVIVORS) <= set(names)
    assert 1 - len(table.SURVIVORS) / len(names) >= 0.95
    assert hasattr(table, "counts") or not any(mutant.costs for mutant in table.MUTANTS)
    assert all(len(reason) > 40 for reason in table.SURVIVORS.values())


@pytest.mark.covering("name")
@pytest.mark.parametrize("name, mutant", LIVE)
def test_killed(name: str, mutant: Mutant) -> None:
    failure = killed(TABLES[name].MODULE, mutant, getattr(TABLES[name], "counts", None))
    assert failure is not None, f"{name}: nothing notices {mutant.name!r}"


@pytest.mark.slow
@pytest.mark.parametrize("name, mutant", SURVIVING)
def test_survivors_still_survive(name: str, mutant: Mutant) -> None:
    """One that is killed now is no survivor any more: strike it from the list."""
    assert killed(TABLES[name].MODULE, mutant, getattr(TABLES[name], "counts", None)) is None


COUNTED = [
    pytest.param(name, dict(options), id="-".join((name, *(str(value) for _, value in options))))
    for name, table in TABLES.items()
    if hasattr(table, "counts")
    for options in sorted({mutant.options for mutant in table.MUTANTS if mutant.costs}, key=repr)
]


@pytest.mark.parametrize("name, options", COUNTED)
def test_the_counts_hold_without_a_fault(name: str, options: dict[str, Any]) -> None:
    TABLES[name].counts(load_scheme(name), options)


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("pte_chain", {"highpte": True, "cache_line": 64}),
    ("virtual_scan", {}),
    ("anonmm_chained", {}),
    ("rmap_series", {"stage": 9}),
    ("pte_chain", {}),
    ("anonmm", {}),
    ("anon_vma", {}),
    ("anon_vma", {"era": "2.6.9"}),
    ("anon_vma", {"flaws": True}),
    *(("anon_vma_chain", {"era": era}) for era in ("2.6.34", "3.7", "4.0", "2022")),
    ("anon_vma_chain", {"era": "4.0", "flaws": True}),
    ("partial_objrmap", {}),
    ("partial_objrmap", {"i_mmap": "prio_tree"}),
    *(("rmap_series", {"stage": stage}) for stage in (7, 8, 10, 11, 17, 38, 39, 40)),
]
_REST = pytest.mark.thorough, *[pytest.mark.slow] * (len(VARIANTS) - 2)  # of all but the first


@pytest.mark.parametrize(
    "name, options",
    [
        pytest.param(
            *variant, marks=_REST[k - 1] if k else (), id="-".join((variant[0], *map(str, variant[1].values())))
        )
        for k, variant in enumerate(VARIANTS)
    ],
)
def test_the_scheme_itself_passes(name: str, options: dict[str, Any]) -> None:
    """What kills the faults does not kill the scheme."""
    assert quick(load_scheme(name), options) is None
