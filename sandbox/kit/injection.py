"""What a test or check does in the midst of allocations: make the n-th fail, or have something happen meanwhile.

Covered is what `PageAllocator.inject` is asked about: every allocation of frames (pages of users, files, page tables,
slabs, vmalloc), by order, and every object of a slab cache, as order -1. Slots of swap are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmcore.physical.zones import PageAllocator

OBJECT = -1  # the order that stands for an object of a slab cache


class Failing:
    """Within `with Failing(pages, n) as failing` the n-th allocation (from 1; of those with an order that `counts`
    accepts) raises OutOfMemory, and with `every` each `every`-th after it too. `asked`: how many there were.

    A test whose `failed` stays False has seen all allocations of what it does.
    """

    def __init__(
        self, pages: PageAllocator, n: int, counts: Callable[[int], bool] | None = None, every: int = 0
    ) -> None:
        self.pages = pages
        self.n = n
        self.counts = counts
        self.every = every
        self.asked = 0

    @property
    def failed(self) -> bool:
        """Has an allocation failed?"""
        return self.asked >= self.n

    def __enter__(self) -> Failing:
        self.pages.inject = self._fails
        return self

    def __exit__(self, *_: object) -> None:
        self.pages.inject = None

    def _fails(self, order: int) -> bool:
        if self.counts is not None and not self.counts(order):
            return False
        self.asked += 1
        late = self.asked - self.n
        return late == 0 or (self.every > 0 and late > 0 and late % self.every == 0)


@contextmanager
def during_allocations(pages: PageAllocator, happens: Callable[[int], object], once: bool = False) -> Iterator[None]:
    """Within it `happens(order)` before each allocation, or before the `once` first that it answers True to, as
    reclaim, the OOM killer or somebody else acts where an allocation sleeps. What it allocates itself is left alone."""

    def inject(order: int) -> bool:
        pages.inject = None
        done = happens(order)
        if not (once and done):
            pages.inject = inject
        return False

    pages.inject = inject
    try:
        yield
    finally:
        pages.inject = None
