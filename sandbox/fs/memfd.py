"""Files without a name: memfd_create and its seals. Linux: mm/memfd.c, 6.18 (2.6.7 had none; native Linux decides what
a guest sees)."""

from __future__ import annotations

from errno import EBUSY, EINVAL, EPERM
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from mmcore.files.shmem import ShmemSpace
from sandbox.fs.file import File, RegularFile
from sandbox.fs.inode import Inode
from sandbox.fs.uapi import (
    F_SEAL_FUTURE_WRITE,
    F_SEAL_GROW,
    F_SEAL_SEAL,
    F_SEAL_SHRINK,
    F_SEAL_WRITE,
    FMODE_WRITE,
    O_RDWR,
)

if TYPE_CHECKING:
    from sandbox.fs.tmpfs import TmpfsSuper
    from sandbox.kernel.task import Task

ALL_SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE
_WRITE_SEALS = F_SEAL_WRITE | F_SEAL_FUTURE_WRITE
SEALABLE = 0x100  # our own bit in Inode.seals: made with MFD_ALLOW_SEALING


def memfd(task: Task, sb: TmpfsSuper, name: bytes, sealable: bool) -> File:
    """A new anonymous tmpfs file, open for reading and writing. `sb`: the internal tmpfs."""
    dentry = sb.nameless(task, 0o777, b"memfd:" + name)
    dentry.inode.seals = SEALABLE if sealable else SEALABLE | F_SEAL_SEAL
    return RegularFile(dentry, O_RDWR)


def add_seals(file: File, seals: int) -> int:
    """F_ADD_SEALS. F_SEAL_WRITE is EBUSY while a shared mapping may write; F_SEAL_FUTURE_WRITE leaves those there
    are."""
    inode = file.inode
    if not file.f_mode & FMODE_WRITE:
        raise SysError(EPERM)
    if not inode.seals & SEALABLE or seals & ~ALL_SEALS:
        raise SysError(EINVAL)
    if inode.seals & F_SEAL_SEAL:
        raise SysError(EPERM)
    mapping = inode.mapping
    assert isinstance(mapping, ShmemSpace)
    if seals & ~inode.seals & F_SEAL_WRITE and mapping.i_mmap_writable:
        raise SysError(EBUSY)
    inode.seals |= seals
    if seals & _WRITE_SEALS:
        mapping.write_sealed = True
    return 0


def get_seals(file: File) -> int:
    if not file.inode.seals & SEALABLE:
        raise SysError(EINVAL)
    return file.inode.seals & ALL_SEALS


def check_write_seals(inode: Inode) -> None:
    """EPERM where nothing may be written."""
    if inode.seals & _WRITE_SEALS:
        raise SysError(EPERM)


def within_seals(inode: Inode, pos: int, data: bytes) -> bytes:
    """What of `data` may be written at `pos`: page by page, up to the first that would make the file longer. EPERM
    for nothing at all."""
    check_write_seals(inode)
    if inode.seals & F_SEAL_GROW and pos + len(data) > inode.i_size:
        data = data[: max(0, (inode.i_size & ~4095) - pos)]
        if not data:
            raise SysError(EPERM)
    return data


def check_resize_seals(inode: Inode, size: int) -> None:
    if (inode.seals & F_SEAL_SHRINK and size < inode.i_size) or (inode.seals & F_SEAL_GROW and size > inode.i_size):
        raise SysError(EPERM)
