"""Faults in rmap_plugins/anon_vma_chain.py, in the code of all eras. Numbers in brackets: docs/bug-classes.md."""

from __future__ import annotations

from typing import Any

from mmcore.calls.mprotect import do_mprotect
from sandbox.kit.machine import CpulessMachine
from tests.mutations.runner import Mutant

MODULE = "rmap_plugins.anon_vma_chain"
_2_6_34 = (("era", "2.6.34"),)
_3_7 = (("era", "3.7"),)
_4_0 = (("era", "4.0"),)

MUTANTS = [
    # anon_vma_prepare
    Mutant(
        "every fault makes an anon_vma",
        '        if vma.anon_vma is None and operation == "anon_fault":',
        '        if operation == "anon_fault":',
    ),
    Mutant(
        "a stack's fault prepares nothing",
        '        if vma.anon_vma is None and operation == "anon_fault":',
        '        if vma.anon_vma is None and operation == "anon_fault" and not vma.vm_flags & 0x100:',
    ),
    Mutant(
        "a failed anon_vma keeps its link",
        "                    self._avc_cache.free(address)\n                    raise\n                anon_vma",
        "                    raise\n                anon_vma",
    ),
    Mutant("a root is not its own child", "                anon_vma.children = 1  # a root is its own parent\n", ""),
    Mutant(
        "an adopting area is not linked (14)",
        "            self._link(vma, address, anon_vma)\n            vma.anon_vma = anon_vma\n",
        "            vma.anon_vma = anon_vma\n",
    ),
    Mutant(
        "an adopting area is not counted",
        "            vma.anon_vma = anon_vma\n            anon_vma.active += 1\n",
        "            vma.anon_vma = anon_vma\n",
    ),
    Mutant("a neighbour's anon_vma is adopted without its ancestors (25)", " and len(other.rmap) == 1:", ":"),
    Mutant(
        "the object is not entered in the table",
        "anon_vma = self._objects[address] = _AnonVma(address, self._links(), parent)",
        "anon_vma = _AnonVma(address, self._links(), parent)",
    ),
    Mutant(
        "a new anon_vma is its own root",
        "        self.root: _AnonVma = parent.root if parent is not None else self",
        "        self.root: _AnonVma = self",
    ),
    Mutant(
        "the first link does not stand on the anon_vma's list",
        "        vma.rmap.append(avc)\n        anon_vma.links.insert(avc)\n",
        "        vma.rmap.append(avc)\n",
    ),
    Mutant(
        "the first link does not stand on the area's list",
        "        vma.rmap.append(avc)\n        anon_vma.links.insert(avc)\n",
        "        anon_vma.links.insert(avc)\n",
    ),
    Mutant(
        "the first link's pages count from 0 (wrong pgoff)",
        "        first = vma.vm_pgoff\n        avc =",
        "        first = 0\n        avc =",
    ),
    Mutant(
        "the first link ends a page early",
        "first + (vma.vm_end - vma.vm_start >> 12) - 1)\n        vma.rmap",
        "first + (vma.vm_end - vma.vm_start >> 12) - 2)\n        vma.rmap",
    ),
    # pages
    Mutant(
        "the page's index forgets vm_pgoff",
        "        index = (address - vma.vm_start >> 12) + vma.vm_pgoff & 0xFFFFFFFF",
        "        index = (address - vma.vm_start >> 12) & 0xFFFFFFFF",
    ),
    Mutant(
        "the page's index is its address's page",
        "        index = (address - vma.vm_start >> 12) + vma.vm_pgoff & 0xFFFFFFFF",
        "        index = address >> 12",
    ),
    Mutant(
        "a page swapped in lies with who brought it (24)",
        "            self._mapping[pfn] = own.root.address\n",
        "            self._mapping[pfn] = own.address\n",
    ),
    Mutant(
        "a page swapped in lies with who brought it (24), 2.6.34",
        "            self._mapping[pfn] = own.root.address\n",
        "            self._mapping[pfn] = own.address\n",
        _2_6_34,
    ),
    Mutant(
        "a page swapped in keeps no index",
        "            self._mapping[pfn] = own.root.address\n            self._index[pfn] = index\n",
        "            self._mapping[pfn] = own.root.address\n",
    ),
    Mutant(
        "an exclusive page gets no index",
        "            self._mapping[pfn] = own.address\n            self._index[pfn] = index\n",
        "            self._mapping[pfn] = own.address\n",
    ),
    Mutant(
        "an exclusive page gets no home",
        "            self._mapping[pfn] = own.address\n            self._index[pfn] = index\n",
        "            self._index[pfn] = index\n",
    ),
    Mutant(
        "the last to map a page is its home",
        "        elif self._mapcount[pfn] == 0:\n            self._mapping[pfn] = own.root.address",
        "        elif self._mapcount[pfn] >= 0:\n            self._mapping[pfn] = own.address",
    ),
    Mutant(
        "an exclusive page lies with the root",
        "            self._mapping[pfn] = own.address\n            self._index[pfn] = index\n",
        "            self._mapping[pfn] = own.root.address\n            self._index[pfn] = index\n",
        costs=True,
    ),
    Mutant(
        "a reused page stays with the root",
        "        self._mapping[pfn] = vma.anon_vma.address",
        "        return",
        costs=True,
    ),
    Mutant(
        "a reused page has no home",
        "        self._mapping[pfn] = vma.anon_vma.address",
        "        self._mapping[pfn] = 0",
    ),
    # anon_vma_clone, anon_vma_fork
    Mutant(
        "a copied area is not linked",
        "        if src.anon_vma is None:\n            return\n        own = self._reusable",
        "        if src.anon_vma is None or how:\n            return\n        own = self._reusable",
    ),
    Mutant(
        "a split area is not linked",
        "        if src.anon_vma is None:\n            return\n        own = self._reusable",
        "        if src.anon_vma is None or how == SPLIT:\n            return\n        own = self._reusable",
    ),
    Mutant(
        "a moved area is not linked",
        "        if src.anon_vma is None:\n            return\n        own = self._reusable",
        "        if src.anon_vma is None or how not in (FORK, SPLIT):\n            return\n        own = "
        "self._reusable",
    ),
    Mutant(
        "a split area gets an anon_vma of its own",
        "self._reusable(src) if how == FORK else src.anon_vma",
        'self._reusable(src) if how != "move" else src.anon_vma',
        costs=True,
    ),
    Mutant(
        "a copy has the order turned round (chain order on clone)",
        "        for address, avc in zip(addresses, src.rmap):",
        "        for address, avc in zip(addresses, src.rmap[::-1]):",
    ),
    Mutant(
        "a copy has the order turned round (chain order on clone), 2.6.34",
        "        for address, avc in zip(addresses, src.rmap):",
        "        for address, avc in zip(addresses, src.rmap[::-1]):",
        _2_6_34,
    ),
    Mutant(
        "a copy is linked to the newest only",
        "        for address, avc in zip(addresses, src.rmap):",
        "        for address, avc in zip(addresses, src.rmap[-1:]):",
    ),
    Mutant(
        "a copy is not linked to the root",
        "        for address, avc in zip(addresses, src.rmap):",
        "        for address, avc in zip(addresses, src.rmap[1:]):",
    ),
    Mutant(
        "a copy's links stand on no anon_vma's list",
        "            chain.append(link)\n            anon_vma.links.insert(link)\n",
        "            chain.append(link)\n",
    ),
    Mutant(
        "a copy's links lead to its original",
        "            link = _Avc(address, dst, anon_vma, first, last)",
        "            link = _Avc(address, src, anon_vma, first, last)",
    ),
    Mutant(
        "a child is not linked to its own anon_vma",
        "            link = _Avc(addresses[-1], dst, own, first, last)\n            chain.append(link)\n            "
        "own.links.insert(link)\n",
        "            self._avc_cache.free(addresses[-1])\n",
    ),
    Mutant(
        "a child's own anon_vma does not list it",
        "            chain.append(link)\n            own.links.insert(link)\n",
        "            chain.append(link)\n",
    ),
    Mutant(
        "a child is at home with its parent", "        dst.anon_vma = own\n", "        dst.anon_vma = src.anon_vma\n"
    ),
    Mutant(
        "a failed fork keeps its links",
        "                for address in addresses:\n                    caches.free(address)\n                raise",
        "                raise",
    ),
    Mutant(
        "a failed fork gives one link back",
        "                for address in addresses:\n                    caches.free(address)\n                raise",
        "                caches.free(addresses[0])\n                raise",
    ),
    Mutant(
        "a child has no anon_vma of its own",
        "self._reusable(src) if how == FORK else src.anon_vma",
        "src.anon_vma",
        costs=True,
    ),
    Mutant("a parent does not count its child", "            own.parent.children += 1\n", ""),
    Mutant("a root does not count its descendant", "            own.root.refcount += 1\n", ""),
    Mutant("a copied area is not counted where it is at home", "        own.active += 1\n", ""),
    Mutant(
        "a copy's links are for the first page only",
        "        last = first + (dst.vm_end - dst.vm_start >> 12) - 1\n        chain:",
        "        last = first\n        chain:",
    ),
    # reuse
    Mutant(
        "an anon_vma with areas is reused (excess reuse, 30)",
        "                if anon_vma.children < 2 and anon_vma.active == 0:",
        "                if anon_vma.children < 2:",
        costs=True,
    ),
    Mutant(
        "reuse takes the root (excess reuse, 30)",
        "                if anon_vma.children < 2 and anon_vma.active == 0:",
        "                if anon_vma is anon_vma.root:",
        costs=True,
    ),
    Mutant(
        "nothing is ever reused (endless growth, 29)",
        "                if anon_vma.children < 2 and anon_vma.active == 0:",
        "                if False:",
        costs=True,
    ),
    Mutant(
        "nothing is ever reused (endless growth, 29), 4.0",
        "                if anon_vma is not src.anon_vma and anon_vma.children + anon_vma.active < 2:",
        "                if False:",
        _4_0,
        costs=True,
    ),
    # mremap
    Mutant(
        "a moved area's offset is its new address (index not updated at move)",
        "        return src.vm_pgoff + (old_address - src.vm_start >> 12)",
        "        return new_address >> 12",
    ),
    Mutant(
        "a moved part's offset is its area's (15)",
        "        return src.vm_pgoff + (old_address - src.vm_start >> 12)",
        "        return src.vm_pgoff",
    ),
    # unlink_anon_vmas
    Mutant(
        "an area that goes stays on the lists (forgotten list removal)",
        "            anon_vma.links.remove(avc)\n            if not",
        "            if not",
    ),
    Mutant(
        "an area that goes stays on the lists, 2.6.34",
        "            anon_vma.links.remove(avc)\n            if not",
        "            if not",
        _2_6_34,
    ),
    Mutant(
        "an area that goes leaves its first link behind",
        "        for avc in reversed(vma.rmap):",
        "        for avc in reversed(vma.rmap[1:]):",
    ),
    Mutant("links are not freed (leaked avc)", "            free(avc.address)\n", ""),
    Mutant("an anon_vma without areas stays", "                empty.append(anon_vma)\n", ""),
    Mutant("an anon_vma that goes is still its parent's child", "                anon_vma.parent.children -= 1\n", ""),
    Mutant("an area that goes is still counted where it was at home", "        own.active -= 1\n", ""),
    Mutant("an area that goes counts off from the root", "        own.active -= 1\n", "        own.root.active -= 1\n"),
    Mutant(
        "an anon_vma goes while it is referred to (28)",
        "        if anon_vma.refcount:\n            return\n        del",
        "        del",
    ),
    Mutant(
        "a descendant that goes keeps its root",
        "        if anon_vma.root is not anon_vma:\n            self._put(anon_vma.root)\n",
        "",
    ),
    Mutant("an anon_vma leaks its memory", "        self._cache.free(anon_vma.address)\n        if", "        if"),
    Mutant("a freed anon_vma stays in the table", "        del self._objects[anon_vma.address]\n", ""),
    # vma_adjust
    Mutant(
        "a growing area does not take over (boundary forgets anon_vma, 13, up)",
        "                if vma.anon_vma is None:\n                    self.vma_copied(vma, nxt, SPLIT)",
        "                pass",
    ),
    Mutant(
        "a growing neighbour does not take over (13, down)",
        "                self.vma_copied(nxt, vma, SPLIT)\n        return",
        "                pass\n        return",
    ),
    Mutant(
        "a growing area takes over twice",
        "                if vma.anon_vma is None:\n                    self.vma_copied(vma, nxt, SPLIT)",
        "                self.vma_copied(vma, nxt, SPLIT)",
    ),
    Mutant(
        "an area that takes over forgets its links' keys",
        "        for vma in token:\n",
        "        for vma in token[:1]:\n",
    ),
    Mutant(
        "changed boundaries leave the trees as they were", "        for vma in token:\n", "        for vma in ():\n"
    ),
    Mutant(
        "changed boundaries leave the trees as they were, 3.7",
        "        for vma in token:\n",
        "        for vma in ():\n",
        _3_7,
    ),
    Mutant("a changed end is not seen", "if avc.start != first or avc.last != last:", "if avc.start != first:"),
    Mutant("a changed start is not seen", "if avc.start != first or avc.last != last:", "if avc.last != last:"),
    Mutant(
        "the root's link alone gets its new keys",
        "                    for avc in vma.rmap:\n                        avc.anon_vma.links.rekey",
        "                    for avc in vma.rmap[:1]:\n                        avc.anon_vma.links.rekey",
    ),
    Mutant(
        "new keys are set where the link stands",
        "        self.remove(avc)\n        avc.start, avc.last = first, last\n        self.insert(avc)",
        "        avc.start, avc.last = first, last",
    ),
    Mutant(
        "a link whose keys change is not put back",
        "        avc.start, avc.last = first, last\n        self.insert(avc)",
        "        avc.start, avc.last = first, last",
    ),
    Mutant(
        "a merged area stays on the lists",
        "        own = vma.anon_vma\n        if own is None:\n            return\n        empty",
        "        own = vma.anon_vma\n        if own is None or into is not None:\n            return\n        empty",
    ),
    Mutant(
        "any two areas may merge",
        "        if a.anon_vma is not b.anon_vma:\n            return False",
        "        if False:\n            return False",
    ),
    Mutant(
        "areas with unlike chains may merge",
        "return not self._unlike or [avc.anon_vma for avc in a.rmap] == [avc.anon_vma for avc in b.rmap]",
        "return True",
        _4_0,
    ),
    # the walk
    Mutant(
        "a walk ends with the first area",
        "walk.visit(vma.vm_mm, address, vma) & STOP:",
        "walk.visit(vma.vm_mm, address, vma) | STOP:",
    ),
    Mutant(
        "a walk does not end when told",
        "walk.visit(vma.vm_mm, address, vma) & STOP:",
        "walk.visit(vma.vm_mm, address, vma) & 0:",
    ),
    Mutant(
        "a walk leaves the last page of an area out",
        "            if start <= address < vma.vm_end and walk.visit",
        "            if start <= address < vma.vm_end - 4096 and walk.visit",
    ),
    Mutant(
        "a walk leaves the first page of an area out",
        "            if start <= address < vma.vm_end and walk.visit",
        "            if start < address < vma.vm_end and walk.visit",
    ),
    Mutant(
        "a walk offers addresses that the area has not",
        "            if start <= address < vma.vm_end and walk.visit",
        "            if walk.visit",
        _2_6_34,
    ),
    Mutant(
        "a walk looks one page further",
        "        found = links.overlapping(index, index)",
        "        found = links.overlapping(index + 1, index + 1)",
    ),
    Mutant(
        "a walk forgets vm_pgoff",
        "            address = start + (index - vma.vm_pgoff << 12)",
        "            address = start + (index << 12)",
    ),
    Mutant(
        "an audit is metered",
        "        if walk.purpose != Purpose.AUDIT:\n            self._meters.vmas_visited += seen",
        "        if True:\n            self._meters.vmas_visited += seen",
    ),
    # 2.6.34's lists
    Mutant("a link does not join the list", "        self._links[avc] = None\n", "        pass\n", _2_6_34),
    Mutant("a link does not leave the list (stale link)", "        del self._links[avc]", "        return", _2_6_34),
    Mutant(
        "the list's oldest link is offered alone",
        "        return iter(self._links)",
        "        return iter(list(self._links)[:1])",
        _2_6_34,
        at="_LinkList.overlapping",
    ),
    Mutant(
        "the list's oldest link is not offered",
        "        return iter(self._links)",
        "        return iter(list(self._links)[1:])",
        _2_6_34,
        at="_LinkList.overlapping",
    ),
    Mutant(
        "a listed link keeps its old keys",
        "    def rekey(self, avc: _Avc, first: int, last: int) -> None:\n        avc.start, avc.last = first, last\n",
        "    def rekey(self, avc: _Avc, first: int, last: int) -> None:\n        return\n",
        _2_6_34,
    ),
]

SURVIVORS: dict[str, str] = {}


def counts(kind: type, options: dict[str, Any]) -> None:
    """What is nowhere wrong and costs: areas looked at in vain, areas that cannot merge any more, anon_vmas without
    end."""
    m = CpulessMachine(kind, **options)
    meters, rmap, cache = m.mem.meters, m.mem.rmap, m.mem.scheme.env.scheme_caches[0]

    def looked_at(mm: Any, address: int) -> int:
        pfn = m.access(mm, address, False) >> 12
        before = meters.vmas_visited
        rmap.page_referenced(pfn)
        return meters.vmas_visited - before

    parent = m.new_mm()
    at = m.mmap(parent, 8)
    m.store(parent, at, 1)
    children = [m.fork(parent) for _ in range(4)]
    for child in children:
        m.store(child, at + 4096, 2)
        assert looked_at(child, at + 4096) == 1, "relatives are looked at for a page that a child wrote first"
        m.store(child, at, 3)
        assert looked_at(child, at) == 1, "relatives are looked at for a child's copy"
    lone = m.mmap(parent, 1, addr=at - (64 << 12))
    m.store(parent, lone, 1)
    last = m.fork(parent)
    m.munmap(parent, lone, 1)
    m.store(last, lone, 2)
    own = m.mem.scheme._objects[m.mem.frames.mapping[m.access(last, lone, False) >> 12]]
    assert own is last.find_vma(lone).anon_vma, (
        "a page that turned out exclusive stays where all relatives would be looked for"
    )
    m.munmap(last, lone, 1)
    areas, objects = len(parent.vmas), cache.objects
    for prot in (1, 3):
        do_mprotect(m.mem, parent, at + (2 << 12), 2 << 12, prot)
    assert (len(parent.vmas), cache.objects) == (areas, objects), "an area that was split does not merge again"
    for mm in (*children, last):
        m.exit(mm)
    if options.get("era") not in ("2.6.34", "3.7"):
        for _ in range(30):
            child = m.fork(parent)
            m.exit(parent)
            parent = child
            m.store(parent, at, 1)
        assert cache.objects <= 3 * len(parent.vmas), (
            f"{cache.objects} anon_vmas after 30 generations, for {len(parent.vmas)} area(s)"
        )
