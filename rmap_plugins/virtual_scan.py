"""virtual_scan: no reverse map. Nothing leads from a page to its PTEs; address spaces are scanned until enough PTEs are
gone.

Origin      Linux up to 2.5.26, in the shape that the VM of 2.4.10 and after had
Idea        Reclaim that meets too many mapped pages asks for swap_out. It goes round the list of address spaces, in
            each from where it last stopped, and takes out PTEs that were not used since it last came by. A page all of
            whose PTEs went is found again on the inactive list, and freed there.

    swap_mm ──> mm ──> mm ──> mm ──> (round)        mmlist: init_mm, exec'd ones after it, a forked one after its parent
                 │ swap_address                     up to here the areas of this mm were scanned
                 v
    0 ─────────[area]──[area]───────[area]── 3 GB

Structures  swap_address, 4 bytes of mm_struct; mmlist, 8 bytes, is the base kernel's (2.6.7 kept it for swapoff).
            Nothing in struct page.
Cost        A sweep looks at every PTE of every address space. A page mapped N times can go only after the scan met all
            N, and until then each fault maps it again: with many processes over one large segment the scan may never
            catch up. That is what reverse mapping was written against.
"""

from __future__ import annotations

from typing import Any

from mmcore.rmap import NEXT, ROOT, Card, Draft, MachineFacts, Mm, Picture, ScanScheme, SchemeEnv, Setup, Zone, search

_TASK_SIZE = 0xC0000000  # as a cursor: this mm's round is over


class _Place:
    """An mm's place on mmlist; it hangs at `mm.rmap`."""

    __slots__ = ("mm", "swap_address", "prev", "next")

    def __init__(self, mm: Mm | None) -> None:
        self.mm = mm
        self.swap_address = 0
        self.prev = self.next = self

    def add_after(self, place: _Place) -> None:
        self.prev, self.next = place, place.next
        place.next.prev = self
        place.next = self

    def unlink(self) -> None:
        self.prev.next = self.next
        self.next.prev = self.prev


class VirtualScan(ScanScheme):
    card = Card(
        name="virtual_scan",
        title="no reverse map: address spaces are scanned",
        kernels="2.4 - 2.5.26",
        origin="mm/vmscan.c before Rik van Riel's reverse mapping was merged in 2.5.27, 2002-07",
        complexity="no cost per page, PTE or fork; a sweep O(virtual memory mapped), and as many PTEs to meet for a "
        "page as map it",
        structures=(
            ("mm_struct", "+4", "swap_address; its place on mmlist is the base kernel's"),
            ("page", "+0", "historic accounting: 36 bytes, 2.5.26's"),
        ),
        references=("Linux 2.5.26 mm/vmscan.c: swap_out, shrink_cache", "LWN 74149", "LWN 75198"),
    )

    @classmethod
    def configure(cls, machine: MachineFacts, options: dict[str, Any]) -> Setup:
        # historic: 2.5.26's struct page of 36 bytes (flags, count, list, mapping, index, lru, private), 8 more than the
        # base kernel's.
        return Setup(page=8 if machine.accounting == "historic" else 0, mm=4, file_index="list")

    def __init__(self, env: SchemeEnv, options: dict[str, Any]) -> None:
        super().__init__(env, options)
        self._init_mm = _Place(None)
        self._swap_mm = self._init_mm
        self._mmlist_nr = 0

    # --- mmlist

    def _enlist(self, mm: Mm, after: _Place) -> None:
        place = mm.rmap = _Place(mm)
        place.add_after(after)
        self._mmlist_nr += 1

    def mm_created(self, mm: Mm, parent: Mm | None) -> None:
        self._enlist(mm, self._init_mm if parent is None else parent.rmap)

    def mm_exited(self, mm: Mm) -> None:
        place = mm.rmap
        if self._swap_mm is place:
            self._swap_mm = place.next
        place.unlink()
        self._mmlist_nr -= 1
        mm.rmap = None

    # --- the scan

    def swap_out(self, priority: int, zone: Zone, goal: int) -> int:
        """2.5.26 took an mm off its counter after each visit and stopped below zero: one visit more than there are
        address spaces, so that the part of the first one that lies before its cursor has its turn as well."""
        left = goal
        for _ in range(self._mmlist_nr + 1):
            place = self._swap_mm
            while place.swap_address == _TASK_SIZE or place is self._init_mm:
                place.swap_address = 0
                place = place.next
                if place is self._swap_mm:
                    return goal - left
                self._swap_mm = place
            left = self._swap_out_mm(place, zone, left)
            if not left:
                break
        return goal - left

    def _swap_out_mm(self, place: _Place, zone: Zone, left: int) -> int:
        """One address space from its cursor on, where find_vma leads, until `left` is 0; returns what is left of it.
        When the last area is reached the round is over, even where the goal was met inside of it (2.5.26)."""
        mm = place.mm
        assert mm is not None
        meters, try_to_swap_out = self.env.meters, self.env.try_to_swap_out
        meters.mms_visited += 1
        address = place.swap_address
        vmas, first = mm.vmas, self.env.find_vma(mm, address)
        for i in range(len(vmas) if first is None else mm.index_of(first), len(vmas)):
            vma = vmas[i]
            meters.vmas_visited += 1
            done, place.swap_address = try_to_swap_out(vma, max(address, vma.vm_start), vma.vm_end, zone, left)
            left -= done
            if not left and i + 1 < len(vmas):
                return 0
        place.swap_address = _TASK_SIZE
        return left

    def check(self) -> list[str]:
        wrong = []
        listed = set()
        place, n = self._init_mm, 0
        while True:
            if place.next.prev is not place:
                wrong.append("mmlist: a link forward has no link back")
                break
            place = place.next
            if place is self._init_mm:
                break
            n += 1
            if place.mm is None or place.mm.rmap is not place or n > self._mmlist_nr:
                wrong.append(f"mmlist: entry {n} of {self._mmlist_nr} is no living address space's")
                break
            listed.add(place.mm.addr)
            if place.swap_address > _TASK_SIZE or place.swap_address & 4095:
                wrong.append(f"mm {place.mm.addr:#x}: swap_address {place.swap_address:#x}")
        if not wrong and listed != set(self.env.mms):
            wrong.append(
                f"mmlist has {len(listed)} address spaces, {len(self.env.mms)} live, "
                f"{len(listed & set(self.env.mms))} are the same"
            )
        if not wrong and n != self._mmlist_nr:
            wrong.append(f"mmlist has {n} address spaces and counts {self._mmlist_nr}")
        if self._swap_mm is not self._init_mm and (self._swap_mm.mm is None or self._swap_mm.mm.addr not in listed):
            wrong.append("swap_mm is not on mmlist")
        return wrong

    def picture(self, pfn: int) -> Picture:
        """Nothing leads from the frame anywhere: the address spaces as the scan will come by, and what each maps."""
        draft = Draft(self.env, pfn)
        maps: dict[int, list[tuple[int, int]]] = {}
        for owner, address, index in search(self.env, pfn):
            maps.setdefault(owner.addr, []).append((address, index))
        first = place = self._swap_mm
        node = ROOT
        while True:
            mm = place.mm
            if mm is not None:
                found = maps.get(mm.addr, ())
                at = place.swap_address
                what = (
                    "its round is over" if at == _TASK_SIZE else f"scanned up to {at:08x}" if at else "not scanned yet"
                )
                node = draft.space(mm, node, NEXT, what if found else what + "; does not map it")
                for address, index in found:
                    area = draft.area(mm.vmas[mm.find_index(address)], node)
                    draft.pte(mm, address, area, index=index)
            place = place.next
            if place is first:
                break
        draft.picture.note = "nothing leads from the frame: the address spaces, in the order of the scan"
        return draft.picture
