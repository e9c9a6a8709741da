"""The in-memory file system: names are dentries, the bytes of a regular file are pages of guest RAM that go to swap
under pressure.

A directory lists its newest entry first, as Linux's does. Linux: mm/shmem.c and fs/libfs.c, 2.6.7.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL, EISDIR, EMLINK, ENOENT, ENOSPC, ENOTEMPTY, ENXIO
from stat import S_IFDIR, S_IFLNK, S_IFREG, S_ISDIR
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from mmcore.files.shmem import ShmemSuper
from sandbox.fs.dentry import Dentry
from sandbox.fs.file import DirFile, File, RegularFile
from sandbox.fs.inode import Inode, SuperBlock, check_size, init_owner
from sandbox.fs.memfd import check_resize_seals
from sandbox.fs.uapi import S_IFMT

if TYPE_CHECKING:
    from mmcore.files.shmem import ShmemSpace
    from sandbox.fs.file import Opening
    from sandbox.fs.inode import Caches
    from sandbox.kernel.task import Task

BOGO_DIRENT_SIZE = 20  # what a directory entry adds to a directory's size. Linux: mm/shmem.c
_INLINE_SYMLINK = 60


class TmpfsSuper(SuperBlock):
    """`new_space(inode)` makes a page cache; `blocks` counts the pages in all of them; at most `max_inodes`
    inodes."""

    __slots__ = ("new_space", "blocks", "max_inodes", "inodes", "open_special")

    def __init__(
        self,
        fstype: str,
        source: str,
        dev: int,
        magic: int,
        caches: Caches,
        now: Callable[[], int],
        *,
        new_space: Callable[[Inode], ShmemSpace],
        blocks: ShmemSuper,
        max_inodes: int,
        open_special: Callable[[Task | None, Dentry, int], File | Opening] | None = None,
    ) -> None:
        super().__init__(fstype, source, dev, magic, caches, now)
        self.new_space = new_space
        self.blocks = blocks
        self.max_inodes = max_inodes
        self.inodes = 0
        self.open_special = open_special  # opens device nodes and FIFOs
        self.root: Dentry = Dentry(None, b"", TmpfsInode(self, S_IFDIR | 0o755), self).get()

    def nameless(self, task: Task | None, mode: int, name: bytes) -> Dentry:
        """A new file without a name (memfd, shared anonymous memory); `name` is for /proc to show."""
        inode = self.root.inode
        assert isinstance(inode, TmpfsInode)
        return inode.tmpfile(task, self.root, mode, name)

    def statfs(self) -> tuple[int, int, int, int]:
        limit = self.blocks.max_blocks or 0
        return limit, max(0, limit - self.blocks.used), self.max_inodes, self.max_inodes - self.inodes


class TmpfsInode(Inode):
    """`target` is a symbolic link's text, `target_mem` the kernel address of a long one. Raises ENOSPC when the
    superblock has no inode left. Linux: shmem_get_inode, mm/shmem.c, 2.6.7."""

    __slots__ = ("target", "target_mem")
    sb: TmpfsSuper
    mapping: ShmemSpace | None

    def __init__(self, sb: TmpfsSuper, mode: int) -> None:
        if sb.inodes >= sb.max_inodes:
            raise SysError(ENOSPC)
        super().__init__(sb, mode, sb.caches.shmem_inode)
        sb.inodes += 1
        if mode & S_IFMT == S_IFDIR:
            self.i_size = 2 * BOGO_DIRENT_SIZE
        self.target = b""
        self.target_mem = 0
        if mode & S_IFMT == S_IFREG:
            self.mapping = sb.new_space(self)

    def evict(self) -> None:
        if self.target_mem:
            self.sb.caches.slab.kfree(self.target_mem)
            self.target_mem = 0
        super().evict()
        self.sb.inodes -= 1

    def open(self, task: Task | None, dentry: Dentry, flags: int) -> File | Opening:
        kind = self.mode & S_IFMT
        if kind == S_IFREG:
            return RegularFile(dentry, flags)
        if kind == S_IFDIR:
            return DirFile(dentry, flags)
        if self.sb.open_special is None:
            raise SysError(ENXIO)
        return self.sb.open_special(task, dentry, flags)

    def lookup(self, parent: Dentry, name: bytes) -> Dentry:
        raise SysError(ENOENT)  # every name is in memory already

    def still_there(self, dentry: Dentry, name: bytes) -> bool:
        return name in dentry.children

    def entries(self, dentry: Dentry) -> list[tuple[bytes, int, int]]:
        listing = []
        for child in reversed(dentry.children.values()):
            inode = child.mounted.inode if child.mounted is not None else child.inode
            listing.append((child.name, inode.ino, inode.mode))
        return listing

    def _attach(self, parent: Dentry, name: bytes, inode: Inode) -> Dentry:
        child = Dentry(parent, name, inode, self.sb)
        parent.children[name] = child
        self.i_size += BOGO_DIRENT_SIZE
        self.touch()
        return child

    def create(
        self, task: Task | None, parent: Dentry, name: bytes, mode: int, rdev: int = 0, target: bytes = b""
    ) -> Dentry:
        if not parent.hashed:
            raise SysError(ENOENT)
        inode = TmpfsInode(self.sb, mode)
        try:
            if target:
                if len(target) >= _INLINE_SYMLINK:
                    inode.target_mem = self.sb.caches.slab.kmalloc(len(target) + 1)
                inode.target = target
                inode.i_size = len(target)
            inode.rdev = rdev
            init_owner(task, inode, self)
            child = self._attach(parent, name, inode)
        except SysError:
            if inode.count == 0:
                inode.evict()
            raise
        if S_ISDIR(mode):
            self.nlink += 1
        return child

    def tmpfile(self, task: Task | None, parent: Dentry, mode: int, name: bytes) -> Dentry:
        """An inode without a name (O_TMPFILE, memfd, shared anonymous memory): its dentry is born unhashed."""
        inode = TmpfsInode(self.sb, S_IFREG | mode)
        inode.nlink = 0
        init_owner(task, inode, parent.inode)
        try:
            child = Dentry(parent, name, inode, self.sb)
        except SysError:
            inode.evict()
            raise
        child.hashed = False
        return child

    def link(self, parent: Dentry, name: bytes, inode: Inode) -> Dentry:
        if inode.nlink >= 0x7FFFFFFF:
            raise SysError(EMLINK)
        child = self._attach(parent, name, inode)
        inode.nlink += 1
        inode.ctime = self.sb.now()
        return child

    def unlink(self, parent: Dentry, child: Dentry) -> None:
        inode = child.inode
        del parent.children[child.name]
        self.i_size -= BOGO_DIRENT_SIZE
        self.touch()
        inode.nlink -= 1
        inode.ctime = self.ctime
        child.unhash()

    def rmdir(self, parent: Dentry, child: Dentry) -> None:
        if child.children:
            raise SysError(ENOTEMPTY)
        child.inode.nlink = 1
        self.nlink -= 1
        self.unlink(parent, child)

    def rename(self, child: Dentry, new_parent: Dentry, name: bytes, victim: Dentry | None) -> None:
        new_dir = new_parent.inode
        if victim is not None:
            if S_ISDIR(victim.inode.mode):
                new_dir.rmdir(new_parent, victim)
            else:
                new_dir.unlink(new_parent, victim)
        old_parent = child.parent
        del old_parent.children[child.name]
        self.i_size -= BOGO_DIRENT_SIZE
        new_dir.i_size += BOGO_DIRENT_SIZE
        if S_ISDIR(child.inode.mode) and new_dir is not self:
            self.nlink -= 1
            new_dir.nlink += 1
        child.name = name
        child.parent = new_parent
        new_parent.children[name] = child
        self.touch()
        new_dir.touch()
        child.inode.ctime = self.ctime

    def exchange(self, a: Dentry, b: Dentry) -> None:
        """RENAME_EXCHANGE: two names change places."""
        pa, pb = a.parent, b.parent
        if pa is not pb and S_ISDIR(a.inode.mode) != S_ISDIR(b.inode.mode):
            up, down = (pa, pb) if S_ISDIR(a.inode.mode) else (pb, pa)
            up.inode.nlink -= 1
            down.inode.nlink += 1
        pa.children[a.name], pb.children[b.name] = b, a
        a.name, b.name = b.name, a.name
        a.parent, b.parent = pb, pa
        pa.inode.touch()
        pb.inode.touch()
        a.inode.ctime = b.inode.ctime = self.sb.now()

    def readlink(self, task: Task | None) -> bytes:
        if self.mode & S_IFMT != S_IFLNK:
            raise SysError(EINVAL)
        return self.target

    def truncate(self, size: int) -> None:
        if self.mapping is None:
            raise SysError(EISDIR if S_ISDIR(self.mode) else 22)
        check_size(size)
        if self.seals:
            check_resize_seals(self, size)
        self.mapping.truncate(size)
        self.i_size = size
        self.touch()
