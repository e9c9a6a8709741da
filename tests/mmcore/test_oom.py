"""The OOM killer: when it believes, whom it picks, and that the machine goes on."""

from __future__ import annotations

import pytest

from mmcore.errors import OomPanic
from mmcore.physical.gfp import GFP_KERNEL
from rmap_plugins.anon_vma import AnonVma
from sandbox.kit.machine import CpulessMachine

SECOND = 1_000_000_000


class Task:
    def __init__(self, pid: int, mm: object, **facts: int) -> None:
        self.pid = pid
        self.comm = f"task{pid}"
        self.mm = mm
        self.uid = facts.get("uid", 1000)
        self.nice = facts.get("nice", 0)
        self.cpu_ns = facts.get("cpu_s", 0) * SECOND
        self.start_ns = facts.get("start_s", 0) * SECOND
        self.memdie = False
        self.swapoff = bool(facts.get("swapoff"))
        self.euid, self.rlimits = self.uid, None
        self.signals: list[int] = []
        self.fault_major = False
        self.min_flt = self.maj_flt = 0

    def kill(self, sig: int) -> None:
        self.signals.append(sig)


class Size:
    def __init__(self, pages: int) -> None:
        self.total_vm = self.rss = pages
        self.vmas: list[object] = []


def machine_with(tasks: list[Task], swap: int = 0) -> CpulessMachine:
    m = CpulessMachine(AnonVma, swap=swap)
    m.mem.tasks = lambda: tasks
    m.mem.current = tasks[0] if tasks else m.mem.current
    return m


def fail(m: CpulessMachine, times: int, step_ms: int) -> None:
    for _ in range(times):
        m.mem.clock.charge(step_ms * 1_000_000)
        m.mem.oom.out_of_memory(GFP_KERNEL, 0)


def test_badness_follows_size_age_work_niceness_and_privilege():
    m = machine_with([])
    m.mem.clock.charge(4096 * SECOND)
    badness = m.mem.oom.badness
    assert badness(Task(1, Size(1000), start_s=4096)) == 1000
    assert badness(Task(2, Size(1000), cpu_s=40, start_s=4096)) == 1000 // 2  # 40,000 jiffies >> 13 = 4
    assert badness(Task(3, Size(1000), start_s=0)) == 1000  # 4,096,000 jiffies >> 20 = 3: too young
    m.mem.clock.charge(20_000 * SECOND)
    assert badness(Task(3, Size(1000), start_s=0)) == 1000 // 2  # 22, whose fourth root is 2
    assert badness(Task(4, Size(1000), start_s=24_096, nice=5)) == 2000
    assert badness(Task(5, Size(1000), start_s=24_096, uid=0)) == 1000 // 16
    assert badness(Task(6, None)) == 0


def test_it_takes_ten_failures_over_a_second():
    tasks = [Task(1, Size(10)), Task(2, Size(500))]
    m = machine_with(tasks)
    m.mem.clock.charge(100 * SECOND)
    fail(m, 9, 50)
    assert not m.mem.oom.kills  # less than a second
    m2 = machine_with(tasks)
    m2.mem.clock.charge(100 * SECOND)
    fail(m2, 1 + 9, 500)  # the first one starts the count, nine more are not ten
    assert not m2.mem.oom.kills
    fail(m2, 3, 500)
    assert [k.pid for k in m2.mem.oom.kills] == [2] and tasks[1].signals == [9] and tasks[1].memdie


def test_a_task_in_swapoff_pays_first_unless_its_memory_is_gone():
    for gone in (False, True):
        tasks = [Task(1, Size(500)), Task(2, None if gone else Size(10), swapoff=1)]
        m = machine_with(tasks)
        m.mem.clock.charge(100 * SECOND)
        fail(m, 18, 200)
        assert [k.pid for k in m.mem.oom.kills] == [1 if gone else 2]


def test_free_swap_means_not_out_of_memory():
    tasks = [Task(1, Size(10))]
    m = machine_with(tasks, swap=1 << 20)
    fail(m, 50, 500)
    assert not m.mem.oom.kills


def test_rare_failures_start_over():
    tasks = [Task(1, Size(10))]
    m = machine_with(tasks)
    fail(m, 40, 6000)
    assert not m.mem.oom.kills


def test_a_victim_gets_five_seconds_and_its_threads_go_too():
    mm = Size(500)
    tasks = [Task(1, Size(10)), Task(2, mm), Task(3, mm), Task(4, Size(100))]
    m = machine_with(tasks)
    m.mem.clock.charge(100 * SECOND)
    fail(m, 18, 200)
    assert [k.pid for k in m.mem.oom.kills] == [2] and tasks[2].signals == [9]
    fail(m, 15, 200)
    assert len(m.mem.oom.kills) == 1
    fail(m, 18, 200)
    assert [k.pid for k in m.mem.oom.kills] == [2, 4]


def test_nobody_left_is_a_panic():
    m = machine_with([])
    m.mem.clock.charge(100 * SECOND)
    with pytest.raises(OomPanic, match="give the machine more"):
        fail(m, 30, 200)


def test_the_current_task_pays_and_its_fault_fails():
    m = CpulessMachine(AnonVma, memory=8 << 20, swap=0)
    mm = m.new_mm()
    task = Task(7, mm)
    m.mem.tasks = lambda: [task]
    m.mem.current = task
    a = m.mmap(mm, 5000)
    with pytest.raises(MemoryError):
        for i in range(5000):
            m.store(mm, a + (i << 12), i)
    assert task.signals == [9] and str(m.mem.oom.kills[0]) == "Out of Memory: Killed process 7 (task7)."
    assert m.mem.pages.nr_free() == 0 or task.memdie
    m.audit("killed")
    m.exit(mm)
    m.audit("exit")


def test_another_task_pays_and_the_current_one_goes_on():
    m = CpulessMachine(AnonVma, memory=8 << 20, swap=0)
    big, small = m.new_mm(), m.new_mm()
    b = m.mmap(big, 1000)
    for i in range(700):
        m.store(big, b + (i << 12), i)
    m.mmap(big, 20_000)  # promised, never touched: it counts all the same
    tasks = [Task(1, big), Task(2, small)]
    m.mem.tasks = lambda: tasks
    m.mem.current = tasks[1]
    a = m.mmap(small, 800)
    for i in range(800):
        m.store(small, a + (i << 12), i)
    assert [k.pid for k in m.mem.oom.kills] == [1] and not tasks[1].signals
    assert big.rss == 0
    assert all(m.load(small, a + (i << 12)) == i for i in range(800))
    m.audit()
    m.exit(big)
    m.exit(small)
    m.audit("exit")


def test_a_victim_is_found_even_when_nobody_has_points() -> None:
    """badness divides what root runs by 16: a program of 15 pages has none left, and dies all the same rather than the
    machine."""
    tasks = [Task(1, Size(15), uid=0), Task(2, Size(3), uid=0)]
    m = machine_with(tasks)
    m.mem.clock.charge(100 * SECOND)
    fail(m, 14, 500)
    assert [kill.pid for kill in m.mem.oom.kills] == [1] and m.mem.oom.kills[0].points == 0
