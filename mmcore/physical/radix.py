"""What the radix trees of the page cache and the swap cache cost in low memory.

Lookups go through a Python dict; this class keeps the shape the kernel's tree would have, so that every node takes its
real object of the slab: 64 slots a node, height grown to the largest index ever held, nodes freed as they empty, height
reset when the tree is empty. A tree whose only item has index 0 needs no node.
Linux: lib/radix-tree.c, 2.6.7 (the tree does not shrink in height).
"""

from __future__ import annotations

from mmcore.errors import OutOfMemory
from mmcore.physical.gfp import GFP_KERNEL
from mmcore.physical.slab import KmemCache, Slab

RADIX_SHIFT = 6
NODE_SIZE = 276  # bytes on i386: count, 64 slots, 2 tags of 64 bits


def radix_cache(slab: Slab) -> KmemCache:
    return slab.cache("radix_tree_node", NODE_SIZE)


class RadixNodes:
    """Nodes of one tree. `charge` before an index is inserted, `uncharge` after it is deleted; each index at most
    once."""

    __slots__ = ("items", "height", "_leaves", "_levels", "_addresses", "_cache")

    def __init__(self, cache: KmemCache) -> None:
        self.items = 0
        self.height = 0
        self._cache = cache
        self._levels: list[dict[int, int]] = []  # per level from the leaves up: node number -> slots in use
        self._leaves: dict[int, int] = {}
        self._addresses: dict[tuple[int, int], int] = {}

    @property
    def nodes(self) -> int:
        return len(self._addresses)

    def charge(self, index: int, gfp: int = GFP_KERNEL) -> None:
        """Makes room for `index`. Raises OutOfMemory and then has changed nothing."""
        leaves = self._leaves
        leaf = index >> RADIX_SHIFT
        if leaf in leaves:
            leaves[leaf] += 1
            self.items += 1
            return
        self._grow(index, gfp)
        self.items += 1

    def _missing(self, index: int) -> tuple[int, list[tuple[int, int]]]:
        """The height that `index` asks for, and the nodes (level, number) that are not there."""
        height = self.height
        while index >> RADIX_SHIFT * height:
            height += 1
        # Extending an existing tree puts one node on top of the old root per new level.
        missing = [(level, 0) for level in range(self.height, height)] if self.items else []
        for level in range(height):
            node = index >> RADIX_SHIFT * (level + 1)
            if level < self.height and node in self._levels[level]:
                break
            if (level, node) not in missing:
                missing.append((level, node))
        return height, missing

    def _grow(self, index: int, gfp: int) -> None:
        taken: list[int] = []
        try:
            # an allocation may reclaim, and reclaim inserts and deletes here: what is missing is asked after the last
            # one
            while True:
                height, missing = self._missing(index)
                if len(taken) >= len(missing):
                    break
                taken.append(self._cache.alloc(gfp))
        except OutOfMemory:
            for address in taken:
                self._cache.free(address)
            raise
        while len(taken) > len(missing):
            self._cache.free(taken.pop())
        if not height:  # the first item, at index 0: the root points at it
            return
        levels = self._levels
        while len(levels) < height:
            levels.append({})
        self._leaves = levels[0]
        if self.items:
            for level in range(self.height, height):
                levels[level][0] = 1  # the old root (or the lone item)
        self.height = height
        for key, address in zip(missing, taken, strict=True):
            self._addresses[key] = address
            levels[key[0]].setdefault(key[1], 0)
        created = set(missing)
        for level in range(height):
            node = index >> RADIX_SHIFT * (level + 1)
            levels[level][node] += 1
            if (level, node) not in created or levels[level][node] > 1:
                break

    def uncharge(self, index: int) -> None:
        leaf = index >> RADIX_SHIFT
        leaves = self._leaves
        self.items -= 1
        n = leaves.get(leaf, 0)
        if n > 1:
            leaves[leaf] = n - 1
            return
        for level, nodes in enumerate(self._levels):
            node = index >> RADIX_SHIFT * (level + 1)
            nodes[node] -= 1
            if nodes[node]:
                break
            del nodes[node]
            self._cache.free(self._addresses.pop((level, node)))
        if not self.items:
            self.height = 0
            self._levels = []
            self._leaves = {}
