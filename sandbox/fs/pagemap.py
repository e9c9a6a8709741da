"""/proc/PID/pagemap: eight bytes for each page of an address space, at eight times its number.

 bits 0-54  frame of a present page, or type (0-4) and offset (5-54) of a swapped one; 0 unless root opened the file
 bit 56     mapped here only          bit 62  swapped out
 bit 61     page of a file, or shared anonymous   bit 63  present

Linux: fs/proc/task_mmu.c, 4.2 and later, without soft-dirty bits (bit 55 is 0, as where CONFIG_MEM_SOFT_DIRTY is off).
"""

from __future__ import annotations

import struct
from errno import EINVAL
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from mmcore.physical.frames import PG_ANON
from mmcore.physical.pgtable import FILE, PRESENT, TASK_SIZE
from sandbox.fs.dentry import Dentry
from sandbox.fs.pseudofs import PseudoFile, Text
from sandbox.fs.uapi import SEEK_CUR

if TYPE_CHECKING:
    from mmcore.memory import Memory
    from sandbox.kernel.task import Task

ENTRY = 8
PM_MMAP_EXCLUSIVE, PM_FILE, PM_SWAP, PM_PRESENT = 1 << 56, 1 << 61, 1 << 62, 1 << 63


def entry(mem: Memory, pte: int, show_frames: bool) -> int:
    """What pagemap says about a PTE."""
    tables, frames = mem.pgtables, mem.frames
    if pte & PRESENT:
        pfn = pte >> 12 & tables.PFN_MASK
        bits = PM_PRESENT | (pfn if show_frames else 0)
        if not mem.is_reserved(pfn):
            bits |= (0 if frames.flags[pfn] & PG_ANON else PM_FILE) | (
                PM_MMAP_EXCLUSIVE if frames.mapcount[pfn] == 1 else 0
            )
        return bits
    if pte and not pte & FILE:
        slot, areas = tables.pte_to_swp(pte), mem.swap.areas
        if slot >> 27:  # a migration entry
            return PM_SWAP | (slot >> 27 | (slot & 0x7FFFFFF) << 5 if show_frames else 0)
        return PM_SWAP | (areas.number_of(slot) | areas.offset_of(slot) << 5 if show_frames else 0)
    return 0


class Pagemap(Text):
    """The file's node."""

    __slots__ = ("task",)

    def __init__(self, task: Task, ino: int) -> None:
        super().__init__(bytes, None, 0o400, ino)
        self.task = task

    def open(self, task: Task | None, dentry: Dentry, flags: int) -> PseudoFile:
        return PagemapFile(dentry, flags, self, show_frames=task is None or not task.euid)


class PagemapFile(PseudoFile):
    """Reads as empty once the address space it was opened on is gone."""

    __slots__ = ("mem", "mm", "show_frames")

    def __init__(self, dentry: Dentry, flags: int, node: Pagemap, show_frames: bool) -> None:
        super().__init__(dentry, flags, node)
        self.mem, self.mm = node.task.mem, node.task.mm
        self.show_frames = show_frames

    def pread(self, pos: int, n: int) -> bytes:
        if pos % ENTRY or n % ENTRY:
            raise SysError(EINVAL)
        mm, mem = self.mm, self.mem
        if mm is None or mem.mms.get(mm.addr) is not mm:
            return b""
        first = pos // ENTRY
        stop = min(first + n // ENTRY, TASK_SIZE >> 12)
        if first >= stop:
            return b""
        tables, out = mem.pgtables, bytearray((stop - first) * ENTRY)
        for start, base in tables.tables(mm.pgd, first << 12, stop << 12):
            page = start >> 12
            for k in range(max(first, page), min(stop, page + tables.PTRS)):
                pte = tables.ptes[base + k - page]
                if pte:
                    struct.pack_into("<Q", out, (k - first) * ENTRY, entry(mem, pte, self.show_frames))
        return bytes(out)

    def llseek(self, offset: int, whence: int) -> int:
        if whence > SEEK_CUR:
            raise SysError(EINVAL)
        return super().llseek(offset, whence)
