"""Reclaim: ageing and freeing pages, kswapd, direct reclaim.

 new page cache page ─> inactive ──────┐ tail: shrink_cache ─> shrink_list ─> freed | kept | activated
                          ^            │
 refill_inactive_zone     │            v referenced and in use
 new anonymous page ──> active <───────┘

A page is asked for its use (`rmap.page_referenced`) and taken out of page tables (`rmap.try_to_unmap`) one at a
time, as 2.6.7 did; which PTEs map it is the scheme's business. A list is scanned from its tail, the oldest.
`priority` runs from 12 (1/4096 of a list) to 0 (all of it). The caller of shrink_list holds one reference to each
page, so a page that only its cache wants has count 2. Linux: mm/vmscan.c, 2.6.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmcore.physical.frames import (
    PG_ACTIVE,
    PG_ANON,
    PG_DIRTY,
    PG_LOCKED,
    PG_LRU,
    PG_RECLAIM,
    PG_SWAPCACHE,
    PG_WRITEBACK,
    SLAB,
)
from mmcore.physical.gfp import GFP_KERNEL, GFPF_FS, GFPF_IO, GFPF_NORETRY
from mmcore.physical.zone import Zone
from mmcore.reclaim.pagevec import LruCache
from mmcore.rmap.core import SUCCESS, SWAP_AGAIN
from mmcore.swap.cache import Swap

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmcore.files.filemap import AddressSpace
    from mmcore.memory import Memory
    from mmcore.wait import WaitQueue

SWAP_CLUSTER_MAX = 32
DEF_PRIORITY = 12
SHRINK_BATCH = 128
CONGESTION_NS = 100_000_000  # HZ/10
PAGE_KEEP, PAGE_ACTIVATE, PAGE_CLEAN = range(3)  # what became of a page that was to be written


class ScanControl:
    """One reclaim pass: what it may do (`gfp`, `may_write` past a congested queue), and what it did."""

    __slots__ = ("gfp", "kswapd", "priority", "nr_mapped", "nr_scanned")

    def __init__(self, gfp: int, kswapd: bool, nr_mapped: int) -> None:
        self.gfp = gfp
        self.kswapd = kswapd
        self.nr_mapped = nr_mapped
        self.priority = DEF_PRIORITY
        self.nr_scanned = 0


class Shrinker:
    """A cache that gives objects back. `scan(n, gfp)` looks at n objects (0: none) and returns how many there are, or
    -1 when it cannot now."""

    __slots__ = ("scan", "seeks", "nr")

    def __init__(self, scan: Callable[[int, int], int], seeks: int) -> None:
        self.scan = scan
        self.seeks = seeks
        self.nr = 0


class Vmscan(LruCache):
    """`kswapd_wanted`: the machine shall call `kswapd` at its next chance."""

    def __init__(self, mem: Memory) -> None:
        super().__init__(mem.frames, mem.pages, mem.vmstat)
        self.mem = mem
        self.count = mem.frames.count
        self.mapcount = mem.frames.mapcount
        self.pages = mem.pages
        self.clock = mem.clock
        self.swap = mem.swap
        self.disk = mem.disk
        self.page_wait = self.disk.page_wait
        self.swappiness = mem.config.swappiness
        self.kswapd_wanted = False
        self.shrinkers: list[Shrinker] = []
        # kswapd_init: what page cache and users could ever have
        self.total_memory = max(
            1, sum(z.present_pages - z.pages_high for z in self.zones if z.present_pages > z.pages_high)
        )

    # --- one zone

    def _shrink_zone(self, zone: Zone, sc: ScanControl) -> int:
        """Scans both lists in proportion to their sizes, so that active tends to two thirds; returns pages freed."""
        nr_active, nr_inactive = zone.active.n, zone.inactive.n
        scan_inactive = nr_active + nr_inactive >> sc.priority
        half = nr_inactive * 2 + 1
        scan_active = 4 * scan_inactive if nr_active >= 4 * half else scan_inactive * nr_active // half
        zone.nr_scan_active += scan_active + 1
        if zone.nr_scan_active >= SWAP_CLUSTER_MAX:
            n, zone.nr_scan_active = zone.nr_scan_active, 0
            self._refill_inactive_zone(zone, n, sc)
        zone.nr_scan_inactive += scan_inactive
        if zone.nr_scan_inactive >= SWAP_CLUSTER_MAX:
            n, zone.nr_scan_inactive = zone.nr_scan_inactive, 0
            return self._shrink_cache(zone, n, sc)
        return 0

    def _refill_inactive_zone(self, zone: Zone, nr_pages: int, sc: ScanControl) -> None:
        """Moves pages from the active list's tail to the inactive list, sparing mapped ones until memory is short
        enough."""
        self.lru_add_drain()
        active, inactive = zone.active, zone.inactive
        flags, mapcount, page_referenced = self.flags, self.mapcount, self.mem.rmap.page_referenced
        distress = 100 >> zone.prev_priority
        mapped_ratio = sc.nr_mapped * 100 // self.total_memory
        reclaim_mapped = mapped_ratio // 2 + distress + self.swappiness >= 100
        no_swap = not self.swap.total
        # All are taken off before any goes back: a list shorter than nr_pages is not met twice.
        held = active.take_tail(nr_pages)
        down = []
        up = []
        for pfn in held:
            if mapcount[pfn]:
                if not reclaim_mapped or page_referenced(pfn):
                    up.append(pfn)
                    continue
            if no_swap and flags[pfn] & PG_ANON:
                up.append(pfn)
                continue
            down.append(pfn)
        for pfn in down:
            flags[pfn] &= ~PG_ACTIVE
            inactive.add(pfn)
        for pfn in up:
            active.add(pfn)
        self.vmstat.pgdeactivate += len(down)
        self.vmstat.count_refill(zone.index, len(held))

    def _shrink_cache(self, zone: Zone, max_scan: int, sc: ScanControl) -> int:
        """Isolates up to 32 pages at a time from the inactive list's tail and tries to free them; returns how many
        were."""
        self.lru_add_drain()
        inactive = zone.inactive
        freed = 0
        scanned = 0
        while scanned < max_scan and inactive.n:
            # Pages whose I/O is under way would be taken off and put back in the same order: a batch of nothing else
            # is.
            rotated = inactive.rotate_tail(SWAP_CLUSTER_MAX, PG_LOCKED | PG_WRITEBACK)
            if rotated:
                scanned += rotated
                zone.pages_scanned += rotated
                continue
            page_list = inactive.take_tail(SWAP_CLUSTER_MAX)
            zone.pages_scanned += len(page_list)
            scanned += len(page_list)
            freed += self._shrink_batch(zone, page_list, sc)
        self.vmstat.count_scan(zone.index, sc.kswapd, scanned, freed)
        return freed

    def _shrink_batch(self, zone: Zone, page_list: list[int], sc: ScanControl) -> int:
        """Pages just taken off the inactive list are freed, or put back: at the head, or on the active list. Returns
        how many were freed."""
        flags, count, inactive, active, put_page = (
            self.flags,
            self.count,
            zone.inactive,
            zone.active,
            self.pages.put_page,
        )
        for pfn in page_list:
            flags[pfn] &= ~PG_LRU
            count[pfn] += 1
        kept = self._shrink_list(page_list, sc)
        for pfn in kept:
            f = flags[pfn] | PG_LRU
            flags[pfn] = f
            (active if f & PG_ACTIVE else inactive).add(pfn)
            if count[pfn] == 1:
                put_page(pfn)  # its last user went while we held it
            else:
                count[pfn] -= 1
        return len(page_list) - len(kept)

    def _shrink_list(self, page_list: list[int], sc: ScanControl) -> list[int]:
        """Tries to free each isolated page; returns those that stay, the activated ones with PG_ACTIVE."""
        frames, flags, mapcount = self.frames, self.flags, self.mapcount
        rmap, swap, mappings = self.mem.rmap, self.swap, self.mem.mappings
        page_referenced, try_to_unmap = self._asks_for_use(), rmap.try_to_unmap
        may_fs, may_io = sc.gfp & GFPF_FS, sc.gfp & GFPF_IO
        scanned = activated = 0
        kept: list[int] = []
        keep = kept.append
        for pfn in page_list:
            f = flags[pfn]
            if f & (PG_LOCKED | PG_WRITEBACK):
                keep(pfn)
                continue
            mapped = mapcount[pfn]
            scanned += 2 if mapped or f & PG_SWAPCACHE else 1  # such pages weigh double against slab
            referenced = page_referenced(pfn)
            file = None if f & (PG_SWAPCACHE | PG_ANON) else mappings.get(frames.mapping[pfn])
            if referenced and (mapped or f & PG_SWAPCACHE or (file is not None and file.mapped())):
                flags[pfn] |= PG_ACTIVE
                activated += 1
                keep(pfn)
                continue
            mapping: AddressSpace | Swap | None = file
            if f & PG_SWAPCACHE:
                mapping = swap
            elif f & PG_ANON:
                if not swap.add_to_swap(pfn):
                    flags[pfn] |= PG_ACTIVE
                    activated += 1
                    keep(pfn)
                    continue
                mapping = swap
            if mapped and mapping is not None:
                result = try_to_unmap(pfn)
                if result != SUCCESS:
                    if result != SWAP_AGAIN:
                        flags[pfn] |= PG_ACTIVE
                        activated += 1
                    keep(pfn)
                    continue
            f = flags[pfn]
            if f & PG_DIRTY:
                if referenced or not (may_fs or (f & PG_SWAPCACHE and may_io)):
                    keep(pfn)
                    continue
                outcome = self._pageout(pfn, mapping, sc)
                if outcome != PAGE_CLEAN:
                    activated += outcome == PAGE_ACTIVATE
                    keep(pfn)
                    continue
                mapping = swap if flags[pfn] & PG_SWAPCACHE else mappings.get(frames.mapping[pfn])
            if mapping is None or not self._remove_mapping(pfn, mapping):
                keep(pfn)
        sc.nr_scanned += scanned
        self.vmstat.pgactivate += activated
        return kept

    def _asks_for_use(self) -> Callable[[int], int]:
        """What tells how often an isolated page was used since last asked."""
        return self.mem.rmap.page_referenced

    def _remove_mapping(self, pfn: int, mapping: AddressSpace | Swap) -> bool:
        """Frees a page that its cache alone wants. False: somebody else does. Linux: shrink_list's end; remove_mapping
        from 2.6.17 on."""
        if self.count[pfn] != 2:
            return False
        if isinstance(mapping, Swap):
            mapping.delete_from_swap_cache(pfn)
        else:
            mapping.remove_from_page_cache(pfn)
        self.count[pfn] = 0
        self.pages.free_page(pfn)
        return True

    def _pageout(self, pfn: int, mapping: AddressSpace | Swap | None, sc: ScanControl) -> int:
        """Starts to write a dirty page, of the swap cache or a file's, None: of neither. PAGE_CLEAN: it was written on
        the spot. Linux: pageout."""
        flags = self.flags
        if self.count[pfn] != 2 or mapping is None or (self.disk.congested and not sc.kswapd):
            return PAGE_KEEP
        mapping.clear_page_dirty(pfn)
        flags[pfn] |= PG_RECLAIM
        if mapping.writepage(pfn):
            flags[pfn] = flags[pfn] & ~PG_RECLAIM | PG_ACTIVE
            return PAGE_ACTIVATE
        if not flags[pfn] & PG_WRITEBACK:
            flags[pfn] &= ~PG_RECLAIM
        return PAGE_KEEP if flags[pfn] & (PG_WRITEBACK | PG_DIRTY | PG_LOCKED) else PAGE_CLEAN

    # --- who calls for it

    def try_to_free_pages(self, gfp: int, order: int) -> int:
        """Direct reclaim by an allocation that found too little: 1 when it freed 32 pages or more. May charge time, and
        may end in the OOM killer."""
        pages, zones = self.pages, self._zonelist(gfp)
        self.vmstat.allocstall += 1
        pages.memalloc += 1
        try:
            for zone in zones:
                zone.temp_priority = DEF_PRIORITY
            sc = ScanControl(gfp, False, 0)
            total_scanned = reclaimed = 0
            for priority in range(DEF_PRIORITY, -1, -1):
                sc.priority = priority
                sc.nr_scanned = 0
                sc.nr_mapped = self.vmstat.nr_mapped
                for zone in zones:
                    # The distress is noted even for a zone that is left to kswapd.
                    zone.temp_priority = priority
                    zone.prev_priority = min(zone.prev_priority, priority)
                    if not zone.all_unreclaimable or priority == DEF_PRIORITY:
                        reclaimed += self._shrink_zone(zone, sc)
                reclaimed += self._shrink_slab(sc.nr_scanned, gfp)
                if reclaimed >= SWAP_CLUSTER_MAX:
                    return 1
                total_scanned += sc.nr_scanned
                if total_scanned > SWAP_CLUSTER_MAX + SWAP_CLUSTER_MAX // 2:
                    self.wakeup_bdflush(total_scanned)
                if sc.nr_scanned and priority < DEF_PRIORITY - 2:
                    self._nap()
            failed = bool(gfp & GFPF_FS and not gfp & GFPF_NORETRY)
        finally:
            for zone in zones:
                zone.prev_priority = zone.temp_priority
            pages.memalloc -= 1
        if failed:
            self.mem.oom.out_of_memory(gfp, order)
        return 0

    def _nap(self) -> None:
        """Between two rounds of direct reclaim that did not free enough: time for writes to end."""
        self.disk.congestion_wait(CONGESTION_NS)

    def _zonelist(self, gfp: int) -> list[Zone]:
        return self.pages.zonelists[self.pages.kind_of(gfp)]

    def wakeup_kswapd(self, zone: Zone | None = None) -> None:
        """The allocator missed its first pass. kswapd runs if a zone is at its low mark."""
        for z in (zone,) if zone is not None else self.zones:
            if z.present_pages and z.free_pages <= z.pages_low:
                self.kswapd_wanted = True

    def kswapd(self) -> None:
        """One round of the daemon, on its own behalf."""
        self.kswapd_wanted = False
        self._balance_pgdat()

    def _balance_pgdat(self) -> None:
        """Frees until every zone is above its high mark. 2.6.7 never counted total_scanned here, so its naps never
        happened; there are none."""
        vmstat, zones, pages = self.vmstat, [z for z in self.zones if z.present_pages], self.pages
        vmstat.pageoutrun += 1
        sc = ScanControl(GFP_KERNEL, True, vmstat.nr_mapped)
        pages.memalloc += 1
        for zone in zones:
            zone.temp_priority = DEF_PRIORITY
        try:
            for priority in range(DEF_PRIORITY, -1, -1):
                all_zones_ok = True
                end_zone = len(zones) - 1
                while end_zone >= 0:
                    zone = zones[end_zone]
                    if not (zone.all_unreclaimable and priority != DEF_PRIORITY) and zone.free_pages <= zone.pages_high:
                        break
                    end_zone -= 1
                else:
                    break
                for zone in zones[: end_zone + 1]:
                    if zone.all_unreclaimable and priority != DEF_PRIORITY:
                        continue
                    if zone.free_pages <= zone.pages_high:
                        all_zones_ok = False
                    zone.temp_priority = priority
                    zone.prev_priority = min(zone.prev_priority, priority)
                    sc.priority = priority
                    sc.nr_scanned = 0
                    self._shrink_zone(zone, sc)
                    self._shrink_slab(sc.nr_scanned, GFP_KERNEL)
                    if not zone.all_unreclaimable and zone.pages_scanned > zone.present_pages * 2:
                        zone.all_unreclaimable = True
                if all_zones_ok:
                    break
        finally:
            for zone in zones:
                zone.prev_priority = zone.temp_priority
            pages.memalloc -= 1

    def shrink_all(self, nr_pages: int) -> int:
        """Our own trigger (/proc/sys/vm/rmapbox_reclaim): frees `nr_pages` pages and hardly more, mapped ones as if
        memory were very short, oldest first, 32 at a time, waiting for the disk. Gives up after several looks at every
        page. Returns how many were freed."""
        zones = [z for z in reversed(self.zones) if z.present_pages]
        self.lru_add_drain()
        patience = 6 * sum(z.active.n + z.inactive.n for z in zones) + 8 * SWAP_CLUSTER_MAX
        sc = ScanControl(GFP_KERNEL, True, self.vmstat.nr_mapped)
        sc.priority = 0
        freed = 0
        self.pages.memalloc += 1
        try:
            while freed < nr_pages and patience > 0:
                for zone in zones:
                    priority, zone.prev_priority = zone.prev_priority, 0
                    if zone.inactive.n < nr_pages - freed:
                        self._refill_inactive_zone(zone, SWAP_CLUSTER_MAX, sc)
                    freed += self._shrink_cache(zone, min(SWAP_CLUSTER_MAX, nr_pages - freed), sc)
                    zone.prev_priority = priority
                    if freed >= nr_pages:
                        break
                patience -= 2 * SWAP_CLUSTER_MAX
                self._wait_for_disk()
        finally:
            self.pages.memalloc -= 1
        return freed

    def _wait_for_disk(self) -> None:
        while self.disk.wait_next():
            pass

    def wakeup_bdflush(self, nr_pages: int) -> None:
        """Starts writing back dirty pages of files. Linux: background_writeout, which pdflush runs."""
        for space in list(self.disk.dirty_files):
            if nr_pages <= 0 or self.disk.congested:
                return
            nr_pages -= space.writeback(nr_pages)

    def sync_all(self) -> None:
        """Every dirty page of every file goes to its host file (end of the run, sync)."""
        for space in list(self.disk.dirty_files):
            space.writeback()

    def _shrink_slab(self, scanned: int, gfp: int) -> int:
        """Asks the shrinkers for a share of their objects like the share of the LRU lists that was scanned; returns
        frames freed."""
        if not self.shrinkers or not scanned:
            return 0
        lru_pages = sum(z.active.n + z.inactive.n for z in self.zones)
        before = self.pages.owned[SLAB]
        for shrinker in self.shrinkers:
            shrinker.nr += 4 * scanned // shrinker.seeks * shrinker.scan(0, gfp) // (lru_pages + 1)
            if shrinker.nr <= SHRINK_BATCH:
                continue
            while shrinker.nr:
                n = min(shrinker.nr, SHRINK_BATCH)
                answer = shrinker.scan(n, gfp)
                self.vmstat.slabs_scanned += n
                shrinker.nr -= n
                if answer < 0:
                    break  # the rest stays for a caller who may
        return max(0, before - self.pages.owned[SLAB])

    def register_shrinker(self, scan: Callable[[int, int], int], seeks: int = 2) -> Shrinker:
        """A cache joins slab reclaim. `seeks`: disk seeks to make an object again (2 by default); more means kept
        longer."""
        shrinker = Shrinker(scan, seeks)
        self.shrinkers.append(shrinker)
        return shrinker

    # --- waiting without a scheduler

    def wait_sync(self, queue: WaitQueue) -> None:
        """Waits for page I/O on the spot, charging its time: for callers that cannot park."""
        woken = _Woken()
        queue.add(woken)
        while not woken.done and self.disk.wait_next():
            pass
        queue.remove(woken)


class _Woken:
    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def wake(self, queue: WaitQueue) -> None:
        self.done = True
