"""Who waits for a page keeps it: the references that tasks hold on pages across a wait for I/O.

 access --page locked--> must_wait: one reference more, MustWait --disk--> woken, runs, starts over, finds the page
 --access made--> let_go
        --no page, and memory is too short for all who read--> take_turn: MustWait until it is the task's turn

Between the end of the I/O and the task's turn nobody else may want the page; without the reference reclaim takes it,
the access reads it again, and with many tasks in little memory nobody gets on. An access that starts over needs all its
pages at once, so it keeps each page that it waited for, and the frames it reached since, until it is made. A task that
dies gives all back. Linux: the reference of do_swap_page and of filemap_nopage across lock_page, 2.6.7.

A call may need more pages than there are frames (the strings of an exec). Linux copies them one by one and needs them
one by one; a call that starts over would need them all at once, and never have them. So a call that keeps `MANY`
waits for the others on the spot, and what it has copied stays copied.

Turns are ours. There, an allocation that finds nothing sleeps, and those run whose pages have come; here it runs to its
end. So where waiting tasks hold half of what reclaim could take, a few tasks at a time may read, each for a while, and
the others wait: the few get their work done and end, or give way. (2.6.9 has the swap token for such times: one task
keeps its pages.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmcore.errors import MustWait
from mmcore.wait import WaitQueue

if TYPE_CHECKING:
    from mmcore.memory import Memory
    from mmcore.outside import Caller

TURN_NS = 1_000_000_000
LOOK_NS = 100_000_000
TURN_PAGES = 16  # of the LRU lists, for each task that has a turn
MANY = 64  # more than any call needs that goes on chunk by chunk (16 pages of the user's, as many of a file)


class AwaitedPages:
    """`held`: task -> PFNs, one reference each; a task that has waited stays in it, maybe with none, until it lets
    go. `users`: PFN -> tasks that hold it. `on_the_spot`: the current task cannot give way, so it needs no turn."""

    __slots__ = ("mem", "frames", "held", "users", "queue", "turns", "on_the_spot", "_looking")

    def __init__(self, mem: Memory) -> None:
        self.mem = mem
        self.frames = mem.frames
        self.held: dict[Caller, dict[int, None]] = {}
        self.users: dict[int, int] = {}
        self.queue = WaitQueue("a turn to read a page")
        self.turns: dict[Caller, int] = {}  # task -> virtual time at which its turn ends, in that order
        self.on_the_spot = False
        self._looking = False

    # --- references

    def must_wait(self, pfn: int) -> MustWait:
        """What to raise for a page under I/O. The current task holds the page from now on."""
        self.keep(pfn)
        return MustWait(self.mem.disk.page_wait(pfn))

    def keep(self, pfn: int) -> None:
        """The current task holds the frame until its access is made."""
        held = self.held.setdefault(self.mem.current, {})
        if pfn not in held:
            held[pfn] = None
            self.users[pfn] = self.users.get(pfn, 0) + 1
            self.frames.count[pfn] += 1

    def keep_if_waited(self, pfn: int) -> None:
        """An access that has waited once, and may wait again for another page, keeps this frame too: it would start
        over without it. One that keeps many does not start over, and drops what it waited for on the spot."""
        held = self.held.get(self.mem.current)
        if held is None:
            return
        if len(held) < MANY and not self.mem.is_reserved(pfn):
            self.keep(pfn)
        while len(held) > MANY:
            self._drop({held.popitem()[0]: None})

    def keeps_many(self) -> bool:
        """Does the current task keep so many pages that it is to wait for the next on the spot?"""
        return len(self.held.get(self.mem.current, ())) >= MANY

    def let_go_page(self, pfn: int) -> None:
        """The current task has a reference of its own by now, and is about to ask who else wants the page."""
        held = self.held.get(self.mem.current)
        if held and pfn in held:
            del held[pfn]
            self._forget(pfn)
            self.mem.pages.put_page(pfn)

    def let_go(self, task: Caller) -> None:
        """The access is made, has failed, or will never be made."""
        held = self.held.pop(task, None)
        if held:
            self._drop(held)

    def _drop(self, held: dict[int, None]) -> None:
        """A page of the swap cache that nobody wants any more goes with its last holder."""
        for pfn in held:
            self._forget(pfn)
            self.mem.swap.free_page_and_swap_cache(pfn)

    def _forget(self, pfn: int) -> None:
        left = self.users[pfn] - 1
        if left:
            self.users[pfn] = left
        else:
            del self.users[pfn]

    def revoke(self) -> bool:
        """The last resort of an allocation that finds nothing to reclaim while no I/O is under way that would change
        it: pages that tasks keep may be taken, the others' first and then the current task's own; they will read them
        again. False: there are none."""
        if not self.mem.disk.idle:
            return False
        current = self.mem.current
        tasks = [task for task, held in self.held.items() if held and task is not current]
        if not tasks and self.held.get(current):
            tasks = [current]
        for task in tasks:
            held, self.held[task] = self.held[task], {}
            self._drop(held)
        return bool(tasks)

    def references(self) -> dict[int, int]:
        """frame -> tasks that hold it, counted anew for the auditor."""
        found: dict[int, int] = {}
        for held in self.held.values():
            for pfn in held:
                found[pfn] = found.get(pfn, 0) + 1
        return found

    # --- turns

    def take_turn(self) -> None:
        """Before the current task starts to read a page. Raises MustWait when it is others' turn. Who holds a page goes
        on: it is to let go soon."""
        task = self.mem.current
        if (
            not (self.users or self.queue)
            or self.on_the_spot
            or self.held.get(task)
            or not (self.queue or self._short())
        ):
            return
        self._end_turns()
        if task in self.turns:
            return
        if self._free_turns() > 0:
            self.turns[task] = self.mem.clock.now + TURN_NS
            return
        self.held.setdefault(task, {})
        self._look_later()
        raise MustWait(self.queue)

    def end_turn(self, task: Caller) -> None:
        """The task is dead: the next one's turn, or that of several, for its memory is free."""
        self.turns.pop(task, None)
        self._call()

    def _call(self) -> None:
        if self.queue:
            self.queue.wake(max(0, self._free_turns()))

    def _end_turns(self) -> None:
        now = self.mem.clock.now
        for task in [task for task, end in self.turns.items() if end <= now]:
            del self.turns[task]

    def _free_turns(self) -> int:
        return max(1, self._listed() // TURN_PAGES) - len(self.turns)

    def _look_later(self) -> None:
        """While anybody waits for a turn, somebody looks whether one is free: who was woken may have found its page
        there, and taken none."""
        if not self._looking:
            self._looking = True
            self.mem.clock.at(self.mem.clock.now + LOOK_NS, self._look)

    def _look(self) -> None:
        self._looking = False
        self._end_turns()
        self._call()
        if self.queue:
            self._look_later()

    def _listed(self) -> int:
        return sum(zone.active.n + zone.inactive.n for zone in self.mem.pages.zones)

    def _short(self) -> bool:
        return 2 * len(self.users) >= self._listed()
