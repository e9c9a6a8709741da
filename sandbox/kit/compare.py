"""The comparison of a machine with the model: the audit, the TLB, every area, every page's contents wherever they are.
Nothing is touched by it."""

from __future__ import annotations

import struct

from mmcore.areas.mm import Mm
from mmcore.areas.vma import VM_ACCESS_FLAGS, VM_MAYSHARE, VM_NONLINEAR, VmArea
from mmcore.files.filespace import FileSpace
from mmcore.files.shmem import ShmemSpace
from mmcore.memory import Memory
from mmcore.physical.frames import PG_ANON
from mmcore.physical.pgtable import FILE, PRESENT, TASK_SIZE, D, P, W
from sandbox.kit.files import Host
from sandbox.kit.machine import CpulessMachine
from sandbox.kit.model import HIGH, LOW, WRITE, ZERO, Process, Words


class WorldComparison:
    """What World compares after each operation."""

    machine: CpulessMachine
    mem: Memory
    processes: list[Process]
    tlb: dict[Mm, dict[int, int]]  # by page number: the PTE that the CPU may still use

    def check(self, after: str) -> None:
        self.machine.audit(after)
        for process in self.processes:
            self._check_tlb(process.mm, after)
            self._check_process(process, after)

    def _check_tlb(self, mm: Mm, after: str) -> None:
        """What the CPU may still believe is true, or the mm says that it must be flushed."""
        if mm.flush_pending:
            mm.flush_pending = False
            self.tlb.pop(mm, None)
            return
        ptes, pte_index = self.mem.pgtables.ptes, self.mem.pgtables.pte_index
        for page, cached in self.tlb.get(mm, {}).items():
            i = pte_index(mm.pgd, page << 12)
            now = ptes[i] if i >= 0 else 0
            assert now & ~(W | D) == cached & ~(W | D) and now & cached & (W | D) == cached & (W | D), (
                f"after {after}: the TLB still has {cached:#x} for {page:#x}, the table has {now:#x}"
            )

    def _check_process(self, process: Process, after: str) -> None:
        mm, slots = process.mm, process.slots
        mapped = 0
        for vma in mm.vmas:
            prot, shared, mapping = vma.vm_flags & VM_ACCESS_FLAGS, bool(vma.vm_flags & VM_MAYSHARE), vma.mapping
            first = vma.vm_start >> 12
            n = vma.pages
            mapped += n
            for k in range(n):
                slot = slots.get(first + k)
                ok = (
                    slot is not None
                    and slot.prot == prot
                    and slot.shared == shared
                    and (slot.obj.file.mapping if slot.obj else None) is mapping
                )
                placed = ok and slot is not None and (mapping is None or slot.linear == vma.vm_pgoff + k)
                assert placed, f"after {after}: {vma}, page {first + k:#x} should be {slot}"
                found, expected = self._peek(mm, first + k, vma, vma.vm_pgoff + k), process.expect(first + k)
                assert found == expected, (
                    f"after {after}: page {first + k:#x} of {vma} contains {found}, not {expected}"
                )
                if (
                    mapping is not None
                    and not shared
                    and first + k not in process.data
                    and self._is_private(mm, first + k)
                ):
                    assert expected is not None
                    process.data[first + k] = expected  # mlock and pins copy before anybody writes
        assert mapped == len(slots), f"after {after}: {mapped} pages mapped, {len(slots)} expected"
        span = 1 << self.mem.pgtables.SHIFT
        for start, _ in self.mem.pgtables.tables(mm.pgd, 0, TASK_SIZE):
            assert mm.find_vma_intersection(start, start + span) is not None, (
                f"after {after}: a page table for {start:#x}, where no area is"
            )

    def _peek(self, mm: Mm, page: int, vma: VmArea, index: int) -> Words | None:
        """A page's contents, wherever they are, without an access."""
        mem = self.mem
        i = mem.pgtables.pte_index(mm.pgd, page << 12)
        pte = mem.pgtables.ptes[i] if i >= 0 else 0
        if pte & PRESENT:
            if pte & W:
                assert vma.vm_flags & WRITE, f"{vma} is read-only, its PTE for {page:#x} is not"
            assert bool(pte & P) == bool(vma.vm_flags & VM_ACCESS_FLAGS) or not pte & P, (
                f"{vma} allows nothing, its PTE for {page:#x} does"
            )
            return self._in_ram(pte >> 12 & mem.pgtables.PFN_MASK)
        if pte and not pte & FILE:
            return self._in_swap(mem.pgtables.pte_to_swp(pte))
        if vma.mapping is None:
            return ZERO
        if pte:
            assert vma.vm_flags & VM_NONLINEAR
            index = mem.pgtables.pte_to_pgoff(pte)
        mapping = vma.mapping
        if index * 4096 >= mapping.host.i_size:
            return None
        pfn = mapping.pages.get(index, -1)
        if pfn >= 0:
            return self._in_ram(pfn)
        if isinstance(mapping, ShmemSpace):
            entry = mapping.swapped.get(index, 0)
            return self._in_swap(entry) if entry else ZERO
        assert isinstance(mapping, FileSpace) and isinstance(mapping.backing, Host)
        data = mapping.backing.written.get(index, bytes(4096))
        return struct.unpack_from("<I", data, LOW)[0], struct.unpack_from("<I", data, HIGH)[0]

    def _is_private(self, mm: Mm, page: int) -> bool:
        """The process has a copy of a file's page."""
        mem = self.mem
        i = mem.pgtables.pte_index(mm.pgd, page << 12)
        pte = mem.pgtables.ptes[i] if i >= 0 else 0
        if pte & PRESENT:
            return bool(mem.frames.flags[pte >> 12 & mem.pgtables.PFN_MASK] & PG_ANON)
        return bool(pte) and not pte & FILE

    def _in_ram(self, pfn: int) -> Words:
        u32, base = self.mem.ram.u32, pfn << 10
        return u32[base + (LOW >> 2)], u32[base + (HIGH >> 2)]

    def _in_swap(self, entry: int) -> Words:
        pfn = self.mem.swap.cache.get(entry, -1)
        if pfn >= 0:
            return self._in_ram(pfn)
        page = self.mem.swap.store.page(entry)
        return struct.unpack_from("<I", page, LOW)[0], struct.unpack_from("<I", page, HIGH)[0]
