"""What one process may do to another and say about itself, as programs in the field asked: native Linux's answers, run
by root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from tests.guests.native import native_agrees, run_native, why_not_native

FIELD = Path(__file__).with_name("field")


def test_other_users_and_prctl() -> None:
    """EPERM for another user's process; membarrier's registrations; close_range that unshares; subreaper, timer slack,
    rdtsc, arguments."""
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    program = toolchain.compile_c(FIELD / "others.c")
    result = Machine(Config(stdin=b"", time_limit=60, audit="end")).run([str(program)], capture=True)
    lines = result.stdout.decode().splitlines()
    assert result.exit_status == 0 and result.audit.violations == 0
    assert "user at root: robust Operation not permitted, setaffinity Operation not permitted" in lines[1]
    assert (
        "inherited 0, adopted by the subreaper 1" in lines
        and "reaped it: 1 status 7; none left No child process" in lines
    )
    if why_not_native() or os.geteuid():
        pytest.skip(why_not_native() or "natively it asks what root may do")
    assert lines == native_agrees(lambda: run_native(program), result.stdout).stdout.decode().splitlines()
