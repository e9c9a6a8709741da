"""Walks whose answers a test gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmcore.rmap import Purpose, Walk

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
    """What a scheme is given instead of ``walk``: ``answers(visit, mm, address, vma, pte)`` hears of each place and may
    ask the true ``visit``."""
    return Asking(walk.pfn, walk.purpose, lambda pfn, *place: answers(walk.visit, *place))
