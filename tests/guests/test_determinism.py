"""Equal inputs, equal runs: the event hash, whatever PYTHONHASHSEED, and whether anybody audits, watches or is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import toolchain
from tests.guests.cells import ROOT, SCHEMES

pytestmark = pytest.mark.skipif(toolchain.find_compiler() is None, reason="no compiler for i386 programs")


def run(tmp_path: Path, name: str, hashseed: str, *options: str) -> dict:
    out = tmp_path / f"{name}.json"
    command = [sys.executable, "-m", "sandbox.cli.main", "run", "--json", str(out), "--memory", "8M", *options]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=tmp_path,
        timeout=200,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hashseed},
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(out.read_text())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_event_hash_repeats(tmp_path: Path, scheme: str) -> None:
    program = ["fork_tree", "6", "300", "30", "3"]
    first = run(tmp_path, "a", "1", "--rmap", scheme, *program)
    second = run(tmp_path, "b", "4711", "--rmap", scheme, "--quiet", *program)
    audited = run(tmp_path, "c", "0", "--rmap", scheme, "--audit", "full", *program)
    assert first["event_hash"] and first["event_hash"] == second["event_hash"] == audited["event_hash"]
    assert first["virtual_ns"] == second["virtual_ns"] == audited["virtual_ns"]
    assert first["vmstat"] == second["vmstat"] == audited["vmstat"]
    assert first["meters"] == audited["meters"]


def test_event_hash_tells_runs_apart(tmp_path: Path) -> None:
    hashes = {run(tmp_path, s, "0", "mmfuzz", s, "60")["event_hash"] for s in ("1", "2", "3")}
    assert len(hashes) == 3
