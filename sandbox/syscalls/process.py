"""fork, exec, exit, wait, and who a process is among others.

Linux: kernel/fork.c, exit.c, sys.c, 2.6.7; argument checks of current kernels where they differ.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from typing import TYPE_CHECKING

from mmcore.errors import NotHere, SysError
from sandbox.fs.at import CWD, s32
from sandbox.kernel.binprm import MAX_ARG_STRLEN
from sandbox.kernel.exec import close_exec, do_execve, open_exec
from sandbox.kernel.exit import (
    P_ALL,
    P_PGID,
    P_PID,
    P_PIDFD,
    WALL,
    WCLONE,
    WCONTINUED,
    WEXITED,
    WNOHANG,
    WNOTHREAD,
    WNOWAIT,
    WSTOPPED,
    WUNTRACED,
    Event,
    consume,
    do_exit,
    do_group_exit,
    find_child,
)
from sandbox.kernel.fork import VFORK_FLAGS, do_fork
from sandbox.kernel.sched import WORK_YIELD, Wait, waiting
from sandbox.kernel.segments import GDT_TLS_MAX, GDT_TLS_MIN, UserDesc
from sandbox.kernel.signals import group_members
from sandbox.kernel.signo import SIGCHLD, child_info
from sandbox.kernel.table import syscall
from sandbox.kernel.task import Task
from sandbox.kernel.uaccess import copy_from_user, copy_to_user, get_user32, put_user32, strncpy_from_user
from sandbox.syscalls.resource import rusage_of_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.kernel.exit import Event

AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW = 0x1000, 0x100


# --- birth


@syscall(2, "fork", 0)
def sys_fork(task: Task) -> int | Generator[Wait, bool, int]:
    return do_fork(task, SIGCHLD, 0, 0, 0, 0)


@syscall(190, "vfork", 0)
def sys_vfork(task: Task) -> int | Generator[Wait, bool, int]:
    return do_fork(task, VFORK_FLAGS, 0, 0, 0, 0)


@syscall(120, "clone", 5)
def sys_clone(
    task: Task, flags: int, stack: int, parent_tid: int, tls: int, child_tid: int
) -> int | Generator[Wait, bool, int]:
    return do_fork(task, flags, stack, parent_tid, tls, child_tid)


# --- exec


def _strings(task: Task, array: int) -> Generator[Wait, bool, list[bytes]]:
    """A NULL-terminated array of strings; a null array is an empty one. Raises EFAULT, E2BIG.

    Each string waits for its own pages, and what was read stays: all together may be more than memory holds. Linux:
    copy_strings, fs/exec.c, copies page by page.
    """
    strings: list[bytes] = []
    while array:
        string = yield from waiting(lambda: _string(task, array + 4 * len(strings)))
        task.mem.awaited.let_go(task)
        if string is None:
            break
        strings.append(string)
    return strings


def _string(task: Task, at: int) -> bytes | None:
    """The string that the pointer at `at` leads to; None for a null pointer."""
    pointer = get_user32(task, at)
    if not pointer:
        return None
    try:
        return strncpy_from_user(task, pointer, MAX_ARG_STRLEN)
    except SysError as error:
        raise SysError(errno.E2BIG if error.errno == errno.ENAMETOOLONG else error.errno) from None


def _exec(task: Task, path: bytes, argv: int, envp: int) -> Generator[Wait, bool, int]:
    file = open_exec(task, path)
    try:
        # A program without arguments gets an empty one: argc is never 0 (Linux 5.18).
        arguments = (yield from _strings(task, argv)) or [b""]
        environment = yield from _strings(task, envp)
    except BaseException:
        close_exec(file)
        raise
    return (yield from do_execve(task, path, file, arguments, environment))


@syscall(11, "execve", 3)
def sys_execve(task: Task, path: int, argv: int, envp: int) -> Generator[Wait, bool, int]:
    name = strncpy_from_user(task, path)
    if not name:
        raise SysError(errno.ENOENT)
    return _exec(task, name, argv, envp)


@syscall(358, "execveat", 5)
def sys_execveat(task: Task, dirfd: int, path: int, argv: int, envp: int, flags: int) -> Generator[Wait, bool, int]:
    """The directory's path is put before a relative name; an open file is named by its own path."""
    if flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW):
        raise SysError(errno.EINVAL)
    name = strncpy_from_user(task, path)
    if not name and not flags & AT_EMPTY_PATH:
        raise SysError(errno.ENOENT)
    if not name.startswith(b"/") and dirfd != CWD:
        base = task.files.get(dirfd).path.encode("utf-8", "surrogateescape")
        name = base + b"/" + name if name else base
    return _exec(task, name, argv, envp)


# --- death


@syscall(1, "exit", 1)
def sys_exit(task: Task, code: int) -> Generator[Wait, bool, int]:
    return do_exit(task, (code & 0xFF) << 8)


@syscall(252, "exit_group", 1)
def sys_exit_group(task: Task, code: int) -> Generator[Wait, bool, int]:
    return do_exit(task, do_group_exit(task, (code & 0xFF) << 8))


# --- wait


def _wait_for(
    task: Task, which: int, ident: int, options: int, report: Callable[[Event | None], int]
) -> int | Generator[Wait, bool, int]:
    """Answers at once when a child has something to say, else waits for one."""
    event = find_child(task, which, ident, options)
    if event is not None:
        return report(event)
    if options & WNOHANG:
        return report(None)
    return _wait_more(task, which, ident, options, report)


def _wait_more(
    task: Task, which: int, ident: int, options: int, report: Callable[[Event | None], int]
) -> Generator[Wait, bool, int]:
    queues = (task.signal.wait_chldexit,)
    while True:
        yield Wait(queues)
        event = find_child(task, which, ident, options)
        if event is not None:
            return report(event)


def _wait4(task: Task, pid: int, status: int, options: int, rusage: int) -> int | Generator[Wait, bool, int]:
    if options & ~(WNOHANG | WUNTRACED | WCONTINUED | WNOTHREAD | WCLONE | WALL):
        raise SysError(errno.EINVAL)
    pid = s32(pid)
    if pid == -(1 << 31):
        raise SysError(errno.ESRCH)
    if pid == -1:
        which, ident = P_ALL, 0
    elif pid < 0:
        which, ident = P_PGID, -pid
    elif pid == 0:
        which, ident = P_PGID, task.signal.pgrp
    else:
        which, ident = P_PID, pid
    options |= WEXITED

    def report(event: Event | None) -> int:
        if event is None:
            return 0
        child = event.task
        found = child.pid
        failed = None
        try:
            if status:
                put_user32(task, status, event.status)
            if rusage:
                copy_to_user(task, rusage, rusage_of_child(child))
        except SysError as error:  # the child is gone all the same
            failed = error
        consume(task, event, options)
        if failed is not None:
            raise failed
        return found

    return _wait_for(task, which, ident, options, report)


@syscall(114, "wait4", 4)
def sys_wait4(task: Task, pid: int, status: int, options: int, rusage: int) -> int | Generator[Wait, bool, int]:
    return _wait4(task, pid, status, options, rusage)


@syscall(7, "waitpid", 3)
def sys_waitpid(task: Task, pid: int, status: int, options: int) -> int | Generator[Wait, bool, int]:
    return _wait4(task, pid, status, options, 0)


@syscall(284, "waitid", 5)
def sys_waitid(
    task: Task, which: int, ident: int, infop: int, options: int, rusage: int
) -> int | Generator[Wait, bool, int]:
    if options & ~(WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | WNOTHREAD | WCLONE | WALL):
        raise SysError(errno.EINVAL)
    if not options & (WEXITED | WSTOPPED | WCONTINUED):
        raise SysError(errno.EINVAL)
    if which == P_PIDFD:
        raise NotHere(errno.EINVAL, "pidfds (waitid)")
    ident = s32(ident)
    if (which == P_PID and ident <= 0) or (which == P_PGID and ident < 0) or which > P_PGID:
        raise SysError(errno.EINVAL)
    if which == P_PGID and ident == 0:
        ident = task.signal.pgrp

    def report(event: Event | None) -> int:
        failed = None
        try:
            if infop:
                if event is None:
                    copy_to_user(task, infop, bytes(24))
                else:
                    child = event.task
                    copy_to_user(
                        task,
                        infop,
                        child_info(SIGCHLD, event.kind, child.pid, child.uid, event.value, 0, 0).pack()[:24],
                    )
            if rusage and event is not None:
                copy_to_user(task, rusage, rusage_of_child(event.task))
        except SysError as error:
            failed = error
        if event is not None:
            consume(task, event, options)
        if failed is not None:
            raise failed
        return 0

    try:
        return _wait_for(task, which, ident, options, report)
    except SysError:
        if infop:
            copy_to_user(task, infop, bytes(24))  # a kernel of today clears it, whatever the error
        raise


# --- identity


@syscall(20, "getpid", 0)
def sys_getpid(task: Task) -> int:
    return task.tgid


@syscall(224, "gettid", 0)
def sys_gettid(task: Task) -> int:
    return task.pid


@syscall(64, "getppid", 0)
def sys_getppid(task: Task) -> int:
    parent = task.signal.parent
    return parent.leader.tgid if parent is not None else 0


@syscall(258, "set_tid_address", 1)
def sys_set_tid_address(task: Task, addr: int) -> int:
    task.clear_child_tid = addr
    return task.pid


def _leader(task: Task, pid: int) -> Task:
    """The process leader `pid` names, 0 meaning the caller's. Raises ESRCH."""
    if not pid:
        return task.signal.leader
    found = task.kernel.find_task(s32(pid))
    if found is None:
        raise SysError(errno.ESRCH)
    return found


@syscall(132, "getpgid", 1)
def sys_getpgid(task: Task, pid: int) -> int:
    return _leader(task, pid).signal.pgrp


@syscall(65, "getpgrp", 0)
def sys_getpgrp(task: Task) -> int:
    return task.signal.pgrp


@syscall(147, "getsid", 1)
def sys_getsid(task: Task, pid: int) -> int:
    return _leader(task, pid).signal.session


@syscall(57, "setpgid", 2)
def sys_setpgid(task: Task, pid: int, pgid: int) -> int:
    pid, pgid = s32(pid) or task.tgid, s32(pgid)
    pgid = pgid or pid
    if pgid < 0:
        raise SysError(errno.EINVAL)
    target = task.kernel.find_task(pid)
    if target is None:
        raise SysError(errno.ESRCH)
    if target.signal.leader is not target:
        raise SysError(errno.EINVAL)
    mine, signal = task.signal, target.signal
    if signal.parent is mine:
        if signal.session != mine.session:
            raise SysError(errno.EPERM)
        if signal.did_exec:
            raise SysError(errno.EACCES)
    elif signal is not mine:
        raise SysError(errno.ESRCH)
    if signal.is_session_leader:
        raise SysError(errno.EPERM)
    if pgid != pid and not any(member.signal.session == mine.session for member in group_members(task.kernel, pgid)):
        raise SysError(errno.EPERM)
    signal.pgrp = pgid
    return 0


@syscall(66, "setsid", 0)
def sys_setsid(task: Task) -> int:
    signal = task.signal
    pid = signal.leader.pid
    if signal.is_session_leader or group_members(task.kernel, pid):
        raise SysError(errno.EPERM)
    signal.pgrp = signal.session = pid
    signal.is_session_leader = True
    return pid


# --- restarts


@syscall(0, "restart_syscall", 0)
def sys_restart_syscall(task: Task) -> int | Generator[Wait, bool, int]:
    """Goes on with a call that a signal interrupted and that needs more than its registers to go on."""
    again, task.restart_block = task.restart_block, None
    if again is None:
        raise SysError(errno.EINTR)
    return again()


@syscall(158, "sched_yield", 0)
def sys_sched_yield(task: Task) -> int:
    task.work |= WORK_YIELD
    return 0


# --- TLS


@syscall(243, "set_thread_area", 1)
def sys_set_thread_area(task: Task, addr: int) -> int:
    """Entry -1 takes the first free of the three and writes its number back. Raises ESRCH when all are taken."""
    desc = UserDesc.unpack(copy_from_user(task, addr, 16))
    if not desc.acceptable():
        raise SysError(errno.EINVAL)
    tls = list(task.tls)
    number = desc.entry_number
    if number == 0xFFFFFFFF:
        free = [i for i, descriptor in enumerate(tls) if not descriptor]
        if not free:
            raise SysError(errno.ESRCH)
        number = GDT_TLS_MIN + free[0]
        put_user32(task, addr, number)
    if not GDT_TLS_MIN <= number <= GDT_TLS_MAX:
        raise SysError(errno.EINVAL)
    tls[number - GDT_TLS_MIN] = desc.descriptor()
    task.tls = tuple(tls)
    task.kernel.load_tls(task)
    return 0


@syscall(244, "get_thread_area", 1)
def sys_get_thread_area(task: Task, addr: int) -> int:
    number = get_user32(task, addr)
    if not GDT_TLS_MIN <= number <= GDT_TLS_MAX:
        raise SysError(errno.EINVAL)
    copy_to_user(task, addr, UserDesc.from_descriptor(number, task.tls[number - GDT_TLS_MIN]).pack())
    return 0
