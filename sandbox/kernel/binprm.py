"""The first stack of a program: strings while it is temporary, then argc, argv, envp and auxv at its final place.

 top   4 zero bytes                                     <- written while the old program still runs
       file name (AT_EXECFN)
       environment strings, argument strings
       ---- 16-byte boundary
       "i686" (AT_PLATFORM), 16 random bytes (AT_RANDOM) <- written by create_tables
       auxv, envp[], argv[], argc                        <- esp, 16-byte aligned

Linux: fs/exec.c (setup_arg_pages), fs/binfmt_elf.c (create_elf_tables), 2.6.23 and later.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from mmcore.areas.stack import expand_stack
from mmcore.calls.exec_stack import bprm_stack, setup_arg_pages
from mmcore.errors import SysError
from mmcore.physical.pgtable import TASK_SIZE
from mmcore.physical.ram import PAGE_SIZE
from sandbox.kernel.binfmt import EXSTACK_ENABLE_X
from sandbox.kernel.rlimits import RLIMIT_STACK
from sandbox.kernel.task import Task
from sandbox.kernel.uaccess import write_mm

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from sandbox.kernel.exec import Executable

STACK_TOP = TASK_SIZE
MAX_ARG_STRLEN = 32 * PAGE_SIZE
MAX_STACK_SHIFT = 2048  # pages of randomisation with a seed: 8 MB

(
    AT_NULL,
    _,
    _,
    AT_PHDR,
    AT_PHENT,
    AT_PHNUM,
    AT_PAGESZ,
    AT_BASE,
    AT_FLAGS,
    AT_ENTRY,
    _,
    AT_UID,
    AT_EUID,
    AT_GID,
    AT_EGID,
    AT_PLATFORM,
    AT_HWCAP,
    AT_CLKTCK,
) = range(18)
AT_SECURE, AT_RANDOM, AT_HWCAP2, AT_EXECFN = 23, 25, 26, 31


class StackImage:
    """Builds the stack in `mm`, which no task runs in yet. `sp` is the stack pointer reached so far."""

    def __init__(self, task: Task, mm: Mm, program: Executable, envp: list[bytes]) -> None:
        """Copies file name, environment and arguments. Raises E2BIG, ENOMEM, or MustWait."""
        self.task = task
        self.mm = mm
        mem = self.mem = task.mem
        argv = program.argv
        strings = (program.filename, *envp, *argv)
        if any(len(string) >= MAX_ARG_STRLEN for string in strings):
            raise SysError(errno.E2BIG)
        total = sum(len(string) + 1 for string in strings) + 4 * (len(argv) + len(envp))
        if total > max(min(task.rlimits[RLIMIT_STACK][0] // 4, 6 << 20), 32 * PAGE_SIZE):
            raise SysError(errno.E2BIG)
        self.vma = bprm_stack(mem, mm, STACK_TOP)
        # Everything lands in one piece below the top, so it is written in one piece.
        self.p = STACK_TOP - 4
        self.filename = self._push(program.filename)
        self.env_end = self.filename
        self.envp = self._push_all(envp)
        self.env_start = self.arg_end = self.p
        self.argv = self._push_all(argv)
        self.arg_start = self.sp = self.p
        text = b"".join(string + b"\0" for string in (*argv, *envp, program.filename)) + bytes(4)
        self._reach(self.p)
        write_mm(mem, mm, self.p, text)

    def _push(self, string: bytes) -> int:
        self.p -= len(string) + 1
        return self.p

    def _push_all(self, strings: list[bytes]) -> list[int]:
        """Addresses of the strings, which lie ascending in their own order."""
        return [self._push(string) for string in reversed(strings)][::-1]

    def _reach(self, addr: int) -> None:
        """The stack area covers `addr`. Linux: get_arg_page."""
        if addr < self.vma.vm_start:
            try:
                expand_stack(self.mem, self.vma, addr & ~(PAGE_SIZE - 1))
            except SysError:  # more than RLIMIT_STACK, or than the machine, has room for
                raise SysError(errno.E2BIG) from None

    def settle(self, executable: int) -> None:
        """Final permissions and place of the stack, and room for it to start with. Linux: setup_arg_pages."""
        mm = self.mm
        rng = self.task.kernel.layout_rng
        shift = rng.randrange(MAX_STACK_SHIFT) * PAGE_SIZE if rng is not None else 0
        mm.start_stack = self.sp - shift
        setup_arg_pages(self.mem, self.vma, STACK_TOP - shift, executable == EXSTACK_ENABLE_X)
        self.vma = mm.vmas[-1]
        if shift:
            self.p, self.sp, self.filename = self.p - shift, self.sp - shift, self.filename - shift
            self.arg_start, self.arg_end = self.arg_start - shift, self.arg_end - shift
            self.env_start, self.env_end = self.env_start - shift, self.env_end - shift
            self.argv = [addr - shift for addr in self.argv]
            self.envp = [addr - shift for addr in self.envp]
        mm.arg_start, mm.arg_end, mm.env_start, mm.env_end = self.arg_start, self.arg_end, self.env_start, self.env_end

    def create_tables(self, phdr: int, phnum: int, interp_base: int, entry: int, hwcap: int) -> None:
        """Platform, random bytes, auxv, envp, argv and argc; sets `sp` for the first instruction. May raise MustWait;
        repeatable."""
        task = self.task
        p = self.p & ~15
        rng = task.kernel.layout_rng
        if rng is not None:
            p -= rng.randrange(512) * 16
        platform = p - 5
        random = platform - 16
        aux = (
            (AT_HWCAP, hwcap),
            (AT_PAGESZ, PAGE_SIZE),
            (AT_CLKTCK, 100),
            (AT_PHDR, phdr),
            (AT_PHENT, 32),
            (AT_PHNUM, phnum),
            (AT_BASE, interp_base),
            (AT_FLAGS, 0),
            (AT_ENTRY, entry),
            (AT_UID, task.uid),
            (AT_EUID, task.euid),
            (AT_GID, task.gid),
            (AT_EGID, task.egid),
            (AT_SECURE, 0),
            (AT_RANDOM, random),
            (AT_HWCAP2, 0),
            (AT_EXECFN, self.filename),
            (AT_PLATFORM, platform),
            (AT_NULL, 0),
        )
        vector = struct.pack(f"<{2 * len(aux)}I", *(word for pair in aux for word in pair))
        words = (len(self.argv), *self.argv, 0, *self.envp, 0)
        table = struct.pack(f"<{len(words)}I", *words) + vector
        sp = (random - len(table)) & ~15
        if sp < self.vma.vm_start:
            expand_stack(self.mem, self.vma, sp & ~(PAGE_SIZE - 1))
        write_mm(self.mem, self.mm, random, task.kernel.random_bytes(16) + b"i686\0")
        write_mm(self.mem, self.mm, sp, table)
        self.mm.saved_auxv = vector
        self.mm.start_stack = self.sp = sp
