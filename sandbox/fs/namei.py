"""From a path to a dentry. Linux: fs/namei.c, 2.6.7 (limits on symbolic links: 40 in one walk, as since 2.6.18).

walk(task, b"/a/b/c")    -> Dentry of c
walk_parent(...)         -> (Dentry of b, b"c", trailing slash?)   for calls that create or remove c
"""

from __future__ import annotations

from errno import ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR
from stat import S_IFDIR, S_IFLNK
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from sandbox.fs.dentry import Dentry, dotdot
from sandbox.fs.inode import permission
from sandbox.fs.uapi import MAX_SYMLINKS, MAY_EXEC, NAME_MAX, PATH_MAX, S_IFMT

if TYPE_CHECKING:
    from sandbox.kernel.task import Task


def walk(
    task: Task | None, path: bytes, base: Dentry | None = None, follow: bool = True, root: Dentry | None = None
) -> Dentry:
    """The dentry `path` leads to. `base` stands for the working directory; `follow`: a symbolic link at the end
    is followed. Without a task (the kernel's own walks) `root` is given and everything is allowed. Raises ENOENT,
    ENOTDIR, EACCES, ELOOP, ENAMETOOLONG."""
    _check_length(path)
    if root is None:
        root = _root_of(task)
    if path[0] == 47:
        at = root
    else:
        at = base if base is not None else task.fs.cwd if task is not None else root
    names = path.split(b"/")
    must_be_dir = not names[-1]
    names = [n for n in names if n]
    names.reverse()
    checked = task is not None and task.fsuid != 0
    links = 0
    while names:
        name = names.pop()
        inode = at.inode
        if inode.mode & S_IFMT != S_IFDIR:
            raise SysError(ENOTDIR)
        if checked:
            permission(task, inode, MAY_EXEC)
        if name == b".":
            continue
        if name == b"..":
            at = dotdot(at, root)
            continue
        child = at.children.get(name)
        if child is None:
            if len(name) > NAME_MAX:
                raise SysError(ENAMETOOLONG)
            child = inode.lookup(at, name)
        if child.inode.mode & S_IFMT == S_IFLNK:
            if names or follow or must_be_dir:
                links += 1
                if links > MAX_SYMLINKS:
                    raise SysError(ELOOP)
                at, slash = _follow_link(task, at, child, root, names)
                must_be_dir = must_be_dir or slash
                continue
        elif child.mounted is not None:
            child = child.mounted
        at = child
    if must_be_dir and at.inode.mode & S_IFMT != S_IFDIR:
        raise SysError(ENOTDIR)
    return at


def _root_of(task: Task | None) -> Dentry:
    assert task is not None, "the kernel's own walks say where the root is"
    return task.fs.root


def _check_length(path: bytes) -> None:
    if not path:
        raise SysError(ENOENT)
    if len(path) >= PATH_MAX:
        raise SysError(ENAMETOOLONG)


def _follow_link(task: Task | None, at: Dentry, link: Dentry, root: Dentry, names: list[bytes]) -> tuple[Dentry, bool]:
    """Where the walk goes on from a symbolic link in directory `at`, and whether it ends in a slash there. The names
    of its target are put before those that are left, `names` (last first). ENOENT for an empty target."""
    target = link.inode.follow_link(task)
    if isinstance(target, Dentry):
        return target, False
    if not target:
        raise SysError(ENOENT)
    parts = target.split(b"/")
    slash = not parts[-1] and not names
    names.extend(n for n in reversed(parts) if n)
    return root if target[0] == 47 else at, slash


def walk_parent(
    task: Task | None, path: bytes, base: Dentry | None = None, root: Dentry | None = None
) -> tuple[Dentry, bytes, bool]:
    """(directory, last name, trailing slash). The last name may be `.`, `..` or empty (the path is `/`); it need
    not exist."""
    _check_length(path)
    if root is None:
        root = _root_of(task)
    bare = path.rstrip(b"/")
    if not bare:
        return root, b"", True
    head, slash, last = bare.rpartition(b"/")
    if slash:
        at = walk(task, head or b"/", base, True, root)
    else:
        at = base if base is not None else task.fs.cwd if task is not None else root
    inode = at.inode
    if inode.mode & S_IFMT != S_IFDIR:
        raise SysError(ENOTDIR)
    if task is not None and task.fsuid:
        permission(task, inode, MAY_EXEC)
    if len(last) > NAME_MAX:
        raise SysError(ENAMETOOLONG)
    return at, last, len(bare) != len(path)


def child_of(at: Dentry, name: bytes) -> Dentry | None:
    """The entry `name` of directory `at`, or None. What is mounted on it is not looked through."""
    child = at.children.get(name)
    if child is None:
        try:
            child = at.inode.lookup(at, name)
        except SysError as error:
            if error.errno != ENOENT:
                raise
    return child
