"""Clocks and timers of the guest: what time it is, setitimer, alarm, POSIX timers.

Everything runs on the virtual clock: ns since the first program started, at EPOCH by the calendar. The machine was
switched on BOOT_NS before that, and what counts from there (monotonic clocks, uptime) says so. With the host's clock
(for benchmarks) what the guest reads is the host's elapsed time plus the time that was skipped while every task slept;
deadlines stay virtual, and the disk takes none. Linux: kernel/itimer.c, kernel/posix-timers.c, 2.6.7.
"""

from __future__ import annotations

import errno
import struct
import time
from typing import TYPE_CHECKING

from mmcore.errors import SysError
from sandbox.fs.inode import BOOT_S
from sandbox.kernel.rlimits import RLIM_INFINITY, RLIMIT_CPU, RLIMIT_SIGPENDING
from sandbox.kernel.sched import TASK_ZOMBIE, TICK_NS
from sandbox.kernel.signals import send_group, send_timer
from sandbox.kernel.signo import NSIG, SI_KERNEL, SI_TIMER, SIGALRM, SIGKILL, SIGPROF, SIGVTALRM, SIGXCPU, SigInfo
from sandbox.kernel.task import SignalStruct, Task

if TYPE_CHECKING:
    from mmcore.clock import Timer
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task import IntervalTimer

EPOCH_NS = 1_085_184_000 * 1_000_000_000  # 2004-05-22 00:00:00 UTC
NSEC = 1_000_000_000
BOOT_NS = BOOT_S * NSEC
ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF = 0, 1, 2
SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, SIGEV_THREAD_ID = 0, 1, 2, 4
DELAYTIMER_MAX = 0x7FFFFFFF


class PosixTimer:
    """One timer_create: `expires` in virtual ns since boot (0: disarmed), `interval` ns."""

    __slots__ = (
        "ident",
        "signal",
        "clock",
        "sig",
        "notify",
        "value",
        "thread",
        "expires",
        "interval",
        "timer",
        "overrun",
        "last_overrun",
        "queued",
        "owner",
    )

    def __init__(
        self, ident: int, signal: SignalStruct, clock: int, sig: int, notify: int, value: int, thread: Task | None
    ) -> None:
        self.ident = ident
        self.signal = signal
        self.clock = clock
        self.sig = sig
        self.notify = notify
        self.value = value
        self.thread = thread
        self.expires = self.interval = 0
        self.timer: Timer | None = None
        self.overrun = self.last_overrun = 0
        self.queued: SigInfo | None = None  # the signal of its last expiry, till it is taken
        self.owner = 0  # the user whose RLIMIT_SIGPENDING it counts in


class Timers:
    """The guest's time for one machine."""

    def __init__(self, kernel: Kernel, host: bool) -> None:
        self.kernel = kernel
        self.clock = kernel.clock
        self.host = host
        self.host_start = time.perf_counter_ns()
        self.skipped = 0  # ns jumped over while all slept
        self.realtime_offset = EPOCH_NS - BOOT_NS

    # --- reading

    def elapsed(self) -> int:
        """ns since the first program started, by the clock that the guest reads."""
        if self.host:
            return time.perf_counter_ns() - self.host_start + self.skipped
        return self.clock.now

    def now(self) -> int:
        """Monotonic time as the guest reads it, ns since boot."""
        return self.elapsed() + BOOT_NS

    def realtime(self) -> int:
        """ns since 1970."""
        return self.now() + self.realtime_offset

    # --- setitimer

    def getitimer(self, signal: SignalStruct, which: int) -> tuple[int, int]:
        """(time left, interval), ns."""
        it = signal.itimers[which]
        left = it.expires
        if which == ITIMER_REAL and left:
            left = max(left - self.clock.now, 1000)
        return left, it.interval

    def setitimer(self, signal: SignalStruct, which: int, value: int, interval: int) -> tuple[int, int]:
        """Arms (value 0: disarms); the old setting."""
        old = self.getitimer(signal, which)
        it = signal.itimers[which]
        self.clock.cancel(it.timer)
        it.timer = None
        it.interval = interval
        it.expires = 0
        if value:
            if which == ITIMER_REAL:
                self._arm_real(signal, self.clock.now + value)
            else:
                it.expires = value
                self.kernel.loop.watch_cpu = True
        return old

    def _arm_real(self, signal: SignalStruct, when: int) -> None:
        it = signal.itimers[ITIMER_REAL]
        it.expires = when
        it.timer = self.clock.at(when, lambda: self._real_expired(signal))

    def _real_expired(self, signal: SignalStruct) -> None:
        it = signal.itimers[ITIMER_REAL]
        it.timer = None
        when, it.expires = it.expires, 0
        if it.interval:
            behind = max(0, self.clock.now - when) // it.interval
            self._arm_real(signal, when + it.interval * (behind + 1))
        send_group(signal.leader, SigInfo(SIGALRM, SI_KERNEL))

    def tick(self, task: Task, user: int, system: int) -> None:
        """`user` and `system` ns were used by the task since the last call: CPU-time timers and RLIMIT_CPU."""
        signal = task.signal
        _, virtual, prof = signal.itimers
        if virtual.expires:
            self._cpu_timer(signal, virtual, user, SIGVTALRM)
        if prof.expires:
            self._cpu_timer(signal, prof, user + system, SIGPROF)
        soft, hard = signal.rlimits[RLIMIT_CPU]
        if soft != RLIM_INFINITY:
            used = sum(signal.cpu_times()) // NSEC
            if used >= hard:
                send_group(task, SigInfo(SIGKILL, SI_KERNEL))
            elif used >= soft:
                send_group(task, SigInfo(SIGXCPU, SI_KERNEL))
                signal.rlimits[RLIMIT_CPU] = (used + 1, hard)

    @staticmethod
    def _cpu_timer(signal: SignalStruct, it: IntervalTimer, used: int, sig: int) -> None:
        it.expires -= used
        if it.expires <= 0:
            it.expires = max(it.expires + it.interval, 1) if it.interval else 0
            send_group(signal.leader, SigInfo(sig, SI_KERNEL))

    def cpu_timers_armed(self, signal: SignalStruct) -> bool:
        return bool(
            signal.itimers[1].expires or signal.itimers[2].expires or signal.rlimits[RLIMIT_CPU][0] != RLIM_INFINITY
        )

    def exit_itimers(self, signal: SignalStruct) -> None:
        """The process has ended."""
        for it in signal.itimers:
            self.clock.cancel(it.timer)
            it.timer = None
            it.expires = it.interval = 0
        self.forget_posix(signal)

    # --- POSIX timers

    def create(self, task: Task, clock: int, sig: int, notify: int, value: int | None, thread: Task | None) -> int:
        """A disarmed timer; its id. Raises EINVAL for a bad signal, EAGAIN where its signal finds no place within
        RLIMIT_SIGPENDING."""
        signal = task.signal
        if notify not in (SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD, SIGEV_SIGNAL | SIGEV_THREAD_ID) or (
            notify != SIGEV_NONE and not 0 < sig <= NSIG
        ):
            raise SysError(errno.EINVAL)
        pending = self.kernel.sigpending
        if pending[task.uid] >= signal.rlimits[RLIMIT_SIGPENDING][0]:
            raise SysError(errno.EAGAIN)
        pending[task.uid] += 1
        ident = signal.next_timer_id
        signal.next_timer_id += 1
        timer = signal.posix_timers[ident] = PosixTimer(
            ident, signal, clock, sig, notify, ident if value is None else value, thread
        )
        timer.owner = task.uid
        return ident

    @staticmethod
    def find(task: Task, ident: int) -> PosixTimer:
        timer = task.signal.posix_timers.get(ident)
        if timer is None:
            raise SysError(errno.EINVAL)
        return timer

    def gettime(self, timer: PosixTimer) -> tuple[int, int]:
        """(time left, interval), ns."""
        left = max(timer.expires - self.clock.now, 1) if timer.expires else 0
        return left, timer.interval

    def settime(self, timer: PosixTimer, when: int, interval: int) -> tuple[int, int]:
        """Arms for virtual time `when` (0: disarms); the old setting."""
        old = self.gettime(timer)
        self.clock.cancel(timer.timer)
        timer.timer = None
        timer.expires = 0
        timer.interval = interval
        timer.overrun = timer.last_overrun = 0
        timer.queued = None
        if when:
            self._arm(timer, when)
        return old

    def _arm(self, timer: PosixTimer, when: int) -> None:
        timer.expires = when
        timer.timer = self.clock.at(when, lambda: self._expired(timer))

    def _expired(self, timer: PosixTimer) -> None:
        timer.timer = None
        if timer.notify == SIGEV_NONE:
            timer.expires = 0
            return
        info = SigInfo(timer.sig, SI_TIMER, struct.pack("<iiI", timer.ident, 0, timer.value & 0xFFFFFFFF))
        info.timer = timer
        if timer.thread is not None and timer.thread.state < TASK_ZOMBIE:
            sent = send_timer(timer.thread, info, False)
        else:
            sent = send_timer(timer.signal.leader, info, True)
        timer.queued = info if sent else None
        when, timer.expires = timer.expires, 0
        if timer.interval:
            if timer.queued:
                timer.expires = when + timer.interval  # armed again when the signal is taken
            else:
                self._arm(timer, max(when + timer.interval, self.clock.now + TICK_NS // 100))

    def rearm(self, timer: PosixTimer, info: SigInfo) -> bool:
        """A timer's signal is being taken: counts the periods that passed meanwhile, starts the next. False: the timer
        was set anew or deleted since, and nobody gets the signal (6.13 and later; before, it still came). Linux:
        posixtimer_deliver_signal."""
        if timer.queued is not info:
            return False
        timer.queued = None
        timer.last_overrun = 0
        if timer.interval and timer.expires:
            now = self.clock.now
            if timer.expires <= now:
                missed = (now - timer.expires) // timer.interval + 1
                timer.last_overrun = min(missed, DELAYTIMER_MAX)
                timer.expires += missed * timer.interval
            self._arm(timer, timer.expires)
        info.fields = info.fields[:4] + struct.pack("<i", timer.last_overrun) + info.fields[8:]
        return True

    def delete(self, timer: PosixTimer) -> None:
        self.clock.cancel(timer.timer)
        timer.timer = timer.queued = None
        if timer.signal.posix_timers.pop(timer.ident, None) is not None:
            self.kernel.sigpending[timer.owner] -= 1

    def forget_posix(self, signal: SignalStruct) -> None:
        for timer in list(signal.posix_timers.values()):
            self.delete(timer)
