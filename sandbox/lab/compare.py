"""The same program under several schemes: run, and judged by what the guests saw.

Everything a guest can see must be the same under every scheme: what it writes, how it ends, what its memory and files
hold at the end (`sandbox.lab.memhash`). Only then do the meters of the runs compare.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import compress, count, zip_longest
from operator import ne
from typing import Any, NamedTuple

from mmcore.errors import ConfigError
from sandbox.config import Config, format_size
from sandbox.lab.children import Watcher, run_children
from sandbox.lab.failure import failed, how_they_failed, what_they_said
from sandbox.lab.memhash import space_digest
from sandbox.lab.summary import how_it_ended
from sandbox.pressure import Sizes, describe, measuring, sizes
from sandbox.result import FileMemory, MemoryImage, Pages, Result, SpaceMemory

CONTEXT = 28
"""Bytes shown on either side of the first difference of two outputs."""

_MAY_DIFFER = (
    "(a program that reads clocks or the kernel's counters, or whose processes race, may do so without "
    "fault of the scheme)"
)
_LEAVE_OUT = "; --output-only judges without memory"


class Contender(NamedTuple):
    """A scheme with its options, under the `label` that the reports give it."""

    label: str
    config: Config


class Comparison(NamedTuple):
    """`results` by scheme; `difference` is the first thing that a guest saw otherwise than under the first scheme, None
    when all saw the same."""

    argv: list[str]
    schemes: list[str]
    results: list[Result]
    difference: str | None
    pressure: str | None

    @property
    def same(self) -> bool:
        """Did the guests see the same under all schemes?"""
        return self.difference is None

    def rows(self) -> list[dict[str, Any]]:
        """The table for a data frame: a dict with `section`, `name`, `scheme`, `value`, `ratio` (to the first scheme)
        for each scheme in each row.

        Values and ratios are those of `--json`'s `table`: numbers, None where there is nothing to divide by, a text for
        a range of lengths.
        """
        from sandbox.lab.compare_table import rows

        return [
            {"section": row.section, "name": row.name, "scheme": scheme, "value": value, "ratio": ratio}
            for row in rows(self.results)
            for scheme, value, ratio in zip(self.schemes, row.values, row.ratios)
        ]

    def __repr__(self) -> str:
        said = "the guests saw the same" if self.same else f"the guests differ, {self.difference}"
        if self.failed:
            said += f"; the program failed under {', '.join(self.failed)}"
        return f"<Comparison of {' '.join(self.argv)} under {', '.join(self.schemes)}: {said}>"

    @property
    def failed(self) -> list[str]:
        """The schemes under which the program failed: it ended otherwise than with status 0."""
        return [scheme for scheme, result in zip(self.schemes, self.results) if failed(result)]

    def as_dict(self, table: list[dict[str, Any]]) -> dict[str, Any]:
        """What `--json` writes."""
        failures = {
            scheme: {"ended": how_it_ended(result), "stderr": (result.stderr or b"").decode(errors="replace")}
            for scheme, result in zip(self.schemes, self.results)
            if failed(result)
        }
        return {
            "program": self.argv[0],
            "arguments": self.argv[1:],
            "schemes": self.schemes,
            "same": self.difference is None,
            "difference": self.difference,
            "failed": failures,
            "pressure": self.pressure,
            "results": [result.as_dict() for result in self.results],
            "table": table,
        }


class Cut(Exception):
    """A run did not come to its end: the message says which; `status` is the command's, `said` what the programs wrote
    until then."""

    def __init__(self, text: str, status: int, said: list[str]) -> None:
        super().__init__(text)
        self.status = status
        self.said = said


def compare(
    contenders: list[Contender],
    argv: list[str],
    *,
    pressure: bool = False,
    memory: bool = True,
    watch: Watcher | None = None,
) -> Comparison:
    """Runs `argv` under each contender and judges, by output and ending alone without `memory`. With `pressure` all of
    them get the machine of the one that needs most.

    Raises `Cut` when the time limit cut a run, and what `run_children` and `sandbox.pressure.measuring` raise. Writable
    mounts are refused.
    """
    for mount in contenders[0].config.mount_list():
        if mount.mode == "rw":
            raise ConfigError(
                f"compare runs the program once per scheme and each would write to {mount.host}: mount it ro"
            )
    said = None
    labels = [label for label, _ in contenders]
    if pressure:
        measured = run_children([(label, measuring(config)) for label, config in contenders], argv, watch=watch)
        _check_whole(contenders, measured, "while measuring, with ample memory")
        found = [sizes(result) for result in measured]
        most = Sizes(*(max(values) for values in zip(*found)))
        said = f"{describe(most)}; the same for all, the most that any of them needs: {_who_needs(contenders, found)}"
        failures = how_they_failed(labels, measured)
        if failures:
            said += f"; measured, with ample memory, on a program that failed: {failures}"
        contenders = [
            Contender(label, config.replace(memory=most.memory, swap=most.swap)) for label, config in contenders
        ]
    results = run_children(list(contenders), argv, hash_memory=memory, watch=watch)
    _check_whole(contenders, results, "")
    found_difference = None
    for label, result in zip(labels[1:], results[1:]):
        what = difference(results[0], result)
        if what is not None:
            found_difference = f"{label}: the guest saw something else than under {labels[0]}: {what} {_MAY_DIFFER}"
            break
    return Comparison(argv, labels, results, found_difference, said)


def _who_needs(contenders: list[Contender], found: list[Sizes]) -> str:
    return ", ".join(f"{contender.label} {format_size(size.memory)}" for contender, size in zip(contenders, found))


def _check_whole(contenders: list[Contender], results: list[Result], when: str) -> None:
    """Raises `Cut` unless all came to their end: one that hangs under one scheme only is told apart from one that hangs
    under all."""
    labels = [contender.label for contender in contenders]
    ends: dict[str, list[str]] = {}
    for label, result in zip(labels, results):
        ends.setdefault(how_it_ended(result), []).append(label)
    cut = [result for result in results if result.ended in ("time_limit", "interrupted")]
    if cut:
        first = how_it_ended(cut[0])
        first_under = ends.pop(first)
        which = (
            f"run under {first_under[0]} was" if len(first_under) == 1 else f"runs under {', '.join(first_under)} were"
        )
        text = f"the {which} {first}" + (f" {when}" if when else "")
        text += "".join(f"; under {', '.join(others)}: {end}" for end, others in ends.items())
        raise Cut(f"{text}: nothing is compared", cut[0].exit_status, what_they_said(labels, results))


# --- what the guests saw


def difference(first: Result, other: Result) -> str | None:
    """What the guest of `other` saw first otherwise than the guest of `first`; None when both saw the same."""
    return "; ".join(_differences(first, other)) or None


def _differences(first: Result, other: Result) -> Iterator[str]:
    output = output_difference("standard output", first.stdout or b"", other.stdout or b"") or output_difference(
        "standard error", first.stderr or b"", other.stderr or b""
    )
    if output:
        yield output
    ends = [(how_it_ended(result), result.exit_status) for result in (first, other)]
    if ends[0] != ends[1]:
        yield f"it ended otherwise: {ends[1][0]}, instead of {ends[0][0]}"
    one, two = first.notes.memory, other.notes.memory
    if (
        not output
        and ends[0] == ends[1]
        and one is not None
        and two is not None
        and first.memory_hash != other.memory_hash
    ):
        yield memory_difference(one, two) + _LEAVE_OUT


def output_difference(name: str, first: bytes, other: bytes) -> str | None:
    """The first byte at which two outputs differ, with its line and a few words around."""
    if first == other:
        return None
    at = next(compress(count(), map(ne, first, other)), min(len(first), len(other)))
    line = first.count(b"\n", 0, at) + 1
    return f"{name} differs at byte {at}, line {line}: {_around(other, at)} instead of {_around(first, at)}"


def _around(text: bytes, at: int) -> str:
    """The line at a byte, cut to CONTEXT on either side."""
    start = text.rfind(b"\n", 0, at) + 1
    if at >= len(text):
        return "the end" if start == at else f"the end after {_quoted(text[max(start, at - CONTEXT) : at])}"
    stop = text.find(b"\n", at)
    stop = len(text) if stop < 0 else stop
    left, right = max(start, at - CONTEXT), min(stop, at + CONTEXT)
    return ("..." if left > start else "") + _quoted(text[left:right]) + ("..." if right < stop else "")


def _quoted(text: bytes) -> str:
    try:
        return repr(text.decode())
    except UnicodeDecodeError:
        return repr(text)[1:]


def memory_difference(first: MemoryImage, other: MemoryImage) -> str:
    """The first process, area and page, or file, in which two images differ. A process whose like is in the other image
    too is none of them."""
    digests = [Counter(map(space_digest, image.spaces)) for image in (first, other)]
    alike = digests[0] & digests[1]
    left: list[list[SpaceMemory]] = []
    for image in (first, other):
        same = alike.copy()
        left.append([])
        for space in image.spaces:
            digest = space_digest(space)
            if same[digest]:
                same[digest] -= 1
            else:
                left[-1].append(space)
    for one, two in zip_longest(*left):
        if one is None or two is None:
            there = one or two
            return f"{_space_name(there)} {'is missing' if two is None else 'is one more'}"
        if one != two:
            return _space_difference(one, two)
    for before, after in zip_longest(first.files, other.files):
        if before is None or after is None or before.name != after.name:
            names = [[file.name for file in image.files] for image in (first, other)]
            more, less = set(names[1]) - set(names[0]), set(names[0]) - set(names[1])
            return f"file {min(more)} is there" if more else f"file {min(less)} is not there"
        if before != after:
            return _file_difference(before, after)
    return "their memory"


def _space_name(space: SpaceMemory) -> str:
    return f"address space {space.number} of process {space.comm}[{space.pid}], ended by {space.ended},"


def _space_difference(one: SpaceMemory, two: SpaceMemory) -> str:
    if one[:4] != two[:4]:
        return f"{_space_name(two)} instead of {_space_name(one)}"
    name = f"{two.comm}[{two.pid}] at its {two.ended}"
    if one.areas != two.areas:
        before, after = next((a, b) for a, b in zip_longest(one.areas, two.areas, fillvalue="nothing") if a != b)
        return f"memory of {name}: area {after} instead of {before}"
    page, what = _page_difference(one.pages, two.pages)
    area = next((area for area in two.areas if int(area[:8], 16) <= page << 12 < int(area[9:17], 16)), "no area")
    return f"memory of {name}: page {page << 12:#010x} {what}, in {area}"


def _file_difference(before: FileMemory, after: FileMemory) -> str:
    if before.size != after.size:
        return f"file {after.name}: {after.size} bytes instead of {before.size}"
    page, what = _page_difference(before.pages, after.pages)
    return f"file {after.name}: the page at {page << 12:#x} {what}"


def _page_difference(one: Pages, two: Pages) -> tuple[int, str]:
    """(the first page that differs, how)."""
    before, after = (
        dict(
            zip(
                memoryview(pages.numbers).cast("I").tolist(),
                (pages.digests[k : k + 8] for k in range(0, len(pages.digests), 8)),
            )
        )
        for pages in (one, two)
    )
    page = min(number for number in before.keys() | after.keys() if before.get(number) != after.get(number))
    return page, "is zero" if page not in after else "is not zero" if page not in before else "has other contents"
