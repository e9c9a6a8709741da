"""System calls that change what an inode says of itself: mode, owner, times. Linux: fs/open.c, fs/utimes.c, 2.6.7; *at:
2.6.16."""

from __future__ import annotations

import struct
from errno import EACCES, EFAULT, EINVAL, EOPNOTSUPP, EPERM, EROFS
from stat import S_IFLNK, S_ISDIR
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from sandbox.fs.at import CWD, fget, walk_at
from sandbox.fs.dentry import Dentry
from sandbox.fs.inode import Inode, in_group, owned, permission
from sandbox.fs.namei import walk
from sandbox.fs.notify import touched
from sandbox.fs.uapi import (
    AT_EMPTY_PATH,
    AT_SYMLINK_NOFOLLOW,
    DN_ACCESS,
    DN_ATTRIB,
    DN_MODIFY,
    MAY_WRITE,
    S_IFMT,
)
from sandbox.kernel.table import syscall
from sandbox.kernel.uaccess import copy_from_user, strncpy_from_user

if TYPE_CHECKING:
    from sandbox.kernel.task import Task


def _writable_inode(inode: Inode) -> Inode:
    if inode.sb.readonly:
        raise SysError(EROFS)
    return inode


def _chmod(task: Task, dentry: Dentry, mode: int) -> int:
    inode = _writable_inode(dentry.inode)
    if not owned(task, inode):
        raise SysError(EPERM)
    if task.fsuid and not in_group(task, inode.gid):
        mode &= ~0o2000
    inode.mode = inode.mode & S_IFMT | mode & 0o7777
    inode.ctime = inode.sb.now()
    inode.setattr()
    touched(dentry, DN_ATTRIB)
    return 0


@syscall(15, "chmod", 2)
def sys_chmod(task: Task, path: int, mode: int) -> int:
    return _chmod(task, walk(task, strncpy_from_user(task, path)), mode)


@syscall(94, "fchmod", 2)
def sys_fchmod(task: Task, fd: int, mode: int) -> int:
    return _chmod(task, fget(task, fd).dentry, mode)


@syscall(306, "fchmodat", 3)
def sys_fchmodat(task: Task, dirfd: int, path: int, mode: int) -> int:
    return _chmod(task, walk_at(task, dirfd, strncpy_from_user(task, path)), mode)


@syscall(452, "fchmodat2", 4)
def sys_fchmodat2(task: Task, dirfd: int, path: int, mode: int, flags: int) -> int:
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise SysError(EINVAL)
    dentry = walk_at(
        task, dirfd, strncpy_from_user(task, path), not flags & AT_SYMLINK_NOFOLLOW, bool(flags & AT_EMPTY_PATH)
    )
    if dentry.inode.mode & S_IFMT == S_IFLNK:
        raise SysError(EOPNOTSUPP)
    return _chmod(task, dentry, mode)


def _chown(task: Task, dentry: Dentry, uid: int, gid: int) -> int:
    inode = _writable_inode(dentry.inode)
    keep = 0xFFFFFFFF
    if task.fsuid:
        if uid not in (keep, inode.uid) or (gid != keep and (task.fsuid != inode.uid or not in_group(task, gid))):
            raise SysError(EPERM)
    if uid != keep:
        inode.uid = uid
    if gid != keep:
        inode.gid = gid
    if not S_ISDIR(inode.mode):
        inode.mode &= ~0o4000
        if inode.mode & 0o010:
            inode.mode &= ~0o2000
    inode.ctime = inode.sb.now()
    touched(dentry, DN_ATTRIB)
    return 0


def _id16(value: int) -> int:
    """A 16-bit id: 0xffff means "leave it"."""
    value &= 0xFFFF
    return 0xFFFFFFFF if value == 0xFFFF else value


@syscall(212, "chown32", 3)
def sys_chown32(task: Task, path: int, uid: int, gid: int) -> int:
    return _chown(task, walk(task, strncpy_from_user(task, path)), uid, gid)


@syscall(198, "lchown32", 3)
def sys_lchown32(task: Task, path: int, uid: int, gid: int) -> int:
    return _chown(task, walk(task, strncpy_from_user(task, path), None, False), uid, gid)


@syscall(207, "fchown32", 3)
def sys_fchown32(task: Task, fd: int, uid: int, gid: int) -> int:
    return _chown(task, fget(task, fd).dentry, uid, gid)


@syscall(182, "chown", 3)
def sys_chown(task: Task, path: int, uid: int, gid: int) -> int:
    return sys_chown32(task, path, _id16(uid), _id16(gid))


@syscall(16, "lchown", 3)
def sys_lchown(task: Task, path: int, uid: int, gid: int) -> int:
    return sys_lchown32(task, path, _id16(uid), _id16(gid))


@syscall(95, "fchown", 3)
def sys_fchown(task: Task, fd: int, uid: int, gid: int) -> int:
    return sys_fchown32(task, fd, _id16(uid), _id16(gid))


@syscall(298, "fchownat", 5)
def sys_fchownat(task: Task, dirfd: int, path: int, uid: int, gid: int, flags: int) -> int:
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise SysError(EINVAL)
    dentry = walk_at(
        task, dirfd, strncpy_from_user(task, path), not flags & AT_SYMLINK_NOFOLLOW, bool(flags & AT_EMPTY_PATH)
    )
    return _chown(task, dentry, uid, gid)


_NOW, _OMIT = (1 << 30) - 1, (1 << 30) - 2
_NS = 1_000_000_000
_ENDS = (
    -1 << 63,
    (1 << 63) - 1,
)  # no time is later than the last second's start, none earlier. Linux: timestamp_truncate, 5.4


def _set_times(task: Task, dentry: Dentry, times: tuple[int | None, int | None] | None) -> int:
    """`times`: (access, modification) in ns, None to leave one; None for both: now. Linux: utimes_common,
    fs/utimes.c."""
    inode = _writable_inode(dentry.inode)
    now = inode.sb.now()
    event = DN_ATTRIB
    if times is None:
        if not owned(task, inode):
            try:
                permission(task, inode, MAY_WRITE)
            except SysError:
                raise SysError(EACCES) from None
        inode.atime = inode.mtime = now
    else:
        if times == (None, None):
            return 0
        if not owned(task, inode):
            raise SysError(EPERM)
        atime, mtime = times
        if atime is not None:
            inode.atime = atime
        if mtime is not None:
            inode.mtime = mtime
        event = DN_ACCESS if mtime is None else DN_MODIFY if atime is None else DN_ATTRIB
    inode.ctime = now
    touched(dentry, event)
    return 0


@syscall(30, "utime", 2)
def sys_utime(task: Task, path: int, times: int) -> int:
    dentry = walk(task, strncpy_from_user(task, path))
    if not times:
        return _set_times(task, dentry, None)
    atime, mtime = struct.unpack("<ii", copy_from_user(task, times, 8))
    return _set_times(task, dentry, (atime * _NS, mtime * _NS))


def _timevals(task: Task, times: int) -> tuple[int | None, int | None] | None:
    if not times:
        return None
    a, au, m, mu = struct.unpack("<4i", copy_from_user(task, times, 16))
    if not (0 <= au < 1_000_000 and 0 <= mu < 1_000_000):
        raise SysError(EINVAL)
    return a * _NS + au * 1000, m * _NS + mu * 1000


@syscall(271, "utimes", 2)
def sys_utimes(task: Task, path: int, times: int) -> int:
    values = _timevals(task, times)
    return _set_times(task, walk(task, strncpy_from_user(task, path)), values)


@syscall(299, "futimesat", 3)
def sys_futimesat(task: Task, dirfd: int, path: int, times: int) -> int:
    values = _timevals(task, times)
    dentry = walk_at(task, dirfd, strncpy_from_user(task, path)) if path else fget(task, dirfd).dentry
    return _set_times(task, dentry, values)


def _timespec(seconds: int, nanoseconds: int, now: int) -> int | None:
    if nanoseconds == _OMIT:
        return None
    if nanoseconds == _NOW:
        return now
    if not 0 <= nanoseconds < _NS:
        raise SysError(EINVAL)
    if seconds in _ENDS:
        return seconds * _NS
    return seconds * _NS + nanoseconds


def _utimensat(task: Task, dirfd: int, path: int, times: tuple[int, ...] | None, flags: int) -> int:
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise SysError(EINVAL)
    if path:
        name = strncpy_from_user(task, path)
        dentry = walk_at(task, dirfd, name, not flags & AT_SYMLINK_NOFOLLOW, bool(flags & AT_EMPTY_PATH))
    else:
        if dirfd == CWD:
            raise SysError(EFAULT)
        if flags:
            raise SysError(EINVAL)
        dentry = fget(task, dirfd).dentry
    if times is None or (times[1] == _NOW and times[3] == _NOW):
        return _set_times(task, dentry, None)
    now = dentry.sb.now()
    return _set_times(task, dentry, (_timespec(times[0], times[1], now), _timespec(times[2], times[3], now)))


@syscall(320, "utimensat", 4)
def sys_utimensat(task: Task, dirfd: int, path: int, times: int, flags: int) -> int:
    values = struct.unpack("<4i", copy_from_user(task, times, 16)) if times else None
    return _utimensat(task, dirfd, path, values, flags)


@syscall(412, "utimensat_time64", 4)
def sys_utimensat_time64(task: Task, dirfd: int, path: int, times: int, flags: int) -> int:
    values = struct.unpack("<qi4xqi4x", copy_from_user(task, times, 32)) if times else None
    return _utimensat(task, dirfd, path, values, flags)
