"""The crisis of 2004 at its own size: 16 GB of RAM, 896 MB of it low memory, and processes that share 256 MB."""

from __future__ import annotations

import math

import pytest

from sandbox import Config, Machine, toolchain
from sandbox.result import Result

MB = 1 << 20
PAGE = 4096
SHARED = 256 * MB // PAGE  # pages of the segment

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(toolchain.find_compiler() is None, reason="no compiler for guest programs"),
]


def crisis(processes: int, scheme: str, highpte: bool = False) -> Result:
    config = Config(
        memory="16G",
        swap="1G",
        scheme=scheme,
        highpte=highpte,
        audit="off",
        stdin=b"",
        overcommit=1,
        time_limit=240,
    )
    program = str(toolchain.program_path("lowmem_crisis"))
    return Machine(config).run([program, str(processes), "256M"], capture=True)


def processes_that_fit(result: Result, tables_in_low: bool, entries_by_node: int | None) -> float:
    """What the arithmetic of page tables and chains gives. Low memory without what the kernel took at boot and what
    the watermarks keep, over the cost of a process: PTE tables of 512 entries for the segment, one for the program and
    one for its stack; three middle tables; the stack and the structures of a task; and a node of 32 bytes for each
    `entries_by_node` mappings, 119 of them to a slab of one page."""
    at_boot = sum(result.lowmem.owners[name].bytes for name in ("kernel_image", "mem_map", "vmalloc:swap_map"))
    kept = sum(zone.kept for zone in result.oom[0].zones if zone.name != "HighMem") * PAGE
    tables = (math.ceil(SHARED / 512) + 2 if tables_in_low else 0) + 3
    records = SHARED / entries_by_node / 119 if entries_by_node else 0.0
    task = 8192 + 4096  # the kernel's stack; task_struct, its handlers, files, areas
    return (896 * MB - at_boot - kept) / ((tables + records) * PAGE + task)


@pytest.mark.parametrize(
    "scheme, highpte, entries_by_node", [("pte_chain", False, 7), ("pte_chain", True, 3), ("anon_vma", False, None)]
)
def test_it_ends_where_the_arithmetic_says(scheme: str, highpte: bool, entries_by_node: int | None) -> None:
    """Low memory is gone while most of high memory and all of swap are free. The arithmetic is the paper's; the
    machine may differ by what it rounds to slabs."""
    result = crisis(1600, scheme, highpte)
    report = result.oom[0]
    assert result.exit_status != 0 and [zone.name for zone in report.zones] == ["DMA", "Normal", "HighMem"]
    assert all(zone.free <= zone.kept for zone in report.zones[:2])
    assert report.zones[2].free > report.zones[2].present * 3 // 4 and report.swap_free == report.swap_total
    lived = len(result.tasks)
    expected = processes_that_fit(result, not highpte, entries_by_node)
    assert abs(lived - expected) < 0.015 * expected, (lived, expected)


@pytest.mark.parametrize("scheme, highpte", [("anonmm", False), ("anon_vma", True), ("anon_vma_chain", False)])
def test_schemes_that_go_by_objects_outlive_pte_chain(scheme: str, highpte: bool) -> None:
    result = crisis(1100, scheme, highpte)
    assert result.exit_status == 0 and not result.oom and len(result.tasks) == 1100
    own = {name: size for name, size in result.lowmem.scheme.items() if name != "mem_map"}
    assert sum(own.values()) < MB
