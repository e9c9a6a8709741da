"""The mini virtual scan of nonlinear areas is work like any other: its areas, PTEs, hits and misses are on the file
index's books."""

from mmcore.calls.fremap import remap_file_pages
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_SHARED, RW
from tests.mmcore.box import AT, Box


def test_what_the_mini_scan_looks_at_is_counted() -> None:
    box = Box("anon_vma")
    file = tmpfs_file(box.mem, 8)
    box.mmap(box.mm, 8, RW, MAP_SHARED | MAP_FIXED, AT, file, 0)
    remap_file_pages(box.mem, box.mm, AT, 4 << 12, 0, 4, 0)
    remap_file_pages(box.mem, box.mm, AT + (4 << 12), 4 << 12, 0, 0, 0)
    for k in range(8):
        box.store(box.mm, AT + (k << 12), k)
    pfn = file.mapping.pages[4]
    mem = box.mem
    ptes, at = mem.pgtables.ptes, [mem.pgtables.pte_index(box.mm.pgd, AT + (k << 12)) for k in range(8)]
    for i in at:
        ptes[i] &= ~0x20  # not used of late
    before = mem.meters.as_dict()
    mem.frames.count[pfn] += 1
    mem.rmap.try_to_unmap(pfn)
    mem.frames.count[pfn] -= 1
    grown = {name: value - before[name] for name, value in mem.meters.as_dict().items()}
    assert grown["file_walks"] == 1 and grown["file_vmas_visited"] >= 1 and grown["file_ptes_probed"] == 8
    assert grown["file_candidates"] == grown["file_hits"] + grown["file_misses"] == 8 and grown["file_hits"] == 1
    assert mem.meters.file_longest_walk == 8
    box.audit()
