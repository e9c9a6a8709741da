"""A machine with one process and short words for what tests do to it; pages count from `AT`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mmcore.calls.mremap import do_mremap
from mmcore.errors import MustWait
from mmcore.physical.pgtable import P
from mmcore.rmap import WalkScheme
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.anon_vma_chain import AnonVmaChain
from rmap_plugins.anonmm import AnonMm
from rmap_plugins.anonmm_chained import AnonMmChained
from rmap_plugins.partial_objrmap import PartialObjrmap
from rmap_plugins.pte_chain import PteChain
from rmap_plugins.rmap_series import RmapSeries
from rmap_plugins.virtual_scan import VirtualScan
from sandbox.kit.injection import during_allocations
from sandbox.kit.machine import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, RW, CpulessMachine
from tests.mmcore.scan_scheme import ScanEverything

SCHEMES: dict[str, tuple[type, dict[str, Any]]] = {
    "anon_vma": (AnonVma, {}),
    "anon_vma-unshared": (AnonVma, {"sharing": False}),
    "pte_chain": (PteChain, {}),
    "partial_objrmap": (PartialObjrmap, {}),
    "partial_objrmap-tree": (PartialObjrmap, {"i_mmap": "prio_tree"}),
    "anonmm": (AnonMm, {}),
    "anonmm-list": (AnonMm, {"i_mmap": "list"}),
    "anonmm_chained": (AnonMmChained, {}),
    "anon_vma-2.6.9": (AnonVma, {"era": "2.6.9"}),
    "anon_vma_chain": (AnonVmaChain, {}),
    **{f"anon_vma_chain-{era}": (AnonVmaChain, {"era": era}) for era in ("2.6.34", "3.7", "4.0")},
    **{f"rmap_series-{stage}": (RmapSeries, {"stage": stage}) for stage in (7, 17)},  # 8, 11, 39, 40 are schemes above
    "virtual_scan": (VirtualScan, {}),
    "scan_everything": (ScanEverything, {}),
}
# Without those that share all their code with another but a file index, a size or a tag: for tests with very many
# cells.
_ALIKE = ("partial_objrmap-tree", "anonmm-list", "anon_vma-2.6.9", "anon_vma_chain-3.7", "rmap_series-17")
DISTINCT = {name: scheme for name, scheme in SCHEMES.items() if name not in _ALIKE}
KINDS = list(dict.fromkeys(kind for kind, _ in SCHEMES.values()))
# States of history whose flaws some tests show, and rmap 11, which mended rmap 10.
FLAWED: dict[str, tuple[type, dict[str, Any]]] = {
    "anon_vma-flaws": (AnonVma, {"flaws": True}),
    "anon_vma_chain-4.0-flaws": (AnonVmaChain, {"era": "4.0", "flaws": True}),
    **{f"rmap_series-{stage}": (RmapSeries, {"stage": stage}) for stage in (9, 10, 11, 38)},
}
AT = 0x50000000
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


def needs_walk(scheme: str) -> None:
    """Skips a test of what a scheme's walk answers, for a scheme without one."""
    if not issubclass(SCHEMES[scheme][0], WalkScheme):
        pytest.skip(f"not applicable: {scheme} has no walk")


class Box(CpulessMachine):
    """One process to begin with; pages count from `AT`."""

    def __init__(self, scheme: str, paging: str = "pae", **more: Any) -> None:
        kind, options = SCHEMES[scheme] if scheme in SCHEMES else FLAWED[scheme]
        super().__init__(kind, memory=8 << 20, paging=paging, **options, **more)
        self.mm = self.new_mm()

    def map(self, page: int, pages: int, prot: int = RW, flags: int = FIXED, mm: Any = None, **more: Any) -> None:
        self.mmap(mm or self.mm, pages, prot, flags, AT + (page << 12), **more)

    def put(self, *pages: int, mm: Any = None, plus: int = 1000) -> None:
        for page in pages:
            self.store(mm or self.mm, AT + (page << 12), plus + page)

    def has(self, *pages: int, mm: Any = None, plus: int = 1000, shift: int = 0) -> None:
        for page in pages:
            found = self.load(mm or self.mm, AT + (page + shift << 12))
            assert found == plus + page, f"page {page}: {found}"

    def index(self, page: int, mm: Any = None) -> int:
        return self.mem.pgtables.pte_index((mm or self.mm).pgd, AT + (page << 12))

    def pte(self, page: int, mm: Any = None) -> int:
        i = self.index(page, mm)
        return self.mem.pgtables.ptes[i] if i >= 0 else 0

    def pfn(self, page: int, mm: Any = None) -> int:
        assert self.pte(page, mm) & P
        return self.pte(page, mm) >> 12 & self.mem.pgtables.PFN_MASK

    def mremap(self, page: int, pages: int, to: int, mm: Any = None, new: int = 0) -> None:
        """Waits out what has to be waited for."""
        while True:
            try:
                do_mremap(
                    self.mem, mm or self.mm, AT + (page << 12), pages << 12, (new or pages) << 12, 3, AT + (to << 12)
                )
                self.mem.awaited.let_go(self.mem.current)
                return
            except MustWait as wait:
                self.mem.reclaim.wait_sync(wait.queue)

    def swap_out(self) -> None:
        self.mem.reclaim.shrink_all(400)

    def out(self, page: int, mm: Any = None) -> bool:
        """The page is on the swap device and not in RAM."""
        pte = self.pte(page, mm)
        return bool(pte) and not pte & P and self.mem.pgtables.pte_to_swp(pte) not in self.mem.swap.cache

    def objects(self, *names: str) -> int:
        """Objects in the scheme's own slab caches, or in those of `names`."""
        return sum(cache.objects for cache in self.mem.scheme.env.scheme_caches if not names or cache.name in names)

    @contextmanager
    def reclaiming(self, pages: int = 8) -> Iterator[None]:
        """Meanwhile reclaim runs at each allocation: in the midst of whatever allocates, as it does when memory is
        short."""

        def reclaim(order: int) -> None:
            if not self.mem.pages.memalloc:
                self.mem.reclaim.shrink_all(pages)

        with during_allocations(self.mem.pages, reclaim):
            yield
