"""The nodes of a page-cache tree are what its entries need, whatever changes while they are allocated."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mmcore.physical.radix import RADIX_SHIFT, RadixNodes, radix_cache
from mmcore.physical.slab import KmemCache
from tests.mmcore.box import Box


class _Cache:
    """A cache of nodes whose next allocation does `during` first, as one that reclaims does."""

    def __init__(self, real: KmemCache) -> None:
        self.free, self._alloc = real.free, real.alloc
        self.during: Callable[[], None] | None = None

    def alloc(self, gfp: int) -> int:
        during, self.during = self.during, None
        if during is not None:
            during()
        return self._alloc(gfp)


@pytest.mark.parametrize(
    "come,go", [((5 << 2 * RADIX_SHIFT,), ()), ((), (1,)), (((3 << RADIX_SHIFT) + 1,), ()), ((0,), (1,)), ((), (1, 0))]
)
def test_a_tree_that_changes_while_its_nodes_are_allocated(come: tuple[int, ...], go: tuple[int, ...]) -> None:
    """An allocation of nodes reclaims, and reclaim puts other entries into the same tree and takes entries out, the
    last ones among them."""
    real = radix_cache(Box("anon_vma").mem.slab)
    before = real.objects
    cache = _Cache(real)
    tree = RadixNodes(cache)  # type: ignore[arg-type]
    held = {1, 0} if go == (1, 0) else {1}
    for index in held:
        tree.charge(index)

    def reclaim() -> None:
        for index in come:
            tree.charge(index)
        for index in go:
            tree.uncharge(index)

    cache.during = reclaim
    tree.charge(3 << RADIX_SHIFT)
    held = held - set(go) | set(come) | {3 << RADIX_SHIFT}
    same = RadixNodes(real)
    for index in sorted(held):
        same.charge(index)
    assert tree.items == same.items and tree._levels[0] == same._levels[0]
    for index in held:
        tree.uncharge(index)
        same.uncharge(index)
    assert tree.items == tree.nodes == same.nodes == 0 and real.objects == before
