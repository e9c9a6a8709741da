"""pte_chain in a fork: it reserves again where chains changed meanwhile; both ways of adding leave the same words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mmcore.physical.frames import PG_DIRECT
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.injection import OBJECT, during_allocations
from sandbox.kit.machine import CpulessMachine

PAGES = 300  # more nodes than two slabs of 32-byte lines hold


def _fork_while(m: CpulessMachine, mm: Any, meanwhile: Callable[[], object]) -> Any:
    """fork, where every new slab of nodes is got after `meanwhile` ran, as reclaim or the OOM killer would."""
    scheme: Any = m.mem.scheme
    reserve = scheme.reserve

    def new_slab(order: int) -> bool:
        if order != OBJECT:
            meanwhile()
        return order != OBJECT

    def reserve_under_pressure(*args: Any) -> Any:
        with during_allocations(m.mem.pages, new_slab, once=True):
            return reserve(*args)

    scheme.reserve = reserve_under_pressure
    try:
        return m.fork(mm)
    finally:
        del scheme.reserve


def _mapped_once(m: CpulessMachine) -> list[int]:
    found: list[int] = np.nonzero(m.mem.frames.np_mapcount == 1)[0].tolist()
    return found


def test_fork_reserves_again_when_reclaim_collapsed_chains_of_one_entry() -> None:
    """A chain with one entry has room for another; direct, the page needs a node. Reclaim makes the one into the other
    while fork reserves."""
    m = CpulessMachine(PteChain)
    mm = m.new_mm()
    base = m.mmap(mm, 2 * PAGES)
    for k in range(PAGES):
        m.store(mm, base + (k << 12), k)
    m.exit(m.fork(mm))
    alone = _mapped_once(m)
    assert len(alone) == PAGES
    for k in range(PAGES, 2 * PAGES):
        m.store(mm, base + (k << 12), k)

    child = _fork_while(m, mm, lambda: [m.mem.rmap.page_referenced(pfn) for pfn in alone])
    m.audit("after the fork")
    assert m.load(child, base + (5 << 12)) == 5
    m.exit(child)
    m.exit(mm)
    m.audit("all gone")


def test_fork_reserves_again_when_another_mapper_died_meanwhile() -> None:
    """The OOM killer takes a victim's memory at once: a head that had room may be gone with it, and the node below is
    full."""
    m = CpulessMachine(PteChain)
    mm = m.new_mm()
    base = m.mmap(mm, 2 * PAGES)
    n = m.mem.scheme.nrpte  # type: ignore[attr-defined]
    for k in range(PAGES):
        m.store(mm, base + (k << 12), k)
    others = [m.fork(mm) for _ in range(n)]  # n + 1 mappings: a full node, and a head with one entry
    for k in range(PAGES, 2 * PAGES):
        m.store(mm, base + (k << 12), k)
    m.mem.current.mm = mm

    child = _fork_while(m, mm, lambda: m.exit(others.pop()))
    m.audit("after the fork")
    for other in (child, mm, *others):
        m.exit(other)
    m.audit("all gone")


def test_direct_flag_follows_the_word() -> None:
    """After each of a fork's two ways of adding (bulk, single) no page is direct and chained at once."""
    for n in (4, 40):
        m = CpulessMachine(PteChain)
        mm = m.new_mm()
        base = m.mmap(mm, n)
        for k in range(n):
            m.store(mm, base + (k << 12), k)
        m.fork(mm)
        shared = np.nonzero(m.mem.frames.np_mapcount == 2)[0]
        assert len(shared) == n and not (m.mem.frames.np_flags[shared] & np.uint32(PG_DIRECT)).any()
