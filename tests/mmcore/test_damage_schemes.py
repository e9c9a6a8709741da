"""Damage to a scheme's own structures: its walk goes wrong, or its invariants do, and the auditor says so."""

from __future__ import annotations

import pytest

from mmcore.physical.frames import PG_DIRECT
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.pte_chain import PteChain
from tests.mmcore.scan_scheme import ScanEverything
from tests.mmcore.scene import LOCKED, PRIVATE, Scene, Table, expect, noting

ANON_VMA: Table = {}
PTE_CHAIN: Table = {}
SCAN: Table = {}
anon_vma, pte_chain, scan = noting(ANON_VMA), noting(PTE_CHAIN), noting(SCAN)


@anon_vma(r"anon_vma {0:#x} does not list the area at 0x40000000")
def list_entry_removed(s: Scene) -> int:
    vma = s.vma(s.child, PRIVATE)
    del vma.anon_vma.areas[vma]
    return vma.anon_vma.address


@anon_vma(r"walk of the scheme is wrong, \d of \d PTEs not found .*at 0x40001000")
def list_entry_removed_and_a_walk_misses_it(s: Scene) -> None:
    list_entry_removed(s)


@anon_vma(r"anon_vma {0:#x} lists an area at .* that points elsewhere")
def area_points_elsewhere(s: Scene) -> int:
    vma = s.vma(s.child, PRIVATE)
    address = vma.anon_vma.address
    vma.anon_vma = None
    return address


@anon_vma(r"walk of the scheme is wrong, 2 of 2 PTEs not found .*frame {0:#x}")
def page_index_wrong(s: Scene) -> int:
    pfn = s.pfn(s.child, PRIVATE)
    s.mem.frames.index[pfn] += 100
    return pfn


@anon_vma(r"walk of the scheme is wrong, 2 of 2 PTEs not found .*frame {0:#x}")
def page_mapping_wrong(s: Scene) -> int:
    pfn = s.pfn(s.child, PRIVATE)
    s.mem.frames.mapping[pfn] = 0xC0000000
    return pfn


@anon_vma(r"walk of the scheme is wrong, \d of \d PTEs not found")
def moved_area_with_a_new_offset(s: Scene) -> None:
    s.vma(s.child, PRIVATE + 0x100000).vm_pgoff += 1


@anon_vma(r"anon_vma 0x[0-9a-f]+ has no area")
def object_kept_too_long(s: Scene) -> None:
    next(iter(s.mem.scheme._objects.values())).areas.clear()


@anon_vma(r"anon_vma: \d+ objects known, \d+ in the cache")
def object_leaked(s: Scene) -> None:
    s.mem.scheme._cache.alloc()


def _chain(s: Scene) -> tuple[int, int, int]:
    """(pfn, physical address of its head node, index of its first used slot in u32)."""
    pfn = s.pfn(s.child, PRIVATE + 0x1000)
    assert not s.mem.frames.flags[pfn] & PG_DIRECT
    node = s.mem.frames.rmap[pfn]
    return pfn, node, (node >> 2) + 1 + (s.mem.ram.u32[node >> 2] & 7)


@pte_chain(r"used slots are not those from 4 on")
def slot_zeroed(s: Scene) -> None:
    _, _, slot = _chain(s)
    s.mem.ram.u32[slot] = 0


@pte_chain(r"walk of the scheme is wrong, 1 of 3 PTEs not found .*frame {0:#x}")
def slot_duplicated(s: Scene) -> int:
    pfn, _, slot = _chain(s)
    s.mem.ram.u32[slot] = s.mem.ram.u32[slot + 1]
    return pfn


@pte_chain(r"walk of the scheme is wrong, 1 PTEs found twice .*frame {0:#x}")
def slot_added(s: Scene) -> int:
    pfn, node, slot = _chain(s)
    s.mem.ram.u32[slot - 1] = s.mem.ram.u32[slot]
    s.mem.ram.u32[node >> 2] -= 1
    return pfn


@pte_chain(r"walk of the scheme is wrong, 1 of 3 PTEs not found .*frame {0:#x}")
def slot_names_another_pte(s: Scene) -> int:
    pfn, _, slot = _chain(s)
    s.mem.ram.u32[slot] += 8
    return pfn


@pte_chain(r"used slots are not those from 5 on")
def idx_too_high(s: Scene) -> None:
    _, node, _ = _chain(s)
    s.mem.ram.u32[node >> 2] += 1


@pte_chain(r"used slots are not those from 3 on")
def idx_too_low(s: Scene) -> None:
    _, node, _ = _chain(s)
    s.mem.ram.u32[node >> 2] -= 1


@pte_chain(r"walk of the scheme leads astray \(KeyError.*frame {0:#x}")
def slot_zeroed_and_a_walk_meets_it(s: Scene) -> int:
    slot_zeroed(s)
    return _chain(s)[0]


@pte_chain(r"walk of the scheme is wrong, 3 of 3 PTEs not found .*frame {0:#x}")
def chain_lost(s: Scene) -> int:
    pfn, _, _ = _chain(s)
    s.mem.frames.rmap[pfn] = 0
    return pfn


@pte_chain(r"pte_chain: \d+ nodes in chains and stash, \d+ in the cache")
def node_leaked(s: Scene) -> None:
    s.mem.scheme._cache.alloc()


@pte_chain(r"walk of the scheme is wrong, 1 of 1 PTEs not found .*frame {0:#x}")
def direct_names_another_pte(s: Scene) -> int:
    pfn = s.pfn(s.parent, LOCKED)
    assert s.mem.frames.flags[pfn] & PG_DIRECT
    s.mem.frames.rmap[pfn] += 8
    return pfn


@pte_chain(r"pte_chain: has PTEs, or none, and mapcount says otherwise: frame {0:#x}")
def direct_left_behind(s: Scene) -> int:
    pfn = s.mem.pages.zones[0].pcp[0]
    s.mem.frames.rmap[pfn] = 4096
    s.mem.frames.flags[pfn] |= PG_DIRECT
    return pfn


@scan(r"walk of the scheme is wrong, 2 of 2 PTEs not found .*frame {0:#x}")
def address_wrong(s: Scene) -> int:
    pfn = s.pfn(s.child, PRIVATE)
    s.mem.frames.index[pfn] += 1
    return pfn


OWN = (
    [(AnonVma, name, ANON_VMA) for name in ANON_VMA]
    + [(PteChain, name, PTE_CHAIN) for name in PTE_CHAIN]
    + [(ScanEverything, name, SCAN) for name in SCAN]
)


@pytest.mark.parametrize("scheme, name, table", OWN, ids=[f"{s.card.name}-{n}" for s, n, _ in OWN])
def test_the_schemes(scheme: type, name: str, table: Table) -> None:
    expect(Scene(scheme), name, table)
