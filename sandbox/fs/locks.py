"""Advisory locks: flock's, which belong to an open file, and POSIX record locks, which belong to a descriptor table
(or, F_OFD_*, to an open file).

Both kinds live in lists on the inode; a waiter sleeps on the inode's lock queue and tries again. Linux: fs/locks.c,
2.6.7 (F_OFD_* as of 3.15).
"""

from __future__ import annotations

from errno import EDEADLK
from typing import TYPE_CHECKING, Any

from mmcore.errors import SysError
from mmcore.wait import WaitQueue
from sandbox.fs.inode import Inode
from sandbox.fs.uapi import F_UNLCK, F_WRLCK
from sandbox.kernel.sched import Wait

if TYPE_CHECKING:
    from collections.abc import Generator

    from sandbox.fs.fdtable import FileTable
    from sandbox.fs.file import File

OFFSET_MAX = (1 << 63) - 1


class Lock:
    """`start`..`end` bytes, both included. `owner`: a FileTable or (flock, OFD) a File; `pid` for F_GETLK."""

    __slots__ = ("owner", "kind", "start", "end", "pid", "addr")

    def __init__(self, owner: FileTable | File, kind: int, start: int, end: int, pid: int, addr: int = 0) -> None:
        self.owner = owner
        self.kind = kind
        self.start = start
        self.end = end
        self.pid = pid
        self.addr = addr


def lock_queue(inode: Inode) -> WaitQueue:
    if inode.lock_queue is None:
        inode.lock_queue = WaitQueue(f"a lock on inode {inode.ino}")
    return inode.lock_queue


def _wake(inode: Inode) -> None:
    if inode.lock_queue is not None:
        inode.lock_queue.wake_all()


def find_conflict(inode: Inode, owner: FileTable | File, kind: int, start: int, end: int) -> Lock | None:
    """The first record lock that stands in the way."""
    for lock in inode.locks or ():
        if (
            lock.owner is not owner
            and lock.start <= end
            and start <= lock.end
            and (kind == F_WRLCK or lock.kind == F_WRLCK)
        ):
            return lock
    return None


def set_posix(inode: Inode, owner: FileTable | File, kind: int, start: int, end: int, pid: int) -> None:
    """Locks (or F_UNLCK: unlocks) the range for `owner`; no conflict stands in the way any more. Splits and joins the
    owner's locks as POSIX has it. Raises OutOfMemory."""
    cache = inode.sb.caches.file_lock
    mine = [lock for lock in inode.locks or () if lock.owner is owner]
    others = [lock for lock in inode.locks or () if lock.owner is not owner]
    spare = cache.alloc_bulk(2)
    kept: list[Lock] = []
    for lock in mine:
        touches = lock.start <= end + 1 and start <= lock.end + 1
        if kind == lock.kind and touches:
            start, end = min(start, lock.start), max(end, lock.end)
        elif lock.start <= end and start <= lock.end:
            if lock.start < start:
                kept.append(Lock(owner, lock.kind, lock.start, start - 1, lock.pid, spare.pop()))
            if lock.end > end:
                kept.append(
                    Lock(owner, lock.kind, end + 1, lock.end, lock.pid, spare.pop() if spare else cache.alloc())
                )
        else:
            kept.append(lock)
            continue
        cache.free(lock.addr)
    if kind != F_UNLCK:
        kept.append(Lock(owner, kind, start, end, pid, spare.pop() if spare else cache.alloc()))
    for addr in spare:
        cache.free(addr)
    kept.sort(key=lambda lock: lock.start)
    inode.locks = others + kept
    _wake(inode)


def forget_posix(inode: Inode, owner: FileTable | File) -> None:
    """A descriptor on the inode was closed: the owner's record locks on it go."""
    gone = [lock for lock in inode.locks or () if lock.owner is owner]
    if gone:
        inode.locks = [lock for lock in inode.locks or () if lock.owner is not owner]
        for lock in gone:
            inode.sb.caches.file_lock.free(lock.addr)
        _wake(inode)


def would_deadlock(
    waiting: dict[FileTable | File, tuple[Inode, int, int, int]], owner: FileTable | File, blocker: Lock
) -> bool:
    """Would waiting for `blocker` close a circle? `waiting`: owner -> (inode, kind, start, end) of what it waits
    for."""
    seen = set()
    at = blocker.owner
    while at is not owner:
        if at in seen or at not in waiting:
            return False
        seen.add(at)
        inode, kind, start, end = waiting[at]
        lock = find_conflict(inode, at, kind, start, end)
        if lock is None:
            return False
        at = lock.owner
    return True


_waiting: dict[FileTable | File, tuple[Inode, int, int, int]] = {}


def wait_posix(inode: Inode, owner: FileTable | File, kind: int, start: int, end: int) -> Generator[Wait, Any, None]:
    """A generator that returns once nothing conflicts; EDEADLK for a circle of waiters."""
    try:
        while (lock := find_conflict(inode, owner, kind, start, end)) is not None:
            if would_deadlock(_waiting, owner, lock):
                raise SysError(EDEADLK)
            _waiting[owner] = (inode, kind, start, end)
            yield Wait([lock_queue(inode)])
    finally:
        _waiting.pop(owner, None)


def flock_conflict(inode: Inode, file: File, kind: int) -> Lock | None:
    for lock in inode.flocks or ():
        if lock.owner is not file and (kind == F_WRLCK or lock.kind == F_WRLCK):
            return lock
    return None


def forget_flock(file: File) -> bool:
    """Drops the open file's flock; True if it had one."""
    inode = file.inode
    flocks = inode.flocks or []
    for lock in flocks:
        if lock.owner is file:
            flocks.remove(lock)
            inode.sb.caches.file_lock.free(lock.addr)
            _wake(inode)
            return True
    return False


def set_flock(file: File, kind: int, pid: int) -> None:
    """The open file holds `kind` (F_RDLCK, F_WRLCK); no conflict stands in the way any more."""
    inode = file.inode
    for lock in inode.flocks or ():
        if lock.owner is file:
            lock.kind = kind
            _wake(inode)
            return
    if inode.flocks is None:
        inode.flocks = []
    inode.flocks.append(Lock(file, kind, 0, OFFSET_MAX, pid, inode.sb.caches.file_lock.alloc()))
