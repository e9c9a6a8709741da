"""Every allocation fails once: the n-th of an operation, for each n there is. The operation then says ENOMEM and
nothing has changed, or it did without; tried again, it succeeds.

The world compares areas, contents, references and the whole account after the failure (see World.call); here the
numbers of kernel objects are compared too, so that nothing is kept either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mmcore.calls.exec_stack import bprm_stack, setup_arg_pages
from mmcore.errors import SysError
from mmcore.paging.lifecycle import mm_alloc, mmput
from mmcore.physical.frames import PAGETABLE, STACK, VMALLOC
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.injection import Failing
from sandbox.kit.world import World
from tests.mmcore import box

SCHEMES = {**box.DISTINCT, "pte_chain-highpte": (PteChain, {"highpte": True, "cache_line": 32})}
CELLS = [(name, paging) for name in SCHEMES for paging in ("pae", "2level")]
A = 0x40000 - 40  # page where World's arena begins
PRIVATE, SHARED, TMPFS, HOST = (
    0,
    1,
    3,
    7,
)  # World.mmap's kinds: private and shared memory, shared tmpfs file, shared host file
TMPFS_PRIVATE = 2


class Tries(World):
    """Counts what is tried with a failure, and says whether the failure came to pass."""

    failed = False

    def call(self, fn: Callable[..., Any], *args: Any, fail: int = 0) -> Any:
        if not fail:
            return super().call(fn, *args)
        before = self.objects_held()
        with Failing(self.mem.pages, fail) as failing:
            try:
                return self._patient(fn, *args)
            except (SysError, MemoryError):
                if not failing.failed:
                    raise
            finally:
                self.failed = failing.failed
        self.check(f"{self.trace[-1]}, allocation {fail} failing")
        assert self.objects_held() == before, f"{self.trace[-1]}: failing at allocation {fail} keeps something"
        return self._patient(fn, *args)

    def _with_failure(self, fail: int, fn: Callable[..., Any], *args: Any) -> Any:
        return self.call(fn, *args, fail=fail)

    def objects_held(self) -> dict[str, Any]:
        """What a failed operation must give back. (A table or an anon_vma made for a fault that then fails may stay:
        the next one uses it.)"""
        mem = self.mem
        held = {
            c.name: c.objects
            for c in mem.slab.caches.values()
            if not c.name.startswith(("radix", "anon_vma", "pte_chain"))
        }
        if "pte_chain" in mem.slab.caches:
            held["pte_chain"] = mem.slab.caches["pte_chain"].objects - bool(mem.scheme._stash)  # type: ignore[attr-defined]
        held["committed"] = mem.overcommit.committed
        held["areas"] = [
            (vma.vm_start, vma.vm_end, vma.vm_flags, vma.vm_pgoff) for mm in mem.mms.values() for vma in mm.vmas
        ]
        held["totals"] = [(mm.total_vm, mm.locked_vm, mm.data_vm, mm.exec_vm, mm.stack_vm) for mm in mem.mms.values()]
        held["files"] = [obj.file.count for obj in self.objects]
        return held


def scene(cell: tuple[str, str], spare: int | None = None) -> Tries:
    """A process with private memory that is partly swapped, shared memory, both files; and a child that shares it
    all."""
    kind, options = SCHEMES[cell[0]]
    w = Tries(kind, cell[1], spare, **options)
    w.step("mmap", 0, PRIVATE, 19, 2, 1, 0)  # pages 1-20 of the arena
    w.step("mmap", 0, SHARED, 7, 2, 31, 0)  # 31-38
    w.step("mmap", 0, TMPFS, 11, 2, 41, 0)  # 41-52
    w.step("mmap", 0, TMPFS_PRIVATE, 7, 2, 54, 2)  # 54-61
    w.step("mmap", 0, HOST, 7, 2, 65, 0)  # 65-72
    for which in range(5):
        w.step("store", 0, which, 0, 11, 50 + which)
    w.step("reclaim", 12)
    w.step("fork", 0)
    w.step("store", 1, 0, 4, 3, 99)
    return w


def exhaust(
    cell: tuple[str, str], act: Callable[[Tries, int], Any], spare: int | None = None, at_least: int = 1
) -> None:
    """`act(world, n)` tries an operation whose n-th allocation fails; from 1 up, until there is no n-th."""
    n = 0
    while True:
        n += 1
        w = scene(cell, spare)
        act(w, n)
        w.check(f"{w.trace[-1]}, the second attempt")
        if not w.failed:
            break
        assert n < 200
    assert n > at_least, "no allocation was there to fail"
    w.end()


cells = pytest.mark.parametrize("cell", CELLS, ids="-".join)


@pytest.mark.covering
@cells
def test_fork(cell: tuple[str, str]) -> None:
    exhaust(cell, lambda w, n: w.fork(0, fail=n), at_least=8)


@pytest.mark.covering
@cells
@pytest.mark.parametrize("kind", [PRIVATE, SHARED, TMPFS, TMPFS_PRIVATE, HOST])
def test_mmap(cell: tuple[str, str], kind: int) -> None:
    exhaust(cell, lambda w, n: w.mmap(0, kind, 9, 2, 80, 3, fail=n))


@pytest.mark.covering
@cells
def test_mmap_over_what_is_there(cell: tuple[str, str]) -> None:
    exhaust(cell, lambda w, n: w.mmap(0, PRIVATE, 5, 6, 8, 0, fail=n), at_least=2)


@pytest.mark.covering
@cells
def test_munmap_a_hole(cell: tuple[str, str]) -> None:
    exhaust(cell, lambda w, n: w.munmap(0, 6, 3, fail=n))


@pytest.mark.covering
@cells
@pytest.mark.parametrize("skip, pages", [(0, 3), (4, 3), (8, 11)])
def test_mprotect_splits(cell: tuple[str, str], skip: int, pages: int) -> None:
    exhaust(cell, lambda w, n: w.mprotect(1, 0, skip, pages, 1, fail=n))


@pytest.mark.covering
@cells
@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("how, new", [(2, 6), (2, 15), (2, 2), (1, 30)])
def test_mremap(cell: tuple[str, str], which: int, how: int, new: int) -> None:
    """Part of an area, shared with a child, moves, grows or shrinks as it moves."""
    exhaust(cell, lambda w, n: w.mremap(1, which, 1, 5, new, 75, how, fail=n))


@pytest.mark.covering
@cells
def test_mremap_over_what_is_there(cell: tuple[str, str]) -> None:
    exhaust(cell, lambda w, n: w.mremap(0, 0, 2, 4, 4, 44, 2, fail=n))


@pytest.mark.covering
@cells
def test_a_second_mapping(cell: tuple[str, str]) -> None:
    exhaust(cell, lambda w, n: w.mremap(0, 2, 3, 0, 6, 75, 3, fail=n))


@pytest.mark.covering
@cells
def test_remap_file_pages(cell: tuple[str, str]) -> None:
    """The pages are faulted in afterwards; a failure there is nobody's error."""
    for n in range(1, 12):
        w = scene(cell)
        w.remap(0, 1, 2, 3, 9, fail=n)
        w.check("remap_file_pages")
    w.end()


@pytest.mark.covering
@cells
@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("write", [True, False])
def test_faults(cell: tuple[str, str], which: int, write: bool) -> None:
    """Each kind of fault: fresh, copy on write, swapped in, of files; by the parent, whose pages are shared and partly
    out."""

    def act(w: Tries, n: int) -> None:
        vma = w.processes[0].mm.vmas[which]
        for skip in range(vma.pages):
            if write:
                w.store(0, which, skip, 0, 7, fail=n)
            else:
                w.load(0, which, skip, 0, fail=n)

    for n in range(1, 9):
        w = scene(cell)
        act(w, n)
        w.check("faults with a failure each")
    w.end()


@pytest.mark.covering
@cells
def test_faults_of_a_fresh_area(cell: tuple[str, str]) -> None:
    def act(w: Tries, n: int) -> None:
        w.mmap(0, PRIVATE, 3, 2, 0, 0)
        which = next(k for k, vma in enumerate(w.processes[0].mm.vmas) if vma.vm_start >= 0x50000000)
        w.store(0, which, 0, 0, 7, fail=n)

    exhaust(cell, act, at_least=2)


@pytest.mark.covering
@cells
def test_reclaim(cell: tuple[str, str]) -> None:
    """Reclaim allocates too (nodes of the swap cache's tree). It does what it can."""
    for n in range(1, 12):
        w = scene(cell)
        with Failing(w.mem.pages, n, every=3):
            w.reclaim(60)
        w.check("reclaim with failures")
        w.end()


@pytest.mark.covering
@cells
@pytest.mark.parametrize("which", range(3))
def test_read_and_write(cell: tuple[str, str], which: int) -> None:
    for n in range(1, 10):
        w = scene(cell)
        w.step("reclaim", 150)
        obj = w.objects[which]
        for index in (0, 17, 23):
            for fn, args in (
                (obj.file.mapping.read, (index * 4096, 4096)),
                (obj.file.mapping.write, (index * 4096, b"\x01\x00\x00\x00")),
            ):
                w.note(f"{fn.__name__} page {index}")
                w.call(fn, *args, fail=n)
                if fn.__name__ == "write":
                    obj.pages[index] = (1, obj.pages.get(index, (0, 0))[1])
                w.check(w.trace[-1])


@pytest.mark.covering
@cells
def test_exec(cell: tuple[str, str]) -> None:
    """A new address space, its stack, its first strings, the stack's move: fails anywhere, and all of it can be taken
    apart."""
    n = 0
    while True:
        n += 1
        w = scene(cell)
        mem = w.mem
        before = w.objects_held(), mem.pages.owned[PAGETABLE], mem.pages.owned[STACK], mem.pages.owned[VMALLOC]
        mm = None
        with Failing(mem.pages, n) as failing:
            try:
                mm = mm_alloc(mem)
                mem.current.mm = mm
                vma = bprm_stack(mem, mm, 0xC0000000)
                w.machine.store(mm, 0xBFFFF000, 1234)
                setup_arg_pages(mem, vma, 0xBFE00000, False)
                assert w.machine.load(mm, 0xBFDFF000) == 1234
            except (SysError, MemoryError):
                assert failing.failed
        w.check("exec")
        if mm is not None:
            mmput(mem, mm)
        mem.current.mm = None
        assert (
            w.objects_held(),
            mem.pages.owned[PAGETABLE],
            mem.pages.owned[STACK],
            mem.pages.owned[VMALLOC],
        ) == before
        w.check("exec undone")
        if not failing.failed:
            break
    assert n > 4


@pytest.mark.covering
@cells
def test_everything_at_once_in_scarce_memory(cell: tuple[str, str]) -> None:
    """Failures while memory is short as well: reclaim runs inside the operations that fail."""
    for n in range(1, 7):
        w = scene(cell, spare=200)
        w.step("mmap", 0, PRIVATE, 39, 2, 0, 0, fail=n)
        w.step("store", 0, len(w.processes[0].mm.vmas) - 1, 0, 39, 5, fail=n)
        w.step("fork", 0, fail=n)
        w.step("store", 2, 0, 0, 19, 6, fail=n)
        w.step("mremap", 1, 0, 0, 19, 19, 75, 2, fail=n)
        w.step("mprotect", 0, 0, 3, 3, 1, fail=n)
        w.step("load", 2, 2, 0, 11, fail=n)
        w.end()
