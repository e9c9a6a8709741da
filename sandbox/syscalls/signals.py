"""Signals: actions, masks, sending, waiting.

Linux: kernel/signal.c, arch/i386/kernel/signal.c, 2.6.7; order of checks as in current kernels. Sets are 8 bytes, the
old calls' 4.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Generator
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from sandbox.cpu.regs import EAX, ESP
from sandbox.fs.at import s32
from sandbox.kernel import sigframe
from sandbox.kernel.sched import EINTR, ERESTARTNOHAND, Interrupted, Wait, waiting
from sandbox.kernel.sigframe import sas_ss_flags, set_altstack
from sandbox.kernel.signals import (
    dequeue,
    drop_ignored,
    force_sig,
    group_members,
    queue_is_full,
    send_group,
    send_task,
    set_blocked,
)
from sandbox.kernel.signo import (
    IGNORED_BY_DEFAULT,
    NSIG,
    SA_NODEFER,
    SA_RESETHAND,
    SI_KERNEL,
    SI_TKILL,
    SIG_DFL,
    SIG_IGN,
    SIGKILL,
    SIGSEGV,
    SIGSTOP,
    SS_AUTODISARM,
    UNBLOCKABLE,
    SigInfo,
    user_info,
)
from sandbox.kernel.table import syscall
from sandbox.kernel.task import SigAction, Task
from sandbox.kernel.timespec import get_timespec32, get_timespec64
from sandbox.kernel.uaccess import copy_from_user, copy_to_user, get_user32, prefault, prepare_result, put_user32

if TYPE_CHECKING:
    from collections.abc import Callable

SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2


# --- actions


def _install(task: Task, sig: int, action: SigAction) -> None:
    """A signal that is ignored from now on is not pending any more."""
    task.sighand.action[sig] = action
    if action.handler == SIG_IGN or (action.handler == SIG_DFL and IGNORED_BY_DEFAULT & 1 << sig - 1):
        drop_ignored(task, sig)


def _check(sig: int, changes: bool) -> None:
    if not 1 <= sig <= NSIG or (changes and sig in (SIGKILL, SIGSTOP)):
        raise SysError(errno.EINVAL)


@syscall(174, "rt_sigaction", 4)
def sys_rt_sigaction(task: Task, sig: int, new: int, old: int, size: int) -> int:
    if size != 8:
        raise SysError(errno.EINVAL)
    action = None
    if new:
        handler, flags, restorer, mask = struct.unpack("<IIIQ", copy_from_user(task, new, 20))
        action = SigAction(handler, flags, restorer, mask & ~UNBLOCKABLE)
    _check(sig, action is not None)
    before = task.sighand.action[sig]
    if old:
        prepare_result(task, old, 20)
    if action is not None:
        _install(task, sig, action)
    if old:
        copy_to_user(task, old, struct.pack("<IIIQ", before.handler, before.flags, before.restorer, before.mask))
    return 0


@syscall(67, "sigaction", 3)
def sys_sigaction(task: Task, sig: int, new: int, old: int) -> int:
    action = None
    if new:
        handler, mask, flags, restorer = struct.unpack("<4I", copy_from_user(task, new, 16))
        action = SigAction(handler, flags, restorer, mask & ~UNBLOCKABLE)
    _check(sig, action is not None)
    before = task.sighand.action[sig]
    if old:
        prepare_result(task, old, 16)
    if action is not None:
        _install(task, sig, action)
    if old:
        copy_to_user(
            task, old, struct.pack("<4I", before.handler, before.mask & 0xFFFFFFFF, before.flags, before.restorer)
        )
    return 0


@syscall(48, "signal", 2)
def sys_signal(task: Task, sig: int, handler: int) -> int:
    _check(sig, True)
    before = task.sighand.action[sig].handler
    _install(task, sig, SigAction(handler, SA_RESETHAND | SA_NODEFER))
    return before


# --- masks


def _change(task: Task, how: int, mask: int) -> int:
    if how == SIG_BLOCK:
        return task.blocked | mask
    if how == SIG_UNBLOCK:
        return task.blocked & ~mask
    if how == SIG_SETMASK:
        return mask
    raise SysError(errno.EINVAL)


@syscall(175, "rt_sigprocmask", 4)
def sys_rt_sigprocmask(task: Task, how: int, new: int, old: int, size: int) -> int:
    if size != 8:
        raise SysError(errno.EINVAL)
    before = task.blocked
    mask = None
    if new:
        mask = _change(task, how, struct.unpack("<Q", copy_from_user(task, new, 8))[0] & ~UNBLOCKABLE)
    if old:
        prepare_result(task, old, 8)
    if mask is not None and mask != before:
        set_blocked(task, mask)
    if old:
        copy_to_user(task, old, struct.pack("<Q", before))
    return 0


@syscall(126, "sigprocmask", 3)
def sys_sigprocmask(task: Task, how: int, new: int, old: int) -> int:
    before = task.blocked
    mask = None
    if new:
        low = get_user32(task, new) & ~UNBLOCKABLE
        mask = before & ~0xFFFFFFFF | low if how == SIG_SETMASK else _change(task, how, low)
    if old:
        prepare_result(task, old, 4)
    if mask is not None:
        set_blocked(task, mask)
    if old:
        put_user32(task, old, before)
    return 0


@syscall(68, "sgetmask", 0)
def sys_sgetmask(task: Task) -> int:
    return task.blocked & 0xFFFFFFFF


@syscall(69, "ssetmask", 1)
def sys_ssetmask(task: Task, mask: int) -> int:
    before = task.blocked & 0xFFFFFFFF
    set_blocked(task, mask)
    return before


@syscall(176, "rt_sigpending", 2)
def sys_rt_sigpending(task: Task, addr: int, size: int) -> int:
    if size > 8:
        raise SysError(errno.EINVAL)
    pending = (task.pending.set | task.signal.shared.set) & task.blocked
    copy_to_user(task, addr, struct.pack("<Q", pending)[:size])
    return 0


@syscall(73, "sigpending", 1)
def sys_sigpending(task: Task, addr: int) -> int:
    put_user32(task, addr, (task.pending.set | task.signal.shared.set) & task.blocked)
    return 0


@syscall(186, "sigaltstack", 2)
def sys_sigaltstack(task: Task, new: int, old: int) -> int:
    sp = task.regs[ESP]
    before = struct.pack(
        "<3I", task.sas_ss_sp, sas_ss_flags(task, sp) | task.sas_ss_flags & SS_AUTODISARM, task.sas_ss_size
    )
    wanted = struct.unpack("<3I", copy_from_user(task, new, 12)) if new else None
    if old:
        prepare_result(task, old, 12)
    if wanted is not None:
        set_altstack(task, wanted[0], wanted[1], wanted[2], sp)
    if old:
        copy_to_user(task, old, before)
    return 0


# --- coming back


def _return(task: Task, restore: Callable[[Task], int]) -> int:
    try:
        mask = restore(task)
    except SysError:
        force_sig(task, SigInfo(SIGSEGV, SI_KERNEL, bytes(4)))
        return 0
    set_blocked(task, mask)
    return task.regs[EAX]


@syscall(119, "sigreturn", 0)
def sys_sigreturn(task: Task) -> int:
    return _return(task, sigframe.sigreturn)


@syscall(173, "rt_sigreturn", 0)
def sys_rt_sigreturn(task: Task) -> int:
    return _return(task, sigframe.rt_sigreturn)


# --- sending


def _may_kill(task: Task, target: Task) -> bool:
    return not task.euid or task.euid in (target.suid, target.uid) or task.uid in (target.suid, target.uid)


def _kill_one(task: Task, target: Task, info: SigInfo) -> None:
    if not _may_kill(task, target):
        raise SysError(errno.EPERM)
    if info.sig and target is not task.kernel.init:
        if queue_is_full(target, info):
            raise SysError(errno.EAGAIN)
        send_group(target, info)


@syscall(37, "kill", 2)
def sys_kill(task: Task, pid: int, sig: int) -> int:
    if sig > NSIG:
        raise SysError(errno.EINVAL)
    pid = s32(pid)
    info = user_info(sig, task.tgid, task.uid)
    kernel = task.kernel
    if pid > 0:
        target = kernel.find_task(pid)
        if target is None:
            raise SysError(errno.ESRCH)
        _kill_one(task, target.signal.leader, info)
        return 0
    if pid == -1:
        targets = [
            leader for leader in kernel.leaders() if leader is not kernel.init and leader.signal is not task.signal
        ]
    elif pid == -(1 << 31):
        raise SysError(errno.ESRCH)
    else:
        targets = group_members(kernel, -pid if pid else task.signal.pgrp)
    sent = False
    for target in targets:
        if _may_kill(task, target):
            _kill_one(task, target, user_info(sig, task.tgid, task.uid))
            sent = True
    if not sent:
        raise SysError(errno.EPERM if targets else errno.ESRCH)
    return 0


def _tkill(task: Task, tgid: int | None, pid: int, info: SigInfo) -> int:
    if s32(pid) <= 0 or (tgid is not None and s32(tgid) <= 0) or not 0 <= info.sig <= NSIG:
        raise SysError(errno.EINVAL)
    target = task.kernel.find_task(pid)
    if target is None or (tgid is not None and target.tgid != tgid):
        raise SysError(errno.ESRCH)
    if not _may_kill(task, target):
        raise SysError(errno.EPERM)
    if info.sig and target is not task.kernel.init:
        if queue_is_full(target, info):
            raise SysError(errno.EAGAIN)
        send_task(target, info)
    return 0


@syscall(238, "tkill", 2)
def sys_tkill(task: Task, pid: int, sig: int) -> int:
    return _tkill(task, None, pid, user_info(sig, task.tgid, task.uid, SI_TKILL))


@syscall(270, "tgkill", 3)
def sys_tgkill(task: Task, tgid: int, pid: int, sig: int) -> int:
    return _tkill(task, tgid, pid, user_info(sig, task.tgid, task.uid, SI_TKILL))


def _queued(task: Task, sig: int, addr: int, pid: int) -> SigInfo:
    """The caller's own siginfo. Only the kernel may claim to be the kernel."""
    data = copy_from_user(task, addr, 128)
    error, code = struct.unpack_from("<2i", data, 4)
    if (code >= 0 or code == SI_TKILL) and pid != task.tgid:
        raise SysError(errno.EPERM)
    return SigInfo(sig, code, data[12:], error)


@syscall(178, "rt_sigqueueinfo", 3)
def sys_rt_sigqueueinfo(task: Task, pid: int, sig: int, addr: int) -> int:
    info = _queued(task, sig, addr, s32(pid))
    if sig > NSIG:
        raise SysError(errno.EINVAL)
    target = task.kernel.find_task(s32(pid))
    if target is None:
        raise SysError(errno.ESRCH)
    _kill_one(task, target.signal.leader, info)
    return 0


@syscall(335, "rt_tgsigqueueinfo", 4)
def sys_rt_tgsigqueueinfo(task: Task, tgid: int, pid: int, sig: int, addr: int) -> int:
    return _tkill(task, tgid, pid, _queued(task, sig, addr, s32(tgid)))


# --- waiting


@syscall(29, "pause", 0)
def sys_pause(task: Task) -> Generator[Wait, bool, int]:
    while True:
        try:
            yield Wait()
        except Interrupted:
            raise Interrupted(ERESTARTNOHAND) from None


def suspend(task: Task, mask: int) -> Generator[Wait, bool, int]:
    """sigsuspend: sleeps under another mask, which the handler's frame remembers to take back."""
    task.saved_sigmask = task.blocked
    set_blocked(task, mask)
    yield from sys_pause(task)
    return 0


@syscall(179, "rt_sigsuspend", 2)
def sys_rt_sigsuspend(task: Task, addr: int, size: int) -> Generator[Wait, bool, int]:
    if size != 8:
        raise SysError(errno.EINVAL)
    return suspend(task, struct.unpack("<Q", copy_from_user(task, addr, 8))[0])


@syscall(72, "sigsuspend", 3)
def sys_sigsuspend(task: Task, _history0: int, _history1: int, mask: int) -> Generator[Wait, bool, int]:
    return suspend(task, task.blocked & ~0xFFFFFFFF | mask)


def _sigtimedwait(task: Task, these: int, addr: int, deadline: int | None) -> Generator[Wait, bool, int]:
    these &= ~UNBLOCKABLE
    info = dequeue(task, ~these)
    if info is None and (deadline is None or deadline > task.kernel.clock.now):
        task.real_blocked = task.blocked
        set_blocked(task, task.blocked & ~these)
        try:
            yield Wait((), deadline)
        except Interrupted:
            pass
        finally:
            mask, task.real_blocked = task.real_blocked, 0
            set_blocked(task, mask)
        info = dequeue(task, ~these)
        if info is None and (deadline is None or task.kernel.clock.now < deadline):
            raise Interrupted(EINTR)  # another signal woke it
    if info is None:
        raise SysError(errno.EAGAIN)
    if addr:
        yield from waiting(lambda: copy_to_user(task, addr, info.pack()))
    return info.sig


def _timedwait_args(
    task: Task, these: int, addr: int, timeout: int, size: int, get_timespec: Callable[[Task, int], int]
) -> Generator[Wait, bool, int]:
    if size != 8:
        raise SysError(errno.EINVAL)
    mask = struct.unpack("<Q", copy_from_user(task, these, 8))[0]
    deadline = task.kernel.clock.now + get_timespec(task, timeout) if timeout else None
    if addr:
        prefault(task, addr, 128, True)
    return _sigtimedwait(task, mask, addr, deadline)


@syscall(177, "rt_sigtimedwait", 4)
def sys_rt_sigtimedwait(task: Task, these: int, addr: int, timeout: int, size: int) -> Generator[Wait, bool, int]:
    return _timedwait_args(task, these, addr, timeout, size, get_timespec32)


@syscall(421, "rt_sigtimedwait_time64", 4)
def sys_rt_sigtimedwait_time64(
    task: Task, these: int, addr: int, timeout: int, size: int
) -> Generator[Wait, bool, int]:
    return _timedwait_args(task, these, addr, timeout, size, get_timespec64)
