"""High memory: whose it is, what reclaim and the schemes make of it, and what is left of low memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from mmcore.calls.migrate import migrate_page
from mmcore.errors import Hung, OutOfMemory, PluginError
from mmcore.physical.frames import PAGETABLE, USER
from mmcore.physical.pgtable import A
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_SHARED, CpulessMachine
from tests.mmcore.box import SCHEMES

MB = 1 << 20
each = pytest.mark.parametrize("scheme", SCHEMES)
both = pytest.mark.parametrize("paging", ["pae", "2level"])


def machine(scheme: str, paging: str = "pae", high: int = 16, highpte: bool = False) -> CpulessMachine:
    """32 MB of low memory, and so many of high."""
    kind, options = SCHEMES[scheme]
    return CpulessMachine(
        kind,
        memory=(32 + high) * MB,
        lowmem=32 * MB,
        swap=32 * MB,
        paging=paging,
        machine_highpte=highpte,
        **options,
    )


def pfn_of(m: CpulessMachine, mm: Any, address: int) -> int:
    pgtables = m.mem.pgtables
    return pgtables.ptes[pgtables.pte_index(mm.pgd, address)] >> 12 & pgtables.PFN_MASK


@each
@both
@pytest.mark.parametrize("highpte", [False, True])
def test_a_life_in_both(scheme: str, paging: str, highpte: bool) -> None:
    """More pages than high memory has: shared, copied, moved, swapped, migrated, of a file; all of it audited."""
    m = machine(scheme, paging, 4, highpte)
    mm = m.new_mm()
    pages = 1500
    at, file = m.mmap(mm, pages), m.mmap(mm, 300, flags=MAP_SHARED, file=tmpfs_file(m.mem, 300))
    for k in range(pages):
        m.store(mm, at + (k << 12), k)
    for k in range(300):
        m.store(mm, file + (k << 12), k)
    border = m.mem.pages.lowmem_end
    assert {pfn_of(m, mm, at + (k << 12)) >= border for k in range(pages)} == {False, True}
    m.audit("filled")
    child = m.fork(mm)
    for k in range(0, pages, 3):
        m.store(child, at + (k << 12), k + 7)
    m.audit("forked and copied")
    ptes = m.mem.pgtables.np_ptes
    for _, base in m.mem.pgtables.tables(mm.pgd, 0, 0xC0000000):
        ptes[base : base + m.mem.pgtables.PTRS] &= ptes.dtype.type(~A & (1 << 8 * ptes.itemsize) - 1)
    m.mem.reclaim.shrink_all(1200)
    m.audit("reclaimed")
    for k in range(pages):
        assert m.load(mm, at + (k << 12)) == k and m.load(child, at + (k << 12)) == (k if k % 3 else k + 7)
    m.audit("all in again")
    m.exit(mm)
    m.exit(child)
    m.mem.reclaim.lru_add_drain()
    m.audit("gone")
    assert m.mem.pages.high.owned[USER] + m.mem.pages.owned[USER] == len(m.mem.swap.cache)  # read ahead


@each
def test_page_tables_stay_low_unless_the_machine_says_so(scheme: str) -> None:
    for highpte in (False, True):
        m = machine(scheme, highpte=highpte)
        mm = m.new_mm()
        at = m.mmap(mm, 4096)
        for table in range(8):
            m.store(mm, at + (table << 21), 1)
        high = m.mem.pages.high.owned[PAGETABLE]
        assert high == (m.mem.vmstat.nr_page_table_pages if highpte else 0)
        m.fork(mm)
        m.audit("tables")


def test_a_chain_cannot_name_a_table_in_high_memory_with_four_bytes() -> None:
    with pytest.raises(PluginError, match="pte_chain: highpte = false cannot name the page tables of a machine"):
        CpulessMachine(PteChain, memory=48 * MB, lowmem=32 * MB, machine_highpte=True, highpte=False)
    m = CpulessMachine(PteChain, memory=48 * MB, lowmem=32 * MB, machine_highpte=True)
    assert m.mem.scheme.nrpte == 3 and m.mem.setup.page == 8  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", ["anon_vma", "pte_chain", "anonmm"])
def test_a_page_migrates_between_frames_whose_numbers_need_24_bits(scheme: str) -> None:
    """An entry of a page that moves keeps the whole number of its frame."""
    kind, options = SCHEMES[scheme]
    m = CpulessMachine(kind, memory=40 << 30, swap=MB, **options)
    mm = m.new_mm()
    at = m.mmap(mm, 1)
    m.store(mm, at, 5)
    child = m.fork(mm)
    pfn = pfn_of(m, mm, at)
    assert pfn > 1 << 22
    new = migrate_page(m.mem, pfn)
    assert pfn_of(m, mm, at) == new == pfn_of(m, child, at) and m.load(child, at) == 5
    m.audit("moved")


def crisis(kind: type, pages: int, **options: Any) -> tuple[int, CpulessMachine]:
    """Forks a process with a shared segment until low memory is gone: (processes, the machine)."""
    m = CpulessMachine(kind, memory=96 * MB, lowmem=32 * MB, swap=MB, **options)
    mm = m.new_mm()
    at = m.mmap(mm, pages, flags=MAP_SHARED, file=tmpfs_file(m.mem, pages))
    for k in range(pages):
        m.store(mm, at + (k << 12), k)
    n = 1
    try:
        while True:
            m.fork(mm)
            n += 1
    except (OutOfMemory, Hung):
        return n, m


def test_low_memory_runs_out_where_the_arithmetic_says() -> None:
    """Each process costs its page tables, its three middle tables and, under pte_chain, a node of 32 bytes for 7
    mappings, 119 of them to a page; what the kernel itself holds, and what must stay free, is left out of what there
    is."""
    pages = 8192
    tables = 4096 * (pages // 512 + 3)
    for kind, records in ((AnonVma, 0.0), (PteChain, pages / 7 * 4096 / 119)):
        n, m = crisis(kind, pages)
        mem = m.mem
        boot = sum(mem.boot_owners.values()) << 12
        room = 32 * MB - boot - 4 * mem.pages.min_free_kbytes * 1024
        expected = room / (tables + records)
        assert 0.9 * expected < n < 1.05 * expected, (kind.__name__, n, expected)
        assert mem.pages.zones[2].free_pages > mem.pages.zones[2].present_pages // 3
        assert mem.swap.nr_swap_pages == mem.swap.total


def test_what_was_wrong_is_reported() -> None:
    _, m = crisis(PteChain, 8192)
    report = m.mem.oom.reports[-1]
    names = list(report.owners)
    assert names[0] == "page_tables" and "slab:pte_chain" in names[:3] and report.killed is None
    assert [zone.name for zone in report.zones] == ["DMA", "Normal", "HighMem"]
    low = [zone for zone in report.zones if zone.name != "HighMem"]
    assert all(zone.free <= zone.kept for zone in low) and report.zones[2].free > report.zones[2].pages_high
    assert report.swap_free == report.swap_total > 0


UNTOUCHED = """
import re, sys
from rmap_plugins.anon_vma import AnonVma
from sandbox.kit.machine import CpulessMachine
m = CpulessMachine(AnonVma, memory=int(sys.argv[1]) << 30, swap=1 << 20)
mm = m.new_mm()
m.store(mm, m.mmap(mm, 1), 1)
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1], m.mem.pages.zones[2].free_pages)
"""


def test_a_machine_of_64_gb_takes_host_memory_for_what_is_used() -> None:
    """Measured in a process of its own, by its greatest resident size (kB)."""

    def greatest(gigabytes: int) -> tuple[int, int]:
        done = subprocess.run([sys.executable, "-c", UNTOUCHED, str(gigabytes)], stdout=subprocess.PIPE, check=True)
        size, free = done.stdout.split()
        return int(size), int(free)

    (small, _), (large, free) = greatest(1), greatest(64)
    assert free > 16_000_000 and 20_000 < large < small + 30_000, (small, large)
