"""Inodes, superblocks, and the kernel objects that stand for them.

    Dentry ──> Inode ──> AddressSpace (page cache; regular files only)
       │          └ SuperBlock: device number, next inode number, clock
       └ parent Dentry

An inode lives while a dentry names it or holds it open (`count`); the last one evicts it, and its pages with it.
Linux: fs/inode.c, fs/super.c, 2.6.7.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EACCES, EFBIG, EINVAL, ENOTDIR, EPERM, EROFS
from stat import S_IFDIR, S_IFREG, S_ISDIR, S_ISGID, S_ISLNK
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from mmcore.files.shmem import shmem_inode_cache
from sandbox.fs.pipequota import PipeQuota
from sandbox.fs.uapi import MAX_LFS_FILESIZE, MAY_EXEC, MAY_WRITE, S_IFMT

if TYPE_CHECKING:
    from mmcore.files.filemap import AddressSpace
    from mmcore.memory import Memory
    from mmcore.physical.slab import KmemCache
    from mmcore.wait import WaitQueue
    from sandbox.fs.dentry import Dentry
    from sandbox.fs.file import File, Opening
    from sandbox.fs.leases import Leases
    from sandbox.fs.locks import Lock
    from sandbox.fs.notify import DirectoryWatch
    from sandbox.fs.pipe import Pipe
    from sandbox.kernel.task import Task

BOOT_EPOCH_S = 1_085_184_000
BOOT_S = 10  # how long the machine has been on when the first program starts
"""2004-05-22 00:00:00 UTC, when every machine boots and the time of every file that no guest has written."""


class Caches:
    """The slab caches of the file system. Sizes: 2.6.7, i386, uniprocessor, no debugging (bytes); an inode's
    address_space grows by what the scheme adds. `pipes` limits what users take by pipes."""

    __slots__ = ("slab", "filp", "dentry", "inode", "proc_inode", "shmem_inode", "file_lock", "pipes")

    def __init__(self, mem: Memory) -> None:
        slab, more = mem.slab, mem.setup.address_space
        self.slab = slab
        self.filp = slab.cache("filp", 160)
        self.dentry = slab.cache("dentry_cache", 140)
        self.inode = slab.cache("inode_cache", 312 + more)
        self.proc_inode = slab.cache("proc_inode_cache", 324 + more)
        self.shmem_inode = shmem_inode_cache(mem)
        self.file_lock = slab.cache("file_lock_cache", 92)
        self.pipes = PipeQuota()


class SuperBlock:
    """One mounted file system. `now()` gives the time for its inodes (ns since 1970); `dev` is a kernel device
    number."""

    __slots__ = (
        "fstype",
        "source",
        "dev",
        "magic",
        "caches",
        "now",
        "readonly",
        "root",
        "covered",
        "next_ino",
    )

    def __init__(self, fstype: str, source: str, dev: int, magic: int, caches: Caches, now: Callable[[], int]) -> None:
        self.fstype = fstype
        self.source = source
        self.dev = dev
        self.magic = magic
        self.caches = caches
        self.now = now
        self.readonly = False
        self.root: Dentry | None = None
        self.covered: Dentry | None = None  # the dentry it is mounted on; None for / and what is mounted nowhere
        self.next_ino = 1

    def statfs(self) -> tuple[int, int, int, int]:
        """(blocks, free blocks, files, free files)."""
        return 0, 0, 0, 0

    def sync(self) -> None:
        """Dirty pages go to where the file system keeps its files, if that is anywhere."""

    def new_ino(self) -> int:
        ino = self.next_ino
        self.next_ino = ino + 1
        return ino


class Inode:
    """A file of any kind. Sizes in bytes, times in ns since 1970, `rdev` a kernel device number.

    Directory operations take the directory's dentry and answer with dentries; what a kind cannot do raises the errno
    Linux gives.
    """

    __slots__ = (
        "ino",
        "mode",
        "uid",
        "gid",
        "nlink",
        "rdev",
        "i_size",
        "atime",
        "mtime",
        "ctime",
        "sb",
        "mapping",
        "count",
        "writers",
        "readers",
        "addr",
        "cache",
        "locks",
        "flocks",
        "pipe",
        "seals",
        "lock_queue",
        "leases",
        "rw_hint",
        "watches",
    )

    def __init__(self, sb: SuperBlock, mode: int, cache: KmemCache | None = None, ino: int = 0) -> None:
        self.cache = cache
        self.addr = cache.alloc() if cache is not None else 0
        self.sb = sb
        self.ino = ino or sb.new_ino()
        self.mode = mode
        self.uid = self.gid = 0
        self.nlink = 2 if mode & S_IFMT == S_IFDIR else 1
        self.rdev = 0
        self.i_size = 0
        self.atime = self.mtime = self.ctime = sb.now()
        self.mapping: AddressSpace | None = None
        self.count = 0
        self.writers = 0  # > 0: open for writing; < 0: being executed (ETXTBSY)
        self.readers = 0  # open for reading alone
        self.locks: list[Lock] | None = None
        self.flocks: list[Lock] | None = None
        self.lock_queue: WaitQueue | None = None
        self.pipe: Pipe | None = None
        self.seals = 0
        self.leases: Leases | None = None
        self.rw_hint = 0
        self.watches: list[DirectoryWatch] | None = None  # F_NOTIFY

    @property
    def size(self) -> int:
        return self.i_size

    def put(self) -> None:
        """Drops a dentry's reference; the last one evicts an inode without names, or any inode of a file system that
        keeps none in memory."""
        self.count -= 1
        if self.count == 0:
            self.evict()

    def evict(self) -> None:
        mapping = self.mapping
        if mapping is not None:
            mapping.truncate(0)
            self.mapping = None
        if self.cache is not None:
            self.cache.free(self.addr)
            self.cache = None

    def touch(self) -> None:
        """The content changed now."""
        self.mtime = self.ctime = self.sb.now()

    # what a kind of inode may override
    def open(self, task: Task | None, dentry: Dentry, flags: int) -> File | Opening:
        """A new open file, or a generator that waits for it. Raises SysError."""
        raise SysError(EINVAL)

    def lookup(self, parent: Dentry, name: bytes) -> Dentry:
        """The child not yet in memory; ENOENT when there is none."""
        raise SysError(ENOTDIR)

    def entries(self, dentry: Dentry) -> list[tuple[bytes, int, int]]:
        """What a directory lists beside . and ..: (name, inode number, mode), in the order of listing."""
        raise SysError(ENOTDIR)

    def still_there(self, dentry: Dentry, name: bytes) -> bool:
        """Is a name of an earlier listing still in the directory? One found by lookup alone always is."""
        return True

    def create(
        self, task: Task | None, parent: Dentry, name: bytes, mode: int, rdev: int = 0, target: bytes = b""
    ) -> Dentry:
        """A new file of the kind in `mode` (`target`: a symbolic link's text)."""
        raise SysError(EPERM if S_ISDIR(self.mode) else ENOTDIR)

    def link(self, parent: Dentry, name: bytes, inode: Inode) -> Dentry:
        raise SysError(EPERM)

    def unlink(self, parent: Dentry, child: Dentry) -> None:
        raise SysError(EPERM)

    def rmdir(self, parent: Dentry, child: Dentry) -> None:
        raise SysError(EPERM)

    def rename(self, child: Dentry, new_parent: Dentry, name: bytes, victim: Dentry | None) -> None:
        raise SysError(EPERM)

    def readlink(self, task: Task | None) -> bytes:
        raise SysError(EINVAL)

    def follow_link(self, task: Task | None) -> bytes | Dentry:
        """Where a symbolic link leads: text to walk on with, or (in /proc) the dentry itself."""
        return self.readlink(task)

    def truncate(self, size: int) -> None:
        raise SysError(EINVAL)

    def setattr(self) -> None:
        """Mode, owner or times were changed in memory; a kind with a backing store passes them on."""

    def allow(self, mask: int) -> None:
        """EACCES for what the backing store refuses, whoever in the guest asks."""

    def fsync(self) -> None:
        """Dirty pages go to the backing store, if there is one."""

    def deny_write(self) -> bool:
        """exec begins to run this file: False while somebody has it open for writing (ETXTBSY). Linux:
        deny_write_access."""
        if self.writers > 0:
            return False
        self.writers -= 1
        return True

    def allow_write(self) -> None:
        self.writers += 1


def permission(task: Task | None, inode: Inode, mask: int) -> None:
    """Raises EACCES (EROFS for writing below a read-only mount). `task` None is the kernel itself. Linux: fs/namei.c,
    vfs_permission, 2.6.7."""
    mode = inode.mode
    if mask & MAY_WRITE and inode.sb.readonly and mode & S_IFMT in (S_IFREG, S_IFDIR):
        raise SysError(EROFS)
    if task is None or task.fsuid == 0:
        if mask & MAY_EXEC and not S_ISDIR(mode) and not mode & 0o111:
            raise SysError(EACCES)
        inode.allow(mask)
        return
    if task.fsuid == inode.uid:
        mode >>= 6
    elif in_group(task, inode.gid):
        mode >>= 3
    if mode & mask & 7 != mask:
        raise SysError(EACCES)
    inode.allow(mask)


def in_group(task: Task, gid: int) -> bool:
    return gid == task.fsgid or gid in task.groups


def owned(task: Task | None, inode: Inode) -> bool:
    """May the task change mode and times? CAP_FOWNER goes with fsuid 0."""
    return task is None or task.fsuid == 0 or task.fsuid == inode.uid


def drop_privileges(task: Task | None, inode: Inode) -> None:
    """The content changes: set-user-ID goes, and set-group-ID that means it, unless root writes (CAP_FSETID). Linux:
    file_remove_privs, 6.1."""
    mode = inode.mode
    if not mode & 0o6000 or task is None or task.fsuid == 0 or mode & S_IFMT != S_IFREG:
        return
    inode.mode = mode & ~_privileges(task, inode)


def _privileges(task: Task, inode: Inode) -> int:
    """The bits to take away. Set-group-ID without execution for the group stays with members. Linux:
    setattr_should_drop_suidgid."""
    return 0o6000 if inode.mode & 0o010 or not in_group(task, inode.gid) else 0o4000


def init_owner(task: Task | None, inode: Inode, parent: Inode) -> None:
    """Owner of a new inode: the creator, with the directory's group under set-group-ID. Linux: inode_init_owner."""
    if task is None:
        return
    inode.uid = task.fsuid
    if parent.mode & S_ISGID:
        inode.gid = parent.gid
        if S_ISDIR(inode.mode):
            inode.mode |= S_ISGID
    else:
        inode.gid = task.fsgid


def check_size(size: int) -> None:
    if size < 0 or size > MAX_LFS_FILESIZE:
        raise SysError(EFBIG)


def is_symlink(inode: Inode) -> bool:
    return S_ISLNK(inode.mode)
