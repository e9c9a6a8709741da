"""Page tables: entries there and back (in numpy too), tables found and freed, protections, the kernel's half."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcore.areas.vma import VM_ACCESS_FLAGS
from mmcore.errors import OutOfMemory
from mmcore.memory import Memory, MemoryConfig
from mmcore.paging.lifecycle import mm_alloc
from mmcore.physical.frames import PAGETABLE
from mmcore.physical.pgtable import FILE, PRESENT, PROTNONE, A, P, PaeTables, TwoLevelTables, U, W
from rmap_plugins.anon_vma import AnonVma
from sandbox.kit.injection import Failing
from sandbox.kit.machine import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, RW, CpulessMachine

PAGINGS = ("pae", "2level")
TABLES = {"pae": PaeTables, "2level": TwoLevelTables}
OFFSET_BITS = {"pae": 27, "2level": 24}
PGOFF_BITS = {"pae": 32, "2level": 29}


def memory(paging: str) -> Memory:
    return Memory(MemoryConfig(8 << 20, 1 << 20, paging), AnonVma)


@pytest.mark.parametrize("paging", PAGINGS)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_swap_entries_there_and_back(paging: str, data: st.DataObject) -> None:
    tables = TABLES[paging]
    offset = data.draw(st.integers(1, (1 << OFFSET_BITS[paging]) - 1))
    entry = data.draw(st.integers(0, 31)) << 27 | offset
    pte = tables.swp_pte(entry)
    assert tables.pte_to_swp(pte) == entry
    assert not pte & (PRESENT | FILE) and 0 < pte < 1 << tables.ENTRY * 8


@pytest.mark.parametrize("paging", PAGINGS)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_file_entries_there_and_back(paging: str, data: st.DataObject) -> None:
    tables = TABLES[paging]
    pgoff = data.draw(st.integers(0, (1 << PGOFF_BITS[paging]) - 1))
    pte = tables.file_pte(pgoff)
    assert tables.pte_to_pgoff(pte) == pgoff and pte & FILE and not pte & PRESENT and pte < 1 << tables.ENTRY * 8


@pytest.mark.parametrize("paging", PAGINGS)
def test_numpy_twin(paging: str) -> None:
    mem = memory(paging)
    rng = random.Random(3)
    entries = [rng.randrange(32) << 27 | rng.randrange(1, 1 << OFFSET_BITS[paging]) for _ in range(500)]
    ptes = np.array([mem.pgtables.swp_pte(e) for e in entries], mem.pgtables.dtype)
    assert mem.pgtables.np_pte_to_swp(ptes).tolist() == entries


@pytest.mark.parametrize("paging, nx", [("pae", 1 << 63), ("2level", 0)])
def test_protections(paging: str, nx: int) -> None:
    """protection_map: private areas begin write-protected, writing and executing imply reading, no access is not
    present."""
    prot = memory(paging).pgtables.prot
    READ, WRITE, EXEC, SHARED = 1, 2, 4, 8
    for flags in range(16):
        bits = prot(flags | 0x70)
        if not flags & VM_ACCESS_FLAGS:
            assert bits == PROTNONE | A
            continue
        assert bits & (P | U | A) == P | U | A
        assert bool(bits & W) == (flags & (WRITE | SHARED) == WRITE | SHARED)
        assert bool(bits & nx) == (bool(nx) and not flags & EXEC)
    assert prot(READ) == prot(READ | WRITE)


@pytest.mark.parametrize("paging", PAGINGS)
def test_tables_are_found(paging: str) -> None:
    """tables() and pte_index() against the list of what was made."""
    mem = memory(paging)
    pgtables = mem.pgtables
    mm = mm_alloc(mem)
    rng = random.Random(5)
    span = 1 << pgtables.SHIFT
    made = set()
    free = mem.pages.nr_free()
    for _ in range(60):
        addr = rng.choice((rng.randrange(0xC0000000), 0x40000000 + rng.randrange(-3, 3) * span, 0xBFFFFFFF, 0)) & ~4095
        i = pgtables.pte_alloc(mm, addr)
        assert i == pgtables.pte_index(mm.pgd, addr) and pgtables.pte_alloc(mm, addr) == i
        assert pgtables.address_of(i) == (mm.addr, addr)
        made.add(addr // span * span)
    assert mm.nr_ptes == mem.vmstat.nr_page_table_pages == len(made)
    for _ in range(300):
        start = rng.choice((rng.randrange(0xC0000000), rng.choice(sorted(made)) + rng.randrange(-2, 3) * 4096)) & ~4095
        start = max(0, min(start, 0xC0000000 - 4096))
        end = min(
            0xC0000000, start + rng.choice((4096, span, 5 * span, 1 << 30, rng.randrange(1 << 31) & ~4095 or 4096))
        )
        expected = sorted(t for t in made if t < end and t + span > start)
        found = pgtables.tables(mm.pgd, start, end)
        assert [t for t, _ in found] == expected
        assert [b for _, b in found] == [pgtables.pte_index(mm.pgd, t) for t in expected]
    assert all(
        pgtables.pte_index(mm.pgd, t + span) == -1 for t in made if t + span not in made and t + span < 0xC0000000
    )
    pgtables.free_pgtables(mm, 0, 0xC0000000, 0, 0)
    assert mm.nr_ptes == mem.vmstat.nr_page_table_pages == 0 and pgtables.tables(mm.pgd, 0, 0xC0000000) == []
    mem.pages.drain_pcp()
    assert mem.pages.nr_free() >= free


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("seed", range(6))
def test_tables_go_with_the_last_area(paging: str, seed: int) -> None:
    """A table lives exactly as long as an area with a touched page is in its range (2.6.12 and later)."""
    m = CpulessMachine(AnonVma, memory=8 << 20, paging=paging)
    mm = m.new_mm()
    rng = random.Random(seed)
    pgtables = m.mem.pgtables
    span = 1 << pgtables.SHIFT
    touched: set[int] = set()
    for _ in range(120):
        at = 0x40000000 + rng.randrange(5 * span >> 12) * 4096
        pages = rng.choice((1, 3, span // 4096, rng.randrange(1, 2 * span >> 12)))
        m.munmap(mm, at, pages)
        touched = {t for t in touched if mm.find_vma_intersection(t * span, (t + 1) * span) is not None}
        if rng.random() < 0.5:
            m.mmap(mm, pages, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, at)
            m.store(mm, at, 1)
            touched.add(at // span)
        assert [t for t, _ in pgtables.tables(mm.pgd, 0, 0xC0000000)] == sorted(t * span for t in touched)
    m.audit()


@pytest.mark.parametrize("paging", PAGINGS)
def test_the_kernels_half_is_everybodys(paging: str) -> None:
    mem = memory(paging)
    before = mm_alloc(mem)
    mem.pgtables.map_kernel(0xC0100000, 0x77, P | W)
    mem.pgtables.map_kernel(0xFFFFE000, 0x78, P | U)
    after = mm_alloc(mem)
    for mm in (before, after):
        assert mem.pgtables.ptes[mem.pgtables.pte_index(mm.pgd, 0xC0100000)] == 0x77 << 12 | P | W
        assert mem.pgtables.ptes[mem.pgtables.pte_index(mm.pgd, 0xFFFFE000)] == 0x78 << 12 | P | U
        assert not mem.pgtables.ptes[mem.pgtables.pte_index(mm.pgd, 0xFFFFE000) - 1]


@pytest.mark.parametrize("paging, frames", [("pae", 3), ("2level", 1)])
def test_a_root_costs_what_it_costs(paging: str, frames: int) -> None:
    """PAE: a 32-byte root and three middle tables; 2-level: a page. A failure leaves nothing behind."""
    mem = memory(paging)
    mm_alloc(mem)
    before = mem.pages.owned[PAGETABLE]
    pgd = mem.pgtables.pgd_alloc(None)
    assert mem.pages.owned[PAGETABLE] == before + frames
    mem.pgtables.pgd_free(pgd)
    assert mem.pages.owned[PAGETABLE] == before
    for n in range(1, frames + 1):
        with Failing(mem.pages, n, counts=lambda order: order == 0), pytest.raises(OutOfMemory):
            mem.pgtables.pgd_alloc(None)
        assert mem.pages.owned[PAGETABLE] == before
