"""A seeded random walk over mmap, munmap, mprotect, mremap, madvise, mlock and brk: the same results and the same
/proc/self/maps natively and here.

Areas are compared after joining neighbours alike in permissions, file and offset (what merges depends on the scheme and
on the kernel's age).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from tests.guests.native import run_native, why_not_native

PROGRAM = Path(__file__).with_name("areas_walk.c")
STEPS = 250


@cache
def program() -> str:
    if why_not_native():
        pytest.skip(why_not_native())
    return str(toolchain.compile_c(PROGRAM))


def boxed(args: list[str], scheme: str, audit: str = "end") -> bytes:
    config = Config(memory="32M", swap="64M", scheme=scheme, audit=audit, overcommit=1, stdin=b"", time_limit=120)
    result = Machine(config).run([program(), *args], capture=True)
    assert result.exit_status == 0, result
    assert result.audit.violations == 0
    return result.stdout


@cache
def filler() -> int:
    """Pages at the top of native's mmap area (vdso and vvar) that the machine here does not have."""
    return int(boxed(["top"], "anon_vma"), 16) - int(run_native(program(), ["top"]).stdout, 16) >> 12


def coalesced(text: str, top: int) -> tuple[list[str], list[tuple[int, int, str, str, int]]]:
    """(lines of results, areas below `top` after joining)."""
    results, areas = [], []
    for line in text.splitlines():
        match = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) (\S+ \d+) *(.*)", line)
        if not match:
            results.append(line)
            continue
        start, end, perms, offset, inode, name = match.groups()
        lo, hi, pgoff = int(start, 16), min(int(end, 16), top), int(offset, 16)
        if lo >= top:
            continue
        name = name.rsplit("/", 1)[-1] if name not in ("[heap]",) else ""
        name = "program" if name.startswith("areas_walk-") else name
        key = (perms, name, inode if perms[3] == "s" else "")
        if areas and areas[-1][1] == lo and areas[-1][2] == key and (not name or areas[-1][3] == pgoff):
            areas[-1] = (areas[-1][0], hi, key, pgoff + hi - lo)
        else:
            areas.append((lo, hi, key, pgoff + hi - lo))
    return results, [(lo, hi, key[0], key[1], pgoff if key[1] else 0) for lo, hi, key, pgoff in areas]


@pytest.mark.parametrize("seed", range(1, 9))
@pytest.mark.parametrize("scheme", ["anon_vma", "pte_chain"])
def test_areas_are_the_same_natively_and_here(scheme, seed):
    compare(scheme, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 400))
def test_areas_are_the_same_for_many_seeds(seed):
    """anon_vma only: which areas merge, and so which mremap meets a boundary (EFAULT), is a scheme's own affair under
    the others."""
    compare("anon_vma", seed)


def compare(scheme: str, seed: int) -> None:
    native = run_native(program(), [str(seed), str(STEPS), "0"])
    assert native.status == 0
    here = boxed([str(seed), str(STEPS), str(filler())], scheme)
    top = 0xB8000000 - (filler() << 12)
    expected, got = coalesced(native.stdout.decode(), top), coalesced(here.decode(), top)
    assert got[0] == expected[0]
    assert got[1] == expected[1]
