"""What the default run takes of a test with many cases: `@pytest.mark.covering`.

A test that goes over every scheme, paging and memory has hundreds of cases, and most of them tell nothing new. Of one
that is marked `covering` the default run takes as few as hold each value of each parameter (of those named, where the
mark names some); all other cases become `thorough`. Which ones stay depends on nothing but their names. A case asked
for by its own name runs.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest


def values_of(parameters: dict[str, Any], names: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
    """(where, value) of each parameter; the parts of a tuple or dataclass count one by one, as "cell.0" or
    "cell.scheme". With `names` only of those."""
    for name, value in parameters.items():
        if is_dataclass(value):
            parts = [(f"{name}.{field.name}", getattr(value, field.name)) for field in fields(value)]
        elif isinstance(value, tuple):
            parts = [(f"{name}.{place}", part) for place, part in enumerate(value)]
        else:
            parts = [(name, value)]
        yield from ((where, repr(part)) for where, part in parts if not names or name in names or where in names)


def covering(cases: dict[str, set[tuple[str, str]]]) -> set[str]:
    """The names of cases which together hold every value that any holds. `cases`: name -> its values."""
    left = set().union(*cases.values())
    kept = set()
    for name in sorted(cases, key=lambda name: (-len(cases[name]), zlib.crc32(name.encode()))):
        if cases[name] & left:
            left -= cases[name]
            kept.add(name)
    return kept


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before pytest's own choice by marks."""
    tests: dict[str, list[pytest.Function]] = defaultdict(list)
    for item in items:
        if (
            isinstance(item, pytest.Function)
            and item.get_closest_marker("covering")
            and not item.get_closest_marker("slow")
        ):
            tests[item.nodeid.partition("[")[0]].append(item)
    for cases in tests.values():
        names = cases[0].get_closest_marker("covering").args  # type: ignore[union-attr]
        kept = covering({item.nodeid: set(values_of(item.callspec.params, names)) for item in cases})
        for item in cases:
            if item.nodeid not in kept:
                item.add_marker("thorough")
