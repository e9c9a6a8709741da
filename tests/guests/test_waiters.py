"""Many tasks in little memory: whoever reads a page gets to use it, so the pages read per major fault have a bound, and
every program ends."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from sandbox.result import Result

PROGRAMS = Path(__file__).with_name("programs")
SCHEMES = [
    "anon_vma",
    "anon_vma_chain",
    "anonmm",
    "anonmm_chained",
    "partial_objrmap",
    "pte_chain",
    "rmap_series",
    "virtual_scan",
]
PAGES_PER_FAULT = 8  # a cluster of 4 each time, and each page lost once more


@cache
def program(name: str) -> str:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    return str(toolchain.compile_c(PROGRAMS / f"{name}.c"))


def run(name: str, *argv: str, scheme: str, memory: str = "6M") -> Result:
    config = Config(memory=memory, swap="64M", scheme=scheme, stdin=b"", time_limit=60, audit="end")
    result = Machine(config).run([program(name), *argv], capture=True)
    assert (result.stdout, result.exit_status, result.ended) == (b"ok\n", 0, "exited"), result.notes.detail
    assert result.audit.violations == 0
    return result


@pytest.mark.parametrize("scheme", SCHEMES)
def test_swap_in_gets_on(scheme: str) -> None:
    vmstat = run("thrash", "64", "32", scheme=scheme).vmstat
    assert 0 < vmstat["pswpin"] <= PAGES_PER_FAULT * vmstat["pgmajfault"]


@pytest.mark.parametrize("scheme", ["anon_vma", "virtual_scan"])
@pytest.mark.parametrize("kind", ["read", "copy", "shared", "write", "lock"])
def test_every_road_gets_on(kind: str, scheme: str) -> None:
    if scheme == "virtual_scan" and kind in ("write", "copy"):
        scheme = "anon_vma_chain"  # the scan takes long
    vmstat = run("waiters", kind, "54", "32", scheme=scheme).vmstat
    assert 0 < vmstat["pswpin"] <= PAGES_PER_FAULT * vmstat["pgmajfault"]


@pytest.mark.parametrize("scheme", ["anon_vma", "virtual_scan"])
def test_who_is_killed_while_waiting_gives_its_page_back(scheme: str) -> None:
    run("waiters", "kill", "54", "32", scheme=scheme)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_exec_needs_no_memory_for_all_its_strings_at_once(scheme: str) -> None:
    """More of them than the machine has frames for, all swapped out."""
    run("manypages", "exec", "400", scheme=scheme, memory="5M")


@pytest.mark.parametrize("scheme,kind", [("anon_vma", "ask"), ("pte_chain", "ask"), ("anon_vma", "move")])
def test_a_call_needs_no_memory_for_all_its_pages_at_once(scheme: str, kind: str) -> None:
    run("manypages", kind, "600", scheme=scheme, memory="5M")
