"""Descriptor tables and working directories: what CLONE_FILES and CLONE_FS share.

Linux: fs/file.c, fs/open.c, include/linux/fs_struct.h, 2.6.7.
"""

from __future__ import annotations

from errno import EBADF, EMFILE
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from sandbox.fs.dentry import Dentry
from sandbox.fs.file import File
from sandbox.fs.locks import forget_posix
from sandbox.fs.notify import forget

if TYPE_CHECKING:
    from sandbox.kernel.task import Task

NR_OPEN_DEFAULT = 1024


class FileTable:
    """Descriptors of a process. `fds[n]` is the open file or None; `cloexec` the set of descriptors closed by exec;
    `limit` is RLIMIT_NOFILE; `users` how many tasks share the table."""

    __slots__ = ("fds", "cloexec", "limit", "users", "_free")

    def __init__(self, limit: int = NR_OPEN_DEFAULT) -> None:
        self.limit = limit
        self.fds: list[File | None] = []
        self.cloexec: set[int] = set()
        self.users = 1
        self._free = 0  # no descriptor below it is free

    def share(self) -> FileTable:
        """CLONE_FILES."""
        self.users += 1
        return self

    def copy(self) -> FileTable:
        """fork: the same open files under the same numbers."""
        other = FileTable(self.limit)
        other.fds = fds = self.fds[:]
        other.cloexec = set(self.cloexec)
        other._free = self._free
        for file in fds:
            if file is not None:
                file.count += 1
        return other

    def put(self, task: Task | None = None) -> None:
        """A task lets go of the table; the last closes everything, in ascending order."""
        self.users -= 1
        if self.users == 0:
            for fd, file in enumerate(self.fds):
                if file is not None:
                    self.fds[fd] = None
                    self._close(file, task)
            self.fds = []

    def get(self, fd: int) -> File:
        """The open file; EBADF."""
        fds = self.fds
        if fd < len(fds):
            file = fds[fd]
            if file is not None:
                return file
        raise SysError(EBADF)

    def install(self, file: File, cloexec: bool = False, minimum: int = 0) -> int:
        """Lowest free descriptor >= `minimum` takes over the caller's reference. EMFILE: the reference stays the
        caller's."""
        fds = self.fds
        n = len(fds)
        fd = start = minimum if minimum > self._free else self._free
        while fd < n and fds[fd] is not None:
            fd += 1
        if fd >= self.limit:
            raise SysError(EMFILE)
        if fd >= n:
            fds.extend([None] * (fd - n + 1))
        fds[fd] = file
        if start == self._free:
            self._free = fd + 1
        if cloexec:
            self.cloexec.add(fd)
        else:
            self.cloexec.discard(fd)
        return fd

    def replace(self, fd: int, file: File, cloexec: bool, task: Task | None = None) -> None:
        """dup2: `fd` (checked by the caller) becomes `file`, whose reference is taken over; what it was is
        closed."""
        fds = self.fds
        if fd >= len(fds):
            fds.extend([None] * (fd - len(fds) + 1))
        old = fds[fd]
        fds[fd] = file
        if cloexec:
            self.cloexec.add(fd)
        else:
            self.cloexec.discard(fd)
        if old is not None:
            self._close(old, task)

    def close(self, fd: int, task: Task | None = None) -> None:
        """EBADF. Record locks of this table on the file go, as POSIX has it."""
        fds = self.fds
        file = fds[fd] if fd < len(fds) else None
        if file is None:
            raise SysError(EBADF)
        fds[fd] = None
        if fd < self._free:
            self._free = fd
        self.cloexec.discard(fd)
        self._close(file, task)

    def _close(self, file: File, task: Task | None) -> None:
        if file.inode.locks:
            forget_posix(file.inode, self)
        if file.inode.watches:
            forget(file, self)
        file.on_flush(task)
        file.count -= 1
        if file.count == 0:
            file.release()

    def close_on_exec(self, task: Task | None = None) -> None:
        """exec closes what is marked."""
        for fd in sorted(self.cloexec):
            if fd < len(self.fds) and self.fds[fd] is not None:
                self.close(fd, task)
        self.cloexec.clear()

    def open_fds(self) -> list[int]:
        return [fd for fd, file in enumerate(self.fds) if file is not None]


class FsStruct:
    """Root, working directory and umask of a process; `users` tasks share it (CLONE_FS)."""

    __slots__ = ("root", "cwd", "umask", "users")

    def __init__(self, root: Dentry, cwd: Dentry | None = None, umask: int = 0o022) -> None:
        self.root = root.get()
        self.cwd = (cwd or root).get()
        self.umask = umask
        self.users = 1

    def share(self) -> FsStruct:
        self.users += 1
        return self

    def copy(self) -> FsStruct:
        return FsStruct(self.root, self.cwd, self.umask)

    def put(self) -> None:
        self.users -= 1
        if self.users == 0:
            self.root.put()
            self.cwd.put()

    def chdir(self, dentry: Dentry) -> None:
        old, self.cwd = self.cwd, dentry.get()
        old.put()

    def chroot(self, dentry: Dentry) -> None:
        old, self.root = self.root, dentry.get()
        old.put()
