"""swapon and swapoff. The machine's swap areas are the partitions /dev/hda2, hda3, ... of /proc/swaps; they are on from
boot, and each can be turned off and on again.

Linux: mm/swapfile.c, 2.6.7; unknown flags are refused as in 3.8 and later.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from stat import S_IFBLK, S_ISDIR
from typing import TYPE_CHECKING

from mmcore.calls.swapoff import swap_off
from mmcore.errors import SysError
from sandbox.fs.at import CWD, walk_at
from sandbox.fs.devices import swap_dev
from sandbox.fs.uapi import S_IFMT
from sandbox.kernel.sched import TASK_UNINTERRUPTIBLE, Wait
from sandbox.kernel.signals import signal_pending
from sandbox.kernel.table import syscall
from sandbox.kernel.uaccess import strncpy_from_user

if TYPE_CHECKING:
    from mmcore.swap.device import SwapDevice
    from sandbox.kernel.task import Task

SWAP_FLAG_PREFER, SWAP_FLAG_PRIO_MASK = 0x8000, 0x7FFF
_SWAP_FLAGS_VALID = 0x7FFFF  # PREFER, its priority, and three kinds of discarding, which a disk ignores


def _swap_area(task: Task, path: int) -> SwapDevice | None:
    """The swap area that `path` names. Raises what opening it for writing would."""
    if task.euid:
        raise SysError(errno.EPERM)
    inode = walk_at(task, CWD, strncpy_from_user(task, path)).inode
    if S_ISDIR(inode.mode):
        raise SysError(errno.EISDIR)
    if inode.mode & S_IFMT != S_IFBLK:
        return None
    areas = task.mem.swap.areas
    return next((area for number, area in enumerate(areas) if area.total and inode.rdev == swap_dev(number)), None)


@syscall(87, "swapon", 2)
def sys_swapon(task: Task, path: int, flags: int) -> int:
    """EPERM, EINVAL (flags; no swap area), EBUSY (in use), ENOMEM (no low memory for its map)."""
    if flags & ~_SWAP_FLAGS_VALID:
        raise SysError(errno.EINVAL)
    area = _swap_area(task, path)
    if area is None:
        raise SysError(errno.EINVAL)
    if area.on:
        raise SysError(errno.EBUSY)
    task.mem.swap.areas.turn_on(area, flags & SWAP_FLAG_PRIO_MASK if flags & SWAP_FLAG_PREFER else None)
    return 0


@syscall(115, "swapoff", 1)
def sys_swapoff(task: Task, path: int) -> Generator[Wait, bool, int]:
    """EPERM, EINVAL (no swap area in use), ENOMEM and EINTR with swap in use as before."""
    area = _swap_area(task, path)
    if area is None:
        raise SysError(errno.EINVAL)
    task.swapoff = True
    try:
        for queue in swap_off(task.mem, area, lambda: signal_pending(task)):
            yield Wait((queue,), state=TASK_UNINTERRUPTIBLE)
    finally:
        task.swapoff = False
    return 0
