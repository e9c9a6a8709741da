"""Counts against closed forms: N processes x M pages take exactly the objects and bytes that the structures' sizes say,
and walks look at exactly as much."""

from __future__ import annotations

from typing import Any

import pytest

from mmcore.audit import Auditor
from mmcore.calls.mprotect import do_mprotect
from mmcore.memory import Memory, MemoryConfig
from mmcore.physical.slab import objects_per_slab
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.anonmm import AnonMm
from rmap_plugins.anonmm_chained import SLOTS, AnonMmChained
from rmap_plugins.partial_objrmap import PartialObjrmap
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_READ, RW, CpulessMachine

AT = 0x50000000
ANON = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
SHARED = MAP_SHARED | MAP_FIXED


class Counted(CpulessMachine):
    """`processes` that share `pages` pages: of one file each maps itself, or of one parent that forks them."""

    def __init__(
        self, scheme: type, paging: str = "pae", memory: int = 24 << 20, smp: bool = False, **options: Any
    ) -> None:
        config = MemoryConfig(
            memory_bytes=memory, swap_bytes=32 << 20, paging=paging, overcommit=1, smp=smp, scheme_options=options
        )
        self.mem = Memory(config, scheme)
        self.auditor = Auditor(self.mem)

    def cache(self, name: str) -> Any:
        return self.mem.slab.caches[name]

    def mapped_file(self, processes: int, pages: int) -> list[Any]:
        file = tmpfs_file(self.mem, pages)
        mms = []
        for _ in range(processes):
            mm = self.new_mm()
            self.mmap(mm, pages, RW, SHARED, AT, file)
            for k in range(pages):
                self.store(mm, AT + (k << 12), k)
            mms.append(mm)
        return mms

    def family(self, children: int, pages: int) -> list[Any]:
        parent = self.new_mm()
        self.mmap(parent, pages, RW, ANON, AT)
        for k in range(pages):
            self.store(parent, AT + (k << 12), k)
        return [parent, *(self.fork(parent) for _ in range(children))]

    def pfn(self, mm: Any, page: int) -> int:
        i = self.mem.pgtables.pte_index(mm.pgd, AT + (page << 12))
        return self.mem.pgtables.ptes[i] >> 12 & self.mem.pgtables.PFN_MASK

    def referenced(self, pfn: int) -> dict[str, int]:
        """What one page_referenced looked at."""
        before = self.mem.meters.as_dict()
        self.mem.rmap.page_referenced(pfn)
        return {name: value - before[name] for name, value in self.mem.meters.as_dict().items()}


# (line, paging, highpte) -> entries per node, objects per 4 KB slab
LINES = {
    (32, "2level", False): (7, 119),
    (64, "2level", False): (15, 61),
    (128, "2level", False): (31, 31),
    (128, "pae", True): (15, 31),
    (64, "pae", True): (7, 61),
    (32, "pae", True): (3, 119),
    (32, "pae", False): (7, 119),
}


@pytest.mark.parametrize("kind", ["file", "fork"])
@pytest.mark.parametrize("processes", [1, 2, 7, 8, 9, 16, 33])
@pytest.mark.parametrize(("line", "paging", "highpte"), LINES)
def test_chain_nodes(line: int, paging: str, highpte: bool, processes: int, kind: str) -> None:
    """The first mapping needs none; from the second on every page has ceil(mappings / entries) nodes, all but the head
    full."""
    pages = 20
    entries, packed = LINES[line, paging, highpte]
    m = Counted(PteChain, paging, cache_line=line, highpte=highpte)
    if kind == "file":
        m.mapped_file(processes, pages)
    else:
        m.family(processes - 1, pages)
    cache = m.cache("pte_chain")
    nodes = pages * -(-processes // entries) if processes > 1 else 0
    assert cache.objects - (1 if m.mem.scheme._stash else 0) == nodes
    assert cache.per_slab == packed == objects_per_slab(line, 0) and cache.size == line
    assert cache.frames == -(-cache.objects // packed) or not nodes
    m.audit()


# Processes x shared megabytes -> MB of chains with 32-byte lines, 128-byte lines, 128-byte lines under PAE with
# highpte, as computed from the packing.
EXHAUSTION = [
    (100, 64, 7.5, 8.0, 14),
    (100, 1024, 120, 128, 224),
    (700, 2765, 2160, 1987, 4061),
    (1000, 1024, 1144, 1056, 2144),
    (10000, 64, 715, 646, 1334),
]


@pytest.mark.parametrize(("processes", "megabytes", "small", "large", "wide"), EXHAUSTION)
def test_what_chains_of_a_shared_mapping_cost(
    processes: int, megabytes: int, small: float, large: float, wide: float
) -> None:
    """A few pages are really mapped by up to 100 processes; the rest follows from nodes per page, which the real ones
    have proven."""
    for line, paging, highpte, expected in (
        (32, "2level", False, small),
        (128, "2level", False, large),
        (128, "pae", True, wide),
    ):
        entries, _ = LINES[line, paging, highpte]
        real = min(processes, 100)
        m = Counted(PteChain, paging, memory=32 << 20, cache_line=line, highpte=highpte)
        m.mapped_file(real, 2)
        assert m.cache("pte_chain").objects - (1 if m.mem.scheme._stash else 0) == 2 * -(-real // entries)
        nodes = -(-processes // entries) * (megabytes << 20 >> 12)
        assert nodes * line / (1 << 20) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("processes", [1, 2, 9])
def test_partial_objrmap_has_chains_for_anonymous_pages_only(processes: int) -> None:
    m = Counted(PartialObjrmap)
    m.mapped_file(processes, 20)
    assert m.cache("pte_chain").objects == 0
    m.family(processes - 1, 20)
    stash = 1 if m.mem.scheme._stash else 0
    assert m.cache("pte_chain").objects - stash == (20 * -(-processes // 7) if processes > 1 else 0)


@pytest.mark.parametrize(("smp", "size", "packed"), [(False, 8, 407), (True, 12, 290)])
def test_anon_vmas_and_bytes_per_area(smp: bool, size: int, packed: int) -> None:
    """One object for all processes and pages of an inherited area: at most 12 + 12 bytes per area (SMP), 12 + 8 (UP),
    the file index apart."""
    m = Counted(AnonVma, smp=smp)
    cache = m.cache("anon_vma")
    assert (cache.objsize, cache.per_slab) == (size, packed)
    areas_before, used_before = m.mem.vma_cache.objects, cache.objects
    m.family(9, 30)
    assert cache.objects - used_before == 1 and m.mem.vma_cache.objects - areas_before == 10
    per_area = m.mem.scheme.configure(m.mem.machine, {}).vma - 8  # 8 are the priority search tree's
    assert per_area == 12
    # The dearest case: every area in one process with an object of its own.
    mm = m.new_mm()
    for k in range(20):
        m.mmap(mm, 1, RW, ANON, AT + (k << 16))
        m.store(mm, AT + (k << 16), 1)
    assert cache.objects - used_before == 21
    assert per_area + cache.objsize <= (24 if smp else 20)


@pytest.mark.parametrize("kind", [AnonMm, AnonMmChained])
@pytest.mark.parametrize(("smp", "size", "packed"), [(False, 20, 185), (True, 24, 156)])
def test_anonmms(kind: type, smp: bool, size: int, packed: int) -> None:
    """One per address space, however many areas and pages; the dead one of a parent stays while its pages live."""
    m = Counted(kind, smp=smp)
    cache = m.cache("anonmm")
    assert (cache.objsize, cache.per_slab) == (size, packed)
    mms = m.family(9, 30)
    for mm in mms:
        for k in range(5):
            m.mmap(mm, 1, RW, ANON, AT + 0x100000 + (k << 16))
            m.store(mm, AT + 0x100000 + (k << 16), 1)
    assert cache.objects == 10 and cache.allocations == 10
    m.exit(mms[0])
    assert cache.objects == 10  # the pages that the children inherited name it
    for mm in mms[1:-1]:
        m.exit(mm)
    assert cache.objects == 2
    for k in range(30):
        m.mem.rmap.page_referenced(m.pfn(mms[-1], k))
    assert cache.objects == 2, "its pages have moved to the survivor, but a head stays for its family"
    m.exit(mms[-1])
    assert cache.objects == 0
    m.audit()


@pytest.mark.parametrize("moves", [1, 6, 7, 13, 14])
def test_address_chains(moves: int) -> None:
    """32-byte nodes of seven slots, the first of a chain's holding the count: k odd addresses take ceil((k + 1) / 7)
    nodes per page."""
    from mmcore.calls.mremap import do_mremap

    pages = 3
    m = Counted(AnonMmChained)
    parent, *children = m.family(moves + 1, pages)
    for i, child in enumerate(children[:moves]):
        do_mremap(m.mem, child, AT, pages << 12, pages << 12, 3, AT + (i + 1 << 20))
    cache = m.cache("rmap_chain")
    spare = len(m.mem.scheme._spare)
    assert cache.objsize == 32 and spare <= 1
    assert cache.objects - spare == pages * -(-(moves + 1) // SLOTS)
    assert m.mem.meters.mremap_copies == 0
    m.audit()
    looked = m.referenced(m.pfn(parent, 0))
    assert looked["hits"] == moves + 2 and looked["mms_visited"] <= moves + 2


# --- walks


def private_pages(m: Counted, children: int) -> tuple[list[Any], int, int]:
    """A parent of two pages; every child has written the first: (family, the oldest child's own frame, the frame of the
    page all share)."""
    mms = m.family(children, 2)
    for mm in mms[1:]:
        m.store(mm, AT, 7)
    return mms, m.pfn(mms[1], 0), m.pfn(mms[0], 1)


@pytest.mark.parametrize("children", [1, 5, 20])
def test_walk_lengths(children: int) -> None:
    """A private page of the oldest child / a page shared by all: pte_chain 1 / n + 1 entries; anon_vma n of its list's
    n + 1 areas (newest first) / n + 1; anonmm 1 (the page names its address space) / n + 1."""
    expected = {
        PteChain: (1, children + 1, "candidates"),
        PartialObjrmap: (1, children + 1, "candidates"),
        AnonVma: (children, children + 1, "vmas_visited"),
        AnonMm: (1, children + 1, "mms_visited"),
        AnonMmChained: (1, children + 1, "mms_visited"),
    }
    for scheme, (private, shared, meter) in expected.items():
        m = Counted(scheme)
        _, own, common = private_pages(m, children)
        looked = m.referenced(own)
        assert looked[meter] == private and looked["hits"] == 1, scheme
        looked = m.referenced(common)
        assert looked[meter] == shared and looked["hits"] == shared, scheme
        assert m.mem.meters.longest_walk == max(private, shared)
        assert sum(m.mem.rmap.walk_lengths.counts) == 2


@pytest.mark.parametrize("children", [3, 12])
def test_anonmm_asks_the_family_for_an_inherited_page_that_one_has_left(children: int) -> None:
    """The page names its first owner; that one and all but the youngest have copies of their own: everybody is asked
    before it is found."""
    m = Counted(AnonMm)
    mms = m.family(children, 1)
    frame = m.pfn(mms[-1], 0)
    for mm in mms[:-1]:
        m.store(mm, AT, 9)
    looked = m.referenced(frame)
    assert (looked["mms_visited"], looked["hits"], looked["misses"]) == (children + 1, 1, children)


@pytest.mark.parametrize("pieces", [1, 9, 33])
def test_anon_vma_passes_split_pieces_by_arithmetic(pieces: int) -> None:
    """An area cut into pieces: the walk looks at every piece and probes only the one that covers the page."""
    m = Counted(AnonVma, memory=16 << 20)
    pages = 2 * pieces
    (mm,) = m.family(0, pages)
    for k in range(0, pages, 2):
        do_mprotect(m.mem, mm, AT + (k << 12), 4096, PROT_READ)
    cut = len(mm.vmas)
    assert cut == pages
    looked = m.referenced(m.pfn(mm, 0))  # the lowest piece; the split-off halves stand before it
    assert looked["candidates"] == looked["ptes_probed"] == 1 and 1 <= looked["vmas_visited"] <= cut
    total = sum(m.referenced(m.pfn(mm, k))["vmas_visited"] for k in range(pages))
    assert total == cut * (cut + 1) // 2, "every place in the list once"


@pytest.mark.parametrize("processes", [1, 4, 11])
@pytest.mark.parametrize(("index", "nodes"), [("list", lambda n, w: n * w), ("prio_tree", None)])
def test_file_walks(index: str, nodes: Any, processes: int) -> None:
    """One file, w windows of two pages in each of n processes. The list shows all n x w areas for a page, the tree one
    node for like areas and no more than its depth; both offer n."""
    windows = 16
    m = Counted(PartialObjrmap, i_mmap=index)
    file = tmpfs_file(m.mem, 2 * windows)
    for _ in range(processes):
        mm = m.new_mm()
        for w in range(windows):
            at = AT + ((windows - w) << 16)
            m.mmap(mm, 2, RW, SHARED, at, file, 2 * w)
            m.store(mm, at, w)
    pfn = file.mapping.pages[2 * windows - 2]  # the list's last area is one of those that map it
    looked = m.referenced(pfn)
    assert looked["file_hits"] == looked["file_candidates"] == processes and looked["walks"] == 0
    if nodes is not None:
        assert looked["file_nodes"] == nodes(processes, windows)
        assert m.mem.meters.file_longest_walk == processes * windows
    else:
        assert looked["file_nodes"] <= 2 * windows.bit_length() + 1
        tree = file.mapping.i_mmap
        in_tree = sum(1 for vma in tree if vma.shared.in_tree)
        assert in_tree == windows and len(tree) == processes * windows


def test_work_of_a_fork() -> None:
    """Links per fork: chains one per page, anon_vma one per area that has anonymous pages, anonmm one. (The first node
    was in the stash already.)"""
    for scheme, links, allocations in (
        (PteChain, 30, 29),
        (PartialObjrmap, 30, 29),
        (AnonVma, 1, 0),
        (AnonMm, 1, 1),
        (AnonMmChained, 1, 1),
    ):
        m = Counted(scheme)
        (parent,) = m.family(0, 30)
        m.mmap(parent, 10, RW, ANON, AT + 0x100000)  # untouched
        m.fork(parent)
        meters = m.mem.meters
        assert (meters.forks, meters.fork_ptes, meters.fork_links, meters.fork_allocations) == (
            1,
            30,
            links,
            allocations,
        ), scheme
