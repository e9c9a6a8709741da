"""anon_vma_chain: every fork gives an area an anon_vma of its own, and chains it to those of its ancestors.

Origin      Rik van Riel, 2010; merged in 2.6.34. Interval tree: Michel Lespinasse, 3.7. Reuse of empty generations:
            Konstantin Khlebnikov, 4.0; Jann Horn, 2022
Idea        a page that a child wrote lies in the child's own anon_vma, where no relatives are looked for; a page that
            all still share lies in the ancestor's, which lists every descendant. A link object between an area and an
            anon_vma stands on two lists.

    page.mapping --> anon_vma (root) <--avc--+-- area (parent), chain: root
                                     <--avc--+-- area (child),  chain: own, root
                     anon_vma (own)  <--avc-/

    walk: the areas that the page's anon_vma links; address = vm_start + (index - vm_pgoff) pages; inside? probe.
          2.6.34 looks at all of them, 3.7 at those that cover the index

Homes       a fresh or exclusive page: the area's own anon_vma. A page others may still refer to (swapped in): the root,
            which has them all, while any other could die first. A write that finds a page exclusive moves it to the
            area's own.
Eras        2.6.34  list, parent before child
            3.7     interval tree of [first, last] page
            4.0     a fork may reuse an ancestor whose degree (children + areas that are at home in it) is below 2
            2022    ... that has fewer than 2 children and no area: degree could not tell an area from a child
            From 4.0 on remap_file_pages makes ordinary areas.
            4.0's degree lets two areas of one process be at home in one anon_vma with unlike chains. As released they
            merged, one chain went, and a page whose home was in it was found no more: option `flaws` shows that.
            Without it they stay apart.
Structures  bytes on i386, UP / SMP: anon_vma 8/12, 24/28, 32/36, 48/52; anon_vma_chain 24, 32, 32, 32; in
            vm_area_struct 12 (list head, pointer)
Cost        fork: depth + 1 links per area with anonymous pages and one anon_vma. Walk: 1 area for a page that a child
            wrote, all descendants for the parent's.

Linux: mm/rmap.c, mm/mmap.c, 2.6.34, 3.7, 4.0, 6.1. Which areas merge is 2.6.34's rule in every era; 3.0 began to refuse
areas cloned from a parent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from mmcore.rmap import (
    FORK,
    OK,
    SPLIT,
    STOP,
    Card,
    Draft,
    IntervalNode,
    IntervalTree,
    InvariantViolation,
    MachineFacts,
    OutOfMemory,
    Picture,
    PluginError,
    Purpose,
    SchemeEnv,
    Setup,
    VmArea,
    Walk,
    WalkScheme,
    growing,
    showing,
)
from rmap_plugins.anon_vma import alike_neighbours

if TYPE_CHECKING:
    import numpy as np


_VMA_BASE = 64  # vm_area_struct without any reverse mapping
_NEVER, _DEGREE, _COUNTS = range(3)  # when a fork may reuse an ancestor's anon_vma


@dataclass(frozen=True)
class _Era:
    # Bytes, UP and SMP; a slab of 2022 shows 4 more on SMP, for a free pointer that RCU and the constructor keep
    # outside the object.
    anon_vma: tuple[int, int]
    avc: int  # bytes
    vm_area_struct: tuple[int, int]  # bytes of the release's whole structure, 2-level and PAE
    address_space: int  # bytes beside two lists: i_mmap, i_mmap_writable and the list of nonlinear areas
    tree: bool
    reuse: int
    nonlinear: bool  # remap_file_pages makes nonlinear areas


_ERAS = {
    "2.6.34": _Era((8, 12), 24, (84, 84), 4, False, _NEVER, True),
    "3.7": _Era((24, 28), 32, (88, 88), 0, True, _NEVER, True),
    "4.0": _Era((32, 36), 32, (92, 92), 0, True, _DEGREE, False),
    "2022": _Era((48, 52), 32, (72, 80), 4, True, _COUNTS, False),
}


def _era(options: dict[str, Any]) -> _Era:
    name = options.get("era", "2022")
    era = _ERAS.get(name)
    if era is None:
        raise PluginError(f"anon_vma_chain: era = {name!r} is not one of {', '.join(map(repr, _ERAS))}")
    return era


class _Avc(IntervalNode):
    """struct anon_vma_chain: one area's link to one anon_vma. Its keys are the area's pages when it was linked."""

    __slots__ = ("address", "vma", "anon_vma")

    def __init__(self, address: int, vma: VmArea, anon_vma: _AnonVma, first: int, last: int) -> None:
        """HOT: the other fields of the node are the tree's to set."""
        self.start = first
        self.last = last
        self.address = address
        self.vma = vma
        self.anon_vma = anon_vma


class _LinkTree(IntervalTree[_Avc]):
    """3.7: the areas of an anon_vma by the pages they show."""

    __slots__ = ()

    def rekey(self, avc: _Avc, first: int, last: int) -> None:
        self.remove(avc)
        avc.start, avc.last = first, last
        self.insert(avc)


class _LinkList:
    """2.6.34: the areas of an anon_vma in the order they came; a query looks at all of them."""

    __slots__ = ("_links",)
    visited = 0  # tree nodes: there are none

    def __init__(self) -> None:
        self._links: dict[_Avc, None] = {}

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[_Avc]:
        return iter(self._links)

    def insert(self, avc: _Avc) -> None:
        self._links[avc] = None

    def remove(self, avc: _Avc) -> None:
        del self._links[avc]

    def rekey(self, avc: _Avc, first: int, last: int) -> None:
        avc.start, avc.last = first, last

    def overlapping(self, first: int, last: int) -> Iterator[_Avc]:
        return iter(self._links)

    def check(self) -> list[str]:
        return []


class _AnonVma:
    """struct anon_vma. `children`: anon_vmas whose parent this is, a root its own among them; `active`: areas that
    put their pages here; 4.0 kept only the sum, its degree. `refcount`: a root's living descendants, and 1."""

    __slots__ = ("address", "links", "root", "parent", "refcount", "children", "active")

    def __init__(self, address: int, links: _LinkTree | _LinkList, parent: _AnonVma | None) -> None:
        self.address = address
        self.links = links
        self.parent = parent or self
        self.root: _AnonVma = parent.root if parent is not None else self
        self.refcount = 1
        self.children = self.active = 0


class AnonVmaChain(WalkScheme):
    """An area has its own anon_vma in `vma.anon_vma` and its links in `vma.rmap`, oldest (root) first: the kernel's
    list read from its end."""

    card = Card(
        name="anon_vma_chain",
        title="object-based, an anon_vma per process and area (Rik van Riel)",
        kernels="2.6.34 and later",
        origin="Rik van Riel, 2010-01 (2.6.34); Michel Lespinasse's interval tree (3.7); Konstantin Khlebnikov "
        "(4.0); Jann Horn (2022)",
        complexity="fork O(areas x depth); walk O(log n + areas that cover the page in its anon_vma): 1 for a page a "
        "child wrote; no cost per page",
        structures=(
            ("anon_vma", "8 / 24 / 32 / 48 UP", "2.6.34 / 3.7 / 4.0 / 2022; 4 more on SMP"),
            ("anon_vma_chain", "24, from 3.7 32", "area, anon_vma, list nodes; from 3.7 a tree node"),
            ("vm_area_struct", "+12", "anon_vma_chain, anon_vma"),
            ("vm_area_struct", "+8", "priority search tree or interval tree node instead of a list node"),
            ("page", "+4", "mapcount"),
            (
                "address_space",
                "+4, 3.7 and 4.0 +0",
                "root of the tree, count of writers and list of nonlinear areas instead of two lists",
            ),
        ),
        options={
            "era": (
                "2022",
                "2.6.34 (lists), 3.7 (interval trees), 4.0 (reuse by degree) or 2022 (reuse by children and areas)",
            ),
            "flaws": (
                False,
                "4.0 as it was released: areas with unlike chains merge, and pages of one chain are found no more "
                "(mended in 2022)",
            ),
        },
        references=(
            "LWN 383162",
            "Linux 5beb49305251",
            "Linux bf181b9f9d8d",
            "Linux 7a3ef208e662",
            "Linux 2555283eb40d",
        ),
    )

    @classmethod
    def configure(cls, machine: MachineFacts, options: dict[str, Any]) -> Setup:
        era, flaws = _era(options), options.get("flaws", False)
        if flaws and era.reuse != _DEGREE:
            raise PluginError(
                "anon_vma_chain: flaws = true goes with era 4.0: earlier ones reuse no anon_vma, 2022 mended it"
            )
        vma = 12 + 8
        if machine.accounting == "historic":
            vma = era.vm_area_struct[machine.paging == "pae"] - _VMA_BASE
        return Setup(
            page=4,
            vma=vma,
            address_space=era.address_space,
            file_index="interval_tree" if era.tree else "prio_tree",
            nonlinear_areas=era.nonlinear,
            incomplete="4.0's merge of areas with unlike chains drops one chain" if flaws else "",
        )

    def __init__(self, env: SchemeEnv, options: dict[str, Any]) -> None:
        super().__init__(env, options)
        era = self._era = _era(options)
        self._flawed = options.get("flaws", False)
        self._unlike = (
            era.reuse == _DEGREE and not self._flawed
        )  # areas at home in one anon_vma may have unlike chains, and must not merge then
        self._cache = env.cache("anon_vma", era.anon_vma[env.machine.smp])
        self._avc_cache = env.cache("anon_vma_chain", era.avc)
        self._links: type[_LinkTree] | type[_LinkList] = _LinkTree if era.tree else _LinkList
        self._objects: dict[int, _AnonVma] = {}
        self._flags, self._mapping, self._index, self._mapcount = (
            env.frames.flags,
            env.frames.mapping,
            env.frames.index,
            env.frames.mapcount,
        )
        self._meters = env.meters

    # --- anon_vma_prepare

    def reserve(self, operation: str, vma: VmArea, pfns: np.ndarray | None = None) -> None:
        """anon_vma_prepare: the area gets its anon_vma before its first anonymous page."""
        if vma.anon_vma is None and operation == "anon_fault":
            address = self._avc_cache.alloc()
            anon_vma = self._find_mergeable(vma)
            if anon_vma is None:
                try:
                    anon_vma = self._new(self._cache.alloc(), None)
                except OutOfMemory:
                    self._avc_cache.free(address)
                    raise
                anon_vma.children = 1  # a root is its own parent
            self._meters.allocations += 1
            vma.rmap = []
            self._link(vma, address, anon_vma)
            vma.anon_vma = anon_vma
            anon_vma.active += 1

    @staticmethod
    def _find_mergeable(vma: VmArea) -> _AnonVma | None:
        """A touching neighbour's anon_vma, if it is the neighbour's only one, so that both have the same chain."""
        for other in alike_neighbours(vma):
            if other.anon_vma is not None and len(other.rmap) == 1:
                return other.anon_vma
        return None

    def _new(self, address: int, parent: _AnonVma | None) -> _AnonVma:
        anon_vma = self._objects[address] = _AnonVma(address, self._links(), parent)
        self._meters.allocations += 1
        return anon_vma

    def _link(self, vma: VmArea, address: int, anon_vma: _AnonVma) -> None:
        first = vma.vm_pgoff
        avc = _Avc(address, vma, anon_vma, first, first + (vma.vm_end - vma.vm_start >> 12) - 1)
        vma.rmap.append(avc)
        anon_vma.links.insert(avc)
        self._meters.links += 1

    # --- pages

    def add_anon(self, pfn: int, vma: VmArea, address: int, pte: int, exclusive: bool, token: None) -> int:
        index = (address - vma.vm_start >> 12) + vma.vm_pgoff & 0xFFFFFFFF
        own = vma.anon_vma
        if exclusive:
            self._mapping[pfn] = own.address
            self._index[pfn] = index
        elif self._mapcount[pfn] == 0:
            self._mapping[pfn] = own.root.address
            self._index[pfn] = index
        else:
            home = self._objects.get(self._mapping[pfn])
            if self._index[pfn] != index or ((home is None or home.root is not own.root) and not self._flawed):
                raise InvariantViolation(
                    f"a shared anonymous page is mapped at another index or by no relative ({index:#x}, root "
                    f"{own.root.address:#x}): " + self.env.frames.describe(pfn)
                )
        return OK

    def reused(self, pfn: int, vma: VmArea, address: int) -> None:
        """page_move_anon_rmap: nobody else has the page, so the relatives need not be searched for it."""
        self._mapping[pfn] = vma.anon_vma.address

    # --- areas

    def vma_copied(self, dst: VmArea, src: VmArea, how: str) -> None:
        """anon_vma_clone, oldest link first, so that the copy has the order of its original; for a fork also
        anon_vma_fork: an anon_vma of its own."""
        if src.anon_vma is None:
            return
        own = self._reusable(src) if how == FORK else src.anon_vma
        caches, meters = self._avc_cache, self._meters
        n = len(src.rmap) + (own is None)
        addresses = [caches.alloc()] if n == 1 else caches.alloc_bulk(n)
        if own is None:
            try:
                own = self._new(self._cache.alloc(), src.anon_vma)
            except OutOfMemory:
                for address in addresses:
                    caches.free(address)
                raise
            own.parent.children += 1
            own.root.refcount += 1
        meters.allocations += n
        meters.links += n
        first = dst.vm_pgoff
        last = first + (dst.vm_end - dst.vm_start >> 12) - 1
        chain: list[_Avc] = []
        for address, avc in zip(addresses, src.rmap):
            anon_vma: _AnonVma = avc.anon_vma
            link = _Avc(address, dst, anon_vma, first, last)
            chain.append(link)
            anon_vma.links.insert(link)
        if len(chain) < n:
            link = _Avc(addresses[-1], dst, own, first, last)
            chain.append(link)
            own.links.insert(link)
        dst.rmap = chain
        dst.anon_vma = own
        own.active += 1

    def _reusable(self, src: VmArea) -> _AnonVma | None:
        """The oldest ancestor that a child of `src` may be at home in, instead of having an anon_vma made."""
        reuse = self._era.reuse
        if reuse == _COUNTS:
            for avc in src.rmap:
                anon_vma: _AnonVma = avc.anon_vma
                if anon_vma.children < 2 and anon_vma.active == 0:
                    return anon_vma
        elif reuse == _DEGREE:
            for avc in src.rmap:
                anon_vma = avc.anon_vma
                if anon_vma is not src.anon_vma and anon_vma.children + anon_vma.active < 2:
                    return anon_vma
        return None

    def move_pgoff(self, src: VmArea, old_address: int, new_address: int) -> int:
        """Kept, so that page.index stays right; an area without anonymous pages starts afresh, to merge the better."""
        if src.anon_vma is None:
            return new_address >> 12
        return src.vm_pgoff + (old_address - src.vm_start >> 12)

    def vma_unlinked(self, vma: VmArea, into: VmArea | None) -> None:
        """unlink_anon_vmas, newest link first. Emptied anon_vmas go when all links are gone, so that a root goes last.
        After a merge both areas have the same links (vma_adjust_begin saw to it), and one set goes."""
        own = vma.anon_vma
        if own is None:
            return
        empty: list[_AnonVma] = []
        free = self._avc_cache.free
        for avc in reversed(vma.rmap):
            anon_vma: _AnonVma = avc.anon_vma
            anon_vma.links.remove(avc)
            if not anon_vma.links:
                anon_vma.parent.children -= 1
                empty.append(anon_vma)
            free(avc.address)
        vma.rmap = vma.anon_vma = None
        own.active -= 1
        for anon_vma in empty:
            self._put(anon_vma)

    def _put(self, anon_vma: _AnonVma) -> None:
        anon_vma.refcount -= 1
        if anon_vma.refcount:
            return
        del self._objects[anon_vma.address]
        self._cache.free(anon_vma.address)
        if anon_vma.root is not anon_vma:
            self._put(anon_vma.root)

    def vma_adjust_begin(self, vma: VmArea, start: int, end: int, nxt: VmArea | None) -> tuple[VmArea, VmArea | None]:
        """A boundary slides between two areas, or one swallows the other: the area that grows needs the links of the
        one that shrinks."""
        if nxt is not None:
            if end > vma.vm_end:
                if vma.anon_vma is None:
                    self.vma_copied(vma, nxt, SPLIT)
            elif nxt.anon_vma is None:
                self.vma_copied(nxt, vma, SPLIT)
        return vma, nxt

    def vma_adjust_end(self, token: tuple[VmArea, VmArea | None]) -> None:
        """The links of an area whose pages changed move in their trees. They carry their own keys, so this is soon
        enough: nobody walks in between, but a split may allocate, and reclaim must find the pages then."""
        for vma in token:
            if vma is not None and vma.rmap:
                first = vma.vm_pgoff
                last = first + (vma.vm_end - vma.vm_start >> 12) - 1
                avc = vma.rmap[0]
                if avc.start != first or avc.last != last:
                    for avc in vma.rmap:
                        avc.anon_vma.links.rekey(avc, first, last)

    def can_merge(self, a: VmArea, b: VmArea) -> bool:
        """Two that are at home in different anon_vmas stay apart; so do two with different chains, where an era lets
        them share their home."""
        if a.anon_vma is None or b.anon_vma is None:
            return True
        if a.anon_vma is not b.anon_vma:
            return False
        return not self._unlike or [avc.anon_vma for avc in a.rmap] == [avc.anon_vma for avc in b.rmap]

    # --- the walk

    def walk(self, walk: Walk) -> None:
        anon_vma = self._objects.get(self._mapping[walk.pfn])
        if anon_vma is None:
            return
        index = self._index[walk.pfn]
        links = anon_vma.links
        visited, seen = links.visited, 0
        found = links.overlapping(index, index)
        for avc in islice(found, walk.many):
            seen += 1
            vma = avc.vma
            start = vma.vm_start
            address = start + (index - vma.vm_pgoff << 12)
            if start <= address < vma.vm_end and walk.visit(vma.vm_mm, address, vma) & STOP:
                break
        else:
            if len(links) > seen:
                seen += self._walk_on(walk, index, links, found)
        if walk.purpose != Purpose.AUDIT:
            self._meters.vmas_visited += seen
            self._meters.nodes += links.visited - visited

    @staticmethod
    def _walk_on(walk: Walk, index: int, links: _LinkTree | _LinkList, found: Iterator[_Avc]) -> int:
        """A long walk goes on in arrays: how many more areas it looked at. Nodes of the tree that were passed in vain
        do not count as visited."""
        seen = 0
        for part in growing(((avc.vma, links.visited) for avc in found), walk.many):
            areas = [vma for vma, _ in part]
            at, addresses = showing(areas, index)
            vmas = [areas[i] for i in at.tolist()]
            offered = walk.visit_many([vma.vm_mm for vma in vmas], addresses[at], vmas)
            if offered.stop:
                last = int(at[offered.looked_at - 1])
                if isinstance(links, _LinkTree):
                    links.visited = part[last][1]
                return seen + last + 1
            seen += len(part)
        return seen

    # --- invariants

    def check(self) -> list[str]:
        wrong: list[str] = []
        links = sum(len(anon_vma.links) for anon_vma in self._objects.values())
        for name, known, cache in (
            ("anon_vma", len(self._objects), self._cache),
            ("anon_vma_chain", links, self._avc_cache),
        ):
            if known != cache.objects:
                wrong.append(f"{name}: {known} objects known, {cache.objects} in the cache")
        listed = {avc for anon_vma in self._objects.values() for avc in anon_vma.links}
        active: dict[_AnonVma, list[VmArea]] = {}
        chained = 0
        for mm in self.env.mms.values():
            for vma in mm.vmas:
                chained += len(vma.rmap or ())
                wrong += self._check_area(vma, listed)
                if vma.anon_vma is not None:
                    active.setdefault(vma.anon_vma, []).append(vma)
        if chained != links and not wrong:
            wrong.append(f"anon_vma_chain: {links} links lead to areas, {chained} lead from them")
        children: dict[_AnonVma, int] = {}
        family: dict[_AnonVma, int] = {}
        for anon_vma in self._objects.values():
            children[anon_vma.parent] = children.get(anon_vma.parent, 0) + 1
            family[anon_vma.root] = family.get(anon_vma.root, 0) + 1
        for address, anon_vma in self._objects.items():
            where = f"anon_vma {address:#x}"
            if not len(anon_vma.links):
                wrong.append(f"{where} has no area")
            wrong += [f"{where}: {text}" for text in anon_vma.links.check()]
            areas = active.get(anon_vma, [])
            if (anon_vma.children, anon_vma.active) != (children.get(anon_vma, 0), len(areas)):
                wrong.append(
                    f"{where} counts {anon_vma.children} children and {anon_vma.active} areas, there are "
                    f"{children.get(anon_vma, 0)} and {len(areas)}"
                )
            if anon_vma.refcount != family.get(anon_vma, 1):
                wrong.append(f"{where} has {anon_vma.refcount} references, there are {family.get(anon_vma, 1)}")
            if self._era.reuse != _DEGREE:  # 4.0's degree let unlike areas be at home in one anon_vma
                wrong += self._check_alike(where, areas)
        return wrong

    def _check_area(self, vma: VmArea, listed: set[_Avc]) -> list[str]:
        where = f"the area at {vma.vm_start:#x} of mm {vma.vm_mm.addr:#x}"
        own: _AnonVma | None = vma.anon_vma
        chain: list[_Avc] = vma.rmap or []
        if own is None:
            return [f"{where} has links, but no anon_vma"] if chain else []
        wrong = []
        keys = vma.vm_pgoff, vma.vm_pgoff + (vma.vm_end - vma.vm_start >> 12) - 1
        for avc in chain:
            if (
                avc.vma is not vma
                or avc.anon_vma.root is not own.root
                or self._objects.get(avc.anon_vma.address) is not avc.anon_vma
            ):
                wrong.append(f"{where} has a link that leads elsewhere")
            elif avc not in listed:
                wrong.append(f"anon_vma {avc.anon_vma.address:#x} does not list {where}")
            if (avc.start, avc.last) != keys:
                wrong.append(
                    f"{where} has a link for pages {avc.start:#x} to {avc.last:#x}, it shows {keys[0]:#x} to "
                    f"{keys[1]:#x}"
                )
        if not any(avc.anon_vma is own for avc in chain):
            wrong.append(f"{where} is at home in anon_vma {own.address:#x}, but not linked to it")
        if chain and chain[0].anon_vma is not own.root:
            wrong.append(f"{where} has a chain that does not begin with its root")
        return wrong

    @staticmethod
    def _check_alike(where: str, areas: list[VmArea]) -> list[str]:
        """Areas of one process that could merge must have the same chain, or a merge would lose pages."""
        first: dict[int, list[_AnonVma]] = {}
        wrong = []
        for vma in areas:
            chain = [avc.anon_vma for avc in vma.rmap or ()]
            if first.setdefault(vma.vm_mm.addr, chain) != chain:
                wrong.append(
                    f"{where}: the areas of mm {vma.vm_mm.addr:#x} that are at home in it have different chains"
                )
        return wrong

    def picture(self, pfn: int) -> Picture:
        """frame -> its anon_vma -> the links that a walk looks at -> area -> the PTE that each is asked for."""
        draft = Draft(self.env, pfn)
        home = self._objects.get(self._mapping[pfn])
        if home is None:
            return draft.picture
        index, n = self._index[pfn], len(home.links)
        parent = "a root" if home.root is home else f"under {home.parent.address:08x}"
        what = f"{parent}, {n} link{'' if n == 1 else 's'}; index {index:#x}"
        top = draft.add("anon_vma", home.address, self._cache.objsize, what, edge="mapping")
        visited = home.links.visited
        covering = list(home.links.overlapping(index, index))
        if isinstance(home.links, _LinkTree):
            home.links.visited = visited  # a picture meters nothing
        for avc in covering:
            vma = avc.vma
            link = draft.add("avc", avc.address, self._avc_cache.objsize, f"pages {avc.start:#x}-{avc.last:#x}", top)
            address = vma.vm_start + (index - vma.vm_pgoff << 12)
            shows = vma.vm_start <= address < vma.vm_end
            area = draft.area(vma, link, shows=shows)
            if shows:
                draft.pte(vma.vm_mm, address, area)
        return draft.picture
