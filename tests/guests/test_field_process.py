"""Processes and signals: limits that hold, deeds that stand, and what a program is told about itself, as natively."""

from __future__ import annotations

import platform

import pytest

from tests.guests.test_field_proc import boxed, natively


@pytest.mark.parametrize("name", ["badptid", "e2big", "lostresult", "overrun", "sigpending", "timersig"])
def test_as_natively(name: str) -> None:
    result = boxed(name)
    if name == "timersig" and tuple(map(int, platform.release().split("-")[0].split(".")[:2])) < (6, 13):
        pytest.skip("before Linux 6.13 a signal outlived its timer")
    assert result.stdout.decode().splitlines() == natively(name)


def test_results_that_wait_for_a_page() -> None:
    """Where the result's page has to come in first the call waits before it does anything."""
    result = boxed("lostresult", scheme="pte_chain", paging="2level", memory="6M", overcommit=1)
    assert result.stdout.decode().splitlines() == natively("lostresult")
