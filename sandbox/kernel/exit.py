"""The end of tasks: exit, zombies, and the parents that wait for them.

    do_exit ──> robust futexes, clear_child_tid, mm, files, fs ──> exit_notify: children to init, SIGCHLD ──> zombie
    ──wait──> released

A zombie keeps its task_struct and its kernel stack; what is shared has gone. Linux: kernel/exit.c, 2.6.7; a thread
group as a whole is what parents wait for, as there.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from typing import TYPE_CHECKING

from mmcore.errors import MustWait, SysError
from mmcore.paging.lifecycle import mmput
from sandbox.kernel.futex import exit_robust_list, wake_address
from sandbox.kernel.sched import TASK_DEAD, TASK_UNINTERRUPTIBLE, TASK_ZOMBIE, Wait
from sandbox.kernel.signals import (
    flush_queue,
    has_stopped_jobs,
    is_orphaned_pgrp,
    kill_group,
    send_group,
    send_pgrp,
)
from sandbox.kernel.signo import (
    CLD_CONTINUED,
    CLD_DUMPED,
    CLD_EXITED,
    CLD_KILLED,
    CLD_STOPPED,
    SA_NOCLDWAIT,
    SI_KERNEL,
    SIG_IGN,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    SigInfo,
    child_info,
    valid_signal,
)
from sandbox.kernel.task import PF_DEAD, PF_EXITING, SignalStruct, Task
from sandbox.kernel.uaccess import put_user32, unpin

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.kernel.kernel import Kernel

USER_TICK_NS = 10_000_000
EVENT_EXIT = 7 << 60


def mm_release(task: Task) -> None:
    """The task stops using its mm: whoever waits for that (vfork) goes on. Linux: mm_release, 2.6.7."""
    done, task.vfork_done = task.vfork_done, None
    if done is not None:
        done.wake_all()


def do_group_exit(task: Task, code: int) -> int:
    """Takes the other threads down too; returns the code that the whole process ends with."""
    signal = task.signal
    if signal.group_exit:
        return signal.exit_code
    if signal.group_exec not in (None, task):  # another thread is in execve: the process lives on in it
        return 0
    kill_group(signal, code, task)
    return code


def do_exit(task: Task, code: int) -> Generator[Wait, bool, int]:
    """Ends one thread. Runs to its end with the task a zombie or dead; waits only for pages that the futexes of the
    dying lie in."""
    kernel, mem = task.kernel, task.mem
    signal = task.signal
    task.flags |= PF_EXITING
    task.deferred = None
    unpin(task)
    mem.awaited.let_go(task)
    kernel.log(EVENT_EXIT | (code & 0xFFFF) << 32 | task.pid)
    mm = task.mm
    if mm is not None:
        if task.robust_list:
            yield from _patiently(exit_robust_list, task)
        if task.clear_child_tid and mm.mm_users > 1:
            yield from _patiently(_clear_tid, task)
        mem.awaited.let_go(task)
    signal.live -= 1
    last = signal.live == 0
    if last:
        kernel.timers.exit_itimers(signal)
        if mm is not None:
            signal.maxrss = max(signal.maxrss, mm.hiwater_rss, mm.rss)
        if not signal.group_exit:
            signal.exit_code = code
            signal.group_exit = True
    task.exit_code = code
    mm_release(task)
    if mm is not None:
        kernel.account()
        if mm.mm_users == 1 and kernel.mm_ended is not None:
            kernel.mm_ended(task, mm, "exit")
        task.mm = None  # type: ignore[assignment]  # see Task
        mmput(mem, mm)
    mem.awaited.end_turn(task)
    _exit_files(task)
    task.flags |= PF_DEAD
    _exit_notify(task, last)
    return 0


def _patiently(step: Callable[[Task], None], task: Task) -> Generator[Wait, bool, None]:
    """Runs a step that may have to wait for pages; an address that is not there any more ends it."""
    while True:
        try:
            step(task)
            return
        except MustWait as wait:
            yield Wait((wait.queue,), None, TASK_UNINTERRUPTIBLE)
        except SysError:
            return


def _clear_tid(task: Task) -> None:
    addr = task.clear_child_tid
    put_user32(task, addr, 0)
    wake_address(task, addr, 1)
    task.clear_child_tid = 0


def _exit_files(task: Task) -> None:
    objects = task.kernel.objects
    files, task.files = task.files, None  # type: ignore[assignment]  # see Task
    if files is not None:
        last = files.users == 1
        files.put(task)
        if last:
            objects.files.free(task.files_addr)
    fs, task.fs = task.fs, None  # type: ignore[assignment]
    if fs is not None:
        last = fs.users == 1
        fs.put()
        if last:
            objects.fs.free(task.fs_addr)


def _exit_notify(task: Task, last: bool) -> None:
    """Tells the relatives. The task becomes a zombie if somebody is to wait for it, else it is gone at once."""
    kernel, signal = task.kernel, task.signal
    flush_queue(kernel, task.pending)
    if last:
        _forget_children(kernel, signal)
        parent = signal.parent
        if (
            parent is not None
            and parent.session == signal.session
            and parent.pgrp != signal.pgrp
            and parent.leader.pid != 1
        ):
            _kill_orphaned_pgrp(kernel, signal.pgrp, signal)
    if task is not signal.leader:
        release_thread(task)
        leader = signal.leader
        if last and leader.state == TASK_ZOMBIE:
            _notify_parent(leader)
    else:
        task.state = TASK_ZOMBIE
        if last:
            _notify_parent(task)
    if signal.group_exec is not None:
        signal.exec_wait.wake_all()


def _cld(code: int) -> int:
    """How a process ended, as siginfo has it."""
    if not code & 0x7F:
        return CLD_EXITED
    return CLD_DUMPED if code & 0x80 else CLD_KILLED


def _notify_parent(leader: Task) -> None:
    """SIGCHLD (or the signal clone named) for a process that has ended; a parent that ignores it lets it go at once."""
    signal = leader.signal
    kernel = leader.kernel
    parent = signal.parent
    sig = leader.exit_signal
    code = signal.exit_code
    leader.exit_code = code
    kernel.process_ended(leader)
    _tell_parent(leader, parent, sig, code)


def _tell_parent(leader: Task, parent: SignalStruct | None, sig: int, code: int) -> None:
    kernel, signal = leader.kernel, leader.signal
    if parent is None or parent.leader.pid == 1:
        kernel.release_process(leader)
        return
    reap = False
    action = parent.leader.sighand.action[SIGCHLD]
    if sig == SIGCHLD and (action.handler == SIG_IGN or action.flags & SA_NOCLDWAIT):
        reap = True
        if action.handler == SIG_IGN:
            sig = 0
    if valid_signal(sig):  # clone takes any number up to 255, and shows it in /proc; what is no signal is not sent
        user, system = signal.cpu_times()
        status = code & 0x7F or code >> 8 & 0xFF
        send_group(
            parent.leader,
            child_info(
                sig,
                _cld(code),
                leader.pid,
                leader.uid,
                status,
                user // USER_TICK_NS,
                system // USER_TICK_NS,
            ),
        )
    parent.wait_chldexit.wake_all()
    if reap:
        kernel.release_process(leader)


def _find_reaper(kernel: Kernel, signal: SignalStruct) -> SignalStruct:
    """Who takes over the children. Linux: find_new_reaper, 3.4."""
    at = signal.parent
    while at is not None:
        if at.subreaper and at.live:
            return at
        at = at.parent
    return kernel.init.signal


def _forget_children(kernel: Kernel, signal: SignalStruct) -> None:
    """Children go to the nearest ancestor that is a subreaper, else to init, which reaps them; those who asked get a
    signal; groups orphaned by it that are stopped are let go."""
    reaper = _find_reaper(kernel, signal)
    children, signal.children = signal.children, {}
    for child in children:
        child.signal.parent = reaper
        reaper.children[child] = None
        for thread in child.signal.threads:
            if thread.pdeath_signal:
                send_group(thread, SigInfo(thread.pdeath_signal, SI_KERNEL))
        child.exit_signal = SIGCHLD
        if child.state == TASK_ZOMBIE and child.signal.live == 0:
            _tell_parent(child, reaper, SIGCHLD, child.signal.exit_code)
        elif child.signal.pgrp != signal.pgrp and child.signal.session == signal.session:
            _kill_orphaned_pgrp(kernel, child.signal.pgrp, signal)


def _kill_orphaned_pgrp(kernel: Kernel, pgrp: int, ignoring: SignalStruct) -> None:
    """A process group that nobody in its session watches any more and that has stopped members gets SIGHUP and
    SIGCONT."""
    if has_stopped_jobs(kernel, pgrp) and is_orphaned_pgrp(kernel, pgrp, ignoring):
        send_pgrp(kernel, pgrp, SigInfo(SIGHUP, SI_KERNEL))
        send_pgrp(kernel, pgrp, SigInfo(SIGCONT, SI_KERNEL))


def release_thread(task: Task) -> None:
    """A thread that is not the leader, or a leader after its wait, leaves the process; its times stay with it. Linux:
    release_task."""
    kernel, signal = task.kernel, task.signal
    signal.threads.pop(task, None)
    signal.utime_ns += task.utime_ns
    signal.stime_ns += task.stime_ns
    signal.min_flt += task.min_flt
    signal.maj_flt += task.maj_flt
    signal.nvcsw += task.nvcsw
    signal.nivcsw += task.nivcsw
    task.utime_ns = task.stime_ns = task.min_flt = task.maj_flt = task.nvcsw = task.nivcsw = 0
    sighand = task.sighand
    sighand.users -= 1
    if not sighand.users:
        kernel.objects.sighand.free(sighand.addr)
    task.state = TASK_DEAD
    kernel.forget_task(task)


# --- waiting

WNOHANG, WUNTRACED, WSTOPPED, WEXITED, WCONTINUED, WNOWAIT = 1, 2, 2, 4, 8, 0x01000000
WNOTHREAD, WALL, WCLONE = 0x20000000, 0x40000000, 0x80000000
P_ALL, P_PID, P_PGID, P_PIDFD = 0, 1, 2, 3


class Event:
    """What a wait found: `kind` CLD_*, `status` as wait4 gives it, `value` as siginfo gives it."""

    __slots__ = ("task", "kind", "status", "value")

    def __init__(self, task: Task, kind: int, status: int, value: int) -> None:
        self.task = task
        self.kind = kind
        self.status = status
        self.value = value


def _eligible(child: Task, which: int, ident: int, options: int) -> bool:
    if which == P_PID and child.pid != ident:
        return False
    if which == P_PGID and child.signal.pgrp != ident:
        return False
    # __WCLONE: only children that do not send SIGCHLD; without it only those that do
    return bool(options & WALL) or (child.exit_signal != SIGCHLD) == bool(options & WCLONE)


def find_child(task: Task, which: int, ident: int, options: int) -> Event | None:
    """A child with something to report, oldest first. Raises ECHILD when there is none to wait for. Consumes
    nothing."""
    eligible = False
    for child in task.signal.children:
        if not _eligible(child, which, ident, options):
            continue
        eligible = True
        signal = child.signal
        if child.state == TASK_ZOMBIE:
            if signal.live == 0 and options & WEXITED:
                code = signal.exit_code
                killed = code & 0x7F
                return Event(child, _cld(code), code, killed or code >> 8 & 0xFF)
            continue
        if options & WSTOPPED and signal.stop_code:
            return Event(child, CLD_STOPPED, signal.stop_code << 8 | 0x7F, signal.stop_code)
        if options & WCONTINUED and signal.continued:
            return Event(child, CLD_CONTINUED, 0xFFFF, SIGCONT)
    if not eligible:
        raise SysError(errno.ECHILD)
    return None


def consume(task: Task, event: Event, options: int) -> None:
    """The report was delivered: a zombie is released, a stop or continuation is not reported again."""
    if options & WNOWAIT:
        return
    child = event.task
    signal = child.signal
    if event.kind == CLD_STOPPED:
        signal.stop_code = 0
    elif event.kind == CLD_CONTINUED:
        signal.continued = False
    else:
        mine = task.signal
        user, system = signal.cpu_times()
        mine.cutime_ns += user + signal.cutime_ns
        mine.cstime_ns += system + signal.cstime_ns
        mine.cmin_flt += child.min_flt + signal.min_flt + signal.cmin_flt
        mine.cmaj_flt += child.maj_flt + signal.maj_flt + signal.cmaj_flt
        mine.cmaxrss = max(mine.cmaxrss, signal.maxrss, signal.cmaxrss)
        task.kernel.release_process(child)
