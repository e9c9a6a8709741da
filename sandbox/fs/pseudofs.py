"""File systems whose files are made when they are read: /proc and /sys.

A tree of nodes (Dir, Text, Link) describes what there is; inodes and dentries are made at each walk and cost slab
objects only while a file is open. Linux: fs/proc/generic.c, fs/seq_file.c, 2.6.7.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL, EIO, ENOENT, ESPIPE
from stat import S_IFDIR, S_IFLNK, S_IFREG
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from sandbox.fs.dentry import Dentry
from sandbox.fs.file import DirFile, File, SeekableFile
from sandbox.fs.inode import Inode, SuperBlock
from sandbox.fs.uapi import SEEK_END

if TYPE_CHECKING:
    from sandbox.kernel.task import Task


class PseudoNode:
    """What a walk finds. `ino` 0: a number is given when the tree is built."""

    __slots__ = ("mode", "ino", "uid", "gid")

    def __init__(self, mode: int, ino: int = 0) -> None:
        self.mode = mode
        self.ino = ino
        self.uid = self.gid = 0


class Dir(PseudoNode):
    """A directory of fixed entries; a subclass adds those that come and go."""

    __slots__ = ("fixed", "subdirs")

    def __init__(self, fixed: dict[str, PseudoNode] | None = None, mode: int = 0o555, ino: int = 0) -> None:
        super().__init__(S_IFDIR | mode, ino)
        self.fixed = {name.encode(): node for name, node in (fixed or {}).items()}
        self.subdirs = sum(isinstance(node, Dir) for node in self.fixed.values())

    def find(self, name: bytes) -> PseudoNode | None:
        return self.fixed.get(name)

    def list(self) -> list[tuple[bytes, PseudoNode]]:
        return list(self.fixed.items())


class Text(PseudoNode):
    """`show()` gives the content; `store(task, data)`, when there is one, takes what is written. `positioned`: by a
    position, as a seq_file does not (seq_open, 6.1)."""

    __slots__ = ("show", "store", "positioned")

    def __init__(
        self,
        show: Callable[[], str | bytes],
        store: Callable[[Task | None, bytes], None] | None = None,
        mode: int = 0,
        ino: int = 0,
        positioned: bool = True,
    ) -> None:
        super().__init__(S_IFREG | (mode or (0o644 if store else 0o444)), ino)
        self.show = show
        self.store = store
        self.positioned = positioned

    def open(self, task: Task | None, dentry: Dentry, flags: int) -> PseudoFile:
        return PseudoFile(dentry, flags, self)


class Link(PseudoNode):
    """`text(task)` is what readlink gives; `jump(task)`, when there is one, the dentry a walk goes to; `size`
    what lstat says."""

    __slots__ = ("text", "jump", "size")

    def __init__(
        self,
        text: Callable[[Task | None], bytes],
        jump: Callable[[Task | None], Dentry] | None = None,
        ino: int = 0,
        size: int = 0,
    ) -> None:
        super().__init__(S_IFLNK | 0o777, ino)
        self.size = size
        self.text = text
        self.jump = jump


def number(sb: SuperBlock, node: PseudoNode) -> None:
    """Gives inode numbers to a tree of fixed nodes, in the order of their definition."""
    if not node.ino:
        node.ino = sb.new_ino()
    if isinstance(node, Dir):
        for child in node.fixed.values():
            number(sb, child)


class PseudoInode(Inode):
    """The inode of a node; made anew for each lookup, its number is the node's."""

    __slots__ = ("node",)

    def __init__(self, sb: SuperBlock, node: PseudoNode) -> None:
        super().__init__(sb, node.mode, None, node.ino)
        self.node = node
        self.uid, self.gid = node.uid, node.gid
        if isinstance(node, Dir):
            self.nlink = 2 + node.subdirs
        elif isinstance(node, Link):
            self.i_size = node.size

    def open(self, task: Task | None, dentry: Dentry, flags: int) -> File:
        node = self.node
        if isinstance(node, Dir):
            return DirFile(dentry, flags)
        if not isinstance(node, Text):
            raise SysError(EINVAL)
        return node.open(task, dentry, flags)

    def lookup(self, parent: Dentry, name: bytes) -> Dentry:
        node = self.node.find(name) if isinstance(self.node, Dir) else None
        if node is None:
            raise SysError(ENOENT)
        return Dentry(parent, name, PseudoInode(self.sb, node), self.sb, transient=True)

    def entries(self, dentry: Dentry) -> list[tuple[bytes, int, int]]:
        assert isinstance(self.node, Dir)
        return [(name, node.ino, node.mode) for name, node in self.node.list()]

    def readlink(self, task: Task | None) -> bytes:
        if not isinstance(self.node, Link):
            raise SysError(EINVAL)
        return self.node.text(task)

    def follow_link(self, task: Task | None) -> bytes | Dentry:
        node = self.node
        assert isinstance(node, Link)
        return node.jump(task) if node.jump is not None else node.text(task)

    def truncate(self, size: int) -> None:
        """O_TRUNC on a file of /proc does nothing."""

    def create(
        self, task: Task | None, parent: Dentry, name: bytes, mode: int, rdev: int = 0, target: bytes = b""
    ) -> Dentry:
        raise SysError(ENOENT)


class PseudoFile(SeekableFile):
    """The text is made at the first read, and again at each read from the start."""

    __slots__ = ("node", "text", "objects")

    def __init__(self, dentry: Dentry, flags: int, node: Text) -> None:
        caches = dentry.sb.caches
        inode_addr = caches.proc_inode.alloc()
        try:
            dentry_addr = caches.dentry.alloc()
            try:
                super().__init__(dentry, flags)
            except SysError:
                caches.dentry.free(dentry_addr)
                raise
        except SysError:
            caches.proc_inode.free(inode_addr)
            raise
        self.objects = (inode_addr, dentry_addr)
        self.node = node
        self.text: bytes | None = None

    def release(self) -> None:
        caches = self.dentry.sb.caches
        caches.proc_inode.free(self.objects[0])
        caches.dentry.free(self.objects[1])
        super().release()

    def size(self) -> int:
        return 0

    def peek(self, task: Task | None, n: int) -> bytes:
        return self.pread(self.pos, n)

    def pread(self, pos: int, n: int) -> bytes:
        text = self.text
        if text is None or pos == 0:
            made = self.node.show()
            text = self.text = made.encode("utf-8", "surrogateescape") if isinstance(made, str) else made
        return text[pos : pos + n]

    def accept(self, task: Task | None, data: bytes) -> int:
        self._store(task, data)
        if self.node.positioned:
            self.pos += len(data)
        return len(data)

    def pwrite(self, pos: int, data: bytes, task: Task | None = None) -> int:
        if not self.node.positioned:
            raise SysError(ESPIPE)
        self._store(task, data)
        return len(data)

    def _store(self, task: Task | None, data: bytes) -> None:
        if self.node.store is None:
            raise SysError(EIO)
        self.node.store(task, data)

    def llseek(self, offset: int, whence: int) -> int:
        if whence >= SEEK_END:
            raise SysError(EINVAL)
        return super().llseek(offset, whence)


def mount_root(sb: SuperBlock, tree: Dir) -> Dentry:
    """The root dentry of a pseudo file system built from `tree`."""
    number(sb, tree)
    sb.root = Dentry(None, b"", PseudoInode(sb, tree), sb, transient=True)
    sb.root.count = 1
    return sb.root
