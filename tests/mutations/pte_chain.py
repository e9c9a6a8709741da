"""Faults in rmap_plugins/pte_chain.py. Numbers in brackets: docs/bug-classes.md."""

from __future__ import annotations

from tests.mutations.runner import Mutant

MODULE = "rmap_plugins.pte_chain"

MUTANTS = [
    Mutant(
        "a removed direct entry stays",
        "            if word == address:\n                frames.rmap[pfn] = 0\n",
        "            if word == address:\n",
    ),
    Mutant(
        "PG_direct stays when the last entry goes",
        "                frames.rmap[pfn] = 0\n                frames.flags[pfn] &= ~PG_DIRECT\n            return\n"
        "        slots, words, n = self._slots, self._words, self.nrpte\n        node = word\n        while node:\n  "
        "          self._meters.removal_nodes += 1",
        "                frames.rmap[pfn] = 0\n            return\n        slots, words, n = self._slots, "
        "self._words, self.nrpte\n        node = word\n"
        "        while node:\n            self._meters.removal_nodes += 1",
    ),
    Mutant(
        "the search for an entry ends with the head (lost node)",
        "                    self._drop_slot(pfn, word, base + i)\n                    return\n            node = "
        "head & ~n",
        "                    self._drop_slot(pfn, word, base + i)\n                    return\n            node = 0",
    ),
    Mutant(
        "the victim's slot is cleared, not filled from the head",
        "        slots[victim] = slots[lowest]\n        slots[lowest] = 0\n        if idx == n - 1:",
        "        slots[victim] = 0\n        if idx == n - 1:",
    ),
    Mutant(
        "the head's lowest entry is not cleared",
        "        slots[victim] = slots[lowest]\n        slots[lowest] = 0\n        if idx == n - 1:",
        "        slots[victim] = slots[lowest]\n        if idx == n - 1:",
    ),
    Mutant(
        "an emptied head stays the head (stale head)",
        "            self._frames.rmap[pfn] = word & ~n\n            self._free(head)",
        "            self._free(head)",
    ),
    Mutant(
        "an emptied head is never freed (leaked node)",
        "            self._frames.rmap[pfn] = word & ~n\n            self._free(head)",
        "            self._frames.rmap[pfn] = word & ~n",
    ),
    Mutant(
        "a head with one slot left is thought empty",
        "        if idx == n - 1:\n            self._frames",
        "        if idx == n - 2:\n            self._frames",
    ),
    Mutant(
        "the second entry overwrites the first",
        "            slots[base + n - 2] = address\n            words[node >> 2] = n - 2",
        "            slots[base + n - 1] = address\n            words[node >> 2] = n - 2",
    ),
    Mutant(
        "a full head's new node forgets the old ones",
        "            words[node >> 2] = word | n - 1",
        "            words[node >> 2] = n - 1",
    ),
    Mutant(
        "a slot is taken and not counted",
        "        slots[self._slot(word, idx - 1)] = address\n        words[word >> 2] = head - 1",
        "        slots[self._slot(word, idx - 1)] = address",
    ),
    Mutant(
        "fork: the first entry is not kept in bulk",
        "            self._np_slots[base + n - 1] = heads[at].astype(kind)\n",
        "",
    ),
    Mutant("fork: room in heads is not used up", "            self._np_words[nodes >> 2] -= np.uint32(1)\n", ""),
    Mutant(
        "fork: full heads are skipped",
        "        for k in np.nonzero(full)[0].tolist():\n            self._add(int(pfns[k]), int(dst_ptes[k]), "
        "token)\n",
        "",
    ),
    Mutant(
        "fork: too few nodes are reserved",
        "        need = int(np.count_nonzero(direct))",
        "        need = int(np.count_nonzero(direct)) - 1",
    ),
    Mutant(
        "fork: full heads need no node (3)",
        "            need += int(np.count_nonzero((self._np_words[heads >> 2] & np.uint32(self.nrpte)) == 0))",
        "            need += 0",
    ),
    Mutant(
        "fork: a failed reservation keeps its nodes",
        "            except OutOfMemory:\n                self.release(nodes)\n                raise",
        "            except OutOfMemory:\n                raise",
    ),
    Mutant(
        "reservations are not given back",
        "            while token:\n                self._free(token.pop())",
        "            while token:\n                token.pop()",
    ),
    Mutant("munmap: direct entries stay in bulk", "        frames.np_rmap[gone] = 0\n", ""),
    Mutant(
        "munmap: entries behind the head are forgotten",
        "        for k in rest[~found].tolist():\n            self._remove_one(int(pfns[k]), int(ptes[k]))\n",
        "",
    ),
    Mutant(
        "munmap: emptied heads are never freed",
        "        for node in nodes[last].tolist():\n            self._free(node)\n",
        "",
    ),
    Mutant(
        "munmap: heads with entries left are not counted down", "        words[nodes[~last] >> 2] += np.uint32(1)\n", ""
    ),
    Mutant(
        "mremap: direct entries keep the old PTE",
        "        frames.np_rmap[pfns[direct]] = (dst_ptes[direct] * self._entry).astype(np.uint64)\n",
        "",
    ),
    Mutant(
        "mremap: the old entry of a chain stays",
        "            self._remove_one(pfn, old)\n            if not token:",
        "            if not token:",
    ),
    Mutant(
        "mremap: the new entry is forgotten",
        "            self._add(pfn, new, token)\n\n    # --- the walk",
        "            pass\n\n    # --- the walk",
    ),
    Mutant(
        "a walk sees the head only",
        "                walk.visit(mm, address, None, pte)\n            node = head & ~n",
        "                walk.visit(mm, address, None, pte)\n            node = 0",
    ),
    Mutant(
        "a walk skips the first entry of each node",
        "            nodes += 1\n            for i in range(head & n, n):",
        "            nodes += 1\n            for i in range((head & n) + 1, n):",
    ),
    Mutant(
        "an unmapped direct page keeps its word",
        "            if walk.visit(mm, address, None, pte) & ANSWER == HIT and purpose == Purpose.UNMAP:\n           "
        "     frames.rmap[pfn] = 0\n",
        "            if walk.visit(mm, address, None, pte) & ANSWER == HIT and purpose == Purpose.UNMAP:\n",
    ),
    Mutant(
        "a direct page is forgotten by any walk that hits",
        "& ANSWER == HIT and purpose == Purpose.UNMAP:",
        "& ANSWER == HIT:",
    ),
    Mutant(
        "unmapping does not take entries out",
        "                    self._drop_slot(pfn, frames.rmap[pfn], base + i)\n                elif kind == FAIL:",
        "                    pass\n                elif kind == FAIL:",
    ),
    Mutant(
        "unmapping takes them out of a stale head",
        "                    self._drop_slot(pfn, frames.rmap[pfn], base + i)\n                elif kind == FAIL:",
        "                    self._drop_slot(pfn, node, base + i)\n                elif kind == FAIL:",
    ),
    Mutant(
        "unmapping goes on after a failed PTE (4)",
        "                elif kind == FAIL:\n                    return\n                elif kind != AGAIN:",
        "                elif kind == FAIL:\n                    continue\n                elif kind != AGAIN:",
    ),
    Mutant(
        "unmapping gives up at AGAIN",
        "                elif kind == FAIL:\n                    return",
        "                elif kind in (FAIL, AGAIN):\n                    return",
    ),
    Mutant(
        "an audit collapses chains",
        "        if purpose == Purpose.AUDIT:\n            return\n        self._meters.nodes += nodes\n        if "
        "purpose == Purpose.REFERENCED and total == 1:",
        "        if purpose != Purpose.AUDIT:\n            self._meters.nodes += nodes\n        if total == 1:",
    ),
    Mutant(
        "a chain of two collapses",
        "        if purpose == Purpose.REFERENCED and total == 1:",
        "        if purpose == Purpose.REFERENCED and total <= 2:",
    ),
    Mutant(
        "a collapsed chain's node is not freed",
        "            frames.flags[pfn] |= PG_DIRECT\n            self._free(word)",
        "            frames.flags[pfn] |= PG_DIRECT",
        at="PteChain.walk",
    ),
    Mutant(
        "a node comes back with an entry in it",
        "            slots[self._slot(word, n - 1)] = 0\n            frames.rmap[pfn] = last",
        "            frames.rmap[pfn] = last",
    ),
    Mutant(
        "a freed node keeps its first word",
        "        self._words[node >> 2] = 0\n        if self._stash:",
        "        if self._stash:",
    ),
    Mutant(
        "a node is stashed while one is",
        "        if self._stash:\n            self._cache.free(node + _PAGE_OFFSET)\n        else:\n            "
        "self._stash = node",
        "        self._stash = node",
    ),
    Mutant(
        "64-bit entries begin too early",
        "env.ram.u64, env.ram.np64, 8, 8",
        "env.ram.u64, env.ram.np64, 8, 0",
        (("highpte", True),),
    ),
]

SURVIVORS: dict[str, str] = {
    "a node comes back with an entry in it": "Equivalent: the last slot, where the entry stays, is the first that a "
    "new node's user fills, so nobody reads the old one.",
    "a freed node keeps its first word": "Equivalent: whoever takes a node writes its first word before anything "
    "reads it.",
}
