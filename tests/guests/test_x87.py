"""x87 as a processor's: what Unicorn computes otherwise is computed by the host's own (sandbox/cpu/x87.c), and the rest
stands in docs/differences.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from sandbox.cli.doctor import NOTE, _x87
from sandbox.cpu import x87
from tests.guests.native import run_native, why_not_native

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).with_name("programs")
LEFT = ["fbstp", "exception flags of SSE"]
WITHOUT = [
    "fprem",
    "fprem1",
    "fyl2x",
    "f2xm1",
    "fpatan",
    "fsin",
    "fcos",
    *LEFT,
    "IE of fcom",
    "IE of fcomi",
    "PE of fistp",
    "PE of fisttp",
]


@pytest.mark.parametrize("paging", ["pae", "2level"])
@pytest.mark.parametrize("name", ["x87_fprem", "fpu_flags", "x87_all", "x87_memory"])
def test_as_a_processor(name: str, paging: str) -> None:
    if toolchain.find_compiler() is None or why_not_native():
        pytest.skip(why_not_native() or f"no compiler for guest programs: {toolchain.REMEDY}")
    program = toolchain.compile_c(PROGRAMS / f"{name}.c")
    here = (
        (Machine(Config(stdin=b"", paging=paging)).run([str(program)], capture=True).stdout or b"")
        .decode()
        .splitlines()
    )
    native = run_native(program).stdout.decode().splitlines()
    assert len(here) == len(native) >= 6
    differ = {one.split()[1] for one, other in zip(here, native, strict=True) if one != other}
    assert differ == ({"fbstp"} if name == "x87_all" else set())


def test_the_doctor_says_what_is_left() -> None:
    found = x87.wrong()
    assert found == LEFT
    finding = _x87()
    assert (
        finding.state == NOTE
        and all(name in finding.found for name in found)
        and "docs/differences.md" in finding.remedy
    )


def test_a_release_that_computes_right_is_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(x87, "wrong", list)
    assert _x87().state == "ok"


@pytest.mark.parametrize("first", ["import unicorn; ", "from sandbox.cpu import x87; x87._find = lambda state: None; "])
def test_without_the_hosts_unicorns_own_are_called(first: str) -> None:
    """Unicorn was there before, or keeps its FPU elsewhere: everything runs, and the trial tells."""
    code = (
        f"{first}from sandbox import Config, Machine; from sandbox.cpu import x87; print(x87.wrong()); "
        f"print(Machine(Config()).run(['hello']).exit_status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[0] == repr(WITHOUT) and done.stdout.splitlines()[-1] == "0"


def test_the_document_names_them() -> None:
    rows = [
        line
        for line in (ROOT / "docs/differences.md").read_text().splitlines()
        if line.startswith(("| x87", "| exception flags of SSE"))
    ]
    assert len(rows) == 4 and all("`tests/guests/test_x87.py`" in line for line in rows)
    for name in LEFT:
        assert any(line.startswith(("| x87 " + name, "| " + name)) for line in rows)
