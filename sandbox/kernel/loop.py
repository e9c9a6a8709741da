"""The main loop: pick a task, let the CPU run it, do what the trap asks for, pick again.

    run ── pick ──> resume a parked call ──> exit_to_user (signals) ──> user_mode: cpu.run <─> trap ...
             └ nobody: idle ── kswapd, time jumps to the next timer ── none left: done, or deadlock

`user_mode` is the hot path: everything it touches per trap is a local or one attribute away, and nothing on the common path calls
more than the CPU and the handler. Time is charged per basic block and per trap (sandbox.kernel.sched).
"""

from __future__ import annotations

import signal as host_signal
import threading
import time
from collections.abc import Generator
from types import FrameType
from typing import TYPE_CHECKING, Any

from mmcore.errors import Hung, MustWait, OomPanic, SysError
from mmcore.fault import DONE, OOM, WAIT
from sandbox.cpu.regs import EAX, EBP, EBX, ECX, EDI, EDX, EIP, ESI
from sandbox.cpu.trap import BUDGET, PAGE_FAULT, SYSCALL
from sandbox.kernel import traps
from sandbox.kernel.events import EVENT_FAULT, EVENT_SWITCH, EVENT_TRAP
from sandbox.kernel.exit import do_exit, do_group_exit
from sandbox.kernel.sched import (
    EINTR,
    ERESTART_RESTARTBLOCK,
    ERESTARTNOHAND,
    ERESTARTSYS,
    NS_PER_BLOCK_SHIFT,
    SLICE_NS,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    TASK_ZOMBIE,
    TICK_NS,
    TRAP_NS,
    WORK_PINS,
    WORK_RELOAD,
    WORK_SIGNAL,
    WORK_YIELD,
    Interrupted,
    Wait,
)
from sandbox.kernel.sigframe import handler_mask, setup_frame
from sandbox.kernel.signals import force_sig, get_signal, recalc, set_blocked, signal_pending
from sandbox.kernel.signo import SA_RESTART, SI_KERNEL, SIGKILL, SIGSEGV, SigInfo
from sandbox.kernel.task import DEFAULT_ACTION, PF_EXITING, Task
from sandbox.kernel.uaccess import unpin
from sandbox.syscalls.table import EVENT_SYSCALL, NR_SYSCALLS, table

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Ending, Kernel

ENOSYS = 38
NR_RESTART_SYSCALL = 0


class Loop:
    """The scheduler's and the trap handler's half of the kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.mem = kernel.mem
        self.cpu = kernel.cpu
        self.clock = kernel.clock
        self.task: Task | None = None
        self.last_mm: Any = None
        self.tls = (0, 0, 0)
        self.blocks = 0  # of user code since the last accounting
        self.accounted = 0  # virtual time up to which CPU time is accounted
        self.next_tick = TICK_NS
        self.deadline = 0.0
        self.busy_since_end = 0

    # -- the whole run -----------------------------------------------------------------------------------------------------

    def run(self) -> Ending:
        kernel = self.kernel
        limit = kernel.time_limit
        self.deadline = time.monotonic() + limit if limit else 0.0
        previous = None
        if threading.current_thread() is threading.main_thread():
            previous = host_signal.signal(host_signal.SIGINT, self._on_sigint)
        try:
            return self._run()
        except OomPanic as panic:
            return kernel.ending("oom_panic", [str(panic)])
        except Hung as hung:
            return kernel.ending("hung", [str(hung), *kernel.describe_waiters()])
        except KeyboardInterrupt:
            return kernel.ending("interrupted")
        finally:
            self.account()
            if previous is not None:
                host_signal.signal(host_signal.SIGINT, previous)

    def _on_sigint(self, _number: int, _frame: FrameType | None) -> None:
        """The first Ctrl-C ends the run between two slices; the second one at once."""
        if self.kernel.stop_requested:
            raise KeyboardInterrupt
        self.kernel.stop_requested = "interrupted"

    def _run(self) -> Ending:
        kernel = self.kernel
        runq = kernel.runq
        reclaim = self.mem.reclaim
        while True:
            if kernel.stop_requested is not None:
                return kernel.ending(kernel.stop_requested)
            if self.clock.now >= self.next_tick:
                self._tick()
            if reclaim.kswapd_wanted:
                reclaim.kswapd()
            if not runq:
                end = self._idle()
                if end is not None:
                    return end
                continue
            task = runq.popleft()
            if task.state != TASK_RUNNING:
                continue
            self._switch_to(task)
            gen = task.gen
            if gen is not None and not self._resume(task, gen):
                continue
            if task.work and not self.exit_to_user(task):
                continue
            self.user_mode(task)

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
        behind = self.kernel.timers.now() - self.clock.now
        if behind > 0:
            self.clock.charge(behind)

    # -- switching ---------------------------------------------------------------------------------------------------------

    def _switch_to(self, task: Task) -> None:
        last = self.task
        if last is task:
            return
        kernel = self.kernel
        if last is not None:
            self.account()
        self.task = kernel.current = self.mem.current = task
        self.accounted = self.clock.now
        self.blocks = 0
        kernel.nr_switches += 1
        log = kernel.log
        log(EVENT_SWITCH | task.pid)
        log(self.clock.now)
        if task.tls != self.tls:
            self.load_tls(task)

    def load_tls(self, task: Task) -> None:
        """The task's three descriptors go into the CPU's table."""
        for i, (old, new) in enumerate(zip(self.tls, task.tls, strict=True)):
            if old != new:
                self.cpu.set_tls(6 + i, new)
        self.tls = task.tls

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
        user = min(user, spent)
        task.utime_ns += user
        task.stime_ns += spent - user
        if self.kernel.main_status is not None:
            self.busy_since_end += spent
        if task.state < TASK_ZOMBIE and self.kernel.timers.cpu_timers_armed(task.signal):
            self.kernel.timers.tick(task, user, spent - user)

    def drop_mm(self, mm: Any) -> None:
        """The address space is going, and its root may serve another one soon: what the CPU remembers of it must not survive."""
        if self.last_mm is mm:
            self.last_mm = None

    # -- calls that wait -----------------------------------------------------------------------------------------------------

    def start(self, task: Task, gen: Generator[Wait, bool, int], nr: int) -> bool:
        """Runs a system call that may wait. True: it is done and the task may go on."""
        task.syscall_nr = nr
        return self._drive(task, gen, None, None)

    def _resume(self, task: Task, gen: Any) -> bool:
        if task.interrupted:
            task.interrupted = False
            return self._drive(task, gen, None, Interrupted())
        value, task.value = task.value, None
        return self._drive(task, gen, value, None)

    def _drive(self, task: Task, gen: Any, value: bool | None, error: BaseException | None) -> bool:
        """Runs ``gen`` till it ends (True) or waits (False: the task is parked, or no more)."""
        clock = self.clock
        while True:
            try:
                wait = gen.throw(error) if error is not None else gen.send(value)
            except StopIteration as stop:
                result = stop.value
                break
            except SysError as failure:
                result = -failure.errno
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
            if deadline is not None and deadline <= clock.now:
                value = False
                continue
            task.gen = gen
            self.park(task, wait.queues, deadline, state)
            return False
        task.gen = None
        if task.state >= TASK_ZOMBIE:
            return False
        task.regs[EAX] = result & 0xFFFFFFFF
        self.kernel.log(EVENT_SYSCALL | (task.syscall_nr & 0xFFFF) << 32 | result & 0xFFFFFFFF)
        return True

    def park(self, task: Task, queues: Any, deadline: int | None, state: int) -> None:
        """The task sleeps until a queue wakes it, or the deadline."""
        task.state = state
        task.queues = queues
        task.nvcsw += 1
        for queue in queues:
            queue.add(task)
        if deadline is not None:
            task.timer = self.clock.at(deadline, task.timed_out)

    def restart_later(self, task: Task, wait: MustWait) -> None:
        """A system call needs a page that is under way: it will be made again, whole, when the page is there. Its registers are as the
        program left them, so stepping back over `int $0x80` is all there is to do."""
        if task.work & WORK_PINS:
            unpin(task)
        task.regs[EIP] = (task.regs[EIP] - 2) & 0xFFFFFFFF
        self.park(task, (wait.queue,), None, TASK_UNINTERRUPTIBLE)

    # -- before user mode ------------------------------------------------------------------------------------------------------

    def exit_to_user(self, task: Task) -> bool:
        """Does what Task.work asks for. False: the task does not go on now (it waits, has stopped, has yielded, is dead)."""
        if task.work & WORK_PINS:
            unpin(task)
        if task.work & WORK_SIGNAL and not self._do_signal(task):
            return False
        if task.work & WORK_YIELD:
            task.work &= ~WORK_YIELD
            if self.kernel.runq:
                self.kernel.runq.append(task)
                return False
        task.work &= ~WORK_RELOAD
        return True

    def _do_signal(self, task: Task) -> bool:
        """Delivers what is pending. Linux: do_signal, arch/i386/kernel/signal.c, 2.6.7; later signals nest on top of earlier ones."""
        while True:
            taken = task.deferred
            if taken is None:
                taken = get_signal(task)
            if taken is None:
                break
            if isinstance(taken, int):
                return taken >= 0 and self.die(task, do_group_exit(task, taken))
            task.deferred = None
            info, action = taken
            self._restart(task, action)
            try:
                setup_frame(task, info, action)
            except MustWait as wait:
                task.deferred = taken
                self.park(task, (wait.queue,), None, TASK_UNINTERRUPTIBLE)
                return False
            except SysError:
                if info.sig == SIGSEGV:
                    task.sighand.action[SIGSEGV] = DEFAULT_ACTION
                force_sig(task, SigInfo(SIGSEGV, SI_KERNEL, bytes(4)))
                continue
            mask = handler_mask(task, info, action)
            task.saved_sigmask = None
            set_blocked(task, mask)
        self._restart(task, None)
        if task.saved_sigmask is not None:
            mask, task.saved_sigmask = task.saved_sigmask, None
            set_blocked(task, mask)
            if task.work & WORK_SIGNAL and signal_pending(task):
                return self._do_signal(task)
        recalc(task)
        return True

    @staticmethod
    def _restart(task: Task, action: Any) -> None:
        """What becomes of an interrupted call: EINTR for a handler that does not want restarts, else the call is made again."""
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

    def die(self, task: Task, code: int) -> bool:
        """The task exits in the kernel's own time. Always False: it does not go on."""
        if not task.flags & PF_EXITING:
            task.restart_nr = -1
            self._drive(task, do_exit(task, code), None, None)
        return False

    # -- user mode -------------------------------------------------------------------------------------------------------------

    def user_mode(self, task: Task) -> None:
        """Runs the task until it gives up the CPU. HOT."""
        kernel, cpu, clock, mem = self.kernel, self.cpu, self.clock, self.mem
        run, state = cpu.door()
        regs, mm = task.regs, task.mm
        cpu_task = task.ctx.door()
        root = mm.pgd
        log = kernel.log
        reclaim = mem.reclaim
        do_page_fault = mem.faults.do_page_fault
        notes_code = kernel.notes_code
        entries = table
        if self.last_mm is not mm:
            cpu.flush_tlb()  # the same root may have belonged to an address space that is gone
            self.last_mm = mm
        slice_end = clock.now + SLICE_NS
        limit = -1  # virtual time at which something else is due; found out on the slow path
        while True:
            if mm.flush_pending:
                cpu.flush_tlb()
                mm.flush_pending = False
            if mem.flush_code:
                cpu.flush_code()
                mem.flush_code = False
            now = clock.now
            if now >= limit or clock.due < limit:
                limit = self._slow(task, slice_end)
                if limit < 0:
                    return
                now = clock.now
            kind = run(state, cpu_task, root, (limit - now >> NS_PER_BLOCK_SHIFT) + 1)
            blocks = state.blocks
            self.blocks += blocks
            clock.now = now + (blocks << NS_PER_BLOCK_SHIFT) + TRAP_NS
            if notes_code and state.page_count:
                kernel.mark_code(mm)

            if kind == SYSCALL:
                nr = regs[EAX]
                entry = entries[nr] if nr < NR_SYSCALLS else None
                if entry is not None:
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
                        result = -error.errno & 0xFFFFFFFF
                    except MustWait as wait:
                        self.restart_later(task, wait)
                        return
                    if result.__class__ is not int:
                        if not self.start(task, result, nr):
                            return
                    else:
                        regs[EAX] = result
                        log(tag | result)
                else:
                    kernel.unknown_syscalls[nr] += 1
                    regs[EAX] = -ENOSYS & 0xFFFFFFFF
                    log(EVENT_SYSCALL | (nr & 0xFFFF) << 32)
            elif kind == PAGE_FAULT:
                address, error_code = state.fault_address, state.error_code
                answer = do_page_fault(mm, address, error_code)
                log(EVENT_FAULT | answer << 40 | error_code << 32 | address)
                if answer != DONE:
                    if answer == WAIT:
                        self.park(task, (mem.faults.wait_queue,), None, TASK_UNINTERRUPTIBLE)
                        return
                    if answer == OOM:
                        self._out_of_memory(task)
                    else:
                        traps.bad_area(task, answer, address, error_code)
            elif kind != BUDGET:
                if kind < 0:
                    raise cpu.lost(task.ctx, root)
                log(EVENT_TRAP | kind << 32 | regs[EIP])
                traps.do_trap(task, kind, state.error_code, state.vector)

            if reclaim.kswapd_wanted:
                reclaim.kswapd()
            if task.work:
                reload = task.work & WORK_RELOAD
                if not self.exit_to_user(task):
                    return
                if reload:
                    kernel.runq.appendleft(task)
                    return

    def _slow(self, task: Task, slice_end: int) -> int:
        """Something is due: timers, the tick, the end of the slice. Returns the time until which the CPU may run undisturbed, or -1: the
        task has to give way."""
        kernel, clock = self.kernel, self.clock
        if clock.now >= clock.due:
            clock.run_due()
        if clock.now >= self.next_tick:
            self.account()
            self._tick()
            if kernel.stop_requested is not None:
                kernel.runq.appendleft(task)
                return -1
        if task.work & WORK_SIGNAL and not self.exit_to_user(task):
            return -1
        if clock.now >= slice_end:
            if kernel.runq:
                task.nivcsw += 1
            kernel.runq.append(task)
            return -1
        return max(min(slice_end, clock.due, self.next_tick), clock.now + 1)

    def _out_of_memory(self, task: Task) -> None:
        """The fault found no memory, after reclaim and the OOM killer had their turn: the process goes. Linux: do_page_fault, 2.6.7."""
        self.kernel.note(f"VM: killing process {task.comm}[{task.pid}]")
        force_sig(task, SigInfo(SIGKILL, SI_KERNEL))
