"""futex and robust lists: the system calls; the sleeping and waking is sandbox.kernel.futex.

Linux: kernel/futex.c, 2.6.7; robust lists of 2.6.17, 64-bit time of 5.1.
"""

from __future__ import annotations

import errno
from collections.abc import Generator

from mmcore.errors import SysError
from sandbox.kernel.futex import do_futex, signed
from sandbox.kernel.sched import Wait
from sandbox.kernel.table import syscall
from sandbox.kernel.task import Task
from sandbox.kernel.timespec import get_timespec32, get_timespec64
from sandbox.kernel.uaccess import put_user32
from sandbox.syscalls.creds import may_look


@syscall(240, "futex", 6)
def sys_futex(
    task: Task, addr: int, op: int, value: int, timeout: int, addr2: int, value3: int
) -> int | Generator[Wait, bool, int]:
    return do_futex(task, addr, op, value, timeout, addr2, value3, get_timespec32)


@syscall(422, "futex_time64", 6)
def sys_futex_time64(
    task: Task, addr: int, op: int, value: int, timeout: int, addr2: int, value3: int
) -> int | Generator[Wait, bool, int]:
    return do_futex(task, addr, op, value, timeout, addr2, value3, get_timespec64)


@syscall(311, "set_robust_list", 2)
def sys_set_robust_list(task: Task, head: int, length: int) -> int:
    if length != 12:
        raise SysError(errno.EINVAL)
    task.robust_list = head
    return 0


@syscall(312, "get_robust_list", 3)
def sys_get_robust_list(task: Task, pid: int, head: int, length: int) -> int:
    target = task.kernel.find_task(signed(pid)) if pid else task
    if target is None:
        raise SysError(errno.ESRCH)
    if not may_look(task, target):
        raise SysError(errno.EPERM)
    put_user32(task, length, 12)
    put_user32(task, head, target.robust_list)
    return 0
