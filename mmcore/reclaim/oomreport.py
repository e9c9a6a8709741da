"""What was wrong when an allocation could not be served: the report of the kernel's log, as data.

Linux: page_alloc.c's "page allocation failure" and show_free_areas, 2.6.7; the table of tasks is that of dump_tasks,
2.6.24.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmcore.memory import Memory

LARGEST = 8  # owners of low memory, and tasks, that a report names


@dataclass(frozen=True)
class ZoneState:
    """A zone at that moment, in pages. `kept`: what must stay free there, for the kind that was asked for."""

    name: str
    present: int
    free: int
    pages_min: int
    pages_low: int
    pages_high: int
    kept: int
    active: int
    inactive: int
    all_unreclaimable: bool


@dataclass(frozen=True)
class TaskState:
    """A task that could have been killed: its size and what of it is resident, in pages, and its badness."""

    pid: int
    comm: str
    total_vm: int
    rss: int
    points: int


@dataclass(frozen=True)
class OomReport:
    """`pid`, `comm`: who asked for `1 << order` frames with the flags `gfp`, at `virtual_ns`. `owners`: the largest of
    low memory, in bytes. `swap_free` and `swap_total` in pages. `killed`: the victim's pid; None where nobody was
    killed, for want of a reason (swap is free) or of a victim."""

    virtual_ns: int
    pid: int
    comm: str
    order: int
    gfp: int
    zones: list[ZoneState]
    owners: dict[str, int]
    tasks: list[TaskState]
    swap_free: int
    swap_total: int
    killed: int | None


def oom_report(mem: Memory, gfp: int, order: int, killed: int | None = None) -> OomReport:
    """The state of `mem` now, for an allocation of the current task's."""
    pages, swap, current = mem.pages, mem.swap, mem.current
    kind = pages.kind_of(gfp)
    zones = [
        ZoneState(
            zone.name,
            zone.present_pages,
            zone.free_pages,
            zone.pages_min,
            zone.pages_low,
            zone.pages_high,
            zone.protection[kind],
            zone.nr_active,
            zone.nr_inactive,
            zone.all_unreclaimable,
        )
        for zone in pages.zones
        if zone.present_pages
    ]
    sizes = {name: row["bytes"] for name, row in mem.owners_now().items() if row["bytes"]}
    tasks = [
        TaskState(task.pid, task.comm, task.mm.total_vm, task.mm.rss, mem.oom.badness(task))
        for task in mem.tasks()
        if task.mm is not None
    ]
    return OomReport(
        mem.clock.now,
        current.pid,
        current.comm,
        order,
        gfp,
        zones,
        dict(sorted(sizes.items(), key=lambda item: -item[1])[:LARGEST]),
        sorted(tasks, key=lambda task: -task.points)[:LARGEST],
        swap.nr_swap_pages,
        swap.total,
        killed,
    )
