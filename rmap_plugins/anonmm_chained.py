"""anonmm_chained: anonmm whose pages may be known at several addresses, kept in a chain of user virtual addresses.

Origin      Hugh Dickins, anobjrmap 5/6 "rechained", March 2003
Idea        As anonmm; but a page that is mapped at an odd address - moved by mremap while shared, swapped in where a
            move has left it, or a file page in a nonlinear area - gets a chain of such addresses. A chain holds
            addresses and not PTEs, so fork leaves it alone and mremap never copies.

    page.mapping --> anonmm, family as in anonmm
    page.index   = first address (anonymous), offset in the file (file page)
    page.chain   --> [next | mapcount a a a a a a] --> [next | a a a a a a a]

    walk of an anonymous page: every living address space of the family x every address
            of a file page: the file's areas, and each nonlinear area x every address

    An address stays in the chain until the page's last mapping goes, or until mremap moves the page while it is mapped
    once.

Structures  anonmm 20 or 24 bytes per address space, 4 in mm_struct; chain nodes of 32 bytes, seven slots, the first of
            a chain's holding the count of mappings
Cost        fork: one object. mremap of a shared page: a slot. Walk: address spaces x addresses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mmcore.rmap import (
    ANSWER,
    FRAME,
    HIT,
    MISS,
    NEXT,
    OK,
    PG_ANON,
    STOP,
    VM_NONLINEAR,
    Card,
    Draft,
    MachineFacts,
    Mm,
    Picture,
    Purpose,
    RmapScheme,
    SchemeEnv,
    Setup,
    VmArea,
    Walk,
    linear_page_index,
)
from rmap_plugins.anonmm import AnonMm

NODE_BYTES = 32
SLOTS = 7


class _Chain:
    """One page's odd addresses, in the order they came, and the nodes that hold them (the first node's first slot is
    the count of mappings)."""

    __slots__ = ("nodes", "addresses")

    def __init__(self, node: int) -> None:
        self.nodes = [node]
        self.addresses: list[int] = []

    @property
    def full(self) -> bool:
        return len(self.addresses) == SLOTS * len(self.nodes) - 1


def _nodes(addresses: int) -> int:
    """Nodes that hold so many addresses, and the count."""
    return (addresses + SLOTS) // SLOTS


class _Everywhere(Walk):
    """A visit of one address space becomes one for every address of the page."""

    __slots__ = ("walk", "addresses")

    def __init__(self, walk: Walk, addresses: list[int]) -> None:
        super().__init__(walk.pfn, walk.purpose)
        self.walk = walk
        self.addresses = addresses

    def visit(self, mm: Mm, address: int, vma: VmArea | None = None, pte: int = -1) -> int:
        result = MISS
        for where in (address, *self.addresses):
            answer = self.walk.visit(mm, where, vma, pte)
            if answer & ANSWER == HIT:
                result = HIT
            if answer & STOP:
                return result | STOP
        return result


class AnonMmChained(AnonMm):
    card = Card(
        name="anonmm_chained",
        title="families of address spaces, chains of user addresses for moved shared pages (Hugh Dickins, 2003)",
        kernels="2.5.65 (patch)",
        origin="Hugh Dickins, anobjrmap 5/6 rechained, 2003-03-20",
        complexity="fork O(1); walk O(address spaces of the family x addresses of the page); a slot per move of a "
        "shared page",
        structures=(
            ("anonmm", "20 UP, 24 SMP", "count, lock, mm, head, list"),
            ("rmap_chain", "32", "next, and 7 slots: user addresses; the first node's first is the count of mappings"),
            ("mm_struct", "+4", "anonmm"),
            ("page", "+4", "mapcount, or the chain"),
        ),
        options={"i_mmap": ("list", "how a file's areas are kept: list (2003) or prio_tree")},
        references=("LKML 2003-03-20 anobjrmap 5/6 rechained",),
    )
    # Nothing has to be copied before it moves.
    move_check = RmapScheme.move_check

    _file_index = "list"

    @classmethod
    def configure(cls, machine: MachineFacts, options: dict[str, Any]) -> Setup:
        # historic: 2.5.65, whose struct page had page->list, 8 bytes.
        base = super().configure(machine, options)
        return replace(base, page=base.page + (8 if machine.accounting == "historic" else 0))

    def __init__(self, env: SchemeEnv, options: dict[str, Any]) -> None:
        super().__init__(env, options)
        self._nodes = env.cache("rmap_chain", NODE_BYTES)
        self._chains: dict[int, _Chain] = {}  # by the first node's address, which is the page's word
        self._spare: list[int] = []  # nodes in hand
        self._rmap = env.frames.rmap

    # --- nodes in hand

    def reserve(self, operation: str, vma: VmArea, pfns: np.ndarray | None = None) -> bool | None:
        """A fault may need one node, a move one for every page that is shared and has no free slot. One node stays in
        hand between operations."""
        if operation == "move":
            assert pfns is not None
            self._fill(self._nodes_needed(vma, pfns))
            return True
        if not self._spare and (operation == "anon_fault" or vma.vm_flags & VM_NONLINEAR):
            self._fill(1)
        return None

    def _fill(self, n: int) -> None:
        try:
            while len(self._spare) < n:
                self._spare.append(self._nodes.alloc())
                self._meters.allocations += 1
        except BaseException:
            self.release(True)
            raise

    def release(self, token: bool | None) -> None:
        while len(self._spare) > 1:
            self._nodes.free(self._spare.pop())

    def _nodes_needed(self, vma: VmArea, pfns: np.ndarray) -> int:
        frames, chains = self._frames, self._chains
        if vma.vm_flags & VM_NONLINEAR:
            chosen = pfns
        else:
            chosen = pfns[self._anon(pfns) & (frames.np_mapcount[pfns] > 1)]
        need = 0
        frames_of, times = np.unique(chosen, return_counts=True)  # a nonlinear area may show one page at many places
        for word, more in zip(frames.np_rmap[frames_of].tolist(), times.tolist(), strict=True):
            held = len(chains[word].addresses) if word else 0
            need += _nodes(held + more) - (len(chains[word].nodes) if word else 0)
        return need

    # --- chains

    def _known(self, pfn: int) -> list[int]:
        word = self._rmap[pfn]
        return self._chains[word].addresses if word else []

    def _note(self, pfn: int, address: int) -> None:
        """The page is mapped at `address` as well."""
        word = self._rmap[pfn]
        if not word:
            word = self._rmap[pfn] = self._spare.pop()
            self._chains[word] = _Chain(word)
        chain = self._chains[word]
        if address in chain.addresses:
            return
        if chain.full:
            chain.nodes.append(self._spare.pop())
        chain.addresses.append(address)
        self._meters.links += 1

    def _forget(self, pfn: int) -> None:
        word = self._rmap[pfn]
        if word:
            self._rmap[pfn] = 0
            for node in self._chains.pop(word).nodes:
                self._nodes.free(node)

    # --- pages

    def add_anon(self, pfn: int, vma: VmArea, address: int, pte: int, exclusive: bool, token: object) -> int:
        if super().add_anon(pfn, vma, address, pte, exclusive, token):
            self._note(pfn, address & ~0xFFF)
        return OK

    def add_file(self, pfn: int, vma: VmArea, address: int, pte: int, token: object) -> None:
        if vma.vm_flags & VM_NONLINEAR and linear_page_index(vma, address) != self._index[pfn]:
            self._note(pfn, address & ~0xFFF)

    def released(self, pfns: np.ndarray) -> None:
        if len(pfns) > 1:
            self._forget_all(pfns)
        elif self._rmap[pfns.item()]:
            self._forget(pfns.item())
        AnonMm.released(self, pfns)  # HOT: super() takes 0.1 us

    def _forget_all(self, pfns: np.ndarray) -> None:
        for pfn in pfns[self._frames.np_rmap[pfns] != 0].tolist():
            self._forget(pfn)

    def move(
        self,
        src: VmArea,
        dst: VmArea,
        delta: int,
        pfns: np.ndarray,
        src_ptes: np.ndarray,
        dst_ptes: np.ndarray,
        token: object,
    ) -> None:
        """A page mapped once is at its new address and nowhere else; a shared one is there too."""
        frames, owner = self._frames, self.env.pte_owner
        anon = self._anon(pfns)
        alone = anon & (frames.np_mapcount[pfns] == 1)
        tables = dst_ptes[alone] // self.env.pgtables.PTRS
        pages = frames.np_index[tables].astype(np.int64) + dst_ptes[alone] % self.env.pgtables.PTRS
        frames.np_index[pfns[alone]] = (pages << 12).astype(np.uint32)
        self._forget_all(pfns[alone])
        others = anon & ~alone
        if dst.vm_flags & VM_NONLINEAR:
            others |= ~anon
        for pfn, pte in zip(pfns[others].tolist(), dst_ptes[others].tolist(), strict=True):
            address = owner(pte)[1]
            if frames.flags[pfn] & PG_ANON:
                if address != self._index[pfn]:
                    self._note(pfn, address)
            elif linear_page_index(dst, address) != self._index[pfn]:
                self._note(pfn, address)

    # --- the walk

    def walk(self, walk: Walk) -> None:
        word = self._rmap[walk.pfn]
        if word:
            self._meter_chain(word, walk.purpose)
            walk = _Everywhere(walk, self._known(walk.pfn))
        AnonMm.walk(self, walk)  # HOT

    def nonlinear_addresses(self, walk: Walk) -> tuple[int, ...]:
        word = self._rmap[walk.pfn]
        if not word:
            return ()
        self._meter_chain(word, walk.purpose)
        return tuple(self._known(walk.pfn))

    def _meter_chain(self, word: int, purpose: Purpose) -> None:
        if purpose != Purpose.AUDIT:
            self._meters.nodes += len(self._chains[word].nodes)

    def check(self) -> list[str]:
        wrong = super().check()
        frames = self._frames
        words = frames.np_rmap[frames.np_rmap != 0].tolist()
        if sorted(words) != sorted(self._chains):
            wrong.append(f"anonmm_chained: {len(words)} pages have a chain, {len(self._chains)} chains are known")
        nodes = sum(len(chain.nodes) for chain in self._chains.values()) + len(self._spare)
        if nodes != self._nodes.objects:
            wrong.append(f"anonmm_chained: {nodes} nodes in chains and in hand, {self._nodes.objects} in the cache")
        for pfn in np.nonzero((frames.np_rmap != 0) & (frames.np_mapcount == 0))[0].tolist():
            wrong.append(f"anonmm_chained: a page without mappings has a chain: {frames.describe(pfn)}")
        for chain in self._chains.values():
            if len(chain.addresses) != len(set(chain.addresses)) or -(-(len(chain.addresses) + 1) // SLOTS) != len(
                chain.nodes
            ):
                wrong.append(
                    f"anonmm_chained: chain {chain.nodes[0]:#x} has {len(chain.nodes)} nodes for "
                    f"{len(chain.addresses)} addresses"
                )
        return wrong

    def picture(self, pfn: int) -> Picture:
        """The chain with all addresses but the first; anonmm's family, whose members are asked for all of them."""
        draft, word = Draft(self.env, pfn), self._rmap[pfn]
        place, edge, first = FRAME, "chain", 0
        for k, node in enumerate(self._chains[word].nodes if word else ()):
            last = first + SLOTS - (k == 0)
            what = " ".join(f"{address:08x}" for address in self._known(pfn)[first:last])
            place = draft.add("rmap_chain", node, NODE_BYTES, what, place, edge)
            edge, first = NEXT, last
        self._draw_family(draft, [self._index[pfn], *self._known(pfn)])
        return draft.picture
