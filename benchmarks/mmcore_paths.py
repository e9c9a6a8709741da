"""The memory management's own paths, without a CPU: a row per path, a column per scheme (`python -m
benchmarks.mmcore_paths [--quick]`).

What a guest sees is these and the trap around them (`python -m benchmarks`). A figure that stands out between schemes
is the scheme's cost.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from benchmarks import core
from mmcore.calls.mremap import do_mremap
from rmap_plugins.anon_vma import AnonVma
from rmap_plugins.pte_chain import PteChain
from sandbox.kit.machine import CpulessMachine

SCHEMES: dict[str, tuple[type, dict[str, Any]]] = {
    "anon_vma": (AnonVma, {}),
    "pte_chain 32": (PteChain, {}),
    "pte_chain 128": (PteChain, {"cache_line": 128}),
    "pte_chain highpte": (PteChain, {"highpte": True}),
}
ROUNDS = 3


def _process(scheme: str, megabytes: int, touched: int, swap: int = 1) -> tuple[CpulessMachine, Any, int, int]:
    """A machine with a process that has touched so many MB: (machine, mm, address, pages)."""
    kind, options = SCHEMES[scheme]
    machine = CpulessMachine(kind, memory=megabytes << 20, swap=swap << 20, **options)
    mm = machine.new_mm()
    pages = touched << 8
    at = machine.mmap(mm, pages) if pages else 0
    _fault_each(machine, mm, at, pages)
    return machine, mm, at, pages


def _fault_each(machine: CpulessMachine, mm: Any, at: int, pages: int) -> None:
    """A write fault for every page, as the CPU would report it."""
    fault = machine.mem.faults.do_page_fault
    machine.mem.current.mm = mm
    for address in range(at, at + (pages << 12), 4096):
        fault(mm, address, 6)


def first_touch(scheme: str, size: int) -> float:
    machine, mm, at, pages = _process(scheme, 2 * size, 0)
    pages = size << 8
    at = machine.mmap(mm, pages)
    start = time.perf_counter()
    _fault_each(machine, mm, at, pages)
    return (time.perf_counter() - start) / pages * 1e6


def copy_on_write(scheme: str, size: int) -> float:
    machine, mm, at, pages = _process(scheme, 4 * size, size)
    child = machine.fork(mm)
    fault = machine.mem.faults.do_page_fault
    start = time.perf_counter()
    for address in range(at, at + (pages << 12), 4096):
        fault(child, address, 7)
    return (time.perf_counter() - start) / pages * 1e6


def fork_and_exit(scheme: str, size: int) -> float:
    machine, mm, _, _ = _process(scheme, 4 * size, size)
    best = 1e9
    for _ in range(5):
        start = time.perf_counter()
        machine.exit(machine.fork(mm))
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def exit_last(scheme: str, size: int) -> float:
    machine, mm, _, _ = _process(scheme, 2 * size, size)
    start = time.perf_counter()
    machine.exit(mm)
    return (time.perf_counter() - start) * 1e3


def move(scheme: str, size: int) -> float:
    machine, mm, at, pages = _process(scheme, 2 * size, size)
    best = 1e9
    for _ in range(10):
        start = time.perf_counter()
        to = do_mremap(machine.mem, mm, at, pages << 12, pages << 12, 3, at - (pages << 13))
        best = min(best, time.perf_counter() - start)
        at = (
            to
            if to > 0x20000000
            else do_mremap(machine.mem, mm, to, pages << 12, pages << 12, 3, 0xB0000000 - (pages << 12))
        )
    return best * 1e3


def swap_out(scheme: str, size: int) -> float:
    """Sequential write of twice the RAM, in 1000 pages/s."""
    machine, mm, _, _ = _process(scheme, size, 0, swap=4 * size)
    pages = 2 * size << 8
    at = machine.mmap(mm, pages)
    store = machine.store
    start = time.perf_counter()
    for address in range(at, at + (pages << 12), 4096):
        store(mm, address, 1)
    took = time.perf_counter() - start
    assert machine.mem.vmstat.pswpout > pages // 3
    return pages / took / 1e3


def swap_in(scheme: str, size: int) -> float:
    """Reading it all back in order, in 1000 pages/s."""
    machine, mm, at, pages = _process(scheme, 2 * size, size, swap=4 * size)
    machine.mem.reclaim.shrink_all(pages)
    load = machine.load
    start = time.perf_counter()
    for address in range(at, at + (pages << 12), 4096):
        load(mm, address)
    return pages / (time.perf_counter() - start) / 1e3


def walk(scheme: str, size: int) -> float:
    return _through_core(core.walk_candidate, scheme) * 1e6


def unmap(scheme: str, size: int) -> float:
    return _through_core(core.unmap_once, scheme) * 1e6


def scan(scheme: str, size: int) -> float:
    return _through_core(core.scan_staying, scheme) * 1e6


def audit(scheme: str, size: int) -> float:
    return _through_core(core.audit_pages, scheme)


def _through_core(fn: Callable[..., float], scheme: str) -> float:
    """core's own benchmarks know schemes by name, without options."""
    name, _, option = scheme.partition(" ")
    return float("nan") if option not in ("", "32") else fn(name)


ROWS: list[tuple[str, str, Callable[[str, int], float]]] = [
    ("anonymous first touch", "us/page", first_touch),
    ("copy on write", "us/page", copy_on_write),
    ("fork + exit, 64 MB", "ms", fork_and_exit),
    ("exit of the last owner, 64 MB", "ms", exit_last),
    ("mremap of 64 MB", "ms", move),
    ("sequential write of 2 x RAM", "1000 pages/s", swap_out),
    ("swap-in, sequential", "1000 pages/s", swap_in),
    ("a walk, per candidate", "us", walk),
    ("try_to_unmap, mapped once", "us", unmap),
    ("scan of a page that stays", "us", scan),
    ("audit of 100,000 pages", "s", audit),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the size, one round")
    quick = parser.parse_args().quick
    size, rounds = (16, 1) if quick else (64, ROUNDS)
    print(
        f"{'best of ' + str(rounds) + ', ' + str(size) + ' MB':34}{'':14}" + "".join(f"{name:>20}" for name in SCHEMES)
    )
    for title, unit, fn in ROWS:
        better = max if "pages/s" in unit else min
        figures = [better(fn(scheme, size) for _ in range(rounds)) for scheme in SCHEMES]
        print(
            f"{title.replace('64 MB', f'{size} MB'):34}{unit:14}"
            + "".join(f"{'-' if f != f else f'{f:.3g}':>20}" for f in figures),
            flush=True,
        )


if __name__ == "__main__":
    main()
