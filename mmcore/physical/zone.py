"""A zone of physical memory: its free lists, LRU lists and marks, and the account of low or high memory it belongs to.

Linux: struct zone, include/linux/mmzone.h, 2.6.7.
"""

from __future__ import annotations

from mmcore.physical.frames import NR_OWNERS, Frames
from mmcore.physical.lru import LruList

MAX_ORDER = 11


class Account:
    """Whose the frames of low memory, or of high memory, are."""

    __slots__ = ("owned", "peak_owned", "min_free", "min_is_new")

    owned: list[int]  # frames, by owner
    peak_owned: list[int]  # ... most that each ever had
    min_free: int  # frames in the buddy lists when they were fewest
    min_is_new: bool  # there are so few at this moment

    def __init__(self) -> None:
        self.owned = [0] * NR_OWNERS
        self.peak_owned = [0] * NR_OWNERS
        self.min_free = 0
        self.min_is_new = False


class Zone:
    """Frames `start_pfn <= pfn < end_pfn` with their free lists, LRU lists and watermarks."""

    __slots__ = (
        "name",
        "index",
        "start_pfn",
        "end_pfn",
        "present_pages",
        "free_pages",
        "pages_min",
        "pages_low",
        "pages_high",
        "protection",
        "free_area",
        "pcp",
        "pcp_batch",
        "pcp_low",
        "pcp_high",
        "active",
        "inactive",
        "nr_scan_active",
        "nr_scan_inactive",
        "pages_scanned",
        "all_unreclaimable",
        "prev_priority",
        "temp_priority",
        "pgalloc",
        "account",
        "owned",
        "peak_owned",
    )

    present_pages: int
    free_pages: int  # in the buddy lists
    # Watermarks, in pages: below low kswapd is woken, and works until high; the allocator keeps min for the urgent.
    pages_min: int
    pages_low: int
    pages_high: int
    # Pages that must stay free for others, by what is allocated: DMA, KERNEL, HIGHUSER.
    protection: list[int]
    # One dict per order: insertion-ordered set of block heads; the last one added is the list's head (2.6 adds and
    # takes there).
    free_area: list[dict[int, None]]
    # The per-cpu list: refilled when it has no more than pcp_low pages, drained at pcp_high, by batches.
    pcp: list[int]
    pcp_batch: int
    pcp_low: int
    pcp_high: int
    # The LRU lists, and the pages of each that reclaim has yet to look at.
    active: LruList
    inactive: LruList
    nr_scan_active: int
    nr_scan_inactive: int
    pages_scanned: int  # of the inactive list since a page of the zone was last freed
    all_unreclaimable: bool  # so many were looked at in vain that the zone is left alone
    # Reclaim's priority: how far its last pass had to go, and this one so far (12: at ease, 0: everything is tried).
    prev_priority: int
    temp_priority: int
    pgalloc: int  # frames handed out since boot
    account: Account  # of low or of high memory, and its two lists
    owned: list[int]
    peak_owned: list[int]

    def __init__(self, name: str, index: int, start: int, end: int, frames: Frames, account: Account) -> None:
        self.name = name
        self.index = index
        self.start_pfn = start
        self.end_pfn = end
        self.present_pages = end - start
        self.free_pages = 0
        self.pages_min = self.pages_low = self.pages_high = 0
        self.protection = [0, 0, 0]
        self.free_area = [{} for _ in range(MAX_ORDER)]
        self.pcp = []
        batch = min(self.present_pages // 1024, 64) // 4
        self.pcp_batch = max(1, batch)
        self.pcp_low = 2 * self.pcp_batch
        self.pcp_high = 6 * self.pcp_batch
        self.active = LruList(frames)
        self.inactive = LruList(frames)
        self.nr_scan_active = self.nr_scan_inactive = 0
        self.pages_scanned = 0
        self.all_unreclaimable = False
        self.prev_priority = self.temp_priority = 12
        self.pgalloc = 0
        self.account = account
        self.owned, self.peak_owned = account.owned, account.peak_owned

    @property
    def nr_active(self) -> int:
        return self.active.n

    @property
    def nr_inactive(self) -> int:
        return self.inactive.n
