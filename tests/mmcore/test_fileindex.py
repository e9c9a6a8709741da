"""The file index: all kinds answer every query as brute force does, whatever was inserted, forked and removed."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcore.files.index.list import FILE_INDEXES, IntervalTreeIndex, ListIndex
from mmcore.files.index.prio import PrioTree
from mmcore.intervals import IntervalNode, IntervalTree
from mmcore.stats import Meters


@dataclass(eq=False)
class Area:
    vm_start: int
    vm_end: int
    vm_pgoff: int
    shared: object = None


def area(first: int, pages: int) -> Area:
    return Area(0x10000, 0x10000 + (pages << 12), first)


def ends(a: Area) -> tuple[int, int]:
    return a.vm_pgoff, a.vm_pgoff + ((a.vm_end - a.vm_start) >> 12) - 1


spans = st.tuples(st.integers(0, 300) | st.integers(0, 1 << 20), st.integers(1, 40) | st.integers(1, 5000))
steps = st.lists(st.tuples(st.sampled_from("iirrf"), spans, st.integers(0, 1 << 30)), max_size=60)


@pytest.mark.parametrize("kind", FILE_INDEXES.values())
@settings(max_examples=150, deadline=None)
@given(steps=steps, queries=st.lists(spans, min_size=1, max_size=5))
def test_overlapping_is_brute_force(kind, steps, queries):
    index = kind(Meters())
    live: list[Area] = []
    for what, (first, pages), pick in steps:
        if what == "i":
            live.append(area(first, pages))
            index.insert(live[-1])
        elif live and what == "r":
            gone = live.pop(pick % len(live))
            index.remove(gone)
            assert gone.shared is None
        elif live:
            old = live[pick % len(live)]
            live.append(Area(old.vm_start, old.vm_end, old.vm_pgoff))
            index.add_beside(live[-1], old)
        assert index.check() == []
    assert len(index) == len(live)
    assert sorted(map(id, index)) == sorted(map(id, live))
    for first, pages in queries:
        last = first + pages - 1
        expect = sorted(id(a) for a in live if ends(a)[0] <= last and ends(a)[1] >= first)
        assert sorted(id(a) for a in index.overlapping(first, last)) == expect


def test_tree_work_is_logarithmic_and_the_lists_is_not():
    """test-mmap3's shape, smaller: many disjoint one-page areas of one file, each mapped by 8 processes."""
    meters_tree, meters_list, meters_interval = Meters(), Meters(), Meters()
    tree, flat, interval = PrioTree(meters_tree), ListIndex(meters_list), IntervalTreeIndex(meters_interval)
    for index in (tree, flat, interval):
        for page in range(4096):
            first = area(page, 1)
            index.insert(first)
            for _ in range(7):
                index.add_beside(Area(first.vm_start, first.vm_end, first.vm_pgoff), first)
    assert (
        len(list(tree.overlapping(1234, 1234)))
        == len(list(flat.overlapping(1234, 1234)))
        == len(list(interval.overlapping(1234, 1234)))
        == 8
    )
    assert meters_tree.file_nodes <= 2 * 12 + 2
    assert 8 <= meters_interval.file_nodes <= 2 * 16 + 2 * 8, (
        "no more than twice the depth, and the answers with their neighbours"
    )
    assert meters_list.file_nodes == 4096 * 8


def test_forked_copies_need_no_search_and_heirs_keep_the_list():
    meters = Meters()
    tree = PrioTree(meters)
    parent = area(0, 16)
    tree.insert(parent)
    children = [Area(parent.vm_start, parent.vm_end, 0) for _ in range(5)]
    for child in children:
        tree.add_beside(child, parent)
    assert meters.file_nodes == 0
    tree.remove(parent)  # a tree node with likes: the first like area replaces it
    assert list(tree.overlapping(3, 3)) == children
    tree.remove(children[0])
    tree.remove(children[2])
    assert list(tree) == [children[1], children[3], children[4]]


def test_the_interval_tree_answers_in_order():
    """By first page; equal ones in the order they came, a forked copy right after its original. A walk that stops early
    is metered as far as it went."""
    meters = Meters()
    index = IntervalTreeIndex(meters)
    late, early, twin = area(5, 3), area(0, 9), area(5, 3)
    for a in (late, early, twin):
        index.insert(a)
    copy = area(5, 3)
    index.add_beside(copy, late)
    assert list(index) == list(index.overlapping(6, 6)) == [early, late, copy, twin]
    all_nodes = meters.file_nodes
    assert all_nodes == 4
    for found in index.overlapping(6, 6):
        assert found is early
        break
    assert 0 < meters.file_nodes - all_nodes < 4
    assert list(index.overlapping(9, 20)) == []


@pytest.mark.parametrize("shape", ["ascending", "descending", "equal", "nested"])
def test_the_interval_tree_stays_flat(shape):
    """1000 nodes are at most 2 log2(1001) deep, growing and shrinking."""
    tree: IntervalTree[IntervalNode] = IntervalTree()
    make = {
        "ascending": lambda k: (k, k),
        "descending": lambda k: (-k, 3 - k),
        "equal": lambda k: (7, 9),
        "nested": lambda k: (k, 3000 - k),
    }[shape]
    nodes = [IntervalNode(*make(k)) for k in range(1000)]
    for node in nodes:
        tree.insert(node)

    def depth(node):
        return 0 if node is None else 1 + max(depth(node.left), depth(node.right))

    assert tree.check() == [] and depth(tree._root) <= 19
    for node in nodes[::3] + nodes[1::3]:
        tree.remove(node)
        assert node.parent is node.left is node.right is None
    assert tree.check() == [] and len(tree) == 333 and depth(tree._root) <= 16
    assert sorted(map(id, tree)) == sorted(map(id, nodes[2::3]))


def test_the_interval_trees_check_notices_damage():
    def fresh():
        index = IntervalTreeIndex(Meters())
        areas = [area(p, 3) for p in range(20)]
        for a in areas:
            index.insert(a)
        assert index.check() == []
        return index, areas

    def keys(index, areas):
        areas[3].vm_pgoff += 1

    def reach(index, areas):
        index._tree._root.subtree_last += 1

    def order(index, areas):
        index._tree._root.start -= 15

    def colour(index, areas):
        index._tree._root.left.red ^= True

    def root(index, areas):
        index._tree._root.red = True

    def links(index, areas):
        index._tree._root.left.parent = None

    def lost(index, areas):
        index._tree._root.left = None

    def slot(index, areas):
        areas[5].shared = None

    for damage, said in (
        (keys, "has changed its keys"),
        (reach, "ends at"),
        (order, "out of order"),
        (colour, "black nodes|red under"),
        (root, "root is red"),
        (links, "wrong links"),
        (lost, "on the books"),
        (slot, "does not know its node"),
    ):
        index, areas = fresh()
        damage(index, areas)
        assert any(re.search(said, text) for text in index.check()), said


def test_check_notices_damage():
    tree = PrioTree(Meters())
    areas = [area(p, 3) for p in range(8)]
    for a in areas:
        tree.insert(a)
    assert tree.check() == []
    areas[3].vm_pgoff += 1
    assert any("changed its keys" in text for text in tree.check())
    areas[3].vm_pgoff -= 1
    tree._root.last -= 5
    assert any("ends after its parent" in text for text in tree.check())
