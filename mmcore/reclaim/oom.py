"""When memory and swap are gone: which task pays.

`out_of_memory` is called by direct reclaim that failed. It believes in it only after ten failures over a second, and
gives a victim five seconds to die. Whom it may choose, `mem.tasks()` yields.

2.6.7 let the victim run into its death on the memory reserves. Here an allocation never yields the CPU, so the memory
of a victim that is not the current task is taken at once, as the reaper of 4.6 does: it will never return to user mode
to miss it. Linux: mm/oom_kill.c, 2.6.7 (init is nobody special).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

from mmcore.areas.vma import VM_SHARED
from mmcore.errors import OomPanic
from mmcore.paging.zap import zap_page_range
from mmcore.reclaim.oomreport import OomReport, oom_report

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory
    from mmcore.outside import Victim

HZ = 1000
_JIFFY_NS = 1_000_000_000 // HZ
_SHIFT_HZ = 10  # the power of two next to HZ
SIGKILL = 9
MOST_REPORTS = 8


@dataclass(frozen=True)
class Kill:
    """One sentence of the OOM killer."""

    pid: int
    comm: str
    points: int
    total_vm: int  # pages
    virtual_ns: int

    def __str__(self) -> str:
        return f"Out of Memory: Killed process {self.pid} ({self.comm})."


class OomKiller:
    """`kills` in order; `reports` of the first few moments at which memory ran out."""

    def __init__(self, mem: Memory) -> None:
        self.mem = mem
        self.kills: list[Kill] = []
        self.reports: list[OomReport] = []
        self._first = self._last = self._lastkill = 0  # jiffies
        self._count = 0

    def out_of_memory(self, gfp: int, order: int) -> None:
        """An allocation of `1 << order` frames failed. Maybe kills. Raises OomPanic when there is nobody left to
        kill."""
        mem = self.mem
        if mem.swap.nr_swap_pages > 0:
            return
        now = mem.clock.now // _JIFFY_NS
        since, self._last = now - self._last, now
        if since <= 5 * HZ:
            if now - self._first < HZ:
                return
            self._count += 1
            if self._count < 10 or (self.kills and now - self._lastkill < 5 * HZ):
                return
            self._lastkill = now
            self._kill(gfp, order)
        self._first = now
        self._count = 0

    def report(self, gfp: int, order: int, killed: int | None = None) -> None:
        """Keeps how things stand, for the result: the first and the last moments are the telling ones."""
        if len(self.reports) == MOST_REPORTS:
            self.reports.pop()
        self.reports.append(oom_report(self.mem, gfp, order, killed))

    def badness(self, task: Victim) -> int:
        """Size in pages, mitigated by age and work done, doubled for the niced, quartered twice for root."""
        mm = task.mm
        if mm is None or task.memdie:
            return 0
        points = mm.total_vm
        cpu_time = task.cpu_ns // _JIFFY_NS >> _SHIFT_HZ + 3
        run_time = (self.mem.clock.now - task.start_ns) // _JIFFY_NS >> _SHIFT_HZ + 10
        points //= isqrt(cpu_time) or 1
        points //= isqrt(isqrt(max(0, run_time))) or 1
        if task.nice > 0:
            points *= 2
        if task.uid == 0:  # CAP_SYS_ADMIN, and again for CAP_SYS_RAWIO
            points = points // 4 // 4
        return points

    def _select_bad_process(self) -> tuple[Victim | None, int]:
        """Who pays, with its points; only a task that has an address space."""
        chosen, most = None, 0
        fallback = None
        for task in self.mem.tasks():
            if task.swapoff and task.mm is not None:
                return task, self.badness(task)
            points = self.badness(task)
            if points > most:
                chosen, most = task, points
            elif fallback is None and task.mm is not None and not task.memdie:
                fallback = task
        return (chosen, most) if chosen is not None else (fallback, 0)

    def _kill(self, gfp: int, order: int) -> None:
        mem = self.mem
        victim, points = self._select_bad_process()
        if victim is None:
            if any(task.memdie and task.mm is not None for task in mem.tasks()):
                return  # somebody is dying already
            self.report(gfp, order)
            raise OomPanic("out of memory and no killable processes: give the machine more --memory or --swap")
        mm = victim.mm
        assert mm is not None
        kill = Kill(victim.pid, victim.comm, points, mm.total_vm, mem.clock.now)
        self.report(gfp, order, victim.pid)
        self.kills.append(kill)
        current_dies = False
        for task in list(mem.tasks()):
            if task.mm is mm:
                task.memdie = True
                task.kill(SIGKILL)
                current_dies = current_dies or task is mem.current
        if not current_dies and mem.current.mm is not mm:
            self._reap(mm)

    def _reap(self, mm: Mm) -> None:
        """Private memory of a dying address space goes now; its owner's exit finds the areas empty."""
        for vma in mm.vmas:
            if not vma.vm_flags & VM_SHARED:
                zap_page_range(self.mem, vma, vma.vm_start, vma.vm_end)
