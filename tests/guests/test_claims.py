"""What was said of the schemes when they competed, held as orderings and ratios of what they cost on the same programs.

Each program runs with the same memory under each scheme; all must print the same. docs/programs.md tells where each
expectation comes from.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import pytest

from sandbox import Config, Machine, toolchain
from sandbox.result import Result
from sandbox.schemes.spec import parse_spec, with_options

pytestmark = pytest.mark.skipif(
    toolchain.find_compiler() is None, reason="no compiler for i386 programs; `rmapbox doctor` says more"
)

WALKING = (
    "pte_chain",
    "partial_objrmap",
    "partial_objrmap:i_mmap=prio_tree",
    "anonmm",
    "anonmm_chained",
    "anon_vma",
    "anon_vma_chain:era=2.6.34",
    "anon_vma_chain",
)


class Costs(NamedTuple):
    """One run: `m` its meters, `slab` the most objects each cache ever held, `stdout`."""

    m: dict[str, int]
    slab: dict[str, int]
    reclaimed: int
    stdout: bytes

    @property
    def per_walk(self) -> float:
        """Objects looked at by an average walk of the scheme's own."""
        m = self.m
        return max(m["candidates"], m["vmas_visited"], m["mms_visited"]) / m["walks"]

    @property
    def per_file_walk(self) -> float:
        return max(self.m["file_nodes"], self.m["file_vmas_visited"]) / self.m["file_walks"]

    @property
    def links_per_fork(self) -> float:
        return self.m["fork_links"] / self.m["forks"]


@cache
def _run(program: str, args: str, scheme: str) -> Costs:
    name, options = parse_spec(scheme)
    config = Config(memory="16M", swap="128M", scheme=name, overcommit=1, stdin=b"", time_limit=120)
    result: Result = Machine(with_options(config, scheme, options)).run(
        [str(toolchain.program_path(program)), *args.split()], capture=True
    )
    assert (result.ended, result.exit_status) == ("exited", 0), (program, scheme, result.ended, result.stderr)
    slab = {
        name[5:]: owner.peak_objects or 0 for name, owner in result.lowmem.owners.items() if name.startswith("slab:")
    }
    return Costs(
        result.meters,
        slab,
        sum(n for name, n in result.vmstat.items() if name.startswith("pgsteal_")),
        result.stdout or b"",
    )


def run(program: str, args: str, *schemes: str) -> list[Costs]:
    """The program under each of the schemes; they must not differ in what the guest printed."""
    costs = [_run(program, args, scheme) for scheme in schemes]
    assert len({c.stdout for c in costs}) == 1
    return costs


# --- fork servers


def test_private_pages_of_many_children() -> None:
    """Every child has written every page: anon_vma looks at half of its brothers on average, and at twice as many when
    there are twice as many; the chain of anon_vmas, anonmm and pte_chain lead straight to the one. (van Riel 2010;
    Dickins 2004)"""
    few, many = (run("fork_server", f"{n} 64 64 1", "anon_vma")[0].per_walk for n in (8, 16))
    assert few > 8 / 2 and many > 16 / 2 and 1.6 < many / few < 2.2
    for scheme in ("pte_chain", "partial_objrmap", "anon_vma_chain:era=2.6.34", "anon_vma_chain"):
        assert run("fork_server", "16 64 64 1", scheme)[0].per_walk < 1.2, scheme
    assert run("fork_server", "16 64 64 1", "anonmm")[0].per_walk < 1.6
    assert len({c.m["hits"] + c.m["file_hits"] for c in run("fork_server", "16 64 64 1", *WALKING)}) == 1, (
        "they found the same"
    )


def test_pages_that_nobody_writes() -> None:
    """Shared by all: every scheme has to visit every mapping; what differs is what fork paid to know them."""
    chains, objects, spaces, avc = run("fork_server", "16 64 0 1", "pte_chain", "anon_vma", "anonmm", "anon_vma_chain")
    shared = 17  # mappings of each page
    for costs in (objects, spaces, avc):
        assert costs.m["candidates"] + costs.m["file_candidates"] < 1.2 * chains.m["candidates"]
    assert chains.links_per_fork > 64 and spaces.links_per_fork == 1
    assert objects.links_per_fork == objects.slab["anon_vma"], "one per area that has anonymous pages"
    assert avc.links_per_fork == 2 * objects.links_per_fork, "the parent's anon_vma and the child's own"
    assert chains.slab["pte_chain"] >= 64 * -(-shared // 7)


@pytest.mark.parametrize("written", [0, 16, 64])
def test_the_grid_between(written: int) -> None:
    """The more is written, the worse for anon_vma; the chain of anon_vmas never looks at more."""
    objects, avc = run("fork_server", f"16 64 {written} 1", "anon_vma", "anon_vma_chain")
    ratio = objects.m["vmas_visited"] / avc.m["vmas_visited"]
    assert ratio >= 1 and (ratio > 2 if written == 16 else ratio > 6 if written == 64 else ratio < 1.5)


# --- shells


def test_shells_that_fork_and_exec() -> None:
    """A fork that execs at once pays for nothing: per page under pte_chain, less without file pages ("gives nearly
    everything", Bligh 2004), per area under anon_vma (twice that with chains), once under anonmm."""
    order = ("pte_chain", "partial_objrmap", "anon_vma_chain", "anon_vma", "anonmm")
    links = [c.links_per_fork for c in run("exec_shells", "", *order)]
    assert links == sorted(links, reverse=True) and links[-1] == 1
    assert links[0] > 1.5 * links[1] > 1.5 * links[3] and links[2] == 2 * links[3]


# --- many areas over one file


@pytest.mark.parametrize("test", ["-l -i 2 -n {n} -s 6 -t 10", "-l -i 2 -n {n} -s 2 -t 1"], ids=["1", "3"])
def test_lists_are_quadratic_and_trees_are_not(test: str) -> None:
    """rmap-test 1 and 3 (Morton 2003, Venkatasubramanian 2004): twice the areas are twice the pages, and on a list
    twice the work for each of them."""
    scale = 30 if "-t 10" in test else 200
    small, large = (
        run("rmap_test", test.format(n=n), "partial_objrmap", "partial_objrmap:i_mmap=prio_tree", "pte_chain")
        for n in (scale, 2 * scale)
    )
    assert 1.8 < large[0].per_file_walk / small[0].per_file_walk < 2.3
    assert 1 <= large[1].per_file_walk / small[1].per_file_walk < 1.3
    assert large[0].m["file_nodes"] > 10 * large[1].m["file_nodes"]
    work = large[0].m["file_nodes"] / small[0].m["file_nodes"]
    assert 3.2 < work < 4.8, "quadratic in the number of areas"
    # What both find is what the exact scheme finds.
    for costs in (*small[:2], *large[:2]):
        exact = (small if costs in small else large)[2]
        assert costs.m["hits"] + costs.m["file_hits"] == exact.m["hits"]


def test_windows_of_one_page_each() -> None:
    """test-mmap3 (Molnar 2004): a list shows every area of every process for each page, a tree those that cover it."""
    listed, tree = run("mmap_windows", "400 4 mmap", "partial_objrmap", "partial_objrmap:i_mmap=prio_tree")
    assert listed.per_file_walk > 0.5 * 360 * 4 and tree.per_file_walk < 4 + 2 * 11
    # remap_file_pages: the same window in one area.
    windows, remapped = (
        run("mmap_windows", "400 4 mmap", "anon_vma")[0],
        run("mmap_windows", "400 4 remap", "anon_vma")[0],
    )
    assert windows.slab["vm_area_struct"] > 360 * 4 and remapped.slab["vm_area_struct"] < 60


@pytest.mark.parametrize("processes", [7, 8, 15])
def test_a_segment_shared_by_many(processes: int) -> None:
    """Chains cost a node of low memory for every seven mappings of a page (32-byte lines); file pages under every other
    scheme cost nothing."""
    pages = 128
    chains, partial, objects = run("shared_segment", f"{processes} {pages}", "pte_chain", "partial_objrmap", "anon_vma")
    per_page = -(-processes // 7)
    assert per_page * pages <= chains.slab["pte_chain"] < per_page * pages + 90
    assert partial.slab["pte_chain"] < 60
    assert objects.slab["anon_vma"] < 10 and "pte_chain" not in objects.slab


def test_a_page_goes_when_the_scan_has_met_all_its_ptes() -> None:
    """Without a reverse map every mapping has to be met by the scan before a page can go."""
    few, many = (run("shared_segment", f"{n} 128", "virtual_scan")[0] for n in (4, 16))
    assert 0.6 * 4 < few.m["scan_unmapped"] / few.reclaimed and 0.6 * 16 < many.m["scan_unmapped"] / many.reclaimed
    assert many.m["ptes_probed"] / many.reclaimed > 2 * few.m["ptes_probed"] / few.reclaimed


# --- moves and splits


def test_moving_shared_pages() -> None:
    """anonmm copies a page that others map before it moves it; nobody else does (Dickins 2004)."""
    by_scheme = dict(zip(WALKING, run("mremap_storm", "3 32 3", *WALKING), strict=True))
    anonmm = by_scheme.pop("anonmm")
    assert anonmm.m["mremap_copies"] > 32
    for scheme, costs in by_scheme.items():
        assert costs.m["mremap_copies"] == 0 and costs.m["cow"] < anonmm.m["cow"], scheme
    # Chains rewrite an entry at each move, areas leave with their list entry.
    assert by_scheme["pte_chain"].m["links"] > by_scheme["anon_vma"].m["links"] > 10 * anonmm.m["links"]


def test_one_area_in_many_pieces() -> None:
    """mprotect has cut an area to pieces: lists of areas show a third or more of them for each page, an interval tree
    those that cover it, and schemes without areas never noticed (the reason for 3.7's trees)."""
    listed, old, tree, chains, spaces = run(
        "mprotect_storm", "", "anon_vma", "anon_vma_chain:era=2.6.34", "anon_vma_chain:era=3.7", "pte_chain", "anonmm"
    )
    pieces = listed.slab["vm_area_struct"] - 10
    assert listed.per_walk > pieces / 4 and old.per_walk > pieces / 4
    assert tree.per_walk == chains.per_walk == spaces.per_walk == 1
    assert listed.m["candidates"] == tree.m["candidates"], "pieces that do not cover the page are passed by arithmetic"


# --- generations


def test_generations_whose_parents_exit() -> None:
    """Before 4.0 each generation leaves an anon_vma and a link that nothing frees while descendants live; from 4.0 on
    there are no more than twice the areas."""
    counts = {}
    for scheme in ("anon_vma_chain:era=2.6.34", "anon_vma_chain:era=3.7", "anon_vma_chain:era=4.0", "anon_vma_chain"):
        short, long = (run("fork_chain", f"{n} 48 6 exit", scheme)[0] for n in (24, 60))
        counts[scheme] = (short.slab["anon_vma"], long.slab["anon_vma"], long.slab["vm_area_struct"])
    for era in ("2.6.34", "3.7"):
        short, long, _ = counts[f"anon_vma_chain:era={era}"]
        assert long - short >= 36 * 3, "each generation adds one per area"
    for scheme in ("anon_vma_chain:era=4.0", "anon_vma_chain"):
        short, long, areas = counts[scheme]
        assert short == long <= 2 * areas
    objects, spaces = (run("fork_chain", "60 48 6 exit", scheme)[0] for scheme in ("anon_vma", "anonmm"))
    assert objects.slab["anon_vma"] < 10 and spaces.slab["anonmm"] < 30


def test_generations_that_all_live() -> None:
    """Depth d takes d + 1 links per area: quadratic in all; anonmm adds one object per generation."""
    short, long = (run("fork_chain", f"{n} 48 6 stay", "anon_vma_chain:era=3.7")[0] for n in (12, 24))
    assert 3 < long.m["fork_links"] / short.m["fork_links"] < 4.2
    short, long = (run("fork_chain", f"{n} 48 6 stay", "anonmm")[0] for n in (12, 24))
    assert long.slab["anonmm"] - short.slab["anonmm"] == 12


# --- very many areas


def test_very_many_areas() -> None:
    """An object per area that stands alone under anon_vma, two with chains, none where areas do not matter."""
    objects, avc, spaces, chains = run(
        "vma_explosion", "400 apart", "anon_vma", "anon_vma_chain", "anonmm", "pte_chain"
    )
    assert 400 <= objects.slab["anon_vma"] < 410
    assert 400 <= avc.slab["anon_vma"] < 410 and avc.slab["anon_vma_chain"] == avc.slab["anon_vma"]
    assert spaces.slab["anonmm"] == 1 and chains.slab["pte_chain"] <= 1
    shared, apart = run("vma_explosion", "400 protections", "anon_vma")[0], objects
    assert shared.slab["anon_vma"] < 10, "neighbours that mprotect could join share one"
    assert shared.per_walk > 20 * apart.per_walk, "and each walk looks at all of them"
