"""Damage, on purpose: one thing is broken, and the auditor has to say which. (A validator that is never seen to fail
proves nothing.)

Each damage is done to a machine that has a bit of everything: pages shared by fork, moved, swapped, in a file, in a
nonlinear area, locked.
"""

from __future__ import annotations

import errno
from typing import Any

import pytest

from mmcore.errors import InvariantViolation
from mmcore.physical.frames import PAGETABLE, PG_ANON, PG_LRU, PG_SWAPCACHE, PG_WRITEBACK, SLAB, USER
from mmcore.physical.gfp import GFP_KERNEL
from mmcore.physical.pgtable import P, W
from rmap_plugins.anon_vma import AnonVma
from tests.mmcore.scene import FILE, LINEAR, PRIVATE, QUIET, SCHEMES, SWAPPED, Scene, Table, expect, noting

DAMAGES: Table = {}
damage = noting(DAMAGES)


@damage(r"mapcount is not the 2 PTEs there are: frame {0:#x}")
def mapcount_too_high(s: Scene) -> int:
    pfn = s.pfn(s.child, PRIVATE)
    s.mem.frames.mapcount[pfn] += 1
    return pfn


@damage(r"mapcount is not the 1 PTEs there are: frame {0:#x}")
def mapcount_lost(s: Scene) -> int:
    pfn = s.pfn(s.parent, PRIVATE)
    s.mem.frames.mapcount[pfn] = 0
    return pfn


@damage(r"mapcount is not the .* PTEs there are: frame {0:#x}")
def pte_cleared(s: Scene) -> int:
    pfn = s.pfn(s.child, PRIVATE + 0x1000)
    s.mem.pgtables.ptes[s.pte(s.child, PRIVATE + 0x1000)] = 0
    return pfn


@damage(r"mapcount is not the .* PTEs there are: frame {0:#x}")
def pte_copied(s: Scene) -> int:
    s.mem.pgtables.ptes[s.pte(s.child, PRIVATE + 0x2000)] = s.mem.pgtables.ptes[s.pte(s.child, PRIVATE + 0x1000)]
    return s.pfn(s.child, PRIVATE + 0x1000)


@damage(r"a PTE at 0x40fff000 outside every area")
def pte_outside(s: Scene) -> None:
    s.mem.pgtables.ptes[s.mem.pgtables.pte_alloc(s.parent, 0x40FFF000)] = s.mem.zero_pfn << 12 | P


@damage(r"at 0x43000000 allows what its area \(0x1\) does not")
def pte_writable_in_a_readonly_area(s: Scene) -> None:
    s.mem.pgtables.ptes[s.pte(s.parent, QUIET)] |= W


@damage(r"at 0x43000000 allows what its area \(0x1\) does not")
def pte_executable(s: Scene) -> None:
    s.mem.pgtables.ptes[s.pte(s.parent, QUIET)] &= ~s.mem.pgtables.NX


@damage(r"0x40001000 may be written to, but the page is not its own: frame {0:#x}")
def shared_page_writable(s: Scene) -> int:
    s.mem.pgtables.ptes[s.pte(s.child, PRIVATE + 0x1000)] |= W
    return s.pfn(s.child, PRIVATE + 0x1000)


@damage(r"count is not that of its 2 users: frame {0:#x}")
def reference_lost(s: Scene) -> int:
    pfn = s.pfn(s.child, PRIVATE)
    s.mem.frames.count[pfn] -= 1
    return pfn


@damage(r"count is not that of its .* users: frame {0:#x}")
def reference_leaked(s: Scene) -> int:
    pfn = s.file.mapping.pages[7]
    s.mem.frames.count[pfn] += 1
    return pfn


@damage(r"nobody uses a frame that is not free: frame {0:#x}")
def frame_leaked(s: Scene) -> int:
    return s.mem.pages.alloc_page(GFP_KERNEL, USER)


@damage(r"a free frame is in use: frame {0:#x}")
def free_frame_referenced(s: Scene) -> int:
    pfn = s.mem.pages.zones[0].pcp[0]
    s.mem.frames.count[pfn] = 1
    return pfn


@damage(r"a free frame is in use: frame {0:#x}")
def free_frame_flagged(s: Scene) -> int:
    pfn = s.mem.pages.zones[0].pcp[0]
    s.mem.frames.flags[pfn] |= PG_ANON
    return pfn


@damage(r"rss \d+, but \d+ pages mapped")
def rss_wrong(s: Scene) -> None:
    s.child.rss += 1


@damage(r"anon_rss \d+, shmem_rss \d+, but \d+ anonymous and \d+ shared memory pages mapped")
def anonymous_page_counted_as_a_files(s: Scene) -> None:
    s.child.anon_rss -= 1


@damage(r"anon_rss \d+, shmem_rss \d+, but \d+ anonymous and \d+ shared memory pages mapped")
def files_page_counted_as_shared_memory(s: Scene) -> None:
    s.parent.shmem_rss += 1


@damage(r"nr_mapped \d+, but \d+ frames are mapped")
def nr_mapped_wrong(s: Scene) -> None:
    s.mem.vmstat.nr_mapped -= 1


@damage(r"nr_ptes \d+, but \d+ tables")
def nr_ptes_wrong(s: Scene) -> None:
    s.child.nr_ptes += 1


@damage(r"nr_page_table_pages \d+, but \d+ tables")
def nr_page_table_pages_wrong(s: Scene) -> None:
    s.mem.vmstat.nr_page_table_pages += 1


@damage(r"table for 0x40000000 does not say so: frame {0:#x}")
def table_forgets_its_mm(s: Scene) -> int:
    table = s.pte(s.child, PRIVATE) // s.mem.pgtables.PTRS
    s.mem.frames.mapping[table] = s.parent.addr
    return table


@damage(r"table for 0x40000000 does not say so: frame {0:#x}")
def table_forgets_its_address(s: Scene) -> int:
    table = s.pte(s.child, PRIVATE) // s.mem.pgtables.PTRS
    s.mem.frames.index[table] += 1
    return table


@damage(r"\d+ frames of page tables, but \d+ tables and 3 of the root")
def table_leaked(s: Scene) -> None:
    pfn = s.mem.pages.alloc_page(GFP_KERNEL, PAGETABLE)
    s.mem.frames.mapping[pfn] = s.parent.addr


@damage(r"1 frames of page tables belong to 0xdead0000, which is no mm")
def table_of_nobody(s: Scene) -> None:
    pfn = s.mem.pages.alloc_page(GFP_KERNEL, PAGETABLE)
    s.mem.frames.mapping[pfn] = 0xDEAD0000


@damage(r"PG_anon without a mapping: frame {0:#x}")
def anon_without_mapping(s: Scene) -> int:
    pfn = s.file.mapping.pages[7]
    s.m.munmap(s.parent, LINEAR, 8)
    s.m.munmap(s.child, LINEAR, 8)
    s.m.munmap(s.other, LINEAR, 8)
    s.mem.frames.flags[pfn] |= PG_ANON
    return pfn


@damage(r"page 7 of mapping {0:#x} does not say so")
def page_cache_index_wrong(s: Scene) -> int:
    s.mem.frames.index[s.file.mapping.pages[7]] = 9
    return s.file.mapping.addr


@damage(r"mapping {0:#x}: \d+ pages, \d+ in its tree")
def page_cache_tree_wrong(s: Scene) -> int:
    s.file.mapping.nodes.items += 1
    return s.file.mapping.addr


@damage(r"zone DMA: \d+ frames with PG_lru, lists hold \d+ \+ \d+")
def lru_entry_dropped(s: Scene) -> None:
    s.mem.frames.stamp[s.pfn(s.child, PRIVATE)] += 1
    s.mem.pages.zones[0].active.n -= 1


@damage(r"a list of \d+ holds \d+ entries")
def lru_entry_duplicated(s: Scene) -> None:
    zone = s.mem.pages.zones[0]
    zone.active._queue.append(zone.active._queue[-1])


@damage(r"on the inactive list of DMA: frame {0:#x}")
def lru_page_on_the_wrong_list(s: Scene) -> int:
    zone = s.mem.pages.zones[0]
    pfn = next(iter(zone.active))
    zone.active.remove(pfn)
    zone.inactive.add(pfn)
    return pfn


@damage(r"on no LRU list and in no pagevec: frame {0:#x}")
def lru_page_forgotten(s: Scene) -> int:
    zone = s.mem.pages.zones[0]
    pfn = next(iter(zone.active))
    zone.active.remove(pfn)
    s.mem.frames.flags[pfn] &= ~PG_LRU
    return pfn


@damage(r"zone DMA: free_pages \d+, the lists hold \d+")
def buddy_block_lost(s: Scene) -> None:
    next(area for area in s.mem.pages.zones[0].free_area if area).popitem()


@damage(r"zone DMA: free_pages \d+, the lists hold \d+")
def free_pages_wrong(s: Scene) -> None:
    s.mem.pages.zones[0].free_pages += 1


@damage(r"a free block of order 0 at {0:#x} is not free, not aligned")
def buddy_block_in_use(s: Scene) -> int:
    pfn = s.pfn(s.child, PRIVATE)
    s.mem.pages.zones[0].free_area[0][pfn] = None
    return pfn


@damage(r"a free block of order 3 at 0x[0-9a-f]*[1-79abcdef] is not free, not aligned")
def buddy_block_misaligned(s: Scene) -> None:
    areas = s.mem.pages.zones[0].free_area
    order = next(o for o in range(4, len(areas)) if areas[o])
    areas[3][next(iter(areas[order])) + 1] = None


@damage(r"zone DMA: free has \d+ frames, \d+ on the books")
def frame_freed_into_another_zone(s: Scene) -> None:
    """Low memory as a whole adds up all the same."""
    dma, normal = s.mem.pages.zones[:2]
    order = next(order for order, area in enumerate(dma.free_area) if area)
    pfn, _ = dma.free_area[order].popitem()
    normal.free_area[order][pfn] = None
    dma.free_pages -= 1 << order
    normal.free_pages += 1 << order


@damage(r"zone DMA: per_cpu_lists has \d+ frames, \d+ on the books")
def per_cpu_list_forgets_a_frame(s: Scene) -> None:
    s.mem.pages.zones[0].pcp.pop()


@damage(r"the per-cpu list names a frame twice")
def per_cpu_list_duplicated(s: Scene) -> None:
    pcp = s.mem.pages.zones[0].pcp
    pcp.append(pcp[0])


@damage(r"on the per-cpu list: frame {0:#x}")
def per_cpu_list_has_a_used_frame(s: Scene) -> int:
    pfn = s.pfn(s.child, PRIVATE)
    s.mem.pages.zones[0].pcp.append(pfn)
    return pfn


@damage(r"low memory: user_pages has \d+ frames, \d+ on the books")
def owner_wrong(s: Scene) -> None:
    s.mem.frames.owner[s.pfn(s.child, PRIVATE)] = SLAB


@damage(r"low memory: owners add up to \d+ of \d+ frames")
def books_wrong(s: Scene) -> None:
    s.mem.pages.owned[USER] += 1


@damage(r"swap slot {0:#x} has .* users, the map says 9")
def swap_count_wrong(s: Scene) -> int:
    entry = s.swap_entry()
    s.mem.swap.map[entry] = 9
    return entry


@damage(r"swap slot 0xff is in use by nobody")
def swap_slot_leaked(s: Scene) -> None:
    s.mem.swap.map[0xFF] = 1
    s.mem.swap.areas[0].nr_free -= 1


@damage(r"swap 0: \d+ slots in use in the map, \d+ on the books")
def swap_books_wrong(s: Scene) -> None:
    s.mem.swap.areas[0].nr_free -= 1


@damage(r"swap slot {0:#x} .*nothing|swap slot {0:#x} has")
def swap_entry_beyond_the_device(s: Scene) -> int:
    entry = s.mem.swap.areas[0].pages + 5
    i = s.pte(s.parent, SWAPPED)
    s.mem.pgtables.ptes[i] = s.mem.pgtables.swp_pte(entry)
    return entry


@damage(r"swap cache: \d+ pages, \d+ frames with PG_swapcache")
def swap_cache_flag_lost(s: Scene) -> None:
    s.mem.frames.flags[s.pfn(s.child, PRIVATE)] |= PG_SWAPCACHE


@damage(r"nr_writeback 0, but 1 frames are being written")
def writeback_flag_left(s: Scene) -> None:
    s.mem.frames.flags[s.pfn(s.child, PRIVATE)] |= PG_WRITEBACK


@damage(r"slab vm_area_struct: \d+ objects on the books, \d+ in its slabs")
def slab_count_wrong(s: Scene) -> None:
    s.mem.vma_cache.objects += 1


@damage(r"\d+ areas, but \d+ vm_area_struct objects")
def area_object_leaked(s: Scene) -> None:
    s.mem.vma_cache.alloc()


@damage(r"\d+ address spaces, but \d+ mm_struct objects")
def mm_object_leaked(s: Scene) -> None:
    s.mem.mm_cache.alloc()


@damage(r"slab vm_area_struct: frame 0x[0-9a-f]+ has an object that is free twice")
def slab_object_freed_twice(s: Scene) -> None:
    slab = next(iter(s.mem.vma_cache._slabs.values()))
    slab.free[0] = slab.free[1]


@damage(r"slab vm_area_struct: frame 0x[0-9a-f]+ has \d+ free objects that nobody will find")
def slab_forgotten(s: Scene) -> None:
    s.mem.vma_cache._current = None


@damage(r"slab: caches hold \d+ frames, \d+ on the books")
def slab_frame_leaked(s: Scene) -> None:
    s.mem.pages.alloc_page(GFP_KERNEL, SLAB)


@damage(r"overlaps the area before it")
def areas_overlap(s: Scene) -> None:
    s.vma(s.child, PRIVATE).vm_end = PRIVATE + 0x101000


@damage(r"starts differ from the areas' vm_start")
def starts_differ(s: Scene) -> None:
    s.child.starts[1] += 4096


@damage(r"belongs to another mm")
def area_of_another_mm(s: Scene) -> None:
    s.vma(s.child, LINEAR).vm_mm = s.parent


@damage(r"total_vm \d+, its areas have \d+ pages")
def total_vm_wrong(s: Scene) -> None:
    s.parent.total_vm += 1


@damage(r"locked_vm 3, its locked areas have 2 pages")
def locked_vm_wrong(s: Scene) -> None:
    s.parent.locked_vm += 1


@damage(r"mapping {0:#x}: \d+ areas map it, its index has .*42000000-42008000.* is lost")
def file_index_entry_removed(s: Scene) -> int:
    mapping = s.file.mapping
    mapping.i_mmap.remove(s.vma(s.child, LINEAR))
    return mapping.addr


@damage(r"mapping {0:#x}: \d+ areas map it, its index has .*41000000-41008000.* is lost")
def nonlinear_list_entry_removed(s: Scene) -> int:
    mapping = s.file.mapping
    mapping.nonlinear.remove(s.vma(s.child, FILE))
    return mapping.addr


@damage(r"mapping {0:#x}: i_mmap_writable \d+, but \d+ shared areas may write")
def i_mmap_writable_wrong(s: Scene) -> int:
    s.file.mapping.i_mmap_writable += 1
    return s.file.mapping.addr


@damage(r"mapping {0:#x} has areas, but nobody knows it")
def mapping_forgotten(s: Scene) -> int:
    del s.mem.mappings[s.file.mapping.addr]
    return s.file.mapping.addr


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", DAMAGES)
def test_the_core(name: str, scheme: str) -> None:
    scene = Scene(SCHEMES[scheme])
    if name == "nonlinear_list_entry_removed" and not scene.mem.setup.nonlinear_areas:
        pytest.skip(f"not applicable: under {scheme} remap_file_pages makes ordinary areas")
    expect(scene, name, DAMAGES)


# --- the auditor itself


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_audit_leaves_no_trace(scheme: str) -> None:
    """Frames, memory, meters, clock and counters are what they were."""
    s = Scene(SCHEMES[scheme])
    mem = s.mem

    def state() -> Any:
        arrays = [
            getattr(mem.frames, f"np_{n}").tobytes()
            for n in ("flags", "count", "mapcount", "mapping", "index", "private", "rmap", "owner", "stamp")
        ]
        counters = mem.meters.as_dict(), mem.vmstat.as_dict(), mem.clock.now, list(mem.pages.owned)
        return arrays, bytes(mem.ram.u8), counters, [mm.flush_pending for mm in mem.mms.values()]

    before = state()
    assert s.m.auditor.audit() == []
    assert state() == before


def test_a_violation_reads_well() -> None:
    s = Scene(AnonVma)
    for k in range(1, 8):
        s.mem.frames.mapcount[s.pfn(s.parent, PRIVATE + (k << 12))] += 1
        s.mem.frames.count[s.pfn(s.parent, PRIVATE + (k << 12))] += 1
    checks = s.m.auditor.checks
    with pytest.raises(InvariantViolation) as caught:
        s.m.auditor.require("fork 7")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("audit fork 7: ") and lines[0].endswith(" violation(s)")
    assert len(lines) <= 14 and s.m.auditor.checks == checks + 1
    assert all("owner user_pages" in line for line in lines[1:8])


def test_pins_are_the_kernels_to_tell() -> None:
    s = Scene(AnonVma)
    pfn = s.mem.faults.get_user_page(s.child, PRIVATE, True)
    assert any("count is not that" in w for w in s.m.auditor.audit())
    s.m.auditor.pins = lambda: {pfn: 1}
    assert s.m.auditor.audit() == []


def test_errors_carry_names() -> None:
    """The scene's own operations answer as the guest would see it."""
    from mmcore.errors import SysError

    s = Scene(AnonVma)
    with pytest.raises(SysError, match="EFAULT") as caught:
        s.mem.faults.fault_in(s.child, 0x10000000, False)
    assert caught.value.errno == errno.EFAULT
