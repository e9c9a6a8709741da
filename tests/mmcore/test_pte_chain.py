"""pte_chain, entry by entry: what the nodes contain after each step of 2.6.5's algorithms, how many there are, and what
they cost."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcore.errors import OutOfMemory, PluginError
from mmcore.memory import Memory, MemoryConfig
from mmcore.physical.frames import PG_ANON, PG_DIRECT, USER
from mmcore.physical.gfp import GFP_KERNEL
from mmcore.physical.pgtable import A
from mmcore.physical.slab import PAGE_OFFSET, objects_per_slab
from mmcore.rmap import AGAIN, FAIL, HIT, STOP, MachineFacts, Purpose
from mmcore.rmap.core import SUCCESS, SWAP_FAIL
from mmcore.rmap.scheme import SchemeEnv
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.files import tmpfs_file
from sandbox.kit.injection import Failing
from sandbox.kit.machine import MAP_SHARED, CpulessMachine
from tests.mmcore.asking import Asking

LINES = (32, 64, 128)
VARIANTS = (
    [(line, "pae", False) for line in LINES]
    + [(line, "pae", True) for line in LINES]
    + [(line, "2level", False) for line in LINES]
)


class Pages:
    """One frame, its scheme, and PTEs that exist by number only."""

    def __init__(self, line: int = 32, paging: str = "pae", highpte: bool = False) -> None:
        self.mem = Memory(
            MemoryConfig(8 << 20, 1 << 20, paging, scheme_options={"cache_line": line, "highpte": highpte}), PteChain
        )
        self.scheme: Any = self.mem.scheme
        self.n = self.scheme.nrpte
        self.entry = self.mem.pgtables.ENTRY
        self.pfn = self.frame()

    def frame(self) -> int:
        return self.mem.pages.alloc_page(GFP_KERNEL, USER)

    def add(self, pte: int, pfn: int = 0) -> int:
        """Maps the frame by a PTE; returns how many nodes that took."""
        token = self.scheme.reserve("file_fault", None)
        before = len(token)
        self.scheme.add_file(pfn or self.pfn, None, 0, pte, token)
        used = before - len(token)
        self.scheme.release(token)
        return used

    def remove(self, pte: int) -> None:
        self.scheme._remove_one(self.pfn, pte)

    def chain(self, pfn: int = 0) -> list[list[int]]:
        """Slots of each node from the head, 0 for a free one; PTE numbers."""
        node, out = self.mem.frames.rmap[pfn or self.pfn], []
        while node:
            word = self.mem.ram.u32[node >> 2]
            width = 8 if self.scheme._wide else 4
            raw = self.mem.ram.read(node + width, self.n * width)
            slots = [int.from_bytes(raw[i : i + width], "little") for i in range(0, len(raw), width)]
            assert word & self.n == sum(1 for s in slots if not s), "next_and_idx counts the free slots"
            out.append([s // self.entry for s in slots])
            node = word & ~self.n
        return out

    @property
    def direct(self) -> int:
        """The PTE of a page mapped once, else -1."""
        frames = self.mem.frames
        return frames.rmap[self.pfn] // self.entry if frames.flags[self.pfn] & PG_DIRECT else -1

    def check(self) -> list[str]:
        """The scheme's own invariants; nobody counts mappings here."""
        return [w for w in self.scheme.check() if "mapcount says" not in w]

    @property
    def nodes(self) -> int:
        """In chains (one may be at hand, see the stash)."""
        return self.scheme._cache.objects - bool(self.scheme._stash)


@pytest.mark.parametrize(
    "line, paging, highpte, nrpte",
    [
        (32, "pae", False, 7),
        (64, "pae", False, 15),
        (128, "pae", False, 31),
        (32, "pae", True, 3),
        (64, "pae", True, 7),
        (128, "pae", True, 15),
        (32, "2level", False, 7),
        (64, "2level", True, 15),
        (128, "2level", True, 31),
    ],
)
def test_nrpte_follows_from_the_line(line: int, paging: str, highpte: bool, nrpte: int) -> None:
    assert Pages(line, paging, highpte).n == nrpte


def test_layout_and_bad_options() -> None:
    pae = MachineFacts("pae", False, 32, "isolated")
    assert PteChain.configure(pae, {}).page == 4 and PteChain.configure(pae, {"highpte": True}).page == 8
    assert PteChain.configure(MachineFacts("2level", False, 32, "isolated"), {"highpte": True}).page == 4
    with pytest.raises(PluginError, match="cache_line = 48"):
        PteChain.configure(pae, {"cache_line": 48})


@pytest.mark.parametrize("line, per_page", [(32, 119), (64, 61), (128, 31)])
def test_slab_packing(line: int, per_page: int) -> None:
    p = Pages(line)
    assert objects_per_slab(line, 0) == per_page == p.scheme._cache.per_slab
    nodes = [p.scheme._alloc() for _ in range(per_page + 1)]
    assert p.scheme._cache.frames == 2
    assert all(node % line == 0 for node in nodes), "a node is one cache line"
    assert len(set(nodes)) == len(nodes)


@pytest.mark.parametrize("variant", VARIANTS)
def test_adding(variant: tuple[int, str, bool]) -> None:
    """page_add_rmap: direct, then a node filled from its end, then a new head in front of full ones."""
    p = Pages(*variant)
    n = p.n
    assert p.add(1000) == 0 and p.direct == 1000 and p.nodes == 0
    assert p.add(1001) == 1 and p.direct == -1
    assert p.chain() == [[0] * (n - 2) + [1001, 1000]]
    for k in range(2, n):
        assert p.add(1000 + k) == 0
        assert p.chain() == [[0] * (n - k - 1) + list(range(1000 + k, 999, -1))]
    assert p.add(2000) == 1, "the head is full"
    full = list(range(999 + n, 999, -1))
    assert p.chain() == [[0] * (n - 1) + [2000], full]
    for k in range(1, n):
        assert p.add(2000 + k) == 0
    assert p.add(3000) == 1
    assert p.chain() == [[0] * (n - 1) + [3000], list(range(1999 + n, 1999, -1)), full]
    assert p.nodes == 3 and not p.check()


def test_removing() -> None:
    """page_remove_rmap: the head's lowest entry takes the victim's place; an empty head goes; one entry left stays a
    chain."""
    p = Pages()
    for k in range(9):
        p.add(100 + k)
    assert p.chain() == [[0, 0, 0, 0, 0, 108, 107], [106, 105, 104, 103, 102, 101, 100]]
    p.remove(103)
    assert p.chain() == [[0, 0, 0, 0, 0, 0, 107], [106, 105, 104, 108, 102, 101, 100]]
    p.remove(106)
    assert p.chain() == [[107, 105, 104, 108, 102, 101, 100]] and p.nodes == 1
    p.remove(100)
    assert p.chain() == [[0, 105, 104, 108, 102, 101, 107]]
    for pte in (105, 104, 108, 102, 101):
        p.remove(pte)
    assert p.chain() == [[0, 0, 0, 0, 0, 0, 107]], "removal does not collapse"
    p.remove(999)
    assert p.chain() == [[0, 0, 0, 0, 0, 0, 107]], "a PTE that is not there is tolerated"
    p.remove(107)
    assert p.mem.frames.rmap[p.pfn] == 0 and p.nodes == 0
    p.remove(107)
    assert not p.check()


def test_removing_the_only_mapping() -> None:
    p = Pages()
    p.add(100)
    p.remove(101)
    assert p.direct == 100
    p.remove(100)
    assert p.mem.frames.rmap[p.pfn] == 0 and not p.mem.frames.flags[p.pfn] & PG_DIRECT


class Chain:
    """2.6.5's algorithms again, on lists: a node is a list of its used slots, lowest first."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.direct: int | None = None
        self.nodes: list[list[int]] = []

    def add(self, pte: int) -> None:
        if self.direct is None and not self.nodes:
            self.direct = pte
        elif self.direct is not None:
            self.nodes, self.direct = [[pte, self.direct]], None
        elif len(self.nodes[0]) == self.n:
            self.nodes.insert(0, [pte])
        else:
            self.nodes[0].insert(0, pte)

    def remove(self, pte: int) -> None:
        if self.direct is not None:
            self.direct = None if self.direct == pte else self.direct
            return
        for node in self.nodes:
            if pte in node:
                node[node.index(pte)] = self.nodes[0][0]
                del self.nodes[0][0]
                if not self.nodes[0]:
                    del self.nodes[0]
                return


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(steps=st.lists(st.tuples(st.sampled_from("aaar"), st.integers(0, 1 << 30)), max_size=120))
def test_any_sequence(variant: tuple[int, str, bool], steps: list[tuple[str, int]]) -> None:
    p = Pages(*variant)
    model = Chain(p.n)
    mapped: list[int] = []
    for what, pick in steps:
        if what == "a" or not mapped:
            pte = 1 + len(mapped) + (pick % 1000) * 200
            if pte in mapped:
                continue
            mapped.append(pte)
            p.add(pte)
            model.add(pte)
        else:
            pte = mapped.pop(pick % len(mapped))
            p.remove(pte)
            model.remove(pte)
        assert (p.direct if p.direct >= 0 else None) == model.direct
        if model.direct is None:
            assert [[s for s in node if s] for node in p.chain()] == model.nodes
        assert p.nodes == len(model.nodes) and not p.check()


@pytest.mark.parametrize("variant", VARIANTS)
def test_ranges_are_what_single_steps_are(variant: tuple[int, str, bool]) -> None:
    """dup, remove and move of a range, done in bulk, leave the very chains that one page at a time leaves."""
    bulk, single = Pages(*variant), Pages(*variant)
    rng = random.Random(7)
    count = 60
    for p in (bulk, single):
        p.pfns = np.array([p.frame() for _ in range(count)], np.int64)  # type: ignore[attr-defined]
    mapped = {k: rng.randrange(1, 2 * bulk.n + 2) for k in range(count)}
    for p in (bulk, single):
        for k, n in mapped.items():
            for i in range(n):
                p.add(1000 * (i + 1) + k, int(p.pfns[k]))

    def compare() -> None:
        for k in range(count):
            a, b = int(bulk.pfns[k]), int(single.pfns[k])
            direct = bulk.mem.frames.flags[a] & PG_DIRECT
            assert direct == single.mem.frames.flags[b] & PG_DIRECT
            if direct:
                assert bulk.mem.frames.rmap[a] == single.mem.frames.rmap[b]
            else:
                assert bulk.chain(a) == single.chain(b)
        assert bulk.nodes == single.nodes and not bulk.check() and not single.check()

    compare()
    new = np.arange(500_000, 500_000 + count)
    old = np.array([1000 * mapped[k] + k for k in range(count)])
    token = bulk.scheme.reserve("fork", None, bulk.pfns)
    bulk.scheme.dup(None, None, bulk.pfns, old, new, token)
    assert token == [], "as many nodes were reserved as were used"
    for k in range(count):
        single.add(int(new[k]), int(single.pfns[k]))
    compare()
    moved = new + 1000
    token = bulk.scheme.reserve("move", None, bulk.pfns)
    bulk.scheme.move(None, None, 0, bulk.pfns, new, moved, token)
    bulk.scheme.release(token)
    for k in range(count):
        single.scheme._remove_one(int(single.pfns[k]), int(new[k]))
        single.add(int(moved[k]), int(single.pfns[k]))
    compare()
    victims = np.array([1000 * (1 + rng.randrange(mapped[k])) + k for k in range(count)])
    bulk.scheme.remove(None, bulk.pfns, victims)
    for k in range(count):
        single.scheme._remove_one(int(single.pfns[k]), int(victims[k]))
    compare()


def test_one_frame_twice_in_a_range() -> None:
    """A nonlinear area may map a page many times: a range names its frame as often."""
    p = Pages()
    p.add(1)
    pfns = np.full(20, p.pfn, np.int64)
    token = p.scheme.reserve("fork", None, pfns)
    p.scheme.dup(None, None, pfns, pfns, np.arange(100, 120), token)
    p.scheme.release(token)
    assert sorted(s for node in p.chain() for s in node if s) == [1, *range(100, 120)]
    token = p.scheme.reserve("move", None, pfns)
    p.scheme.move(None, None, 0, pfns, np.arange(100, 120), np.arange(200, 220), token)
    p.scheme.release(token)
    assert sorted(s for node in p.chain() for s in node if s) == [1, *range(200, 220)]
    p.scheme.remove(None, pfns, np.arange(200, 220))
    assert [s for node in p.chain() for s in node if s] == [1]
    assert not p.check()


# --- walks


class NoOwner(SchemeEnv):
    """PTEs that belong to nobody."""

    def pte_owner(self, pte: int) -> tuple[Any, int]:
        return None, pte << 12


def _walkable(p: Pages) -> None:
    env = p.scheme.env
    p.scheme.env = NoOwner(env.frames, env.ram, env.slab, env.meters, env.pgtables, env.mms, env.machine)


@pytest.mark.parametrize("line, paging, highpte", [(32, "pae", False), (32, "pae", True), (64, "2level", False)])
def test_unmapping_with_any_answers(line: int, paging: str, highpte: bool) -> None:
    """Chains of 1 to 3 x NRPTE + 1 entries, each answering done, not now or no: every entry is asked once until the
    first no; what was done is gone, all else stays."""
    rng = random.Random(line + highpte)
    n = Pages(line, paging, highpte).n
    for total in range(1, 3 * n + 2):
        for weights in ((8, 1, 0), (1, 1, 0), (6, 3, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)):
            p = Pages(line, paging, highpte)
            _walkable(p)
            for k in range(total):
                p.add(100 + k)
            answers = {100 + k: rng.choices((HIT, AGAIN, FAIL), weights)[0] for k in range(total)}
            asked: list[int] = []

            def visit(
                pfn: int, mm: Any, address: int, vma: Any, pte: int, answers: Any = answers, asked: Any = asked
            ) -> int:
                asked.append(pte)
                assert address == pte << 12
                answer = answers[pte]
                return answer | STOP if answer == FAIL else answer

            p.scheme.walk(Asking(p.pfn, Purpose.UNMAP, visit))
            assert len(set(asked)) == len(asked), "an entry is asked twice"
            if FAIL not in (answers[pte] for pte in asked):
                assert len(asked) == total
            else:
                assert answers[asked[-1]] == FAIL
            gone = {pte for pte in asked if answers[pte] == HIT}
            left = {p.direct} if p.direct >= 0 else {s for node in p.chain() for s in node if s}
            assert left - {-1} == set(answers) - gone
            assert not p.check()
            assert p.nodes == len(p.chain()) if p.direct < 0 else p.nodes == 0


@pytest.mark.parametrize("paging", ["pae", "2level"])
def test_a_pte_tells_whose_it_is(paging: str) -> None:
    """ptep_to_mm and ptep_to_address: the page-table page's struct page."""
    m = CpulessMachine(PteChain, memory=8 << 20, paging=paging)
    mm = m.new_mm()
    for where in (0x08000000, 0x3FFFF000, 0x40000000, 0xBFFFF000):
        m.mmap(mm, 1, flags=0x32, addr=where)
        m.store(mm, where, 1)
        pte = m.mem.pgtables.pte_index(mm.pgd, where)
        assert m.mem.scheme.env.pte_owner(pte) == (mm, where)


def _shared_page(processes: int, **options: Any) -> tuple[CpulessMachine, list[Any], int, int]:
    """A tmpfs page mapped by so many processes: (machine, mms, address, pfn)."""
    m = CpulessMachine(PteChain, memory=8 << 20, **options)
    file = tmpfs_file(m.mem, 4)
    mms = []
    for _ in range(processes):
        mm = m.new_mm()
        at = m.mmap(mm, 4, flags=MAP_SHARED, file=file)
        m.store(mm, at, 5)
        mms.append(mm)
    return m, mms, at, file.mapping.pages[0]


def test_page_referenced_collapses_a_chain_of_one() -> None:
    m, mms, at, pfn = _shared_page(2)
    frames = m.mem.frames
    m.munmap(mms[0], at, 1)
    assert not frames.flags[pfn] & PG_DIRECT and frames.mapcount[pfn] == 1
    m.audit()
    assert not frames.flags[pfn] & PG_DIRECT, "an audit changes nothing"
    m.mem.rmap.page_referenced(pfn)
    assert frames.flags[pfn] & PG_DIRECT
    assert frames.rmap[pfn] == m.mem.pgtables.pte_index(mms[1].pgd, at) * m.mem.pgtables.ENTRY
    m.audit()


@pytest.mark.parametrize("processes", [1, 2, 7, 8, 9, 14, 15, 16, 22])
def test_try_to_unmap_empties_every_table(processes: int) -> None:
    m, mms, at, pfn = _shared_page(processes)
    walked = m.mem.meters.walks
    m.mem.frames.count[pfn] += 1  # the isolator's
    assert m.mem.rmap.try_to_unmap(pfn) == SUCCESS
    m.mem.frames.count[pfn] -= 1
    assert m.mem.frames.mapcount[pfn] == 0 and m.mem.frames.rmap[pfn] == 0
    assert m.mem.meters.walks == walked + 1 and m.mem.meters.hits >= processes and not m.mem.meters.misses
    m.audit()
    assert all(m.load(mm, at) == 5 for mm in mms)


@pytest.mark.parametrize("locked", range(10))
def test_try_to_unmap_stops_at_a_locked_area(locked: int) -> None:
    from mmcore.calls.mlock import do_mlock

    m, mms, at, pfn = _shared_page(10)
    do_mlock(m.mem, mms[locked], at, 4096)
    m.mem.frames.count[pfn] += 1
    assert m.mem.rmap.try_to_unmap(pfn) == SWAP_FAIL
    m.mem.frames.count[pfn] -= 1
    i = m.mem.pgtables.pte_index(mms[locked].pgd, at)
    assert m.mem.pgtables.ptes[i] & 1, "the locked mapping stays"
    m.audit()
    for mm in mms:
        m.exit(mm)
    m.audit()
    assert m.mem.scheme._cache.objects <= 1


def test_a_young_page_is_unmapped_nevertheless() -> None:
    """2.6.5 did not look at the accessed bit while unmapping."""
    m, mms, at, pfn = _shared_page(2)
    i = m.mem.pgtables.pte_index(mms[0].pgd, at)
    assert m.mem.pgtables.ptes[i] & A
    m.mem.frames.count[pfn] += 1
    assert m.mem.rmap.try_to_unmap(pfn) == SUCCESS
    m.mem.frames.count[pfn] -= 1
    m.audit()


# --- memory


def test_reserve_gives_all_or_nothing() -> None:
    p = Pages()
    frames = [p.frame() for _ in range(40)]
    for k, pfn in enumerate(frames):
        p.add(10 + k, pfn)
    before = p.scheme._cache.objects
    for n in range(1, 41):
        with Failing(p.mem.pages, n) as failing, pytest.raises(OutOfMemory):
            p.scheme.release(p.scheme.reserve("fork", None, np.array(frames)))
            if not failing.failed:
                raise OutOfMemory("the stash served one: no allocation was left to fail")
        assert p.nodes == 0 and p.scheme._cache.objects <= before + 1 and not p.check()


def test_the_stash_is_one_deep() -> None:
    p = Pages()
    first, second = p.scheme._alloc(), p.scheme._alloc()
    allocations = p.scheme._cache.allocations
    p.scheme._free(first)
    assert p.scheme._stash == first and p.scheme._cache.objects == 2
    p.scheme._free(second)
    assert p.scheme._stash == first and p.scheme._cache.objects == 1
    assert p.scheme._alloc() == first and p.scheme._cache.allocations == allocations


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("children, pages", [(1, 30), (6, 20), (7, 20), (14, 5), (20, 9)])
def test_fork_costs_what_the_closed_form_says(line: int, children: int, pages: int) -> None:
    """N processes x M shared pages: M x ceil(N / NRPTE) nodes, for N > 1; their slabs of 119, 61 or 31."""
    m = CpulessMachine(PteChain, memory=16 << 20, cache_line=line)
    mm = m.new_mm()
    at = m.mmap(mm, pages)
    for k in range(pages):
        m.store(mm, at + (k << 12), k)
    cache = m.mem.scheme._cache  # type: ignore[attr-defined]
    stash = cache.objects
    assert stash <= 1, "pages mapped once cost nothing"
    processes = [m.fork(mm) for _ in range(children)]
    nodes = pages * _ceil(children + 1, m.mem.scheme.nrpte)  # type: ignore[attr-defined]
    assert cache.objects - bool(m.mem.scheme._stash) == nodes  # type: ignore[attr-defined]
    assert nodes <= cache.peak_objects <= nodes + 1
    assert cache.frames in (_ceil(cache.objects, cache.per_slab), _ceil(cache.objects, cache.per_slab) + 1)
    m.audit()
    for child in processes:
        m.exit(child)
    m.exit(mm)
    assert cache.objects <= 1
    m.audit()


def test_a_shared_file_costs_the_same() -> None:
    m = CpulessMachine(PteChain, memory=8 << 20)
    file = tmpfs_file(m.mem, 10)
    for n in range(1, 18):
        mm = m.new_mm()
        at = m.mmap(mm, 10, flags=MAP_SHARED, file=file)
        for k in range(10):
            m.load(mm, at + (k << 12))
        nodes = 10 * _ceil(n, 7) if n > 1 else 0
        assert m.mem.scheme._cache.objects - bool(m.mem.scheme._stash) == nodes  # type: ignore[attr-defined]


def test_node_addresses_are_low_memory() -> None:
    p = Pages()
    p.add(1)
    p.add(2)
    node = p.mem.frames.rmap[p.pfn]
    assert (
        p.mem.frames.flags[node >> 12] and node + PAGE_OFFSET < 0xF8000000 and not p.mem.frames.flags[p.pfn] & PG_ANON
    )
