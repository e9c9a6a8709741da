"""Every allocation of the page cache, tmpfs and swap-in fails in turn: the caller hears of it, nothing leaks, and the
next attempt works."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mmcore.errors import OutOfMemory
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.injection import Failing
from sandbox.kit.machine import CpulessMachine
from tests.mmcore.test_filemap import file_space, pattern, shmem, waiting


def swap_in(m: CpulessMachine) -> Callable[[], None]:
    mm = m.new_mm()
    a = m.mmap(mm, 40)
    for i in range(40):
        m.store(mm, a + (i << 12), i)
    m.mem.reclaim.shrink_all(100)

    def go() -> None:
        for i in range(40):
            assert m.load(mm, a + (i << 12)) == i
            m.store(mm, a + (i << 12), i)

    return go


def tmpfs_write(m: CpulessMachine) -> Callable[[], None]:
    space, _ = shmem(m, 0)
    data = pattern(100_000)

    def go() -> None:
        done = 0
        while done < len(data):
            done += waiting(m, space.write, 60_000 + done, data[done:])
        assert waiting(m, space.read, 60_000, len(data)) == data

    return go


def tmpfs_swapped(m: CpulessMachine) -> Callable[[], None]:
    space, _ = shmem(m, 0)
    space.write(0, pattern(40 << 12))
    m.mem.reclaim.shrink_all(100)
    assert len(space.swapped) == 40

    def go() -> None:
        got = b""
        while len(got) < 40 << 12:
            got += waiting(m, space.read, len(got), 40 << 12)
        assert got == pattern(40 << 12)

    return go


def file_read_and_write(m: CpulessMachine) -> Callable[[], None]:
    space, store, _ = file_space(m, pattern(70 << 12))

    def go() -> None:
        assert waiting(m, space.read, 10, 5000) == pattern(5010)[10:]
        done = 0
        while done < 9000:
            done += waiting(m, space.write, (60 << 12) + 5 + done, bytes(9000 - done))
        assert waiting(m, space.read, (60 << 12) + 5, 9000) == bytes(9000)
        space.writeback()

    return go


@pytest.mark.parametrize("scheme", [AnonVma, PteChain])
@pytest.mark.parametrize("scenario", [swap_in, tmpfs_write, tmpfs_swapped, file_read_and_write])
def test_any_allocation_may_fail(scenario, scheme):
    failures = 0
    for nth in range(1, 400, 3 if scenario is not file_read_and_write else 1):
        m = CpulessMachine(scheme, swap=4 << 20)
        go = scenario(m)
        with Failing(m.mem.pages, nth, every=1) as failing:
            try:
                go()
            except (OutOfMemory, MemoryError):
                failures += 1
        m.audit(f"allocation {nth} failed")
        go()
        m.audit(f"after allocation {nth} failed")
        if not failing.failed:
            break
    else:
        raise AssertionError("the scenario never ran through")
    assert failures > 0
