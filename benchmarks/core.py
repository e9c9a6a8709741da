"""What the core costs without a CPU: walks, unmapping, scanning, the audit, areas. Each function returns seconds for
one of what its name says."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from mmcore.areas.mm import Mm
from mmcore.physical.gfp import GFP_KERNEL
from mmcore.physical.pgtable import A
from mmcore.reclaim.vmscan import ScanControl
from mmcore.rmap.core import SUCCESS
from sandbox.kit.machine import PROT_READ, RW, CpulessMachine
from sandbox.schemes.registry import load_scheme

SHARERS = 64


def _machine(scheme: str, megabytes: int, **options: Any) -> CpulessMachine:
    return CpulessMachine(load_scheme(scheme), memory=megabytes << 20, swap=2 * megabytes << 20, **options)


def _touched(machine: CpulessMachine, pages: int) -> tuple[Mm, int, list[int]]:
    """A process with so many anonymous pages: its address space, where they start, and their frames."""
    mm = machine.new_mm()
    at = machine.mmap(mm, pages)
    fault_in = machine.mem.faults.fault_in
    return mm, at, [fault_in(mm, at + (page << 12), True) for page in range(pages)]


def unmap_once(scheme: str = "anon_vma", pages: int = 4096) -> float:
    """One try_to_unmap of an anonymous page mapped once, its place in swap already there."""
    machine = _machine(scheme, 64)
    mem = machine.mem
    _, _, pfns = _touched(machine, pages)
    _rest(machine)
    for pfn in pfns:
        assert mem.swap.add_to_swap(pfn)
        mem.frames.count[pfn] += 1  # whoever unmaps a page holds it
    try_to_unmap = mem.rmap.try_to_unmap
    start = time.perf_counter()
    for pfn in pfns:
        assert try_to_unmap(pfn) == SUCCESS
    return (time.perf_counter() - start) / pages


def _rest(machine: CpulessMachine) -> None:
    """No PTE is young."""
    ptes = machine.mem.pgtables.np_ptes
    for mm in machine.mem.mms.values():
        for _, base in machine.mem.pgtables.tables(mm.pgd, 0, 0xC0000000):
            ptes[base : base + machine.mem.pgtables.PTRS] &= ptes.dtype.type(~A & (1 << 8 * ptes.itemsize) - 1)


def walk_candidate(scheme: str = "anon_vma", pages: int = 256) -> float:
    """One candidate of a walk: pages that a parent shares with many children are asked for their use."""
    machine = _machine(scheme, 64)
    mem = machine.mem
    mm, _, pfns = _touched(machine, pages)
    children = [machine.fork(mm) for _ in range(SHARERS)]
    _rest(machine)
    before = mem.meters.candidates
    page_referenced = mem.rmap.page_referenced
    start = time.perf_counter()
    for pfn in pfns:
        assert page_referenced(pfn) == 0
    spent = time.perf_counter() - start
    candidates = mem.meters.candidates - before
    assert candidates >= pages * (len(children) + 1)
    return spent / candidates


def long_walk(scheme: str = "anon_vma", children: int = 1000, pages: int = 16) -> float:
    """One walk past 1,001 areas, the last of which has the page: a parent and its children wrote their own copies of
    the pages, and the parent's are asked for their use, the list being as the last walk found it."""
    machine = _machine(scheme, 256)
    mem = machine.mem
    parent, at, _ = _touched(machine, pages)
    family = [parent, *(machine.fork(parent) for _ in range(children))]
    for mm in family:
        for page in range(pages):
            machine.store(mm, at + (page << 12), 1)
    _rest(machine)
    pgtables = mem.pgtables
    ptes = [pgtables.ptes[pgtables.pte_index(parent.pgd, at + (page << 12))] for page in range(pages)]
    page_referenced = mem.rmap.page_referenced
    for pte in ptes[:2]:
        page_referenced(pte >> 12 & pgtables.PFN_MASK)
    start = time.perf_counter()
    for pte in ptes:
        assert page_referenced(pte >> 12 & pgtables.PFN_MASK) == 0
    return (time.perf_counter() - start) / pages


def scan_staying(scheme: str = "anon_vma", pages: int = 8192) -> float:
    """Looking at one mapped page that is in use, and leaving it where it is: the active list, memory being short."""
    machine = _machine(scheme, 64)
    mem = machine.mem
    _touched(machine, pages)
    mem.reclaim.lru_add_drain()
    ptes = mem.pgtables.np_ptes
    for mm in mem.mms.values():
        for _, base in mem.pgtables.tables(mm.pgd, 0, 0xC0000000):
            part = ptes[base : base + mem.pgtables.PTRS]
            part[part != 0] |= ptes.dtype.type(A)
    sc = ScanControl(GFP_KERNEL, True, mem.vmstat.nr_mapped)
    zones = [zone for zone in mem.pages.zones if zone.active.n]
    looked, before = sum(zone.active.n for zone in zones), mem.meters.hits
    start = time.perf_counter()
    for zone in zones:
        zone.prev_priority = 0
        for left in range(zone.active.n, 0, -32):
            mem.reclaim._refill_inactive_zone(zone, min(32, left), sc)
    spent = time.perf_counter() - start
    assert looked == pages == mem.meters.hits - before == sum(zone.active.n for zone in zones)
    return spent / looked


def audit_pages(scheme: str = "anon_vma", pages: int = 100_000) -> float:
    """One full pass of the auditor over so many mapped pages."""
    machine = _machine(scheme, 512)
    _touched(machine, pages)
    start = time.perf_counter()
    machine.audit("benchmark")
    return time.perf_counter() - start


def create_areas(scheme: str = "anon_vma", areas: int = 18_000) -> float:
    """An address space of so many areas of one page, each unlike its neighbours, one mmap after the other."""
    machine = _machine(scheme, 64)
    mm = machine.new_mm()
    start = time.perf_counter()
    for number in range(areas):
        machine.mmap(mm, 1, RW if number & 1 else PROT_READ)
    spent = time.perf_counter() - start
    assert len(mm.vmas) == areas and np.all(np.diff(mm.starts) == 4096)
    return spent
