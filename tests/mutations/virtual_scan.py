"""Faults in rmap_plugins/virtual_scan.py."""

from __future__ import annotations

from typing import Any

from mmcore.physical.frames import PG_ACTIVE, PG_REFERENCED
from mmcore.physical.pgtable import A
from sandbox.kit.machine import CpulessMachine
from tests.mutations.runner import Mutant

MODULE = "rmap_plugins.virtual_scan"

MUTANTS = [
    Mutant("a new place is linked one way", "        place.next.prev = self\n", ""),
    Mutant("a new place is not linked", "        place.next.prev = self\n        place.next = self\n", ""),
    Mutant(
        "a new place does not know what comes before it",
        "        self.prev, self.next = place, place.next\n",
        "        self.next = place.next\n",
    ),
    Mutant("an mm that goes stays on mmlist (forgotten list removal)", "        place.unlink()\n", ""),
    Mutant("a place is unlinked one way", "        self.prev.next = self.next\n", ""),
    Mutant("a place is unlinked the other way only", "        self.next.prev = self.prev\n", ""),
    Mutant(
        "swap_mm stays with an mm that goes",
        "        if self._swap_mm is place:\n            self._swap_mm = place.next\n",
        "",
    ),
    Mutant(
        "a forked mm is not enlisted",
        "        self._enlist(mm, self._init_mm if parent is None else parent.rmap)",
        "        self._enlist(mm, self._init_mm) if parent is None else setattr(mm, 'rmap', _Place(mm))",
    ),
    Mutant(
        "an exec'd mm is not enlisted",
        "        self._enlist(mm, self._init_mm if parent is None else parent.rmap)",
        "        self._enlist(mm, parent.rmap) if parent else setattr(mm, 'rmap', _Place(mm))",
    ),
    Mutant("an enlisted mm is not counted", "        self._mmlist_nr += 1\n", ""),
    Mutant("an mm that goes is still counted", "        self._mmlist_nr -= 1\n", ""),
    Mutant(
        "the scan does not go on to the next mm", "self._swap_mm = place\n", "", costs=True, at="VirtualScan.swap_out"
    ),
    Mutant(
        "the scan visits one mm",
        "        for _ in range(self._mmlist_nr + 1):",
        "        for _ in range(1):",
        costs=True,
    ),
    Mutant(
        "the scan reports nothing found",
        "            if not left:\n                break\n        return goal - left",
        "            if not left:\n                break\n        return 0",
    ),
    Mutant("the scan does not stop at its goal", "            if not left:\n                break\n", "", costs=True),
    Mutant(
        "an area is scanned from its start, not from the cursor",
        "max(address, vma.vm_start), vma.vm_end, zone, left)",
        "vma.vm_start, vma.vm_end, zone, left)",
        costs=True,
    ),
    Mutant(
        "an area is scanned from the cursor, which lies before it",
        "max(address, vma.vm_start), vma.vm_end, zone, left)",
        "address, vma.vm_end, zone, left)",
    ),
    Mutant(
        "an area's last page is never scanned",
        "max(address, vma.vm_start), vma.vm_end, zone, left)",
        "max(address, vma.vm_start), vma.vm_end - 4096, zone, left)",
    ),
    Mutant(
        "the first area is never scanned",
        "        for i in range(len(vmas) if first is None else mm.index_of(first), len(vmas)):",
        "        for i in range(len(vmas) if first is None else max(1, mm.index_of(first)), len(vmas)):",
    ),
    Mutant(
        "the last area is never scanned",
        "        for i in range(len(vmas) if first is None else mm.index_of(first), len(vmas)):",
        "        for i in range(len(vmas) if first is None else mm.index_of(first), len(vmas) - 1):",
    ),
    Mutant(
        "the cursor is not kept",
        "            done, place.swap_address = try_to_swap_out",
        "            done, _ = try_to_swap_out",
        costs=True,
    ),
    Mutant("the goal is not counted down", "            left -= done\n", ""),
    Mutant("a round never ends", "        place.swap_address = _TASK_SIZE\n", ""),
    Mutant(
        "a round that meets its goal is over",
        "            if not left and i + 1 < len(vmas):\n                return 0\n",
        "            if not left and i + 1 < len(vmas):\n                break\n",
        costs=True,
    ),
]

SURVIVORS: dict[str, str] = {}


def counts(kind: type, options: dict[str, Any]) -> None:
    """What is nowhere wrong and costs: how many PTEs and address spaces a scan looks at, and in which order it takes
    them."""
    m = CpulessMachine(kind, memory=8 << 20, **options)
    mem = m.mem
    zone, frames, meters = mem.pages.zones[0], mem.frames, mem.meters
    mms = [m.new_mm() for _ in range(3)]
    for mm in mms:
        for at in (0x10000000, 0x20000000):
            m.mmap(mm, 8, addr=at)
            for address in range(at, at + (8 << 12), 4096):
                m.store(mm, address, 1)
    mem.reclaim.lru_add_drain()
    for mm in mms:
        for at in (0x10000000, 0x20000000):
            for i in (mem.pgtables.pte_index(mm.pgd, address) for address in range(at, at + (8 << 12), 4096)):
                pfn = mem.pgtables.ptes[i] >> 12 & mem.pgtables.PFN_MASK
                mem.pgtables.ptes[i] &= ~A
                if frames.flags[pfn] & PG_ACTIVE:
                    zone.active.remove(pfn)
                    zone.inactive.add(pfn)
                frames.flags[pfn] &= ~(PG_ACTIVE | PG_REFERENCED)

    def scan(goal: int) -> tuple[int, int]:
        """(PTEs looked at, address spaces visited) until `goal` pages are found."""
        before = meters.ptes_probed, meters.mms_visited
        assert mem.scheme.swap_out(12, zone, goal) == goal
        return meters.ptes_probed - before[0], meters.mms_visited - before[1]

    for goal in (4, 4, 8):
        assert scan(goal) == (goal, 1), (
            "a scan does not go on where it stopped, or goes on when it has what it came for"
        )
    assert scan(16) == (16, 1), "the second address space has its turn when the first one's round is over"
    assert scan(4) == (4, 1), "the third one is next"
    m.store(mms[2], 0x20000000, 2)  # newest first: this one was scanned first
    before = meters.mms_visited
    assert mem.scheme.swap_out(12, zone, 99) == 12 and meters.mms_visited - before == 4, (
        "not every address space is visited, and the first twice"
    )
