"""`rmapbox lowmem`: who held low memory, several runs side by side."""

from __future__ import annotations

import sys

from sandbox.cli.arguments import Parser


def main(words: list[str]) -> int:
    """Prints the low-memory table of one or more runs: at the peak and at exit."""
    parser = Parser(
        prog="rmapbox lowmem",
        description="Print who held low memory, at its fullest and at exit, several runs side by side.",
    )
    parser.add_argument(
        "results",
        metavar="RESULT.json",
        nargs="+",
        help="a file of `rmapbox run --json`, or of `rmapbox compare --json`: all its runs",
    )
    paths = parser.parse_args(words).results

    from sandbox.lab.failure import failed
    from sandbox.lab.lowmem import print_lowmem
    from sandbox.lab.summary import how_it_ended
    from sandbox.result import read_results

    found = [each for path in paths for each in read_results(path)]
    for name, result in found:
        if failed(result):
            print(
                f"rmapbox: {name}: the program failed: {how_it_ended(result)}: what it held may not compare",
                file=sys.stderr,
                flush=True,
            )
    print_lowmem([result for _, result in found], [name for name, _ in found])
    return 0
