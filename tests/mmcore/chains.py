"""A Box with words about anon_vma_chain's links, and the eras to run it under."""

from __future__ import annotations

from typing import Any

import pytest

from mmcore.calls.mprotect import do_mprotect
from mmcore.rmap import MISS, Purpose
from tests.mmcore.asking import Asking
from tests.mmcore.box import AT, Box

ERAS = {
    "2.6.34": "anon_vma_chain-2.6.34",
    "3.7": "anon_vma_chain-3.7",
    "4.0": "anon_vma_chain-4.0",
    "2022": "anon_vma_chain",
}
each = pytest.mark.parametrize("era", ERAS)
trees = pytest.mark.parametrize("era", ["3.7", "4.0", "2022"])
reusing = pytest.mark.parametrize("era", ["4.0", "2022"])


class Chains(Box):
    """A Box whose words are about links."""

    def __init__(self, era: str) -> None:
        super().__init__(ERAS.get(era, f"anon_vma_chain-{era}"))
        self.scheme: Any = self.mem.scheme

    def area(self, page: int, mm: Any = None) -> Any:
        vma = (mm or self.mm).find_vma(AT + (page << 12))
        assert vma is not None and vma.vm_start <= AT + (page << 12)
        return vma

    def own(self, page: int, mm: Any = None) -> Any:
        return self.area(page, mm).anon_vma

    def chain(self, page: int, mm: Any = None) -> list[Any]:
        """The anon_vmas of an area, newest first as the kernel's list has them."""
        return [avc.anon_vma for avc in reversed(self.area(page, mm).rmap or [])]

    def home(self, page: int, mm: Any = None) -> Any:
        return self.scheme._objects[self.mem.frames.mapping[self.pfn(page, mm)]]

    def protect(self, page: int, pages: int, prot: int, mm: Any = None) -> None:
        do_mprotect(self.mem, mm or self.mm, AT + (page << 12), pages << 12, prot)

    def counts(self) -> tuple[int, int]:
        """(anon_vma, anon_vma_chain) objects."""
        caches = self.mem.slab.caches
        return caches["anon_vma"].objects, caches["anon_vma_chain"].objects

    def walk(self, page: int, mm: Any = None) -> dict[str, int]:
        """What page_referenced adds to the meters."""
        before = self.mem.meters.as_dict()
        self.mem.rmap.page_referenced(self.pfn(page, mm))
        return {name: n - before[name] for name, n in self.mem.meters.as_dict().items()}

    def asked(self, page: int, mm: Any = None) -> list[Any]:
        """The address spaces a walk for the page offers, in order."""
        order: list[Any] = []
        asked = Asking(self.pfn(page, mm), Purpose.AUDIT, lambda pfn, m, *place: order.append(m) or MISS)
        self.scheme.walk(asked)
        return order

    def generations(self, n: int) -> list[Any]:
        """Nested forks, all alive: [parent, child, grandchild, ...]."""
        mms = [self.mm]
        for _ in range(n):
            mms.append(self.fork(mms[-1]))
        return mms
