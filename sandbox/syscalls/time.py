"""Clocks, sleeps and timers, on virtual time (see sandbox.kernel.timers).

Linux: kernel/time.c, kernel/posix-timers.c, kernel/itimer.c, 2.6.7; the calls with 64-bit time of 5.1.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Generator
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from sandbox.fs.at import s32
from sandbox.kernel.sched import ERESTART_RESTARTBLOCK, ERESTARTNOHAND, Interrupted, Sleep, Wait, waiting
from sandbox.kernel.signo import SIGALRM
from sandbox.kernel.table import syscall
from sandbox.kernel.task import Task
from sandbox.kernel.timers import ITIMER_REAL, NSEC, SIGEV_SIGNAL, SIGEV_THREAD_ID
from sandbox.kernel.timespec import (
    CLOCK_MONOTONIC,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_REALTIME,
    CLOCK_REALTIME_COARSE,
    CLOCK_TAI,
    CLOCK_THREAD_CPUTIME_ID,
    KTIME_MAX,
    MONOTONIC_CLOCKS,
    WALL_CLOCKS,
    deadline_of,
    get_timespec32,
    get_timespec64,
    get_timeval32,
    put_timespec32,
    put_timespec64,
    timeval32,
)
from sandbox.kernel.uaccess import copy_from_user, copy_to_user, get_user32, prefault, prepare_result, put_user32

if TYPE_CHECKING:
    from collections.abc import Callable

TIMER_ABSTIME = 1
COARSE_NS = 10_000_000
# 30 years of uptime have to fit. Linux: TIME_SETTOD_SEC_MAX, 5.1
SETTOD_MAX = (KTIME_MAX // NSEC - 30 * 365 * 24 * 3600) * NSEC
CPUCLOCK_PROF, CPUCLOCK_VIRT, CPUCLOCK_SCHED = range(3)


# --- reading and setting


def read_clock(task: Task, clock: int) -> int:
    """ns; raises EINVAL for a clock that is not there."""
    timers = task.kernel.timers
    clock = s32(clock)
    if clock in WALL_CLOCKS:
        now = timers.realtime()
        return now - now % COARSE_NS if clock == CLOCK_REALTIME_COARSE else now
    if clock in MONOTONIC_CLOCKS:
        now = timers.now()
        return now - now % COARSE_NS if clock == CLOCK_MONOTONIC_COARSE else now
    if clock == CLOCK_PROCESS_CPUTIME_ID:
        task.kernel.account()
        return sum(task.signal.cpu_times())
    if clock == CLOCK_THREAD_CPUTIME_ID:
        task.kernel.account()
        return task.utime_ns + task.stime_ns
    if clock < 0:
        return _cpu_clock(task, clock)
    raise SysError(errno.EINVAL)


def _cpu_clock(task: Task, clock: int) -> int:
    """clock_getcpuclockid: ~pid << 3 | which, bit 2 for one thread; `which`: CPUCLOCK_PROF, _VIRT or _SCHED."""
    pid, thread, which = ~(clock >> 3), bool(clock & 4), clock & 3
    target = task.kernel.find_task(pid) if pid else task
    if target is None or which > CPUCLOCK_SCHED:
        raise SysError(errno.EINVAL)
    task.kernel.account()
    user, system = (target.utime_ns, target.stime_ns) if thread else target.signal.cpu_times()
    return user if which == CPUCLOCK_VIRT else user + system


@syscall(265, "clock_gettime", 2)
def sys_clock_gettime(task: Task, clock: int, addr: int) -> int:
    put_timespec32(task, addr, read_clock(task, clock))
    return 0


@syscall(403, "clock_gettime64", 2)
def sys_clock_gettime64(task: Task, clock: int, addr: int) -> int:
    put_timespec64(task, addr, read_clock(task, clock))
    return 0


def _resolution(task: Task, clock: int) -> int:
    read_clock(task, clock)
    return COARSE_NS if clock in (CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE) else 1


@syscall(266, "clock_getres", 2)
def sys_clock_getres(task: Task, clock: int, addr: int) -> int:
    resolution = _resolution(task, clock)
    if addr:
        put_timespec32(task, addr, resolution)
    return 0


@syscall(406, "clock_getres_time64", 2)
def sys_clock_getres_time64(task: Task, clock: int, addr: int) -> int:
    resolution = _resolution(task, clock)
    if addr:
        put_timespec64(task, addr, resolution)
    return 0


def _set_realtime(task: Task, ns: int) -> int:
    if not 0 <= ns < SETTOD_MAX:
        raise SysError(errno.EINVAL)
    if task.euid:
        raise SysError(errno.EPERM)
    if ns < task.kernel.timers.now():  # the machine would have been switched on before 1970
        raise SysError(errno.EINVAL)
    task.kernel.timers.realtime_offset = ns - task.kernel.timers.now()
    return 0


def _set_clock(task: Task, clock: int, ns: int) -> int:
    if clock != CLOCK_REALTIME:
        raise SysError(errno.EINVAL)
    return _set_realtime(task, ns)


@syscall(264, "clock_settime", 2)
def sys_clock_settime(task: Task, clock: int, addr: int) -> int:
    return _set_clock(task, clock, get_timespec32(task, addr))


@syscall(404, "clock_settime64", 2)
def sys_clock_settime64(task: Task, clock: int, addr: int) -> int:
    return _set_clock(task, clock, get_timespec64(task, addr))


@syscall(13, "time", 1)
def sys_time(task: Task, addr: int) -> int:
    seconds = task.kernel.timers.realtime() // NSEC
    if addr:
        put_user32(task, addr, seconds)
    return seconds & 0xFFFFFFFF


@syscall(25, "stime", 1)
def sys_stime(task: Task, addr: int) -> int:
    return _set_realtime(task, s32(get_user32(task, addr)) * NSEC)


@syscall(78, "gettimeofday", 2)
def sys_gettimeofday(task: Task, addr: int, zone: int) -> int:
    if addr:
        copy_to_user(task, addr, timeval32(task.kernel.timers.realtime()))
    if zone:
        copy_to_user(task, zone, bytes(8))
    return 0


@syscall(79, "settimeofday", 2)
def sys_settimeofday(task: Task, addr: int, zone: int) -> int:
    if zone:
        copy_from_user(task, zone, 8)
    return _set_realtime(task, get_timeval32(copy_from_user(task, addr, 8))) if addr else 0


# --- sleeping


def _sleep(
    task: Task, deadline: int, absolute: bool, remaining: int, put: Callable[[Task, int, int], None]
) -> Generator[Wait, bool, int]:
    """Sleeps until `deadline` (virtual). Interrupted: the time left is written to `remaining`, and a relative sleep
    goes on after a signal that no handler takes."""
    try:
        while deadline > task.kernel.clock.now:
            yield Sleep(deadline)
    except Interrupted:
        left = deadline - task.kernel.clock.now
        if left <= 0:
            return 0
        if absolute:
            raise Interrupted(ERESTARTNOHAND) from None
        if remaining:
            yield from waiting(lambda: put(task, remaining, left))
        task.restart_block = lambda: _sleep(task, deadline, False, remaining, put)
        raise Interrupted(ERESTART_RESTARTBLOCK) from None
    return 0


@syscall(162, "nanosleep", 2)
def sys_nanosleep(task: Task, request: int, remaining: int) -> Generator[Wait, bool, int]:
    return _sleep(task, task.kernel.clock.now + get_timespec32(task, request), False, remaining, put_timespec32)


def _clock_nanosleep(
    task: Task, clock: int, flags: int, ns: int, remaining: int, put: Callable[[Task, int, int], None]
) -> Generator[Wait, bool, int]:
    if clock not in (CLOCK_REALTIME, CLOCK_MONOTONIC, 7, CLOCK_TAI, CLOCK_PROCESS_CPUTIME_ID):
        raise SysError(errno.EINVAL if clock > 11 else errno.EOPNOTSUPP)
    if flags & TIMER_ABSTIME:
        return _sleep(task, deadline_of(task, clock, ns), True, 0, put)
    return _sleep(task, task.kernel.clock.now + ns, False, remaining, put)


@syscall(267, "clock_nanosleep", 4)
def sys_clock_nanosleep(task: Task, clock: int, flags: int, request: int, remaining: int) -> Generator[Wait, bool, int]:
    return _clock_nanosleep(task, clock, flags, get_timespec32(task, request), remaining, put_timespec32)


@syscall(407, "clock_nanosleep_time64", 4)
def sys_clock_nanosleep_time64(
    task: Task, clock: int, flags: int, request: int, remaining: int
) -> Generator[Wait, bool, int]:
    return _clock_nanosleep(task, clock, flags, get_timespec64(task, request), remaining, put_timespec64)


# --- interval timers


@syscall(27, "alarm", 1)
def sys_alarm(task: Task, seconds: int) -> int:
    """The seconds that were left of the last one, rounded, never 0 if any time was left."""
    left, _ = task.kernel.timers.setitimer(task.signal, ITIMER_REAL, min(seconds, 0x7FFFFFFF) * NSEC, 0)
    whole, rest = divmod(left, NSEC)
    return whole + 1 if rest >= NSEC // 2 or (left and not whole) else whole


def _itimer(value: int, interval: int) -> bytes:
    return timeval32(interval) + timeval32(value)


@syscall(105, "getitimer", 2)
def sys_getitimer(task: Task, which: int, addr: int) -> int:
    if which > 2:
        raise SysError(errno.EINVAL)
    task.kernel.account()
    copy_to_user(task, addr, _itimer(*task.kernel.timers.getitimer(task.signal, which)))
    return 0


@syscall(104, "setitimer", 3)
def sys_setitimer(task: Task, which: int, new: int, old: int) -> int:
    interval = value = 0
    if new:
        data = copy_from_user(task, new, 16)
        interval, value = get_timeval32(data[:8]), get_timeval32(data[8:])
    if which > 2:
        raise SysError(errno.EINVAL)
    if old:
        prepare_result(task, old, 16)
    task.kernel.account()
    before = task.kernel.timers.setitimer(task.signal, which, value, interval)
    if old:
        copy_to_user(task, old, _itimer(*before))
    return 0


# --- POSIX timers


@syscall(259, "timer_create", 3)
def sys_timer_create(task: Task, clock: int, event: int, addr: int) -> int:
    timers = task.kernel.timers
    read_clock(task, clock)
    thread = None
    if event:
        value, sig, notify, tid = struct.unpack("<Iiii", copy_from_user(task, event, 16))
        if notify & SIGEV_THREAD_ID:
            thread = task.kernel.find_task(tid)
            if thread is None or thread.signal is not task.signal:
                raise SysError(errno.EINVAL)
    else:
        value, sig, notify = None, SIGALRM, SIGEV_SIGNAL
    prefault(task, addr, 4, True)
    ident = timers.create(task, clock, sig, notify, value, thread)
    put_user32(task, addr, ident)
    return 0


@syscall(263, "timer_delete", 1)
def sys_timer_delete(task: Task, ident: int) -> int:
    timers = task.kernel.timers
    timers.delete(timers.find(task, ident))
    return 0


@syscall(262, "timer_getoverrun", 1)
def sys_timer_getoverrun(task: Task, ident: int) -> int:
    return task.kernel.timers.find(task, ident).last_overrun


def _settime(task: Task, ident: int, flags: int, value: int, interval: int) -> tuple[int, int]:
    timers = task.kernel.timers
    timer = timers.find(task, ident)
    when = 0
    if value:
        when = deadline_of(task, timer.clock, value) if flags & TIMER_ABSTIME else timers.clock.now + value
        when = when or 1  # 0 means disarmed; a time long past is kept: every period since is an overrun
    return timers.settime(timer, when, interval)


@syscall(260, "timer_settime", 4)
def sys_timer_settime(task: Task, ident: int, flags: int, new: int, old: int) -> int:
    if not new:
        raise SysError(errno.EINVAL)
    interval, value = get_timespec32(task, new), get_timespec32(task, new + 8)
    if old:
        prepare_result(task, old, 16)
    left, period = _settime(task, ident, flags, value, interval)
    if old:
        put_timespec32(task, old, period)
        put_timespec32(task, old + 8, left)
    return 0


@syscall(409, "timer_settime64", 4)
def sys_timer_settime64(task: Task, ident: int, flags: int, new: int, old: int) -> int:
    if not new:
        raise SysError(errno.EINVAL)
    interval, value = get_timespec64(task, new), get_timespec64(task, new + 16)
    if old:
        prepare_result(task, old, 32)
    left, period = _settime(task, ident, flags, value, interval)
    if old:
        put_timespec64(task, old, period)
        put_timespec64(task, old + 16, left)
    return 0


@syscall(261, "timer_gettime", 2)
def sys_timer_gettime(task: Task, ident: int, addr: int) -> int:
    left, period = task.kernel.timers.gettime(task.kernel.timers.find(task, ident))
    put_timespec32(task, addr, period)
    put_timespec32(task, addr + 8, left)
    return 0


@syscall(408, "timer_gettime64", 2)
def sys_timer_gettime64(task: Task, ident: int, addr: int) -> int:
    left, period = task.kernel.timers.gettime(task.kernel.timers.find(task, ident))
    put_timespec64(task, addr, period)
    put_timespec64(task, addr + 16, left)
    return 0
