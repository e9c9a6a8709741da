"""The core file of a process that a signal kills: an ELF file of its registers and of the memory that is its own.

    wanted?   the signal dumps, RLIMIT_CORE allows a page at least, the process may be looked at (dumpable),
              core_pattern gives a name
    where     core_pattern, from the dying process's working directory; a new file that replaces an old one
    what      private areas that were written, shared memory without a name, the first page of mapped ELF files
              (Linux's default coredump_filter, 0x33)

Memory is read where it lies, in RAM, on swap or in files: a dump brings no page in. Linux: fs/exec.c (do_coredump),
fs/binfmt_elf.c (elf_core_dump), 6.x.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from stat import S_IMODE, S_ISREG
from typing import TYPE_CHECKING

from mmcore.areas.vma import VM_DONTDUMP, VM_EXEC, VM_IO, VM_READ, VM_SHARED, VM_WRITE
from mmcore.errors import SysError
from mmcore.files.filespace import FileSpace
from mmcore.files.shmem import ShmemSpace
from mmcore.physical.frames import PG_ANON
from mmcore.physical.pgtable import FILE, PRESENT
from mmcore.physical.ram import PAGE_SIZE
from sandbox.cpu.regs import CS, DS, EAX, EBP, EBX, ECX, EDI, EDX, EFLAGS, EIP, ES, ESI, ESP, FS, GS, SS
from sandbox.fs.at import CWD
from sandbox.fs.dentry import d_path
from sandbox.fs.file import file_of, program_of
from sandbox.fs.uapi import O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY
from sandbox.kernel.exit import do_exit
from sandbox.kernel.rlimits import RLIMIT_CORE, RLIMIT_FSIZE
from sandbox.kernel.sched import Wait, state_letter, waiting
from sandbox.kernel.signo import (
    SIGABRT,
    SIGBUS,
    SIGFPE,
    SIGILL,
    SIGQUIT,
    SIGSEGV,
    SIGSYS,
    SIGTRAP,
    SIGXCPU,
    SIGXFSZ,
    SigInfo,
    sigset,
)
from sandbox.kernel.task import Task
from sandbox.syscalls.names import do_unlinkat

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.memory import Memory
    from sandbox.fs.file import File

DUMPING = sigset(SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGXCPU, SIGXFSZ, SIGSYS)
CORE_FLAG = 0x80  # of a wait status
CORENAME_MAX = 128
ET_CORE, EM_386, PT_LOAD, PT_NOTE = 4, 3, 1, 4
NT_PRSTATUS, NT_PRPSINFO, NT_AUXV, NT_SIGINFO, NT_FILE, NT_PRXFPREG = 1, 3, 6, 0x53494749, 0x46494C45, 0x46E62B7F
_USER_REGS = (EBX, ECX, EDX, ESI, EDI, EBP, EAX, DS, ES, FS, GS)


def do_coredump(task: Task, info: SigInfo) -> Generator[Wait, bool, bool]:
    """Writes the core of the dying `task`'s process, if one is wanted. Answers whether there is one (perhaps cut at
    RLIMIT_CORE)."""
    limit = min(task.rlimits[RLIMIT_CORE][0], task.rlimits[RLIMIT_FSIZE][0])
    if not 1 << info.sig - 1 & DUMPING or limit < PAGE_SIZE or task.mm is None or task.mm.dumpable != 1:
        return False
    name = core_name(task, info.sig)
    if not name:
        return False
    try:
        file = yield from waiting(lambda: _create(task, name))
    except SysError:
        return False
    inode = file.inode
    try:
        if (
            not S_ISREG(inode.mode)
            or inode.nlink != 1
            or inode.uid != task.fsuid
            or S_IMODE(inode.mode) & 0o677 != 0o600
        ):
            return False
        for pos, data in _pieces(task, info):
            data = data[: max(0, limit - pos)]
            if not data:
                break
            yield from _write(task, file, pos, data)
    except SysError:
        pass  # a disk that is full cuts the core
    finally:
        file.put()
    return True


def _create(task: Task, name: bytes) -> File:
    """A new file in place of an old core or whatever else can be unlinked there."""
    with suppress(SysError):
        do_unlinkat(task, CWD, name)
    return task.kernel.vfs.open(task, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, 0o600)


def killed(task: Task, code: int, info: SigInfo) -> Generator[Wait, bool, int]:
    """The end of a task by a signal: its process's core is written first, and the wait status says so."""
    signal = task.signal
    if code == info.sig and (yield from do_coredump(task, info)):
        signal.exit_code |= CORE_FLAG
        code |= CORE_FLAG
    return (yield from do_exit(task, code))


def _write(task: Task, file: File, pos: int, data: bytes) -> Generator[Wait, bool, None]:
    while data:
        taken = yield from waiting(lambda pos=pos, data=data: file.pwrite(pos, data))  # type: ignore[misc]
        task.mem.awaited.let_go(task)
        pos, data = pos + taken, data[taken:]


def core_name(task: Task, sig: int) -> bytes:
    """core_pattern with its % words filled in; empty: no core. Linux: format_corename."""
    kernel = task.kernel
    vfs = kernel.vfs
    comm = task.comm.encode("utf-8", "surrogateescape").replace(b"/", b"!")
    program = program_of(task.mm)
    exe = d_path(program.dentry, task.fs.root).replace(b"/", b"!") if program is not None else comm
    pid = b"%d" % task.tgid
    words = {
        b"%": b"%",
        b"p": pid,
        b"P": pid,
        b"i": b"%d" % task.pid,
        b"I": b"%d" % task.pid,
        b"u": b"%d" % task.uid,
        b"g": b"%d" % task.gid,
        b"d": b"%d" % task.mm.dumpable,
        b"s": b"%d" % sig,
        b"t": b"%d" % (kernel.timers.realtime() // 1_000_000_000),
        b"h": kernel.hostname,
        b"e": comm,
        b"f": comm,
        b"E": exe,
        b"c": b"%d" % min(task.rlimits[RLIMIT_CORE][0], (1 << 64) - 1),
    }
    pattern = vfs.core_pattern
    first, *rest = pattern.split(b"%")
    name, escaped = first, False
    for part in rest:
        if escaped:  # behind a %%
            name, escaped = name + part, False
        elif not part:
            name, escaped = name + b"%", True
        else:
            name += words.get(part[:1], b"") + part[1:]
    if vfs.core_uses_pid and b"%p" not in pattern:
        name += b"." + pid
    return name if len(name) < CORENAME_MAX else b""


# what is in the file
def _pieces(task: Task, info: SigInfo) -> Iterator[tuple[int, bytes]]:
    """(place, bytes) in ascending order; what lies between is holes. Memory is read as it is asked for."""
    mem, mm = task.mem, task.mm
    areas = [(vma, _size(mem, vma)) for vma in mm.vmas]
    notes = _notes(task, info)
    count = len(areas) + 1
    notes_at = 52 + 32 * count
    at = notes_at + len(notes) + PAGE_SIZE - 1 & ~(PAGE_SIZE - 1)
    head = struct.pack(
        "<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", ET_CORE, EM_386, 1, 0, 52, 0, 0, 52, 32, count, 0, 0, 0
    )
    head += struct.pack("<8I", PT_NOTE, notes_at, 0, 0, len(notes), 0, 0, 4)
    places = []
    for vma, size in areas:
        flags = (
            (4 if vma.vm_flags & VM_READ else 0)
            | (2 if vma.vm_flags & VM_WRITE else 0)
            | (1 if vma.vm_flags & VM_EXEC else 0)
        )
        head += struct.pack("<8I", PT_LOAD, at, vma.vm_start, 0, size, vma.vm_end - vma.vm_start, flags, PAGE_SIZE)
        places.append(at)
        at += size
    yield 0, head + notes
    for (vma, size), place in zip(areas, places, strict=True):
        for offset in range(0, size, PAGE_SIZE):
            data = _page(mem, vma, vma.vm_start + offset)
            if data:
                yield place + offset, data
    if not areas or not areas[-1][1]:
        return
    end = places[-1] + areas[-1][1]
    yield (
        end - 1,
        (_page(mem, areas[-1][0], areas[-1][0].vm_end - PAGE_SIZE) or bytes(1))[-1:],
    )  # the file is as long as its headers say


def _size(mem: Memory, vma: VmArea) -> int:
    """How much of an area is dumped, in bytes. Linux: vma_dump_size."""
    whole = vma.vm_end - vma.vm_start
    file = file_of(vma)
    if vma.vm_flags & (VM_DONTDUMP | VM_IO):
        return 0
    if vma.vm_flags & VM_SHARED:
        return whole if file is None or not file.inode.nlink else 0
    if _was_written(mem, vma):
        return whole
    if (
        file is not None
        and not vma.vm_pgoff
        and vma.vm_flags & VM_READ
        and (_page(mem, vma, vma.vm_start) or b"")[:4] == b"\x7fELF"
    ):
        return PAGE_SIZE
    return 0


def _entries(mem: Memory, vma: VmArea) -> Iterator[int]:
    tables = mem.pgtables
    for start, base in tables.tables(vma.vm_mm.pgd, vma.vm_start, vma.vm_end):
        low, high = max(vma.vm_start, start) - start >> 12, min(vma.vm_end, start + (1 << tables.SHIFT)) - start >> 12
        yield from (pte for pte in tables.ptes[base + low : base + high] if pte)


def _was_written(mem: Memory, vma: VmArea) -> bool:
    """Has a private area pages of its own?"""
    flags, mask = mem.frames.flags, mem.pgtables.PFN_MASK
    return any(not pte & FILE if not pte & PRESENT else flags[pte >> 12 & mask] & PG_ANON for pte in _entries(mem, vma))


def _page(mem: Memory, vma: VmArea, address: int) -> bytes:
    """The page an address shows, wherever it is; empty for a hole."""
    tables = mem.pgtables
    index = tables.pte_index(vma.vm_mm.pgd, address)
    pte = tables.ptes[index] if index >= 0 else 0
    mapping, offset = vma.mapping, (address - vma.vm_start >> 12) + vma.vm_pgoff
    if pte & PRESENT:
        pfn = pte >> 12 & tables.PFN_MASK
        return b"" if pfn == mem.zero_pfn else _frame(mem, pfn)
    if pte and not pte & FILE:
        return _swapped(mem, tables.pte_to_swp(pte))
    if mapping is None:
        return b""
    if pte & FILE:
        offset = tables.pte_to_pgoff(pte)
    if offset << 12 >= mapping.host.i_size:
        return b""
    pfn = mapping.pages.get(offset, -1)
    if pfn >= 0:
        return _frame(mem, pfn)
    if isinstance(mapping, ShmemSpace):
        entry = mapping.swapped.get(offset, 0)
        return _swapped(mem, entry) if entry else b""
    assert isinstance(mapping, FileSpace)
    try:
        return mapping.backing.read_page(offset).ljust(PAGE_SIZE, b"\0")
    except SysError:
        return b""


def _frame(mem: Memory, pfn: int) -> bytes:
    return bytes(mem.ram.buf[pfn << 12 : (pfn + 1) << 12])


def _swapped(mem: Memory, entry: int) -> bytes:
    pfn = mem.swap.cache.get(entry, -1)
    return _frame(mem, pfn) if pfn >= 0 else mem.swap.store.page(entry)


# notes
def _note(kind: int, data: bytes, name: bytes = b"CORE\0") -> bytes:
    return (
        struct.pack("<3I", len(name), len(data), kind)
        + name.ljust(len(name) + 3 & ~3, b"\0")
        + data.ljust(len(data) + 3 & ~3, b"\0")
    )


def _notes(task: Task, info: SigInfo) -> bytes:
    """The dying thread first, as debuggers expect, then the others."""
    parts: list[Callable[[], bytes]] = [
        lambda: _note(NT_PRPSINFO, _prpsinfo(task)),
        lambda: _note(NT_SIGINFO, info.pack()),
        lambda: _note(NT_AUXV, task.mm.saved_auxv),
        lambda: _note(NT_FILE, _files(task.mm)),
    ]
    others = [thread for thread in task.signal.threads if thread is not task and thread.mm is task.mm]
    text = _note(NT_PRSTATUS, _prstatus(task, info.sig)) + b"".join(part() for part in parts)
    text += _note(NT_PRXFPREG, task.ctx.fpu_state(), b"LINUX\0")
    for thread in others:
        text += _note(NT_PRSTATUS, _prstatus(thread, info.sig)) + _note(NT_PRXFPREG, thread.ctx.fpu_state(), b"LINUX\0")
    return text


def _timeval(ns: int) -> tuple[int, int]:
    return ns // 1_000_000_000 & 0xFFFFFFFF, ns % 1_000_000_000 // 1000


def _prstatus(task: Task, sig: int) -> bytes:
    """struct elf_prstatus of i386, 144 bytes."""
    signal, regs = task.signal, task.regs
    nr = task.syscall_nr if task.gen is not None else -1
    return struct.pack(
        "<3ihxx2I4i8I",
        sig,
        0,
        0,
        sig,
        task.pending.set & 0xFFFFFFFF,
        task.blocked & 0xFFFFFFFF,
        task.pid,
        task.ppid,
        signal.pgrp,
        signal.session,
        *_timeval(task.utime_ns),
        *_timeval(task.stime_ns),
        *_timeval(signal.cutime_ns),
        *_timeval(signal.cstime_ns),
    ) + struct.pack(
        "<17Ii",
        *(regs[which] for which in _USER_REGS),
        nr & 0xFFFFFFFF,
        regs[EIP],
        regs[CS],
        regs[EFLAGS],
        regs[ESP],
        regs[SS],
        1,
    )


def _prpsinfo(task: Task) -> bytes:
    """struct elf_prpsinfo of i386, 124 bytes."""
    letter = state_letter(task.state)
    words = _arguments(task.mem, task.mm)[:79].rstrip(b"\0").replace(b"\0", b" ")
    comm = task.comm.encode("utf-8", "surrogateescape")[:15]
    return struct.pack(
        "<bcbbIHH4i16s80s",
        "RSDTZX".find(letter),
        letter.encode(),
        letter == "Z",
        task.nice,
        task.flags,
        task.uid & 0xFFFF,
        task.gid & 0xFFFF,
        task.pid,
        task.ppid,
        task.signal.pgrp,
        task.signal.session,
        comm,
        words,
    )


def _arguments(mem: Memory, mm: Mm) -> bytes:
    """The first page's worth of the argument strings."""
    for vma in mm.vmas:
        if vma.vm_start <= mm.arg_start < vma.vm_end:
            page = _page(mem, vma, mm.arg_start & ~(PAGE_SIZE - 1)) or bytes(PAGE_SIZE)
            return page[mm.arg_start & PAGE_SIZE - 1 :][: mm.arg_end - mm.arg_start]
    return b""


def _files(mm: Mm) -> bytes:
    """NT_FILE: the areas that show files, then their names."""
    shown = [(vma, file.path) for vma in mm.vmas if (file := file_of(vma)) is not None]
    places = b"".join(struct.pack("<3I", vma.vm_start, vma.vm_end, vma.vm_pgoff) for vma, _ in shown)
    return (
        struct.pack("<2I", len(shown), PAGE_SIZE)
        + places
        + b"".join(path.encode("utf-8", "surrogateescape") + b"\0" for _, path in shown)
    )
