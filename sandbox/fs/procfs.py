"""/proc: its tree. The texts are made in proc_system (the machine), proc_task (a process) and sysctl (/proc/sys).

    /proc/self -> PID      /proc/PID/{cmdline comm cwd environ exe fd/ map_files/ maps mounts smaps ... task/TID/}
    /proc/{meminfo vmstat cpuinfo stat uptime ...}      /proc/sys/{kernel,vm,fs}/...

A directory of a process holds for as long as the process: once it is gone, names in it are ENOENT and open files of it
ESRCH. Linux: fs/proc/base.c, 2.6.7.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import ENOENT, ESRCH
from stat import S_IFDIR
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from sandbox.fs import kpage, proc_system, proc_task, sysctl
from sandbox.fs.dentry import Dentry, d_path
from sandbox.fs.file import program_of
from sandbox.fs.kpage import FrameTable
from sandbox.fs.pagemap import Pagemap
from sandbox.fs.proc_areas import MapFilesDir
from sandbox.fs.pseudofs import Dir, Link, PseudoNode, Text
from sandbox.fs.uapi import FMODE_READ, FMODE_WRITE

if TYPE_CHECKING:
    from sandbox.fs.vfs import Vfs
    from sandbox.kernel.task import Task

# Inode numbers as 2.6.7 makes them: pid << 16 | kind, descriptors from 0x8000, mapped files from 0x6000.
_FD_BASE = 0x8000
_TASK_BASE = 0x4000


class TaskDir(Dir):
    """/proc/PID (`thread` False) or /proc/PID/task/TID. Its nodes are made one at a time, as walks ask for them."""

    __slots__ = ("vfs", "task", "thread")

    def __init__(self, vfs: Vfs, task: Task, thread: bool = False) -> None:
        super().__init__({}, 0o555, task.pid << 16 | (_TASK_BASE if thread else 2))
        self.vfs = vfs
        self.task = task
        self.thread = thread
        self.uid, self.gid = task.euid, task.egid
        self.subdirs = 1 if thread else 3

    def find(self, name: bytes) -> PseudoNode | None:
        number = _NUMBERS.get(name)
        if (
            number is None
            or (self.thread and name in (b"map_files", b"task"))
            or not proc_task.alive(self.vfs, self.task)
        ):
            return None
        node = self._node(name.decode(), self.ino + 1 + number)
        # Once another user's, memory is root's to see; directories, and one's own descriptors, stay with the process.
        # Linux: task_dump_owner.
        if node.mode == S_IFDIR | 0o555 or name == b"fd" or self.task.mm is None or self.task.mm.dumpable == 1:
            node.uid, node.gid = self.uid, self.gid
        return node

    def _node(self, name: str, ino: int) -> PseudoNode:
        vfs, task = self.vfs, self.task
        show = proc_task.TEXTS.get(name)
        if show is not None:
            store, mode = proc_task.store_for(task, name), proc_task.MODES.get(name, 0)
            return Text(self._show(show), store, mode, ino, positioned=name not in proc_task.SEQ_FILES)
        if name == "pagemap":
            return Pagemap(task, ino)
        if name == "fd":
            return FdDir(vfs, task, ino)
        if name == "map_files":
            return MapFilesDir(vfs, task, ino)
        if name == "task":
            return ThreadsDir(vfs, task, ino)
        if name == "mounts":
            return Text(lambda: proc_system.mounts(vfs), None, 0, ino)
        place = _place(task, name)
        return Link(_text_of(place), _jump_of(place), ino)

    def _show(self, show: Callable[[Task], str | bytes]) -> Callable[[], str | bytes]:
        task = self.task

        def text() -> str | bytes:
            if not proc_task.alive(self.vfs, task):
                raise SysError(ESRCH)
            return show(task)

        return text

    def list(self) -> list[tuple[bytes, PseudoNode]]:
        return [(name, node) for name in _NUMBERS if (node := self.find(name)) is not None]


_NUMBERS = {
    name.encode(): number
    for number, name in enumerate(
        sorted([*proc_task.TEXTS, "fd", "map_files", "task", "mounts", "pagemap", "exe", "cwd", "root"])
    )
}


def _place(task: Task, name: str) -> Callable[[], Dentry]:
    def find() -> Dentry:
        if name == "exe":
            program = program_of(task.mm) if task.mm is not None else None
            at = program.dentry if program is not None else None
        else:
            at = getattr(task.fs, name) if task.fs is not None else None
        if at is None:
            raise SysError(ENOENT)
        return at

    return find


def _text_of(place: Callable[[], Dentry]) -> Callable[[Task | None], bytes]:
    return lambda reader: d_path(place(), reader.fs.root if reader is not None else None)


def _jump_of(place: Callable[[], Dentry]) -> Callable[[Task | None], Dentry]:
    return lambda reader: place()


class FdDir(Dir):
    """/proc/PID/fd: a link per open descriptor."""

    __slots__ = ("vfs", "task")

    def __init__(self, vfs: Vfs, task: Task, ino: int) -> None:
        super().__init__({}, 0o500, ino)
        self.vfs = vfs
        self.task = task

    def _link(self, fd: int) -> Link | None:
        files = self.task.files
        opened = files.fds[fd] if files is not None and fd < len(files.fds) else None
        if opened is None:
            return None

        def target() -> Dentry:
            file = files.fds[fd] if fd < len(files.fds) else None
            if file is None:
                raise SysError(ENOENT)
            return file.dentry

        link = Link(_text_of(target), _jump_of(target), self.task.pid << 16 | _FD_BASE + fd, 64)
        mode = opened.f_mode
        link.mode = link.mode & ~0o777 | (0o500 if mode & FMODE_READ else 0o100) | (0o300 if mode & FMODE_WRITE else 0)
        return link

    def find(self, name: bytes) -> PseudoNode | None:
        return self._link(int(name)) if name.isdigit() else None

    def list(self) -> list[tuple[bytes, PseudoNode]]:
        files = self.task.files
        if files is None:
            return []
        return [(b"%d" % fd, link) for fd in files.open_fds() if (link := self._link(fd)) is not None]


class ThreadsDir(Dir):
    """/proc/PID/task."""

    __slots__ = ("vfs", "task")

    def __init__(self, vfs: Vfs, task: Task, ino: int) -> None:
        super().__init__({}, 0o555, ino)
        self.vfs = vfs
        self.task = task

    def find(self, name: bytes) -> PseudoNode | None:
        task = self.vfs.kernel.tasks.get(int(name)) if name.isdigit() else None
        return TaskDir(self.vfs, task, thread=True) if task is not None and task.tgid == self.task.tgid else None

    def list(self) -> list[tuple[bytes, PseudoNode]]:
        pids = sorted(task.pid for task in self.task.signal.threads)
        return [(b"%d" % pid, node) for pid in pids if (node := self.find(b"%d" % pid)) is not None]


class RootDir(Dir):
    """/proc itself: the fixed files, then a directory per process, by ascending pid."""

    __slots__ = ("vfs",)

    def __init__(self, vfs: Vfs, fixed: dict[str, PseudoNode]) -> None:
        super().__init__(fixed)
        self.vfs = vfs

    def find(self, name: bytes) -> PseudoNode | None:
        node = self.fixed.get(name)
        if node is None and name.isdigit() and self.vfs.kernel is not None:
            task = self.vfs.kernel.tasks.get(int(name))
            if task is not None:
                return TaskDir(self.vfs, task)
        return node

    def list(self) -> list[tuple[bytes, PseudoNode]]:
        listing = super().list()
        if self.vfs.kernel is not None:
            tasks = self.vfs.kernel.tasks
            # Number and mode are all a listing needs: no directory is built.
            listing += [
                (b"%d" % pid, PseudoNode(0o040555, pid << 16 | 2)) for pid in sorted(tasks) if tasks[pid].tgid == pid
            ]
        return listing


def _self(reader: Task | None) -> bytes:
    if reader is None:
        raise SysError(ENOENT)
    return b"%d" % reader.tgid


def _thread_self(reader: Task | None) -> bytes:
    if reader is None:
        raise SysError(ENOENT)
    return b"%d/task/%d" % (reader.tgid, reader.pid)


def tree(vfs: Vfs) -> Dir:
    """The nodes of /proc for `vfs` (whose kernel may be attached later)."""
    fixed: dict[str, PseudoNode] = {name: Text(_bound(show, vfs)) for name, show in sorted(proc_system.TEXTS.items())}
    fixed["kpagecount"] = FrameTable(vfs.mem, kpage.counts)
    fixed["kpageflags"] = FrameTable(vfs.mem, kpage.flags)
    fixed["mounts"] = Link(lambda reader: b"self/mounts")
    fixed["self"] = Link(_self)
    fixed["thread-self"] = Link(_thread_self)
    fixed["sys"] = sysctl.tree(vfs)
    return RootDir(vfs, dict(sorted(fixed.items())))


def _bound(show: Callable[[Vfs], str], vfs: Vfs) -> Callable[[], str]:
    return lambda: show(vfs)
