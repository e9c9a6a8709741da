"""Open files.

A read is two steps, so that a bad or absent user page loses nothing: `peek` gives the bytes and changes nothing,
`consume` takes them away once they are with the user. A write hands its bytes to `accept`, which says how many it
took.

    peek -> bytes    there they are (b"" at the end of file)      accept -> n    took the first n bytes
    peek -> None     nothing yet: wait on read_queues()           accept -> 0    no room: wait on write_queues()

Linux: fs/file_table.c, fs/read_write.c, 2.6.7.
"""

from __future__ import annotations

from collections.abc import Generator
from errno import EBADF, EFBIG, EINVAL, EISDIR, ENODEV, ENOENT, ENOTTY, ENXIO, ESPIPE
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from mmcore.errors import SysError
from mmcore.files.shmem import ShmemSpace
from sandbox.fs.dentry import Dentry, d_path
from sandbox.fs.hooks import send_signal
from sandbox.fs.inode import drop_privileges
from sandbox.fs.locks import forget_flock
from sandbox.fs.notify import touched
from sandbox.fs.uapi import (
    DN_ACCESS,
    DN_MODIFY,
    FMODE_READ,
    FMODE_WRITE,
    MAX_LFS_FILESIZE,
    O_ACCMODE,
    O_APPEND,
    O_PATH,
    READABLE,
    SEEK_CUR,
    SEEK_DATA,
    SEEK_END,
    SEEK_HOLE,
    SEEK_SET,
    WRITABLE,
)
from sandbox.kernel.rlimits import RLIMIT_FSIZE
from sandbox.kernel.sched import Wait
from sandbox.kernel.signo import SIGXFSZ

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.files.filemap import AddressSpace
    from mmcore.files.filespace import FileSpace
    from mmcore.wait import WaitQueue
    from sandbox.fs.sigio import SignalOwner
    from sandbox.kernel.exec import ExeFile
    from sandbox.kernel.task import Task

# An open that has to wait (for the other end of a FIFO, for a lease): a generator that returns the open file.
Opening = Generator[Wait, Any, "File"]

_MODES = (FMODE_READ, FMODE_WRITE, FMODE_READ | FMODE_WRITE, 0)


class File:
    """One open file description. `count` references (descriptors, areas, system calls in flight); `pos` in
    bytes."""

    __slots__ = ("inode", "dentry", "f_flags", "f_mode", "pos", "mapping", "count", "addr", "owner", "signum")

    seekable = False
    regular = False  # reads and writes go through a page cache at `pos`
    is_dir = False

    def __init__(self, dentry: Dentry, flags: int) -> None:
        self.addr = dentry.sb.caches.filp.alloc()
        inode = dentry.inode
        self.inode = inode
        self.dentry = dentry
        self.f_flags = flags
        self.f_mode = 0 if flags & O_PATH else _MODES[flags & O_ACCMODE]
        self.pos = 0
        self.mapping: AddressSpace | None = inode.mapping
        self.count = 1
        self.owner: SignalOwner | None = None  # who is told by signal (sigio.SignalOwner)
        self.signum = 0
        dentry.count += 1
        if self.f_mode & FMODE_WRITE:
            inode.writers += 1
        elif self.f_mode:
            inode.readers += 1

    # references
    def get(self) -> File:
        self.count += 1
        return self

    def put(self) -> None:
        self.count -= 1
        if self.count == 0:
            self.release()

    def release(self) -> None:
        """The last reference is gone."""
        inode = self.inode
        if inode.flocks:
            forget_flock(self)
        if inode.leases:
            from sandbox.fs.leases import forget_lease

            forget_lease(self)
        if self.f_mode & FMODE_WRITE:
            inode.writers -= 1
        elif self.f_mode:
            inode.readers -= 1
        dentry = self.dentry
        dentry.sb.caches.filp.free(self.addr)
        dentry.put()

    @property
    def poll_ns(self) -> int:
        """After how many ns of waiting it is looked at again, though nobody woke the task; 0: whoever changes it
        does."""
        return 0

    @property
    def path(self) -> str:
        """As /proc/PID/maps and /proc/PID/fd show it."""
        return d_path(self.dentry).decode("utf-8", "surrogateescape")

    # data
    def peek(self, task: Task | None, n: int) -> bytes | None:
        raise SysError(EINVAL)

    def consume(self, n: int) -> None:
        self.pos += n

    def accept(self, task: Task | None, data: bytes) -> int:
        raise SysError(EINVAL)

    def pread(self, pos: int, n: int) -> bytes:
        raise SysError(ESPIPE)

    def pwrite(self, pos: int, data: bytes, task: Task | None = None) -> int:
        """Bytes written at `pos`; the file's position stays."""
        raise SysError(ESPIPE)

    def read_queues(self) -> list[WaitQueue]:
        return []

    def input_wait(self, task: Task) -> Wait:
        """What a reader of an empty file yields."""
        return Wait(self.read_queues())

    def write_queues(self) -> list[WaitQueue]:
        return []

    def poll(self, queues: list[WaitQueue] | None) -> int:
        """POLL* bits that hold now; `queues` (when given) collects what to wait on for a change."""
        return READABLE | WRITABLE

    # the rest
    def llseek(self, offset: int, whence: int) -> int:
        raise SysError(ESPIPE)

    def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        raise SysError(ENOTTY)

    def mmap_file(self, shared: bool, length: int) -> File | None:
        """The file an area maps: this one, another that holds one reference for the caller, or None for plain anonymous
        memory. Raises ENODEV where the kind cannot be mapped."""
        raise SysError(ENODEV)

    def on_flush(self, task: Task | None) -> None:
        """A descriptor of it is being closed."""


def file_of(vma: VmArea) -> File | None:
    """The open file an area shows; mmcore keeps it without knowing its class."""
    return cast("File | None", vma.vm_file)


def program_of(mm: Mm) -> ExeFile | None:
    """The program an address space runs; None before its first exec."""
    return cast("ExeFile | None", mm.exe_file)


class SeekableFile(File):
    """A file with a size and a position."""

    __slots__ = ()
    seekable = True

    def size(self) -> int:
        return self.inode.i_size

    def llseek(self, offset: int, whence: int) -> int:
        if whence == SEEK_SET:
            pos = offset
        elif whence == SEEK_CUR:
            pos = self.pos + offset
        elif whence == SEEK_END:
            pos = self.size() + offset
        elif whence in (SEEK_DATA, SEEK_HOLE):
            pos = self.seek_hole(offset, whence)
        else:
            raise SysError(EINVAL)
        if pos < 0 or pos > MAX_LFS_FILESIZE:
            raise SysError(EINVAL)
        self.pos = pos
        return pos

    def seek_hole(self, offset: int, whence: int) -> int:
        size = self.size()
        if offset < 0 or offset >= size:
            raise SysError(ENXIO)
        return offset if whence == SEEK_DATA else size


class RegularFile(SeekableFile):
    """A file whose bytes are pages of a page cache."""

    __slots__ = ()
    regular = True
    mapping: FileSpace | ShmemSpace

    def peek(self, task: Task | None, n: int) -> bytes:
        return self.pread(self.pos, n)

    def pread(self, pos: int, n: int) -> bytes:
        left = self.inode.i_size - pos
        if left <= 0:
            return b""
        return self.mapping.read(pos, n if n < left else left)

    def consume(self, n: int) -> None:
        self.pos += n
        if n and self.dentry.parent.inode.watches:
            touched(self.dentry, DN_ACCESS)

    def seek_hole(self, offset: int, whence: int) -> int:
        """tmpfs knows its holes: what has no page with data, in memory or in swap."""
        plain = super().seek_hole(offset, whence)
        mapping = self.mapping
        if not isinstance(mapping, ShmemSpace):
            return plain
        size = self.inode.i_size
        index = offset >> 12
        if whence == SEEK_HOLE:
            while mapping.holds_data(index):
                index += 1
            return min(max(offset, index << 12), size)
        if not mapping.holds_data(index):
            index = min(
                (i for i in chain(mapping.pages, mapping.swapped) if i > index and mapping.holds_data(i)),
                default=size + 4095 >> 12,
            )
        at = max(offset, index << 12)
        if at >= size:
            raise SysError(ENXIO)
        return at

    def accept(self, task: Task | None, data: bytes) -> int:
        inode = self.inode
        pos = inode.i_size if self.f_flags & O_APPEND else self.pos
        if task is not None and pos + len(data) > task.signal.rlimits[RLIMIT_FSIZE][0]:
            data = within_limit(task, pos, data)
        n = self.pwrite(pos, data)
        if inode.mode & 0o6000:
            drop_privileges(task, inode)
        self.pos = pos + n
        if n and self.dentry.parent.inode.watches:
            touched(self.dentry, DN_MODIFY)
        return n

    def pwrite(self, pos: int, data: bytes, task: Task | None = None) -> int:
        """Bytes written, fewer than given when memory or space ran out on the way; MustWait and errors before anything
        changed."""
        inode = self.inode
        end = pos + len(data)
        if end > MAX_LFS_FILESIZE:
            if pos >= MAX_LFS_FILESIZE:
                raise SysError(EFBIG)
            data = data[: MAX_LFS_FILESIZE - pos]
            end = MAX_LFS_FILESIZE
        if inode.seals:
            from sandbox.fs.memfd import within_seals

            data = within_seals(inode, pos, data)
        n = self.mapping.write(pos, data)
        inode.mtime = inode.ctime = inode.sb.now()
        return n

    def mmap_file(self, shared: bool, length: int) -> File | None:
        return self


def within_limit(task: Task, pos: int, data: bytes) -> bytes:
    """What RLIMIT_FSIZE lets be written at `pos`; nothing at all is SIGXFSZ and EFBIG. Linux:
    generic_write_checks."""
    room = task.signal.rlimits[RLIMIT_FSIZE][0] - pos
    if room <= 0:
        send_signal(task, SIGXFSZ)
        raise SysError(EFBIG)
    return data[:room]


class DirFile(SeekableFile):
    """An open directory. The position is an index into the listing made when it was at 0."""

    __slots__ = ("listing",)
    is_dir = True

    def __init__(self, dentry: Dentry, flags: int) -> None:
        super().__init__(dentry, flags)
        self.listing: list[tuple[bytes, int, int]] | None = None

    def peek(self, task: Task | None, n: int) -> bytes:
        raise SysError(EISDIR)

    def pread(self, pos: int, n: int) -> bytes:
        raise SysError(EISDIR)

    def entries(self) -> list[tuple[bytes, int, int]]:
        """The listing, `.` and `..` first; made anew when the position is 0. ENOENT when the directory was
        removed."""
        listing = self.listing
        if listing is None or self.pos == 0:
            dentry = self.dentry
            if not dentry.hashed:
                raise SysError(ENOENT)
            parent = (
                dentry.parent
                if dentry.parent is not dentry
                else dentry.sb.covered.parent
                if dentry.sb.covered
                else dentry
            )
            mode = dentry.inode.mode
            listing = [(b".", dentry.inode.ino, mode), (b"..", parent.inode.ino, mode)]
            listing += dentry.inode.entries(dentry)
            self.listing = listing
        return listing

    def gone(self, name: bytes) -> bool:
        """Was the entry removed since the listing was made?"""
        return name not in (b".", b"..") and not self.inode.still_there(self.dentry, name)


class PathFile(File):
    """Opened with O_PATH: names a place, moves no data."""

    __slots__ = ()

    def peek(self, task: Task | None, n: int) -> bytes:
        raise SysError(EBADF)

    def accept(self, task: Task | None, data: bytes) -> int:
        raise SysError(EBADF)
