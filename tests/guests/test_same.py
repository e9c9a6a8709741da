"""Every guest program sees here what it sees on the host's own kernel, under every scheme, paging and amount of memory.

The default run takes every program, scheme, paging and size of memory at least once. `pytest -m thorough` takes a
covering set: every program under every pair of (scheme, paging), (scheme, memory), (paging, memory), with mmfuzz's
seeds spread over the combinations; `pytest -m slow` everything, and thousands of seeds.
"""

from __future__ import annotations

import itertools

import pytest

from tests.guests.cells import MEMORIES, MODES, OTHERS, PAGINGS, PROGRAMS, SCHEMES, Cell, check, native_works

pytestmark = pytest.mark.skipif(
    not native_works(), reason="this host cannot build or run i386 programs; `rmapbox doctor` says why"
)

ALL = list(itertools.product(SCHEMES, PAGINGS, MEMORIES))
# Four of the eight combinations hold every pair of values.
PAIRWISE = [c for c in ALL if (SCHEMES.index(c[0]) + PAGINGS.index(c[1]) + MEMORIES.index(c[2])) % 2]
COVERING = [Cell(p, args, *c) for p, (args, _) in PROGRAMS.items() for c in PAIRWISE]
# The other schemes: each program short of memory, in one of the pagings.
COVERING += [
    Cell(p, args, s, PAGINGS[(i + j) % 2], "scarce")
    for i, (p, (args, _)) in enumerate(PROGRAMS.items())
    for j, s in enumerate(OTHERS)
]
EVERY = [*ALL, *itertools.product(OTHERS, PAGINGS, MEMORIES)]
FUZZ = [Cell("mmfuzz", (str(seed), "250"), *EVERY[seed % len(EVERY)]) for seed in range(100, 100 + 2 * len(EVERY))]
REST = [cell for p, (args, _) in PROGRAMS.items() for c in EVERY if (cell := Cell(p, args, *c)) not in COVERING]
MORE_FUZZ = [Cell("mmfuzz", (str(seed), "400"), *EVERY[seed % len(EVERY)]) for seed in range(1000, 4000)]


@pytest.mark.covering
@pytest.mark.parametrize("cell", COVERING, ids=str)
def test_same_as_native(cell: Cell) -> None:
    check(cell)


@pytest.mark.covering
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join((mode[0], *mode[1])))
def test_other_modes_same_as_native(mode: tuple[str, tuple[str, ...]], scheme: str) -> None:
    result = check(Cell(*mode, scheme, "pae", "scarce"))
    assert result.vmstat["pswpout"] > 0


@pytest.mark.covering("cell.scheme", "cell.paging", "cell.memory")
@pytest.mark.parametrize("cell", FUZZ, ids=str)
def test_fuzz_same_as_native(cell: Cell) -> None:
    check(cell)


@pytest.mark.slow
@pytest.mark.parametrize("cell", REST, ids=str)
def test_same_as_native_rest(cell: Cell) -> None:
    check(cell)


@pytest.mark.slow
@pytest.mark.parametrize("cell", MORE_FUZZ, ids=str)
def test_fuzz_same_as_native_thousands(cell: Cell) -> None:
    check(cell)


@pytest.mark.covering
@pytest.mark.parametrize("scheme", [*SCHEMES, *OTHERS])
@pytest.mark.parametrize("program", ["fork_tree", "mremap_pingpong"])
def test_full_audit(program: str, scheme: str) -> None:
    """The auditor at every fork, exit, mremap and reclaim pass."""
    result = check(Cell(program, PROGRAMS[program][0], scheme, "pae", "scarce", "full"))
    assert result.audit.checks > 5
