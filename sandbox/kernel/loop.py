"""The main loop: pick a task, let the CPU run it, do what the trap asks for, pick again.

    run ── pick ──> resume a parked call ──> exit_to_user (signals) ──> cpu.run <─> trap ...
             └ nobody: idle ── kswapd, time jumps to the next timer ── none left: done, or deadlock

Time is charged per basic block and per trap (sandbox.kernel.sched).
"""

from __future__ import annotations

import signal as host_signal
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING

from mmcore.errors import Hung, MustWait, NotHere, OomPanic, SysError
from mmcore.paging.fault import COPIED, DONE, OOM
from sandbox.cpu.regs import EAX, EBP, EBX, ECX, EDI, EDX, EIP, ESI
from sandbox.cpu.trap import BUDGET, PAGE_FAULT, PF_PROT, SYSCALL
from sandbox.hostsignals import handle_interrupt, restore_interrupt
from sandbox.kernel import traps
from sandbox.kernel.coredump import killed
from sandbox.kernel.deliver import do_signal
from sandbox.kernel.events import EVENT_FAULT, EVENT_SWITCH, EVENT_TRAP
from sandbox.kernel.exit import do_exit
from sandbox.kernel.sched import (
    EINTR,
    NS_PER_BLOCK_SHIFT,
    TASK_INTERRUPTIBLE,
    TASK_STOPPED,
    TASK_UNINTERRUPTIBLE,
    TASK_ZOMBIE,
    TICK_NS,
    TRAP_NS,
    WORK_PINS,
    WORK_RELOAD,
    WORK_RESCHED,
    WORK_SIGNAL,
    WORK_YIELD,
    Interrupted,
    slice_of,
)
from sandbox.kernel.signals import force_sig, signal_pending
from sandbox.kernel.signo import SI_KERNEL, SIGKILL, SigInfo
from sandbox.kernel.table import EVENT_SYSCALL, NR_SYSCALLS, table
from sandbox.kernel.task import PF_EXITING, Task
from sandbox.kernel.uaccess import unpin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmcore.areas.mm import Mm
    from mmcore.wait import WaitQueue
    from sandbox.hostsignals import Previous
    from sandbox.kernel.kernel import Ending, Kernel
    from sandbox.kernel.sched import Call
    from sandbox.kernel.table import Handler

ENOSYS = 38
FAULT_WAITS = EVENT_FAULT | 5 << 40
FAULT_DONE = tuple(EVENT_FAULT | error_code << 32 for error_code in range(32))


OVERRUN_S = 2.0
"""Wall seconds beyond the time limit after which the machine is stopped in the middle of what it does."""


WAKE_NS = 1_000_000
"""Of work, that a timer which ends idleness counts for once the program has ended: a daemon that sleeps in a loop, or a
timer that nobody hears, would never come by its LINGER_NS."""


def _enosys(_task: Task) -> int:
    return -ENOSYS & 0xFFFFFFFF


class Overrun(BaseException):
    """The machine itself has used up the time."""


class Loop:
    """The scheduler's and the trap handler's half of the kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.mem = kernel.mem
        self.cpu = kernel.cpu
        self.clock = kernel.clock
        self.task: Task | None = None
        self.tls: tuple[int, ...] = (0, 0, 0)
        self.blocks = 0  # of user code since the last accounting
        self.accounted = 0  # virtual time up to which CPU time is accounted
        self.user_ns = self.nice_ns = self.system_ns = 0  # of all tasks since the start
        self.next_tick = TICK_NS
        self.deadline = 0.0
        self.alarm_at = 0.0  # host's monotonic time of our own SIGALRM
        self.foreign_alarm: Previous = None  # who had SIGALRM before
        self.watch_cpu = (
            False  # somebody wants to know of CPU time as it passes: CPU timers, limits, the end of the run
        )
        self.busy_since_end = 0
        self.slice_end = 0
        self.enter, self.trapped = self.cpu.door()
        self.mm: Mm | None = None  # whose page tables the CPU walked last, and their root
        self.root = -1
        self.unpaid = 0  # EIP of a store that is to do a flush's work (see _page_fault)

    # --- the whole run

    def run(self) -> Ending:
        kernel = self.kernel
        limit = kernel.time_limit
        self.deadline = time.monotonic() + limit if limit else 0.0
        main_thread = threading.current_thread() is threading.main_thread()
        if main_thread:
            interrupt = handle_interrupt(self._on_sigint)
            self.foreign_alarm = host_signal.signal(host_signal.SIGALRM, self._on_alarm)
            if limit:
                self._set_alarm(limit + OVERRUN_S)
        try:
            return self._run()
        except Overrun:
            return kernel.ending("time_limit", ["it passed while the machine, not the program, was at work"], torn=True)
        except OomPanic as panic:
            return kernel.ending("oom_panic", [str(panic)])
        except Hung as hung:
            return kernel.ending("hung", [str(hung), *self._what_walks_found(), *kernel.describe_waiters()])
        except KeyboardInterrupt:
            return kernel.ending("interrupted", torn=True)
        finally:
            if main_thread:
                if self.alarm_at:
                    host_signal.setitimer(host_signal.ITIMER_REAL, 0)
                if self.foreign_alarm is not None:
                    host_signal.signal(host_signal.SIGALRM, self.foreign_alarm)
                restore_interrupt(interrupt)
            self.account()

    def _set_alarm(self, seconds: float) -> None:
        self.alarm_at = time.monotonic() + seconds
        host_signal.setitimer(host_signal.ITIMER_REAL, seconds)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        """Ours: the time limit or Ctrl-C is long past and nobody looked (a scheme that never ends, a call that takes
        for ever). One that comes earlier is somebody else's, and does what it would have done without us."""
        if not self.alarm_at or time.monotonic() < self.alarm_at - 0.05:
            if callable(self.foreign_alarm):
                self.foreign_alarm(number, frame)
            elif self.foreign_alarm == host_signal.SIG_DFL:
                host_signal.signal(number, host_signal.SIG_DFL)
                host_signal.raise_signal(number)
            return
        if self.kernel.stop_requested == "interrupted":
            raise KeyboardInterrupt
        raise Overrun

    def _on_sigint(self, _number: int, _frame: FrameType | None) -> None:
        """The first Ctrl-C ends the run between two slices, or after a grace where no slice ends; the second one at
        once."""
        if self.kernel.stop_requested:
            raise KeyboardInterrupt
        self.kernel.stop_requested = "interrupted"
        self._set_alarm(OVERRUN_S)

    def _what_walks_found(self) -> list[str]:
        """Memory that reclaim cannot get may be the scheme's doing: one that does not find PTEs keeps every page where
        it is."""
        scheme, meters = self.mem.scheme, self.mem.meters
        if scheme.env.setup.incomplete:
            return [
                f"scheme {scheme.card.name}: {scheme.env.setup.incomplete}; pages whose PTEs are not found cannot be "
                f"swapped out"
            ]
        if meters.walks > 100 * max(meters.hits, 1):
            return [
                f"scheme {scheme.card.name}: {meters.walks} walks found {meters.hits} PTEs; --audit full tells "
                f"whether it misses any"
            ]
        return []

    def _run(self) -> Ending:
        """Pick a task, give it its turn, again, until the run is over."""
        kernel, clock, reclaim = self.kernel, self.clock, self.mem.reclaim
        runq = kernel.runq
        while True:
            if clock.now >= self.next_tick:
                self._tick()
                if kernel.stop_requested is not None:
                    return kernel.ending(kernel.stop_requested)
            if reclaim.kswapd_wanted:
                reclaim.kswapd()
            if not runq:
                end = self._idle()
                if end is not None:
                    return end
                continue
            task = runq.popleft()
            if task.state:  # it was in the queue twice, and died meanwhile
                continue
            if task is not self.task:
                self._switch_to(task)
            self._begin_turn(task)
            gen = task.gen
            if gen is not None and not self._resume(task, gen):
                continue
            if task.work and not self.exit_to_user(task):
                continue
            self._user_mode(task)

    # --- user mode and its traps

    def _user_mode(self, task: Task) -> None:  # noqa: C901, PLR0915 HOT: 90 ns a call
        """The program runs, and what it traps for is done, until the task gives way: it waits, its slice is over, it
        has another address space, it is dead.

        HOT: what it touches per trap is a local or one attribute away, and calls are dispatched in line: in a method of
        its own the dispatch costs 90 ns more (of the 1,300 ns of a getppid, guest and all).
        """
        kernel, clock, mem = self.kernel, self.clock, self.mem
        enter, trapped = self.enter, self.trapped
        notes_code, entries, log = kernel.notes_code, table, kernel.log
        reclaim, awaited = mem.reclaim, mem.awaited
        waiting = awaited.held
        regs, mm = task.regs, task.mm
        cpu_task, root = task.ctx.door(), mm.pgd
        if root == self.root and mm is not self.mm:  # the root belonged to an address space that is gone
            self.cpu.flush_tlb()
        self.root, self.mm = root, mm
        if notes_code:
            self.cpu.code_pages()
        noted = 0  # of trapped.pages: how many of the executed pages are marked
        limit = 0  # virtual time at which something else is due
        while True:
            if mm.flush_pending or mem.flush_code:
                noted = self._flush(mm, noted)
            now = clock.now
            if now >= limit or clock.due < limit:
                limit = min(clock.due, self.slice_end, self.next_tick)
                if now >= limit:
                    if not self._something_due(task, mm):
                        return
                    continue
            kind = enter(trapped, cpu_task, root, (limit - now >> NS_PER_BLOCK_SHIFT) + 1)
            blocks = trapped.blocks
            self.blocks += blocks
            clock.now = now + (blocks << NS_PER_BLOCK_SHIFT) + TRAP_NS
            if self.unpaid:
                if regs[EIP] == self.unpaid:
                    mm.flush_pending = True  # the instruction did not get as far as its store
                self.unpaid = 0
            if notes_code and trapped.page_count != noted:
                noted = kernel.mark_code(mm, trapped, noted)

            if kind == SYSCALL:
                nr = regs[EAX]
                entry = entries[nr] if nr < NR_SYSCALLS else None
                if entry is None:
                    entry = self._unknown(nr)
                function, nargs, tag = entry
                try:
                    if nargs == 3:
                        result = function(task, regs[EBX], regs[ECX], regs[EDX])
                    elif nargs == 0:
                        result = function(task)
                    elif nargs == 1:
                        result = function(task, regs[EBX])
                    elif nargs == 2:
                        result = function(task, regs[EBX], regs[ECX])
                    elif nargs == 4:
                        result = function(task, regs[EBX], regs[ECX], regs[EDX], regs[ESI])
                    elif nargs == 5:
                        result = function(task, regs[EBX], regs[ECX], regs[EDX], regs[ESI], regs[EDI])
                    else:
                        result = function(task, regs[EBX], regs[ECX], regs[EDX], regs[ESI], regs[EDI], regs[EBP])
                except SysError as error:
                    result = self._failed(error)
                except MustWait as wait:
                    self.restart_later(task, wait)
                    return
                if result.__class__ is int:
                    regs[EAX] = result
                    log(tag | result)
                else:
                    task.syscall_nr = nr
                    if not self._drive(task, result, None):  # type: ignore[arg-type]  # not an int
                        return
            elif kind == PAGE_FAULT:
                if not self._page_fault(task, mm):
                    return
            elif kind != BUDGET:
                self._exception(task, kind, root)

            if waiting and task in waiting:  # the access that waited is made, or given up
                awaited.let_go(task)
            if reclaim.kswapd_wanted:
                reclaim.kswapd()
            if task.work and not self._work_pending(task, mm):
                return

    def _flush(self, mm: Mm, noted: int) -> int:
        """What is owed to the TLB and to translated code. Returns how many of the pages executed since are marked:
        `noted`, or 0 where other frames may lie under them."""
        mem, cpu = self.mem, self.cpu
        if mm.flush_pending:
            cpu.flush_tlb()
            mm.flush_pending = False
            if self.kernel.notes_code:
                cpu.code_pages()
                noted = 0
        if mem.flush_code:
            cpu.flush_code()
            mem.flush_code = False
        return noted

    def _page_fault(self, task: Task, mm: Mm) -> bool:
        """False: the page is under way, and the task waits for it; then the instruction starts over."""
        log = self.kernel.log
        address, error_code = self.trapped.fault_address, self.trapped.error_code
        try:
            answer = self.mem.faults.do_page_fault(mm, address, error_code)
        except MustWait as wait:
            log(FAULT_WAITS | error_code << 32 | address)
            self.park(task, (wait.queue,), None, TASK_UNINTERRUPTIBLE)
            return False
        if answer <= DONE:
            if answer == COPIED and error_code & PF_PROT and not (task.work or self.kernel.notes_code):
                # The TLB still reads the old frame at this address, but the store that faulted runs before anything
                # else does and fills that entry anew: no flush, once it has run (tests/cpu holds Unicorn to it).
                # Flushing all is what copy on write costs most.
                mm.flush_pending = False
                self.unpaid = task.regs[EIP]
            log(FAULT_DONE[error_code] | address)
            return True
        log(EVENT_FAULT | answer << 40 | error_code << 32 | address)
        if answer == OOM:
            self._out_of_memory(task)
        else:
            traps.bad_area(task, answer, address, error_code)
        return True

    def _exception(self, task: Task, kind: int, root: int) -> None:
        """Neither a call nor a fault: a signal; or the emulator lost its way (`kind` is negative)."""
        self.kernel.log(EVENT_TRAP | (kind & 0xFF) << 32 | task.regs[EIP])
        if kind < 0:
            traps.state_lost(task, self.cpu.lost(task.ctx, root))
        else:
            traps.do_trap(task, kind, self.trapped.error_code, self.trapped.vector)

    def _work_pending(self, task: Task, mm: Mm) -> bool:
        """Something else runs before the program goes on. False: the program does not."""
        self._pay_flush(mm)
        reload = task.work & WORK_RELOAD
        if not self.exit_to_user(task):
            return False
        if reload:  # exec: another address space
            self.kernel.runq.appendleft(task)
        return not reload

    def _pay_flush(self, mm: Mm) -> None:
        """The store that was to renew the TLB's entry does not run next."""
        if self.unpaid:
            mm.flush_pending = True
            self.unpaid = 0

    def _something_due(self, task: Task, mm: Mm) -> bool:
        """Timers, the tick, or the end of the slice. False: the task gives way (it stands in the queue again, or
        waits)."""
        kernel, clock = self.kernel, self.clock
        self._pay_flush(mm)
        if clock.now >= clock.due:
            clock.run_due()
        if clock.now >= self.next_tick:
            self.account()
            self._tick()
            if kernel.stop_requested is not None:
                self.next_tick = 0  # the outer loop looks
                kernel.runq.appendleft(task)
                return False
        if task.work and not self.exit_to_user(task):
            return False
        if clock.now < self.slice_end:
            return True
        if kernel.runq:
            task.nivcsw += 1
        kernel.runq.append(task)
        return False

    def _unknown(self, nr: int) -> tuple[Handler, int, int]:
        """The table's entry for a system call that is not there: counted, and ENOSYS."""
        self.kernel.unknown_syscalls[nr] += 1
        return _enosys, 0, EVENT_SYSCALL | (nr & 0xFFFF) << 32

    def _failed(self, error: SysError) -> int:
        """-errno as EAX holds it; refusals of what this machine does not have are counted."""
        if error.__class__ is NotHere:
            self.kernel.not_here[error.why, error.errno] += 1
        return -error.errno & 0xFFFFFFFF

    def _idle(self) -> Ending | None:
        """Nobody can run. Time jumps to the next timer; without one the run is over."""
        kernel, clock = self.kernel, self.clock
        if self.task is not None:
            self.account()
            self.task = None
        due = clock.next_due()
        alive = kernel.nr_tasks
        if not alive:
            return kernel.ending("exited")
        if due is not None:
            skipped = due - clock.now
            if skipped > 0:
                kernel.timers.skipped += skipped
            if kernel.main_status is not None and self.mem.disk.idle:  # who waits for the disk gets on with its work
                self.busy_since_end += WAKE_NS
            self.accounted = max(due, clock.now)
            clock.advance_to(due)
            self.accounted = clock.now
            return None
        waiters = kernel.describe_waiters()
        if kernel.main_status is not None:
            return kernel.ending("exited")
        return kernel.ending("deadlock", waiters)

    def _tick(self) -> None:
        """Every TICK_NS of virtual time, between two slices: limits of the run, the log's buffer, whoever watches."""
        kernel = self.kernel
        self.next_tick = self.clock.now + TICK_NS
        kernel.events.fold()
        if kernel.host_clock:
            self._follow_host()
        if self.deadline and time.monotonic() >= self.deadline:
            kernel.stop_requested = "time_limit"
        if kernel.main_status is not None and self.busy_since_end > kernel.linger_ns:
            kernel.stop_requested = "exited"
        if kernel.tick_hook is not None:
            kernel.tick_hook()

    def _follow_host(self) -> None:
        behind = self.kernel.timers.elapsed() - self.clock.now
        if behind > 0:
            self.clock.charge(behind)

    # --- switching

    def _switch_to(self, task: Task) -> None:
        kernel, clock = self.kernel, self.clock
        last = self.task
        now = clock.now
        if last is not None:
            if self.watch_cpu:
                self.account()
            else:
                user = self.blocks << NS_PER_BLOCK_SHIFT
                self._charge(last, user, now - self.accounted - user)
        self.accounted = now
        self.blocks = 0
        self.task = kernel.current = self.mem.current = task
        kernel.nr_switches += 1
        kernel.log(EVENT_SWITCH | task.pid)
        kernel.log(now)
        if task.tls != self.tls:
            self.load_tls(task)

    def _begin_turn(self, task: Task) -> None:
        """The task has stood in the queue long enough; its slice begins."""
        now = self.clock.now
        if task.woken_ns >= 0:
            task.owed_ns += now - task.woken_ns
            task.woken_ns = -1
            task.ahead = False
        ns, task.slice_left = task.slice_left, 0
        self.slice_end = now + (ns or slice_of(task.nice))

    def _preempted(self, task: Task) -> bool:
        """Somebody goes ahead. The rest of the slice is run afterwards."""
        runq = self.kernel.runq
        task.work &= ~WORK_RESCHED
        if not (runq and runq[0].ahead):
            return False
        task.nivcsw += 1
        task.slice_left = max(self.slice_end - self.clock.now, 0)
        if task.slice_left:
            runq.insert_ahead(task)
        else:
            runq.append(task)
        return True

    def load_tls(self, task: Task) -> None:
        """The task's three descriptors go into the CPU's table."""
        for i, (old, new) in enumerate(zip(self.tls, task.tls, strict=True)):
            if old != new:
                self.cpu.set_tls(6 + i, new)
        self.tls = task.tls

    def _charge(self, task: Task, user: int, system: int) -> None:
        task.utime_ns += user
        task.stime_ns += system
        self.system_ns += system
        if task.nice > 0:
            self.nice_ns += user
        else:
            self.user_ns += user

    def account(self) -> None:
        """CPU time since the last call goes to the running task: its blocks as user time, the rest as system time."""
        task = self.task
        now = self.clock.now
        spent = now - self.accounted
        self.accounted = now
        user = self.blocks << NS_PER_BLOCK_SHIFT
        self.blocks = 0
        if task is None or spent <= 0:
            return
        self._charge(task, user, spent - user)
        if self.watch_cpu:
            if self.kernel.main_status is not None:
                self.busy_since_end += spent
            if task.state < TASK_ZOMBIE and self.kernel.timers.cpu_timers_armed(task.signal):
                self.kernel.timers.tick(task, user, spent - user)

    # --- calls that wait

    def _resume(self, task: Task, gen: Call) -> bool:
        """A signal wakes a call like its event does: the call looks for its event first, and is interrupted when it
        wants to wait on."""
        value, task.value = task.value, None
        return self._drive(task, gen, value)

    def _drive(self, task: Task, gen: Call, value: bool | None) -> bool:
        """Runs `gen` till it ends (True) or waits (False: the task is parked, or no more)."""
        error: BaseException | None = None
        while True:
            try:
                wait = gen.throw(error) if error is not None else gen.send(value)
            except StopIteration as stop:
                result = stop.value
                break
            except SysError as failure:
                result = self._failed(failure)
                break
            except Interrupted as interrupted:
                result = -interrupted.mode
                if interrupted.mode != EINTR:
                    task.restart_nr = task.syscall_nr
                    task.work |= WORK_SIGNAL
                break
            except MustWait as wait_for:
                task.gen = None
                self.restart_later(task, wait_for)
                return False
            error = None
            state = wait.state
            if state != TASK_UNINTERRUPTIBLE and task.work & WORK_SIGNAL:
                if task.signal.group_exit or (state == TASK_INTERRUPTIBLE and signal_pending(task)):
                    error = Interrupted()
                    continue
            deadline = wait.deadline
            if deadline is not None and deadline <= self.clock.now:
                value = False
                continue
            if state != TASK_UNINTERRUPTIBLE:  # not for a page: it may take for ever
                self.mem.awaited.let_go(task)
            task.gen = gen
            self.park(task, wait.queues, deadline, state)
            return False
        task.gen = None
        self.mem.awaited.let_go(task)
        if task.state >= TASK_ZOMBIE:
            return False
        task.regs[EAX] = result & 0xFFFFFFFF
        self.kernel.log(EVENT_SYSCALL | (task.syscall_nr & 0xFFFF) << 32 | result & 0xFFFFFFFF)
        return True

    def park(self, task: Task, queues: Sequence[WaitQueue], deadline: int | None, state: int) -> None:
        """The task sleeps until a queue wakes it, or the deadline."""
        task.state = state
        task.queues = queues
        task.nvcsw += 1
        for queue in queues:
            queue.add(task)
        if deadline is not None:
            task.timer = self.clock.at(deadline, task.timed_out)

    def restart_later(self, task: Task, wait: MustWait) -> None:
        """A system call needs a page that is under way: it will be made again, whole, when the page is there. Its
        registers are as the program left them, so stepping back over `int $0x80` is all there is to do."""
        if task.work & WORK_PINS:
            unpin(task)
        task.regs[EIP] = (task.regs[EIP] - 2) & 0xFFFFFFFF
        self.park(task, (wait.queue,), None, TASK_UNINTERRUPTIBLE)

    # --- before user mode

    def exit_to_user(self, task: Task) -> bool:
        """Does what Task.work asks for. False: the task does not go on now (it waits, has stopped, has yielded, is
        dead)."""
        if task.work & WORK_PINS:
            unpin(task)
        if task.work & WORK_SIGNAL and not do_signal(self, task):
            if task.state == TASK_STOPPED:
                self.mem.awaited.let_go(task)
            return False
        if task.work & WORK_RESCHED and self._preempted(task):
            return False
        if task.work & WORK_YIELD:
            task.work &= ~WORK_YIELD
            if self.kernel.runq:
                self.kernel.runq.append(task)
                return False
        task.work &= ~WORK_RELOAD
        return True

    def die(self, task: Task, code: int, info: SigInfo | None = None) -> bool:
        """The task exits in the kernel's own time, killed by the signal `info` if there is one. Always False: it does
        not go on."""
        if not task.flags & PF_EXITING:
            task.restart_nr = -1
            self._drive(task, do_exit(task, code) if info is None else killed(task, code, info), None)
        return False

    def _out_of_memory(self, task: Task) -> None:
        """The fault found no memory, after reclaim and the OOM killer had their turn: the process goes. Linux:
        do_page_fault, 2.6.7."""
        self.kernel.note(f"VM: killing process {task.comm}[{task.pid}]")
        force_sig(task, SigInfo(SIGKILL, SI_KERNEL))
