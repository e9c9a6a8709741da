"""pte_chain: every physical page leads to every page-table entry that maps it.

Origin      Rik van Riel's rmap for 2.4 (2002); 2.5.27 - 2.6.6
Idea        page -> its only PTE (PG_direct), or a chain of cache-line nodes full of PTE addresses. Exact, and paid for
            per mapping in low memory.

    page.pte --> node [next|idx][ - - p p p p p ] --> node [next|idx][ p p p p p p p ] --> none
                 the head may have free slots, at its front; idx counts them; all other nodes are full

Structures  node = one cache line (32, 64 or 128 bytes): a word and NRPTE = line/4 - 1 entries, (line - 4) // 8 with
            highpte on PAE; one word in struct page (two with 8-byte entries). Nodes live as bytes in guest RAM; free
            slots are zero.
Cost        fork: one entry per present page, a node for every NRPTE-th mapping beyond the first. Walk: exactly the
            mappings. From a PTE to its mm and address: the page-table page's struct page. The area is found by
            find_vma, for unmapping only.

Linux: mm/rmap.c, 2.6.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmcore.rmap import (
    AGAIN,
    ANSWER,
    FAIL,
    FRAME,
    HIT,
    NEXT,
    OK,
    PG_DIRECT,
    PG_RESERVED,
    STOP,
    Card,
    Draft,
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
)

_PAGE_OFFSET = 0xC0000000
_LONG = 16  # nodes of a chain: searching a longer one builds its index
_SHORT = 8  # nodes of a chain that needs none any more


def _line(machine: MachineFacts, options: dict[str, Any]) -> int:
    line = options.get("cache_line", machine.cache_line)
    if line not in (32, 64, 128):
        raise PluginError(f"pte_chain: cache_line = {line!r} is not 32, 64 or 128")
    return int(line)


class _Index:
    """Where the entries of one long chain stand. History searches node by node, and the meter counts that; here the
    search takes the host no time. The chain in RAM is the truth: this follows each change of it. Nodes come and go at
    the head only, so a node's distance from the tail is fixed."""

    __slots__ = ("nodes", "slot")

    def __init__(self) -> None:
        self.nodes: dict[int, int] = {}  # node -> nodes behind it, the tail first
        self.slot: dict[int, int] = {}  # PTE address -> its index in the slots view


class PteChain(WalkScheme):
    card = Card(
        name="pte_chain",
        title="exact, per page-table entry (Rik van Riel)",
        kernels="2.5.27 - 2.6.6",
        origin="Rik van Riel's rmap, 2002; Craig Kulesa's port; Dave McCracken's PageDirect; cache-line nodes by "
        "Andrew Morton and Anton Blanchard",
        complexity="fork O(pages); walk O(mappings), exact; 4.1 to 4.6 bytes of low memory per mapping beyond the "
        "first, a whole cache line for the second",
        structures=(
            ("pte_chain", "32, 64 or 128", "next_and_idx and 7, 15 or 31 PTE addresses"),
            ("page", "+4", "pte.direct or pte.chain (+8 where PTE addresses are 64 bits: PAE with highpte)"),
        ),
        options={
            "cache_line": (32, "bytes of a cache line: 32 (Pentium III), 64 (Athlon), 128 (Pentium 4)"),
            "highpte": (False, "PTE addresses are physical: 8 bytes under PAE"),
        },
        references=("LWN 2002-01 rmap", "LKML 2004-03 objrmap thread"),
    )

    @classmethod
    def configure(cls, machine: MachineFacts, options: dict[str, Any]) -> Setup:
        _line(machine, options)
        wide = options.get("highpte", False) and machine.paging == "pae"
        # historic: 2.6.5, whose struct page still had page->list, 40 bytes in all (44 with 64-bit PTE addresses); gone
        # in 2.6.6.
        return Setup(
            page=(8 if wide else 4) + (8 if machine.accounting == "historic" else 0),
            file_index="list",
            files=True,
            unmap_checks_young=False,
            unmap_needs_vma=True,
        )

    def __init__(self, env: SchemeEnv, options: dict[str, Any]) -> None:
        super().__init__(env, options)
        self.line = _line(env.machine, options)
        self._wide = bool(options.get("highpte", False)) and env.machine.paging == "pae"
        self.nrpte = (self.line - 4) // (8 if self._wide else 4)
        self._cache = env.cache("pte_chain", self.line, hwcache=self.line, ctor=self._zero_slab)
        self._indices: dict[int, _Index] = {}  # of the frames with long chains
        self._stash = 0  # local_pte_chain: one free node kept per cpu
        self._grown = 0  # slabs the cache took from the zones so far
        self._frames = env.frames
        self._meters = env.meters
        self._places = np.zeros(env.frames.nr, np.int32)  # scratch of _distinct
        self._np_slots: np.ndarray  # the slots of RAM, each of 4 or 8 bytes
        self._entry = env.pgtables.ENTRY  # a slot holds the PTE's physical address: index * ENTRY
        if self._wide:
            self._slots, self._np_slots, self._step, self._first = env.ram.u64, env.ram.np64, 8, 8
        else:
            self._slots, self._np_slots, self._step, self._first = env.ram.u32, env.ram.np32, 4, 4
        self._words, self._np_words = env.ram.u32, env.ram.np32
        # page.pte (frames.rmap): a PTE's physical address when PG_direct, else the head node's physical address; 0 when
        # unmapped.

    # --- nodes
    # A node is its physical address. Word 0 is next_and_idx: the next node's address | free slots at the front (lines
    # leave the low bits free).

    def _alloc(self) -> int:
        stash = self._stash
        if stash:
            self._stash = 0
            return stash
        self._meters.allocations += 1
        return self._cache.alloc() - _PAGE_OFFSET

    def _zero_slab(self, pfn: int, order: int) -> None:
        """The cache's constructor: nodes are handed out zeroed, and come back zeroed."""
        self._grown += 1
        for frame in range(pfn, pfn + (1 << order)):
            self.env.ram.zero(frame)

    def _free(self, node: int) -> None:
        """The node is all zero but for its first word."""
        self._words[node >> 2] = 0
        if self._stash:
            self._cache.free(node + _PAGE_OFFSET)
        else:
            self._stash = node

    def _slot(self, node: int, i: int) -> int:
        """Index of slot `i` of a node in the slots view."""
        return (node + self._first) // self._step + i

    # --- reserve

    def reserve(self, operation: str, vma: VmArea, pfns: np.ndarray | None = None) -> list[int] | None:
        """Nodes in hand before anything changes: one for a fault or a move (which frees a slot before it takes one), as
        many as the range will use for a fork."""
        if pfns is None or operation == "move":
            return [self._alloc()]
        nodes: list[int] = []
        need = self._nodes_needed(pfns)
        while len(nodes) < need:
            grown = self._grown
            if self._stash:
                nodes.append(self._alloc())
            try:
                more = self._cache.alloc_bulk(need - len(nodes))
            except OutOfMemory:
                self.release(nodes)
                raise
            self._meters.allocations += len(more)
            nodes += [address - _PAGE_OFFSET for address in more]
            if self._grown == grown:
                break
            # A new slab may have meant reclaim, and reclaim collapses chains of one entry; a killed task's exit takes
            # heads with room away.
            need = self._nodes_needed(pfns)
        nodes.reverse()
        return nodes

    def _nodes_needed(self, pfns: np.ndarray) -> int:
        """How many of the frames take a new node for one more PTE: direct ones, and chains whose head is full."""
        direct = (self._frames.np_flags[pfns] & PG_DIRECT) != 0
        need = int(np.count_nonzero(direct))
        heads = self._frames.np_rmap[pfns[~direct]].astype(np.int64)
        heads = heads[heads != 0]
        if len(heads):
            need += int(np.count_nonzero((self._np_words[heads >> 2] & np.uint32(self.nrpte)) == 0))
        if not self._distinct(pfns):
            need = len(pfns)
        return need

    def _distinct(self, pfns: np.ndarray) -> bool:
        """Does no frame stand twice in the array? Each writes its position where it stands; of two that share a place
        only the last finds its own."""
        places = np.arange(len(pfns), dtype=np.int32)
        self._places[pfns] = places
        return bool((self._places[pfns] == places).all())

    def release(self, token: list[int] | None) -> None:
        if token:
            while token:
                self._free(token.pop())

    # --- page_add_rmap, page_remove_rmap

    def _add(self, pfn: int, pte: int, token: list[int]) -> None:
        frames = self._frames
        self._meters.links += 1
        address = pte * self._entry
        word = frames.rmap[pfn]
        slots, words, n = self._slots, self._words, self.nrpte
        if not word:
            frames.rmap[pfn] = address
            frames.flags[pfn] |= PG_DIRECT
            return
        if frames.flags[pfn] & PG_DIRECT:
            frames.flags[pfn] &= ~PG_DIRECT
            node = token.pop()
            base = self._slot(node, 0)
            slots[base + n - 1] = word
            slots[base + n - 2] = address
            words[node >> 2] = n - 2
            frames.rmap[pfn] = node
            return
        head = words[word >> 2]
        idx = head & n
        if idx == 0:
            node = token.pop()
            words[node >> 2] = word | n - 1
            slots[self._slot(node, n - 1)] = address
            frames.rmap[pfn] = node
            if pfn in self._indices:
                index = self._indices[pfn]
                index.nodes[node] = len(index.nodes)
                index.slot[address] = self._slot(node, n - 1)
            return
        slots[self._slot(word, idx - 1)] = address
        words[word >> 2] = head - 1
        if pfn in self._indices:
            self._indices[pfn].slot[address] = self._slot(word, idx - 1)

    def add_anon(self, pfn: int, vma: VmArea, address: int, pte: int, exclusive: bool, token: list[int]) -> int:
        self._add(pfn, pte, token)
        return OK

    def add_file(self, pfn: int, vma: VmArea, address: int, pte: int, token: list[int]) -> None:
        self._add(pfn, pte, token)

    def _remove_one(self, pfn: int, pte: int) -> None:
        frames = self._frames
        address = pte * self._entry
        word = frames.rmap[pfn]
        if not word or frames.flags[pfn] & PG_RESERVED:
            return
        if pfn in self._indices:
            self._remove_indexed(pfn, word, address)
            return
        before = self._meters.removal_nodes
        if frames.flags[pfn] & PG_DIRECT:
            if word == address:
                frames.rmap[pfn] = 0
                frames.flags[pfn] &= ~PG_DIRECT
            return
        slots, words, n = self._slots, self._words, self.nrpte
        node = word
        while node:
            self._meters.removal_nodes += 1
            head = words[node >> 2]
            base = self._slot(node, 0)
            for i in range(head & n, n):
                if slots[base + i] == address:
                    if self._meters.removal_nodes - before > _LONG:
                        self._build_index(pfn)
                    self._drop_slot(pfn, word, base + i)
                    return
            node = head & ~n

    def _build_index(self, pfn: int) -> None:
        index = self._indices[pfn] = _Index()
        index.nodes, index.slot = self._stands(pfn)

    def _stands(self, pfn: int) -> tuple[dict[int, int], dict[int, int]]:
        """An index's contents, from the chain."""
        where: dict[int, int] = {}
        slots, words, n = self._slots, self._words, self.nrpte
        node = self._frames.rmap[pfn]
        nodes: list[int] = []
        while node:
            nodes.append(node)
            head = words[node >> 2]
            base = self._slot(node, 0)
            for i in range(head & n, n):
                where[slots[base + i]] = base + i
            node = head & ~n
        return {node: behind for behind, node in enumerate(reversed(nodes))}, where

    def _remove_indexed(self, pfn: int, head: int, address: int) -> None:
        """What the search finds, and counts, on its way from the head."""
        index = self._indices[pfn]
        victim = index.slot.get(address)
        if victim is None:
            self._meters.removal_nodes += len(index.nodes)
            return
        node = victim * self._step & ~(self.line - 1)
        self._meters.removal_nodes += len(index.nodes) - index.nodes[node]
        self._drop_slot(pfn, head, victim)

    def _moved(self, pfn: int, address: int, moved: int, victim: int, emptied: int) -> None:
        """The index follows: `address` is gone, `moved` stands in its slot `victim`, and the head `emptied` (or
        0) has left the chain."""
        index = self._indices[pfn]
        index.slot[moved] = victim
        del index.slot[address]
        if emptied:
            del index.nodes[emptied]
            if len(index.nodes) <= _SHORT:
                del self._indices[pfn]

    def _drop_slot(self, pfn: int, head: int, victim: int) -> None:
        """The head's lowest used entry takes the victim's place; an emptied head leaves the chain."""
        slots, words, n = self._slots, self._words, self.nrpte
        word = words[head >> 2]
        idx = word & n
        lowest = self._slot(head, idx)
        if pfn in self._indices:
            self._moved(pfn, slots[victim], slots[lowest], victim, head if idx == n - 1 else 0)
        slots[victim] = slots[lowest]
        slots[lowest] = 0
        if idx == n - 1:
            self._frames.rmap[pfn] = word & ~n
            self._free(head)
        else:
            words[head >> 2] = word + 1

    def dup(
        self, src: VmArea, dst: VmArea, pfns: np.ndarray, src_ptes: np.ndarray, dst_ptes: np.ndarray, token: list[int]
    ) -> None:
        """fork: page_add_rmap for every copied PTE. Direct pages and heads with room are handled in bulk, full heads
        one by one."""
        if len(pfns) < 16 or not self._distinct(pfns):
            add = self._add
            for pfn, pte in zip(pfns.tolist(), dst_ptes.tolist(), strict=True):
                add(pfn, pte, token)
            return
        frames, n = self._frames, self.nrpte
        kind = self._np_slots.dtype.type
        addresses = (dst_ptes * self._entry).astype(self._np_slots.dtype)
        direct = (frames.np_flags[pfns] & PG_DIRECT) != 0
        heads = frames.np_rmap[pfns].astype(np.int64)
        full = np.zeros(len(pfns), bool)
        links = self._meters.links + len(pfns)
        if not direct.all():
            chained = np.nonzero(~direct)[0]
            nodes = heads[chained]
            words = self._np_words[nodes >> 2]
            room = words & np.uint32(n)
            roomy = room != 0
            at = chained[roomy]
            nodes, room = nodes[roomy], room[roomy].astype(np.int64)
            self._np_slots[(nodes + self._first) // self._step + room - 1] = addresses[at]
            self._np_words[nodes >> 2] -= np.uint32(1)
            full[chained[~roomy]] = True
            if self._indices:
                for k, slot in zip(at.tolist(), ((nodes + self._first) // self._step + room - 1).tolist(), strict=True):
                    if int(pfns[k]) in self._indices:
                        self._indices[int(pfns[k])].slot[int(addresses[k])] = slot
        at = np.nonzero(direct)[0]
        if len(at):
            nodes = np.array([token.pop() for _ in range(len(at))], np.int64)
            base = (nodes + self._first) // self._step
            self._np_slots[base + n - 1] = heads[at].astype(kind)
            self._np_slots[base + n - 2] = addresses[at]
            self._np_words[nodes >> 2] = np.uint32(n - 2)
            frames.np_rmap[pfns[at]] = nodes.astype(np.uint64)
            frames.np_flags[pfns[at]] &= np.uint32(~PG_DIRECT & 0xFFFFFFFF)
        for k in np.nonzero(full)[0].tolist():
            self._add(int(pfns[k]), int(dst_ptes[k]), token)
        self._meters.links = links

    def remove(self, vma: VmArea, pfns: np.ndarray, ptes: np.ndarray) -> None:
        """page_remove_rmap for every PTE: direct pages and entries found in a page's head node in bulk, the rest one by
        one."""
        if len(pfns) == 1:
            self._remove_one(int(pfns[0]), int(ptes[0]))
            return
        if len(pfns) < 16 or not self._distinct(pfns):
            for pfn, pte in zip(pfns.tolist(), ptes.tolist(), strict=True):
                self._remove_one(pfn, pte)
            return
        frames, n = self._frames, self.nrpte
        slots, words = self._np_slots, self._np_words
        addresses = (ptes * self._entry).astype(np.uint64)
        direct = (frames.np_flags[pfns] & PG_DIRECT) != 0
        gone = pfns[direct & (frames.np_rmap[pfns] == addresses)]
        frames.np_rmap[gone] = 0
        frames.np_flags[gone] &= np.uint32(~PG_DIRECT & 0xFFFFFFFF)
        rest = np.nonzero(~direct & (frames.np_rmap[pfns] != 0))[0]
        if not len(rest):
            return
        nodes = frames.np_rmap[pfns[rest]].astype(np.int64)
        base = (nodes + self._first) // self._step
        match = slots[base[:, None] + np.arange(n)] == addresses[rest][:, None].astype(slots.dtype)
        found = match.any(axis=1)
        for k in rest[~found].tolist():
            self._remove_one(int(pfns[k]), int(ptes[k]))
        rest, nodes, base = rest[found], nodes[found], base[found]
        self._meters.removal_nodes += len(rest)
        victim = base + match[found].argmax(axis=1)
        heads = words[nodes >> 2]
        idx = (heads & np.uint32(n)).astype(np.int64)
        lowest = base + idx
        last = idx == n - 1
        if self._indices:
            for k, at in enumerate(pfns[rest].tolist()):
                if at in self._indices:
                    self._moved(
                        at,
                        int(slots[victim[k]]),
                        int(slots[lowest[k]]),
                        int(victim[k]),
                        int(nodes[k]) if last[k] else 0,
                    )
        slots[victim] = slots[lowest]
        slots[lowest] = 0
        words[nodes[~last] >> 2] += np.uint32(1)
        frames.np_rmap[pfns[rest[last]]] = (heads[last] & np.uint32(~n & 0xFFFFFFFF)).astype(np.uint64)
        for node in nodes[last].tolist():
            self._free(node)

    def move(
        self,
        src: VmArea,
        dst: VmArea,
        delta: int,
        pfns: np.ndarray,
        src_ptes: np.ndarray,
        dst_ptes: np.ndarray,
        token: list[int],
    ) -> None:
        """mremap: per page, page_remove_rmap and page_add_rmap. A direct page's word is rewritten in place, in bulk."""
        frames = self._frames
        direct = (frames.np_flags[pfns] & PG_DIRECT) != 0
        frames.np_rmap[pfns[direct]] = (dst_ptes[direct] * self._entry).astype(np.uint64)
        self._meters.links += int(np.count_nonzero(direct))
        rest = ~direct
        for pfn, old, new in zip(pfns[rest].tolist(), src_ptes[rest].tolist(), dst_ptes[rest].tolist(), strict=True):
            self._remove_one(pfn, old)
            if not token:
                # Removing from a full chain never frees the node that adding needs: its head keeps a free slot, or is
                # in the stash.
                token.append(self._alloc())
            self._add(pfn, new, token)

    # --- the walk

    def walk(self, walk: Walk) -> None:
        frames, pfn, purpose = self._frames, walk.pfn, walk.purpose
        word = frames.rmap[pfn]
        if not word:
            return
        entry, owner = self._entry, self.env.pte_owner
        if frames.flags[pfn] & PG_DIRECT:
            pte = word // entry
            mm, address = owner(pte)
            if walk.visit(mm, address, None, pte) & ANSWER == HIT and purpose == Purpose.UNMAP:
                frames.rmap[pfn] = 0
                frames.flags[pfn] &= ~PG_DIRECT
            return
        if purpose == Purpose.UNMAP:
            self._walk_unmap(walk)
            return
        slots, words, n = self._slots, self._words, self.nrpte
        node = word
        total = nodes = 0
        last = 0
        while node:
            head = words[node >> 2]
            base = self._slot(node, 0)
            nodes += 1
            for i in range(head & n, n):
                last = slots[base + i]
                total += 1
                pte = last // entry
                mm, address = owner(pte)
                walk.visit(mm, address, None, pte)
            node = head & ~n
        if purpose == Purpose.AUDIT:
            return
        self._meters.nodes += nodes
        if purpose == Purpose.REFERENCED and total == 1:
            # Pressure is when a chain of one entry collapses to a direct pointer.
            slots[self._slot(word, n - 1)] = 0
            frames.rmap[pfn] = last
            frames.flags[pfn] |= PG_DIRECT
            self._free(word)

    def _walk_unmap(self, walk: Walk) -> None:
        """try_to_unmap over a chain: an entry that is done is replaced by the head's lowest; AGAIN goes on; FAIL
        stops."""
        slots, words, n, entry, owner = self._slots, self._words, self.nrpte, self._entry, self.env.pte_owner
        frames, pfn = self._frames, walk.pfn
        node = frames.rmap[pfn]
        while node:
            self._meters.nodes += 1
            head = words[node >> 2]
            following = head & ~n
            base = self._slot(node, 0)
            for i in range(head & n, n):
                value = slots[base + i]
                if not value:
                    continue
                pte = value // entry
                mm, address = owner(pte)
                answer = walk.visit(mm, address, None, pte)
                kind = answer & ANSWER
                if kind == HIT:
                    # The head's lowest entry moves here. In the head itself that entry was seen already (it stands
                    # before i); in a later node the head holds only entries that answered AGAIN.
                    self._drop_slot(pfn, frames.rmap[pfn], base + i)
                elif kind == FAIL:
                    return
                elif kind != AGAIN:
                    raise InvariantViolation(
                        f"pte_chain: {frames.describe(pfn)} has an entry {value:#x} that maps another frame"
                    )
                if answer & STOP:
                    return
            node = following

    def chained_frames(self) -> np.ndarray:
        """Which frames (bool each) have their mappings recorded: all mapped ones."""
        return self._frames.np_mapcount != 0

    def check(self) -> list[str]:
        """The policy of 2.6.5: a page is unmapped, direct, or has a chain; only the head has free slots, in front,
        zeroed."""
        wrong = []
        frames, slots, words, n = self._frames, self._slots, self._words, self.nrpte
        nodes = 1 if self._stash else 0
        mapped = self.chained_frames()
        for pfn in np.nonzero((frames.np_rmap != 0) != mapped)[0].tolist():
            wrong.append(f"pte_chain: has PTEs, or none, and mapcount says otherwise: {frames.describe(pfn)}")
        chained = np.nonzero((frames.np_rmap != 0) & ((frames.np_flags & np.uint32(PG_DIRECT)) == 0))[0]
        for pfn in chained.tolist():
            node, is_head = frames.rmap[pfn], True
            while node:
                nodes += 1
                head = words[node >> 2]
                idx = head & n
                base = self._slot(node, 0)
                if idx and not is_head:
                    wrong.append(f"pte_chain: node {node:#x} of frame {pfn:#x} has free slots and is not the head")
                if any(slots[base + i] for i in range(idx)) or not all(slots[base + i] for i in range(idx, n)):
                    wrong.append(f"pte_chain: node {node:#x} of frame {pfn:#x}: used slots are not those from {idx} on")
                node, is_head = head & ~n, False
        for pfn, index in self._indices.items():
            if pfn not in chained or (index.nodes, index.slot) != self._stands(pfn):
                wrong.append(f"pte_chain: the index of a long chain is not what stands in it: {frames.describe(pfn)}")
        if nodes != self._cache.objects:
            wrong.append(f"pte_chain: {nodes} nodes in chains and stash, {self._cache.objects} in the cache")
        return wrong

    def picture(self, pfn: int) -> Picture:
        """frame -> its only PTE, or the nodes of its chain -> the PTE in each used slot."""
        draft, frames, entry = Draft(self.env, pfn), self._frames, self._entry
        word = frames.rmap[pfn]
        if frames.flags[pfn] & PG_DIRECT:
            pte = word // entry
            draft.pte(*self.env.pte_owner(pte), FRAME, "pte.direct", pte)
            return draft.picture
        slots, words, n = self._slots, self._words, self.nrpte
        node, place = word, FRAME
        while node:
            head = words[node >> 2]
            free, base = head & n, self._slot(node, 0)
            what, edge = f"{n - free} of {n} slots used", NEXT if place else "pte.chain"
            place = draft.add("pte_chain", node + _PAGE_OFFSET, self.line, what, place, edge)
            for i in range(free, n):
                pte = slots[base + i] // entry
                draft.pte(*self.env.pte_owner(pte), place, f"slot {i}", pte)
            node = head & ~n
        return draft.picture
