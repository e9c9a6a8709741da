"""Whoever clears a bit, a permission or a mapping that the TLB may hold asks for a flush, under every scheme."""

from __future__ import annotations

import pytest

from mmcore.calls.mprotect import do_mprotect
from mmcore.physical.pgtable import W
from sandbox.kit.machine import PROT_READ
from tests.mmcore.box import AT, SCHEMES, Box, needs_walk

each = pytest.mark.parametrize("scheme", SCHEMES)


@each
@pytest.mark.parametrize("paging", ["pae", "2level"])
def test_a_cleared_accessed_bit_is_flushed(scheme: str, paging: str) -> None:
    """The CPU sets A only when it fills a TLB entry: where A is cleared, the entry has to go, or a busy page looks
    idle."""
    needs_walk(scheme)
    b = Box(scheme, paging)
    b.map(0, 1)
    b.put(0)
    child = b.fork(b.mm)
    b.load(child, AT)
    b.mm.flush_pending = child.flush_pending = False
    assert b.mem.rmap.page_referenced(b.pfn(0)) == 2
    assert b.mm.flush_pending and child.flush_pending
    b.mm.flush_pending = child.flush_pending = False
    assert b.mem.rmap.page_referenced(b.pfn(0)) == 0
    assert not b.mm.flush_pending and not child.flush_pending, "and only there"


@each
@pytest.mark.parametrize("what", ["fork", "mprotect", "munmap", "swap", "copy", "mremap"])
def test_whoever_takes_something_away_flushes(scheme: str, what: str) -> None:
    b = Box(scheme)
    b.map(0, 4)
    b.put(0, 1, 2, 3)
    child = b.fork(b.mm) if what == "copy" else None
    b.mm.flush_pending = False
    before = b.pte(0)
    if what == "fork":
        b.fork(b.mm)
        assert not b.pte(0) & W
    elif what == "mprotect":
        do_mprotect(b.mem, b.mm, AT, 4096, PROT_READ)
        assert not b.pte(0) & W
    elif what == "munmap":
        b.munmap(b.mm, AT, 1)
    elif what == "swap":
        b.swap_out()
    elif what == "copy":
        b.put(0, plus=5)
        assert b.pte(0) >> 12 != before >> 12 and child is not None
    else:
        b.mremap(0, 1, 50)
    assert b.mm.flush_pending
