"""The auditor: what the page tables say, against everything else.

The truth is read by brute force from every table of every address space. Compared with it: frames.mapcount and count,
every scheme walk (each PTE found, once, and nothing else), the scheme's pictures, rss, swap counts, LRU membership, the
buddy lists and the low-memory account, slab sums, the scheme's own invariants. An audit changes and meters nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from mmcore.areas.vma import VM_ACCESS_FLAGS, VM_EXEC, VM_MAYWRITE, VM_NONLINEAR, VM_SHARED, VM_WRITE
from mmcore.errors import InvariantViolation, PluginError
from mmcore.physical.frames import (
    BOOT,
    FREE,
    NR_OWNERS,
    OWNER_NAMES,
    PAGECACHE,
    PAGETABLE,
    PCP,
    PG_ACTIVE,
    PG_ANON,
    PG_CODE,
    PG_DIRTY,
    PG_LRU,
    PG_RESERVED,
    PG_SLAB,
    PG_SWAPCACHE,
    PG_WRITEBACK,
    SLAB,
    USER,
)
from mmcore.physical.pgtable import TASK_SIZE, P, W
from mmcore.rmap.picture import Picture
from mmcore.rmap.walk import HIT, MISS, Purpose, Walk

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.memory import Memory
    from mmcore.physical.pgtable import PageTables
    from mmcore.physical.zone import Zone

_SHOW = 12  # violations written out in full
PICTURES = 16  # frames whose picture one pass compares


class Auditor:
    """Counts its `checks` and keeps the texts of `violations` over a run."""

    def __init__(self, mem: Memory, pins: Callable[[], dict[int, int]] = dict) -> None:
        """`pins()`: frames pinned for system calls under way, pfn -> pins."""
        self.mem = mem
        self.pins = pins
        self.checks = 0
        self.pictures = PICTURES  # drawn by each pass; -1: of all frames
        self._drawn = 0  # the next pass's first frame
        self.violations: list[str] = []

    def audit(self, where: str = "", given_up: bool = False) -> list[str]:
        """One full pass; returns (and keeps) what is wrong. `given_up`: the run ended inside an allocation, perhaps
        in mid-fork. Then only mapcounts and walks are held to the page tables: those change with no allocation in
        between, totals and references do not."""
        self.checks += 1
        wrong: list[str] = []
        if given_up:
            truth = self._page_tables([])
            self._mappings(truth, wrong)
            self._walks(truth, wrong)
            self.violations += [f"{where}: {w}" if where else w for w in wrong]
            return wrong
        meters = self.mem.meters
        before = meters.as_dict()  # an index that meters its visits does so for us too
        truth = self._page_tables(wrong)
        self._mappings(truth, wrong)
        self._references(wrong)
        self._walks(truth, wrong)
        self._pictures(truth, wrong)
        self._areas(wrong)
        self._lru(wrong)
        self._zones(wrong)
        self._slab(wrong)
        meters.restore(before)
        broken = self.mem.scheme.check()
        if not isinstance(broken, list):
            raise PluginError(
                f"scheme {self.mem.scheme.card.name!r}: check() answers {broken!r}: it must be a list of texts"
            )
        wrong += [f"scheme {self.mem.scheme.card.name}: {w}" for w in broken]
        self.violations += [f"{where}: {w}" if where else w for w in wrong]
        return wrong

    def require(self, where: str = "") -> None:
        """Audits and raises InvariantViolation at the first disagreement."""
        wrong = self.audit(where)
        if wrong:
            more = f"\n  and {len(wrong) - _SHOW} more" if len(wrong) > _SHOW else ""
            raise InvariantViolation(
                f"audit {where}: {len(wrong)} violation(s)\n  " + "\n  ".join(wrong[:_SHOW]) + more
            )

    # --- the truth

    def _page_tables(self, wrong: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """All present PTEs of counted frames: (pfns, pte indices). Checks rss, tables, permissions and swap counts on
        the way."""
        mem, pgtables, frames = self.mem, self.mem.pgtables, self.mem.frames
        np_ptes = pgtables.np_ptes
        all_pfns, all_ptes = [], []
        swap_refs: dict[int, int] = {}
        nr_tables = 0
        for mm in mem.mms.values():
            tables = pgtables.tables(mm.pgd, 0, TASK_SIZE)
            nr_tables += len(tables)
            if len(tables) != mm.nr_ptes:
                wrong.append(f"mm {mm.addr:#x}: nr_ptes {mm.nr_ptes}, but {len(tables)} tables")
            rows = self._filled(mm, tables, wrong)
            rss = anon = shmem = 0
            if rows:
                where = np.concatenate([row[0] for row in rows])
                entries = np_ptes[where]
                present = pgtables.np_present(entries)
                self._permissions(mm, np.concatenate([row[1] for row in rows]), entries, present, wrong)
                pfns, where = pgtables.np_pfns(entries[present]), where[present]
                inside = pfns < frames.nr
                pfns, where = pfns[inside], where[inside]
                counted = (frames.np_flags[pfns] & PG_RESERVED) == 0
                all_pfns.append(pfns[counted])
                all_ptes.append(where[counted])
                rss = len(all_pfns[-1])
                anon, shmem = self._kinds(all_pfns[-1])
                self._count_swapped(mm, entries[~present], swap_refs, wrong)
            if rss != mm.rss:
                wrong.append(f"mm {mm.addr:#x}: rss {mm.rss}, but {rss} pages mapped")
            if (anon, shmem) != (mm.anon_rss, mm.shmem_rss):
                wrong.append(
                    f"mm {mm.addr:#x}: anon_rss {mm.anon_rss}, shmem_rss {mm.shmem_rss}, "
                    f"but {anon} anonymous and {shmem} shared memory pages mapped"
                )
        if nr_tables != mem.vmstat.nr_page_table_pages:
            wrong.append(f"nr_page_table_pages {mem.vmstat.nr_page_table_pages}, but {nr_tables} tables")
        self._table_frames(wrong)
        wrong += mem.swap.audit(swap_refs)
        empty = np.zeros(0, np.int64)
        return (np.concatenate(all_pfns) if all_pfns else empty), (np.concatenate(all_ptes) if all_ptes else empty)

    def _filled(self, mm: Mm, tables: list[tuple[int, int]], wrong: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each table with entries that are not 0: (PTE indices, addresses). Checks that the frame of each says what
        it maps."""
        pgtables, frames = self.mem.pgtables, self.mem.frames
        rows = []
        for first, base in tables:
            table_pfn = base // pgtables.PTRS
            if (
                frames.owner[table_pfn] != PAGETABLE
                or frames.mapping[table_pfn] != mm.addr
                or frames.index[table_pfn] != first >> 12
            ):
                wrong.append(f"mm {mm.addr:#x}: table for {first:#x} does not say so: {frames.describe(table_pfn)}")
            at = pgtables.np_ptes[base : base + pgtables.PTRS].nonzero()[0]
            if len(at):
                rows.append((at + base, (at << 12) + first))
        return rows

    def _count_swapped(self, mm: Mm, absent: np.ndarray, swap_refs: dict[int, int], wrong: list[str]) -> None:
        """Adds the swap entries among PTEs that are not present to `swap_refs` (entry -> PTEs); no migration entry
        may be left."""
        pgtables, frames = self.mem.pgtables, self.mem.frames
        rest = absent[pgtables.np_swapped(absent)]
        moving = pgtables.np_migration_pfn(rest)
        for pfn in moving[moving >= 0].tolist():
            wrong.append(
                f"mm {mm.addr:#x}: a migration entry is left: {frames.describe(pfn) if pfn < frames.nr else hex(pfn)}"
            )
        for entry in pgtables.np_pte_to_swp(rest[moving < 0]).tolist():
            swap_refs[entry] = swap_refs.get(entry, 0) + 1

    def _kinds(self, pfns: np.ndarray) -> tuple[int, int]:
        """How many of the frames are (anonymous, of shared memory or tmpfs)."""
        frames = self.mem.frames
        anon = (frames.np_flags[pfns] & np.uint32(PG_ANON)) != 0
        holders = frames.np_mapping[pfns[~anon]]
        shmem = 0
        for address in np.unique(holders).tolist():
            mapping = self.mem.mappings.get(address)
            if mapping is not None and mapping.is_shmem:
                shmem += int(np.count_nonzero(holders == address))
        return int(np.count_nonzero(anon)), shmem

    def _table_frames(self, wrong: list[str]) -> None:
        """Each frame of page tables belongs to an address space (its root's among them) or to the kernel."""
        mem, frames = self.mem, self.mem.frames
        held = np.nonzero(frames.np_owner == PAGETABLE)[0]
        owners, counts = np.unique(frames.np_mapping[held], return_counts=True)
        have = dict(zip(owners.tolist(), counts.tolist(), strict=True))
        have.pop(0, None)  # the kernel's half
        root = 3 if mem.pgtables.ENTRY == 8 else 1
        for mm in mem.mms.values():
            n = have.pop(mm.addr, 0)
            if n != mm.nr_ptes + root:
                wrong.append(
                    f"mm {mm.addr:#x}: {n} frames of page tables, but {mm.nr_ptes} tables and {root} of the root"
                )
        for owner, n in have.items():
            wrong.append(f"{n} frames of page tables belong to {owner:#x}, which is no mm")

    def _permissions(
        self, mm: Mm, addresses: np.ndarray, entries: np.ndarray, present: np.ndarray, wrong: list[str]
    ) -> None:
        """Every PTE lies in an area and allows nothing that the area does not; one that may write to private memory has
        its page to itself."""
        mem, frames, has = self.mem, self.mem.frames, self.mem.pgtables.np_has
        ends = np.array([vma.vm_end for vma in mm.vmas] or [0])
        flags = np.array([vma.vm_flags for vma in mm.vmas] or [0])
        k = np.searchsorted(np.array([vma.vm_start for vma in mm.vmas] or [0]), addresses, "right") - 1
        outside = (k < 0) | (addresses >= ends[k])
        for address in addresses[outside].tolist():
            wrong.append(f"mm {mm.addr:#x}: a PTE at {address:#x} outside every area")
        flags = np.where(outside, 0, flags[k])
        usable = has(entries, P)
        writes = present & has(entries, W)
        excess = writes & ((flags & VM_WRITE) == 0) | usable & ((flags & VM_ACCESS_FLAGS) == 0)
        if mem.pgtables.NX:
            excess |= usable & ~has(entries, mem.pgtables.NX) & ((flags & VM_EXEC) == 0)
        for i in np.nonzero(excess & ~outside)[0].tolist():
            wrong.append(
                f"mm {mm.addr:#x}: the PTE {int(entries[i]):#x} at {int(addresses[i]):#x} allows what its area "
                f"({int(flags[i]) & 7:#x}) does not"
            )
        if mem.config.dirty_tracking:
            self._noticed(mm, addresses[writes & ~outside], entries[writes & ~outside], k[writes & ~outside], wrong)
        own = np.nonzero(writes & ((flags & VM_SHARED) == 0) & ~outside)[0]
        pfns = mem.pgtables.np_pfns(entries[own])
        own, pfns = own[pfns < frames.nr], pfns[pfns < frames.nr]
        state = frames.np_flags[pfns]
        shared = (
            (frames.np_mapcount[pfns] != 1)
            | ((state & np.uint32(PG_ANON)) == 0)
            | ((state & np.uint32(PG_RESERVED)) != 0)
        )
        cached = np.nonzero((state & np.uint32(PG_SWAPCACHE)) != 0)[0]
        for i in cached.tolist():
            shared[i] |= mem.swap.swap_count(frames.private[int(pfns[i])]) != 1
        for i in np.nonzero(shared)[0].tolist():
            wrong.append(
                f"mm {mm.addr:#x}: {int(addresses[own[i]]):#x} may be written to, but the page is not its own: "
                f"{frames.describe(int(pfns[i]))}"
            )

    def _noticed(self, mm: Mm, addresses: np.ndarray, entries: np.ndarray, areas: np.ndarray, wrong: list[str]) -> None:
        """Dirty tracking: whoever may write to a page of a file has been noticed (private copies have no file to go
        to)."""
        for address, pte, k in zip(addresses.tolist(), entries.tolist(), areas.tolist(), strict=True):
            vma, pfn = mm.vmas[k], pte >> 12 & self.mem.pgtables.PFN_MASK
            if (
                vma.vm_flags & VM_SHARED
                and vma.mapping is not None
                and vma.mapping.tracks_dirty
                and not self.mem.frames.flags[pfn] & PG_DIRTY
            ):
                wrong.append(
                    f"mm {mm.addr:#x}: {address:#x} may be written to, but its page counts as clean: "
                    f"{self.mem.frames.describe(pfn)}"
                )

    def _mappings(self, truth: tuple[np.ndarray, np.ndarray], wrong: list[str]) -> None:
        frames = self.mem.frames
        mapped = np.bincount(truth[0], minlength=frames.nr).astype(np.int32)
        for pfn in np.nonzero(mapped != frames.np_mapcount)[0].tolist():
            wrong.append(f"mapcount is not the {int(mapped[pfn])} PTEs there are: {frames.describe(pfn)}")
        nr_mapped = int(np.count_nonzero(mapped))
        if nr_mapped != self.mem.vmstat.nr_mapped:
            wrong.append(f"nr_mapped {self.mem.vmstat.nr_mapped}, but {nr_mapped} frames are mapped")
        anon_unmapped = np.nonzero(((frames.np_flags & np.uint32(PG_ANON)) != 0) & (mapped == 0))[0]
        for pfn in anon_unmapped.tolist():
            wrong.append(f"PG_anon without a mapping: {frames.describe(pfn)}")

    def _references(self, wrong: list[str]) -> None:
        """count = PTEs + page cache + swap cache + pins + tasks that wait for the page."""
        mem, frames = self.mem, self.mem.frames
        expected = frames.np_mapcount.astype(np.int64)
        listed = (frames.np_owner == USER) | (frames.np_owner == PAGECACHE)  # frames that reclaim must be able to find
        for mapping in mem.mappings.values():
            for index, pfn in mapping.pages.items():
                expected[pfn] += 1
                if frames.mapping[pfn] != mapping.addr or frames.index[pfn] != index:
                    wrong.append(f"page {index} of mapping {mapping.addr:#x} does not say so: {frames.describe(pfn)}")
            for pfn in mapping.table_frames():
                expected[pfn] += 1
                listed[pfn] = False
            if mapping.nodes.items != len(mapping.pages):
                wrong.append(
                    f"mapping {mapping.addr:#x}: {len(mapping.pages)} pages, {mapping.nodes.items} in its tree"
                )
        cached = np.nonzero((frames.np_flags & np.uint32(PG_SWAPCACHE)) != 0)[0]
        expected[cached] += 1
        for holders in (self.pins(), mem.awaited.references()):
            for pfn, n in holders.items():
                expected[pfn] += n
        known = (expected > 0) & (frames.np_owner != FREE) & (frames.np_owner != PCP) & (frames.np_owner != BOOT)
        for pfn in np.nonzero(known & (frames.np_count != expected))[0].tolist():
            wrong.append(f"count is not that of its {int(expected[pfn])} users: {frames.describe(pfn)}")
        lost = (frames.np_owner == USER) | (frames.np_owner == PAGECACHE)
        for pfn in np.nonzero(lost & (expected == 0))[0].tolist():
            wrong.append(f"nobody uses a frame that is not free: {frames.describe(pfn)}")
        for pfn in np.nonzero(listed & (frames.np_count > 0) & ((frames.np_flags & np.uint32(PG_LRU)) == 0))[
            0
        ].tolist():
            if pfn not in mem.reclaim.pagevec_pages():
                wrong.append(f"on no LRU list and in no pagevec: {frames.describe(pfn)}")
        free = np.nonzero((frames.np_owner == FREE) | (frames.np_owner == PCP))[0]
        bad = free[
            (frames.np_count[free] != 0)
            | (frames.np_mapcount[free] != 0)
            | ((frames.np_flags[free] & np.uint32(~PG_CODE & 0xFFFFFFFF)) != 0)
        ]
        for pfn in bad.tolist():
            wrong.append(f"a free frame is in use: {frames.describe(pfn)}")
        writeback = int(np.count_nonzero(frames.np_flags & np.uint32(PG_WRITEBACK)))
        if writeback != mem.vmstat.nr_writeback:
            wrong.append(f"nr_writeback {mem.vmstat.nr_writeback}, but {writeback} frames are being written")

    # --- walks

    def _walks(self, truth: tuple[np.ndarray, np.ndarray], wrong: list[str]) -> None:
        """For every mapped frame, the scheme's walk finds exactly the PTEs that map it, each once."""
        mem = self.mem
        if not mem.rmap.exact:
            return
        pgtables, frames = mem.pgtables, mem.frames
        for pfn, expected in _by_frame(truth):
            walk = _Find(pgtables, pfn)
            try:
                mem.rmap.offer(walk)
            except (LookupError, AttributeError, InvariantViolation) as error:  # a damaged structure may lead anywhere
                wrong.append(f"walk of the scheme leads astray ({error!r}): {frames.describe(pfn)}")
                continue
            if len(walk.ptes) == 1 and walk.ptes == expected:
                continue
            self._hold("walk", pfn, walk.ptes, expected, wrong)

    def _hold(self, of: str, pfn: int, found: list[int], expected: list[int], wrong: list[str]) -> None:
        """The PTEs that a walk or picture has, against those that map the frame; a state of history may miss some of an
        anonymous page's."""
        if sorted(found) == sorted(expected):
            return
        frames = self.mem.frames
        once = len(found) == len(set(found))
        if self.mem.setup.incomplete and frames.flags[pfn] & PG_ANON and once and set(found) <= set(expected):
            return
        lost, extra = sorted(set(expected) - set(found)), len(found) - len(set(found))
        what = f"{len(lost)} of {len(expected)} PTEs not found" if lost else f"{extra} PTEs found twice"
        places = ", ".join(self._place(p) for p in (lost or found)[:3])
        wrong.append(f"{of} of the scheme is wrong, {what} ({places}): {frames.describe(pfn)}")

    def _pictures(self, truth: tuple[np.ndarray, np.ndarray], wrong: list[str]) -> None:
        """The scheme's picture of an anonymous frame has exactly its PTEs. `pictures` frames a time, each time those
        that follow: a drawing takes the host ten times as long as a walk."""
        mem = self.mem
        pfns, ptes = truth
        anon = (mem.frames.np_flags[pfns] & np.uint32(PG_ANON)) != 0
        pfns, ptes = pfns[anon], ptes[anon]
        if self.pictures >= 0:
            mapped = np.unique(pfns)
            at = int(np.searchsorted(mapped, self._drawn))
            chosen = np.concatenate((mapped[at:], mapped[:at]))[: self.pictures]
            self._drawn = int(chosen[-1]) + 1 if len(chosen) else 0
            wanted = np.isin(pfns, chosen)
            pfns, ptes = pfns[wanted], ptes[wanted]
        for pfn, expected in _by_frame((pfns, ptes)):
            try:
                picture = mem.scheme.picture(pfn)
            except (LookupError, AttributeError, InvariantViolation) as error:  # as a walk's
                wrong.append(f"picture of the scheme leads astray ({error!r}): {mem.frames.describe(pfn)}")
                continue
            if not isinstance(picture, Picture):
                name = mem.scheme.card.name
                raise PluginError(f"scheme {name!r}: picture({pfn:#x}) answers {picture!r}: it must be a Picture")
            self._hold("picture", pfn, picture.ptes(), expected, wrong)

    def _place(self, pte: int) -> str:
        mm, address = self.mem.pgtables.address_of(pte)
        return f"mm {mm:#x} at {address:#x}"

    # --- the rest

    def _areas(self, wrong: list[str]) -> None:
        mem = self.mem
        count = 0
        mapping_areas: dict[int, list[VmArea]] = {}
        for mm in mem.mms.values():
            count += len(mm.vmas)
            wrong += mm.check()
            for vma in mm.vmas:
                if vma.mapping is not None:
                    mapping_areas.setdefault(vma.mapping.addr, []).append(vma)
        if count != mem.vma_cache.objects:
            wrong.append(f"{count} areas, but {mem.vma_cache.objects} vm_area_struct objects")
        if len(mem.mms) != mem.mm_cache.objects:
            wrong.append(f"{len(mem.mms)} address spaces, but {mem.mm_cache.objects} mm_struct objects")
        for address in mapping_areas.keys() - mem.mappings.keys():
            wrong.append(f"mapping {address:#x} has areas, but nobody knows it")
        for mapping in mem.mappings.values():
            areas = mapping_areas.get(mapping.addr, [])
            linear, nonlinear = list(mapping.i_mmap), mapping.nonlinear
            indexed = {vma for vma in linear if not vma.vm_flags & VM_NONLINEAR} | {
                vma for vma in nonlinear if vma.vm_flags & VM_NONLINEAR
            }
            if indexed != set(areas) or len(linear) + len(nonlinear) != len(areas):
                lost = next(
                    (f"{vma} is lost" for vma in areas if vma not in indexed), "one is there that is no area any more"
                )
                wrong.append(
                    f"mapping {mapping.addr:#x}: {len(areas)} areas map it, its index has {len(linear)} and "
                    f"{len(nonlinear)} nonlinear: {lost}"
                )
            writable = sum(1 for vma in areas if vma.vm_flags & VM_SHARED and vma.vm_flags & VM_MAYWRITE)
            if writable != mapping.i_mmap_writable:
                wrong.append(
                    f"mapping {mapping.addr:#x}: i_mmap_writable {mapping.i_mmap_writable}, but {writable} shared "
                    f"areas may write"
                )
            wrong += [f"mapping {mapping.addr:#x}: {text}" for text in mapping.i_mmap.check()]

    def _lru(self, wrong: list[str]) -> None:
        frames = self.mem.frames
        for zone in self.mem.pages.zones:
            for lru, active in ((zone.active, True), (zone.inactive, False)):
                members = list(lru)
                if len(members) != len(set(members)) or len(members) != lru.n:
                    wrong.append(
                        f"zone {zone.name}: a list of {lru.n} holds {len(members)} entries, {len(set(members))} of "
                        f"them distinct"
                    )
                for pfn in members:
                    flags = frames.flags[pfn]
                    if (
                        not flags & PG_LRU
                        or bool(flags & PG_ACTIVE) != active
                        or not zone.start_pfn <= pfn < zone.end_pfn
                    ):
                        wrong.append(
                            f"on the {'active' if active else 'inactive'} list of {zone.name}: {frames.describe(pfn)}"
                        )
            flagged = int(np.count_nonzero(frames.np_flags[zone.start_pfn : zone.end_pfn] & np.uint32(PG_LRU)))
            if flagged != zone.active.n + zone.inactive.n:
                wrong.append(
                    f"zone {zone.name}: {flagged} frames with PG_lru, lists hold {zone.active.n} + {zone.inactive.n}"
                )

    def _zones(self, wrong: list[str]) -> None:
        """The accounts of every zone and of low and high memory, to the page: owners by frame = owners on the books;
        free = what the buddy lists hold."""
        pages, frames = self.mem.pages, self.mem.frames
        low = np.zeros(NR_OWNERS, np.int64)
        high = low.copy()
        for zone in pages.zones:
            owners = np.bincount(frames.np_owner[zone.start_pfn : zone.end_pfn], minlength=NR_OWNERS)
            side = high if zone.start_pfn >= pages.lowmem_end else low
            side += owners
            self._zone(zone, owners, wrong)
        for name, counted_of, owned, present in (
            ("low", low, pages.owned, pages.lowmem_end),
            ("high", high, pages.high.owned, frames.nr - pages.lowmem_end),
        ):
            for owner, (counted, booked) in enumerate(zip(counted_of.tolist(), owned, strict=True)):
                if counted != booked:
                    wrong.append(f"{name} memory: {OWNER_NAMES[owner]} has {counted} frames, {booked} on the books")
            if sum(owned) != present:
                wrong.append(f"{name} memory: owners add up to {sum(owned)} of {present} frames")

    def _zone(self, zone: Zone, owners: np.ndarray, wrong: list[str]) -> None:
        """One zone: what its frames say (`owners`: how many have each) against its lists and its books."""
        frames = self.mem.frames
        free = 0
        for order, area in enumerate(zone.free_area):
            free += len(area) << order
            for pfn in area:
                if (
                    pfn & ((1 << order) - 1)
                    or not zone.start_pfn <= pfn < zone.end_pfn
                    or (frames.np_owner[pfn : pfn + (1 << order)] != FREE).any()
                ):
                    wrong.append(
                        f"zone {zone.name}: a free block of order {order} at {pfn:#x} is not free, not aligned or not "
                        "the zone's"
                    )
        if free != zone.free_pages:
            wrong.append(f"zone {zone.name}: free_pages {zone.free_pages}, the lists hold {free}")
        for owner, listed in ((FREE, zone.free_pages), (PCP, len(zone.pcp))):
            if owners[owner] != listed:
                told = f"{OWNER_NAMES[owner]} has {owners[owner]} frames, {listed} on the books"
                wrong.append(f"zone {zone.name}: {told}")
        if owners.sum() != zone.present_pages:
            wrong.append(f"zone {zone.name}: {owners.sum()} frames, {zone.present_pages} present")
        for pfn in zone.pcp:
            if frames.owner[pfn] != PCP:
                wrong.append(f"on the per-cpu list: {frames.describe(pfn)}")
        if len(zone.pcp) != len(set(zone.pcp)):
            wrong.append(f"zone {zone.name}: the per-cpu list names a frame twice")

    def _slab(self, wrong: list[str]) -> None:
        mem, frames = self.mem, self.mem.frames
        held = 0
        for cache in mem.slab.caches.values():
            wrong += cache.check()
            held += cache.frames
        flagged = int(np.count_nonzero((frames.np_flags & np.uint32(PG_SLAB)) != 0))
        if held != mem.pages.owned[SLAB] or flagged != held:
            wrong.append(f"slab: caches hold {held} frames, {mem.pages.owned[SLAB]} on the books, {flagged} flagged")


class _Find(Walk):
    """`ptes`: those a walk leads to that map the frame, in its order."""

    __slots__ = ("pgtables", "ptes")

    def __init__(self, pgtables: PageTables, pfn: int) -> None:
        super().__init__(pfn, Purpose.AUDIT)
        self.pgtables = pgtables
        self.ptes: list[int] = []

    def visit(self, mm: Mm, address: int, vma: VmArea | None = None, pte: int = -1) -> int:
        pgtables = self.pgtables
        if pte < 0:
            pte = pgtables.pte_index(mm.pgd, address)
        if pte < 0 or not pgtables.maps(pgtables.ptes[pte], self.pfn):
            return MISS
        self.ptes.append(pte)
        return HIT


def _by_frame(truth: tuple[np.ndarray, np.ndarray]) -> Iterator[tuple[int, list[int]]]:
    """(frame, indices of the PTEs that map it) for every frame in the arrays (frames, PTE indices)."""
    order = np.argsort(truth[0], kind="stable")
    pfns, ptes = truth[0][order], truth[1][order].tolist()
    cuts = (np.nonzero(np.diff(pfns))[0] + 1).tolist()
    starts, ends = [0, *cuts] if len(pfns) else [], [*cuts, len(pfns)]
    for lo, hi in zip(starts, ends, strict=False):
        yield int(pfns[lo]), ptes[lo:hi]
