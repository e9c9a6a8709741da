"""/proc/kpagecount and /proc/kpageflags: eight bytes for each frame of RAM, at eight times its number; root's to read.

 kpagecount   how many PTEs map the frame
 kpageflags   its state, in the bits of include/uapi/linux/kernel-page-flags.h (and 32, reserved)

Linux: fs/proc/page.c, 6.1; what it says of a frame is 2.6.7's struct page.
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

import numpy as np

from mmcore.errors import SysError
from mmcore.physical import frames as page
from mmcore.physical.frames import FREE, PAGETABLE, SLAB
from sandbox.fs.dentry import Dentry
from sandbox.fs.pseudofs import PseudoFile, Text
from sandbox.fs.uapi import SEEK_CUR

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmcore.memory import Memory
    from sandbox.kernel.task import Task

ENTRY = 8

KPF_SLAB, KPF_BUDDY, KPF_MMAP, KPF_ANON, KPF_SWAPCACHE, KPF_SWAPBACKED = 7, 10, 11, 12, 13, 14
KPF_UPTODATE, KPF_ZERO_PAGE, KPF_PGTABLE, KPF_RESERVED = 3, 24, 26, 32
_BITS = {
    page.PG_LOCKED: 0,
    page.PG_ERROR: 1,
    page.PG_REFERENCED: 2,
    page.PG_UPTODATE: KPF_UPTODATE,
    page.PG_DIRTY: 4,
    page.PG_LRU: 5,
    page.PG_ACTIVE: 6,
    page.PG_WRITEBACK: 8,
    page.PG_RECLAIM: 9,
    page.PG_ANON: KPF_ANON,
    page.PG_SWAPCACHE: KPF_SWAPCACHE,
    page.PG_RESERVED: KPF_RESERVED,
}


def counts(mem: Memory, first: int, stop: int) -> np.ndarray:
    """PTEs that map each of the frames (uint64)."""
    return mem.frames.np_mapcount[first:stop].astype(np.uint64)


def flags(mem: Memory, first: int, stop: int) -> np.ndarray:
    """The state of each of the frames (uint64)."""
    frames = mem.frames
    found = np.zeros(stop - first, np.uint64)

    def mark(which: np.ndarray, bit: int) -> None:
        found[which] |= np.uint64(1 << bit)

    of_page, owner = frames.np_flags[first:stop], frames.np_owner[first:stop]
    for flag, bit in _BITS.items():
        mark((of_page & np.uint32(flag)) != 0, bit)
    mapped = frames.np_mapcount[first:stop] > 0
    mark(mapped, KPF_MMAP)
    mark(mapped & ((of_page & np.uint32(page.PG_ANON)) != 0), KPF_UPTODATE)  # 2.6.7 does not say so of these
    mark(owner == FREE, KPF_BUDDY)
    mark(owner == SLAB, KPF_SLAB)
    mark(owner == PAGETABLE, KPF_PGTABLE)
    shmem = [address for address, mapping in mem.mappings.items() if mapping.is_shmem]
    of_file = (of_page & np.uint32(page.PG_ANON)) == 0
    mark(~of_file | np.isin(frames.np_mapping[first:stop], np.array(shmem, np.uint32)), KPF_SWAPBACKED)
    if first <= mem.zero_pfn < stop:
        found[mem.zero_pfn - first] |= np.uint64(1 << KPF_ZERO_PAGE)
    return found


class FrameTable(Text):
    """The node of either file; `entries` of frames from one number to before another (uint64)."""

    __slots__ = ("mem", "entries")

    def __init__(self, mem: Memory, entries: Callable[[Memory, int, int], np.ndarray]) -> None:
        super().__init__(bytes, None, 0o400)
        self.mem = mem
        self.entries = entries

    def open(self, task: Task | None, dentry: Dentry, flags: int) -> PseudoFile:
        return FrameTableFile(dentry, flags, self)


class FrameTableFile(PseudoFile):
    """An open one."""

    __slots__ = ("mem", "entries")

    def __init__(self, dentry: Dentry, flags: int, node: FrameTable) -> None:
        super().__init__(dentry, flags, node)
        self.mem, self.entries = node.mem, node.entries

    def pread(self, pos: int, n: int) -> bytes:
        if pos % ENTRY or n % ENTRY:
            raise SysError(EINVAL)
        first = pos // ENTRY
        stop = min(first + n // ENTRY, self.mem.frames.nr)
        return self.entries(self.mem, first, stop).tobytes() if first < stop else b""

    def llseek(self, offset: int, whence: int) -> int:
        if whence > SEEK_CUR:
            raise SysError(EINVAL)
        return super().llseek(offset, whence)
