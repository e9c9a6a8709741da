"""The low-memory table: who held low memory, at its lowest and at exit, several runs side by side."""

from __future__ import annotations

from typing import IO

from sandbox.result import Owner, Result


def owner_names(results: list[Result]) -> list[str]:
    """Every owner of any run, the largest at any run's peak first."""
    size: dict[str, int] = {}
    for result in results:
        for owners in (result.lowmem.at_peak.owners, result.lowmem.owners):
            for name, owner in owners.items():
                size[name] = max(size.get(name, 0), owner.bytes)
    return sorted((name for name in size if size[name]), key=lambda name: (-size[name], name))


def labels(results: list[Result], names: list[str]) -> list[str]:
    """A heading per run: its scheme, with its file's name when two runs share a scheme."""
    schemes = [result.scheme for result in results]
    return [scheme if schemes.count(scheme) == 1 else f"{scheme} ({name})" for scheme, name in zip(schemes, names)]


def rows(results: list[Result]) -> list[tuple[str, list[tuple[int, int]]]]:
    """(owner, [(bytes at peak, bytes at exit) per run]) for every owner, then free and total; each column adds up."""
    nothing = Owner(0, 0)
    table = []
    for name in owner_names(results):
        cells = []
        for result in results:
            low = result.lowmem
            cells.append((low.at_peak.owners.get(name, nothing).bytes, low.owners.get(name, nothing).bytes))
        table.append((name, cells))
    table.append(("free", [(result.lowmem.at_peak.free, result.lowmem.free) for result in results]))
    table.append(("total", [(result.lowmem.total, result.lowmem.total) for result in results]))
    return table


def slab_rows(results: list[Result]) -> list[tuple[str, list[Owner | None]]]:
    """(slab cache, its owner record at exit per run) for every cache that ever held an object."""
    names: dict[str, int] = {}
    for result in results:
        for name, owner in result.lowmem.owners.items():
            if owner.object_size is not None and owner.peak_objects:
                names[name] = max(names.get(name, 0), owner.peak_bytes)
    ordered = sorted(names, key=lambda name: (-names[name], name))
    return [(name, [result.lowmem.owners.get(name) for result in results]) for name in ordered]


def print_lowmem(results: list[Result], names: list[str], file: IO[str] | None = None) -> None:
    """Prints both tables to `file` (standard output by default); `names` are the result files, for headings."""
    from rich.table import Table

    from sandbox.lab.console import TableConsole

    console = TableConsole(file=file, highlight=False)
    if not console.is_terminal:
        console.width = max(80, 40 + 34 * len(results))
    heads = labels(results, names)
    table = Table(title="low memory, kB", title_justify="left")
    table.add_column("owner", no_wrap=True)
    for head in heads:
        table.add_column(f"{head}\nat peak", justify="right")
        table.add_column("\nat exit", justify="right")
    all_rows = rows(results)
    for name, cells in all_rows:
        if name == "free":
            table.add_section()
        table.add_row(name, *(f"{size // 1024}" for cell in cells for size in cell))
    console.print(table)
    caches = slab_rows(results)
    if not caches:
        return
    table = Table(title="slab caches: objects at their peak, and the frames they took", title_justify="left")
    table.add_column("cache", no_wrap=True)
    table.add_column("object\nbytes", justify="right")
    for head in heads:
        table.add_column(f"{head}\npeak objects", justify="right")
        table.add_column("\npeak kB", justify="right")
    for name, owners in caches:
        sizes = dict.fromkeys(str(owner.object_size) for owner in owners if owner is not None)
        peaks: list[str] = []
        for owner in owners:
            peaks += ["-", "-"] if owner is None else [str(owner.peak_objects), str(owner.peak_bytes // 1024)]
        table.add_row(name, " / ".join(sizes), *peaks)
    console.print(table)
