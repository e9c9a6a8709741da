"""pte_chain finds an entry of a long chain by an index: chains, meters and memory are those of the search node by
node."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from rmap_plugins import pte_chain
from sandbox import Config, Machine, toolchain
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import MAP_FIXED, MAP_SHARED
from tests.mmcore.box import AT, Box

PAGES = 40  # of each file, each a chain of its own


def _wander(seed: int, options: dict[str, Any], indexed: list[int]) -> list[Any]:
    """Many mappings of the same pages come, move, are inherited, swapped out and go, in an order drawn by `seed`;
    what is to be seen of it."""
    rng = random.Random(seed)
    b = Box("pte_chain", **options)
    file = tmpfs_file(b.mem, PAGES)
    places = list(range(0, 200 * PAGES, 2 * PAGES))
    mms: dict[Any, set[int]] = {b.mm: set()}
    seen: list[Any] = []
    for turn in range(260):
        mm = rng.choice(list(mms))
        mapped, what = mms[mm], rng.random()
        free = [place for place in places if place not in mapped]
        if free and (what < 0.5 or not mapped):
            place, pages = rng.choice(free), rng.choice((2, PAGES))
            b.map(place, pages, flags=MAP_FIXED | MAP_SHARED, file=file, mm=mm)
            mapped.add(place)
            for page in range(pages):
                b.load(mm, AT + (place + page << 12))
        elif what < 0.55 and len(mms) < 4:
            mms[b.fork(mm)] = set(mapped)
        elif what < 0.58 and len(mms) > 1:
            b.exit(mm)
            del mms[mm]
        elif what < 0.7 and mapped and free:
            old, new = rng.choice(sorted(mapped)), rng.choice(free)
            b.mremap(old, 2, new, mm=mm)
            b.munmap(mm, AT + (old << 12), PAGES)
            mapped.remove(old)
            mapped.add(new)
        elif what < 0.73:
            b.mem.reclaim.shrink_all(rng.choice((4, 60)))
        elif mapped:
            place = rng.choice(sorted(mapped))
            b.munmap(mm, AT + (place << 12), PAGES)
            mapped.remove(place)
        indexed[0] = max(indexed[0], len(b.mem.scheme._indices))
        if turn % 20 == 0:
            b.audit(f"turn {turn}")
            seen.append((b.mem.meters.as_dict(), [hash(bytes(b.mem.ram.buf))]))
    for mm in list(mms):
        b.exit(mm)
    b.audit("end")
    assert not b.mem.scheme._indices
    return [*seen, b.mem.meters.as_dict()]


@pytest.mark.parametrize(
    "options", [{}, {"highpte": True}, {"cache_line": 128}], ids=["line 32", "highpte", "line 128"]
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_is_as_with_the_search(seed: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    used = [0]
    monkeypatch.setattr(pte_chain, "_LONG", 1 << 30)
    searched = _wander(seed, options, used)
    assert used == [0] and searched[-1]["removal_nodes"] > 1000
    monkeypatch.setattr(pte_chain, "_LONG", 1)
    monkeypatch.setattr(pte_chain, "_SHORT", 1)
    assert _wander(seed, options, used) == searched
    assert used[0] >= 2


def test_an_index_that_disagrees_with_its_chain_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pte_chain, "_LONG", 1)
    b = Box("pte_chain")
    file = tmpfs_file(b.mem, 1)
    for k in range(60):
        b.map(2 * k, 1, flags=MAP_FIXED | MAP_SHARED, file=file)
        b.load(b.mm, AT + (2 * k << 12))
    b.munmap(b.mm, AT, 1)
    ((pfn, index),) = b.mem.scheme._indices.items()
    assert not b.mem.scheme.check()
    index.slot.popitem()
    assert "the index of a long chain" in b.mem.scheme.check()[0]


def test_thousands_of_mappings_of_one_page_go_in_no_time() -> None:
    """16,000 took 16 s of processor time. The count of nodes is still the search's."""
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    program = toolchain.compile_c(Path(__file__).parents[1] / "guests" / "programs" / "manymaps.c")
    n = 16000
    before = time.process_time()
    result = Machine(Config(scheme="pte_chain", stdin=b"", time_limit=100)).run([str(program), str(n)], capture=True)
    assert (result.stdout, result.ended) == (b"ok\n", "exited")
    assert result.meters["removal_nodes"] == pytest.approx(n * n / 28, rel=0.01)  # what the search counted
    assert time.process_time() - before < 8
