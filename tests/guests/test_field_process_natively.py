"""What tests of processes expect by heart, asked of the host on the spot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.guests.native import run_native, why_not_native
from tests.guests.test_field_proc import boxed, program


def host(name: str, tmp_path: Path, *arguments: str) -> list[str]:
    if why_not_native():
        pytest.skip(why_not_native())
    return run_native(program(name), arguments, cwd=tmp_path, timeout=60).stdout.decode().splitlines()


def test_core_flag(tmp_path: Path) -> None:
    """Natively the flag says that a core went to a file or a program; with a pattern that is neither it is not set."""
    ours = boxed("coredump_flag").stdout.decode().splitlines()
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    if pattern.startswith(("|", "/", "@", "\n")) or os.geteuid():
        pytest.skip(f"this host leaves its cores elsewhere: {pattern.strip()}")
    assert ours == host("coredump_flag", tmp_path)


def test_the_waiter_gets_the_lock(tmp_path: Path) -> None:
    assert boxed("starve", "900").stdout.decode().splitlines() == host("starve", tmp_path, "900")
