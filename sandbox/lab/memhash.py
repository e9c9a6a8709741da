"""The hash of final memory: what the guest could have read when each of its address spaces ended, and what its files
hold at the end.

    address space   its areas (neighbours alike joined), and a digest of every page of its own that is not all zeros:
                    mapped, swapped out (from the swap cache or the device), or still the file's (from the page cache or
                    the file); of the stack only what lies above the stack pointer (below it are leavings of calls and
                    signal handlers that have returned), and without the random bytes that exec put there: who execs
                    first gets the first ones
    shared pages    belong to their file, not to one process: a digest per page when the last address space that maps it
                    ends
    files           every name of the file system in memory, at the end of the run

Address spaces are told by what they held and not by pid. Nothing is touched by looking: no fault, no read-ahead, no
meter, no virtual time. Whether a page was ever touched does not show (it is zero either way), nor where areas of one
kind meet, nor whether remap_file_pages made a nonlinear area or ordinary ones, for all of that may differ by scheme: a
nonlinear area is told as the ordinary ones that would show the same pages.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from hashlib import blake2b
from itertools import pairwise
from stat import S_ISDIR, S_ISLNK
from typing import TYPE_CHECKING

from mmcore.areas.vma import VM_GROWSDOWN, VM_MAYSHARE, VM_NONLINEAR, VmArea
from mmcore.errors import SysError
from mmcore.files.filespace import FileSpace
from mmcore.files.shmem import ShmemSpace
from mmcore.physical.pgtable import FILE, PRESENT
from mmcore.physical.pterange import PteRange
from mmcore.physical.ram import PAGE_SIZE
from sandbox.cpu.regs import ESP
from sandbox.fs.tmpfs import TmpfsInode
from sandbox.kernel.binprm import AT_RANDOM
from sandbox.result import FileMemory, MemoryImage, Pages, SpaceMemory

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.files.filemap import AddressSpace
    from mmcore.memory import Memory
    from sandbox.fs.dentry import Dentry
    from sandbox.fs.vfs import Vfs
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task import Task

DIGEST = 8
"""Bytes of one page's digest."""

_ZERO = bytes(PAGE_SIZE)


class _Digests:
    """Digests of pages by number, all-zero pages left out."""

    __slots__ = ("numbers", "digests")

    def __init__(self) -> None:
        self.numbers = array("I")
        self.digests = bytearray()

    def add(self, number: int, data: bytes) -> None:
        if data != _ZERO[: len(data)]:
            self.numbers.append(number)
            self.digests += blake2b(data, digest_size=DIGEST).digest()

    def pages(self) -> Pages:
        return Pages(self.numbers.tobytes(), bytes(self.digests))


class MemoryRecorder:
    """Records the memory of one run. `ended` is the kernel's `mm_ended`; `image` is asked once, after the run."""

    def __init__(self, mem: Memory, kernel: Kernel, vfs: Vfs) -> None:
        self.mem = mem
        self.kernel = kernel
        self.vfs = vfs
        self._spaces: list[SpaceMemory] = []
        self._times: dict[int, int] = {}  # pid -> address spaces of it so far
        self._shared: dict[str, FileMemory] = {}

    def ended(self, task: Task, mm: Mm, how: str, sp: int | None = None) -> None:
        """The last task of an address space is about to leave it by `how`: "exit" or "exec". `sp`: the stack
        pointer, if it is not the task's."""
        sp = task.regs[ESP] if sp is None else sp
        number = self._times[task.tgid] = self._times.get(task.tgid, 0) + 1
        pages = _Digests()
        for vma in mm.vmas:
            if vma.vm_flags & VM_MAYSHARE and vma.mapping is not None:
                self._shared_area(vma, pages)
            else:
                self._private_area(vma, pages, sp)
        self._spaces.append(SpaceMemory(task.tgid, number, task.comm, how, areas(self.mem, mm), pages.pages()))
        self._last_mappings(mm)

    def image(self) -> MemoryImage:
        """All that was recorded, what still runs and the files added, in a fixed order."""
        living: dict[Mm, list[Task]] = {}
        for task in self.kernel.tasks.values():
            if task.mm is not None:
                living.setdefault(task.mm, []).append(task)
        for mm, tasks in living.items():
            stack = [vma for vma in mm.vmas if vma.vm_flags & VM_GROWSDOWN]
            on_it = [t.regs[ESP] for t in tasks if any(vma.vm_start <= t.regs[ESP] < vma.vm_end for vma in stack)]
            self.ended(tasks[0], mm, "end of the run", min(on_it, default=0))
        self._spaces.sort(key=lambda space: (space.pid, space.number))
        files = [*self._shared.values(), *self._tree(self.vfs.root, "")]
        return MemoryImage(self._spaces, sorted(files, key=lambda file: file.name))

    # --- areas

    def _private_area(self, vma: VmArea, pages: _Digests, sp: int) -> None:
        left_out: list[tuple[int, int]] = []
        if vma.vm_flags & VM_GROWSDOWN:
            random = _at_random(vma.vm_mm)
            left_out = [(vma.vm_start, min(sp, vma.vm_end)), (random, random + 16)]
        tables, mapping = self.mem.pgtables, vma.mapping
        zero, mask = self.mem.zero_pfn, tables.PFN_MASK
        found: dict[int, bytes | None] = {}
        for page, pte in _entries(self.mem, vma):
            if pte & PRESENT:
                pfn = pte >> 12 & mask
                found[page] = self._frame(pfn) if pfn != zero else _ZERO
            elif pte & FILE:
                found[page] = self._file_page(mapping, tables.pte_to_pgoff(pte)) if mapping is not None else _ZERO
            else:
                found[page] = self._swapped(tables.pte_to_swp(pte))
        if mapping is not None:
            first = (vma.vm_start >> 12) - vma.vm_pgoff
            for index in self._indices(mapping, vma.vm_pgoff, vma.vm_pgoff + vma.pages):
                if first + index not in found:
                    found[first + index] = self._file_page(mapping, index)
        for page in sorted(found):
            data = found[page] or b""
            for start, end in left_out:
                low, high = max(start - (page << 12), 0), min(end - (page << 12), PAGE_SIZE)
                if low < high and data:
                    data = data[:low] + bytes(high - low) + data[high:]
            pages.add(page, data)

    def _shared_area(self, vma: VmArea, pages: _Digests) -> None:
        """A page that shows what its place in the file says is told with the file (which place that is, `areas`
        says); any other is told here."""
        tables, frames, mapping = self.mem.pgtables, self.mem.frames, vma.mapping
        assert mapping is not None
        first = vma.vm_pgoff - (vma.vm_start >> 12)
        linear = not vma.vm_flags & VM_NONLINEAR
        for page, pte in _entries(self.mem, vma):
            if pte & PRESENT:
                pfn = pte >> 12 & tables.PFN_MASK
                if frames.mapping[pfn] != mapping.addr or (linear and frames.index[pfn] != first + page):
                    pages.add(page, self._frame(pfn))
            elif not pte & FILE:
                pages.add(page, self._swapped(tables.pte_to_swp(pte)))  # no entry of a file's page ever says swap
            elif linear and tables.pte_to_pgoff(pte) != first + page:
                pages.add(page, b"page %d of the file" % tables.pte_to_pgoff(pte))

    def _last_mappings(self, mm: Mm) -> None:
        """Files that nobody else maps shared or private: their pages as they are now."""
        for vma in mm.vmas:
            mapping = vma.mapping
            if mapping is None or not vma.vm_flags & VM_MAYSHARE:
                continue
            if any(other.vm_mm is not mm for other in mapping.i_mmap) or any(
                other.vm_mm is not mm for other in mapping.nonlinear
            ):
                continue
            name = "shared memory " + _file_name(vma)
            self._shared[name] = self._file(name, mapping)

    # --- pages

    def _frame(self, pfn: int) -> bytes:
        at = pfn << 12
        return self.mem.ram.buf[at : at + PAGE_SIZE]

    def _swapped(self, entry: int) -> bytes:
        swap = self.mem.swap
        pfn = swap.cache.get(entry, -1)
        return self._frame(pfn) if pfn >= 0 else swap.store.page(entry)

    def _indices(self, mapping: AddressSpace, first: int, stop: int) -> list[int]:
        """Pages of a file in [first, stop) that may hold something, ascending."""
        stop = min(stop, mapping.host.i_size + PAGE_SIZE - 1 >> 12)
        if not isinstance(mapping, ShmemSpace):
            return list(range(first, stop))
        return sorted(index for index in {*mapping.pages, *mapping.swapped} if first <= index < stop)

    def _file_page(self, mapping: AddressSpace, index: int) -> bytes:
        """A page of a file wherever it is; empty for a hole, and for what the host will not read."""
        pfn = mapping.pages.get(index, -1)
        if pfn >= 0:
            return self._frame(pfn)
        if isinstance(mapping, ShmemSpace):
            entry = mapping.swapped.get(index, 0)
            return self._swapped(entry) if entry else b""
        assert isinstance(mapping, FileSpace)
        try:
            return mapping.backing.read_page(index).ljust(PAGE_SIZE, b"\0")
        except SysError:
            return b""

    # --- files

    def _file(self, name: str, mapping: AddressSpace) -> FileMemory:
        pages = _Digests()
        size = mapping.host.i_size
        for index in self._indices(mapping, 0, 1 << 32):
            pages.add(index, self._file_page(mapping, index)[: size - (index << 12)])
        return FileMemory(name, size, pages.pages())

    def _tree(self, at: Dentry, path: str) -> Iterator[FileMemory]:
        """Every name of the root file system from a directory down; what is mounted on it is not the guest's own."""
        for name, child in at.children.items():
            if child.mounted is not None:
                continue
            inode = child.inode
            assert isinstance(inode, TmpfsInode)
            place = f"{path}/{name.decode(errors='backslashreplace')}"
            if inode.mapping is not None:
                yield self._file(place, inode.mapping)
            elif S_ISDIR(inode.mode):
                yield FileMemory(place + "/", 0, Pages(b"", b""))
                yield from self._tree(child, place)
            else:
                yield FileMemory(
                    f"{place} -> {inode.target.decode(errors='backslashreplace')}" if S_ISLNK(inode.mode) else place,
                    0,
                    Pages(b"", b""),
                )


def _at_random(mm: Mm) -> int:
    """Where exec put its random bytes; 0 if it did not."""
    words = array("I", mm.saved_auxv)
    return dict(zip(words[::2], words[1::2])).get(AT_RANDOM, 0)


def _file_name(vma: VmArea) -> str:
    """The file an area shows, as /proc/PID/maps names it; one without a name is known by its inode."""
    if vma.vm_file is None:
        return ""
    name = vma.vm_file.path
    if not name or name.endswith(" (deleted)"):
        name = f"{name} inode {vma.vm_file.inode.ino}".strip()
    return name


def _entries(mem: Memory, vma: VmArea) -> Iterator[tuple[int, int]]:
    """(page number, PTE) of every entry of the area that is not empty."""
    found = PteRange.of(mem.pgtables, vma.vm_mm.pgd, vma.vm_start, vma.vm_end).read()
    at = found.filled()
    for address, pte in zip(found.addresses(at).tolist(), found.entries[at].tolist(), strict=True):
        yield address >> 12, pte


def _runs(mem: Memory, vma: VmArea) -> list[tuple[int, int, int]]:
    """(start, end, first page of the file) of the ordinary areas that would show what the area shows: itself, unless it
    is nonlinear."""
    if not vma.vm_flags & VM_NONLINEAR:
        return [(vma.vm_start, vma.vm_end, vma.vm_pgoff)]
    start = vma.vm_start >> 12
    shown = [*range(vma.vm_pgoff, vma.vm_pgoff + vma.pages)]  # an empty entry shows its linear place
    tables, frames = mem.pgtables, mem.frames
    for page, pte in _entries(mem, vma):
        if pte & PRESENT:
            shown[page - start] = frames.index[pte >> 12 & tables.PFN_MASK]
        elif pte & FILE:
            shown[page - start] = tables.pte_to_pgoff(pte)
    cuts = [0, *(k for k in range(1, len(shown)) if shown[k] != shown[k - 1] + 1), len(shown)]
    return [(start + low << 12, start + high << 12, shown[low]) for low, high in pairwise(cuts)]


def areas(mem: Memory, mm: Mm) -> list[str]:
    """The areas as text, neighbours joined that are equal in permissions and file and contiguous in it."""
    joined: list[
        tuple[int, int, str, str, int]
    ] = []  # start, end, permissions, file, the offset that would go on after it
    for vma in mm.vmas:
        what = vma.permissions() + (" stack" if vma.vm_flags & VM_GROWSDOWN else "")
        name = _file_name(vma)
        for first, stop, pgoff in _runs(mem, vma):
            start, end, before, file, offset = joined[-1] if joined else (0, 0, "", "", 0)
            alike = joined and end == first and before == what and file == name and (not name or offset == pgoff)
            if alike:
                joined.pop()
            joined.append((start if alike else first, stop, what, name, pgoff + (stop - first >> 12)))
    lines = []
    for start, end, what, name, offset in joined:
        where = f" {name} offset {offset - (end - start >> 12) << 12:#x}" if name else ""
        lines.append(f"{start:08x}-{end:08x} {what}{where}")
    return lines


def space_digest(space: SpaceMemory) -> bytes:
    """What an address space held, whatever pid its process got: processes that fork at the same time get theirs as the
    scheduler has it."""
    digest = blake2b(repr((space.comm, space.ended, space.areas)).encode(), digest_size=16)
    digest.update(space.pages.numbers + space.pages.digests)
    return digest.digest()


def memory_hash(image: MemoryImage) -> str:
    """One hash over all of it, hexadecimal."""
    whole = blake2b(digest_size=16)
    for digest in sorted(map(space_digest, image.spaces)):
        whole.update(digest)
    for file in image.files:
        whole.update(repr((file.name, file.size)).encode())
        whole.update(file.pages.numbers + file.pages.digests)
    return whole.hexdigest()
