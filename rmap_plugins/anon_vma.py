"""anon_vma: an anonymous page leads to an object that lists every area that may map it.

Origin      Andrea Arcangeli, March 2004; merged in 2.6.7 with Hugh Dickins' rmap-39 and rmap-40
Idea        page -> anon_vma -> areas. Fork and split put the new area on the list of the old one; an area's vm_pgoff
            survives mremap, so that (page.index - vm_pgoff) gives the page's address in every area of the list, moved
            or not. File pages go through the file's priority search tree.

    page.mapping --> anon_vma <--- vma.anon_vma          walk: for each area of the list, newest first:
    page.index        head --> vma(child) --> vma(parent)      address = vm_start + (index - vm_pgoff) pages
                                                               inside the area? probe the PTE

Structures  anon_vma 8 bytes (UP) or 12 (SMP); in vm_area_struct 12 bytes (list node, pointer) and 8 for the priority
            search tree
Eras        2.6.7 (merged 2004-05-22; its mprotect forgot the anon_vma of pages under a sliding boundary until
            2004-06-20: option `flaws` shows that);
            2.6.9, whose page.mapping carries the bit PAGE_MAPPING_ANON in place of a page flag and whose locks no
            longer give up. Same structures.
Cost        fork: one list insertion per area. Walk: every area on the list, cheap where the index falls outside, one
            page-table probe where not.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from mmcore.rmap import (
    OK,
    STOP,
    Card,
    Columns,
    Draft,
    InvariantViolation,
    MachineFacts,
    Order,
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

if TYPE_CHECKING:
    import numpy as np


_VM_PROT = 7  # read, write, exec: the bits mprotect alone may change back


def alike_neighbours(vma: VmArea) -> Iterator[VmArea]:
    """The touching neighbours that would merge with the area but for their access rights (which mprotect may change
    back): next first, then previous. Linux: find_mergeable_anon_vma, mm/mmap.c, 2.6.7."""
    before, after = vma.vm_mm.neighbours(vma)
    for lower, upper, other in ((vma, after, after), (before, vma, before)):
        if lower is None or upper is None or other is None:
            continue
        if (
            lower.vm_end == upper.vm_start
            and (lower.vm_flags ^ upper.vm_flags) & ~_VM_PROT == 0
            and lower.vm_file is upper.vm_file
            and lower.vm_pgoff + (lower.vm_end - lower.vm_start >> 12) == upper.vm_pgoff
        ):
            yield other


class _AnonVma:
    """struct anon_vma: `areas` is insertion-ordered; the list's head is the last one (2.6.7 adds at the head).
    `word` is what page.mapping holds."""

    __slots__ = ("address", "word", "areas", "order")

    def __init__(self, address: int, word: int) -> None:
        self.address = address
        self.word = word
        self.areas: dict[VmArea, None] = {}
        self.order = Order()


class AnonVma(WalkScheme):
    card = Card(
        name="anon_vma",
        title="object-based, per area (Andrea Arcangeli)",
        kernels="2.6.7 - 2.6.33",
        origin="Andrea Arcangeli, anon_vma RFC 2004-03-11; Hugh Dickins, rmap 39 and 40, 2004-05-18",
        complexity="fork O(areas); walk O(areas sharing the anon_vma), a page-table probe for each that covers the "
        "page; no cost per page",
        structures=(
            ("anon_vma", "8 UP, 12 SMP", "spinlock and list head"),
            ("vm_area_struct", "+12", "anon_vma_node, anon_vma"),
            ("vm_area_struct", "+8", "priority search tree node instead of a list node"),
            ("page", "+4", "mapcount"),
            (
                "address_space",
                "+4",
                "root of the tree, count of writers and list of nonlinear areas instead of two lists",
            ),
        ),
        options={
            "sharing": (
                True,
                "rmap-40: a new area adopts the anon_vma of a neighbour it could merge with after mprotect",
            ),
            "era": ("2.6.7", "2.6.7, or 2.6.9 (PAGE_MAPPING_ANON)"),
            "flaws": (
                False,
                "2.6.7 as it was released: an area that grows over anonymous pages does not take their anon_vma",
            ),
        },
        references=("LKML 2004-03-11 anon_vma RFC2", "LKML 2004-05-18 rmap 39, rmap 40", "LWN 77106"),
    )

    @classmethod
    def configure(cls, machine: MachineFacts, options: dict[str, Any]) -> Setup:
        era, flaws = options.get("era", "2.6.7"), options.get("flaws", False)
        if era not in ("2.6.7", "2.6.9"):
            raise PluginError(f"anon_vma: era = {era!r} is not 2.6.7 or 2.6.9")
        if flaws and era != "2.6.7":
            raise PluginError("anon_vma: flaws = true goes with era 2.6.7: it was mended by 2.6.9")
        # 2.6.7 is the base kernel: historic accounting is the same. i_mmap, i_mmap_writable, i_mmap_nonlinear take 20
        # bytes, two lists took 16.
        incomplete = "2.6.7's mprotect forgets the anon_vma of an area that grows" if flaws else ""
        return Setup(page=4, vma=12 + 8, address_space=4, incomplete=incomplete)

    def __init__(self, env: SchemeEnv, options: dict[str, Any]) -> None:
        super().__init__(env, options)
        self._cache = env.cache("anon_vma", 12 if env.machine.smp else 8)
        self._objects: dict[int, _AnonVma] = {}
        self._sharing = options.get("sharing", True)
        self._tag = 1 if options.get("era", "2.6.7") == "2.6.9" else 0  # PAGE_MAPPING_ANON
        self._flawed = options.get("flaws", False)
        self._frames = env.frames
        self._flags, self._mapping, self._index = env.frames.flags, env.frames.mapping, env.frames.index
        self._meters = env.meters

    # --- anon_vma_prepare

    def reserve(self, operation: str, vma: VmArea, pfns: np.ndarray | None = None) -> None:
        """anon_vma_prepare: the area gets its anon_vma before its first anonymous page."""
        if vma.anon_vma is None and operation == "anon_fault":
            anon_vma = self._find_mergeable(vma) if self._sharing else None
            if anon_vma is None:
                address = self._cache.alloc()
                self._meters.allocations += 1
                anon_vma = _AnonVma(address, address | self._tag)
                self._objects[anon_vma.word] = anon_vma
            self._link(vma, anon_vma)

    def _link(self, vma: VmArea, anon_vma: _AnonVma) -> None:
        vma.anon_vma = anon_vma
        anon_vma.areas[vma] = None
        anon_vma.order.changed()
        self._meters.links += 1

    def _unlink(self, vma: VmArea) -> None:
        anon_vma = vma.anon_vma
        if anon_vma is None:
            return
        vma.anon_vma = None
        del anon_vma.areas[vma]
        anon_vma.order.changed()
        if not anon_vma.areas:
            # No page can point here: a mapped page implies an area on the list.
            del self._objects[anon_vma.word]
            self._cache.free(anon_vma.address)

    @staticmethod
    def _find_mergeable(vma: VmArea) -> _AnonVma | None:
        """A touching neighbour's anon_vma."""
        return next((other.anon_vma for other in alike_neighbours(vma) if other.anon_vma is not None), None)

    # --- pages

    def add_anon(self, pfn: int, vma: VmArea, address: int, pte: int, exclusive: bool, token: None) -> int:
        index = (address - vma.vm_start >> 12) + vma.vm_pgoff & 0xFFFFFFFF
        frames = self._frames
        if exclusive or frames.mapcount[pfn] == 0:
            self._mapping[pfn] = vma.anon_vma.word
            self._index[pfn] = index
        elif frames.index[pfn] != index or frames.mapping[pfn] != vma.anon_vma.word:
            raise InvariantViolation(
                f"a shared anonymous page is mapped at another index or anon_vma ({index:#x}, "
                f"{vma.anon_vma.address:#x}): " + frames.describe(pfn)
            )
        return OK

    # --- areas

    def vma_copied(self, dst: VmArea, src: VmArea, how: str) -> None:
        """Fork, split and move alike: the copy stands on the same list."""
        dst.anon_vma = None
        if src.anon_vma is not None:
            self._link(dst, src.anon_vma)

    def move_pgoff(self, src: VmArea, old_address: int, new_address: int) -> int:
        """Kept, so that page.index stays right; an area without anonymous pages starts afresh, to merge the better."""
        if src.anon_vma is None:
            return new_address >> 12
        return src.vm_pgoff + (old_address - src.vm_start >> 12)

    def vma_unlinked(self, vma: VmArea, into: VmArea | None) -> None:
        """__anon_vma_merge, at a merge: an area that has none (2.6.7 as released; later vma_adjust_begin saw to it)
        takes the other's, and its place on the list."""
        anon_vma = vma.anon_vma
        if into is not None and into.anon_vma is None and anon_vma is not None:
            self._link(into, anon_vma)
            anon_vma.areas = {into if area is vma else area: None for area in anon_vma.areas if area is not into}
            anon_vma.order.changed()
            vma.anon_vma = None
        self._unlink(vma)

    def vma_adjust_begin(self, vma: VmArea, start: int, end: int, nxt: VmArea | None) -> tuple[VmArea, VmArea | None]:
        """A boundary slides between two areas: the one that grows takes the anon_vma of the one that shrinks
        (2.6.7 forgot this; mended 2004-06-20)."""
        if nxt is None or self._flawed:
            return vma, nxt
        if end > vma.vm_end and vma.anon_vma is None and nxt.anon_vma is not None:
            self._link(vma, nxt.anon_vma)
        elif end < vma.vm_end and nxt.anon_vma is None and vma.anon_vma is not None:
            self._link(nxt, vma.anon_vma)
        return vma, nxt

    def vma_adjust_end(self, token: tuple[VmArea, VmArea | None]) -> None:
        for vma in token:
            if vma is not None and vma.anon_vma is not None:
                vma.anon_vma.order.changed()

    def can_merge(self, a: VmArea, b: VmArea) -> bool:
        return a.anon_vma is None or b.anon_vma is None or a.anon_vma is b.anon_vma

    # --- the walk

    def walk(self, walk: Walk) -> None:
        anon_vma = self._objects.get(self._mapping[walk.pfn])
        if anon_vma is None:
            return
        index, columns = self._index[walk.pfn], anon_vma.order.columns
        if columns is not None:
            seen = self._walk_columns(walk, index, columns)
        else:
            seen = self._walk_list(walk, index, anon_vma)
        if walk.purpose != Purpose.AUDIT:
            self._meters.vmas_visited += seen

    @staticmethod
    def _walk_list(walk: Walk, index: int, anon_vma: _AnonVma) -> int:
        """From the list's head on, one area after the other: how many were looked at."""
        areas = reversed(anon_vma.areas)
        seen = 0
        for vma in islice(areas, walk.many):
            seen += 1
            mm = vma.vm_mm
            if not mm.rss:
                continue
            start = vma.vm_start
            address = start + ((index - vma.vm_pgoff & 0xFFFFFFFF) << 12)
            if address < vma.vm_end and walk.visit(mm, address, vma) & STOP:
                return seen
        if len(anon_vma.areas) > seen:
            if anon_vma.order.worth_columns():
                columns = anon_vma.order.columns = Columns(list(reversed(anon_vma.areas)))
                return AnonVma._walk_columns(walk, index, columns, seen)
            seen += AnonVma._walk_on(walk, index, areas)
        return seen

    @staticmethod
    def _walk_columns(walk: Walk, index: int, columns: Columns, seen: int = 0) -> int:
        """A list that has not changed since the last walk, from its place `seen` on: how many were looked at."""
        for first, last in columns.parts(seen):
            part = walk.visit_columns(columns, index, first, last)
            seen += part.passed
            if part.stop:
                break
        return seen

    @staticmethod
    def _walk_on(walk: Walk, index: int, areas: Iterator[VmArea]) -> int:
        """A long walk goes on in arrays: how many more areas it looked at."""
        seen = 0
        for part in growing(areas, walk.many):
            positions, addresses = showing(part, index, wraps=True)
            at = positions.tolist()
            vmas = [part[i] for i in at]
            visited = walk.visit_many([vma.vm_mm for vma in vmas], addresses[at], vmas, skip_empty=True)
            if visited.stop:
                return seen + at[visited.looked_at - 1] + 1
            seen += len(part)
        return seen

    def check(self) -> list[str]:
        wrong = []
        if len(self._objects) != self._cache.objects:
            wrong.append(f"anon_vma: {len(self._objects)} objects known, {self._cache.objects} in the cache")
        for anon_vma in self._objects.values():
            if not anon_vma.areas:
                wrong.append(f"anon_vma {anon_vma.address:#x} has no area")
            for vma in anon_vma.areas:
                if vma.anon_vma is not anon_vma:
                    wrong.append(
                        f"anon_vma {anon_vma.address:#x} lists an area at {vma.vm_start:#x} that points elsewhere"
                    )
        for mm in self.env.mms.values():
            for vma in mm.vmas:
                if vma.anon_vma is not None and vma not in vma.anon_vma.areas:
                    wrong.append(
                        f"anon_vma {vma.anon_vma.address:#x} does not list the area at {vma.vm_start:#x} of mm "
                        f"{mm.addr:#x}"
                    )
        return wrong

    def picture(self, pfn: int) -> Picture:
        """frame -> anon_vma -> its areas in the order of a walk -> the PTE that each is asked for."""
        draft = Draft(self.env, pfn)
        anon_vma = self._objects.get(self._mapping[pfn])
        if anon_vma is None:
            return draft.picture
        index, n = self._index[pfn], len(anon_vma.areas)
        what = f"lists {n} area{'' if n == 1 else 's'}; index {index:#x}"
        top = draft.add("anon_vma", anon_vma.address, self._cache.objsize, what, edge="mapping")
        for vma in reversed(anon_vma.areas):
            page = index - vma.vm_pgoff & 0xFFFFFFFF
            area = draft.area(vma, top, shows=page < vma.pages)
            if page < vma.pages:
                draft.pte(vma.vm_mm, vma.vm_start + (page << 12), area)
        return draft.picture
