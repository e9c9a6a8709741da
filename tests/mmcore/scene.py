"""A machine that has a bit of everything, to be damaged; and what a damage is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mmcore.calls.fremap import remap_file_pages
from mmcore.calls.mlock import do_mlock
from mmcore.calls.mremap import do_mremap
from mmcore.errors import InvariantViolation
from mmcore.physical.pgtable import PRESENT
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_READ, RW, CpulessMachine
from tests.mmcore.box import KINDS

PRIVATE, FILE, LINEAR, QUIET, LOCKED, SWAPPED = 0x40000000, 0x41000000, 0x42000000, 0x43000000, 0x44000000, 0x45000000


class Scene:
    """`parent` and `child` share PRIVATE (12 pages); FILE is nonlinear, LINEAR maps the same file; QUIET is
    read-only; SWAPPED is out."""

    def __init__(self, scheme: type) -> None:
        m = self.m = CpulessMachine(scheme, memory=8 << 20)
        mem = self.mem = m.mem
        mm = self.parent = m.new_mm()
        fixed = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS
        self.file = tmpfs_file(mem, 16)
        m.mmap(mm, 4, RW, fixed, SWAPPED)
        for k in range(4):
            m.store(mm, SWAPPED + (k << 12), k)
        mem.reclaim.shrink_all(64)
        m.mmap(mm, 12, RW, fixed, PRIVATE)
        m.mmap(mm, 2, PROT_READ, fixed, QUIET)
        m.mmap(mm, 2, RW, fixed, LOCKED)
        m.mmap(mm, 8, RW, MAP_FIXED | MAP_SHARED, FILE, self.file)
        m.mmap(mm, 8, RW, MAP_FIXED | MAP_SHARED, LINEAR, self.file)
        for k in range(12):
            m.store(mm, PRIVATE + (k << 12), k)
        for k in range(8):
            m.store(mm, LINEAR + (k << 12), k)
        remap_file_pages(mem, mm, FILE, 0x3000, 0, 4, 0)
        m.load(mm, QUIET)
        self.child = m.fork(mm)
        do_mlock(mem, mm, LOCKED, 0x2000)
        do_mremap(mem, self.child, PRIVATE + 0x8000, 0x4000, 0x4000, 3, PRIVATE + 0x100000)
        m.store(self.child, PRIVATE, 100)
        self.other = m.fork(self.child)
        mem.reclaim.lru_add_drain()
        m.audit("before the damage")
        assert mem.swap.cache or mem.swap.areas[0].nr_free < mem.swap.areas[0].total

    def pte(self, mm: Any, addr: int) -> int:
        i = self.mem.pgtables.pte_index(mm.pgd, addr)
        assert i >= 0
        return i

    def pfn(self, mm: Any, addr: int) -> int:
        value = self.mem.pgtables.ptes[self.pte(mm, addr)]
        assert value & PRESENT
        return value >> 12 & self.mem.pgtables.PFN_MASK

    def vma(self, mm: Any, addr: int) -> Any:
        return mm.find_vma(addr)

    def swap_entry(self) -> int:
        value = self.mem.pgtables.ptes[self.pte(self.parent, SWAPPED)]
        assert value and not value & PRESENT
        return self.mem.pgtables.pte_to_swp(value)


Damage = Callable[[Scene], Any]
Table = dict[str, tuple[Damage, str]]
SCHEMES = {kind.card.name: kind for kind in KINDS}


def noting(table: Table) -> Callable[[str], Callable[[Damage], Damage]]:
    """A decorator for damages of one table: `said` is a pattern of what the auditor has to say, {0} what the damage
    answers."""

    def damage(said: str) -> Callable[[Damage], Damage]:
        def note(fn: Damage) -> Damage:
            table[fn.__name__] = (fn, said)
            return fn

        return note

    return damage


def expect(scene: Scene, name: str, table: Table) -> None:
    """Does the damage; the auditor notices it and says what it is."""
    fn, said = table[name]
    token = fn(scene)
    said = said.format(token) if "{0" in said else said
    with pytest.raises(InvariantViolation, match=said):
        wrong = scene.m.auditor.audit("after the damage")
        raise InvariantViolation("\n".join(wrong) or "nothing was noticed")
    assert scene.m.auditor.violations, "what was found is kept"
