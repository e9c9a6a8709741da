"""Memory pressure drives every scheme through its walks: on pages shared by fork, on moved pages, on file pages; and
what it cost at the peak follows from the arguments."""

from __future__ import annotations

import pytest

from sandbox.result import Result
from tests.guests.cells import SCHEMES, Cell, check, native_works, run

pytestmark = pytest.mark.skipif(not native_works(), reason="this host cannot build or run i386 programs")

LINE = 32
NRPTE = LINE // 4 - 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_pages_shared_by_fork(scheme: str) -> None:
    result = check(Cell("fork_cow", ("900", "3", "300"), scheme, "pae", "scarce"))
    assert result.meters["walks"] > 0 and result.meters["hits"] > 0
    assert result.vmstat["pswpout"] > 0 and result.meters["cow"] > 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_moved_pages(scheme: str) -> None:
    result = check(Cell("mremap_pingpong", ("1400",), scheme, "pae", "scarce"))
    assert result.meters["hits"] > 0 and result.vmstat["pswpout"] > 0
    assert result.meters["mremap_copies"] == 0  # neither scheme has to copy a page to move it


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.thorough  # test_same.py maps files in scarce memory too
def test_file_pages(scheme: str) -> None:
    """The root is a tmpfs: its pages are unmapped through the file's index (or their chains) and go to swap through
    their own."""
    result = check(Cell("shared_map", ("4", "1300", "1"), scheme, "pae", "scarce"))
    hits = result.meters["file_hits"] if scheme == "anon_vma" else result.meters["hits"]
    assert hits > 0 and result.vmstat["pswpout"] > 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_twice_the_ram(scheme: str) -> None:
    result = check(Cell("swap_storm", ("16", "1"), scheme, "pae", "scarce"))
    assert result.vmstat["pswpout"] > 1500 and result.vmstat["pswpin"] > 1500


def slab(result: Result, name: str) -> int:
    return result.lowmem.owners[f"slab:{name}"].peak_objects or 0


def test_chain_nodes_at_peak_follow_from_the_arguments() -> None:
    """While all children live, each of the parent's pages is mapped by everybody who has not written it."""
    counts = []
    for pages in (512, 1024):
        _, result = run(Cell("fork_cow", (str(pages), "5", "0"), "pte_chain"))
        counts.append(slab(result, "pte_chain"))
    # 6 mappings of a page fit one node of 7; what else the processes share (text, stack) is the same in both runs.
    assert counts[1] - counts[0] == 512
    counts = []
    for pages in (512, 1024):
        _, result = run(Cell("fork_cow", (str(pages), "9", "0"), "pte_chain"))
        counts.append(slab(result, "pte_chain"))
    assert counts[1] - counts[0] == 512 * -(-10 // NRPTE)


def test_anon_vmas_at_peak_follow_from_the_areas() -> None:
    """One anon_vma per area with anonymous pages, shared by all children: neither pages nor children add any."""
    counts = set()
    for pages, children in ((256, 2), (1024, 2), (256, 6)):
        _, result = run(Cell("fork_cow", (str(pages), str(children), "0"), "anon_vma"))
        counts.add(slab(result, "anon_vma"))
    assert len(counts) == 1
