"""Character devices: null, zero, full, random, urandom, and the terminal behind /dev/tty and /dev/console. One block
device has a node: the swap partition.

Linux: drivers/char/mem.c, drivers/char/random.c, 2.6.7. The random devices give a stream that the run's seed decides.
"""

from __future__ import annotations

import random
from errno import ENOSPC, ENXIO
from stat import S_IFBLK, S_IFCHR, S_IFIFO
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from sandbox.fs.dentry import Dentry
from sandbox.fs.file import File
from sandbox.fs.pipe import open_fifo
from sandbox.fs.uapi import S_IFMT, makedev

if TYPE_CHECKING:
    from sandbox.fs.file import Opening
    from sandbox.fs.vfs import Vfs
    from sandbox.kernel.task import Task

NULL, ZERO, FULL, RANDOM, URANDOM = (makedev(1, minor) for minor in (3, 5, 7, 8, 9))
TTY, CONSOLE, PTS0 = makedev(5, 0), makedev(5, 1), makedev(136, 0)

DISK_NAME = "hda"


def swap_name(number: int) -> str:
    """The partition that a swap area is: a node in /dev to name it by; programs cannot open it."""
    return f"hda{2 + number}"


def swap_dev(number: int) -> int:
    """Its device number."""
    return makedev(3, 2 + number)


NODES = {"null": NULL, "zero": ZERO, "full": FULL, "random": RANDOM, "urandom": URANDOM, "tty": TTY, "console": CONSOLE}


class CharFile(File):
    """A device without a position that counts: seeking succeeds and stays at 0, as for the memory devices."""

    __slots__ = ()

    def llseek(self, offset: int, whence: int) -> int:
        self.pos = 0
        return 0

    def consume(self, n: int) -> None:
        pass

    def pwrite(self, pos: int, data: bytes, task: Task | None = None) -> int:
        return self.accept(task, data)

    def pread(self, pos: int, n: int) -> bytes:
        return self.peek(None, n) or b""


class NullFile(CharFile):
    """/dev/null: always at its end, and takes everything."""

    __slots__ = ()

    def peek(self, task: Task | None, n: int) -> bytes:
        return b""

    def accept(self, task: Task | None, data: bytes) -> int:
        return len(data)


class ZeroFile(CharFile):
    """/dev/zero: maps as anonymous memory, private or shared."""

    __slots__ = ("vfs",)

    def __init__(self, dentry: Dentry, flags: int, vfs: Vfs) -> None:
        super().__init__(dentry, flags)
        self.vfs = vfs

    def peek(self, task: Task | None, n: int) -> bytes:
        return bytes(n)

    def accept(self, task: Task | None, data: bytes) -> int:
        return len(data)

    def mmap_file(self, shared: bool, length: int) -> File | None:
        return self.vfs.shmem_zero_setup(length) if shared else None


class FullFile(CharFile):
    """/dev/full: zeros to read, and no room: a write is ENOSPC."""

    __slots__ = ()

    def peek(self, task: Task | None, n: int) -> bytes:
        return bytes(n)

    def accept(self, task: Task | None, data: bytes) -> int:
        if data:
            raise SysError(ENOSPC)
        return 0


class RandomFile(CharFile):
    """Bytes drawn when they reach the user: a read that has to start over draws the same ones again."""

    __slots__ = ("rng", "drawn")

    def __init__(self, dentry: Dentry, flags: int, rng: random.Random) -> None:
        super().__init__(dentry, flags)
        self.rng = rng
        self.drawn = b""

    def peek(self, task: Task | None, n: int) -> bytes:
        n = min(n, 1 << 20)
        if len(self.drawn) < n:
            self.drawn += self.rng.randbytes(n - len(self.drawn))
        return self.drawn[:n]

    def consume(self, n: int) -> None:
        self.drawn = self.drawn[n:]

    def accept(self, task: Task | None, data: bytes) -> int:
        return len(data)


def open_special(vfs: Vfs, task: Task | None, dentry: Dentry, flags: int) -> File | Opening:
    """Opens a device node or a FIFO: a File, or (FIFO) a generator that waits and returns one. ENXIO without a
    driver."""
    inode = dentry.inode
    kind = inode.mode & S_IFMT
    if kind == S_IFIFO:
        return open_fifo(task, dentry, flags)
    if kind == S_IFCHR:
        dev = inode.rdev
        if dev == NULL:
            return NullFile(dentry, flags)
        if dev == ZERO:
            return ZeroFile(dentry, flags, vfs)
        if dev == FULL:
            return FullFile(dentry, flags)
        if dev in (RANDOM, URANDOM):
            return RandomFile(dentry, flags, vfs.rng)
        if dev in (TTY, CONSOLE, PTS0) and vfs.console is not None:
            return vfs.console.open(dentry, flags)
    elif kind == S_IFBLK:
        raise SysError(ENXIO)
    raise SysError(ENXIO)
