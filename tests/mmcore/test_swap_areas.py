"""Several swap areas: which gives the next slot, and that each can go and come while the others are in use."""

from __future__ import annotations

from typing import Any

import pytest

from mmcore.calls.swapoff import swap_off
from mmcore.errors import SysError
from mmcore.swap.areas import SwapAreas
from tests.mmcore.box import SCHEMES, Box
from tests.mmcore.test_swapoff import finish

MB = 1 << 20
each = pytest.mark.parametrize("scheme", SCHEMES)


class Slab:
    """Counts the maps that are held."""

    def __init__(self) -> None:
        self.maps: list[int] = []

    def vmalloc(self, nbytes: int, name: str) -> int:
        self.maps.append(nbytes)
        return len(self.maps)

    def vfree(self, token: int) -> None:
        self.maps[token - 1] = 0


def areas_of(*given: tuple[int, int | None]) -> SwapAreas:
    return SwapAreas([(slots << 12, priority) for slots, priority in given], Slab())  # type: ignore[arg-type]


def order(areas: SwapAreas, n: int) -> list[int]:
    """Numbers of the areas that give the next slots."""
    return [areas.number_of(areas.get_page()) for _ in range(n)]


def test_without_priorities_one_is_filled_after_the_other() -> None:
    areas = areas_of((4, None), (3, None), (5, None))
    assert [area.priority for area in areas] == [-1, -2, -3]
    assert order(areas, 9) == [0, 0, 0, 1, 1, 2, 2, 2, 2] and areas.get_page() == 0


def test_the_highest_priority_is_first_and_equal_ones_take_turns() -> None:
    areas = areas_of((4, 1), (4, 7), (6, 7), (4, 9))
    assert order(areas, 3) == [3, 3, 3]
    # Of 1 and 2 the one that came last stands first, as sys_swapon puts it.
    assert order(areas, 8) == [2, 1, 2, 1, 2, 1, 2, 2]
    assert order(areas, 3) == [0, 0, 0] and areas.get_page() == 0


def test_a_slot_that_comes_free_is_given_again_by_the_best() -> None:
    areas = areas_of((4, 1), (4, 7))
    taken = [areas.get_page() for _ in range(5)]
    assert [areas.number_of(entry) for entry in taken] == [1, 1, 1, 0, 0]
    assert areas.free(taken[1]) == 0 and areas.get_page() == taken[1]
    assert [areas.offset_of(entry) for entry in taken] == [1, 2, 3, 1, 2]


def test_slots_and_headers() -> None:
    areas = areas_of((4, None), (3, None))
    assert [areas.is_slot(entry) for entry in range(-1, 8)] == [
        False,
        False,
        True,
        True,
        True,
        False,
        True,
        True,
        False,
    ]
    assert areas.slots(areas[0]) == range(1, 4) and areas.slots(areas[1]) == range(5, 7)
    for _ in range(5):
        areas.get_page()
    assert areas.readahead_range(2, 3) == range(1, 4)
    assert areas.readahead_range(6, 3) == range(5, 7), "not beyond the area, nor into the one before"


def test_off_and_on_again() -> None:
    areas = areas_of((4, None), (4, None))
    first = areas[0]
    areas.leave(first)
    assert order(areas, 2) == [1, 1]
    areas.come_back(first)
    assert order(areas, 1) == [0]
    areas.leave(first)
    areas.free(1)
    first.turn_off()
    areas.turn_on(first)
    assert first.priority == -3 and order(areas, 1) == [1]
    areas.leave(areas[1])
    assert order(areas, 3) == [0, 0, 0] and areas.get_page() == 0


def spread(scheme: str, paging: str = "pae") -> Box:
    """A family whose pages are out on three areas, the first two in turns."""
    b = Box(scheme, paging, swap_areas=((MB // 4, 3), (MB // 4, 3), (4 * MB, None)))
    b.map(0, 300)
    b.put(*range(300))
    b.fork(b.mm)
    b.swap_out()
    b.put(250, plus=5000)
    b.swap_out()
    used = [area.total - area.nr_free for area in b.mem.swap.areas]
    assert used[0] > 55 and used[1] > 55 and used[2] > 100, used
    return b


def contents(b: Box) -> None:
    for mm in b.mem.mms.values():
        b.has(*range(250), *range(251, 300), mm=mm)
    b.has(250, plus=5000)


@each
@pytest.mark.parametrize("paging", ["pae", "2level"])
def test_pages_come_back_from_every_area(scheme: str, paging: str) -> None:
    b = spread(scheme, paging)
    b.audit("out")
    contents(b)
    b.audit("in")


@each
@pytest.mark.parametrize("which", [0, 1, 2])
def test_one_goes_while_the_others_stay(scheme: str, which: int) -> None:
    b = spread(scheme)
    area, total = b.mem.swap.areas[which], b.mem.swap.total
    finish(b, swap_off(b.mem, area))
    assert not area.on and area.nr_free == area.total and b.mem.swap.total == total - area.total
    assert len(dict(b.mem.slab.vmalloc_areas())) <= 1
    b.audit("off")
    b.swap_out()
    assert area.nr_free == area.total, "it gives no slots"
    contents(b)
    b.mem.swap.areas.turn_on(area, 9)
    b.map(400, 40)
    b.put(*range(400, 440))
    b.swap_out()
    assert area.total - area.nr_free >= 40, "it is the first now"
    contents(b)
    b.has(*range(400, 440))
    b.audit("on")


@each
def test_no_room_for_what_is_on_it(scheme: str) -> None:
    """ENOMEM by the overcommit limit: the area is in use as before."""
    b = spread(scheme)
    b.mem.overcommit.mode, b.mem.overcommit.ratio = 2, 0
    area = b.mem.swap.areas[2]
    with pytest.raises(SysError):
        finish(b, swap_off(b.mem, area))
    assert area.on and area.writeok
    contents(b)
    b.audit()


def test_what_is_told_while_one_is_emptied() -> None:
    b = spread("anon_vma")
    swap = b.mem.swap
    area: Any = swap.areas[0]
    total, used = swap.total, area.total - area.nr_free
    free = swap.nr_swap_pages
    swap.areas.leave(area)
    assert swap.si_swapinfo() == (total - area.total + used, free - area.nr_free)
    assert swap.nr_swap_pages == free - area.total
    swap.areas.come_back(area)
    assert swap.si_swapinfo() == (total, free)
