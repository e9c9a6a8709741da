"""System calls that make, remove and change names. Linux: fs/namei.c, 2.6.7; *at: 2.6.16; renameat2: 3.15."""

from __future__ import annotations

from errno import EBUSY, EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, EXDEV
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK, S_ISDIR
from typing import TYPE_CHECKING

from mmcore.errors import NotHere, SysError
from sandbox.fs.at import CWD, walk_at, walk_parent_at
from sandbox.fs.dentry import Dentry
from sandbox.fs.namei import child_of
from sandbox.fs.notify import happened, moved
from sandbox.fs.tmpfs import TmpfsInode
from sandbox.fs.uapi import (
    AT_EMPTY_PATH,
    AT_REMOVEDIR,
    AT_SYMLINK_FOLLOW,
    DN_CREATE,
    DN_DELETE,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    S_IFMT,
    new_decode_dev,
)
from sandbox.fs.vfs import may_create, may_delete
from sandbox.kernel.table import syscall
from sandbox.kernel.uaccess import strncpy_from_user

if TYPE_CHECKING:
    from sandbox.kernel.task import Task


def _creating(task: Task, dirfd: int, path: bytes, directory: bool = False) -> tuple[Dentry, bytes]:
    """(directory, name) for a call that makes a name. EEXIST, ENOENT (trailing slash on what is no directory), EROFS,
    EACCES."""
    parent, name, slash = walk_parent_at(task, dirfd, path)
    if not name or name in (b".", b".."):
        raise SysError(EEXIST)
    if child_of(parent, name) is not None:
        raise SysError(EEXIST)
    if slash and not directory:
        raise SysError(ENOENT)
    may_create(task, parent)
    return parent, name


# making
@syscall(296, "mkdirat", 3)
def sys_mkdirat(task: Task, dirfd: int, path: int, mode: int) -> int:
    parent, name = _creating(task, dirfd, strncpy_from_user(task, path), directory=True)
    parent.inode.create(task, parent, name, S_IFDIR | mode & 0o1777 & ~task.fs.umask)
    happened(parent.inode, DN_CREATE)
    return 0


@syscall(39, "mkdir", 2)
def sys_mkdir(task: Task, path: int, mode: int) -> int:
    return sys_mkdirat(task, CWD, path, mode)


@syscall(297, "mknodat", 4)
def sys_mknodat(task: Task, dirfd: int, path: int, mode: int, dev: int) -> int:
    kind = mode & S_IFMT
    if kind == S_IFDIR:
        raise SysError(EPERM)
    if kind not in (0, S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK):
        raise SysError(EINVAL)
    name_bytes = strncpy_from_user(task, path)
    parent, name = _creating(task, dirfd, name_bytes)
    if kind in (S_IFCHR, S_IFBLK) and task.fsuid:
        raise SysError(EPERM)
    parent.inode.create(task, parent, name, (kind or S_IFREG) | mode & 0o7777 & ~task.fs.umask, new_decode_dev(dev))
    happened(parent.inode, DN_CREATE)
    return 0


@syscall(14, "mknod", 3)
def sys_mknod(task: Task, path: int, mode: int, dev: int) -> int:
    return sys_mknodat(task, CWD, path, mode, dev)


@syscall(304, "symlinkat", 3)
def sys_symlinkat(task: Task, target: int, dirfd: int, path: int) -> int:
    text = strncpy_from_user(task, target)
    if not text:
        raise SysError(ENOENT)
    parent, name = _creating(task, dirfd, strncpy_from_user(task, path))
    parent.inode.create(task, parent, name, S_IFLNK | 0o777, 0, text)
    happened(parent.inode, DN_CREATE)
    return 0


@syscall(83, "symlink", 2)
def sys_symlink(task: Task, target: int, path: int) -> int:
    return sys_symlinkat(task, target, CWD, path)


@syscall(303, "linkat", 5)
def sys_linkat(task: Task, olddir: int, old: int, newdir: int, new: int, flags: int) -> int:
    if flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH):
        raise SysError(EINVAL)
    source = walk_at(
        task, olddir, strncpy_from_user(task, old), bool(flags & AT_SYMLINK_FOLLOW), bool(flags & AT_EMPTY_PATH)
    )
    inode = source.inode
    parent, name = _creating(task, newdir, strncpy_from_user(task, new))
    if inode.sb is not parent.inode.sb:
        raise SysError(EXDEV)
    if S_ISDIR(inode.mode):
        raise SysError(EPERM)
    if inode.nlink == 0 and source.name != b"#tmpfile":
        raise SysError(ENOENT)
    parent.inode.link(parent, name, inode)
    happened(parent.inode, DN_CREATE)
    return 0


@syscall(9, "link", 2)
def sys_link(task: Task, old: int, new: int) -> int:
    return sys_linkat(task, CWD, old, CWD, new, 0)


# removing
def _rmdir(task: Task, dirfd: int, path: bytes) -> int:
    parent, name, _ = walk_parent_at(task, dirfd, path)
    if name == b".":
        raise SysError(EINVAL)
    if name == b"..":
        raise SysError(ENOTEMPTY)
    if not name:
        raise SysError(EBUSY)
    child = child_of(parent, name)
    if child is None:
        raise SysError(ENOENT)
    may_delete(task, parent, child)
    if not S_ISDIR(child.inode.mode):
        raise SysError(ENOTDIR)
    if child.mounted is not None or child is task.fs.root:
        raise SysError(EBUSY)
    parent.inode.rmdir(parent, child)
    happened(parent.inode, DN_DELETE)
    return 0


def do_unlinkat(task: Task, dirfd: int, path: bytes) -> int:
    parent, name, slash = walk_parent_at(task, dirfd, path)
    if not name or name in (b".", b".."):
        raise SysError(EISDIR)
    child = child_of(parent, name)
    if child is None:
        raise SysError(ENOENT)
    if slash:
        raise SysError(EISDIR if S_ISDIR(child.inode.mode) else ENOTDIR)
    may_delete(task, parent, child)
    if S_ISDIR(child.inode.mode):
        raise SysError(EISDIR)
    if child.mounted is not None:
        raise SysError(EBUSY)
    parent.inode.unlink(parent, child)
    happened(parent.inode, DN_DELETE)
    return 0


@syscall(301, "unlinkat", 3)
def sys_unlinkat(task: Task, dirfd: int, path: int, flags: int) -> int:
    if flags & ~AT_REMOVEDIR:
        raise SysError(EINVAL)
    name = strncpy_from_user(task, path)
    return _rmdir(task, dirfd, name) if flags else do_unlinkat(task, dirfd, name)


@syscall(10, "unlink", 1)
def sys_unlink(task: Task, path: int) -> int:
    return do_unlinkat(task, CWD, strncpy_from_user(task, path))


@syscall(40, "rmdir", 1)
def sys_rmdir(task: Task, path: int) -> int:
    return _rmdir(task, CWD, strncpy_from_user(task, path))


# renaming
@syscall(353, "renameat2", 5)
def sys_renameat2(task: Task, olddir: int, old: int, newdir: int, new: int, flags: int) -> int:
    """Linux: do_rename and vfs_rename, fs/namei.c, 2.6.7; flags: 3.15."""
    if flags & RENAME_WHITEOUT and not flags & ~(RENAME_WHITEOUT | RENAME_NOREPLACE):
        raise NotHere(EINVAL, "RENAME_WHITEOUT (renameat2)")
    if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) or flags == RENAME_NOREPLACE | RENAME_EXCHANGE:
        raise SysError(EINVAL)
    exchange = bool(flags & RENAME_EXCHANGE)
    old_parent, old_name, old_slash = walk_parent_at(task, olddir, strncpy_from_user(task, old))
    new_parent, new_name, new_slash = walk_parent_at(task, newdir, strncpy_from_user(task, new))
    if old_parent.inode.sb is not new_parent.inode.sb:
        raise SysError(EXDEV)
    if not old_name or old_name in (b".", b".."):
        raise SysError(EBUSY)
    if not new_name or new_name in (b".", b".."):
        raise SysError(EEXIST if flags & RENAME_NOREPLACE else EBUSY)
    source = child_of(old_parent, old_name)
    if source is None:
        raise SysError(ENOENT)
    victim = child_of(new_parent, new_name)
    if flags & RENAME_NOREPLACE and victim is not None:
        raise SysError(EEXIST)
    if exchange and victim is None:
        raise SysError(ENOENT)
    if not S_ISDIR(source.inode.mode) and (old_slash or (new_slash and not exchange)):
        raise SysError(ENOTDIR)
    _may_rename(task, source, old_parent, victim, new_parent, exchange)
    if victim is not None and victim.inode is source.inode:
        return 0
    _check_kinds(source, victim, exchange)
    directory = old_parent.inode
    if exchange:
        assert victim is not None
        if not isinstance(directory, TmpfsInode):
            raise NotHere(EINVAL, "RENAME_EXCHANGE in a mount (renameat2)")
        directory.exchange(source, victim)
        moved(new_parent.inode, directory)
    else:
        directory.rename(source, new_parent, new_name, victim)
    moved(directory, new_parent.inode)
    return 0


def _may_rename(
    task: Task, source: Dentry, old_parent: Dentry, victim: Dentry | None, new_parent: Dentry, exchange: bool
) -> None:
    """No directory moves below itself (EINVAL) or takes the place of one above it (ENOTEMPTY), and the task may write
    to both parents."""
    if S_ISDIR(source.inode.mode) and source.covers(new_parent):
        raise SysError(EINVAL)
    if victim is not None and S_ISDIR(victim.inode.mode) and victim.covers(old_parent):
        raise SysError(EINVAL if exchange else ENOTEMPTY)
    may_delete(task, old_parent, source)
    if victim is None:
        may_create(task, new_parent)
    else:
        may_delete(task, new_parent, victim)


def _check_kinds(source: Dentry, victim: Dentry | None, exchange: bool) -> None:
    """A directory replaces only a directory (ENOTDIR), anything else no directory (EISDIR); what is mounted on stays
    where it is (EBUSY)."""
    if victim is not None and not exchange:
        is_dir = S_ISDIR(source.inode.mode)
        if is_dir and not S_ISDIR(victim.inode.mode):
            raise SysError(ENOTDIR)
        if not is_dir and S_ISDIR(victim.inode.mode):
            raise SysError(EISDIR)
    if source.mounted is not None or (victim is not None and victim.mounted is not None):
        raise SysError(EBUSY)


@syscall(302, "renameat", 4)
def sys_renameat(task: Task, olddir: int, old: int, newdir: int, new: int) -> int:
    return sys_renameat2(task, olddir, old, newdir, new, 0)


@syscall(38, "rename", 2)
def sys_rename(task: Task, old: int, new: int) -> int:
    return sys_renameat2(task, CWD, old, CWD, new, 0)
