"""What stands above the table of `rmapbox compare`: what was the same, the machine, and the answers in words.

The answers are computed from the results alone: what low memory each scheme takes in all, what a page reclaimed and a
fork cost, and which meter differs most. Each is measured by the first scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sandbox.config import format_size
from sandbox.lab.compare import Comparison
from sandbox.lab.compare_table import WORK, quotient, reclaimed, work
from sandbox.lab.failure import what_befell_them, what_they_said
from sandbox.lab.summary import how_it_ended
from sandbox.result import Result

_IN_ALL = {
    "entries made": "links",
    "objects allocated": "allocations",
    "nodes searched to remove": "removal_nodes",
    "copies forced by mremap": "mremap_copies",
    "merges refused": "merges_refused",
}
"""Besides the work of walks, what the meters tell of a scheme -> the meter."""

Amounts = list[tuple[str, float]]


def head(found: Comparison) -> list[str]:
    """All lines above the table."""
    first = found.results[0]
    image, config = first.notes.memory, first.config
    seen = (
        f"{how_it_ended(first)}; {len(first.stdout or b'')} bytes of output, {len(first.stderr or b'')} of "
        f"errors; memory "
    )
    if image is None:
        seen += "was not compared"
    else:
        seen += (
            f"of {_count(len(image.spaces), 'address space')} and {_count(len(image.files), 'file')}, hash "
            f"{first.memory_hash}"
        )
    failed = "the program failed, as it may (--allow-failure), and " if found.failed else ""
    lines = [
        f"{' '.join(found.argv)}: {failed}the guests saw the same under {', '.join(found.schemes)}",
        f"seen        {seen}",
        f"machine     {format_size(config['memory'])} memory, {format_size(config['swap'])} swap, {config['paging']}",
    ]
    if found.pressure:
        lines.append(f"pressure    {found.pressure}")
    lines += _file_indexes(found.schemes, found.results)
    lines += what_they_said(found.schemes, found.results) + what_befell_them(found.schemes, found.results)
    return [*lines, "", *answers(found.schemes, found.results)]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")


def _file_indexes(schemes: list[str], results: list[Result]) -> list[str]:
    """One line where some schemes keep a file's areas in lists and others in trees: their walks of file pages differ
    for that alone."""
    by_index: dict[str, list[str]] = {}
    for scheme, result in zip(schemes, results):
        if result.notes.file_index:
            by_index.setdefault(result.notes.file_index, []).append(scheme)
    if len(by_index) < 2 or "list" not in by_index:
        return []
    told = "; ".join(f"{index} under {', '.join(under)}" for index, under in by_index.items())
    return [
        f"file areas  {told}: walks of file pages differ for that alone (`rmapbox schemes` tells the option that "
        f"changes it)"
    ]


# --- the answers


def answers(schemes: list[str], results: list[Result]) -> list[str]:
    """What the schemes cost, in words: a line for each question and scheme."""
    width = max(map(len, schemes))
    lines = [
        "low memory that the scheme takes in all (its share of mem_map, vm_area_struct, mm_struct, inodes; its "
        "slabs), at its fullest"
    ]
    lines += _by_scheme(width, schemes, [_memory(result) for result in results])
    for question, amounts in (("work per page reclaimed", _per_reclaimed), ("work per fork", _per_fork)):
        each = [amounts(result) for result in results]
        if any(value for found in each for _, value in found):
            lines.append(question)
            lines += _by_kind(width, schemes, each)
    return lines + _differed_most(schemes, results)


def _memory(result: Result) -> Amounts:
    return sorted(
        ((name, size / 1024) for name, size in result.lowmem.scheme.items()), key=lambda part: (-part[1], part[0])
    )


def _by_scheme(width: int, schemes: list[str], parts: list[Amounts]) -> Iterator[str]:
    """A line per scheme: kB in all, against the first, and of which parts."""
    totals = [sum(size for _, size in each) for each in parts]
    for scheme, total, each in zip(schemes, totals, parts):
        against = (
            ""
            if scheme == schemes[0]
            else f", {total - totals[0]:+.1f} kB" + (f", {quotient(total / totals[0])}" if totals[0] else "")
        )
        of = ": " + ", ".join(f"{name} {size:.1f}" for name, size in each if size >= 0.05) if total >= 0.05 else ""
        yield f"  {scheme:<{width}}  {total:.1f} kB{against}{of}"


def _by_kind(width: int, schemes: list[str], amounts: list[Amounts]) -> Iterator[str]:
    """A line per scheme: each kind of work that it or the first did, with its ratio to the first's."""
    first = dict(amounts[0])
    for number, (scheme, each) in enumerate(zip(schemes, amounts)):
        words = [
            f"{value:.2f} {kind}" + (f" ({quotient(value / first[kind])})" if number and first.get(kind) else "")
            for kind, value in each
            if value or first.get(kind)
        ]
        yield f"  {scheme:<{width}}  {', '.join(words) or 'none'}"


def _per_reclaimed(result: Result) -> Amounts:
    pages = reclaimed(result)
    found = [(kind, work(result, kind)) for kind in WORK if kind not in ("walks", "hits")]
    return [(kind, amount / pages) for kind, amount in found if amount is not None and pages]


def _per_fork(result: Result) -> Amounts:
    get, forks = result.meters.get, result.meters.get("forks", 0)
    return [
        (name, get(meter, 0) / forks)
        for name, meter in (("entries made", "fork_links"), ("objects allocated", "fork_allocations"))
        if forks
    ]


def _differed_most(schemes: list[str], results: list[Result]) -> list[str]:
    """The meter whose values stand farthest apart; one more than each is compared, so that 0 is a value too and a
    handful is little."""
    kinds: dict[str, tuple[str, Callable[[Result], int | None]]] = {}
    for kind, parts in WORK.items():
        kinds[kind] = " + ".join(meter for _, meter in parts), lambda result, kind=kind: work(result, kind)  # type: ignore[misc]
    for kind, meter in _IN_ALL.items():
        kinds[kind] = meter, lambda result, meter=meter: result.meters.get(meter, 0)  # type: ignore[misc]
    best, line = 1.0, ""
    for kind, (meter, value) in kinds.items():
        values = [(amount, scheme) for scheme, amount in zip(schemes, map(value, results)) if amount is not None]
        if len(values) < 2:
            continue
        (least, low), (most, high) = min(values), max(values)
        apart = (most + 1) / (least + 1)
        if apart > best:
            times = f", {quotient(most / least)}" if least else ""
            best, line = (
                apart,
                f"differed most: {kind}, {most} under {high} and {least} under {low}{times}, by the meter {meter}",
            )
    return [line] if line else ["no meter of a scheme's work differed"]
