"""Pictures of reverse mapping: every scheme draws, in each moment of a page's life, exactly the PTEs that map it."""

from __future__ import annotations

from typing import Any

import pytest

from mmcore.calls.fremap import remap_file_pages
from mmcore.errors import InvariantViolation, PluginError
from mmcore.physical.frames import PG_ANON
from mmcore.rmap import FRAME, Node, Picture, RmapScheme, WalkScheme
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.virtual_scan import VirtualScan
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_SHARED
from sandbox.kit.pictures import MOMENTS, Story
from tests.mmcore.box import AT, FLAWED, SCHEMES, Box

EVERY = {**SCHEMES, **FLAWED}
# Structures that a scheme draws between a page and its PTEs, while parent and child share it.
KINDS = {
    "anon_vma": {"anon_vma", "vma"},
    "anon_vma_chain": {"anon_vma", "avc", "vma"},
    "anonmm": {"anonmm"},
    "anonmm_chained": {"anonmm"},
    "pte_chain": {"pte_chain"},
    "partial_objrmap": {"pte_chain"},
    "rmap_series": {"pte_chain"},  # stage 7
    "virtual_scan": {"mm", "vma"},
}


def truth(machine: Any, pfn: int) -> list[int]:
    """PTEs that map a frame, entry by entry."""
    mem = machine.mem
    found = []
    for mm in mem.mms.values():
        for _, base in mem.pgtables.tables(mm.pgd, 0, 0xC0000000):
            for index in range(base, base + mem.pgtables.PTRS):
                value = mem.pgtables.ptes[index]
                if mem.pgtables.present(value) and value >> 12 & mem.pgtables.PFN_MASK == pfn:
                    found.append(index)
    return sorted(found)


def state(machine: Any) -> tuple[Any, ...]:
    """What a drawing must leave alone: meters, frames, page tables, low memory."""
    mem = machine.mem
    arrays = [
        getattr(mem.frames, f"np_{name}").tobytes() for name in ("flags", "count", "mapcount", "mapping", "index")
    ]
    caches = {mm.addr: mm.mmap_cache for mm in mem.mms.values()}
    return mem.meters.as_dict(), arrays, mem.ram.np64.tobytes(), mem.pages.owned[:], caches, mem.vmstat.as_dict()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("scheme", EVERY)
def test_every_scheme_in_every_moment(scheme: str, moment: str) -> None:
    kind, options = EVERY[scheme]
    story = Story(kind, moment, **options)
    machine = story.machine
    machine.auditor.pictures = -1
    machine.audit(moment)
    before = state(machine)
    for pfn in story.frames():
        picture = machine.mem.rmap.picture(pfn)  # with those that a flaw of history lost
        assert sorted(picture.ptes()) == truth(machine, pfn)
        assert picture.nodes[FRAME].kind == "frame"
        assert {edge.target for edge in picture.edges} < set(range(len(picture.nodes)))
    assert state(machine) == before


@pytest.mark.parametrize("scheme", KINDS)
def test_structures_of_its_own(scheme: str) -> None:
    kind, options = SCHEMES.get(scheme) or SCHEMES["rmap_series-7"]
    story = Story(kind, "forked", **options)
    (pfn,) = story.frames()
    picture = story.machine.mem.rmap.picture(pfn)
    kinds = {node.kind for node in picture.nodes} - {"frame", "PTE"}
    assert kinds == KINDS[scheme]
    mem = story.machine.mem
    live = {cache.name: cache for cache in mem.slab.caches.values()}
    for node in picture.nodes:
        if node.kind in live:
            assert node.size == live[node.kind].objsize and node.address >= 0xC0000000


def test_a_node_is_where_its_object_lies() -> None:
    """pte_chain keeps its nodes as bytes in RAM: what the picture says can be read there."""
    story = Story(SCHEMES["pte_chain"][0], "forked")
    (pfn,) = story.frames()
    mem = story.machine.mem
    picture = mem.rmap.picture(pfn)
    (node,) = [node for node in picture.nodes if node.kind == "pte_chain"]
    words = [mem.ram.u32[(node.address - 0xC0000000 >> 2) + k] for k in range(node.size // 4)]
    assert [word for word in words[1:] if word] == [n.address - 0xC0000000 for n in picture.nodes if n.kind == "PTE"]


def test_candidates_in_vain_are_drawn() -> None:
    story = Story(AnonVma, "copied")
    old, new = story.frames()
    labels = [node.label for node in story.machine.mem.rmap.picture(old).nodes if node.kind == "PTE"]
    assert labels == [f"40001000, frame {new:#x} instead", "40001000, read-only"]


def test_lost_ptes_stand_apart() -> None:
    kind, options = FLAWED["rmap_series-10"]
    story = Story(kind, "moved", **options)
    (pfn,) = story.frames()
    picture = story.machine.mem.rmap.picture(pfn)
    led = {edge.target for edge in picture.edges}
    (lost,) = [node for place, node in enumerate(picture.nodes) if place not in led and place != FRAME]
    assert lost.label == "48001000, read-only" and "nothing leads" in picture.note
    assert len(story.machine.mem.scheme.picture(pfn).ptes()) == 1


@pytest.mark.parametrize("paging", ["pae", "2level"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_family_under_pressure(scheme: str, paging: str) -> None:
    """Eight relatives that write, move, swap and die; all frames drawn after each step."""
    box = Box(scheme, paging)
    box.auditor.pictures = -1
    box.map(0, 24)
    box.map(40, 4, flags=MAP_FIXED | MAP_SHARED, file=tmpfs_file(box.mem, 4))
    box.put(*range(24), *range(40, 44))
    mms = [box.mm]
    for k in range(8):
        mms.append(box.fork(mms[k // 2]))
        box.put(k, k + 8, mm=mms[-1], plus=2000)
        box.load(mms[-1], AT + (41 << 12))
        box.audit(f"child {k}")
    box.mremap(12, 4, 60, mm=mms[3])
    box.audit("moved")
    box.swap_out()
    box.audit("out")
    box.has(*range(12, 16), mm=mms[1])
    box.has(*range(12, 16), mm=mms[3], shift=48)
    box.audit("in again")
    for mm in mms[1::2]:
        box.exit(mm)
        box.audit("one is gone")
    for mm in (mms[2], mms[4]):
        box.load(mm, AT + (41 << 12))
    drawn = 0
    for pfn in range(box.mem.frames.nr):
        if box.mem.frames.mapcount[pfn] and not box.mem.frames.flags[pfn] & PG_ANON:
            assert sorted(box.mem.rmap.picture(pfn).ptes()) == truth(box, pfn)
            drawn += 1
    assert drawn


def test_a_nonlinear_area_is_drawn() -> None:
    for scheme in ("anon_vma", "anonmm_chained", "pte_chain"):
        box = Box(scheme)
        box.map(0, 8, flags=MAP_FIXED | MAP_SHARED, file=tmpfs_file(box.mem, 8))
        box.put(*range(8))
        remap_file_pages(box.mem, box.mm, AT, 0x1000, 0, 6, 0)
        box.load(box.mm, AT)
        pfn = box.pfn(0)
        picture = box.mem.rmap.picture(pfn)
        assert sorted(picture.ptes()) == truth(box, pfn)
        assert any(edge.label == "nonlinear" for edge in picture.edges) == (scheme != "pte_chain")


# --- what the auditor and the base classes do


class Blind(AnonVma):
    def picture(self, pfn: int) -> Picture:
        return Picture(pfn, [Node("frame", 0, 4096)])


class Twice(AnonVma):
    def picture(self, pfn: int) -> Picture:
        picture = super().picture(pfn)
        picture.nodes += [node for node in picture.nodes if node.pte >= 0]
        return picture


class Confused(AnonVma):
    def picture(self, pfn: int) -> Picture:
        raise KeyError(pfn)


class Mute(AnonVma):
    def picture(self, pfn: int) -> Picture:
        return None  # type: ignore[return-value]


@pytest.mark.parametrize(
    "kind, error, text",
    [
        (Blind, InvariantViolation, "picture of the scheme is wrong, 1 of 1 PTEs not found"),
        (Twice, InvariantViolation, "picture of the scheme is wrong, 1 PTEs found twice"),
        (Confused, InvariantViolation, "picture of the scheme leads astray"),
        (Mute, PluginError, "must be a Picture"),
    ],
)
def test_the_auditor_sees_a_wrong_picture(kind: type, error: type, text: str) -> None:
    story = Story(kind, "born")
    with pytest.raises(error, match=text):
        story.machine.audit()


def test_the_auditor_comes_round() -> None:
    """A few frames a pass, and all of them in turn."""
    asked: list[int] = []

    class Watched(AnonVma):
        def picture(self, pfn: int) -> Picture:
            asked.append(pfn)
            return super().picture(pfn)

    story = Story(Watched, "born")
    machine = story.machine
    machine.mmap(story.parent, 40, addr=0x50000000)
    for page in range(40):
        machine.store(story.parent, 0x50000000 + (page << 12), page)
    machine.auditor.pictures = 9
    for _ in range(5):
        machine.audit()
    assert len(asked) == 45 and len(set(asked)) == 41


def test_without_a_picture_of_its_own() -> None:
    """Where a scheme draws nothing: what the walk offers; or, without a walk, what all page tables have."""

    class Plain(AnonVma):
        picture = WalkScheme.picture

    story = Story(Plain, "forked")
    (pfn,) = story.frames()
    picture = story.machine.mem.rmap.picture(pfn)
    assert [(edge.source, edge.target) for edge in picture.edges] == [(FRAME, 1), (FRAME, 2)] and not picture.note

    class Bare(VirtualScan):
        picture = RmapScheme.picture

    story = Story(Bare, "forked")
    (pfn,) = story.frames()
    picture = story.machine.mem.rmap.picture(pfn)
    assert not picture.edges and len(picture.ptes()) == 2 and "no structure leads" in picture.note
