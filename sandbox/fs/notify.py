"""Directory notification, F_NOTIFY: a signal when something in a directory changes. Linux: fs/notify/dnotify/dnotify.c,
6.1 (2.6.7: fs/dnotify.c).

A watch belongs to an open directory and a descriptor table; without DN_MULTISHOT the first event ends it.
"""

from __future__ import annotations

from errno import ENOTDIR
from stat import S_ISDIR
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from sandbox.fs.uapi import DN_CREATE, DN_DELETE, DN_MULTISHOT, DN_RENAME

if TYPE_CHECKING:
    from sandbox.fs.dentry import Dentry
    from sandbox.fs.fdtable import FileTable
    from sandbox.fs.file import File
    from sandbox.fs.inode import Inode
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task import Task


class DirectoryWatch:
    """What a descriptor table wants to hear of an open directory: `mask`, DN_ bits. The signal tells `fd`."""

    __slots__ = ("kernel", "file", "fd", "table", "mask")

    def __init__(self, kernel: Kernel, file: File, fd: int, table: FileTable) -> None:
        self.kernel = kernel
        self.file = file
        self.fd = fd
        self.table = table
        self.mask = 0


def watch(task: Task, file: File, fd: int, mask: int) -> None:
    """F_NOTIFY: adds to what the caller watches; no event at all ends it. ENOTDIR."""
    from sandbox.fs.sigio import own_by_default

    if not mask & ~DN_MULTISHOT:
        forget(file, task.files)
        return
    inode = file.inode
    if not S_ISDIR(inode.mode):
        raise SysError(ENOTDIR)
    mine = next((one for one in inode.watches or () if one.file is file and one.table is task.files), None)
    if mine is None:
        mine = DirectoryWatch(task.kernel, file, fd, task.files)
        inode.watches = [*(inode.watches or ()), mine]
    mine.fd = fd
    mine.mask |= mask
    own_by_default(task, file)


def forget(file: File, table: FileTable) -> None:
    """A descriptor of the table for the directory is closed, whichever."""
    _keep(file.inode, [one for one in file.inode.watches or () if one.file is not file or one.table is not table])


def _keep(inode: Inode, watches: list[DirectoryWatch]) -> None:
    inode.watches = watches or None


def happened(directory: Inode, event: int) -> None:
    """`event` (one DN_* bit) happened in the directory, or to itself."""
    from sandbox.fs.sigio import send_sigio

    for one in directory.watches or ():
        if one.mask & event:
            if not one.mask & DN_MULTISHOT:
                _keep(directory, [other for other in directory.watches or () if other is not one])
            send_sigio(one.kernel, one.file, one.fd)


def touched(dentry: Dentry, event: int) -> None:
    """`event` happened to what `dentry` names: its directory hears of it, and it itself if it is a directory."""
    parent = dentry.parent.inode
    if parent.watches:
        happened(parent, event)
    inode = dentry.inode
    if inode.watches and inode is not parent:
        happened(inode, event)


def moved(old: Inode, new: Inode) -> None:
    if old is new:
        happened(old, DN_RENAME)
    happened(old, DN_DELETE)
    happened(new, DN_CREATE)
