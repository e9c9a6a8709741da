"""Signals: sending, queues, and what a task does about them before it enters user mode.

    send_task / send_group ──> ignored? dropped ──> queued (1..31 once, real-time each time) ──> a thread that takes it
    is woken before user mode: get_signal ──> stop | default action (exit, stop, nothing) | handler ──> sigframe

Linux: kernel/signal.c, 2.6.7; the order of delivery (a task's own faults first, then the lowest number, its own queue
before the process's) and what SIGCONT and stops do to each other follow current kernels where they differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmcore.errors import OutOfMemory
from sandbox.kernel.rlimits import RLIMIT_SIGPENDING
from sandbox.kernel.sched import TASK_RUNNING, TASK_STOPPED, TASK_ZOMBIE, WORK_SIGNAL
from sandbox.kernel.signo import (
    CLD_CONTINUED,
    CLD_STOPPED,
    IGNORED_BY_DEFAULT,
    SA_NOCLDSTOP,
    SA_RESETHAND,
    SI_KERNEL,
    SI_USER,
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGRTMIN,
    SIGSTOP,
    STOP_SIGNALS,
    SYNCHRONOUS,
    UNBLOCKABLE,
    SigInfo,
    child_info,
)
from sandbox.kernel.task import DEFAULT_ACTION, PF_EXITING, Pending, SigAction, SignalStruct, Task

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.timers import PosixTimer

EVENT_SIGNAL = 4 << 60
EVENT_SEND = 5 << 60
USER_TICK_NS = 10_000_000  # USER_HZ tick


# --- sending


def sig_ignored(task: Task, sig: int) -> bool:
    """Would the signal vanish now? A blocked one is kept: the action may change before it is unblocked."""
    mask = 1 << sig - 1
    if (task.blocked | task.real_blocked) & mask:
        return False
    handler = task.sighand.action[sig].handler
    return handler == SIG_IGN or (handler == SIG_DFL and bool(IGNORED_BY_DEFAULT & mask))


def must_have_room(info: SigInfo) -> bool:
    """Does the signal count against RLIMIT_SIGPENDING? Standard ones from the kernel or kill() always have their
    place."""
    return info.sig >= SIGRTMIN or info.code < 0


def queue_is_full(task: Task, info: SigInfo) -> bool:
    """Is the sender of a real-time signal with a value to be told (EAGAIN) that the receiver's user has as many queued
    as is allowed?"""
    if info.sig < SIGRTMIN or info.code in (SI_USER, SI_KERNEL) or sig_ignored(task, info.sig):
        return False
    return task.kernel.sigpending[task.uid] >= task.rlimits[RLIMIT_SIGPENDING][0]


def _queue(task: Task, pending: Pending, info: SigInfo, prepaid: bool = False) -> bool:
    """False: a standard signal that is pending already, or a real-time one that there is no room for. `prepaid`: a
    timer's, which was counted when the timer was made and stands beside others of its number. A signal without room
    that need not tell its value is pending all the same. Linux: __send_signal, send_sigqueue."""
    mask = 1 << info.sig - 1
    if info.sig < SIGRTMIN and pending.set & mask and not prepaid:
        return False
    kernel = task.kernel
    if prepaid:
        _forget_stale(kernel, pending, info.timer)
    else:
        if must_have_room(info) and kernel.sigpending[task.uid] >= task.rlimits[RLIMIT_SIGPENDING][0]:
            if queue_is_full(task, info):
                return False
            pending.set |= mask
            return True
        info.owner = task.uid
        kernel.sigpending[task.uid] += 1
    try:
        addr = kernel.objects.alloc_sigqueue()
    except OutOfMemory:
        addr = 0  # the signal is delivered without a place of its own, as SEND_SIG_PRIV is
    pending.queue.append((info, addr))
    pending.set |= mask
    return True


def _free(kernel: Kernel, info: SigInfo, addr: int) -> None:
    """A queued signal is queued no more."""
    if info.owner >= 0:
        kernel.sigpending[info.owner] -= 1
        info.owner = -1
    kernel.objects.free_sigqueue(addr)


def _forget_stale(kernel: Kernel, pending: Pending, timer: PosixTimer | None) -> None:
    """A timer has one place: what it sent before it was set anew leaves it."""
    for entry in pending.queue:
        if entry[0].timer is timer:
            pending.queue.remove(entry)
            _free(kernel, *entry)
            return


def _drop(kernel: Kernel, pending: Pending, mask: int) -> None:
    """Takes every signal of the set off the queue."""
    if not pending.set & mask:
        return
    pending.set &= ~mask
    kept = []
    for entry in pending.queue:
        if 1 << entry[0].sig - 1 & mask:
            _free(kernel, *entry)
        else:
            kept.append(entry)
    pending.queue.clear()
    pending.queue.extend(kept)


def drop_ignored(task: Task, sig: int) -> None:
    """The process ignores `sig` from now on: nowhere pending any more."""
    mask = 1 << sig - 1
    _drop(task.kernel, task.signal.shared, mask)
    for thread in task.signal.threads:
        _drop(task.kernel, thread.pending, mask)


def flush_queue(kernel: Kernel, pending: Pending) -> None:
    _drop(kernel, pending, -1)


def _wants(task: Task, sig: int) -> bool:
    """Would the thread take the signal at once? Linux: wants_signal."""
    return not (task.blocked & 1 << sig - 1 or task.flags & PF_EXITING) and (
        sig == SIGKILL or task.state < TASK_STOPPED
    )


def _complete(task: Task, sig: int, group: bool) -> None:
    """Chooses the thread to wake; SIGKILL takes the whole process down at once. Linux: complete_signal."""
    signal = task.signal
    if sig == SIGKILL:
        kill_group(signal, SIGKILL)
        return
    if _wants(task, sig):
        task.interrupt()
    elif group:
        for thread in signal.threads:
            if _wants(thread, sig):
                thread.interrupt()
                return


def kill_group(signal: SignalStruct, code: int, survivor: Task | None = None) -> None:
    """The process ends with `code`: every thread (but `survivor`, which sees to itself) wakes up to die. Linux:
    zap_other_threads."""
    if signal.group_exit:
        return
    signal.group_exit = True
    signal.exit_code = code
    signal.group_stop = signal.stop_left = 0
    for thread in signal.threads:
        if thread is not survivor and not thread.flags & PF_EXITING:
            thread.interrupt(True)


def _prepare(task: Task, sig: int) -> None:
    """Stop signals and SIGCONT cancel each other; SIGCONT starts the stopped even when it is blocked or ignored."""
    signal = task.signal
    kernel = task.kernel
    if signal.group_exit:
        return
    if 1 << sig - 1 & STOP_SIGNALS:
        _drop(kernel, signal.shared, 1 << SIGCONT - 1)
        for thread in signal.threads:
            _drop(kernel, thread.pending, 1 << SIGCONT - 1)
    elif sig == SIGCONT:
        _drop(kernel, signal.shared, STOP_SIGNALS)
        was_stopped = signal.group_stop
        signal.group_stop = signal.stop_left = 0
        signal.stop_code = 0
        for thread in signal.threads:
            _drop(kernel, thread.pending, STOP_SIGNALS)
            if thread.state == TASK_STOPPED:
                thread.state = TASK_RUNNING
                thread.work |= WORK_SIGNAL
                kernel.runq.append(thread)
        if was_stopped:
            signal.continued = True
            notify_parent_stop(task, CLD_CONTINUED)


def _send(task: Task, info: SigInfo, group: bool, prepaid: bool = False) -> bool:
    sig = info.sig
    task.kernel.log(EVENT_SEND | sig << 32 | task.pid)
    _prepare(task, sig)
    if task.state >= TASK_ZOMBIE and not group:
        return False
    forced = info.code == SI_KERNEL and sig == SIGKILL
    if not forced and sig_ignored(task, sig):
        return False
    if not _queue(task, task.signal.shared if group else task.pending, info, prepaid):
        return False
    _complete(task, sig, group)
    return True


def send_task(task: Task, info: SigInfo) -> bool:
    """A signal to one thread (tkill, faults, robust). True: queued."""
    return _send(task, info, False)


def send_group(task: Task, info: SigInfo) -> bool:
    """A signal to the process of `task`. True: queued."""
    return _send(task.signal.leader, info, True)


def send_timer(task: Task, info: SigInfo, group: bool) -> bool:
    """A POSIX timer's signal, whose place in the queue the timer holds. True: queued."""
    return _send(task.signal.leader if group else task, info, group, prepaid=True)


def send_signal(task: Task, sig: int, info: SigInfo | None = None) -> bool:
    """A signal from the kernel to one thread (SIGPIPE, SIGXFSZ). True: queued. Linux: send_sig."""
    return _send(task, info or SigInfo(sig, SI_KERNEL), False)


def force_sig(task: Task, info: SigInfo) -> None:
    """A fault of the task itself: cannot be blocked or ignored; then it is the default action, which kills. Linux:
    force_sig_info."""
    sig = info.sig
    mask = 1 << sig - 1
    action = task.sighand.action[sig]
    if task.blocked & mask or action.handler == SIG_IGN:
        task.sighand.action[sig] = DEFAULT_ACTION
        task.blocked &= ~mask
    task.kernel.log(EVENT_SEND | sig << 32 | task.pid)
    _queue(task, task.pending, info)
    task.work |= WORK_SIGNAL


def send_pgrp(kernel: Kernel, pgrp: int, info: SigInfo) -> int:
    """To every process of a group; how many there were."""
    members = group_members(kernel, pgrp)
    for leader in members:
        send_group(leader, info)
    return len(members)


def group_members(kernel: Kernel, pgrp: int) -> list[Task]:
    """Leaders of the processes of a process group, zombies included, by pid."""
    return [leader for leader in kernel.leaders() if leader.signal.pgrp == pgrp]


def kill_others(signal: SignalStruct, task: Task) -> None:
    """exec: every thread but `task` is to die, the process lives. Linux: zap_other_threads."""
    signal.group_stop = signal.stop_left = 0
    for thread in signal.threads:
        if thread is not task and not thread.flags & PF_EXITING:
            thread.interrupt(True)


# --- masks


def set_blocked(task: Task, mask: int) -> None:
    """Changes the mask of blocked signals; what it uncovers is pending from now on. A process's signal that this thread
    can no longer take goes to another. Linux: set_current_blocked, retarget_shared_pending."""
    mask &= ~UNBLOCKABLE
    newly = mask & ~task.blocked
    task.blocked = mask
    recalc(task)
    uncovered = newly & task.signal.shared.set
    if uncovered:
        for thread in task.signal.threads:
            if thread is not task and uncovered & ~thread.blocked and not thread.flags & PF_EXITING:
                thread.interrupt()
                uncovered &= thread.blocked
                if not uncovered:
                    break


def recalc(task: Task) -> None:
    """Sets or clears WORK_SIGNAL from the facts. Linux: recalc_sigpending."""
    signal = task.signal
    if (
        (task.pending.set | signal.shared.set) & ~task.blocked
        or signal.group_exit
        or signal.group_stop
        or signal.group_exec not in (None, task)
        or task.saved_sigmask is not None
        or task.restart_nr >= 0
        or task.deferred is not None
    ):
        task.work |= WORK_SIGNAL
    else:
        task.work &= ~WORK_SIGNAL


def signal_pending(task: Task) -> bool:
    """Is there a reason to end a wait?"""
    signal = task.signal
    return (
        bool((task.pending.set | signal.shared.set) & ~task.blocked)
        or signal.group_exit
        or bool(signal.group_stop)
        or signal.group_exec not in (None, task)
    )


# --- taking


def _collect(kernel: Kernel, pending: Pending, sig: int) -> SigInfo:
    """Takes the first queued `sig`."""
    queue = pending.queue
    found = None
    more = False
    for i, (info, _) in enumerate(queue):
        if info.sig == sig:
            if found is None:
                found = i
            else:
                more = True
                break
    if not more:
        pending.set &= ~(1 << sig - 1)
    if found is None:
        return SigInfo(sig, SI_USER)
    info, addr = queue[found]
    del queue[found]
    _free(kernel, info, addr)
    return info


def dequeue(task: Task, blocked: int) -> SigInfo | None:
    """The next signal not in `blocked`, taken off its queue."""
    kernel = task.kernel
    for pending in (task.pending, task.signal.shared):
        while ready := pending.set & ~blocked:
            first = ready & SYNCHRONOUS or ready
            info = _collect(kernel, pending, (first & -first).bit_length())
            if info.timer is None or kernel.timers.rearm(info.timer, info):
                return info
    return None


def get_signal(task: Task) -> tuple[SigInfo, SigAction] | SigInfo | int | None:
    """The handler to run: (info, action); None: nothing more; a SigInfo: the signal kills the process; an int >= 0: the
    process dies with this exit code; -1: it has stopped.

    Linux: get_signal_to_deliver, 2.6.7.
    """
    signal = task.signal
    kernel = task.kernel
    while True:
        if signal.group_exit:
            return signal.exit_code
        if signal.group_exec is not None and signal.group_exec is not task:
            return 0
        if signal.group_stop:
            _stop_thread(task)
            return -1
        info = dequeue(task, task.blocked)
        if info is None:
            return None
        sig = info.sig
        action = task.sighand.action[sig]
        if action.handler == SIG_IGN and sig != SIGKILL:
            continue
        if action.handler != SIG_DFL and sig != SIGKILL and sig != SIGSTOP:
            if action.flags & SA_RESETHAND:
                task.sighand.action[sig] = SigAction(SIG_DFL, action.flags, action.restorer, action.mask)
            kernel.log(EVENT_SIGNAL | sig << 32 | task.pid)
            return info, action
        mask = 1 << sig - 1
        if mask & IGNORED_BY_DEFAULT:
            continue
        if mask & STOP_SIGNALS:
            if sig != SIGSTOP and is_orphaned_pgrp(kernel, signal.pgrp):
                continue
            begin_group_stop(task, sig)
            continue
        kernel.log(EVENT_SIGNAL | sig << 32 | task.pid)
        kernel.note_fatal(task, info)
        return info


def begin_group_stop(task: Task, sig: int) -> None:
    """Every thread is to stop; those asleep are woken to do so."""
    signal = task.signal
    signal.group_stop = sig
    signal.continued = False
    signal.stop_left = 0
    for thread in signal.threads:
        if not thread.flags & PF_EXITING:
            signal.stop_left += 1
            if thread is not task:
                thread.interrupt()


def _stop_thread(task: Task) -> None:
    signal = task.signal
    task.state = TASK_STOPPED
    if signal.stop_left:
        signal.stop_left -= 1
        if not signal.stop_left:
            signal.stop_code = signal.group_stop
            notify_parent_stop(task, CLD_STOPPED)


def notify_parent_stop(task: Task, code: int) -> None:
    """SIGCHLD for a stop or a continuation, unless the parent does not want it; its waiters look in any case."""
    signal = task.signal
    parent = signal.parent
    if parent is None or not parent.threads:
        return
    action = parent.leader.sighand.action[SIGCHLD]
    if action.handler != SIG_IGN and not action.flags & SA_NOCLDSTOP:
        user, system = signal.cpu_times()
        status = SIGCONT if code == CLD_CONTINUED else signal.group_stop
        send_group(
            parent.leader,
            child_info(
                SIGCHLD, code, signal.leader.tgid, task.uid, status, user // USER_TICK_NS, system // USER_TICK_NS
            ),
        )
    parent.wait_chldexit.wake_all()


def is_orphaned_pgrp(kernel: Kernel, pgrp: int, ignoring: SignalStruct | None = None) -> bool:
    """No member has a parent in another group of the same session; init is nobody's, but for the first program, whose
    shell it stands for. Linux: is_orphaned_pgrp."""
    for leader in group_members(kernel, pgrp):
        signal = leader.signal
        parent = signal.parent
        if (
            signal is ignoring
            or leader.state >= TASK_ZOMBIE
            or parent is None
            or (parent is kernel.init.signal and leader is not kernel.program)
        ):
            continue
        if parent.pgrp != pgrp and parent.session == signal.session:
            return False
    return True


def has_stopped_jobs(kernel: Kernel, pgrp: int) -> bool:
    return any(leader.signal.group_stop and not leader.signal.stop_left for leader in group_members(kernel, pgrp))
