"""Names: the tree of dentries, mount points included.

A mounted file system's root replaces the dentry it covers while walking down, and hands back to it while walking up, so
a path is one dentry (no file system is mounted twice). In-memory file systems keep all their dentries; those of /proc
come and go with each walk. Linux: fs/dcache.c, 2.6.7.
"""

from __future__ import annotations

from mmcore.errors import OutOfMemory
from sandbox.fs.inode import Inode, SuperBlock

DNAME_INLINE_LEN = 36  # longer names take an object of the general caches. Linux: include/linux/dcache.h, 2.6.7


class Dentry:
    """A name in a directory. `count`: open files and working directories that hold it; `hashed`: the name still
    leads here."""

    __slots__ = ("name", "parent", "inode", "children", "count", "hashed", "mounted", "sb", "addr", "external", "busy")

    def __init__(
        self, parent: Dentry | None, name: bytes, inode: Inode, sb: SuperBlock, transient: bool = False
    ) -> None:
        caches = sb.caches
        self.addr = self.external = 0
        if not transient:
            self.addr = caches.dentry.alloc()
            if len(name) >= DNAME_INLINE_LEN:
                try:
                    self.external = caches.slab.kmalloc(len(name) + 1)
                except OutOfMemory:
                    caches.dentry.free(self.addr)
                    raise
        self.name = name
        self.parent = parent if parent is not None else self
        self.inode = inode
        self.sb = sb
        self.children: dict[bytes, Dentry] = {}
        self.count = 0
        self.hashed = True
        self.mounted: Dentry | None = None
        self.busy = 0  # mount points below that keep it from being removed
        inode.count += 1

    def get(self) -> Dentry:
        self.count += 1
        return self

    def put(self) -> None:
        self.count -= 1
        if self.count == 0 and not self.hashed:
            self._free()

    def unhash(self) -> None:
        """The name is gone (unlink, rmdir, replaced by rename); who holds the dentry keeps the inode."""
        self.hashed = False
        if self.count == 0:
            self._free()

    def _free(self) -> None:
        caches = self.sb.caches
        if self.addr:
            caches.dentry.free(self.addr)
            self.addr = 0
        if self.external:
            caches.slab.kfree(self.external)
            self.external = 0
        self.inode.put()

    def covers(self, other: Dentry) -> bool:
        """Is `other` this dentry or below it?"""
        while True:
            if other is self:
                return True
            up = other.parent
            if up is other:
                covered = other.sb.covered
                if covered is None:
                    return False
                up = covered
            other = up


def dotdot(at: Dentry, root: Dentry) -> Dentry:
    """The parent, across mount points, no higher than `root`."""
    while at is not root:
        if at.parent is not at:
            return at.parent
        covered = at.sb.covered
        if covered is None:
            return at
        at = covered
    return at


def d_path(at: Dentry, root: Dentry | None = None) -> bytes:
    """Absolute path, with " (deleted)" when the name is gone. Pipes and the like give their own form (`pipe:[5]`).
    Linux: fs/dcache.c, __d_path, 2.6.7."""
    tail = b"" if at.hashed else b" (deleted)"
    names: list[bytes] = []
    while at is not root:
        if at.parent is at:
            covered = at.sb.covered
            if covered is None:
                if at.name:
                    if not names:
                        return at.name
                    names.append(at.name)
                break
            at = covered
            continue
        names.append(at.name)
        at = at.parent
    return b"/" + b"/".join(reversed(names)) + tail


def reachable(at: Dentry, root: Dentry) -> bool:
    return root.covers(at)
