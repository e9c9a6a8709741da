"""The summary after a run: a dozen lines, every figure out of the result."""

from __future__ import annotations

import signal

from sandbox.config import format_size
from sandbox.lab.oom import oom_lines
from sandbox.result import HighMem, LowMem, Owner, Result

DETAILS = 40
"""Lines of `Notes.detail` shown: a deadlock's list of waiters has fewer."""

LARGEST = 4
"""Owners named per line of low memory."""


def amount(size: int) -> str:
    """Bytes for people: kB below 10 MB, else MB with one digit."""
    return f"{size / (1 << 20):.1f} MB" if size >= 10 << 20 else f"{-(-size // 1024)} kB"


def largest(owners: dict[str, Owner], count: int = LARGEST) -> str:
    """The `count` largest owners, "user pages 12.0 MB, mem_map 704 kB, ..."."""
    ordered = sorted(owners.items(), key=lambda item: (-item[1].bytes, item[0]))
    return ", ".join(f"{name} {amount(owner.bytes)}" for name, owner in ordered[:count] if owner.bytes)


def first_few(lines: list[str], count: int = 5) -> list[str]:
    """The first `count` of `lines`, and how many more there are: a guest can make any number of them."""
    return lines if len(lines) <= count else [*lines[:count], f"and {len(lines) - count} more"]


def how_it_ended(result: Result) -> str:
    """`ended` in words, with the status."""
    if result.ended == "signalled" and result.notes.signal:
        try:
            name = signal.Signals(result.notes.signal).name
        except ValueError:
            name = f"signal {result.notes.signal}"
        return f"killed by {name}, status {result.exit_status}"
    words = {
        "exited": f"exited, status {result.exit_status}",
        "time_limit": "stopped at the time limit",
        "interrupted": "interrupted",
        "deadlock": "deadlock: no task can ever run again",
        "hung": "hung: no progress in virtual time",
        "oom_panic": "panic: out of memory and nothing left to kill",
    }
    return words.get(result.ended, f"{result.ended}, status {result.exit_status}")


def _lowmem_lines(lowmem: LowMem) -> list[str]:
    peak = lowmem.at_peak
    return [
        f"low memory  least free {amount(lowmem.min_free)} of {amount(lowmem.total)}: {largest(peak.owners)}",
        f"  at exit   free {amount(lowmem.free)}: {largest(lowmem.owners)}",
    ]


def _highmem_lines(highmem: HighMem | None) -> list[str]:
    if highmem is None:
        return []
    least, total = amount(highmem.min_free), amount(highmem.total)
    return [
        f"high memory least free {least} of {total}; at exit free {amount(highmem.free)}: {largest(highmem.owners)}"
    ]


def _search_lines(meters: dict[str, int]) -> list[str]:
    """How PTEs were found: by walks from pages, or by scans of address spaces where the scheme has no reverse map."""
    get = meters.get
    looked = f"{get('vmas_visited', 0)} areas, {get('mms_visited', 0)} address spaces, {get('ptes_probed', 0)} PTEs"
    if get("scans", 0):
        lines = [
            f"scans       {get('scans', 0)} of address spaces: {get('scan_unmapped', 0)} PTEs taken away, "
            f"{get('scan_young', 0)} young or locked; {looked} looked at"
        ]
    else:
        lines = [
            f"walks       {get('walks', 0)} by the scheme: {get('candidates', 0)} candidates, {get('hits', 0)} hits, "
            f"{get('misses', 0)} misses; {looked}, {get('nodes', 0)} nodes looked at",
            f"file index  {get('file_walks', 0)} walks: {get('file_candidates', 0)} candidates, "
            f"{get('file_hits', 0)} hits, "
            f"{get('file_misses', 0)} misses; {get('file_vmas_visited', 0)} areas, {get('file_ptes_probed', 0)} "
            f"PTEs, {get('file_nodes', 0)} nodes looked at",
        ]
    if get("vma_lookups", 0):
        lines.append(
            f"find_vma    {get('vma_lookups', 0)} for want of the area: {get('vma_lookup_nodes', 0)} nodes looked at"
        )
    return lines


def remarks(result: Result) -> list[str]:
    """Whom the OOM killer ended, and what the program asked for and this machine lacks."""
    lines = [f"oom killer  {line}" for line in first_few(result.notes.oom_kills)]
    if result.oom:
        lines += [f"{'out of mem' if not n else '':<12}{line}" for n, line in enumerate(oom_lines(result.oom[-1]))]
    if result.notes.unknown_syscalls:
        calls = ", ".join(f"{name} x{count}" for name, count in sorted(result.notes.unknown_syscalls.items()))
        lines.append(f"not here    system calls answered ENOSYS: {calls}")
    return lines + [f"not here    {what} x{count}" for what, count in sorted(result.notes.not_here.items())]


def summary(result: Result) -> str:
    """The lines that `rmapbox run` prints on stderr, without a final newline."""
    vm, meters, config = result.vmstat, result.meters, result.config
    get = meters.get
    steal = sum(count for name, count in vm.items() if name.startswith("pgsteal_"))
    scanned = sum(count for name, count in vm.items() if name.startswith("pgscan_"))
    lines = [
        f"rmapbox: {how_it_ended(result)}; {result.virtual_ns / 1e9:.3f} s virtual, {result.wall_s:.2f} s wall",
        f"machine     {format_size(config['memory'])} memory, {format_size(config['swap'])} swap, {config['paging']}, "
        f"scheme {result.scheme}",
    ]
    if result.notes.pressure:
        lines.append(f"pressure    {result.notes.pressure}")
    lines += [
        f"tasks       {len(result.tasks)}, largest "
        f"{amount(max((task.peak_rss for task in result.tasks), default=0))} resident",
        f"faults      {vm['pgfault']}: {vm['pgmajfault']} major, {get('zero_page', 0)} zero page, "
        f"{get('cow', 0)} copies on write, {get('reuse', 0)} reused in place",
        f"reclaim     {steal} pages reclaimed of {scanned} scanned, {vm['pswpout']} swapped out, {vm['pswpin']} "
        f"swapped in",
        *_search_lines(meters),
        f"scheme      {get('allocations', 0)} objects allocated, {get('mremap_copies', 0)} copies forced by mremap, "
        f"{get('merges_refused', 0)} merges refused",
        *_lowmem_lines(result.lowmem),
        *_highmem_lines(result.highmem),
    ]
    if result.config.get("audit", "off") != "off":
        lines.append(f"audit       {result.audit.checks} checks, {result.audit.violations} violations")
    lines += remarks(result)
    lines += [f"            {line}" for line in first_few(result.notes.detail.splitlines(), DETAILS)]
    return "\n".join(lines)
