"""System calls that read links and directories, and those on where one is. Linux: fs/readdir.c, fs/stat.c, fs/dcache.c,
2.6.7."""

from __future__ import annotations

import struct
from collections.abc import Callable
from errno import EINVAL, ENOENT, ENOTDIR, EPERM, ERANGE
from stat import S_IFLNK, S_ISDIR
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from sandbox.fs.at import fget, s32, walk_at
from sandbox.fs.dentry import Dentry, d_path, reachable
from sandbox.fs.file import DirFile
from sandbox.fs.inode import permission
from sandbox.fs.namei import walk
from sandbox.fs.notify import touched
from sandbox.fs.uapi import (
    DN_ACCESS,
    MAY_EXEC,
    PATH_MAX,
    S_IFMT,
)
from sandbox.kernel.table import syscall
from sandbox.kernel.uaccess import copy_to_user, strncpy_from_user

if TYPE_CHECKING:
    from sandbox.kernel.task import Task

_DT_SHIFT = 12  # mode >> 12 is the type of a directory entry


# reading links and directories
@syscall(305, "readlinkat", 4)
def sys_readlinkat(task: Task, dirfd: int, path: int, buf: int, size: int) -> int:
    if s32(size) <= 0:
        raise SysError(EINVAL)
    name = strncpy_from_user(task, path)
    inode = walk_at(task, dirfd, name, False, True).inode
    if inode.mode & S_IFMT != S_IFLNK:
        raise SysError(EINVAL if name else ENOENT)
    text = inode.readlink(task)[:size]
    copy_to_user(task, buf, text)
    return len(text)


@syscall(85, "readlink", 3)
def sys_readlink(task: Task, path: int, buf: int, size: int) -> int:
    if s32(size) <= 0:
        raise SysError(EINVAL)
    inode = walk(task, strncpy_from_user(task, path), None, False).inode
    if inode.mode & S_IFMT != S_IFLNK:
        raise SysError(EINVAL)
    text = inode.readlink(task)[:size]
    copy_to_user(task, buf, text)
    return len(text)


def _directory(task: Task, fd: int) -> DirFile:
    file = fget(task, fd)
    if not isinstance(file, DirFile):
        raise SysError(ENOTDIR)
    return file


def _dirent64(name: bytes, ino: int, offset: int, mode: int) -> bytes:
    length = 19 + len(name) + 1 + 7 & ~7
    return struct.pack("<QqHB", ino, offset, length, mode >> _DT_SHIFT & 15) + name.ljust(length - 19, b"\0")


def _dirent(name: bytes, ino: int, offset: int, mode: int) -> bytes:
    """The old form: the type stands in the last byte. Linux: struct linux_dirent, 2.6.4."""
    length = 10 + len(name) + 2 + 3 & ~3
    return (
        struct.pack("<IIH", ino & 0xFFFFFFFF, offset, length)
        + name.ljust(length - 11, b"\0")
        + bytes([mode >> _DT_SHIFT & 15])
    )


def _getdents(task: Task, fd: int, buf: int, size: int, pack: Callable[[bytes, int, int, int], bytes]) -> int:
    file = _directory(task, fd)
    entries = file.entries()
    at = file.pos
    out: list[bytes] = []
    room = size
    while at < len(entries):
        name, ino, mode = entries[at]
        at += 1
        if file.gone(name):
            continue
        record = pack(name, ino, at, mode)
        if len(record) > room:
            if not out:
                raise SysError(EINVAL)
            at -= 1
            break
        room -= len(record)
        out.append(record)
    copy_to_user(task, buf, b"".join(out))
    file.pos = at
    touched(file.dentry, DN_ACCESS)
    return size - room


@syscall(220, "getdents64", 3)
def sys_getdents64(task: Task, fd: int, buf: int, size: int) -> int:
    return _getdents(task, fd, buf, size, _dirent64)


@syscall(141, "getdents", 3)
def sys_getdents(task: Task, fd: int, buf: int, size: int) -> int:
    return _getdents(task, fd, buf, size, _dirent)


@syscall(89, "readdir", 3)
def sys_old_readdir(task: Task, fd: int, buf: int, count: int) -> int:
    """One entry at a time. Linux: old_readdir, fs/readdir.c."""
    file = _directory(task, fd)
    entries = file.entries()
    at = file.pos
    while at < len(entries) and file.gone(entries[at][0]):
        at += 1
    if at >= len(entries):
        file.pos = at
        return 0
    name, ino, _ = entries[at]
    copy_to_user(task, buf, struct.pack("<IIH", ino & 0xFFFFFFFF, at, len(name)) + name + b"\0")
    file.pos = at + 1
    touched(file.dentry, DN_ACCESS)
    return 1


# where one is
@syscall(183, "getcwd", 2)
def sys_getcwd(task: Task, buf: int, size: int) -> int:
    fs = task.fs
    if not fs.cwd.hashed:
        raise SysError(ENOENT)
    path = d_path(fs.cwd, fs.root)
    if not reachable(fs.cwd, fs.root):
        path = b"(unreachable)" + path
    if len(path) + 1 > min(size, PATH_MAX):
        raise SysError(ERANGE)
    copy_to_user(task, buf, path + b"\0")
    return len(path) + 1


def _chdir(task: Task, dentry: Dentry) -> int:
    if not S_ISDIR(dentry.inode.mode):
        raise SysError(ENOTDIR)
    permission(task, dentry.inode, MAY_EXEC)
    task.fs.chdir(dentry)
    return 0


@syscall(12, "chdir", 1)
def sys_chdir(task: Task, path: int) -> int:
    return _chdir(task, walk(task, strncpy_from_user(task, path)))


@syscall(133, "fchdir", 1)
def sys_fchdir(task: Task, fd: int) -> int:
    return _chdir(task, task.files.get(fd).dentry)


@syscall(61, "chroot", 1)
def sys_chroot(task: Task, path: int) -> int:
    dentry = walk(task, strncpy_from_user(task, path))
    if not S_ISDIR(dentry.inode.mode):
        raise SysError(ENOTDIR)
    if task.fsuid:
        raise SysError(EPERM)
    task.fs.chroot(dentry)
    return 0


@syscall(60, "umask", 1)
def sys_umask(task: Task, mask: int) -> int:
    old, task.fs.umask = task.fs.umask, mask & 0o777
    return old
