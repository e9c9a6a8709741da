"""A walk: one question, which PTEs map this frame? What is asked, what a place is answered, when it is over.

 who asks          the walk                 what becomes of a PTE that is found      over when
 page_referenced   probe.Referenced         its accessed bit is counted and cleared  all `mapcount` PTEs were seen
 try_to_unmap      probe.Unmap              a swap entry, or nothing                 all went, or one may not go
 page_mkclean      files.mkclean            clean and write-protected                all were seen
 migrate_page      calls.migrate (two)      a migration entry; a PTE again           all were seen
 audit, picture    audit, rmap.picture      nothing: noted                           never

A scheme is given one and offers it places, one by one (`visit`) or many at once (`visit_many`). Linux: struct
rmap_walk_control, 3.14.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea


class Purpose(IntEnum):
    """Why a walk is made. AUDIT walks change and meter nothing; MKCLEAN (page_mkclean) and MIGRATE (migrate_page) must
    offer every PTE, as AUDIT must.

    Two MIGRATE walks move a page. During the first, over the old frame, each PTE becomes a migration entry; then
    `mapping`, `index`, `rmap` and PG_DIRECT pass to the new frame, and the second walk, over that one, must offer
    the same places. A scheme keeps its records through both: HIT means the entry was found, not that it is gone.
    `mapcount` and rss do not change on the way. Neither walk is preceded or followed by another hook.
    """

    REFERENCED = 0
    UNMAP = 1
    MKCLEAN = 2
    MIGRATE = 3
    AUDIT = 4


# What a visit answers. STOP is or-ed in when the core has seen enough: the scheme ends its walk.
MISS, HIT, FAIL, AGAIN = 0, 1, 2, 3
ANSWER = 3
STOP = 8


_T = TypeVar("_T")


def growing(items: Iterable[_T], first: int) -> Iterator[list[_T]]:
    """Consecutive parts for `visit_many`, the first of `first` items, each four times as long as the one before:
    few are gathered in vain when the walk is over early."""
    rest, n = iter(items), max(first, 1)
    while part := list(islice(rest, n)):
        yield part
        n *= 4


def showing(areas: Sequence[VmArea], index: int, wraps: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Which of the areas (positions) show the page at offset `index` of what they map, and the addresses they all
    would show it at (int64). `wraps`: offsets are 32-bit numbers that may pass 0."""
    n = len(areas)
    starts = np.fromiter((vma.vm_start for vma in areas), np.int64, n)
    ends = np.fromiter((vma.vm_end for vma in areas), np.int64, n)
    offsets = index - np.fromiter((vma.vm_pgoff for vma in areas), np.int64, n)
    if wraps:
        offsets &= 0xFFFFFFFF
    addresses = starts + (offsets << 12)
    return np.nonzero((starts <= addresses) & (addresses < ends))[0], addresses


class Columns:
    """Areas in the order of a walk, or living address spaces where no areas are known, each once, as arrays: made once
    for all walks that find the list as it was. Whoever keeps one drops it when the list or an area's bounds change."""

    __slots__ = (
        *("areas", "mms", "roots", "starts", "ends", "offsets", "bases", "alike", "wraps", "_sorted", "_last"),
        *("populated_at", "populated", "tables_at", "tables"),
    )

    populated: np.ndarray  # which of the address spaces have pages (bool each), when
    populated_at: int  # `Rmap.populations` was this
    tables_at: tuple[int, int]  # where the tables of each were looked for, and `PageTables.changes` then
    tables: np.ndarray  # the first entries of these

    def __init__(self, areas: Sequence[VmArea] | None, mms: Sequence[Mm] | None = None) -> None:
        self.areas = areas
        self.mms = [vma.vm_mm for vma in areas] if mms is None and areas is not None else list(mms or ())
        self.roots = np.array([mm.pgd for mm in self.mms], np.int64)
        self.populated_at, self.populated = -1, _NONE
        self.tables_at, self.tables = (-1, -1), _NONE
        if areas is None:
            return
        self.starts = np.array([vma.vm_start for vma in areas], np.int64)
        self.ends = np.array([vma.vm_end for vma in areas], np.int64)
        self.offsets = np.array([vma.vm_pgoff for vma in areas], np.int64)
        self.bases = self.starts - (self.offsets << 12)
        self._sorted: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._last: tuple[tuple[int, int, int], tuple[np.ndarray, np.ndarray]] | None = None
        self.alike = all(len(set(column.tolist())) == 1 for column in (self.starts, self.ends, self.offsets))
        beyond = self.offsets + (self.ends - self.starts >> 12)
        self.wraps = bool((beyond > 1 << 32).any())
        if len(areas) >= _SEARCHED and not self.alike and not self.wraps:
            order = np.argsort(self.offsets, kind="stable")
            self._sorted = order, self.offsets[order], np.maximum.accumulate(beyond[order])

    def __len__(self) -> int:
        return len(self.mms)

    def parts(self, first: int, last: int = -1) -> Iterator[tuple[int, int]]:
        """Consecutive parts, from the place `first` to before `last` (the end), for `visit_columns`: one where few
        places show a page, which are found by search; else growing ones, as most walks end in the first."""
        n = 2048
        if last < 0:
            last = len(self)
        if self.areas is not None and self._sorted is not None:
            n = last
        while first < last:
            yield first, min(first + n, last)
            first += n
            n *= 4

    def showing(self, index: int, first: int, last: int) -> tuple[np.ndarray | None, int | np.ndarray]:
        """Which of the places `first` to before `last` show the page at offset `index` (positions in all; None: each
        of them), and the address of each (one for all, or int64)."""
        if self.alike:
            address = int(self.starts[0]) + ((index - int(self.offsets[0]) & 0xFFFFFFFF) << 12)
            return (None if address < self.ends[0] else _NONE), address
        if self._sorted is not None:
            if self._last is not None and self._last[0] == (index, first, last):
                return self._last[1]
            order, offsets, beyond = self._sorted
            # Those before the first place have ended, as those before them; those after the last begin beyond.
            near = order[beyond.searchsorted(index, "right") : offsets.searchsorted(index, "right")]
            near = np.sort(near[(near >= first) & (near < last)])
            addresses = self.bases[near] + (index << 12)
            there = addresses < self.ends[near]
            self._last = (index, first, last), (near[there], addresses[there])
            return self._last[1]
        if self.wraps:
            addresses = self.starts[first:last] + ((index - self.offsets[first:last] & 0xFFFFFFFF) << 12)
        else:
            addresses = self.bases[first:last] + (index << 12)
        at = np.nonzero((addresses >= self.starts[first:last]) & (addresses < self.ends[first:last]))[0]
        return at + first, addresses[at]


_NONE = np.empty(0, np.int64)
_SEARCHED = 256  # so many unlike areas are kept in the order of what they show as well


class Order:
    """What a list keeps of its order for long walks: `Columns`, made when a second walk in turn finds it unchanged."""

    __slots__ = ("columns", "_asked")

    def __init__(self) -> None:
        self.columns: Columns | None = None
        self._asked = False

    def changed(self) -> None:
        """The list, or the bounds of an area on it, are not what they were."""
        self.columns = None
        self._asked = False

    def worth_columns(self) -> bool:
        """A long walk finds no columns: did another before it?"""
        asked, self._asked = self._asked, True
        return asked


class Seen(NamedTuple):
    """What became of a part of `Columns`: how many of its places were passed (all, or up to the one that was answered
    STOP), to how many of them the address space had pages, whether the walk is over, and the first place that was
    answered HIT (-1: none)."""

    passed: int
    asked: int
    stop: bool
    first_hit: int


class Visited(NamedTuple):
    """What became of many candidates: how many were looked at (all, or up to the one that was answered STOP), whether
    the walk is over, and the place among them of the first that was answered HIT (-1: none)."""

    looked_at: int
    stop: bool
    first_hit: int


class Walk:
    """The question. `pfn`: the frame; `purpose`: why it is asked."""

    __slots__ = ("pfn", "purpose")

    many: ClassVar[int] = 128
    """From how many candidates on `visit_many` pays. Measured: to gather 128 areas and probe them takes as long as
    128 visits, 1,000 areas 0.6 and 1,000 address spaces 0.4 of as many visits."""

    def __init__(self, pfn: int, purpose: Purpose) -> None:
        self.pfn = pfn
        self.purpose = purpose

    def visit(self, mm: Mm, address: int, vma: VmArea | None = None, pte: int = -1) -> int:
        """Offers one place that may map the frame, with its area and its PTE's index where they are known. MISS | HIT |
        FAIL | AGAIN, possibly with STOP."""
        raise NotImplementedError

    def visit_many(
        self,
        mms: Sequence[Mm],
        addresses: int | np.ndarray,
        vmas: Sequence[VmArea] | None = None,
        skip_empty: bool = False,
    ) -> Visited:
        """Offers many places, in order: `addresses[i]` (int64; or one for all) in `mms[i]`, in the area `vmas[i]`
        where areas are known. Exactly as `visit` for each until one is answered STOP, what is metered included.
        `skip_empty`: an address space that has no page when its turn comes is not asked."""
        first_hit = -1
        everywhere = [addresses] * len(mms) if isinstance(addresses, int) else addresses.tolist()
        for i, mm in enumerate(mms):
            if skip_empty and not mm.rss:
                continue
            answer = self.visit(mm, everywhere[i], vmas[i] if vmas is not None else None)
            if first_hit < 0 and answer & ANSWER == HIT:
                first_hit = i
            if answer & STOP:
                return Visited(i + 1, True, first_hit)
        return Visited(len(mms), False, first_hit)

    def visit_columns(self, columns: Columns, at: int, first: int, last: int) -> Seen:
        """Offers the places `first` to before `last` in order, those whose address space has a page when its turn
        comes: where `columns` has areas, each that shows the page at offset `at`; else each address space at the
        address `at`. Exactly as `visit` for each until one is answered STOP, what is metered included."""
        asked, first_hit = 0, -1
        places, addresses = (None, at) if columns.areas is None else columns.showing(at, first, last)
        for n, place in enumerate(range(first, last) if places is None else places.tolist()):
            mm = columns.mms[place]
            if not mm.rss:
                continue
            asked += 1
            address = addresses if isinstance(addresses, int) else int(addresses[n])
            answer = self.visit(mm, address, None if columns.areas is None else columns.areas[place])
            if first_hit < 0 and answer & ANSWER == HIT:
                first_hit = place
            if answer & STOP:
                return Seen(place + 1 - first, asked, True, first_hit)
        return Seen(last - first, asked, False, first_hit)
