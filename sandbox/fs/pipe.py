"""Pipes and FIFOs: a ring of page-sized buffers, 16 unless F_SETPIPE_SZ or a limit says otherwise, between writers and
readers.

    slots: [ b"....", b"....", b"..  " ]      `head` bytes of slots[0] are read already;
           └ readers                └ writers    a short write joins the last slot when it fits whole

A write of up to PIPE_BUF bytes goes in whole or waits. Linux: fs/pipe.c of 2.6.11 and later (64 KB; 2.6.7 had one
page); pages are charged as slots fill.
"""

from __future__ import annotations

from collections import deque
from errno import EBUSY, EINVAL, ENFILE, ENOMEM, ENXIO, EPIPE
from stat import S_IFIFO
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from mmcore.physical.ram import PAGE_SIZE
from mmcore.wait import WaitQueue
from sandbox.fs.dentry import Dentry
from sandbox.fs.file import File
from sandbox.fs.hooks import send_signal
from sandbox.fs.inode import Inode, SuperBlock
from sandbox.fs.pipequota import PipeQuota, round_size
from sandbox.fs.uapi import (
    FIONREAD,
    FMODE_READ,
    FMODE_WRITE,
    O_ACCMODE,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    PIPE_BUF,
    POLLERR,
    POLLHUP,
    POLLOUT,
    READABLE,
    WRITABLE,
)
from sandbox.kernel.sched import Wait
from sandbox.kernel.signo import SIGPIPE
from sandbox.kernel.uaccess import put_user32

if TYPE_CHECKING:
    from mmcore.physical.slab import Slab
    from sandbox.fs.file import Opening
    from sandbox.kernel.task import Task

PIPE_INODE_INFO = 64  # bytes of struct pipe_inode_info. Linux: include/linux/pipe_fs_i.h, 2.6.7


class Pipe:
    """The buffer between two ends. `nbytes` are in it; `max_slots` as F_SETPIPE_SZ sets it; `uid` made it and
    pays for it."""

    __slots__ = (
        "slots",
        "head",
        "nbytes",
        "max_slots",
        "readers",
        "writers",
        "rd_wait",
        "wr_wait",
        "open_wait",
        "slab",
        "info",
        "pages",
        "reader_opens",
        "writer_opens",
        "input_wait",
        "quota",
        "uid",
    )

    def __init__(self, slab: Slab, name: str, quota: PipeQuota, task: Task | None, refusal: int) -> None:
        """Raises OutOfMemory; `refusal` when the user has too many."""
        self.slab = slab
        self.quota = quota
        self.uid = 0 if task is None else task.uid
        self.max_slots = quota.take(self.uid, task is None or not task.euid, refusal)
        try:
            self.info = slab.kmalloc(PIPE_INODE_INFO)
            try:
                self.pages = [slab.kmalloc(PAGE_SIZE)]
            except SysError:
                slab.kfree(self.info)
                raise
        except SysError:
            quota.give(self.uid, self.max_slots)
            raise
        self.slots: deque[bytes] = deque()
        self.head = self.nbytes = 0
        self.readers = self.writers = 0
        self.reader_opens = self.writer_opens = 0
        self.rd_wait = WaitQueue(f"{name} to have data")
        self.wr_wait = WaitQueue(f"{name} to have room")
        self.input_wait = Wait((self.rd_wait,))  # nobody changes it, so every reader yields the same one
        self.open_wait = WaitQueue(f"the other end of {name} to be opened")

    def destroy(self) -> None:
        for page in self.pages:
            self.slab.kfree(page)
        self.slab.kfree(self.info)
        self.quota.give(self.uid, self.max_slots)

    def put_in(self, data: bytes) -> int:
        """Takes what fits of `data`, all or nothing up to PIPE_BUF; returns how much. Raises OutOfMemory before it
        took anything."""
        n = len(data)
        slots = self.slots
        done = 0
        if slots:
            tail = n & (PAGE_SIZE - 1)
            last = slots[-1]
            if tail and len(last) + tail <= PAGE_SIZE:
                room = self.max_slots - len(slots)
                if n > tail and n <= PIPE_BUF and room * PAGE_SIZE < n - tail:
                    return 0
                slots[-1] = last + data[:tail]
                self.nbytes += tail
                if tail == n:
                    return n
                done = tail
        free = self.max_slots - len(slots)
        need = (n - done + PAGE_SIZE - 1) // PAGE_SIZE
        if need > free:
            if n <= PIPE_BUF or not free:
                return done
            need = free
        pages = self.pages
        while len(pages) < len(slots) + need:
            try:
                pages.append(self.slab.kmalloc(PAGE_SIZE))
            except SysError:
                need = len(pages) - len(slots)
                if not need:
                    if done:
                        return done
                    raise
                break
        if need == 1 and not done:
            slots.append(data if n <= PAGE_SIZE else data[:PAGE_SIZE])
            took = min(n, PAGE_SIZE)
        else:
            took = 0
            for _ in range(need):
                piece = data[done + took : done + took + PAGE_SIZE]
                slots.append(piece)
                took += len(piece)
        self.nbytes += took
        return done + took

    def look(self, n: int) -> bytes:
        """The first `n` bytes or fewer; they stay."""
        slots = self.slots
        first = slots[0]
        head = self.head
        if n < len(first) - head:
            return first[head : head + n]
        if len(slots) == 1:
            return first[head:] if head else first
        pieces = [first[head:]]
        got = len(first) - head
        for i in range(1, len(slots)):
            if got >= n:
                break
            pieces.append(slots[i])
            got += len(slots[i])
        data = b"".join(pieces)
        return data if got <= n else data[:n]

    def take(self, n: int) -> None:
        """Removes `n` bytes; writers may go on when a slot became free."""
        slots = self.slots
        self.nbytes -= n
        n += self.head
        freed = False
        while slots and n >= len(slots[0]):
            n -= len(slots.popleft())
            freed = True
        self.head = n
        if freed:
            if self.wr_wait._entries:
                self.wr_wait.wake_all()
            if not slots and len(self.pages) > 1:
                for page in self.pages[1:]:
                    self.slab.kfree(page)
                del self.pages[1:]

    def full(self) -> bool:
        return len(self.slots) >= self.max_slots


class PipeFile(File):
    """One end (or, for a FIFO opened for both, both ends) of a pipe."""

    __slots__ = ("pipe",)

    def __init__(self, dentry: Dentry, flags: int, pipe: Pipe) -> None:
        super().__init__(dentry, flags)
        self.pipe = pipe
        if self.f_mode & FMODE_READ:
            pipe.readers += 1
            pipe.reader_opens += 1
        if self.f_mode & FMODE_WRITE:
            pipe.writers += 1
            pipe.writer_opens += 1

    def release(self) -> None:
        pipe = self.pipe
        if self.f_mode & FMODE_READ:
            pipe.readers -= 1
            if not pipe.readers:
                pipe.wr_wait.wake_all()
        if self.f_mode & FMODE_WRITE:
            pipe.writers -= 1
            if not pipe.writers:
                pipe.rd_wait.wake_all()
        if not pipe.readers and not pipe.writers:
            pipe.destroy()
            self.inode.pipe = None
        super().release()

    def peek(self, task: Task | None, n: int) -> bytes | None:
        pipe = self.pipe
        if pipe.nbytes:
            slots = pipe.slots
            if not pipe.head and len(slots) == 1 and len(slots[0]) <= n:
                return slots[0]
            return pipe.look(n)
        return None if pipe.writers else b""

    def consume(self, n: int) -> None:
        pipe = self.pipe
        if n == pipe.nbytes and len(pipe.slots) == 1:
            pipe.slots.clear()
            pipe.nbytes = pipe.head = 0
            if pipe.wr_wait._entries:
                pipe.wr_wait.wake_all()
        else:
            pipe.take(n)

    def input_wait(self, task: Task) -> Wait:
        return self.pipe.input_wait

    def accept(self, task: Task | None, data: bytes) -> int:
        pipe = self.pipe
        if not pipe.readers:
            send_signal(task, SIGPIPE)
            raise SysError(EPIPE)
        n = len(data)
        if not pipe.nbytes and n <= PAGE_SIZE and n:
            pipe.slots.append(data)
            pipe.nbytes = n
        else:
            n = pipe.put_in(data)
        if n and pipe.rd_wait._entries:
            pipe.rd_wait.wake_all()
        return n

    def read_queues(self) -> list[WaitQueue]:
        return [self.pipe.rd_wait]

    def write_queues(self) -> list[WaitQueue]:
        return [self.pipe.wr_wait]

    def poll(self, queues: list[WaitQueue] | None) -> int:
        pipe = self.pipe
        mask = 0
        if self.f_mode & FMODE_READ:
            if queues is not None:
                queues.append(pipe.rd_wait)
            if pipe.nbytes:
                mask = READABLE
            if not pipe.writers and pipe.writer_opens:
                mask |= POLLHUP
        if self.f_mode & FMODE_WRITE:
            if queues is not None:
                queues.append(pipe.wr_wait)
            if not pipe.full():
                mask |= WRITABLE
            if not pipe.readers:
                mask |= POLLERR | POLLOUT
        return mask

    def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        if cmd == FIONREAD:
            put_user32(task, arg, self.pipe.nbytes)
            return 0
        return super().ioctl(task, cmd, arg)

    def resize(self, nbytes: int, privileged: bool) -> int:
        """F_SETPIPE_SZ: rounded up to a power of two of pages. EBUSY when the content does not fit; EPERM for growing
        beyond a limit without privilege. Linux: pipe_set_size, fs/pipe.c, 6.1."""
        if nbytes > 1 << 31:
            raise SysError(EINVAL)
        pipe, size = self.pipe, round_size(nbytes)
        slots = size // PAGE_SIZE
        pipe.quota.resize(pipe.uid, pipe.max_slots, slots, privileged)
        if len(pipe.slots) > slots:
            pipe.quota.resize(pipe.uid, slots, pipe.max_slots, True)
            raise SysError(EBUSY)
        pipe.max_slots = slots
        pipe.wr_wait.wake_all()
        return size


class PipeInode(Inode):
    """The inode of an anonymous pipe, on a file system of its own that is mounted nowhere."""

    __slots__ = ()

    def __init__(self, sb: SuperBlock) -> None:
        super().__init__(sb, S_IFIFO | 0o600, sb.caches.inode)

    def open(self, task: Task | None, dentry: Dentry, flags: int) -> File:
        """Through /proc/PID/fd."""
        return open_fifo_now(task, dentry, flags)


def create_pipe(task: Task | None, sb: SuperBlock, flags: int) -> tuple[File, File]:
    """(read end, write end). `flags`: O_NONBLOCK, O_DIRECT."""
    inode = PipeInode(sb)
    if task is not None:
        inode.uid, inode.gid = task.fsuid, task.fsgid
    name = f"pipe:[{inode.ino}]"
    try:
        inode.pipe = Pipe(sb.caches.slab, name, sb.caches.pipes, task, ENFILE)
        dentry = Dentry(None, name.encode(), inode, sb)
    except SysError:
        if inode.pipe is not None:
            inode.pipe.destroy()
        inode.evict()
        raise
    dentry.hashed = False
    pipe = inode.pipe
    dentry.count += 1  # held until both ends stand
    try:
        reader = PipeFile(dentry, O_RDONLY | flags, pipe)
        try:
            writer = PipeFile(dentry, O_WRONLY | flags, pipe)
        except SysError:
            reader.put()
            raise
    except SysError:
        if inode.pipe is not None:
            inode.pipe.destroy()
        raise
    finally:
        dentry.put()
    return reader, writer


def open_fifo_now(task: Task | None, dentry: Dentry, flags: int) -> PipeFile:
    """An end of the FIFO `dentry`, without waiting for the other."""
    inode = dentry.inode
    if inode.pipe is None:
        caches = dentry.sb.caches
        inode.pipe = Pipe(caches.slab, f"the FIFO {dentry.name.decode('utf-8', 'replace')}", caches.pipes, task, ENOMEM)
    pipe = inode.pipe
    try:
        return PipeFile(dentry, flags, pipe)
    except SysError:
        if not pipe.readers and not pipe.writers:
            pipe.destroy()
            inode.pipe = None
        raise


def open_fifo(task: Task | None, dentry: Dentry, flags: int) -> File | Opening:
    """open(2) of a FIFO: a File, or a generator that waits for the other end and returns the File. Linux: fs/fifo.c,
    2.6.7."""
    access = flags & O_ACCMODE
    inode = dentry.inode
    if access == O_WRONLY and flags & O_NONBLOCK and (inode.pipe is None or not inode.pipe.readers):
        raise SysError(ENXIO)
    file = open_fifo_now(task, dentry, flags)
    pipe = file.pipe
    pipe.open_wait.wake_all()
    if access == O_RDWR or flags & O_NONBLOCK:
        return file
    if (access == O_RDONLY and pipe.writers) or (access == O_WRONLY and pipe.readers):
        return file
    return _wait_for_partner(file, access)


def _wait_for_partner(file: PipeFile, access: int) -> Opening:
    pipe = file.pipe
    seen = pipe.writer_opens if access == O_RDONLY else pipe.reader_opens
    done = False
    try:
        while (pipe.writer_opens if access == O_RDONLY else pipe.reader_opens) == seen:
            yield Wait([pipe.open_wait])
        done = True
    finally:
        if not done:
            file.put()
    return file
