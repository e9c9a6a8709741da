"""Walks whose answers a test gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmcore.physical.pgtable import PRESENT, P
from mmcore.rmap import HIT, MISS, Purpose, Walk
from tests.mmcore.box import Box

Visit = Callable[[int, Any, int, Any, int], int]
"""visit(pfn, mm, address, vma or None, PTE index or -1) -> answer."""


class Asking(Walk):
    """Every place that is offered is handed to a function."""

    def __init__(self, pfn: int, purpose: Purpose, answers: Visit) -> None:
        super().__init__(pfn, purpose)
        self.answers = answers

    def visit(self, mm: Any, address: int, vma: Any = None, pte: int = -1) -> int:
        return self.answers(self.pfn, mm, address, vma, pte)


def between(walk: Walk, answers: Callable[[Callable[..., int], Any, int, Any, int], int]) -> Walk:
    """What a scheme is given instead of `walk`: `answers(visit, mm, address, vma, pte)` hears of each place and may
    ask the true `visit`."""
    return Asking(walk.pfn, walk.purpose, lambda pfn, *place: answers(walk.visit, *place))


def found(b: Box, page: int, mm: Any = None) -> int:
    """How many of the frame's PTEs an audit's walk finds."""
    pfn, n = b.pfn(page, mm), 0
    t = b.mem.pgtables

    def visit(frame: int, where: Any, address: int, vma: Any, pte: int) -> int:
        nonlocal n
        i = pte if pte >= 0 else t.pte_index(where.pgd, address)
        hit = i >= 0 and t.ptes[i] & P and t.ptes[i] >> 12 & t.PFN_MASK == frame
        n += bool(hit)
        return HIT if hit else MISS

    b.mem.scheme.walk(Asking(pfn, Purpose.AUDIT, visit))
    return n


def walked(b: Box, pfn: int) -> tuple[set[int], int, bool]:
    """An audit's walk: (PTEs found to map the frame, places offered, whether an area was named)."""
    found: set[int] = set()
    offered, by_area = 0, False
    t = b.mem.pgtables

    def visit(frame: int, mm: Any, address: int, vma: Any, pte: int) -> int:
        nonlocal offered, by_area
        offered += 1
        by_area |= vma is not None
        i = pte if pte >= 0 else t.pte_index(mm.pgd, address)
        if i >= 0 and t.ptes[i] & PRESENT and t.ptes[i] >> 12 & t.PFN_MASK == frame:
            found.add(i)
            return HIT
        return MISS

    b.mem.rmap.offer(Asking(pfn, Purpose.AUDIT, visit))
    return found, offered, by_area
