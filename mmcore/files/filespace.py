"""Files with a backing store: pages read when needed, with their neighbours; dropped when clean; written back when
dirty.

 read_ahead: frame, PG_LOCKED, bytes in ──disk──> PG_UPTODATE
 set_page_dirty ... writepage: bytes out, PG_WRITEBACK ──disk──> clean
With dirty tracking the first write through a shared mapping is a fault that calls set_page_dirty, and write-back
protects the page again. Linux: mm/filemap.c, mm/readahead.c (windows of a fixed size), mm/page-writeback.c, 2.6.7.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol

from mmcore.errors import OutOfMemory, SysError
from mmcore.files.filemap import AddressSpace
from mmcore.files.mkclean import page_mkclean
from mmcore.physical.frames import PAGECACHE, PG_DIRTY, PG_ERROR, PG_LOCKED, PG_UPTODATE, PG_WRITEBACK
from mmcore.physical.gfp import GFP_HIGHUSER
from mmcore.physical.ram import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from mmcore.memory import Memory
    from mmcore.outside import CachedInode
    from mmcore.wait import WaitQueue

RA_PAGES = 32  # pages read together: VM_MAX_READAHEAD, 128 KB
_ZERO = bytes(PAGE_SIZE)


class Backing(Protocol):
    """Where a FileSpace's bytes live. Both may raise SysError."""

    def read_page(self, index: int) -> bytes:
        """The bytes of page `index` of the file; fewer than a page at its end."""
        ...

    def write_page(self, index: int, data: memoryview) -> None:
        """A whole page goes to its place, cut off where the file ends."""


class FileSpace(AddressSpace):
    """Pages of a file with a backing store. Clean ones may be dropped at any time; dirty ones are written back first.
    `error`: errno of a write-back that failed, until somebody asks (`take_error`).

    `tracks_dirty`: a PTE that may write implies a dirty page; write-back takes the right away again (page_mkclean).
    Linux: 2.6.19.
    """

    __slots__ = ("backing", "dirty", "error", "tracks_dirty", "_position")

    def __init__(self, mem: Memory, host: CachedInode, backing: Backing) -> None:
        super().__init__(mem, host)
        self.backing = backing
        self.dirty: dict[int, None] = {}  # indices, in the order in which they became dirty
        self.error = 0
        self.tracks_dirty = mem.config.dirty_tracking
        self._position = mem.disk.file_position()

    def _bring_in(self, index: int) -> int:
        pfn = self._peek(index, around=True)
        self.frames.count[pfn] += 1
        return pfn

    def _peek(self, index: int, around: bool = False) -> int:
        pfn = self.pages.get(index, -1)
        if pfn < 0:
            self.mem.awaited.take_turn()
            # A fault reads around its page, a read reads ahead.
            start = max(0, index - RA_PAGES // 2) if around else index
            self.read_ahead(start, RA_PAGES)
            pfn = self.pages.get(index, -1)
            if pfn < 0:
                self._read_page(index)
                pfn = self.pages[index]
        f = self.frames.flags[pfn]
        if f & PG_UPTODATE:
            return pfn
        if f & PG_LOCKED:
            raise self.mem.awaited.must_wait(pfn)
        self.drop_pages(index, index + 1)  # the next attempt reads anew
        raise SysError(errno.EIO)

    def read_ahead(self, index: int, nr: int) -> None:
        stop = min(index + nr, self.host.i_size + PAGE_SIZE - 1 >> PAGE_SHIFT)
        try:
            for i in range(index, stop):
                if i not in self.pages:
                    self._read_page(i)
        except OutOfMemory:
            return

    def _read_page(self, index: int) -> None:
        """Starts reading one page. Raises OutOfMemory."""
        mem, flags = self.mem, self.frames.flags
        pfn = self._new_page(index)
        base = pfn << PAGE_SHIFT
        u8 = mem.ram.u8
        flags[pfn] |= PG_LOCKED
        try:
            data = self.backing.read_page(index)
        except SysError:
            flags[pfn] |= PG_ERROR
            data = b""
        n = len(data)
        u8[base : base + n] = data
        if n < PAGE_SIZE:
            u8[base + n : base + PAGE_SIZE] = _ZERO[n:]
        mem.disk.submit(False, self._position + index, pfn)

    def _new_page(self, index: int) -> int:
        """A frame joins the cache; the only reference is the cache's. Raises OutOfMemory."""
        mem = self.mem
        pfn = mem.pages.alloc_page(GFP_HIGHUSER, PAGECACHE)
        try:
            self.add_to_page_cache(pfn, index)
        except OutOfMemory:
            mem.pages.put_page(pfn)
            raise
        self.frames.count[pfn] -= 1
        mem.reclaim.lru_cache_add(pfn)
        return pfn

    def _begin_write(self, index: int, whole: bool) -> int:
        pfn = self.pages.get(index, -1)
        if pfn < 0 and (whole or index << PAGE_SHIFT >= self.host.i_size):
            pfn = self._new_page(index)  # filled by the write, the rest with zeros
        elif pfn < 0 or not self.frames.flags[pfn] & PG_UPTODATE:
            pfn = self._peek(index)
        self.frames.count[pfn] += 1
        return pfn

    def set_page_dirty(self, pfn: int) -> None:
        flags = self.frames.flags
        f = flags[pfn]
        if not f & PG_DIRTY:
            flags[pfn] = f | PG_DIRTY
            self.mem.vmstat.nr_dirty += 1
            if not self.dirty:
                self.mem.disk.dirty_files[self] = None
            self.dirty[self.frames.index[pfn]] = None

    def clear_page_dirty(self, pfn: int) -> None:
        flags = self.frames.flags
        if flags[pfn] & PG_DIRTY:
            flags[pfn] &= ~PG_DIRTY
            self.mem.vmstat.nr_dirty -= 1
            del self.dirty[self.frames.index[pfn]]
            if not self.dirty:
                del self.mem.disk.dirty_files[self]

    def writepage(self, pfn: int) -> bool:
        frames, vmstat = self.frames, self.mem.vmstat
        index, base = frames.index[pfn], pfn << PAGE_SHIFT
        try:
            self.backing.write_page(index, self.mem.ram.u8[base : base + PAGE_SIZE])
        except SysError as error:
            self.error = error.errno  # the page counts as written: nobody can do better
        frames.flags[pfn] |= PG_WRITEBACK
        vmstat.nr_writeback += 1
        self.mem.disk.submit(True, self._position + index, pfn)
        return False

    def writeback(self, limit: int = 1 << 30) -> int:
        done = 0
        flags, forget = self.frames.flags, self.mem.disk.forget
        for index in list(self.dirty)[:limit]:
            pfn = self.pages[index]
            if flags[pfn] & PG_WRITEBACK:
                forget(pfn)  # written once more, with the newer bytes
            if self.tracks_dirty:
                page_mkclean(self.mem, pfn)
            self.clear_page_dirty(pfn)
            self.writepage(pfn)
            done += 1
        return done

    def under_writeback(self) -> WaitQueue | None:
        """The queue of a page that is still being written, None when all is on the disk (fsync waits until then)."""
        for pfn in self.pages.values():
            if self.frames.flags[pfn] & PG_WRITEBACK:
                return self.mem.disk.page_wait(pfn)
        return None

    def take_error(self) -> int:
        """errno of a failed write-back since last asked, or 0 (fsync, close)."""
        error, self.error = self.error, 0
        return error
