"""Faults in rmap_plugins/anonmm_chained.py; what it has from anonmm is held there. Numbers in brackets:
docs/bug-classes.md."""

from __future__ import annotations

from typing import Any

from mmcore.calls.fremap import remap_file_pages
from mmcore.calls.mremap import do_mremap
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_SHARED, CpulessMachine
from tests.mutations.runner import Mutant

MODULE = "rmap_plugins.anonmm_chained"

MUTANTS = [
    Mutant(
        "the first node has a slot for the count no more",
        "        return len(self.addresses) == SLOTS * len(self.nodes) - 1",
        "        return len(self.addresses) == SLOTS * len(self.nodes)",
    ),
    Mutant(
        "a chain is full with each address",
        "        return len(self.addresses) == SLOTS * len(self.nodes) - 1",
        "        return len(self.addresses) >= 1",
    ),
    Mutant("shared pages are copied before they move", "    move_check = RmapScheme.move_check\n", "", costs=True),
    Mutant(
        "a move reserves nothing (3)",
        "            self._fill(self._nodes_needed(vma, pfns))\n            return True",
        "            return True",
    ),
    Mutant(
        "a move reserves one node",
        "            self._fill(self._nodes_needed(vma, pfns))\n",
        "            self._fill(1)\n",
    ),
    Mutant(
        "a fault reserves nothing",
        "            self._fill(1)\n        return None",
        "            pass\n        return None",
    ),
    Mutant(
        "a nonlinear area's fault reserves nothing",
        '(operation == "anon_fault" or vma.vm_flags & VM_NONLINEAR)',
        'operation == "anon_fault"',
    ),
    Mutant(
        "an anonymous page's fault reserves nothing",
        '(operation == "anon_fault" or vma.vm_flags & VM_NONLINEAR)',
        "vma.vm_flags & VM_NONLINEAR",
    ),
    Mutant(
        "a failed reservation keeps its nodes",
        "        except BaseException:\n            self.release(True)\n            raise",
        "        except BaseException:\n            raise",
    ),
    Mutant(
        "nodes left over are never given back",
        "        while len(self._spare) > 1:\n            self._nodes.free(self._spare.pop())",
        "        return",
    ),
    Mutant(
        "nodes left over are forgotten (leaked node)",
        "            self._nodes.free(self._spare.pop())",
        "            self._spare.pop()",
    ),
    Mutant(
        "a move of a nonlinear area reserves for anonymous pages only",
        "        if vma.vm_flags & VM_NONLINEAR:\n            chosen = pfns\n        else:\n            chosen =",
        "        if True:\n            chosen =",
    ),
    Mutant(
        "a move reserves for pages of three and more only",
        "(frames.np_mapcount[pfns] > 1)]",
        "(frames.np_mapcount[pfns] > 2)]",
    ),
    Mutant(
        "a move reserves nothing for full chains",
        "_nodes(held + more) - (",
        "_nodes(more) * (not word) - 0 * (",
    ),
    Mutant("a page at many places reserves as if at one", "_nodes(held + more)", "_nodes(held + 1)"),
    Mutant(
        "a move reserves nothing for first addresses",
        "            need += _nodes(held",
        "            need += bool(word) and _nodes(held",
    ),
    Mutant(
        "the page's word does not lead to its chain",
        "            word = self._rmap[pfn] = self._spare.pop()\n",
        "            word = self._spare.pop()\n",
    ),
    Mutant(
        "each new address begins a new chain (lost node)",
        "        if not word:\n            word = self._rmap[pfn]",
        "        if True:\n            word = self._rmap[pfn]",
    ),
    Mutant("an address stands in the chain twice", "        if address in chain.addresses:\n            return\n", ""),
    Mutant(
        "a full chain gets no node", "        if chain.full:\n            chain.nodes.append(self._spare.pop())\n", ""
    ),
    Mutant("a new address is not noted", "        chain.addresses.append(address)\n", ""),
    Mutant(
        "a new address takes the last one's place",
        "        chain.addresses.append(address)\n",
        "        chain.addresses[-1:] = [address]\n",
    ),
    Mutant(
        "a page that is forgotten keeps its word",
        "        if word:\n            self._rmap[pfn] = 0\n",
        "        if word:\n",
    ),
    Mutant(
        "a forgotten chain's nodes are not freed",
        "            for node in self._chains.pop(word).nodes:\n                self._nodes.free(node)\n",
        "            self._chains.pop(word)\n",
    ),
    Mutant(
        "a forgotten chain's first node alone is freed",
        "            for node in self._chains.pop(word).nodes:\n",
        "            for node in self._chains.pop(word).nodes[:1]:\n",
    ),
    Mutant(
        "swap-in at another address is not noted (10)",
        "            self._note(pfn, address & ~0xFFF)\n        return OK",
        "            pass\n        return OK",
    ),
    Mutant(
        "a file page in a nonlinear area is not noted (17)",
        "            self._note(pfn, address & ~0xFFF)",
        "            pass",
        at="AnonMmChained.add_file",
    ),
    Mutant(
        "released pages keep their chains",
        "        if len(pfns) > 1:\n            self._forget_all(pfns)\n"
        "        elif self._rmap[pfns.item()]:\n            self._forget(pfns.item())\n",
        "",
    ),
    Mutant(
        "released file pages keep their chains",
        "        for pfn in pfns[self._frames.np_rmap[pfns] != 0].tolist():",
        "        for pfn in pfns[(self._frames.np_rmap[pfns] != 0) & self._anon(pfns)].tolist():",
    ),
    Mutant(
        "a page mapped once keeps its address when it moves",
        "        frames.np_index[pfns[alone]] = (pages << 12).astype(np.uint32)\n",
        "",
    ),
    Mutant(
        "a page mapped once keeps its chain when it moves",
        "        self._forget_all(pfns[alone])\n        others",
        "        others",
    ),
    Mutant(
        "a shared page is thought alone when it moves (missed mapcount)",
        "(frames.np_mapcount[pfns] == 1)",
        "(frames.np_mapcount[pfns] <= 2)",
    ),
    Mutant(
        "no page is thought alone when it moves",
        "        alone = anon & (frames.np_mapcount[pfns] == 1)\n",
        "        alone = anon & (frames.np_mapcount[pfns] == 0)\n",
    ),
    Mutant(
        "a moved page's address comes from its old PTE",
        "        tables = dst_ptes[alone] // self.env.pgtables.PTRS\n        pages = "
        "frames.np_index[tables].astype(np.int64) + dst_ptes[alone] % self.env.pgtables.PTRS",
        "        tables = src_ptes[alone] // self.env.pgtables.PTRS\n        pages = "
        "frames.np_index[tables].astype(np.int64) + src_ptes[alone] % self.env.pgtables.PTRS",
    ),
    Mutant(
        "a moved page's address begins with its table's (wrong pgoff)",
        " + dst_ptes[alone] % self.env.pgtables.PTRS",
        "",
    ),
    Mutant(
        "a shared page that moves is not noted",
        "                if address != self._index[pfn]:\n                    self._note(pfn, address)",
        "                pass",
    ),
    Mutant(
        "a shared page that comes back is noted once more",
        "                if address != self._index[pfn]:\n                    self._note(pfn, address)",
        "                self._note(pfn, address)",
    ),
    Mutant(
        "a moved nonlinear area's pages are not noted",
        "        if dst.vm_flags & VM_NONLINEAR:\n            others |= ~anon\n",
        "",
    ),
    Mutant(
        "an audit is metered",
        "        if purpose != Purpose.AUDIT:\n            self._meters.nodes",
        "        if True:\n            self._meters.nodes",
    ),
    Mutant(
        "a walk does not know a file page's addresses",
        "        return tuple(self._known(walk.pfn))",
        "        return ()",
        costs=True,
    ),
    Mutant(
        "a walk asks at the first address only",
        "            walk = _Everywhere(walk, self._known(walk.pfn))\n",
        "",
    ),
    Mutant(
        "a walk forgets the first address",
        "        for where in (address, *self.addresses):",
        "        for where in self.addresses:",
    ),
    Mutant(
        "a walk forgets the last address",
        "        for where in (address, *self.addresses):",
        "        for where in (address, *self.addresses[:-1]):",
    ),
    Mutant(
        "a walk does not end when told",
        "            if answer & STOP:\n                return result | STOP",
        "            if answer & STOP:\n                return result",
    ),
    Mutant(
        "a hit at an odd address is not told (zombie never freed)",
        "            if answer & ANSWER == HIT:\n                result = HIT\n",
        "",
        costs=True,
    ),
]

SURVIVORS: dict[str, str] = {}


def counts(kind: type, options: dict[str, Any]) -> None:
    """What is nowhere wrong and costs: the dead who stay, a search where the addresses are known."""
    m = CpulessMachine(kind, **options)
    mem = m.mem
    head = m.new_mm()
    at = m.mmap(head, 1)
    middle = m.fork(head)
    m.store(middle, at, 1)
    child = m.fork(middle)
    mem.current.mm = child
    to = do_mremap(mem, child, at, 4096, 4096, 3, at + (64 << 12))
    pfn = m.access(middle, at, False) >> 12
    assert m.access(child, to, False) >> 12 == pfn, "a shared page is copied before it moves"
    m.exit(middle)
    mem.rmap.page_referenced(pfn)
    assert mem.scheme.env.scheme_caches[0].objects == 2, (
        "the middle one is dead, its last page was met at another address, and it stays"
    )

    at = m.mmap(head, 24, flags=MAP_SHARED, file=tmpfs_file(mem, 24))
    m.access(head, at, True)
    remap_file_pages(mem, head, at, 4096, 0, 9, 0)
    pfn = m.access(head, at, True) >> 12
    mem.pgtables.ptes[mem.pgtables.pte_index(head.pgd, at)] &= ~0x20  # not young: it may go
    before = mem.meters.file_ptes_probed
    mem.rmap.try_to_unmap(pfn)
    assert not mem.frames.mapcount[pfn] and mem.meters.file_ptes_probed - before == 2, (
        "PTEs are searched for a page of a file whose addresses are known"
    )
