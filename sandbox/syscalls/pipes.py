"""Pipes; and sockets, which this machine does not have: EAFNOSUPPORT, as a kernel without the protocol answers. Linux:
fs/pipe.c, net/socket.c, 2.6.7."""

from __future__ import annotations

import struct
from errno import EAFNOSUPPORT, EINVAL, ENOTSOCK
from typing import TYPE_CHECKING

from mmcore.errors import NotHere, SysError
from sandbox.fs.pipe import create_pipe
from sandbox.fs.uapi import O_CLOEXEC, O_DIRECT, O_NONBLOCK
from sandbox.kernel.table import syscall
from sandbox.kernel.uaccess import copy_from_user, copy_to_user, pin_user

if TYPE_CHECKING:
    from sandbox.kernel.task import Task


def do_pipe(task: Task, fds: int, flags: int) -> int:
    if flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT):
        raise SysError(EINVAL)
    pin_user(task, fds, 8, True)
    reader, writer = create_pipe(task, task.kernel.vfs.pipe_sb, flags & (O_NONBLOCK | O_DIRECT))
    files = task.files
    cloexec = bool(flags & O_CLOEXEC)
    try:
        rfd = files.install(reader, cloexec)
    except SysError:
        reader.put()
        writer.put()
        raise
    try:
        wfd = files.install(writer, cloexec)
    except SysError:
        writer.put()
        files.close(rfd, task)
        raise
    copy_to_user(task, fds, struct.pack("<2I", rfd, wfd))
    return 0


@syscall(42, "pipe", 1)
def sys_pipe(task: Task, fds: int) -> int:
    return do_pipe(task, fds, 0)


@syscall(331, "pipe2", 2)
def sys_pipe2(task: Task, fds: int, flags: int) -> int:
    return do_pipe(task, fds, flags)


# sockets
# Number of argument words of each call of the multiplexer, by its number from 1. Linux: net/socket.c, nargs.
_SOCKETCALL_ARGS = (0, 3, 3, 3, 2, 3, 3, 3, 4, 4, 4, 6, 6, 2, 5, 5, 3, 3, 4, 5, 4)
_SOCKET, _SOCKETPAIR = 1, 8
_FAMILIES = {
    1: "AF_UNIX",
    2: "AF_INET",
    10: "AF_INET6",
    16: "AF_NETLINK",
    17: "AF_PACKET",
    38: "AF_ALG",
    40: "AF_VSOCK",
}


def _not_a_socket(task: Task, fd: int) -> int:
    task.files.get(fd)
    raise SysError(ENOTSOCK)


@syscall(102, "socketcall", 2)
def sys_socketcall(task: Task, call: int, args: int) -> int:
    if not 1 <= call < len(_SOCKETCALL_ARGS):
        raise SysError(EINVAL)
    words = struct.unpack(f"<{_SOCKETCALL_ARGS[call]}I", copy_from_user(task, args, 4 * _SOCKETCALL_ARGS[call]))
    if call in (_SOCKET, _SOCKETPAIR):
        raise _no_sockets(words[0])
    return _not_a_socket(task, words[0])


def _no_sockets(family: int) -> NotHere:
    return NotHere(EAFNOSUPPORT, f"sockets of {_FAMILIES.get(family, f'family {family}')}")


@syscall(359, "socket", 3)
@syscall(360, "socketpair", 4)
def sys_socket(task: Task, family: int, *args: int) -> int:
    raise _no_sockets(family)


@syscall(361, "bind", 3)
@syscall(362, "connect", 3)
@syscall(363, "listen", 2)
@syscall(364, "accept4", 4)
@syscall(365, "getsockopt", 5)
@syscall(366, "setsockopt", 5)
@syscall(367, "getsockname", 3)
@syscall(368, "getpeername", 3)
@syscall(369, "sendto", 6)
@syscall(370, "sendmsg", 3)
@syscall(371, "recvfrom", 6)
@syscall(372, "recvmsg", 3)
@syscall(373, "shutdown", 2)
def sys_on_socket(task: Task, fd: int, *args: int) -> int:
    return _not_a_socket(task, fd)
