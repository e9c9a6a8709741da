"""What memory must contain, kept in plain dictionaries: the other side of the state machine's comparison.

A page is two words, one in its first half and one in its second (a truncation may cut between them). Private memory is
a dictionary per process; a page that is not in it shows what its object shows, or zeros. A slot says what stands at an
address; it knows nothing of areas, page tables or frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from mmcore.outside import MappedFile
from sandbox.kit.files import OpenFile

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm

READ, WRITE, EXEC = 1, 2, 4
ZERO = (0, 0)
LOW, HIGH = 0, 0x800  # where the two words of a page lie
Words = tuple[int, int]


class CountedFile(MappedFile, Protocol):
    """What the core maps, and how often."""

    count: int  # references


class Object:
    """A file or a piece of shared memory; `size` in bytes. `file` is what the core maps."""

    def __init__(self, size: int, file: CountedFile) -> None:
        self.size = size
        self.file = file
        self.pages: dict[int, Words] = {}

    def opened(self) -> OpenFile:
        """Of a file: by what it is read and written."""
        assert isinstance(self.file, OpenFile)
        return self.file

    def read(self, index: int) -> Words | None:
        """None beyond the end: SIGBUS."""
        if index * 4096 >= self.size:
            return None
        return self.pages.get(index, ZERO)

    def truncate(self, size: int) -> None:
        for index in [i for i in self.pages if i * 4096 >= size]:
            del self.pages[index]
        tail, last = size % 4096, size // 4096
        if size < self.size and tail and last in self.pages:
            low, high = self.pages[last]
            self.pages[last] = (low if tail > LOW else 0, high if tail > HIGH else 0)
        self.size = size


class Slot(NamedTuple):
    """One page of address space. `index`: page of `obj` it shows; `linear`: the one it would show without
    remap_file_pages."""

    prot: int
    obj: Object | None
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks a slot
    shared: bool
    linear: int


class Process:
    """Address space by page number: `slots` what is mapped, `data` the private pages that differ from their
    object."""

    def __init__(self, mm: Mm) -> None:
        self.mm = mm
        self.slots: dict[int, Slot] = {}
        self.data: dict[int, Words] = {}
        self.brk_start = 0

    def expect(self, page: int) -> Words | None:
        """What a load finds; None: SIGBUS."""
        slot = self.slots[page]
        if not slot.shared and page in self.data:
            return self.data[page]
        if slot.obj is None:
            return ZERO
        return slot.obj.read(slot.index)

    def store(self, page: int, where: int, word: int) -> bool:
        """False: SIGBUS."""
        old = self.expect(page)
        if old is None:
            return False
        new = (word, old[1]) if where == LOW else (old[0], word)
        slot = self.slots[page]
        if slot.shared:
            assert slot.obj is not None
            slot.obj.pages[slot.index] = new
        else:
            self.data[page] = new
        return True

    def fork(self, mm: Mm) -> Process:
        child = Process(mm)
        child.slots = dict(self.slots)
        child.data = dict(self.data)
        child.brk_start = self.brk_start
        return child

    def unmap(self, page: int, pages: int) -> None:
        for p in range(page, page + pages):
            self.slots.pop(p, None)
            self.data.pop(p, None)

    def map(self, page: int, pages: int, prot: int, obj: Object | None, index: int, shared: bool) -> None:
        self.unmap(page, pages)
        for k in range(pages):
            self.slots[page + k] = Slot(prot, obj, index + k, shared, index + k)

    def move(self, page: int, pages: int, to: int, keep: bool = False) -> None:
        """`keep`: the old mapping stays (mremap of length 0 copies a shared mapping)."""
        for k in range(pages):
            slot = self.slots.get(page + k)
            if slot is None:
                continue
            data = self.data.pop(page + k, None)
            if not keep:
                del self.slots[page + k]
            self.slots[to + k] = slot
            self.data.pop(to + k, None)
            if data is not None:
                self.data[to + k] = data
