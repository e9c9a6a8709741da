"""What the default run leaves out is spread: each scheme and each value of each parameter stays in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.schemes.registry import scheme_names
from tests.conftest import covering, values_of
from tests.guests.cells import PROGRAMS, Cell
from tests.mmcore.test_failures import SCHEMES as FAILURE_SCHEMES
from tests.mutations.test_mutations import TABLES

ROOT = Path(__file__).resolve().parents[1]


def test_the_parts_of_a_parameter_count_one_by_one() -> None:
    cell = Cell("hello", ("1",), "pte_chain")
    assert ("cell.scheme", "'pte_chain'") in set(values_of({"cell": cell}))
    assert set(values_of({"cell": ("a", 1), "k": 2, "l": 3}, ["cell", "k"])) == {
        ("cell.0", "'a'"),
        ("cell.1", "1"),
        ("k", "2"),
    }
    assert set(values_of({"cell": cell, "k": 2}, ["cell.paging"])) == {("cell.paging", "'pae'")}


def test_few_cases_hold_every_value() -> None:
    cases = {
        f"{a}-{b}-{c}": set(values_of({"a": a, "b": b, "c": c})) for a in range(20) for b in range(5) for c in range(4)
    }
    kept = covering(cases)
    assert set().union(*(cases[name] for name in kept)) == set().union(*cases.values())
    assert 20 <= len(kept) <= 32
    assert kept == covering(dict(reversed(cases.items()))), "the order of collection decides nothing"
    assert covering({"one": {("a", "1")}}) == {"one"}, "a case asked for by its name runs"


@pytest.fixture(scope="module")
def chosen() -> list[str]:
    """The names of the cases that the default run takes of the tests which are thinned most."""
    files = ["tests/guests/test_same.py", "tests/mmcore/test_failures.py", "tests/mutations/test_mutations.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line]


def test_every_scheme_stays(chosen: list[str]) -> None:
    def cases(test: str) -> list[str]:
        return [name for name in chosen if name.startswith(test + "[")]

    for scheme in scheme_names():
        assert any(f"-{scheme}-" in name or f"-{scheme}:" in name for name in cases("test_same_as_native")), scheme
        assert any(f"[{scheme}-" in name for name in cases("test_killed")), scheme
    for program in PROGRAMS:
        assert any(
            f"[{program}-" in name for name in [*cases("test_same_as_native"), *cases("test_fuzz_same_as_native")]
        ), program
    for scheme in FAILURE_SCHEMES:
        assert any(f"{scheme}-{paging}" in name for name in cases("test_mremap") for paging in ("pae", "2level")), (
            scheme
        )
    assert len(cases("test_killed")) == len(TABLES)
    assert not any("thousands" in name for name in chosen)
