"""Who hears by signal what happens to an open file: F_SETOWN, F_SETOWN_EX, F_SETSIG. Linux: fs/fcntl.c, 2.6.7;
F_OWNER_*: 2.6.32."""

from __future__ import annotations

import struct
from errno import EINVAL, ESRCH
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from sandbox.fs.file import File
from sandbox.fs.uapi import F_OWNER_PGRP, F_OWNER_PID, F_OWNER_TID, POLLIN, POLLMSG, POLLRDNORM
from sandbox.kernel.signals import group_members, send_group, send_task
from sandbox.kernel.signo import SigInfo

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task import Task

SIGIO = 29
SI_KERNEL = 0x80
POLL_MSG = 3  # si_code: leases and directory notification
_BAND = POLLIN | POLLRDNORM | POLLMSG


class SignalOwner:
    """`kind` F_OWNER_* and the number it names, and on whose behalf the signals are sent."""

    __slots__ = ("kind", "ident", "uid", "euid")

    def __init__(self, task: Task, kind: int, ident: int) -> None:
        self.kind = kind
        self.ident = ident
        self.uid, self.euid = task.uid, task.euid


def _named(kernel: Kernel, kind: int, ident: int) -> list[Task]:
    """The thread, or the leaders of the processes, that an owner names now."""
    if kind == F_OWNER_PGRP:
        return group_members(kernel, ident)
    task = kernel.find_task(ident)
    return [] if task is None else [task if kind == F_OWNER_TID else task.signal.leader]


def set_owner(task: Task, file: File, kind: int, ident: int) -> None:
    """EINVAL, ESRCH; 0 is nobody."""
    if kind not in (F_OWNER_TID, F_OWNER_PID, F_OWNER_PGRP):
        raise SysError(EINVAL)
    if ident and not _named(task.kernel, kind, ident):
        raise SysError(ESRCH)
    file.owner = SignalOwner(task, kind, ident)


def own_by_default(task: Task, file: File) -> None:
    """Leases and notification tell the process that asked for them, unless somebody else was named before."""
    if file.owner is None or not file.owner.ident:
        file.owner = SignalOwner(task, F_OWNER_PID, task.tgid)


def get_owner(task: Task, file: File) -> tuple[int, int]:
    """(F_OWNER_*, number); the number is 0 when there is nobody, or nobody any more."""
    owner = file.owner
    if owner is None:
        return F_OWNER_TID, 0
    return owner.kind, owner.ident if owner.ident and _named(task.kernel, owner.kind, owner.ident) else 0


def send_sigio(kernel: Kernel, file: File, fd: int) -> None:
    """Tells the owner: by the signal of F_SETSIG, with descriptor and reason, or by plain SIGIO. Linux: send_sigio."""
    owner = file.owner
    if owner is None or not owner.ident:
        return
    info = SigInfo(file.signum, POLL_MSG, struct.pack("<2i", _BAND, fd)) if file.signum else SigInfo(SIGIO, SI_KERNEL)
    send = send_task if owner.kind == F_OWNER_TID else send_group
    for target in _named(kernel, owner.kind, owner.ident):
        if not owner.euid or owner.euid in (target.suid, target.uid) or owner.uid in (target.suid, target.uid):
            send(target, info)
