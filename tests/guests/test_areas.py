"""Areas that programs made: seals, futex words without a page, locks on fault, populating, shrinking.
Native Linux decides."""

from __future__ import annotations

import platform

import pytest

from tests.guests.test_files import boxed, lines, native

RELEASE = tuple(map(int, platform.release().split("-")[0].split(".")[:2]))


@pytest.mark.parametrize(
    ("name", "since"),
    [
        ("seals", (6, 13)),  # before, a sealed file could not even be mapped shared to be read
        ("futex_pages", (5, 0)),
        ("onfault", (4, 4)),
        ("populate_read", (5, 14)),
        ("locked_later", (6, 5)),  # before, a locked area that a fault grew was filled at once
        ("shrink_over", (6, 17)),
    ],
)
def test_as_natively(name: str, since: tuple[int, int]) -> None:
    result = boxed(name)
    if RELEASE < since:
        pytest.skip(f"Linux answers so since {since[0]}.{since[1]}")
    assert lines(result) == native(name)


def test_futex_words_without_access() -> None:
    """But for priority inheritance, which is not here."""
    assert [line for line in lines(boxed("futex_efault")) if "_pi" not in line] == [
        line for line in native("futex_efault") if "_pi" not in line
    ]
