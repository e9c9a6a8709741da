"""The smallest scheme, for the tests: an anonymous page remembers only its virtual address, and a walk asks every
address space there is.

It needs every part of the interface that anonmm needs: one address per page, so that a page shared by two address
spaces cannot move in one of them (`move_check` has it copied first), and a page that comes back from swap at a second
address cannot be recorded (`add_anon` answers COPY).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmcore.physical.frames import PG_ANON
from mmcore.rmap import COPY, OK, STOP, Card, Walk, WalkScheme


class ScanEverything(WalkScheme):
    card = Card(
        name="scan_everything",
        title="one address per page, every address space asked (for tests)",
        kernels="none",
        origin="rmapbox's tests",
        complexity="walk O(address spaces)",
    )

    def add_anon(self, pfn: int, vma: Any, address: int, pte: int, exclusive: bool, token: Any) -> int:
        frames = self.env.frames
        page = address >> 12
        if frames.mapcount[pfn] == 0:
            frames.mapping[pfn] = 1
            frames.index[pfn] = page
        elif frames.index[pfn] != page:
            return COPY
        return OK

    def move_check(self, src: Any, dst: Any, delta: int, pfns: np.ndarray, src_ptes: np.ndarray) -> np.ndarray | None:
        frames = self.env.frames
        anon = (frames.np_flags[pfns] & np.uint32(PG_ANON)) != 0
        return np.nonzero(anon & (frames.np_mapcount[pfns] > 1))[0]

    def move(
        self, src: Any, dst: Any, delta: int, pfns: np.ndarray, src_ptes: np.ndarray, dst_ptes: np.ndarray, token: Any
    ) -> None:
        frames = self.env.frames
        anon = pfns[(frames.np_flags[pfns] & np.uint32(PG_ANON)) != 0]
        frames.np_index[anon] = (frames.np_index[anon].astype(np.int64) + (delta >> 12)).astype(np.uint32)

    def walk(self, walk: Walk) -> None:
        address = self.env.frames.index[walk.pfn] << 12
        for mm in list(self.env.mms.values()):
            if walk.visit(mm, address) & STOP:
                return
