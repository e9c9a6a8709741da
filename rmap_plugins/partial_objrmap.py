"""partial_objrmap: file pages through the file's own list of areas, anonymous pages still through pte_chains.

Origin      Dave McCracken, February 2003 (2.5.62); Hugh Dickins' rmap-7 and rmap-8, April 2004 (between 2.6.6 and
            2.6.7)
Idea        A file page knows its file and its offset, and the file knows every area that maps it: no chain is needed
            for it. Most shared mappings are of files, so most chains go. Anonymous pages have nothing of the kind and
            keep theirs.

    file page       page.mapping --> i_mmap --> areas     address = vm_start + (index - vm_pgoff) pages; inside? probe
    anonymous page  page.pte     --> PTE, or chain of nodes full of PTE addresses (see pte_chain)
    nonlinear       no formula leads to their PTEs: a mini virtual scan unmaps clusters of the nonlinear areas in turn

Structures  pte_chain nodes as in pte_chain; the word in struct page is its PTE or chain (anonymous) or a count of
            mappings (file). With the priority search tree 8 bytes more in vm_area_struct and 4 in address_space.
Cost        fork: as pte_chain for anonymous pages, nothing for file pages. Walk of a file page: list - every area of
            the file, whatever it covers; tree - log2(areas) + the areas that cover the page.

Linux: mm/rmap.c between the patches rmap-8 and rmap-9.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mmcore.rmap import PG_ANON, Card, MachineFacts, PluginError, RmapScheme, Setup, VmArea
from rmap_plugins.pte_chain import PteChain

_INDEXES = ("list", "prio_tree")


def i_mmap_option(name: str, options: dict[str, Any], default: str) -> str:
    """The option `i_mmap` of scheme `name`. Raises PluginError."""
    index = options.get("i_mmap", default)
    if index not in _INDEXES:
        raise PluginError(f"{name}: i_mmap = {index!r} is not {' or '.join(_INDEXES)}")
    return str(index)


def file_index_bytes(index: str) -> tuple[int, int]:
    """(bytes in vm_area_struct, bytes in address_space) that a file index adds to two plain lists. Linux: 2.6.5 and
    2.6.7."""
    return (8, 4) if index == "prio_tree" else (0, 0)


class PartialObjrmap(PteChain):
    card = Card(
        name="partial_objrmap",
        title="file pages by object, anonymous pages by pte_chain (Dave McCracken)",
        kernels="2.5.62 to 2.5.66-mm (patch); within 2.6.7-rc1 (rmap 7 and 8)",
        origin="Dave McCracken, 2003-02-20; Hugh Dickins, rmap 7 object-based rmap and rmap 8 unmap nonlinear, 2004-04",
        complexity="fork O(anonymous pages); walk of a file page O(areas of the file) by list, O(log areas + "
        "mappings) by tree; anonymous O(mappings), exact",
        structures=(
            ("pte_chain", "32, 64 or 128", "next_and_idx and 7, 15 or 31 PTE addresses; anonymous pages only"),
            ("page", "+4", "pte.direct, pte.chain or mapcount (+8 where PTE addresses are 64 bits: PAE with highpte)"),
            ("vm_area_struct", "+8", "with i_mmap = prio_tree"),
            ("address_space", "+4", "with i_mmap = prio_tree"),
        ),
        options={
            "i_mmap": (
                "list",
                "how a file's areas are kept: list (2003) or prio_tree (Rajesh Venkatasubramanian, March 2004)",
            ),
            "cache_line": (32, "bytes of a cache line: 32 (Pentium III), 64 (Athlon), 128 (Pentium 4)"),
            "highpte": (False, "PTE addresses are physical: 8 bytes under PAE"),
        },
        references=(
            "LKML 2003-02-20 Full updated partial object-based rmap",
            "LKML 2003-04-05 objrmap and vmtruncate",
            "LKML 2004-03-21 radix priority search tree",
        ),
    )
    add_file = RmapScheme.add_file

    @classmethod
    def configure(cls, machine: MachineFacts, options: dict[str, Any]) -> Setup:
        # historic: 2.6.6 and later, without page->list; nothing else differs.
        chains = super().configure(replace(machine, accounting="isolated"), options)
        index = i_mmap_option(cls.card.name, options, "list")
        vma, address_space = file_index_bytes(index)
        return replace(chains, vma=vma, address_space=address_space, file_index=index, files=False)

    def _anon(self, pfns: np.ndarray) -> np.ndarray:
        return (self._frames.np_flags[pfns] & np.uint32(PG_ANON)) != 0

    def reserve(self, operation: str, vma: VmArea, pfns: np.ndarray | None = None) -> list[int] | None:
        if operation == "file_fault":
            return None
        if pfns is not None:
            pfns = pfns[self._anon(pfns)]
            if not len(pfns):
                return None
        return super().reserve(operation, vma, pfns)

    def dup(
        self, src: VmArea, dst: VmArea, pfns: np.ndarray, src_ptes: np.ndarray, dst_ptes: np.ndarray, token: list[int]
    ) -> None:
        anon = self._anon(pfns)
        if anon.all():
            super().dup(src, dst, pfns, src_ptes, dst_ptes, token)
        elif anon.any():
            super().dup(src, dst, pfns[anon], src_ptes[anon], dst_ptes[anon], token)

    def move(
        self,
        src: VmArea,
        dst: VmArea,
        delta: int,
        pfns: np.ndarray,
        src_ptes: np.ndarray,
        dst_ptes: np.ndarray,
        token: list[int],
    ) -> None:
        anon = self._anon(pfns)
        if anon.any():
            super().move(src, dst, delta, pfns[anon], src_ptes[anon], dst_ptes[anon], token)

    # remove leaves file pages alone as it is: their word is 0.

    def chained_frames(self) -> np.ndarray:
        return (self._frames.np_mapcount != 0) & ((self._frames.np_flags & np.uint32(PG_ANON)) != 0)
