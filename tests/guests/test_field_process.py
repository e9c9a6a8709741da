"""Processes and signals: limits that hold, deeds that stand, and what a program is told about itself, as natively."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

from sandbox import Config, Machine
from tests.guests.test_field_proc import FIELD, boxed, natively, program


@pytest.mark.parametrize("name", ["badptid", "e2big", "lostresult", "overrun", "sigpending", "timersig"])
def test_as_natively(name: str) -> None:
    result = boxed(name)
    if name == "timersig" and tuple(map(int, platform.release().split("-")[0].split(".")[:2])) < (6, 13):
        pytest.skip("before Linux 6.13 a signal outlived its timer")
    assert result.stdout.decode().splitlines() == natively(name)


def test_results_that_wait_for_a_page() -> None:
    """Where the result's page has to come in first the call waits before it does anything."""
    result = boxed("lostresult", scheme="pte_chain", paging="2level", memory="6M", overcommit=1)
    assert result.stdout.decode().splitlines() == natively("lostresult")


def test_argv_0_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the user typed: a path of the host, a path from here, a C file, a name."""
    path = program("reexec")
    assert natively("reexec") == ["by its path", "again"]
    shutil.copy(path, tmp_path / "here")
    shutil.copy(FIELD / "reexec.c", tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    for word, mounts, called in ((str(path), [], "path"), ("./here", [], "path"), (f"../{tmp_path.name}/here", [], "path"), ("reexec.c", [], "path"),
                                 ("here", [], "name"), ("here", [f"{tmp_path}/empty:/bin"], "path"), (str(path), [f"{path.parent}:{path.parent}"], "path")):
        result = Machine(Config(stdin=b"", time_limit=60, mounts=mounts)).run([word], capture=True)
        assert result.stdout.decode().splitlines() == [f"by its {called}", "again"], word
