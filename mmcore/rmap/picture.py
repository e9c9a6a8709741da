"""A picture of reverse mapping: what leads from one frame to its PTEs at one moment, as the scheme keeps it.

    Picture = nodes and edges          frame --page.mapping--> anon_vma ----> vma ----> PTE
    Draft   = what a scheme draws with; it knows how frames, areas, address spaces and PTEs are shown

A picture is data: `sandbox.lab.picture` writes it as text, the auditor compares its PTEs with the page tables. Drawing
changes nothing and meters nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mmcore.areas.vma import linear_page_index
from mmcore.physical.frames import PG_ANON, PG_RESERVED
from mmcore.physical.pgtable import FILE, PRESENT, TASK_SIZE, W
from mmcore.physical.slab import PAGE_OFFSET
from mmcore.rmap.walk import MISS, Purpose, Walk

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.rmap.scheme import SchemeEnv

FRAME = 0  # the frame's place among the nodes
ROOT = -1  # as a parent: nothing leads to the node
NEXT = "next"  # an edge between members of one list: drawn side by side


@dataclass(frozen=True)
class Node:
    """One structure. `kind`: its name, as in "anon_vma"; `address`: the kernel's, 0 for what is not there;
    `size` in bytes; `label`: what its fields say; `mm`: kernel address of the address space it belongs to, or 0;
    `pte`: of a PTE that maps the frame its index in `env.pgtables.ptes`, else -1."""

    kind: str
    address: int
    size: int
    label: str = ""
    mm: int = 0
    pte: int = -1


@dataclass(frozen=True)
class Edge:
    """`source` leads to `target` (places among the nodes) by the field `label`."""

    source: int
    target: int
    label: str = ""


@dataclass
class Picture:
    """`nodes[FRAME]` is the frame. `note`: a sentence about what the drawing cannot say."""

    pfn: int
    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    note: str = ""

    def ptes(self) -> list[int]:
        """Indices of the PTEs that map the frame, in the order they are met."""
        return [node.pte for node in self.nodes if node.pte >= 0]


class Draft:
    """A picture under way; it begins with the frame. Each method adds one node, led to from `parent` (ROOT: from
    nowhere) by the field `edge`, and returns its place. `picture`: one to be added to."""

    def __init__(self, env: SchemeEnv, pfn: int, picture: Picture | None = None) -> None:
        self.env = env
        self.picture = picture or Picture(pfn)
        if picture is not None:
            return
        frames = env.frames
        flags, n = frames.flags[pfn], frames.mapcount[pfn]
        if flags & PG_RESERVED:
            what = "reserved: reverse mapping does not count it"
        else:
            kind = "anonymous" if flags & PG_ANON else f"page {frames.index[pfn]} of a file"
            what = f"{kind}, mapped by {n} PTE{'' if n == 1 else 's'}"
        self.add("frame", PAGE_OFFSET + (pfn << 12), 4096, what, ROOT)

    def add(
        self,
        kind: str,
        address: int,
        size: int,
        label: str = "",
        parent: int = FRAME,
        edge: str = "",
        mm: int = 0,
        pte: int = -1,
    ) -> int:
        """Any structure; arguments as of `Node`."""
        place = len(self.picture.nodes)
        self.picture.nodes.append(Node(kind, address, size, label, mm, pte))
        if parent != ROOT:
            self.picture.edges.append(Edge(parent, place, edge))
        return place

    def area(self, vma: VmArea, parent: int, edge: str = "", shows: bool = True) -> int:
        """A vm_area_struct. `shows`: is the page, by its index, one of those of the area?"""
        label = f"{vma.vm_start:08x}-{vma.vm_end:08x}, pgoff {vma.vm_pgoff:#x}" + ("" if shows else ": not this page")
        return self.add("vma", vma.addr, self._size("vm_area_struct"), label, parent, edge, vma.vm_mm.addr)

    def space(self, mm: Mm, parent: int, edge: str = "", label: str = "") -> int:
        """An mm_struct."""
        return self.add("mm", mm.addr, self._size("mm_struct"), label, parent, edge, mm.addr)

    def pte(self, mm: Mm, address: int, parent: int, edge: str = "", index: int = -1) -> int:
        """The PTE at a user address, or at `index`: one that maps the frame, or what stands there instead."""
        tables = self.env.pgtables
        if index < 0:
            index = tables.pte_index(mm.pgd, address)
        if index < 0:
            return self.add("no PTE", 0, 0, f"no page table for {address:08x}", parent, edge, mm.addr)
        value = tables.ptes[index]
        mapped = value >> 12 & tables.PFN_MASK if value & PRESENT else -1
        if mapped == self.picture.pfn:
            what = "writable" if value & W else "read-only"
        elif mapped >= 0:
            what = f"frame {mapped:#x} instead"
        elif not value:
            what = "empty"
        else:
            what = "of a nonlinear file page" if value & FILE else "swapped out"
        hit = index if mapped == self.picture.pfn else -1
        at = PAGE_OFFSET + index * tables.ENTRY
        return self.add("PTE", at, tables.ENTRY, f"{address & ~0xFFF:08x}, {what}", parent, edge, mm.addr, hit)

    def _size(self, cache: str) -> int:
        return self.env.slab.caches[cache].objsize


def search(env: SchemeEnv, pfn: int) -> list[tuple[Mm, int, int]]:
    """(mm, address, PTE index) of every PTE that maps the frame, from all page tables there are, in the order of the
    address spaces."""
    found: list[tuple[Mm, int, int]] = []
    tables, ptes = env.pgtables, env.pgtables.np_ptes
    for mm in env.mms.values():
        for first, base in tables.tables(mm.pgd, 0, TASK_SIZE):
            entries = ptes[base : base + tables.PTRS]
            match = tables.np_present(entries) & (tables.np_pfns(entries) == pfn)
            found += [(mm, first + (k << 12), base + k) for k in np.nonzero(match)[0].tolist()]
    return found


def searched(env: SchemeEnv, pfn: int, note: str) -> Picture:
    """Where nothing leads from a frame to its PTEs: those that a search of all page tables finds, each by itself."""
    draft = Draft(env, pfn)
    for mm, address, index in search(env, pfn):
        draft.pte(mm, address, ROOT, index=index)
    draft.picture.note = note
    return draft.picture


def walked(env: SchemeEnv, pfn: int, walk: Callable[[Walk], None]) -> Picture:
    """What a walk (the scheme's method, or the file index's) offers, straight from the frame."""
    draft = Draft(env, pfn)
    for mm, address, _, index in offers(pfn, walk):
        draft.pte(mm, address, FRAME, index=index)
    return draft.picture


def of_file(env: SchemeEnv, pfn: int, mapping: int, walk: Callable[[Walk], None]) -> Picture:
    """A page of a file, by the file's index of areas. `mapping`: kernel address of its AddressSpace."""
    draft = Draft(env, pfn)
    index = env.frames.index[pfn]
    top = draft.add("address_space", mapping, 0, f"i_mmap = {env.setup.file_index}", edge="mapping")
    for mm, address, vma, pte in offers(pfn, walk):
        parent = top if vma is None else draft.area(vma, top)
        odd = vma is not None and linear_page_index(vma, address) != index
        draft.pte(mm, address, parent, "nonlinear" if odd else "", pte)
    return draft.picture


def offers(pfn: int, walk: Callable[[Walk], None]) -> list[tuple[Mm, int, VmArea | None, int]]:
    """(mm, address, area or None, PTE index or -1) of every candidate, in the order of the walk."""
    noted = _Noted(pfn)
    walk(noted)
    return noted.places


class _Noted(Walk):
    """Every place is answered MISS: nothing is changed, and nothing ends the walk."""

    __slots__ = ("places",)

    def __init__(self, pfn: int) -> None:
        super().__init__(pfn, Purpose.AUDIT)
        self.places: list[tuple[Mm, int, VmArea | None, int]] = []

    def visit(self, mm: Mm, address: int, vma: VmArea | None = None, pte: int = -1) -> int:
        self.places.append((mm, address, vma, pte))
        return MISS


def add_lost(env: SchemeEnv, picture: Picture) -> Picture:
    """PTEs that map the frame and that no structure leads to, as flaws of history left them, are drawn apart."""
    known = set(picture.ptes())
    if len(known) < env.frames.mapcount[picture.pfn]:
        lost = [(mm, address, index) for mm, address, index in search(env, picture.pfn) if index not in known]
        draft = Draft(env, picture.pfn, picture)
        for mm, address, index in lost:
            draft.pte(mm, address, ROOT, index=index)
        if lost and not picture.note:
            picture.note = "lost: nothing leads to what follows"
    return picture
