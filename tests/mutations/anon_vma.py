"""Faults in rmap_plugins/anon_vma.py. Numbers in brackets: docs/bug-classes.md."""

from __future__ import annotations

from typing import Any

from mmcore.calls.mprotect import do_mprotect
from sandbox.kit.machine import CpulessMachine
from tests.mutations.runner import Mutant

MODULE = "rmap_plugins.anon_vma"

MUTANTS = [
    Mutant(
        "an area that goes stays on the list (forgotten removal)",
        "        vma.anon_vma = None\n        del anon_vma.areas[vma]\n",
        "        vma.anon_vma = None\n",
    ),
    Mutant(
        "an object without areas is never freed",
        "            del self._objects[anon_vma.word]\n            self._cache.free(anon_vma.address)",
        "            pass",
    ),
    Mutant(
        "an object without areas leaks its memory",
        "            del self._objects[anon_vma.word]\n            self._cache.free(anon_vma.address)",
        "            del self._objects[anon_vma.word]",
    ),
    Mutant(
        "an object is freed while areas are left (28)",
        "if not anon_vma.areas:",
        "if len(anon_vma.areas) <= 1:",
        at="AnonVma._unlink",
    ),
    Mutant(
        "an adopted object is not linked (14)",
        "        vma.anon_vma = anon_vma\n        anon_vma.areas[vma] = None\n",
        "        vma.anon_vma = anon_vma\n",
    ),
    Mutant(
        "every fault makes an object",
        '        if vma.anon_vma is None and operation == "anon_fault":',
        '        if operation == "anon_fault":',
    ),
    Mutant(
        "a file's fault prepares nothing, nor does a stack's",
        '        if vma.anon_vma is None and operation == "anon_fault":',
        '        if vma.anon_vma is None and operation == "anon_fault" and not vma.vm_flags & 0x100:',
    ),
    Mutant("the object is not entered in the table", "                self._objects[anon_vma.word] = anon_vma\n", ""),
    Mutant(
        "the page's index forgets vm_pgoff",
        "        index = (address - vma.vm_start >> 12) + vma.vm_pgoff & 0xFFFFFFFF\n        frames",
        "        index = (address - vma.vm_start >> 12) & 0xFFFFFFFF\n        frames",
    ),
    Mutant(
        "the page's index counts from 0 (wrong pgoff)",
        "        index = (address - vma.vm_start >> 12) + vma.vm_pgoff & 0xFFFFFFFF\n        frames",
        "        index = address >> 12\n        frames",
    ),
    Mutant(
        "exclusive is ignored",
        "        if exclusive or frames.mapcount[pfn] == 0:\n",
        "        if frames.mapcount[pfn] == 0:\n",
    ),
    Mutant(
        "only exclusive pages get a home (24)",
        "        if exclusive or frames.mapcount[pfn] == 0:\n",
        "        if exclusive:\n",
    ),
    Mutant("the index is not set", "            self._index[pfn] = index\n", ""),
    Mutant("the mapping is not set", "            self._mapping[pfn] = vma.anon_vma.word\n", ""),
    Mutant(
        "a copied area is not linked",
        "        dst.anon_vma = None\n        if src.anon_vma is not None:\n            self._link(dst, src.anon_vma)",
        "        dst.anon_vma = None",
    ),
    Mutant(
        "a copied area points to the object and is not on its list",
        "        if src.anon_vma is not None:\n            self._link(dst, src.anon_vma)",
        "        dst.anon_vma = src.anon_vma",
    ),
    Mutant(
        "a split area is not linked",
        "        if src.anon_vma is not None:\n            self._link(dst, src.anon_vma)",
        '        if src.anon_vma is not None and how != "split":\n            self._link(dst, src.anon_vma)',
    ),
    Mutant(
        "a moved area is not linked",
        "        if src.anon_vma is not None:\n            self._link(dst, src.anon_vma)",
        '        if src.anon_vma is not None and how != "move":\n            self._link(dst, src.anon_vma)',
    ),
    Mutant(
        "a moved area's offset is its new address (index not updated at move)",
        "        return src.vm_pgoff + (old_address - src.vm_start >> 12)",
        "        return new_address >> 12",
    ),
    Mutant(
        "a moved part's offset is its area's",
        "        return src.vm_pgoff + (old_address - src.vm_start >> 12)",
        "        return src.vm_pgoff",
    ),
    Mutant(
        "vma_unlinked does nothing",
        "        self._unlink(vma)",
        "        if into is not None:\n            self._unlink(vma)",
        at="AnonVma.vma_unlinked",
    ),
    Mutant(
        "the growing area does not take over (13, up)",
        "        if end > vma.vm_end and vma.anon_vma is None and nxt.anon_vma is not None:\n            "
        "self._link(vma, nxt.anon_vma)\n        elif",
        "        if",
    ),
    Mutant(
        "the growing neighbour does not take over (13, down)",
        "        elif end < vma.vm_end and nxt.anon_vma is None and vma.anon_vma is not None:\n            "
        "self._link(nxt, vma.anon_vma)\n",
        "",
    ),
    Mutant(
        "a merged area stays on the list",
        "        self._unlink(vma)",
        "        if into is None:\n            self._unlink(vma)",
        at="AnonVma.vma_unlinked",
    ),
    Mutant(
        "any two areas may merge",
        "        return a.anon_vma is None or b.anon_vma is None or a.anon_vma is b.anon_vma",
        "        return True",
    ),
    Mutant(
        "a walk ends with the newest area",
        "& STOP:\n                return seen",
        "& STOP or True:\n                return seen",
    ),
    Mutant(
        "a walk does not end when told", "& STOP:\n                return seen", "& 0:\n                return seen"
    ),
    Mutant(
        "a walk leaves the last page of an area out",
        "            if address < vma.vm_end and walk.visit",
        "            if address < vma.vm_end - 4096 and walk.visit",
    ),
    Mutant(
        "a walk does not wrap indices", "((index - vma.vm_pgoff & 0xFFFFFFFF) << 12)", "((index - vma.vm_pgoff) << 12)"
    ),
    Mutant("2.6.9: a page's word has no tag", "address | self._tag)\n", "address)\n", (("era", "2.6.9"),), costs=True),
    Mutant("areas do not share", "self._find_mergeable(vma) if self._sharing else None", "None", costs=True),
    Mutant(
        "an audit is metered",
        "        if walk.purpose != Purpose.AUDIT:\n            self._meters.vmas_visited += seen",
        "        self._meters.vmas_visited += seen",
    ),
]

SURVIVORS: dict[str, str] = {
    "exclusive is ignored": "Equivalent: a page is exclusive only when nothing maps it (swapped in by its last "
    "owner, or fresh), so mapcount is 0 whenever exclusive is "
    "true; the kit's watch holds the core to that. 2.6.34's chains are where the two differ.",
}


def counts(kind: type, options: dict[str, Any]) -> None:
    """What is nowhere wrong: an object for each of two areas that could merge but for their rights; the bit that tells
    an anonymous page's word from a file's."""
    m = CpulessMachine(kind, **options)
    mm = m.new_mm()
    at = m.mmap(mm, 4)
    m.store(mm, at, 1)
    do_mprotect(m.mem, mm, at + (2 << 12), 8192, 1)
    low = m.mmap(mm, 2, 7, addr=at - (2 << 12))
    m.store(mm, low, 1)
    assert len(mm.vmas) == 3 and m.mem.scheme.env.scheme_caches[0].objects == 1, "neighbours do not share"
    word = m.mem.frames.mapping[m.access(mm, at, False) >> 12]
    assert word & 1 == (options.get("era") == "2.6.9"), f"a page's word is {word:#x}"
