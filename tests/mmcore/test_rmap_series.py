"""Stages of the series of 2004 that could not reclaim all: between two schemes, and before mremap was thought of."""

from __future__ import annotations

import pytest

from mmcore.physical.pgtable import P
from mmcore.rmap.core import SUCCESS
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_SHARED
from tests.mmcore.asking import found
from tests.mmcore.box import Box


@pytest.mark.parametrize("scheme", ["rmap_series-10", "rmap_series-11"])
@pytest.mark.parametrize("shared", [False, True])
def test_before_rmap_11_a_moved_page_cannot_be_swapped_out(scheme: str, shared: bool) -> None:
    """rmap 10 brought anonmm, rmap 11 its mremap. In between a page that moved was at an address where no walk looks:
    as good as locked."""
    b = Box(scheme)
    b.map(0, 8)
    b.put(*range(8))
    child = b.fork(b.mm) if shared else None
    b.mremap(0, 4, 100)
    b.audit()
    flawed = scheme.endswith("-10")
    assert found(b, 100) == (0 if flawed and not shared else 1)
    if shared:
        assert b.mem.frames.mapcount[b.pfn(0, child)] == (2 if flawed else 1), "rmap 11 copied it first"
    for _ in range(3):
        b.swap_out()
    b.audit()
    assert all(not b.pte(k) & P for k in range(4, 8))
    assert all(bool(b.pte(100 + k) & P) == flawed for k in range(4))
    b.has(0, 1, 2, 3, shift=100)
    b.mremap(100, 4, 0)
    b.swap_out()
    assert not any(b.pte(k) & P for k in range(8)), "back home it is found again"
    b.has(*range(8))
    if child:
        b.has(*range(8), mm=child)
    b.audit()


@pytest.mark.parametrize("stage", [9, 38])
def test_between_two_schemes_no_anonymous_page_goes(stage: int) -> None:
    """rmap 9 took the chains away before rmap 10 brought anonmm, rmap 38 took that before rmap 39 brought anon_vma:
    such a kernel cannot swap but files."""
    b = Box(f"rmap_series-{stage}")
    file = tmpfs_file(b.mem, 4)
    b.map(0, 4)
    b.map(10, 4, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(0, 1, 2, 3, 10, 11)
    b.fork(b.mm)
    for _ in range(3):
        b.swap_out()
    b.audit()
    assert all(b.pte(k) & P and found(b, k) == 0 for k in range(4)) and not b.pte(10) & P
    assert b.mem.rmap.try_to_unmap(b.pfn(0)) != SUCCESS
    b.has(0, 1, 2, 3, 10, 11)
