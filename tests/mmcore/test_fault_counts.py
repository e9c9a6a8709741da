"""Which faults are counted, as minor or major, and against whom."""

from __future__ import annotations

import pytest

from mmcore.errors import MustWait
from mmcore.paging.fault import OOM
from rmap_plugins.anon_vma import AnonVma
from sandbox.kit.files import host_file
from sandbox.kit.injection import Failing
from sandbox.kit.machine import MAP_SHARED, CpulessMachine


def test_pages_brought_in_by_populate_count_as_faults_of_the_task() -> None:
    """handle_mm_fault counts whoever calls it; what had to wait is major, and leaves nothing behind for the next
    fault."""
    m = CpulessMachine(AnonVma)
    mm = m.new_mm()
    current, vmstat = m.mem.current, m.mem.vmstat
    base = m.mmap(mm, 8)
    assert m.mem.faults.make_pages_present(mm, base, base + (8 << 12)) == 0
    assert (current.min_flt, current.maj_flt, vmstat.pgfault) == (8, 0, 8)
    file = host_file(m.mem, [b"a"])
    at = m.mmap(mm, 1, 1, MAP_SHARED, file=file)
    assert m.mem.faults.make_pages_present(mm, at, at + 4096) == 0
    assert (current.min_flt, current.maj_flt, vmstat.pgfault, vmstat.pgmajfault) == (8, 1, 9, 1)
    m.store(mm, m.mmap(mm, 1), 1)
    assert (current.min_flt, current.maj_flt) == (9, 1)


def test_a_fault_that_fails_after_it_waited_does_not_make_the_next_one_major() -> None:
    m = CpulessMachine(AnonVma)
    mm = m.new_mm()
    file = host_file(m.mem, [b"a"])
    at = m.mmap(mm, 1, 1, MAP_SHARED, file=file)
    with pytest.raises(MustWait) as wait:
        m.mem.faults.do_page_fault(mm, at, 4)
    m.mem.reclaim.wait_sync(wait.value.queue)
    assert m.mem.current.fault_major
    other = m.mmap(mm, 1, addr=0x10000000)  # another table
    with Failing(m.mem.pages, 1, every=1):
        assert m.mem.faults.do_page_fault(mm, other, 6) == OOM
    m.store(mm, other, 1)
    assert (m.mem.current.min_flt, m.mem.current.maj_flt) == (1, 0)
