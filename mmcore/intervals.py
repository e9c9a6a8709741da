r"""A red-black tree of closed intervals that answers "which overlap [first, last]?".

Nodes are ordered by where their interval starts; equal starts stand in the order they came, so a query's answers always
come in the same order. Each node also knows where the last interval of its subtree ends: a subtree that ends before the
query is cut.

                 [4,5] ..9              ..9: subtree_last
                /         \\
          [0,9] ..9      [6,7] ..7      overlapping(8, 8): [0,9] answers; what hangs below [6,7] is not looked at

A node is whatever its owner derives from IntervalNode. It stands in one tree at a time and carries its own keys, so
that the area behind it may change first. Linux: lib/interval_tree.c, include/linux/interval_tree_generic.h,
lib/rbtree.c, 3.7.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar


class IntervalNode:
    """An interval `[start, last]`, both inclusive. The other fields belong to the tree."""

    __slots__ = ("start", "last", "subtree_last", "left", "right", "parent", "red")

    def __init__(self, start: int, last: int) -> None:
        self.start = start
        self.last = last
        self.subtree_last = last
        self.left: IntervalNode | None = None
        self.right: IntervalNode | None = None
        self.parent: IntervalNode | None = None
        self.red = False


Node = TypeVar("Node", bound=IntervalNode)


def _reach(node: IntervalNode) -> int:
    """Where the last interval of the node's subtree ends, by its children's word."""
    last = node.last
    left, right = node.left, node.right
    if left is not None and left.subtree_last > last:
        last = left.subtree_last
    if right is not None and right.subtree_last > last:
        last = right.subtree_last
    return last


class IntervalTree(Generic[Node]):
    """Insert and remove O(log n), a query O(log n + answers). `visited` counts the nodes that queries looked at."""

    __slots__ = ("_root", "_count", "visited")

    def __init__(self) -> None:
        self._root: IntervalNode | None = None
        self._count = 0
        self.visited = 0

    def __len__(self) -> int:
        return self._count

    def insert(self, node: Node) -> None:
        """Puts a node that is in no tree behind all that start where it does or earlier."""
        self._count += 1
        last = node.subtree_last = node.last
        node.left = node.right = None
        cur = self._root
        if cur is None:
            node.parent = None
            node.red = False
            self._root = node
            return
        start = node.start
        while True:
            if cur.subtree_last < last:
                cur.subtree_last = last
            if start < cur.start:
                below = cur.left
                if below is None:
                    cur.left = node
                    break
            else:
                below = cur.right
                if below is None:
                    cur.right = node
                    break
            cur = below
        node.parent = cur
        node.red = True
        if cur.red:
            self._balance_insert(node, cur)

    def insert_after(self, node: Node, old: Node) -> None:
        """Puts a node right behind one of the tree that has the same interval; no search from the root is needed."""
        self._count += 1
        last = node.subtree_last = node.last
        node.left = node.right = None
        cur: IntervalNode = old
        if cur.right is None:
            cur.right = node
        else:
            cur = cur.right
            while True:
                if cur.subtree_last < last:
                    cur.subtree_last = last
                if cur.left is None:
                    break
                cur = cur.left
            cur.left = node
        node.parent = cur
        node.red = True
        if cur.red:
            self._balance_insert(node, cur)

    def remove(self, node: Node) -> None:
        """Takes out a node of this tree."""
        self._count -= 1
        left, right = node.left, node.right
        if left is None or right is None:
            child = right if left is None else left
            above = node.parent
            red = node.red
            self._put_in_place_of(node, child)
        else:
            heir = right
            while heir.left is not None:
                heir = heir.left
            red = heir.red
            child = heir.right
            if heir is right:
                above = heir
            else:
                above = heir.parent
                assert above is not None
                above.left = child
                if child is not None:
                    child.parent = above
                heir.right = right
                right.parent = heir
            self._put_in_place_of(node, heir)
            heir.left = left
            left.parent = heir
            heir.red = node.red
        node.left = node.right = node.parent = None
        up = above
        while up is not None:
            up.subtree_last = _reach(up)
            up = up.parent
        if not red:
            self._balance_remove(child, above)

    # --- shape

    def _put_in_place_of(self, old: IntervalNode, node: IntervalNode | None) -> None:
        """What stands above `old` points to `node` instead."""
        parent = old.parent
        if parent is None:
            self._root = node
        elif parent.left is old:
            parent.left = node
        else:
            parent.right = node
        if node is not None:
            node.parent = parent

    def _rotate(self, top: IntervalNode, to_left: bool) -> None:
        """`top` sinks to one side, and its child of the other side takes its place."""
        if to_left:
            riser = top.right
            assert riser is not None
            between = riser.left
            top.right = between
        else:
            riser = top.left
            assert riser is not None
            between = riser.right
            top.left = between
        if between is not None:
            between.parent = top
        self._put_in_place_of(top, riser)
        if to_left:
            riser.left = top
        else:
            riser.right = top
        top.parent = riser
        riser.subtree_last = top.subtree_last
        top.subtree_last = _reach(top)

    def _balance_insert(self, node: IntervalNode, parent: IntervalNode | None) -> None:
        """`node` is red, and so is its parent."""
        while parent is not None and parent.red:
            grand = parent.parent
            assert grand is not None  # a root is black
            on_left = parent is grand.left
            uncle = grand.right if on_left else grand.left
            if uncle is not None and uncle.red:
                parent.red = uncle.red = False
                grand.red = True
                node, parent = grand, grand.parent
                continue
            if node is (parent.right if on_left else parent.left):
                self._rotate(parent, on_left)
                parent = node
            parent.red = False
            grand.red = True
            self._rotate(grand, not on_left)
            break
        assert self._root is not None
        self._root.red = False

    def _balance_remove(self, node: IntervalNode | None, parent: IntervalNode | None) -> None:
        """The paths through `node`, a child of `parent`, miss a black node."""
        while parent is not None and (node is None or not node.red):
            on_left = node is parent.left
            other = parent.right if on_left else parent.left
            assert other is not None  # it has the black node that is missing here
            if other.red:
                other.red = False
                parent.red = True
                self._rotate(parent, on_left)
                other = parent.right if on_left else parent.left
                assert other is not None
            near, far = (other.left, other.right) if on_left else (other.right, other.left)
            if (near is None or not near.red) and (far is None or not far.red):
                other.red = True
                node, parent = parent, parent.parent
                continue
            if far is None or not far.red:
                assert near is not None
                near.red = False
                other.red = True
                self._rotate(other, not on_left)
                other, far = near, other
            other.red = parent.red
            parent.red = False
            far.red = False
            self._rotate(parent, on_left)
            return
        if node is not None:
            node.red = False

    # --- queries

    def overlapping(self, first: int, last: int) -> Iterator[Node]:
        """The nodes that share a number with `first .. last` (inclusive), in order. The tree must not change
        meanwhile."""
        node = self._root
        stack: list[IntervalNode] = []
        while True:
            while node is not None:
                self.visited += 1
                if node.subtree_last < first:
                    break
                stack.append(node)
                node = node.left
            if not stack:
                return
            node = stack.pop()
            if node.start > last:
                return  # and so do all that follow
            if node.last >= first:
                yield node  # type: ignore[misc]
            node = node.right

    def __iter__(self) -> Iterator[Node]:
        """All nodes, in order; not counted."""
        node = self._root
        stack: list[IntervalNode] = []
        while node is not None or stack:
            while node is not None:
                stack.append(node)
                node = node.left
            node = stack.pop()
            yield node  # type: ignore[misc]
            node = node.right

    def check(self) -> list[str]:
        """What is broken: order, links, colours, the ends of subtrees."""
        wrong: list[str] = []
        found = 0
        heights: set[int] = set()  # black nodes on the way to each missing child
        stack: list[tuple[IntervalNode, IntervalNode | None, int]] = []
        if self._root is not None:
            stack.append((self._root, None, 0))
            if self._root.red:
                wrong.append("interval tree: the root is red")
        while stack:
            node, parent, black = stack.pop()
            found += 1
            if found > self._count:
                break
            where = f"[{node.start}, {node.last}]"
            if node.parent is not parent:
                wrong.append(f"interval tree: wrong links at {where}")
            if parent is not None and parent.red and node.red:
                wrong.append(f"interval tree: {where} is red under a red parent")
            if node.subtree_last != _reach(node):
                wrong.append(f"interval tree: what is below {where} ends at {_reach(node)}, not at {node.subtree_last}")
            black += not node.red
            for child in (node.left, node.right):
                if child is None:
                    heights.add(black)
                else:
                    stack.append((child, node, black))
        if found != self._count:
            wrong.append(f"interval tree: {found} nodes found, {self._count} on the books")
            return wrong
        if len(heights) > 1:
            wrong.append(f"interval tree: paths have {min(heights)} to {max(heights)} black nodes")
        starts = [node.start for node in self]
        if starts != sorted(starts):
            wrong.append("interval tree: the nodes are out of order")
        return wrong
