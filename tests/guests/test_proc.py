"""/proc as today's tools read it: their fields are there, and say what is so."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from sandbox.result import Result
from tests.guests.native import run_native, why_not_native
from tests.sandbox.fs_world import World
from tests.sandbox.test_fs_proc import table

PROGRAMS = Path(__file__).with_name("programs")


@cache
def program(name: str) -> Path:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    return toolchain.compile_c(PROGRAMS / f"{name}.c")


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


@pytest.mark.parametrize("name", ["smaps", "sysctls"])
def test_files_of_proc(name: str) -> None:
    assert boxed(name).stdout.decode().splitlines() == natively(name)


def test_frames_are_told_of_as_natively() -> None:
    """/proc/kpagecount and kpageflags, root's to read; a host may keep frames from us."""
    result = boxed("kpages")
    assert result.exit_status == 0, result.stdout
    if why_not_native():
        pytest.skip(why_not_native())
    native = run_native(program("kpages"))
    if native.status == 77:
        pytest.skip("the host does not show frames")
    assert result.stdout.decode().splitlines() == native.stdout.decode().splitlines()


@pytest.mark.parametrize("scheme", ["anon_vma", "pte_chain"])
def test_smaps_under_pressure(scheme: str) -> None:
    assert boxed("smaps_swap", memory="8M", swap="64M", scheme=scheme).stdout == b"10240 10240\n1 1\n"


def test_memory_available() -> None:
    """Clean pages of files are available, those of shared memory are not, whatever Cached says of both."""
    world = World()
    before = table(world.vfs.read_file("/proc/meminfo"))
    world.open("/tmp/f", 0o102).accept(world.task, b"s" * 2_000_000)
    after = table(world.vfs.read_file("/proc/meminfo"))
    assert after["Shmem"] - before["Shmem"] == after["Cached"] - before["Cached"] == 489 * 4
    assert before["MemAvailable"] - after["MemAvailable"] >= 489 * 4
    assert 0 < after["MemAvailable"] < after["MemFree"] and after["CommitLimit"] > after["MemTotal"] // 2 - 1
