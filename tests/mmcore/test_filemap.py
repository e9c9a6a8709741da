"""The page cache: coherent between read, write and mappings; clean pages dropped and read again; tmpfs through swap."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcore.errors import BeyondEof, MustWait, SysError
from mmcore.files.filespace import FileSpace
from mmcore.files.shmem import ShmemSpace, ShmemSuper, shmem_inode_cache
from mmcore.physical.frames import PAGECACHE, PG_LOCKED, PG_SWAPCACHE
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.machine import MAP_PRIVATE, MAP_SHARED, PROT_READ, RW, CpulessMachine, Fault


class Inode:
    def __init__(self, m: CpulessMachine, size: int = 0) -> None:
        self.addr = shmem_inode_cache(m.mem).alloc()
        self.i_size = size
        self.ino = 7


class Store:
    """A backing store in memory; counts what it is asked."""

    def __init__(self, inode: Inode, data: bytes = b"") -> None:
        self.inode = inode
        self.data = bytearray(data)
        self.reads = self.writes = 0
        self.broken = False

    def read_page(self, index: int) -> bytes:
        self.reads += 1
        if self.broken:
            raise SysError(errno.EIO)
        return bytes(self.data[index << 12 : (index + 1) << 12])

    def write_page(self, index: int, data: memoryview) -> None:
        self.writes += 1
        if self.broken:
            raise SysError(errno.ENOSPC)
        end = min((index << 12) + len(data), self.inode.i_size)
        if end > len(self.data):
            self.data.extend(bytes(end - len(self.data)))
        self.data[index << 12 : end] = data[: end - (index << 12)]


class File:
    path = "/file"
    f_mode = 3

    def __init__(self, mapping: object, inode: Inode) -> None:
        self.mapping = mapping
        self.inode = inode
        self.count = 1

    def get(self) -> File:
        self.count += 1
        return self

    def put(self) -> None:
        self.count -= 1


def waiting(m: CpulessMachine, fn, *args, **kw):
    """Calls, waits for the disk and calls again, as the system-call layer does."""
    try:
        for _ in range(1000):
            try:
                return fn(*args, **kw)
            except MustWait as wait:
                m.mem.reclaim.wait_sync(wait.queue)
        raise AssertionError("waits for ever")
    finally:
        m.mem.awaited.let_go(m.mem.current)


def file_space(m: CpulessMachine, data: bytes) -> tuple[FileSpace, Store, File]:
    inode = Inode(m, len(data))
    store = Store(inode, data)
    space = FileSpace(m.mem, inode, store)
    return space, store, File(space, inode)


def shmem(m: CpulessMachine, size: int, limit: int | None = None) -> tuple[ShmemSpace, File]:
    inode = Inode(m, size)
    space = ShmemSpace(m.mem, inode, ShmemSuper(limit))
    return space, File(space, inode)


def pattern(n: int) -> bytes:
    return bytes((i * 7 + (i >> 12)) & 0xFF for i in range(n))


# --- files with a backing store


def test_read_waits_reads_ahead_and_ends_at_eof():
    m = CpulessMachine(AnonVma)
    data = pattern(100_001)
    space, store, _ = file_space(m, data)
    with pytest.raises(MustWait):
        space.read(0, 10)
    assert store.reads == 25  # the whole file lies within the readahead window
    before = m.mem.clock.now
    assert waiting(m, space.read, 0, 10) == data[:10]
    assert m.mem.clock.now > before
    assert waiting(m, space.read, 5000, 60_000) == data[5000:65_000]
    assert waiting(m, space.read, 99_990, 4096) == data[99_990:]
    assert space.read(100_001, 10) == b"" and store.reads == 25
    assert m.mem.pages.owned[PAGECACHE] == 25
    m.audit()


def test_mapping_and_read_are_one_page():
    m = CpulessMachine(AnonVma)
    space, store, file = file_space(m, pattern(16384))
    mm = m.new_mm()
    a = m.mmap(mm, 4, RW, MAP_SHARED, file=file)
    assert m.load(mm, a) == int.from_bytes(pattern(4), "little")
    m.store(mm, a + 0x1000, 0x11223344)
    assert space.read(0x1000, 4) == b"\x44\x33\x22\x11"
    assert space.write(0x1002, b"ab") == 2
    assert m.load(mm, a + 0x1000) == int.from_bytes(b"\x44\x33ab", "little")
    m.audit("mapped")
    m.munmap(mm, a, 4)
    assert m.mem.vmstat.nr_dirty == 1
    m.mem.reclaim.sync_all()
    assert m.mem.vmstat.nr_dirty == 0
    assert bytes(store.data[0x1000:0x1004]) == b"\x44\x33ab" and store.writes == 1
    m.audit("unmapped")


def test_private_mapping_copies_and_leaves_the_file_alone():
    m = CpulessMachine(AnonVma)
    space, store, file = file_space(m, pattern(8192))
    mm = m.new_mm()
    a = m.mmap(mm, 2, RW, MAP_PRIVATE, file=file)
    m.store(mm, a, 5)
    assert waiting(m, space.read, 0, 4) == pattern(4) and m.load(mm, a) == 5
    m.exit(mm)
    m.mem.reclaim.sync_all()
    assert store.writes == 0
    m.audit()


@pytest.mark.parametrize("scheme", [AnonVma, PteChain])
def test_clean_file_pages_are_dropped_and_read_again(scheme):
    m = CpulessMachine(scheme, memory=8 << 20)
    n = 1500
    data = pattern(n << 12)
    space, store, file = file_space(m, data)
    mm = m.new_mm()
    a = m.mmap(mm, n, PROT_READ, MAP_SHARED, file=file)
    for _ in range(2):
        for i in range(n):
            assert m.load(mm, a + (i << 12)) == int.from_bytes(data[i << 12 : (i << 12) + 4], "little")
    assert store.reads > n and store.writes == 0 and m.mem.vmstat.pswpout == 0
    assert len(space.pages) < n
    m.audit()
    m.exit(mm)
    m.audit("exit")


def test_dirty_file_pages_are_written_back_by_reclaim():
    m = CpulessMachine(AnonVma, memory=8 << 20)
    n = 2500
    space, store, _ = file_space(m, b"")
    for i in range(n):
        assert waiting(m, space.write, i << 12, bytes([i & 0xFF]) * 4096) == 4096
        if m.mem.reclaim.kswapd_wanted:
            m.mem.reclaim.kswapd()
    assert store.writes > 0
    m.audit("written")
    for i in range(0, n, 7):
        assert waiting(m, space.read, i << 12, 4096) == bytes([i & 0xFF]) * 4096
    m.mem.reclaim.sync_all()
    assert bytes(store.data) == b"".join(bytes([i & 0xFF]) * 4096 for i in range(n))
    assert m.mem.vmstat.nr_dirty == 0
    m.audit()


def test_a_failed_read_is_eio_and_tried_anew():
    m = CpulessMachine(AnonVma)
    space, store, file = file_space(m, pattern(4096))
    store.broken = True
    with pytest.raises(SysError) as error:
        waiting(m, space.read, 0, 10)
    assert error.value.errno == errno.EIO
    store.broken = False
    assert waiting(m, space.read, 0, 10) == pattern(10)
    store.broken = True
    space.write(0, b"x")
    space.writeback()
    assert space.take_error() == errno.ENOSPC and space.take_error() == 0


def test_a_write_that_has_to_wait_changes_nothing():
    m = CpulessMachine(AnonVma)
    space, store, _ = file_space(m, pattern(3 * 4096))
    with pytest.raises(MustWait):
        space.write(0, b"z" * 4500)  # the first page whole, the second in part: that one has to be read
    assert 0 not in space.pages  # a page made for nothing is not left behind, empty and up to date
    assert waiting(m, space.read, 0, 3 * 4096) == pattern(3 * 4096)
    assert waiting(m, space.write, 0, b"z" * 4500) == 4500
    assert space.read(0, 3 * 4096) == b"z" * 4500 + pattern(3 * 4096)[4500:]


def test_truncation_unmaps_and_forgets_io_under_way():
    m = CpulessMachine(AnonVma)
    space, store, file = file_space(m, pattern(40 * 4096))
    mm = m.new_mm()
    a = m.mmap(mm, 40, RW, MAP_SHARED, file=file)
    m.store(mm, a + 0x5000, 1)
    assert any(m.mem.frames.flags[p] & PG_LOCKED for p in space.pages.values()) or m.mem.disk.idle
    with pytest.raises(MustWait):
        space.read(36 << 12, 4096)
    space.truncate(4096 + 10)
    file.inode.i_size = 4096 + 10
    with pytest.raises(Fault):
        m.load(mm, a + 0x5000)
    assert waiting(m, space.read, 4096, 100) == pattern(4096 + 10)[4096:]
    while m.mem.disk.wait_next():
        pass
    m.audit()
    with pytest.raises(BeyondEof):
        space.getpage(2)


# --- tmpfs


@pytest.mark.parametrize("scheme", [AnonVma, PteChain])
def test_tmpfs_larger_than_ram_goes_through_swap(scheme):
    m = CpulessMachine(scheme, memory=8 << 20, swap=32 << 20)
    n = 2500
    space, file = shmem(m, 0)
    for i in range(n):
        assert waiting(m, space.write, i << 12, bytes([i & 0xFF]) * 4096) == 4096
        if m.mem.reclaim.kswapd_wanted:
            m.mem.reclaim.kswapd()
    assert len(space.swapped) > 500 and space.blocks == n == space.sb.used
    m.audit("written")
    for i in range(n):
        assert waiting(m, space.read, i << 12, 4096) == bytes([i & 0xFF]) * 4096
        if m.mem.reclaim.kswapd_wanted:
            m.mem.reclaim.kswapd()
    m.audit("read")
    space.truncate(1000 << 12)
    file.inode.i_size = 1000 << 12
    assert space.blocks == 1000 == space.sb.used
    m.audit("cut")
    space.truncate(0)
    file.inode.i_size = 0
    m.mem.reclaim.shrink_all(5000)
    m.audit("empty")
    assert m.mem.swap.nr_swap_pages == m.mem.swap.total and m.mem.pages.owned[PAGECACHE] == 0 and not m.mem.mappings


@pytest.mark.parametrize("scheme", [AnonVma, PteChain])
def test_shared_anonymous_memory_is_shared_across_fork_and_swap(scheme):
    m = CpulessMachine(scheme, memory=8 << 20, swap=32 << 20)
    mm = m.new_mm()
    file = m.mem.shmem_zero_setup(2000 << 12)
    a = m.mmap(mm, 2000, RW, MAP_SHARED, file=file)
    file.put()
    for i in range(0, 2000, 2):
        m.store(mm, a + (i << 12), i)
    child = m.fork(mm)
    for i in range(1, 2000, 2):
        m.store(child, a + (i << 12), i)
    m.audit("filled")
    assert m.mem.vmstat.pswpout > 0
    for i in range(2000):
        assert m.load(mm if i % 3 else child, a + (i << 12)) == i
    m.audit("read")
    m.exit(mm)
    assert m.load(child, a + 0x1000) == 1
    m.exit(child)
    m.mem.reclaim.shrink_all(3000)
    m.audit("gone")
    assert m.mem.swap.nr_swap_pages == m.mem.swap.total and not m.mem.mappings


def test_a_mapped_page_goes_to_the_swap_cache_first_and_comes_back_dirty():
    m = CpulessMachine(AnonVma, swap=16 << 20)
    space, file = shmem(m, 40 << 12)
    mm = m.new_mm()
    a = m.mmap(mm, 40, RW, MAP_SHARED, file=file)
    for i in range(40):
        m.store(mm, a + (i << 12), i + 1)
    m.mem.reclaim.shrink_all(300)
    assert len(space.swapped) == 40 and not space.pages
    entry = space.swapped[3]
    assert m.load(mm, a + 0x3000) == 4
    assert 3 not in space.swapped and m.mem.swap.swap_count(entry) == 0
    assert not m.mem.frames.flags[space.pages[3]] & PG_SWAPCACHE
    m.audit()


def test_holes_cost_nothing_until_touched_and_clean_ones_vanish():
    m = CpulessMachine(AnonVma)
    space, file = shmem(m, 1 << 30)
    assert space.read(12345, 10_000) == bytes(10_000) and space.blocks == 0
    mm = m.new_mm()
    a = m.mmap(mm, 64, PROT_READ, MAP_SHARED, file=file)
    for i in range(64):
        assert m.load(mm, a + (i << 12)) == 0
    assert space.blocks == 64
    m.munmap(mm, a, 64)
    m.mem.reclaim.shrink_all(300)
    assert space.blocks == 0 == space.sb.used and m.mem.vmstat.pswpout == 0
    m.audit()


def test_a_full_tmpfs_is_enospc_after_what_fits():
    m = CpulessMachine(AnonVma)
    space, _ = shmem(m, 0, limit=10)
    assert space.write(0, b"x" * (15 << 12)) == 10 << 12
    with pytest.raises(SysError) as error:
        space.write(20 << 12, b"y")
    assert error.value.errno == errno.ENOSPC
    space.truncate(5 << 12)
    assert space.write(20 << 12, b"y") == 1
    m.audit()


def test_index_pages_of_a_large_file_are_frames():
    m = CpulessMachine(AnonVma)
    space, _ = shmem(m, 0)
    free = m.mem.pages.owned[PAGECACHE]
    space.write(15 << 12, b"x")
    assert m.mem.pages.owned[PAGECACHE] == free + 1  # the inode's own 16 entries
    space.write(16 << 12, b"x")
    assert m.mem.pages.owned[PAGECACHE] == free + 4  # directory and one page of entries
    space.write((16 + 512 * 1024) << 12, b"x")
    assert m.mem.pages.owned[PAGECACHE] == free + 7  # subdirectory and another page of entries
    space.truncate(17 << 12)
    assert m.mem.pages.owned[PAGECACHE] == free + 4
    space.truncate(0)
    assert m.mem.pages.owned[PAGECACHE] == free
    assert m.mem.slab.caches["radix_tree_node"].objects == 0
    m.audit()


def test_punching_a_hole():
    m = CpulessMachine(AnonVma)
    space, file = shmem(m, 0)
    space.write(0, pattern(5 << 12))
    mm = m.new_mm()
    a = m.mmap(mm, 5, RW, MAP_SHARED, file=file)
    assert m.load(mm, a + 0x2000)
    space.punch_hole(100, (4 << 12) + 8)
    assert space.read(0, 5 << 12) == pattern(100) + bytes((4 << 12) + 8 - 100) + pattern(5 << 12)[(4 << 12) + 8 :]
    assert m.load(mm, a + 0x2000) == 0 and set(space.pages) == {0, 2, 4}
    m.audit()


# --- against a model

operations = st.lists(
    st.tuples(
        st.sampled_from(["write", "read", "truncate", "reclaim", "poke", "peek"]),
        st.integers(0, 90_000),
        st.integers(1, 20_000),
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.parametrize("kind", ["file", "tmpfs"])
@settings(max_examples=40, deadline=None)
@given(steps=operations)
def test_any_history_reads_like_a_bytearray(kind, steps):
    m = CpulessMachine(AnonVma, memory=8 << 20, swap=8 << 20)
    start = pattern(30_000)
    if kind == "file":
        space, store, file = file_space(m, start)
    else:
        space, file = shmem(m, 0)
        space.write(0, start)
    model = bytearray(start)
    inode = file.inode
    mm = m.new_mm()
    a = m.mmap(mm, 40, RW, MAP_SHARED, file=file)
    for what, pos, n in steps:
        if what == "write":
            data = bytes((pos + i) & 0xFF for i in range(n))
            assert waiting(m, space.write, pos, data) == n
            model.extend(bytes(max(0, pos - len(model))))
            model[pos : pos + n] = data
        elif what == "read":
            assert waiting(m, space.read, pos, n) == bytes(model[pos : pos + n])
        elif what == "truncate":
            waiting(m, space.truncate, pos)
            inode.i_size = pos
            if kind == "file":
                del store.data[pos:]
            del model[pos:]
            model.extend(bytes(pos - len(model)))
        elif what == "reclaim":
            m.mem.reclaim.shrink_all(n >> 6)
        else:
            word = pos & ~3
            if word + 4 > len(model):
                continue
            if what == "poke":
                m.store(mm, a + word, n)
                model[word : word + 4] = n.to_bytes(4, "little")
            else:
                assert m.load(mm, a + word) == int.from_bytes(model[word : word + 4], "little")
    assert inode.i_size == len(model)
    assert waiting(m, space.read, 0, 1 << 20) == bytes(model)
    m.audit()
    m.exit(mm)
    if kind == "file":
        m.mem.reclaim.sync_all()
        assert bytes(store.data).ljust(len(model), b"\0") == bytes(model)
    space.truncate(0)
    m.audit("end")
