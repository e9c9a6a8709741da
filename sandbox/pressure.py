"""`--pressure`: run once with ample memory to see what the program takes, then size RAM to a share of it.

    RAM = boot reservations + what the kernel took besides + free reserve (watermarks) + SHARE of the program's pages

The program's pages are user pages and page cache at the moment when most memory was in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import IO, NamedTuple

from mmcore.errors import ConfigError
from sandbox.config import MAX_MEMORY, MIN_MEMORY, Config, format_size
from sandbox.lab.failure import failed
from sandbox.lab.summary import how_it_ended
from sandbox.machine import Machine
from sandbox.result import Result

SHARE = 0.6
"""Of the program's pages that fit into RAM: enough to go on, too few to keep what fork shares."""

_GRAIN = 64 << 10
_MIB = 1 << 20
_PROGRAM = ("user_pages", "page_cache")
_BOOT = ("kernel_image", "boot_other")
_BY_SIZE = ("mem_map",)
_NOT_NEEDED = ("per_cpu_lists",)


class Sizes(NamedTuple):
    """Bytes: the program's pages at their peak (`touched`), and the `memory` and `swap` that press it."""

    touched: int
    memory: int
    swap: int


def _reserve(memory: int) -> int:
    """Bytes that kswapd keeps free in a machine of `memory` bytes. Linux: init_per_zone_pages_min, 2.6.7
    (pages_high)."""
    return 3 * max(isqrt((memory >> 12) * 4), 128) * 1024


def sizes(measured: Result) -> Sizes:
    """The machine that presses the program of a run with ample memory."""
    owners = measured.lowmem.at_peak.owners
    touched = sum(owners[name].bytes for name in _PROGRAM if name in owners)
    left_out = (*_PROGRAM, *_BY_SIZE, *_NOT_NEEDED)
    kernel = sum(owner.bytes for name, owner in owners.items() if name not in left_out)
    mem_map_share = owners["mem_map"].bytes / measured.lowmem.total
    memory = kernel + int(SHARE * touched)
    for _ in range(3):  # mem_map and the watermarks grow with the size they are part of
        memory = int((kernel + SHARE * touched + _reserve(memory)) / (1 - mem_map_share))
    memory = min(max(-(-memory // _GRAIN) * _GRAIN, MIN_MEMORY), MAX_MEMORY)
    swap = max(int(measured.config["swap"]), -(-2 * touched // _MIB) * _MIB)
    return Sizes(touched, memory, swap)


def describe(found: Sizes) -> str:
    """How the machine was sized, in one line for the summary."""
    text = (
        f"the program's pages took {format_size(found.touched)} at their peak; RAM sized to "
        f"{format_size(found.memory)}, "
        f"swap to {format_size(found.swap)}"
    )
    if found.memory <= MIN_MEMORY:
        text += f" (no less than {format_size(MIN_MEMORY)} boots: touch more for more pressure)"
    return text


def measuring(config: Config) -> Config:
    """The machine for the run that measures: ample memory, an empty standard input unless `config.stdin` is given.

    Raises `ConfigError` for writable mounts, which a first run would already change.
    """
    for mount in config.mount_list():
        if mount.mode == "rw":
            raise ConfigError(
                f"--pressure runs the program twice and would write to {mount.host} twice: "
                f"mount it ro, or give --memory instead of --pressure"
            )
    return config.replace(memory=MAX_MEMORY, audit="off", stdin=b"" if config.stdin is None else config.stdin)


def run_under_pressure(
    config: Config, argv: list[str], *, status: IO[str] | None = None, pictures: Sequence[str] = ()
) -> Result:
    """Measures, sizes, runs; the result is the second run's. `status` and `pictures` as for `Machine.run`. Raises
    `ConfigError` as `measuring` does."""
    measured = Machine(measuring(config)).run(argv, capture=True)
    if measured.ended in ("time_limit", "interrupted"):
        measured.notes.pressure = "cut short while measuring, with ample memory"
        return measured
    found = sizes(measured)
    result = Machine(config.replace(memory=found.memory, swap=found.swap)).run(argv, status=status, pictures=pictures)
    result.notes.pressure = describe(found)
    if failed(measured) and not failed(result):
        result.notes.pressure += f"; measured, with ample memory, on a program that failed: {how_it_ended(measured)}"
    return result
