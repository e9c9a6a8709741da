"""The kernel as one object: its tasks, its clocks, its log; how it boots and how a run ends.

    kernel = Kernel(mem, cpu, vfs)                      vfs may be set later, before the first task
    kernel.spawn_init(b"/bin/prog", [b"prog"], [b"PATH=/bin"], files, fs)
    ending = kernel.run()                               sandbox.kernel.loop

Process 1 is init: it has no program, never runs, reaps whoever is left to it, and stands for the login shell: the
program is process 2, in init's session, leader of a process group of its own. The run goes on while any task is left,
so that background processes finish, but not for longer than LINGER_NS of work after the program itself has ended; each
timer that goes off while all sleep counts as WAKE_NS of it.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mmcore.errors import MustWait, SysError
from mmcore.physical.frames import PG_CODE
from mmcore.physical.pgtable import P
from sandbox.cpu.regs import EIP
from sandbox.kernel import crash
from sandbox.kernel.events import EventLog
from sandbox.kernel.exec import do_execve, open_exec
from sandbox.kernel.exit import do_exit, release_thread
from sandbox.kernel.loop import Loop
from sandbox.kernel.objects import KernelObjects
from sandbox.kernel.rlimits import RLIMIT_NOFILE
from sandbox.kernel.sched import (
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TASK_STOPPED,
    TASK_UNINTERRUPTIBLE,
    TASK_ZOMBIE,
    RunQueue,
    Wait,
)
from sandbox.kernel.signals import flush_queue
from sandbox.kernel.signo import SIGCHLD, SIGKILL, SigInfo
from sandbox.kernel.table import name_of
from sandbox.kernel.task import SigHand, SignalStruct, Task
from sandbox.kernel.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory
    from sandbox.cpu.context import Context
    from sandbox.cpu.errors import CpuError
    from sandbox.fs.fdtable import FileTable, FsStruct
    from sandbox.fs.vfs import Vfs
    from sandbox.kernel.futex import FutexWaiter
    from sandbox.kernel.sched import Call

PID_MAX = 32768
LINGER_NS = 60_000_000_000
MAX_WAITERS = 32  # lines about a deadlock
CRASHES_KEPT = 3  # reports in full; a parent can make crashing children without end


class Ending(NamedTuple):
    """How a run ended. `kind`: exited, signalled, time_limit, interrupted, deadlock, hung, oom_panic. `status` is
    the first program's exit code, `signal` what killed it, `detail` lines for people; `torn`: the machine was
    stopped in the middle of something, so its bookkeeping need not agree."""

    kind: str
    status: int | None
    signal: int | None
    detail: list[str]
    torn: bool = False


class TaskRecord(NamedTuple):
    """A process that has ended, or was there when the run did (`status` None). `peak_rss` in pages."""

    pid: int
    comm: str
    status: int | None
    peak_rss: int


class Trapped(Protocol):
    """The facts of the CPU's last trap. See Cpu.door."""

    @property
    def blocks(self) -> int:
        """Basic blocks executed."""

    @property
    def fault_address(self) -> int: ...

    @property
    def error_code(self) -> int: ...

    @property
    def vector(self) -> int: ...

    @property
    def pages(self) -> Sequence[int]:
        """Virtual page numbers executed from, `page_count` of them."""

    @property
    def page_count(self) -> int: ...


class Processor(Protocol):
    """What the kernel asks of the CPU (sandbox.cpu.Cpu, or one that stands before it)."""

    def new_context(self) -> Context: ...

    def door(self) -> tuple[Callable[..., int], Trapped]: ...

    def lost(self, ctx: Context, cr3: int) -> CpuError: ...

    def code_pages(self) -> list[int]: ...

    def flush_tlb(self) -> None: ...

    def flush_code(self) -> None: ...

    def set_tls(self, index: int, descriptor: int) -> None: ...


class Kernel:
    """One running system. `clock` "virtual" or "host"; `seed` turns address randomisation on and feeds random
    bytes; `time_limit` wall seconds or None. `mm_ended(task, mm, how)` is told before an address space is taken
    apart, at "exit" or "exec"; `tick_hook()` of every tick of the timer."""

    def __init__(
        self,
        mem: Memory,
        cpu: Processor,
        vfs: Vfs | None = None,
        *,
        clock: str = "virtual",
        seed: int | None = None,
        time_limit: float | None = None,
        mm_ended: Callable[[Task, Mm, str], None] | None = None,
        tick_hook: Callable[[], None] | None = None,
    ) -> None:
        self.mem = mem
        self.cpu = cpu
        self.vfs: Vfs = vfs  # type: ignore[assignment]  # may be set later
        self.clock = mem.clock
        self.objects = KernelObjects(mem)
        self.events = EventLog()
        self.log: Callable[[int], None] = self.events.append
        self.timers = Timers(self, clock == "host")
        self.host_clock = clock == "host"
        self.clock.models_waits = not self.host_clock
        self.time_limit = time_limit
        self.layout_rng = random.Random(seed) if seed is not None else None
        self.entropy = random.Random(0 if seed is None else seed ^ 0x5EED)
        self.tasks: dict[int, Task] = {}
        self.runq = RunQueue()
        self.current: Task | None = None
        self.next_pid = 1
        self.max_threads = max(20, mem.frames.nr // (8 * 2))  # 2.6.7: an eighth of memory in 8 KB stacks
        self.nr_tasks = 0
        self.total_forks = 0
        self.nr_switches = 0
        self.unknown_syscalls: Counter[int] = Counter()
        self.not_here: Counter[tuple[str, int]] = Counter()  # (what was asked for, errno): refused for want of it
        self.sigpending: Counter[int] = Counter()  # by user: queued signals, and timers, which hold a place for theirs
        self.futexes: dict[Hashable, list[FutexWaiter]] = {}  # key -> sleepers, oldest first
        self.records: list[TaskRecord] = []
        self.crashes: list[crash.CrashInfo] = []  # the first few in full
        self.more_crashes: Counter[tuple[str, int]] = Counter()  # (comm, signal) -> how many after those
        self.notes: list[str] = []
        self.main_status: int | None = None
        self.stop_requested: str | None = None
        self.tick_hook = tick_hook
        self.mm_ended = mm_ended
        self.linger_ns = LINGER_NS
        self.notes_code = mem.config.paging == "2level"  # without NX any page may hold code: the CPU says which do
        self.hostname = b"rmapbox"
        self.domainname = b"(none)"
        self.loop = Loop(self)
        self.program: Task | None = None  # leader of the first process
        self.init = self._make_init()

    # --- boot

    def _make_init(self) -> Task:
        init = Task(self, self.alloc_pid())
        init.comm = "init"
        init.signal = SignalStruct(0, init)
        init.signal.pgrp = init.signal.session = init.pid
        init.signal.is_session_leader = True
        init.sighand = SigHand(0)
        init.rlimits = init.signal.rlimits
        init.state = TASK_INTERRUPTIBLE  # asleep for ever
        self.tasks[init.pid] = init
        return init

    def spawn_init(self, path: bytes, argv: list[bytes], envp: list[bytes], files: FileTable, fs: FsStruct) -> Task:
        """The first program, ready to run: its image is loaded by the first thing the task does. The open files (a
        FileTable with the standard descriptors) and the FsStruct are the caller's gift."""
        objects = self.objects
        task = Task(self, self.alloc_pid())
        task.addr, task.stack = objects.alloc_task()
        task.files, task.fs = files, fs
        task.files_addr, task.fs_addr = objects.files.alloc(), objects.fs.alloc()
        task.sighand = SigHand(objects.sighand.alloc())
        signal = task.signal = SignalStruct(objects.signal.alloc(), task)
        task.rlimits = signal.rlimits
        signal.parent = self.init.signal
        self.init.signal.children[task] = None
        signal.session = self.init.signal.session
        signal.pgrp = task.pid
        self.program = signal.leader
        task.exit_signal = SIGCHLD
        task.comm = argv[0].rsplit(b"/", 1)[-1][:15].decode("utf-8", "surrogateescape") if argv else ""
        task.ctx = self.cpu.new_context()
        task.regs = task.ctx.regs
        task.start_ns = self.clock.now
        files.limit = signal.rlimits[RLIMIT_NOFILE][0]
        self.add_task(task)
        task.gen = self._start(task, path, argv, envp)
        task.state = TASK_RUNNING
        self.runq.append(task)
        return task

    def _start(self, task: Task, path: bytes, argv: list[bytes], envp: list[bytes]) -> Call:
        """The first task's first act. A program that cannot be started ends the run as a shell would: 126 or 127."""
        try:
            while True:
                try:
                    return (yield from do_execve(task, path, open_exec(task, path), argv, envp))
                except MustWait as wait:
                    yield Wait((wait.queue,), None, TASK_UNINTERRUPTIBLE)
        except SysError as error:
            self.note(f"{os.fsdecode(path)}: cannot be executed: {error}")
            yield from do_exit(task, (127 if error.errno == errno.ENOENT else 126) << 8)
            return 0

    # --- tasks

    def alloc_pid(self) -> int:
        """Next free pid, wrapping at PID_MAX to 300 as Linux does."""
        tasks = self.tasks
        pid = self.next_pid
        groups = None
        while True:
            if pid >= PID_MAX:
                pid = 300
            if pid not in tasks:
                if groups is None and self.total_forks >= PID_MAX - 300:
                    groups = {leader.signal.pgrp for leader in self.leaders()} | {
                        leader.signal.session for leader in self.leaders()
                    }
                if groups is None or pid not in groups:
                    break
            pid += 1
        self.next_pid = pid + 1
        return pid

    def add_task(self, task: Task) -> None:
        self.tasks[task.pid] = task
        self.nr_tasks += 1
        self.total_forks += 1

    def wake_up_new_task(self, task: Task) -> None:
        """A fresh child joins the end of the queue; the parent goes on."""
        self.runq.append(task)

    def find_task(self, pid: int) -> Task | None:
        """The thread of that id, zombies included."""
        return self.tasks.get(pid)

    def leaders(self) -> Iterator[Task]:
        """One task per process, oldest pid entry first; init included."""
        return iter([task for task in self.tasks.values() if task.signal.leader is task])

    def oom_candidates(self) -> list[Task]:
        """What the OOM killer may choose from."""
        return [task for task in self.tasks.values() if task.mm is not None]

    def change_leader(self, task: Task) -> None:
        """execve in a thread: it takes over the pid of the old leader, which is a zombie, and that one goes."""
        signal = task.signal
        old = signal.leader
        parent = signal.parent
        tasks = self.tasks
        del tasks[task.pid]
        task.pid, old.pid = old.pid, task.pid
        tasks[old.pid] = old
        tasks[task.pid] = task
        task.exit_signal = old.exit_signal
        task.start_ns = old.start_ns
        signal.leader = task
        if old is self.program:
            self.program = task
        if parent is not None:
            parent.children = {task if child is old else child: None for child in parent.children}
        release_thread(old)

    def forget_task(self, task: Task) -> None:
        """task_struct and stack are given back; the pid is free."""
        self.tasks.pop(task.pid, None)
        self.nr_tasks -= 1
        if task.stack >= 0:
            self.objects.free_task(task.addr, task.stack)
            task.stack = -1

    def release_process(self, leader: Task) -> None:
        """A zombie has been waited for. Linux: release_task."""
        signal = leader.signal
        release_thread(leader)
        if signal.parent is not None:
            signal.parent.children.pop(leader, None)
        flush_queue(self, signal.shared)
        if signal.addr:
            self.objects.signal.free(signal.addr)
            signal.addr = 0

    def process_ended(self, leader: Task) -> None:
        """A whole process has ended: kept for the report."""
        code = leader.signal.exit_code
        status = 128 + (code & 0x7F) if code & 0x7F else code >> 8 & 0xFF
        self.records.append(TaskRecord(leader.pid, leader.comm, status, leader.signal.maxrss))
        if leader is self.program and self.main_status is None:
            self.main_status = code
            self.loop.watch_cpu = True  # what is left may not run for ever

    def note_fatal(self, task: Task, info: SigInfo) -> None:
        """A signal is about to kill the task."""
        report = crash.crash_info(task, info)
        if report is not None:
            if len(self.crashes) < CRASHES_KEPT:
                self.crashes.append(report)
            else:
                self.more_crashes[report.comm, report.signal] += 1

    def note(self, line: str) -> None:
        """A line for the user after the run."""
        self.notes.append(line)

    # --- services

    def random_bytes(self, n: int) -> bytes:
        """Seeded; the same run gives the same bytes."""
        return self.entropy.randbytes(n)

    def mark_code(self, mm: Mm, state: Trapped, first: int) -> int:
        """The CPU has executed from pages of `mm`, listed in `state.pages` from `first` on: their frames may hold
        translated code. Returns how many pages are listed."""
        tables, flags = self.mem.pgtables, self.mem.frames.flags
        ptes, mask = tables.ptes, tables.PFN_MASK
        pages, count = state.pages, state.page_count
        for i in range(first, count):
            index = tables.pte_index(mm.pgd, pages[i] << 12)
            if index >= 0 and ptes[index] & P:
                flags[ptes[index] >> 12 & mask] |= PG_CODE
        return count

    def load_tls(self, task: Task) -> None:
        self.loop.load_tls(task)

    def account(self) -> None:
        """Brings the running task's CPU time up to date."""
        self.loop.account()

    def kill_everybody(self) -> None:
        """The end of a run that must not go on: every task gets SIGKILL."""
        for task in list(self.oom_candidates()):
            task.kill(SIGKILL)

    def run(self) -> Ending:
        """Runs until nothing is left to run; see Ending."""
        return self.loop.run()

    def ending(self, kind: str, detail: list[str] | None = None, torn: bool = False) -> Ending:
        code = self.main_status
        signal = code & 0x7F or None if code is not None else None
        status = code >> 8 & 0xFF if code is not None and not signal else None
        if kind == "exited" and signal:
            kind = "signalled"
        return Ending(kind, status, signal, [*(detail or []), *self.notes], torn)

    def task_records(self) -> list[TaskRecord]:
        """Processes by pid: those that ended, and those still there."""
        alive = [
            TaskRecord(
                task.pid, task.comm, None, max(task.signal.maxrss, task.mm.hiwater_rss if task.mm is not None else 0)
            )
            for task in self.leaders()
            if task is not self.init and task.state < TASK_ZOMBIE
        ]
        return sorted([*self.records, *alive])

    def event_hash(self) -> str:
        return self.events.digest()

    def must_stop(self) -> bool:
        """Whether the run is to end now (Ctrl-C, the limit of wall time): for whoever waits for the host in the middle
        of a system call."""
        if self.loop.deadline and time.monotonic() >= self.loop.deadline and self.stop_requested is None:
            self.stop_requested = "time_limit"
        return self.stop_requested is not None

    def describe_waiters(self) -> list[str]:
        """What every task waits for, one line each: the text of a deadlock."""
        lines: list[str] = []
        for task in self.tasks.values():
            if task is self.init or task.state == TASK_RUNNING or task.state >= TASK_ZOMBIE:
                continue
            if len(lines) == MAX_WAITERS:
                lines.append("and others")
                break
            where = name_of(task.syscall_nr) if task.gen is not None else f"eip {task.regs[EIP]:#010x}"
            queues = ", ".join(dict.fromkeys(queue.name for queue in task.queues)) or (
                "SIGCONT" if task.state == TASK_STOPPED else "a signal"
            )
            lines.append(f"{task.comm}[{task.pid}] in {where} waits for {queues}")
        return lines
