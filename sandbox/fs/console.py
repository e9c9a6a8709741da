"""Standard input and output: the guest's end of the host's descriptors, or of a sink that collects the output.

    stdin    a file or bytes: a regular file, delivered whole
             a host pipe: read to its end, then the same
             a terminal: line by line, polled
    stdout   written at once, untouched; a terminal shows as one (TCGETS answers), everything else as a pipe, so that
    stderr   a guest's buffering does not depend on where the user sends its output

Linux: drivers/char/tty_io.c for the ioctls' answers.
"""

from __future__ import annotations

import atexit
import os
import select
import struct
from collections.abc import Callable
from errno import EIO, ENOTTY, EPIPE
from stat import S_IFIFO
from typing import TYPE_CHECKING, Any

from mmcore.errors import SysError
from mmcore.wait import WaitQueue
from sandbox.fs.dentry import Dentry
from sandbox.fs.file import File
from sandbox.fs.hooks import send_signal
from sandbox.fs.inode import Inode, SuperBlock
from sandbox.fs.uapi import (
    FIONREAD,
    POLLHUP,
    READABLE,
    TCGETS,
    TCSETS,
    TCSETSF,
    TCSETSW,
    TIOCGPGRP,
    TIOCGSID,
    TIOCGWINSZ,
    TIOCSPGRP,
    TIOCSWINSZ,
    WRITABLE,
)
from sandbox.kernel.sched import Wait
from sandbox.kernel.signo import SIGPIPE
from sandbox.kernel.uaccess import copy_from_user, copy_to_user

if TYPE_CHECKING:
    from sandbox.kernel.task import Task

Sink = int | Callable[[bytes], Any]
"""Where output goes: a host descriptor, or a function that gets the bytes."""

POLL_NS = 10_000_000  # virtual time between two looks at a terminal
POLL_HOST_S = 0.005


class Console:
    """The terminal. `fd` is a host descriptor of it, for its settings and size; `in_fd` and `sink` move the
    data."""

    def __init__(self, in_fd: int | None, sink: Sink, fd: int) -> None:
        self.in_fd = in_fd
        self.sink = sink
        self.fd = fd
        self.pgrp = 0
        self.pending = b""
        self.eof = False
        self.canonical = True
        self.saved: list[Any] | None = None
        self.queue = WaitQueue("input from the terminal")

    def open(self, dentry: Dentry, flags: int) -> File:
        return TtyFile(dentry, flags, self)

    def fill(self) -> bool:
        """Is there input (or its end)? Waits a moment of host time for it."""
        if self.pending or self.eof or self.in_fd is None:
            return True
        if not select.select([self.in_fd], [], [], POLL_HOST_S)[0]:
            return False
        try:
            data = os.read(self.in_fd, 4096)
        except OSError:
            data = b""
        if data:
            self.pending = data
        else:
            self.eof = True
        return True

    def termios(self) -> bytes:
        """struct termios of the kernel (36 bytes)."""
        import termios

        try:
            iflag, oflag, cflag, lflag, _, _, cc = termios.tcgetattr(self.fd)
        except (termios.error, OSError):
            raise SysError(ENOTTY) from None
        chars = b"".join(c if isinstance(c, bytes) else bytes([c]) for c in cc)[:19]
        return struct.pack("<4IB19s", iflag, oflag, cflag & 0xFFFFFFFF, lflag, 0, chars)

    def set_termios(self, data: bytes, when: int) -> None:
        """The guest's settings become the host terminal's, until `restore`. `when`: 0 now, 1 after output, 2 and
        forget input."""
        import termios

        iflag, oflag, cflag, lflag, _, chars = struct.unpack("<4IB19s", data)
        try:
            settings = termios.tcgetattr(self.fd)
            if self.saved is None:
                self.saved = [*settings[:6], list(settings[6])]
                atexit.register(self.restore)
            cc = settings[6]
            for i, value in enumerate(chars):
                cc[i] = value if not lflag & termios.ICANON and i in (termios.VMIN, termios.VTIME) else bytes([value])
            termios.tcsetattr(self.fd, when, [iflag, oflag, cflag, lflag, *settings[4:6], cc])
        except (termios.error, OSError):
            raise SysError(ENOTTY) from None
        self.canonical = bool(lflag & termios.ICANON)

    def restore(self) -> None:
        """The host's terminal gets back the settings it had."""
        import termios

        if self.saved is not None:
            saved, self.saved = self.saved, None
            atexit.unregister(self.restore)
            try:
                termios.tcsetattr(self.fd, termios.TCSADRAIN, saved)
            except (termios.error, OSError):
                pass  # the terminal is gone

    def winsize(self) -> bytes:
        try:
            size = os.get_terminal_size(self.fd)
        except OSError:
            return struct.pack("<4H", 24, 80, 0, 0)
        return struct.pack("<4H", size.lines, size.columns, 0, 0)


class TtyFile(File):
    """An open terminal. Its settings are the host terminal's, and changes go through to it till the end of the run."""

    __slots__ = ("console",)

    def __init__(self, dentry: Dentry, flags: int, console: Console) -> None:
        super().__init__(dentry, flags)
        self.console = console

    @property
    def poll_ns(self) -> int:
        return POLL_NS

    def peek(self, task: Task | None, n: int) -> bytes | None:
        console = self.console
        if not console.fill():
            return None
        line = console.pending
        if not line:
            console.eof = False  # an end of file typed at a terminal is told once
            return b""
        if not console.canonical:
            return line[:n]
        end = line.find(b"\n") + 1
        return line[: min(n, end)] if end else line[:n]

    def consume(self, n: int) -> None:
        self.console.pending = self.console.pending[n:]

    def accept(self, task: Task | None, data: bytes) -> int:
        return emit(task, self.console.sink, data)

    def read_queues(self) -> list[WaitQueue]:
        return [self.console.queue]

    def input_wait(self, task: Task) -> Wait:
        """The terminal is looked at again after a while of virtual time."""
        return Wait(self.read_queues(), task.kernel.clock.now + POLL_NS)

    def poll(self, queues: list[WaitQueue] | None) -> int:
        if queues is not None:
            queues.append(self.console.queue)
        return WRITABLE | (READABLE if self.console.fill() else 0)

    def ioctl(self, task: Task, cmd: int, arg: int) -> int:

        console = self.console
        if cmd == TCGETS:
            copy_to_user(task, arg, console.termios())
        elif cmd == TIOCGWINSZ:
            copy_to_user(task, arg, console.winsize())
        elif cmd in (TIOCGPGRP, TIOCGSID):
            copy_to_user(task, arg, struct.pack("<I", (cmd == TIOCGPGRP and console.pgrp) or task.signal.pgrp))
        elif cmd == TIOCSPGRP:
            console.pgrp = struct.unpack("<I", copy_from_user(task, arg, 4))[0]
        elif cmd == FIONREAD:
            copy_to_user(task, arg, struct.pack("<I", len(console.pending) if console.fill() else 0))
        elif cmd in (TCSETS, TCSETSW, TCSETSF):
            console.set_termios(copy_from_user(task, arg, 36), cmd - TCSETS)
        elif cmd != TIOCSWINSZ:
            raise SysError(ENOTTY)
        return 0


class OutputFile(File):
    """Standard output or error that is not a terminal."""

    __slots__ = ("sink",)

    def __init__(self, dentry: Dentry, flags: int, sink: Sink) -> None:
        super().__init__(dentry, flags)
        self.sink = sink

    def accept(self, task: Task | None, data: bytes) -> int:
        return emit(task, self.sink, data)

    def peek(self, task: Task | None, n: int) -> bytes:
        return b""

    def poll(self, queues: list[WaitQueue] | None) -> int:
        return WRITABLE


class StreamInput(File):
    """Standard input from a host pipe: read to its end at the guest's first read, so that what the guest sees does not
    depend on how the bytes arrive."""

    __slots__ = ("fd", "data", "parts")

    def __init__(self, dentry: Dentry, flags: int, fd: int) -> None:
        super().__init__(dentry, flags)
        self.fd = fd
        self.data: bytes | None = None
        self.parts: list[bytes] = []

    def _all(self, task: Task | None) -> bytes | None:
        """All of it; None when the run is to end (Ctrl-C, time limit) before the pipe does."""
        while self.data is None:
            try:
                if not select.select([self.fd], [], [], POLL_HOST_S)[0]:
                    if task is not None and task.kernel.must_stop():
                        return None
                    continue
                data = os.read(self.fd, 1 << 20)
            except OSError as error:
                raise SysError(error.errno or EIO) from None
            if data:
                self.parts.append(data)
            else:
                self.data = b"".join(self.parts)
                self.parts.clear()
        return self.data

    def peek(self, task: Task | None, n: int) -> bytes | None:
        data = self._all(task)
        return None if data is None else data[self.pos : self.pos + n]

    def input_wait(self, task: Task) -> Wait:
        """Only yielded by a run that is about to end; long enough for the loop to notice."""
        return Wait((), task.kernel.clock.now + POLL_NS)

    def poll(self, queues: list[WaitQueue] | None) -> int:
        return READABLE if self.pos < len(self._all(None) or b"") else READABLE | POLLHUP


class StreamInode(Inode):
    """The pipe that standard output looks like, or the node of a terminal."""

    __slots__ = ("factory",)

    def __init__(self, sb: SuperBlock, mode: int, rdev: int, factory: Callable[[Dentry, int], File]) -> None:
        super().__init__(sb, mode, sb.caches.inode)
        self.rdev = rdev
        self.factory = factory

    def open(self, task: Task | None, dentry: Dentry, flags: int) -> File:
        return self.factory(dentry, flags)


def emit(task: Task | None, sink: Sink, data: bytes) -> int:
    """Sends `data` on, all of it. A reader gone is SIGPIPE and EPIPE in the guest too; a full non-blocking descriptor
    is waited for."""
    if callable(sink):
        sink(bytes(data))
        return len(data)
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(sink, view) :]
        except BlockingIOError:
            select.select([], [sink], [], 1.0)
        except BrokenPipeError:
            send_signal(task, SIGPIPE)
            raise SysError(EPIPE) from None
        except OSError as error:
            raise SysError(error.errno or EIO) from None
    return len(data)


def is_terminal(sink: Sink | None) -> bool:
    return isinstance(sink, int) and os.isatty(sink)


def input_file(sb: SuperBlock, fd: int) -> File:
    inode = StreamInode(sb, S_IFIFO | 0o600, 0, lambda dentry, flags: StreamInput(dentry, flags, fd))
    dentry = Dentry(None, f"pipe:[{inode.ino}]".encode(), inode, sb)
    dentry.hashed = False
    return StreamInput(dentry, 0, fd)


def output_file(sb: SuperBlock, sink: Sink) -> File:
    inode = StreamInode(sb, S_IFIFO | 0o600, 0, lambda dentry, flags: OutputFile(dentry, flags, sink))
    dentry = Dentry(None, f"pipe:[{inode.ino}]".encode(), inode, sb)
    dentry.hashed = False
    return OutputFile(dentry, 1, sink)
