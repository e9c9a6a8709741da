"""``mem_map`` as a structure of arrays: one entry per physical frame in each.

Each array is one lazily touched buffer, seen as a memoryview (``frames.count[pfn]``, single entries) and as numpy
(``frames.np_count``, ranges).

count      references: one per PTE, one for the page cache or swap cache, one per pin. LRU lists and pagevecs hold none.
mapcount   PTEs that map the frame: the core's ground truth, whatever the scheme stores. Reserved frames are never
counted.
mapping    file page: kernel address of its AddressSpace. anonymous page (PG_ANON): the scheme's.
index      file page: offset in the file, in pages. anonymous page: the scheme's.
private    swap entry when PG_SWAPCACHE (2.6.6 and later).
rmap       the scheme's word (pte_chain's ``pte`` union).
owner      who holds the frame; ``bincount(owner)`` is the low-memory account.
stamp      generation of the frame's LRU membership, see zones.LruList.
"""

from __future__ import annotations

import numpy as np

from mmcore.physical.ram import anonymous_buffer

# struct page flags. Linux: include/linux/page-flags.h, 2.6.7 (PG_DIRECT: 2.6.5). PG_CODE is ours.
PG_LOCKED = 1 << 0
PG_ERROR = 1 << 1
PG_REFERENCED = 1 << 2
PG_UPTODATE = 1 << 3
PG_DIRTY = 1 << 4
PG_LRU = 1 << 5
PG_ACTIVE = 1 << 6
PG_SLAB = 1 << 7
PG_RESERVED = 1 << 11
PG_PRIVATE = 1 << 12
PG_WRITEBACK = 1 << 13
PG_SWAPCACHE = 1 << 15
PG_DIRECT = 1 << 16
PG_RECLAIM = 1 << 18
PG_ANON = 1 << 20
PG_CODE = 1 << 24  # may hold code the CPU has translated

FLAG_NAMES = {
    PG_LOCKED: "locked",
    PG_ERROR: "error",
    PG_REFERENCED: "referenced",
    PG_UPTODATE: "uptodate",
    PG_DIRTY: "dirty",
    PG_LRU: "lru",
    PG_ACTIVE: "active",
    PG_SLAB: "slab",
    PG_RESERVED: "reserved",
    PG_PRIVATE: "private",
    PG_WRITEBACK: "writeback",
    PG_SWAPCACHE: "swapcache",
    PG_DIRECT: "direct",
    PG_RECLAIM: "reclaim",
    PG_ANON: "anon",
    PG_CODE: "code",
}

# Owners of frames.
FREE, PCP, BOOT, USER, PAGECACHE, PAGETABLE, STACK, SLAB, VMALLOC = range(9)
OWNER_NAMES = (
    "free",
    "per_cpu_lists",
    "boot",
    "user_pages",
    "page_cache",
    "page_tables",
    "kernel_stacks",
    "slab",
    "vmalloc",
)
NR_OWNERS = len(OWNER_NAMES)

_FIELDS = (
    ("flags", "I", np.uint32),
    ("count", "i", np.int32),
    ("mapcount", "i", np.int32),
    ("mapping", "I", np.uint32),
    ("index", "I", np.uint32),
    ("private", "I", np.uint32),
    ("rmap", "Q", np.uint64),
    ("owner", "B", np.uint8),
    ("stamp", "I", np.uint32),
)


class Frames:
    """Per-frame arrays for ``nr`` frames."""

    __slots__ = ("nr", "_buffers", *(name for name, _, _ in _FIELDS), *(f"np_{name}" for name, _, _ in _FIELDS))

    def __init__(self, nr: int) -> None:
        self.nr = nr
        self._buffers = []
        for name, code, dtype in _FIELDS:
            buffer = anonymous_buffer(nr * np.dtype(dtype).itemsize)
            self._buffers.append(buffer)
            setattr(self, name, memoryview(buffer).cast(code))  # type: ignore[call-overload]
            setattr(self, f"np_{name}", np.frombuffer(buffer, dtype))

    def counted(self, pfns: np.ndarray) -> np.ndarray:
        """Which of the frames reverse mapping counts (bool each): neither reserved nor outside RAM."""
        counted = (self.np_flags.take(pfns, mode="clip") & np.uint32(PG_RESERVED)) == 0
        if len(pfns) and int(pfns.max()) >= self.nr:
            counted &= pfns < self.nr
        return counted

    def describe(self, pfn: int) -> str:
        """One line about a frame, for violation reports."""
        flags = "|".join(n for bit, n in FLAG_NAMES.items() if self.flags[pfn] & bit) or "-"
        return (
            f"frame {pfn:#x}: owner {OWNER_NAMES[self.owner[pfn]]} count {self.count[pfn]} mapcount "
            f"{self.mapcount[pfn]} "
            f"flags {flags} mapping {self.mapping[pfn]:#x} index {self.index[pfn]:#x} private {self.private[pfn]:#x} "
            f"rmap {self.rmap[pfn]:#x}"
        )
