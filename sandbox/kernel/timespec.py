"""The guest's structures of time, and the deadlines they mean. All results in ns."""

from __future__ import annotations

import errno
import struct

from mmcore.errors import SysError
from sandbox.kernel.task import Task
from sandbox.kernel.uaccess import copy_from_user, copy_to_user

NSEC = 1_000_000_000
KTIME_MAX = (1 << 63) - 1
CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID = range(4)
CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME = range(4, 8)
CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM, _, CLOCK_TAI = range(8, 12)
WALL_CLOCKS = (CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_REALTIME_ALARM, CLOCK_TAI)
MONOTONIC_CLOCKS = (CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM)


def _ns(seconds: int, nanoseconds: int) -> int:
    if seconds < 0 or not 0 <= nanoseconds < NSEC:
        raise SysError(errno.EINVAL)
    return min(seconds * NSEC + nanoseconds, KTIME_MAX)


def get_timespec32(task: Task, addr: int) -> int:
    """struct old_timespec32. Raises EFAULT, EINVAL."""
    return _ns(*struct.unpack("<ii", copy_from_user(task, addr, 8)))


def get_timespec64(task: Task, addr: int) -> int:
    """struct __kernel_timespec; the upper half of tv_nsec is padding for 32-bit programs."""
    seconds, nanoseconds = struct.unpack("<qIxxxx", copy_from_user(task, addr, 16))
    return _ns(seconds, nanoseconds)


def put_timespec32(task: Task, addr: int, ns: int) -> None:
    copy_to_user(task, addr, struct.pack("<II", ns // NSEC & 0xFFFFFFFF, ns % NSEC))


def put_timespec64(task: Task, addr: int, ns: int) -> None:
    copy_to_user(task, addr, struct.pack("<qq", ns // NSEC, ns % NSEC))


def timeval32(ns: int) -> bytes:
    """struct timeval of i386: whole microseconds."""
    return struct.pack("<II", ns // NSEC & 0xFFFFFFFF, ns % NSEC // 1000)


def get_timeval32(data: bytes) -> int:
    """ns; raises EINVAL."""
    seconds, micro = struct.unpack("<ii", data)
    if seconds < 0 or not 0 <= micro < 1_000_000:
        raise SysError(errno.EINVAL)
    return seconds * NSEC + micro * 1000


def deadline_of(task: Task, clock: int, ns: int) -> int:
    """Virtual time at which the guest's `clock` will show `ns`."""
    timers = task.kernel.timers
    shown = timers.realtime() if clock in WALL_CLOCKS else timers.now()
    return task.kernel.clock.now + ns - shown
