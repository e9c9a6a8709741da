"""Areas: `vm_area_struct`, its flags, and the small questions one asks of an area.

An area is a range of pages of one address space with one set of permissions and one source of contents.

    vm_start           vm_end         [vm_start, vm_end), page aligned, never empty, never overlapping another of the
    |  page  page  page  |            same mm
       ^ page offset in the source = vm_pgoff + (address - vm_start >> 12): the file's page,
         or for private anonymous areas the address it was born at (vm_start >> 12, kept across mremap)

Linux: include/linux/mm.h, 2.6.7; flags and rules that the guest can see follow the modern kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmcore.physical.pgtable import W

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.files.filemap import AddressSpace
    from mmcore.memory import Memory
    from mmcore.outside import MappedFile

# vm_flags. Linux: include/linux/mm.h, 2.6.7; the ones marked (m) came later and keep their modern meaning.
VM_READ = 0x1
VM_WRITE = 0x2
VM_EXEC = 0x4
VM_SHARED = 0x8  # shared and, if a file's, the file is open for writing
VM_MAYREAD = 0x10
VM_MAYWRITE = 0x20
VM_MAYEXEC = 0x40
VM_MAYSHARE = 0x80  # mapped MAP_SHARED, whatever the file's mode
VM_GROWSDOWN = 0x100
VM_GROWSUP = 0x200
VM_SHM = 0x400
VM_DENYWRITE = 0x800
VM_EXECUTABLE = 0x1000
VM_LOCKED = 0x2000
VM_IO = 0x4000
VM_SEQ_READ = 0x8000
VM_RAND_READ = 0x10000
VM_DONTCOPY = 0x20000
VM_DONTEXPAND = 0x40000
VM_RESERVED = 0x80000
VM_ACCOUNT = 0x100000
VM_NORESERVE = 0x200000  # (m)
VM_HUGETLB = 0x400000
VM_NONLINEAR = 0x800000
VM_LOCKONFAULT = 0x1000000  # (m)
VM_WIPEONFORK = 0x2000000  # (m) the child gets zeroes
VM_DONTDUMP = 0x4000000  # (m)

VM_ACCESS_FLAGS = VM_READ | VM_WRITE | VM_EXEC
VM_MAY_FLAGS = VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
VM_LOCKED_MASK = VM_LOCKED | VM_LOCKONFAULT
VM_SPECIAL = VM_IO | VM_DONTEXPAND | VM_RESERVED  # never merged, never locked
VM_STACK_FLAGS = VM_READ | VM_WRITE | VM_MAY_FLAGS | VM_GROWSDOWN | VM_ACCOUNT
VM_DATA_FLAGS = VM_READ | VM_WRITE | VM_MAY_FLAGS

STACK_GUARD_GAP = 256 << 12  # bytes kept free below a growing area

# How an area was copied.
FORK, SPLIT, MOVE = "fork", "split", "move"


class VmArea:
    """One area. Its keys (`vm_start`, `vm_end`, `vm_pgoff`) change only between `scheme.vma_adjust_begin` and
    `_end` and outside the file's index; `mm.starts` holds a copy of `vm_start`."""

    __slots__ = (
        "vm_mm",
        "vm_start",
        "vm_end",
        "vm_flags",
        "vm_page_prot",
        "vm_pgoff",
        "vm_file",
        "mapping",
        "addr",
        "anon_vma",
        "rmap",
        "shared",
        "nl_cursor",
    )

    addr: int  # kernel address of its vm_area_struct, 0 once freed
    vm_mm: Mm
    vm_start: int  # addresses
    vm_end: int
    vm_flags: int
    vm_page_prot: int  # bits of a PTE of its pages, before they are written to
    vm_pgoff: int  # pages, see the drawing
    vm_file: MappedFile | None  # it holds a reference
    # Of a file mapping (tmpfs and shared anonymous memory included); None: private anonymous memory.
    mapping: AddressSpace | None
    # The scheme's own; a copy starts without, `scheme.vma_copied` fills them.
    anon_vma: Any
    rmap: Any
    shared: Any  # the file index's
    nl_cursor: int  # where the mini virtual scan of a nonlinear area stands, in bytes from its start

    def __init__(
        self,
        mm: Mm,
        addr: int,
        start: int,
        end: int,
        flags: int,
        prot: int,
        pgoff: int,
        file: MappedFile | None,
        mapping: AddressSpace | None,
    ) -> None:
        self.vm_mm = mm
        self.addr = addr
        self.vm_start = start
        self.vm_end = end
        self.vm_flags = flags
        self.vm_page_prot = prot
        self.vm_pgoff = pgoff
        self.vm_file = file
        self.mapping = mapping
        self.anon_vma = None
        self.rmap = None
        self.shared = None
        self.nl_cursor = 0

    def clone(self, mem: Memory, mm: Mm) -> VmArea:
        """The same area for `mm`, in no list yet; its file gains no reference. Raises OutOfMemory."""
        return VmArea(
            mm,
            mem.vma_cache.alloc(),
            self.vm_start,
            self.vm_end,
            self.vm_flags,
            self.vm_page_prot,
            self.vm_pgoff,
            self.vm_file,
            self.mapping,
        )

    def free(self, mem: Memory) -> None:
        """Gives the vm_area_struct back; the area is in no list any more."""
        mem.vma_cache.free(self.addr)
        self.addr = 0

    @property
    def pages(self) -> int:
        return self.vm_end - self.vm_start >> 12

    def permissions(self) -> str:
        """`rwxp` as /proc/PID/maps shows it."""
        flags = self.vm_flags
        return (
            ("r" if flags & VM_READ else "-")
            + ("w" if flags & VM_WRITE else "-")
            + ("x" if flags & VM_EXEC else "-")
            + ("s" if flags & VM_MAYSHARE else "p")
        )

    def __repr__(self) -> str:
        return f"<area {self.vm_start:08x}-{self.vm_end:08x} {self.permissions()} pgoff {self.vm_pgoff:#x}>"


def vm_start_gap(vma: VmArea) -> int:
    """Lowest address that belongs to the area or to the gap kept free below it. Linux: include/linux/mm.h, 4.12."""
    if vma.vm_flags & VM_GROWSDOWN:
        return max(vma.vm_start - STACK_GUARD_GAP, 0)
    return vma.vm_start


def linear_page_index(vma: VmArea, address: int) -> int:
    """The page of the source that `address` shows, in a linear area."""
    return (address - vma.vm_start >> 12) + vma.vm_pgoff


def page_prot(mem: Memory, mapping: AddressSpace | None, flags: int) -> int:
    """vm_page_prot of an area with `flags`; with dirty tracking, shared writable pages of a file start
    write-protected, so that the first write is noticed. Linux: vma_wants_writenotify, 2.6.19."""
    prot = mem.pgtables.prot(flags)
    if prot & W and mapping is not None and mapping.tracks_dirty:
        prot &= ~W
    return prot


def is_data_mapping(flags: int) -> bool:
    """Counts towards RLIMIT_DATA: private, writable, no stack. Linux: mm/internal.h, 4.5."""
    return flags & (VM_WRITE | VM_SHARED | VM_GROWSDOWN) == VM_WRITE


def accountable_mapping(flags: int) -> bool:
    """Commits memory when it is made: private and writable. Linux: mm/mmap.c, 4.x."""
    return flags & (VM_NORESERVE | VM_SHARED | VM_WRITE) == VM_WRITE


def vm_stat_account(mm: Mm, flags: int, pages: int) -> None:
    """`pages` (signed) enter an mm's totals."""
    mm.total_vm += pages
    if flags & VM_GROWSDOWN:
        mm.stack_vm += pages
    elif flags & (VM_EXEC | VM_WRITE) == VM_EXEC:
        mm.exec_vm += pages
    elif flags & (VM_WRITE | VM_SHARED) == VM_WRITE:
        mm.data_vm += pages
