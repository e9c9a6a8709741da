"""Zones and the page allocator: buddy lists, the per-cpu list, watermarks, the slow path.

 0 ── DMA ── 16M ─────────────── Normal ─────────────── border (896M) ──────── HighMem ──────── end of RAM
 |<-------------- low memory: all that the kernel itself can need ----->|<-- user pages, page cache -->|

 asked for      tried in this order           a zone is passed over that would keep less than its protection
 DMA            DMA
 KERNEL         Normal, DMA
 HIGHUSER       HighMem, Normal, DMA

Linux: mm/page_alloc.c, 2.6.7. One difference: one per-cpu list instead of a hot and a cold one.

Low memory adds up at any moment, and so does high memory: present frames = sum over `owned` (free buddies, per-cpu
lists and every owner of frames.py).
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

import numpy as np

from mmcore.clock import VirtualClock
from mmcore.errors import Hung, InvariantViolation, OutOfMemory
from mmcore.physical.frames import BOOT, FREE, NR_OWNERS, PCP, PG_ACTIVE, PG_CODE, PG_LRU, PG_RESERVED, Frames
from mmcore.physical.gfp import (
    GFPF_DMA,
    GFPF_FS,
    GFPF_HIGH,
    GFPF_HIGHMEM,
    GFPF_NOFAIL,
    GFPF_NORETRY,
    GFPF_REPEAT,
    GFPF_WAIT,
)
from mmcore.physical.ram import PAGE_SHIFT
from mmcore.physical.zone import MAX_ORDER, Account, Zone

DMA_END = 4096  # frames: 16 MB
LOWMEM_BYTES = 896 << 20  # where low memory ends if nothing else is said: 4 GB - PAGE_OFFSET - 128 MB for vmalloc
HZ_50_NS = 20_000_000  # the allocator's nap between retries, HZ/50
HUNG_NS = 600 * 1_000_000_000  # an allocation that retries for so long in virtual time will never succeed


_PCPS = bytes([PCP]) * 64  # owners of a batch


class AllocatorHelp:
    """What the allocator asks of the memory management around it. As it stands, nobody helps: so it is until all parts
    are there."""

    def wakeup_kswapd(self) -> None:
        """A first pass found too little."""

    def try_to_free_pages(self, gfp: int, order: int) -> int:
        """Direct reclaim: 1 when it freed enough to go on, else 0. May charge time, and may kill."""
        return 0

    def last_resort(self) -> bool:
        """Something that reclaim could not get may be got now."""
        return False

    def current_memdie(self) -> bool:
        """PF_MEMDIE of the current task: it may use the reserves too."""
        return False

    def gave_up(self, gfp: int, order: int) -> None:
        """An allocation that may not fail will never succeed: the run is about to end."""

    def new_low(self) -> None:
        """There was never less free memory than at this moment; it is about to grow."""

    def code_reused(self) -> None:
        """A frame that may hold translated code is handed out."""


class PageAllocator:
    """Hands out frames."""

    owned: list[int]  # frames of low memory, by owner
    peak_owned: list[int]  # ... most that each ever had
    pgfree: int  # frames taken back since boot
    memalloc: int  # PF_MEMALLOC: depth of reclaim; its own allocations ignore the watermarks
    lower_zone_protection: int  # how dearly lower zones are kept from what higher ones could serve; 2.6.7: 0

    def __init__(self, frames: Frames, clock: VirtualClock, lowmem_bytes: int = LOWMEM_BYTES) -> None:
        self._help = AllocatorHelp()
        self.frames = frames
        self._flags, self._count, self._owner = frames.flags, frames.count, frames.owner
        self.clock = clock
        self.low, self.high = Account(), Account()
        self.lowmem_end = low = min(lowmem_bytes >> PAGE_SHIFT, frames.nr)  # frames
        self.zones = [
            Zone("DMA", 0, 0, min(DMA_END, low), frames, self.low),
            Zone("Normal", 1, min(DMA_END, low), low, frames, self.low),
            Zone("HighMem", 2, low, frames.nr, frames, self.high),
        ]
        # by allocation type: DMA, KERNEL, HIGHUSER
        self.zonelists = [[z for z in reversed(self.zones[: kind + 1]) if z.present_pages] for kind in range(3)]
        # Where most allocations of the kernel's own and of user pages are served, and what must stay free there.
        self._first, self._first_user = self.zonelists[1][0], self.zonelists[2][0]
        self._protection = self._user_protection = 0
        self.owned, self.peak_owned = self.low.owned, self.low.peak_owned
        self.owned[BOOT] = low
        frames.np_owner[:low] = BOOT
        frames.np_flags[:low] = PG_RESERVED
        self.pgfree = 0
        self.memalloc = 0
        self.lower_zone_protection = 0
        self.inject: Callable[[int], bool] | None = None  # tests: answers True where an allocation shall fail

    # --- boot

    def attach(self, helper: AllocatorHelp) -> None:
        """All parts are there: who helps from now on."""
        self._help = helper

    def free_boot_range(self, start: int, end: int) -> None:
        """Frames of the boot reservation become free (free_all_bootmem)."""
        for zone in self.zones:
            lo, hi = max(start, zone.start_pfn), min(end, zone.end_pfn)
            if lo < hi:
                self.frames.np_flags[lo:hi] &= ~np.uint32(PG_RESERVED)
                self.owned[BOOT] -= hi - lo
                self._free_run(zone, lo, hi)
        self.low.min_is_new = False
        self.low.min_free = self.owned[FREE]

    def free_highmem(self) -> None:
        """All frames above the border become free. Theirs are the words that an untouched frame has, so that host
        memory is spent on those that are used only. Linux: one_highpage_init."""
        zone = self.zones[2]
        if zone.present_pages:
            self._free_run(zone, zone.start_pfn, zone.end_pfn)
            self.high.min_free = zone.free_pages

    def setup_watermarks(self) -> None:
        """min_free_kbytes and what follows from it. Linux: init_per_zone_pages_min, setup_per_zone_protection,
        2.6.7."""
        self.min_free_kbytes = min(max(isqrt(self.lowmem_end * 4), 128), 16384)
        self.apply_watermarks()

    def apply_watermarks(self) -> None:
        """What follows from `min_free_kbytes` and `lower_zone_protection`. A zone's protection against a kind of
        allocation is its own low mark, what higher zones of the kind keep, and their low marks as often as
        lower_zone_protection says."""
        for zone in self.zones:
            if zone.account is self.high:
                zone.pages_min = min(max(zone.present_pages // 1024, 32), 128) if zone.present_pages else 0
            else:
                zone.pages_min = (self.min_free_kbytes // 4) * zone.present_pages // self.lowmem_end
            zone.pages_low = zone.pages_min * 2
            zone.pages_high = zone.pages_min * 3
        for kind in range(3):
            kept, higher = 0, 0
            for zone in reversed(self.zones[: kind + 1]):
                if zone.present_pages:
                    kept += zone.pages_low + higher * self.lower_zone_protection
                    higher = zone.pages_low
                    zone.protection[kind] = kept
        self._protection = self._first.protection[1]
        self._user_protection = self._first_user.protection[2]

    # --- accounts

    def nr_free(self) -> int:
        return sum(z.free_pages for z in self.zones)

    @staticmethod
    def kind_of(gfp: int) -> int:
        """0: DMA, 1: KERNEL, 2: HIGHUSER: which list of zones serves these flags."""
        return 0 if gfp & GFPF_DMA else 2 if gfp & GFPF_HIGHMEM else 1

    @property
    def min_free(self) -> int:
        """Frames of low memory in the buddy lists when they were fewest."""
        return self.low.min_free

    def zone_of(self, pfn: int) -> Zone:
        return self.zones[(pfn >= DMA_END) + (pfn >= self.lowmem_end)]

    def change_owner(self, pfn: int, owner: int) -> None:
        """A frame passes from one owner to another without being freed (page cache to swap cache user, ...)."""
        frames, zone = self.frames, self.zone_of(pfn)
        owned = zone.owned
        owned[frames.owner[pfn]] -= 1
        n = owned[owner] = owned[owner] + 1
        if n > zone.peak_owned[owner]:
            zone.peak_owned[owner] = n
        frames.owner[pfn] = owner

    # --- allocation

    def alloc_page(self, gfp: int, owner: int) -> int:
        """One frame, count 1, content undefined. Raises OutOfMemory."""
        if gfp & GFPF_HIGHMEM:
            zone, protection = self._first_user, self._user_protection
        else:
            zone, protection = self._first, self._protection
        if zone.free_pages <= protection or gfp & GFPF_DMA or self.inject is not None:
            return self._alloc_pages(gfp, 0, owner)
        pcp = zone.pcp
        if len(pcp) <= zone.pcp_low:
            self._rmqueue_bulk(zone)
        pfn = pcp.pop()
        zone.pgalloc += 1
        owned = zone.owned
        if self._flags[pfn]:
            self._recycle_code(pfn, 1)
        self._count[pfn] = 1
        self._owner[pfn] = owner
        owned[PCP] -= 1
        n = owned[owner] + 1
        owned[owner] = n
        if n > zone.peak_owned[owner]:
            zone.peak_owned[owner] = n
        return pfn

    def alloc_pages(self, order: int, gfp: int, owner: int) -> int:
        """`1 << order` frames in a row, naturally aligned; the first one's count is 1. Raises OutOfMemory."""
        if order == 0:
            return self.alloc_page(gfp, owner)
        return self._alloc_pages(gfp, order, owner)

    def _alloc_pages(self, gfp: int, order: int, owner: int) -> int:
        """The passes of __alloc_pages. Linux: mm/page_alloc.c, 2.6.7."""
        if self.inject is not None and self.inject(order):
            raise OutOfMemory("injected")
        kind = self.kind_of(gfp)
        need = 1 << order
        wait = gfp & GFPF_WAIT
        pfn = self._first_fit(kind, order, owner, 0, wait)
        if pfn >= 0:
            return pfn
        self._help.wakeup_kswapd()
        pfn = self._first_fit(kind, order, owner, gfp & GFPF_HIGH, wait)
        if pfn >= 0:
            return pfn
        give_up = self.clock.now + HUNG_NS
        napped = 0
        while True:
            if self.memalloc or self._help.current_memdie():
                return self._from_reserves(kind, order, owner)
            if not wait:
                raise OutOfMemory("an atomic allocation found no free frame")
            self._help.try_to_free_pages(gfp, order)
            pfn = self._first_fit(kind, order, owner, 0, wait)
            if pfn >= 0:
                return pfn
            if gfp & GFPF_NORETRY or not (order <= 3 or gfp & (GFPF_REPEAT | GFPF_NOFAIL)) or not gfp & GFPF_FS:
                raise OutOfMemory(f"no {need} free frames in a row")
            if self._help.last_resort():
                continue
            self.clock.nap(HZ_50_NS)
            napped += HZ_50_NS
            if self.clock.now > give_up or napped > HUNG_NS:
                self._help.gave_up(gfp, order)
                high = self.zones[2].present_pages
                more = "only less of its largest owners helps" if high else "give the machine more --memory"
                raise Hung(
                    f"an allocation of {need} frame(s) made no progress for {HUNG_NS // 10**9} virtual seconds: low "
                    f"memory is exhausted ({self.owned[FREE]} of {self.lowmem_end} frames free) while swap is not; "
                    f"{more}"
                )

    def _first_fit(self, kind: int, order: int, owner: int, high: int, wait: int) -> int:
        """A block from the first zone of zone list `kind` that keeps its protection, -1 if there is none. `high`: a
        quarter of the low mark may go too; not `wait`: who cannot wait may go below the protection of a zone that is
        balanced."""
        need = 1 << order
        for zone in self.zonelists[kind]:
            mark = need + zone.protection[kind] - (zone.pages_low >> 2 if high else 0)
            if zone.free_pages >= mark or (not wait and zone.free_pages >= zone.pages_high):
                pfn = self._buffered_rmqueue(zone, order, owner)
                if pfn >= 0:
                    return pfn
        return -1

    def _from_reserves(self, kind: int, order: int, owner: int) -> int:
        """A block from any zone of the list, watermarks or not. Raises OutOfMemory."""
        for zone in self.zonelists[kind]:
            pfn = self._buffered_rmqueue(zone, order, owner)
            if pfn >= 0:
                return pfn
        raise OutOfMemory("the reserves are empty")

    def _buffered_rmqueue(self, zone: Zone, order: int, owner: int) -> int:
        frames, owned = self.frames, zone.owned
        if order == 0:
            pcp = zone.pcp
            if len(pcp) <= zone.pcp_low:
                self._rmqueue_bulk(zone)
            if not pcp:
                return -1
            pfn = pcp.pop()
            owned[PCP] -= 1
        else:
            pfn = self._rmqueue(zone, order)
            if pfn < 0:
                return -1
        n = 1 << order
        zone.pgalloc += n
        self._recycle_code(pfn, n)
        frames.count[pfn] = 1
        frames.np_owner[pfn : pfn + n] = owner
        owned[owner] += n
        if owned[owner] > zone.peak_owned[owner]:
            zone.peak_owned[owner] = owned[owner]
        return pfn

    def _recycle_code(self, pfn: int, n: int) -> None:
        """The frames' content is about to change under the CPU's translations."""
        flags = self.frames.flags
        for p in range(pfn, pfn + n):
            if flags[p]:
                flags[p] = 0
                self._help.code_reused()

    def _rmqueue(self, zone: Zone, order: int) -> int:
        """A block of `1 << order` frames out of the buddy lists, -1 if there is none."""
        areas = zone.free_area
        for o in range(order, MAX_ORDER):
            if areas[o]:
                pfn, _ = areas[o].popitem()
                while o > order:  # expand: the lower half is split on, upper halves go back
                    o -= 1
                    areas[o][pfn + (1 << o)] = None
                n = 1 << order
                zone.free_pages -= n
                zone.owned[FREE] -= n
                self._note_taken(zone.account)
                return pfn
        return -1

    def _rmqueue_bulk(self, zone: Zone) -> None:
        """Refills the per-cpu list with a batch. Blocks are split as one-by-one removal would split them, in one go."""
        areas, owner = zone.free_area, self.frames.owner
        want = zone.pcp_batch
        taken: list[int] = []
        order = 0
        while want and order < MAX_ORDER:
            area = areas[order]
            if not area:
                order += 1
                continue
            pfn, _ = area.popitem()
            size = 1 << order
            n = size if size <= want else want
            taken.extend(range(pfn, pfn + n))
            owner[pfn : pfn + n] = _PCPS[:n]
            want -= n
            lo, end = pfn + n, pfn + size
            while lo < end:  # what is left of the block, as aligned halves, smallest first
                k = (lo & -lo).bit_length() - 1
                areas[k][lo] = None
                lo += 1 << k
            order = 0
        n = len(taken)
        zone.free_pages -= n
        owned = zone.owned
        owned[FREE] -= n
        owned[PCP] += n
        if owned[PCP] > zone.peak_owned[PCP]:
            zone.peak_owned[PCP] = owned[PCP]
        self._note_taken(zone.account)
        # 2.6 takes from the list's head, frees to it, and adds a batch at its tail: what is there is used first, then
        # ascending addresses.
        taken.reverse()
        zone.pcp[:0] = taken

    # --- freeing

    def put_page(self, pfn: int) -> None:
        """Drops a reference; the last one frees the frame (taking it off its LRU list)."""
        count = self.frames.count
        n = count[pfn] - 1
        count[pfn] = n
        if n == 0:
            self.free_page(pfn)
        elif n < 0:
            raise InvariantViolation("put_page of a free frame: " + self.frames.describe(pfn))

    def free_page(self, pfn: int) -> None:
        """Frees a frame whose count is 0 (or whose last reference is the caller's)."""
        frames = self.frames
        zone = self.zones[(pfn >= DMA_END) + (pfn >= self.lowmem_end)]
        owned = zone.owned
        if zone.account.min_is_new:
            self._note_low(zone.account)
        flags = frames.flags[pfn]
        if frames.mapcount[pfn] or flags & PG_RESERVED:
            raise InvariantViolation("a frame in use is freed: " + frames.describe(pfn))
        if flags & PG_LRU:
            (zone.active if flags & PG_ACTIVE else zone.inactive).remove(pfn)
        else:
            frames.stamp[pfn] = (frames.stamp[pfn] + 1) & 0xFFFFFFFF  # a pagevec may still name it
        frames.flags[pfn] = flags & PG_CODE
        frames.count[pfn] = 0
        frames.mapping[pfn] = 0
        frames.private[pfn] = 0
        owned[frames.owner[pfn]] -= 1
        self.pgfree += 1
        pcp = zone.pcp
        if len(pcp) >= zone.pcp_high:
            self._free_pages_bulk(zone, zone.pcp_batch)
        frames.owner[pfn] = PCP
        n = owned[PCP] = owned[PCP] + 1
        if n > zone.peak_owned[PCP]:
            zone.peak_owned[PCP] = n
        pcp.append(pfn)

    def free_pages(self, pfn: int, order: int) -> None:
        """Frees a block handed out by alloc_pages."""
        if order == 0:
            self.free_page(pfn)
            return
        frames, n = self.frames, 1 << order
        zone = self.zone_of(pfn)
        if zone.account.min_is_new:
            self._note_low(zone.account)
        owner = frames.owner[pfn]
        zone.owned[owner] -= n
        frames.np_flags[pfn : pfn + n] &= np.uint32(PG_CODE)
        frames.np_count[pfn : pfn + n] = 0
        frames.np_mapping[pfn : pfn + n] = 0
        frames.np_private[pfn : pfn + n] = 0
        frames.np_stamp[pfn : pfn + n] += np.uint32(1)
        self.pgfree += n
        self._free_run(zone, pfn, pfn + n)

    def free_bulk(self, pfns: np.ndarray) -> None:
        """Frees distinct frames whose counts are 0: LRU lists, flags, buddies, all in bulk."""
        if len(pfns) <= 8:
            for pfn in pfns.tolist():
                self.free_page(pfn)
            return
        self.settle_low()
        frames = self.frames
        pfns = np.sort(pfns).astype(np.int64)
        flags = frames.np_flags[pfns]
        if frames.np_mapcount[pfns].any() or (flags & PG_RESERVED).any():
            bad = pfns[(frames.np_mapcount[pfns] != 0) | ((flags & PG_RESERVED) != 0)][0]
            raise InvariantViolation("a frame in use is freed: " + frames.describe(int(bad)))
        frames.np_stamp[pfns] += np.uint32(1)
        on_lru = (flags & PG_LRU) != 0
        is_active = (flags & PG_ACTIVE) != 0
        dma, low = np.searchsorted(pfns, (DMA_END, self.lowmem_end)).tolist()
        for zone, part in zip(self.zones, (slice(0, dma), slice(dma, low), slice(low, None)), strict=True):
            lru = on_lru[part]
            n_active = int(np.count_nonzero(lru & is_active[part]))
            zone.active.removed_bulk(n_active)
            zone.inactive.removed_bulk(int(np.count_nonzero(lru)) - n_active)
        frames.np_flags[pfns] = flags & np.uint32(PG_CODE)
        frames.np_mapping[pfns] = 0
        frames.np_private[pfns] = 0
        for account, ours in ((self.low, pfns[:low]), (self.high, pfns[low:])):
            owners = np.bincount(frames.np_owner[ours], minlength=NR_OWNERS)
            for o in np.nonzero(owners)[0].tolist():
                account.owned[o] -= int(owners[o])
        self.pgfree += len(pfns)
        cuts = np.nonzero(np.diff(pfns) != 1)[0] + 1
        starts = pfns[np.concatenate(([0], cuts))].tolist()
        ends = (pfns[np.concatenate((cuts - 1, [len(pfns) - 1]))] + 1).tolist()
        for lo, hi in zip(starts, ends, strict=True):
            for border in (DMA_END, self.lowmem_end):
                if lo < border < hi:
                    self._free_run(self.zone_of(lo), lo, border)
                    lo = border
            self._free_run(self.zone_of(lo), lo, hi)

    def _free_pages_bulk(self, zone: Zone, n: int) -> None:
        """The per-cpu list gives its `n` oldest frames back to the buddies."""
        pcp = zone.pcp
        out, pcp[:n] = pcp[:n], []
        zone.owned[PCP] -= len(out)
        for pfn in out:
            self._free_run(zone, pfn, pfn + 1)

    def drain_pcp(self) -> None:
        """Every per-cpu list gives all it has back to the buddies."""
        self.settle_low()
        for zone in self.zones:
            self._free_pages_bulk(zone, len(zone.pcp))

    def _free_run(self, zone: Zone, lo: int, hi: int) -> None:
        """Gives the frames `lo <= pfn < hi` to the buddy lists as the largest aligned blocks, merging with free
        buddies."""
        n = hi - lo
        self.frames.np_owner[lo:hi] = FREE
        zone.owned[FREE] += n
        zone.free_pages += n
        zone.all_unreclaimable = False
        zone.pages_scanned = 0
        areas, end, start = zone.free_area, zone.end_pfn, zone.start_pfn
        while lo < hi:
            order = MAX_ORDER - 1 if lo == 0 else min(MAX_ORDER - 1, (lo & -lo).bit_length() - 1)
            while lo + (1 << order) > hi:
                order -= 1
            block, step = lo, 1 << order
            while order < MAX_ORDER - 1:
                buddy = block ^ (1 << order)
                if buddy < start or buddy >= end or buddy not in areas[order]:
                    break
                del areas[order][buddy]
                block &= ~(1 << order)
                order += 1
            areas[order][block] = None
            lo += step

    @staticmethod
    def _note_taken(account: Account) -> None:
        free = account.owned[FREE]
        if free < account.min_free:
            account.min_free = free
            account.min_is_new = True

    def _note_low(self, account: Account) -> None:
        """Free memory is about to grow: what was there at its lowest is on record now."""
        account.min_is_new = False
        if account is self.low:
            self._help.new_low()

    def settle_low(self) -> None:
        """The lowest point may be now: it is on record, should free memory grow or the run end."""
        for account in (self.low, self.high):
            if account.min_is_new:
                self._note_low(account)
