"""Every program that showed a fault in the field is among the tests' inputs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAMS = sorted(path.stem for path in (HERE / "field").glob("*.c"))
# Programs that came from the field, each the small form of a fault found there.
FOUND = [
    "badptid",
    "clonesig",
    "coredump_flag",
    "crashes",
    "e2big",
    "etxtbsy",
    "fcntl_misc",
    "fpu_flags",
    "futex_efault",
    "iretvm",
    "onfault",
    "populate_read",
    "starve",
    "stat8",
    "thrash",
    "time64",
    "unreadable_dir",
    "uptime0",
    "uptime_idle",
    "x87_fprem",
]


def test_what_was_found_is_here() -> None:
    assert set(FOUND) <= set(PROGRAMS)


# Their faults are being mended: the mark goes when their tests stand.
@pytest.mark.parametrize("name", PROGRAMS)
def test_is_run_by_a_test(name: str) -> None:
    """Its name stands as a word of its own in a string of a test that runs guests; that it translates is not enough."""
    users = [
        path.name
        for path in HERE.parent.rglob("test_*.py")
        if path.name not in ("test_field_all_used.py", "test_field_programs.py")
        and "field" in path.read_text()
        and re.search(rf"[\"'/]{name}(\.c)?[\"']", path.read_text())
    ]
    assert users, f"tests/guests/field/{name}.c is run by no test"
