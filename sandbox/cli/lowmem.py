"""`rmapbox lowmem`: who held low memory, several runs side by side."""

from __future__ import annotations

from typing import Annotated

import typer


def lowmem(
    results: Annotated[list[str], typer.Argument(metavar="RESULT.json...", help="Files written by `rmapbox run --json`.")],
) -> None:
    """Print the low-memory table of one or more runs: at the peak and at exit."""
    from sandbox.lab.lowmem import print_lowmem
    from sandbox.result import read_result

    print_lowmem([read_result(path) for path in results], results)
