"""Files without a name: memfd_create and its seals. Linux: mm/memfd.c, 6.1 (2.6.7 had none; native Linux decides what a guest sees)."""

from __future__ import annotations

from errno import EBUSY, EINVAL, EPERM
from typing import Any

from mmcore.errors import SysError
from sandbox.fs.file import File, RegularFile
from sandbox.fs.inode import Inode
from sandbox.fs.uapi import F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, FMODE_WRITE, O_RDWR

ALL_SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE
SEALABLE = 0x100  # our own bit in Inode.seals: made with MFD_ALLOW_SEALING


def memfd(task: Any, root: Any, name: bytes, sealable: bool) -> File:
    """A new anonymous tmpfs file, open for reading and writing. ``root``: a dentry of the internal tmpfs."""
    dentry = root.inode.tmpfile(task, root, 0o777, b"memfd:" + name)
    dentry.inode.seals = SEALABLE if sealable else SEALABLE | F_SEAL_SEAL
    return RegularFile(dentry, O_RDWR)


def add_seals(file: File, seals: int) -> int:
    inode = file.inode
    if not inode.seals & SEALABLE or seals & ~ALL_SEALS:
        raise SysError(EINVAL)
    if not file.f_mode & FMODE_WRITE or inode.seals & F_SEAL_SEAL:
        raise SysError(EPERM)
    if seals & F_SEAL_WRITE and inode.mapping.i_mmap_writable:
        raise SysError(EBUSY)
    inode.seals |= seals
    return 0


def get_seals(file: File) -> int:
    if not file.inode.seals & SEALABLE:
        raise SysError(EINVAL)
    return file.inode.seals & ALL_SEALS


def check_write_seals(inode: Inode, end: int) -> None:
    """EPERM for a write that ends at ``end`` bytes."""
    if inode.seals & F_SEAL_WRITE or inode.seals & F_SEAL_GROW and end > inode.i_size:
        raise SysError(EPERM)


def check_resize_seals(inode: Inode, size: int) -> None:
    if inode.seals & F_SEAL_SHRINK and size < inode.i_size or inode.seals & F_SEAL_GROW and size > inode.i_size:
        raise SysError(EPERM)
