"""The benchmarks: native and sandbox taking turns, then one table.

Exit status 1 when a figure is at twice its bound or beyond.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from benchmarks import core, cpu_trap, guest
from benchmarks.table import Figure, FigureOutcome, collect, outcome, render, render_markdown
from mmcore.rmap import WalkScheme
from sandbox.schemes.registry import load_scheme, scheme_names

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
ROUNDS = 5
PER_PAGE = ("pte_chain", "partial_objrmap")  # schemes that pay per page at fork, as they did
# Units that make a row long enough to measure and short enough to repeat, here and natively.
UNITS = {
    "touch": 64,
    "cow": 64,
    "fork64": 20,
    "fork0": 200,
    "exit64": 3,
    "mremap64": 100,
    "mmap_munmap": 10000,
    "mmap_touch_munmap": 10000,
    "mprotect_split": 10000,
    "shared_touch": 64,
    "getppid": 100000,
    "pipe": 5000,
    "lcg": 40,
    "compute": 20,
    "tightloop": 60,
}
QUICK = {
    **UNITS,
    "touch": 32,
    "cow": 32,
    "fork64": 10,
    "fork0": 100,
    "mremap64": 50,
    "mmap_munmap": 4000,
    "mmap_touch_munmap": 4000,
    "mprotect_split": 4000,
    "getppid": 40000,
    "pipe": 2000,
    "lcg": 20,
    "compute": 10,
    "tightloop": 30,
}

ROWS = [
    Figure(
        "A",
        "compute",
        "compiled code without system calls",
        "here:compute",
        "bare:compute",
        1.25,
        1.05,
        "ms",
        against="Unicorn without hooks",
    ),
    Figure(
        "A",
        "lcg",
        "one block over and over, state in memory",
        "here:lcg",
        "bare:lcg",
        1.25,
        1.05,
        "ns",
        against="Unicorn without hooks",
    ),
    Figure(
        "A",
        "tightloop",
        "a two-instruction loop",
        "here:tightloop",
        "bare:tightloop",
        1.45,
        1.05,
        "ns",
        against="Unicorn without hooks",
    ),
    Figure("A", "touch", "anonymous first touch, a page", "here:touch", "fault", 3, 1.7, against="no-op fault"),
    Figure("A", "cow", "copy on write in a child, a page", "here:cow", "native:cow", 5, 3),
    Figure("A", "fork64", "fork + exit + wait, 64 MB touched", "here:fork64", "native:fork64", 1.5, 0.5, "ms"),
    Figure("A", "mremap64", "mremap moves 64 MB", "here:mremap64", "native:mremap64", 10, 2),
    Figure(
        "A",
        "mmap_touch_munmap",
        "mmap + touch + munmap, one page",
        "here:mmap_touch_munmap",
        "native:mmap_touch_munmap",
        12,
        8,
    ),
    Figure("A", "getppid", "getppid", "here:getppid", "trap", 4, 2.3, against="no-op trap"),
    Figure("A", "pipe", "pipe ping-pong, a round", "here:pipe", "native:pipe", 15, 7),
    Figure(
        "A",
        "hello",
        "`rmapbox run hello`, wall, warm",
        "hello",
        "interpreter",
        0.5,
        0.25,
        "s",
        "here",
        against="python, numpy, unicorn",
    ),
    Figure("A", "rss", "host memory, 64 MB guest that touches 32 MB", "rss", "", 150, 100, "MB", "here"),
    Figure("B", "unmap", "one try_to_unmap of a page mapped once", "unmap", "", 30, 12, "us", "here"),
    Figure("B", "walk", "a walk: one candidate", "walk", "", 4, 1.5, "us", "here"),
    Figure(
        "B",
        "walk1001",
        "a walk past 1,001 areas, the last of which has the page",
        "walk1001",
        "",
        800,
        40,
        "us",
        "here",
    ),
    Figure(
        "C", "swap", "sequential write of twice the RAM, pages/s", "swap", "", 15000, 40000, "/s", "here", rate=True
    ),
    Figure("C", "scan", "scanning a page that stays", "scan", "", 15, 5, "us", "here"),
    Figure("C", "exit64", "exit of the last owner of 64 MB", "here:exit64", "native:exit64", 4, 1, "ms"),
    Figure(
        "C",
        "areas",
        "18,000 areas in one address space (1/32 of test-mmap3)",
        "areas",
        "",
        60 / 32,
        15 / 32,
        "s",
        "here",
    ),
    Figure("C", "audit", "auditor, full pass over 100,000 mapped pages", "audit", "", 2, 0.5, "s", "here"),
    Figure("-", "fork0", "fork + exit + wait, next to nothing touched", "here:fork0", "native:fork0"),
    Figure("-", "mmap_munmap", "mmap + munmap, one page", "here:mmap_munmap", "native:mmap_munmap"),
    Figure("-", "mprotect_split", "mprotect that splits and merges", "here:mprotect_split", "native:mprotect_split"),
    Figure("-", "shared_touch", "shared file page, first touch", "here:shared_touch", "native:shared_touch"),
]


def scheme_rows() -> list[Figure]:
    """Every other scheme: fork of 64 MB, against anon_vma; what its walks cost, if it has any."""
    rows = []
    for name in scheme_names():
        if name == "anon_vma":
            continue
        bound, goal = (15, 5) if name in PER_PAGE else (1.3, 1.1)
        rows.append(
            Figure(
                "B",
                f"fork64:{name}",
                f"fork of 64 MB under {name}",
                f"scheme:{name}",
                "here:fork64",
                bound,
                goal,
                "ms",
                against="anon_vma",
            )
        )
        if issubclass(load_scheme(name), WalkScheme):
            rows.append(
                Figure(
                    "B", f"unmap:{name}", f"one try_to_unmap under {name}", f"unmap:{name}", "", 30, 12, "us", "here"
                )
            )
            rows.append(
                Figure(
                    "B",
                    f"walk:{name}",
                    f"one candidate of a walk under {name}",
                    f"walk:{name}",
                    "",
                    4,
                    1.5,
                    "us",
                    "here",
                )
            )
    return rows


def measure(name: str, units: dict[str, int]) -> Callable[[], float]:
    """The function behind a measure's name, `kind` or `kind:argument`."""
    kind, _, argument = name.partition(":")
    quick = units is QUICK
    simple: dict[str, Callable[[], float]] = {
        "trap": lambda: cpu_trap.trap_us(20_000, 3)[0] / 1e6,
        "fault": lambda: cpu_trap.noop_fault_us(units["touch"] << 8) / 1e6,
        "hello": lambda: guest.wall(["hello"]),
        "interpreter": guest.bare_interpreter,
        "rss": lambda: guest.resident(["--memory", "64M", "rmap_bench", "touch", "32"]),
        "swap": lambda: guest.swap_out(64 if quick else 128, "32M" if quick else "64M", "256M"),
        "scan": core.scan_staying,
        "walk1001": core.long_walk,
        "audit": lambda: core.audit_pages(),
        "areas": lambda: core.create_areas(),
    }
    if kind == "unmap":
        return functools.partial(core.unmap_once, argument or "anon_vma")
    if kind == "walk":
        return functools.partial(core.walk_candidate, argument or "anon_vma")
    if kind in simple:
        return simple[kind]
    if kind == "scheme":
        return functools.partial(guest.sandbox, "fork64", units["fork64"], argument)
    return functools.partial(
        {"native": guest.native, "here": guest.sandbox, "bare": guest.bare}[kind], argument, units[argument]
    )


def explain() -> str:
    """The conditions the figures hold under."""
    load = os.getloadavg()[0]
    return (
        f"medians over the rounds; a ratio is the median of each round's own, both sides measured next to each other "
        f"(load average {load:.1f} on {os.cpu_count()} CPUs; absolute figures need a quiet machine)"
    )


READING = """\
A row with a letter is held to a bound, and has a goal that would be better still: A is what a program meets, B what a
scheme costs, C the machine's larger jobs. Rows without a letter are for information. Here is the sandbox with
`--clock host`, PAE, scheme anon_vma, audit off and memory ample unless the row says otherwise."""


def document(results: list[FigureOutcome]) -> str:
    """docs/benchmarks.md."""
    written = textwrap.fill(f"Written by `python -m benchmarks --write`: {explain()}.", 120, break_on_hyphens=False)
    return "\n\n".join(("# Benchmarks", written, READING, render_markdown(results))) + "\n"


def arguments(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shorter rows, three rounds")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds ({ROUNDS})")
    parser.add_argument("--rows", metavar="A,B", help="only these rows; `--rows list` names them")
    parser.add_argument("--json", metavar="FILE", help="write every measurement")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Measures, prints, and says whether anything is far beyond its bound."""
    given = arguments(words)
    rows = sorted([*ROWS, *scheme_rows()], key=lambda row: "ABC-".index(row.group))
    if given.rows == "list":
        print("\n".join(f"{row.group}  {row.name:24} {row.text}" for row in rows))
        return 0
    if given.rows:
        wanted = given.rows.split(",")
        unknown = sorted(set(wanted) - {row.name for row in rows})
        if unknown:
            print(f"no such row: {', '.join(unknown)}; `--rows list` names them", file=sys.stderr)
            return 2
        rows = [row for row in rows if row.name in wanted]
    units = QUICK if given.quick else UNITS
    measures = {name: measure(name, units) for row in rows for name in (row.here, row.other) if name}
    noisy = sys.stderr.isatty()

    def tell(text: str) -> None:
        if noisy:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    samples = collect(measures, given.rounds or (3 if given.quick else ROUNDS), tell, guest.warm)
    tell("")
    results = [result for row in rows if (result := outcome(row, samples))]
    print(render(results))
    print(explain())
    if given.json:
        Path(given.json).write_text(json.dumps([result.as_dict() for result in results], indent=1) + "\n")
    if given.write:
        DOCUMENT.write_text(document(results))
    return int(any(result.verdict == "LATE" for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
