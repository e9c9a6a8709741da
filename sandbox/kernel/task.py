"""Tasks and what they share: the kernel objects behind pids, with their addresses in emulated low memory.

    Task (one per thread) ──> SignalStruct (one per process) ── children, rlimits, timers, shared pending signals
         │                ──> SigHand      (CLONE_SIGHAND)    ── 64 actions
         │                ──> FileTable    (CLONE_FILES), FsStruct  (CLONE_FS), Mm (CLONE_VM)
         └ ctx: registers; state; the parked generator of a system call that waits

Object sizes are those of a 2.6.7 i386 kernel: task_struct, the 8 KB stack beside it, signal_struct, sighand_struct,
files_struct, fs_struct, sigqueue. Linux: include/linux/sched.h, kernel/fork.c (proc_caches_init), 2.6.7.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mmcore.wait import WaitQueue
from sandbox.kernel.rlimits import default_rlimits
from sandbox.kernel.sched import (
    TASK_INTERRUPTIBLE,
    TASK_KILLABLE,
    TASK_RUNNING,
    TASK_STOPPED,
    WORK_RESCHED,
    WORK_SIGNAL,
)
from sandbox.kernel.signo import SI_KERNEL, SIG_IGN, SS_DISABLE, SigInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mmcore.areas.mm import Mm
    from mmcore.clock import Timer
    from sandbox.cpu.context import Context
    from sandbox.fs.fdtable import FileTable, FsStruct
    from sandbox.fs.file import File
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.sched import Call
    from sandbox.kernel.timers import PosixTimer

# name -> (bytes, aligned to the cache line as SLAB_HWCACHE_ALIGN). i386 sizes of 2.6.7's structs.
OBJECT_SIZES = {
    "task_struct": (1696, True),
    "signal_cache": (384, False),
    "sighand_cache": (1344, True),
    "files_cache": (512, True),
    "fs_cache": (64, True),
    "sigqueue": (148, False),
}
CAP_LAST_CAP = 40  # CAP_CHECKPOINT_RESTORE, 5.9
STACK_ORDER = 1  # THREAD_SIZE 8192

# PF_*; Linux: include/linux/sched.h, 2.6.7.
PF_STARTING = 0x2
PF_EXITING = 0x4
PF_DEAD = 0x8
PF_FORKNOEXEC = 0x40
PF_MEMALLOC = 0x800
PF_MEMDIE = 0x1000


class SigAction:
    """One entry of sighand: handler SIG_DFL, SIG_IGN or a guest address; `mask` blocked while it runs."""

    __slots__ = ("handler", "flags", "restorer", "mask")

    def __init__(self, handler: int = 0, flags: int = 0, restorer: int = 0, mask: int = 0) -> None:
        self.handler = handler
        self.flags = flags
        self.restorer = restorer
        self.mask = mask


DEFAULT_ACTION = SigAction()


class SigHand:
    """Actions of signals 1..64 (`action[sig]`); a SigAction is replaced, never changed, so a copy may share
    entries."""

    __slots__ = ("action", "users", "addr")

    def __init__(self, addr: int, action: list[SigAction] | None = None) -> None:
        self.action = list(action) if action else [DEFAULT_ACTION] * 65
        self.users = 1
        self.addr = addr

    def flush(self) -> None:
        """exec: handlers go back to default, ignored signals stay ignored."""
        self.action = [SigAction(SIG_IGN) if entry.handler == SIG_IGN else DEFAULT_ACTION for entry in self.action]


class Pending:
    """Queued signals: `set` has the bits, `queue` the infos in order of arrival."""

    __slots__ = ("set", "queue")

    def __init__(self) -> None:
        self.set = 0
        self.queue: deque[tuple[SigInfo, int]] = deque()  # (info, address of its sigqueue object)


class IntervalTimer:
    """setitimer's two halves, in ns. For ITIMER_REAL `timer` is armed on the clock and `expires` absolute; for the
    CPU-time timers `expires` is the CPU time left."""

    __slots__ = ("expires", "interval", "timer")

    def __init__(self) -> None:
        self.expires = 0
        self.interval = 0
        self.timer: Timer | None = None


class SignalStruct:
    """What the threads of one process share (struct signal_struct, and the process's place among its relatives)."""

    __slots__ = (
        "addr",
        "leader",
        "threads",
        "live",
        "shared",
        "group_exit",
        "exit_code",
        "group_stop",
        "stop_code",
        "stop_left",
        "continued",
        "parent",
        "children",
        "wait_chldexit",
        "pgrp",
        "session",
        "is_session_leader",
        "rlimits",
        "itimers",
        "posix_timers",
        "next_timer_id",
        "utime_ns",
        "stime_ns",
        "min_flt",
        "maj_flt",
        "nvcsw",
        "nivcsw",
        "cutime_ns",
        "cstime_ns",
        "cmin_flt",
        "cmaj_flt",
        "maxrss",
        "cmaxrss",
        "group_exec",
        "exec_wait",
        "oom_score_adj",
        "did_exec",
        "subreaper",
    )

    def __init__(self, addr: int, leader: Task) -> None:
        self.addr = addr
        self.leader = leader
        self.threads: dict[Task, None] = {leader: None}
        self.live = 1  # threads that have not begun to exit
        self.shared = Pending()
        self.group_exit = False
        self.exit_code = 0
        self.group_stop = 0  # the signal of a stop under way or done
        self.stop_left = 0  # threads that have yet to stop
        self.stop_code = 0  # waitable: stopped by this signal, not yet reported
        self.continued = False  # waitable: continued, not yet reported
        self.parent: SignalStruct | None = None
        self.children: dict[Task, None] = {}  # leaders of child processes, oldest first
        self.wait_chldexit = WaitQueue("exit of a child")
        self.pgrp = 0
        self.session = 0
        self.is_session_leader = False
        self.rlimits = default_rlimits()
        self.itimers = (IntervalTimer(), IntervalTimer(), IntervalTimer())
        self.posix_timers: dict[int, PosixTimer] = {}
        self.next_timer_id = 0
        self.utime_ns = self.stime_ns = self.cutime_ns = self.cstime_ns = 0  # of threads gone; of children reaped
        self.min_flt = self.maj_flt = self.cmin_flt = self.cmaj_flt = self.nvcsw = self.nivcsw = 0
        self.maxrss = self.cmaxrss = 0  # pages
        self.group_exec: Task | None = None  # the thread in execve that waits for the others to die
        self.exec_wait = WaitQueue("exit of the other threads (execve)")
        self.oom_score_adj = 0
        self.did_exec = False
        self.subreaper = False

    def cpu_times(self) -> tuple[int, int]:
        """(user, system) ns of the whole process: living threads and those gone."""
        user, system = self.utime_ns, self.stime_ns
        for task in self.threads:
            user += task.utime_ns
            system += task.stime_ns
        return user, system


class Task:
    """One thread (struct task_struct). Attributes others may read: pid, tgid, comm, mm, files, fs, signal, state, ids,
    counters."""

    __slots__ = (
        "kernel",
        "mem",
        "pid",
        "tgid",
        "signal",
        "sighand",
        "comm",
        "mm",
        "ctx",
        "regs",
        "files",
        "fs",
        "files_addr",
        "fs_addr",
        "state",
        "flags",
        "work",
        "gen",
        "value",
        "queues",
        "timer",
        "syscall_nr",
        "restart_nr",
        "restart_block",
        "deferred",
        "blocked",
        "real_blocked",
        "saved_sigmask",
        "pending",
        "sas_ss_sp",
        "sas_ss_size",
        "sas_ss_flags",
        "tls",
        "exit_code",
        "exit_signal",
        "pdeath_signal",
        "clear_child_tid",
        "set_child_tid",
        "robust_list",
        "vfork_done",
        "pins",
        "addr",
        "stack",
        "min_flt",
        "maj_flt",
        "utime_ns",
        "stime_ns",
        "nvcsw",
        "nivcsw",
        "start_ns",
        "nice",
        "personality",
        "policy",
        "rt_priority",
        "trap_no",
        "error_code",
        "cr2",
        "memdie",
        "uid",
        "euid",
        "suid",
        "fsuid",
        "gid",
        "egid",
        "sgid",
        "fsgid",
        "groups",
        "keep_caps",
        "exec_file",
        "no_new_privs",
        "timer_slack",
        "default_timer_slack",
        "cap_bset",
        "no_tsc",
        "rlimits",
        "fault_major",
        "swapoff",
        "woken_ns",
        "owed_ns",
        "ahead",
        "slice_left",
    )

    def __init__(self, kernel: Kernel, pid: int) -> None:
        self.kernel = kernel
        self.mem = kernel.mem
        self.pid = self.tgid = pid
        self.signal: SignalStruct = None  # type: ignore[assignment]  # set by whoever builds the task
        self.sighand: SigHand = None  # type: ignore[assignment]
        self.comm: str = ""  # the name of the program
        # The next five are None of init, and mm, files and fs of a task that has exited: whoever looks at another task
        # than the current one asks first.
        self.mm: Mm = None  # type: ignore[assignment]
        self.ctx: Context = None  # type: ignore[assignment]
        self.regs: memoryview[int] = None  # type: ignore[assignment]
        self.files: FileTable = None  # type: ignore[assignment]
        self.files_addr = 0
        self.fs: FsStruct = None  # type: ignore[assignment]
        self.fs_addr = 0
        self.state = TASK_RUNNING
        self.flags = 0
        self.work = 0
        self.gen: Call | None = None  # the parked system call
        self.value: bool | None = None  # what the parked call is resumed with
        self.queues: Sequence[WaitQueue] = ()
        self.timer: Timer | None = None
        self.syscall_nr = -1
        self.restart_nr = -1  # number of the call that a signal interrupted, till the signal is dealt with
        self.restart_block: Callable[[], Call] | None = None  # what restart_syscall does
        self.deferred: tuple[SigInfo, SigAction] | None = (
            None  # a signal taken off the queue whose frame has to wait for memory
        )
        self.blocked = 0
        self.real_blocked = 0  # rt_sigtimedwait: what was blocked before the signals it waits for were let in
        self.saved_sigmask: int | None = None  # sigsuspend, ppoll, pselect: put back after the handler
        self.pending = Pending()
        self.sas_ss_sp = self.sas_ss_size = 0
        self.sas_ss_flags = SS_DISABLE
        self.tls: tuple[int, ...] = (0, 0, 0)  # descriptors of GDT entries 6, 7 and 8
        self.exit_code = 0
        self.exit_signal = 0
        self.pdeath_signal = 0
        self.clear_child_tid = self.set_child_tid = self.robust_list = 0
        self.vfork_done: WaitQueue | None = None
        self.pins: list[int] = []
        self.addr = 0
        self.stack = -1
        self.personality = 0
        self.trap_no = self.error_code = self.cr2 = 0
        self.memdie = False
        self.swapoff = False  # in swapoff: the first to go when memory runs out
        self.exec_file: File | None = None
        self.no_tsc = False  # rdtsc is SIGSEGV
        self.rlimits: list[tuple[int, int]] = []  # the process's, the same list
        self.fault_major = False  # the core's: the fault under way had to wait
        self._set_times()
        self._set_credentials()

    def _set_times(self) -> None:
        """What the scheduler and the accounting keep: nothing yet."""
        self.min_flt = self.maj_flt = self.utime_ns = self.stime_ns = self.nvcsw = self.nivcsw = 0
        self.start_ns = 0
        self.nice = 0
        self.woken_ns = -1  # when it was woken, till it runs
        self.owed_ns = 0  # how long it stood in the queue after wake-ups
        self.ahead = False  # woken with a turn owed: stands in front of the queue
        self.slice_left = 0  # of the slice it was preempted in
        self.policy = self.rt_priority = 0
        self.timer_slack = self.default_timer_slack = 50_000  # ns; shown and inherited: timers here are exact

    def _set_credentials(self) -> None:
        """Root's, with every capability."""
        self.uid = self.euid = self.suid = self.fsuid = self.gid = self.egid = self.sgid = self.fsgid = 0
        self.groups: tuple[int, ...] = ()
        self.keep_caps = False
        self.no_new_privs = False
        self.cap_bset = (1 << CAP_LAST_CAP + 1) - 1

    def __repr__(self) -> str:
        return f"<{self.comm or 'task'}[{self.pid}]>"

    @property
    def ppid(self) -> int:
        """The parent process as the guest sees it; 0 for init."""
        parent = self.signal.parent
        return parent.leader.tgid if parent is not None else 0

    @property
    def cpu_ns(self) -> int:
        """User and system time of the whole process, ns (the OOM killer's badness)."""
        user, system = self.signal.cpu_times()
        return user + system

    def kill(self, sig: int) -> None:
        """A signal from the kernel to the whole process (SEND_SIG_PRIV)."""
        from sandbox.kernel.signals import send_group  # the two modules need each other

        send_group(self, SigInfo(sig, SI_KERNEL))

    # --- waiting: a task is its own entry on wait queues

    def wake(self, queue: WaitQueue | None) -> None:
        """Called by a WaitQueue that has already dropped the task."""
        if 0 < self.state <= TASK_KILLABLE:
            for other in self.queues:
                if other is not queue:
                    other.remove(self)
            self.queues = ()
            if self.timer is not None:
                self.kernel.clock.cancel(self.timer)
                self.timer = None
            self.value = True
            self.state = TASK_RUNNING
            kernel = self.kernel
            if kernel.runq.put_woken(self, kernel.clock.now) and kernel.current is not None:
                kernel.current.work |= WORK_RESCHED

    def timed_out(self) -> None:
        """The deadline of the Wait has passed."""
        if self.timer is not None:
            self.timer = None
            self.wake(None)
            self.value = False

    def interrupt(self, kill: bool = False) -> None:
        """A signal became pending: it is looked at before user mode, and ends an interruptible wait now. `kill`: it
        is fatal."""
        self.work |= WORK_SIGNAL
        state = self.state
        if state == TASK_INTERRUPTIBLE or (kill and state == TASK_KILLABLE):
            self.wake(None)
        elif kill and state == TASK_STOPPED:
            self.state = TASK_RUNNING
            self.kernel.runq.append(self)
