"""`rmapbox lowmem`: who held low memory, several runs side by side."""

from __future__ import annotations

from sandbox.cli.arguments import Parser


def main(words: list[str]) -> int:
    """Print the low-memory table of one or more runs: at the peak and at exit."""
    parser = Parser(prog="rmapbox lowmem", description="Print who held low memory, at its fullest and at exit, several runs side by side.")
    parser.add_argument("results", metavar="RESULT.json", nargs="+", help="a file written by `rmapbox run --json`")
    paths = parser.parse_args(words).results

    from sandbox.lab.lowmem import print_lowmem
    from sandbox.result import read_result

    print_lowmem([read_result(path) for path in paths], paths)
    return 0
