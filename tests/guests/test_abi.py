"""The system-call interface, probe by probe: small programs that print every result, natively and here, line for line.

Each program of `abi/` asks about one subject. What a 64-bit host's kernel answers differently from any i386 kernel
(huge offsets, the number of the first TLS entry) is not asked.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from sandbox.result import Result
from tests.guests.native import NativeResult, native_agrees, run_native, why_not_native

PROGRAMS = Path(__file__).with_name("abi")
ROOT = {"move_pages"}
NAMES = sorted(path.stem for path in PROGRAMS.glob("*.c") if not path.stem.startswith("here_"))


@cache
def program(name: str) -> Path:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    return toolchain.compile_c(PROGRAMS / f"{name}.c")


def native(name: str, stdout: bytes) -> NativeResult:
    reason = why_not_native()
    if not reason and name in ROOT and os.geteuid():
        reason = "natively it tells frames and moves other processes' pages only to root"
    if reason:
        pytest.skip(reason)
    return native_agrees(lambda: run_native(program(name)), stdout)


def boxed(name: str, **settings: object) -> Result:
    config = Config(**{"stdin": b"", "time_limit": 120, "audit": "end", **settings})  # type: ignore[arg-type]
    return Machine(config).run([str(program(name))], capture=True)


def same(name: str, **settings: object) -> Result:
    result = boxed(name, **settings)
    wanted = native(name, result.stdout)
    assert result.stdout.decode(errors="replace").splitlines() == wanted.stdout.decode(errors="replace").splitlines(), (
        result.notes.detail
    )
    assert result.exit_status == wanted.status
    assert result.audit.violations == 0
    return result


@pytest.mark.parametrize("name", NAMES)
def test_same_answers(name: str) -> None:
    result = same(name)
    unknown = result.notes.unknown_syscalls
    if name == "move_pages":
        assert result.meters["migrations"] > 10 and result.meters["migrate_misses"] == 0
    if name == "procs":  # calls that are not there are counted and named
        assert unknown["stty"] == 1 and unknown["syscall_470"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_same_answers_elsewhere(name: str) -> None:
    """The other scheme and page tables, on a machine that has to swap."""
    same(name, scheme="pte_chain", paging="2level", memory="7M", overcommit=1)


@pytest.mark.slow
@pytest.mark.parametrize("paging", ["pae", "2level"])
@pytest.mark.parametrize("scheme", ["anon_vma", "pte_chain"])
@pytest.mark.parametrize("name", NAMES)
def test_same_answers_audited(name: str, scheme: str, paging: str) -> None:
    for memory in ("64M", "7M"):
        same(name, scheme=scheme, paging=paging, memory=memory, overcommit=1, audit="full")


def test_time_is_virtual() -> None:
    """An hour of sleep, an alarm a day away and a month's timer end at once; the clocks agree with each other."""
    result = boxed("here_hours", time_limit=20)
    assert result.stdout.decode().splitlines() == [
        "slept 3600 s",
        "poll 86400 s",
        "select 604800 s",
        "alarm rang after 86400 s",
        "timer rang after 2592000 s",
        "futex gave up after 3600 s",
        "clocks agree",
        "cpu time is small",
    ]
    assert result.exit_status == 0
    assert result.virtual_ns > 3_000_000 * 1_000_000_000
    assert result.wall_s < 10
