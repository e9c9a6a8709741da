"""Long tables of runs: each cell is one run of a guest program in a process of its own, its outcome kept at once.

A table of a hundred runs takes an hour; whoever stops it goes on later where it was. The store is one JSON file, the
cell's settings are its key: a cell whose settings have changed is run again.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
Value = str | int | bool


class Cell(msgspec.Struct, frozen=True):
    """One run. `settings` are keys of the configuration's [machine] table; `limit` is wall seconds."""

    name: str
    scheme: str
    program: str
    arguments: tuple[str, ...] = ()
    settings: tuple[tuple[str, Value], ...] = ()
    limit: int = 300

    def key(self) -> str:
        """Equal for equal runs, whatever the cell is called."""
        told = [self.scheme, self.program, *self.arguments, sorted(self.settings), self.limit]
        return hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:16]

    def command(self) -> str:
        """What a user types to see the same, as far as the command line can say it."""
        options = [f"--rmap {self.scheme}"]
        options += [f"--{key} {value}" for key, value in self.settings if key in ("memory", "swap", "paging")]
        return " ".join(["rmapbox run", *options, self.program, *self.arguments])


class Measured(msgspec.Struct):
    """What is kept of a run: what it cost the host (s, bytes), how it ended, and the parts of the result that tables
    are made of."""

    cell: str
    wall: float
    resident: int
    ended: str
    exit_status: int
    said: str
    births: int
    killed: list[str | None]
    scheme_bytes: dict[str, int]
    owners_at_peak: dict[str, int]
    low_total: int
    low_free_at_peak: int
    high_free_at_least: int | None
    meters: dict[str, float]
    vmstat: dict[str, int]
    virtual_ns: int

    @property
    def fits(self) -> bool:
        """Whether the program came to its own end."""
        return self.ended == "exited" and self.exit_status == 0 and not self.killed


class Store:
    """Measured cells by key, in one file that is whole at any moment."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError for a file that is none of ours."""
        self.path = path
        self._lock = threading.Lock()
        self._cells: dict[str, Measured] = {}
        if path.exists():
            try:
                self._cells = msgspec.json.decode(path.read_bytes(), type=dict[str, Measured])
            except msgspec.DecodeError as error:
                told = f"{path} is not a table of measured runs ({error}): remove it, or name another"
                raise ValueError(told) from None

    def get(self, cell: Cell) -> Measured | None:
        return self._cells.get(cell.key())

    def put(self, cell: Cell, measured: Measured) -> None:
        with self._lock:
            self._cells[cell.key()] = measured
            encoded = msgspec.json.format(msgspec.json.encode(self._cells, order="sorted"), indent=1)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_name(self.path.name + ".part")
            part.write_bytes(encoded + b"\n")
            os.replace(part, self.path)


def measure(cell: Cell) -> Measured:
    """Run `cell` in a process of its own. Raises RuntimeError when rmapbox itself refuses."""
    with tempfile.TemporaryDirectory() as folder:
        config, result = Path(folder) / "rmapbox.toml", Path(folder) / "result.json"
        machine = [f"{key} = {json.dumps(value)}" for key, value in cell.settings]
        config.write_text("\n".join(["[machine]", *machine, f"time_limit = {cell.limit}"]) + "\n")
        argv = [sys.executable, "-m", "sandbox.cli.main", "run", "--quiet", "--config", str(config)]
        argv += ["--json", str(result), "--rmap", cell.scheme, cell.program, *cell.arguments]
        began = time.perf_counter()
        with tempfile.TemporaryFile() as said:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )
            _running.add(child.pid)
            try:
                _, status, usage = os.wait4(child.pid, 0)
            finally:
                _running.discard(child.pid)
            child.returncode = os.waitstatus_to_exitcode(status)
            wall = time.perf_counter() - began
            said.seek(0)
            text = said.read()[-2000:].decode(errors="replace").strip()
        if not result.exists():
            raise RuntimeError(f"{cell.command()}: {text or f'ended with status {child.returncode}'}")
        return _kept(cell, json.loads(result.read_bytes()), wall, usage.ru_maxrss << 10, text)


_running: set[int] = set()


def _kept(cell: Cell, result: dict[str, Any], wall: float, resident: int, said: str) -> Measured:
    low, high = result["lowmem"], result["highmem"]
    return Measured(
        cell=cell.name,
        wall=round(wall, 2),
        resident=resident,
        ended=result["ended"],
        exit_status=result["exit_status"],
        said=said.splitlines()[-1][:200] if said else "",
        births=len(result["tasks"]),
        killed=[_comm(report) for report in result["oom"]],
        scheme_bytes=low["scheme"],
        owners_at_peak={name: owner["bytes"] for name, owner in low["at_peak"]["owners"].items()},
        low_total=low["total"],
        low_free_at_peak=low["at_peak"]["free"],
        high_free_at_least=high["min_free"] if high else None,
        meters={name: value for name, value in result["meters"].items() if value},
        vmstat={name: value for name, value in result["vmstat"].items() if value},
        virtual_ns=result["virtual_ns"],
    )


def _comm(report: dict[str, Any]) -> str | None:
    killed = report["killed"]
    return None if killed is None else str(killed)


def run_cells(
    cells: Sequence[Cell], store: Store, jobs: int, tell: Callable[[Cell, Measured, int], None]
) -> dict[Cell, Measured]:
    """Every cell's outcome, those of `store` first; `tell` hears of each new one and how many are left. On Ctrl-C the
    runs under way are ended and what was measured stays in the store."""
    missing = [cell for cell in cells if store.get(cell) is None]
    left = len(missing)
    pool = ThreadPoolExecutor(jobs)
    stop = threading.Event()

    def one(cell: Cell) -> None:
        nonlocal left
        if stop.is_set():
            return
        measured = measure(cell)
        if stop.is_set():
            return
        store.put(cell, measured)
        left -= 1
        tell(cell, measured, left)

    try:
        for future in [pool.submit(one, cell) for cell in missing]:
            future.result()
    except BaseException:
        stop.set()
        for pid in list(_running):
            os.killpg(pid, signal.SIGKILL)
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    found = ((cell, store.get(cell)) for cell in cells)
    return {cell: measured for cell, measured in found if measured is not None}


def command(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    cells: Callable[[], Sequence[Cell]],
    tell: Callable[[Cell, Measured], str],
    write: Callable[[Store], str],
) -> int:
    """What the commands that make tables do with their options: list, or run what is missing and write the page. The
    exit status is 2 for a bad argument, 130 after Ctrl-C."""

    def told(cell: Cell, measured: Measured, left: int) -> None:
        cost = f"{measured.wall:7.1f} s {measured.resident >> 20:7,} MB"
        print(f"{cell.name:50} {cost}  {tell(cell, measured)}  ({left} left)", flush=True)

    try:
        wanted, store = cells(), Store(options.store)
        if options.list:
            for cell in wanted:
                print(f"{'there' if store.get(cell) else 'to run':7} {cell.name:50} {cell.command()}")
            return 0
        run_cells(wanted, store, max(1, options.jobs), told)
        page = write(store)
        options.document.write_text(page)
    except KeyboardInterrupt:
        print("stopped; what was measured is kept, the same command goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to say to
        return 0
    except (ValueError, RuntimeError, OSError) as error:
        print(f"{parser.prog.split()[-1]}: {error}", file=sys.stderr)
        return 2
    print(f"written: {options.document}")
    return 0


def arguments(
    prog: str, about: str, what: str, known: Sequence[str], store: Path, document: Path
) -> argparse.ArgumentParser:
    """The options that the commands that make tables have in common; `what` are the rows of `known` names."""
    parser = argparse.ArgumentParser(prog=prog, description=about)
    parser.add_argument(what, nargs="*", help=", ".join(known))
    parser.add_argument("--list", action="store_true", help="say what would run, and what is there already")
    parser.add_argument("--store", type=Path, default=store, help="where runs are kept")
    parser.add_argument("--document", type=Path, default=document, help="the page to write")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    return parser


def wrapped(text: str) -> list[str]:
    """Lines for a page."""
    return textwrap.wrap(text, 118, break_long_words=False, break_on_hyphens=False)


def chosen(names: Iterable[str], known: Sequence[str], what: str) -> list[str]:
    """`names`, or all of `known` for none. Raises ValueError that names the nearest for one that is not known."""
    wanted = list(names) or list(known)
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"no such {what} {name!r}: {hint}")
    return wanted
