"""fork: what a child inherits of the PTEs, and a child that fails half made."""

from __future__ import annotations

import pytest

from mmcore.errors import SysError
from mmcore.paging.lifecycle import dup_mmap
from mmcore.physical.frames import PG_SWAPCACHE
from mmcore.physical.pgtable import A, D
from sandbox.kit.files import tmpfs_file
from sandbox.kit.injection import Failing
from sandbox.kit.machine import MAP_FIXED, MAP_SHARED
from tests.mmcore.box import SCHEMES, Box

each = pytest.mark.parametrize("scheme", SCHEMES)


@each
def test_fork_copies_dirty_and_young_as_they_should_be(scheme: str) -> None:
    """2.6.7's copy: private PTEs keep D and lose A in the child; shared ones lose both. No write is lost by that."""
    b = Box(scheme)
    file = tmpfs_file(b.mem, 4)
    b.map(0, 2)
    b.map(4, 4, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(0, 4)
    child = b.fork(b.mm)
    assert b.pte(0) & D and b.pte(0, child) & (A | D) == D
    assert b.pte(4) & D and not b.pte(4, child) & (A | D)
    b.exit(b.mm)
    b.swap_out()
    b.has(0, 4, mm=child)
    b.audit()


@each
def test_a_child_that_fails_half_made_leaves_no_trace(scheme: str) -> None:
    """The mm of a failed fork is not among the living, and the parent's pages are as shared as before."""
    b = Box(scheme)
    b.map(0, 30)
    b.put(*range(30))
    other = b.fork(b.mm)
    mapcounts = [b.mem.frames.mapcount[b.pfn(k)] for k in range(30)]
    for n in range(1, 60):
        with Failing(b.mem.pages, n) as failing:
            try:
                child = dup_mmap(b.mem, b.mm)
            except SysError:
                assert failing.failed
            else:
                b.exit(child)
        assert len(b.mem.mms) == 2
        assert [b.mem.frames.mapcount[b.pfn(k)] for k in range(30)] == mapcounts
        b.audit()
        if not failing.failed:
            break
    b.has(*range(30), mm=other)
    assert not b.mem.frames.flags[b.pfn(0)] & PG_SWAPCACHE
