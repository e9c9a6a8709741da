"""rmap_series: the forty patches that took 2.6.6's pte_chains to 2.6.7's anon_vma, as a movable point.

Origin      Hugh Dickins and Andrea Arcangeli, posted April and May 2004; 7 to 40 merged on 2004-05-22
Idea        `stage` says after which patch the kernel stands. Each stage is made of the schemes it consisted of; this
            file only says which.

    stage   anonymous pages                                    file pages            nonlinear areas
    7       pte_chain                                          list                  never unmapped
    8       pte_chain                                          list                  mini virtual scan from here on
    9       nothing leads to them: they cannot be swapped out  list
    10      anonmm; a page that mremap moved is lost           list
    11-16   anonmm                                             list
    17-37   anonmm                                             priority search tree
    38      nothing leads to them                              priority search tree
    39      anon_vma, each area its own                        priority search tree
    40      anon_vma, shared by areas that could merge         priority search tree

Patches 12 to 16 and 18 to 36 removed what was no longer used, prepared the tree, and changed locks; what a page's walk
meets did not change. Stages 39 and 40 have the mend of 2004-06-20 in, by which a growing area takes the anon_vma of the
pages it grows over; anon_vma:flaws=true is without. Linux: mm/rmap.c at each patch, between 2.6.6 and 2.6.7-rc1.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from mmcore.rmap import (
    OK,
    Draft,
    MachineFacts,
    Picture,
    PluginError,
    RmapScheme,
    SchemeEnv,
    Setup,
    VmArea,
    Walk,
    WalkScheme,
)
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.anonmm import AnonMm
from rmap_plugins.partial_objrmap import PartialObjrmap, file_index_bytes, i_mmap_option

FIRST, LAST = 7, 40


class _NoAnonRmap(WalkScheme):
    """After rmap 9 and rmap 38: page_add_anon_rmap only counts. File pages go by their file."""

    card = replace(
        AnonVma.card,
        title="no reverse map of anonymous pages",
        complexity="fork O(1); nothing leads to anonymous pages; walk of a file page as its file index has it",
        structures=(
            ("page", "+4", "mapcount"),
            ("vm_area_struct", "+8", "with the priority search tree, from rmap 17 on"),
            ("address_space", "+4", "with the priority search tree, from rmap 17 on"),
        ),
    )

    @classmethod
    def configure(cls, machine: MachineFacts, options: dict[str, Any]) -> Setup:
        index = i_mmap_option("rmap_series", options, "list")
        vma, address_space = file_index_bytes(index)
        return Setup(page=4, vma=vma, address_space=address_space, file_index=index)

    def add_anon(self, pfn: int, vma: VmArea, address: int, pte: int, exclusive: bool, token: None) -> int:
        return OK

    def walk(self, walk: Walk) -> None:
        """Nothing is offered."""

    def picture(self, pfn: int) -> Picture:
        return Draft(self.env, pfn).picture


class _AnonMmStays(AnonMm):
    """After rmap 10 and before rmap 11: mremap tells anonymous pages nothing."""

    move = RmapScheme.move
    move_check = RmapScheme.move_check


@cache
def _stage(stage: int) -> type[RmapScheme]:
    """The scheme as it stood after patch `stage`: its parts, under the series' name."""
    options: dict[str, Any] = {"i_mmap": "prio_tree" if stage >= 17 else "list"}
    changes: dict[str, Any] = {}
    base: type[RmapScheme]
    if stage <= 8:
        base, changes["unmaps_nonlinear"] = PartialObjrmap, stage >= 8
    elif stage in (9, 38):
        base, changes["incomplete"] = _NoAnonRmap, f"after rmap {stage} nothing leads to anonymous pages"
    elif stage == 10:
        base, changes["incomplete"] = _AnonMmStays, "before rmap 11 mremap loses anonymous pages"
    elif stage < 38:
        base = AnonMm
    else:
        base, options = AnonVma, {"sharing": stage >= 40}
    series = RmapSeries.card
    card = replace(
        base.card,
        name=series.name,
        title=f"after rmap {stage}: {base.card.title}",
        kernels=series.kernels,
        origin=series.origin,
        references=series.references,
        options=series.options,
    )

    class Stage(base):  # type: ignore[misc,valid-type]
        @classmethod
        def configure(cls, machine: MachineFacts, given: dict[str, Any]) -> Setup:
            return replace(base.configure(machine, options), **changes)

        def __init__(self, env: SchemeEnv, given: dict[str, Any]) -> None:
            super().__init__(env, options)

    Stage.card = card
    Stage.__name__ = Stage.__qualname__ = f"RmapSeries{stage}"
    return Stage


class RmapSeries(AnonVma):
    card = replace(
        AnonVma.card,
        name="rmap_series",
        title="the 40-patch series of 2004, at any of its stages",
        kernels="2.6.6 to 2.6.7-rc1",
        origin="Hugh Dickins and Andrea Arcangeli, rmap 7 to 40, merged 2004-05-22",
        complexity="that of partial_objrmap, anonmm or anon_vma, by stage",
        structures=(("by stage", "", "those of partial_objrmap (7, 8), anonmm (10 to 37) or anon_vma (39, 40)"),),
        options={
            "stage": (
                LAST,
                "the last patch applied, 7 to 40: 7 file pages by object, 8 nonlinear, 9 chains gone, 10 anonmm, 11 "
                "its mremap, "
                "17 priority search tree, 38 anonmm gone, 39 anon_vma, 40 its sharing",
            )
        },
        references=("LKML 2004-04 to 2004-05 rmap 1 to 40",),
    )

    @classmethod
    def configure(cls, machine: MachineFacts, options: dict[str, Any]) -> Setup:
        stage = options.get("stage", LAST)
        if not isinstance(stage, int) or not FIRST <= stage <= LAST:
            raise PluginError(f"rmap_series: stage = {stage!r} is not a number from {FIRST} to {LAST}")
        served = _stage(stage)
        return replace(served.configure(machine, options), scheme=served)
