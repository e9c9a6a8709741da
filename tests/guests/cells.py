"""Cells of the comparison: a program with arguments, run natively and in the sandbox under a scheme, a paging and a
size of memory.

A scarce cell gives the machine so little memory that the program's pages have to be reclaimed; the boot reservations
and a working set must still fit.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from sandbox import Config, Machine, toolchain
from sandbox.kit.programs import PROGRAMS, native, native_works
from sandbox.result import Result
from sandbox.schemes.spec import parse_spec, with_options

ROOT = Path(__file__).resolve().parents[2]
SCHEMES = ("anon_vma", "pte_chain")
OTHERS = (
    "virtual_scan",
    "partial_objrmap",
    "anonmm",
    "anonmm_chained",
    "anon_vma_chain",
    "anon_vma_chain:era=2.6.34",
    "rmap_series:stage=17",
)
PAGINGS = ("pae", "2level")
MEMORIES = ("ample", "scarce")
__all__ = ["MEMORIES", "OTHERS", "PAGINGS", "PROGRAMS", "SCHEMES", "Cell", "check", "native", "native_works", "run"]

# What else some of them can do: name, arguments; scarce memory is as above.
MODES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("rmap_test", ("-r", "-V", "20", "-i", "1", "-n", "40", "-s", "35", "-t", "3")),
    ("mmap_windows", ("1200", "3", "remap")),
    ("shared_segment", ("4", "1200", "file")),
    ("fork_chain", ("20", "300", "100", "stay")),
    ("vma_explosion", ("100", "protections", "2", "10")),
    ("vma_explosion", ("600", "file", "2", "2")),
)


@dataclass(frozen=True)
class Cell:
    program: str
    args: tuple[str, ...]
    scheme: str = "anon_vma"
    paging: str = "pae"
    memory: str = "ample"
    audit: str = "end"

    def __str__(self) -> str:
        return "-".join((self.program, *self.args, self.scheme, self.paging, self.memory))

    def config(self) -> Config:
        scarce = PROGRAMS[self.program][1]
        scheme, options = parse_spec(self.scheme)
        config = Config(
            memory="128M" if self.memory == "ample" else scarce,
            swap="128M",
            paging=self.paging,
            scheme=scheme,
            audit=self.audit,
            time_limit=240,
            stdin=b"",
            overcommit=1,
        )
        return with_options(config, self.scheme, options)


def run(cell: Cell) -> tuple[bytes, Result]:
    """The cell in the sandbox: (stdout, result)."""
    result = Machine(cell.config()).run([str(toolchain.program_path(cell.program)), *cell.args], capture=True)
    return result.notes.stdout, result


def check(cell: Cell) -> Result:
    """Runs the cell and holds it to the native run; an audit must have found nothing and nobody may have been killed
    for memory."""
    out, result = run(cell)
    wanted, status = native(cell.program, cell.args)
    assert result.ended in ("exited", "signalled"), (cell, result.ended)
    assert out.decode(errors="replace") == wanted.decode(errors="replace"), cell
    assert result.exit_status == status, (cell, result.exit_status, status)
    assert not result.notes.oom_kills, cell
    assert result.audit.violations == 0, cell
    assert result.audit.checks > 0, cell
    return result


if __name__ == "__main__":
    # python -m tests.guests.cells PROGRAM SCHEME PAGING MEMORY [ARG]...
    name, scheme, paging, memory, *rest = sys.argv[1:]
    outcome = check(Cell(name, tuple(rest) or PROGRAMS[name][0], scheme, paging, memory, "full"))
    print(outcome.ended, outcome.exit_status, outcome.vmstat["pswpout"])
