"""page_mkclean and dirty tracking: with it, a PTE that may write to a page of a host's file implies that the page is
dirty, and write-back loses nothing."""

from __future__ import annotations

import pytest

from mmcore.calls.fremap import remap_file_pages
from mmcore.calls.madvise import MS_SYNC, do_msync
from mmcore.calls.mprotect import do_mprotect
from mmcore.files.mkclean import page_mkclean
from mmcore.paging.lifecycle import dup_mmap
from mmcore.physical.frames import PG_DIRTY
from mmcore.physical.pgtable import D, P, W
from sandbox.kit.files import OpenFile, host_file, tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_READ, RW
from sandbox.kit.wander import wander
from sandbox.kit.world import World
from tests.mmcore.box import AT, SCHEMES, Box
from tests.mmcore.test_migrate import ScanOnly

each = pytest.mark.parametrize("scheme", SCHEMES)
both = pytest.mark.parametrize("paging", ["pae", "2level"])
SHARED = MAP_SHARED | MAP_FIXED


def tracked(scheme: str, paging: str = "pae", pages: int = 8) -> tuple[Box, OpenFile]:
    """A machine with dirty tracking; a host's file of `pages` pages mapped at page 0, the bytes of page k are k."""
    b = Box(scheme, paging, dirty_tracking=True)
    file = host_file(b.mem, [bytes([k]) * 4096 for k in range(pages)])
    b.map(0, pages, flags=SHARED, file=file)
    return b, file


def on_host(file: OpenFile, page: int) -> int:
    return int.from_bytes(file.host.written[page][:4], "little")


@each
@both
def test_the_first_write_is_noticed(scheme: str, paging: str) -> None:
    b, file = tracked(scheme, paging)
    flags = b.mem.frames.flags
    b.load(b.mm, AT)
    assert b.pte(0) & (P | W) == P and not flags[b.pfn(0)] & PG_DIRTY
    b.audit("read")
    faults = b.mem.vmstat.pgfault
    b.put(0)
    assert b.mem.vmstat.pgfault == faults + 1
    assert b.pte(0) & (W | D) == W | D and flags[b.pfn(0)] & PG_DIRTY and list(file.mapping.dirty) == [0]
    b.put(0, plus=7)
    assert b.mem.vmstat.pgfault == faults + 1, "noticed once"
    b.put(1)
    assert flags[b.pfn(1)] & PG_DIRTY, "a write that finds no PTE"
    b.audit("written")


@each
@both
def test_writeback_sees_what_mappings_wrote_and_asks_again(scheme: str, paging: str) -> None:
    """Two processes and an area at another offset; all PTEs are clean and protected afterwards, TLBs are flushed, and
    the next write is noticed again."""
    b, file = tracked(scheme, paging)
    child = b.fork(b.mm)
    other = b.new_mm()
    b.map(30, 6, flags=SHARED, file=file, pgoff=2, mm=other)
    mms = ((b.mm, 2), (child, 2), (other, 30))
    for turn in range(3):
        for mm, page in mms:
            b.put(page, mm=mm, plus=100 * turn)
        assert on_host(file, 2) != 100 * turn + 30
        for mm, _ in mms:
            mm.flush_pending = False
        file.mapping.writeback()
        assert on_host(file, 2) == 100 * turn + 30
        for mm, page in mms:
            assert b.pte(page, mm) & (P | W | D) == P and mm.flush_pending
        assert not file.mapping.dirty
        b.audit("written back")


@each
def test_how_many_were_dirty(scheme: str) -> None:
    """fork gives the child a right to write without D; it is taken away as well, and not counted. Private mappings and
    copies are let alone."""
    b, file = tracked(scheme)
    b.put(0)
    child = dup_mmap(b.mem, b.mm)
    assert b.pte(0, child) & (W | D) == W
    private = b.new_mm()
    b.map(0, 2, flags=MAP_PRIVATE | MAP_FIXED, file=file, mm=private)
    b.load(private, AT)
    b.put(1, mm=private)
    before = b.pte(0, private), b.pte(1, private)
    assert page_mkclean(b.mem, b.pfn(0)) == 1
    assert not (b.pte(0) | b.pte(0, child)) & (W | D) and (b.pte(0, private), b.pte(1, private)) == before
    assert page_mkclean(b.mem, b.pfn(0)) == 0
    assert page_mkclean(b.mem, b.pfn(1, private)) == 0, "an anonymous page"
    b.audit()


@each
def test_nonlinear_areas(scheme: str) -> None:
    b, file = tracked(scheme)
    for k in range(4):
        remap_file_pages(b.mem, b.mm, AT + (k << 12), 4096, 0, 7 - k, 0)
    remap_file_pages(b.mem, b.mm, AT + (4 << 12), 4096, 0, 7, 0)
    b.put(*range(5))
    file.mapping.writeback()
    assert [on_host(file, k) for k in (7, 6, 5, 4)] == [1004, 1001, 1002, 1003]
    assert not any(b.pte(k) & (W | D) for k in range(5))
    b.put(0)
    file.mapping.writeback()
    assert on_host(file, 7) == 1000
    b.audit()


@each
@pytest.mark.parametrize("how", ["mprotect", "fork", "mremap", "msync", "reclaim"])
def test_no_way_round(scheme: str, how: str) -> None:
    """Whatever makes or changes PTEs: one that may write has a dirty page (the auditor looks), and the last word
    reaches the file."""
    b, file = tracked(scheme)
    at = 0
    b.put(0)
    file.mapping.writeback()
    if how == "mprotect":
        do_mprotect(b.mem, b.mm, AT, 4096, PROT_READ)
        do_mprotect(b.mem, b.mm, AT, 4096, RW)
        assert not b.pte(0) & W
    elif how == "fork":
        b.fork(b.mm)
    elif how == "mremap":
        at = 40
        b.mremap(0, 2, at)
    elif how == "msync":
        b.put(0, plus=5)
        assert do_msync(b.mem, b.mm, AT, 4096, MS_SYNC) == ([file.mapping], False)
        assert on_host(file, 0) == 5
    else:
        b.put(0, plus=5)
        b.swap_out()
        assert on_host(file, 0) == 5
    b.audit(how)
    b.store(b.mm, AT + (at << 12), 77)
    assert list(file.mapping.dirty) == [0]
    b.audit(how)
    file.mapping.writeback()
    assert on_host(file, 0) == 77
    b.exit(b.mm)
    b.audit()


@each
def test_without_tracking_nobody_notices(scheme: str) -> None:
    """2.6.7: writable at once, dirty when the PTE goes."""
    b = Box(scheme)
    file = host_file(b.mem, [b"a"] * 2)
    b.map(0, 2, flags=SHARED, file=file)
    b.load(b.mm, AT)
    assert b.pte(0) & W
    b.put(0)
    assert not file.mapping.dirty
    file.mapping.writeback()
    assert on_host(file, 0) != 1000
    b.munmap(b.mm, AT, 1)
    file.mapping.writeback()
    assert on_host(file, 0) == 1000


@each
def test_tmpfs_has_nothing_to_notice_for(scheme: str) -> None:
    b = Box(scheme, dirty_tracking=True)
    b.map(0, 2, flags=SHARED, file=tmpfs_file(b.mem, 2))
    b.load(b.mm, AT)
    assert b.pte(0) & W
    b.audit()


def test_the_auditor_knows() -> None:
    b, file = tracked("anon_vma")
    b.put(0)
    file.mapping.clear_page_dirty(b.pfn(0))
    assert any("may be written to, but its page counts as clean" in text for text in b.auditor.audit())


def test_a_scheme_without_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's index is the core's: it leads to file pages under every scheme."""
    monkeypatch.setitem(SCHEMES, "scan_only", (ScanOnly, {}))
    b, file = tracked("scan_only")
    b.put(0)
    file.mapping.writeback()
    assert on_host(file, 0) == 1000 and not b.pte(0) & (W | D)


@pytest.mark.covering
@each
@both
@pytest.mark.parametrize("spare", [None, 200])
def test_wandering(scheme: str, paging: str, spare: int | None) -> None:
    """Random programs; after each write-back of all pages the host's file is what the model says."""
    kind, options = SCHEMES[scheme]
    for seed in range(3):
        wander(World(kind, paging, spare, dirty_tracking=True, **options), 19 + seed, 150)
