"""Canaries for what the emulator's x87 computes otherwise than a processor: docs/differences.md and `rmapbox doctor` name exactly these.

A release of Unicorn that mends one fails here, and the documents follow.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from sandbox.cli.doctor import NOTE, _x87
from sandbox.cpu import x87
from tests.guests.native import run_native, why_not_native

PROGRAMS = Path(__file__).with_name("field")
WRONG = {
    "x87_fprem": ["fprem", "fprem1", "fyl2x", "fyl2xp1", "f2xm1", "fpatan", "fsin", "fcos"],
    "fpu_flags": ["fcomi qnan", "fcom qnan", "fisttp", "fistp"],
}


@pytest.mark.parametrize("name", WRONG)
def test_what_differs_from_a_processor(name: str) -> None:
    if toolchain.find_compiler() is None or why_not_native():
        pytest.skip(why_not_native() or f"no compiler for guest programs: {toolchain.REMEDY}")
    program = toolchain.compile_c(PROGRAMS / f"{name}.c")
    here = (Machine(Config(stdin=b"")).run([str(program)], capture=True).stdout or b"").decode().splitlines()
    native = run_native(program).stdout.decode().splitlines()
    assert len(here) == len(native) > len(WRONG[name])
    differ = [one for one, other in zip(here, native, strict=True) if one != other]
    assert len(differ) == len(WRONG[name])
    assert all(line.startswith(what) for line, what in zip(differ, WRONG[name], strict=True)), differ


def test_the_doctor_finds_them() -> None:
    found = x87.wrong()
    assert found == ["fprem", "fprem1", "fyl2x", "f2xm1", "fpatan", "fsin", "fcos", "IE of fcom", "IE of fcomi", "PE of fistp", "PE of fisttp"]
    finding = _x87()
    assert finding.state == NOTE and all(name in finding.found for name in found) and "docs/differences.md" in finding.remedy


def test_a_release_that_computes_right_is_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(x87, "wrong", list)
    assert _x87().state == "ok"


def test_the_document_names_them() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/differences.md").read_text()
    assert all("`tests/guests/test_field_x87.py`" in line for line in text.splitlines() if line.startswith("| x87"))
    for word in ("fyl2x", "fyl2xp1", "f2xm1", "fpatan", "fsin", "fcos", "fprem", "fprem1", "fcom", "fcomi", "fistp", "fisttp"):
        assert any(line.startswith("| x87") and word in line for line in text.splitlines()), word
