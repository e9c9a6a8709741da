"""anonmm: an anonymous page knows one address space and one address; forks form a family that is asked in turn.

Origin      Hugh Dickins, anobjrmap, March 2003 and March 2004; rmap 10 to 37 within 2.6.7-rc1, taken out again by rmap
            38
Idea        Fork copies pages at equal addresses. So a page needs only its address, and the address spaces to look in:
            all that descend from one exec.

    page.mapping --> anonmm(child)          family: head(exec'd) <-> child <-> grandchild <-> (head)
    page.index  = virtual address           each anonmm --> its mm, or none once that is gone

    walk: the anonmm the page names first, then on around the ring: younger ones, then from the head

    mremap of a page mapped once: page.index is the new address. Mapped by others too: they have it at the old one, so
    the page is copied first. swap-in at another address than the page has now: copied at once.
    A dead anonmm (a zombie) lives on while pages name it; a page_referenced that meets the page elsewhere gives it a
    new home.

Structures  anonmm 20 bytes (UP) or 24 (SMP) per address space, 4 in mm_struct. Nothing per area, nothing per page but
            the count of mappings.
Cost        fork: one object. Walk: every living address space of the family, until all mappings are found; find_vma for
            each hit of an unmap.

Linux: mm/rmap.c between the patches rmap-10 and rmap-38.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from mmcore.rmap import (
    ANSWER,
    COPY,
    FRAME,
    HIT,
    NEXT,
    OK,
    PG_ANON,
    STOP,
    Card,
    Columns,
    Draft,
    MachineFacts,
    Mm,
    Order,
    Picture,
    Purpose,
    SchemeEnv,
    Setup,
    VmArea,
    Walk,
    WalkScheme,
    growing,
)
from rmap_plugins.partial_objrmap import file_index_bytes, i_mmap_option


class _AnonMm:
    """struct anonmm. `count`: 1 for the living mm, 1 per page that names it; a head has 1 for itself and 1 for each
    other member of its family. `next` and `prev` make the family's ring; new members go before the head."""

    __slots__ = ("address", "count", "mm", "head", "next", "prev", "order")

    def __init__(self, address: int, mm: Mm, head: _AnonMm | None) -> None:
        self.address = address
        self.mm: Mm | None = mm
        if head is None:
            self.count = 2
            self.head = self.next = self.prev = self
            self.order = _FamilyOrder()
        else:
            self.count = 1
            self.head = head
            head.count += 1
            self.next, self.prev = head, head.prev
            head.prev.next = self
            head.prev = self
            self.order = head.order
            self.order.changed()

    def until(self, end: _AnonMm) -> Iterator[Mm]:
        """The living address spaces that have pages, from this member to before `end`."""
        member = self
        while member is not end:
            if member.mm is not None and member.mm.rss:
                yield member.mm
            member = member.next

    def family(self) -> Iterator[_AnonMm]:
        """The ring, from this member on."""
        member = self
        while True:
            yield member
            member = member.next
            if member is self:
                return


class _FamilyOrder(Order):
    """What a family keeps for long walks: its living members in the ring's order from the head on, and how many of them
    stand before each member."""

    __slots__ = ("before",)

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[_AnonMm, int] = {}

    def keep(self, head: _AnonMm) -> None:
        """Makes the columns."""
        mms: list[Mm] = []
        self.before = {}
        for member in head.family():
            self.before[member] = len(mms)
            if member.mm is not None:
                mms.append(member.mm)
        self.columns = Columns(None, mms)


class AnonMm(WalkScheme):
    card = Card(
        name="anonmm",
        title="one address per page, families of address spaces (Hugh Dickins)",
        kernels="within 2.6.7-rc1 (rmap 10 to 37)",
        origin="Hugh Dickins, anobjrmap 2003-03-20 and 2004-03-18; rmap 10 and 11, 2004-05-22",
        complexity="fork O(1); walk O(address spaces of the family), a page-table probe for each living one; nothing "
        "per area or page",
        structures=(
            ("anonmm", "20 UP, 24 SMP", "count, lock, mm, head, list"),
            ("mm_struct", "+4", "anonmm"),
            ("page", "+4", "mapcount"),
            ("vm_area_struct", "+8", "with i_mmap = prio_tree"),
            ("address_space", "+4", "with i_mmap = prio_tree"),
        ),
        options={
            "i_mmap": ("prio_tree", "how a file's areas are kept: list (until rmap 16) or prio_tree (rmap 17 on)")
        },
        references=(
            "LKML 2003-03-20 anobjrmap 5/6",
            "LKML 2004-03-18 anobjrmap 5/6 anonmm",
            "linux-mm 2004-05-22 rmap 10, rmap 11",
        ),
    )

    _file_index: ClassVar[str] = "prio_tree"  # where the option does not say

    @classmethod
    def configure(cls, machine: MachineFacts, options: dict[str, Any]) -> Setup:
        # historic: 2.6.7-rc1's struct page had 32 bytes, as isolated gives it.
        index = i_mmap_option(cls.card.name, options, cls._file_index)
        vma, address_space = file_index_bytes(index)
        return Setup(page=4, vma=vma, mm=4, address_space=address_space, file_index=index)

    def __init__(self, env: SchemeEnv, options: dict[str, Any]) -> None:
        super().__init__(env, options)
        self._cache = env.cache("anonmm", 24 if env.machine.smp else 20)
        self._objects: dict[int, _AnonMm] = {}
        self._frames = env.frames
        self._flags, self._mapping, self._index, self._mapcount = (
            env.frames.flags,
            env.frames.mapping,
            env.frames.index,
            env.frames.mapcount,
        )
        self._meters = env.meters

    # --- address spaces

    def mm_created(self, mm: Mm, parent: Mm | None) -> None:
        """exec founds a family; a child joins its parent's."""
        self._new(mm, None if parent is None else parent.rmap.head)

    def _new(self, mm: Mm, head: _AnonMm | None) -> None:
        address = self._cache.alloc()
        self._meters.allocations += 1
        self._meters.links += 1
        mm.rmap = self._objects[address] = _AnonMm(address, mm, head)

    def mm_exited(self, mm: Mm) -> None:
        anonmm, mm.rmap = mm.rmap, None
        anonmm.mm = None
        anonmm.order.changed()
        self._put(anonmm, 1)

    def _put(self, anonmm: _AnonMm, references: int) -> None:
        """References go; an anonmm without any leaves its family, a head that nobody else needs goes last."""
        anonmm.count -= references
        head = anonmm.head
        if anonmm is not head and anonmm.count == 0:
            anonmm.prev.next, anonmm.next.prev = anonmm.next, anonmm.prev
            anonmm.order.changed()
            self._free(anonmm)
            head.count -= 1
        if head.count == 1:
            self._free(head)

    def _free(self, anonmm: _AnonMm) -> None:
        del self._objects[anonmm.address]
        self._cache.free(anonmm.address)

    # --- pages

    def add_anon(self, pfn: int, vma: VmArea, address: int, pte: int, exclusive: bool, token: object) -> int:
        if self._mapcount[pfn] == 0:
            anonmm = vma.vm_mm.rmap
            anonmm.count += 1
            self._mapping[pfn] = anonmm.address
            self._index[pfn] = address & ~0xFFF
        elif self._index[pfn] != address & ~0xFFF:
            return COPY
        return OK

    def released(self, pfns: np.ndarray) -> None:
        pfn = pfns.item(0)  # an int: to read a word at numpy's takes three times as long
        if not self._flags[pfn] & PG_ANON:
            return
        if len(pfns) == 1:
            self._put(self._objects[self._mapping[pfn]], 1)
            return
        named = self._frames.np_mapping[pfns]
        if (named == named[0]).all():  # as at most exits
            self._put(self._objects[int(named[0])], len(pfns))
            return
        homes, counts = np.unique(named, return_counts=True)
        for home, count in zip(homes.tolist(), counts.tolist(), strict=True):
            self._put(self._objects[home], count)

    # --- mremap (rmap 11)

    def move_check(
        self, src: VmArea, dst: VmArea, delta: int, pfns: np.ndarray, src_ptes: np.ndarray
    ) -> np.ndarray | None:
        """Pages that somebody else maps too are made exclusive first."""
        return np.nonzero(self._anon(pfns) & (self._frames.np_mapcount[pfns] > 1))[0]

    def move(
        self,
        src: VmArea,
        dst: VmArea,
        delta: int,
        pfns: np.ndarray,
        src_ptes: np.ndarray,
        dst_ptes: np.ndarray,
        token: object,
    ) -> None:
        anon = pfns[self._anon(pfns)]
        self._frames.np_index[anon] = (self._frames.np_index[anon].astype(np.int64) + delta).astype(np.uint32)

    def _anon(self, pfns: np.ndarray) -> np.ndarray:
        return (self._frames.np_flags[pfns] & np.uint32(PG_ANON)) != 0

    # --- the walk

    def walk(self, walk: Walk) -> None:
        pfn = walk.pfn
        named = self._objects.get(self._mapping[pfn])
        if named is None:
            return
        columns = named.order.columns
        if columns is not None:
            asked, found = self._walk_columns(walk, self._index[pfn], columns, named.order.before[named])
        else:
            asked, found = self._walk_ring(walk, self._index[pfn], named)
        if walk.purpose == Purpose.AUDIT:
            return
        self._meters.mms_visited += asked
        if walk.purpose == Purpose.REFERENCED and named.mm is None and found is not None:
            # The page's home died: it moves to the first living one that has it, so that the dead one can be freed.
            found.count += 1
            self._mapping[pfn] = found.address
            self._put(named, 1)

    def _walk_ring(self, walk: Walk, address: int, named: _AnonMm) -> tuple[int, _AnonMm | None]:
        """One member after the other: how many address spaces were asked, and the first that has the page."""
        many, asked = walk.many, 0
        found: _AnonMm | None = None
        member = named
        while asked < many:
            mm = member.mm
            if mm is not None and mm.rss:
                asked += 1
                answer = walk.visit(mm, address)
                if answer & ANSWER == HIT and found is None:
                    found = member
                if answer & STOP:
                    break
            member = member.next
            if member is named:
                break
        else:
            if named.order.worth_columns():
                named.order.keep(named.head)
            more, first = self._walk_on(walk, address, member, named)
            return asked + more, found or first
        return asked, found

    @staticmethod
    def _walk_columns(walk: Walk, address: int, columns: Columns, start: int) -> tuple[int, _AnonMm | None]:
        """A family that has not changed since the last walk, from its living member `start` on around the ring."""
        asked, found = 0, None
        for begin, end in ((start, len(columns)), (0, start)):
            for first, last in columns.parts(begin, end):
                part = walk.visit_columns(columns, address, first, last)
                asked += part.asked
                if found is None and part.first_hit >= 0:
                    found = columns.mms[part.first_hit].rmap
                if part.stop:
                    return asked, found
        return asked, found

    @staticmethod
    def _walk_on(walk: Walk, address: int, member: _AnonMm, end: _AnonMm) -> tuple[int, _AnonMm | None]:
        """A long walk goes on in arrays, from `member` to `end`: how many more address spaces it asked, and the
        first that has the page."""
        asked, found = 0, None
        for part in growing(member.until(end), walk.many):
            visited = walk.visit_many(part, address)
            asked += visited.looked_at
            if found is None and visited.first_hit >= 0:
                found = part[visited.first_hit].rmap
            if visited.stop:
                break
        return asked, found

    # --- for tests and the auditor

    def check(self) -> list[str]:
        wrong = []
        if len(self._objects) != self._cache.objects:
            wrong.append(f"anonmm: {len(self._objects)} objects known, {self._cache.objects} in the cache")
        frames = self._frames
        anon = (frames.np_flags & np.uint32(PG_ANON)) != 0
        homes, counts = np.unique(frames.np_mapping[anon], return_counts=True)
        pages = dict(zip(homes.tolist(), counts.tolist(), strict=True))
        for address, anonmm in self._objects.items():
            members = sum(1 for member in anonmm.family()) - 1 if anonmm.head is anonmm else -1
            expected = pages.pop(address, 0) + (anonmm.mm is not None) + (members + 1)
            if anonmm.count != expected:
                wrong.append(f"anonmm {address:#x}: count {anonmm.count}, but {expected} references")
            if anonmm.mm is not None and anonmm.mm.rmap is not anonmm:
                wrong.append(f"anonmm {address:#x}: its mm has another")
            if anonmm.next.prev is not anonmm or anonmm.head not in anonmm.family():
                wrong.append(f"anonmm {address:#x}: is not in its family's ring")
        for address, n in pages.items():
            wrong.append(f"{n} anonymous pages name {address:#x}, which is no anonmm")
        for mm in self.env.mms.values():
            if mm.rmap is None or mm.rmap.mm is not mm or mm.rmap.address not in self._objects:
                wrong.append(f"mm {mm.addr:#x} has no anonmm of its own")
        return wrong

    def picture(self, pfn: int) -> Picture:
        """frame -> the anonmm it names -> on around the family; each living address space is asked for its PTE."""
        draft = Draft(self.env, pfn)
        self._draw_family(draft, [self._index[pfn]])
        return draft.picture

    def _draw_family(self, draft: Draft, addresses: list[int]) -> None:
        """`addresses`: where each address space of the family is asked for the page, the page's index first."""
        named = self._objects.get(self._mapping[draft.picture.pfn])
        if named is None:
            return
        place, edge = FRAME, "mapping"
        for member in named.family():
            parts = [f"index {addresses[0]:08x}"] if member is named else []
            if member.head is member:
                parts.append("head")
            if member.mm is None:
                parts.append("its address space is gone")
            what, owner = ", ".join(parts), member.mm.addr if member.mm is not None else 0
            place = draft.add("anonmm", member.address, self._cache.objsize, what, place, edge, owner)
            edge = NEXT
            if member.mm is not None:
                for address in addresses:
                    draft.pte(member.mm, address, place)
