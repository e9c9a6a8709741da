"""A program that fails: a status other than 0, a signal, or no end at all; and what it said of it.

Runs that were captured show nothing of the program's own error. What failed alike under several schemes is told once.
"""

from __future__ import annotations

from sandbox.lab.crash import crash_report, more_crashes
from sandbox.lab.summary import first_few, how_it_ended, remarks
from sandbox.result import Result

LINES = 12
"""Lines shown of what the program wrote: the last ones, for an error that ends a program comes last."""


def failed(result: Result) -> bool:
    """Did the program end otherwise than by exit with status 0?"""
    return result.ended != "exited" or result.exit_status != 0


def how_they_failed(labels: list[str], results: list[Result]) -> str:
    """As in "exited, status 1, under pte_chain, anon_vma; killed by SIGSEGV, status 139, under anonmm"; "" when none
    failed."""
    ends: dict[str, list[str]] = {}
    for label, result in zip(labels, results):
        if failed(result):
            ends.setdefault(how_it_ended(result), []).append(label)
    return "; ".join(f"{end}, under {', '.join(under)}" for end, under in ends.items())


def what_they_said(labels: list[str], results: list[Result]) -> list[str]:
    """For those that failed: the end of what they wrote to standard error (else to standard output), crash reports,
    whom the OOM killer ended."""
    return _grouped([(label, _said(result)) for label, result in zip(labels, results) if failed(result)])


def what_befell_them(labels: list[str], results: list[Result]) -> list[str]:
    """For those that did not fail: tasks that faults of their own or the OOM killer ended, and what the machine
    lacks."""
    return _grouped([(label, _incidents(result)) for label, result in zip(labels, results) if not failed(result)])


def _grouped(said: list[tuple[str, list[str]]]) -> list[str]:
    groups: dict[tuple[str, ...], list[str]] = {}
    for label, lines in said:
        if lines:
            groups.setdefault(tuple(lines), []).append(label)
    return [
        line
        for lines, under in groups.items()
        for line in (f"under {', '.join(under)}:", *("  " + line for line in lines))
    ]


def _incidents(result: Result) -> list[str]:
    notes = result.notes
    return (
        [crash_report(crash).partition("\n")[0] for crash in notes.crashes]
        + more_crashes(notes.more_crashes)
        + remarks(result)
    )


def _said(result: Result) -> list[str]:
    notes = result.notes
    lines = _tail("standard error", notes.stderr or b"")
    if not notes.stderr:
        lines += _tail("standard output", notes.stdout or b"") if notes.stdout else ["nothing on standard output"]
    for crash in notes.crashes:
        lines += crash_report(crash).splitlines()
    lines += more_crashes(notes.more_crashes)
    return lines + remarks(result) + first_few(notes.detail.splitlines(), LINES)


def _tail(name: str, written: bytes) -> list[str]:
    lines = written.decode(errors="replace").splitlines()
    if not lines:
        return [f"nothing on {name}"]
    head = f"the last {LINES} of {len(lines)} lines on {name}:" if len(lines) > LINES else f"on {name}:"
    return [head, *("  " + _printable(line) for line in lines[-LINES:])]


def _printable(line: str) -> str:
    """`line` without what a terminal would obey."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line.expandtabs())
