"""tmpfs and shared anonymous memory: files whose pages have no home but RAM and swap.

 page cache, dirty --writepage (only when no PTE maps it)--> swap cache, entry in the file's own table --disk--> gone
 from RAM access --getpage--> the entry's page from the swap cache or the device --> page cache again, the entry freed

The table: 16 entries in the inode, then pages of 1024 entries, which are frames too and never leave RAM. A page that
was only read as a hole is clean, and dropped without a trace. Linux: mm/shmem.c, 2.6.7.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmcore.errors import MustWait, OutOfMemory, SysError
from mmcore.files.filemap import AddressSpace
from mmcore.physical.frames import PAGECACHE, PG_DIRTY, PG_LOCKED, PG_UPTODATE, PG_WRITEBACK, USER
from mmcore.physical.gfp import GFP_HIGHUSER
from mmcore.physical.ram import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmcore.memory import Memory
    from mmcore.outside import CachedInode
    from mmcore.physical.slab import KmemCache

SHMEM_NR_DIRECT = 16
ENTRIES_PER_PAGE = 1024
SHMEM_INODE_SIZE = 392  # bytes of shmem_inode_info, i386, 2.6.7, its address_space without what the scheme adds
FMODE_READ, FMODE_WRITE = 1, 2
_ZERO = bytes(4096)


def shmem_inode_cache(mem: Memory) -> KmemCache:
    return mem.slab.cache("shmem_inode_cache", SHMEM_INODE_SIZE + mem.setup.address_space)


class ShmemSuper:
    """One tmpfs instance: how many pages its files may hold. `max_blocks` None: no limit (the kernel's own instance,
    for shared anonymous memory)."""

    __slots__ = ("max_blocks", "used")

    def __init__(self, max_blocks: int | None = None) -> None:
        self.max_blocks = max_blocks
        self.used = 0


class ShmemSpace(AddressSpace):
    """`swapped`: index -> swap entry of the pages that are out. `locked` (SHM_LOCK): its pages stay."""

    __slots__ = ("sb", "swapped", "locked", "write_sealed", "_table")
    is_shmem = True

    def __init__(self, mem: Memory, host: CachedInode, sb: ShmemSuper | None = None) -> None:
        super().__init__(mem, host)
        self.sb = sb if sb is not None else ShmemSuper()
        self.swapped: dict[int, int] = {}
        self.locked = False
        self.write_sealed = False
        self._table: dict[
            int, int
        ] = {}  # table pages: number of the page of entries, or -1 (directory), -2 - n (subdirectory) -> PFN

    # --- the table of entries

    def _table_room(self, index: int) -> None:
        """The place for the index's entry exists. Raises OutOfMemory. Linux: shmem_swp_alloc (2.6.7 makes it before the
        page)."""
        if index < SHMEM_NR_DIRECT:
            return
        page = (index - SHMEM_NR_DIRECT) // ENTRIES_PER_PAGE
        table = self._table
        if page in table:
            return
        # The directory's first half names pages of entries, its second half subdirectories of such names.
        half = ENTRIES_PER_PAGE // 2
        need = [-1, page] if page < half else [-1, -2 - (page - half) // ENTRIES_PER_PAGE, page]
        if not self._registered:
            self._register()
        for key in need:
            if key not in table:
                table[key] = self.mem.pages.alloc_page(GFP_HIGHUSER, PAGECACHE)

    def _free_table(self, first: int) -> None:
        """Table pages that only serve indices from `first` on go."""
        keep = (first - SHMEM_NR_DIRECT + ENTRIES_PER_PAGE - 1) // ENTRIES_PER_PAGE if first > SHMEM_NR_DIRECT else 0
        half = ENTRIES_PER_PAGE // 2
        for key in sorted(self._table):
            if key >= 0:
                gone = key >= keep
            elif key == -1:
                gone = keep == 0
            else:
                gone = half + (-2 - key) * ENTRIES_PER_PAGE >= keep
            if gone:
                self.mem.pages.put_page(self._table.pop(key))

    def table_frames(self) -> Iterable[int]:
        return self._table.values()

    def swap_entries(self) -> Iterable[int]:
        return self.swapped.values()

    # --- pages

    def _unregister(self) -> None:
        if not self.swapped and not self._table:
            super()._unregister()

    def _bring_in(self, index: int) -> int:
        """Linux: shmem_getpage."""
        pfn = self.pages.get(index, -1)
        if pfn >= 0:  # `reserve` made it
            self.frames.flags[pfn] |= PG_UPTODATE
            self.frames.count[pfn] += 1
            return pfn
        self._table_room(index)
        entry = self.swapped.get(index, 0)
        if not entry:
            return self._new_page(index)
        mem, frames, swap = self.mem, self.frames, self.mem.swap
        pfn = swap.lookup_swap_cache(entry)
        if pfn < 0:
            mem.awaited.take_turn()
            swap.swapin_readahead(entry)
            pfn = swap.lookup_swap_cache(entry)
            if pfn < 0:
                raise OutOfMemory("no frame to read a swapped page of a tmpfs file into")
        try:
            flags = frames.flags[pfn]
            if flags & (PG_LOCKED | PG_WRITEBACK):
                raise mem.awaited.must_wait(pfn)
            if not flags & PG_UPTODATE:
                raise SysError(errno.EIO)
            self.from_swap(pfn, index, entry)
        except (MustWait, SysError):
            mem.pages.put_page(pfn)
            raise
        return pfn

    def from_swap(self, pfn: int, index: int, entry: int) -> None:
        """The page of `entry`, uptodate in the swap cache, becomes the file's page `index` again; the caller holds
        a reference. Raises OutOfMemory with nothing changed."""
        self.add_to_page_cache(pfn, index)
        self.frames.count[pfn] -= 1  # the swap cache's reference
        swap = self.mem.swap
        swap.move_from_swap_cache(pfn)
        del self.swapped[index]
        swap.swap_free(entry)
        self.frames.flags[pfn] |= PG_DIRTY
        self.mem.pages.change_owner(pfn, PAGECACHE)

    def _new_page(self, index: int) -> int:
        sb, mem = self.sb, self.mem
        if sb.max_blocks is not None and sb.used >= sb.max_blocks:
            raise SysError(errno.ENOSPC, "the tmpfs is full")
        pfn = mem.pages.alloc_page(GFP_HIGHUSER, PAGECACHE)
        try:
            self.add_to_page_cache(pfn, index)
        except OutOfMemory:
            mem.pages.put_page(pfn)
            raise
        sb.used += 1
        base = pfn << PAGE_SHIFT
        mem.ram.u8[base : base + 4096] = _ZERO
        self.frames.flags[pfn] = PG_UPTODATE
        mem.reclaim.lru_cache_add(pfn)
        return pfn

    def reserve(self, index: int) -> bool:
        """Gives an index that has none a page of zeros, which is no data (not PG_UPTODATE) until somebody maps, writes
        or reserves it again; False if it has one. Raises like getpage. Linux: shmem_fallocate, 3.5."""
        pfn = self.pages.get(index, -1)
        if pfn >= 0:
            self.frames.flags[pfn] |= PG_UPTODATE
            return False
        if index in self.swapped:
            return False
        pfn = self._bring_in(index)
        self.frames.flags[pfn] &= ~PG_UPTODATE
        self.set_page_dirty(pfn)  # else reclaim would take it for a hole
        self.mem.pages.put_page(pfn)
        return True

    def holds_data(self, index: int) -> bool:
        """Is there more than a hole or a reserved page? Linux: mapping_seek_hole_data, mm/filemap.c, 5.11."""
        pfn = self.pages.get(index, -1)
        return index in self.swapped if pfn < 0 else bool(self.frames.flags[pfn] & PG_UPTODATE)

    def _peek(self, index: int) -> int:
        pfn = self.pages.get(index, -1)
        if pfn < 0 and index in self.swapped:
            pfn = self._bring_in(index)
            self.frames.count[pfn] -= 1
        return pfn

    def read_ahead(self, index: int, nr: int) -> None:
        """Starts reading the range's swapped pages."""
        if not self.swapped:
            return
        swap = self.mem.swap
        for i in range(index, index + nr):
            entry = self.swapped.get(i, 0)
            if entry and entry not in swap.cache:
                swap.swapin_readahead(entry)

    def _begin_write(self, index: int, whole: bool) -> int:
        return self._bring_in(index)

    def writepage(self, pfn: int) -> bool:
        """The unmapped page moves to the swap cache, still dirty; the next scan writes it out. Linux:
        shmem_writepage."""
        swap, frames = self.mem.swap, self.frames
        entry = 0 if self.locked else swap.areas.get_page()
        if not entry:
            self.set_page_dirty(pfn)
            return True
        index = frames.index[pfn]
        try:
            swap.move_to_swap_cache(pfn, entry)
        except OutOfMemory:
            swap.swap_free(entry)
            self.set_page_dirty(pfn)
            return True
        frames.count[pfn] += 1  # the swap cache's, before the page cache's goes
        self.swapped[index] = entry
        self.remove_from_page_cache(pfn)
        self.mem.pages.change_owner(pfn, USER)
        return False

    def remove_from_page_cache(self, pfn: int) -> None:
        """The page moves to swap, or is dropped and its block given back (a clean one that reclaim takes is a hole
        again). Linux: shmem_recalc_inode."""
        index = self.frames.index[pfn]
        super().remove_from_page_cache(pfn)
        if index not in self.swapped:
            self.sb.used -= 1

    def _tail_page(self, index: int) -> int:
        return self._peek(index)

    def drop_pages(self, first: int, stop: int = 1 << 32) -> None:
        super().drop_pages(first, stop)
        swapped = self.swapped
        if swapped:
            free = self.mem.swap.free_swap_and_cache
            for index in sorted(i for i in swapped if first <= i < stop):
                free(swapped.pop(index))
                self.sb.used -= 1
        if stop == 1 << 32:
            self._free_table(first)

    @property
    def blocks(self) -> int:
        """Pages the file holds, in RAM or swap (st_blocks is eight times that)."""
        return len(self.pages) + len(self.swapped)


class _ShmemInode:
    """The nameless inode of a shared anonymous area."""

    __slots__ = ("addr", "i_size", "ino")

    def __init__(self, addr: int, size: int, ino: int) -> None:
        self.addr = addr
        self.i_size = size
        self.ino = ino


class ShmemFile:
    """What do_mmap maps for MAP_SHARED | MAP_ANONYMOUS. `promised` pages of commit are its own (MAP_NORESERVE: none).
    The last `put` frees everything."""

    __slots__ = ("mem", "inode", "mapping", "count", "promised")
    path = "/dev/zero (deleted)"
    f_mode = FMODE_READ | FMODE_WRITE

    def __init__(self, mem: Memory, size: int, ino: int, promised: int) -> None:
        self.mem = mem
        self.promised = promised
        self.inode = _ShmemInode(shmem_inode_cache(mem).alloc(), size, ino)
        self.mapping = ShmemSpace(mem, self.inode, None)
        self.count = 1

    def get(self) -> ShmemFile:
        self.count += 1
        return self

    def put(self) -> None:
        self.count -= 1
        if self.count == 0:
            self.mapping.truncate(0)
            shmem_inode_cache(self.mem).free(self.inode.addr)
            self.mem.overcommit.uncharge(self.promised)


class ShmemMount:
    """The kernel's own tmpfs. Called with a size in bytes it answers a new ShmemFile (count 1). Linux:
    shmem_zero_setup, 2.6.7."""

    __slots__ = ("mem", "next_ino")

    def __init__(self, mem: Memory) -> None:
        self.mem = mem
        self.next_ino = 1

    def __call__(self, size: int, reserve: bool = True) -> ShmemFile:
        """`reserve`: its size is promised now (shmem_acct_size). Raises OutOfMemory."""
        promised = size + PAGE_SIZE - 1 >> PAGE_SHIFT if reserve else 0
        self.mem.overcommit.charge(promised)
        try:
            file = ShmemFile(self.mem, size, self.next_ino, promised)
        except OutOfMemory:
            self.mem.overcommit.uncharge(promised)
            raise
        self.next_ino += 1
        return file
