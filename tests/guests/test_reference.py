"""A real 32-bit kernel counted minor faults, page-table kilobytes and areas for each step of `fault_reference.c`; the
same program must count the same here.

`reference/faults-*.txt` are Debian's 6.1.176 kernels (686 is 2-level, pae has PAE), run under QEMU with 512 MB. Rows
that differ by version carry the number expected here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from tests.guests.cells import SCHEMES

REFERENCE = Path(__file__).parent / "reference"
ROW = re.compile(r"^(.*?)\s+minflt ([+-]\d+)(?:\s+VmPTE_kB ([+-]\d+)\s+areas ([+-]\d+))?$")

# (row, which time it appears) -> (minflt expected here, why)
HERE = {
    ("  child: read the 256 shared ones", 0): (
        0,
        "2.6.7's fork copies the PTEs of shared mappings; since 2.6.13 they are left to be faulted, 16 at a time today",
    ),
    ("write", 0): (
        256,
        "2.6.7's mprotect back to writable leaves private pages write-protected: each is found unshared and reused; "
        "today write access comes back at once",
    ),
    ("write after mremap", 0): (
        1,
        "the same for the page in the middle that mprotect made read-only and writable again",
    ),
}


def rows(text: str) -> list[tuple[str, tuple[int | None, ...]]]:
    found = []
    for line in text.splitlines():
        match = ROW.match(line)
        if match and not match[1].startswith("warm-up"):
            found.append((match[1], tuple(None if g is None else int(g) for g in match.groups()[1:])))
    return found


@pytest.mark.skipif(toolchain.find_compiler() is None, reason="no compiler for i386 programs")
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("paging", "kernel"), [("2level", "686"), ("pae", "pae")])
def test_counts_as_a_real_kernel(paging: str, kernel: str, scheme: str) -> None:
    wanted = rows((REFERENCE / f"faults-{kernel}-6.1.176.txt").read_text())
    program = toolchain.compile_c(REFERENCE / "fault_reference.c")
    result = Machine(Config(memory="128M", paging=paging, scheme=scheme, audit="end", stdin=b"")).run(
        [str(program)], capture=True
    )
    assert result.exit_status == 0 and result.audit.violations == 0
    got = rows(result.notes.stdout.decode())
    assert [name for name, _ in got] == [name for name, _ in wanted]
    seen: dict[str, int] = {}
    wrong = []
    for (name, here), (_, there) in zip(got, wanted, strict=True):
        turn = seen[name] = seen.get(name, -1) + 1
        if (name, turn) in HERE:
            there = (HERE[name, turn][0], *there[1:])
        if here != there:
            wrong.append(f"{name}: {here} here, {there} expected")
    assert not wrong, "\n".join(wrong)
