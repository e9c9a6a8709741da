"""A machine without a CPU: accesses go through a page walker in Python that sets A and D as the hardware would, and
fault as it would."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from mmcore.areas.mm import Mm
from mmcore.audit import Auditor
from mmcore.calls.mmap import do_mmap, do_munmap
from mmcore.errors import MustWait
from mmcore.memory import CurrentTask, Memory, MemoryConfig
from mmcore.paging.fault import DONE, OOM, PF_PROT, PF_USER, PF_WRITE, SIGBUS
from mmcore.paging.lifecycle import dup_mmap, mm_alloc, mmput
from mmcore.physical.pgtable import A, D, P, W
from mmcore.physical.zones import LOWMEM_BYTES

if TYPE_CHECKING:
    from mmcore.outside import MappedFile
    from mmcore.rmap import RmapScheme

PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC = 0, 1, 2, 4
RW = PROT_READ | PROT_WRITE
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 1, 2, 0x10, 0x20


class Fault(Exception):
    """The guest would get a signal."""


def serve(mem: Memory, mm: Mm | None) -> None:
    """The core works for `mm` from now on (None: for nobody's)."""
    cast(CurrentTask, mem.current).mm = mm


class CpulessMachine:
    """`memory` and `swap` in bytes (or `swap_areas`: bytes and priority of each); `options` are the scheme's; `pins()`:
    pfn -> references of the test."""

    def __init__(
        self,
        scheme: type[RmapScheme],
        memory: int = 16 << 20,
        swap: int = 32 << 20,
        paging: str = "pae",
        dirty_tracking: bool = False,
        pins: Callable[[], dict[int, int]] = dict,
        lowmem: int = LOWMEM_BYTES,
        machine_highpte: bool = False,
        swap_areas: tuple[tuple[int, int | None], ...] = (),
        **options: Any,
    ) -> None:
        config = MemoryConfig(
            memory_bytes=memory,
            swap_bytes=swap,
            swap_areas=swap_areas,
            paging=paging,
            overcommit=1,
            dirty_tracking=dirty_tracking,
            lowmem_bytes=lowmem,
            highpte=machine_highpte,
            scheme_options=options,
        )
        self.mem = Memory(config, scheme)
        self.auditor = Auditor(self.mem, pins)

    def new_mm(self) -> Mm:
        mm = mm_alloc(self.mem)
        serve(self.mem, mm)
        return mm

    def mmap(
        self,
        mm: Mm,
        pages: int,
        prot: int = RW,
        flags: int = MAP_PRIVATE | MAP_ANONYMOUS,
        addr: int = 0,
        file: MappedFile | None = None,
        pgoff: int = 0,
    ) -> int:
        return do_mmap(self.mem, mm, addr, pages << 12, prot, flags, file, pgoff)

    def munmap(self, mm: Mm, addr: int, pages: int) -> None:
        do_munmap(self.mem, mm, addr, pages << 12)

    def fork(self, mm: Mm) -> Mm:
        return dup_mmap(self.mem, mm)

    def exit(self, mm: Mm) -> None:
        mmput(self.mem, mm)

    def access(self, mm: Mm, addr: int, write: bool) -> int:
        """One access by the CPU; returns the physical address. Faults are served, waits waited out, kswapd run."""
        mem = self.mem
        serve(mem, mm)
        for _ in range(1000):
            i = mem.pgtables.pte_index(mm.pgd, addr)
            pte = mem.pgtables.ptes[i] if i >= 0 else 0
            need = P | W if write else P
            if pte & need == need:
                mem.pgtables.ptes[i] = pte | (A | D if write else A)
                return (pte >> 12 & mem.pgtables.PFN_MASK) << 12 | addr & 0xFFF
            error_code = PF_USER | (PF_WRITE if write else 0) | (PF_PROT if pte & P else 0)
            try:
                answer = mem.faults.do_page_fault(mm, addr, error_code)
            except MustWait as wait:
                mem.reclaim.wait_sync(wait.queue)
                continue
            mem.awaited.let_go(mem.current)
            if answer == OOM:
                raise MemoryError
            if answer > DONE:
                raise Fault("SIGBUS" if answer == SIGBUS else "SIGSEGV")
            if mem.reclaim.kswapd_wanted:
                mem.reclaim.kswapd()
        raise AssertionError(f"the access to {addr:#x} never ends")

    def store(self, mm: Mm, addr: int, value: int) -> None:
        """Stores a 32-bit word (addr aligned)."""
        paddr = self.access(mm, addr, True)
        self.mem.ram.u32[paddr >> 2] = value

    def load(self, mm: Mm, addr: int) -> int:
        return self.mem.ram.u32[self.access(mm, addr, False) >> 2]

    def audit(self, where: str = "") -> None:
        self.auditor.require(where)


Machine = CpulessMachine  # the name in test files that an earlier `rmapbox schemes new` wrote
