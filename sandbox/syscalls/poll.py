"""System calls that wait for one of many descriptors: poll, ppoll, select, pselect6. Linux: fs/select.c, 2.6.7; ppoll
and pselect6: 2.6.16.

A look at all descriptors collects their wait queues; if nothing is ready the task sleeps on all of them at once, and
looks again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from errno import EBADF, EFAULT, EINVAL
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from mmcore.wait import WaitQueue
from sandbox.fs.at import s32
from sandbox.fs.uapi import (
    O_PATH,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLNVAL,
    POLLOUT,
    POLLPRI,
    POLLRDBAND,
    POLLRDNORM,
    POLLWRBAND,
    POLLWRNORM,
)
from sandbox.kernel.sched import ERESTARTNOHAND, Interrupted, Wait
from sandbox.kernel.signals import set_blocked
from sandbox.kernel.signo import UNBLOCKABLE
from sandbox.kernel.table import syscall
from sandbox.kernel.uaccess import copy_from_user, copy_to_user, get_user32, pin_user

if TYPE_CHECKING:
    from sandbox.fs.file import File
    from sandbox.kernel.sched import Call
    from sandbox.kernel.task import Task

_ALWAYS = POLLERR | POLLHUP
POLLIN_SET = POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR
POLLOUT_SET = POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR
POLLEX_SET = POLLPRI


def _deadline(task: Task, ns: int | None) -> int | None:
    return None if ns is None else task.kernel.clock.now + ns


def _next_look(task: Task, files: list[File], deadline: int | None) -> int | None:
    """When to look again although nobody woke us: the deadline, or sooner if a terminal is among the files."""
    poll_ns = min((file.poll_ns or 1 << 62 for file in files), default=1 << 62)
    if poll_ns == 1 << 62:
        return deadline
    look = task.kernel.clock.now + poll_ns
    return look if deadline is None else min(look, deadline)


# poll
def _look(
    task: Task, wanted: list[tuple[int, int]], queues: list[WaitQueue] | None, seen: list[File]
) -> tuple[int, list[int]]:
    """(descriptors with something to tell, revents of each)."""
    fds = task.files.fds
    ready = 0
    answers = []
    for fd, events in wanted:
        mask = 0
        if fd >= 0:
            file = fds[fd] if fd < len(fds) else None
            if file is None or file.f_flags & O_PATH:
                mask = POLLNVAL
            else:
                mask = file.poll(queues) & (events | _ALWAYS)
                if queues is not None:
                    seen.append(file)
            if mask:
                ready += 1
        answers.append(mask)
    return ready, answers


def do_poll(task: Task, ufds: int, n: int, timeout_ns: int | None, mode: int) -> int | Call:
    """poll(2): number of ready descriptors, or a generator that waits. `mode`: how an interrupted call is
    restarted."""
    if n > task.files.limit:
        raise SysError(EINVAL)
    words = struct.unpack("<" + "ihh" * n, copy_from_user(task, ufds, 8 * n)) if n else ()
    wanted = [(words[i], words[i + 1] & 0xFFFF) for i in range(0, 3 * n, 3)]
    ready, answers = _look(task, wanted, None, [])
    if ready or timeout_ns == 0:
        _store(task, ufds, wanted, answers)
        return ready
    if n:
        pin_user(task, ufds, 8 * n, True)
    return _poll_wait(task, ufds, wanted, _deadline(task, timeout_ns), mode)


def _store(task: Task, ufds: int, wanted: list[tuple[int, int]], answers: list[int]) -> None:
    out = b"".join(struct.pack("<iHH", fd, events, mask) for (fd, events), mask in zip(wanted, answers, strict=True))
    if out:
        copy_to_user(task, ufds, out)


def _poll_wait(task: Task, ufds: int, wanted: list[tuple[int, int]], deadline: int | None, mode: int) -> Call:
    while True:
        queues: list[WaitQueue] = []
        seen: list[File] = []
        ready, answers = _look(task, wanted, queues, seen)
        if ready or (deadline is not None and task.kernel.clock.now >= deadline):
            _store(task, ufds, wanted, answers)
            return ready
        try:
            yield Wait(list(dict.fromkeys(queues)), _next_look(task, seen, deadline))
        except Interrupted:
            raise Interrupted(mode) from None


@syscall(168, "poll", 3)
def sys_poll(task: Task, ufds: int, n: int, timeout: int) -> int | Call:
    ms = s32(timeout)
    return do_poll(task, ufds, n, None if ms < 0 else ms * 1_000_000, ERESTARTNOHAND)


def _timespec_ns(seconds: int, nanoseconds: int) -> int:
    if seconds < 0 or not 0 <= nanoseconds < 1_000_000_000:
        raise SysError(EINVAL)
    return seconds * 1_000_000_000 + nanoseconds


def _read_timeout(task: Task, at: int, form: str) -> int | None:
    """ns of a struct timespec (`form` <ii, or <qq for the 64-bit one), None when `at` is NULL."""
    if not at:
        return None
    seconds, nanoseconds = struct.unpack(form, copy_from_user(task, at, struct.calcsize(form)))
    return _timespec_ns(seconds, nanoseconds & 0xFFFFFFFF if form == "<qq" else nanoseconds)


def _with_mask(
    task: Task, mask_at: int, size: int, timeout: tuple[int, int | None, str], call: Callable[[], int | Call]
) -> Call:
    """Runs `call()` with the caller's signal mask; writes the time left back. `timeout`: (address, ns, form)."""
    at, ns, form = timeout
    saved = None
    if mask_at:
        if size != 8:
            raise SysError(EINVAL)
        mask = struct.unpack("<Q", copy_from_user(task, mask_at, 8))[0]
        saved = task.blocked
        set_blocked(task, mask & ~UNBLOCKABLE)
    start = task.kernel.clock.now
    try:
        result = call()
        if not isinstance(result, int):
            result = yield from result
    except Interrupted:
        if saved is not None:
            task.saved_sigmask = saved  # put back once the handler's frame stands, or the call restarts
        raise
    except BaseException:
        if saved is not None:
            set_blocked(task, saved)
        raise
    if saved is not None:
        set_blocked(task, saved)
    if at and ns is not None:
        left = max(0, ns - (task.kernel.clock.now - start))
        copy_to_user(task, at, struct.pack(form, left // 1_000_000_000, left % 1_000_000_000))
    return result


def _ppoll(task: Task, ufds: int, n: int, at: int, mask_at: int, size: int, form: str) -> Call:
    ns = _read_timeout(task, at, form)
    return _with_mask(
        task, mask_at, size, (_writable(task, at), ns, form), lambda: do_poll(task, ufds, n, ns, ERESTARTNOHAND)
    )


def _writable(task: Task, at: int) -> int:
    """`at`, or 0 when the user may not write there: then the time left is not told."""
    if at:
        try:
            pin_user(task, at, 8, True)
        except SysError as error:
            if error.errno != EFAULT:
                raise
            return 0
    return at


@syscall(309, "ppoll", 5)
def sys_ppoll(task: Task, ufds: int, n: int, timeout: int, mask: int, size: int) -> int | Call:
    return _ppoll(task, ufds, n, timeout, mask, size, "<ii")


@syscall(414, "ppoll_time64", 5)
def sys_ppoll_time64(task: Task, ufds: int, n: int, timeout: int, mask: int, size: int) -> int | Call:
    return _ppoll(task, ufds, n, timeout, mask, size, "<qq")


# select
def _bits(task: Task, at: int, size: int) -> int:
    return int.from_bytes(copy_from_user(task, at, size), "little") if at else 0


def do_select(task: Task, n: int, sets: tuple[int, int, int], timeout_ns: int | None) -> int | Call:
    """select(2) on three fd_sets in user memory: number of bits set, or a generator that waits. EBADF, EINVAL,
    EFAULT."""
    if s32(n) < 0:
        raise SysError(EINVAL)
    fds = task.files.fds
    n = min(n, max(len(fds), 64))  # the table's size: NR_OPEN_DEFAULT of a 64-bit kernel, and what a program sees of it
    size = (n + 31) // 32 * 4
    wanted = [_bits(task, at, size) & (1 << n) - 1 for at in sets]
    union = wanted[0] | wanted[1] | wanted[2]
    for fd in range(union.bit_length()):
        if union >> fd & 1 and (fd >= len(fds) or fds[fd] is None):
            raise SysError(EBADF)
    ready, answers = _select_look(task, wanted, union, None, [])
    if ready or timeout_ns == 0:
        _select_store(task, sets, answers, size)
        return ready
    for at in sets:
        if at and size:
            pin_user(task, at, size, True)
    return _select_wait(task, sets, wanted, union, size, _deadline(task, timeout_ns))


def _select_look(
    task: Task, wanted: list[int], union: int, queues: list[WaitQueue] | None, seen: list[File]
) -> tuple[int, list[int]]:
    fds = task.files.fds
    answers = [0, 0, 0]
    ready = 0
    rest = union
    while rest:
        bit = rest & -rest
        rest ^= bit
        fd = bit.bit_length() - 1
        file = fds[fd] if fd < len(fds) else None
        if file is None:
            continue  # closed by another thread meanwhile
        mask = file.poll(queues)
        if queues is not None:
            seen.append(file)
        for kind, of_interest in enumerate((POLLIN_SET, POLLOUT_SET, POLLEX_SET)):
            if wanted[kind] & bit and mask & of_interest:
                answers[kind] |= bit
                ready += 1
    return ready, answers


def _select_store(task: Task, sets: tuple[int, int, int], answers: list[int], size: int) -> None:
    for at, answer in zip(sets, answers, strict=True):
        if at and size:
            copy_to_user(task, at, answer.to_bytes(size, "little"))


def _select_wait(
    task: Task, sets: tuple[int, int, int], wanted: list[int], union: int, size: int, deadline: int | None
) -> Call:
    while True:
        queues: list[WaitQueue] = []
        seen: list[File] = []
        ready, answers = _select_look(task, wanted, union, queues, seen)
        if ready or (deadline is not None and task.kernel.clock.now >= deadline):
            _select_store(task, sets, answers, size)
            return ready
        try:
            yield Wait(list(dict.fromkeys(queues)), _next_look(task, seen, deadline))
        except Interrupted:
            raise Interrupted(ERESTARTNOHAND) from None


def _select_timeval(task: Task, n: int, sets: tuple[int, int, int], at: int) -> Call:
    """select with a struct timeval, which gets the time left."""
    ns = None
    if at:
        seconds, micro = struct.unpack("<ii", copy_from_user(task, at, 8))
        if seconds < 0 or micro < 0:
            raise SysError(EINVAL)
        ns = seconds * 1_000_000_000 + micro * 1000
        at = _writable(task, at)
    start = task.kernel.clock.now
    result = do_select(task, n, sets, ns)
    if not isinstance(result, int):
        result = yield from result
    if at and ns is not None:
        left = max(0, ns - (task.kernel.clock.now - start)) // 1000
        copy_to_user(task, at, struct.pack("<ii", left // 1_000_000, left % 1_000_000))
    return result


@syscall(142, "_newselect", 5)
def sys_newselect(task: Task, n: int, readable: int, writable: int, exceptional: int, timeout: int) -> int | Call:
    return _select_timeval(task, n, (readable, writable, exceptional), timeout)


@syscall(82, "select", 1)
def sys_old_select(task: Task, args: int) -> int | Call:
    """The five arguments lie in memory."""
    n, readable, writable, exceptional, timeout = struct.unpack("<5I", copy_from_user(task, args, 20))
    return _select_timeval(task, n, (readable, writable, exceptional), timeout)


def _pselect(task: Task, n: int, sets: tuple[int, int, int], at: int, sig: int, form: str) -> Call:
    ns = _read_timeout(task, at, form)
    mask_at = size = 0
    if sig:
        mask_at, size = get_user32(task, sig), get_user32(task, sig + 4)
    return _with_mask(task, mask_at, size, (_writable(task, at), ns, form), lambda: do_select(task, n, sets, ns))


@syscall(308, "pselect6", 6)
def sys_pselect6(task: Task, n: int, readable: int, writable: int, exceptional: int, timeout: int, sig: int) -> Call:
    return _pselect(task, n, (readable, writable, exceptional), timeout, sig, "<ii")


@syscall(413, "pselect6_time64", 6)
def sys_pselect6_time64(
    task: Task, n: int, readable: int, writable: int, exceptional: int, timeout: int, sig: int
) -> Call:
    return _pselect(task, n, (readable, writable, exceptional), timeout, sig, "<qq")
