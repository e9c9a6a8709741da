"""System calls that tell about files: stat in its five forms, statx, statfs, access. Structures as i386 lays them out.

Linux: fs/stat.c, include/asm-i386/stat.h, 2.6.7; statx: include/uapi/linux/stat.h, 4.11.
"""

from __future__ import annotations

import struct
from errno import EINVAL, EOVERFLOW
from stat import S_ISREG
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from mmcore.files.shmem import ShmemSpace
from sandbox.fs.at import CWD, walk_at
from sandbox.fs.inode import Inode, SuperBlock, permission
from sandbox.fs.uapi import (
    AT_EACCESS,
    AT_EMPTY_PATH,
    AT_NO_AUTOMOUNT,
    AT_STATX_SYNC_TYPE,
    AT_SYMLINK_NOFOLLOW,
    NAME_MAX,
    ST_NOATIME,
    ST_RDONLY,
    ST_VALID,
    new_encode_dev,
)
from sandbox.kernel.table import syscall
from sandbox.kernel.uaccess import copy_to_user, strncpy_from_user

if TYPE_CHECKING:
    from sandbox.kernel.task import Task

BLOCK = 4096
STATX_BASIC_STATS, STATX__RESERVED = 0x7FF, 0x80000000


def blocks_of(inode: Inode) -> int:
    """st_blocks: 512-byte units that the file takes."""
    if isinstance(inode.mapping, ShmemSpace):
        return inode.mapping.blocks * 8
    return (inode.i_size + 511) >> 9 if S_ISREG(inode.mode) else 0


def _times(inode: Inode) -> tuple[int, ...]:
    """Access, modification, change. The old structures have 32 bits for the seconds, and get the lower ones, as
    natively."""
    ns = 1_000_000_000
    return (
        inode.atime // ns & 0xFFFFFFFF,
        inode.atime % ns,
        inode.mtime // ns & 0xFFFFFFFF,
        inode.mtime % ns,
        inode.ctime // ns & 0xFFFFFFFF,
        inode.ctime % ns,
    )


def pack_stat64(inode: Inode) -> bytes:
    """struct stat64 (96 bytes)."""
    return struct.pack(
        "<Q4xIIIIIQ4xqIQ6IQ",
        new_encode_dev(inode.sb.dev),
        inode.ino & 0xFFFFFFFF,
        inode.mode,
        inode.nlink,
        inode.uid,
        inode.gid,
        new_encode_dev(inode.rdev),
        inode.i_size,
        BLOCK,
        blocks_of(inode),
        *_times(inode),
        inode.ino,
    )


def pack_stat(inode: Inode) -> bytes:
    """struct stat (64 bytes). EOVERFLOW for what does not fit."""
    if inode.i_size > 0x7FFFFFFF or inode.ino > 0xFFFFFFFF:
        raise SysError(EOVERFLOW)
    return struct.pack(
        "<IIHHHHIIII6I8x",
        new_encode_dev(inode.sb.dev),
        inode.ino,
        inode.mode,
        inode.nlink & 0xFFFF,
        min(inode.uid, 0xFFFE),
        min(inode.gid, 0xFFFE),
        new_encode_dev(inode.rdev),
        inode.i_size,
        BLOCK,
        blocks_of(inode),
        *_times(inode),
    )


def pack_old_stat(inode: Inode) -> bytes:
    """struct __old_kernel_stat (32 bytes)."""
    if inode.i_size > 0x7FFFFFFF:
        raise SysError(EOVERFLOW)
    times = _times(inode)
    return struct.pack(
        "<7H2x4I",
        new_encode_dev(inode.sb.dev) & 0xFFFF,
        inode.ino & 0xFFFF,
        inode.mode,
        inode.nlink & 0xFFFF,
        min(inode.uid, 0xFFFE),
        min(inode.gid, 0xFFFE),
        new_encode_dev(inode.rdev) & 0xFFFF,
        inode.i_size,
        times[0],
        times[2],
        times[4],
    )


def pack_statx(inode: Inode) -> bytes:
    """struct statx (256 bytes) with everything basic."""
    ns = 1_000_000_000
    rdev, dev = inode.rdev, inode.sb.dev
    return struct.pack(
        "<IIQIIIH2xQQQQ qI4x 16x qI4x qI4x IIII 112x".replace(" ", ""),
        STATX_BASIC_STATS,
        BLOCK,
        0,
        inode.nlink,
        inode.uid,
        inode.gid,
        inode.mode,
        inode.ino,
        inode.i_size,
        blocks_of(inode),
        0,
        *divmod(inode.atime, ns),
        *divmod(inode.ctime, ns),
        *divmod(inode.mtime, ns),
        rdev >> 20,
        rdev & 0xFFFFF,
        dev >> 20,
        dev & 0xFFFFF,
    )


def _path_inode(task: Task, path: int, follow: bool) -> Inode:
    task.kernel.vfs.trim()
    return walk_at(task, CWD, strncpy_from_user(task, path), follow).inode


@syscall(195, "stat64", 2)
def sys_stat64(task: Task, path: int, buf: int) -> int:
    copy_to_user(task, buf, pack_stat64(_path_inode(task, path, True)))
    return 0


@syscall(196, "lstat64", 2)
def sys_lstat64(task: Task, path: int, buf: int) -> int:
    copy_to_user(task, buf, pack_stat64(_path_inode(task, path, False)))
    return 0


@syscall(197, "fstat64", 2)
def sys_fstat64(task: Task, fd: int, buf: int) -> int:
    copy_to_user(task, buf, pack_stat64(task.files.get(fd).inode))
    return 0


def _stat_flags(flags: int) -> bool:
    """Whether to follow a link at the end; EINVAL for unknown flags."""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE):
        raise SysError(EINVAL)
    return not flags & AT_SYMLINK_NOFOLLOW


@syscall(300, "fstatat64", 4)
def sys_fstatat64(task: Task, dirfd: int, path: int, buf: int, flags: int) -> int:
    follow = _stat_flags(flags)
    task.kernel.vfs.trim()
    dentry = walk_at(task, dirfd, strncpy_from_user(task, path), follow, bool(flags & AT_EMPTY_PATH))
    copy_to_user(task, buf, pack_stat64(dentry.inode))
    return 0


@syscall(383, "statx", 5)
def sys_statx(task: Task, dirfd: int, path: int, flags: int, mask: int, buf: int) -> int:
    follow = _stat_flags(flags)
    if mask & STATX__RESERVED or flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE:
        raise SysError(EINVAL)
    task.kernel.vfs.trim()
    dentry = walk_at(task, dirfd, strncpy_from_user(task, path), follow, bool(flags & AT_EMPTY_PATH))
    copy_to_user(task, buf, pack_statx(dentry.inode))
    return 0


@syscall(106, "stat", 2)
def sys_stat(task: Task, path: int, buf: int) -> int:
    copy_to_user(task, buf, pack_stat(_path_inode(task, path, True)))
    return 0


@syscall(107, "lstat", 2)
def sys_lstat(task: Task, path: int, buf: int) -> int:
    copy_to_user(task, buf, pack_stat(_path_inode(task, path, False)))
    return 0


@syscall(108, "fstat", 2)
def sys_fstat(task: Task, fd: int, buf: int) -> int:
    copy_to_user(task, buf, pack_stat(task.files.get(fd).inode))
    return 0


@syscall(18, "oldstat", 2)
def sys_oldstat(task: Task, path: int, buf: int) -> int:
    copy_to_user(task, buf, pack_old_stat(_path_inode(task, path, True)))
    return 0


@syscall(84, "oldlstat", 2)
def sys_oldlstat(task: Task, path: int, buf: int) -> int:
    copy_to_user(task, buf, pack_old_stat(_path_inode(task, path, False)))
    return 0


@syscall(28, "oldfstat", 2)
def sys_oldfstat(task: Task, fd: int, buf: int) -> int:
    copy_to_user(task, buf, pack_old_stat(task.files.get(fd).inode))
    return 0


# file systems
def pack_statfs64(sb: SuperBlock) -> bytes:
    """struct statfs64 (84 bytes)."""
    blocks, free, files, free_files = sb.statfs()
    flags = ST_VALID | ST_NOATIME | (ST_RDONLY if sb.readonly else 0)
    return struct.pack(
        "<II5QiiIII16x", sb.magic, BLOCK, blocks, free, free, files, free_files, sb.dev, 0, NAME_MAX, BLOCK, flags
    )


def pack_statfs(sb: SuperBlock) -> bytes:
    """struct statfs (64 bytes)."""
    blocks, free, files, free_files = sb.statfs()
    flags = ST_VALID | ST_NOATIME | (ST_RDONLY if sb.readonly else 0)
    return struct.pack(
        "<7IiiIII16x", sb.magic, BLOCK, blocks, free, free, files, free_files, sb.dev, 0, NAME_MAX, BLOCK, flags
    )


def _statfs64(task: Task, sb: SuperBlock, size: int, buf: int) -> int:
    if size not in (84, 88):
        raise SysError(EINVAL)
    copy_to_user(task, buf, pack_statfs64(sb).ljust(size, b"\0"))
    return 0


@syscall(268, "statfs64", 3)
def sys_statfs64(task: Task, path: int, size: int, buf: int) -> int:
    return _statfs64(task, _path_inode(task, path, True).sb, size, buf)


@syscall(269, "fstatfs64", 3)
def sys_fstatfs64(task: Task, fd: int, size: int, buf: int) -> int:
    return _statfs64(task, task.files.get(fd).inode.sb, size, buf)


@syscall(99, "statfs", 2)
def sys_statfs(task: Task, path: int, buf: int) -> int:
    copy_to_user(task, buf, pack_statfs(_path_inode(task, path, True).sb))
    return 0


@syscall(100, "fstatfs", 2)
def sys_fstatfs(task: Task, fd: int, buf: int) -> int:
    copy_to_user(task, buf, pack_statfs(task.files.get(fd).inode.sb))
    return 0


@syscall(62, "ustat", 2)
def sys_ustat(task: Task, dev: int, buf: int) -> int:
    for sb in task.kernel.vfs.supers:
        if new_encode_dev(sb.dev) == dev:
            _, free, _, free_files = sb.statfs()
            copy_to_user(task, buf, struct.pack("<ii12x", free, free_files))
            return 0
    raise SysError(EINVAL)


# access
def do_access(task: Task, dirfd: int, path: int, mode: int, flags: int) -> int:
    """access(2) judges by the real ids. EACCES, EROFS, EINVAL."""
    if mode & ~7 or flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise SysError(EINVAL)
    name = strncpy_from_user(task, path)
    saved = task.fsuid, task.fsgid
    if not flags & AT_EACCESS:
        task.fsuid, task.fsgid = task.uid, task.gid
    try:
        inode = walk_at(task, dirfd, name, not flags & AT_SYMLINK_NOFOLLOW, bool(flags & AT_EMPTY_PATH)).inode
        if mode:
            permission(task, inode, mode)
    finally:
        task.fsuid, task.fsgid = saved
    return 0


@syscall(33, "access", 2)
def sys_access(task: Task, path: int, mode: int) -> int:
    return do_access(task, CWD, path, mode, 0)


@syscall(307, "faccessat", 3)
def sys_faccessat(task: Task, dirfd: int, path: int, mode: int) -> int:
    return do_access(task, dirfd, path, mode, 0)


@syscall(439, "faccessat2", 4)
def sys_faccessat2(task: Task, dirfd: int, path: int, mode: int, flags: int) -> int:
    return do_access(task, dirfd, path, mode, flags)
