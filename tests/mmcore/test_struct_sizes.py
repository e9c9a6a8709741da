"""The sizes of struct page, vm_area_struct and mm_struct under every scheme, isolated (2.6.7 and the scheme's own
fields) and historic (the release that had it)."""

from __future__ import annotations

from typing import Any

import pytest

from mmcore.errors import PluginError
from mmcore.memory import MM_STRUCT, Memory, MemoryConfig
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.machine import MAP_ANONYMOUS, MAP_SHARED, CpulessMachine
from sandbox.schemes.registry import load_scheme

# (scheme, options, paging) -> isolated and historic (struct page, vm_area_struct, what mm_struct has more)
SIZES: list[tuple[str, dict[str, Any], str, tuple[int, int, int], tuple[int, int, int]]] = [
    ("pte_chain", {}, "pae", (32, 64, 0), (40, 64, 0)),
    ("pte_chain", {"highpte": True}, "2level", (32, 64, 0), (40, 64, 0)),
    ("pte_chain", {"highpte": True}, "pae", (36, 64, 0), (44, 64, 0)),
    ("partial_objrmap", {}, "pae", (32, 64, 0), (32, 64, 0)),
    ("partial_objrmap", {"i_mmap": "prio_tree"}, "pae", (32, 72, 0), (32, 72, 0)),
    ("partial_objrmap", {"highpte": True}, "pae", (36, 64, 0), (36, 64, 0)),
    ("anonmm", {}, "pae", (32, 72, 4), (32, 72, 4)),
    ("anonmm", {"i_mmap": "list"}, "2level", (32, 64, 4), (32, 64, 4)),
    ("anonmm_chained", {}, "pae", (32, 64, 4), (40, 64, 4)),
    ("anon_vma", {}, "pae", (32, 84, 0), (32, 84, 0)),
    ("anon_vma", {"era": "2.6.9"}, "2level", (32, 84, 0), (32, 84, 0)),
    ("virtual_scan", {}, "pae", (28, 64, 4), (36, 64, 4)),
    *(
        ("anon_vma_chain", {"era": era}, paging, (32, 84, 0), (32, vma, 0))
        for era, paging, vma in (
            ("2.6.34", "pae", 84),
            ("3.7", "pae", 88),
            ("4.0", "pae", 92),
            ("2022", "2level", 72),
            ("2022", "pae", 80),
        )
    ),
    *(
        ("rmap_series", {"stage": stage}, "pae", sizes, sizes)
        for stage, sizes in (
            (7, (32, 64, 0)),
            (8, (32, 64, 0)),
            (9, (32, 64, 0)),
            (10, (32, 64, 4)),
            (16, (32, 64, 4)),
            (17, (32, 72, 4)),
            (37, (32, 72, 4)),
            (38, (32, 72, 0)),
            (39, (32, 84, 0)),
            (40, (32, 84, 0)),
        )
    ),
]


def memory(scheme: str, options: dict[str, Any], paging: str, accounting: str) -> Memory:
    return Memory(
        MemoryConfig(memory_bytes=8 << 20, paging=paging, accounting=accounting, scheme_options=options),
        load_scheme(scheme),
    )


@pytest.mark.parametrize(("scheme", "options", "paging", "isolated", "historic"), SIZES, ids=str)
def test_sizes(
    scheme: str, options: dict[str, Any], paging: str, isolated: tuple[int, int, int], historic: tuple[int, int, int]
) -> None:
    for accounting, expected in (("isolated", isolated), ("historic", historic)):
        mem = memory(scheme, options, paging, accounting)
        page, vma, mm = expected
        assert (mem.struct_page_bytes, mem.vma_cache.objsize, mem.mm_cache.objsize - MM_STRUCT) == (page, vma, mm), (
            accounting
        )
        assert mem.boot_owners["mem_map"] == -(-2048 * page // 4096)


@pytest.mark.parametrize(
    ("scheme", "options", "said"),
    [
        ("pte_chain", {"cache_line": 48}, "cache_line = 48 is not 32, 64 or 128"),
        ("partial_objrmap", {"i_mmap": "hash"}, "i_mmap = 'hash' is not list or prio_tree"),
        ("anonmm", {"i_mmap": ""}, "i_mmap = '' is not list or prio_tree"),
        ("anon_vma", {"era": "2.4"}, "era = '2.4' is not 2.6.7 or 2.6.9"),
        ("anon_vma", {"era": "2.6.9", "flaws": True}, "goes with era 2.6.7"),
        ("anon_vma_chain", {"era": "2.6.33"}, "era = '2.6.33' is not"),
        ("anon_vma_chain", {"era": "2022", "flaws": True}, "goes with era 4.0"),
        ("rmap_series", {"stage": 6}, "stage = 6 is not a number from 7 to 40"),
        ("rmap_series", {"stage": 41}, "stage = 41 is not a number from 7 to 40"),
    ],
)
def test_values_that_cannot_be(scheme: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(PluginError, match=said):
        memory(scheme, options, "pae", "isolated")


STAGES = {
    7: ("list", "pte_chain"),
    9: ("list", None),
    10: ("list", "anonmm"),
    16: ("list", "anonmm"),
    17: ("prio_tree", "anonmm"),
    38: ("prio_tree", None),
    39: ("prio_tree", "anon_vma"),
    40: ("prio_tree", "anon_vma"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_stages_of_the_series(stage: int) -> None:
    """Each stage has its parts' caches and file index, and none of the others'."""
    mem = memory("rmap_series", {"stage": stage}, "pae", "isolated")
    index, cache = STAGES[stage]
    caches = {"pte_chain", "anonmm", "anon_vma"} & set(mem.slab.caches)
    assert (mem.setup.file_index, caches) == (index, {cache} if cache else set())
    assert mem.scheme.card.name == "rmap_series"


@pytest.mark.parametrize(
    ("scheme", "paging", "options", "isolated", "historic"),
    [
        (PteChain, "pae", {}, 32, 40),
        (PteChain, "pae", {"highpte": True}, 36, 44),
        (PteChain, "2level", {"highpte": True}, 32, 40),
        (AnonVma, "pae", {}, 32, 32),
    ],
)
def test_historic_accounting_has_the_struct_page_of_the_release(
    scheme: Any, paging: str, options: dict[str, Any], isolated: int, historic: int
) -> None:
    """2.6.5: 40 bytes, 44 with 64-bit PTE addresses (page->list was there still); 2.6.7: 32 whatever the paging."""
    for accounting, size in (("isolated", isolated), ("historic", historic)):
        mem = Memory(MemoryConfig(64 << 20, 1 << 20, paging, accounting=accounting, scheme_options=options), scheme)
        assert mem.struct_page_bytes == size
        assert mem.lowmem_report()["owners"]["mem_map"]["bytes"] == 16384 * size


def test_structures_have_the_sizes_of_their_kernels() -> None:
    """vm_area_struct 64 and 84 bytes, 47 of the latter in a page; anon_vma 8 or 12, 407 or 290 in a page."""
    assert Memory(MemoryConfig(16 << 20), PteChain).vma_cache.objsize == 64
    for smp, size, per_page in ((False, 8, 407), (True, 12, 290)):
        mem = Memory(MemoryConfig(16 << 20, smp=smp), AnonVma)
        assert (mem.vma_cache.objsize, mem.vma_cache.per_slab) == (84, 47)
        cache = mem.slab.caches["anon_vma"]
        assert (cache.objsize, cache.per_slab, cache.order) == (size, per_page, 0)
    for line, per_page in ((32, 119), (64, 61), (128, 31)):
        mem = Memory(MemoryConfig(16 << 20, cache_line=line), PteChain)
        assert mem.slab.caches["pte_chain"].per_slab == per_page
        assert mem.mm_cache.size % line == 0, "mm_struct is aligned to cache lines"


def test_inodes_grow_by_what_the_scheme_adds_to_address_space() -> None:
    """Two list heads up to 2.6.6, 16 bytes; in 2.6.7 a tree's root, a count and a list head, 20."""
    sizes = {}
    for scheme in (PteChain, AnonVma):
        m = CpulessMachine(scheme)
        m.mmap(m.new_mm(), 1, flags=MAP_SHARED | MAP_ANONYMOUS)
        sizes[scheme] = m.mem.slab.caches["shmem_inode_cache"].objsize
    assert sizes == {PteChain: 392, AnonVma: 396}
