"""find_vma is metered where history's walk or scan paid for it, and only there."""

from typing import Any

import pytest

from mmcore.areas.vma import VmArea
from mmcore.physical.frames import PG_ANON
from mmcore.rmap.core import SUCCESS
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.anon_vma_chain import AnonVmaChain
from rmap_plugins.anonmm import AnonMm
from rmap_plugins.anonmm_chained import AnonMmChained
from rmap_plugins.partial_objrmap import PartialObjrmap
from rmap_plugins.pte_chain import PteChain
from rmap_plugins.virtual_scan import VirtualScan
from sandbox.kit.machine import RW
from tests.mmcore.test_counts import ANON, AT, Counted

LOOK_UP = [PteChain, PartialObjrmap, AnonMm, AnonMmChained]
KNOW = [AnonVma, AnonVmaChain]


def descent(areas: list[VmArea], address: int) -> int:
    """Areas looked at on the way down a balanced tree, by its definition: the middle one, then the half that may hold
    the address."""
    if not areas:
        return 0
    middle = len(areas) // 2
    if areas[middle].vm_start <= address < areas[middle].vm_end:
        return 1
    return 1 + descent(areas[:middle] if address < areas[middle].vm_start else areas[middle + 1 :], address)


def family(scheme: Any, areas: int, children: int) -> tuple[Counted, list[Any]]:
    m = Counted(scheme, memory=16 << 20)
    mms = m.family(children, 1)
    for k in range(1, areas):
        for mm in mms:
            m.mmap(mm, 1, RW, ANON, AT + (k << 16))
    return m, mms


def unmap(m: Counted, pfn: int) -> dict[str, int]:
    """What one try_to_unmap, of a page that was not used of late, adds to the meters."""
    m.mem.rmap.page_referenced(pfn)
    m.mem.swap.add_to_swap(pfn) if m.mem.frames.flags[pfn] & PG_ANON else None
    before = m.mem.meters.as_dict()
    m.mem.frames.count[pfn] += 1
    assert m.mem.rmap.try_to_unmap(pfn) == SUCCESS
    m.mem.frames.count[pfn] -= 1
    return {name: value - before[name] for name, value in m.mem.meters.as_dict().items()}


@pytest.mark.parametrize("areas", [1, 2, 7, 40])
@pytest.mark.parametrize("scheme", LOOK_UP)
def test_an_unmap_that_knows_the_address_space_descends_in_each(scheme: Any, areas: int) -> None:
    m, mms = family(scheme, areas, 3)
    pfn = m.pfn(mms[0], 0)
    for mm in mms:
        mm.mmap_cache = None
    expected = sum(descent(mm.vmas, AT) for mm in mms)
    grown = unmap(m, pfn)
    assert grown["vma_lookups"] == grown["hits"] == 4 and grown["vma_lookup_nodes"] == expected >= 4
    assert m.mem.meters.longest_walk == max(4, grown["nodes"] + expected)


@pytest.mark.parametrize("scheme", LOOK_UP)
def test_the_last_answer_serves_again(scheme: Any) -> None:
    m, mms = family(scheme, 9, 0)
    mms[0].find_vma(AT)
    grown = unmap(m, m.pfn(mms[0], 0))
    assert grown["vma_lookups"] == 1 and grown["vma_lookup_nodes"] == 0


@pytest.mark.parametrize("scheme", [*LOOK_UP, *KNOW])
def test_ageing_needs_no_area(scheme: Any) -> None:
    m, mms = family(scheme, 9, 2)
    assert m.referenced(m.pfn(mms[0], 0))["vma_lookups"] == 0


@pytest.mark.parametrize("scheme", KNOW)
def test_a_scheme_that_leads_to_areas_looks_none_up(scheme: Any) -> None:
    m, mms = family(scheme, 9, 2)
    grown = unmap(m, m.pfn(mms[0], 0))
    assert grown["hits"] == 3 and grown["vma_lookups"] == grown["vma_lookup_nodes"] == 0


@pytest.mark.parametrize("scheme", [*LOOK_UP, *KNOW])
def test_pages_of_files_come_with_their_area_but_from_pte_chain(scheme: Any) -> None:
    m = Counted(scheme)
    mms = m.mapped_file(3, 1)
    grown = unmap(m, m.pfn(mms[0], 0))
    assert grown["vma_lookups"] == (3 if scheme is PteChain else 0)


def test_an_audit_looks_nothing_up_on_the_books() -> None:
    m, mms = family(AnonMm, 9, 2)
    before = m.mem.meters.as_dict()
    m.audit()
    assert m.mem.meters.as_dict() == before


def test_a_scan_finds_the_area_at_its_cursor() -> None:
    """2.5.26's swap_out_mm called find_vma once a visit."""
    m, _ = family(VirtualScan, 9, 2)
    meters = m.mem.meters
    visits, before = meters.mms_visited, meters.vma_lookups
    m.mem.scheme.swap_out(12, m.mem.pages.zones[0], 4)
    assert meters.vma_lookups - before == meters.mms_visited - visits > 0
