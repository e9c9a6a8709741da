"""Pipes against a model: bytes come out as they went in, capacity is Linux's, nothing leaks."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcore.errors import OutOfMemory, SysError
from mmcore.physical.ram import PAGE_SIZE
from sandbox.fs.pipe import create_pipe
from sandbox.fs.pipequota import PIPE_BUFFERS
from sandbox.fs.uapi import POLLERR, POLLHUP, POLLIN, POLLOUT
from sandbox.kit.injection import Failing
from tests.sandbox.fs_world import World

WORLD = World()


class Slots:
    """What Linux's ring holds: one entry per page buffer, [bytes ever put in, bytes left]."""

    def __init__(self) -> None:
        self.slots: list[list[int]] = []

    def write(self, n: int) -> int:
        done = 0
        tail = n % PAGE_SIZE
        merge = bool(self.slots) and tail and self.slots[-1][0] + tail <= PAGE_SIZE
        rest = n - tail if merge else n
        need = -(-rest // PAGE_SIZE)
        free = PIPE_BUFFERS - len(self.slots)
        if n <= PAGE_SIZE and need > free:
            return 0
        if merge:
            self.slots[-1][0] += tail
            self.slots[-1][1] += tail
            done = tail
        for _ in range(min(need, free)):
            part = min(PAGE_SIZE, n - done)
            self.slots.append([part, part])
            done += part
        return done

    def read(self, n: int) -> int:
        got = 0
        while self.slots and got < n:
            part = min(n - got, self.slots[0][1])
            self.slots[0][1] -= part
            got += part
            if not self.slots[0][1]:
                self.slots.pop(0)
        return got


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.one_of(st.integers(1, 70_000), st.sampled_from([1, 4095, 4096, 4097, 65_536])))
    )
)
def test_a_pipe_is_a_queue_of_pages(steps: list[tuple[bool, int]]) -> None:
    reader, writer = create_pipe(None, WORLD.vfs.pipe_sb, 0)
    model = Slots()
    written = read = 0
    for write, n in steps:
        if write:
            data = bytes((written + i) * 31 >> 3 & 255 for i in range(n))
            taken = writer.accept(None, data)
            assert taken == model.write(n)
            written += taken
        else:
            data = reader.peek(None, n)
            if written == read:
                assert data is None
                continue
            assert data is not None and len(data) == model.read(n)
            assert data == bytes((read + i) * 31 >> 3 & 255 for i in range(len(data)))
            reader.consume(len(data))
            read += len(data)
        assert reader.pipe.nbytes == written - read
    reader.put()
    writer.put()


def test_nothing_leaks_and_pages_are_charged_as_they_fill() -> None:
    before = WORLD.objects()
    reader, writer = create_pipe(None, WORLD.vfs.pipe_sb, 0)
    pages = WORLD.mem.slab.caches["size-4096"]
    base = pages.objects
    assert writer.accept(None, b"x" * 65_536) == 65_536
    assert pages.objects == base + 15
    reader.consume(len(reader.peek(None, 65_536) or b""))
    assert pages.objects == base
    reader.put()
    writer.put()
    assert WORLD.objects() == before


def test_ends_and_their_polls() -> None:
    reader, writer = create_pipe(None, WORLD.vfs.pipe_sb, 0)
    assert reader.poll(None) == 0 and writer.poll(None) & POLLOUT
    writer.accept(None, b"last words")
    writer.put()
    assert reader.poll(None) & POLLIN and reader.poll(None) & POLLHUP
    assert reader.peek(None, 100) == b"last words"
    reader.consume(10)
    assert reader.peek(None, 100) == b""
    reader.put()
    reader, writer = create_pipe(None, WORLD.vfs.pipe_sb, 0)
    reader.put()
    assert writer.poll(None) & POLLERR
    with pytest.raises(SysError) as caught:
        writer.accept(None, b"x")
    assert caught.value.errno == errno.EPIPE
    writer.put()


def test_no_memory_for_a_pipe_leaves_nothing() -> None:
    before = WORLD.objects()
    for n in range(1, 31):
        try:
            with Failing(WORLD.mem.pages, n):
                ends = create_pipe(None, WORLD.vfs.pipe_sb, 0)
        except OutOfMemory:
            assert WORLD.objects() == before
            continue
        for end in ends:
            end.put()
        break
    assert 5 < n < 30
    assert WORLD.objects() == before
