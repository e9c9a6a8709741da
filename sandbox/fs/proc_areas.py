"""/proc/PID/smaps, smaps_rollup, map_files and syscall: what an address space holds area by area, and the call a task
is in.

A page counts in full in Rss, by its share in Pss, and as shared or private by whether it is mapped more than once. Zero
pages and other reserved frames count nowhere. Linux: fs/proc/task_mmu.c and fs/proc/base.c, 6.x (smaps: 2.6.14;
syscall: 2.6.27; map_files: 3.3).
"""

from __future__ import annotations

from errno import ENOENT, EPERM
from typing import TYPE_CHECKING

from mmcore.areas.vma import (
    VM_ACCOUNT,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DONTEXPAND,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_IO,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_NONLINEAR,
    VM_NORESERVE,
    VM_READ,
    VM_SHARED,
    VM_WIPEONFORK,
    VM_WRITE,
)
from mmcore.errors import SysError
from mmcore.files.shmem import ShmemSpace
from mmcore.physical.frames import PG_ANON, PG_DIRTY, PG_REFERENCED
from mmcore.physical.pgtable import FILE, PRESENT, P
from sandbox.cpu.regs import EAX, EBP, EBX, ECX, EDI, EDX, EIP, ESI, ESP
from sandbox.fs.dentry import d_path
from sandbox.fs.file import file_of
from sandbox.fs.pseudofs import Dir, Link, PseudoNode
from sandbox.fs.uapi import FMODE_READ, FMODE_WRITE
from sandbox.kernel.sched import TASK_RUNNING

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.memory import Memory
    from mmcore.swap.cache import Swap
    from sandbox.fs.dentry import Dentry
    from sandbox.fs.file import File
    from sandbox.fs.vfs import Vfs
    from sandbox.kernel.task import Task

ACCESSED, DIRTY = 0x20, 0x40
_INO_BASE, _INO_ROOM = 0x6000, 0x2000
_PSS_SHIFT = 12  # shares of a page are kept to so many bits

# In the order of smaps, each with its place there; the kinds of Pss are shown in smaps_rollup only.
ROWS = (
    "Rss",
    "Pss",
    "Pss_Dirty",
    "Pss_Anon",
    "Pss_File",
    "Pss_Shmem",
    "Shared_Clean",
    "Shared_Dirty",
    "Private_Clean",
    "Private_Dirty",
    "Referenced",
    "Anonymous",
    "KSM",
    "LazyFree",
    "AnonHugePages",
    "ShmemPmdMapped",
    "FilePmdMapped",
    "Shared_Hugetlb",
    "Private_Hugetlb",
    "Swap",
    "SwapPss",
    "Locked",
)
_ROLLUP_ONLY = {"Pss_Anon", "Pss_File", "Pss_Shmem"}
_FLAGS = (
    (VM_READ, "rd"),
    (VM_WRITE, "wr"),
    (VM_EXEC, "ex"),
    (VM_SHARED, "sh"),
    (VM_MAYREAD, "mr"),
    (VM_MAYWRITE, "mw"),
    (VM_MAYEXEC, "me"),
    (VM_MAYSHARE, "ms"),
    (VM_GROWSDOWN, "gd"),
    (VM_LOCKED, "lo"),
    (VM_IO, "io"),
    (VM_DONTCOPY, "dc"),
    (VM_DONTEXPAND, "de"),
    (VM_LOCKONFAULT, "lf"),
    (VM_ACCOUNT, "ac"),
    (VM_NORESERVE, "nr"),
    (VM_WIPEONFORK, "wf"),
    (VM_DONTDUMP, "dd"),
    (VM_NONLINEAR, "nl"),
)


class Usage:
    """What the pages of some areas add up to, in bytes; shares in bytes << _PSS_SHIFT."""

    def __init__(self) -> None:
        self.bytes = dict.fromkeys(ROWS, 0)

    def add_area(self, mem: Memory, mm: Mm, vma: VmArea) -> None:
        tables = mem.pgtables
        locked = self.bytes["Pss"]
        for table, base in tables.tables(mm.pgd, vma.vm_start, vma.vm_end):
            page = table >> 12
            first, stop = max(vma.vm_start >> 12, page), min(vma.vm_end >> 12, page + tables.PTRS)
            for k in range(first, stop):
                pte = tables.ptes[base + k - page]
                if pte & PRESENT:
                    self._add_page(mem, pte)
                elif pte and not pte & FILE:
                    self._add_swapped(mem.swap, tables.pte_to_swp(pte))
        if isinstance(vma.mapping, ShmemSpace):
            self._add_swapped_file(mem, mm, vma, vma.mapping)
        if vma.vm_flags & VM_LOCKED:
            self.bytes["Locked"] += self.bytes["Pss"] - locked

    def _add_page(self, mem: Memory, pte: int) -> None:
        frames, found = mem.frames, self.bytes
        pfn = pte >> 12 & mem.pgtables.PFN_MASK
        if mem.is_reserved(pfn):
            return
        flags, mapped = frames.flags[pfn], max(frames.mapcount[pfn], 1)
        share = (4096 << _PSS_SHIFT) // mapped
        dirty = bool(pte & DIRTY or flags & PG_DIRTY)
        found["Rss"] += 4096
        found["Pss"] += share
        if dirty:
            found["Pss_Dirty"] += share
        found[f"{'Shared' if mapped > 1 else 'Private'}_{'Dirty' if dirty else 'Clean'}"] += 4096
        if pte & ACCESSED or flags & PG_REFERENCED:
            found["Referenced"] += 4096
        if flags & PG_ANON:
            found["Anonymous"] += 4096
            found["Pss_Anon"] += share
        else:
            mapping = mem.mappings.get(frames.mapping[pfn])
            found["Pss_Shmem" if mapping is not None and mapping.is_shmem else "Pss_File"] += share

    def _add_swapped(self, swap: Swap, entry: int) -> None:
        users = swap.map[entry] - (entry in swap.cache)
        self.bytes["Swap"] += 4096
        self.bytes["SwapPss"] += (4096 << _PSS_SHIFT) // max(users, 1)

    def _add_swapped_file(self, mem: Memory, mm: Mm, vma: VmArea, mapping: ShmemSpace) -> None:
        """Pages of a tmpfs file or shared memory are out for all who map them: as much swap for each area, and no share
        of it."""
        tables, first = mem.pgtables, vma.vm_pgoff
        for index in mapping.swapped:
            if first <= index < first + vma.pages:
                pte = tables.pte_index(mm.pgd, vma.vm_start + (index - first << 12))
                if pte < 0 or not tables.ptes[pte]:
                    self.bytes["Swap"] += 4096

    def text(self, rollup: bool) -> str:
        rows = []
        for name, amount in self.bytes.items():
            if not rollup and name in _ROLLUP_ONLY:
                continue
            shared = name.startswith("Pss") or name in ("SwapPss", "Locked")
            rows.append(f"{name + ':':<16}{(amount >> _PSS_SHIFT if shared else amount) >> 10:8d} kB\n")
        return "".join(rows)


def smaps(task: Task) -> str:
    from sandbox.fs.proc_task import area_line

    mm, out = task.mm, []
    for vma in mm.vmas if mm is not None else ():
        usage = Usage()
        usage.add_area(task.mem, mm, vma)
        flags = "".join(f"{letters} " for bit, letters in _FLAGS if vma.vm_flags & bit)
        out.append(
            f"{area_line(mm, vma)}\nSize:           {vma.vm_end - vma.vm_start >> 10:8d} kB\nKernelPageSize:        "
            f"4 kB\n"
            f"MMUPageSize:           4 kB\n{usage.text(False)}THPeligible:           0\nVmFlags: {flags}\n"
        )
    return "".join(out)


def smaps_rollup(task: Task) -> str:
    mm, usage = task.mm, Usage()
    if mm is None or not mm.vmas:
        raise SysError(ENOENT)
    for vma in mm.vmas:
        usage.add_area(task.mem, mm, vma)
    line = f"{mm.vmas[0].vm_start:08x}-{mm.vmas[-1].vm_end:08x} ---p 00000000 00:00 0 "
    return f"{line:<49}[rollup]\n{usage.text(True)}"


# the call a task is in
def syscall(task: Task) -> str:
    """Number, six arguments, stack pointer and program counter; -1 in place of number and arguments when it waits
    outside of a call."""
    if task.mm is None:
        return "0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n"
    regs, number, counter = task.regs, -1, task.regs[EIP]
    if task is task.kernel.current:
        number = regs[EAX]
    elif task.gen is not None:
        number = task.syscall_nr
    elif task.state == TASK_RUNNING:
        return "running\n"
    elif _at_int_80(task, counter):  # it waits for a page and makes its call again
        number, counter = regs[EAX], counter + 2
    where = f"{regs[ESP]:#x} {counter:#x}\n"
    if number < 0:
        return f"-1 {where}"
    return f"{number} {' '.join(f'{regs[which]:#x}' for which in (EBX, ECX, EDX, ESI, EDI, EBP))} {where}"


def _at_int_80(task: Task, address: int) -> bool:
    mem = task.mem
    code = b""
    for at in (address, address + 1):
        index = mem.pgtables.pte_index(task.mm.pgd, at)
        pte = mem.pgtables.ptes[index] if index >= 0 else 0
        if pte & P:
            code += mem.ram.read((pte >> 12 & mem.pgtables.PFN_MASK) << 12 | at & 0xFFF, 1)
    return code == b"\xcd\x80"


# map_files
class MapFilesDir(Dir):
    """A link per area that shows a file, named by its addresses. Only root may go through one."""

    __slots__ = ("vfs", "task")

    def __init__(self, vfs: Vfs, task: Task, ino: int) -> None:
        super().__init__({}, 0o500, ino)
        self.vfs = vfs
        self.task = task

    def _areas(self) -> dict[bytes, tuple[int, File]]:
        """Name -> (inode number, file)."""
        mm = self.task.mm
        files = [(vma, file) for vma in (mm.vmas if mm is not None else ()) if (file := file_of(vma)) is not None]
        first = self.task.pid << 16 | _INO_BASE
        return {
            b"%x-%x" % (vma.vm_start, vma.vm_end): (first + number % _INO_ROOM, file)
            for number, (vma, file) in enumerate(files)
        }

    def find(self, name: bytes) -> PseudoNode | None:
        found = self._areas().get(name)
        return self._link(name, *found) if found is not None else None

    def _link(self, name: bytes, ino: int, file: File) -> Link:

        def target() -> Dentry:
            found = self._areas().get(name)
            if found is None:
                raise SysError(ENOENT)
            return found[1].dentry

        def jump(reader: Task | None) -> Dentry:
            if reader is not None and reader.euid:
                raise SysError(EPERM)
            return target()

        link = Link(lambda reader: d_path(target(), reader.fs.root if reader is not None else None), jump, ino, 64)
        mode = file.f_mode
        link.mode = link.mode & ~0o777 | (0o400 if mode & FMODE_READ else 0) | (0o200 if mode & FMODE_WRITE else 0)
        return link

    def list(self) -> list[tuple[bytes, PseudoNode]]:
        return [(name, self._link(name, ino, vma)) for name, (ino, vma) in self._areas().items()]
