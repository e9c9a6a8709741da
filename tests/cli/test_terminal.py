"""What a terminal gets: tables whatever size it claims, and no escape sequence that it does not know."""

from __future__ import annotations

import os
import pty
import subprocess
import time
from pathlib import Path

import pytest

from sandbox.status import INTERVAL
from tests.cli.conftest import COMMAND, SPIN


def on_a_terminal(
    environment: dict[str, str], cwd: Path, *words: str, until: bytes = b"", linger: float = 0.0
) -> bytes:
    """What the command writes to a terminal. Its input ends `linger` seconds after it has written `until`."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=subprocess.PIPE, stdout=slave, stderr=slave, env=environment, cwd=cwd
    )
    assert process.stdin is not None
    os.close(slave)
    seen = b""
    while True:
        if until in seen and not process.stdin.closed:
            time.sleep(linger)
            process.stdin.close()
        try:
            data = os.read(master, 65536)
        except OSError:  # EIO: the other side is gone
            break
        if not data:
            break
        seen += data
    os.close(master)
    assert process.wait(60) == 0
    return seen


@pytest.mark.parametrize("columns", ["0", "\u00b2"])
def test_a_size_that_is_none_hides_no_table(tmp_path: Path, environment, rmapbox, columns: str) -> None:
    assert rmapbox("run", "--quiet", "--json", "r.json", "hello").status == 0
    for words, row in (
        (("lowmem", "r.json"), b"kernel_image"),
        (("compare", "hello", "--rmap", "anon_vma,pte_chain"), b"pte_chain"),
    ):
        shown = on_a_terminal({**environment, "COLUMNS": columns, "LINES": columns, "TERM": "xterm"}, tmp_path, *words)
        assert row in shown and shown.count(b"\n") > 10, words


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_without_escape_sequences_gets_none(tmp_path: Path, environment, compile_c, term: str) -> None:
    program = str(compile_c(SPIN))
    plain, run = {**environment, "TERM": term}, ("run", "--time-limit", "60", program)
    assert b"\x1b" not in on_a_terminal(plain, tmp_path, "compare", "hello", "--rmap", "anon_vma,pte_chain")
    assert b"\x1b" not in on_a_terminal(plain, tmp_path, *run, until=b"go", linger=3 * INTERVAL)
    assert b"\x1b[K" in on_a_terminal({**environment, "TERM": "xterm"}, tmp_path, *run, until=b"\x1b[K")
