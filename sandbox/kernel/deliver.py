"""Signals on the way back to user mode: frames are built, interrupted system calls restarted or ended.

Linux: do_signal, handle_signal, arch/i386/kernel/signal.c, 2.6.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmcore.errors import MustWait, SysError
from sandbox.cpu.regs import EAX, EIP
from sandbox.kernel.exit import do_group_exit
from sandbox.kernel.sched import (
    EINTR,
    ERESTART_RESTARTBLOCK,
    ERESTARTNOHAND,
    ERESTARTSYS,
    TASK_UNINTERRUPTIBLE,
    WORK_SIGNAL,
)
from sandbox.kernel.sigframe import handler_mask, setup_frame
from sandbox.kernel.signals import force_sig, get_signal, recalc, set_blocked, signal_pending
from sandbox.kernel.signo import SA_RESTART, SI_KERNEL, SIGSEGV, SigInfo
from sandbox.kernel.task import DEFAULT_ACTION, Task

if TYPE_CHECKING:
    from sandbox.kernel.loop import Loop
    from sandbox.kernel.task import SigAction

NR_RESTART_SYSCALL = 0


def do_signal(loop: Loop, task: Task) -> bool:
    """Delivers what is pending; later signals nest on top of earlier ones.

    False: the task does not go on (it has stopped, waits for its stack to come in, or is dead).
    """
    while True:
        taken = task.deferred or get_signal(task)
        if taken is None:
            break
        if isinstance(taken, SigInfo):
            return loop.die(task, do_group_exit(task, taken.sig), taken)
        if isinstance(taken, int):
            return taken >= 0 and loop.die(task, do_group_exit(task, taken))
        task.deferred = None
        info, action = taken
        _restart(task, action)
        try:
            setup_frame(task, info, action)
        except MustWait as wait:
            task.deferred = taken
            loop.park(task, (wait.queue,), None, TASK_UNINTERRUPTIBLE)
            return False
        except SysError:
            if info.sig == SIGSEGV:
                task.sighand.action[SIGSEGV] = DEFAULT_ACTION
            force_sig(task, SigInfo(SIGSEGV, SI_KERNEL, bytes(4)))
            continue
        mask = handler_mask(task, info, action)
        task.saved_sigmask = None
        set_blocked(task, mask)
    _restart(task, None)
    if task.saved_sigmask is not None:
        mask, task.saved_sigmask = task.saved_sigmask, None
        set_blocked(task, mask)
        if task.work & WORK_SIGNAL and signal_pending(task):
            return do_signal(loop, task)
    recalc(task)
    return True


def _restart(task: Task, action: SigAction | None) -> None:
    """What becomes of an interrupted call: EINTR for a handler that does not want restarts, else the call is made
    again."""
    nr, task.restart_nr = task.restart_nr, -1
    if nr < 0:
        return
    regs = task.regs
    mode = -(regs[EAX] - (1 << 32))
    if action is not None and (
        mode in (ERESTARTNOHAND, ERESTART_RESTARTBLOCK) or (mode == ERESTARTSYS and not action.flags & SA_RESTART)
    ):
        regs[EAX] = -EINTR & 0xFFFFFFFF
        return
    regs[EAX] = NR_RESTART_SYSCALL if mode == ERESTART_RESTARTBLOCK else nr
    regs[EIP] = (regs[EIP] - 2) & 0xFFFFFFFF
