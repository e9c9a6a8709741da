"""What a process is told of its memory, by kind of page and at its highest: as natively, and by count of the page
tables under every scheme."""

from __future__ import annotations

import pytest

from sandbox.schemes.registry import scheme_names
from tests.guests.test_files import boxed, lines, native


def test_as_natively() -> None:
    assert lines(boxed("rss")) == native("rss")


@pytest.mark.parametrize("scheme", scheme_names())
def test_every_scheme_under_pressure(scheme: str) -> None:
    """The audits count the pages of each kind in all page tables."""
    result = boxed("rss", scheme=scheme, memory="6M", swap="32M", audit="full")
    assert result.vmstat["pswpout"] > 500


def test_what_is_swapped_out_is_counted() -> None:
    """Each of 2000 pages is resident or in swap, but for the program's own that went or came meanwhile."""
    first, second = lines(boxed("rss", "swap", memory="6M", swap="32M"))
    either, swapped = int(first.split()[0]), int(first.split()[5])
    assert abs(either - 8000) <= 64 and swapped > 4000 and first.endswith("right") and second == "then 0 in swap"
