"""Truncation against mappings, faults and reclaim: what lies behind the end of the file is mapped by nobody."""

from __future__ import annotations

import pytest

from mmcore.calls.fremap import remap_file_pages
from mmcore.errors import MustWait
from mmcore.paging.fault import SIGBUS
from mmcore.physical.frames import FREE, PCP, PG_ACTIVE, PG_LRU, PG_REFERENCED, PG_UPTODATE
from mmcore.physical.pgtable import P
from mmcore.rmap.core import SUCCESS
from sandbox.kit.files import host_file, tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_PRIVATE, MAP_SHARED, Fault
from tests.mmcore.box import AT, SCHEMES, Box

each = pytest.mark.parametrize("scheme", SCHEMES)


@each
def test_truncation_finds_moved_mappings(scheme: str) -> None:
    b = Box(scheme)
    file = tmpfs_file(b.mem, 12)
    b.map(0, 12, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.map(20, 12, flags=MAP_PRIVATE | MAP_FIXED, file=file)
    b.put(*range(12))
    b.put(22, 28)
    child = b.fork(b.mm)
    b.mremap(4, 8, 104)
    b.mremap(24, 8, 124, mm=child)
    file.truncate(6 << 12)
    b.audit("truncated")
    for page, mm in ((6, child), (106, b.mm), (26, b.mm), (126, child), (128, child), (28, b.mm)):
        with pytest.raises(Fault, match="SIGBUS"):
            b.load(mm, AT + (page << 12))
    b.has(0, 1, 2, 3)
    b.has(4, 5, shift=100)
    b.has(22, mm=child)
    b.audit()


@each
@pytest.mark.parametrize("kind", ["shared", "private", "nonlinear", "swapped"])
def test_a_fault_that_waits_finds_the_new_end(scheme: str, kind: str) -> None:
    """A fault has started to read the page in; before it is there the file is cut. The fault starts over, finds the end
    of the file, and maps nothing."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 8) if kind == "swapped" else host_file(b.mem, [bytes([k + 1]) * 4096 for k in range(8)])
    b.map(0, 8, flags=MAP_FIXED | (MAP_PRIVATE if kind == "private" else MAP_SHARED), file=file)
    if kind == "nonlinear":
        remap_file_pages(b.mem, b.mm, AT, 4096, 0, 6, 0x10000)
    if kind == "swapped":
        b.put(*range(8))
        b.swap_out()
        assert 6 in file.mapping.swapped
    page = 0 if kind == "nonlinear" else 6
    address, write = AT + (page << 12), 2 if kind != "nonlinear" else 0
    with pytest.raises(MustWait) as wait:
        b.mem.faults.do_page_fault(b.mm, address, 4 | write)
    file.truncate(5 << 12)
    b.audit("cut")
    b.mem.reclaim.wait_sync(wait.value.queue)
    b.mem.clock.charge(10**9)
    for _ in range(3):
        assert b.mem.faults.do_page_fault(b.mm, address, 4 | write) == SIGBUS
    assert not b.pte(page) & P and 6 not in file.mapping.pages
    b.audit()
    file.truncate(8 << 12)
    assert b.load(b.mm, address) == 0, "a hole now"
    b.audit()


@each
def test_what_lies_behind_the_end_is_not_installed(scheme: str) -> None:
    """Linear and nonlinear, read, write and populate: what lies behind the end is not installed; the page that the end
    cuts is."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 8)
    b.map(0, 12, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.map(20, 12, flags=MAP_PRIVATE | MAP_FIXED, file=file)
    b.put(*range(8))
    file.truncate((4 << 12) + 4)
    for page in (5, 7, 8, 11, 25, 28):
        for touch in (b.load, lambda mm, address: b.store(mm, address, 1)):
            with pytest.raises(Fault, match="SIGBUS"):
                touch(b.mm, AT + (page << 12))
    remap_file_pages(b.mem, b.mm, AT, 2 << 12, 0, 4, 0)  # installs page 4, and notes page 5
    assert b.pte(0) & P and not b.pte(1) & P
    assert b.load(b.mm, AT) == 1004 and b.load(b.mm, AT + 4) == 0
    with pytest.raises(Fault, match="SIGBUS"):
        b.load(b.mm, AT + 4096)
    b.put(24, plus=5)
    assert sorted(file.mapping.pages) == [0, 1, 2, 3, 4]
    b.audit()


@each
def test_truncation_of_what_is_being_reclaimed(scheme: str) -> None:
    """Pages under write-back, in the swap cache and half unmapped are cut."""
    b = Box(scheme)
    file = host_file(b.mem, [bytes(4096)] * 16)
    b.map(0, 16, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.map(20, 16, flags=MAP_PRIVATE | MAP_FIXED, file=file)
    b.put(*range(16), *range(20, 36))
    b.fork(b.mm)
    b.mem.reclaim.shrink_all(10)
    file.mapping.writeback(6)
    file.truncate(3 << 12)
    b.audit("cut")
    b.swap_out()
    b.mem.clock.charge(10**9)
    b.audit()
    b.has(0, 1, 2, 20, 21)
    with pytest.raises(Fault, match="SIGBUS"):
        b.load(b.mm, AT + (23 << 12))


@each
@pytest.mark.parametrize("kind", ["shmem", "file"])
def test_page_referenced_meets_a_truncated_page(scheme: str, kind: str) -> None:
    """Truncation took the page out of its file while somebody holds it: it has no mapping any more. Asking and
    unmapping find nothing, and leave the page as it was - unlocked above all - so that it is freed when the holder lets
    go."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 4) if kind == "shmem" else host_file(b.mem, [bytes(4096)] * 4)
    b.map(0, 4, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(0, 1, 2, 3)
    child = b.fork(b.mm)
    b.has(2, mm=child)
    pfn = b.mem.faults.get_user_page(b.mm, AT + 0x2000, True)
    b.auditor.pins = lambda: {pfn: 1}
    b.mem.reclaim.lru_add_drain()
    b.mem.reclaim.mark_page_accessed(pfn)
    frames, rmap = b.mem.frames, b.mem.rmap
    asked = frames.flags[pfn] & PG_REFERENCED
    file.truncate(0x1000)
    b.audit("cut")
    assert not frames.mapcount[pfn] and not frames.mapping[pfn]
    assert rmap.page_referenced(pfn) == bool(asked)
    state = frames.flags[pfn]
    assert state & ~PG_ACTIVE == PG_LRU | PG_UPTODATE, "not locked, not dirty, not being written"
    for _ in range(2):
        assert rmap.page_referenced(pfn) == 0 and frames.flags[pfn] == state
        if b.mem.rmap.exact:
            assert rmap.try_to_unmap(pfn) == SUCCESS and frames.flags[pfn] == state
    for _ in range(3):
        b.swap_out()
    assert frames.flags[pfn] & ~(PG_ACTIVE | PG_REFERENCED) == PG_LRU | PG_UPTODATE and frames.count[pfn] == 1
    b.audit("reclaim passed it by")
    b.auditor.pins = dict
    b.mem.pages.put_page(pfn)
    assert frames.owner[pfn] in (FREE, PCP)
    b.audit("freed")
