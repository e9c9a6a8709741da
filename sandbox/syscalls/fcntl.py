"""System calls on descriptors: dup, fcntl, flock, ioctl. Linux: fs/fcntl.c, fs/locks.c, fs/ioctl.c, 2.6.7; F_OFD_*
3.15, F_DUPFD_CLOEXEC 2.6.24."""

from __future__ import annotations

import struct
from collections.abc import Callable
from errno import EAGAIN, EBADF, EINVAL, EOVERFLOW, EPERM
from typing import TYPE_CHECKING

from mmcore.errors import NotHere, SysError
from mmcore.physical.ram import PAGE_SIZE
from sandbox.fs import locks
from sandbox.fs.at import fget, s32
from sandbox.fs.file import File
from sandbox.fs.inode import owned
from sandbox.fs.leases import get_lease, set_lease
from sandbox.fs.memfd import add_seals, get_seals
from sandbox.fs.notify import watch
from sandbox.fs.pipe import PipeFile
from sandbox.fs.sigio import get_owner, set_owner
from sandbox.fs.uapi import (
    F_ADD_SEALS,
    F_DUPFD,
    F_DUPFD_CLOEXEC,
    F_GET_RW_HINT,
    F_GET_SEALS,
    F_GETFD,
    F_GETFL,
    F_GETLEASE,
    F_GETLK,
    F_GETLK64,
    F_GETOWN,
    F_GETOWN_EX,
    F_GETPIPE_SZ,
    F_GETSIG,
    F_NOTIFY,
    F_OFD_GETLK,
    F_OFD_SETLK,
    F_OFD_SETLKW,
    F_OWNER_PGRP,
    F_OWNER_PID,
    F_RDLCK,
    F_SET_RW_HINT,
    F_SETFD,
    F_SETFL,
    F_SETLEASE,
    F_SETLK,
    F_SETLK64,
    F_SETLKW,
    F_SETLKW64,
    F_SETOWN,
    F_SETOWN_EX,
    F_SETPIPE_SZ,
    F_SETSIG,
    F_UNLCK,
    F_WRLCK,
    FD_CLOEXEC,
    FIOASYNC,
    FIOCLEX,
    FIONBIO,
    FIONCLEX,
    FIONREAD,
    FMODE_READ,
    FMODE_WRITE,
    LOCK_EX,
    LOCK_NB,
    LOCK_SH,
    LOCK_UN,
    O_ASYNC,
    O_CLOEXEC,
    O_NONBLOCK,
    O_PATH,
    O_SETTABLE,
)
from sandbox.kernel.sched import Wait
from sandbox.kernel.table import syscall
from sandbox.kernel.uaccess import copy_from_user, copy_to_user, get_user32, pin_user, put_user32, put_user64

if TYPE_CHECKING:
    from sandbox.fs.fdtable import FileTable
    from sandbox.kernel.sched import Call
    from sandbox.kernel.task import Task

_NOT_HERE = {1027: "F_DUPFD_QUERY", 1028: "F_CREATED_QUERY"}


# copies of descriptors
@syscall(41, "dup", 1)
def sys_dup(task: Task, fd: int) -> int:
    return _dup_from(task, fd, 0, False)


def _dup_from(task: Task, fd: int, minimum: int, cloexec: bool) -> int:
    files = task.files
    file = files.get(fd)
    new = files.install(file, cloexec, minimum)
    file.count += 1
    return new


@syscall(63, "dup2", 2)
def sys_dup2(task: Task, fd: int, new: int) -> int:
    files = task.files
    file = files.get(fd)
    if new >= files.limit:
        raise SysError(EBADF)
    if new != fd:
        file.count += 1
        files.replace(new, file, False, task)
    return new


@syscall(330, "dup3", 3)
def sys_dup3(task: Task, fd: int, new: int, flags: int) -> int:
    if flags & ~O_CLOEXEC or fd == new:
        raise SysError(EINVAL)
    files = task.files
    if new >= files.limit:
        raise SysError(EBADF)
    file = files.get(fd)
    file.count += 1
    files.replace(new, file, bool(flags), task)
    return new


# fcntl
Command = Callable[["Task", File, int, int, int], "int | Call"]
_OF_DESCRIPTORS: dict[int, Command] = {}
"""What may be asked of every descriptor: (task, file, fd, cmd, arg) -> result."""
_OF_FILES: dict[int, Command] = {}
"""What may not be asked of a descriptor that only names a place (O_PATH)."""


def _command(commands: dict[int, Command], *numbers: int) -> Callable[[Command], Command]:
    """Enters the function below it for these values of `cmd`."""

    def enter(function: Command) -> Command:
        commands.update(dict.fromkeys(numbers, function))
        return function

    return enter


@syscall(221, "fcntl64", 3)
def sys_fcntl64(task: Task, fd: int, cmd: int, arg: int) -> int | Call:
    file = task.files.get(fd)
    command = _OF_DESCRIPTORS.get(cmd)
    if command is None:
        if file.f_flags & O_PATH:
            raise SysError(EBADF)
        command = _OF_FILES.get(cmd)
        if command is None:
            if cmd in _NOT_HERE:
                raise NotHere(EINVAL, f"{_NOT_HERE[cmd]} (fcntl)")
            raise SysError(EINVAL)
    return command(task, file, fd, cmd, arg)


@_command(_OF_DESCRIPTORS, F_GETFD)
def _getfd(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    return FD_CLOEXEC if fd in task.files.cloexec else 0


@_command(_OF_DESCRIPTORS, F_SETFD)
def _setfd(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    if arg & FD_CLOEXEC:
        task.files.cloexec.add(fd)
    else:
        task.files.cloexec.discard(fd)
    return 0


@_command(_OF_DESCRIPTORS, F_GETFL)
def _getfl(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    return file.f_flags & ~O_CLOEXEC


@_command(_OF_DESCRIPTORS, F_DUPFD, F_DUPFD_CLOEXEC)
def _dupfd(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    if arg >= task.files.limit:
        raise SysError(EINVAL)
    return _dup_from(task, fd, arg, cmd == F_DUPFD_CLOEXEC)


@_command(_OF_FILES, F_SETFL)
def _setfl(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    file.f_flags = file.f_flags & ~O_SETTABLE | arg & O_SETTABLE
    return 0


@_command(_OF_FILES, F_GETOWN)
def _getown(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    kind, ident = get_owner(task, file)
    return (-ident if kind == F_OWNER_PGRP else ident) & 0xFFFFFFFF


@_command(_OF_FILES, F_SETOWN)
def _setown(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    who = s32(arg)
    if who == -1 << 31:
        raise SysError(EINVAL)
    set_owner(task, file, F_OWNER_PGRP if who < 0 else F_OWNER_PID, abs(who))
    return 0


@_command(_OF_FILES, F_GETOWN_EX)
def _getown_ex(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    copy_to_user(task, arg, struct.pack("<2i", *get_owner(task, file)))
    return 0


@_command(_OF_FILES, F_SETOWN_EX)
def _setown_ex(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    set_owner(task, file, *struct.unpack("<2i", copy_from_user(task, arg, 8)))
    return 0


@_command(_OF_FILES, F_GETSIG)
def _getsig(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    return file.signum


@_command(_OF_FILES, F_SETSIG)
def _setsig(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    if arg > 64:
        raise SysError(EINVAL)
    file.signum = arg
    return 0


@_command(_OF_FILES, F_GETPIPE_SZ, F_SETPIPE_SZ)
def _pipe_size(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    if not isinstance(file, PipeFile):
        raise SysError(EBADF)
    if cmd == F_GETPIPE_SZ:
        return file.pipe.max_slots * PAGE_SIZE
    return file.resize(arg, privileged=not task.euid)


@_command(_OF_FILES, F_SETLEASE)
def _setlease(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    set_lease(task, file, fd, arg)
    return 0


@_command(_OF_FILES, F_GETLEASE)
def _getlease(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    return get_lease(file)


@_command(_OF_FILES, F_NOTIFY)
def _notify(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    watch(task, file, fd, arg)
    return 0


@_command(_OF_FILES, F_ADD_SEALS)
def _add_seals(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    return add_seals(file, arg)


@_command(_OF_FILES, F_GET_SEALS)
def _get_seals(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    return get_seals(file)


@_command(_OF_FILES, F_GET_RW_HINT, F_SET_RW_HINT)
def _rw_hint(task: Task, file: File, fd: int, cmd: int, arg: int) -> int:
    """How long what is written will live (RWH_WRITE_LIFE_*, 0 to 5): kept with the file, and nothing more. Linux:
    fs/fcntl.c, 6.8."""
    inode = file.inode
    if cmd == F_GET_RW_HINT:
        put_user64(task, arg, inode.rw_hint)
        return 0
    if not owned(task, inode):
        raise SysError(EPERM)
    hint = struct.unpack("<Q", copy_from_user(task, arg, 8))[0]
    if hint > 5:
        raise SysError(EINVAL)
    inode.rw_hint = hint
    return 0


@syscall(55, "fcntl", 3)
def sys_fcntl(task: Task, fd: int, cmd: int, arg: int) -> int | Call:
    return sys_fcntl64(task, fd, cmd, arg)


# locks
_FORM64 = "<hhqqi"
_FORM32 = "<hhiii"


def _range(file: File, whence: int, start: int, length: int) -> tuple[int, int]:
    """(first, last) byte of a struct flock. EINVAL, EOVERFLOW. Linux: flock_to_posix_lock."""
    if whence == 1:
        start += file.pos
    elif whence == 2:
        start += file.inode.i_size
    elif whence:
        raise SysError(EINVAL)
    if length < 0:
        start, length = start + length, -length
    if start < 0:
        raise SysError(EINVAL)
    end = start + length - 1 if length else locks.OFFSET_MAX
    if end > locks.OFFSET_MAX:
        raise SysError(EOVERFLOW)
    return start, end


@_command(
    _OF_FILES,
    F_GETLK,
    F_SETLK,
    F_SETLKW,
    F_GETLK64,
    F_SETLK64,
    F_SETLKW64,
    F_OFD_GETLK,
    F_OFD_SETLK,
    F_OFD_SETLKW,
)
def _record_lock(task: Task, file: File, fd: int, cmd: int, arg: int) -> int | Call:
    form = _FORM32 if cmd in (F_GETLK, F_SETLK, F_SETLKW) else _FORM64
    size = struct.calcsize(form)
    kind, whence, start, length, pid = struct.unpack(form, copy_from_user(task, arg, size))
    ofd = cmd >= F_OFD_GETLK
    if kind not in (F_RDLCK, F_WRLCK, F_UNLCK) or (ofd and pid):
        raise SysError(EINVAL)
    first, last = _range(file, whence, start, length)
    owner: FileTable | File = file if ofd else task.files
    if cmd in (F_GETLK, F_GETLK64, F_OFD_GETLK):
        if kind == F_UNLCK and not ofd:
            raise SysError(EINVAL)
        lock = locks.find_conflict(file.inode, owner, kind, first, last)
        if lock is None:
            answer = struct.pack(form, F_UNLCK, whence, start, length, pid)
        else:
            span = 0 if lock.end == locks.OFFSET_MAX else lock.end - lock.start + 1
            if form is _FORM32 and (lock.start > 0x7FFFFFFF or span > 0x7FFFFFFF):
                raise SysError(EOVERFLOW)
            answer = struct.pack(form, lock.kind, 0, lock.start, span, lock.pid)
        copy_to_user(task, arg, answer)
        return 0
    if (kind == F_RDLCK and not file.f_mode & FMODE_READ) or (kind == F_WRLCK and not file.f_mode & FMODE_WRITE):
        raise SysError(EBADF)
    pid = -1 if ofd else task.tgid
    if kind == F_UNLCK or locks.find_conflict(file.inode, owner, kind, first, last) is None:
        if kind != F_UNLCK or file.inode.locks:
            locks.set_posix(file.inode, owner, kind, first, last, pid)
        return 0
    if cmd in (F_SETLK, F_SETLK64, F_OFD_SETLK):
        raise SysError(EAGAIN)
    return _lock_wait(file, owner, kind, first, last, pid)


def _lock_wait(file: File, owner: FileTable | File, kind: int, first: int, last: int, pid: int) -> int | Call:
    file.count += 1
    try:
        yield from locks.wait_posix(file.inode, owner, kind, first, last)
        locks.set_posix(file.inode, owner, kind, first, last, pid)
        return 0
    finally:
        file.put()


@syscall(143, "flock", 2)
def sys_flock(task: Task, fd: int, operation: int) -> int | Call:
    file = fget(task, fd)
    kind = {LOCK_SH: F_RDLCK, LOCK_EX: F_WRLCK, LOCK_UN: F_UNLCK}.get(operation & ~LOCK_NB)
    if kind is None:
        raise SysError(EINVAL)
    if kind == F_UNLCK:
        locks.forget_flock(file)
        return 0
    if locks.flock_conflict(file.inode, file, kind) is None:
        locks.set_flock(file, kind, task.tgid)
        return 0
    # An upgrade lets go of the old lock before it waits for the new one.
    locks.forget_flock(file)
    if operation & LOCK_NB:
        raise SysError(EAGAIN)
    return _flock_wait(task, file, kind)


def _flock_wait(task: Task, file: File, kind: int) -> int | Call:
    file.count += 1
    try:
        while locks.flock_conflict(file.inode, file, kind) is not None:
            yield Wait([locks.lock_queue(file.inode)])
        locks.set_flock(file, kind, task.tgid)
        return 0
    finally:
        file.put()


# ioctl
@syscall(54, "ioctl", 3)
def sys_ioctl(task: Task, fd: int, cmd: int, arg: int) -> int:
    file = fget(task, fd)
    if cmd == FIOCLEX:
        task.files.cloexec.add(fd)
        return 0
    if cmd == FIONCLEX:
        task.files.cloexec.discard(fd)
        return 0
    if cmd in (FIONBIO, FIOASYNC):
        bit = O_NONBLOCK if cmd == FIONBIO else O_ASYNC
        on = get_user32(task, arg)
        file.f_flags = file.f_flags | bit if on else file.f_flags & ~bit
        return 0
    if cmd == FIONREAD and file.regular:
        pin_user(task, arg, 4, True)
        put_user32(task, arg, file.inode.i_size - file.pos)
        return 0
    return file.ioctl(task, cmd, arg)
