"""Counters: `VmStat` has 2.6.7's names exactly (/proc/vmstat); `Meters` are ours, counted where history's code did
the work."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar


@dataclass(slots=True, eq=False)
class VmStat:
    """Event counts and page states of 2.6.7, in the order in which /proc/vmstat shows them. Linux: mm/page_alloc.c
    vmstat_text, 2.6.7."""

    NAMES: ClassVar[tuple[str, ...]]

    # Pages that are now so (nr_unstable: always 0, it was NFS's; nr_mapped: by at least one PTE).
    nr_dirty: int = 0
    nr_writeback: int = 0
    nr_unstable: int = 0
    nr_page_table_pages: int = 0
    nr_mapped: int = 0
    nr_slab: int = 0
    # KB read from and written to disks; pages read from and written to swap.
    pgpgin: int = 0
    pgpgout: int = 0
    pswpin: int = 0
    pswpout: int = 0
    # Frames that the allocator handed out, by zone, and took back.
    pgalloc_high: int = 0
    pgalloc_normal: int = 0
    pgalloc_dma: int = 0
    pgfree: int = 0
    # Pages that went to the active list, and from it to the inactive one.
    pgactivate: int = 0
    pgdeactivate: int = 0
    # Faults: all, and those that waited for a page to be read.
    pgfault: int = 0
    pgmajfault: int = 0
    # Pages of a zone that reclaim looked at on the active list, freed, and looked at on the inactive list: from kswapd,
    # and from allocations that found too little.
    pgrefill_high: int = 0
    pgrefill_normal: int = 0
    pgrefill_dma: int = 0
    pgsteal_high: int = 0
    pgsteal_normal: int = 0
    pgsteal_dma: int = 0
    pgscan_kswapd_high: int = 0
    pgscan_kswapd_normal: int = 0
    pgscan_kswapd_dma: int = 0
    pgscan_direct_high: int = 0
    pgscan_direct_normal: int = 0
    pgscan_direct_dma: int = 0
    # Pages freed with their inode, from allocations; objects of slab that shrinkers looked at.
    pginodesteal: int = 0
    slabs_scanned: int = 0
    # kswapd: pages it freed, those of them with their inode, and its passes.
    kswapd_steal: int = 0
    kswapd_inodesteal: int = 0
    pageoutrun: int = 0
    # Allocations that had to reclaim themselves; pages that went to the inactive list's tail when they were written.
    allocstall: int = 0
    pgrotated: int = 0

    def count_refill(self, zone: int, pages: int) -> None:
        """Reclaim looked at `pages` of the active list of the zone with that index (0: DMA, 1: Normal)."""
        if zone:
            self.pgrefill_normal += pages
        else:
            self.pgrefill_dma += pages

    def count_scan(self, zone: int, kswapd: bool, scanned: int, freed: int) -> None:
        """Reclaim, kswapd's or an allocation's, looked at `scanned` pages of the zone's inactive list and freed
        `freed` of them."""
        if zone:
            self.pgsteal_normal += freed
            if kswapd:
                self.pgscan_kswapd_normal += scanned
            else:
                self.pgscan_direct_normal += scanned
        else:
            self.pgsteal_dma += freed
            if kswapd:
                self.pgscan_kswapd_dma += scanned
            else:
                self.pgscan_direct_dma += scanned
        if kswapd:
            self.kswapd_steal += freed

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.NAMES}


VmStat.NAMES = tuple(field.name for field in fields(VmStat))


@dataclass(slots=True, eq=False)
class Meters:
    """Work that 2.6.7 did not count. The plain names are the scheme's; `file_*` is the file index's own work. All
    count since boot; the walks of the audit and of pictures are not in them."""

    NAMES: ClassVar[tuple[str, ...]]

    # Faults: copies on write, write faults that found the page alone, read faults answered by the zero page.
    cow: int = 0
    reuse: int = 0
    zero_page: int = 0
    # Walks asked of the scheme; (mm, address) pairs they offered; those of them that did and did not map the frame.
    walks: int = 0
    candidates: int = 0
    hits: int = 0
    misses: int = 0
    # What the walks looked at on the way: areas, address spaces, PTEs, nodes of the scheme's lists and trees.
    vmas_visited: int = 0
    mms_visited: int = 0
    ptes_probed: int = 0
    nodes: int = 0
    # find_vma by walks and scans that knew only the address space, and the areas its tree was descended over.
    vma_lookups: int = 0
    vma_lookup_nodes: int = 0
    # Most objects of a kind one walk looked at; chain nodes searched to take an entry out.
    longest_walk: int = 0
    removal_nodes: int = 0
    # Entries put into the scheme's lists, chains and trees; objects the scheme allocated.
    links: int = 0
    allocations: int = 0
    # Forced by the scheme: pages that mremap copied, areas that stayed two.
    mremap_copies: int = 0
    merges_refused: int = 0
    # Address spaces copied, and the pages, links and allocations that took.
    forks: int = 0
    fork_ptes: int = 0
    fork_links: int = 0
    fork_allocations: int = 0
    # Pages moved to another frame, and those given up because the scheme did not lead to all their PTEs.
    migrations: int = 0
    migrate_misses: int = 0
    # Walks of the file's index, metered as the scheme's are.
    file_walks: int = 0
    file_candidates: int = 0
    file_hits: int = 0
    file_misses: int = 0
    file_vmas_visited: int = 0
    file_ptes_probed: int = 0
    file_nodes: int = 0
    file_longest_walk: int = 0
    # swap_outs asked of a scheme without a reverse map; PTEs they found young or locked, and took away.
    scans: int = 0
    scan_young: int = 0
    scan_unmapped: int = 0

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.NAMES}

    def restore(self, values: dict[str, int]) -> None:
        """All meters stand again as `as_dict` gave them: what was done in between is not counted."""
        Meters.__init__(self, **values)


Meters.NAMES = tuple(field.name for field in fields(Meters))


class WalkLengths:
    """How many walks looked at how many objects: `counts[n.bit_length()]` walks had a length of `n`, so the buckets
    are 0, 1, 2-3, 4-7, ..."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = [0] * 33

    def as_dict(self) -> dict[str, int]:
        """Only the buckets that are not empty: "0", "1", "2-3", "4-7", ... -> walks."""
        return {_bucket(i): n for i, n in enumerate(self.counts) if n}


def _bucket(i: int) -> str:
    return str(i) if i < 2 else f"{1 << i - 1}-{(1 << i) - 1}"
