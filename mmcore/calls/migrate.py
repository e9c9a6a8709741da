"""Migration: a page moves to another frame, and every PTE that mapped the old one maps the new one.

 pass 1   walk(old, MIGRATE)   present PTE -> migration entry (old frame, all its bits), counted: exactly mapcount of
                               them, or all go back
 move     contents, flags, mapping, index, private, the scheme's word, counts, place in caches and LRU lists, owner
 pass 2   walk(new, MIGRATE)   migration entry -> the same PTE on the new frame

Reclaim may miss a PTE and try again later; here a PTE that is missed would show somebody another page. Nothing runs and
nothing is allocated between the passes, so no access meets a migration entry. rss, the counts of slots and the scheme's
records stay as they are: a scheme that knows pages by `frames.mapping`, `index` and `rmap` finds the new frame as
it found the old one. Linux: mm/migrate.c, 2.6.18 (its entries keep the write bit only, ours all bits; the new frame
goes to the head of its LRU list there).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np

from mmcore.errors import InvariantViolation, SysError
from mmcore.physical.frames import (
    PAGECACHE,
    PG_ACTIVE,
    PG_ANON,
    PG_CODE,
    PG_LOCKED,
    PG_LRU,
    PG_SWAPCACHE,
    PG_WRITEBACK,
    USER,
)
from mmcore.physical.gfp import GFP_HIGHUSER
from mmcore.rmap.probe import ProbingWalk
from mmcore.rmap.walk import HIT, MISS, STOP, Purpose

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.files.filemap import AddressSpace
    from mmcore.memory import Memory
    from mmcore.rmap.core import Rmap
    from mmcore.swap.cache import Swap


def migrate_page(mem: Memory, pfn: int) -> int:
    """Moves a user's or a file's page to a fresh frame and returns that frame's PFN; the old one is free then.

    SysError, with nothing changed: ENOENT (no such page), EBUSY (pinned, or the scheme does not lead to all its PTEs),
    EAGAIN (its I/O is under way: try again when `mem.reclaim.page_wait(pfn)` wakes), ENOMEM (no frame to be had).
    Allocates, so it may reclaim.
    """
    frames, pages = mem.frames, mem.pages
    if not 0 <= pfn < frames.nr or mem.is_reserved(pfn) or frames.owner[pfn] not in (USER, PAGECACHE):
        raise SysError(errno.ENOENT, f"frame {pfn:#x} holds no page of a user or file")
    if not mem.rmap.exact:
        raise SysError(errno.EBUSY, f"the scheme {mem.scheme.card.name} leads to no PTEs")
    _check_movable(mem, pfn, 0)
    frames.count[pfn] += 1  # the allocation may reclaim, but not this page
    try:
        new = pages.alloc_page(GFP_HIGHUSER, frames.owner[pfn])
    except SysError:
        pages.put_page(pfn)
        raise
    try:
        mem.reclaim.lru_add_drain()
        _check_movable(mem, pfn, 1)
        _unmap(mem, pfn)
    except SysError:
        pages.put_page(new)
        pages.put_page(pfn)
        raise
    _move(mem, pfn, new)
    _map(mem, _FromEntries(mem.rmap, new, pfn, new, frames.mapcount[new]))
    pages.put_page(pfn)
    mem.meters.migrations += 1
    return new


def _cache_of(mem: Memory, pfn: int) -> AddressSpace | Swap | None:
    """The swap cache or the file that holds the page, None for one that only PTEs hold."""
    frames = mem.frames
    flags = frames.flags[pfn]
    if flags & PG_SWAPCACHE:
        return mem.swap
    mapping = None if flags & PG_ANON else mem.mappings.get(frames.mapping[pfn])
    return mapping if mapping is not None and mapping.pages.get(frames.index[pfn], -1) == pfn else None


def _check_movable(mem: Memory, pfn: int, mine: int) -> None:
    """All references must be known: one per PTE, one of a cache, `mine` of the caller. Linux:
    migrate_page_move_mapping."""
    frames = mem.frames
    if frames.flags[pfn] & (PG_LOCKED | PG_WRITEBACK):
        raise SysError(errno.EAGAIN, "I/O of the page is under way")
    known = frames.mapcount[pfn] + (_cache_of(mem, pfn) is not None)
    if not known:
        raise SysError(errno.ENOENT, "nobody wants the page any more")
    if frames.count[pfn] != known + mine:
        raise SysError(errno.EBUSY, "somebody holds the page: " + frames.describe(pfn))


class _ToEntries(ProbingWalk):
    """Pass 1, over the old frame: its PTEs become migration entries. `left`: how many are still to be found."""

    __slots__ = ("left",)

    def __init__(self, rmap: Rmap, pfn: int) -> None:
        super().__init__(rmap, pfn, Purpose.MIGRATE)
        self.left = rmap.mapcount[pfn]

    def found(self, mm: Mm, address: int, vma: VmArea | None, pte: int) -> int:
        rmap = self.rmap
        rmap.ptes[pte] = rmap.pgtables.migration_pte(rmap.ptes[pte])
        rmap.unmapped += 1
        mm.flush_pending = True
        self.left -= 1
        return HIT if self.left else HIT | STOP


class _FromEntries(ProbingWalk):
    """Pass 2, over the frame `pfn` that the records name by now: the migration entries of `old` become PTEs of
    `new`. `left`: how many are still to be found."""

    __slots__ = ("old", "new", "left")

    def __init__(self, rmap: Rmap, pfn: int, old: int, new: int, left: int) -> None:
        super().__init__(rmap, pfn, Purpose.MIGRATE)
        self.old = old
        self.new = new
        self.left = left

    def visit(self, mm: Mm, address: int, vma: VmArea | None = None, pte: int = -1) -> int:
        pte = self.probe(mm, address, pte)
        return self.found(mm, address, vma, pte) if pte >= 0 else MISS

    def maps(self, value: int) -> bool:
        return self.rmap.pgtables.migration_pfn(value) == self.old

    def np_maps(self, values: np.ndarray) -> np.ndarray:
        return self.rmap.pgtables.np_migrates(values, self.old)

    def found(self, mm: Mm, address: int, vma: VmArea | None, pte: int) -> int:
        rmap = self.rmap
        rmap.ptes[pte] = rmap.pgtables.migrated_pte(rmap.ptes[pte], self.new)
        self.left -= 1
        return HIT if self.left else HIT | STOP


def _unmap(mem: Memory, pfn: int) -> None:
    """Pass 1. EBUSY, with everything as it was, when the walk does not find `mapcount` PTEs."""
    wanted = mem.frames.mapcount[pfn]
    if not wanted:
        return
    walk = _ToEntries(mem.rmap, pfn)
    mem.rmap.ask(walk)
    if walk.left:
        found = wanted - walk.left
        _map(mem, _FromEntries(mem.rmap, pfn, pfn, pfn, found))
        mem.meters.migrate_misses += 1
        raise SysError(errno.EBUSY, f"the scheme leads to {found} of {wanted} PTEs: " + mem.frames.describe(pfn))


def _map(mem: Memory, walk: _FromEntries) -> None:
    """Pass 2, or pass 1 undone."""
    wanted = walk.left
    if not wanted:
        return
    mem.rmap.ask(walk)
    if walk.left:
        raise InvariantViolation(
            f"scheme {mem.scheme.card.name}: the second walk of a migration finds {wanted - walk.left} of the {wanted} "
            f"PTEs that the first one found: " + mem.frames.describe(walk.pfn)
        )


def _move(mem: Memory, old: int, new: int) -> None:
    """Everything that is known about `old` is known about `new` instead. The caller's reference to `old` stays;
    its to `new` goes."""
    frames, flags = mem.frames, mem.frames.flags
    mem.ram.copy(new, old)  # fresh from the allocator, it holds no translated code
    cache = _cache_of(mem, old)
    if cache is not None:
        cache.replace_page(old, new)
    mem.reclaim.replace_page(old, new)
    flags[new] |= flags[old] & ~(PG_LRU | PG_ACTIVE)
    flags[old] &= PG_CODE  # what was translated from it stays known until the frame is used again
    for field in (frames.mapping, frames.index, frames.private, frames.rmap, frames.mapcount):
        field[new] = field[old]
        field[old] = 0
    frames.count[new] = frames.count[old] - 1
    frames.count[old] = 1
    if frames.owner[new] != frames.owner[old]:
        mem.pages.change_owner(new, frames.owner[old])
    mem.scheme.migrated(old, new)
