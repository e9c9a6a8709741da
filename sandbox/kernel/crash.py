"""What a task was doing when a fault of its own killed it: gathered at death, shown by the command line."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from mmcore.physical.pgtable import TASK_SIZE, P
from sandbox.cpu.regs import EIP
from sandbox.kernel.signo import SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP, SigInfo
from sandbox.kernel.task import Task

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea

CODE_BYTES = 64


class AreaText(NamedTuple):
    """One area: addresses, "rwxp", and what is mapped."""

    start: int
    end: int
    perms: str
    name: str


class CrashInfo(NamedTuple):
    """`code` and `address` of siginfo, the 16 registers in the order of sandbox.cpu.regs, bytes from EIP (empty if
    unreadable)."""

    pid: int
    comm: str
    signal: int
    code: int
    address: int
    registers: list[int]
    code_bytes: bytes
    areas: list[AreaText]


def area_name(mm: Mm, vma: VmArea) -> str:
    """As /proc/PID/maps shows it."""
    if vma.vm_file is not None:
        return vma.vm_file.path
    if vma.vm_start <= mm.brk and vma.vm_end >= mm.start_brk and mm.start_brk:
        return "[heap]"
    if vma.vm_start <= mm.start_stack < vma.vm_end:
        return "[stack]"
    return ""


def crash_info(task: Task, info: SigInfo) -> CrashInfo | None:
    """The report for a fatal SIGSEGV, SIGBUS, SIGILL, SIGFPE or SIGTRAP of the task's own making; None for other
    signals."""
    if info.sig not in (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP) or info.code <= 0 or task.mm is None:
        return None
    mm = task.mm
    address = struct.unpack_from("<I", info.fields)[0] if len(info.fields) >= 4 else 0
    areas = [AreaText(vma.vm_start, vma.vm_end, vma.permissions(), area_name(mm, vma)) for vma in mm.vmas]
    return CrashInfo(
        task.pid, task.comm, info.sig, info.code, address, list(task.regs), _peek(task, task.regs[EIP]), areas
    )


def _peek(task: Task, address: int) -> bytes:
    """Code bytes that are in memory now; a crash report brings no page in and changes none."""
    tables, ram = task.mem.pgtables, task.mem.ram
    data = b""
    while len(data) < CODE_BYTES and address < TASK_SIZE:
        index = tables.pte_index(task.mm.pgd, address)
        pte = tables.ptes[index] if index >= 0 else 0
        if not pte & P:
            break
        n = min(CODE_BYTES - len(data), 4096 - (address & 0xFFF))
        data += ram.read((pte >> 12 & tables.PFN_MASK) << 12 | address & 0xFFF, n)
        address += n
    return data
