"""LRU lists against a plain list: order, membership, and entries that went stale."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcore.physical.frames import Frames
from mmcore.physical.lru import LruList

NR = 64
steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "add_tail", "remove", "pop", "add_bulk", "remove_bulk"]), st.integers(0, 1 << 20)
    ),
    max_size=80,
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(steps)
def test_any_sequence(steps: list[tuple[str, int]]) -> None:
    frames = Frames(NR)
    lists = [LruList(frames), LruList(frames)]
    models: list[list[int]] = [[], []]  # oldest first
    for what, pick in steps:
        which = pick & 1
        lru, model = lists[which], models[which]
        outside = [p for p in range(NR) if p not in models[0] and p not in models[1]]
        if what in ("add", "add_tail") and outside:
            pfn = outside[pick % len(outside)]
            getattr(lru, what)(pfn)
            model.insert(len(model) if what == "add" else 0, pfn)
        elif what == "remove" and model:
            pfn = model.pop(pick % len(model))
            lru.remove(pfn)
        elif what == "pop":
            assert lru.pop_tail() == (model.pop(0) if model else -1)
        elif what == "add_bulk":
            some = outside[: pick % 9]
            lru.add_bulk(np.array(some, np.int64))
            model += some
        elif what == "remove_bulk":
            some = model[:: 1 + pick % 3]
            frames.np_stamp[some] += np.uint32(1)
            lru.removed_bulk(len(some))
            model[:] = [p for p in model if p not in some]
        for each, plain in zip(lists, models, strict=True):
            assert list(each) == plain and len(each) == each.n == len(plain)


def test_stale_entries_are_swept() -> None:
    """Members that leave from the middle leave an entry behind; there are never more than a few times the members, and
    then some."""
    frames = Frames(8)
    lru = LruList(frames)
    lru.add(1)
    for _ in range(20_000):
        lru.add(2)
        lru.remove(2)
    assert list(lru) == [1] and len(lru._queue) <= 4 * 2 + 4096 + 1


def test_a_stamp_wraps() -> None:
    frames = Frames(8)
    lru = LruList(frames)
    frames.stamp[3] = 0xFFFFFFFF
    lru.add(3)
    lru.add_bulk(np.array([4]))
    lru.remove(3)
    assert frames.stamp[3] == 0 and list(lru) == [4]
    lru.add(3)
    assert lru.pop_tail() == 4 and lru.pop_tail() == 3 and lru.pop_tail() == -1
