"""The swap cache: pages that have a slot in a swap area, mapped or not.

 anonymous page --add_to_swap--> swap cache, dirty --try_to_unmap--> entries in PTEs, each a user of the slot
   --writepage--> PG_WRITEBACK --disk--> clean --> freed
 fault --swapin_readahead--> swap cache, PG_LOCKED --disk--> uptodate --> mapped again; the slot goes with its last user

Entries are ints, the slot's place among all areas (`areas`). A page of the cache has
PG_SWAPCACHE, its entry in `frames.private` and one reference and one user of the slot for the cache. A frame that the
cache alone holds has owner USER. Linux: mm/swap_state.c, mm/page_io.c and the users' part of mm/swapfile.c, 2.6.7.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np

from mmcore.errors import OutOfMemory, SysError
from mmcore.physical.frames import PG_DIRTY, PG_LOCKED, PG_RESERVED, PG_SWAPCACHE, PG_UPTODATE, PG_WRITEBACK, USER
from mmcore.physical.gfp import GFP_ATOMIC, GFP_HIGHUSER, GFPF_NOWARN
from mmcore.physical.radix import RadixNodes, radix_cache
from mmcore.swap.areas import SwapAreas
from mmcore.swap.device import SWAP_MAP_BAD, SWAP_MAP_MAX
from mmcore.swap.store import SwapStore

if TYPE_CHECKING:
    from mmcore.memory import Memory


class Swap:
    """The swap cache and its areas."""

    __slots__ = (
        "mem",
        "frames",
        "pages",
        "u8",
        "vmstat",
        "disk",
        "areas",
        "map",
        "store",
        "cache",
        "nodes",
        "page_cluster",
        "add_total",
        "del_total",
        "find_total",
        "find_success",
    )
    is_shmem = False

    cache: dict[int, int]  # entry -> PFN
    page_cluster: int  # 1 << page_cluster slots are read together
    # Pages that joined and left the cache; lookups, and those that found their page (show_swap_cache_info).
    add_total: int
    del_total: int
    find_total: int
    find_success: int

    def __init__(self, mem: Memory) -> None:
        self.mem = mem
        self.frames = mem.frames
        self.pages = mem.pages
        self.u8 = mem.ram.u8
        self.vmstat = mem.vmstat
        self.disk = mem.disk
        self.areas = SwapAreas(mem.config.swap_areas or ((mem.config.swap_bytes, None),), mem.slab)
        self.map = self.areas.map
        self.store = SwapStore()
        self.cache = {}
        self.nodes = RadixNodes(radix_cache(mem.slab))
        cluster = mem.config.page_cluster
        self.page_cluster = cluster if cluster >= 0 else 2 if mem.ram.size < 16 << 20 else 3
        self.add_total = self.del_total = self.find_total = self.find_success = 0

    @property
    def nr_swap_pages(self) -> int:
        """Slots that may still be handed out; of an area that swapoff empties, minus those in use (as in sys_swapoff,
        2.6.7)."""
        left = 0
        for area in self.areas:  # HOT: a sum over a generator takes twice as long
            left += area.nr_free if area.writeok else area.nr_free - area.total
        return left

    @property
    def total(self) -> int:
        """Slots that can ever be used: none of an area that is on its way out (total_swap_pages)."""
        total = 0
        for area in self.areas:
            if area.writeok:
                total += area.total
        return total

    def si_swapinfo(self) -> tuple[int, int]:
        """(total, free) as a user is told: of an area that swapoff empties, what is still in use is all there is.
        Linux: mm/swapfile.c, 2.6.7."""
        emptying = sum(area.total - area.nr_free for area in self.areas if not area.writeok)
        return self.total + emptying, sum(area.nr_free for area in self.areas if area.writeok)

    def vm_swap_full(self) -> bool:
        """Less than half of swap is free: a page that was swapped in gives up its slot."""
        return self.nr_swap_pages * 2 < self.total

    # --- users of a slot

    def swap_count(self, entry: int) -> int:
        """Users of the slot, the swap cache among them."""
        return self.map[entry]

    def swap_duplicate(self, entry: int) -> None:
        """One more user. SysError(EINVAL) for a slot that is not in use."""
        slots = self.map
        if not 0 < entry < len(slots) or not 0 < slots[entry] < SWAP_MAP_BAD:
            raise SysError(errno.EINVAL, f"swap entry {entry:#x} is not in use")
        if slots[entry] < SWAP_MAP_MAX:
            slots[entry] += 1

    def swap_free(self, entry: int) -> None:
        """One user less; the last one frees the slot."""
        self.areas.free(entry)

    def free_swap_and_cache(self, entry: int) -> None:
        """A PTE's entry goes. A page that only the swap cache still wants goes too, unless its I/O is under way."""
        if self.areas.free(entry) != 1:
            return
        pfn = self.cache.get(entry, -1)
        if pfn < 0:
            return
        flags = self.frames.flags
        if flags[pfn] & (PG_LOCKED | PG_WRITEBACK):
            return
        if self.frames.count[pfn] == 1 or self.vm_swap_full():
            flags[pfn] |= PG_DIRTY
            self.delete_from_swap_cache(pfn)

    # --- the cache

    def lookup_swap_cache(self, entry: int) -> int:
        """The entry's page with a reference for the caller, or -1."""
        self.find_total += 1
        pfn = self.cache.get(entry, -1)
        if pfn >= 0:
            self.find_success += 1
            self.frames.count[pfn] += 1
        return pfn

    def add_to_swap(self, pfn: int) -> bool:
        """Gives an anonymous page a slot and puts it into the cache, dirty. False when there is no slot or no node for
        it."""
        entry = self.areas.get_page()
        if not entry:
            return False
        # 2.6.7 takes PF_MEMALLOC off here: swapping must not eat the last reserve.
        pages = self.pages
        depth, pages.memalloc = pages.memalloc, 0
        try:
            self.nodes.charge(entry, GFP_ATOMIC | GFPF_NOWARN)
        except OutOfMemory:
            self.areas.free(entry)
            return False
        finally:
            pages.memalloc = depth
        frames = self.frames
        self.cache[entry] = pfn
        frames.count[pfn] += 1
        frames.private[pfn] = entry
        frames.flags[pfn] |= PG_SWAPCACHE | PG_DIRTY | PG_UPTODATE
        self.add_total += 1
        return True

    def delete_from_swap_cache(self, pfn: int) -> None:
        """The cache lets go of page and slot. The page lives on if somebody else refers to it (then make it dirty)."""
        frames = self.frames
        entry = frames.private[pfn]
        self._unlink(pfn, entry)
        self.areas.free(entry)
        self.pages.put_page(pfn)

    def _unlink(self, pfn: int, entry: int) -> None:
        frames = self.frames
        del self.cache[entry]
        self.nodes.uncharge(entry)
        frames.flags[pfn] &= ~PG_SWAPCACHE
        frames.private[pfn] = 0
        self.del_total += 1

    def move_to_swap_cache(self, pfn: int, entry: int) -> None:
        """A tmpfs page, just taken out of its file's cache, goes into the swap cache, dirty; the cache inherits its
        reference. Raises OutOfMemory before anything changed. The entry's first user is the caller's; the cache becomes
        another."""
        self.nodes.charge(entry, GFP_ATOMIC)
        frames = self.frames
        self.cache[entry] = pfn
        frames.private[pfn] = entry
        frames.flags[pfn] |= PG_SWAPCACHE | PG_DIRTY
        self.swap_duplicate(entry)
        self.add_total += 1

    def move_from_swap_cache(self, pfn: int) -> None:
        """The reverse: the cache's reference becomes the file cache's, the cache's user of the slot goes."""
        entry = self.frames.private[pfn]
        self._unlink(pfn, entry)
        self.areas.free(entry)

    def replace_page(self, pfn: int, new: int) -> None:
        """Migration: the entry leads to `new`, which gets everything else from `pfn`."""
        self.cache[self.frames.private[pfn]] = new

    # --- sharing

    def can_share_swap_page(self, pfn: int) -> bool:
        """May the holder of the only other reference write to the page in place? Yes at count 1, or when it is cached
        and its slot has no other user."""
        frames = self.frames
        n, flags = frames.count[pfn], frames.flags[pfn]
        if n == 2:
            return bool(flags & PG_SWAPCACHE) and self.map[frames.private[pfn]] == 1
        return n == 1 and not flags & PG_RESERVED

    def remove_exclusive_swap_page(self, pfn: int, holders: int = 1) -> bool:
        """Takes a page out of the cache if nobody but its `holders` references wants it; it stays theirs, dirty."""
        frames = self.frames
        flags = frames.flags[pfn]
        if flags & (PG_SWAPCACHE | PG_WRITEBACK) != PG_SWAPCACHE:
            return False
        if frames.count[pfn] != holders + 1 or self.map[frames.private[pfn]] != 1:
            return False
        frames.flags[pfn] = flags | PG_DIRTY
        self.delete_from_swap_cache(pfn)
        return True

    def free_page_and_swap_cache(self, pfn: int) -> None:
        """Drops a PTE's reference; a cached page that nobody else wants leaves the cache first."""
        flags = self.frames.flags[pfn]
        if flags & PG_SWAPCACHE and not flags & PG_LOCKED:
            self.remove_exclusive_swap_page(pfn)
        self.pages.put_page(pfn)

    def clear_page_dirty(self, pfn: int) -> None:
        self.frames.flags[pfn] &= ~PG_DIRTY

    # --- I/O

    def writepage(self, pfn: int) -> bool:
        """Starts writing a page whose dirty flag the caller has cleared. Always False (never WRITEPAGE_ACTIVATE).
        Linux: swap_writepage."""
        frames = self.frames
        entry = frames.private[pfn]
        if frames.count[pfn] == 2 and self.map[entry] == 1:
            self.remove_exclusive_swap_page(pfn)  # nobody will ever want it back
            return False
        frames.flags[pfn] |= PG_WRITEBACK
        at = pfn << 12
        self.store.write(entry, self.u8[at : at + 4096])
        vmstat = self.vmstat
        vmstat.nr_writeback += 1
        vmstat.pswpout += 1
        self.disk.submit(True, entry, pfn)
        return False

    def read_swap_cache_async(self, entry: int) -> int:
        """The entry's page with a reference for the caller, PG_LOCKED while it is being read; -1 when the slot was
        freed or no frame is left."""
        cache, frames, pages = self.cache, self.frames, self.pages
        pfn = cache.get(entry, -1)
        if pfn >= 0:
            frames.count[pfn] += 1
            return pfn
        try:
            pfn = pages.alloc_page(GFP_HIGHUSER, USER)
        except OutOfMemory:
            return -1
        try:
            self.nodes.charge(entry)
        except OutOfMemory:
            pages.put_page(pfn)
            return -1
        # Both allocations may have reclaimed: is the slot still wanted, and still not cached?
        if entry in cache or not self.map[entry]:
            self.nodes.uncharge(entry)
            pages.put_page(pfn)
            return self.read_swap_cache_async(entry) if entry in cache else -1
        self.swap_duplicate(entry)
        cache[entry] = pfn
        frames.count[pfn] = 2
        frames.private[pfn] = entry
        frames.flags[pfn] = PG_LOCKED | PG_SWAPCACHE
        self.add_total += 1
        self.mem.reclaim.lru_cache_add_active(pfn)
        to = pfn << 12
        self.store.read(entry, self.u8[to : to + 4096])
        self.vmstat.pswpin += 1
        self.disk.submit(False, entry, pfn)
        return pfn

    def swapin_readahead(self, entry: int) -> None:
        """Starts reading the entry's page and its neighbours on the device. lookup_swap_cache then finds it, unless
        memory ran out."""
        put_page = self.pages.put_page
        for slot in self.areas.readahead_range(entry, self.page_cluster):
            pfn = self.read_swap_cache_async(slot)
            if pfn < 0:
                break
            put_page(pfn)
        if entry not in self.cache:
            pfn = self.read_swap_cache_async(entry)
            if pfn >= 0:
                put_page(pfn)
        self.mem.reclaim.lru_add_drain()

    def check(self) -> list[str]:
        """What disagrees between slots, cache and frames; the auditor compares each slot's count with its users."""
        wrong = []
        frames, areas, cache = self.frames, self.areas, self.cache
        for entry, pfn in cache.items():
            if frames.private[pfn] != entry or not frames.flags[pfn] & PG_SWAPCACHE:
                wrong.append(f"the swap cache's page for entry {entry:#x} does not say so: {frames.describe(pfn)}")
        flagged = int(np.count_nonzero(frames.np_flags & np.uint32(PG_SWAPCACHE)))
        if flagged != len(cache):
            wrong.append(f"swap cache: {len(cache)} pages, {flagged} frames with PG_swapcache")
        for number, area in enumerate(areas):
            used = int(np.count_nonzero(area.np_map[1:]))
            if used != area.total - area.nr_free:
                wrong.append(f"swap {number}: {used} slots in use in the map, {area.total - area.nr_free} on the books")
        if self.nodes.items != len(cache):
            wrong.append(f"swap cache: {len(cache)} pages, {self.nodes.items} in its tree")
        return wrong

    def audit(self, pte_refs: dict[int, int]) -> list[str]:
        """check(), and each slot's count against its users. `pte_refs`: entry -> PTEs that name it."""
        wrong = self.check()
        users = dict(pte_refs)
        for entry in self.cache:
            users[entry] = users.get(entry, 0) + 1
        for mapping in self.mem.mappings.values():
            for entry in mapping.swap_entries():
                users[entry] = users.get(entry, 0) + 1
        for entry, n in users.items():
            known = self.areas.is_slot(entry)
            if not known or self.map[entry] not in (n, SWAP_MAP_MAX):
                wrong.append(
                    f"swap slot {entry:#x} has {n} users, the map says {self.map[entry] if known else 'nothing'}"
                )
        used = [entry for entry in np.flatnonzero(self.areas.np_map).tolist() if self.areas.is_slot(entry)]
        wrong += [f"swap slot {entry:#x} is in use by nobody" for entry in used if entry not in users]
        return wrong
