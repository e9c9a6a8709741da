"""How areas stand for what a guest can read is the scheme's affair: the judge of `compare` tells only what can be
read."""

from __future__ import annotations

from typing import Any

import pytest

from mmcore.calls.fremap import remap_file_pages
from mmcore.calls.mprotect import do_mprotect
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_SHARED, PROT_READ, RW
from tests.mmcore.box import AT, Box
from tests.sandbox.test_memhash import image

REMAPS = [
    [(2, 1, 6)],
    [(0, 8, 8)],
    [(0, 1, 7), (7, 1, 0)],
    [(3, 2, 0), (3, 2, 3)],
    [(0, 4, 4), (4, 4, 0)],
    [(1, 1, 5), (2, 1, 6), (5, 1, 1)],
    [(0, 8, 0)],
]


def windows(scheme: str, remaps: list[tuple[int, int, int]], out: bool = False) -> Any:
    """Eight pages of a file of sixteen, some of them shown at other places: first page, pages, page of the file."""
    box = Box(scheme)
    file = tmpfs_file(box.mem, 16)
    whole = box.new_mm()
    box.mmap(whole, 16, RW, MAP_SHARED | MAP_FIXED, AT, file, 0)
    for k in range(16):
        box.store(whole, AT + (k << 12), 100 + k)
    box.mmap(box.mm, 8, RW, MAP_SHARED | MAP_FIXED, AT, file, 0)
    for page, pages, index in remaps:
        remap_file_pages(box.mem, box.mm, AT + (page << 12), pages << 12, 0, index, 0)
    if out:
        box.swap_out()
    return box, image(box)


@pytest.mark.parametrize("out", [False, True])
@pytest.mark.parametrize("remaps", REMAPS)
def test_a_nonlinear_area_and_ordinary_ones_that_show_the_same_are_the_same(remaps, out):
    seen = [windows(scheme, remaps, out) for scheme in ("pte_chain", "anon_vma", "anon_vma_chain")]
    assert len({box.mem.setup.nonlinear_areas for box, _ in seen}) == 2
    assert [found for _, found in seen] == [seen[0][1]] * 3


@pytest.mark.parametrize("scheme", ["pte_chain", "anon_vma_chain"])
def test_another_page_of_the_file_at_one_place_shows(scheme):
    pages = [windows(scheme, remaps)[1] for remaps in ([(2, 1, 6)], [(2, 1, 7)], [(3, 1, 6)], [])]
    assert all(one != other for k, one in enumerate(pages) for other in pages[:k])


@pytest.mark.parametrize("scheme", ["pte_chain", "anon_vma_chain"])
def test_access_rights_still_show(scheme):
    box, before = windows(scheme, [(2, 1, 6)])
    do_mprotect(box.mem, box.mm, AT, 8 << 12, PROT_READ)
    assert image(box) != before
