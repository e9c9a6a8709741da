"""`mem_map` as a structure of arrays: one entry per physical frame in each.

Each array is one lazily touched buffer, seen as a memoryview (`frames.count[pfn]`, single entries) and as numpy
(`frames.np_count`, ranges).
"""

from __future__ import annotations

import mmap
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

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

_Word = TypeVar("_Word", bound=np.generic)


class Frames:
    """Per-frame arrays for `nr` frames."""

    __slots__ = (
        "nr",
        "_buffers",
        "flags",
        "np_flags",
        "count",
        "np_count",
        "mapcount",
        "np_mapcount",
        "mapping",
        "np_mapping",
        "index",
        "np_index",
        "private",
        "np_private",
        "rmap",
        "np_rmap",
        "owner",
        "np_owner",
        "stamp",
        "np_stamp",
    )

    # PG_* bits.
    flags: memoryview
    np_flags: NDArray[np.uint32]
    # References: one per PTE, one for the page cache or swap cache, one per pin. LRU lists and pagevecs hold none.
    count: memoryview
    np_count: NDArray[np.int32]
    # PTEs that map the frame: the core's ground truth, whatever the scheme stores. Reserved frames are never counted.
    mapcount: memoryview
    np_mapcount: NDArray[np.int32]
    # File page: kernel address of its AddressSpace. Anonymous page (PG_ANON): the scheme's.
    mapping: memoryview
    np_mapping: NDArray[np.uint32]
    # File page: offset in the file, in pages. Anonymous page: the scheme's.
    index: memoryview
    np_index: NDArray[np.uint32]
    # Swap entry when PG_SWAPCACHE (2.6.6 and later).
    private: memoryview
    np_private: NDArray[np.uint32]
    # The scheme's word (pte_chain's `pte` union).
    rmap: memoryview
    np_rmap: NDArray[np.uint64]
    # Who holds the frame: FREE, PCP, ...; `bincount` of it is the low-memory account.
    owner: memoryview
    np_owner: NDArray[np.uint8]
    # Generation of the frame's LRU membership, see lru.LruList.
    stamp: memoryview
    np_stamp: NDArray[np.uint32]

    def __init__(self, nr: int) -> None:
        self.nr = nr
        self._buffers: list[mmap.mmap] = []
        self.flags, self.np_flags = self._array("I", np.uint32)
        self.count, self.np_count = self._array("i", np.int32)
        self.mapcount, self.np_mapcount = self._array("i", np.int32)
        self.mapping, self.np_mapping = self._array("I", np.uint32)
        self.index, self.np_index = self._array("I", np.uint32)
        self.private, self.np_private = self._array("I", np.uint32)
        self.rmap, self.np_rmap = self._array("Q", np.uint64)
        self.owner, self.np_owner = self._array("B", np.uint8)
        self.stamp, self.np_stamp = self._array("I", np.uint32)

    def _array(self, code: Literal["B", "I", "i", "Q"], dtype: type[_Word]) -> tuple[memoryview, NDArray[_Word]]:
        """A zeroed array of `nr` words, seen both ways."""
        buffer = anonymous_buffer(self.nr * np.dtype(dtype).itemsize)
        self._buffers.append(buffer)
        return memoryview(buffer).cast(code), np.frombuffer(buffer, dtype)

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
