"""The kernel's door to guest memory: user addresses go through the task's page tables and fault as the guest's own
accesses would.

Each function raises SysError(EFAULT) for a bad pointer, and MustWait when a page is on its way from disk: the system
call is then run again from its start once the page is there, and keeps what it waited for till it ends. A call that
changes state before it writes its results pins its output first (`pin_user`), so that the write cannot wait.
Linux: include/asm-i386/uaccess.h, 2.6.7; kernel writes set A and D as stores do.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from mmcore.physical.frames import PG_CODE
from mmcore.physical.pgtable import TASK_SIZE, A, D, P, U, W
from mmcore.physical.ram import PAGE_SIZE
from sandbox.kernel.sched import WORK_PINS

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory
    from sandbox.kernel.task import Task

_READABLE = P | U
_READ_BEFORE = P | U | A  # nothing to do but read
_WRITABLE = P | U | W
_WRITTEN = A | D
PFN_MASK = 0x000F_FFFF_FFFF_F000


def access_ok(addr: int, n: int) -> bool:
    return addr + n <= TASK_SIZE


def _read_page(mem: Memory, mm: Mm, addr: int) -> int:
    """Physical address of the readable byte `addr`."""
    tables = mem.pgtables
    index = tables.pte_index(mm.pgd, addr)
    if index >= 0:
        pte = tables.ptes[index]
        if pte & _READABLE == _READABLE:
            if not pte & A:
                tables.ptes[index] = pte | A
            return pte & PFN_MASK | addr & 0xFFF
    return mem.faults.fault_in(mm, addr, False) << 12 | addr & 0xFFF


def _write_page(mem: Memory, mm: Mm, addr: int) -> int:
    """Physical address of the writable byte `addr`; copies on write, marks dirty, drops translations of code."""
    tables = mem.pgtables
    index = tables.pte_index(mm.pgd, addr)
    if index >= 0:
        pte = tables.ptes[index]
        if pte & _WRITABLE == _WRITABLE:
            if pte & _WRITTEN != _WRITTEN:
                tables.ptes[index] = pte | _WRITTEN
            paddr = pte & PFN_MASK
            if mem.frames.flags[paddr >> 12] & PG_CODE:
                mem.code_changed(paddr >> 12)
            return paddr | addr & 0xFFF
    pfn = mem.faults.fault_in(mm, addr, True)
    if mem.frames.flags[pfn] & PG_CODE:
        mem.code_changed(pfn)
    return pfn << 12 | addr & 0xFFF


def copy_from_user(task: Task, addr: int, n: int) -> bytes:
    return read_mm(task.mem, task.mm, addr, n)


def copy_to_user(task: Task, addr: int, data: bytes | bytearray | memoryview) -> None:
    write_mm(task.mem, task.mm, addr, data)


def read_mm(mem: Memory, mm: Mm, addr: int, n: int) -> bytes:
    """`n` bytes at user address `addr` of any mm."""
    if addr + n > TASK_SIZE:
        raise SysError(errno.EFAULT)
    if (addr & 0xFFF) + n <= PAGE_SIZE:
        if not n:
            return b""
        tables = mem.pgtables
        index = tables.pte_index(mm.pgd, addr)
        pte = tables.ptes[index] if index >= 0 else 0
        if pte & _READ_BEFORE == _READ_BEFORE:
            paddr = pte & PFN_MASK | addr & 0xFFF
        else:
            paddr = _read_page(mem, mm, addr)
        return mem.ram.buf[paddr : paddr + n]
    parts = []
    while n:
        part = min(n, PAGE_SIZE - (addr & 0xFFF))
        paddr = _read_page(mem, mm, addr)
        parts.append(mem.ram.buf[paddr : paddr + part])
        addr += part
        n -= part
    return b"".join(parts)


def write_mm(mem: Memory, mm: Mm, addr: int, data: bytes | bytearray | memoryview) -> None:
    """Writes `data` at user address `addr` of any mm."""
    n = len(data)
    if addr + n > TASK_SIZE:
        raise SysError(errno.EFAULT)
    room = PAGE_SIZE - (addr & 0xFFF)
    if n <= room:
        if n:
            paddr = _write_page(mem, mm, addr)
            mem.ram.buf[paddr : paddr + n] = data
        return
    view = memoryview(data)
    at = 0
    while at < n:
        part = min(n - at, room)
        paddr = _write_page(mem, mm, addr + at)
        mem.ram.buf[paddr : paddr + part] = view[at : at + part]
        at += part
        room = PAGE_SIZE


def clear_user(task: Task, addr: int, n: int) -> None:
    """Zeroes `n` bytes."""
    while n:
        part = min(n, PAGE_SIZE - (addr & 0xFFF))
        write_mm(task.mem, task.mm, addr, bytes(part))
        addr += part
        n -= part


def get_user32(task: Task, addr: int) -> int:
    if addr & 3 or addr >= TASK_SIZE:
        return int.from_bytes(read_mm(task.mem, task.mm, addr, 4), "little")
    mem = task.mem
    return mem.ram.u32[_read_page(mem, task.mm, addr) >> 2]


def put_user32(task: Task, addr: int, value: int) -> None:
    if addr & 3 or addr >= TASK_SIZE:
        write_mm(task.mem, task.mm, addr, (value & 0xFFFFFFFF).to_bytes(4, "little"))
        return
    mem = task.mem
    mem.ram.u32[_write_page(mem, task.mm, addr) >> 2] = value & 0xFFFFFFFF


def put_user64(task: Task, addr: int, value: int) -> None:
    write_mm(task.mem, task.mm, addr, struct.pack("<Q", value & 0xFFFF_FFFF_FFFF_FFFF))


def strncpy_from_user(task: Task, addr: int, limit: int = 4096) -> bytes:
    """The string at `addr` without its NUL. ENAMETOOLONG when no NUL stands within `limit` bytes; an empty string
    is the caller's to judge."""
    mem, mm = task.mem, task.mm
    parts = []
    left = limit
    while left > 0:
        if addr >= TASK_SIZE:
            raise SysError(errno.EFAULT)
        part = min(left, PAGE_SIZE - (addr & 0xFFF))
        paddr = _read_page(mem, mm, addr)
        end = mem.ram.buf.find(b"\0", paddr, paddr + part)
        if end >= 0:
            parts.append(mem.ram.buf[paddr:end])
            return b"".join(parts) if len(parts) > 1 else parts[0]
        parts.append(mem.ram.buf[paddr : paddr + part])
        addr += part
        left -= part
    raise SysError(errno.ENAMETOOLONG)


def prefault(task: Task, addr: int, n: int, write: bool) -> None:
    """Makes the range present (and writable) now, without pinning: enough where nothing is allocated before it is
    used."""
    if addr + n > TASK_SIZE:
        raise SysError(errno.EFAULT)
    reach = _write_page if write else _read_page
    end = addr + n
    while addr < end:
        reach(task.mem, task.mm, addr)
        addr = (addr | 0xFFF) + 1


def prepare_result(task: Task, addr: int, n: int) -> None:
    """Before a call whose deed stands even where its result cannot be written: waits now for what is under way, and
    leaves EFAULT to the writing afterwards."""
    try:
        prefault(task, addr, n, True)
    except SysError as error:
        if error.errno != errno.EFAULT:
            raise


def pin_user(task: Task, addr: int, n: int, write: bool) -> None:
    """Faults the range in and pins its pages till the system call ends. Raises EFAULT or MustWait (before side
    effects)."""
    if addr + n > TASK_SIZE:
        raise SysError(errno.EFAULT)
    mem, mm = task.mem, task.mm
    end = addr + n
    while addr < end:
        pfn = mem.faults.get_user_page(mm, addr, write)
        if not mem.is_reserved(pfn):
            task.pins.append(pfn)
            task.work |= WORK_PINS
        addr = (addr | 0xFFF) + 1


def unpin(task: Task) -> None:
    """Gives back every page pinned for the call that ends."""
    task.work &= ~WORK_PINS
    put_page = task.mem.pages.put_page
    for pfn in task.pins:
        put_page(pfn)
    task.pins.clear()
