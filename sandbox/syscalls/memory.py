"""System calls on address spaces: the guest's arguments in, mmcore's functions, the guest's result out.

Lengths and addresses are what the registers held; all checking is mmcore's. Linux:
arch/x86/entry/syscalls/syscall_32.tbl, mm/.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Generator
from typing import TYPE_CHECKING

from mmcore.calls import fremap, madvise, mlock
from mmcore.calls.brk import set_brk
from mmcore.calls.mmap import MAP_ANONYMOUS, MAP_HUGETLB, do_mmap, do_munmap
from mmcore.calls.mprotect import do_mprotect
from mmcore.calls.mremap import do_mremap
from mmcore.errors import NotHere, SysError
from mmcore.files.filespace import FileSpace
from sandbox.fs.at import fget
from sandbox.kernel.sched import TASK_UNINTERRUPTIBLE, Wait
from sandbox.kernel.table import syscall
from sandbox.kernel.uaccess import copy_from_user, copy_to_user

if TYPE_CHECKING:
    from sandbox.kernel.task import Task


@syscall(45, "brk", 1)
def sys_brk(task: Task, brk: int) -> int:
    return set_brk(task.mem, task.mm, brk)


@syscall(192, "mmap2", 6)
def sys_mmap2(task: Task, addr: int, length: int, prot: int, flags: int, fd: int, pgoff: int) -> int:
    return _mmap(task, addr, length, prot, flags, fd, pgoff)


def _mmap(task: Task, addr: int, length: int, prot: int, flags: int, fd: int, pgoff: int) -> int:
    if flags & MAP_ANONYMOUS:
        if flags & MAP_HUGETLB:
            raise NotHere(errno.ENOMEM, "huge pages (mmap)")
        return do_mmap(task.mem, task.mm, addr, length, prot, flags, None, pgoff)
    file = fget(task, fd)
    if flags & MAP_HUGETLB:
        raise NotHere(errno.EINVAL, "huge pages (mmap)")
    return do_mmap(task.mem, task.mm, addr, length, prot, flags, file, pgoff)


@syscall(90, "mmap", 1)
def sys_old_mmap(task: Task, args: int) -> int:
    """The six arguments lie in memory; the offset is in bytes."""
    addr, length, prot, flags, fd, offset = struct.unpack("<6I", copy_from_user(task, args, 24))
    if offset & 4095:
        raise SysError(errno.EINVAL)
    return _mmap(task, addr, length, prot, flags, fd, offset >> 12)


@syscall(91, "munmap", 2)
def sys_munmap(task: Task, addr: int, length: int) -> int:
    do_munmap(task.mem, task.mm, addr, length)
    return 0


@syscall(125, "mprotect", 3)
def sys_mprotect(task: Task, addr: int, length: int, prot: int) -> int:
    do_mprotect(task.mem, task.mm, addr, length, prot)
    return 0


@syscall(163, "mremap", 5)
def sys_mremap(task: Task, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> int:
    return do_mremap(task.mem, task.mm, addr, old_len, new_len, flags, new_addr)


@syscall(219, "madvise", 3)
def sys_madvise(task: Task, addr: int, length: int, advice: int) -> int:
    madvise.do_madvise(task.mem, task.mm, addr, length, advice)
    return 0


@syscall(218, "mincore", 3)
def sys_mincore(task: Task, addr: int, length: int, vec: int) -> int:
    copy_to_user(task, vec, madvise.do_mincore(task.mem, task.mm, addr, length))
    return 0


@syscall(144, "msync", 3)
def sys_msync(task: Task, addr: int, length: int, flags: int) -> Generator[Wait, bool, int]:
    mappings, holes = madvise.do_msync(task.mem, task.mm, addr, length, flags)
    for mapping in mappings:
        if not isinstance(mapping, FileSpace):
            continue
        while (queue := mapping.under_writeback()) is not None:
            yield Wait((queue,), state=TASK_UNINTERRUPTIBLE)
        error = mapping.take_error()
        if error:
            raise SysError(error)
    if holes:
        raise SysError(errno.ENOMEM)
    return 0


@syscall(150, "mlock", 2)
def sys_mlock(task: Task, addr: int, length: int) -> int:
    mlock.do_mlock(task.mem, task.mm, addr, length)
    return 0


@syscall(376, "mlock2", 3)
def sys_mlock2(task: Task, addr: int, length: int, flags: int) -> int:
    mlock.do_mlock(task.mem, task.mm, addr, length, flags)
    return 0


@syscall(151, "munlock", 2)
def sys_munlock(task: Task, addr: int, length: int) -> int:
    mlock.do_munlock(task.mem, task.mm, addr, length)
    return 0


@syscall(152, "mlockall", 1)
def sys_mlockall(task: Task, flags: int) -> int:
    mlock.do_mlockall(task.mem, task.mm, flags)
    return 0


@syscall(153, "munlockall", 0)
def sys_munlockall(task: Task) -> int:
    mlock.do_munlockall(task.mem, task.mm)
    return 0


@syscall(257, "remap_file_pages", 5)
def sys_remap_file_pages(task: Task, start: int, size: int, prot: int, pgoff: int, flags: int) -> int:
    fremap.remap_file_pages(task.mem, task.mm, start, size, prot, pgoff, flags)
    return 0
