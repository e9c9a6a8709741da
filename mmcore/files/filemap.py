"""The page cache: one AddressSpace per file holds its pages in RAM, for mappings, read and write alike.

 AddressSpace    what all have: pages by index, the areas that map the file, read, write, truncate
   FileSpace     pages come from and go back to a backing store, a host file (filespace.py)
   ShmemSpace    tmpfs and shared anonymous memory: pages have no home but RAM and swap (shmem.py)

A page of the cache has `frames.mapping` = the AddressSpace's kernel address, `frames.index` = its offset in pages,
one reference for the cache, owner PAGECACHE. PG_LOCKED: being read. PG_UPTODATE: its bytes are the file's. PG_DIRTY:
newer than the backing store. Linux: mm/filemap.c, mm/truncate.c, mm/page-writeback.c, 2.6.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmcore.areas.vma import VM_MAYWRITE, VM_NONLINEAR, VM_SHARED
from mmcore.errors import BeyondEof, MustWait, SysError
from mmcore.files.index.list import FILE_INDEXES, FileIndex
from mmcore.paging.zap import unmap_mapping_range
from mmcore.physical.frames import PG_CODE, PG_DIRTY, PG_ERROR, PG_LOCKED, PG_UPTODATE, PG_WRITEBACK
from mmcore.physical.radix import RadixNodes, radix_cache
from mmcore.physical.ram import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmcore.areas.vma import VmArea
    from mmcore.memory import Memory
    from mmcore.outside import CachedInode

_I_DATA = 176  # where the address_space lies in its inode
_ZERO = bytes(PAGE_SIZE)

_MAY_WRITE_IT = VM_SHARED | VM_MAYWRITE


class AddressSpace:
    """The cached pages of one file, whose `host` (inode) tells `i_size` in bytes. `addr` is its kernel address,
    inside the inode's.

    It stands in `mem.mappings` while it has pages, swapped pages or areas.
    """

    __slots__ = (
        "mem",
        "host",
        "addr",
        "pages",
        "nodes",
        "i_mmap",
        "i_mmap_writable",
        "nonlinear",
        "frames",
        "_registered",
    )
    is_shmem = False
    write_sealed = False  # no new shared mapping may write, now or later (a memfd's seals)
    # writes through shared mappings are noticed as they begin (FileSpace, where the machine has dirty tracking)
    tracks_dirty = False

    def __init__(self, mem: Memory, host: CachedInode) -> None:
        """`host.addr`: kernel address of its inode; one that nothing else uses."""
        self.mem = mem
        self.frames = mem.frames
        self.host = host
        self.addr: int = host.addr + _I_DATA
        self.pages: dict[int, int] = {}
        self.nodes = RadixNodes(radix_cache(mem.slab))
        self.i_mmap: FileIndex = FILE_INDEXES[mem.setup.file_index](mem.meters)
        self.i_mmap_writable = 0  # areas that are shared and writable, or may become so
        self.nonlinear: list[VmArea] = []
        self._registered = False

    # --- areas

    def link(self, vma: VmArea) -> None:
        """An area that maps the file joins its index (a nonlinear one the list of those)."""
        if vma.vm_flags & _MAY_WRITE_IT == _MAY_WRITE_IT:
            self.i_mmap_writable += 1
        if vma.vm_flags & VM_NONLINEAR:
            self.nonlinear.append(vma)
        else:
            self.i_mmap.insert(vma)
        if not self._registered:
            self._register()

    def link_beside(self, new: VmArea, old: VmArea) -> None:
        """fork: `new` is a copy of `old`."""
        if new.vm_flags & _MAY_WRITE_IT == _MAY_WRITE_IT:
            self.i_mmap_writable += 1
        if new.vm_flags & VM_NONLINEAR:
            self.nonlinear.append(new)
        else:
            self.i_mmap.add_beside(new, old)

    def unlink(self, vma: VmArea) -> None:
        if vma.vm_flags & _MAY_WRITE_IT == _MAY_WRITE_IT:
            self.i_mmap_writable -= 1
        if vma.vm_flags & VM_NONLINEAR:
            self.nonlinear.remove(vma)
        else:
            self.i_mmap.remove(vma)

    def mapped(self) -> bool:
        """Some area maps the file (mapping_mapped)."""
        return bool(len(self.i_mmap) or self.nonlinear)

    def _register(self) -> None:
        self.mem.mappings[self.addr] = self
        self._registered = True

    def _unregister(self) -> None:
        if self._registered and not self.pages and not self.mapped():
            self._registered = False
            del self.mem.mappings[self.addr]

    def table_frames(self) -> Iterable[int]:
        """Frames beside `pages` that the file holds for itself (for the auditor)."""
        return ()

    def swap_entries(self) -> Iterable[int]:
        """Entries of the pages that are in swap, each a user of its slot (for the auditor)."""
        return ()

    # --- pages

    def add_to_page_cache(self, pfn: int, index: int) -> None:
        """The cache takes a reference to a frame. Raises OutOfMemory (no tree node), with nothing changed; may
        reclaim."""
        self.nodes.charge(index)
        frames = self.frames
        self.pages[index] = pfn
        frames.count[pfn] += 1
        frames.mapping[pfn] = self.addr
        frames.index[pfn] = index
        if not self._registered:
            self._register()

    def remove_from_page_cache(self, pfn: int) -> None:
        """The cache gives its reference up; the caller holds another. The page must be clean or worthless."""
        frames = self.frames
        index = frames.index[pfn]
        del self.pages[index]
        self.nodes.uncharge(index)
        frames.mapping[pfn] = 0
        frames.count[pfn] -= 1

    def replace_page(self, pfn: int, new: int) -> None:
        """Migration: the index leads to `new`, which gets everything else from `pfn`."""
        self.pages[self.frames.index[pfn]] = new

    def find_get_page(self, index: int) -> int:
        """The cached page with a reference for the caller, or -1; its I/O may be under way."""
        pfn = self.pages.get(index, -1)
        if pfn >= 0:
            self.frames.count[pfn] += 1
        return pfn

    def getpage(self, index: int, *, write: bool = False) -> int:
        """The page's frame, uptodate, with a reference for the caller; made or read in if need be. `write`: it is
        about to be written to.

        Raises BeyondEof, MustWait (I/O under way: start over when it has ended), SysError (EIO, ENOSPC),
        OutOfMemory.
        """
        pfn = self.pages.get(index, -1)
        if pfn >= 0 and self.frames.flags[pfn] & PG_UPTODATE:
            self.frames.count[pfn] += 1
            return pfn
        if index << PAGE_SHIFT >= self.host.i_size:
            raise BeyondEof
        try:
            return self._bring_in(index)
        except MustWait:
            self.mem.current.fault_major = True
            raise

    def _bring_in(self, index: int) -> int:
        """getpage's slow half: the page is not cached, or not uptodate. `index` need not lie within the file."""
        raise NotImplementedError

    def _peek(self, index: int) -> int:
        """For read: the uptodate page without a reference; -1 for a hole, which reads as zeros. Raises like getpage."""
        raise NotImplementedError

    def _begin_write(self, index: int, whole: bool) -> int:
        """For write: the page with a reference; its old bytes matter unless `whole`. Raises like getpage."""
        raise NotImplementedError

    def set_page_dirty(self, pfn: int) -> None:
        self.frames.flags[pfn] |= PG_DIRTY

    def clear_page_dirty(self, pfn: int) -> None:
        self.frames.flags[pfn] &= ~PG_DIRTY

    def writepage(self, pfn: int) -> bool:
        """Starts the page's way out of RAM; the caller has cleared PG_DIRTY. True: not now, activate it instead."""
        raise NotImplementedError

    def writeback(self, limit: int = 1 << 30) -> int:
        """Starts writing at most `limit` dirty pages to where they are kept; returns how many (none in tmpfs,
        which keeps them nowhere)."""
        return 0

    # --- read and write

    def _chunk(self) -> int:
        """Pages that one system call may hold at once."""
        return max(64, self.frames.nr >> 3)

    def read(self, pos: int, count: int) -> bytes:
        """At most `count` bytes from `pos`, fewer at the end of the file, zeros from holes. MustWait before
        anything was read of the first `_chunk` pages; a read of more than those ends early rather than wait twice.
        Linux: do_generic_mapping_read."""
        count = min(count, self.host.i_size - pos)
        if count <= 0:
            return b""
        u8, mark, peek = self.mem.ram.u8, self.mem.reclaim.mark_page_accessed, self._peek
        first, last = pos >> PAGE_SHIFT, pos + count - 1 >> PAGE_SHIFT
        if first == last:
            pfn = peek(first)
            if pfn < 0:
                return bytes(count)
            if not pos & PAGE_SIZE - 1:
                mark(pfn)
            at = (pfn << PAGE_SHIFT) + (pos & PAGE_SIZE - 1)
            return bytes(u8[at : at + count])
        out = bytearray()
        chunk = self._chunk()
        index = first
        while index <= last:
            stop = min(last + 1, index + chunk)
            try:
                if index not in self.pages:
                    self.mem.awaited.take_turn()
                self.read_ahead(index, stop - index)
                held = self._hold(index, stop)
            except (MustWait, SysError):
                if out:
                    break
                raise
            for pfn in held:
                lo = pos & PAGE_SIZE - 1 if index == first else 0
                hi = (pos + count - 1 & PAGE_SIZE - 1) + 1 if index == last else PAGE_SIZE
                if pfn < 0:
                    out += _ZERO[lo:hi]
                else:
                    at = pfn << PAGE_SHIFT
                    out += u8[at + lo : at + hi]
                    if not lo:
                        mark(pfn)
                index += 1
            self._let_go(held)
        return bytes(out)

    def _hold(self, first: int, stop: int) -> list[int]:
        """References to pages `first <= index < stop`, -1 for holes. All or none."""
        held: list[int] = []
        count = self.frames.count
        try:
            for index in range(first, stop):
                pfn = self._peek(index)
                if pfn >= 0:
                    count[pfn] += 1
                held.append(pfn)
        except (MustWait, SysError):
            self._let_go(held)
            raise
        return held

    def _let_go(self, held: list[int]) -> None:
        put_page = self.mem.pages.put_page
        for pfn in held:
            if pfn >= 0:
                put_page(pfn)

    def read_ahead(self, index: int, nr: int) -> None:
        """Starts reading what is missing of `nr` pages from `index`. Does nothing where pages come from nowhere."""

    def write(self, pos: int, data: bytes) -> int:
        """Writes `data` at `pos`, extending the file; returns the bytes written, fewer than asked when space or
        memory ran out on the way. MustWait, ENOSPC and ENOMEM before anything changed. Linux:
        generic_file_aio_write_nolock."""
        total = len(data)
        if not total:
            return 0
        view = memoryview(data)
        done = 0
        chunk = self._chunk() << PAGE_SHIFT
        while done < total:
            n = min(total - done, chunk - (pos + done & PAGE_SIZE - 1))
            try:
                wrote = self._write_chunk(pos + done, view[done : done + n])
            except (MustWait, SysError):
                if done:
                    break
                raise
            done += wrote
            if wrote < n:
                break
        return done

    def _write_chunk(self, pos: int, data: memoryview) -> int:
        n = len(data)
        end = pos + n
        size = self.host.i_size
        held: list[int] = []
        first, last = pos >> PAGE_SHIFT, end - 1 >> PAGE_SHIFT
        try:
            try:
                for index in range(first, last + 1):
                    page = index << PAGE_SHIFT
                    # Bytes of the page that this write leaves alone matter only where the file has any.
                    whole = pos <= page and (end >= page + PAGE_SIZE or end >= size)
                    held.append(self._begin_write(index, whole))
            except SysError:
                if not held:
                    raise
                n = (first + len(held) << PAGE_SHIFT) - pos  # what fits
            u8, flags, mark = self.mem.ram.u8, self.frames.flags, self.mem.reclaim.mark_page_accessed
            done = 0
            for pfn in held:
                lo = pos + done & PAGE_SIZE - 1
                k = min(PAGE_SIZE - lo, n - done)
                at = (pfn << PAGE_SHIFT) + lo
                f = flags[pfn]
                if f & PG_CODE:
                    self.mem.code_changed(pfn)
                if not f & PG_UPTODATE:
                    base = pfn << PAGE_SHIFT
                    u8[base : base + PAGE_SIZE] = _ZERO
                    flags[pfn] = f & ~PG_ERROR | PG_UPTODATE
                u8[at : at + k] = data[done : done + k]
                self.set_page_dirty(pfn)
                mark(pfn)
                done += k
            if pos + n > size:
                self.host.i_size = pos + n
            return n
        finally:
            self._let_go(held)
            for index, pfn in enumerate(held, first):
                # A page made for this write that never got its bytes, because a later one had to wait.
                if not self.frames.flags[pfn] & (PG_UPTODATE | PG_LOCKED) and self.pages.get(index, -1) == pfn:
                    self.drop_pages(index, index + 1)

    # --- truncation

    def truncate(self, new_size: int) -> None:
        """The file is about to be `new_size` bytes long (the caller sets `host.i_size` afterwards): pages behind
        the end leave every page table and the cache, the rest of the last page becomes zeros. MustWait before anything
        changed. Linux: vmtruncate, truncate_inode_pages."""
        first = new_size + PAGE_SIZE - 1 >> PAGE_SHIFT
        if new_size & PAGE_SIZE - 1 and new_size < self.host.i_size:
            self._zero_tail(new_size)
        if self.mapped():
            unmap_mapping_range(self.mem, self, first, 0xFFFFFFFF)
        self.drop_pages(first)
        if not new_size:
            self._unregister()

    def _zero_tail(self, new_size: int) -> None:
        pfn = self._tail_page(new_size >> PAGE_SHIFT)
        if pfn >= 0:
            at = pfn << PAGE_SHIFT
            lo = new_size & PAGE_SIZE - 1
            self.mem.ram.u8[at + lo : at + PAGE_SIZE] = _ZERO[lo:]
            self.set_page_dirty(pfn)
            self.mem.code_changed(pfn)

    def _tail_page(self, index: int) -> int:
        """The page that truncation cuts, if it is anywhere but in the backing store (which is cut by its owner)."""
        return self.pages.get(index, -1)

    def punch_hole(self, pos: int, end: int) -> None:
        """Bytes `pos <= b < end` become zeros; whole pages among them leave RAM. MustWait before anything changed."""
        first, stop = pos + PAGE_SIZE - 1 >> PAGE_SHIFT, end >> PAGE_SHIFT
        for lo, hi in ((pos, min(end, first << PAGE_SHIFT)), (max(pos, stop << PAGE_SHIFT), end)):
            if lo < hi and lo < self.host.i_size:
                self.write(lo, bytes(min(hi, self.host.i_size) - lo))
        if first < stop:
            if self.mapped():
                unmap_mapping_range(self.mem, self, first, stop - 1, even_cows=False)
            self.drop_pages(first, stop)

    def drop_pages(self, first: int, stop: int = 1 << 32) -> None:
        """Unmapped pages `first <= index < stop` leave the cache, whatever their state."""
        pages = self.pages
        if stop - first > len(pages):
            doomed = [i for i in pages if first <= i < stop]
            doomed.sort()
        else:
            doomed = [i for i in range(first, stop) if i in pages]
        flags, disk, put_page = self.frames.flags, self.mem.disk, self.mem.pages.put_page
        for index in doomed:
            pfn = pages[index]
            f = flags[pfn]
            if f & PG_DIRTY:
                self.clear_page_dirty(pfn)
            if f & (PG_LOCKED | PG_WRITEBACK):
                disk.forget(pfn)
            self.frames.count[pfn] += 1
            self.remove_from_page_cache(pfn)
            put_page(pfn)
