"""`address_space.i_mmap`: which areas map a range of a file.

An area is the closed interval [vm_pgoff, vm_pgoff + pages - 1]. Three indexes answer "which areas overlap [first,
last]":

 ListIndex          all areas in one list: every query looks at all of them
 PrioTree           a radix priority search tree (prio.py): one node per distinct interval, like areas in a list behind
                    it
 IntervalTreeIndex  a red-black tree on the interval's start whose nodes know where their subtree ends (interval.py);
                    one node per area, like ones too

Linux: mm/mmap.c __vma_link_file, kernel/fork.c dup_mmap of 2.6.5 (ListIndex); mm/interval_tree.c 3.7
(IntervalTreeIndex). Work is counted in `meters.file_nodes`: tree nodes looked at, or list entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from mmcore.files.index.prio import PrioTree
from mmcore.intervals import IntervalNode, IntervalTree
from mmcore.rmap.walk import Columns, Order
from mmcore.stats import Meters

if TYPE_CHECKING:
    from mmcore.areas.vma import VmArea


class FileIndex(Protocol):
    """Areas by the part of the file they map. An area is inserted once; its keys must not change while it is in."""

    def insert(self, vma: VmArea) -> None:
        """`vma` maps the file from now on; it is in no index yet."""

    def remove(self, vma: VmArea) -> None:
        """`vma` is in and goes."""

    def add_beside(self, new: VmArea, old: VmArea) -> None:
        """fork: `new` maps the same part as `old`, which is in, and is found before or after it."""

    def overlapping(self, first: int, last: int) -> Iterator[VmArea]:
        """Areas that map a page of `[first, last]` (page offsets), in the index's own order; metered as they come. The
        index must not change meanwhile."""
        ...

    def columns(self, many: int) -> Columns | None:
        """All areas in the order in which `overlapping` looks at them, each a node of its own, where there are more
        than `many` and they are worth having as arrays; else None."""
        ...

    def __iter__(self) -> Iterator[VmArea]: ...
    def __len__(self) -> int: ...

    def check(self) -> list[str]:
        """The index's own invariants; a list of what is broken."""
        ...


class ListIndex:
    """One list, new areas at its end, a forked copy right before its original (list_add_tail to the original's
    link)."""

    __slots__ = ("_ring", "_count", "_meters", "_order")

    def __init__(self, meters: Meters) -> None:
        self._ring: _Link | None = None
        self._count = 0
        self._meters = meters
        self._order = Order()

    def __len__(self) -> int:
        return self._count

    def insert(self, vma: VmArea) -> None:
        link = vma.shared = _Link(vma)
        self._count += 1
        self._order.changed()
        if self._ring is None:
            self._ring = link
        else:
            self._before(link, self._ring)

    def add_beside(self, new: VmArea, old: VmArea) -> None:
        link = new.shared = _Link(new)
        self._count += 1
        self._order.changed()
        self._before(link, old.shared)
        if old.shared is self._ring:
            self._ring = link

    def remove(self, vma: VmArea) -> None:
        link: _Link = vma.shared
        vma.shared = None
        self._count -= 1
        self._order.changed()
        link.prev.next = link.next
        link.next.prev = link.prev
        if self._ring is link:
            self._ring = link.next if self._count else None

    @staticmethod
    def _before(link: _Link, other: _Link) -> None:
        link.prev, link.next = other.prev, other
        other.prev.next = link
        other.prev = link

    def overlapping(self, first: int, last: int) -> Iterator[VmArea]:
        meters = self._meters
        for vma in self:
            meters.file_nodes += 1
            pgoff = vma.vm_pgoff
            if pgoff <= last and first < pgoff + ((vma.vm_end - vma.vm_start) >> 12):
                yield vma

    def columns(self, many: int) -> Columns | None:
        order = self._order
        if order.columns is None and self._count > many and order.worth_columns():
            order.columns = Columns(list(self))
        return order.columns

    def __iter__(self) -> Iterator[VmArea]:
        first = self._ring
        if first is None:
            return
        link = first
        while True:
            yield link.vma
            link = link.next
            if link is first:
                return

    def check(self) -> list[str]:
        """What is broken: the links, the count."""
        wrong, found, link = [], 0, self._ring
        while link is not None and found <= self._count:
            found += 1
            if link.next.prev is not link or link.vma.shared is not link:
                wrong.append(f"list: wrong links at area {link.vma!r}")
                break
            link = link.next if link.next is not self._ring else None
        if found != self._count and not wrong:
            wrong.append(f"list: {found} areas found, {self._count} on the books")
        return wrong


class _Link:
    __slots__ = ("vma", "prev", "next")

    def __init__(self, vma: VmArea) -> None:
        self.vma = vma
        self.prev = self.next = self


class _Interval(IntervalNode):
    """An area's `shared` slot in an IntervalTreeIndex."""

    __slots__ = ("vma",)

    def __init__(self, vma: VmArea) -> None:
        super().__init__(vma.vm_pgoff, vma.vm_pgoff + ((vma.vm_end - vma.vm_start) >> 12) - 1)
        self.vma = vma


class IntervalTreeIndex:
    """Areas in the order of their first page; a forked copy right after its original."""

    __slots__ = ("_tree", "_meters")

    def __init__(self, meters: Meters) -> None:
        self._tree: IntervalTree[_Interval] = IntervalTree()
        self._meters = meters

    def __len__(self) -> int:
        return len(self._tree)

    def insert(self, vma: VmArea) -> None:
        node = vma.shared = _Interval(vma)
        self._tree.insert(node)

    def add_beside(self, new: VmArea, old: VmArea) -> None:
        node = new.shared = _Interval(new)
        beside = old.shared
        if node.start == beside.start and node.last == beside.last:
            self._tree.insert_after(node, beside)
        else:
            self._tree.insert(node)

    def remove(self, vma: VmArea) -> None:
        self._tree.remove(vma.shared)
        vma.shared = None

    def overlapping(self, first: int, last: int) -> Iterator[VmArea]:
        tree = self._tree
        meters, before = self._meters, tree.visited
        try:
            for node in tree.overlapping(first, last):
                meters.file_nodes += tree.visited - before
                before = tree.visited
                yield node.vma
        finally:  # also for a walk that has seen enough
            meters.file_nodes += tree.visited - before

    def columns(self, many: int) -> Columns | None:
        """None: a query looks at few."""
        return None

    def __iter__(self) -> Iterator[VmArea]:
        """All areas, in the tree's order; not metered."""
        for node in self._tree:
            yield node.vma

    def check(self) -> list[str]:
        """What is broken: the tree, or keys that changed behind its back."""
        wrong = self._tree.check()
        for node in self._tree:
            vma = node.vma
            if vma.shared is not node:
                wrong.append(f"interval tree: area {vma!r} does not know its node")
            if (vma.vm_pgoff, vma.vm_pgoff + (vma.vm_end - vma.vm_start >> 12) - 1) != (node.start, node.last):
                wrong.append(f"interval tree: area {vma!r} [{node.start}, {node.last}] has changed its keys")
        return wrong


FILE_INDEXES: dict[str, Callable[[Meters], FileIndex]] = {
    "list": ListIndex,
    "prio_tree": PrioTree,
    "interval_tree": IntervalTreeIndex,
}
"""By the names that a scheme's card and `file_index` use."""
