"""What each scheme takes of low memory, and what it gives back against pte_chain: four programs on machines of 1 to
64 GB. Writes docs/low-memory.md; goes on where an earlier run was stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import msgspec

from benchmarks.cells import ROOT, Cell, Measured, Store, Value, arguments, chosen, command, wrapped

DOCUMENT = ROOT / "docs" / "low-memory.md"
STORE = ROOT / "build" / "lowmem.json"
SIZES = (1, 4, 16, 32, 64)
SCHEMES = ("pte_chain", "partial_objrmap", "anonmm", "anonmm_chained", "anon_vma", "anon_vma_chain", "virtual_scan")
MB = 1 << 20


ABOUT = """Written by `make lowmem` (`python -m benchmarks.lowmem`); each cell is one run. In MB: what the scheme takes
of low memory at its fullest, its fields in areas and address spaces included; in brackets what it frees against
`pte_chain` in the same program on the same machine. Left out is the word in each struct page, 1 MB for each GB, that
every scheme but `virtual_scan` has, pte_chain for the chain and the others for the count of mappings. The argument of
2004 was that either object-based scheme, anonmm or anon_vma, frees far more than it consumes. All machines have PAE,
896 MB of low memory and 1 GB of swap; sizes of structures are 2.6.7's (accounting `isolated`). *Does not fit*: low
memory ran out, and something was killed; what is freed against such a run is at least what it had got to."""


class Workload(msgspec.Struct, frozen=True):
    """A program whose size follows the machine's: `arguments` of its size in GB."""

    name: str
    title: str
    about: str
    program: str
    arguments: Callable[[int], tuple[str, ...]]
    highpte: bool = False

    def cell(self, size: int, scheme: str) -> Cell:
        settings: tuple[tuple[str, Value], ...] = (("memory", f"{size}G"), ("swap", "1G"), ("overcommit", 1))
        if self.highpte:
            settings += (("highpte", True),)
        return Cell(f"{self.name} {size}G {scheme}", scheme, self.program, self.arguments(size), settings)


def _words(*values: int | str) -> tuple[str, ...]:
    return tuple(str(value) for value in values)


WORKLOADS = [
    Workload(
        "desktop",
        "A desktop",
        "Fifteen programs for each GB, all there at once. Each maps the same twenty libraries of 60 pages of text and "
        "4 of data, has 2 MB of its own, and inherits 1 MB from whoever started it.",
        "desktop",
        lambda size: _words(15 * size, 20, 60, 4, 512, 256),
    ),
    Workload(
        "fork_server",
        "A fork server",
        "Sixteen children for each GB, forked by one server of 32 MB; each writes 1 MB of it, and all live at once.",
        "fork_server",
        lambda size: _words(16 * size, 8192, 256, 1, "no"),
    ),
    Workload(
        "database",
        "A database with a shared segment",
        "Four processes for each GB share a segment of 16 MB for each GB of the machine (256 processes and 1 GB at "
        "the largest). Page tables are in high memory (`highpte = true`): without that no scheme would get this far "
        "at 64 GB. An entry of a chain then has 8 bytes.",
        "lowmem_crisis",
        lambda size: _words(4 * size, f"{16 * size}M", "fork"),
        highpte=True,
    ),
    Workload(
        "many_areas",
        "Very many areas",
        "Two processes for each GB, each with 4,000 areas of one page, all inherited from the first and written.",
        "vma_explosion",
        lambda size: _words(4000, "apart", 2 * size, 1, "no"),
    ),
]


def taken(measured: Measured) -> int:
    """Bytes of low memory that are the scheme's: its fields in the kernel's structures and its own slab caches, each
    at its fullest. The word in each struct page, which all schemes but one have, is left out."""
    return sum(count for name, count in measured.scheme_bytes.items() if name != "mem_map")


def _megabytes(count: float) -> str:
    """Three figures, for a table."""
    value = count / MB
    text = f"{value:,.0f}" if abs(value) >= 99.5 else f"{value:.1f}" if abs(value) >= 9.95 else f"{value:.2f}"
    return "0" if float(text.replace(",", "")) == 0 else text


def _cell_text(measured: Measured | None, chains: Measured | None) -> str:
    if measured is None:
        return "-"
    if not measured.fits:
        reason = "does not fit" if measured.killed else f"ended otherwise ({measured.ended})"
        return f"{_megabytes(taken(measured))}, {reason}"
    if chains is None or measured is chains:
        return _megabytes(taken(measured))
    sign = "at least " if not chains.fits else ""
    return f"{_megabytes(taken(measured))} ({sign}{_megabytes(taken(chains) - taken(measured))})"


def _table(workload: Workload, outcomes: dict[Cell, Measured]) -> list[str]:
    lines = ["| scheme | " + " | ".join(f"{size} GB" for size in SIZES) + " |", "|---" * (len(SIZES) + 1) + "|"]
    chains = [outcomes.get(workload.cell(size, "pte_chain")) for size in SIZES]
    for scheme in SCHEMES:
        row = [
            _cell_text(outcomes.get(workload.cell(size, scheme)), chain)
            for size, chain in zip(SIZES, chains, strict=True)
        ]
        lines.append(f"| `{scheme}` | " + " | ".join(row) + " |")
    return lines


def _verdict(workload: Workload, outcomes: dict[Cell, Measured]) -> list[str]:
    """Whether each object-based scheme frees more than it takes, in a sentence computed from the table."""
    holds: list[str] = []
    fails: list[str] = []
    for scheme in ("anonmm", "anon_vma", "anon_vma_chain"):
        ratios = []
        for size in SIZES:
            chain = outcomes.get(workload.cell(size, "pte_chain"))
            own = outcomes.get(workload.cell(size, scheme))
            if chain is not None and own is not None and own.fits:
                ratios.append((taken(chain) - taken(own)) / taken(own))
        if not ratios:
            continue
        least, most = min(ratios), max(ratios)
        if least >= 1:
            holds.append(f"`{scheme}` {least:,.1f} to {most:,.1f} times")
        else:
            fails.append(f"`{scheme}` ({least:,.2f} to {most:,.2f})")
    lines = []
    if holds:
        lines.append(f"Frees, of what it takes itself: {'; '.join(holds)}.")
    if fails:
        lines.append(f"Here the claim does not hold, freed by taken: {'; '.join(fails)}.")
    return lines


def document(outcomes: dict[Cell, Measured]) -> str:
    """The page, from whatever was measured: a cell that was not is a dash."""
    text = [
        "# Low memory: what schemes take, and what they give back",
        "",
        *wrapped(ABOUT),
        "",
    ]
    for workload in WORKLOADS:
        text += [f"## {workload.title}", "", *wrapped(workload.about), ""]
        text += [f"`{workload.cell(16, 'anon_vma').command()}` is the cell of 16 GB.", ""]
        text += _table(workload, outcomes)
        for sentence in _verdict(workload, outcomes):
            text += ["", *wrapped(sentence)]
        text.append("")
    return "\n".join(text)


def _told(cell: Cell, measured: Measured) -> str:
    state = "" if measured.fits else ", does not fit" if measured.killed else f", {measured.ended}: {measured.said}"
    return f"takes {_megabytes(taken(measured))} MB{state}"


def main(argv: list[str] | None = None) -> int:
    """The command."""
    known = [workload.name for workload in WORKLOADS]
    parser = arguments("python -m benchmarks.lowmem", __doc__ or "", "workload", known, STORE, DOCUMENT)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="of the machine, in GB, by commas")
    options = parser.parse_args(argv)
    every = [w.cell(size, scheme) for w in WORKLOADS for size in SIZES for scheme in SCHEMES]

    def wanted() -> list[Cell]:
        names = chosen(options.workload, known, "workload")
        sizes = [int(size) for size in chosen(options.sizes.split(","), [str(size) for size in SIZES], "size")]
        return [w.cell(size, scheme) for w in WORKLOADS if w.name in names for size in sizes for scheme in SCHEMES]

    def page(store: Store) -> str:
        return document({cell: measured for cell in every if (measured := store.get(cell)) is not None})

    return command(parser, options, wanted, _told, page)


if __name__ == "__main__":
    sys.exit(main())
