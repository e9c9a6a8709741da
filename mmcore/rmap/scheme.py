"""The contract of a reverse-mapping scheme: it answers one question: which PTEs map this frame?

The core owns what is done with the answer (page_referenced, try_to_unmap, the audit); a scheme keeps whatever it needs
to give it. `docs/writing-a-scheme.md` walks through an example; `rmapbox schemes new` writes a complete small one.

Life of a page, and the hook at each step (the core calls; a scheme overrides what it needs, the rest costs nothing):

    reserve(op, vma, ...)      before anything changes; may allocate, reclaim, raise OutOfMemory. What it returns comes
                               back as `token`
    add_anon / add_file        a PTE now maps the frame            (cannot fail; frames.mapcount is still without it)
    dup                        fork copied a range of PTEs         (cannot fail)
    move_check, move           mremap moves a range of PTEs
    reused                     a write fault found the page exclusive
    remove                     PTEs no longer map their frames     (frames.mapcount is already without them)
    released                   frames whose last PTE went; an anonymous one's mapping word is cleared after it
    release(token)             what was reserved and not used goes back

    vma_copied, vma_adjust_begin/end, vma_unlinked, can_merge, move_pgoff      areas
    mm_created, mm_exited                                                      address spaces

A scheme that keeps nothing which leads from a page to its PTEs derives from `ScanScheme` instead of `WalkScheme`, and
gives `swap_out` instead of `walk`: reclaim asks it to go through address spaces (`env.try_to_swap_out` does the
work on a range) until enough pages lost all their PTEs. Nobody walks then, and the auditor compares counts only.

PTEs are named by their index in `env.pgtables.ptes`; frames by PFN; addresses are the guest's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmcore.rmap.picture import Picture, searched, walked
from mmcore.rmap.walk import Walk

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.physical.frames import Frames
    from mmcore.physical.pgtable import PageTables
    from mmcore.physical.ram import Ram
    from mmcore.physical.slab import KmemCache, Slab
    from mmcore.physical.zone import Zone
    from mmcore.stats import Meters


# What add_anon answers.
OK, COPY = 0, 1


@dataclass(frozen=True)
class Card:
    """What a user reads about a scheme. `structures`: (name, bytes on i386, remark); `options`: name -> (default,
    meaning)."""

    name: str
    title: str
    kernels: str
    origin: str
    complexity: str
    structures: tuple[tuple[str, str, str], ...] = ()
    options: dict[str, tuple[Any, str]] = field(default_factory=dict)
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setup:
    """What the core does for a scheme: the answer to `RmapScheme.configure`, asked once before boot."""

    # Bytes the scheme adds to the base kernel's structures (each without any reverse mapping).
    page: int = 0
    vma: int = 0
    mm: int = 0
    address_space: int = 0
    # How AddressSpace.i_mmap is kept: "list", "prio_tree" or "interval_tree".
    file_index: str = "prio_tree"
    # The scheme's own structures lead to the PTEs of file pages too: it is asked for them, and they are metered as its
    # own. Otherwise the core goes by the file's index.
    files: bool = False
    # Does remap_file_pages make nonlinear areas, as from 2.5.46 to 3.19, or ordinary ones, as since 4.0?
    nonlinear_areas: bool = True
    # The mini virtual scan of nonlinear areas (rmap 8 and later); without it their pages stay.
    unmaps_nonlinear: bool = True
    # 2.6.7's unmap of a PTE answers FAIL for a young one; that of pte_chain did not look.
    unmap_checks_young: bool = True
    # No area for a candidate of an unmap walk: FAIL (pte_chain) instead of MISS.
    unmap_needs_vma: bool = False
    # Why walks miss PTEs of anonymous pages, for a state of history that did; the auditor then accepts it.
    incomplete: str = ""
    # The class that serves these options, where it is another one.
    scheme: type[RmapScheme] | None = None


@dataclass(frozen=True)
class MachineFacts:
    """The machine a scheme is configured for. Its defaults stand where no machine is meant, as in the listing of
    schemes."""

    paging: str = "pae"  # or "2level"
    smp: bool = False
    cache_line: int = 32
    accounting: str = "isolated"  # or "historic": structures at the sizes of the scheme's own kernel
    highpte: bool = False  # page tables may lie in high memory


class SchemeEnv:
    """What the core lends a scheme. All memory comes through `cache`, so that no scheme can hide its cost."""

    __slots__ = (
        "frames",
        "ram",
        "slab",
        "meters",
        "pgtables",
        "mms",
        "machine",
        "setup",
        "scheme_caches",
        "try_to_swap_out",
    )

    def __init__(
        self,
        frames: Frames,
        ram: Ram,
        slab: Slab,
        meters: Meters,
        pgtables: PageTables,
        mms: dict[int, Mm],
        machine: MachineFacts,
        setup: Setup | None = None,
        try_to_swap_out: Callable[[VmArea, int, int, Zone, int], tuple[int, int]] | None = None,
    ) -> None:
        self.frames = frames
        self.ram = ram
        self.slab = slab
        self.meters = meters
        self.pgtables = pgtables
        self.mms = mms  # kernel address -> Mm, living address spaces
        self.machine = machine
        self.setup = setup or Setup()
        self.scheme_caches: list[KmemCache] = []
        # try_to_swap_out(vma, start, end, zone, goal) -> (pages that became freeable, address to go on at): a
        # ScanScheme's only, see mmcore.reclaim.scan24
        self.try_to_swap_out = try_to_swap_out or _no_scan

    def find_vma(self, mm: Mm, address: int) -> VmArea | None:
        """`mm.find_vma`, metered: for a walk or scan that knows only the address space. Linux: the find_vma of
        try_to_unmap_one, 2.6.5."""
        self.meters.vma_lookups += 1
        self.meters.vma_lookup_nodes += mm.lookup_nodes(address)
        return mm.find_vma(address)

    def cache(
        self,
        name: str,
        size: int,
        align: int = 0,
        hwcache: int = 0,
        ctor: Callable[[int, int], None] | None = None,
    ) -> KmemCache:
        """A slab cache of the scheme's own. `ctor(pfn, order)` is told of a new slab's frames before its objects are
        handed out."""
        cache = self.slab.cache(name, size, align, hwcache, ctor)
        if cache not in self.scheme_caches:
            self.scheme_caches.append(cache)
        return cache

    def pte_owner(self, pte: int) -> tuple[Mm, int]:
        """(mm, address) of a PTE, from its table's struct page. Linux: ptep_to_mm, ptep_to_address, 2.6.5."""
        mm_address, address = self.pgtables.address_of(pte)
        return self.mms[mm_address], address


def _no_scan(vma: VmArea, start: int, end: int, zone: Zone, goal: int) -> tuple[int, int]:
    raise RuntimeError("try_to_swap_out is lent to a ScanScheme only")


class RmapScheme:
    """What both kinds of scheme share: every hook does nothing. A scheme derives from `WalkScheme` or `ScanScheme`."""

    card: ClassVar[Card]

    def __init__(self, env: SchemeEnv, options: dict[str, Any]) -> None:
        self.env = env
        self.options = options

    @classmethod
    def configure(cls, machine: MachineFacts, options: dict[str, Any]) -> Setup:
        """Asked before boot: what the scheme adds to the kernel's structures, and what the core does for it. The same
        question has the same answer. Raises PluginError for a value that cannot be."""
        return Setup()

    # --- reserve

    def reserve(self, operation: str, vma: VmArea, pfns: np.ndarray | None = None) -> Any:
        """Gets everything the operation could need. `operation`: "anon_fault" (one page; also copy on write, swap-in,
        exec and stack growth), "file_fault" (one page), "fork" or "move" (`vma`: the area they go to; `pfns`: their
        frames). Room that is seen here may be gone when it is needed: reclaim runs in between. Raises OutOfMemory."""
        return None

    def release(self, token: Any) -> None:
        """The unused rest of a reservation."""

    # --- pages

    def add_anon(self, pfn: int, vma: VmArea, address: int, pte: int, exclusive: bool, token: Any) -> int:
        """An anonymous page gets a PTE: set frames.mapping and frames.index when frames.mapcount is 0. `exclusive`:
        no other PTE or swap reference exists. COPY: this page cannot be recorded at this address; the core copies it
        first."""
        return OK

    def add_file(self, pfn: int, vma: VmArea, address: int, pte: int, token: Any) -> None:
        """A file page gets a PTE."""

    def dup(
        self, src: VmArea, dst: VmArea, pfns: np.ndarray, src_ptes: np.ndarray, dst_ptes: np.ndarray, token: Any
    ) -> None:
        """fork: frame `pfns[i]`, mapped by `src_ptes[i]`, is now mapped by `dst_ptes[i]` too (anonymous and file
        pages)."""

    def move_check(
        self, src: VmArea, dst: VmArea, delta: int, pfns: np.ndarray, src_ptes: np.ndarray
    ) -> np.ndarray | None:
        """mremap: which of the PTEs (positions in the arrays) map pages that must be copied before they can move by
        `delta` bytes."""
        return None

    def move(
        self,
        src: VmArea,
        dst: VmArea,
        delta: int,
        pfns: np.ndarray,
        src_ptes: np.ndarray,
        dst_ptes: np.ndarray,
        token: Any,
    ) -> None:
        """mremap moved a range of PTEs."""

    def reused(self, pfn: int, vma: VmArea, address: int) -> None:
        """A write fault found the anonymous page mapped here only."""

    def remove(self, vma: VmArea, pfns: np.ndarray, ptes: np.ndarray) -> None:
        """PTEs of an area are gone, `ptes[i]` of frame `pfns[i]` (arrays of int64, of one PTE or many; they are the
        caller's again afterwards). For anonymous and file pages."""

    def released(self, pfns: np.ndarray) -> None:
        """The last PTEs of frames went (an array of int64, of one frame or many; all anonymous, or all of files).
        frames.mapping still tells where they belong, and is cleared next where they are anonymous."""

    def migrated(self, old: int, new: int) -> None:
        """A page moved to another frame: its PTEs are migration entries, and its words (mapping, index, rmap) and flags
        stand at `new` already. For a scheme that keeps records of its own by frame number."""

    # --- areas

    def vma_unlinked(self, vma: VmArea, into: VmArea | None) -> None:
        """The area is going away. Its pages are unmapped already; or its neighbour `into` took it over whole, between
        vma_adjust_begin and its end."""

    def vma_copied(self, dst: VmArea, src: VmArea, how: str) -> None:
        """`dst` is a copy of `src` (FORK, SPLIT, MOVE). Before dst has pages. May raise OutOfMemory."""

    def move_pgoff(self, src: VmArea, old_address: int, new_address: int) -> int:
        """vm_pgoff of the area an anonymous mremap is about to make at `new_address`."""
        return new_address >> 12

    def vma_adjust_begin(self, vma: VmArea, start: int, end: int, nxt: VmArea | None) -> Any:
        """The boundaries of `vma` (and of `nxt`, which it meets) are about to become `start`, `end`. May raise
        OutOfMemory."""
        return None

    def vma_adjust_end(self, token: Any) -> None:
        """They have."""

    def can_merge(self, a: VmArea, b: VmArea) -> bool:
        """May two areas, alike in all else, become one?"""
        return True

    # --- address spaces

    def mm_created(self, mm: Mm, parent: Mm | None) -> None:
        """exec made a new address space (`parent` is None), or fork one, before any area is copied. May raise
        OutOfMemory."""

    def mm_exited(self, mm: Mm) -> None:
        """All areas are gone."""

    # --- for tests and the lab

    def check(self) -> list[str]:
        """The scheme's own invariants; a list of what is broken."""
        return []

    def picture(self, pfn: int) -> Picture:
        """The scheme's own structures between a frame and its PTEs; `mmcore.rmap.picture.Draft` draws. Asked for the
        frames that `walk` is asked for. Changes and meters nothing; as it stands here: the PTEs alone."""
        return searched(self.env, pfn, "no structure leads from the frame to its PTEs: found in all page tables")


class WalkScheme(RmapScheme):
    """A scheme that leads from a page to its PTEs."""

    def walk(self, walk: Walk) -> None:
        """Offers every PTE that may map `walk.pfn` to `walk.visit` (or many at once to `walk.visit_many`), until
        it answers STOP. Asked for anonymous pages, and for pages of files only where `Setup.files` says so."""
        raise NotImplementedError

    def nonlinear_addresses(self, walk: Walk) -> Sequence[int] | None:
        """The user addresses at which nonlinear areas map the file page that is asked for. None: the scheme keeps
        none, and the core searches the areas."""
        return None

    def picture(self, pfn: int) -> Picture:
        return walked(self.env, pfn, self.walk)


class ScanScheme(RmapScheme):
    """A scheme that keeps nothing which leads from a page to its PTEs: reclaim goes through address spaces. Nobody
    walks then, and the auditor compares counts only."""

    def swap_out(self, priority: int, zone: Zone, goal: int) -> int:
        """Goes through address spaces with `env.try_to_swap_out` until `goal` pages of `zone` became freeable, or
        for as long as it cares to; returns how many did. `priority`: of reclaim, 12 (at ease) to 0."""
        raise NotImplementedError
