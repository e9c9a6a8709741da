"""Leases on files: the holder is told before somebody else opens the file in a way that does not go with his lease, and
has time to let go.

    F_SETLEASE ──> Lease in inode.leases ──open, truncate──> pending, SIGIO ──holder gives it back, or LEASE_BREAK_S
    pass──> the opener goes on

Linux: fs/locks.c, 2.6.7, and 6.1 for who may have a lease beside which open files.
"""

from __future__ import annotations

from collections.abc import Generator
from errno import EACCES, EAGAIN, EINVAL
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from mmcore.errors import MustWait, SysError
from mmcore.wait import WaitQueue
from sandbox.fs.file import File
from sandbox.fs.inode import Inode
from sandbox.fs.sigio import own_by_default, send_sigio
from sandbox.fs.uapi import F_RDLCK, F_UNLCK, F_WRLCK, FMODE_READ, FMODE_WRITE, O_ACCMODE, O_NONBLOCK
from sandbox.kernel.sched import Wait

if TYPE_CHECKING:
    from mmcore.clock import Timer
    from sandbox.kernel.task import Task

LEASE_BREAK_S = 45  # /proc/sys/fs/lease-break-time


class Lease:
    """One open file's. `pending`: what it is to become (F_RDLCK, F_UNLCK), None while nobody minds it."""

    __slots__ = ("file", "fd", "kind", "pending", "timer", "addr", "kernel")

    def __init__(self, task: Task, file: File, fd: int, kind: int) -> None:
        self.file = file
        self.fd = fd
        self.kind = kind
        self.pending: int | None = None
        self.timer: Timer | None = None
        self.addr = file.inode.sb.caches.file_lock.alloc()
        self.kernel = task.kernel


class Leases(list[Lease]):
    """A file's; who waits for one to be given back waits on `queue`."""

    def __init__(self, inode: Inode) -> None:
        super().__init__()
        self.queue = WaitQueue(f"a lease on inode {inode.ino}")


class Breaking(MustWait):
    """Nothing was opened: a lease has to go first."""


def _lease_of(file: File) -> Lease | None:
    return next((lease for lease in file.inode.leases or () if lease.file is file), None)


def get_lease(file: File) -> int:
    """F_GETLEASE: the kind it has, or is to become."""
    lease = _lease_of(file)
    return F_UNLCK if lease is None else lease.kind if lease.pending is None else lease.pending


def set_lease(task: Task, file: File, fd: int, kind: int) -> None:
    """F_SETLEASE. EACCES, EINVAL, EAGAIN."""
    inode = file.inode
    if task.fsuid not in (0, inode.uid):
        raise SysError(EACCES)
    if not S_ISREG(inode.mode) or kind not in (F_RDLCK, F_WRLCK, F_UNLCK):
        raise SysError(EINVAL)
    mine = _lease_of(file)
    if kind == F_UNLCK:
        if mine is None:
            raise SysError(EAGAIN)
        _modify(mine, F_UNLCK)
        return
    _check(file, kind)
    if any(lease is not mine and (kind == F_WRLCK or lease.pending == F_UNLCK) for lease in inode.leases or ()):
        raise SysError(EAGAIN)
    if mine is not None:
        _modify(mine, kind)
        return
    if inode.leases is None:
        inode.leases = Leases(inode)
    inode.leases.append(Lease(task, file, fd, kind))
    own_by_default(task, file)


def _check(file: File, kind: int) -> None:
    """A lease to read goes with readers alone, one to write with nobody else. EAGAIN. Linux: check_conflicting_open."""
    inode = file.inode
    if kind == F_RDLCK:
        if inode.writers > 0:
            raise SysError(EAGAIN)
        return
    writers = 1 if file.f_mode & FMODE_WRITE else 0
    readers = 1 if file.f_mode & (FMODE_READ | FMODE_WRITE) == FMODE_READ else 0
    if (inode.writers, inode.readers) != (writers, readers):
        raise SysError(EAGAIN)


def _modify(lease: Lease, kind: int) -> None:
    """Linux: lease_modify."""
    lease.kind = kind
    if kind == F_UNLCK or kind == F_RDLCK == lease.pending:
        _settle(lease)
    leases = lease.file.inode.leases
    assert leases is not None
    if kind == F_UNLCK:
        leases.remove(lease)
        lease.file.inode.sb.caches.file_lock.free(lease.addr)
        lease.file.owner = None
        lease.file.signum = 0
        if not leases:
            lease.file.inode.leases = None
    leases.queue.wake_all()


def _settle(lease: Lease) -> None:
    lease.pending = None
    if lease.timer is not None:
        lease.kernel.clock.cancel(lease.timer)
        lease.timer = None


def forget_lease(file: File) -> None:
    """The open file is gone."""
    lease = _lease_of(file)
    if lease is not None:
        _modify(lease, F_UNLCK)


def break_lease(task: Task, inode: Inode, flags: int) -> None:
    """Somebody opens the file with `flags`, or truncates it. EAGAIN with O_NONBLOCK, Breaking while a lease is in the
    way. Linux: __break_lease."""
    writes = flags & O_ACCMODE != 0
    leases = inode.leases
    if leases is None:
        return
    conflicts = [lease for lease in leases if writes or lease.kind == F_WRLCK]
    for lease in conflicts:
        if lease.pending is None or (writes and lease.pending != F_UNLCK):
            _ask_back(task, lease, F_UNLCK if writes else F_RDLCK)
    if conflicts:
        if flags & O_NONBLOCK:
            raise SysError(EAGAIN)
        raise Breaking(leases.queue)


def _ask_back(task: Task, lease: Lease, kind: int) -> None:
    """The holder is told; once his time is over, the lease is changed without him."""
    kernel = task.kernel
    if lease.timer is not None:
        kernel.clock.cancel(lease.timer)
    lease.pending = kind
    lease.timer = kernel.clock.at(kernel.clock.now + LEASE_BREAK_S * 1_000_000_000, lambda: _modify(lease, kind))
    send_sigio(kernel, lease.file, lease.fd)


def wait_broken(task: Task, inode: Inode, flags: int) -> Generator[Wait, Any, None]:
    """A generator that returns when no lease is in the way."""
    while True:
        try:
            break_lease(task, inode, flags)
            return
        except Breaking as wait:
            yield Wait([wait.queue])
