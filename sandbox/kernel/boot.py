"""The machine from power-on to the first task: kernel mappings and the CPU.

0xffffd000  descriptor table (supervisor, writable)
0xffffe000  the two ways out of a signal handler (user, readable, executable): no area of its own, in every address
            space
0xfffff000  boot page: one instruction of the CPU's own start (supervisor, executable)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmcore.physical.pgtable import A, D, P, U, W
from sandbox.cpu import Cpu
from sandbox.kernel.sigframe import TRAMPOLINE_PAGE, trampoline_page

if TYPE_CHECKING:
    from mmcore.memory import Memory

GDT_VA = TRAMPOLINE_PAGE - 0x1000
BOOT_VA = TRAMPOLINE_PAGE + 0x1000


def boot_cpu(mem: Memory) -> Cpu:
    """Maps the kernel's pages, fills the trampoline page, starts the CPU. Raises CpuError."""
    ram, tables = mem.ram, mem.pgtables
    frames = [mem.boot_reserve() for _ in range(3)]
    for pfn in frames:
        ram.zero(pfn)
    gdt, trampoline, boot = frames
    tables.map_kernel(GDT_VA, gdt, P | W | A | D | tables.NX)
    tables.map_kernel(TRAMPOLINE_PAGE, trampoline, P | U | A)
    tables.map_kernel(BOOT_VA, boot, P | W | A | D)
    ram.write(trampoline << 12, trampoline_page())
    root = tables.pgd_alloc(None)
    return Cpu(
        ram,
        paging=mem.config.paging,
        boot_cr3=root,
        gdt_va=GDT_VA,
        gdt_paddr=gdt << 12,
        boot_va=BOOT_VA,
        boot_paddr=boot << 12,
    )
