"""A scheme under watch: a subclass whose hooks hold both sides to the contract, the core to its order and the scheme to
its limits.

The core promises: a hook is called with areas and address spaces the scheme was told of, PTEs are what they are said to
be, `mapcount` is as documented; what is begun is ended, and what is reserved is released, once. The scheme keeps:
memory comes only from the hooks that may fail, nothing but its own words of struct page is written, an AUDIT walk
changes and meters nothing, a walk ends when it is told STOP. `docs/writing-a-scheme.md` has the whole of it.

Calls are told apart by who makes them: a scheme that calls its own hooks is not the core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmcore.areas.vma import FORK, MOVE, SPLIT
from mmcore.errors import OutOfMemory
from mmcore.memory import require_base
from mmcore.physical.frames import FREE, PCP, PG_ANON, PG_DIRECT, PG_RESERVED, SLAB
from mmcore.physical.pgtable import PRESENT
from mmcore.rmap import (
    AGAIN,
    ANSWER,
    COPY,
    FAIL,
    HIT,
    MISS,
    OK,
    STOP,
    MachineFacts,
    Purpose,
    RmapScheme,
    ScanScheme,
    Setup,
    Walk,
    WalkScheme,
)

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.physical.zone import Zone
    from mmcore.rmap import SchemeEnv

# Hooks that may take memory, and whatever reclaim does while they do. All others may not.
_ALLOCATING = frozenset({"reserve", "vma_copied", "vma_adjust_begin", "mm_created"})
# Hooks that answer a question and change nothing.
_PURE = frozenset({"can_merge", "move_pgoff", "move_check"})
# The core asks once whether these are overridden, and takes other paths where they are not.
_OPTIONAL = frozenset({"dup", "remove", "released", "reused", "add_file", "move", "move_check"})
_LEFT_ALONE = frozenset({"check", "picture", "walk", "swap_out"})
_OWN_FLAGS = PG_DIRECT  # struct page's flags a scheme may change
_CORE_ARRAYS = ("count", "mapcount", "owner", "private", "stamp")
_PROBES = 24  # frames asked with answers of our own at each look


class Breach(AssertionError):
    """The contract is broken; the text says by whom and how."""


def watched(kind: type[RmapScheme], options: dict[str, Any]) -> type[RmapScheme]:
    """The class that serves `options`, under watch."""
    kind = kind.configure(MachineFacts(), options).scheme or kind
    own_configure = kind.configure

    def configure(cls: type, machine: MachineFacts, options: dict[str, Any]) -> Setup:
        return replace(own_configure(machine, options), scheme=None)

    body: dict[str, Any] = {"configure": classmethod(configure), "__module__": __name__}
    for hook, base in vars(RmapScheme).items():
        if hook.startswith("_") or not callable(base) or isinstance(base, classmethod) or hook in _LEFT_ALONE:
            continue
        own = getattr(kind, hook)
        if hook not in _OPTIONAL or own is not base:
            body[hook] = _watch(hook, own)
    own_check = kind.check

    def init(self: Any, env: SchemeEnv, options: dict[str, Any]) -> None:
        self._watch = None
        kind.__init__(self, env, options)
        require_base(self, kind, env)
        self._watch = Watch(self)

    def check(self: Any) -> list[str]:
        return [*own_check(self), *self._watch.settled()]

    body.update(__init__=init, check=check, **_questions(kind))
    return type(kind.__name__, (kind,), body)


def _questions(kind: type[RmapScheme]) -> dict[str, Any]:
    """What reclaim asks, under watch."""
    if issubclass(kind, WalkScheme):
        own_walk = kind.walk

        def walk(self: Any, walk: Walk) -> None:
            self._watch.walk(own_walk, walk)

        return {"walk": walk}
    assert issubclass(kind, ScanScheme)
    own_scan = kind.swap_out

    def swap_out(self: Any, priority: int, zone: Zone, goal: int) -> int:
        answer: int = self._watch.swap_out(own_scan, priority, zone, goal)
        return answer

    return {"swap_out": swap_out}


def _watch(hook: str, own: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, *arguments: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if self._watch is None or caller == RmapScheme.__module__ or not caller.startswith(("mmcore.", "sandbox.kit.")):
            return own(self, *arguments)
        return self._watch.call(hook, own, arguments)

    return call


class _CoreState(NamedTuple):
    """What no hook may change. `arrays`, by frame: _CORE_ARRAYS, then the flags, and mapping and index of frames that
    are not anonymous; `slab_frames` of all slabs; `allocated` objects so far."""

    arrays: list[np.ndarray]
    slab_frames: int
    allocated: int


class Watch:
    """What has been told to one scheme so far, and what it may not touch."""

    def __init__(self, scheme: RmapScheme) -> None:
        self.scheme = scheme
        self.env = scheme.env
        self.kind = type(scheme).__mro__[1].__name__
        self.mms: set[Mm] = set()
        self.tokens: dict[
            int, list[object]
        ] = {}  # by id: what was reserved and not released; held, so that ids stay theirs
        self.adjusting: list[tuple[object, VmArea]] = []
        self.calls: dict[str, int] = {}
        self.probing = False
        self.found = 0  # PTEs that unmapping walks found
        kind = type(scheme)
        overridden = {hook for hook in _OPTIONAL if getattr(kind, hook) is not getattr(RmapScheme, hook)}
        self.per_pte = {"dup", "add_file", "move"} <= overridden and "remove" in overridden
        self.ptes: dict[int, int] = {}  # PTE -> frame, as told; kept for a scheme that is told of all

    # --- a call

    def call(self, hook: str, own: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        self.calls[hook] = self.calls.get(hook, 0) + 1
        before = getattr(self, f"_before_{hook}", None)
        if before is not None:
            before(*arguments)
        after = getattr(self, f"_after_{hook}", None)
        if hook in _ALLOCATING:
            try:
                answer = own(self.scheme, *arguments)
            except OutOfMemory:
                if hook == "vma_adjust_begin" and _shrinks(*arguments):
                    self._blame("vma_adjust_begin fails for an area that only shrinks: munmap relies on it")
                raise
        else:
            core, mine = self._core_state(), self._own_state() if hook in _PURE else None
            answer = own(self.scheme, *arguments)
            self._compare(hook, core)
            if mine is not None and not _same(mine, self._own_state()):
                self._blame(f"{hook} changes something: it may only answer")
        if after is not None:
            after(answer, *arguments)
        return answer

    def _blame(self, what: str) -> None:
        raise Breach(f"{self.kind}.{what}")

    @staticmethod
    def _core(what: str) -> None:
        raise Breach(f"the core breaks its promise: {what}")

    def _core_state(self) -> _CoreState:
        """What no hook may change: the core's arrays, flags, the words of frames that are not anonymous, and the number
        of objects allocated so far."""
        frames = self.env.frames
        flags = frames.np_flags & np.uint32(~_OWN_FLAGS & 0xFFFFFFFF)
        others = (frames.np_flags & np.uint32(PG_ANON)) == 0
        state = [getattr(frames, f"np_{name}").copy() for name in _CORE_ARRAYS]
        slabs = self.env.slab.caches.values()
        return _CoreState(
            [*state, flags, np.where(others, frames.np_mapping, 0), np.where(others, frames.np_index, 0)],
            sum(cache.frames for cache in slabs),
            self._allocated(),
        )

    def _allocated(self) -> int:
        return sum(cache.allocations for cache in self.env.slab.caches.values())

    def _compare(self, hook: str, before: _CoreState) -> None:
        now = self._core_state()
        if now.allocated != before.allocated:
            self._blame(
                f"{hook} allocates {now.allocated - before.allocated} object(s): only reserve, vma_copied, "
                f"vma_adjust_begin, and mm_created may"
            )
        theirs = self._allocators(before, now)
        for name, old, new in zip((*_CORE_ARRAYS, "flags", "mapping", "index"), before.arrays, now.arrays):
            changed = (old != new) & ~theirs
            if changed.any():
                pfn = int(np.nonzero(changed)[0][0])
                what = f"frames.{name}" + (" of a page that is not anonymous" if name in ("mapping", "index") else "")
                self._blame(f"{hook} writes {what}, which is the core's: {self.env.frames.describe(pfn)}")

    @staticmethod
    def _allocators(before: _CoreState, now: _CoreState) -> np.ndarray:
        """Frames whose words the page allocator may have changed, True each: a hook that frees an object may give a
        whole slab back, which joins its free neighbours, or drains a per-cpu list of them. None while every slab
        stays."""
        was, is_now = (state.arrays[_CORE_ARRAYS.index("owner")] for state in (before, now))
        free = (is_now == FREE) | (is_now == PCP)
        went = (was == SLAB) & free
        if not went.any() or int(went.sum()) != before.slab_frames - now.slab_frames:
            return np.zeros(len(was), bool)
        return free & (went | (was == FREE) | (was == PCP))

    def _own_state(self) -> list[np.ndarray]:
        """What a question may not change either: the scheme's words and objects."""
        frames = self.env.frames
        return [
            frames.np_mapping.copy(),
            frames.np_index.copy(),
            frames.np_rmap.copy(),
            frames.np_flags.copy(),
            np.array([cache.objects for cache in self.env.slab.caches.values()]),
        ]

    # --- reservations

    def _after_reserve(self, token: object, operation: str, vma: VmArea, pfns: np.ndarray | None = None) -> None:
        if operation.endswith("_fault") and not _stands(vma):
            self._core(f"reserve({operation!r}) for an area that was never told of: {vma}")
        if token is not None:
            self.tokens.setdefault(id(token), []).append(token)

    def _before_release(self, token: object) -> None:
        if token is None:
            return
        held = self.tokens.get(id(token))
        if not held:
            self._core("release of a token that was released already, or never reserved")
        else:
            held.pop()
            if not held:
                del self.tokens[id(token)]

    def _holds(self, hook: str, token: object) -> None:
        if token is not None and id(token) not in self.tokens:
            self._core(f"{hook} with a token that is not reserved")

    # --- pages

    def _before_add_anon(self, pfn: int, vma: VmArea, address: int, pte: int, exclusive: bool, token: object) -> None:
        frames = self.env.frames
        self._place("add_anon", vma, address, pte)
        self._holds("add_anon", token)
        if not frames.flags[pfn] & PG_ANON:
            self._core(f"add_anon of a page without PG_anon: {frames.describe(pfn)}")
        if exclusive and frames.mapcount[pfn]:
            self._core(f"add_anon says exclusive of a page that is mapped: {frames.describe(pfn)}")

    def _after_add_anon(
        self, answer: object, pfn: int, vma: VmArea, address: int, pte: int, exclusive: bool, token: object
    ) -> None:
        if answer not in (OK, COPY):
            self._blame(f"add_anon answers {answer!r}: it must be OK or COPY")
        if answer == COPY and exclusive:
            self._blame("add_anon answers COPY for an exclusive page: a copy would be refused as well")
        if answer == OK:
            self._told("add_anon", pte, pfn)

    def _before_add_file(self, pfn: int, vma: VmArea, address: int, pte: int, token: object) -> None:
        self._place("add_file", vma, address, pte)
        self._holds("add_file", token)
        self._told("add_file", pte, pfn)

    def _place(self, hook: str, vma: VmArea, address: int, pte: int) -> None:
        if not _stands(vma):
            self._core(f"{hook} in an area that was never told of: {vma}")
        if not vma.vm_start <= address < vma.vm_end:
            self._core(f"{hook} at {address:#x}, outside {vma}")
        if self.env.pgtables.pte_index(vma.vm_mm.pgd, address) != pte:
            self._core(f"{hook} with PTE {pte:#x}, which is not that of {address:#x}")

    def _told(self, hook: str, pte: int, pfn: int) -> None:
        if self.per_pte:
            if pte in self.ptes:
                self._core(f"{hook} of PTE {pte:#x}, which was added and never removed")
            self.ptes[pte] = pfn

    def _forget(self, hook: str, pte: int, pfn: int) -> None:
        if self.per_pte and self.ptes.pop(pte, -1) != pfn:
            self._core(f"{hook} of PTE {pte:#x}, which was never added for frame {pfn:#x}")

    def _maps(self, pte: int, pfn: int) -> bool:
        value = self.env.pgtables.ptes[pte]
        return bool(value & PRESENT) and value >> 12 & self.env.pgtables.PFN_MASK == pfn

    def _before_dup(
        self, src: VmArea, dst: VmArea, pfns: np.ndarray, src_ptes: np.ndarray, dst_ptes: np.ndarray, token: object
    ) -> None:
        self._holds("dup", token)
        for pfn, old, new in zip(pfns.tolist(), src_ptes.tolist(), dst_ptes.tolist(), strict=True):
            if not self._maps(old, pfn) or not self._maps(new, pfn):
                self._core(f"dup of PTE {old:#x} to {new:#x}, which do not both map frame {pfn:#x}")
            if self.env.frames.mapcount[pfn] < 2:
                self._core(f"dup with mapcount still without the copy: {self.env.frames.describe(pfn)}")
            self._told("dup", new, pfn)

    def _after_move_check(
        self, answer: np.ndarray | None, src: VmArea, dst: VmArea, delta: int, pfns: np.ndarray, src_ptes: np.ndarray
    ) -> None:
        if answer is not None and len(answer) and not 0 <= int(min(answer)) <= int(max(answer)) < len(pfns):
            self._blame(f"move_check names position {int(max(answer))} of {len(pfns)} pages")

    def _before_move(
        self,
        src: VmArea,
        dst: VmArea,
        delta: int,
        pfns: np.ndarray,
        src_ptes: np.ndarray,
        dst_ptes: np.ndarray,
        token: object,
    ) -> None:
        self._holds("move", token)
        for old, pfn in zip(src_ptes.tolist(), pfns.tolist(), strict=True):
            self._forget("move", old, pfn)
        for new, pfn in zip(dst_ptes.tolist(), pfns.tolist(), strict=True):
            if not self._maps(new, pfn):
                self._core(f"move to PTE {new:#x}, which does not map frame {pfn:#x}")
            self._told("move", new, pfn)

    def _before_reused(self, pfn: int, vma: VmArea, address: int) -> None:
        if not _stands(vma) or self.env.frames.mapcount[pfn] != 1:
            self._core(f"reused of a page that is not mapped once: {self.env.frames.describe(pfn)}")

    def _before_remove(self, vma: VmArea, pfns: np.ndarray, ptes: np.ndarray) -> None:
        for pfn, pte in zip(pfns.tolist(), ptes.tolist(), strict=True):
            self._forget("remove", pte, pfn)

    def _before_migrated(self, old: int, new: int) -> None:
        frames = self.env.frames
        if frames.mapcount[old] or frames.rmap[old]:
            self._core(f"migrated from a frame that keeps something: {frames.describe(old)}")
        for pte, pfn in self.ptes.items():
            if pfn == old:
                self.ptes[pte] = new

    def _before_released(self, pfns: np.ndarray) -> None:
        frames = self.env.frames
        for pfn in pfns.tolist():
            if frames.mapcount[pfn] or (frames.flags[pfn] ^ frames.flags[int(pfns[0])]) & PG_ANON:
                self._core(f"released of a page that is mapped, or unlike the others: {frames.describe(pfn)}")

    # --- areas

    def _before_vma_copied(self, dst: VmArea, src: VmArea, how: str) -> None:
        if how not in (FORK, SPLIT, MOVE):
            self._core(f"vma_copied({how!r})")
        if not _stands(src) or _stands(dst):
            self._core(f"vma_copied of {src}, unknown, or to {dst}, known already")
        if how == FORK and self._pages(dst):
            self._core(f"vma_copied after the child's pages: {dst}")

    def _before_vma_unlinked(self, vma: VmArea, into: VmArea | None) -> None:
        if into is not None:
            if into is vma or not _stands(into) or not self.adjusting:
                self._core(f"vma_unlinked into an area that does not stand in its mm, or outside an adjustment: {into}")
        elif vma.vm_mm.find_vma_intersection(vma.vm_start, vma.vm_end) is None and self._pages(vma):
            self._core(f"vma_unlinked of an area that still has pages: {vma}")

    def _pages(self, vma: VmArea) -> bool:
        """Does the area have PTEs that map counted frames?"""
        pgtables, frames = self.env.pgtables, self.env.frames
        for first, base in pgtables.tables(vma.vm_mm.pgd, vma.vm_start, vma.vm_end):
            lo, hi = max(vma.vm_start - first >> 12, 0), min(vma.vm_end - first >> 12, pgtables.PTRS)
            for value in pgtables.ptes[base + lo : base + hi].tolist():
                pfn = value >> 12 & pgtables.PFN_MASK
                if value & PRESENT and pfn < frames.nr and not frames.flags[pfn] & PG_RESERVED:
                    return True
        return False

    def _before_vma_adjust_begin(self, vma: VmArea, start: int, end: int, nxt: VmArea | None) -> None:
        if any(area is not None and not _stands(area) for area in (vma, nxt)):
            self._core(f"vma_adjust_begin of an area that does not stand in its mm: {vma}, {nxt}")

    def _after_vma_adjust_begin(self, token: object, vma: VmArea, start: int, end: int, nxt: VmArea | None) -> None:
        self.adjusting.append((token, vma))

    def _before_vma_adjust_end(self, token: object) -> None:
        if not self.adjusting:
            self._core("vma_adjust_end without a begin")
        elif self.adjusting.pop()[0] is not token:
            self._core("vma_adjust_end with another's token")

    def _after_move_pgoff(self, answer: object, src: VmArea, old_address: int, new_address: int) -> None:
        if not isinstance(answer, int):
            self._blame(f"move_pgoff answers {answer!r}: it must be a page offset")

    def _after_can_merge(self, answer: object, a: VmArea, b: VmArea) -> None:
        if not isinstance(answer, (bool, np.bool_)):
            self._blame(f"can_merge answers {answer!r}: it must be True or False")

    # --- address spaces

    def _before_mm_created(self, mm: Mm, parent: Mm | None) -> None:
        if mm in self.mms or mm.vmas or (parent is not None and parent not in self.mms):
            self._core("mm_created of an unknown parent's child, or of an mm that is known or has areas already")

    def _after_mm_created(self, answer: object, mm: Mm, parent: Mm | None) -> None:
        self.mms.add(mm)

    def _before_mm_exited(self, mm: Mm) -> None:
        if mm not in self.mms or mm.vmas:
            self._core(f"mm_exited of an mm that is unknown, or still has areas: {mm.addr:#x}")
        self.mms.discard(mm)

    # --- walks

    def walk(self, own: Callable[[Any, Walk], None], walk: Walk) -> None:
        """A walk: between answers the scheme may change what is its own; after STOP it may not ask again."""
        watched = _WatchedWalk(self, walk)
        if walk.purpose != Purpose.AUDIT:
            own(self.scheme, watched)
            self._compare("walk", watched.core)
            return
        mine, meters = self._own_state(), self.env.meters.as_dict()
        file_page = not self.env.frames.flags[walk.pfn] & PG_ANON
        own(self.scheme, watched)
        self._compare("walk for an AUDIT", watched.core)
        if not _same(mine, self._own_state()):
            self._blame("walk for an AUDIT changes the scheme's state: it may only look")
        changed = [
            name
            for name, value in self.env.meters.as_dict().items()
            if value != meters[name] and not (file_page and name.startswith("file_"))
        ]
        if changed:
            self._blame(f"walk for an AUDIT meters {', '.join(changed)}: it may only look")

    def _asked(self, watched: _WatchedWalk, mm: Mm, address: int, vma: VmArea | None, pte: int) -> int:
        """A watched walk offers a place: the core's answer, or AGAIN in its stead."""
        walk = watched.walk
        if watched.told_stop:
            self._blame("walk goes on after it was told STOP")
        if walk.purpose != Purpose.AUDIT:
            self._compare("walk", watched.core)
        unmaps = walk.purpose == Purpose.UNMAP and not self.probing
        if unmaps and self._busy(walk.pfn, mm, address, pte):
            return AGAIN
        answer = walk.visit(mm, address, vma, pte)
        if unmaps and answer & ANSWER == HIT and self.per_pte:
            index = self.env.pgtables.pte_index(mm.pgd, address) if pte < 0 else pte
            self._forget("the unmapping walk", index, walk.pfn)
        if walk.purpose != Purpose.AUDIT:
            watched.core = self._core_state()
        watched.told_stop = bool(answer & STOP)
        return answer

    def swap_out(self, own: Callable[..., Any], priority: int, zone: Zone, goal: int) -> int:
        """A scan: `try_to_swap_out` does the work, the scheme changes only what is its own, and no more pages go than
        were asked for."""
        core = self._core_state()
        try_to_swap_out = self.env.try_to_swap_out
        found = 0

        def core_scan(vma: VmArea, start: int, end: int, zone_: Zone, wanted: int) -> tuple[int, int]:
            nonlocal core, found
            self._compare("swap_out", core)
            if zone_ is not zone:
                self._blame(f"swap_out was asked for {zone.name} and scans for {zone_.name}")
            answer = try_to_swap_out(vma, start, end, zone_, wanted)
            found += answer[0]
            core = self._core_state()
            return answer

        self.env.try_to_swap_out = core_scan
        try:
            answer = own(self.scheme, priority, zone, goal)
        finally:
            self.env.try_to_swap_out = try_to_swap_out
        self._compare("swap_out", core)
        if answer != found:
            self._blame(f"swap_out answers {answer!r}: it made {found} page(s) freeable")
        if found > goal:
            self._blame(f"swap_out takes {found} pages where {goal} were wanted")
        return answer

    def _busy(self, pfn: int, mm: Mm, address: int, pte: int) -> bool:
        """Every third PTE found by unmapping walks is not to be had just now, as where Linux finds a page table
        locked."""
        if pte < 0:
            pte = self.env.pgtables.pte_index(mm.pgd, address)
        if pte < 0 or not self._maps(pte, pfn):
            return False
        self.found += 1
        return self.found % 3 == 0

    # --- between operations

    def settled(self) -> list[str]:
        """What does not add up now that no operation is under way; asked by the auditor through `check`."""
        env, wrong = self.env, []
        if self.tokens:
            wrong.append(f"{sum(map(len, self.tokens.values()))} reservation(s) never released")
        if self.adjusting:
            wrong.append("a vma_adjust_begin without its end")
        if self.mms != set(env.mms.values()):
            wrong.append("the address spaces told of are not those there are")
        if self.per_pte:
            wrong += [
                f"PTE {pte:#x} was told to map frame {pfn:#x} and does not"
                for pte, pfn in self.ptes.items()
                if not self._maps(pte, pfn)
            ][:4]
            mapped = int(env.frames.np_mapcount.sum())
            if mapped != len(self.ptes):
                wrong.append(f"{mapped} PTEs map pages, {len(self.ptes)} were told")
        frames = env.frames
        for pfn in np.nonzero(((frames.np_flags & np.uint32(PG_DIRECT)) != 0) & (frames.np_mapcount == 0))[0].tolist():
            wrong.append(f"PG_direct of a page that nobody maps: {frames.describe(pfn)}")
        if isinstance(self.scheme, WalkScheme) and not self.env.setup.incomplete:
            wrong += self._probe()
        return wrong

    def _probe(self) -> list[str]:
        """Asks for some shared pages as reclaim would, and answers what reclaim may: AGAIN goes on to each PTE, FAIL |
        STOP ends the walk at once."""
        env, wrong = self.env, []
        frames, meters = env.frames, env.meters.as_dict()
        shared = np.nonzero((frames.np_mapcount > 1) & ((frames.np_flags & np.uint32(PG_ANON)) != 0))[0]
        for pfn in shared[:_PROBES].tolist():
            for answer in (AGAIN, FAIL | STOP):
                hits = self._ask(pfn, answer)
                expected = frames.mapcount[pfn] if answer == AGAIN else 1
                if hits != expected:
                    wrong.append(
                        f"an unmapping walk that is answered {'AGAIN' if answer == AGAIN else 'FAIL | STOP'} offers "
                        f"{hits} PTEs, not {expected}: " + frames.describe(pfn)
                    )
        env.meters.restore(meters)
        return wrong

    def _ask(self, pfn: int, answer: int) -> int:
        assert isinstance(self.scheme, WalkScheme)
        walk = _AnsweredWalk(self, pfn, answer)
        self.probing = True
        try:
            self.scheme.walk(walk)
        finally:
            self.probing = False
        return walk.hits


class _WatchedWalk(Walk):
    """The core's walk as the scheme sees it. `core`: the core's state after the last answer."""

    __slots__ = ("watch", "walk", "core", "told_stop")

    def __init__(self, watch: Watch, walk: Walk) -> None:
        super().__init__(walk.pfn, walk.purpose)
        self.watch = watch
        self.walk = walk
        self.core = watch._core_state()
        self.told_stop = False

    def visit(self, mm: Mm, address: int, vma: VmArea | None = None, pte: int = -1) -> int:
        return self.watch._asked(self, mm, address, vma, pte)


class _AnsweredWalk(Walk):
    """An unmapping walk in which every PTE that maps the frame gets the same `answer`; `hits`: how many did."""

    __slots__ = ("watch", "answer", "hits")

    def __init__(self, watch: Watch, pfn: int, answer: int) -> None:
        super().__init__(pfn, Purpose.UNMAP)
        self.watch = watch
        self.answer = answer
        self.hits = 0

    def visit(self, mm: Mm, address: int, vma: VmArea | None = None, pte: int = -1) -> int:
        if pte < 0:
            pte = self.watch.env.pgtables.pte_index(mm.pgd, address)
        if pte < 0 or not self.watch._maps(pte, self.pfn):
            return MISS
        self.hits += 1
        return self.answer


def _stands(vma: VmArea) -> bool:
    """Is it one of its address space's areas?"""
    return vma in vma.vm_mm.vmas


def _same(old: list[np.ndarray], new: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(old, new))


def _shrinks(vma: VmArea, start: int, end: int, nxt: VmArea | None) -> bool:
    return nxt is None and vma.vm_start <= start and end <= vma.vm_end
