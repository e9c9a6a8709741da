"""Faults in rmap_plugins/rmap_series.py: which parts make up a stage, and the parts it has for itself. The rest is held
beside the parts' own tables."""

from __future__ import annotations

from typing import Any

from mmcore.calls.fremap import remap_file_pages
from mmcore.calls.mprotect import do_mprotect
from mmcore.calls.mremap import do_mremap
from mmcore.physical.pgtable import A
from mmcore.rmap import HIT, STOP, Purpose
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_SHARED, CpulessMachine
from tests.mmcore.asking import Asking
from tests.mutations.runner import Mutant

MODULE = "rmap_plugins.rmap_series"


def _at(stage: int) -> tuple[tuple[str, object], ...]:
    return (("stage", stage),)


MUTANTS = [
    Mutant("9: file pages are lost too", "file_index=index)", "file_index=index, files=True)", _at(9)),
    Mutant(
        "9: pages are refused",
        "        return OK",
        "        return 1",
        _at(9),
        at="_NoAnonRmap.add_anon",
    ),
    Mutant("11: mremap still loses pages", "    elif stage == 10:", "    elif stage in (10, 11):", _at(11), costs=True),
    Mutant(
        "10: mremap loses pages, and the card says nothing",
        '_AnonMmStays, "before rmap 11 mremap loses anonymous pages"',
        '_AnonMmStays, ""',
        _at(10),
    ),
    Mutant(
        "10: mremap finds them already",
        "    move = RmapScheme.move\n    move_check = RmapScheme.move_check\n",
        "    pass\n",
        _at(10),
        costs=True,
    ),
    Mutant(
        "10: mremap moves pages of others",
        "    move = RmapScheme.move\n    move_check = RmapScheme.move_check\n",
        "    move_check = RmapScheme.move_check\n",
        _at(10),
        costs=True,
    ),
    Mutant(
        "10: mremap copies pages of others",
        "    move = RmapScheme.move\n    move_check = RmapScheme.move_check\n",
        "    move = RmapScheme.move\n",
        _at(10),
        costs=True,
    ),
    Mutant(
        "7: nonlinear areas are unmapped already",
        "PartialObjrmap, stage >= 8",
        "PartialObjrmap, stage >= 7",
        _at(7),
        costs=True,
    ),
    Mutant(
        "8: nonlinear areas are not unmapped yet",
        "PartialObjrmap, stage >= 8",
        "PartialObjrmap, stage > 8",
        _at(8),
        costs=True,
    ),
    Mutant("8: the chains are gone already", "    if stage <= 8:", "    if stage < 8:", _at(8), costs=True),
    Mutant("9: the chains are still there", "    if stage <= 8:", "    if stage <= 9:", _at(9), costs=True),
    Mutant("38: anonmm is still there", "    elif stage in (9, 38):", "    elif stage in (9,):", _at(38), costs=True),
    Mutant("37: anonmm is gone already", "    elif stage < 38:", "    elif stage < 37:", _at(37), costs=True),
    Mutant(
        "17: a list still",
        '"prio_tree" if stage >= 17 else "list"',
        '"prio_tree" if stage > 17 else "list"',
        _at(17),
        costs=True,
    ),
    Mutant(
        "16: a tree already",
        '"prio_tree" if stage >= 17 else "list"',
        '"prio_tree" if stage >= 16 else "list"',
        _at(16),
        costs=True,
    ),
    Mutant("39: areas share already", '{"sharing": stage >= 40}', '{"sharing": stage >= 39}', _at(39), costs=True),
    Mutant("40: areas do not share yet", '{"sharing": stage >= 40}', '{"sharing": stage > 40}', _at(40), costs=True),
    Mutant(
        "a stage's parts do not get their options",
        "            super().__init__(env, options)",
        "            super().__init__(env, given)",
        _at(39),
        costs=True,
    ),
    Mutant(
        "a stage's structures are those of 2.6.7",
        "replace(base.configure(machine, options), **changes)",
        "replace(AnonVma.configure(machine, {}), **changes)",
        _at(11),
        costs=True,
    ),
    Mutant(
        "38: the tree's nodes have no room in the areas",
        "Setup(page=4, vma=vma, address_space=address_space, ",
        "Setup(page=4, ",
        _at(38),
        costs=True,
    ),
]

SURVIVORS: dict[str, str] = {}


def counts(kind: type, options: dict[str, Any]) -> None:
    """What was true after each patch, by what the machine does: a stage that is another's is nowhere wrong."""
    stage = int(options["stage"])
    m = CpulessMachine(kind, **options)
    mem = m.mem

    def found(pfn: int) -> int:
        """PTEs that a walk offers and that map the frame."""
        n = 0

        def visit(frame: int, mm: Any, address: int, vma: Any, pte: int) -> int:
            nonlocal n
            pte = mem.pgtables.pte_index(mm.pgd, address) if pte < 0 else pte
            n += (
                pte >= 0
                and mem.pgtables.ptes[pte] & 1
                and mem.pgtables.ptes[pte] >> 12 & mem.pgtables.PFN_MASK == frame
            )
            return HIT | STOP * (n == mem.frames.mapcount[frame])

        mem.rmap.offer(Asking(pfn, Purpose.AUDIT, visit))
        return n

    tree = stage >= 17
    parts = {"pte_chain"} if stage <= 8 else set() if stage in (9, 38) else {"anonmm"} if stage < 38 else {"anon_vma"}
    assert {cache.name for cache in mem.scheme.env.scheme_caches} == parts, "anonymous pages are known by other means"
    mm = m.new_mm()
    bytes_of = {"anonmm": (0, 4), "anon_vma": (12, 0)}.get(next(iter(parts), ""), (0, 0))
    setup = mem.setup
    added = (setup.page, setup.vma, setup.mm, setup.address_space)
    assert added == (4, bytes_of[0] + 8 * tree, bytes_of[1], 4 * tree), setup
    file = tmpfs_file(mem, 24)
    places = [m.mmap(mm, 1, flags=MAP_SHARED, file=file, pgoff=k) for k in range(24)]
    nodes = mem.meters.file_nodes
    for at in places:
        m.store(mm, at, 1)
        assert found(m.access(mm, at, False) >> 12) == 1, "a file page is not found"
    for at in places:
        mem.rmap.page_referenced(m.access(mm, at, False) >> 12)
    assert (mem.meters.file_nodes - nodes < 500) is tree, (
        f"{mem.meters.file_nodes - nodes} entries are looked at for 24 pages of 24 areas"
    )
    # An anonymous page, moved by mremap while it is shared.
    at = m.mmap(mm, 2)
    m.store(mm, at, 1)
    pfn = m.access(mm, at, False) >> 12
    assert found(pfn) == (stage not in (9, 38)), "an anonymous page is found, or is not"
    child = m.fork(mm)
    mem.current.mm = child
    to = do_mremap(mem, child, at, 8192, 8192, 3, at + (64 << 12))
    moved = m.access(child, to, False) >> 12
    assert (moved != pfn) is (11 <= stage < 38), "a page is copied before it moves, or is not"
    assert found(moved) == {9: 0, 10: 1, 38: 0}.get(stage, mem.frames.mapcount[moved]), (
        "a page that moved is found, or is not"
    )
    assert stage != 10 or mem.frames.index[moved] == at, "mremap tells a page its new address"
    # Neighbours that could merge but for their rights.
    if stage >= 39:
        objects = mem.scheme.env.scheme_caches[0].objects
        at = m.mmap(mm, 2, addr=0x20000000)
        m.mmap(mm, 2, 5, addr=0x20002000)
        m.store(mm, at, 1)
        m.access(mm, at, True)
        do_mprotect(mem, mm, 0x20002000, 8192, 7)
        m.store(mm, 0x20002000, 1)
        assert mem.scheme.env.scheme_caches[0].objects - objects == (1 if stage >= 40 else 2), (
            "neighbours share an anon_vma, or do not"
        )
    # A page out of its order.
    at = m.mmap(mm, 8, flags=MAP_SHARED, file=file)
    remap_file_pages(mem, mm, at, 4096, 0, 9, 0)
    m.munmap(mm, places[9], 1)
    pfn = m.access(mm, at, True) >> 12
    mem.pgtables.ptes[mem.pgtables.pte_index(mm.pgd, at)] &= ~A
    mem.rmap.try_to_unmap(pfn)
    assert (mem.frames.mapcount[pfn] == 0) is (stage > 7), "a page of a nonlinear area is unmapped, or is not"
