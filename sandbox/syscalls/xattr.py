"""System calls on extended attributes: no file system here keeps any, so arguments are checked and the answer is
EOPNOTSUPP.

`ls -l` and `cp -p` ask for them and take that answer for "none", as they do on a file system built without them; ENOSYS
they report. Linux: fs/xattr.c, 2.6.7. An empty list is 0 bytes long.
"""

from __future__ import annotations

from errno import E2BIG, EINVAL, ENAMETOOLONG, EOPNOTSUPP, ERANGE, EROFS
from typing import TYPE_CHECKING, NoReturn

from mmcore.errors import NotHere, SysError
from sandbox.fs.at import fget
from sandbox.fs.inode import Inode
from sandbox.fs.namei import walk
from sandbox.kernel.table import syscall
from sandbox.kernel.uaccess import copy_from_user, strncpy_from_user

if TYPE_CHECKING:
    from sandbox.kernel.task import Task

XATTR_NAME_MAX = 255
XATTR_SIZE_MAX = 65536
XATTR_CREATE, XATTR_REPLACE = 1, 2


def _name(task: Task, name: int) -> bytes:
    """The attribute's name. EFAULT; ERANGE when it is empty or too long."""
    try:
        text = strncpy_from_user(task, name, XATTR_NAME_MAX + 1)
    except SysError as error:
        raise SysError(ERANGE if error.errno == ENAMETOOLONG else error.errno) from None
    if not text:
        raise SysError(ERANGE)
    return text


def _inode(task: Task, path: int, follow: bool = True) -> Inode:
    return walk(task, strncpy_from_user(task, path), follow=follow).inode


def _get(task: Task, inode: Inode, name: int) -> NoReturn:
    _name(task, name)
    raise SysError(EOPNOTSUPP)


def _set(task: Task, inode: Inode, name: int, value: int, size: int, flags: int) -> NoReturn:
    if flags & ~(XATTR_CREATE | XATTR_REPLACE):
        raise SysError(EINVAL)
    _name(task, name)
    if size > XATTR_SIZE_MAX:
        raise SysError(E2BIG)
    if size:
        copy_from_user(task, value, size)
    if inode.sb.readonly:
        raise SysError(EROFS)
    raise NotHere(EOPNOTSUPP, "extended attributes (setxattr)")


@syscall(226, "setxattr", 5)
def sys_setxattr(task: Task, path: int, name: int, value: int, size: int, flags: int) -> int:
    _set(task, _inode(task, path), name, value, size, flags)


@syscall(227, "lsetxattr", 5)
def sys_lsetxattr(task: Task, path: int, name: int, value: int, size: int, flags: int) -> int:
    _set(task, _inode(task, path, False), name, value, size, flags)


@syscall(228, "fsetxattr", 5)
def sys_fsetxattr(task: Task, fd: int, name: int, value: int, size: int, flags: int) -> int:
    _set(task, fget(task, fd).inode, name, value, size, flags)


@syscall(229, "getxattr", 4)
def sys_getxattr(task: Task, path: int, name: int, value: int, size: int) -> int:
    _get(task, _inode(task, path), name)


@syscall(230, "lgetxattr", 4)
def sys_lgetxattr(task: Task, path: int, name: int, value: int, size: int) -> int:
    _get(task, _inode(task, path, False), name)


@syscall(231, "fgetxattr", 4)
def sys_fgetxattr(task: Task, fd: int, name: int, value: int, size: int) -> int:
    _get(task, fget(task, fd).inode, name)


@syscall(232, "listxattr", 3)
def sys_listxattr(task: Task, path: int, names: int, size: int) -> int:
    _inode(task, path)
    return 0


@syscall(233, "llistxattr", 3)
def sys_llistxattr(task: Task, path: int, names: int, size: int) -> int:
    _inode(task, path, False)
    return 0


@syscall(234, "flistxattr", 3)
def sys_flistxattr(task: Task, fd: int, names: int, size: int) -> int:
    fget(task, fd)
    return 0


@syscall(235, "removexattr", 2)
def sys_removexattr(task: Task, path: int, name: int) -> int:
    _get(task, _inode(task, path), name)


@syscall(236, "lremovexattr", 2)
def sys_lremovexattr(task: Task, path: int, name: int) -> int:
    _get(task, _inode(task, path, False), name)


@syscall(237, "fremovexattr", 2)
def sys_fremovexattr(task: Task, fd: int, name: int) -> int:
    _get(task, fget(task, fd).inode, name)
