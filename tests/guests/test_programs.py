"""The guest programs beside the tests (`programs/`): each translates with the guest runtime and is run by a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandbox import toolchain

PROGRAMS = Path(__file__).with_name("programs")
RUNS_THEM = re.compile(r"""guests/programs|"programs"|tests\.guests\.test_(proc|files) import""")
NAMES = sorted(path.stem for path in PROGRAMS.glob("*.c"))


@pytest.mark.parametrize("name", NAMES)
def test_translates(name: str) -> None:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    assert toolchain.compile_c(PROGRAMS / f"{name}.c").stat().st_size


# Each is the small form of a fault that a user's program met.
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


def test_every_fault_that_was_met_has_its_program() -> None:
    assert set(FOUND) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_is_run_by_a_test(name: str) -> None:
    """Its name stands as a word of its own in a string of a test that runs guests; that it translates is not enough."""
    users = [
        path.name
        for path in PROGRAMS.parents[1].rglob("test_*.py")
        if path.name != "test_programs.py"
        and RUNS_THEM.search(path.read_text())
        and re.search(rf"[\"'/]{name}(\.c)?[\"']", path.read_text())
    ]
    assert users, f"tests/guests/programs/{name}.c is run by no test"
