"""What a task waits for, and the queue of tasks that can run.

    generator yields Wait ──> park: on each queue, a timer for the deadline
                                  │ queue.wake()      -> resumed with True
                                  │ deadline          -> resumed with False
                                  └ a signal          -> resumed with True; if it then waits again, Interrupted is
                                                         thrown into it

A waiter looks for its event again after each wake-up, and only then is a signal its concern (as Linux's wait loops do).

The scheduler is round robin: order of wake-up is order of running, each for a time slice (SLICE_NS of virtual time,
more or less by `nice`). A loop that takes and drops a lock can fall into step with the slices, so that one that waits
for the lock never finds it free. Therefore a task that was woken and then stood in the queue is owed a turn (OWED_NS).
At its next wake-up it goes ahead of everybody, the running task too: it runs at the very unlock that woke it. Linux
2.6.7 reckons such waits into sleep_avg, to the same end.

After fork the parent goes on and the child stands at the end of the queue, as Linux does since 2.6.32 (2.6.7 ran the
child first; native Linux decides what a guest sees).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mmcore.errors import MustWait
from mmcore.wait import WaitQueue

if TYPE_CHECKING:
    from sandbox.kernel.task import Task

T = TypeVar("T")

# One basic block of guest code, and one trap into the kernel and back, in virtual nanoseconds: the order of a 2 GHz
# machine of 2004. A power of two, so that the hot loop shifts.
NS_PER_BLOCK_SHIFT = 2
NS_PER_BLOCK = 1 << NS_PER_BLOCK_SHIFT
TRAP_NS = 400
SLICE_NS = 10_000_000
OWED_NS = 1_000_000  # spent in the queue after wake-ups: from here on the next wake-up preempts
TICK_NS = 10_000_000  # USER_HZ 100: accounting, limits, the host's Ctrl-C

# Task states; Linux: include/linux/sched.h, 2.6.7.
TASK_RUNNING = 0
TASK_INTERRUPTIBLE = 1
TASK_UNINTERRUPTIBLE = 2
TASK_KILLABLE = 3  # sleeps through every signal but a fatal one (vfork's parent, exec waiting for its threads)
TASK_STOPPED = 4
TASK_ZOMBIE = 8
TASK_DEAD = 16

# Bits of Task.work: what has to be looked at before the task enters user mode.
WORK_SIGNAL = 1  # a signal, a group stop or a group exit is pending
WORK_PINS = 2  # pages pinned for the system call that just ended
WORK_RELOAD = 4  # mm or registers were replaced (exec)
WORK_YIELD = 8  # sched_yield
WORK_RESCHED = 16  # a task that goes ahead of this one was woken

# How an interrupted call goes on; Linux: include/linux/errno.h. EINTR itself is never restarted.
EINTR = 4
ERESTARTSYS = 512
ERESTARTNOINTR = 513
ERESTARTNOHAND = 514
ERESTART_RESTARTBLOCK = 516


def slice_of(nice: int) -> int:
    """Virtual ns. 2.6.7 gives 10 ms at nice 19, 102 at 0, 200 at -20 (kernel/sched.c: BASE_TIMESLICE); ours is a
    tenth."""
    return SLICE_NS * (10 + 190 * (19 - nice) // 39) // (10 + 190 * 19 // 39)


class RunQueue(deque["Task"]):
    """The tasks that can run. Those with `ahead` set stand in front, in order of their wake-up."""

    def insert_ahead(self, task: Task) -> None:
        """Behind those that go ahead, before everybody else."""
        place = 0
        for other in self:
            if not other.ahead:
                break
            place += 1
        self.insert(place, task)

    def put_woken(self, task: Task, now: int) -> bool:
        """`task` was woken at `now`. True: it goes ahead of whoever runs."""
        task.woken_ns = now
        if task.owed_ns < OWED_NS:
            self.append(task)
            return False
        task.owed_ns = 0
        task.ahead = True
        self.insert_ahead(task)
        return True


class Wait:
    """Yielded by a system call that has to wait.

    `queues`: any of them wakes the task. `deadline`: virtual ns since boot, or None for ever.
    `state`: how deep the sleep is; TASK_UNINTERRUPTIBLE is for disk waits, which end by themselves.
    """

    __slots__ = ("queues", "deadline", "state")

    def __init__(
        self, queues: Sequence[WaitQueue] = (), deadline: int | None = None, state: int = TASK_INTERRUPTIBLE
    ) -> None:
        self.queues = queues
        self.deadline = deadline
        self.state = state


# A system call under way: it yields what it waits for, is sent None first and then whether an event came (True) or the
# deadline (False), and returns the call's result.
Call = Generator[Wait, Any, int]


class Sleep(Wait):
    """Waits for nothing but `deadline` (virtual ns since boot)."""

    __slots__ = ()

    def __init__(self, deadline: int) -> None:
        self.queues = ()
        self.deadline = deadline
        self.state = TASK_INTERRUPTIBLE


class Interrupted(Exception):
    """Thrown into a waiting system call by a pending signal. `mode` says whether the call restarts; a call that
    catches it may return what it has done so far, or raise Interrupted with another mode. Linux: ERESTARTSYS and its
    kin."""

    def __init__(self, mode: int = ERESTARTSYS) -> None:
        super().__init__(mode)
        self.mode = mode


def waiting(step: Callable[[], T]) -> Generator[Wait, bool, T]:
    """Runs a step that may be repeated until no page it needs is under way any more."""
    while True:
        try:
            return step()
        except MustWait as wait:
            yield Wait((wait.queue,), None, TASK_UNINTERRUPTIBLE)


def state_letter(state: int) -> str:
    """The letter of /proc/PID/stat. Linux: fs/proc/array.c."""
    return {
        TASK_RUNNING: "R",
        TASK_INTERRUPTIBLE: "S",
        TASK_UNINTERRUPTIBLE: "D",
        TASK_KILLABLE: "D",
        TASK_STOPPED: "T",
        TASK_ZOMBIE: "Z",
    }.get(state, "X")
