"""A walk may offer places one by one or many at once: what is found, changed and metered is the same."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from mmcore.calls.migrate import migrate_page
from mmcore.files.mkclean import page_mkclean
from mmcore.rmap import Columns, Purpose, Seen, Visited, VmArea, Walk, WalkScheme, growing, showing
from mmcore.rmap.probe import ProbingWalk, Referenced, Unmap
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_SHARED, CpulessMachine
from sandbox.kit.wander import wander
from sandbox.kit.world import World
from tests.mmcore.box import AT, SCHEMES, Box

NEVER = 1 << 40
WITH_LISTS = {
    name: (kind, options)
    for name, (kind, options) in SCHEMES.items()
    if issubclass(kind, WalkScheme) and not name.startswith("pte_chain")
}

KEEP_COLUMNS = {name for name in WITH_LISTS if name.split("-")[0] in ("anonmm", "anonmm_chained", "anon_vma")}
KEEP_COLUMNS.add("partial_objrmap")


def frames_of(m: CpulessMachine, mm: Any, *addresses: int) -> list[int]:
    """The frames that are mapped there."""
    pgtables = m.mem.pgtables
    indices = [pgtables.pte_index(mm.pgd, address) for address in addresses]
    return [
        pgtables.ptes[i] >> 12 & pgtables.PFN_MASK for i in indices if i >= 0 and pgtables.present(pgtables.ptes[i])
    ]


class Counted:
    """How many places were offered in arrays since."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.places = 0
        plain = ProbingWalk.visit_many

        def visit_many(
            walk: ProbingWalk, mms: Any, addresses: Any, vmas: Any = None, skip_empty: bool = False
        ) -> Visited:
            self.places += len(mms)
            return plain(walk, mms, addresses, vmas, skip_empty)

        monkeypatch.setattr(ProbingWalk, "visit_many", visit_many)
        self.columns = 0
        columns_plain = ProbingWalk.visit_columns

        def visit_columns(walk: ProbingWalk, columns: Columns, at: int, first: int, last: int) -> Seen:
            self.columns += last - first
            return columns_plain(walk, columns, at, first, last)

        monkeypatch.setattr(ProbingWalk, "visit_columns", visit_columns)


def state(mem: Any) -> dict[str, Any]:
    """All that walks change."""
    frames = mem.frames
    return {
        "meters": mem.meters.as_dict(),
        "vmstat": mem.vmstat.as_dict(),
        "lengths": (mem.rmap.walk_lengths.as_dict(), mem.rmap.file_walk_lengths.as_dict()),
        "frames": (frames.np_flags.tolist(), frames.np_mapcount.tolist(), frames.np_count.tolist()),
        "tables": mem.pgtables.np_ptes.tobytes(),
        "rss": [(mm.rss, mm.flush_pending) for mm in mem.mms.values()],
    }


@pytest.mark.parametrize("paging", ["pae", "2level"])
@pytest.mark.parametrize("scheme", WITH_LISTS)
def test_both_forms_are_equal_on_random_histories(scheme: str, paging: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, options = WITH_LISTS[scheme]
    counted = Counted(monkeypatch)
    for seed in range(4):
        seen = []
        for many in (NEVER, 1):
            monkeypatch.setattr(Walk, "many", many)
            before = counted.places
            world = World(kind, paging, **options)
            wander(world, seed, 200)
            seen.append(state(world.mem))
            if many == NEVER:
                assert counted.places == before
        assert seen[0] == seen[1]
    assert counted.places or counted.columns
    assert counted.columns or scheme not in KEEP_COLUMNS


def crowd(scheme: str, paging: str) -> tuple[CpulessMachine, list[Any], int, int]:
    """30 address spaces that share an anonymous page and two of a file, at the addresses answered. Some have a copy of
    their own, some nothing; one is gone."""
    kind, options = WITH_LISTS[scheme]
    m = CpulessMachine(kind, paging=paging, memory=16 << 20, swap=8 << 20, **options)
    mm = m.new_mm()
    at = m.mmap(mm, 1)
    file = m.mmap(mm, 2, flags=MAP_SHARED, file=tmpfs_file(m.mem, 2))
    for page in (at, file, file + 4096):
        m.store(mm, page, 7)
    mms = [mm]
    for k in range(30):
        child = m.fork(mms[k // 2])
        mms.append(child)
        if k % 4:
            m.load(child, file)
        if k % 5 == 1:
            m.store(child, at, k)
        elif k > 20 and k % 7 == 2:  # without children
            m.munmap(child, at, 1)
    m.exit(mms.pop(3))
    return m, mms, at, file


@pytest.mark.parametrize("paging", ["pae", "2level"])
@pytest.mark.parametrize("scheme", WITH_LISTS)
def test_both_forms_are_equal_for_every_purpose(scheme: str, paging: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, seen = Counted(monkeypatch), []
    for many in (NEVER, 1, 3, 8):
        monkeypatch.setattr(Walk, "many", many)
        m, mms, at, file = crowd(scheme, paging)
        told: list[Any] = []
        for pfn in sorted({p for mm in mms for p in frames_of(m, mm, at, file, file + 4096)}):
            told.append(m.mem.rmap.page_referenced(pfn))
            told.append(page_mkclean(m.mem, pfn))
            new = migrate_page(m.mem, pfn)
            told.append(m.mem.rmap.page_referenced(new))
            told.append(state(m.mem))
        m.mem.reclaim.shrink_all(200)
        told.append(state(m.mem))
        m.audit("walked")
        seen.append(told)
    assert all(other == seen[0] for other in seen[1:])
    assert counted.places or counted.columns
    assert counted.columns or scheme not in KEEP_COLUMNS


@pytest.mark.parametrize("paging", ["pae", "2level"])
@pytest.mark.parametrize("asked", [Referenced, Unmap])
def test_places_offered_at_once_are_answered_as_one_by_one(asked: type, paging: str) -> None:
    """Places that have the page, that have another, without a table, offered twice, in any order: one address for all,
    or each its own, with areas and without."""
    for seed in range(40):
        seen = []
        for together in (False, True):
            rng = random.Random(seed)
            m, mms, at, file = crowd("anonmm", paging)
            pfn = frames_of(m, mms[0], at)[0]
            m.mem.rmap.page_referenced(pfn)
            for mm in mms[:20:3]:
                m.load(mm, at)
            offered = [rng.choice(mms) for _ in range(rng.randrange(1, 60))]
            alike = rng.random() < 0.5
            where: Any = at if alike else [rng.choice((at, at, at + 4096, 0x10000000)) for _ in offered]
            named = None
            if rng.random() < 0.5:
                named = [mm.find_vma(at) for mm in offered]
            walk = asked(m.mem.rmap, pfn)
            if asked is Unmap:
                m.mem.swap.add_to_swap(pfn)
            addresses = where if alike else np.array(where, np.int64)
            form = ProbingWalk.visit_many if together else Walk.visit_many
            told = form(walk, offered, addresses, named, skip_empty=rng.random() < 0.5)
            seen.append((told, state(m.mem), [getattr(walk, name, None) for name in ("left", "young", "result")]))
        assert seen[0] == seen[1]


@pytest.mark.parametrize("paging", ["pae", "2level"])
@pytest.mark.parametrize("asked", [Referenced, Unmap])
@pytest.mark.parametrize("few", [0, 8])
def test_columns_are_answered_as_one_by_one(
    asked: type, paging: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Areas alike and unlike, wrapped offsets, address spaces that are empty or become so, with areas and without."""
    monkeypatch.setattr("mmcore.rmap.probe._FEW", few)
    for seed in range(40):
        seen = []
        for together in (False, True):
            rng = random.Random(seed)
            m, mms, at, _ = crowd("anon_vma", paging)
            pfn = frames_of(m, mms[0], at)[0]
            m.mem.rmap.page_referenced(pfn)
            for mm in mms[:20:3]:
                m.load(mm, at)
            empty = m.new_mm()
            offered = rng.sample([*mms, empty], rng.randrange(1, len(mms) + 2))
            index = m.mem.frames.index[pfn]
            if rng.random() < 0.3:
                columns, where = Columns(None, offered), at
            else:
                areas = list(dict.fromkeys(mm.find_vma(at) or mms[0].find_vma(at) for mm in offered))
                if rng.random() < 0.5:
                    areas = [vma for vma in areas if vma.vm_start <= at < vma.vm_end] or areas
                columns, where = Columns(areas), index
            walk = asked(m.mem.rmap, pfn)
            if asked is Unmap:
                m.mem.swap.add_to_swap(pfn)
            form = ProbingWalk.visit_columns if together else Walk.visit_columns
            first = rng.randrange(len(columns))
            told = form(walk, columns, where, first, rng.randrange(first, len(columns)) + 1)
            seen.append((told, state(m.mem), [getattr(walk, name, None) for name in ("left", "young", "result")]))
        assert seen[0] == seen[1]


def test_columns_whose_offsets_wrap() -> None:
    b = Box("anon_vma")
    b.map(0, 4)
    b.map(8, 2)
    areas = [b.mm.find_vma(AT), b.mm.find_vma(AT + 0x8000)]
    areas[0].vm_pgoff = 0xFFFFFFFE  # the third page is at offset 0
    for vmas in (areas, areas[:1]):
        columns = Columns(vmas)
        at, addresses = columns.showing(1, 0, len(columns))
        assert (0 if at is None else at.tolist()) in (0, [0])
        assert np.array(addresses).ravel().tolist() == [AT + 0x3000]


def test_parts_cover_the_columns() -> None:
    plain = Columns(None, [Box("anon_vma").mm] * 12000)
    assert list(plain.parts(1)) == [(1, 2049), (2049, 10241), (10241, 12000)]
    assert list(plain.parts(11990)) == [(11990, 12000)] and not list(plain.parts(12000))


@pytest.mark.parametrize("seed", range(8))
def test_places_that_are_searched_for_are_those_that_show(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    mm = Box("anon_vma").mm
    areas = []
    for _ in range(rng.randrange(1, 80)):
        start, pages, offset = rng.randrange(1, 1 << 19), rng.choice((1, 2, 7, 300)), rng.randrange(400)
        areas.append(VmArea(mm, 0, start << 12, start + pages << 12, 0, 0, offset, None, None))
    monkeypatch.setattr("mmcore.rmap.walk._SEARCHED", 1)
    searched = Columns(areas)
    assert len(list(searched.parts(0))) == 1
    for index in range(-1, 720, 3):
        first = rng.randrange(len(areas))
        last = rng.randrange(first, len(areas)) + 1
        at, addresses = searched.showing(index, first, last)
        wanted, at_addresses = showing(areas, index)
        inside = (wanted >= first) & (wanted < last)
        assert (list(range(first, last)) if at is None else at.tolist()) == wanted[inside].tolist()
        if at is not None:
            assert np.broadcast_to(addresses, at.shape).tolist() == at_addresses[wanted[inside]].tolist()


def test_parts_grow() -> None:
    assert [len(part) for part in growing(range(100), 3)] == [3, 12, 48, 37]
    assert [k for part in growing(iter(range(9)), 1) for k in part] == list(range(9))
    assert not list(growing([], 4))


def test_which_areas_show_a_page() -> None:
    b = Box("anon_vma")
    b.map(0, 4)
    b.map(8, 2)
    areas = [b.mm.find_vma(AT), b.mm.find_vma(AT + 0x8000)]
    first = areas[0].vm_pgoff
    for index, expected in ((first - 1, []), (first, [0]), (first + 3, [0]), (first + 4, []), (first + 9, [1])):
        at, addresses = showing(areas, index)
        assert at.tolist() == expected
        assert all(areas[i].vm_start <= addresses[i] < areas[i].vm_end for i in expected)
    areas[0].vm_pgoff = 0xFFFFFFFE  # the third page is at offset 0
    assert showing(areas, 1, wraps=True)[0].tolist() == [0]
    assert showing(areas, 1)[0].tolist() == []


def test_many_places_are_visited_one_by_one_where_a_walk_says_no_more() -> None:
    """The base's form, which wrappers of a walk inherit: a place at a time, until STOP."""

    class Third(Walk):
        def __init__(self) -> None:
            super().__init__(1, Purpose.AUDIT)
            self.places: list[Any] = []

        def visit(self, mm: Any, address: int, vma: Any = None, pte: int = -1) -> int:
            self.places.append((mm, address, vma))
            return (0, 1, 9)[len(self.places) - 1]

    walk = Third()
    assert walk.visit_many([10, 11, 12, 13], 4096) == Visited(3, True, 1)  # type: ignore[list-item]
    assert walk.places == [(10, 4096, None), (11, 4096, None), (12, 4096, None)]
