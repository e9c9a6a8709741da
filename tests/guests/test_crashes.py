"""What a guest hands over or executes costs the guest something, never the machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from sandbox import Config, Machine, toolchain
from sandbox.cli.main import command
from sandbox.lab.summary import summary
from sandbox.result import Notes, Result
from tests.guests.native import native_agrees, run_native, why_not_native

PROGRAMS = Path(__file__).with_name("programs")


def program(name: str) -> Path:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    return toolchain.compile_c(PROGRAMS / f"{name}.c")


def boxed(name: str, *arguments: str) -> Result:
    return Machine(Config(stdin=b"", time_limit=60, audit="end")).run([str(program(name)), *arguments], capture=True)


@pytest.mark.parametrize("name", ["clonesig", "big_ids"])
def test_guest_values_in_siginfo(name: str) -> None:
    """Exit signals that are none, and ids above 2^31, in every siginfo that is made of them."""
    result = boxed(name)
    if why_not_native():
        pytest.skip(why_not_native())
    wanted = native_agrees(lambda: run_native(program(name)), result.stdout or b"")
    assert (result.stdout, result.exit_status) == (wanted.stdout, wanted.status)
    assert result.audit.violations == 0


def test_a_gap_of_the_emulator_kills_the_task() -> None:
    result = boxed("iretvm")
    assert (result.exit_status, result.ended) == (139, "signalled")
    assert (
        "killed by SIGSEGV: the emulated CPU cannot do" in result.notes.detail
        and "iret with VM set" in result.notes.detail
    )
    assert result.audit.violations == 0


def test_a_gap_runs_no_handler_and_leaves_others_alone() -> None:
    result = boxed("iret_handler")
    assert result.stdout == b"1\nthe parent goes on\n" and result.exit_status == 0
    assert sorted(task.exit_status for task in result.tasks) == [0, 139]
    assert result.audit.violations == 0


def test_crashes_are_reported_in_full_only_at_first(capfd: pytest.CaptureFixture[str]) -> None:
    assert command(["run", "--memory", "16M", str(program("crashes")), "40"]) == 0
    err = capfd.readouterr().err
    assert err.count("killed by SIGSEGV: nothing is mapped") == 3
    assert re.search(r"^and 37 more killed by faults of their own: crashes\S* by SIGSEGV x37$", err, re.M)
    assert len(err.splitlines()) < 80  # however many crashed


def test_other_lines_a_guest_can_make_are_counted_too() -> None:
    notes = Notes(oom_kills=["one"] * 9, detail="a gap\n" * 300)
    text = summary(replace(boxed("iretvm"), notes=notes))
    assert text.count("oom killer  one") == 5 and "oom killer  and 4 more" in text
    assert text.count("a gap") == 40 and "and 260 more" in text
