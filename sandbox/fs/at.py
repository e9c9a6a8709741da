"""Arguments of system calls that name files: descriptors, paths relative to a descriptor, and signed numbers. Linux:
fs/namei.c, 2.6.16 and later."""

from __future__ import annotations

from errno import EBADF, ENOENT, ENOTDIR
from stat import S_ISDIR
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from sandbox.fs.dentry import Dentry
from sandbox.fs.file import File
from sandbox.fs.namei import walk, walk_parent
from sandbox.fs.uapi import AT_FDCWD, FMODE_READ, FMODE_WRITE, O_PATH

if TYPE_CHECKING:
    from sandbox.kernel.task import Task

CWD = AT_FDCWD & 0xFFFFFFFF  # as a system call gets it


def s32(value: int) -> int:
    """An argument register as a signed int."""
    return value - 0x1_0000_0000 if value & 0x8000_0000 else value


def s64(low: int, high: int) -> int:
    """Two argument registers as a signed long long."""
    value = high << 32 | low
    return value - (1 << 64) if value >> 63 else value


def fget(task: Task, fd: int) -> File:
    """The open file of a descriptor, whatever it was opened for but O_PATH. EBADF."""
    fds = task.files.fds
    file = fds[fd] if fd < len(fds) else None
    if file is None or file.f_flags & O_PATH:
        raise SysError(EBADF)
    return file


def fget_read(task: Task, fd: int) -> File:
    fds = task.files.fds
    file = fds[fd] if fd < len(fds) else None
    if file is None or not file.f_mode & FMODE_READ:
        raise SysError(EBADF)
    return file


def fget_write(task: Task, fd: int) -> File:
    fds = task.files.fds
    file = fds[fd] if fd < len(fds) else None
    if file is None or not file.f_mode & FMODE_WRITE:
        raise SysError(EBADF)
    return file


def base_of(task: Task, dirfd: int, path: bytes) -> Dentry | None:
    """Where a relative `path` starts: None is the working directory. EBADF, ENOTDIR."""
    if dirfd == CWD or path[:1] == b"/":
        return None
    dentry = task.files.get(dirfd).dentry
    if not S_ISDIR(dentry.inode.mode) and path:
        raise SysError(ENOTDIR)
    return dentry


def walk_at(task: Task, dirfd: int, path: bytes, follow: bool = True, empty: bool = False) -> Dentry:
    """The dentry of `path` below `dirfd`; with `empty` (AT_EMPTY_PATH) an empty path is the descriptor's own."""
    if not path:
        if not empty:
            raise SysError(ENOENT)
        return task.fs.cwd if dirfd == CWD else task.files.get(dirfd).dentry
    return walk(task, path, base_of(task, dirfd, path), follow)


def walk_parent_at(task: Task, dirfd: int, path: bytes) -> tuple[Dentry, bytes, bool]:
    return walk_parent(task, path, base_of(task, dirfd, path))
