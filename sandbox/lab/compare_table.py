"""The table of `rmapbox compare`: what each scheme cost on the same run, with the ratio to the first scheme.

`rows` is a pure function of the results; `print_table` shows them. Rows that are zero under every scheme are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

from sandbox.result import Owner, Result

ALWAYS = ("user_pages", "page_cache", "page_tables", "mem_map")
"""Owners of low memory that have a row of their own even when all schemes agree; others that agree are summed up."""

PER_TABLE = 3
"""Schemes side by side in 120 columns, fewer in a narrower terminal; the first one leads every further table."""

_NAMES, _FIRST, _OTHER = (
    36,
    16,
    28,
)  # columns, the space between them included: names, the first scheme, any other with difference and ratio
_LEGEND = {
    "nodes": "nodes: what a search goes through: nodes of a page's chain (pte_chain), of the tree of a file's areas "
    "or of an anon_vma's (file index, scheme), "
    "of the tree of an address space's areas (find_vma)",
    "areas": "areas: looked at for the page; a scheme that keeps addresses of PTEs or address spaces meets the area "
    "of each and has looked it up (find_vma)",
}
"""Rows whose name means several things -> which."""


Value = float | int | str | None


class Row(NamedTuple):
    """One line: `values` by scheme (text for a range of lengths, None where there is nothing to divide by), `ratios` to
    the first scheme's value (None where it is zero or no number)."""

    section: str
    name: str
    values: list[Value]
    ratios: list[float | None]

    def as_dict(self) -> dict[str, Any]:
        return self._asdict()


def rows(results: list[Result]) -> list[Row]:
    """Every row that is not empty, in the order of the table."""
    found = [
        *_low_memory(results),
        *_slabs(results),
        *_walks(results),
        *_reclaim(results),
        *_forks(results),
        *_rest(results),
    ]
    return [row for row in found if any(row.values)]


def _row(section: str, name: str, values: list[Value]) -> Row:
    first = values[0]
    ratios: list[float | None] = []
    for value in values:
        numbers = isinstance(first, (int, float)) and isinstance(value, (int, float))
        ratios.append(float(f"{value / first:.6g}") if numbers and first else None)  # type: ignore[operator]
    return Row(section, name, values, ratios)


def _each(section: str, results: list[Result], wanted: list[tuple[str, Callable[[Result], Value]]]) -> Iterator[Row]:
    for name, value in wanted:
        yield _row(section, name, [value(result) for result in results])


# --- memory


def _low_memory(results: list[Result]) -> Iterator[Row]:
    section = "low memory when least was free, kB"
    nothing = Owner(0, 0)
    peaks = [result.lowmem.at_peak for result in results]
    table: dict[str, list[int]] = {}
    rest = [0] * len(results)
    for name in {name: None for peak in peaks for name in peak.owners}:
        sizes = [peak.owners.get(name, nothing).bytes for peak in peaks]
        if name in ALWAYS or len(set(sizes)) > 1:
            table[name] = sizes
        else:
            rest = [sum(pair) for pair in zip(rest, sizes)]
    for name in sorted(table, key=lambda name: (-max(table[name]), name)):
        yield _row(section, name, [size >> 10 for size in table[name]])
    yield _row(section, "others, the same for all", [size >> 10 for size in rest])
    yield _row(section, "free", [peak.free >> 10 for peak in peaks])


def _slabs(results: list[Result]) -> Iterator[Row]:
    """Caches whose objects differ in number or size: what the scheme added, each at its own fullest."""
    section = "slab caches, each at its fullest"
    owners = [result.lowmem.owners for result in results]
    for name in sorted({name for each in owners for name, owner in each.items() if owner.peak_objects}):
        each = [owner.get(name) or Owner(0, 0) for owner in owners]
        objects, kilobytes = [owner.peak_objects or 0 for owner in each], [owner.peak_bytes >> 10 for owner in each]
        sizes = [owner.object_size or 0 if owner.peak_objects else 0 for owner in each]
        cache, kinds = name.removeprefix("slab:"), {size for size in sizes if size}
        if len(set(objects)) > 1:
            yield _row(section, f"{cache}, objects" + (f" of {min(kinds)}" if len(kinds) == 1 else ""), [*objects])
        if len(kinds) > 1:
            yield _row(section, f"{cache}, bytes each", [*sizes])
        if len(set(kilobytes)) > 1:
            yield _row(section, f"{cache}, kB", [*kilobytes])


# --- work


def quantile(lengths: dict[str, int], share: float) -> str | None:
    """The bucket of lengths ("1", "2-3", ...) that the walk at `share` of all walks, sorted by length, falls into; None
    without walks."""
    left = share * sum(lengths.values())
    for bucket in sorted(lengths, key=_lowest):
        left -= lengths[bucket]
        if left <= 0 and lengths[bucket]:
            return bucket
    return None


def _lowest(bucket: str) -> int:
    return int(bucket.partition("-")[0])


WORK: dict[str, tuple[tuple[str, str], ...]] = {
    "walks": (("scheme", "walks"), ("file index", "file_walks")),
    "candidates": (("scheme", "candidates"), ("file index", "file_candidates")),
    "hits": (("scheme", "hits"), ("file index", "file_hits")),
    "misses": (("scheme", "misses"), ("file index", "file_misses")),
    "areas": (("scheme", "vmas_visited"), ("file index", "file_vmas_visited")),
    "address spaces": (("scheme", "mms_visited"),),
    "PTEs probed": (("scheme", "ptes_probed"), ("file index", "file_ptes_probed")),
    "nodes": (("scheme", "nodes"), ("file index", "file_nodes"), ("find_vma", "vma_lookup_nodes")),
}
"""Kinds of work of a walk -> (who did it, its meter). What is compared is the sum: whether a scheme finds file pages
itself or by their file's index, and whether it knows the area or looks it up, is its own affair."""

_BY_WALKS = ("walks", "candidates", "hits", "misses")  # kinds that a scan of address spaces has not
_LENGTHS = (("", ("scheme", "file")), ("scheme", ("scheme",)), ("file index", ("file",)))
_LONGEST = {"scheme": "longest_walk", "file": "file_longest_walk"}


def work(result: Result, kind: str) -> int | None:
    """All work of a `kind` of WORK in a run; None where it says nothing: a scheme that scans offers no candidates,
    which is not to offer few."""
    if kind in _BY_WALKS and result.meters.get("scans"):
        return None
    return sum(result.meters.get(meter, 0) for _, meter in WORK[kind])


def _work_rows(
    section: str, results: list[Result], kinds: list[str], per: Callable[[Result], int] | None = None
) -> Iterator[Row]:
    """A row of all the work of each kind, then its parts where there is more than one; divided by `per`."""

    def shared_out(amount: int | None, result: Result) -> Value:
        if per is None or amount is None:
            return amount
        return round(amount / per(result), 4) if per(result) else None

    for kind in kinds:
        yield _row(section, kind, [shared_out(work(result, kind), result) for result in results])
        parts = [(who, meter) for who, meter in WORK[kind] if any(result.meters.get(meter) for result in results)]
        for who, meter in parts if len(parts) > 1 else ():
            yield _row(
                section, f"{kind}, {who}", [shared_out(result.meters.get(meter, 0), result) for result in results]
            )


def _walks(results: list[Result]) -> Iterator[Row]:
    yield from _work_rows("walks", results, [*WORK])
    yield from _each("walks", results, [("find_vma", _meter("vma_lookups"))])
    section = "walks by objects looked at"
    lengths = {name: [_walk_lengths(result, parts) for result in results] for name, parts in _LENGTHS}
    for bucket in sorted({bucket for each in lengths[""] for bucket in each}, key=_lowest):
        yield _row(section, bucket, [each.get(bucket, 0) for each in lengths[""]])
    apart = all(any(each) for each in lengths.values())
    shown = _LENGTHS if apart else _LENGTHS[:1]
    for title, share in (("median", 0.5), ("90 %", 0.9)):
        for name, _ in shown:
            yield _row(
                section, f"{title}, {name}".removesuffix(", "), [quantile(each, share) for each in lengths[name]]
            )
    for name, parts in shown:
        yield _row(
            section,
            f"longest, {name}".removesuffix(", "),
            [max(result.meters.get(_LONGEST[part], 0) for part in parts) for result in results],
        )
    yield from _each(
        "scans of address spaces",
        results,
        [
            ("scans", _meter("scans")),
            ("PTEs taken away", _meter("scan_unmapped")),
            ("PTEs young or locked", _meter("scan_young")),
        ],
    )


def _walk_lengths(result: Result, parts: tuple[str, ...]) -> Counter[str]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(result.walk_lengths.get(part, {}))
    return total


def _reclaim(results: list[Result]) -> Iterator[Row]:
    section = "work per page reclaimed"
    yield from _each(section, results, [("pages reclaimed", reclaimed)])
    yield from _work_rows(section, results, [kind for kind in WORK if kind != "hits"], reclaimed)


def _forks(results: list[Result]) -> Iterator[Row]:
    section = "work per fork"
    forks = _meter("forks")
    yield from _each(
        section,
        results,
        [
            ("forks", forks),
            ("pages copied", _per(_meter("fork_ptes"), forks)),
            ("links", _per(_meter("fork_links"), forks)),
            ("allocations", _per(_meter("fork_allocations"), forks)),
        ],
    )


def _rest(results: list[Result]) -> Iterator[Row]:
    yield from _each(
        "the scheme in all",
        results,
        [
            ("links", _meter("links")),
            ("allocations", _meter("allocations")),
            ("nodes searched to remove", _meter("removal_nodes")),
            ("copies forced by mremap", _meter("mremap_copies")),
            ("merges refused", _meter("merges_refused")),
        ],
    )
    yield from _each(
        "faults",
        results,
        [
            ("all", _vmstat("pgfault")),
            ("major", _vmstat("pgmajfault")),
            ("copies on write", _meter("cow")),
            ("reused in place", _meter("reuse")),
            ("zero page", _meter("zero_page")),
        ],
    )
    yield from _each("swap, pages", results, [("out", _vmstat("pswpout")), ("in", _vmstat("pswpin"))])
    yield from _each("time", results, [("virtual, ms", lambda result: round(result.virtual_ns / 1e6, 3))])


def reclaimed(result: Result) -> int:
    """Pages that reclaim freed."""
    return sum(count for name, count in result.vmstat.items() if name.startswith("pgsteal_"))


def _meter(name: str) -> Callable[[Result], int]:
    return lambda result: result.meters.get(name, 0)


def _vmstat(name: str) -> Callable[[Result], int]:
    return lambda result: result.vmstat.get(name, 0)


def _per(work: Callable[[Result], int], times: Callable[[Result], int]) -> Callable[[Result], Value]:
    return lambda result: round(work(result) / times(result), 4) if times(result) else None


# --- print


def _shown(value: Value) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def quotient(ratio: float) -> str:
    """A ratio as one reads it: "1.47x", "250x", "0x"; below a tenth "1/226"."""
    if ratio == 0 or ratio >= 100:
        return f"{ratio:.0f}x"
    return f"{ratio:.2f}x" if ratio >= 0.1 else f"1/{1 / ratio:.0f}"


def _against(value: Value, first: Value, ratio: float | None) -> str:
    """The difference to the first scheme's value, and the ratio."""
    difference = ""
    if isinstance(value, (int, float)) and isinstance(first, (int, float)) and value != first:
        difference = (
            f"{value - first:+.2f}" if isinstance(value, float) or isinstance(first, float) else f"{value - first:+d}"
        )
    return f"{difference:>9} {'' if ratio is None else quotient(ratio):>7}"


def _blocks(count: int, width: int) -> Iterator[list[int]]:
    """Which schemes stand in each table: the first in all of them, and as many others as `width` columns hold."""
    others = min(max((width - _NAMES - _FIRST) // _OTHER, 1), PER_TABLE - 1)
    for start in range(1, count, others):
        yield [0, *range(start, min(count, start + others))]


def print_table(table: list[Row], schemes: list[str], file: IO[str] | None = None) -> None:
    """Prints the rows to `file` (standard output by default), at most PER_TABLE schemes side by side; 120 columns where
    there is no terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from sandbox.lab.console import TableConsole

    console = TableConsole(file=file, highlight=False)
    if not console.is_terminal:
        console.width = 120
    for block in _blocks(len(schemes), console.width):
        shown = Table(box=SIMPLE_HEAD, pad_edge=False)
        shown.add_column("", no_wrap=True, max_width=_NAMES - 2)
        for number in block:
            title = schemes[number].replace(":", "\n:")  # a long name breaks between its options, not inside a word
            shown.add_column(title, justify="right", overflow="fold", max_width=(_OTHER if number else _FIRST) - 2)
        section = ""
        for row in table:
            if not any(row.values[number] for number in block):
                continue
            if row.section != section:
                if section:
                    shown.add_row()
                shown.add_row(row.section, style="bold")
                section = row.section
            cells = []
            for number in block:
                cell = _shown(row.values[number])
                cells.append(
                    cell if number == 0 else f"{cell} {_against(row.values[number], row.values[0], row.ratios[number])}"
                )
            shown.add_row("  " + row.name, *cells)
        console.print(shown)
    names = {row.name for row in table}
    console.print("\n".join(text for name, text in _LEGEND.items() if name in names))
