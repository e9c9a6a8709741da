r"""PrioTree: areas of a file in a radix priority search tree (McCreight 1985).

Heap on the interval's end, radix tree on its start, then on its size, so that equal starts find different places. One
tree node per distinct interval; areas with the same interval (forked copies) hang off it in a list.

                      [0,99]                 every parent ends no earlier than its children: a subtree whose root
                     /      \\                ends before the query is cut; so is a right half that starts after it
                 [0,40]    [64,98] -> [64,98] -> [64,98]       (the vm_set of like areas)

Linux: mm/prio_tree.c, 2.6.7. Work is counted in `meters.file_nodes`: tree nodes looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmcore.stats import Meters

if TYPE_CHECKING:
    from mmcore.areas.vma import VmArea
    from mmcore.rmap.walk import Columns


class _Node:
    """An area's `shared` slot. In the tree (`in_tree`), or a member of the ring of its like areas."""

    __slots__ = ("vma", "start", "last", "left", "right", "parent", "in_tree", "head", "prev", "next")

    def __init__(self, vma: VmArea) -> None:
        self.vma = vma
        self.start = vma.vm_pgoff
        self.last = vma.vm_pgoff + ((vma.vm_end - vma.vm_start) >> 12) - 1
        self.left: _Node | None = None
        self.right: _Node | None = None
        self.parent: _Node | None = None
        self.in_tree = False
        self.head: _Node | None = None  # tree node: its first like area. first like area: its tree node
        self.prev = self.next = self


class PrioTree:
    """Query O(log n + answers), at most 2 x index bits deep whatever the shapes."""

    __slots__ = ("_root", "_bits", "_count", "_meters")

    def __init__(self, meters: Meters) -> None:
        self._root: _Node | None = None
        self._bits = 1
        self._count = 0
        self._meters = meters

    def __len__(self) -> int:
        return self._count

    def insert(self, vma: VmArea) -> None:
        node = vma.shared = _Node(vma)
        self._count += 1
        twin = self._tree_insert(node)
        if twin is not node:
            self._add_like(node, twin)

    def add_beside(self, new: VmArea, old: VmArea) -> None:
        """Fork: the copy has the interval of its original, no search is needed."""
        node = new.shared = _Node(new)
        beside = old.shared
        if node.start != beside.start or node.last != beside.last:
            self._count += 1
            twin = self._tree_insert(node)
            if twin is not node:
                self._add_like(node, twin)
            return
        self._count += 1
        self._add_like(node, beside)

    def remove(self, vma: VmArea) -> None:
        node = vma.shared
        vma.shared = None
        self._count -= 1
        if not node.in_tree:
            tree_node = node.head
            if tree_node is None:  # an ordinary member of the ring
                node.prev.next = node.next
                node.next.prev = node.prev
            elif node.next is not node:  # the first like area: the second takes its place
                successor = node.next
                node.prev.next = successor
                successor.prev = node.prev
                successor.head = tree_node
                tree_node.head = successor
            else:
                tree_node.head = None
            return
        heir = node.head
        if heir is None:
            self._tree_remove(node)
            return
        # The first like area replaces the tree node; the second becomes the first.
        self._replace(node, heir)
        heir.head = None
        if heir.next is not heir:
            successor = heir.next
            heir.prev.next = successor
            successor.prev = heir.prev
            heir.prev = heir.next = heir
            successor.head = heir
            heir.head = successor

    @staticmethod
    def _add_like(node: _Node, old: _Node) -> None:
        if old.in_tree:
            first = old.head
            if first is None:
                old.head = node
                node.head = old
                return
            old = first.prev  # at the ring's end
        node.next = old.next
        node.prev = old
        old.next.prev = node
        old.next = node

    # --- the tree

    def _replace(self, old: _Node, node: _Node) -> None:
        """`node` takes `old`'s place in the tree."""
        parent = old.parent
        node.parent, node.left, node.right = parent, old.left, old.right
        if parent is None:
            self._root = node
        elif parent.left is old:
            parent.left = node
        else:
            parent.right = node
        if node.left is not None:
            node.left.parent = node
        if node.right is not None:
            node.right.parent = node
        old.left = old.right = old.parent = None
        old.in_tree = False
        node.in_tree = True

    def _tree_insert(self, node: _Node) -> _Node:
        """Inserts, and returns `node`; or returns the node that has the same interval already."""
        new = node
        start, last = node.start, node.last
        if last >> self._bits:
            self._expand(node)
            return node
        cur = self._root
        if cur is None:
            self._root = node
            node.in_tree = True
            return node
        top = mask = 1 << (self._bits - 1)
        by_size = False
        while True:
            if cur.start == start and cur.last == last:
                return cur
            if cur.last < last or (cur.last == last and cur.start > start):
                # The heap wants this interval here; the one it displaces is inserted further down.
                self._replace(cur, node)
                node, cur = cur, node
                start, last = node.start, node.last
            if (last - start if by_size else start) & mask:
                below = cur.right
                if below is None:
                    cur.right = node
                    break
            else:
                below = cur.left
                if below is None:
                    cur.left = node
                    break
            cur = below
            mask >>= 1
            if not mask:
                mask = top
                by_size = True
        node.parent = cur
        node.in_tree = True
        return new

    def _expand(self, node: _Node) -> None:
        """`node` ends after all others and needs more index bits. It becomes the root and tops the first new level;
        each further level is topped by the node with the largest end among what is left. All of them start in the left
        half."""
        bottom = node
        self._bits += 1
        while node.last >> self._bits:
            self._bits += 1
            top = self._root
            if top is not None:
                bits = self._bits
                self._tree_remove(top)
                self._bits = bits
                bottom.left = top
                top.parent = bottom
                top.in_tree = True
                bottom = top
        rest = self._root
        if rest is not None:
            bottom.left = rest
            rest.parent = bottom
        self._root = node
        node.in_tree = True

    def _tree_remove(self, node: _Node) -> None:
        """The leaf below `node` that the heap would promote goes, and everybody between moves up one place."""
        cur: _Node = node
        while True:
            left, right = cur.left, cur.right
            if left is None:
                if right is None:
                    break
                cur = right
            elif right is not None and right.last > left.last:
                cur = right
            else:
                cur = left
        parent = cur.parent
        if parent is None:
            self._root = None
            self._bits = 1
        elif parent.left is cur:
            parent.left = None
        else:
            parent.right = None
        while cur is not node:
            above = cur.parent
            assert above is not None
            beyond = above.parent
            self._replace(above, cur)
            above.parent = beyond
            cur = above
        node.in_tree = False
        node.parent = None

    # --- queries

    def overlapping(self, first: int, last: int) -> Iterator[VmArea]:
        """Areas that map any page of `first .. last` (page offsets in the file, inclusive). The index must not change
        meanwhile."""
        node = self._root
        if node is None:
            return
        meters = self._meters
        top = 1 << (self._bits - 1)
        stack = [(node, top, 0, False)]
        while stack:
            node, mask, value, by_size = stack.pop()
            meters.file_nodes += 1
            if node.last < first:
                continue  # the heap: nothing below reaches the query
            if node.start <= last:
                yield node.vma
                like = node.head
                if like is not None:
                    end = like
                    while True:
                        yield like.vma
                        like = like.next
                        if like is end:
                            break
            left, right = node.left, node.right
            if left is None and right is None:
                continue
            below, size_below = mask >> 1, by_size
            if not below:
                below, size_below = top, True
            if right is not None:
                least = value if by_size else value | mask
                if least <= last:  # the radix tree: everything right of here starts at `least` or later
                    stack.append((right, below, least, size_below))
            if left is not None:
                stack.append((left, below, value, size_below))

    def columns(self, many: int) -> Columns | None:
        """None: a query looks at few."""
        return None

    def __iter__(self) -> Iterator[VmArea]:
        """All areas, in the tree's order; not metered."""
        stack = [self._root] if self._root is not None else []
        while stack:
            node = stack.pop()
            yield node.vma
            like = node.head
            if like is not None:
                end = like
                while True:
                    yield like.vma
                    like = like.next
                    if like is end:
                        break
            if node.right is not None:
                stack.append(node.right)
            if node.left is not None:
                stack.append(node.left)

    def check(self) -> list[str]:
        """What is broken: the heap, the links, the rings of like areas."""
        wrong, found = [], 0
        stack: list[tuple[_Node, _Node | None]] = [(self._root, None)] if self._root is not None else []
        while stack:
            node, parent = stack.pop()
            found += 1
            where = f"area {node.vma!r} [{node.start}, {node.last}]"
            if not node.in_tree or node.parent is not parent or node.vma.shared is not node:
                wrong.append(f"prio_tree: wrong links at {where}")
            if parent is not None and parent.last < node.last:
                wrong.append(f"prio_tree: {where} ends after its parent")
            vma = node.vma
            if (vma.vm_pgoff, vma.vm_pgoff + (vma.vm_end - vma.vm_start >> 12) - 1) != (node.start, node.last):
                wrong.append(f"prio_tree: {where} has changed its keys")
            like = node.head
            if like is not None:
                if like.head is not node:
                    wrong.append(f"prio_tree: the first like area of {where} belongs elsewhere")
                end = like
                while True:
                    found += 1
                    if (like.start, like.last) != (node.start, node.last) or like.in_tree or like.next.prev is not like:
                        wrong.append(f"prio_tree: wrong ring of like areas at {where}")
                        break
                    like = like.next
                    if like is end:
                        break
            stack += [(child, node) for child in (node.left, node.right) if child is not None]
        if found != self._count:
            wrong.append(f"prio_tree: {found} areas found, {self._count} on the books")
        return wrong
