"""Directed runs: the situations in which schemes went wrong, each a short list of operations on the world.

A scenario is written with page numbers (from the arena's start) and does its work through `World.step`, so that it
leaves a list of operations like any other run and can be shrunk like one. Numbers in brackets are the bug classes of
docs/bug-classes.md.
"""

from __future__ import annotations

from collections.abc import Callable

from mmcore.areas.vma import VM_SHARED
from sandbox.kit.world import ARENA, FILE_PAGES, World

PRIVATE, SHARED, TMPFS, TMPFS_PRIVATE, HOST, HOST_PRIVATE = 0, 1, 3, 2, 7, 6  # World.mmap's kinds
_PROT = {"none": 0, "r": 1, "rw": 2, "rx": 5, "rwx": 6}  # positions in World's table

Scenario = Callable[["Script"], None]
SCENARIOS: dict[str, Scenario] = {}


def scenario(fn: Scenario) -> Scenario:
    SCENARIOS[fn.__name__] = fn
    return fn


class Script:
    """A world by page numbers: `at` counts from the arena's start, from 1; `who` is a process by its place among
    the living. A page that the world does not have (the scheme is wrong, or a step was refused) ends the scenario: what
    was done is compared all the same."""

    def __init__(self, world: World) -> None:
        self.w = world

    def _area(self, who: int, at: int) -> tuple[int, int]:
        """(position of the area, pages before `at` in it)."""
        for which, vma in enumerate(self.w.process(who).mm.vmas):
            if vma.vm_start >> 12 <= ARENA + at < vma.vm_end >> 12:
                return which, ARENA + at - (vma.vm_start >> 12)
        raise AssertionError(f"no area has page {ARENA + at:#x}, which was mapped")

    def map(self, who: int, at: int, pages: int, prot: str = "rw", kind: int = PRIVATE, index: int = 0) -> None:
        self.w.step("mmap", who, kind, pages - 1, _PROT[prot], at, index)

    def unmap(self, who: int, at: int, pages: int) -> None:
        self.w.step("munmap", who, at, pages - 1)

    def store(self, who: int, at: int, pages: int = 1, word: int = 50) -> None:
        while pages > 0:
            which, skip = self._area(who, at)
            n = min(pages, self.w.process(who).mm.vmas[which].pages - skip)
            self.w.step("store", who, which, skip, n - 1, word)
            at, pages = at + n, pages - n

    def load(self, who: int, at: int, pages: int = 1) -> None:
        while pages > 0:
            which, skip = self._area(who, at)
            n = min(pages, self.w.process(who).mm.vmas[which].pages - skip)
            self.w.step("load", who, which, skip, n - 1)
            at, pages = at + n, pages - n

    def protect(self, who: int, at: int, pages: int, prot: str) -> None:
        which, skip = self._area(who, at)
        self.w.step("mprotect", who, which, skip, pages - 1, _PROT[prot])

    def move(self, who: int, at: int, pages: int, to: int, new: int = 0) -> None:
        which, skip = self._area(who, at)
        self.w.step("mremap", who, which, skip, pages - 1, (new or pages) - 1, to, 2)

    def second(self, who: int, at: int, pages: int) -> None:
        """A second mapping of what is shared, at the kernel's choice."""
        which, skip = self._area(who, at)
        self.w.step("mremap", who, which, skip, 0, pages - 1, 0, 3)

    def nonlinear(self, who: int, at: int, pages: int, index: int) -> None:
        shared = [vma for vma in self.w.process(who).mm.vmas if vma.vm_flags & VM_SHARED]
        which = next(k for k, vma in enumerate(shared) if vma.vm_start >> 12 <= ARENA + at < vma.vm_end >> 12)
        self.w.step("remap", who, which, ARENA + at - (shared[which].vm_start >> 12), pages - 1, index)

    def lock(self, who: int, at: int, pages: int, lock: bool = True) -> None:
        which, skip = self._area(who, at)
        self.w.step("mlock", who, which, skip, pages - 1, int(lock))

    def drop(self, who: int, at: int, pages: int) -> None:
        """MADV_DONTNEED."""
        which, skip = self._area(who, at)
        self.w.step("madvise", who, which, skip, pages - 1)

    def fork(self, who: int) -> None:
        self.w.step("fork", who)

    def exit(self, who: int) -> None:
        self.w.step("exit", who)

    def out(self, times: int = 2) -> None:
        """Reclaim all there is; what is young survives one pass."""
        for _ in range(times):
            self.w.step("reclaim", 159)
            self.w.step("tick", 20_000)


# --- fork and exit


def _family(s: Script) -> None:
    """Four processes: 0 is the parent of 1 and 3, 1 of 2; each has written to some pages and shares the others."""
    s.map(0, 1, 20)
    s.store(0, 1, 20)
    s.fork(0)
    s.store(1, 3, 3, 60)
    s.fork(1)
    s.store(2, 4, 4, 70)
    s.fork(0)
    s.store(3, 15, 3, 80)
    s.store(0, 7, 2, 90)


@scenario
def areas_of_unlike_ancestry_merge(s: Script) -> None:
    """Two areas of one process got different ancestors while they stood apart; joined, none of either may be forgotten
    (30)."""
    s.map(0, 1, 2)
    s.store(0, 1, 2)
    s.fork(0)
    s.fork(1)
    s.exit(1)
    s.fork(1)
    s.exit(1)
    s.protect(1, 1, 1, "r")
    s.fork(1)
    s.fork(1)
    s.store(3, 2, 1, 60)
    s.exit(2)
    s.fork(2)
    s.protect(3, 1, 1, "rw")
    s.exit(2)
    s.exit(1)
    s.out()
    s.load(1, 1, 2)


@scenario
def parents_exit_first(s: Script) -> None:
    _family(s)
    s.out()
    for _ in range(3):
        s.exit(0)
        s.load(0, 1, 20)
    s.store(0, 1, 20, 99)


@scenario
def children_exit_first(s: Script) -> None:
    _family(s)
    for who in (3, 2, 1):
        s.exit(who)
        s.out(1)
    s.store(0, 1, 20, 99)
    s.out()


@scenario
def the_middle_exits_first(s: Script) -> None:
    _family(s)
    s.exit(1)
    s.out()
    s.load(2, 1, 20)
    s.exit(0)
    s.load(0, 1, 20)
    s.out()
    s.load(1, 1, 20)


@scenario
def generations(s: Script) -> None:
    """Each child lives on when its parent exits (29)."""
    s.map(0, 1, 6)
    s.map(0, 20, 3, "r")
    s.store(0, 1, 6)
    for k in range(8):
        s.fork(0)
        s.exit(0)
        s.store(0, 1 + k % 5, 2, 60 + k)
    s.out()
    s.load(0, 1, 6)


@scenario
def written_by_its_last_owner(s: Script) -> None:
    """Copied, left alone, found exclusive, forked again (24)."""
    s.map(0, 1, 8)
    s.store(0, 1, 8)
    s.fork(0)
    s.store(0, 1, 4, 60)
    s.store(1, 1, 2, 70)
    s.exit(0)
    s.store(0, 1, 8, 80)
    s.fork(0)
    s.out()
    s.load(1, 1, 8)
    s.store(0, 1, 8, 90)
    s.out()
    s.load(0, 1, 8)
    s.load(1, 1, 8)


@scenario
def inherited(s: Script) -> None:
    """Nothing is swapped: pages of three owners, two of them dead, are looked for, and then go in one piece."""
    s.map(0, 1, 40)
    s.store(0, 1, 40)
    s.fork(0)
    s.store(1, 3, 14, 60)
    s.fork(1)
    s.store(2, 9, 16, 70)
    s.exit(0)
    s.exit(0)
    s.fork(0)
    s.w.step("reclaim", 159)  # everything is young: asked, and left where it is
    s.unmap(0, 1, 40)
    s.load(1, 1, 40)


# --- swap


def _swapped(first: int, second: int, write: bool) -> Scenario:
    def run(s: Script) -> None:
        s.map(0, 1, 12)
        s.store(0, 1, 12)
        s.fork(0)
        s.store(1, 10, 2, 60)
        s.out(3)
        if write:
            s.store(first, 1, 6, 70)
        s.load(first, 1, 12)
        s.out(1)
        s.load(second, 1, 12)
        s.exit(first)
        s.out(3)
        s.load(0, 1, 12)

    return run


for _first, _second in ((0, 1), (1, 0)):
    for _write in (False, True):
        _name = f"swapped_in_by_the_{'child' if _first else 'parent'}_first" + ("_who_writes" if _write else "")
        SCENARIOS[_name] = _swapped(_first, _second, _write)


@scenario
def a_locked_sharer(s: Script) -> None:
    """One of four holds the pages in memory: no walk may unmap them for him, the others' entries may go (4, 23)."""
    _family(s)
    s.lock(2, 1, 20)
    s.out(3)
    s.load(0, 1, 20)
    s.exit(0)
    s.out()
    s.lock(1, 1, 20, False)
    s.out(3)
    s.load(1, 1, 20)


# --- mremap


def _moved(at: int, pages: int, to: int, shared: bool) -> Scenario:
    def run(s: Script) -> None:
        s.map(0, 20, 12)
        s.store(0, 20, 12)
        if shared:
            s.fork(0)
            s.store(1, 24, 2, 60)
        who = 1 if shared else 0
        s.move(who, at, pages, to)
        s.store(who, to, 1, 70)
        s.out(3)
        if shared:
            s.load(0, 20, 12)
        s.load(who, to, pages)
        s.fork(who)
        s.out(3)
        s.load(len(s.w.processes) - 1, to, pages)
        s.move(who, to, pages, at)
        s.out(3)
        s.load(who, 20, 12)
        s.exit(0)
        s.out()

    return run


for _direction, _to in (("up", 60), ("down", 2)):
    for _part, (_at, _pages) in {"whole": (20, 12), "front": (20, 4), "middle": (24, 4), "end": (28, 4)}.items():
        for _shared in (False, True):
            SCENARIOS[f"move_{'shared' if _shared else 'private'}_{_part}_{_direction}"] = _moved(
                _at, _pages, _to, _shared
            )


@scenario
def moved_by_both(s: Script) -> None:
    """Parent and child move the shared pages apart; both come back from swap, in both orders (10)."""
    s.map(0, 1, 8)
    s.store(0, 1, 8)
    s.fork(0)
    s.move(0, 1, 8, 40)
    s.move(1, 1, 8, 60)
    s.out(3)
    s.load(1, 60, 4)
    s.load(0, 40, 8)
    s.load(1, 60, 8)
    s.out(3)
    s.load(0, 40, 8)
    s.fork(1)
    s.exit(1)
    s.out(3)
    s.load(1, 60, 8)


@scenario
def moved_while_out(s: Script) -> None:
    """Pages move while they are in swap, then their sharers read them, each at his own address (10)."""
    s.map(0, 1, 8)
    s.store(0, 1, 8)
    s.fork(0)
    s.fork(0)
    s.out(3)
    s.move(1, 1, 8, 40)
    s.load(1, 40, 8)
    s.load(0, 1, 8)
    s.load(2, 1, 8)
    s.out(3)
    s.exit(1)
    s.load(1, 1, 8)
    s.out(2)


@scenario
def away_and_back(s: Script) -> None:
    """Neighbours part and meet again; every page's place is computed anew (15)."""
    s.map(0, 1, 4)
    s.map(0, 5, 4)
    s.store(0, 1, 8)
    s.move(0, 5, 4, 40)
    s.store(0, 40, 1, 60)
    s.move(0, 40, 4, 5)
    s.out(2)
    s.load(0, 1, 8)
    s.move(0, 1, 4, 50)
    s.move(0, 5, 4, 54)
    s.out(2)
    s.load(0, 50, 8)
    s.move(0, 50, 8, 1)
    s.out(2)


@scenario
def a_remainder_and_a_newcomer(s: Script) -> None:
    """Two areas of one process whose offsets overlap (16)."""
    s.map(0, 10, 8)
    s.store(0, 10, 8)
    s.move(0, 12, 4, 50)
    s.map(0, 12, 4)
    s.store(0, 12, 4, 60)
    s.fork(0)
    s.out(3)
    s.load(1, 10, 8)
    s.load(1, 50, 4)
    s.move(0, 50, 4, 12)
    s.out(3)
    s.load(0, 10, 8)


@scenario
def moved_many_times(s: Script) -> None:
    """Shared pages, and pages of a file out of order, are known at more and more addresses, then at old ones again (10,
    17)."""
    places = (1, 8, 15, 22, 29, 36, 43, 50, 57)
    s.map(0, places[0], 4)
    s.store(0, places[0], 4)
    s.fork(0)
    for at, to in zip(places, (*places[1:], places[2])):
        s.move(1, at, 4, to)
    s.fork(1)
    s.move(2, places[2], 4, places[0])
    s.exit(0)
    s.out(3)
    s.load(0, places[2], 4)
    s.load(1, places[0], 4)
    s.exit(0)
    s.unmap(0, places[0], 4)
    s.map(0, places[0], 4, "rw", TMPFS)
    s.nonlinear(0, places[0], 2, 7)
    s.store(0, places[0], 4)
    s.fork(0)
    s.load(1, places[0], 4)
    for at, to in zip(places, (*places[1:], places[2])):
        s.move(1, at, 4, to)
    s.exit(0)
    s.out(2)
    s.load(0, places[2], 4)


@scenario
def moved_in_one_piece(s: Script) -> None:
    """As many pages as are handled in bulk: moved while shared, again while not, and gone all at once (10)."""
    s.map(0, 1, 40)
    s.store(0, 1, 40)
    s.fork(0)
    s.move(1, 1, 40, 50)
    s.unmap(0, 1, 40)
    s.move(1, 50, 8, 20)
    s.move(1, 20, 8, 50)
    s.unmap(1, 50, 40)


@scenario
def grow_shrink_and_overwrite(s: Script) -> None:
    s.map(0, 1, 8)
    s.store(0, 1, 8)
    s.map(0, 30, 10)
    s.store(0, 30, 10, 60)
    s.fork(0)
    s.move(1, 1, 8, 32, 4)
    s.move(0, 30, 4, 60, 12)
    s.store(0, 60, 12, 70)
    s.out(3)
    s.load(1, 32, 4)
    s.exit(0)
    s.out()


# --- areas


def _boundary(lower: bool, upper: bool, grows_up: bool) -> Scenario:
    def run(s: Script) -> None:
        s.map(0, 1, 6, "rw")
        s.map(0, 7, 6, "rwx")
        if upper:
            s.store(0, 7, 6)
        s.protect(0, 7, 6, "r")  # by mprotect: what mmap makes read-only is not accounted, and so not alike
        if lower:
            s.store(0, 1, 6, 60)
        if grows_up:
            s.protect(0, 7, 3, "rw")
            s.store(0, 7, 3, 70)
        else:
            s.protect(0, 4, 3, "r")
        s.fork(0)
        s.out(3)
        s.load(1, 1, 12)
        s.protect(1, 1, 12, "rw")
        s.store(1, 1, 12, 80)
        s.out(2)
        s.unmap(1, 3, 3)
        s.out(2)

    return run


for _lower in (False, True):
    for _upper in (False, True):
        for _grows in (False, True):
            _sides = "_".join("faulted" if side else "empty" for side in (_lower, _upper))
            _name = f"boundary_{'up' if _grows else 'down'}_{_sides}"
            SCENARIOS[_name] = _boundary(_lower, _upper, _grows)  # (13)


@scenario
def split_and_join(s: Script) -> None:
    s.map(0, 1, 16)
    s.store(0, 1, 16)
    s.fork(0)
    for prot in ("r", "rw"):
        for at in (4, 9, 1, 14):
            s.protect(0, at, 3, prot)
        s.out(1)
    s.store(0, 1, 16, 60)
    s.protect(1, 5, 4, "none")
    s.out(2)
    s.protect(1, 5, 4, "rw")
    s.load(1, 1, 16)


@scenario
def holes(s: Script) -> None:
    s.map(0, 1, 16)
    s.store(0, 1, 16)
    s.fork(0)
    s.unmap(0, 5, 3)
    s.unmap(1, 12, 2)
    s.map(0, 5, 3)
    s.store(0, 5, 3, 60)
    s.drop(1, 2, 4)
    s.out(3)
    s.load(1, 1, 11)
    s.load(0, 1, 16)
    s.unmap(0, 1, 16)
    s.out(1)
    s.load(1, 14, 3)


@scenario
def a_neighbour_adopts(s: Script) -> None:
    """An area shares its neighbour's structures and outlives it (14, 25)."""
    s.map(0, 5, 4)
    s.store(0, 5, 4)
    s.map(0, 9, 4, "rwx")
    s.store(0, 9, 4, 60)
    s.map(0, 1, 4, "rwx")
    s.store(0, 1, 4, 70)
    s.fork(0)
    s.unmap(0, 5, 4)
    s.protect(1, 1, 4, "rw")
    s.out(3)
    s.load(0, 9, 4)
    s.load(0, 1, 4)
    s.protect(1, 9, 4, "rw")
    s.out(2)
    s.load(1, 1, 12)


@scenario
def a_child_adopts(s: Script) -> None:
    """The neighbour has structures of its parent's too, which a newcomer's pages need not know (25)."""
    s.map(0, 5, 4)
    s.store(0, 5, 4)
    s.fork(0)
    s.map(1, 9, 4, "rwx")
    s.store(1, 9, 4, 60)
    s.store(1, 5, 2, 70)
    s.fork(1)
    s.protect(1, 5, 4, "rwx")
    s.exit(0)
    s.out(2)
    s.load(0, 5, 8)
    s.protect(1, 9, 4, "rw")
    s.unmap(1, 7, 4)


@scenario
def apart_and_not_to_be_joined(s: Script) -> None:
    """Two areas, each with pages of its own, meet: whether they join is the scheme's to say, and every page is found
    after it."""
    s.map(0, 1, 3)
    s.map(0, 6, 3)
    s.store(0, 1, 3)
    s.store(0, 6, 3, 60)
    s.map(0, 4, 2)
    s.store(0, 4, 2, 70)
    s.fork(0)
    s.store(1, 1, 8, 80)
    s.out(3)
    s.load(0, 1, 8)
    s.load(1, 1, 8)


# --- files, stacks


@scenario
def many_mappings(s: Script) -> None:
    """Twenty mappings of a page; they go from all sides (4)."""
    for k in range(5):
        s.map(0, 1 + 9 * k, 8, "rw", TMPFS)
        s.store(0, 1 + 9 * k, 8, 50 + k)
    s.fork(0)
    s.load(1, 1, 8)
    s.fork(1)
    s.fork(0)
    for who in range(1, 4):
        for k in range(5):
            s.load(who, 1 + 9 * k, 8)
    s.w.step("file_read", 0, 0, 7)
    s.unmap(2, 10, 8)
    s.exit(1)
    s.unmap(0, 1, 4)
    s.unmap(1, 37, 8)
    s.out(1)
    s.load(0, 19, 8)
    s.load(2, 10, 8)
    s.exit(0)
    s.out(2)
    s.load(1, 19, 8)


@scenario
def wide_and_deep(s: Script) -> None:
    """Ranges of eighteen pages, each mapped seven times and then by children too: what fork does with full chains."""
    for k in range(7):
        s.map(0, 0, 18, "rw", TMPFS)
        s.w.step("store", 0, 0, 0, 39, 50 + k)  # the newest lies lowest
    s.fork(0)
    s.fork(1)
    for which in (0, 2, 0):
        s.w.step("munmap_area", 0, which)
    s.out(1)
    s.w.step("load", 1, 3, 0, 39)
    s.w.step("munmap_area", 2, 5)
    s.exit(1)
    s.out(2)
    for which in range(4):
        s.w.step("load", 0, which, 0, 39)
        s.w.step("load", 1, which, 0, 39)
    s.out(1)
    s.exit(0)


@scenario
def wide_exits(s: Script) -> None:
    """Forty shared pages, mapped five times by each of four: what the last of munmap and exit find behind the chains'
    heads."""
    s.map(0, 0, 40, "rw", SHARED)
    s.w.step("store", 0, 0, 0, 39, 50)
    for _ in range(4):
        s.w.step("mremap", 0, 0, 0, 0, 39, 0, 3)
        s.w.step("load", 0, 0, 0, 39)
    s.fork(0)
    s.fork(1)
    s.w.step("munmap_area", 0, 1)
    s.w.step("munmap_area", 1, 4)
    s.exit(0)
    s.fork(1)
    s.exit(0)
    s.out(1)


@scenario
def files(s: Script) -> None:
    s.map(0, 1, 12, "rw", HOST)
    s.map(0, 20, 12, "rw", HOST_PRIVATE)
    s.map(0, 40, 12, "rw", TMPFS_PRIVATE, 4)
    s.load(0, 1, 12)
    s.load(0, 20, 3)
    s.store(0, 23, 3)  # copies amid pages of the file
    s.store(0, 40, 6, 60)
    s.load(0, 26, 6)
    s.fork(0)
    s.store(1, 25, 4, 70)
    s.move(1, 20, 12, 60)
    s.out(3)
    s.load(1, 60, 12)
    s.load(0, 20, 12)
    s.w.step("truncate", 2, 14)
    s.w.step("file_write", 2, 9, 77)
    s.out(2)
    s.exit(0)
    s.load(0, 40, 12)


@scenario
def shared_memory(s: Script) -> None:
    s.map(0, 1, 10, "rw", SHARED)
    s.store(0, 1, 10)
    s.fork(0)
    s.store(1, 4, 3, 60)
    s.second(1, 1, 6)
    s.move(0, 1, 5, 60)
    s.out(3)
    s.load(0, 60, 5)
    s.load(1, 1, 10)
    s.out(3)
    s.exit(0)


@scenario
def nonlinear(s: Script) -> None:
    """Pages out of order: found, unmapped, faulted in again where they were (17)."""
    s.map(0, 1, 10, "rw", TMPFS)
    s.map(0, 20, 10, "rw", TMPFS)
    s.store(0, 1, 10)
    s.nonlinear(0, 2, 3, 12)
    s.nonlinear(0, 6, 2, 0)
    s.store(0, 1, 10, 60)
    s.load(0, 20, 10)
    s.fork(0)
    s.load(1, 1, 10)
    s.out(3)
    s.load(1, 1, 10)
    s.load(0, 1, 10)
    s.exit(0)
    s.nonlinear(0, 20, 4, 9)
    s.out(2)
    s.unmap(0, 4, 3)
    s.load(0, 20, 10)


@scenario
def one_page_at_many_places(s: Script) -> None:
    """A nonlinear area moves that shows one page of a file over and over: in what moves it stands many times (17)."""
    s.map(0, 1, 30, "rw", TMPFS)
    s.store(0, 1, 1)
    for place in range(2, 30):
        s.nonlinear(0, place, 1, 0)
        s.load(0, place, 1)
        if place in (3, 8, 29):
            s.move(0, 1, 30, 40)
            s.move(0, 40, 30, 1)
    s.out(2)
    s.load(0, 1, 30)


@scenario
def a_nonlinear_area_goes_whole(s: Script) -> None:
    """Many pages of a file lose their only PTEs at once, none of which stood where a formula leads (17)."""
    s.map(0, 1, 36, "rw", TMPFS)
    for place in range(36):
        s.nonlinear(0, 1 + place, 1, (place * 5 + 3) % FILE_PAGES)
    s.load(0, 1, 36)
    s.unmap(0, 1, 36)
    s.map(0, 1, 36, "rw", TMPFS)
    s.load(0, 1, 36)
    s.out(2)


@scenario
def exec_moves_its_stack(s: Script) -> None:
    """Each exec moves its stack down by another distance; then the stacks grow where they lie (26)."""
    s.map(0, 1, 4)
    s.store(0, 1, 4)
    for shift in (0, 37, 601):
        s.w.step("exec", 40 + shift % 7, shift)
    for who in (1, 2, 3):
        s.w.step("grow_stack", who, 3, 9)
        s.w.step("store", who, 0, 0, 20, 60)
    s.exit(0)
    s.fork(0)
    s.out(3)
    for who in (3, 0, 1, 2):
        s.w.step("load", who, 0, 0, 20)
    s.exit(0)
    s.out(2)


@scenario
def pinned(s: Script) -> None:
    """A page that a system call holds is not taken from under it (19)."""
    s.map(0, 1, 4)
    s.store(0, 1, 4)
    s.fork(0)
    for who, write in ((0, 1), (1, 0)):
        s.w.step("pin", who, 0, 1, write)
    s.out(3)
    s.store(0, 1, 4, 60)
    s.exit(0)
    s.w.step("unpin", 0)
    s.out(2)
    s.load(0, 1, 4)


# --- allocations that fail

FAILING: dict[str, tuple[str, tuple[int, ...]]] = {
    "fork": ("fork", (1,)),
    "fork of the parent": ("fork", (0,)),
    "mmap": ("mmap", (0, PRIVATE, 9, 2, 80, 3)),
    "mmap of a file": ("mmap", (0, HOST, 9, 2, 80, 3)),
    "mmap over what is there": ("mmap", (0, PRIVATE, 5, 6, 8, 0)),
    "munmap of a middle": ("munmap", (0, 6, 3)),
    "mprotect of a front": ("mprotect", (1, 0, 0, 3, 1)),
    "mprotect of a middle": ("mprotect", (1, 0, 4, 3, 1)),
    "mprotect of an end": ("mprotect", (1, 0, 8, 11, 1)),
    "mremap of shared pages": ("mremap", (1, 0, 1, 5, 6, 75, 2)),
    "mremap that grows": ("mremap", (1, 0, 1, 5, 15, 75, 2)),
    "mremap that shrinks": ("mremap", (1, 0, 1, 5, 2, 75, 2)),
    "mremap of a file": ("mremap", (1, 2, 1, 5, 6, 75, 2)),
    "mremap over what is there": ("mremap", (0, 0, 2, 4, 4, 44, 2)),
    "a second mapping": ("mremap", (0, 2, 3, 0, 6, 75, 3)),
    "remap_file_pages": ("remap", (0, 1, 2, 3, 9)),
    "fault: copy on write": ("store", (1, 0, 8, 0, 7)),
    "fault: swapped in": ("load", (0, 0, 0, 11)),
    "fault: a fresh area": ("store", (0, 5, 0, 0, 7)),
    "fault: a private file": ("store", (1, 3, 5, 0, 7)),
    "fault: a shared file": ("load", (1, 4, 0, 7)),
    "exec": ("exec", (7, 37)),
}
"""An operation on `failing_scene`, by name, whose n-th allocation is made to fail for n = 1, 2, ..."""


def failing_scene(world: World) -> None:
    """A process with private memory that is partly out, shared memory, files, and a fresh area; a child that shares it
    all."""
    s = Script(world)
    s.map(0, 1, 20)
    s.map(0, 31, 8, "rw", SHARED)
    s.map(0, 41, 12, "rw", TMPFS)
    s.map(0, 54, 8, "rw", TMPFS_PRIVATE, 2)
    s.map(0, 65, 8, "rw", HOST)
    for which in range(5):
        world.step("store", 0, which, 0, 11, 50 + which)
    world.step("reclaim", 12)
    s.fork(0)
    world.step("store", 1, 0, 0, 3, 99)
    s.map(0, 90, 3)
