"""A machine without a CPU beside a model of what its memory must contain, and every operation a program can do to it,
made from small integers.

Each operation is done to both; `check` then compares all there is: the auditor's pass, every area, every page's
contents (looked at without touching it: in RAM, in the swap cache, on the device, in the file), and a TLB that honours
`flush_pending` and nothing else. Driven by hypothesis (tests/mmcore/test_state_machine.py), by a seeded generator
(`wander`), or by a list of operations (`replay`).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mmcore.areas.mm import Mm
from mmcore.areas.vma import VM_GROWSDOWN, VM_LOCKED, VM_MAYSHARE, VM_NONLINEAR, VM_SHARED, VmArea
from mmcore.calls.brk import set_brk
from mmcore.calls.exec_stack import bprm_stack, setup_arg_pages
from mmcore.calls.fremap import remap_file_pages
from mmcore.calls.madvise import MADV_DONTNEED, do_madvise
from mmcore.calls.migrate import migrate_page
from mmcore.calls.mlock import do_mlock, do_munlock
from mmcore.calls.mprotect import do_mprotect
from mmcore.calls.mremap import do_mremap
from mmcore.errors import MustWait, SysError
from mmcore.files.filespace import FileSpace
from mmcore.physical.frames import FREE, PCP, PG_ANON, PG_LOCKED, PG_WRITEBACK
from mmcore.physical.pgtable import PRESENT, TASK_SIZE
from sandbox.kit.compare import WorldComparison
from sandbox.kit.files import host_file, tmpfs_file
from sandbox.kit.injection import Failing
from sandbox.kit.machine import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, CpulessMachine, Fault, serve
from sandbox.kit.model import HIGH, LOW, READ, WRITE, ZERO, CountedFile, Object, Process, Slot

if TYPE_CHECKING:
    from mmcore.rmap import RmapScheme

ARENA = 0x40000000 - (40 << 12) >> 12  # page number; the arena lies across a table's end under either paging
ARENA_PAGES = 96
FILE_PAGES = 24
MAX_PROCESSES = 4
MAX_PAGES = 200  # mapped by one process
MAX_LOCKED = 40
HEAP = 0x08100000
_PROTS = (0, 1, 3, 3, 3, 5, 7, 2)
Step = tuple[str, tuple[int, ...], dict[str, int]]
"""An operation by its name, its small integers, its options (`fail`)."""


class GivenUp(Exception):
    """An operation whose allocation failed is not tried again."""


class World(WorldComparison):
    """`spare`: free frames left at the start (None: all); few make every operation reclaim."""

    def __init__(self, scheme: type[RmapScheme], paging: str = "pae", spare: int | None = None, **options: Any) -> None:
        self.machine = CpulessMachine(scheme, memory=8 << 20, swap=16 << 20, paging=paging, pins=self._pins, **options)
        self.mem = self.machine.mem
        self.trace: list[str] = []  # what was done, in words
        self.history: list[Step] = []  # the same as data, to be done again
        self.at_hand = (
            1  # objects that a cache of the scheme may hold when all is over: pte_chain keeps a node for the next fault
        )
        self.failed = False  # the allocation that was to fail in the last operation did
        self.pinned: list[int] = []
        self.tlb: dict[Mm, dict[int, int]] = {}
        self.objects = [Object(FILE_PAGES << 12, tmpfs_file(self.mem, FILE_PAGES)) for _ in range(2)]
        words = [(1000 + i, 2000 + i) for i in range(FILE_PAGES)]
        contents = [struct.pack("<I", low).ljust(HIGH, b"\0") + struct.pack("<I", high) for low, high in words]
        self.objects.append(Object(FILE_PAGES << 12, host_file(self.mem, contents)))
        self.objects[2].pages = dict(enumerate(words))
        self.processes = [Process(self._new_mm())]
        if spare is not None:
            self.mem.slab.vmalloc(self.mem.pages.nr_free() - spare << 12, "ballast")
        self.check("boot")

    def _pins(self) -> dict[int, int]:
        return {pfn: self.pinned.count(pfn) for pfn in self.pinned}

    def _new_mm(self) -> Mm:
        mm = self.machine.new_mm()
        mm.start_brk = mm.brk = HEAP
        return mm

    # --- doing things

    def call(self, fn: Callable[..., Any], *args: Any, fail: int = 0) -> Any:
        """Calls into the core as a system call would: waits and starts over on MustWait. `fail`: the n-th allocation
        of a first attempt fails; if that attempt ends in ENOMEM, nothing may have changed or been kept, and the second
        succeeds or fails for its own reasons. (What the scheme keeps, the second attempt uses: that shows at the end,
        when nothing may be left.) Below 0: as for -fail, and there is no second attempt."""
        if fail:
            held = self.objects_held()
            with Failing(self.mem.pages, abs(fail)) as failing:
                try:
                    return self._patient(fn, *args)
                except SysError as error:
                    if error.errno != errno.ENOMEM or not failing.failed:
                        raise
                finally:
                    self.failed = self.failed or failing.failed
            self.trace[-1] += f" (allocation {fail} fails)"
            self.check(self.trace[-1])
            now = self.objects_held()
            assert now == held, (
                f"{self.trace[-1]}: keeps something: "
                f"{[(k, held.get(k), now.get(k)) for k in held | now if now.get(k) != held.get(k)][:3]}"
            )
            if fail < 0:
                raise GivenUp
        return self._patient(fn, *args)

    def objects_held(self) -> dict[str, Any]:
        """What a failed operation must give back. A tree's nodes and page tables may stay: the next one uses them."""
        mem = self.mem
        own = {cache.name for cache in mem.scheme.env.scheme_caches}
        held: dict[str, Any] = {
            c.name: c.objects
            for c in mem.slab.caches.values()
            if c.objects and not c.name.startswith("radix") and c.name not in own
        }
        held["committed"] = mem.overcommit.committed
        held["totals"] = [(mm.total_vm, mm.locked_vm, mm.data_vm, mm.exec_vm, mm.stack_vm) for mm in mem.mms.values()]
        held["files"] = [obj.file.count for obj in self.objects]
        return held

    def _patient(self, fn: Callable[..., Any], *args: Any) -> Any:
        mem = self.mem
        try:
            for _ in range(2000):
                try:
                    return fn(*args)
                except MustWait as wait:
                    mem.reclaim.wait_sync(wait.queue)
        finally:
            mem.awaited.let_go(mem.current)
        raise AssertionError(f"{fn.__name__} waits for ever")

    def process(self, who: int) -> Process:
        process = self.processes[who % len(self.processes)]
        serve(self.mem, process.mm)
        return process

    @staticmethod
    def area(process: Process, which: int) -> VmArea | None:
        vmas = process.mm.vmas
        return vmas[which % len(vmas)] if vmas else None

    def note(self, text: str) -> None:
        self.trace.append(text)

    def mmap(self, who: int, kind: int, pages: int, prot: int, place: int, index: int, fail: int = 0) -> None:
        """`kind`: private, shared anonymous, then files shared and private; `place` 0: the kernel's choice, else
        fixed in the arena."""
        process = self.process(who)
        pages = 1 + pages % 40
        if process.mm.total_vm + pages > MAX_PAGES:
            return
        kind %= 2 + 2 * len(self.objects)
        prot = _PROTS[prot % len(_PROTS)]
        at = ARENA + place % (ARENA_PAGES - pages) if place else 0
        shared = bool(kind & 1)
        obj = self.objects[(kind - 2) // 2] if kind >= 2 else None
        index %= FILE_PAGES
        flags = (MAP_SHARED if shared else MAP_PRIVATE) | (MAP_FIXED if at else 0) | (0 if obj else MAP_ANONYMOUS)
        self.note(f"mmap {who} kind {kind} pages {pages} prot {prot} at {at:#x} index {index}")
        file = obj.file if obj else None
        where = (
            self.call(self.machine.mmap, process.mm, pages, prot, flags, at << 12, file, index if obj else 0, fail=fail)
            >> 12
        )
        assert not at or where == at
        if obj is None:
            index = 0
            if shared:
                vma = process.mm.find_vma(where << 12)
                assert vma is not None
                obj = Object(pages << 12, cast(CountedFile, vma.vm_file))
        process.map(where, pages, prot, obj, index, shared)

    def munmap(self, who: int, at: int, pages: int, fail: int = 0) -> None:
        process = self.process(who)
        at, pages = ARENA + at % ARENA_PAGES, 1 + pages % 40
        self.note(f"munmap {who} {at:#x} {pages}")
        self.call(self.machine.munmap, process.mm, at << 12, pages, fail=fail)
        process.unmap(at, pages)

    def munmap_area(self, who: int, which: int) -> None:
        process = self.process(who)
        vma = self.area(process, which)
        if vma is None:
            return
        at, pages = vma.vm_start >> 12, vma.pages
        self.note(f"munmap {who} area {at:#x} {pages}")
        self.call(self.machine.munmap, process.mm, at << 12, pages)
        process.unmap(at, pages)

    def _range(
        self, process: Process, which: int, skip: int, pages: int, beyond: bool = False
    ) -> tuple[VmArea, int, int] | None:
        """(area, first page, pages) of a piece of an area; `beyond`: it may reach past the area's end."""
        vma = self.area(process, which)
        if vma is None:
            return None
        first = (vma.vm_start >> 12) + skip % vma.pages
        n = 1 + pages % 40
        return vma, first, n if beyond else min(n, (vma.vm_end >> 12) - first)

    def mprotect(self, who: int, which: int, skip: int, pages: int, prot: int, fail: int = 0) -> None:
        process = self.process(who)
        found = self._range(process, which, skip, pages, beyond=True)
        if found is None:
            return
        vma, first, n = found
        prot = _PROTS[prot % len(_PROTS)]
        done = next((k for k in range(n) if first + k not in process.slots), n)
        self.note(f"mprotect {who} {first:#x} {n} prot {prot}")
        if first + n << 12 > vma.vm_end:
            fail = 0  # what was done before a failure stays done: only whole operations are tried twice
        try:
            self.call(do_mprotect, self.mem, process.mm, first << 12, n << 12, prot, fail=fail)
            assert done == n
        except SysError as error:
            assert error.errno == errno.ENOMEM and done < n, error
        for p in range(first, first + done):
            process.slots[p] = process.slots[p]._replace(prot=prot)

    def madvise(self, who: int, which: int, skip: int, pages: int) -> None:
        process = self.process(who)
        found = self._range(process, which, skip, pages)
        if found is None:
            return
        vma, first, n = found
        self.note(f"madvise {who} {first:#x} {n}")
        try:
            self.call(do_madvise, self.mem, process.mm, first << 12, n << 12, MADV_DONTNEED)
        except SysError as error:
            assert error.errno == errno.EINVAL and vma.vm_flags & VM_LOCKED
            return
        for p in range(first, first + n):
            process.data.pop(p, None)

    def mlock(self, who: int, which: int, skip: int, pages: int, lock: bool) -> None:
        process = self.process(who)
        found = self._range(process, which, skip, pages)
        if found is None:
            return
        _, first, n = found
        if lock and sum(p.mm.locked_vm for p in self.processes) + n > MAX_LOCKED:
            return
        self.note(f"{'mlock' if lock else 'munlock'} {who} {first:#x} {n}")
        try:
            self.call(do_mlock if lock else do_munlock, self.mem, process.mm, first << 12, n << 12)
        except SysError as error:
            beyond = any(process.expect(page) is None for page in range(first, first + n))
            assert error.errno == errno.ENOMEM and lock and (beyond or not process.slots[first].prot), error

    def mremap(
        self, who: int, which: int, skip: int, pages: int, new: int, place: int, how: int, fail: int = 0
    ) -> None:
        """`how` 0: in place only; 1: may move; 2: to a fixed place; 3: a second mapping (old length 0)."""
        process = self.process(who)
        found = self._range(process, which, skip, pages)
        if found is None:
            return
        vma, first, n = found
        how %= 4
        new = 1 + new % 40
        if how == 3:
            n = 0
        locked = vma.vm_flags & VM_LOCKED and sum(p.mm.locked_vm for p in self.processes) + new - n > MAX_LOCKED
        if process.mm.total_vm + new - n > MAX_PAGES or vma.vm_flags & VM_GROWSDOWN or locked:
            return
        to = ARENA + place % (ARENA_PAGES - new)
        self.note(f"mremap {who} {first:#x} {n} -> {new} how {how} to {to:#x}")
        arguments = (
            self.mem,
            process.mm,
            first << 12,
            n << 12,
            new << 12,
            0 if how == 0 else 3 if how == 2 else 1,
            to << 12 if how == 2 else 0,
        )
        private = not vma.vm_flags & VM_MAYSHARE
        last = process.slots[first + n - 1] if n else process.slots[first]
        linear = last.linear + (1 if n else 0)
        try:
            where = self.call(do_mremap, *arguments, fail=fail) >> 12
        except SysError as error:
            overlap = how == 2 and first + n > to and to + new > first
            expected = (error.errno == errno.ENOMEM and how == 0 and new > n) or (
                error.errno == errno.EINVAL and (overlap or (n == 0 and private))
            )
            assert expected, f"{self.trace[-1]}: {error}"
            return
        assert how != 2 or where == to
        if n > new:
            process.unmap(first + new, n - new)
        if where != first:
            if n != new:
                process.unmap(where, new)
            process.move(first, min(n, new), where)
        for k in range(n, new):
            process.data.pop(where + k, None)
            process.slots[where + k] = Slot(last.prot, last.obj, linear + k - n, last.shared, linear + k - n)

    def remap(self, who: int, which: int, skip: int, pages: int, index: int, fail: int = 0) -> None:
        """remap_file_pages, on a shared area if there is one."""
        process = self.process(who)
        shared = [v for v in process.mm.vmas if v.vm_flags & VM_SHARED]
        if not shared:
            return
        vma = shared[which % len(shared)]
        first = (vma.vm_start >> 12) + skip % vma.pages
        n = min(1 + pages % 12, (vma.vm_end >> 12) - first)
        index %= FILE_PAGES
        if vma.vm_flags & VM_LOCKED and sum(p.mm.locked_vm for p in self.processes) > MAX_LOCKED:
            return
        self.note(f"remap_file_pages {who} {first:#x} {n} from {index}")
        self.call(remap_file_pages, self.mem, process.mm, first << 12, n << 12, 0, index, 0, fail=fail)
        for k in range(n):
            process.slots[first + k] = process.slots[first + k]._replace(index=index + k)
            if not self.mem.setup.nonlinear_areas:
                process.slots[first + k] = process.slots[first + k]._replace(linear=index + k)

    def brk(self, who: int, pages: int) -> None:
        process = self.process(who)
        old = process.mm.brk + 4095 >> 12
        want = (HEAP >> 12) + pages % 24
        if process.mm.total_vm + want - old > MAX_PAGES:
            return
        self.note(f"brk {who} {want:#x}")
        new = set_brk(self.mem, process.mm, want << 12) + 4095 >> 12
        assert new in (old, want)
        if new < old:
            process.unmap(new, old - new)
        elif new > old:
            process.map(old, new - old, READ | WRITE, None, 0, False)

    def fork(self, who: int, fail: int = 0) -> None:
        process = self.process(who)
        if len(self.processes) >= MAX_PROCESSES:
            return
        self.note(f"fork {who}")
        self.processes.append(process.fork(self.call(self.machine.fork, process.mm, fail=fail)))

    def exit(self, who: int) -> None:
        if len(self.processes) < 2:
            return
        process = self.process(who)
        self.note(f"exit {who}")
        self.processes.remove(process)
        self.tlb.pop(process.mm, None)
        serve(self.mem, None)
        self.machine.exit(process.mm)

    def exec(self, word: int, shift: int, fail: int = 0) -> None:
        """A new program's address space: one page of strings at the very top, moved down to where the stack shall end,
        then grown. `fail`: the n-th allocation of a first attempt fails, which is then taken apart."""
        if len(self.processes) >= MAX_PROCESSES:
            return
        top = 0xC0000 - shift % 700
        self.note(f"exec shift {shift % 700}")
        held = self.objects_held()
        if fail and self._exec_fails(word, top, fail):
            self.trace[-1] += f" (allocation {fail} fails)"
            self.check(self.trace[-1])
            assert self.objects_held() == held, f"{self.trace[-1]}: keeps something"
            if fail < 0:
                raise GivenUp
        process = Process(self._new_mm())
        self.processes.append(process)
        vma = self.call(bprm_stack, self.mem, process.mm, TASK_SIZE)
        self.machine.store(process.mm, 0xBFFFF000, word)
        self.call(setup_arg_pages, self.mem, vma, top << 12, False)
        stack = process.mm.vmas[-1]
        process.map(stack.vm_start >> 12, stack.pages, READ | WRITE, None, 0, False)
        process.data[top - 1] = (word, 0)

    def _exec_fails(self, word: int, top: int, fail: int) -> bool:
        """An exec whose n-th allocation fails, and all of it undone. Did it come to that?"""
        mm: Mm | None = None
        with Failing(self.mem.pages, abs(fail)) as failing:
            try:
                mm = self._new_mm()
                vma = self._patient(bprm_stack, self.mem, mm, TASK_SIZE)
                self.machine.store(mm, 0xBFFFF000, word)
                self._patient(setup_arg_pages, self.mem, vma, top << 12, False)
            except (SysError, MemoryError):
                if not failing.failed:
                    raise
            finally:
                serve(self.mem, None)
        if mm is not None:
            self.machine.exit(mm)
        self.failed = failing.failed
        return self.failed

    def grow_stack(self, who: int, pages: int, word: int) -> None:
        process = self.process(who)
        stack = next((v for v in process.mm.vmas if v.vm_flags & VM_GROWSDOWN), None)
        pages = 1 + pages % 8
        if stack is None or process.mm.total_vm + pages > MAX_PAGES:
            return
        end = stack.vm_start >> 12
        prot = process.slots[end].prot
        if not prot & WRITE:
            return
        self.note(f"stack of {who} grows by {pages}")
        self.store_at(process, end - pages, LOW, word)
        process.map(end - pages, pages, prot, None, 0, False)
        process.data[end - pages] = (word, 0)

    # --- contents

    def store_at(self, process: Process, page: int, where: int, word: int) -> None:
        paddr = self.machine.access(process.mm, (page << 12) + where, True)
        self.mem.ram.u32[paddr >> 2] = word
        self._fill(process.mm, page)

    def _fill(self, mm: Mm, page: int) -> None:
        """The TLB takes the entry the access has used."""
        ptes = self.mem.pgtables.ptes
        self.tlb.setdefault(mm, {})[page] = ptes[self.mem.pgtables.pte_index(mm.pgd, page << 12)]

    def store(self, who: int, which: int, skip: int, pages: int, word: int, fail: int = 0) -> None:
        """Stores one word into each of a few pages."""
        self._touch(who, which, skip, pages, word, True, fail)

    def load(self, who: int, which: int, skip: int, pages: int, fail: int = 0) -> None:
        self._touch(who, which, skip, pages, 0, False, fail)

    def _touch(self, who: int, which: int, skip: int, pages: int, word: int, write: bool, fail: int) -> None:
        process = self.process(who)
        found = self._range(process, which, skip, pages)
        if found is None:
            return
        _, first, n = found
        where = HIGH if word & 1 else LOW
        self.note(f"{'store' if write else 'load'} {who} {first:#x} {n} {word}")
        for page in range(first, first + n):
            slot = process.slots[page]
            allowed = slot.prot & WRITE if write else slot.prot
            expected = process.expect(page)
            try:
                if write:
                    self._with_failure(fail, self.store_at, process, page, where, word + page)
                else:
                    paddr = self._with_failure(fail, self.machine.access, process.mm, (page << 12) + where, False)
                    found_word = self.mem.ram.u32[paddr >> 2]
                    self._fill(process.mm, page)
                    assert expected is None or found_word == expected[where == HIGH], (
                        f"load at {page:#x}: {found_word}, not {expected}"
                    )
                assert allowed and expected is not None, f"access to {page:#x} ({slot}) succeeds"
            except Fault as fault:
                assert str(fault) == ("SIGBUS" if allowed else "SIGSEGV"), f"{fault} at {page:#x} ({slot})"
                assert not allowed or expected is None, f"{fault} at {page:#x} ({slot})"
                return
            if write:
                process.store(page, where, word + page)

    def _with_failure(self, fail: int, fn: Callable[..., Any], *args: Any) -> Any:
        """The n-th allocation of the access fails: out of memory, and then it succeeds."""
        if fail:
            with Failing(self.mem.pages, abs(fail)) as failing:
                try:
                    return fn(*args)
                except MemoryError:
                    if fail < 0:
                        raise GivenUp from None
                finally:
                    self.failed = self.failed or failing.failed
        return fn(*args)

    def file_write(self, which: int, index: int, word: int) -> None:
        obj = self.objects[which % len(self.objects)]
        index %= FILE_PAGES + 4
        where = HIGH if word & 1 else LOW
        self.note(f"write file {which} page {index} {word}")
        n = self.call(obj.opened().mapping.write, index * 4096 + where, struct.pack("<I", word))
        assert n == 4
        obj.size = max(obj.size, index * 4096 + where + 4)
        old = obj.pages.get(index, ZERO)
        obj.pages[index] = (word, old[1]) if where == LOW else (old[0], word)

    def file_read(self, which: int, index: int, pages: int) -> None:
        obj = self.objects[which % len(self.objects)]
        index %= FILE_PAGES
        pages = 1 + pages % 8
        self.note(f"read file {which} page {index} {pages}")
        data = self.call(obj.opened().mapping.read, index * 4096, pages * 4096)
        assert len(data) == max(0, min(pages * 4096, obj.size - index * 4096))
        for k in range(pages):
            for half, where in enumerate((LOW, HIGH)):
                at = k * 4096 + where
                if at + 4 <= len(data):
                    assert struct.unpack_from("<I", data, at)[0] == obj.pages.get(index + k, ZERO)[half], (
                        f"page {index + k} of file {which}"
                    )

    def truncate(self, which: int, size: int) -> None:
        """`size` in half pages, and a bit."""
        obj = self.objects[which % len(self.objects)]
        size = size % (2 * FILE_PAGES + 8) * 2048
        size += 1024 if size & 2048 else 0
        self.note(f"truncate file {which} to {size:#x}")
        self.call(obj.opened().truncate, size)
        obj.truncate(size)
        first = size + 4095 >> 12
        for process in self.processes:
            for page, slot in process.slots.items():
                if slot.obj is obj and slot.index >= first:
                    process.data.pop(page, None)

    def pin(self, who: int, which: int, skip: int, write: bool) -> None:
        process = self.process(who)
        found = self._range(process, which, skip, 0)
        if found is None or len(self.pinned) > 6:
            return
        page = found[1]
        if not process.slots[page].prot & (WRITE if write else 7) or process.expect(page) is None:
            return
        self.note(f"pin {who} {page:#x}")
        pfn = self.call(self.mem.faults.get_user_page, process.mm, page << 12, write)
        if not self.mem.is_reserved(pfn):
            self.pinned.append(pfn)

    def unpin(self, which: int) -> None:
        if self.pinned:
            self.note("unpin")
            self.mem.pages.put_page(self.pinned.pop(which % len(self.pinned)))

    def migrate(self, who: int, which: int, fail: int = 0) -> None:
        """A mapped page moves to another frame, if nobody holds it."""
        process = self.process(who)
        tables, reserved = self.mem.pgtables, self.mem.is_reserved
        places = [(page, tables.pte_index(process.mm.pgd, page << 12)) for page in process.slots]
        mapped = [
            (page, i)
            for page, i in places
            if i >= 0 and tables.ptes[i] & PRESENT and not reserved(tables.ptes[i] >> 12 & tables.PFN_MASK)
        ]
        if not mapped:
            return
        page, i = mapped[which % len(mapped)]
        pfn = tables.ptes[i] >> 12 & tables.PFN_MASK
        self.note(f"migrate {who} {page:#x}, frame {pfn:#x}")
        flags = self.mem.frames.flags
        busy = flags[pfn] & (PG_LOCKED | PG_WRITEBACK)
        try:
            new = self.call(migrate_page, self.mem, pfn, fail=fail)
        except SysError as error:
            # While it looked for a frame, reclaim may have begun to write the page.
            expected = errno.EAGAIN if (busy or flags[pfn]) & (PG_LOCKED | PG_WRITEBACK) else errno.EBUSY
            if error.errno == errno.EBUSY and self._leads_nowhere(pfn):
                return
            assert error.errno == expected and (expected == errno.EAGAIN or pfn in self.pinned), error
            return
        assert not busy and pfn not in self.pinned
        assert new != pfn and (not tables.ptes[i] & PRESENT or tables.ptes[i] >> 12 & tables.PFN_MASK == new)

    def _leads_nowhere(self, pfn: int) -> bool:
        """May the scheme refuse to lead to all PTEs of the frame?"""
        return not self.mem.rmap.exact or bool(self.mem.setup.incomplete and self.mem.frames.flags[pfn] & PG_ANON)

    def reclaim(self, pages: int) -> None:
        self.note(f"reclaim {pages}")
        locked = self._locked()
        self.mem.reclaim.shrink_all(1 + pages % 160)
        assert self._locked() == locked, "reclaim took pages of a locked area"

    def drain(self) -> None:
        """Reclaim goes on until it finds nothing: no PTE is left but those that may not go."""
        self.note("reclaim all there is")
        for _ in range(20):
            before = self.mem.vmstat.nr_mapped
            for _ in range(2):  # what is young survives one pass
                self.mem.reclaim.shrink_all(1 << 12)
                self.mem.clock.charge(10**9)
            if self.mem.vmstat.nr_mapped == before:
                break
        if self.mem.setup.incomplete:
            return
        places: dict[int, list[tuple[VmArea, int]]] = {}
        locked = {
            vma.mapping.addr
            for process in self.processes
            for vma in process.mm.vmas
            if vma.vm_flags & VM_LOCKED and vma.mapping is not None
        }
        tables = self.mem.pgtables
        for process in self.processes:
            for vma in process.mm.vmas:
                for address in range(vma.vm_start, vma.vm_end, 4096):
                    i = tables.pte_index(process.mm.pgd, address)
                    pfn = tables.ptes[i] >> 12 & tables.PFN_MASK if i >= 0 and tables.ptes[i] & PRESENT else -1
                    if (
                        pfn >= 0
                        and not self.mem.is_reserved(pfn)
                        and pfn not in self.pinned
                        and self.mem.frames.mapping[pfn] not in locked
                    ):
                        places.setdefault(pfn, []).append((vma, address))
        for pfn, areas in places.items():
            held = any(
                vma.vm_flags & VM_LOCKED or (vma.vm_flags & VM_NONLINEAR and not self.mem.setup.unmaps_nonlinear)
                for vma, _ in areas
            )
            assert held, (
                f"reclaim finds no more, and a page that could go is left at {areas[0][1]:#x}: "
                f"{self.mem.frames.describe(pfn)}"
            )

    def _locked(self) -> list[int]:
        """Present PTEs of locked areas."""
        found = []
        ptes = self.mem.pgtables.ptes
        for process in self.processes:
            for vma in process.mm.vmas:
                if vma.vm_flags & VM_LOCKED:
                    for address in range(vma.vm_start, vma.vm_end, 4096):
                        i = self.mem.pgtables.pte_index(process.mm.pgd, address)
                        if i >= 0 and ptes[i] & PRESENT:
                            found.append(i)
        return found

    def writeback(self, limit: int) -> None:
        """Dirty pages of the host's file are sent to it. With dirty tracking, nothing that was stored or written is
        missing there afterwards."""
        obj = self.objects[2]
        limit = limit % 8 or 1 << 30
        self.note(f"write back {limit} pages")
        file = obj.opened()
        assert isinstance(file.mapping, FileSpace) and file.host is not None
        self.call(file.mapping.writeback, limit)
        if not self.mem.config.dirty_tracking or file.mapping.dirty:
            return
        for index in range(obj.size + 4095 >> 12):
            data = file.host.written.get(index, bytes(4096))
            found = struct.unpack_from("<I", data, LOW)[0], struct.unpack_from("<I", data, HIGH)[0]
            assert found == obj.pages.get(index, ZERO), (
                f"page {index} was written back as {found}, not {obj.pages.get(index, ZERO)}"
            )

    def tick(self, ns: int) -> None:
        self.note(f"time passes: {ns} us")
        self.mem.clock.charge(ns * 1000)

    # --- comparing

    def step(self, name: str, *args: Any, **options: Any) -> None:
        """One operation, then everything is compared."""
        self.history.append((name, args, options))
        self.failed = False
        before = len(self.trace)
        try:
            getattr(self, name)(*args, **options)
        except GivenUp:
            pass
        if len(self.trace) > before:
            if self.mem.reclaim.kswapd_wanted:
                self.mem.reclaim.kswapd()
            self.check(self.trace[-1])

    def end(self) -> None:
        """Everything is read through the front door once more, then all of it goes and nothing is left."""
        self.last_look()
        self.leave()

    def last_look(self) -> None:
        """All that can go goes, then every page of every process is read through the front door."""
        self.drain()
        self.check(self.trace[-1])
        for who in range(len(self.processes)):
            for which in range(len(self.processes[who].mm.vmas)):
                self.load(who, which, 0, 39)
        self.check("the last look")

    def leave(self) -> None:
        """All processes exit, all files are cut to nothing: what is left then was leaked."""
        while self.pinned:
            self.unpin(0)
        for process in self.processes:
            self.machine.exit(process.mm)
        self.processes = []
        for obj in self.objects:
            obj.opened().truncate(0)
        mem = self.mem
        mem.clock.charge(60 * 10**9)
        mem.reclaim.shrink_all(1 << 20)  # pages whose I/O was under way when their last user went
        self.check("the end")
        assert mem.vmstat.nr_mapped == mem.vmstat.nr_page_table_pages == 0
        assert mem.vma_cache.objects == mem.mm_cache.objects == 0
        assert all(area.nr_free == area.total for area in mem.swap.areas), "swap slots are left"
        assert mem.overcommit.committed == 0, f"{mem.overcommit.committed} pages of commit are left"
        for cache in mem.scheme.env.scheme_caches:
            assert cache.objects <= self.at_hand, f"{cache.objects} objects are left in {cache.name}"
        free = (mem.frames.np_owner == FREE) | (mem.frames.np_owner == PCP)
        marked = np.nonzero(free & (mem.frames.np_rmap != 0))[0]
        assert not len(marked), (
            f"the scheme's word of a free frame is not cleared: {mem.frames.describe(int(marked[0]))}"
        )
        for cache in mem.slab.caches.values():
            if cache.name.startswith(("shmem", "radix", "pgd")):
                assert cache.objects == 0, f"{cache.objects} objects are left in {cache.name}"
