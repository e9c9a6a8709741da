"""execve: a new program in an old task.

    read headers (file, `#!` chain, ELF interpreter)       fails: an errno, nothing has changed
    new mm, its stack, strings copied onto it              fails: an errno, nothing has changed
    other threads die; the new mm is put on                from here on a failure kills the task
    segments mapped, bss cleared, brk set, auxv written, registers reset

The stack is built as a temporary area that ends at the highest user address and is moved to its final place by
shift_arg_pages (2.6.23 and later); without randomisation the two are the same. Linux: fs/exec.c, fs/binfmt_elf.c,
2.6.7, and 6.x for the order of auxv entries, the placement of ET_DYN and of brk.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from stat import S_ISREG
from typing import TYPE_CHECKING

from mmcore.areas.placement import arch_pick_mmap_layout
from mmcore.calls.brk import do_brk
from mmcore.calls.mmap import do_mmap, do_munmap
from mmcore.errors import SysError
from mmcore.paging.lifecycle import mm_alloc, mmput
from mmcore.physical.ram import PAGE_SIZE
from sandbox.cpu.regs import EIP, ESP
from sandbox.kernel.binfmt import (
    BINPRM_BUF_SIZE,
    ET_DYN,
    EXSTACK_DEFAULT,
    EXSTACK_ENABLE_X,
    PF_R,
    PF_W,
    PF_X,
    ElfImage,
    Segment,
    script_interpreter,
)
from sandbox.kernel.binprm import StackImage
from sandbox.kernel.exit import mm_release
from sandbox.kernel.sched import TASK_KILLABLE, TASK_ZOMBIE, WORK_RELOAD, Wait, waiting
from sandbox.kernel.signals import force_sig, kill_others
from sandbox.kernel.signo import SI_KERNEL, SIGCHLD, SIGKILL, SIGSEGV, SigInfo
from sandbox.kernel.task import PF_FORKNOEXEC, SigHand, Task
from sandbox.kernel.uaccess import write_mm

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory
    from sandbox.fs.fdtable import FileTable
    from sandbox.fs.file import File

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_PRIVATE, MAP_FIXED, MAP_FIXED_NOREPLACE = 0x02, 0x10, 0x100000
ELF_ET_DYN_BASE = 0x00400000  # where a position-independent program that names an interpreter goes
PT_INTERP_DEPTH = 5  # scripts naming scripts
READ_IMPLIES_EXEC = 0x0400000
EVENT_EXEC = 6 << 60
HWCAP = 0x0789F1FF  # CPUID.1:EDX of the emulated CPU without SEP


def page_align(addr: int) -> int:
    return (addr + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1)


def open_exec(task: Task, path: bytes) -> File:
    """The file to execute. Raises ENOENT, EACCES (no regular file, not executable), ETXTBSY (open for writing).

    Until close_exec nobody can open it for writing.
    """
    file = task.kernel.vfs.open(task, path, 0, 0)
    try:
        inode = file.inode
        if not S_ISREG(inode.mode) or not inode.mode & 0o111 or file.mapping is None:
            raise SysError(errno.EACCES)
        if not inode.deny_write():
            raise SysError(errno.ETXTBSY)
    except SysError:
        file.put()
        raise
    return file


def close_exec(file: File) -> None:
    """Gives back what open_exec gave: the file may be written again, unless an address space runs it."""
    file.inode.allow_write()
    file.put()


class ExeFile:
    """The program of an address space, shared by those forked from it: while one of them lives, the file is not written
    (ETXTBSY).

    An interpreter and libraries are protected only while exec reads them. Linux: set_mm_exe_file, kernel/fork.c,
    2.6.26.
    """

    __slots__ = ("file", "dentry", "count")

    def __init__(self, file: File) -> None:
        self.file = file.get()
        self.dentry = file.dentry
        self.count = 1
        file.inode.writers -= 1

    def get(self) -> ExeFile:
        self.count += 1
        return self

    def put(self) -> None:
        self.count -= 1
        if not self.count:
            close_exec(self.file)


class Executable:
    """What execve found out before it changed anything: files, headers, the final argv."""

    __slots__ = ("file", "image", "interp_file", "interp", "argv", "filename", "comm", "_scripts", "_path")

    def __init__(self, filename: bytes, file: File, argv: list[bytes]) -> None:
        self.argv = argv
        self.filename = filename
        self.file: File | None = file  # None: of a script, till its interpreter is open
        self.interp_file: File | None = None
        self.interp: ElfImage | None = None
        self.comm = filename.rsplit(b"/", 1)[-1][:15]
        self._scripts = 0  # whose interpreters were followed
        self._path = filename  # of `file`

    def read(self, task: Task) -> None:
        """Headers, along the chain of scripts. May raise MustWait; goes on where it was when repeated."""
        while True:
            if self.file is None:
                self.file = open_exec(task, self._path)
            header = self.file.pread(0, BINPRM_BUF_SIZE)
            script = script_interpreter(header)
            if script is None:
                break
            self._follow(*script)
            close_exec(self.file)
            self.file = None
        self.image = ElfImage(header, self.file)
        if self.image.interp is not None:
            if self.interp_file is None:
                self.interp_file = open_exec(task, self.image.interp)
            self.interp = ElfImage(self.interp_file.pread(0, BINPRM_BUF_SIZE), self.interp_file, interpreter=True)

    def _follow(self, interpreter: bytes, argument: bytes | None) -> None:
        """The script's interpreter is to take its place. Raises ELOOP."""
        self._scripts += 1
        if self._scripts > PT_INTERP_DEPTH:
            raise SysError(errno.ELOOP)
        self.argv = [interpreter, *([argument] if argument else []), self._path, *self.argv[1:]]
        self._path = interpreter

    def put(self) -> None:
        for file in (self.file, self.interp_file):
            if file is not None:
                close_exec(file)
        self.file = self.interp_file = None


def do_execve(
    task: Task, filename: bytes, file: File, argv: list[bytes], envp: list[bytes]
) -> Generator[Wait, bool, int]:
    """The system call once its arguments are in the kernel; `file` (from open_exec) is the callee's to close. Returns
    0 in the new program, or raises SysError in the old one."""
    kernel = task.kernel
    program = Executable(filename, file, argv)
    mm = None
    try:
        yield from waiting(lambda: program.read(task))
        mm = mm_alloc(task.mem)
        stack = StackImage(task, mm, program, envp)
        yield from de_thread(task)
    except BaseException:
        program.put()
        if mm is not None:
            mmput(task.mem, mm)
        raise
    try:
        _flush_old_exec(task, mm, program)
        kernel.log(EVENT_EXEC | task.pid)
        entry = yield from _load(task, mm, program, stack)
    except SysError as error:
        kernel.note(f"{task.comm}[{task.pid}]: cannot start {program.filename.decode(errors='replace')}: {error}")
        force_sig(task, SigInfo(SIGKILL if error.errno == errno.ENOMEM else SIGSEGV, SI_KERNEL))
        return 0
    finally:
        program.put()
    regs = task.regs
    regs[EIP], regs[ESP] = entry, stack.sp
    return 0


def de_thread(task: Task) -> Generator[Wait, bool, None]:
    """Every other thread of the process dies; the caller becomes its leader and takes the leader's pid. Linux:
    de_thread, 2.6.7."""
    signal = task.signal
    if len(signal.threads) > 1:
        if signal.group_exit or signal.group_exec is not None:
            raise SysError(errno.EAGAIN)
        signal.group_exec = task
        kill_others(signal, task)
        try:
            while any(thread is not task and thread.state < TASK_ZOMBIE for thread in signal.threads):
                yield Wait((signal.exec_wait,), None, TASK_KILLABLE)
        finally:
            signal.group_exec = None
        if signal.leader is not task:
            task.kernel.change_leader(task)
    if task.sighand.users > 1:
        old = task.sighand
        new = SigHand(task.kernel.objects.sighand.alloc(), old.action)
        old.users -= 1
        task.sighand = new


def _flush_old_exec(task: Task, mm: Mm, program: Executable) -> None:
    """Point of no return: the old address space goes, and with it what belonged to the old program. Linux:
    flush_old_exec."""
    kernel, mem = task.kernel, task.mem
    mm_release(task)
    old = task.mm
    if old is not None and old.mm_users == 1 and kernel.mm_ended is not None:
        kernel.mm_ended(task, old, "exec")
    task.mm = mm
    task.work |= WORK_RELOAD
    if old is not None:
        mmput(mem, old)
    assert program.file is not None  # Executable.read has opened it
    mm.exe_file = ExeFile(program.file)
    arch_pick_mmap_layout(mem, mm)
    image = program.image
    task.personality &= ~READ_IMPLIES_EXEC
    if image.stack == EXSTACK_DEFAULT:
        task.personality |= READ_IMPLIES_EXEC
        mm.read_implies_exec = True
    task.comm = program.comm.decode("utf-8", "surrogateescape")
    task.flags &= ~PF_FORKNOEXEC
    task.signal.did_exec = True
    task.sighand.flush()
    task.sas_ss_sp = task.sas_ss_size = 0
    task.sas_ss_flags = 2
    task.robust_list = task.clear_child_tid = task.set_child_tid = 0
    task.restart_block = None
    task.pdeath_signal = 0
    task.exit_signal = SIGCHLD
    kernel.timers.forget_posix(task.signal)
    task.files = _unshare_files(task)
    task.files.close_on_exec(task)
    task.tls = (0, 0, 0)
    kernel.load_tls(task)
    task.ctx.reset()


def _unshare_files(task: Task) -> FileTable:
    """A table shared with other processes is copied first, so that close-on-exec is nobody else's business."""
    files = task.files
    if files.users == 1:
        return files
    addr = task.kernel.objects.files.alloc()
    copy = files.copy()
    files.put(task)
    task.files_addr = addr
    return copy


def _load(task: Task, mm: Mm, program: Executable, stack: StackImage) -> Generator[Wait, bool, int]:
    """Maps the program and its interpreter; returns the first instruction's address."""
    image = program.image
    assert program.file is not None
    image.check()
    stack.settle(EXSTACK_ENABLE_X if image.stack == EXSTACK_DEFAULT else image.stack)
    low, bias = yield from _map_image(
        task, mm, image, program.file, ELF_ET_DYN_BASE if program.interp is not None else 0
    )
    entry = image.entry + bias
    ends = [(segment, segment.vaddr + bias) for segment in image.segments]
    code = [(start, start + s.filesz) for s, start in ends if s.flags & PF_X] or [(low, low)]
    mm.start_code, mm.end_code = min(start for start, _ in code), max(end for _, end in code)
    if ends:
        mm.start_data = max(start for _, start in ends)
        mm.end_data = max(start + s.filesz for s, start in ends)
        mm.start_brk = mm.brk = page_align(max(start + s.memsz for s, start in ends))
    interp_base = 0
    if program.interp is not None and program.interp_file is not None:
        program.interp.check()
        _, interp_bias = yield from _map_image(task, mm, program.interp, program.interp_file, 0)
        interp_base = interp_bias
        start = program.interp.entry + interp_bias
    else:
        start = entry
    phdr = image.phdr_vaddr + bias if image.phdr_vaddr else low + image.phoff
    yield from waiting(lambda: stack.create_tables(phdr, image.phnum, interp_base, entry, HWCAP))
    return start


def _prot(segment: Segment, task: Task) -> int:
    prot = (
        (PROT_READ if segment.flags & PF_R else 0)
        | (PROT_WRITE if segment.flags & PF_W else 0)
        | (PROT_EXEC if segment.flags & PF_X else 0)
    )
    if prot & PROT_READ and task.personality & READ_IMPLIES_EXEC:
        prot |= PROT_EXEC
    return prot


def _map_image(task: Task, mm: Mm, image: ElfImage, file: File, base: int) -> Generator[Wait, bool, tuple[int, int]]:
    """Maps every segment of an image. Returns (address of the first, load bias). Linux: elf_map, elf_load."""
    mem = task.mem
    bias = 0
    first = 0
    for number, segment in enumerate(image.segments):
        at = (segment.vaddr + bias) & ~(PAGE_SIZE - 1)
        flags = MAP_PRIVATE | MAP_FIXED
        if number == 0:
            if image.type == ET_DYN:
                at = _map_first(task, mm, image, file, base)
                first = at
                bias = at - (segment.vaddr & ~(PAGE_SIZE - 1))
            else:
                first = at
                flags |= MAP_FIXED_NOREPLACE
        if not (number == 0 and image.type == ET_DYN):
            _map_segment(mem, mm, segment, at, _prot(segment, task), flags, file)
        yield from _clear_bss(task, mm, segment, bias)
    return first, bias


def _map_segment(mem: Memory, mm: Mm, segment: Segment, at: int, prot: int, flags: int, file: File) -> None:
    skew = segment.vaddr & (PAGE_SIZE - 1)
    size = page_align(segment.filesz + skew)
    if segment.filesz:
        if (segment.offset - skew) & (PAGE_SIZE - 1):
            raise SysError(errno.EINVAL)
        do_mmap(mem, mm, at, size, prot, flags, file, segment.offset - skew >> 12)


def _map_first(task: Task, mm: Mm, image: ElfImage, file: File, base: int) -> int:
    """Reserves room for a position-independent image by mapping its first segment over the whole span; returns where it
    went."""
    mem = task.mem
    segment = image.segments[0]
    skew = segment.vaddr & (PAGE_SIZE - 1)
    total = page_align(image.span())
    at = (base + segment.vaddr) & ~(PAGE_SIZE - 1) if base else 0
    flags = MAP_PRIVATE | (MAP_FIXED_NOREPLACE | MAP_FIXED if base else 0)
    at = do_mmap(mem, mm, at, total, _prot(segment, task), flags, file, segment.offset - skew >> 12)
    size = page_align(segment.filesz + skew)
    if total > size:
        do_munmap(mem, mm, at + size, total - size)
    return at


def _clear_bss(task: Task, mm: Mm, segment: Segment, bias: int) -> Generator[Wait, bool, None]:
    """What a segment has in memory beyond the file: the rest of the last page is zeroed, whole pages are anonymous."""
    if segment.memsz <= segment.filesz:
        return
    start = segment.vaddr + bias + segment.filesz
    end = segment.vaddr + bias + segment.memsz
    if segment.filesz and start & (PAGE_SIZE - 1) and segment.flags & PF_W:
        rest = bytes(PAGE_SIZE - (start & (PAGE_SIZE - 1)))
        yield from waiting(lambda: write_mm(task.mem, mm, start, rest))
    first, last = page_align(start) if segment.filesz else start & ~(PAGE_SIZE - 1), page_align(end)
    if last > first:
        do_brk(task.mem, mm, first, last - first, bool(_prot(segment, task) & PROT_EXEC))
