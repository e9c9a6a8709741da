"""base: scan everything. A correct scheme, and a slow one: start here, and replace it part by part.

Origin      (whose idea it is, and when)
Idea        An anonymous page remembers the one virtual address it is mapped at; a walk asks every address space there
            is whether the page is there.

    page.index --> address          walk: for each mm: is the page at that address?

Structures  none of its own: two words of struct page that are there anyway
Cost        walk O(address spaces). A page shared by two address spaces cannot have two addresses: mremap has to copy it
            first.

Run it      rmapbox run fork_cow --pressure --rmap base.py:Base --audit full
Check it    rmapbox schemes check base.py:Base
The lines marked YOURS are the ones to replace; docs/writing-a-scheme.md says what each hook may count on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmcore.rmap import COPY, OK, PG_ANON, STOP, Card, MachineFacts, Purpose, Setup, Walk, WalkScheme


class Base(WalkScheme):
    # What `rmapbox schemes` shows. YOURS: all of it but the name.
    card = Card(
        name="base",
        title="one address per page, every address space asked",
        kernels="none",
        origin="the template of rmapbox",
        complexity="fork O(1) per page; walk O(address spaces); mremap copies shared pages",
        structures=(("page", "+4", "mapcount"),),
        options={},  # name: (default, meaning); read from self.options, set in the table [rmap.base] of rmapbox.toml
    )

    @classmethod
    def configure(cls, machine: MachineFacts, options: dict[str, Any]) -> Setup:
        """Bytes you add to the kernel's structures. mem_map and the slab caches are sized by it. YOURS."""
        return Setup(page=4, file_index="prio_tree")

    # --- pages

    def add_anon(self, pfn: int, vma: Any, address: int, pte: int, exclusive: bool, token: Any) -> int:
        """A PTE is about to map an anonymous page; frames.mapcount is still without it. YOURS.

        `mapping` and `index` of an anonymous page are the scheme's to use; `rmap` is one more word of 64 bits, for any
        page."""
        frames = self._frames
        page = address >> 12
        if frames.mapcount[pfn] == 0:  # its first PTE: remember where
            frames.mapping[pfn] = 1
            frames.index[pfn] = page
        elif frames.index[pfn] != page:  # it came back from swap at a second address, and one is all we can hold
            return COPY  # the core gives this process a page of its own
        return OK

    # fork shares a page at the same address: nothing to remember, so `dup` is not overridden. Nor are `remove` and
    # `released`.

    def move_check(self, src: Any, dst: Any, delta: int, pfns: np.ndarray, src_ptes: np.ndarray) -> np.ndarray | None:
        """mremap asks, before anything has moved: which of these pages have to be copied first? YOURS."""
        frames = self._frames
        anonymous = (frames.np_flags[pfns] & np.uint32(PG_ANON)) != 0
        return np.nonzero(anonymous & (frames.np_mapcount[pfns] > 1))[0]

    def move(
        self, src: Any, dst: Any, delta: int, pfns: np.ndarray, src_ptes: np.ndarray, dst_ptes: np.ndarray, token: Any
    ) -> None:
        """mremap has moved these pages by `delta` bytes. Ranges come as numpy arrays: one operation for all of them.
        YOURS."""
        frames = self._frames
        moved = pfns[(frames.np_flags[pfns] & np.uint32(PG_ANON)) != 0]
        frames.np_index[moved] = (frames.np_index[moved].astype(np.int64) + (delta >> 12)).astype(np.uint32)

    # --- the question

    def walk(self, walk: Walk) -> None:
        """Offer every PTE that may map the frame, until the answer holds STOP. Places that do not map it cost a miss.
        YOURS."""
        frames = self._frames
        address = frames.index[walk.pfn] << 12
        asked = 0
        for mm in list(self.env.mms.values()):
            asked += 1
            if walk.visit(mm, address) & STOP:
                break
        if walk.purpose != Purpose.AUDIT:  # an audit changes nothing and meters nothing
            self.env.meters.mms_visited += asked

    # --- for tests

    def check(self) -> list[str]:
        """Your own invariants: a text for each that is broken. The auditor asks at every look. YOURS."""
        frames = self._frames
        anonymous = np.nonzero((frames.np_flags & np.uint32(PG_ANON)) != 0)[0]
        return [
            f"base: the page has no place: {frames.describe(pfn)}"
            for pfn in anonymous.tolist()
            if not frames.mapping[pfn]
        ]

    def __init__(self, env, options):
        self._frames = env.frames
