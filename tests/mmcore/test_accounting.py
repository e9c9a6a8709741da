"""What is mapped is counted: mapcount, nr_mapped, references and swap slots, under every scheme; what has no reverse
mapping is not."""

from __future__ import annotations

import random

import pytest

from mmcore.calls.fremap import remap_file_pages
from mmcore.errors import InvariantViolation
from mmcore.physical.frames import FREE, PCP, PG_ANON, PG_DIRECT
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_SHARED, PROT_READ
from tests.mmcore.box import AT, SCHEMES, Box

each = pytest.mark.parametrize("scheme", SCHEMES)


@each
def test_a_removal_finds_its_record_after_the_pte_is_cleared(scheme: str) -> None:
    """munmap clears a PTE and then tells the scheme: it must find its record nevertheless."""
    b = Box(scheme)
    b.map(0, 60)
    b.put(*range(60))
    pfns = [b.pfn(k) for k in range(60)]
    b.fork(b.mm)
    b.munmap(b.mm, AT, 5)
    b.munmap(b.mm, AT + (20 << 12), 40)
    b.audit()
    frames = b.mem.frames
    assert all(frames.mapcount[pfn] == 1 for k, pfn in enumerate(pfns) if k < 5 or k >= 20)
    for mm in list(b.mem.mms.values()):
        b.exit(mm)
    b.audit()
    assert not any(
        frames.mapcount[pfn]
        or frames.flags[pfn] & (PG_ANON | PG_DIRECT)
        or (scheme == "pte_chain" and frames.rmap[pfn])
        for pfn in pfns
    )


@each
def test_frames_without_reverse_mapping_are_not_counted(scheme: str) -> None:
    """The zero page and frames beyond RAM stand in page tables, are copied, moved and unmapped, and are never
    counted."""
    b = Box(scheme)
    b.map(0, 40)
    for k in range(30):
        assert b.load(b.mm, AT + (k << 12)) == 0
    assert b.pfn(3) == b.mem.zero_pfn and b.mm.rss == 0 and b.mem.frames.mapcount[b.mem.zero_pfn] == 0
    b.mem.pgtables.ptes[b.index(35)] = (b.mem.frames.nr + 77) << 12 | b.mem.pgtables.prot(
        PROT_READ
    )  # a device's memory
    child = b.fork(b.mm)
    assert b.pfn(3, child) == b.mem.zero_pfn and child.rss == 0
    b.mremap(0, 40, 100)
    assert b.pfn(103) == b.mem.zero_pfn and b.pfn(135) == b.mem.frames.nr + 77
    b.audit()
    b.put(103)
    assert b.load(child, AT + 0x3000) == 0
    b.swap_out()
    b.audit()
    b.munmap(b.mm, AT + (100 << 12), 36)
    b.exit(child)
    b.audit()
    assert b.mm.rss == 0


@each
def test_nr_mapped_counts_frames_not_mappings(scheme: str) -> None:
    """nr_mapped counts frames with a mapping, not mappings."""
    b = Box(scheme)
    vmstat = b.mem.vmstat
    b.map(0, 30)
    b.put(*range(20))
    for k in range(20, 30):
        b.load(b.mm, AT + (k << 12))
    assert vmstat.nr_mapped == 20, "the zero page is nobody's"
    child = b.fork(b.mm)
    assert vmstat.nr_mapped == 20
    b.put(*range(5), mm=child)
    assert vmstat.nr_mapped == 25
    b.exit(child)
    assert vmstat.nr_mapped == 20
    b.swap_out()
    assert vmstat.nr_mapped == 0
    b.has(*range(20))
    assert vmstat.nr_mapped == 20
    b.mremap(0, 30, 100)
    b.munmap(b.mm, AT + (100 << 12), 30)
    assert vmstat.nr_mapped == 0
    b.audit()


@each
def test_after_a_storm_every_counter_is_what_it_was(scheme: str) -> None:
    """Free memory, and every counter, are after a storm what they were before it."""
    b = Box(scheme)
    b.map(200, 1)
    b.put(200)
    b.mem.pages.drain_pcp()
    b.mem.slab.shrink_all()
    before = b.mem.pages.nr_free() - (b.mem.slab.caches["pte_chain"].frames if scheme == "pte_chain" else 0)
    rng = random.Random(6)
    b.map(0, 40)
    mms = [b.mm]
    for _ in range(120):
        mm = rng.choice(mms)
        if len(mms) < 6 and rng.random() < 0.2:
            mms.append(b.fork(mm))
        elif len(mms) > 1 and rng.random() < 0.1:
            gone = mms.pop(rng.randrange(1, len(mms)))
            b.exit(gone)
        elif rng.random() < 0.1:
            b.swap_out()
        else:
            b.put(*rng.sample(range(40), 6), mm=mm)
    b.audit()
    for mm in mms[1:]:
        b.exit(mm)
    b.munmap(b.mm, AT, 40)
    b.mem.clock.charge(10**10)
    b.swap_out()
    b.has(200)
    b.audit()
    b.mem.pages.drain_pcp()
    b.mem.slab.shrink_all()
    after = b.mem.pages.nr_free() - (b.mem.slab.caches["pte_chain"].frames if scheme == "pte_chain" else 0)
    assert abs(before - after) <= 1, "one slab of tree nodes, perhaps"
    assert b.mem.swap.areas[0].nr_free >= b.mem.swap.areas[0].total - 1


@each
def test_nr_mapped_counts_file_pages_that_somebody_maps(scheme: str) -> None:
    """Linear, nonlinear and truncated: nr_mapped counts pages that somebody maps."""
    b = Box(scheme)
    vmstat = b.mem.vmstat
    file = tmpfs_file(b.mem, 20)
    b.map(0, 20, flags=MAP_SHARED | MAP_FIXED, file=file)
    b.put(*range(10))
    child = b.fork(b.mm)
    assert vmstat.nr_mapped == 10
    for k in range(5):
        remap_file_pages(b.mem, b.mm, AT + (k << 12), 4096, 0, 9, 0)
    assert vmstat.nr_mapped == 10
    b.exit(child)
    assert vmstat.nr_mapped == 5, "pages 5 to 9; the last one six times"
    b.audit()
    file.truncate(8 << 12)
    assert vmstat.nr_mapped == 3
    b.munmap(b.mm, AT, 20)
    assert vmstat.nr_mapped == 0
    b.audit()


@each
def test_a_mapped_frame_cannot_be_freed_nor_unmapped_twice(scheme: str) -> None:
    b = Box(scheme)
    b.map(0, 2)
    b.put(0, 1)
    pfn, frames = b.pfn(0), b.mem.frames
    frames.count[pfn] = 0
    with pytest.raises(InvariantViolation, match="mapcount 1"):
        b.mem.pages.free_page(pfn)
    frames.count[pfn] = 1
    b.audit()
    b.munmap(b.mm, AT, 1)
    assert frames.owner[pfn] in (FREE, PCP) and frames.mapcount[pfn] == 0
    with pytest.raises(InvariantViolation, match="a PTE more than were counted"):
        b.mem.rmap.forget(b.mm.vmas[0], pfn, b.index(0))
