"""The rows of `compare` that tell work hold all of it: the scheme's, the file index's and find_vma's, each derived here
from raw meters."""

import io
import json

import pytest

from mmcore.stats import Meters
from sandbox.lab.compare_table import print_table, rows
from tests.cli.test_lab import make_result

KINDS = {
    "walks": ("walks", "file_walks"),
    "candidates": ("candidates", "file_candidates"),
    "hits": ("hits", "file_hits"),
    "misses": ("misses", "file_misses"),
    "areas": ("vmas_visited", "file_vmas_visited"),
    "address spaces": ("mms_visited",),
    "PTEs probed": ("ptes_probed", "file_ptes_probed"),
    "nodes": ("nodes", "file_nodes", "vma_lookup_nodes"),
}
PARTS = ("scheme", "file index", "find_vma")


def run(seed, scans=0, empty=()):
    """A run in which every meter of work is another number."""
    result = make_result()
    names = sorted(
        name
        for name in Meters.NAMES
        if name.startswith("file_") or name in sum(KINDS.values(), ()) or name in ("vma_lookups", "longest_walk")
    )
    result.meters.update(
        {name: 0 if name in empty else 1000 * seed + 37 * k + seed * k * k for k, name in enumerate(names)}, scans=scans
    )
    result.vmstat["pgsteal_normal"] = 100 * seed
    result.walk_lengths = {"scheme": {"1": 10 * seed, "2-3": 6}, "file": {"2-3": 5, "8-15": 30}}
    return result


def table(results):
    found = rows(results)
    names = [(row.section, row.name) for row in found]
    assert len(set(names)) == len(names)
    return {(row.section, row.name): row for row in found}


def test_every_row_of_work_is_the_sum_of_its_parts():
    results = [run(1), run(3)]
    found = table(results)
    steal = [sum(n for name, n in result.vmstat.items() if name.startswith("pgsteal_")) for result in results]
    for kind, meters in KINDS.items():
        total = [sum(result.meters[name] for name in meters) for result in results]
        row = found["walks", kind]
        assert row.values == total and row.ratios == [1, pytest.approx(total[1] / total[0], rel=1e-5)], kind
        if kind != "hits":
            assert found["work per page reclaimed", kind].values == [
                pytest.approx(n / pages, abs=1e-4) for n, pages in zip(total, steal)
            ], kind
        if len(meters) == 1:
            continue
        for part, name in zip(PARTS, meters):
            raw = [result.meters[name] for result in results]
            assert found["walks", f"{kind}, {part}"].values == raw
            if kind != "hits":
                assert found["work per page reclaimed", f"{kind}, {part}"].values == [
                    pytest.approx(n / pages, abs=1e-4) for n, pages in zip(raw, steal)
                ]
    order = [name for section, name in found if section == "work per page reclaimed"]
    assert order[order.index("nodes") :] == ["nodes", "nodes, scheme", "nodes, file index", "nodes, find_vma"]


def test_no_meter_of_a_walk_is_left_out():
    """A meter that comes later has to be said to be work, or not."""
    other = {name for name in Meters.NAMES if name.startswith(("scan", "fork", "migrat", "mremap", "merges"))} | {
        "cow",
        "reuse",
        "zero_page",
        "links",
        "allocations",
        "removal_nodes",
        "vma_lookups",
        "longest_walk",
        "file_longest_walk",
    }
    assert set(Meters.NAMES) - other == {name for meters in KINDS.values() for name in meters}


def test_lengths_are_those_of_all_walks():
    found = table([run(1), run(9)])
    section = "walks by objects looked at"
    assert (
        found[section, "1"].values == [10, 90]
        and found[section, "2-3"].values == [11, 11]
        and found[section, "8-15"].values == [30, 30]
    )
    assert found[section, "median"].values == ["8-15", "1"]
    assert found[section, "median, scheme"].values == ["1", "1"] and found[section, "median, file index"].values == [
        "8-15",
        "8-15",
    ]
    longest = found[section, "longest"].values
    assert longest == [
        max(result.meters["longest_walk"], result.meters["file_longest_walk"]) for result in (run(1), run(9))
    ]


def test_parts_stand_apart_only_where_there_are_two():
    file = tuple(name for name in Meters.NAMES if name.startswith("file_"))
    found = table([run(1, empty=(*file, "vma_lookup_nodes")), run(2, empty=(*file, "vma_lookup_nodes"))])
    assert not [name for _, name in found if name.startswith(("candidates,", "nodes,", "areas,"))]


def test_a_scan_is_not_told_as_few_candidates():
    found = table([run(1), run(2, scans=4)])
    for kind in ("walks", "candidates", "misses"):
        assert found["walks", kind].values[1] is None and found["walks", kind].ratios[1] is None
        assert found["work per page reclaimed", kind].values[1] is None
    assert found["walks", "areas"].values[1] and found["scans of address spaces", "scans"].values == [0, 4]


def test_the_rows_fit():
    out = io.StringIO()
    print_table(rows([run(1), run(2)]), ["pte_chain", "anon_vma"], out)
    assert all(row.name in out.getvalue() for row in rows([run(1), run(2)]))


def test_a_scheme_that_leaves_files_to_their_index_is_not_flattered(rmapbox, tmp_path):
    """Pages of one file in many processes: pte_chain's candidates are its own, most of anon_vma's the index's, and
    those are not fewer."""
    ran = rmapbox("compare", "--pressure", "shared_map", "--rmap", "pte_chain,anon_vma", "--json", "c.json")
    assert ran.status == 0, ran.err
    raw = json.loads((tmp_path / "c.json").read_text())
    meters = [result["meters"] for result in raw["results"]]
    assert meters[1]["file_candidates"] > 2 * meters[1]["candidates"] and meters[0]["file_candidates"] == 0
    table = {(row["section"], row["name"]): row["ratios"][1] for row in raw["table"]}
    section = "work per page reclaimed"
    assert 1 < table[section, "candidates"] < 1.5 and table[section, "candidates, scheme"] < 0.5
