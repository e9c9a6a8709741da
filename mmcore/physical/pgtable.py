"""Page tables in guest RAM: the two ways of i386 paging, walking, entries, ranges.

                 PAE + NX (default)                                2-level
 root     CR3 -> 4 entries of 8 bytes (1 GB each)           CR3 -> 1024 entries of 4 bytes (4 MB each)
 middle   512 entries of 8 bytes (2 MB each)                -
 table    512 PTEs of 8 bytes                               1024 PTEs of 4 bytes

An entry is found by its index in `ptes`, a view of all RAM in units of one entry: `ptes[i]` reads it,
`np_ptes[i:j]` is a range of one table.

 present            pfn << 12 | prot bits | P          (or PROTNONE instead of P: mapped, no access)
 swapped out        swap entry (type << 27 | offset), never P, PROTNONE or FILE
 nonlinear file     page offset, FILE set
 migration          swap entry of type 31, which no device has: the frame that is being moved, and all bits the PTE had
Linux: include/asm-i386/pgtable*.h, 2.6.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from mmcore.errors import OutOfMemory
from mmcore.physical.frames import PAGETABLE
from mmcore.physical.gfp import GFP_HIGHUSER, GFP_KERNEL
from mmcore.physical.ram import PAGE_SHIFT, Ram
from mmcore.physical.slab import PAGE_OFFSET, Slab
from mmcore.physical.zones import PageAllocator
from mmcore.stats import VmStat

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm

# Bits of an entry the CPU may use. Intel's manual: P, R/W, U/S, A, D; Linux: _PAGE_PRESENT, _PAGE_RW, _PAGE_USER,
# _PAGE_ACCESSED, _PAGE_DIRTY. NX is a table's (PageTables.NX).
P = 0x1  # present
W = 0x2  # writable
U = 0x4  # user mode may use it
A = 0x20  # accessed: young
D = 0x40  # dirty
# Bits of an entry without P. Linux: _PAGE_FILE, _PAGE_PROTNONE.
FILE = 0x40
PROTNONE = 0x80
PRESENT = P | PROTNONE  # maps a frame, whether the CPU may use it or not
MIGRATION_TYPE = 31  # the last of the 32 types an entry can name. Linux: SWP_MIGRATION_READ and _WRITE, 2.6.18
TASK_SIZE = PAGE_OFFSET

_VM_READ, _VM_WRITE, _VM_EXEC, _VM_SHARED = 1, 2, 4, 8


class PageTables:
    """What both kinds share. `ENTRY` bytes per entry, `PTRS` entries per table, one table maps `1 << SHIFT`
    bytes."""

    ENTRY: int
    PTRS: int
    SHIFT: int
    NX: int  # the bit that forbids to execute; 0: there is none
    PFN_MASK: int  # of an entry shifted right by 12
    MIGRATION_SHIFT: int  # where a migration entry keeps the bits of the PTE it stands for: five from here on
    dtype: type[np.unsignedinteger]  # of an entry, for numpy
    CODE: Literal["I", "Q"]  # the same for a memoryview

    # All of RAM in units of one entry, for single entries and for ranges; and as one row for each frame.
    ptes: memoryview
    np_ptes: np.ndarray
    np_tables: np.ndarray

    def __init__(self, ram: Ram, pages: PageAllocator, slab: Slab, vmstat: VmStat, highpte: bool = False) -> None:
        self._pte_gfp = GFP_HIGHUSER if highpte else GFP_KERNEL  # Linux: pte_alloc_one with CONFIG_HIGHPTE
        self.ram = ram
        self.pages = pages
        self.slab = slab
        self.vmstat = vmstat
        self.changes = 0  # tables that came, went or moved so far: whoever keeps where they are compares it
        self._zero_table: np.ndarray = np.zeros(self.PTRS, self.dtype)
        # protection_map: read implies present and user; private writable areas start write-protected (copy on write).
        self._prot = [0] * 16
        for flags in range(16):
            if flags & (_VM_READ | _VM_WRITE | _VM_EXEC):
                bits = P | U | A
                if flags & _VM_SHARED and flags & _VM_WRITE:
                    bits |= W
                if not flags & _VM_EXEC:
                    bits |= self.NX
            else:
                bits = PROTNONE | A
            self._prot[flags] = bits

    def prot(self, vm_flags: int) -> int:
        """PTE bits for an area's VM_READ, WRITE, EXEC, SHARED flags. A new entry is born young (A), as 2.6's __P and
        __S maps have it."""
        return self._prot[vm_flags & 15]

    @staticmethod
    def present(pte: int) -> int:
        return pte & PRESENT

    def maps(self, pte: int, pfn: int) -> bool:
        """Does the entry map this frame?"""
        return bool(pte & PRESENT) and pte >> PAGE_SHIFT & self.PFN_MASK == pfn

    def np_clear_young(self, indices: np.ndarray) -> np.ndarray:
        """Clears A of entries, each named once; answers which had it (bool each)."""
        values = self.np_ptes[indices]
        bit = values.dtype.type(A)
        self.np_ptes[indices] = values & ~bit
        return (values & bit) != 0

    # --- migration entries

    def migration_pte(self, pte: int) -> int:
        """What stands for the present `pte` while its frame is moved; `migrated_pte` gives it back."""
        bits = bool(pte & P) | bool(pte & W) << 1 | bool(pte & A) << 2 | bool(pte & D) << 3 | bool(pte & self.NX) << 4
        return self.swp_pte(MIGRATION_TYPE << 27 | pte >> PAGE_SHIFT & self.PFN_MASK) | bits << self.MIGRATION_SHIFT

    def migration_pfn(self, pte: int) -> int:
        """The frame a migration entry stands for, -1 for any other entry."""
        if not pte or pte & (PRESENT | FILE):
            return -1
        entry = self.pte_to_swp(pte)
        return entry & self.PFN_MASK if entry >> 27 == MIGRATION_TYPE else -1

    @staticmethod
    def np_present(ptes: np.ndarray) -> np.ndarray:
        """Which of the entries map a frame (bool each)."""
        return (ptes & ptes.dtype.type(PRESENT)) != 0

    def np_pfns(self, ptes: np.ndarray) -> np.ndarray:
        """The frames of entries that map one (int64)."""
        kind = ptes.dtype.type
        return (ptes >> kind(12) & kind(self.PFN_MASK)).astype(np.int64)

    def np_maps(self, ptes: np.ndarray, pfn: int) -> np.ndarray:
        """`maps` for many entries (bool each)."""
        kind = ptes.dtype.type
        return ((ptes >> kind(12) & kind(self.PFN_MASK)) == kind(pfn)) & ((ptes & kind(PRESENT)) != 0)

    @staticmethod
    def np_has(ptes: np.ndarray, bits: int) -> np.ndarray:
        """Which of the entries have any of the bits (bool each)."""
        return (ptes & ptes.dtype.type(bits)) != 0

    @staticmethod
    def np_swapped(ptes: np.ndarray) -> np.ndarray:
        """Which of the entries hold a swap entry: neither empty nor present nor of a nonlinear file (bool each). A
        migration entry is one."""
        return (ptes != 0) & ((ptes & ptes.dtype.type(PRESENT | FILE)) == 0)

    def np_migration_pfn(self, ptes: np.ndarray) -> np.ndarray:
        """The same for entries that are neither present nor of a nonlinear file."""
        entries = self.np_pte_to_swp(ptes)
        return np.where(entries >> 27 == MIGRATION_TYPE, entries & self.PFN_MASK, -1)

    def np_migrates(self, ptes: np.ndarray, pfn: int) -> np.ndarray:
        """Which of the entries are migration entries of this frame (bool each)."""
        return self.np_swapped(ptes) & (self.np_migration_pfn(ptes) == pfn)

    def migrated_pte(self, pte: int, pfn: int) -> int:
        """The PTE a migration entry stands for, on the frame `pfn`."""
        bits = pte >> self.MIGRATION_SHIFT & 31
        rest = (
            (P | U if bits & 1 else PROTNONE) | (W if bits & 2 else 0) | (A if bits & 4 else 0) | (D if bits & 8 else 0)
        )
        return pfn << PAGE_SHIFT | rest | (self.NX if bits & 16 else 0)

    # --- tables

    def _new_table(self, mm: Mm | None, first_address: int, gfp: int = GFP_KERNEL) -> int:
        """A zeroed frame for a table; its struct page points back at the mm and the address (2.6's
        pgtable_add_rmap)."""
        pfn = self.pages.alloc_page(gfp, PAGETABLE)
        self.ram.zero(pfn)
        frames = self.pages.frames
        frames.mapping[pfn] = mm.addr if mm is not None else 0
        frames.index[pfn] = first_address >> PAGE_SHIFT
        return pfn

    def pte_alloc(self, mm: Mm, addr: int) -> int:
        """Index of the PTE for `addr`; makes the table where there is none. Raises OutOfMemory."""
        i = self.pte_index(mm.pgd, addr)
        if i >= 0:
            return i
        pfn = self._new_table(mm, addr >> self.SHIFT << self.SHIFT, self._pte_gfp)
        self._set_table(mm.pgd, addr, pfn)
        mm.nr_ptes += 1
        self.vmstat.nr_page_table_pages += 1
        return self.pte_index(mm.pgd, addr)

    def free_pgtables(self, mm: Mm, start: int, end: int, floor: int, ceiling: int) -> None:
        """Frees the tables that map only `[start, end)` and the unmapped space around it, down to `floor` and up to
        `ceiling` (ends of the neighbouring areas; a ceiling of 0 means none). Linux: free_pgd_range, 2.6.12 and
        later."""
        size = 1 << self.SHIFT
        first = start >> self.SHIFT << self.SHIFT
        if first < floor:
            first += size
        last = (end + size - 1) >> self.SHIFT << self.SHIFT
        if ceiling and last > ceiling:
            last -= size
        if first >= last:
            return
        for table_addr, base in self.tables(mm.pgd, first, last):
            self._set_table(mm.pgd, table_addr, 0)
            self.pages.put_page(base // self.PTRS)
            mm.nr_ptes -= 1
            self.vmstat.nr_page_table_pages -= 1
            mm.flush_pending = True

    def move_table(self, mm: Mm, addr: int, target: int) -> None:
        """The table that maps from `addr` on maps from `target` on instead, where there is none. Linux:
        move_normal_pmd, 5.0 and later."""
        pfn = self.pte_index(mm.pgd, addr) // self.PTRS
        self._set_table(mm.pgd, addr, 0)
        self._set_table(mm.pgd, target, pfn)
        self.pages.frames.index[pfn] = target >> PAGE_SHIFT

    def address_of(self, index: int) -> tuple[int, int]:
        """(kernel address of the mm, virtual address) that a PTE index belongs to, from its table's struct page."""
        pfn = index // self.PTRS
        frames = self.pages.frames
        return frames.mapping[pfn], (frames.index[pfn] + index % self.PTRS) << PAGE_SHIFT

    def np_address_of(self, indices: np.ndarray) -> np.ndarray:
        """The virtual addresses that PTE indices belong to (int64)."""
        first = self.pages.frames.np_index[indices // self.PTRS].astype(np.int64)
        return first + indices % self.PTRS << PAGE_SHIFT

    # --- given by the kind of paging

    def pgd_alloc(self, mm: Mm | None) -> int:
        """Physical address of a new root, which maps the kernel and nothing else. Raises OutOfMemory, leaving nothing
        behind."""
        raise NotImplementedError

    def pgd_free(self, pgd: int) -> None:
        """Gives the root back, and what `pgd_alloc` got beside it; the tables of the user's part are gone already."""
        raise NotImplementedError

    def pte_index(self, pgd: int, addr: int) -> int:
        """Index of the PTE for `addr`, -1 where there is no table."""
        raise NotImplementedError

    def np_pte_indices(self, pgds: Sequence[int], addresses: int | np.ndarray) -> np.ndarray:
        """`pte_index` for many address spaces, at one address or each at its own (int64)."""
        raise NotImplementedError

    def np_first_entries(self, roots: np.ndarray, addresses: int | np.ndarray) -> np.ndarray:
        """Index of the first entry of the table that holds the PTE, for an array of roots (int64) at one address or
        each at its own: all levels are read from the tables in RAM at once. 0, which is no user PTE, for no table."""
        raise NotImplementedError

    def _set_table(self, pgd: int, addr: int, pfn: int) -> None:
        raise NotImplementedError

    def tables(self, pgd: int, start: int, end: int) -> list[tuple[int, int]]:
        """(first address, index of the first entry) of every table that overlaps `[start, end)`, ascending."""
        raise NotImplementedError

    def map_kernel(self, va: int, pfn: int, bits: int) -> None:
        """Maps a frame in the kernel's part of every root, those to come too; `bits`: the PTE's besides the frame.
        Raises OutOfMemory."""
        raise NotImplementedError

    @staticmethod
    def swp_pte(entry: int) -> int:
        """The PTE of a swap entry."""
        raise NotImplementedError

    @staticmethod
    def pte_to_swp(pte: int) -> int:
        """The entry of a swapped-out page's PTE."""
        raise NotImplementedError

    def np_pte_to_swp(self, ptes: np.ndarray) -> np.ndarray:
        """`pte_to_swp` of an array (int64)."""
        raise NotImplementedError

    @staticmethod
    def file_pte(pgoff: int) -> int:
        """The PTE of a nonlinear file page that is not mapped: its page offset."""
        raise NotImplementedError

    @staticmethod
    def pte_to_pgoff(pte: int) -> int:
        """The page offset in such a PTE."""
        raise NotImplementedError


_PAE_SHIFT, _PAE_TABLE = np.uint64(3), np.uint64(0x1FFFFFE00)  # an entry that names a table -> its first entry's index


class PaeTables(PageTables):
    """3 levels, 8-byte entries, NX in bit 63. The root is a 32-byte object, three user middle tables come with it, the
    fourth is the kernel's."""

    ENTRY, PTRS, SHIFT = 8, 512, 21
    NX = 1 << 63
    PFN_MASK = 0xFFFFFF
    MIGRATION_SHIFT = 8  # in the low word, of which a swap entry uses nothing
    dtype = np.uint64
    CODE = "Q"

    def __init__(self, ram: Ram, pages: PageAllocator, slab: Slab, vmstat: VmStat, highpte: bool = False) -> None:
        super().__init__(ram, pages, slab, vmstat, highpte)
        self.ptes = ram.u64
        self.np_ptes = ram.np64
        self.np_tables = ram.np64.reshape(-1, 512)
        self._pgd_cache = slab.cache("pgd", 32, hwcache=32)
        # A root's middle tables come and go with it, so where they start (as entries) need not be read again for every
        # address.
        self._middle: dict[int, tuple[int, ...]] = {}
        self._kernel_pmd = self._new_table(None, PAGE_OFFSET)

    def pgd_alloc(self, mm: Mm | None) -> int:
        pgd = self._pgd_cache.alloc() - PAGE_OFFSET
        pmds: list[int] = []
        try:
            for i in range(3):
                pmds.append(self._new_table(mm, i << 30))
        except OutOfMemory:
            for pfn in pmds:
                self.pages.put_page(pfn)
            self._pgd_cache.free(pgd + PAGE_OFFSET)
            raise
        base = pgd >> 3
        for i, pfn in enumerate(pmds):
            self.ptes[base + i] = pfn << PAGE_SHIFT | P
        self.ptes[base + 3] = self._kernel_pmd << PAGE_SHIFT | P
        self._middle[pgd] = tuple(pfn << 9 for pfn in (*pmds, self._kernel_pmd))
        return pgd

    def pgd_free(self, pgd: int) -> None:
        for first in self._middle.pop(pgd)[:3]:
            self.pages.put_page(first >> 9)
        self._pgd_cache.free(pgd + PAGE_OFFSET)

    def pte_index(self, pgd: int, addr: int) -> int:
        table = self.ptes[self._middle[pgd][addr >> 30] + (addr >> 21 & 511)]
        if not table:
            return -1
        return (table >> 3 & 0x1FFFFFE00) + (addr >> 12 & 511)

    def np_pte_indices(self, pgds: Sequence[int], addresses: int | np.ndarray) -> np.ndarray:
        middle = self._middle
        if isinstance(addresses, int):
            first = [middle[pgd][addresses >> 30] for pgd in pgds]
        else:
            first = [middle[pgd][gigabyte] for pgd, gigabyte in zip(pgds, (addresses >> 30).tolist(), strict=True)]
        tables = self.np_ptes[np.array(first, np.int64) + (addresses >> 21 & 511)]
        indices = (tables >> np.uint64(3) & np.uint64(0x1FFFFFE00)).astype(np.int64) + (addresses >> 12 & 511)
        return np.where(tables != 0, indices, -1)

    def np_first_entries(self, roots: np.ndarray, addresses: int | np.ndarray) -> np.ndarray:
        tops = self.np_ptes[(roots >> 3) + (addresses >> 30)]
        middles = (tops >> _PAE_SHIFT & _PAE_TABLE).view(np.int64) + (addresses >> 21 & 511)
        return (self.np_ptes[middles] >> _PAE_SHIFT & _PAE_TABLE).view(np.int64)

    def _pmd_index(self, pgd: int, addr: int) -> int:
        return self._middle[pgd][addr >> 30] + (addr >> 21 & 511)

    def _set_table(self, pgd: int, addr: int, pfn: int) -> None:
        self.changes += 1
        self.ptes[self._pmd_index(pgd, addr)] = pfn << PAGE_SHIFT | P | W | U if pfn else 0

    def tables(self, pgd: int, start: int, end: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        first, last = start >> 21, (end - 1) >> 21
        ptes = self.ptes
        while first <= last:
            stop = min(last, first | 511)
            base = self._middle[pgd][first >> 9]
            if stop - first < 8:
                for n in range(first, stop + 1):
                    entry = ptes[base + (n & 511)]
                    if entry:
                        found.append((n << 21, (entry & 0xFFFFFF000) >> 3))
            else:
                entries = self.np_ptes[base + (first & 511) : base + (stop & 511) + 1]
                for k in np.nonzero(entries)[0].tolist():
                    found.append(((first + k) << 21, (ptes[base + (first & 511) + k] & 0xFFFFFF000) >> 3))
            first = stop + 1
        return found

    def map_kernel(self, va: int, pfn: int, bits: int) -> None:
        i = (self._kernel_pmd << PAGE_SHIFT >> 3) + (va >> 21 & 511)
        if not self.ptes[i]:
            self.ptes[i] = self._new_table(None, va >> 21 << 21) << PAGE_SHIFT | P | W | U
        self.ptes[((self.ptes[i] & 0xFFFFFF000) >> 3) + (va >> 12 & 511)] = pfn << PAGE_SHIFT | bits

    @staticmethod
    def swp_pte(entry: int) -> int:
        return ((entry >> 27) | (entry & 0x7FFFFFF) << 5) << 32

    @staticmethod
    def pte_to_swp(pte: int) -> int:
        high = pte >> 32
        return (high & 31) << 27 | high >> 5

    def np_pte_to_swp(self, ptes: np.ndarray) -> np.ndarray:
        high = (ptes >> np.uint64(32)).astype(np.int64)
        return (high & 31) << 27 | high >> 5

    @staticmethod
    def file_pte(pgoff: int) -> int:
        return pgoff << 32 | FILE

    @staticmethod
    def pte_to_pgoff(pte: int) -> int:
        return pte >> 32


class TwoLevelTables(PageTables):
    """2 levels, 4-byte entries, no NX: the history's HIGHMEM4G."""

    ENTRY, PTRS, SHIFT = 4, 1024, 22
    NX = 0
    PFN_MASK = 0xFFFFF
    MIGRATION_SHIFT = 28  # above the 20 bits of a frame; there is no NX
    dtype = np.uint32
    CODE = "I"

    def __init__(self, ram: Ram, pages: PageAllocator, slab: Slab, vmstat: VmStat, highpte: bool = False) -> None:
        super().__init__(ram, pages, slab, vmstat, highpte)
        self.ptes = ram.u32
        self.np_ptes = ram.np32
        self.np_tables = ram.np32.reshape(-1, 1024)
        self._kernel_entries: dict[int, int] = {}
        self._roots: dict[int, None] = {}

    def pgd_alloc(self, mm: Mm | None) -> int:
        pfn = self._new_table(mm, 0)
        base = pfn << 10
        for i, entry in self._kernel_entries.items():
            self.ptes[base + i] = entry
        self._roots[pfn] = None
        return pfn << PAGE_SHIFT

    def pgd_free(self, pgd: int) -> None:
        del self._roots[pgd >> PAGE_SHIFT]
        self.pages.put_page(pgd >> PAGE_SHIFT)

    def pte_index(self, pgd: int, addr: int) -> int:
        ptes = self.ptes
        table = ptes[(pgd >> 2) + (addr >> 22)]
        if not table:
            return -1
        return ((table & 0xFFFFF000) >> 2) + (addr >> 12 & 1023)

    def np_pte_indices(self, pgds: Sequence[int], addresses: int | np.ndarray) -> np.ndarray:
        tables = self.np_ptes[(np.array(pgds, np.int64) >> 2) + (addresses >> 22)]
        indices = (tables >> np.uint32(2) & np.uint32(0x3FFFFC00)).astype(np.int64) + (addresses >> 12 & 1023)
        return np.where(tables != 0, indices, -1)

    def np_first_entries(self, roots: np.ndarray, addresses: int | np.ndarray) -> np.ndarray:
        tables = self.np_ptes[(roots >> 2) + (addresses >> 22)]
        return (tables >> np.uint32(2) & np.uint32(0x3FFFFC00)).astype(np.int64)

    def _set_table(self, pgd: int, addr: int, pfn: int) -> None:
        self.changes += 1
        self.ptes[(pgd >> 2) + (addr >> 22)] = pfn << PAGE_SHIFT | P | W | U if pfn else 0

    def tables(self, pgd: int, start: int, end: int) -> list[tuple[int, int]]:
        base, ptes = pgd >> 2, self.ptes
        first, last = start >> 22, (end - 1) >> 22
        if last - first < 8:
            return [(n << 22, (e & 0xFFFFF000) >> 2) for n in range(first, last + 1) if (e := ptes[base + n])]
        present = np.nonzero(self.np_ptes[base + first : base + last + 1])[0].tolist()
        return [((first + k) << 22, (ptes[base + first + k] & 0xFFFFF000) >> 2) for k in present]

    def map_kernel(self, va: int, pfn: int, bits: int) -> None:
        slot = va >> 22
        entry = self._kernel_entries.get(slot)
        if entry is None:
            entry = self._kernel_entries[slot] = self._new_table(None, slot << 22) << PAGE_SHIFT | P | W | U
            for root in self._roots:
                self.ptes[(root << 10) + slot] = entry
        self.ptes[((entry & 0xFFFFF000) >> 2) + (va >> 12 & 1023)] = pfn << PAGE_SHIFT | bits

    @staticmethod
    def swp_pte(entry: int) -> int:
        return (entry >> 27) << 1 | (entry & 0xFFFFFF) << 8

    @staticmethod
    def pte_to_swp(pte: int) -> int:
        return (pte >> 1 & 31) << 27 | pte >> 8

    def np_pte_to_swp(self, ptes: np.ndarray) -> np.ndarray:
        p = ptes.astype(np.int64)
        return (p >> 1 & 31) << 27 | p >> 8

    @staticmethod
    def file_pte(pgoff: int) -> int:
        return (pgoff & 0x1F) << 1 | (pgoff >> 5) << 8 | FILE

    @staticmethod
    def pte_to_pgoff(pte: int) -> int:
        return (pte >> 1 & 0x1F) | (pte >> 8) << 5
