"""Limits, usage, priorities: what a process may use, has used, and how it is scheduled.

`nice` decides how long time slices are; policies and real-time priorities are stored and shown, and change nothing.
Linux: kernel/sys.c, kernel/sched.c, 2.6.7; prlimit64 of 2.6.36.
"""

from __future__ import annotations

import errno
import struct

from mmcore.errors import SysError
from sandbox.fs.at import s32
from sandbox.kernel.rlimits import RLIM_INFINITY, RLIMIT_CPU, RLIMIT_NICE, RLIMIT_NOFILE, RLIMIT_RTPRIO
from sandbox.kernel.sched import SLICE_NS
from sandbox.kernel.table import syscall
from sandbox.kernel.task import Task
from sandbox.kernel.timespec import put_timespec32, put_timespec64, timeval32
from sandbox.kernel.uaccess import copy_from_user, copy_to_user, prepare_result, put_user32
from sandbox.syscalls.creds import same_owner

RLIM_NLIMITS = 16
RLIM32_INFINITY = 0xFFFFFFFF
OLD_RLIM_INFINITY = 0x7FFFFFFF
NR_OPEN = 1 << 20
RUSAGE_SELF, RUSAGE_CHILDREN, RUSAGE_THREAD = 0, -1, 1
PRIO_PROCESS, PRIO_PGRP, PRIO_USER = 0, 1, 2
SCHED_NORMAL, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE = 0, 1, 2, 3, 5
SCHED_RESET_ON_FORK = 0x40000000
USER_TICK_NS = 10_000_000


def _target(task: Task, pid: int) -> Task:
    """The task `pid` names, 0 meaning the caller. Raises EINVAL, ESRCH."""
    if s32(pid) < 0:
        raise SysError(errno.EINVAL)
    found = task.kernel.find_task(pid) if pid else task
    if found is None:
        raise SysError(errno.ESRCH)
    return found


# --- limits


def _set_limit(task: Task, which: int, soft: int, hard: int) -> None:
    if soft > hard:
        raise SysError(errno.EINVAL)
    if which == RLIMIT_NOFILE and hard > NR_OPEN:
        raise SysError(errno.EPERM)
    if hard > task.rlimits[which][1] and task.euid:
        raise SysError(errno.EPERM)
    task.rlimits[which] = (soft, hard)
    if which == RLIMIT_CPU:
        task.kernel.loop.watch_cpu = True
    if which == RLIMIT_NOFILE and task.files is not None:
        task.files.limit = soft


def _get_limit(task: Task, which: int) -> tuple[int, int]:
    if which >= RLIM_NLIMITS:
        raise SysError(errno.EINVAL)
    return task.rlimits[which]


@syscall(191, "ugetrlimit", 2)
def sys_getrlimit(task: Task, which: int, addr: int) -> int:
    copy_to_user(task, addr, struct.pack("<2I", *(min(value, RLIM32_INFINITY) for value in _get_limit(task, which))))
    return 0


@syscall(76, "getrlimit", 2)
def sys_old_getrlimit(task: Task, which: int, addr: int) -> int:
    copy_to_user(task, addr, struct.pack("<2I", *(min(value, OLD_RLIM_INFINITY) for value in _get_limit(task, which))))
    return 0


@syscall(75, "setrlimit", 2)
def sys_setrlimit(task: Task, which: int, addr: int) -> int:
    if which >= RLIM_NLIMITS:
        raise SysError(errno.EINVAL)
    soft, hard = (
        RLIM_INFINITY if value == RLIM32_INFINITY else value
        for value in struct.unpack("<2I", copy_from_user(task, addr, 8))
    )
    _set_limit(task, which, soft, hard)
    return 0


@syscall(340, "prlimit64", 4)
def sys_prlimit64(task: Task, pid: int, which: int, new: int, old: int) -> int:
    target = _target(task, pid)
    if (
        target.signal is not task.signal
        and task.euid
        and (
            {task.uid} != {target.uid, target.euid, target.suid} or {task.gid} != {target.gid, target.egid, target.sgid}
        )
    ):
        raise SysError(errno.EPERM)
    limits = _get_limit(target, which)
    wanted = struct.unpack("<2Q", copy_from_user(task, new, 16)) if new else None
    if old:
        prepare_result(task, old, 16)
    if wanted is not None:
        _set_limit(target, which, *wanted)
    if old:
        copy_to_user(task, old, struct.pack("<2Q", *limits))
    return 0


# --- usage


def _pack_rusage(user: int, system: int, maxrss: int, min_flt: int, maj_flt: int, nvcsw: int, nivcsw: int) -> bytes:
    """struct rusage of i386: 72 bytes; maxrss in kB from pages."""
    return (
        timeval32(user)
        + timeval32(system)
        + struct.pack("<14I", maxrss * 4, 0, 0, 0, min_flt, maj_flt, 0, 0, 0, 0, 0, 0, nvcsw, nivcsw)
    )


def rusage_of_child(child: Task) -> bytes:
    """What wait4 reports of a child: its own use and that of the children it waited for."""
    signal = child.signal
    user, system = signal.cpu_times()
    return _pack_rusage(
        user + signal.cutime_ns,
        system + signal.cstime_ns,
        max(signal.maxrss, signal.cmaxrss),
        sum(thread.min_flt for thread in signal.threads) + signal.min_flt + signal.cmin_flt,
        sum(thread.maj_flt for thread in signal.threads) + signal.maj_flt + signal.cmaj_flt,
        sum(thread.nvcsw for thread in signal.threads) + signal.nvcsw,
        sum(thread.nivcsw for thread in signal.threads) + signal.nivcsw,
    )


@syscall(77, "getrusage", 2)
def sys_getrusage(task: Task, who: int, addr: int) -> int:
    who = s32(who)
    task.kernel.account()
    signal = task.signal
    rss = max(signal.maxrss, task.mm.hiwater_rss, task.mm.rss)
    if who == RUSAGE_CHILDREN:
        data = _pack_rusage(signal.cutime_ns, signal.cstime_ns, signal.cmaxrss, signal.cmin_flt, signal.cmaj_flt, 0, 0)
    elif who == RUSAGE_THREAD:
        data = _pack_rusage(task.utime_ns, task.stime_ns, rss, task.min_flt, task.maj_flt, task.nvcsw, task.nivcsw)
    elif who == RUSAGE_SELF:
        user, system = signal.cpu_times()
        threads = signal.threads
        data = _pack_rusage(
            user,
            system,
            rss,
            signal.min_flt + sum(thread.min_flt for thread in threads),
            signal.maj_flt + sum(thread.maj_flt for thread in threads),
            signal.nvcsw + sum(thread.nvcsw for thread in threads),
            signal.nivcsw + sum(thread.nivcsw for thread in threads),
        )
    else:
        raise SysError(errno.EINVAL)
    copy_to_user(task, addr, data)
    return 0


@syscall(43, "times", 1)
def sys_times(task: Task, addr: int) -> int:
    """Clock ticks of 10 ms; the result is the time since boot."""
    task.kernel.account()
    signal = task.signal
    if addr:
        times = (*signal.cpu_times(), signal.cutime_ns, signal.cstime_ns)
        copy_to_user(task, addr, struct.pack("<4I", *(ns // USER_TICK_NS & 0xFFFFFFFF for ns in times)))
    return task.kernel.timers.now() // USER_TICK_NS & 0x7FFFFFFF


# --- priorities and policies


def _chosen(task: Task, which: int, who: int) -> list[Task]:
    kernel = task.kernel
    if which == PRIO_PROCESS:
        found = kernel.find_task(who) if who else task
        return [found] if found is not None else []
    if which == PRIO_PGRP:
        pgrp = who or task.signal.pgrp
        return [thread for thread in kernel.tasks.values() if thread.signal.pgrp == pgrp]
    if which == PRIO_USER:
        uid = who or task.uid
        return [thread for thread in kernel.tasks.values() if thread.uid == uid]
    raise SysError(errno.EINVAL)


@syscall(96, "getpriority", 2)
def sys_getpriority(task: Task, which: int, who: int) -> int:
    """20 minus the lowest nice value, so that it is never negative."""
    chosen = _chosen(task, s32(which), s32(who))
    if not chosen:
        raise SysError(errno.ESRCH)
    return max(20 - one.nice for one in chosen)


@syscall(97, "setpriority", 3)
def sys_setpriority(task: Task, which: int, who: int, value: int) -> int:
    chosen = _chosen(task, s32(which), s32(who))
    if not chosen:
        raise SysError(errno.ESRCH)
    nice = max(-20, min(19, s32(value)))
    error = 0
    for one in chosen:  # those who may be set are, whatever the others answer
        if not same_owner(task, one):
            error = errno.EPERM
        elif nice < one.nice and not _can_nice(task, one, nice):
            error = errno.EACCES
        else:
            one.nice = nice
    if error:
        raise SysError(error)
    return 0


def _can_nice(task: Task, target: Task, nice: int) -> bool:
    """RLIMIT_NICE counts from 1 (nice 19) to 40 (nice -20). Linux: can_nice."""
    return not task.euid or 20 - nice <= target.rlimits[RLIMIT_NICE][0]


@syscall(34, "nice", 1)
def sys_nice(task: Task, increment: int) -> int:
    step = max(-40, min(40, s32(increment)))
    nice = max(-20, min(19, task.nice + step))
    if step < 0 and not _can_nice(task, task, nice):
        raise SysError(errno.EPERM)
    task.nice = nice
    return 0


def _check_policy(policy: int, priority: int) -> None:
    if policy in (SCHED_FIFO, SCHED_RR):
        if not 1 <= priority <= 99:
            raise SysError(errno.EINVAL)
    elif policy in (SCHED_NORMAL, SCHED_BATCH, SCHED_IDLE):
        if priority:
            raise SysError(errno.EINVAL)
    else:
        raise SysError(errno.EINVAL)


def _may_schedule(task: Task, target: Task, policy: int, priority: int) -> None:
    """Raises EPERM: another user's task, real time beyond RLIMIT_RTPRIO, out of SCHED_IDLE. Linux:
    user_check_sched_setscheduler, 6.1."""
    if not task.euid:
        return
    if policy in (SCHED_FIFO, SCHED_RR):
        limit = target.rlimits[RLIMIT_RTPRIO][0]
        if (policy != target.policy and not limit) or priority > max(target.rt_priority, limit):
            raise SysError(errno.EPERM)
    leaves_idle = target.policy == SCHED_IDLE != policy
    if (leaves_idle and not _can_nice(task, target, target.nice)) or not same_owner(task, target):
        raise SysError(errno.EPERM)


@syscall(156, "sched_setscheduler", 3)
def sys_sched_setscheduler(task: Task, pid: int, policy: int, param: int) -> int:
    policy = s32(policy & ~SCHED_RESET_ON_FORK)
    if policy < 0 or not param:
        raise SysError(errno.EINVAL)
    priority = struct.unpack("<i", copy_from_user(task, param, 4))[0]
    target = _target(task, pid)
    _check_policy(policy, priority)
    _may_schedule(task, target, policy, priority)
    target.policy, target.rt_priority = policy, priority
    return 0


@syscall(154, "sched_setparam", 2)
def sys_sched_setparam(task: Task, pid: int, param: int) -> int:
    if not param:
        raise SysError(errno.EINVAL)
    priority = struct.unpack("<i", copy_from_user(task, param, 4))[0]
    target = _target(task, pid)
    _check_policy(target.policy, priority)
    _may_schedule(task, target, target.policy, priority)
    target.rt_priority = priority
    return 0


@syscall(157, "sched_getscheduler", 1)
def sys_sched_getscheduler(task: Task, pid: int) -> int:
    return _target(task, pid).policy


@syscall(155, "sched_getparam", 2)
def sys_sched_getparam(task: Task, pid: int, param: int) -> int:
    if not param:
        raise SysError(errno.EINVAL)
    put_user32(task, param, _target(task, pid).rt_priority)
    return 0


@syscall(159, "sched_get_priority_max", 1)
def sys_sched_get_priority_max(task: Task, policy: int) -> int:
    if policy in (SCHED_FIFO, SCHED_RR):
        return 99
    if policy in (SCHED_NORMAL, SCHED_BATCH, SCHED_IDLE):
        return 0
    raise SysError(errno.EINVAL)


@syscall(160, "sched_get_priority_min", 1)
def sys_sched_get_priority_min(task: Task, policy: int) -> int:
    if policy in (SCHED_FIFO, SCHED_RR):
        return 1
    if policy in (SCHED_NORMAL, SCHED_BATCH, SCHED_IDLE):
        return 0
    raise SysError(errno.EINVAL)


@syscall(161, "sched_rr_get_interval", 2)
def sys_sched_rr_get_interval(task: Task, pid: int, addr: int) -> int:
    _target(task, pid)
    put_timespec32(task, addr, SLICE_NS)
    return 0


@syscall(423, "sched_rr_get_interval_time64", 2)
def sys_sched_rr_get_interval_time64(task: Task, pid: int, addr: int) -> int:
    _target(task, pid)
    put_timespec64(task, addr, SLICE_NS)
    return 0


@syscall(241, "sched_setaffinity", 3)
def sys_sched_setaffinity(task: Task, pid: int, length: int, addr: int) -> int:
    mask = copy_from_user(task, addr, min(length, 4))
    if not same_owner(task, _target(task, pid)):
        raise SysError(errno.EPERM)
    if not mask or not mask[0] & 1:
        raise SysError(errno.EINVAL)
    return 0


@syscall(242, "sched_getaffinity", 3)
def sys_sched_getaffinity(task: Task, pid: int, length: int, addr: int) -> int:
    """One CPU; the size of the kernel's mask is one word."""
    if length < 4 or length & 3:
        raise SysError(errno.EINVAL)
    _target(task, pid)
    put_user32(task, addr, 1)
    return 4


@syscall(318, "getcpu", 3)
def sys_getcpu(task: Task, cpu: int, node: int, cache: int) -> int:
    if cpu:
        put_user32(task, cpu, 0)
    if node:
        put_user32(task, node, 0)
    return 0
