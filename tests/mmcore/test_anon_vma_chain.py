"""anon_vma_chain: which links an area has and in which order, where pages are at home, what a walk looks at, and how
many objects there are."""

from __future__ import annotations

from typing import Any

import pytest

from mmcore.areas.vma import MOVE
from mmcore.errors import OutOfMemory, PluginError, SysError
from mmcore.memory import Memory, MemoryConfig
from mmcore.physical.slab import objects_per_slab
from mmcore.rmap import MISS, STOP, MachineFacts, Purpose
from rmap_plugins.anon_vma_chain import AnonVmaChain
from sandbox.kit.files import tmpfs_file
from sandbox.kit.injection import Failing
from sandbox.kit.machine import MAP_FIXED, MAP_PRIVATE, PROT_READ, RW
from tests.mmcore.asking import Asking
from tests.mmcore.box import AT, SCHEMES, Box
from tests.mmcore.chains import ERAS, Chains, each, trees

# --- sizes


@pytest.mark.parametrize(
    "era, up, smp, avc", [("2.6.34", 8, 12, 24), ("3.7", 24, 28, 32), ("4.0", 32, 36, 32), ("2022", 48, 52, 32)]
)
def test_sizes(era: str, up: int, smp: int, avc: int) -> None:
    for wide in (False, True):
        mem = Memory(MemoryConfig(8 << 20, 1 << 20, smp=wide, scheme_options={"era": era}), AnonVmaChain)
        assert mem.slab.caches["anon_vma"].objsize == (smp if wide else up)
        cache = mem.slab.caches["anon_vma_chain"]
        assert cache.objsize == avc and cache.per_slab == objects_per_slab(avc, 0) == (156 if avc == 24 else 119)
        assert mem.vma_cache.objsize == 64 + 12 + 8


@pytest.mark.parametrize(
    "era, paging, total",
    [
        ("2.6.34", "2level", 84),
        ("2.6.34", "pae", 84),
        ("3.7", "pae", 88),
        ("4.0", "2level", 92),
        ("2022", "2level", 72),
        ("2022", "pae", 80),
    ],
)
def test_historic_areas(era: str, paging: str, total: int) -> None:
    mem = Memory(
        MemoryConfig(8 << 20, 1 << 20, paging=paging, accounting="historic", scheme_options={"era": era}), AnonVmaChain
    )
    assert mem.vma_cache.objsize == total
    assert AnonVmaChain.configure(MachineFacts(paging, False, 32, "historic"), {"era": era}).page == 4


@pytest.mark.parametrize(
    "value, index",
    [
        ("2.6.34", "prio_tree"),
        ("3.7", "interval_tree"),
        ("4.0", "interval_tree"),
        ("2022", "interval_tree"),
        (None, "interval_tree"),
    ],
)
def test_the_era_chooses_the_file_index(value: str | None, index: str) -> None:
    options = {} if value is None else {"era": value}
    assert AnonVmaChain.configure(MachineFacts(), options).file_index == index
    assert Memory(MemoryConfig(8 << 20, 1 << 20, scheme_options=options), AnonVmaChain).setup.file_index == index


@pytest.mark.parametrize("era", ["2.6.33", 4.0, 2022])
def test_an_unknown_era_is_refused(era: Any) -> None:
    with pytest.raises(
        PluginError, match=f"anon_vma_chain: era = {era!r} is not one of '2.6.34', '3.7', '4.0', '2022'"
    ):
        Memory(MemoryConfig(8 << 20, 1 << 20, scheme_options={"era": era}), AnonVmaChain)


# --- anon_vma_prepare


@each
def test_the_first_written_page_makes_one_object_and_one_link(era: str) -> None:
    b = Chains(era)
    b.map(0, 4)
    b.load(b.mm, AT)
    assert b.own(0) is None and b.counts() == (0, 0), "the zero page has no reverse mapping"
    before = b.mem.meters.as_dict()
    b.put(0, 1)
    after = b.mem.meters.as_dict()
    assert b.counts() == (1, 1) and b.chain(0) == [b.own(0)] and b.home(0) is b.home(1) is b.own(0)
    assert (after["links"] - before["links"], after["allocations"] - before["allocations"]) == (1, 2)
    b.munmap(b.mm, AT, 4)
    assert b.counts() == (0, 0)
    b.audit()


@each
@pytest.mark.parametrize("first, then", [(0, 4), (4, 0)])
def test_a_neighbour_that_differs_in_access_only_is_shared_with(era: str, first: int, then: int) -> None:
    """One object, a link for each; mprotect back merges them, and one link goes."""
    b = Chains(era)
    b.map(0, 8)
    b.protect(4, 4, 7)
    b.put(first)
    b.put(then)
    assert b.own(0) is b.own(4) and b.counts() == (1, 2)
    b.protect(4, 4, RW)
    assert len(b.mm.vmas) == 1 and b.counts() == (1, 1)
    b.audit()


# --- clone and fork


@each
def test_a_chain_is_own_then_ancestors(era: str) -> None:
    """Depth + 1 links, newest first; split, move and fork keep the order (bug 25: it was once reversed)."""
    b = Chains(era)
    b.map(0, 8)
    b.put(*range(8))
    mms = b.generations(4)
    own = [b.own(0, mm) for mm in mms]
    assert len(set(own)) == 5
    for depth, mm in enumerate(mms):
        assert b.chain(0, mm) == own[depth::-1]
        assert {anon_vma.root for anon_vma in b.chain(0, mm)} == {own[0]}
    assert [anon_vma.parent for anon_vma in own] == [own[0], *own[:4]]
    b.protect(3, 2, PROT_READ, mms[3])
    assert [b.chain(page, mms[3]) for page in (0, 3, 5)] == [own[3::-1]] * 3
    b.mremap(3, 2, 40, mm=mms[3])
    assert b.chain(40, mms[3]) == own[3::-1] and b.counts()[0] == 5
    b.audit()


@each
@pytest.mark.parametrize("areas, children, depth", [(1, 1, 1), (3, 3, 1), (2, 2, 3), (1, 1, 8)])
def test_objects_follow_the_closed_form(era: str, areas: int, children: int, depth: int) -> None:
    """A full tree, all alive: one anon_vma per process and area, a link for it and for each ancestor's: never more than
    N (D + 1) per area."""
    b = Chains(era)
    for k in range(areas):
        b.map(3 * k, 2)
        b.map(3 * k + 100, 2)  # never written: costs nothing
        b.put(3 * k)
    level, processes, links = [b.mm], 1, 1
    for d in range(1, depth + 1):
        before = b.mem.meters.as_dict()
        level = [b.fork(mm) for mm in level for _ in range(children)]
        processes += len(level)
        links += len(level) * (d + 1)
        after = b.mem.meters.as_dict()
        assert after["fork_links"] - before["fork_links"] == areas * len(level) * (d + 1)
        assert after["fork_allocations"] - before["fork_allocations"] == areas * len(level) * (d + 2)
        assert b.counts() == (areas * processes, areas * links)
    assert links <= processes * (depth + 1)
    b.audit()
    for mm in list(b.mem.mms.values()):
        b.exit(mm)
    assert b.counts() == (0, 0)
    b.audit()


@each
def test_an_ancestor_stays_while_anything_may_lead_to_it(era: str) -> None:
    """The parent's anon_vma lists the child's area: it outlives the parent. The root goes last."""
    b = Chains(era)
    b.map(0, 2)
    b.put(0, 1)
    parent, child, grandchild = b.generations(2)
    own = [b.own(0, mm) for mm in (parent, child, grandchild)]
    b.exit(child)
    b.exit(parent)
    assert b.counts() == (3, 3) and b.chain(0, grandchild) == own[::-1]
    assert [len(anon_vma.links) for anon_vma in own] == [1, 1, 1] and own[0].refcount == 3
    assert b.home(0, grandchild) is own[0]
    b.audit()
    b.munmap(grandchild, AT, 2)
    assert b.counts() == (0, 0)
    b.audit()


# --- pages and their homes


@each
def test_homes(era: str) -> None:
    """Shared: where it was. Copied: the copier's own. Found exclusive by a write: the writer's own."""
    b = Chains(era)
    b.map(0, 3)
    b.put(0, 1, 2)
    child = b.fork(b.mm)
    root, own = b.own(0), b.own(0, child)
    assert b.home(0, child) is root
    b.put(0, mm=child, plus=5)
    assert b.home(0, child) is own and b.home(0) is root
    pfn = b.pfn(1)
    b.munmap(b.mm, AT + 0x1000, 1)
    assert b.home(1, child) is root, "until somebody writes"
    b.put(1, mm=child, plus=5)
    assert b.pfn(1, child) == pfn and b.home(1, child) is own
    b.audit()


@each
def test_homes_after_swap(era: str) -> None:
    """Exclusive: the area's own. Otherwise the root, whoever comes first."""
    b = Chains(era)
    b.map(0, 2)
    b.put(0, 1)
    mms = b.generations(2)
    root, own = b.own(0), b.own(0, mms[2])
    b.put(1, mm=mms[2], plus=5)
    b.swap_out()
    assert b.out(0, mms[2]) and b.out(1, mms[2])
    b.has(0, mm=mms[2])
    b.has(1, mm=mms[2], plus=5)
    assert b.home(0, mms[2]) is root and b.home(1, mms[2]) is own
    b.audit()


# --- walks


@each
@pytest.mark.parametrize("children", [1, 30])
def test_a_childs_page_is_found_at_once(era: str, children: int) -> None:
    """5.1: one visit, however many relatives; anon_vma visits them all. The page that all share is looked for
    everywhere."""
    for scheme in (ERAS[era], "anon_vma"):
        b = Box(scheme)
        b.map(0, 2)
        b.put(0, 1)
        family = [b.fork(b.mm) for _ in range(children)]
        for mm in family:
            b.put(0, mm=mm, plus=7)
        for page, mm, visits in ((0, family[0], 1 if scheme != "anon_vma" else children), (1, b.mm, children + 1)):
            before = b.mem.meters.as_dict()
            b.mem.rmap.page_referenced(b.pfn(page, mm))
            grown = {name: n - before[name] for name, n in b.mem.meters.as_dict().items()}
            assert grown["vmas_visited"] == grown["candidates"] == visits and grown["hits"] == (
                1 if page == 0 else visits
            )
            if scheme == "anon_vma" or era == "2.6.34":
                assert grown["nodes"] == 0
            else:
                assert visits <= grown["nodes"] <= 2 * visits + 1


@each
def test_relatives_are_asked_parent_first(era: str) -> None:
    b = Chains(era)
    b.map(0, 4)
    b.put(*range(4))
    first = b.fork(b.mm)
    second = b.fork(first)
    third = b.fork(b.mm)
    assert b.asked(1) == [b.mm, first, second, third]
    order: list[Any] = []
    before = b.mem.meters.vmas_visited
    b.scheme.walk(Asking(b.pfn(1), Purpose.REFERENCED, lambda *a: order.append(a[1]) or STOP))
    assert order == [b.mm] and b.mem.meters.vmas_visited == before + 1


@each
def test_pieces_of_one_area(era: str) -> None:
    """5.4: written once, then split by mprotect: the list looks at every piece, the tree at the one that has the
    page."""
    b = Chains(era)
    b.map(0, 100)
    b.put(0, 99)
    for page in range(1, 99, 2):
        b.protect(page, 1, PROT_READ)
    assert b.counts() == (1, 99) and len(b.mm.vmas) == 99
    grown = b.walk(99)
    assert grown["candidates"] == grown["hits"] == 1
    assert grown["vmas_visited"] == (99 if era == "2.6.34" else 1)
    assert grown["nodes"] == 0 if era == "2.6.34" else 1 <= grown["nodes"] <= 2 * 13
    b.audit()


# --- boundaries and merges


@each
def test_merging_drops_one_set(era: str) -> None:
    b = Chains(era)
    b.map(0, 9)
    b.put(*range(9))
    mms = b.generations(2)
    assert b.counts() == (3, 6)
    b.protect(3, 3, PROT_READ, mms[2])
    assert b.counts() == (3, 6 + 2 * 3)
    b.audit()
    b.protect(3, 3, RW, mms[2])
    assert b.counts() == (3, 6) and len(mms[2].vmas) == 1
    b.swap_out()
    b.has(*range(9), mm=mms[2])
    b.audit()


@each
def test_what_was_written_apart_never_merges(era: str) -> None:
    b = Chains(era)
    b.map(0, 4)
    b.put(0)
    b.map(8, 4)
    b.put(8)
    b.map(4, 4)
    assert [vma.pages for vma in b.mm.vmas] == [8, 4] and b.mem.meters.merges_refused == 1
    b.audit()


@trees
def test_links_follow_their_areas_pages(era: str) -> None:
    """Whatever moves a boundary moves the links in every tree of the chain; check() compares."""
    b = Chains(era)
    b.map(10, 10)
    b.put(*range(10, 20))
    mms = b.generations(3)
    for mm in mms:
        b.map(20, 4, mm=mm)  # grows
        b.munmap(mm, AT + (10 << 12), 2)  # shrinks below
        b.munmap(mm, AT + (22 << 12), 2)  # and above
        vma = b.area(12, mm)
        assert vma.pages == 10
        assert (
            {(avc.start, avc.last) for avc in vma.rmap}
            == {(vma.vm_pgoff, vma.vm_pgoff + 9)}
            == {((AT >> 12) + 12, (AT >> 12) + 21)}
        )
        b.audit()
    b.mremap(12, 10, 60, mm=mms[3])
    avc = b.area(60, mms[3]).rmap[0]
    assert (avc.start, avc.last) == ((AT >> 12) + 12, (AT >> 12) + 21), "vm_pgoff survives a move"
    b.has(*range(12, 20), mm=mms[3], shift=48)
    b.audit()


@each
def test_a_private_file_area_is_in_both_trees(era: str) -> None:
    b = Chains(era)
    file = tmpfs_file(b.mem, 20)
    b.map(0, 8, flags=MAP_PRIVATE | MAP_FIXED, file=file, pgoff=3)
    b.put(2, 5)
    child = b.fork(b.mm)
    b.load(child, AT + 0x3000)
    avc = b.area(0, child).rmap[0]
    assert (avc.start, avc.last) == (3, 10) and len(file.mapping.i_mmap) == 2
    b.swap_out()
    b.has(2, 5, mm=child)
    b.audit()


# --- nothing is kept when memory ends


def _moves(b: Chains) -> dict[str, Any]:
    child = b.fork(b.mm)
    mm = b.fork(child)
    b.map(100, 4, mm=mm)
    b.store(mm, AT + (100 << 12), 1)
    b.map(96, 4, prot=7, mm=mm)
    b.mem.slab.shrink_all()
    return {
        "fork": lambda: b.fork(mm),
        "split": lambda: b.protect(3, 2, PROT_READ, mm),
        "move": lambda: b.mremap(2, 4, 40, mm=mm),
        "move over": lambda: b.mremap(2, 4, 97, mm=mm),
        "hole": lambda: b.munmap(mm, AT + 0x3000, 2),
    }


@each
@pytest.mark.parametrize("what", ["fork", "split", "move", "move over", "hole"])
def test_a_failed_allocation_leaves_every_link_as_it_was(era: str, what: str) -> None:
    refused = 0
    for n in range(1, 100):
        b = Chains(era)
        b.map(0, 8)
        b.put(*range(8))
        act = _moves(b)[what]

        def state() -> Any:
            every = [
                (mm.addr, vma.vm_start, [(a.anon_vma.address, a.start, a.last) for a in vma.rmap or ()])
                for mm in b.mem.mms.values()
                for vma in mm.vmas
            ]
            return (
                b.counts(),
                every,
                sorted((a.address, a.children, a.active, a.refcount, len(a.links)) for a in b.scheme._objects.values()),
            )

        before = state()
        with Failing(b.mem.pages, n) as failing:
            try:
                act()
            except SysError:
                refused += 1
                assert state() == before
        b.audit()
        if not failing.failed:
            break
        act()
        b.audit()
    assert not failing.failed and refused >= 4


@each
def test_no_memory_for_the_first_link_or_object(era: str) -> None:
    b = Chains(era)
    b.map(0, 1)
    for n in (1, 2):
        with Failing(b.mem.pages, n), pytest.raises(OutOfMemory):
            b.scheme.reserve("anon_fault", b.area(0))
        assert b.own(0) is None and b.counts() == (0, 0)
    b.put(0)
    b.audit()


@each
def test_shrinking_needs_no_memory(era: str) -> None:
    b = Chains(era)
    b.map(0, 10)
    b.put(*range(10))
    child = b.fork(b.mm)
    with Failing(b.mem.pages, 1, every=1):
        b.munmap(child, AT, 3)
        b.munmap(child, AT + 0x8000, 2)
        b.exit(b.mm)
    assert b.area(4, child).pages == 5
    b.has(3, 4, 5, 6, 7, mm=child)
    b.audit()


# --- check()


@each
@pytest.mark.parametrize(
    "damage, said",
    [
        ("object", r"anon_vma: 3 objects known, 4 in the cache"),
        ("link", r"anon_vma_chain: 6 objects known, 7 in the cache"),
        ("unlisted", "does not list the area"),
        ("elsewhere", "leads elsewhere"),
        ("order", "does not begin with its root"),
        ("home", "not linked to it"),
        ("children", "counts 7 children"),
        ("active", "and 9 areas"),
        ("refcount", "has 8 references"),
        ("keys", "has a link for pages"),
        ("left", "has links, but no anon_vma"),
        ("unlike", "have different chains"),
    ],
)
def test_check_notices_damage(era: str, damage: str, said: str) -> None:
    b = Chains(era)
    b.map(0, 4)
    b.put(*range(4))
    mms = b.generations(2)
    scheme, vma = b.scheme, b.area(0, mms[2])
    assert scheme.check() == []
    if damage == "object":
        scheme._cache.alloc()
    elif damage == "link":
        scheme._avc_cache.alloc()
    elif damage == "unlisted":
        vma.rmap[1].anon_vma.links.remove(vma.rmap[1])
    elif damage == "elsewhere":
        vma.rmap[1].vma = b.area(0, mms[1])
    elif damage == "order":
        vma.rmap.reverse()
    elif damage == "home":
        del vma.rmap[2]
    elif damage == "children":
        vma.anon_vma.children = 7
    elif damage == "active":
        vma.anon_vma.active = 9
    elif damage == "refcount":
        b.own(0).refcount = 8
    elif damage == "keys":
        vma.rmap[0].start += 1
    elif damage == "left":
        vma.anon_vma = None
    else:
        b.protect(2, 2, PROT_READ, mms[2])
        b.area(2, mms[2]).rmap[0:2] = b.area(2, mms[2]).rmap[1::-1]
        if era == "4.0":
            assert not any(said in text for text in scheme.check()), "4.0 had such areas"
            return
    assert any(said in text for text in scheme.check()), scheme.check()


def test_every_era_is_a_variant_of_the_scheme_tests() -> None:
    assert {SCHEMES[name][1].get("era", "2022") for name in SCHEMES if name.startswith("anon_vma_chain")} == set(ERAS)


# --- what history got wrong; numbers in brackets: docs/bug-classes.md


@each
def test_no_sharing_with_a_neighbour_that_was_cloned(era: str) -> None:
    """(25) The neighbour has an ancestor's link as well; whoever took its anon_vma alone would have another chain,
    and a merge would lose pages."""
    b = Chains(era)
    b.map(0, 4)
    b.put(0)
    child = b.fork(b.mm)
    b.map(4, 4, prot=7, mm=child)
    b.store(child, AT + 0x4000, 5)
    assert len(b.chain(0, child)) == 2 and b.chain(4, child) == [b.own(4, child)] != [b.own(0, child)]
    b.protect(4, 4, RW, child)
    assert len(child.vmas) == 2
    b.audit()


@each
@pytest.mark.parametrize("flaw", [False, True])
def test_a_page_swapped_in_by_a_child_that_dies(era: str, flaw: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """(24) In 2.6.34-rc the child brought the shared page in and it came to lie in the child's anon_vma, where the
    parent is not listed."""
    if flaw:
        plain = AnonVmaChain.add_anon

        def add_anon(self: Any, pfn: int, vma: Any, address: int, pte: int, exclusive: bool, token: Any) -> int:
            return plain(self, pfn, vma, address, pte, exclusive or not self._mapcount[pfn], token)

        monkeypatch.setattr(AnonVmaChain, "add_anon", add_anon)
    b = Chains(era)
    b.map(0, 1)
    b.put(0)
    child = b.fork(b.mm)
    b.swap_out()
    assert b.out(0) and b.out(0, child)
    b.has(0, mm=child)
    assert (b.home(0, child) is b.own(0)) == (not flaw)
    b.has(0)
    assert b.pfn(0) == b.pfn(0, child)
    b.exit(child)
    if flaw:
        assert b.mem.frames.mapping[b.pfn(0)] not in b.scheme._objects, "its anon_vma is gone"
        assert any("PTEs not found" in text for text in b.auditor.audit("the flaw"))
        return
    assert b.asked(0) == [b.mm]
    b.audit()
    b.swap_out()
    assert b.out(0)
    b.has(0)
    b.audit()


@each
@pytest.mark.parametrize("skip, pages", [(0, 8), (2, 4), (0, 3), (5, 3)])
def test_a_move_is_found_at_its_old_place_first(
    era: str, skip: int, pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(27) A walk that looks where pages go before it looks where they come from may miss one on its way. The new
    area stands behind the old one."""
    b = Chains(era)
    b.map(0, 8)
    b.put(*range(8))
    child = b.fork(b.mm)
    b.put(*range(8), mm=child, plus=3)
    plain = AnonVmaChain.vma_copied
    orders = []

    def vma_copied(self: Any, dst: Any, src: Any, how: str) -> None:
        plain(self, dst, src, how)
        if how == MOVE:
            for page in range(skip, skip + pages):
                for mm in (b.mm, child):
                    seen: list[Any] = []
                    note = lambda pfn, m, address, vma, pte, seen=seen: seen.append(vma) or MISS  # noqa: E731
                    self.walk(Asking(b.pfn(page, mm), Purpose.AUDIT, note))
                    if src in seen:
                        orders.append(seen.index(src) < seen.index(dst))

    monkeypatch.setattr(AnonVmaChain, "vma_copied", vma_copied)
    b.mremap(skip, pages, 40, mm=child)
    assert orders == [True] * 2 * pages, "of the parent's pages and of the child's"
    b.audit()


@each
@pytest.mark.parametrize("upper_has_pages", [True, False])
def test_the_growing_area_gets_the_links(era: str, upper_has_pages: bool) -> None:
    """(13) With an ancestor: the area that grows over anonymous pages gets the whole chain of the one that
    shrinks."""
    b = Chains(era)
    b.map(0, 8)
    child = b.fork(b.mm)
    pages = range(4, 8) if upper_has_pages else range(4)
    b.protect(0, 4, 7, child)
    b.put(*pages, mm=child)
    grandchild = b.fork(child)
    mm = grandchild
    assert (b.own(0, mm) is None, b.own(4, mm) is None) == (upper_has_pages, not upper_has_pages)
    b.protect(4 if upper_has_pages else 2, 2, 7 if upper_has_pages else RW, mm)
    assert [vma.pages for vma in mm.vmas] == ([6, 2] if upper_has_pages else [2, 6])
    assert b.chain(0, mm) == b.chain(7, mm) and len(b.chain(0, mm)) == 2
    b.audit("moved")
    b.protect(0, 8, 7, mm)
    assert len(mm.vmas) == 1 and b.counts() == (2, 3), "the child's area with its own, and the merged one with two"
    b.swap_out()
    b.has(*pages, mm=mm)
    b.has(*pages, mm=child)
    b.audit()
