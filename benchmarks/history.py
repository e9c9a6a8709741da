"""The workloads of the argument at their real parameters, under the schemes they concern. Writes docs/history.md; each
row runs alone by its name, and a run that was stopped goes on where it was.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import msgspec

from benchmarks.cells import ROOT, Cell, Measured, Store, Value, arguments, chosen, command, wrapped

DOCUMENT = ROOT / "docs" / "history.md"
STORE = ROOT / "build" / "history.json"
MB = 1 << 20
LIMIT = 300  # wall seconds a run may take

LIST, TREE = "partial_objrmap", "partial_objrmap:i_mmap=prio_tree"


class Then(msgspec.Struct, frozen=True):
    """What history tells of a scheme: the figure as it was told, and the number in it."""

    said: str
    value: float


class Row(msgspec.Struct, frozen=True):
    """A workload. `reference` is the scheme that ratios are to; `measure` what is compared, `unit` its unit; `then`:
    scheme -> what was told of it."""

    name: str
    title: str
    about: str
    program: str
    arguments: str
    settings: dict[str, Value]
    schemes: tuple[str, ...]
    measure: Callable[[Measured], float]
    unit: str
    then: dict[str, Then]

    @property
    def reference(self) -> str:
        return self.schemes[0]

    def cells(self) -> list[Cell]:
        settings = tuple(self.settings.items())
        return [
            Cell(f"{self.name} {scheme}", scheme, self.program, tuple(self.arguments.split()), settings, LIMIT)
            for scheme in self.schemes
        ]


LOOKED_AT = ("vmas_visited", "mms_visited", "ptes_probed", "nodes")


def looked_at(measured: Measured) -> float:
    """Millions of objects that walks, and what led them, looked at: areas, address spaces, PTEs, nodes of lists, trees
    and chains."""
    meters = measured.meters
    names = [*LOOKED_AT, *(f"file_{name}" for name in LOOKED_AT), "vma_lookup_nodes", "removal_nodes"]
    return sum(meters.get(name, 0) for name in names) / 1e6


def kept(measured: Measured) -> float:
    """MB of low memory that are the scheme's at its fullest, but for the word in each struct page."""
    return sum(count for name, count in measured.scheme_bytes.items() if name != "mem_map") / MB


def _system(*figures: tuple[str, float]) -> dict[str, Then]:
    return {scheme: Then(f"{seconds:,g} s", seconds) for scheme, seconds in figures}


SMALL: dict[str, Value] = {"memory": "256M", "swap": "1G", "paging": "2level"}
FILES = ("pte_chain", LIST, TREE, "virtual_scan")

ROWS = [
    Row(
        "rmap_test_1",
        "Morton's rmap-test 1",
        "100 tasks share 100 areas of 600 pages, gone through ten times in order; system time on a 256 MB Pentium 4 "
        "(April 2003; the tree: Venkatasubramanian's repetition of March 2004, scaled by its own pte_chain).",
        "rmap_test",
        "-l -i 10 -n 100 -s 600 -t 100",
        SMALL,
        FILES,
        looked_at,
        "M objects",
        _system(("pte_chain", 86.91), (LIST, 1143.26), (TREE, 63.94), ("virtual_scan", 75.30)),
    ),
    Row(
        "rmap_test_2",
        "Morton's rmap-test 2",
        "The same areas, two areas' worth of pages touched at random by each task; system time, as above.",
        "rmap_test",
        "-r -V 2 -i 1 -n 100 -s 600 -t 100",
        SMALL,
        FILES,
        looked_at,
        "M objects",
        _system(("pte_chain", 6.05), (LIST, 2.10), (TREE, 2.90), ("virtual_scan", 2.03)),
    ),
    Row(
        "rmap_test_3",
        "Morton's rmap-test 3",
        "One task, 10,000 areas of 7 pages, gone through ten times in order; system time, as above.",
        "rmap_test",
        "-l -i 10 -n 10000 -s 7 -t 1",
        SMALL,
        FILES,
        looked_at,
        "M objects",
        _system(("pte_chain", 3.75), (LIST, 146.45), (TREE, 3.79), ("virtual_scan", 4.83)),
    ),
    Row(
        "test_mmap2",
        "Molnar's test-mmap2",
        "57,600 areas of one page over one file in 32 processes; system time of Venkatasubramanian's repetition. With "
        "lists the machine was unusable for half an hour.",
        "mmap_windows",
        "2000 32",
        SMALL,
        ("pte_chain", LIST, TREE, "anon_vma"),
        looked_at,
        "M objects",
        _system(("pte_chain", 1.55), (TREE, 1.49)),
    ),
    Row(
        "test_mmap3",
        "Molnar's test-mmap3",
        "576,000 areas: the same with 18,000 in each of 32 processes (here on 1 GB, so that the areas fit).",
        "mmap_windows",
        "20000 32",
        {**SMALL, "memory": "1G"},
        ("pte_chain", LIST, TREE, "anon_vma"),
        looked_at,
        "M objects",
        _system(("pte_chain", 3.38), (TREE, 3.65)),
    ),
    Row(
        "grid",
        "van Riel's grid",
        "1,000 children write 1,000 pages each, then all are reclaimed once: a million pages under one anon_vma, whose "
        "list of 1,001 areas each walk goes through (January 2010). The ratio told is that of the areas looked at for "
        "a page.",
        "fork_server",
        "1000 1000 1000 1",
        {"memory": "8G", "swap": "8G"},
        ("anon_vma_chain", "anon_vma", "anonmm", "pte_chain"),
        looked_at,
        "M objects",
        {"anon_vma_chain": Then("1 area", 1), "anon_vma": Then("up to 1,001, half of it on average", 501)},
    ),
    Row(
        "segment_1G",
        "A shared segment, 100 x 1 GB",
        "26 million mappings on 16 GB: what the scheme keeps of low memory. Then: Arcangeli's reckoning of 8 bytes for "
        "each mapping.",
        "lowmem_crisis",
        "100 1G",
        {"memory": "16G", "swap": "1G"},
        ("pte_chain", "anonmm", "anon_vma"),
        kept,
        "MB",
        {"pte_chain": Then("200 MB", 200), "anon_vma": Then("9 kB", 0.009)},
    ),
    Row(
        "segment_2.7G",
        "A shared segment, 100 x 2.7 GB",
        "71 million mappings on 16 GB, as above: his own example of March 2004.",
        "lowmem_crisis",
        "100 2764M",
        {"memory": "16G", "swap": "1G"},
        ("pte_chain", "anonmm", "anon_vma"),
        kept,
        "MB",
        {"pte_chain": Then("0.53 GB", 540), "anon_vma": Then("9 kB", 0.009)},
    ),
    Row(
        "database",
        "The database box",
        "7,500 processes with 20 areas each on 32 GB (SuSE's OASB run of 7,504 users, without a shortage of low "
        "memory). What the scheme keeps.",
        "vma_explosion",
        "20 apart 7500 1 no",
        {"memory": "32G", "swap": "1G", "overcommit": 1},
        ("pte_chain", "anonmm", "anon_vma", "anon_vma_chain"),
        kept,
        "MB",
        {},
    ),
    Row(
        "generations",
        "Endless generations",
        "10,000 forks whose parents exit: 2.6.34 and 3.7 keep an anon_vma for each generation and area (reported in "
        "2012), 4.0 and 2022 at most twice as many as areas. What the scheme keeps.",
        "fork_chain",
        "10000 48 6 exit 0",
        {"memory": "256M"},
        (
            "anon_vma_chain:era=2022",
            "anon_vma_chain:era=4.0",
            "anon_vma_chain:era=3.7",
            "anon_vma_chain:era=2.6.34",
            "anon_vma",
            "anonmm",
        ),
        kept,
        "MB",
        {},
    ),
    Row(
        "tasks",
        "Many tasks",
        "10,000 live processes, forked by one, each with 4 pages of its own. What the scheme keeps.",
        "fork_server",
        "10000 64 4 1 no",
        {"memory": "16G", "swap": "1G", "overcommit": 1},
        ("pte_chain", "anonmm", "anon_vma", "anon_vma_chain"),
        kept,
        "MB",
        {},
    ),
]


def _figure(value: float) -> str:
    """Three figures."""
    if value and abs(value) < 0.0095:
        return f"{value:.1g}"
    return f"{value:,.0f}" if abs(value) >= 99.5 else f"{value:.1f}" if abs(value) >= 9.95 else f"{value:.2f}"


def _ratio(value: float | None, reference: float | None) -> str:
    if value is None or not reference:
        return "-"
    ratio = value / reference
    return f"1/{1 / ratio:,.0f}" if 0 < ratio < 0.0095 else f"{_figure(ratio)} x"


def _table(row: Row, outcomes: dict[Cell, Measured]) -> list[str]:
    lines = [
        f"| scheme | then | ratio | here, {row.unit} | ratio | wall, s | host memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    cells = row.cells()
    first, reference = outcomes.get(cells[0]), row.then.get(row.reference)
    for cell in cells:
        told, measured = row.then.get(cell.scheme), outcomes.get(cell)
        then = [told.said if told else "-", _ratio(told.value, reference.value) if told and reference else "-"]
        if measured is None:
            here = ["not run", "-", "-", "-"]
        else:
            whole = first is not None and first.ended == measured.ended == "exited"
            ratio = _ratio(row.measure(measured), row.measure(first)) if first is not None and whole else "-"
            cut = "" if measured.fits else " (cut)" if measured.ended == "time_limit" else f" ({_why(measured)})"
            here = [
                _figure(row.measure(measured)) + cut,
                ratio,
                f"{measured.wall:,.0f}",
                f"{measured.resident / MB:,.0f}",
            ]
        lines.append(f"| `{cell.scheme}` | " + " | ".join([*then, *here]) + " |")
    return lines


def _why(measured: Measured) -> str:
    return "low memory ran out" if measured.killed else measured.said or measured.ended


ABOUT = f"""Written by `make history` (`python -m benchmarks.history`), each line one run. *Then* is what was told,
*here* what the run met: the objects that walks looked at, in millions, or the low memory that the scheme kept, in MB.
Ratios are to the table's first line. System times of then hold faults, zeroing and input as well as walks, and are from
machines with their own disks; an area that is passed on a list counts as much here as a PTE that is looked at, and took
nanoseconds where a fault took microseconds. So the order of those ratios is to be compared, and their size only where
walks were nearly all of the time. *Cut*: not done after {LIMIT} s of wall time; its count is that of what was done."""


def document(outcomes: dict[Cell, Measured]) -> str:
    """The page, from whatever was measured."""
    text = ["# The workloads of the argument at their own size", "", *wrapped(ABOUT.replace("\n", " ")), ""]
    for row in ROWS:
        text += [f"## {row.title}", "", *wrapped(f"{row.about} Alone: `make history ROWS={row.name}`."), ""]
        text += [f"`{row.cells()[0].command()}`", "", *_table(row, outcomes), ""]
    return "\n".join(text)


def _told(cell: Cell, measured: Measured) -> str:
    return "" if measured.fits else f"{measured.ended}: {_why(measured)}"


def main(argv: list[str] | None = None) -> int:
    """The command."""
    known = [row.name for row in ROWS]
    parser = arguments("python -m benchmarks.history", __doc__ or "", "row", known, STORE, DOCUMENT)
    options = parser.parse_args(argv)

    def wanted() -> list[Cell]:
        names = chosen(options.row, known, "row")
        return [cell for row in ROWS if row.name in names for cell in row.cells()]

    def page(store: Store) -> str:
        every = [cell for row in ROWS for cell in row.cells()]
        return document({cell: measured for cell in every if (measured := store.get(cell)) is not None})

    return command(parser, options, wanted, _told, page)


if __name__ == "__main__":
    sys.exit(main())
