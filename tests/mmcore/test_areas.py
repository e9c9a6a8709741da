"""Areas: merging and splitting, where mappings go, promises of memory, limits, the stack; random walks against a model;
every allocation failing once."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import Any

import pytest

from mmcore.areas.adjust import vma_merge
from mmcore.areas.mm import Mm
from mmcore.areas.placement import get_unmapped_area
from mmcore.areas.stack import expand_stack
from mmcore.areas.vma import VM_ACCESS_FLAGS, VM_ACCOUNT, VM_GROWSDOWN, VM_LOCKED, VM_STACK_FLAGS
from mmcore.calls.brk import set_brk
from mmcore.calls.exec_stack import bprm_stack, setup_arg_pages
from mmcore.calls.fremap import remap_file_pages
from mmcore.calls.madvise import do_madvise
from mmcore.calls.mlock import do_mlock, do_munlock
from mmcore.calls.mmap import MAP_GROWSDOWN, MAP_NORESERVE, do_mmap, do_munmap
from mmcore.calls.mprotect import do_mprotect
from mmcore.calls.mremap import do_mremap
from mmcore.errors import OutOfMemory, SysError
from rmap_plugins.anon_vma import AnonVma
from sandbox.kit.files import tmpfs_file
from sandbox.kit.injection import Failing
from sandbox.kit.machine import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, RW, CpulessMachine, Fault
from tests.mmcore.box import KINDS as SCHEMES

P = 4096
BASE = 0x20000000
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


def at(page: int) -> int:
    return BASE + page * P


@pytest.fixture(params=SCHEMES, ids=lambda s: s.card.name)
def machine(request) -> CpulessMachine:
    return CpulessMachine(request.param, memory=24 << 20)


def shape(mm: Mm) -> list[tuple[int, int, str]]:
    """(first page, end page, permissions) relative to BASE."""
    return [(v.vm_start - BASE >> 12, v.vm_end - BASE >> 12, v.permissions()[:3]) for v in mm.vmas]


# --- merging


@pytest.mark.parametrize(
    ("case", "prepare", "act", "expected"),
    [
        ("1 fills the hole", [(0, 4, 3), (8, 12, 3)], ("mmap", 4, 8, 3), [(0, 12, "rw-")]),
        ("2 extends the previous", [(0, 4, 3), (8, 12, 1)], ("mmap", 4, 8, 3), [(0, 8, "rw-"), (8, 12, "r--")]),
        ("3 extends the next down", [(0, 4, 1), (8, 12, 3)], ("mmap", 4, 8, 3), [(0, 4, "r--"), (4, 12, "rw-")]),
        ("4 the end goes to the next", [(0, 8, 3), (8, 12, 1)], ("mprotect", 6, 8, 1), [(0, 6, "rw-"), (6, 12, "r--")]),
        (
            "5 the head goes to the previous",
            [(0, 4, 3), (4, 12, 1)],
            ("mprotect", 4, 6, 3),
            [(0, 6, "rw-"), (6, 12, "r--")],
        ),
        ("6 both neighbours", [(0, 4, 3), (4, 8, 1), (8, 12, 3)], ("mprotect", 4, 8, 3), [(0, 12, "rw-")]),
        ("7 the previous", [(0, 4, 3), (4, 8, 1), (8, 12, 0)], ("mprotect", 4, 8, 3), [(0, 8, "rw-"), (8, 12, "---")]),
        ("8 the next", [(0, 4, 0), (4, 8, 1), (8, 12, 3)], ("mprotect", 4, 8, 3), [(0, 4, "---"), (4, 12, "rw-")]),
        ("none: the middle", [(0, 12, 3)], ("mprotect", 4, 8, 1), [(0, 4, "rw-"), (4, 8, "r--"), (8, 12, "rw-")]),
        (
            "none: a gap on either side",
            [(0, 4, 3), (9, 12, 3)],
            ("mmap", 5, 8, 3),
            [(0, 4, "rw-"), (5, 8, "rw-"), (9, 12, "rw-")],
        ),
    ],
)
@pytest.mark.parametrize("touch", [False, True])
def test_merge_cases(machine, case, prepare, act, expected, touch):
    mm = machine.new_mm()
    for lo, hi, prot in prepare:
        machine.mmap(mm, hi - lo, RW, FIXED, at(lo))
        if touch:
            for page in range(lo, hi):
                machine.store(mm, at(page), page)
        do_mprotect(machine.mem, mm, at(lo), (hi - lo) * P, prot)
    what, lo, hi, prot = act
    if what == "mmap":
        machine.mmap(mm, hi - lo, prot, FIXED, at(lo))
    else:
        do_mprotect(machine.mem, mm, at(lo), (hi - lo) * P, prot)
    machine.audit(case)
    if touch:
        do_mprotect(machine.mem, mm, at(0), 4 * P, 3)
        assert [machine.load(mm, at(p)) for p in range(4)] == [0, 1, 2, 3]
    else:
        assert shape(mm) == expected
        assert mm.check() == []


def test_a_refused_merge_is_counted():
    """Two areas whose anonymous pages belong to different anon_vmas stay two, though all else is equal."""
    machine = CpulessMachine(AnonVma)
    mm = machine.new_mm()
    machine.mmap(mm, 4, RW, FIXED, at(0))
    machine.mmap(mm, 4, RW, FIXED, at(8))
    machine.store(mm, at(3), 1)
    machine.store(mm, at(8), 2)
    do_mremap(machine.mem, mm, at(8), 4 * P, 4 * P, 3, at(4))
    assert shape(mm) == [(0, 4, "rw-"), (4, 8, "rw-")]  # vm_pgoff of the moved one tells where it was born
    assert machine.mem.meters.merges_refused == 0
    machine.mmap(mm, 4, RW, FIXED, at(16))
    machine.mmap(mm, 4, RW, FIXED, at(24))
    machine.store(mm, at(16), 3)
    machine.store(mm, at(24), 4)
    machine.mmap(mm, 4, RW, FIXED, at(20))  # fits both, but not both at once
    assert shape(mm)[2:] == [(16, 24, "rw-"), (24, 28, "rw-")]
    assert machine.mem.meters.merges_refused == 1
    machine.audit()


def test_file_areas_merge_by_offset():
    machine = CpulessMachine(AnonVma)
    mm = machine.new_mm()
    file = tmpfs_file(machine.mem, 16)
    for lo, pgoff in ((0, 0), (4, 4), (8, 9)):
        machine.mmap(mm, 4, RW, MAP_SHARED | MAP_FIXED, at(lo), file, pgoff)
    assert shape(mm) == [(0, 8, "rw-"), (8, 12, "rw-")]
    assert file.count == 3 and len(file.mapping.i_mmap) == 2 and file.mapping.i_mmap_writable == 2
    machine.munmap(mm, at(2), 4)
    assert shape(mm) == [(0, 2, "rw-"), (6, 8, "rw-"), (8, 12, "rw-")]
    assert [v.vm_pgoff for v in mm.vmas] == [0, 6, 9]
    machine.exit(mm)
    assert file.count == 1 and len(file.mapping.i_mmap) == 0 and file.mapping.i_mmap_writable == 0


def test_mprotect_carries_the_anonymous_pages_owner_over_a_moving_boundary():
    """The area that grows had no anon_vma: reclaim must still find the pages that came to it (2.6.7 forgot, mended
    2004-06-20)."""
    machine = CpulessMachine(AnonVma)
    mm = machine.new_mm()
    machine.mmap(mm, 8, RW, FIXED, at(0))
    do_mprotect(machine.mem, mm, at(0), 4 * P, 1)
    for page in range(4, 8):
        machine.store(mm, at(page), page)
    do_mprotect(machine.mem, mm, at(4), 2 * P, 1)
    machine.audit("boundary moved")
    assert shape(mm) == [(0, 6, "r--"), (6, 8, "rw-")]
    assert machine.load(mm, at(5)) == 5


# --- where mappings go


def brute_force_topdown(mm: Mm, length: int) -> int:
    """The highest free range below mmap_base, gap rule included; else the lowest from 0x40000000."""
    edges = [(0, 4096)]
    for v in mm.vmas:
        edges.append((v.vm_start - (256 * P if v.vm_flags & VM_GROWSDOWN else 0), v.vm_end))
    best = -1
    for k, (_, floor) in enumerate(edges):
        ceiling = edges[k + 1][0] if k + 1 < len(edges) else mm.mmap_base
        ceiling = min(ceiling, mm.mmap_base)
        if ceiling - floor >= length:
            best = max(best, ceiling - length)
    return best


@pytest.mark.parametrize("seed", range(8))
def test_the_highest_gap_is_found(seed):
    machine = CpulessMachine(AnonVma)
    mm = machine.new_mm()
    rng = random.Random(seed)
    mapped: list[tuple[int, int]] = []
    for _ in range(250):
        if mapped and rng.random() < 0.45:
            addr, pages = mapped.pop(rng.randrange(len(mapped)))
            lo = rng.randrange(pages)
            machine.munmap(mm, addr + lo * P, rng.randint(1, pages - lo))
        elif mapped and rng.random() < 0.15:
            addr, pages = rng.choice(mapped)
            try:
                do_mremap(machine.mem, mm, addr, P, rng.randint(1, 20) * P, 1, 0)
            except SysError:
                pass
        else:
            pages = rng.choice([1, 1, 2, 3, 8, 40, 400])
            expected = brute_force_topdown(mm, pages * P)
            flags = MAP_PRIVATE | MAP_ANONYMOUS | (MAP_GROWSDOWN if rng.random() < 0.1 else 0)
            addr = do_mmap(machine.mem, mm, 0, pages * P, rng.choice([1, 3]), flags, None, 0)
            assert addr == expected
            mapped.append((addr, pages))
    assert mm.check() == []


def test_bottom_up_when_the_top_is_full_and_as_a_layout():
    machine = CpulessMachine(AnonVma)
    mm = machine.new_mm()
    mem = machine.mem
    machine.mmap(mm, (0xB8000000 - 0x1000) // P, 0, FIXED, 0x1000)
    assert get_unmapped_area(mem, mm, 0, P, False) == 0xB8000000
    machine.exit(mm)
    mem.config.layout = "legacy"
    mm = machine.new_mm()
    assert [machine.mmap(mm, 2) for _ in range(3)] == [0x40000000, 0x40002000, 0x40004000]
    machine.munmap(mm, 0x40002000, 2)
    assert machine.mmap(mm, 1) == 0x40002000


# --- promises and limits


def promised(machine: CpulessMachine) -> int:
    areas = [v for mm in machine.mem.mms.values() for v in mm.vmas]
    shared = {v.vm_file for v in areas if v.vm_file is not None}
    return sum(v.pages for v in areas if v.vm_flags & VM_ACCOUNT) + sum(file.promised for file in shared)


@pytest.mark.parametrize("seed", range(4))
def test_committed_memory_is_the_sum_of_accounted_areas(seed):
    machine = CpulessMachine(AnonVma)
    rng = random.Random(seed)
    mm = machine.new_mm()
    mms = [mm]
    for _ in range(150):
        mm = rng.choice(mms)
        page, n = rng.randrange(64), rng.randint(1, 24)
        what = rng.randrange(6)
        try:
            if what < 2:
                sharing = rng.choice([FIXED, FIXED, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED])
                machine.mmap(mm, n, rng.choice([0, 1, 3]), sharing | rng.choice([0, MAP_NORESERVE]), at(page))
            elif what == 2:
                machine.munmap(mm, at(page), n)
            elif what == 3:
                do_mprotect(machine.mem, mm, at(page), n * P, rng.choice([0, 1, 3]))
            elif what == 4:
                do_mremap(machine.mem, mm, at(page), n * P, rng.randint(1, 24) * P, 3, at(page + 100))
            elif len(mms) < 5:
                mms.append(machine.fork(mm))
        except SysError:
            pass
        assert machine.mem.overcommit.committed == promised(machine)
    for mm in mms:
        machine.exit(mm)
    assert machine.mem.overcommit.committed == 0


def test_overcommit_modes():
    machine = CpulessMachine(AnonVma, memory=16 << 20, swap=16 << 20)
    mm, overcommit = machine.new_mm(), machine.mem.overcommit
    huge = 64 << 20 >> 12
    assert machine.mmap(mm, huge)  # mode 1
    machine.munmap(mm, 0, 0xB8000000 >> 12)
    overcommit.mode = 0
    with pytest.raises(OutOfMemory):
        machine.mmap(mm, huge)
    assert machine.mmap(mm, huge, 1)  # no promise is made for what cannot be written
    assert machine.mmap(mm, huge, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
    assert [machine.mmap(mm, huge // 4) for _ in range(6)]  # each by itself would fit
    machine.munmap(mm, 0, 0xB8000000 >> 12)
    overcommit.mode = 2
    limit = overcommit.commit_limit()
    addr = machine.mmap(mm, limit - 200)
    with pytest.raises(OutOfMemory):
        machine.mmap(mm, 300, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
    with pytest.raises(OutOfMemory):
        machine.fork(mm)
    assert overcommit.committed == limit - 200
    machine.munmap(mm, addr, limit - 200)
    assert overcommit.committed == 0


class Limited:
    """A task without privileges and with limits."""

    def __init__(self, mm: Mm, **limits: int) -> None:
        self.mm = mm
        self.euid = 1000
        self.pid = 1
        self.comm = "limited"
        self.memdie = self.fault_major = False
        self.min_flt = self.maj_flt = 0
        names = {"data": 2, "stack": 3, "memlock": 8, "as_": 9}
        self.rlimits = [((1 << 64) - 1, (1 << 64) - 1)] * 16
        for name, value in limits.items():
            self.rlimits[names[name]] = (value, value)


def fails(code: int, function: Callable[..., Any], *args: Any) -> None:
    with pytest.raises(SysError) as caught:
        function(*args)
    assert caught.value.errno == code


def test_limits():
    machine = CpulessMachine(AnonVma)
    mem, mm = machine.mem, machine.new_mm()
    machine.mmap(mm, 8, RW, FIXED, at(0))
    mem.current = Limited(mm, as_=16 * P)
    fails(errno.ENOMEM, do_mmap, mem, mm, 0, 9 * P, 1, 0x22, None, 0)
    assert do_mmap(mem, mm, 0, 8 * P, 1, 0x22, None, 0)
    assert do_mmap(mem, mm, at(0), 8 * P, 3, FIXED, None, 0) == at(0)  # what it replaces does not count
    fails(errno.ENOMEM, do_mremap, mem, mm, at(0), 8 * P, 9 * P, 1, 0)
    mem.current = Limited(mm, data=10 * P)
    fails(errno.ENOMEM, do_mmap, mem, mm, 0, 3 * P, 3, 0x22, None, 0)
    readable = do_mmap(mem, mm, 0, 3 * P, 1, 0x22, None, 0)
    fails(errno.ENOMEM, do_mprotect, mem, mm, readable, 3 * P, 3)
    mm.start_brk = mm.brk = 0x09000000
    assert set_brk(mem, mm, 0x09000000 + 11 * P) == 0x09000000
    mem.current = Limited(mm, memlock=4 * P)
    fails(errno.ENOMEM, do_mlock, mem, mm, at(0), 5 * P)
    do_mlock(mem, mm, at(0), 4 * P)
    do_mlock(mem, mm, at(1), 3 * P)  # locked pages are not counted twice
    fails(errno.ENOMEM, do_mlock, mem, mm, at(4), P)
    fails(errno.EAGAIN, do_mmap, mem, mm, 0, P, 3, 0x2022, None, 0)
    fails(errno.EPERM, do_mmap, mem, mm, 0x1000, P, 3, FIXED, None, 0)  # below mmap_min_addr
    mem.current = Limited(mm, memlock=0)
    fails(errno.EPERM, do_mlock, mem, mm, at(0), P)
    do_munlock(mem, mm, at(0), 8 * P)
    assert mm.locked_vm == 0 and shape(mm)[0] == (0, 8, "rw-")
    machine.audit()


def test_too_many_areas(monkeypatch):
    machine = CpulessMachine(AnonVma)
    mem, mm = machine.mem, machine.new_mm()
    monkeypatch.setattr(Mm, "max_map_count", 8)
    machine.mmap(mm, 64, RW, FIXED, at(0))
    for page in (10, 20, 30):
        do_mprotect(mem, mm, at(page), P, 1)
    assert mm.map_count == 7
    fails(errno.ENOMEM, do_mprotect, mem, mm, at(40), P, 1)
    assert mm.map_count == 7  # the first of the two cuts was mended
    machine.munmap(mm, at(42), 1)
    fails(errno.ENOMEM, do_munmap, mem, mm, at(50), P)
    fails(errno.ENOMEM, do_mremap, mem, mm, at(50), P, P, 3, at(100))
    assert mm.map_count == 8
    machine.munmap(mm, at(63), 1)  # the end of an area makes no new one
    machine.audit()


# --- the stack


def test_exec_builds_the_stack_elsewhere_and_moves_it(machine):
    mm, mem = machine.new_mm(), machine.mem
    vma = bprm_stack(mem, mm, 0xC0000000)
    expand_stack(mem, vma, 0xC0000000 - 5 * P)
    for page in range(1, 6):
        machine.store(mm, 0xC0000000 - page * P, page)
    setup_arg_pages(mem, vma, 0xC0000000 - 3 * P, executable=False)
    machine.audit("moved")
    vma = mm.vmas[0]
    assert (vma.vm_end, vma.vm_end - vma.vm_start, mm.map_count) == (0xC0000000 - 3 * P, (5 + 32) * P, 1)
    assert vma.vm_flags == VM_STACK_FLAGS
    assert [machine.load(mm, 0xC0000000 - (page + 3) * P) for page in range(1, 6)] == [1, 2, 3, 4, 5]
    with pytest.raises(Fault):
        machine.load(mm, 0xC0000000 - P)
    child = machine.fork(mm)
    machine.store(child, 0xC0000000 - 4 * P, 99)
    assert machine.load(mm, 0xC0000000 - 4 * P) == 1
    machine.audit("forked")


def test_the_stack_far_from_home_moves_whole_tables(machine):
    mm, mem = machine.new_mm(), machine.mem
    vma = bprm_stack(mem, mm, 0xC0000000)
    expand_stack(mem, vma, 0xC0000000 - 0x500000)
    for page in range(1, 0x500, 7):
        machine.store(mm, 0xC0000000 - page * P, page)
    setup_arg_pages(mem, vma, 0xC0000000 - 0x400000, executable=True)  # overlaps its old place
    machine.audit("moved")
    assert [machine.load(mm, 0xBFC00000 - page * P) for page in range(1, 0x500, 7)] == list(range(1, 0x500, 7))
    assert mm.vmas[0].permissions() == "rwxp"


def test_the_stack_grows_to_its_guard_gap():
    machine = CpulessMachine(AnonVma)
    mm, mem = machine.new_mm(), machine.mem
    stack = bprm_stack(mem, mm, 0xC0000000)
    below = machine.mmap(mm, 1, RW, FIXED, 0xBF000000)
    machine.store(mm, below + 257 * P, 1)
    with pytest.raises(Fault):
        machine.store(mm, below + 256 * P, 1)
    do_mprotect(mem, mm, below, P, 0)  # what nobody can access needs no gap
    machine.store(mm, below + P, 1)
    assert stack.vm_start == below + P
    mem.current = Limited(mm, stack=stack.vm_end - stack.vm_start)
    machine.munmap(mm, below, 1)
    fails(errno.ENOMEM, expand_stack, mem, stack, below)


# --- moving


@pytest.mark.parametrize("paging", ["pae", "2level"])
@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.card.name)
def test_moving_keeps_pages_swap_and_tables(scheme, shift, paging):
    machine = CpulessMachine(scheme, memory=24 << 20, paging=paging)
    mm, mem = machine.new_mm(), machine.mem
    pages = 1600
    machine.mmap(mm, pages, RW, FIXED, at(0))
    for page in range(0, pages, 3):
        machine.store(mm, at(page), page + 1)
    machine.load(mm, at(1))  # a zero page
    mem.reclaim.shrink_all(200)
    target = 0x30000000 + shift * P
    assert do_mremap(mem, mm, at(0), pages * P, pages * P, 3, target) == target
    machine.audit("moved")
    assert mem.pgtables.tables(mm.pgd, BASE, BASE + pages * P) == []
    assert [machine.load(mm, target + page * P) for page in range(0, pages, 3)] == list(range(1, pages + 1, 3))
    assert machine.load(mm, target + P) == 0
    child = machine.fork(mm)
    back = do_mremap(mem, child, target, pages * P, pages * P, 3, at(0))
    machine.audit("a shared range moved")
    mem.reclaim.shrink_all(300)
    machine.audit("reclaimed")
    assert [machine.load(child, back + page * P) for page in range(0, pages, 3)] == list(range(1, pages + 1, 3))
    assert [machine.load(mm, target + page * P) for page in range(0, pages, 3)] == list(range(1, pages + 1, 3))
    machine.exit(child)
    machine.exit(mm)
    machine.audit("gone")


def test_moving_over_a_mapping_leaves_only_tables_in_use():
    machine = CpulessMachine(AnonVma, memory=24 << 20)
    mm, mem = machine.new_mm(), machine.mem
    machine.mmap(mm, 2048, RW, FIXED, at(0))
    machine.store(mm, at(1500), 1)  # the third table of four
    machine.mmap(mm, 2048, RW, FIXED, 0x30000000 + 7 * P)
    for page in range(0, 2048, 64):
        machine.store(mm, 0x30000000 + (page + 7) * P, 5)
    do_mremap(mem, mm, at(0), 2048 * P, 2048 * P, 3, 0x30000000 + 7 * P)
    assert mm.nr_ptes == 1
    assert machine.load(mm, 0x30000000 + 1507 * P) == 1 and machine.load(mm, 0x30000000 + 7 * P) == 0
    machine.audit()


# --- random walks


class Pages:
    """What an address space must show, page by page: (permissions, private or shared, word)."""

    def __init__(self) -> None:
        self.slot: dict[int, tuple[int, bool]] = {}
        self.word: dict[int, int] = {}

    def unmap(self, lo: int, hi: int) -> None:
        for page in range(lo, hi):
            self.slot.pop(page, None)
            self.word.pop(page, None)


@pytest.mark.parametrize("seed", range(6))
def test_random_operations_match_a_model(machine, seed):
    mem, rng = machine.mem, random.Random(seed)
    mm, model = machine.new_mm(), Pages()
    span = 640
    for step in range(120):
        lo = rng.randrange(span)
        hi = min(span, lo + rng.choice([1, 2, 5, 30, 200]))
        what = rng.choice(
            [
                "map",
                "map",
                "unmap",
                "protect",
                "protect",
                "move",
                "grow",
                "touch",
                "touch",
                "dontneed",
                "lock",
                "reclaim",
            ]
        )
        failed = None
        try:
            if what == "map":
                prot = rng.choice([0, 1, 3, 3, 7])
                machine.mmap(mm, hi - lo, prot, FIXED, at(lo))
                model.unmap(lo, hi)
                model.slot.update((p, (prot, False)) for p in range(lo, hi))
            elif what == "unmap":
                machine.munmap(mm, at(lo), hi - lo)
                model.unmap(lo, hi)
            elif what == "protect":
                prot = rng.choice([0, 1, 3, 3, 5])
                stop = next((p for p in range(lo, hi) if p not in model.slot), hi)
                model.slot.update((p, (prot, False)) for p in range(lo, stop))
                do_mprotect(mem, mm, at(lo), (hi - lo) * P, prot)
            elif what == "move":
                to = rng.randrange(span) + rng.choice([0, 700])
                do_mremap(mem, mm, at(lo), (hi - lo) * P, (hi - lo) * P, 3, at(to))
                for p in range(lo, hi):
                    if p in model.slot:
                        slot, word = model.slot.pop(p), model.word.pop(p, None)
                        model.unmap(p - lo + to, p - lo + to + 1)
                        model.slot[p - lo + to] = slot
                        if word is not None:
                            model.word[p - lo + to] = word
            elif what == "grow":
                to = do_mremap(mem, mm, at(lo), P, 3 * P, 1, 0)
                if to == at(lo):
                    model.slot.update((lo + k, model.slot[lo]) for k in (1, 2))
                else:
                    if model.slot[lo][0]:
                        assert machine.load(mm, to) == model.word.get(lo, 0)
                    machine.munmap(mm, to, 3)
                    model.unmap(lo, lo + 1)
            elif what == "touch":
                for p in range(lo, hi, 3):
                    if p in model.slot and model.slot[p][0] & 2:
                        model.word[p] = step + 1
                        machine.store(mm, at(p), step + 1)
            elif what == "dontneed":
                if all(p in model.slot for p in range(lo, hi)):
                    do_madvise(mem, mm, at(lo), (hi - lo) * P, 4)
                    for p in range(lo, hi):
                        model.word.pop(p, None)
            elif what == "lock":
                do_mlock(mem, mm, at(lo), (hi - lo) * P, 1)
                do_munlock(mem, mm, at(lo), (hi - lo) * P)
            else:
                mem.reclaim.shrink_all(40)
        except SysError as error:
            failed = error.errno
            assert what in ("protect", "move", "grow", "lock") and failed in (errno.ENOMEM, errno.EFAULT, errno.EINVAL)
            if what == "lock":
                unlock_everything(machine, mm)
            if what == "move" and failed == errno.EFAULT:
                assert lo not in model.slot
        assert mm.check() == [], what
        covered = {p for v in mm.vmas for p in range(v.vm_start - BASE >> 12, v.vm_end - BASE >> 12)}
        assert covered == set(model.slot), (step, what)
        if step % 10 == 0:
            machine.audit(f"step {step} {what}")
    for v in mm.vmas:
        for p in range(v.vm_start - BASE >> 12, v.vm_end - BASE >> 12):
            assert v.vm_flags & VM_ACCESS_FLAGS == model.slot[p][0]
            if v.vm_flags & VM_ACCESS_FLAGS:
                assert machine.load(mm, at(p)) == model.word.get(p, 0)
    machine.exit(mm)
    machine.audit("gone")


def unlock_everything(machine: CpulessMachine, mm: Mm) -> None:
    for start, end in [(v.vm_start, v.vm_end) for v in mm.vmas if v.vm_flags & VM_LOCKED]:
        do_munlock(machine.mem, mm, start, end - start)


# --- every allocation fails once


def picture(machine: CpulessMachine) -> Any:
    """Everything a failed call must leave alone."""
    mem = machine.mem
    mms = [
        (
            mm.total_vm,
            mm.locked_vm,
            mm.data_vm,
            mm.rss,
            mm.brk,
            [(v.vm_start, v.vm_end, v.vm_flags, v.vm_pgoff, v.vm_page_prot) for v in mm.vmas],
        )
        for mm in mem.mms.values()
    ]
    objects = {
        c.name: c.objects
        for c in mem.slab.caches.values()
        if c.objects and not c.name.startswith(("radix", "pte_chain"))
    }
    return mms, objects, mem.overcommit.committed


OPERATIONS: dict[str, Callable[[Any, Mm, Any], Any]] = {
    "mmap": lambda mem, mm, file: do_mmap(mem, mm, at(30), 4 * P, 1, FIXED, None, 0),
    "mmap over": lambda mem, mm, file: do_mmap(mem, mm, at(2), 4 * P, 1, FIXED, None, 0),
    "mmap shared": lambda mem, mm, file: do_mmap(mem, mm, at(2), 4 * P, 3, 0x31, None, 0),
    "mmap file": lambda mem, mm, file: do_mmap(mem, mm, at(2), 4 * P, 3, MAP_SHARED | MAP_FIXED, file, 0),
    "munmap": lambda mem, mm, file: do_munmap(mem, mm, at(3), P),
    "mprotect": lambda mem, mm, file: do_mprotect(mem, mm, at(3), P, 1),
    "mremap": lambda mem, mm, file: do_mremap(mem, mm, at(2), 3 * P, 3 * P, 3, 0x30000000),
    "mremap over": lambda mem, mm, file: do_mremap(mem, mm, at(2), 3 * P, 3 * P, 3, at(12)),
    "mremap larger": lambda mem, mm, file: do_mremap(mem, mm, at(2), 3 * P, 9 * P, 1, 0),
    "mremap file": lambda mem, mm, file: do_mremap(mem, mm, at(21), P, 3 * P, 1, 0),
    "brk": lambda mem, mm, file: set_brk(mem, mm, 0x09000000 + 5 * P),
    "mlock": lambda mem, mm, file: do_mlock(mem, mm, at(3), P, 1),
    "madvise": lambda mem, mm, file: do_madvise(mem, mm, at(3), P, 1),
    "remap_file_pages": lambda mem, mm, file: remap_file_pages(mem, mm, at(24), 2 * P, 0, 5, 0x10000),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_failed_allocation_leaves_everything_as_it_was(machine, operation):
    mem, mm = machine.mem, machine.new_mm()
    file = tmpfs_file(mem, 16)
    mm.start_brk = mm.brk = 0x09000000
    machine.mmap(mm, 8, RW, FIXED, at(0))
    machine.mmap(mm, 8, RW, FIXED, at(10))
    machine.mmap(mm, 8, RW, MAP_SHARED | MAP_FIXED, at(20), file, 0)
    for page in (*range(8), *range(10, 18), *range(20, 24)):
        machine.store(mm, at(page), page + 1)
    child = machine.fork(mm)
    before = picture(machine)
    succeeded = False
    for n in range(1, 40):
        try:
            with Failing(mem.pages, n):
                result = OPERATIONS[operation](mem, mm, file)
        except SysError as error:
            assert error.errno == errno.ENOMEM
            assert picture(machine) == before, f"allocation {n} of {operation}"
            machine.audit(f"allocation {n} of {operation}")
            continue
        machine.audit(f"{operation}, allocation {n}")
        if operation == "brk" and result == mm.start_brk:
            assert picture(machine) == before
            continue
        succeeded = True
        break
    assert succeeded
    assert [machine.load(child, at(page)) for page in range(8)] == list(range(1, 9))
    machine.exit(child)
    machine.exit(mm)
    machine.audit("gone")
    assert file.count == 1


def test_a_merge_that_the_scheme_cannot_afford_is_no_merge(monkeypatch):
    """A scheme may need memory to move a boundary; without it the range simply gets an area of its own."""
    machine = CpulessMachine(AnonVma)
    mm = machine.new_mm()
    machine.mmap(mm, 4, RW, FIXED, at(0))

    def begin(*args: Any) -> None:
        raise OutOfMemory

    monkeypatch.setattr(machine.mem.scheme, "vma_adjust_begin", begin)
    assert vma_merge(machine.mem, mm, 1, at(4), at(8), mm.vmas[0].vm_flags, None, None, at(4) >> 12) is None
    machine.mmap(mm, 4, RW, FIXED, at(4))
    assert shape(mm) == [(0, 4, "rw-"), (4, 8, "rw-")]
