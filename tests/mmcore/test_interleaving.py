"""Reclaim runs at each allocation, in the midst of forks, faults and moves: what is being changed stays whole."""

from __future__ import annotations

import random

import pytest

from mmcore.calls.mprotect import do_mprotect
from sandbox.kit.machine import RW
from tests.mmcore.box import AT, SCHEMES, Box

each = pytest.mark.parametrize("scheme", SCHEMES)


@each
def test_reclaim_in_the_midst_of_forks_faults_and_moves(scheme: str) -> None:
    """At each allocation of forks, faults and moves, reclaim takes pages that are just being copied, mapped or
    moved."""
    b = Box(scheme)
    b.map(0, 12)
    b.put(*range(12))
    rng = random.Random(7)
    mms, at = [b.mm], {b.mm: 0}
    for turn in range(24):
        mm = rng.choice(mms)
        with b.reclaiming():
            if turn % 6 == 5 and len(mms) > 1:
                mms.remove(mm)
                b.exit(mm)
            elif turn % 3 == 0:
                child = b.fork(mm)
                mms.append(child)
                at[child] = at[mm]
            elif turn % 3 == 1:
                b.mremap(at[mm], 12, at[mm] + 100, mm=mm)
                at[mm] += 100
            else:
                b.put(*(at[mm] + k for k in rng.sample(range(12), 3)), mm=mm, plus=1000 - at[mm])
        b.audit(f"turn {turn}")
    for mm in mms:
        b.has(*range(12), mm=mm, shift=at[mm])


@each
@pytest.mark.parametrize("seed", range(3))
def test_a_neighbours_anon_vma_is_adopted_around_forks(scheme: str, seed: int) -> None:
    """Two areas that differ in access only: the second takes the first one's anon_vma at its first page. Before or
    after forks, in parent and children, with reclaim at every allocation: the lists stay whole."""
    b = Box(scheme)
    rng = random.Random(seed)
    b.map(0, 4)
    b.map(4, 4, prot=7)
    b.map(8, 4)
    mms, wrote = [b.mm], {b.mm: {}}
    for turn in range(16):
        mm = rng.choice(mms)
        with b.reclaiming():
            if turn in (2, 5, 8):
                child = b.fork(mm)
                mms.append(child)
                wrote[child] = dict(wrote[mm])
            elif turn == 12:
                mms.remove(mm)
                b.exit(mm)
            else:
                page = rng.choice((0, 3, 4, 7, 8, 11))
                b.put(page, mm=mm, plus=turn * 100)
                wrote[mm][page] = turn * 100
        b.audit(f"turn {turn}")
    for mm in mms:
        do_mprotect(b.mem, mm, AT + (4 << 12), 4 << 12, RW)
        b.audit("merged, as far as the scheme allows")
    b.swap_out()
    for mm in mms:
        for page, plus in wrote[mm].items():
            b.has(page, mm=mm, plus=plus)
    b.audit()
