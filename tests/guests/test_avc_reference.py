"""A real 32-bit kernel counted anon_vma, anon_vma_chain and vm_area_struct objects for each pattern of
`avc_reference.c`; anon_vma_chain of the newest era counts the same.

`reference/avc-*.txt` are Debian's 6.1.176 kernels (686 is 2-level, pae has PAE), run under QEMU with 512 MB and
slub_debug on the three caches, unmerged, so that they count exactly. Rows before the forks are equal. A fork copies the
whole process, which is smaller here (no vdso, another C library): those rows follow from the process's own areas, by a
law that the recorded rows obey as well.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import sandbox.kernel.fork
from mmcore.physical.frames import PG_ANON
from mmcore.physical.pgtable import FILE, PRESENT
from sandbox import Config, Machine, toolchain

REFERENCE = Path(__file__).parent / "reference"
ROW = re.compile(r"^(.*?)\s+anon_vma ([+-]\d+)\s+anon_vma_chain ([+-]\d+)\s+vm_area_struct ([+-]\d+)$")
Row = tuple[str, tuple[int, ...]]
BEFORE_FORKS = 8  # rows
GENERATIONS = 8


def rows(text: str) -> list[Row]:
    return [
        (match[1], tuple(int(n) for n in match.groups()[1:])) for match in map(ROW.match, text.splitlines()) if match
    ]


def law(areas: int, used: int) -> list[tuple[int, ...]]:
    """What the rows from the first fork on add, for a process of so many areas, `used` of them with anonymous pages,
    each written before any fork: a child adds an anon_vma per used area, and a link for each generation down to it.
    (The last row has a bound only.)"""
    child = (used, 2 * used, areas)
    nested = sum(generation + 1 for generation in range(1, GENERATIONS + 1))
    return [
        child,
        child,
        tuple(10 * n for n in child),
        (0, 0, 0),
        (GENERATIONS * used, nested * used, GENERATIONS * areas),
    ]


def areas_with_pages(mem: Any, mm: Any) -> int:
    """How many areas hold an anonymous page, by the page tables alone."""
    pgtables, frames = mem.pgtables, mem.frames
    found = 0
    for vma in mm.vmas:
        for first, base in pgtables.tables(mm.pgd, vma.vm_start, vma.vm_end):
            lo, hi = max(vma.vm_start - first >> 12, 0), min(vma.vm_end - first >> 12, pgtables.PTRS)
            ptes = pgtables.ptes[base + lo : base + hi].tolist()
            if any(
                frames.flags[pte >> 12 & pgtables.PFN_MASK] & PG_ANON if pte & PRESENT else pte and not pte & FILE
                for pte in ptes
            ):
                found += 1
                break
    return found


@pytest.mark.skipif(toolchain.find_compiler() is None, reason="no compiler for i386 programs")
@pytest.mark.parametrize(("paging", "kernel"), [("2level", "686"), ("pae", "pae")])
def test_objects_as_a_real_kernel(paging: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forks: list[tuple[int, int]] = []
    plain = sandbox.kernel.fork.dup_mmap

    def dup_mmap(mem: Any, mm: Any) -> Any:
        forks.append((len(mm.vmas), areas_with_pages(mem, mm)))
        return plain(mem, mm)

    monkeypatch.setattr(sandbox.kernel.fork, "dup_mmap", dup_mmap)
    program = toolchain.compile_c(REFERENCE / "avc_reference.c")
    result = Machine(Config(memory="128M", paging=paging, scheme="anon_vma_chain", audit="end", stdin=b"")).run(
        [str(program)], capture=True
    )
    assert result.exit_status == 0 and result.audit.violations == 0
    text = result.notes.stdout.decode()
    assert text.endswith("done\n")
    wanted, got = rows((REFERENCE / f"avc-{kernel}-6.1.176.txt").read_text()), rows(text)
    assert [name for name, _ in got] == [name for name, _ in wanted]
    assert got[:BEFORE_FORKS] == wanted[:BEFORE_FORKS]

    areas, used = forks[0]
    assert len(forks) > 200 and set(forks) == {(areas, used)}, "every generation has the same areas"
    assert 10 <= used < areas
    recorded = wanted[BEFORE_FORKS][1]
    assert [counts for _, counts in wanted[BEFORE_FORKS:-1]] == law(recorded[2], recorded[0])
    assert [counts for _, counts in got[BEFORE_FORKS:-1]] == law(areas, used)
    for counts, n in ((wanted[-1][1], recorded[2]), (got[-1][1], areas)):
        assert counts[2] == n and 0 < counts[0] <= 2 * n, "the survivor of 200 generations"


@pytest.mark.skipif(toolchain.find_compiler() is None, reason="no compiler for i386 programs")
@pytest.mark.parametrize(("era", "grows"), [("2.6.34", True), ("3.7", True), ("4.0", False)])
def test_the_older_eras_differ_in_the_last_row_only(era: str, grows: bool) -> None:
    """Before 4.0 the survivor keeps the anon_vmas of all 200 generations."""
    program = toolchain.compile_c(REFERENCE / "avc_reference.c")
    config = Config(memory="128M", scheme="anon_vma_chain", scheme_options={"era": era}, audit="end", stdin=b"")
    result = Machine(config).run([str(program)], capture=True)
    assert result.exit_status == 0 and result.audit.violations == 0
    got = rows(result.notes.stdout.decode())
    assert got[:BEFORE_FORKS] == rows((REFERENCE / "avc-pae-6.1.176.txt").read_text())[:BEFORE_FORKS]
    used, _, areas = got[BEFORE_FORKS][1]
    assert [counts for _, counts in got[BEFORE_FORKS:-1]] == law(areas, used)
    assert got[-1][1][:2] == ((201 * used, 202 * used) if grows else (2 * used, 3 * used))
