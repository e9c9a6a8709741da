"""Counters: ``VmStat`` has 2.6.7's names exactly (/proc/vmstat); ``Meters`` are ours, counted where history's code did
the work."""

from __future__ import annotations

_ZONES = ("high", "normal", "dma")


class VmStat:
    """Event counts and page states of 2.6.7. Linux: mm/page_alloc.c vmstat_text, 2.6.7."""

    NAMES = (
        "nr_dirty",
        "nr_writeback",
        "nr_unstable",
        "nr_page_table_pages",
        "nr_mapped",
        "nr_slab",
        "pgpgin",
        "pgpgout",
        "pswpin",
        "pswpout",
        *(f"pgalloc_{z}" for z in _ZONES),
        "pgfree",
        "pgactivate",
        "pgdeactivate",
        "pgfault",
        "pgmajfault",
        *(f"pgrefill_{z}" for z in _ZONES),
        *(f"pgsteal_{z}" for z in _ZONES),
        *(f"pgscan_kswapd_{z}" for z in _ZONES),
        *(f"pgscan_direct_{z}" for z in _ZONES),
        "pginodesteal",
        "slabs_scanned",
        "kswapd_steal",
        "kswapd_inodesteal",
        "pageoutrun",
        "allocstall",
        "pgrotated",
    )
    __slots__ = NAMES

    def __init__(self) -> None:
        for name in self.NAMES:
            setattr(self, name, 0)

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.NAMES}


class Meters:
    """Work that 2.6.7 did not count. The plain names are the scheme's; ``file_*`` is the file index's own work.

    cow            copies on write                         walks        walks asked of the scheme (AUDIT excluded)
    reuse          write faults that found the page alone  candidates   (mm, address) pairs the walks offered
    zero_page      read faults answered by the zero page   hits/misses  candidates that did/did not map the frame
    vmas_visited, mms_visited, ptes_probed, nodes          what the walks looked at on the way
    vma_lookups, vma_lookup_nodes   find_vma by walks and scans that knew only the address space, and the areas its tree
    was descended over
    longest_walk   most objects of a kind one walk looked at   removal_nodes  chain nodes searched to take an entry out
    links          entries put into the scheme's lists, chains and trees
    allocations    objects the scheme allocated            mremap_copies / merges_refused   forced by the scheme
    forks, fork_ptes, fork_links, fork_allocations         address spaces copied, and the pages, links and allocations
    that took
    scans, scan_young, scan_unmapped                       swap_outs asked of a scheme without a reverse map; PTEs they
    found young or locked, and took away
    migrations     pages moved to another frame            migrate_misses  ... given up because the scheme did not lead
    to all their PTEs
    """

    NAMES = (
        "cow",
        "reuse",
        "zero_page",
        "walks",
        "candidates",
        "hits",
        "misses",
        "vmas_visited",
        "mms_visited",
        "ptes_probed",
        "nodes",
        "vma_lookups",
        "vma_lookup_nodes",
        "longest_walk",
        "removal_nodes",
        "links",
        "allocations",
        "mremap_copies",
        "merges_refused",
        "forks",
        "fork_ptes",
        "fork_links",
        "fork_allocations",
        "migrations",
        "migrate_misses",
        "file_walks",
        "file_candidates",
        "file_hits",
        "file_misses",
        "file_vmas_visited",
        "file_ptes_probed",
        "file_nodes",
        "file_longest_walk",
        "scans",
        "scan_young",
        "scan_unmapped",
    )
    __slots__ = NAMES

    def __init__(self) -> None:
        for name in self.NAMES:
            setattr(self, name, 0)

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.NAMES}


class WalkLengths:
    """How many walks looked at how many objects: ``counts[n.bit_length()]`` walks had a length of ``n``, so the buckets
    are 0, 1, 2-3, 4-7, ..."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = [0] * 33

    def as_dict(self) -> dict[str, int]:
        """Only the buckets that are not empty: "0", "1", "2-3", "4-7", ... -> walks."""
        return {_bucket(i): n for i, n in enumerate(self.counts) if n}


def _bucket(i: int) -> str:
    return str(i) if i < 2 else f"{1 << i - 1}-{(1 << i) - 1}"
