"""The tables of low memory and of history are made by commands that can be stopped, resumed and asked for one part."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import history, lowmem
from benchmarks.cells import ROOT, Cell, Measured, Store, measure, run_cells
from sandbox import toolchain

pytestmark = pytest.mark.skipif(toolchain.find_compiler() is None, reason="no compiler for guest programs")

SMALL = Cell("small", "pte_chain", "fork_server", ("3", "16", "2", "1", "no"), (("memory", "16M"), ("swap", "0")))


def told(names: list[str]):
    return lambda cell, measured, left: names.append(cell.name)


def test_a_cell_is_measured_once_and_kept(tmp_path: Path) -> None:
    store, ran = Store(tmp_path / "cells.json"), []
    first = run_cells([SMALL], store, 1, told(ran))[SMALL]
    assert ran == ["small"] and first.fits and first.births == 4 and first.resident > 20 << 20 and 0 < first.wall < 60
    assert sum(first.owners_at_peak.values()) + first.low_free_at_peak == first.low_total == 16 << 20
    assert first.scheme_bytes["pte_chain"] and first.meters["forks"] == 3 and first.high_free_at_least is None
    again = run_cells([SMALL], Store(tmp_path / "cells.json"), 1, told(ran))[SMALL]
    assert ran == ["small"] and again == first


def test_a_run_that_does_not_fit_says_so() -> None:
    settings = (("memory", "8M"), ("swap", "0"), ("overcommit", 1))
    measured = measure(Cell("bomb", "anon_vma", "lowmem_crisis", ("8", "8M"), settings))
    assert not measured.fits and measured.killed


def test_what_rmapbox_refuses_is_told() -> None:
    with pytest.raises(RuntimeError, match="rmapbox run --rmap nothing_such hello: .*nothing_such"):
        measure(Cell("bad", "nothing_such", "hello"))


def command(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "benchmarks.lowmem", *words]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, env={**os.environ, **more})


@pytest.mark.parametrize(
    "words, said",
    [
        (["desktp"], "benchmarks.lowmem: no such workload 'desktp': did you mean 'desktop'?\n"),
        (["--sizes", "7"], "benchmarks.lowmem: no such size '7': there are 1, 4, 16, 32, 64\n"),
    ],
)
def test_a_wrong_word_is_refused_in_a_line(words: list[str], said: str) -> None:
    ran = command(*words)
    assert (ran.returncode, ran.stderr) == (2, said)


def test_a_store_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{")
    ran = command("--list", "--store", str(tmp_path / "x"))
    assert ran.returncode == 2 and "is not a table of measured runs" in ran.stderr and ran.stderr.count("\n") == 1


def test_stopped_it_keeps_what_it_has_and_leaves_nothing_running(tmp_path: Path) -> None:
    store = tmp_path / "store"
    argv = [sys.executable, "-m", "benchmarks.lowmem", "fork_server", "--sizes", "1", "--store", str(store)]
    child = subprocess.Popen(
        [*argv, "--document", str(tmp_path / "page")], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()  # the first cell
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130 and said.startswith(b"stopped;") and b"Traceback" not in said
    assert 1 <= len(json.loads(store.read_bytes())) < 7 and not (tmp_path / "page").exists()


def outcome(scheme_bytes: int, fits: bool = True) -> Measured:
    return Measured(
        "", 1.0, 1, "exited", 0, "", 1, [] if fits else ["x"], {"pte_chain": scheme_bytes, "mem_map": 1 << 30}, {},
        0, 0, None, {}, {}, 0,
    )  # fmt: skip


def test_the_page_says_where_the_claim_holds_and_where_not() -> None:
    server, areas = lowmem.WORKLOADS[1], lowmem.WORKLOADS[3]
    page = lowmem.document(
        {
            server.cell(1, "pte_chain"): outcome(40 << 20, fits=False),
            server.cell(1, "anon_vma"): outcome(2 << 20),
            areas.cell(1, "pte_chain"): outcome(1 << 20),
            areas.cell(1, "anon_vma"): outcome(4 << 20),
        }
    )
    assert "| `pte_chain` | 40.0, does not fit | - |" in page and "| `anon_vma` | 2.00 (at least 38.0) | - |" in page
    assert "Frees, of what it takes itself: `anon_vma` 19.0 to 19.0 times." in page
    assert "| `anon_vma` | 4.00 (-3.00) | - |" in page
    assert "Here the claim does not hold, freed by taken: `anon_vma` (-0.75 to -0.75)." in page


def test_history_says_what_was_told_and_what_was_met() -> None:
    row = next(row for row in history.ROWS if row.name == "segment_1G")
    cells = row.cells()
    page = history.document({cells[0]: outcome(100 << 20), cells[2]: outcome(1 << 20)})
    assert "| `pte_chain` | 200 MB | 1.00 x | 100 | 1.00 x | 1 | 0 |" in page
    assert "| `anonmm` | - | - | not run | - | - | - |" in page
    assert "| `anon_vma` | 9 kB | 1/22,222 | 1.00 | 0.01 x | 1 | 0 |" in page


def test_history_counts_all_that_walks_looked_at() -> None:
    measured = outcome(0)
    measured.meters = {"vmas_visited": 1e6, "file_nodes": 2e6, "removal_nodes": 3e6, "candidates": 9e6, "walks": 9e6}
    assert history.looked_at(measured) == 6


def test_rows_of_history_are_listed_and_asked_for_by_name(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "benchmarks.history"]
    ran = subprocess.run([*argv, "grid", "--list"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0 and ran.stdout.count("\n") == 4 and "fork_server 1000 1000 1000 1" in ran.stdout
    ran = subprocess.run([*argv, "gird"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (2, "benchmarks.history: no such row 'gird': did you mean 'grid'?\n")
