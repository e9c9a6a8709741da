"""Migration: a second user of the walk that may miss nothing, under every scheme; with the classes 11, 19, 24, 26, 27
and 28 of docs/bug-classes.md as it meets them."""

from __future__ import annotations

import errno
import random
from typing import Any

import pytest

from mmcore.calls.exec_stack import bprm_stack, setup_arg_pages
from mmcore.calls.fremap import remap_file_pages
from mmcore.calls.migrate import migrate_page
from mmcore.calls.mlock import do_mlock
from mmcore.calls.mprotect import do_mprotect
from mmcore.errors import InvariantViolation, SysError
from mmcore.physical.frames import (
    PAGECACHE,
    PG_ACTIVE,
    PG_CODE,
    PG_DIRTY,
    PG_LOCKED,
    PG_REFERENCED,
    PG_SWAPCACHE,
    PG_WRITEBACK,
    USER,
)
from mmcore.physical.gfp import GFPF_DMA
from mmcore.physical.pgtable import FILE, PRESENT, PROTNONE, A, D, P, W
from mmcore.physical.zones import DMA_END
from mmcore.rmap import HIT, MISS, Card, Purpose, ScanScheme, Walk, WalkScheme
from sandbox.kit.files import host_file, tmpfs_file
from sandbox.kit.injection import Failing, during_allocations
from sandbox.kit.machine import (
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    RW,
    CpulessMachine,
    Fault,
)
from tests.mmcore.asking import between
from tests.mmcore.box import AT, SCHEMES, Box
from tests.mmcore.scan_scheme import ScanEverything

each = pytest.mark.parametrize("scheme", [name for name, (kind, _) in SCHEMES.items() if issubclass(kind, WalkScheme)])
both = pytest.mark.parametrize("paging", ["pae", "2level"])
SHARED = MAP_SHARED | MAP_FIXED
BITS = P | W | A | D | PROTNONE | 1 << 63


def move(b: Box, page: int, mm: Any = None) -> int:
    """Migrates a present page; every PTE that had the old frame has the new one, with the same bits, and the old frame
    is free."""
    mm = mm or b.mm
    ptes, mask = b.mem.pgtables.ptes, b.mem.pgtables.PFN_MASK
    old = b.pte(page, mm) >> 12 & mask
    before = {i: ptes[i] for i in _ptes_of(b, old)}
    contents = bytes(b.mem.ram.page(old))
    new = migrate_page(b.mem, old)
    assert new != old and not b.mem.frames.count[old] and not _ptes_of(b, old)
    assert {i: ptes[i] for i in _ptes_of(b, new)} == {i: pte & ~(mask << 12) | new << 12 for i, pte in before.items()}
    assert bytes(b.mem.ram.page(new)) == contents
    b.audit("moved")
    return new


def _ptes_of(b: Box, pfn: int) -> list[int]:
    """Indices of all PTEs that map a frame, by brute force."""
    tables = b.mem.pgtables
    found = []
    for mm in b.mem.mms.values():
        for _, base in tables.tables(mm.pgd, 0, 0xC0000000):
            found += [
                i
                for i in range(base, base + tables.PTRS)
                if tables.ptes[i] & PRESENT and tables.ptes[i] >> 12 & tables.PFN_MASK == pfn
            ]
    return found


def walks_are_exact(b: Box) -> None:
    """What the auditor says of walks alone: in the middle of an operation the books need not balance."""
    wrong: list[str] = []
    b.auditor._walks(b.auditor._page_tables([]), wrong)
    assert not wrong, wrong


def refused(b: Box, pfn: int, error: int) -> None:
    """The page cannot be moved, and nothing has changed."""
    said, ptes, free = (
        b.mem.frames.describe(pfn),
        [(i, b.mem.pgtables.ptes[i]) for i in _ptes_of(b, pfn)],
        b.mem.pages.nr_free(),
    )
    with pytest.raises(SysError) as caught:
        migrate_page(b.mem, pfn)
    assert caught.value.errno == error, caught.value
    assert (
        b.mem.frames.describe(pfn).split(" flags")[0] == said.split(" flags")[0]
        and [(i, b.mem.pgtables.ptes[i]) for i in _ptes_of(b, pfn)] == ptes
    )
    assert abs(b.mem.pages.nr_free() - free) <= 32  # a batch for the per-cpu list at most
    b.audit("refused")


# --- what can be moved


@each
@both
def test_an_anonymous_page(scheme: str, paging: str) -> None:
    """Alone, and shared by a family of which some have copied; back and forth; then it is swapped like any other."""
    b = Box(scheme, paging)
    b.map(0, 8)
    b.put(*range(8))
    move(b, 0)
    family = [b.mm, b.fork(b.mm), b.fork(b.mm)]
    family.append(b.fork(family[1]))
    b.put(1, mm=family[1], plus=5)
    b.exit(family.pop())
    for page in range(8):
        for mm in family:
            move(b, page, mm)
    assert b.mem.meters.migrations == 25 and b.mem.meters.migrate_misses == 0
    for mm in family:
        b.has(0, 2, 3, 4, 5, 6, 7, mm=mm)
    b.has(1, mm=family[1], plus=5)
    b.put(3, plus=7)
    b.swap_out()
    b.has(3, plus=7)
    b.has(3, mm=family[2])
    b.audit()


@each
@both
def test_all_bits_of_a_pte_survive(scheme: str, paging: str) -> None:
    """Dirty and clean, young and old, writable or not, no access at all, no execution."""
    b = Box(scheme, paging)
    b.map(0, 1)
    b.put(0)
    ptes = b.mem.pgtables.ptes
    for prot in (RW, PROT_READ, PROT_NONE, PROT_READ | PROT_EXEC, RW | PROT_EXEC):
        do_mprotect(b.mem, b.mm, AT, 4096, prot)
        for bits in (0, A, D, A | D):
            i = b.index(0)
            ptes[i] = ptes[i] & ~(A | D) | bits
            if prot & RW == RW:
                ptes[i] |= W
            before = ptes[i] & BITS
            move(b, 0)
            assert ptes[b.index(0)] & BITS == before
            assert before & (A | D) == bits and bool(before & P) == bool(prot)


@both
def test_a_migration_entry_is_no_other_entry(paging: str) -> None:
    b = Box("anon_vma", paging)
    tables = b.mem.pgtables
    for pte in (
        0,
        tables.swp_pte(1),
        tables.swp_pte(5 << 27 | 77),
        tables.file_pte(3),
        0x1234067,
        0x1234000 | PROTNONE,
    ):
        assert tables.migration_pfn(pte) == -1
    for bits in (0x67, 0x25, 0x05, PROTNONE, PROTNONE | A | D, 0x67 | tables.NX):
        for pfn in (1, 0x37FFF):
            entry = tables.migration_pte(pfn << 12 | bits)
            assert not entry & (PRESENT | FILE) and tables.migration_pfn(entry) == pfn
            assert tables.migrated_pte(entry, 5) == 5 << 12 | bits
    b.map(0, 1)
    b.put(0)
    pte, i = b.pte(0), b.index(0)
    b.mem.pgtables.ptes[i] = tables.migration_pte(pte)
    assert any("a migration entry is left" in text for text in b.auditor.audit())
    b.mem.pgtables.ptes[i] = pte
    b.audit()


@each
def test_a_page_moved_by_mremap(scheme: str) -> None:
    """By one of the family only: its page keeps its index (object-based), or has been copied (one address per page)."""
    b = Box(scheme)
    b.map(0, 6)
    b.put(*range(6))
    b.mremap(2, 2, 40)
    move(b, 40)
    child = b.fork(b.mm)
    b.mremap(40, 2, 60, mm=child)
    b.mremap(0, 2, 80)
    for page, mm in ((40, b.mm), (60, child), (80, b.mm), (0, child), (4, child)):
        move(b, page, mm)
    b.has(2, 3, shift=38)
    b.has(2, 3, mm=child, shift=58)
    b.has(0, 1, shift=80)


@each
def test_a_page_of_the_swap_cache(scheme: str) -> None:
    """Mapped by some, in others' page tables a swap entry: those find the new frame through the cache."""
    b = Box(scheme)
    b.map(0, 4)
    b.put(*range(4))
    child = b.fork(b.mm)
    b.swap_out()
    b.has(0)
    assert b.mem.frames.flags[b.pfn(0)] & PG_SWAPCACHE and not b.pte(0, child) & P
    entry = b.mem.frames.private[b.pfn(0)]
    b.mem.reclaim._wait_for_disk()
    new = move(b, 0)
    assert b.mem.swap.cache[entry] == new
    b.has(0, mm=child)
    assert b.pfn(0, child) == new
    b.put(0, mm=child, plus=9)
    b.swap_out()
    b.has(0)
    b.has(0, mm=child, plus=9)
    b.audit()


@each
def test_a_page_that_only_a_cache_holds(scheme: str) -> None:
    b = Box(scheme)
    file = tmpfs_file(b.mem, 4)
    assert file.mapping.write(0, b"abcd") == 4
    pfn = file.mapping.pages[0]
    new = migrate_page(b.mem, pfn)
    assert file.mapping.pages[0] == new and file.mapping.read(0, 4) == b"abcd"
    b.audit()
    b.map(0, 2)
    b.put(0, 1)
    b.swap_out()
    b.mem.swap.swapin_readahead(b.mem.pgtables.pte_to_swp(b.pte(0)))
    b.mem.reclaim._wait_for_disk()
    entry = b.mem.pgtables.pte_to_swp(b.pte(0))
    new = migrate_page(b.mem, b.mem.swap.cache[entry])
    b.audit()
    b.has(0)
    assert b.pfn(0) == new


@each
@pytest.mark.parametrize("kind", ["tmpfs", "host"])
def test_a_page_of_a_file(scheme: str, kind: str) -> None:
    """In shared areas at several offsets, in a private one that has not copied it, and in no one's; dirty or not."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 8) if kind == "tmpfs" else host_file(b.mem, [bytes([k]) * 4096 for k in range(8)])
    mms = [b.mm, b.new_mm(), b.new_mm()]
    b.map(0, 8, flags=SHARED, file=file)
    b.map(3, 5, flags=SHARED, file=file, pgoff=3, mm=mms[1])
    b.map(20, 8, flags=MAP_PRIVATE | MAP_FIXED, file=file, mm=mms[2])
    for page in range(8):
        b.load(mms[2], AT + (20 + page << 12))
    b.put(4, 5)
    for page in range(8):
        if page > 2:
            b.load(mms[1], AT + (page << 12))
        new = move(b, 20 + page, mms[2])
        assert file.mapping.pages[page] == new and b.mem.frames.owner[new] == PAGECACHE
    b.has(4, 5)
    b.has(4, 5, mm=mms[1])
    b.has(4, 5, mm=mms[2], shift=20)
    assert b.pfn(4) == b.pfn(4, mms[1]) == b.pfn(24, mms[2])
    for mm in mms:
        b.exit(mm)
    b.audit()
    if kind == "host":
        file.mapping.writeback()
        assert file.host.written[4][:4] == (1004).to_bytes(4, "little") and file.host.written[6] == bytes([6]) * 4096


@each
@both
def test_a_page_of_a_nonlinear_area(scheme: str, paging: str) -> None:
    """No formula leads to its PTEs, of which one area may hold many; the second walk has to find entries, not
    frames."""
    b = Box(scheme, paging)
    file = tmpfs_file(b.mem, 20)
    b.map(0, 20, flags=SHARED, file=file)
    b.map(40, 20, flags=SHARED, file=file)
    b.put(*range(20))
    for k in range(10):
        remap_file_pages(b.mem, b.mm, AT + (k << 12), 4096, 0, 19 - k, 0)
    for k in range(10, 15):
        remap_file_pages(b.mem, b.mm, AT + (k << 12), 4096, 0, 7, 0)
    child = b.fork(b.mm)
    for page in range(20):
        b.load(b.mm, AT + (40 + page << 12))
        move(b, 40 + page)
    expected = [1000 + (19 - k if k < 10 else 7 if k < 15 else k) for k in range(20)]
    for mm in (b.mm, child):
        assert [b.load(mm, AT + (k << 12)) for k in range(20)] == expected
    b.swap_out()
    assert [b.load(child, AT + (k << 12)) for k in range(20)] == expected
    b.audit()


@each
def test_a_locked_page_moves_and_stays_locked(scheme: str) -> None:
    b = Box(scheme)
    b.map(0, 2)
    b.put(0, 1)
    do_mlock(b.mem, b.mm, AT, 2 << 12)
    new = move(b, 0)
    for _ in range(3):
        b.swap_out()
    assert b.pfn(0) == new
    b.has(0, 1)


@each
def test_code(scheme: str) -> None:
    """The CPU may have translated the frame: the new one says so; the old one keeps the mark until it is used again,
    and then all translations go."""
    b = Box(scheme)
    b.map(0, 1, RW | PROT_EXEC)
    b.put(0)
    b.mm.flush_pending = b.mem.flush_code = False
    old = b.pfn(0)
    new = move(b, 0)
    flags = b.mem.frames.flags
    assert flags[new] & PG_CODE and flags[old] == PG_CODE and b.mm.flush_pending
    b.mem.flush_code = False
    b.map(8, 60)
    b.put(*range(8, 68))
    assert b.mem.flush_code or flags[old] == PG_CODE


@each
def test_state_of_a_page_and_its_place_on_the_list(scheme: str) -> None:
    """Flags, owner, and the place among its neighbours: migration is no use of the page."""
    b = Box(scheme)
    b.map(0, 6)
    b.put(*range(6))
    b.mem.reclaim.lru_add_drain()
    zone = b.mem.pages.zone_of(b.pfn(3))
    order = list(zone.active)
    old, flags = b.pfn(3), b.mem.frames.flags[b.pfn(3)] | PG_REFERENCED | PG_DIRTY
    b.mem.frames.flags[old] = flags
    new = move(b, 3)
    assert list(zone.active) == [new if pfn == old else pfn for pfn in order]
    assert b.mem.frames.flags[new] == flags and flags & PG_ACTIVE and b.mem.frames.owner[new] == USER


@each
@pytest.mark.parametrize("active", [True, False])
def test_from_one_zone_to_the_other(scheme: str, active: bool) -> None:
    """The list is another then: the page becomes the newest there."""
    kind, options = SCHEMES[scheme]
    m = CpulessMachine(kind, memory=32 << 20, **options)
    mem, mm = m.mem, m.new_mm()
    at = m.mmap(mm, 4)
    for page in range(4):
        m.store(mm, at + (page << 12), page)
    mem.reclaim.lru_add_drain()
    dma, normal, _ = mem.pages.zones
    pfn = mem.pgtables.ptes[mem.pgtables.pte_index(mm.pgd, at)] >> 12 & mem.pgtables.PFN_MASK
    if not active:
        normal.active.remove(pfn)
        normal.inactive.add(pfn)
        mem.frames.flags[pfn] &= ~PG_ACTIVE
    alloc_page = mem.pages.alloc_page
    mem.pages.alloc_page = lambda gfp, owner: alloc_page(GFPF_DMA | gfp, owner)
    new = migrate_page(mem, pfn)
    assert new < DMA_END <= pfn
    assert list(dma.active if active else dma.inactive) == [new] and pfn not in [*normal.active, *normal.inactive]
    m.audit()
    mem.pages.alloc_page = alloc_page
    migrate_page(mem, new)
    m.audit()
    assert m.load(mm, at) == 0 and m.load(mm, at + 0x3000) == 3


# --- what cannot


@each
def test_a_pinned_page_keeps_its_frame(scheme: str) -> None:
    """A device writes to the frame it was told."""
    b = Box(scheme)
    b.map(0, 2)
    b.put(0, 1)
    pfn = b.mem.faults.get_user_page(b.mm, AT, True)
    b.auditor.pins = lambda: {pfn: 1}
    refused(b, pfn, errno.EBUSY)
    b.fork(b.mm)
    refused(b, pfn, errno.EBUSY)
    b.mem.ram.u32[pfn << 10] = 4711
    assert b.load(b.mm, AT) == 4711
    b.mem.pages.put_page(pfn)
    b.auditor.pins = dict
    move(b, 0)
    assert b.load(b.mm, AT) == 4711


@each
@pytest.mark.parametrize("flag", [PG_LOCKED, PG_WRITEBACK])
def test_io_under_way(scheme: str, flag: int) -> None:
    b = Box(scheme)
    b.map(0, 2)
    b.put(0, 1)
    pfn = b.pfn(0)
    b.mem.frames.flags[pfn] |= flag
    b.mem.vmstat.nr_writeback += flag == PG_WRITEBACK
    refused(b, pfn, errno.EAGAIN)
    b.mem.frames.flags[pfn] &= ~flag
    b.mem.vmstat.nr_writeback -= flag == PG_WRITEBACK
    move(b, 0)


@each
def test_frames_of_nobody(scheme: str) -> None:
    """Free ones, the kernel's, the zero page, a page of a tmpfs file's table, numbers beyond RAM."""
    b = Box(scheme)
    b.map(0, 2)
    b.load(b.mm, AT)
    file = tmpfs_file(b.mem, 40)
    assert file.mapping.write(30 << 12, b"x") == 1
    table = next(iter(file.mapping.table_frames()))
    free = next(pfn for zone in b.mem.pages.zones for area in zone.free_area for pfn in area)
    for pfn in (b.mem.zero_pfn, b.mm.pgd >> 12, table, free, b.mem.frames.nr, 1 << 24, -1):
        with pytest.raises(SysError, match="ENOENT"):
            migrate_page(b.mem, pfn)
    b.audit()


@each
@pytest.mark.parametrize("what", ["anonymous", "shared", "tmpfs"])
def test_no_frame_to_be_had(scheme: str, what: str) -> None:
    b = Box(scheme)
    if what == "tmpfs":
        b.map(0, 2, flags=SHARED, file=tmpfs_file(b.mem, 2))
    else:
        b.map(0, 2)
    b.put(0, 1)
    if what == "shared":
        b.fork(b.mm)
    with Failing(b.mem.pages, 1, every=1):
        refused(b, b.pfn(0), errno.ENOMEM)
    b.has(0, 1)
    move(b, 0)


@each
@pytest.mark.parametrize("state", ["begins writing it", "unmaps it", "frees it"])
def test_the_search_for_a_frame_changes_the_page(scheme: str, state: str) -> None:
    """The allocation may reclaim, and kill: what was true before need not be true after."""
    b = Box(scheme)
    b.map(0, 2, flags=SHARED, file=tmpfs_file(b.mem, 2)) if state == "unmaps it" else b.map(0, 2)
    b.put(0, 1)
    pfn = b.pfn(0)

    def meanwhile(order: int) -> bool:
        if state == "begins writing it":
            b.mem.frames.flags[pfn] |= PG_WRITEBACK
        else:
            b.munmap(b.mm, AT, 1)
        return True

    if state == "unmaps it":
        with during_allocations(b.mem.pages, meanwhile, once=True):
            new = migrate_page(b.mem, pfn)
        b.audit()
        assert b.mem.frames.mapcount[new] == 0 and new in next(iter(b.mem.mappings.values())).pages.values()
        return
    with during_allocations(b.mem.pages, meanwhile, once=True), pytest.raises(SysError) as caught:
        migrate_page(b.mem, pfn)
    b.mem.frames.flags[pfn] &= ~PG_WRITEBACK
    assert caught.value.errno == (errno.ENOENT if state == "frees it" else errno.EAGAIN)
    assert bool(b.mem.frames.count[pfn]) == (state != "frees it")
    b.audit()
    b.has(1)


class Forgetful(ScanEverything):
    """Does not tell of one address space; with `fickle`, only in a migration's second walk."""

    hidden: Any = None
    fickle = False

    def walk(self, walk: Walk) -> None:
        walks = self.env.meters.walks

        def tell(visit: Any, mm: Any, *place: Any) -> int:
            hides = mm is self.hidden and (not self.fickle or walks % 2 == 0)
            return MISS if hides else visit(mm, *place)

        super().walk(between(walk, tell))


def test_a_scheme_that_does_not_know_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found in the first walk: all is put back. In the second: the page is lost to somebody, and the run ends."""
    monkeypatch.setitem(SCHEMES, "forgetful", (Forgetful, {}))
    b = Box("forgetful")
    b.map(0, 2)
    b.put(0, 1)
    child = b.fork(b.mm)
    for hidden in (b.mm, child):
        b.mem.scheme.hidden = hidden
        pfn = b.pfn(0)
        with pytest.raises(SysError, match="EBUSY: the scheme leads to 1 of 2 PTEs"):
            migrate_page(b.mem, pfn)
        b.mem.scheme.hidden = None
        b.audit("put back")
        assert b.pfn(0) == b.pfn(0, child) == pfn
    assert b.mem.meters.migrate_misses == 2 and b.mem.meters.migrations == 0
    b.mem.scheme.hidden, b.mem.scheme.fickle = child, True
    b.mem.meters.walks = 0
    with pytest.raises(
        InvariantViolation, match="scheme scan_everything: the second walk of a migration finds 1 of the 2 PTEs"
    ):
        migrate_page(b.mem, b.pfn(0))
    assert any("a migration entry is left" in text for text in b.auditor.audit())


class ScanOnly(ScanScheme):
    card = Card(name="scan_only", title="t", kernels="none", origin="tests", complexity="-")

    def swap_out(self, priority: int, zone: Any, goal: int) -> int:
        return 0


def test_a_scheme_without_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEMES, "scan_only", (ScanOnly, {}))
    b = Box("scan_only")
    b.map(0, 1)
    b.put(0)
    refused(b, b.pfn(0), errno.EBUSY)
    assert b.mem.meters.migrate_misses == 0


# --- what history got wrong


@each
@pytest.mark.parametrize("kind", ["tmpfs", "host"])
def test_truncation_and_migration(scheme: str, kind: str) -> None:
    """Whatever moved, truncation finds every PTE, in areas moved by mremap too; and there is nothing left to move."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 8) if kind == "tmpfs" else host_file(b.mem, [b"x"] * 8)
    b.map(0, 8, flags=SHARED, file=file)
    b.put(*range(8))
    child = b.fork(b.mm)
    b.mremap(4, 4, 60, mm=child)
    for page in range(8):
        move(b, page)
    gone = b.pfn(6)
    file.truncate(5 << 12)
    b.audit("truncated")
    with pytest.raises(SysError, match="ENOENT"):
        migrate_page(b.mem, gone)
    for mm, page in ((b.mm, 6), (child, 62)):
        with pytest.raises(Fault, match="SIGBUS"):
            b.load(mm, AT + (page << 12))
    b.has(4)
    b.has(4, mm=child, shift=56)
    move(b, 4)


@each
def test_a_page_that_came_back_to_the_child_first(scheme: str) -> None:
    """Out of swap the child has it first, then the parent; the child exits: what the page points to must be there
    still."""
    b = Box(scheme)
    b.map(0, 2)
    b.put(0, 1)
    child = b.fork(b.mm)
    b.swap_out()
    b.mem.reclaim._wait_for_disk()
    b.has(0, 1, mm=child)
    move(b, 0, child)
    b.has(0, 1)
    move(b, 0)
    move(b, 1, child)
    b.exit(child)
    move(b, 0)
    b.mem.rmap.page_referenced(b.pfn(1))
    b.swap_out()
    b.has(0, 1)
    b.audit()


@each
@both
@pytest.mark.parametrize("shift", [1, 511, 1100])
def test_the_stack_of_exec_stays_while_it_moves(scheme: str, paging: str, shift: int) -> None:
    """The pages of the temporary stack can be moved before and after they are shifted, and at any moment in between at
    which something could ask: whatever shift_arg_pages allocates, it allocates while every walk is exact. From there on
    nothing runs until area and page tables agree again."""
    b = Box(scheme, paging)
    mm = b.new_mm()
    vma = bprm_stack(b.mem, mm, 0xC0000000)
    b.store(mm, 0xBFFFF000, 26)
    first = (0xBFFFF000 - AT) >> 12
    move(b, first, mm)
    asked = 0

    def meanwhile(order: int) -> None:
        nonlocal asked
        asked += 1
        b.audit("in exec")
        page = next(page for page in (first, first - shift) if b.pte(page, mm) & P)
        move(b, page, mm)

    with during_allocations(b.mem.pages, meanwhile):
        setup_arg_pages(b.mem, vma, 0xC0000000 - (shift << 12), False)
    assert asked or shift < 1024
    move(b, first - shift, mm)
    assert b.load(mm, 0xBFFFF000 - (shift << 12)) == 26
    b.fork(mm)
    move(b, first - shift, mm)
    b.swap_out()
    assert b.load(mm, 0xBFFFF000 - (shift << 12)) == 26


@each
def test_migration_whenever_a_move_or_a_fork_could_be_seen(scheme: str) -> None:
    """fork and mremap allocate; at each of those moments every page of the family can be migrated, in whatever order
    the areas stand."""
    b = Box(scheme)
    b.map(0, 30)
    b.put(*range(30))
    rng = random.Random(27)
    mms, home = [b.mm], {b.mm: 0}
    moved = 0

    def meanwhile(order: int) -> bool:
        nonlocal moved
        if rng.random() < 0.5:
            return False
        mm = rng.choice(mms)
        page = home[mm] + rng.randrange(30)
        if b.pte(page, mm) & P:
            migrate_page(b.mem, b.pfn(page, mm))
            moved += 1
            walks_are_exact(b)
        return True  # once: who finds his pages moved reserves anew

    for turn in range(20):
        mm = rng.choice(mms)
        with during_allocations(b.mem.pages, meanwhile, once=True):
            if turn % 4 == 0:
                child = b.fork(mm)
                home[child] = home[mm]
                mms.append(child)
            else:
                to = 600 * (turn + 1)
                b.mremap(home[mm], 30, to, mm=mm)
                home[mm] = to
        b.audit(f"turn {turn}")
        for each_mm in mms:
            b.has(*range(30), mm=each_mm, shift=home[each_mm])
            move(b, home[each_mm] + rng.randrange(30), each_mm)
    assert moved > 5


@each
def test_the_last_mapping_goes_first(scheme: str) -> None:
    """A page is named, its users unmap it or exit, and then it is asked for: nothing that it pointed to is looked at
    any more."""
    b = Box(scheme)
    b.map(0, 4)
    b.put(*range(4))
    child = b.fork(b.mm)
    pfns = [b.pfn(k) for k in range(4)]
    b.munmap(b.mm, AT, 2)
    move(b, 0, child)
    b.exit(child)
    b.exit(b.mm)
    for pfn in (pfns[1], pfns[2]):
        with pytest.raises(SysError, match="ENOENT"):
            migrate_page(b.mem, pfn)
    b.audit()


@each
def test_work_is_metered(scheme: str) -> None:
    """Two walks, each finding every PTE."""
    b = Box(scheme)
    b.map(0, 1)
    b.put(0)
    for _ in range(3):
        b.fork(b.mm)
    before = b.mem.meters.as_dict()
    migrate_page(b.mem, b.pfn(0))
    after = b.mem.meters.as_dict()
    assert after["walks"] - before["walks"] == 2 and after["hits"] - before["hits"] == 8


def test_the_answers_are_what_the_walk_expects() -> None:
    """HIT for what was found, in both walks; STOP with the last."""
    b = Box("anon_vma")
    b.map(0, 1)
    b.put(0)
    b.fork(b.mm)
    answers: list[int] = []
    walk = b.mem.rmap.walk

    def listen(asked: Walk) -> None:
        assert asked.purpose == Purpose.MIGRATE
        walk(between(asked, lambda visit, *place: answers.append(visit(*place)) or answers[-1]))

    b.mem.rmap.walk = listen
    migrate_page(b.mem, b.pfn(0))
    assert answers == [HIT, HIT | 8] * 2


class ByFrame(ScanEverything):
    """Keeps each page's place in a table of its own, by frame number."""

    def __init__(self, env: Any, options: dict[str, Any]) -> None:
        super().__init__(env, options)
        self.places: dict[int, int] = {}

    def add_anon(self, pfn: int, vma: Any, address: int, pte: int, exclusive: bool, token: Any) -> int:
        if self.env.frames.mapcount[pfn] == 0:
            self.places[pfn] = address & ~0xFFF
        return 0

    def released(self, pfns: Any) -> None:
        for pfn in pfns.tolist():
            self.places.pop(pfn, None)

    def migrated(self, old: int, new: int) -> None:
        if old in self.places:
            self.places[new] = self.places.pop(old)

    def walk(self, walk: Walk) -> None:
        if walk.pfn in self.places:
            for mm in list(self.env.mms.values()):
                if walk.visit(mm, self.places[walk.pfn]) & 8:
                    return


def test_a_scheme_that_keeps_records_by_frame_is_told() -> None:
    m = CpulessMachine(ByFrame)
    mm = m.new_mm()
    m.mmap(mm, 4, RW, MAP_PRIVATE | MAP_FIXED | 0x20, AT)
    for k in range(4):
        m.store(mm, AT + (k << 12), k)
    m.fork(mm)
    before = dict(m.mem.scheme.places)
    for pfn in before:
        migrate_page(m.mem, pfn)
    m.audit("migrated")
    assert before != m.mem.scheme.places and sorted(before.values()) == sorted(m.mem.scheme.places.values())
