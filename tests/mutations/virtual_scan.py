"""Faults in rmap_plugins/virtual_scan.py."""

from __future__ import annotations

from tests.mutations.runner import Mutant

MODULE = "rmap_plugins.virtual_scan"

MUTANTS = [
    Mutant("a new place is linked one way", "        place.next.prev = self\n", ""),
    Mutant("a new place is not linked", "        place.next.prev = self\n        place.next = self\n", ""),
    Mutant("a new place does not know what comes before it", "        self.prev, self.next = place, place.next\n", "        self.next = place.next\n"),
    Mutant("an mm that goes stays on mmlist (forgotten list removal)", "        place.unlink()\n", ""),
    Mutant("a place is unlinked one way", "        self.prev.next = self.next\n", ""),
    Mutant("a place is unlinked the other way only", "        self.next.prev = self.prev\n", ""),
    Mutant("swap_mm stays with an mm that goes", "        if self._swap_mm is place:\n            self._swap_mm = place.next\n", ""),
    Mutant("a forked mm is not enlisted", "        self._enlist(child, parent.rmap)", "        child.rmap = _Place(child)"),
    Mutant("an exec'd mm is not enlisted", "        self._enlist(mm, self._init_mm)", "        mm.rmap = _Place(mm)"),
    Mutant("an enlisted mm is not counted", "        self._mmlist_nr += 1\n", ""),
    Mutant("an mm that goes is still counted", "        self._mmlist_nr -= 1\n", ""),
    Mutant("the round never begins anew (cursor stays at the end)", "                place.swap_address = 0\n", ""),
    Mutant("the scan does not go on to the next mm", "                self._swap_mm = place\n", ""),
    Mutant("the scan visits one mm", "        for _ in range(self._mmlist_nr + 1):", "        for _ in range(1):"),
    Mutant("the scan reports nothing found", "            if not left:\n                break\n        return goal - left", "            if not left:\n                break\n        return 0"),
    Mutant("the scan does not stop at its goal", "            if not left:\n                break\n", ""),
    Mutant("an area is scanned from its start, not from the cursor", "max(address, vma.vm_start), vma.vm_end, zone, left)", "vma.vm_start, vma.vm_end, zone, left)"),
    Mutant("an area is scanned from the cursor, which lies before it", "max(address, vma.vm_start), vma.vm_end, zone, left)", "address, vma.vm_end, zone, left)"),
    Mutant("an area's last page is never scanned", "max(address, vma.vm_start), vma.vm_end, zone, left)", "max(address, vma.vm_start), vma.vm_end - 4096, zone, left)"),
    Mutant("the first area is never scanned", "        for i in range(mm.find_index(address), len(vmas)):", "        for i in range(max(1, mm.find_index(address)), len(vmas)):"),
    Mutant("the last area is never scanned", "        for i in range(mm.find_index(address), len(vmas)):", "        for i in range(mm.find_index(address), len(vmas) - 1):"),
    Mutant("the cursor is not kept", "            done, place.swap_address = try_to_swap_out", "            done, _ = try_to_swap_out"),
    Mutant("the goal is not counted down", "            left -= done\n", ""),
    Mutant("a round never ends", "        place.swap_address = _TASK_SIZE\n", ""),
    Mutant("a round that meets its goal is over", "            if not left and i + 1 < len(vmas):\n                return 0\n", "            if not left and i + 1 < len(vmas):\n                break\n"),
]

SURVIVORS: dict[str, str] = {
}
