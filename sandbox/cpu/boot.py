"""From reset to ring 3: descriptor table, control registers, and the one `iret` that really enters user mode.

    gdt page    0x000  32 descriptors        0x800  stack of the one iret
    boot page   0x000  iret, then whatever the caller puts there

Writing a ring-3 selector into CS by the engine's register interface leaves the privilege level at 0, hence the iret.
"""

import struct

from unicorn import Uc
from unicorn.x86_const import (
    UC_X86_REG_CR0,
    UC_X86_REG_CR3,
    UC_X86_REG_CR4,
    UC_X86_REG_CS,
    UC_X86_REG_DS,
    UC_X86_REG_ES,
    UC_X86_REG_ESP,
    UC_X86_REG_FPCW,
    UC_X86_REG_FPTAG,
    UC_X86_REG_GDTR,
    UC_X86_REG_MXCSR,
    UC_X86_REG_SS,
)

from mmcore.physical.pgtable import P
from sandbox.cpu.errors import CpuError

# Linux: include/asm-i386/segment.h, 2.6.7
GDT_ENTRIES = 32
GDT_TLS_MIN, GDT_TLS_MAX = 6, 8
KERNEL_CS, KERNEL_DS, USER_CS, USER_DS = 0x60, 0x68, 0x73, 0x7B
_FLAT = {12: 0x00CF9B000000FFFF, 13: 0x00CF93000000FFFF, 14: 0x00CFFB000000FFFF, 15: 0x00CFF3000000FFFF}

STACK_OFFSET = 0x800

PAGING = ("pae", "2level")
_CR0 = 0x80050033  # PG AM WP NE ET MP PE; NE makes an unmasked x87 error an exception
_CR4_TSD, _CR4_PAE, _CR4_SSE = 0x4, 0x20, 0x600  # SSE: OSFXSR and OSXMMEXCPT
_CR4_PCE = 0x100  # the engine tests this bit the wrong way round: set, rdpmc is the #GP it is under Linux
_EFER, _EFER_NX = 0xC0000080, 0x800

FPU_CONTROL, FPU_MXCSR = 0x37F, 0x1F80  # as FINIT and Linux leave them


def write_gdt(gdt: memoryview) -> None:
    """Fills a descriptor table, a view of 64-bit entries, with Linux's flat segments."""
    for i in range(GDT_ENTRIES):
        gdt[i] = _FLAT.get(i, 0)


def frame_mapped_at(ram: memoryview, paging: str, cr3: int, va: int) -> tuple[int, int]:
    """Walks the tables under `cr3` in `ram` (bytes): the physical address `va` maps to, and its last entry.

    Raises CpuError if it is not mapped by a 4 KB page. Used before the first instruction only: a descriptor table that
    is not mapped would take the host process down with the engine.
    """
    width, shifts = (8, (30, 21, 12)) if paging == "pae" else (4, (22, 12))
    table, entry = cr3 & ~0x1F, 0
    for shift in shifts:
        at = table + (va >> shift) % (4 if shift == 30 else 4096 // width) * width
        entry = int.from_bytes(ram[at : at + width], "little") if at + width <= len(ram) else 0
        if not entry & P or (shift == 21 and entry & 0x80):
            raise CpuError(f"the boot page tables at {cr3:#x} do not map {va:#x}; map it before the CPU starts")
        table = entry & 0x000FFFFFFFFFF000
    return table | (va & 0xFFF), entry


def start_paging(uc: Uc, paging: str, cr3: int, gdt_va: int) -> None:
    """Protected mode at ring 0 with paging on and Linux's flat segments. Raises CpuError if the model lacks NX and
    paging is "pae"."""
    write = uc.reg_write
    cr4 = _CR4_TSD | _CR4_SSE | _CR4_PCE
    if paging == "pae":
        cr4 |= _CR4_PAE
        uc.msr_write(_EFER, _EFER_NX)
        if not uc.msr_read(_EFER) & _EFER_NX:
            raise CpuError("the emulated CPU model has no NX bit (EFER reads back without it); use --paging 2level")
    write(UC_X86_REG_CR4, cr4)
    write(UC_X86_REG_CR3, cr3)
    write(UC_X86_REG_CR0, _CR0)
    write(UC_X86_REG_GDTR, (0, gdt_va, GDT_ENTRIES * 8 - 1, 0))
    write(UC_X86_REG_CS, KERNEL_CS)
    write(UC_X86_REG_SS, KERNEL_DS)
    write(UC_X86_REG_DS, USER_DS)
    write(UC_X86_REG_ES, USER_DS)
    write(UC_X86_REG_ESP, gdt_va + STACK_OFFSET)
    write(UC_X86_REG_FPCW, FPU_CONTROL)
    write(UC_X86_REG_FPTAG, 0xFFFF)
    write(UC_X86_REG_MXCSR, FPU_MXCSR)


def iret_frame(eip: int, eflags: int, esp: int) -> bytes:
    """The stack on which `iret` finds a ring-3 state."""
    return struct.pack("<5I", eip, USER_CS, eflags, esp, USER_DS)
