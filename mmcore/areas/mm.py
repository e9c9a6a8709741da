"""An address space: `mm_struct`.

mm.vmas    areas, ascending     two parallel lists: bisect on `starts` finds an area in log n without touching the
mm.starts  their vm_start       areas; whoever changes a vm_start changes both

      start_code..end_code   start_data..end_data   start_brk..brk ->          <- mmap_base      <- stack
0 ----|  text             |--|  data           |----|  heap  |-------- ... --------|  maps  |------|     | 0xc0000000
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from mmcore.areas.vma import VM_LOCKED, VmArea
from mmcore.errors import InvariantViolation
from mmcore.physical.pgtable import TASK_SIZE

if TYPE_CHECKING:
    from mmcore.memory import Memory
    from mmcore.outside import Counted

# Linux: DEFAULT_MAX_MAP_COUNT, include/linux/mm.h.
MAX_MAP_COUNT = 65530


class Mm:
    """One address space."""

    __slots__ = (
        "addr",
        "pgd",
        "vmas",
        "starts",
        "mmap_cache",
        "mm_users",
        "flush_pending",
        "nr_ptes",
        "rss",
        "anon_rss",
        "shmem_rss",
        "hiwater_rss",
        "hiwater_vm",
        "total_vm",
        "locked_vm",
        "data_vm",
        "exec_vm",
        "stack_vm",
        "def_flags",
        "mmap_base",
        "topdown",
        "gap_top",
        "gap_size",
        "start_code",
        "end_code",
        "start_data",
        "end_data",
        "start_brk",
        "brk",
        "start_stack",
        "arg_start",
        "arg_end",
        "env_start",
        "env_end",
        "saved_auxv",
        "dumpable",
        "membarrier",
        "exe_file",
        "read_implies_exec",
        "rmap",
    )
    max_map_count = MAX_MAP_COUNT

    addr: int  # kernel address of its mm_struct, 0 once freed
    pgd: int  # physical address of its root table
    vmas: list[VmArea]
    starts: list[int]
    mmap_cache: VmArea | None  # the area find_vma answered last
    mm_users: int  # tasks that run in it; at 0 `mmput` takes it apart
    # The CPU may hold translations that are no longer true: honoured before the next run of any of its tasks.
    flush_pending: bool
    nr_ptes: int  # page tables of the lowest level
    # Present PTEs of counted frames, of them those of anonymous pages and of tmpfs and shared memory (the rest are of
    # files); rmap.core keeps them. And the most there were.
    rss: int
    anon_rss: int
    shmem_rss: int
    hiwater_rss: int
    # Pages of areas: all, and the most there were; locked; private and writable; executable, not writable; of stacks.
    total_vm: int
    hiwater_vm: int
    locked_vm: int
    data_vm: int
    exec_vm: int
    stack_vm: int
    def_flags: int  # VM_LOCKED, VM_LOCKONFAULT: what new areas get (mlockall)
    # Where mappings go: from mmap_base downwards, or (not topdown) upwards from a third of the space. Every free gap
    # that ends above gap_top is smaller than gap_size bytes (see placement).
    mmap_base: int
    topdown: bool
    gap_top: int
    gap_size: int
    # The program's parts, see the drawing; addresses.
    start_code: int
    end_code: int
    start_data: int
    end_data: int
    start_brk: int
    brk: int
    start_stack: int
    arg_start: int
    arg_end: int
    env_start: int
    env_end: int
    saved_auxv: bytes  # the auxiliary vector exec made
    dumpable: int  # prctl's: may it be dumped, and looked into by others of the same user?
    membarrier: int  # what its tasks registered for
    exe_file: Counted | None
    read_implies_exec: bool  # a personality: PROT_READ gives PROT_EXEC too
    rmap: Any  # the scheme's

    def __init__(self, addr: int) -> None:
        self.addr = addr
        self.pgd = 0
        self.vmas = []
        self.starts = []
        self.mmap_cache = None
        self.mm_users = 1
        self.flush_pending = False
        self.nr_ptes = self.rss = self.anon_rss = self.shmem_rss = self.hiwater_rss = self.hiwater_vm = 0
        self.total_vm = self.locked_vm = self.data_vm = self.exec_vm = self.stack_vm = 0
        self.def_flags = 0
        self.mmap_base = TASK_SIZE - (128 << 20)
        self.topdown = True
        self.gap_top = TASK_SIZE
        self.gap_size = 0
        self.start_code = self.end_code = self.start_data = self.end_data = 0
        self.start_brk = self.brk = self.start_stack = 0
        self.arg_start = self.arg_end = self.env_start = self.env_end = 0
        self.saved_auxv = b""
        self.dumpable = 1
        self.membarrier = 0
        self.exe_file = None
        self.read_implies_exec = False
        self.rmap = None

    def inherit(self, parent: Mm) -> None:
        """fork: the parent's layout, program and totals; neither its pages nor its memory locks."""
        self.mmap_base = parent.mmap_base
        self.topdown = parent.topdown
        self.start_code = parent.start_code
        self.end_code = parent.end_code
        self.start_data = parent.start_data
        self.end_data = parent.end_data
        self.start_brk = parent.start_brk
        self.brk = parent.brk
        self.start_stack = parent.start_stack
        self.arg_start = parent.arg_start
        self.arg_end = parent.arg_end
        self.env_start = parent.env_start
        self.env_end = parent.env_end
        self.saved_auxv = parent.saved_auxv
        self.dumpable = parent.dumpable
        self.membarrier = parent.membarrier
        self.read_implies_exec = parent.read_implies_exec
        self.total_vm = parent.total_vm
        self.data_vm = parent.data_vm
        self.exec_vm = parent.exec_vm
        self.stack_vm = parent.stack_vm

    @property
    def map_count(self) -> int:
        return len(self.vmas)

    def find_vma(self, addr: int) -> VmArea | None:
        """The first area that ends above `addr` (it may start above it too), or None."""
        cached = self.mmap_cache
        if cached is not None and cached.vm_start <= addr < cached.vm_end:
            return cached
        vmas = self.vmas
        i = bisect_right(self.starts, addr)
        if i:
            vma = vmas[i - 1]
            if vma.vm_end > addr:
                self.mmap_cache = vma
                return vma
        if i < len(vmas):
            return vmas[i]
        return None

    def lookup_nodes(self, addr: int) -> int:
        """How many nodes `find_vma(addr)` looks at now: none if `mmap_cache` answers, else those on the way down a
        balanced tree of the areas, which ends at the area that holds the address (2.6.7's red-black tree is at most
        twice as deep; its shape is history we do not keep)."""
        cached = self.mmap_cache
        if cached is not None and cached.vm_start <= addr < cached.vm_end:
            return 0
        vmas = self.vmas
        low, high, nodes = 0, len(vmas), 0
        while low < high:
            middle = low + high >> 1
            nodes += 1
            if vmas[middle].vm_end <= addr:
                low = middle + 1
            elif vmas[middle].vm_start <= addr:
                break
            else:
                high = middle
        return nodes

    def find_index(self, addr: int) -> int:
        """Position of the first area that ends above `addr`; `len(vmas)` if none does."""
        i = bisect_right(self.starts, addr)
        if i and self.vmas[i - 1].vm_end > addr:
            return i - 1
        return i

    def index_of(self, vma: VmArea) -> int:
        """Position of an area that is in the list."""
        i = bisect_right(self.starts, vma.vm_start) - 1
        if i < 0 or self.vmas[i] is not vma:
            raise InvariantViolation(f"{vma} is not in the list of its mm {self.addr:#x}")
        return i

    def neighbours(self, vma: VmArea) -> tuple[VmArea | None, VmArea | None]:
        """The areas before and after one that is in the list, touching or not."""
        i = self.index_of(vma)
        vmas = self.vmas
        return (vmas[i - 1] if i else None), (vmas[i + 1] if i + 1 < len(vmas) else None)

    def find_vma_prev(self, addr: int) -> tuple[VmArea | None, VmArea | None]:
        """(find_vma(addr), the area before it)."""
        i = self.find_index(addr)
        return (self.vmas[i] if i < len(self.vmas) else None), (self.vmas[i - 1] if i else None)

    def find_vma_intersection(self, start: int, end: int) -> VmArea | None:
        """The first area that overlaps `[start, end)`, or None."""
        vma = self.find_vma(start)
        if vma is not None and vma.vm_start < end:
            return vma
        return None

    def append_vma(self, vma: VmArea) -> None:
        """Fork: areas arrive in order."""
        self.vmas.append(vma)
        self.starts.append(vma.vm_start)

    def take_all_vmas(self) -> list[VmArea]:
        """Exit: every area leaves at once; the caller takes them apart."""
        areas, self.vmas = self.vmas, []
        self.starts = []
        self.mmap_cache = None
        self.total_vm = self.locked_vm = self.data_vm = self.exec_vm = self.stack_vm = 0
        return areas

    def free(self, mem: Memory) -> None:
        """Gives back the root table and the mm_struct of an address space without areas."""
        if self.vmas:
            raise InvariantViolation(f"{self} is freed with areas left")
        file, self.exe_file = self.exe_file, None
        if file is not None:
            file.put()
        del mem.mms[self.addr]
        mem.pgtables.pgd_free(self.pgd)
        mem.mm_cache.free(self.addr)
        self.addr = self.pgd = 0

    def check(self) -> list[str]:
        """The lists' own invariants; a list of what is broken (for the auditor)."""
        wrong = []
        vmas = self.vmas
        if len(vmas) > self.max_map_count + 2:
            wrong.append(f"mm {self.addr:#x}: {len(vmas)} areas")
        if self.starts != [vma.vm_start for vma in vmas]:
            wrong.append(f"mm {self.addr:#x}: starts differ from the areas' vm_start")
        before = 0
        total = locked = 0
        for vma in vmas:
            if vma.vm_mm is not self:
                wrong.append(f"mm {self.addr:#x}: {vma} belongs to another mm")
            if vma.vm_start >= vma.vm_end or vma.vm_start & 4095 or vma.vm_end & 4095 or vma.vm_end > TASK_SIZE:
                wrong.append(f"mm {self.addr:#x}: {vma} has bad bounds")
            if vma.vm_start < before:
                wrong.append(f"mm {self.addr:#x}: {vma} overlaps the area before it")
            before = vma.vm_end
            total += vma.pages
            if vma.vm_flags & VM_LOCKED:
                locked += vma.pages
        if total != self.total_vm:
            wrong.append(f"mm {self.addr:#x}: total_vm {self.total_vm}, its areas have {total} pages")
        if locked != self.locked_vm:
            wrong.append(f"mm {self.addr:#x}: locked_vm {self.locked_vm}, its locked areas have {locked} pages")
        return wrong

    def __repr__(self) -> str:
        return f"<mm {self.addr:#x} {len(self.vmas)} areas, {self.rss} pages resident>"
