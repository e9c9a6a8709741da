"""Faults in rmap_plugins/anonmm.py. Numbers in brackets: docs/bug-classes.md."""

from __future__ import annotations

from typing import Any

from sandbox.kit.machine import CpulessMachine
from tests.mutations.runner import Mutant

MODULE = "rmap_plugins.anonmm"

MUTANTS = [
    Mutant(
        "a child founds a family of its own",
        "        self._new(mm, None if parent is None else parent.rmap.head)",
        "        self._new(mm, None)",
    ),
    Mutant(
        "exec joins the family it came from",
        "        self._new(mm, None if parent is None else parent.rmap.head)",
        "        self._new(mm, next((m.rmap.head for m in self.env.mms.values() if m.rmap), None))",
        costs=True,
    ),
    Mutant(
        "a child's head is its parent, not the head (stale family head)",
        "None if parent is None else parent.rmap.head)",
        "None if parent is None else parent.rmap)",
    ),
    Mutant("a new member is not counted in its head", "            head.count += 1\n", ""),
    Mutant("a new member joins the ring one way", "            head.prev.next = self\n", ""),
    Mutant("a new member joins the ring the other way only", "            head.prev = self\n", ""),
    Mutant("a living mm holds no reference", "            self.count = 1\n", "            self.count = 0\n"),
    Mutant("a head begins without its own reference", "            self.count = 2\n", "            self.count = 1\n"),
    Mutant(
        "the object is not entered in the table",
        "mm.rmap = self._objects[address] = _AnonMm(address, mm, head)",
        "mm.rmap = _AnonMm(address, mm, head)",
    ),
    Mutant("a dead anonmm still leads to its mm", "        anonmm.mm = None\n", ""),
    Mutant(
        "an mm that exits keeps its reference (zombie never freed)",
        "self._put(anonmm, 1)",
        "pass",
        at="AnonMm.mm_exited",
    ),
    Mutant(
        "an anonmm is freed with its mm, pages or not (28)",
        "        if anonmm is not head and anonmm.count == 0:",
        "        if anonmm is not head and (anonmm.count == 0 or anonmm.mm is None):",
    ),
    Mutant(
        "an empty zombie stays",
        "        if anonmm is not head and anonmm.count == 0:",
        "        if anonmm is not head and anonmm.count < 0:",
    ),
    Mutant(
        "a freed member stays in the ring (forgotten list removal)",
        "            anonmm.prev.next, anonmm.next.prev = anonmm.next, anonmm.prev\n",
        "",
    ),
    Mutant(
        "a freed member is still counted in its head",
        "            self._free(anonmm)\n            head.count -= 1\n",
        "            self._free(anonmm)\n",
    ),
    Mutant(
        "a head is freed while members are left (head freed twice)",
        "        if head.count == 1:",
        "        if head.count == 1 or anonmm is head and head.mm is None and head.count == 2:",
    ),
    Mutant("a head whose count is one for itself stays", "        if head.count == 1:", "        if head.count == 0:"),
    Mutant(
        "a freed object leaks its memory",
        "        del self._objects[anonmm.address]\n        self._cache.free(anonmm.address)",
        "        del self._objects[anonmm.address]",
    ),
    Mutant(
        "a freed object stays in the table",
        "        del self._objects[anonmm.address]\n        self._cache.free(anonmm.address)",
        "        self._cache.free(anonmm.address)",
    ),
    Mutant("a page that names an anonmm is not counted there", "            anonmm.count += 1\n", ""),
    Mutant(
        "a page is at home in the head",
        "            anonmm = vma.vm_mm.rmap\n            anonmm.count += 1\n",
        "            anonmm = vma.vm_mm.rmap.head\n            anonmm.count += 1\n",
        costs=True,
    ),
    Mutant(
        "every mapping counts as a page (missed mapcount)",
        "        if self._mapcount[pfn] == 0:\n            anonmm = ",
        "        if self._mapcount[pfn] <= 1:\n            anonmm = ",
    ),
    Mutant(
        "the last to map a page is its home (24)",
        "        if self._mapcount[pfn] == 0:\n            anonmm = ",
        "        if self._mapcount[pfn] == 0 or self._index[pfn] == address & ~0xFFF:\n            anonmm = ",
    ),
    Mutant("the address is not set", "            self._index[pfn] = address & ~0xFFF\n", ""),
    Mutant("the mapping is not set", "            self._mapping[pfn] = anonmm.address\n", ""),
    Mutant(
        "the index is an offset in the area (wrong pgoff)",
        "            self._index[pfn] = address & ~0xFFF\n",
        "            self._index[pfn] = address - vma.vm_start & ~0xFFF\n",
    ),
    Mutant(
        "swap-in at another address than the page has (10)",
        "        elif self._index[pfn] != address & ~0xFFF:\n            return COPY\n",
        "",
    ),
    Mutant(
        "swap-in is refused at the right address too",
        "        elif self._index[pfn] != address & ~0xFFF:",
        "        else:",
        costs=True,
    ),
    Mutant(
        "a page that is released keeps its reference",
        "            self._put(self._objects[self._mapping[pfn]], 1)\n",
        "",
    ),
    Mutant(
        "pages of one home that are released count as one",
        "            self._put(self._objects[int(named[0])], len(pfns))\n",
        "            self._put(self._objects[int(named[0])], 1)\n",
    ),
    Mutant(
        "pages that are released all had the first one's home",
        "        if (named == named[0]).all():",
        "        if len(named):",
    ),
    Mutant(
        "pages of several homes that are released count as one each",
        "            self._put(self._objects[home], count)\n",
        "            self._put(self._objects[home], 1)\n",
    ),
    Mutant(
        "mremap copies nothing first (10)",
        "        return np.nonzero(self._anon(pfns) & (self._frames.np_mapcount[pfns] > 1))[0]",
        "        return None",
    ),
    Mutant(
        "mremap copies pages of three and more only",
        "        return np.nonzero(self._anon(pfns) & (self._frames.np_mapcount[pfns] > 1))[0]",
        "        return np.nonzero(self._anon(pfns) & (self._frames.np_mapcount[pfns] > 2))[0]",
    ),
    Mutant(
        "mremap keeps the address",
        "        self._frames.np_index[anon] = (self._frames.np_index[anon].astype(np.int64) + "
        "delta).astype(np.uint32)",
        "        return",
    ),
    Mutant("mremap moves the address the other way", ".astype(np.int64) + delta)", ".astype(np.int64) - delta)"),
    Mutant("mremap moves file pages too", "        anon = pfns[self._anon(pfns)]\n", "        anon = pfns\n"),
    Mutant(
        "a walk ends with the page's home",
        "            member = member.next\n            if member is named:",
        "            if True:",
    ),
    Mutant(
        "a walk ends with the head",
        "            if member is named:\n                break",
        "            if member is named or member is named.head:\n                break",
    ),
    Mutant(
        "a walk leaves the page's home out",
        "        member = named\n        while asked < many:\n            mm =",
        "        member = named.next\n        while asked < many:\n            mm =",
    ),
    Mutant(
        "a walk asks nobody once the page's home is dead",
        "        if named is None:\n            return\n        columns",
        "        if named is None or named.mm is None:\n            return\n        columns",
    ),
    Mutant(
        "a walk does not end when told",
        "                if answer & STOP:\n                    break",
        "                if answer & 0:\n                    break",
    ),
    Mutant(
        "a walk ends with the first hit",
        "                if answer & STOP:\n                    break",
        "                if answer & STOP or answer & ANSWER == HIT:\n                    break",
    ),
    Mutant(
        "an audit is metered",
        "        if walk.purpose == Purpose.AUDIT:\n            return\n        self._meters.mms_visited += asked\n"
        "        if walk.purpose == Purpose.REFERENCED",
        "        self._meters.mms_visited += asked\n        if walk.purpose == Purpose.REFERENCED",
    ),
    Mutant(
        "an audit moves pages of the dead",
        "        if walk.purpose == Purpose.AUDIT:\n            return\n        self._meters.mms_visited += asked\n"
        "        if walk.purpose == Purpose.REFERENCED and",
        "        if walk.purpose != Purpose.AUDIT:\n            self._meters.mms_visited += asked\n        if",
    ),
    Mutant(
        "pages of the dead are never moved (zombies pile up)",
        "        if walk.purpose == Purpose.REFERENCED and named.mm is None",
        "        if 0 and named.mm is None",
        costs=True,
    ),
    Mutant("the new home does not count the page", "            found.count += 1\n", ""),
    Mutant("the page is not told of its new home", "            self._mapping[pfn] = found.address\n", ""),
    Mutant(
        "the dead home is not told that the page left",
        "            self._mapping[pfn] = found.address\n            self._put(named, 1)",
        "            self._mapping[pfn] = found.address",
    ),
]

SURVIVORS: dict[str, str] = {}


def counts(kind: type, options: dict[str, Any]) -> None:
    """What is nowhere wrong and costs: how many address spaces are asked, copies that nobody needs, the dead who
    stay."""
    m = CpulessMachine(kind, **options)
    meters, rmap, cache = m.mem.meters, m.mem.rmap, m.mem.scheme.env.scheme_caches[0]

    def asked(pfn: int) -> int:
        before = meters.mms_visited
        rmap.page_referenced(pfn)
        return meters.mms_visited - before

    head, stranger = m.new_mm(), m.new_mm()
    m.store(stranger, m.mmap(stranger, 1), 1)
    at = m.mmap(head, 2)
    m.store(head, at + 4096, 1)
    middle = m.fork(head)
    assert asked(m.access(head, at + 4096, False) >> 12) == 2, "another family is asked"
    m.exit(stranger)
    m.store(middle, at, 1)
    pfn = m.access(middle, at, False) >> 12
    assert asked(pfn) == 1, "a child's own page is not looked for in the child first"
    child = m.fork(middle)
    m.mem.clock.charge(10**9)
    for _ in range(4):
        m.mem.reclaim.shrink_all(1 << 12)
        m.mem.clock.charge(10**9)
    assert m.access(middle, at, False) >> 12 == m.access(child, at, False) >> 12, (
        "sharers at one address have copies after swap-in"
    )
    pfn = m.access(child, at, False) >> 12
    m.exit(middle)
    rmap.page_referenced(pfn)
    assert cache.objects == 2, "the middle one is dead, its last page has been asked for, and it stays"
