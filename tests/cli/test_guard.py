"""The one place where errors become a line: whatever goes wrong inside, no traceback, and the details are in a file."""

import os
import re

import pytest

from mmcore.audit import Auditor
from mmcore.errors import InvariantViolation
from sandbox.cli import main, run
from sandbox.machine import Machine


def details(err):
    """The text of the file that the one error line names."""
    assert err.count("\n") == 1 and "Traceback" not in err
    path = re.search(r"report it with (\S+)", err)[1]
    try:
        with open(path) as file:
            return file.read()
    finally:
        os.unlink(path)


def test_an_internal_error(capsys, monkeypatch):
    def broken(words):
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(run, "main", broken)
    assert main.command(["run"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("rmapbox: internal error: two; ")
    text = details(err)
    assert "ZeroDivisionError" in text and "in broken" in text


def test_a_violation_in_mid_run(capsys, monkeypatch):
    def broken(words):
        raise InvariantViolation("audit: 2 violation(s)\n  one\n  two")

    monkeypatch.setattr(run, "main", broken)
    assert main.command(["run"]) == 2
    err = capsys.readouterr().err
    assert "contradicts itself" in err
    assert "  two" in details(err)


def test_a_violation_at_the_end_is_counted_and_told(capfd, monkeypatch, tmp_path):
    honest = Auditor.audit

    def damaged(self, where="", given_up=False):
        self.mem.frames.mapcount[self.mem.zero_pfn - 1] += 1
        self.mem.pages.owned[5] += 1
        return honest(self, where, given_up)

    monkeypatch.setattr(Auditor, "audit", damaged)
    assert main.command(["run", "--quiet", "--audit", "end", "--json", str(tmp_path / "r.json"), "hello"]) == 2
    out, err = capfd.readouterr()
    assert "contradicts itself" in err and "at the end" in details(err)
    assert '"violations": 0' not in (tmp_path / "r.json").read_text()


@pytest.mark.parametrize(
    "error, status, words",
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "/some/file"), 2, "/some/file: permission denied"),
    ],
)
def test_the_worlds_errors(capsys, monkeypatch, error, status, words):
    def broken(words):
        raise error

    monkeypatch.setattr(run, "main", broken)
    assert main.command(["run"]) == status
    assert capsys.readouterr().err == f"rmapbox: {words}\n"


def test_help_is_no_error(capsys):
    assert main.command(["--help"]) == main.command(["run", "--help"]) == 0
    assert "PROGRAM" in capsys.readouterr().out


def test_a_machine_can_run_twice(tmp_path):
    machine = Machine()
    first, second = (machine.run(["hello"], capture=True) for _ in range(2))
    assert first.stdout == second.stdout and first.event_hash == second.event_hash
