"""Files of the host shown to the guest by --mount.

    guest path walk ──> HostInode.lookup(name) ──> one component, opened below its parent, never through a symbolic link
    page cache      ──> read_page / write_page  on a host descriptor (a few stay open, least recently used closed first)

A symbolic link is followed by the guest's own walk, in the guest's tree, so none leads out of the mount. Only
directories, regular files, symbolic links and FIFOs exist; everything else on the host is hidden. A FIFO connects guest
processes, as one on NFS connects those of one machine: the host's is never opened. Inode numbers are given in the order
in which the guest meets the files, times are the machine's epoch until the guest writes, owner is root: nothing of the
host but names, modes and contents shows.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from errno import EACCES, EINVAL, EIO, EISDIR, ENOENT, EPERM, EROFS
from stat import S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_ISDIR
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from mmcore.physical.ram import PAGE_SIZE
from sandbox.fs.dentry import Dentry
from sandbox.fs.file import DirFile, RegularFile
from sandbox.fs.inode import BOOT_EPOCH_S, Inode, SuperBlock, check_size, init_owner
from sandbox.fs.pipe import open_fifo
from sandbox.fs.uapi import S_IFMT

if TYPE_CHECKING:
    from mmcore.files.filespace import FileSpace
    from sandbox.fs.file import File, Opening
    from sandbox.fs.inode import Caches
    from sandbox.kernel.task import Task

_EPOCH_NS = BOOT_EPOCH_S * 1_000_000_000
MAX_OPEN = 64  # host descriptors kept open for regular files
_SHOWN = (S_IFDIR, S_IFREG, S_IFLNK, S_IFIFO)


def _host_error(error: OSError) -> SysError:
    return SysError(error.errno or EIO)


def _kind(entry: os.DirEntry[str]) -> int:
    """The kind of file as the listing alone tells it, for a directory that may be read and not searched; 0 for what is
    hidden."""
    if entry.is_symlink():
        return S_IFLNK
    return S_IFDIR if entry.is_dir(follow_symlinks=False) else S_IFREG if entry.is_file(follow_symlinks=False) else 0


class HostSuper(SuperBlock):
    """One mount of the host's `path` (bytes). `new_space(inode)` makes a page cache that reads and writes through
    the inode."""

    __slots__ = ("path", "new_space", "inos", "inodes", "opened", "surplus")

    def __init__(
        self,
        fstype: str,
        source: str,
        dev: int,
        magic: int,
        caches: Caches,
        now: Callable[[], int],
        *,
        path: bytes,
        readonly: bool,
        new_space: Callable[[HostInode], FileSpace],
    ) -> None:
        super().__init__(fstype, source, dev, magic, caches, now)
        self.path = path
        self.readonly = readonly
        self.new_space = new_space
        self.inos: dict[tuple[int, int], int] = {}  # (host device, host inode) -> our number
        self.inodes: dict[tuple[int, int], HostInode] = {}
        self.opened: OrderedDict[HostInode, int] = OrderedDict()
        self.surplus = 0  # objects that reclaim has asked for
        try:
            status = os.stat(path)
        except OSError as error:
            raise _host_error(error) from None
        inode = self.inode_for(status)
        if inode is None or status.st_mode & S_IFMT == S_IFIFO:
            raise SysError(EPERM, f"{os.fsdecode(path)} is neither a file nor a directory")
        self.root = inode.where = Dentry(None, b"", inode, self)

    def number(self, key: tuple[int, int]) -> int:
        ino = self.inos.get(key)
        if ino is None:
            ino = self.inos[key] = self.new_ino()
        return ino

    def inode_for(self, status: os.stat_result) -> HostInode | None:
        """The inode of a host file, the one in memory if there is one; None for kinds that are hidden."""
        if status.st_mode & S_IFMT not in _SHOWN:
            return None
        key = (status.st_dev, status.st_ino)
        inode = self.inodes.get(key)
        if inode is None:
            inode = self.inodes[key] = HostInode(self, status, key)
        return inode

    def open_dir(self, parts: list[bytes]) -> int:
        """A host descriptor of a directory below the root, each component opened without following links. The caller
        closes it."""
        fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in parts:
            try:
                below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def open_file(self, parts: list[bytes], flags: int) -> int:
        if not parts:
            return os.open(self.path, flags | os.O_CLOEXEC)
        above = self.open_dir(parts[:-1])
        try:
            return os.open(parts[-1], flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=above)
        finally:
            os.close(above)

    def statfs(self) -> tuple[int, int, int, int]:
        return 1 << 20, 1 << 19, 1 << 16, 1 << 15  # the host's own would make runs differ

    def sync(self) -> None:
        for inode in list(self.inodes.values()):
            inode.fsync()

    def shrink(self, n: int, gfp: int) -> int:
        """Slab reclaim asks for `n` objects. A walk under way holds dentries by no count, so they are given back
        between system calls (`trim`). Returns how many inodes there are."""
        self.surplus += n
        return len(self.inodes)

    def trim(self) -> None:
        """Forgets the files met first of those that nobody uses and the guest has not changed; a later walk meets them
        anew, same number."""
        n, self.surplus = self.surplus, 0
        for inode in list(self.inodes.values()):
            dentry = inode.where
            if n <= 0:
                break
            if dentry is None or not inode.unused(dentry):
                continue
            n -= 1
            directory = dentry.parent.inode
            assert isinstance(directory, HostInode)
            del dentry.parent.children[dentry.name]
            directory.loaded = False
            dentry.unhash()

    def close(self) -> None:
        """Closes every host descriptor."""
        for fd in self.opened.values():
            os.close(fd)
        self.opened.clear()
        for inode in self.inodes.values():
            if inode.pinned_fd >= 0:
                os.close(inode.pinned_fd)
                inode.pinned_fd = -1


class HostInode(Inode):
    """A host file; itself the backing store of its page cache. `where` is a dentry that leads to it."""

    __slots__ = ("where", "key", "target", "loaded", "pinned_fd")
    sb: HostSuper
    mapping: FileSpace | None

    def __init__(self, sb: HostSuper, status: os.stat_result, key: tuple[int, int]) -> None:
        super().__init__(sb, status.st_mode, sb.caches.inode, sb.number(key))
        self.where: Dentry | None = None
        self.key = key
        self.target: bytes | None = None
        self.loaded = False
        self.pinned_fd = -1  # kept open because no name leads to it any more
        self.atime = self.mtime = self.ctime = _EPOCH_NS
        if S_ISDIR(status.st_mode):
            self.nlink = 1  # "not counted", as some file systems say
            self.i_size = PAGE_SIZE
        else:
            self.nlink = status.st_nlink
            self.i_size = status.st_size
        if status.st_mode & S_IFMT == S_IFREG:
            self.mapping = sb.new_space(self)

    def unused(self, dentry: Dentry) -> bool:
        """May the inode, whose one name is `dentry`, be forgotten? Linux: prune_dcache, prune_icache."""
        if (
            dentry.count
            or dentry.children
            or dentry.mounted is not None
            or not dentry.hashed
            or dentry.parent is dentry
            or self.count != 1
        ):
            return False
        if self.mtime != _EPOCH_NS or self.ctime != _EPOCH_NS or self.locks or self.flocks or self.pinned_fd >= 0:
            return False
        mapping = self.mapping
        return mapping is None or (not mapping.mapped() and not mapping.dirty and mapping.under_writeback() is None)

    # host side
    def parts(self, last: bytes | None = None) -> list[bytes]:
        names = []
        at = self.where
        while at is not None and at.parent is not at:
            names.append(at.name)
            at = at.parent
        names.reverse()
        if last is not None:
            names.append(last)
        return names

    def host_fd(self) -> int:
        """An open host descriptor of a regular file; it stays the superblock's."""
        if self.pinned_fd >= 0:
            return self.pinned_fd
        opened = self.sb.opened
        fd = opened.get(self, -1)
        if fd >= 0:
            opened.move_to_end(self)
            return fd
        try:
            try:
                fd = self.sb.open_file(self.parts(), os.O_RDONLY if self.sb.readonly else os.O_RDWR)
            except PermissionError:
                fd = self.sb.open_file(self.parts(), os.O_RDONLY)
        except OSError as error:
            raise _host_error(error) from None
        opened[self] = fd
        if len(opened) > MAX_OPEN:
            os.close(opened.popitem(last=False)[1])
        return fd

    def _drop_fd(self) -> None:
        fd = self.sb.opened.pop(self, -1)
        if fd >= 0:
            os.close(fd)
        if self.pinned_fd >= 0:
            os.close(self.pinned_fd)
            self.pinned_fd = -1

    def read_page(self, index: int) -> bytes:
        """Page `index` of the file, short at its end. Raises EIO and its kin."""
        try:
            return os.pread(self.host_fd(), PAGE_SIZE, index * PAGE_SIZE)
        except OSError as error:
            raise _host_error(error) from None

    def write_page(self, index: int, data: bytes | memoryview) -> None:
        """Writes a page back, no further than the file's size."""
        keep = self.i_size - index * PAGE_SIZE
        if keep <= 0:
            return
        try:
            os.pwrite(self.host_fd(), data[:keep] if keep < len(data) else data, index * PAGE_SIZE)
        except OSError as error:
            raise _host_error(error) from None

    def fsync(self) -> None:
        mapping = self.mapping
        if mapping is not None and not self.sb.readonly:
            mapping.writeback()

    def allow(self, mask: int) -> None:
        """What the host refuses its user is refused here at open, not shown as an empty directory or lost when a page
        is written."""
        if self.nlink == 0 or self.mode & S_IFMT == S_IFIFO:
            return
        try:
            fd = self.sb.open_file(self.parts(), os.O_PATH)
            try:
                allowed = os.access(
                    f"/proc/self/fd/{fd}", mask & 7, effective_ids=os.access in os.supports_effective_ids
                )
            finally:
                os.close(fd)
        except OSError as error:
            raise _host_error(error) from None
        if not allowed:
            raise SysError(EACCES)

    def pin(self) -> None:
        """The last name is about to go: whoever has the file open keeps it. What cannot be opened nobody has."""
        if self.mode & S_IFMT == S_IFREG and self.nlink == 1 and self.pinned_fd < 0:
            try:
                self.pinned_fd = os.dup(self.host_fd())
            except SysError as error:
                if error.errno != EACCES:
                    raise

    # the inode
    def open(self, task: Task | None, dentry: Dentry, flags: int) -> File | Opening:
        if S_ISDIR(self.mode):
            return DirFile(dentry, flags)
        if self.mode & S_IFMT == S_IFIFO:
            return open_fifo(task, dentry, flags)
        self.host_fd()  # what the user may not read fails here, not in the middle of a read
        return RegularFile(dentry, flags)

    def lookup(self, parent: Dentry, name: bytes) -> Dentry:
        if not parent.hashed:
            raise SysError(ENOENT)
        if self.loaded:
            raise SysError(ENOENT)
        return self._child(parent, name)

    def _child(self, parent: Dentry, name: bytes) -> Dentry:
        try:
            above = self.sb.open_dir(self.parts())
            try:
                status = os.stat(name, dir_fd=above, follow_symlinks=False)
            finally:
                os.close(above)
        except OSError as error:
            raise _host_error(error) from None
        inode = self.sb.inode_for(status)
        if inode is None:
            raise SysError(ENOENT)
        child = Dentry(parent, name, inode, self.sb)
        if inode.where is None or not inode.where.hashed:
            inode.where = child
        parent.children[name] = child
        return child

    def still_there(self, dentry: Dentry, name: bytes) -> bool:
        child = dentry.children.get(name)
        return child is not None or not self.loaded

    def entries(self, dentry: Dentry) -> list[tuple[bytes, int, int]]:
        if not self.loaded:
            try:
                above = self.sb.open_dir(self.parts())
                try:
                    readable = os.open(
                        f"/proc/self/fd/{above}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                    )  # "." would ask for search
                finally:
                    os.close(above)
                try:
                    with os.scandir(readable) as listed:
                        found = sorted((os.fsencode(entry.name), entry) for entry in listed)
                    device = os.fstat(readable).st_dev
                finally:
                    os.close(readable)
            except OSError as error:
                raise _host_error(error) from None
            for name, _ in found:
                if name not in dentry.children:
                    try:
                        self._child(dentry, name)
                    except SysError as error:
                        if error.errno == EACCES:
                            return [
                                (name, self.sb.number((device, entry.inode())), kind)
                                for name, entry in found
                                if (kind := _kind(entry))
                            ]
                        if error.errno != ENOENT:
                            raise
            self.loaded = True
        return [(name, child.inode.ino, child.inode.mode) for name, child in sorted(dentry.children.items())]

    def _writable(self) -> None:
        if self.sb.readonly:
            raise SysError(EROFS)

    def create(
        self, task: Task | None, parent: Dentry, name: bytes, mode: int, rdev: int = 0, target: bytes = b""
    ) -> Dentry:
        self._writable()
        kind = mode & S_IFMT
        if kind not in _SHOWN:
            raise SysError(EPERM)
        try:
            above = self.sb.open_dir(self.parts())
            try:
                if kind == S_IFDIR:
                    os.mkdir(name, mode & 0o7777, dir_fd=above)
                elif kind == S_IFLNK:
                    os.symlink(target, name, dir_fd=above)
                elif kind == S_IFIFO:
                    os.mkfifo(name, mode & 0o7777 | 0o600, dir_fd=above)
                else:
                    os.close(
                        os.open(
                            name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode & 0o7777 | 0o600, dir_fd=above
                        )
                    )
            finally:
                os.close(above)
        except OSError as error:
            raise _host_error(error) from None
        child = self._child(parent, name)
        inode = child.inode
        if kind != S_IFLNK:
            inode.mode = mode
        init_owner(task, inode, self)
        inode.touch()
        self.touch()
        return child

    def link(self, parent: Dentry, name: bytes, inode: Inode) -> Dentry:
        self._writable()
        assert isinstance(inode, HostInode)
        self._two(
            inode.parts(),
            self.parts(name),
            lambda a, b, afd, bfd: os.link(a, b, src_dir_fd=afd, dst_dir_fd=bfd, follow_symlinks=False),
        )
        child = Dentry(parent, name, inode, self.sb)
        parent.children[name] = child
        inode.nlink += 1
        inode.ctime = self.sb.now()
        self.touch()
        return child

    def _two(self, old: list[bytes], new: list[bytes], action: Callable[[bytes, bytes, int, int], None]) -> None:
        try:
            afd = self.sb.open_dir(old[:-1])
            try:
                bfd = self.sb.open_dir(new[:-1])
                try:
                    action(old[-1], new[-1], afd, bfd)
                finally:
                    os.close(bfd)
            finally:
                os.close(afd)
        except OSError as error:
            raise _host_error(error) from None

    def _remove(self, parent: Dentry, child: Dentry, host_remove: Callable[..., None] | None) -> None:
        inode = child.inode
        assert isinstance(inode, HostInode)
        inode.pin()
        if host_remove is not None:
            try:
                above = self.sb.open_dir(self.parts())
                try:
                    host_remove(child.name, dir_fd=above)
                finally:
                    os.close(above)
            except OSError as error:
                raise _host_error(error) from None
        del parent.children[child.name]
        inode.nlink -= 1
        if inode.nlink == 0 or S_ISDIR(inode.mode):
            inode.nlink = 0
            self.sb.inos.pop(inode.key, None)
            self.sb.inodes.pop(inode.key, None)
        inode.ctime = self.sb.now()
        self.touch()
        child.unhash()

    def unlink(self, parent: Dentry, child: Dentry) -> None:
        self._writable()
        self._remove(parent, child, os.unlink)

    def rmdir(self, parent: Dentry, child: Dentry) -> None:
        self._writable()
        self._remove(parent, child, os.rmdir)

    def rename(self, child: Dentry, new_parent: Dentry, name: bytes, victim: Dentry | None) -> None:
        self._writable()
        inode, new_dir = child.inode, new_parent.inode
        assert isinstance(inode, HostInode) and isinstance(new_dir, HostInode)
        if victim is not None:
            assert isinstance(victim.inode, HostInode)
            victim.inode.pin()
        self._two(
            self.parts(child.name),
            new_dir.parts(name),
            lambda a, b, afd, bfd: os.rename(a, b, src_dir_fd=afd, dst_dir_fd=bfd),
        )
        if victim is not None:
            new_dir._remove(new_parent, victim, None)
        del child.parent.children[child.name]
        child.name = name
        child.parent = new_parent
        new_parent.children[name] = child
        inode.where = child
        self.touch()
        new_dir.touch()
        inode.ctime = self.ctime

    def evict(self) -> None:
        if self.mapping is not None and self.nlink and not self.sb.readonly:
            self.mapping.writeback()
        self.mapping_gone()
        self._drop_fd()
        self.sb.inodes.pop(self.key, None)
        if self.cache is not None:
            self.cache.free(self.addr)
            self.cache = None

    def mapping_gone(self) -> None:
        """Drops the cached pages without touching the host's file (its size stays what it is)."""
        mapping, self.mapping = self.mapping, None
        if mapping is not None:
            mapping.truncate(0)

    def readlink(self, task: Task | None) -> bytes:
        if self.mode & S_IFMT != S_IFLNK:
            raise SysError(EINVAL)
        if self.target is None:
            parts = self.parts()
            try:
                above = self.sb.open_dir(parts[:-1])
                try:
                    self.target = os.readlink(parts[-1], dir_fd=above)
                finally:
                    os.close(above)
            except OSError as error:
                raise _host_error(error) from None
        return self.target

    def truncate(self, size: int) -> None:
        if self.mapping is None:
            raise SysError(EISDIR if S_ISDIR(self.mode) else 22)
        self._writable()
        check_size(size)
        try:
            os.ftruncate(self.host_fd(), size)
        except OSError as error:
            raise _host_error(error) from None
        self.mapping.truncate(size)
        self.i_size = size
        self.touch()

    def setattr(self) -> None:
        if self.sb.readonly or self.mode & S_IFMT == S_IFLNK:
            return
        try:
            if S_ISDIR(self.mode):
                fd = self.sb.open_dir(self.parts())
                try:
                    os.chmod(f"/proc/self/fd/{fd}", self.mode & 0o7777)
                finally:
                    os.close(fd)
            elif self.mode & S_IFMT == S_IFIFO:
                fd = self.sb.open_file(self.parts(), os.O_PATH)
                try:
                    os.chmod(f"/proc/self/fd/{fd}", self.mode & 0o7777)
                finally:
                    os.close(fd)
            else:
                os.fchmod(self.host_fd(), self.mode & 0o7777)
        except OSError:
            pass  # not the user's file: the guest sees its change, the host does not
