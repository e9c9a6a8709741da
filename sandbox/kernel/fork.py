"""fork, vfork, clone: a new task, with what it shares and what it copies.

Everything that can fail comes first and is undone in reverse; the child exists for others only when nothing can fail
any more. Linux: kernel/fork.c (copy_process, do_fork), 2.6.7.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mmcore.errors import MustWait, NotHere, SysError
from mmcore.paging.lifecycle import dup_mmap, mmput
from mmcore.wait import WaitQueue
from sandbox.cpu.regs import EAX, ESP
from sandbox.kernel.sched import TASK_KILLABLE, TASK_UNINTERRUPTIBLE, WORK_SIGNAL, Wait
from sandbox.kernel.segments import GDT_TLS_MIN, UserDesc
from sandbox.kernel.signo import SIGCHLD
from sandbox.kernel.task import PF_FORKNOEXEC, SigHand, SignalStruct, Task
from sandbox.kernel.uaccess import copy_from_user, prepare_result, put_user32

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.physical.slab import KmemCache
    from sandbox.fs.fdtable import FileTable, FsStruct

CSIGNAL = 0xFF
CLONE_VM = 0x100
CLONE_FS = 0x200
CLONE_FILES = 0x400
CLONE_SIGHAND = 0x800
CLONE_PIDFD = 0x1000
CLONE_VFORK = 0x4000
CLONE_PARENT = 0x8000
CLONE_THREAD = 0x10000
CLONE_NEWNS = 0x20000
CLONE_SYSVSEM = 0x40000
CLONE_SETTLS = 0x80000
CLONE_PARENT_SETTID = 0x100000
CLONE_CHILD_CLEARTID = 0x200000
CLONE_CHILD_SETTID = 0x1000000
CLONE_NAMESPACES = 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000

EVENT_FORK = 8 << 60


def check_flags(flags: int) -> None:
    """Raises EINVAL for combinations that Linux refuses; namespaces are not there (EPERM would need them; EINVAL, as
    without CONFIG_*_NS)."""
    if (
        (flags & CLONE_THREAD and not flags & CLONE_SIGHAND)
        or (flags & CLONE_SIGHAND and not flags & CLONE_VM)
        or flags & (CLONE_NEWNS | CLONE_FS) == CLONE_NEWNS | CLONE_FS
    ):
        raise SysError(errno.EINVAL)
    if flags & (CLONE_NEWNS | CLONE_NAMESPACES):
        raise NotHere(errno.EINVAL, "namespaces (clone)")
    if flags & CLONE_PIDFD:
        raise NotHere(errno.EINVAL, "pidfds (clone)")


def do_fork(
    task: Task, flags: int, stack: int, parent_tid: int, tls: int, child_tid: int
) -> int | Generator[Wait, bool, int]:
    """The system call: pid of the child. With CLONE_VFORK a generator that waits until the child has exec'd or gone."""
    check_flags(flags)
    desc = None
    if flags & CLONE_SETTLS:
        desc = UserDesc.unpack(copy_from_user(task, tls, 16))
        if not desc.settable():
            raise SysError(errno.EINVAL)
    if flags & CLONE_PARENT_SETTID:
        prepare_result(task, parent_tid, 4)
    child = copy_process(task, flags, stack, desc, child_tid)
    pid = child.pid
    if flags & CLONE_PARENT_SETTID:
        with suppress(
            SysError
        ):  # an address that cannot be written keeps nobody from being born (2.6.7 answered EFAULT)
            put_user32(task, parent_tid, pid)
    task.kernel.wake_up_new_task(child)
    if not flags & CLONE_VFORK:
        return pid
    done = child.vfork_done = WaitQueue("vfork: child's exec or exit")
    return _wait_for_vfork(child, done, pid)


def _wait_for_vfork(child: Task, done: WaitQueue, pid: int) -> Generator[Wait, bool, int]:
    while child.vfork_done is done:
        yield Wait((done,), None, TASK_KILLABLE)
    return pid


_Shared = TypeVar("_Shared", "FileTable", "FsStruct")


class _Gains(NamedTuple):
    """What a child needs and may not get: own objects, or its parent's shared once more."""

    addr: int  # of the task_struct
    stack: int  # PFN
    files: FileTable
    files_addr: int
    fs: FsStruct
    fs_addr: int
    sighand: SigHand | None  # None: the parent's, not counted yet
    signal_addr: int  # 0: a thread of the parent's process
    mm: Mm
    pid: int


def _gain(task: Task, flags: int) -> _Gains:
    """All that can fail. Raises EAGAIN or ENOMEM, leaving everything as it was."""
    kernel = task.kernel
    objects = kernel.objects
    with ExitStack() as undo:
        addr, stack = objects.alloc_task()
        undo.callback(objects.free_task, addr, stack)
        files, files_addr = _share_or_copy(undo, task.files, task.files_addr, objects.files, flags & CLONE_FILES)
        fs, fs_addr = _share_or_copy(undo, task.fs, task.fs_addr, objects.fs, flags & CLONE_FS)
        sighand = None
        if not flags & CLONE_SIGHAND:
            sighand = SigHand(objects.sighand.alloc(), task.sighand.action)
            undo.callback(objects.sighand.free, sighand.addr)
        signal_addr = 0
        if not flags & CLONE_THREAD:
            signal_addr = objects.signal.alloc()
            undo.callback(objects.signal.free, signal_addr)
        if flags & CLONE_VM:
            mm = task.mm
            mm.mm_users += 1
        else:
            mm = dup_mmap(task.mem, task.mm)
        undo.callback(mmput, task.mem, mm)
        pid = kernel.alloc_pid()
        undo.pop_all()
    return _Gains(addr, stack, files, files_addr, fs, fs_addr, sighand, signal_addr, mm, pid)


def _share_or_copy(undo: ExitStack, parents: _Shared, addr: int, cache: KmemCache, share: int) -> tuple[_Shared, int]:
    """The child's descriptors, or directories, and the address of their structure; `undo` gives them back."""
    if share:
        own = parents.share()
    else:
        addr = cache.alloc()
        undo.callback(cache.free, addr)
        own = parents.copy()
    undo.callback(own.put)
    return own, addr


def copy_process(task: Task, flags: int, stack: int, desc: UserDesc | None, child_tid: int) -> Task:
    """A child that is not yet runnable. Raises EAGAIN (too many tasks) or ENOMEM, leaving everything as it was."""
    kernel = task.kernel
    if kernel.nr_tasks >= kernel.max_threads:
        raise SysError(errno.EAGAIN)
    gains = _gain(task, flags)
    child = Task(kernel, gains.pid)
    child.addr, child.stack, child.mm = gains.addr, gains.stack, gains.mm
    child.files, child.files_addr, child.fs, child.fs_addr = gains.files, gains.files_addr, gains.fs, gains.fs_addr
    if gains.sighand is None:
        child.sighand = task.sighand
        child.sighand.users += 1
    else:
        child.sighand = gains.sighand
    _inherit(task, child)
    child.flags = PF_FORKNOEXEC
    _copy_thread(task, child, stack, desc)
    if flags & (CLONE_VM | CLONE_VFORK) != CLONE_VM:
        child.sas_ss_sp, child.sas_ss_size, child.sas_ss_flags = task.sas_ss_sp, task.sas_ss_size, task.sas_ss_flags
    if flags & CLONE_CHILD_CLEARTID:
        child.clear_child_tid = child_tid
    if flags & CLONE_CHILD_SETTID:
        child.set_child_tid = child_tid
        child.gen = _ret_from_fork(child, child_tid)
    if flags & CLONE_THREAD:
        _join(task, child)
    else:
        signal = child.signal = SignalStruct(gains.signal_addr, child)
        _inherit_signal(task.signal, signal, bool(flags & CLONE_PARENT))
        child.exit_signal = task.signal.leader.exit_signal if flags & CLONE_PARENT else flags & CSIGNAL
    child.rlimits = child.signal.rlimits
    kernel.add_task(child)
    kernel.log(EVENT_FORK | child.pid)
    return child


def _copy_thread(task: Task, child: Task, stack: int, desc: UserDesc | None) -> None:
    """Registers: the parent's, but for the call's result 0, the stack pointer if `stack` is given, and the descriptor
    of thread-local storage if `desc` is. Linux: copy_thread."""
    child.ctx = task.ctx.copy()
    child.regs = child.ctx.regs
    child.regs[EAX] = 0
    if stack:
        child.regs[ESP] = stack
    if desc is not None:
        tls = list(task.tls)
        tls[desc.entry_number - GDT_TLS_MIN] = desc.descriptor()
        child.tls = tuple(tls)


def _join(task: Task, child: Task) -> None:
    """A thread more in the parent's process; where that stops or exits, so does the thread, before it has run."""
    signal = task.signal
    child.tgid = task.tgid
    child.signal = signal
    child.exit_signal = -1
    signal.threads[child] = None
    signal.live += 1
    if signal.group_stop or signal.group_exit:
        child.work |= WORK_SIGNAL


def _inherit(task: Task, child: Task) -> None:
    child.comm = task.comm
    child.tls = task.tls
    child.blocked = task.blocked
    child.nice, child.personality = task.nice, task.personality
    child.policy, child.rt_priority = task.policy, task.rt_priority
    child.uid, child.euid, child.suid, child.fsuid = task.uid, task.euid, task.suid, task.fsuid
    child.gid, child.egid, child.sgid, child.fsgid = task.gid, task.egid, task.sgid, task.fsgid
    child.groups = task.groups
    child.keep_caps, child.no_new_privs = task.keep_caps, task.no_new_privs
    child.timer_slack = child.default_timer_slack = task.timer_slack
    child.cap_bset, child.no_tsc = task.cap_bset, task.no_tsc
    child.start_ns = task.kernel.clock.now


def _inherit_signal(old: SignalStruct, new: SignalStruct, sibling: bool) -> None:
    new.pgrp, new.session = old.pgrp, old.session
    new.rlimits = list(old.rlimits)
    new.oom_score_adj = old.oom_score_adj
    parent = old.parent if sibling else old
    new.parent = parent
    if parent is not None:
        parent.children[new.leader] = None


def _ret_from_fork(child: Task, addr: int) -> Generator[Wait, bool, int]:
    """CLONE_CHILD_SETTID: the child's first act is to store its tid. Linux: schedule_tail."""
    while True:
        try:
            put_user32(child, addr, child.pid)
            return 0
        except MustWait as wait:
            yield Wait((wait.queue,), None, TASK_UNINTERRUPTIBLE)
        except SysError:
            return 0


VFORK_FLAGS = CLONE_VFORK | CLONE_VM | SIGCHLD
