"""`schemes check` counts processor time, names the program that uses it up, and shows what it knows after Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sandbox.cli.schemes_check import as_dict
from sandbox.kit import suite
from sandbox.kit.processes import Late, in_processes
from tests.mmcore.scan_scheme import ScanEverything

ROOT = Path(__file__).resolve().parents[2]


def _spin() -> None:
    while True:
        pass


def _spin_in_a_child() -> None:
    subprocess.run([sys.executable, "-c", "while True: pass"], check=False)


def _slow_by_the_clock() -> str:
    """Little work, many wall seconds: as on a machine that does other things."""
    for _ in range(8):
        time.sleep(0.25)
        sum(range(200_000))
    return "ended"


def test_processor_time_is_what_counts() -> None:
    todo = [(_spin, 0.5), (_spin_in_a_child, 1.0), (_slow_by_the_clock, 1.5)]
    assert dict(in_processes(todo)) == {0: Late(0.5), 1: Late(1.0), 2: "ended"}


def test_what_was_started_goes_too(tmp_path: Path) -> None:
    note = tmp_path / "pid"

    def starts() -> None:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        note.write_text(str(child.pid))
        _spin()

    assert dict(in_processes([(starts, 0.5)])) == {0: Late(0.5)}
    stat = Path(f"/proc/{note.read_text()}/stat")
    for _ in range(200):
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("it runs on")


def _with_jobs(monkeypatch: pytest.MonkeyPatch, *jobs: suite.Job) -> None:
    rows = [suite.CheckRow(name, "things") for name in ("contract", "programs", "state machine")]
    monkeypatch.setattr(suite, "jobs", lambda *arguments: (rows, list(jobs)))


def test_the_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    done = suite.Job("contract", lambda: suite.Outcome(3))
    _with_jobs(
        monkeypatch,
        done,
        suite.Job("programs", _spin, 0.3, "mmfuzz (pae)"),
        suite.Job("state machine", lambda: suite.Outcome(5)),
    )  # type: ignore[arg-type]
    report = suite.run("x", ScanEverything, {}, 1.0)
    rows: Any = {row["name"]: row for row in as_dict("x", ScanEverything, {}, report, None)["checks"]}
    assert rows["programs"]["verdict"] == "FAILED" and rows["programs"]["note"] == "mmfuzz (pae)"
    assert rows["programs"]["failures"][0].startswith("mmfuzz (pae): does not end within 0.3 s of processor time")
    assert (rows["contract"]["verdict"], rows["state machine"]["verdict"], rows["state machine"]["count"]) == (
        "ok",
        "ok",
        5,
    )


def test_parts_that_were_not_begun_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    late = suite.Job("programs", _spin, 0.3, "fork_cow (pae)")  # type: ignore[arg-type]
    fine = suite.Job("contract", lambda: suite.Outcome(1))
    _with_jobs(monkeypatch, fine, late, late, fine, suite.Job("state machine", lambda: suite.Outcome(1)))
    verdicts = {row.name: (row.verdict, row.note) for row in suite.run("x", ScanEverything, {}, 1.0).rows}
    assert verdicts["contract"] == (suite.NOT_FINISHED, "1 of 2 parts were done: 2 jobs before did not end")
    assert verdicts["state machine"] == (suite.NOT_TRIED, "2 jobs before did not end")


SLOW = """
import sys, time
from sandbox.cli import main
from sandbox.kit import suite
rows = [suite.CheckRow("contract", "points"), suite.CheckRow("state machine", "programs")]
def told():
    print("begun", file=sys.stderr, flush=True)
suite.jobs = lambda *arguments: (rows, [suite.Job("contract", lambda: suite.Outcome(84)), suite.Job("state machine",
    lambda: time.sleep(600))])
run = suite.run
suite.run = lambda *arguments: run(*arguments[:4], lambda done, of: told())
main.main()
"""


def test_ctrl_c_shows_what_is_known(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "schemes", "check", "anon_vma", "--json", "r.json"],
        cwd=tmp_path,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None and process.stderr.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130 and err == "" and "Traceback" not in out, (process.returncode, err)
    assert "contract" in out and "84" in out and "interrupted; nothing was found until then" in out
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["interrupted"] and not report["passed"]
    assert {row["name"]: row["verdict"] for row in report["checks"]} == {"contract": "ok", "state machine": "not tried"}
