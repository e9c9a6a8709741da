"""/proc as today's tools read it: their fields are there, and say what is so."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from sandbox.result import Result
from tests.guests.native import run_native, why_not_native

FIELD = Path(__file__).with_name("field")


@cache
def program(name: str) -> Path:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    return toolchain.compile_c(FIELD / f"{name}.c")


def boxed(name: str, *arguments: str, **settings: object) -> Result:
    config = Config(**{"stdin": b"", "time_limit": 60, "audit": "end", **settings})  # type: ignore[arg-type]
    result = Machine(config).run([str(program(name)), *arguments], capture=True)
    assert result.audit.violations == 0
    return result


def natively(name: str, *arguments: str) -> list[str]:
    if why_not_native():
        pytest.skip(why_not_native())
    return run_native(program(name), arguments).stdout.decode().splitlines()


@pytest.mark.parametrize("name", ["stat8", "uptime0", "uptime_idle", "proc_times"])
def test_times_of_the_machine(name: str) -> None:
    result = boxed(name)
    assert result.exit_status == 0, result.stdout
    lines = result.stdout.decode().splitlines()
    if name == "uptime0":  # what it prints second depends on how long the machine is on
        assert lines[0] == "fine" == natively(name)[0]
    else:
        assert lines == natively(name)
