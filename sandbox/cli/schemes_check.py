"""`rmapbox schemes check`: the conformance suite against one scheme, as a table; the first failure as a script."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmcore.errors import ConfigError
from mmcore.rmap import MachineFacts
from sandbox.cli.arguments import Parser
from sandbox.cli.run import _check_writable, write_json
from sandbox.hostsignals import handle_interrupt

if TYPE_CHECKING:
    from mmcore.rmap import RmapScheme
    from sandbox.kit.suite import Report

SECONDS = 120.0
INTERRUPT_STATUS = 130  # as sandbox.cli.main has it


def make_parser() -> Parser:
    parser = Parser(
        prog="rmapbox schemes check",
        usage="rmapbox schemes check SCHEME [OPTIONS]",
        description="Run the conformance suite against SCHEME: a name, or path/to/file.py:Class.",
        epilog="Exit status: 0 when all holds, 1 when something does not, 2 when the scheme cannot be loaded,\n"
        "130 after Ctrl-C, with the table of what was done. The first failure is made small and written into\n"
        "the working directory as a Python script that does it again.",
    )
    add = parser.add_argument
    add("scheme", metavar="SCHEME", help="a scheme's name, or path/to/file.py:Class; with options as in NAME:key=value")
    add(
        "--option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an option of the scheme, as in its table [rmap.NAME]; can be repeated",
    )
    add(
        "--seconds",
        metavar="N",
        default=str(SECONDS),
        help=f"begin no more random programs after so much wall time (default {SECONDS:.0f})",
    )
    add("--json", metavar="FILE", help="write the table's content too")
    return parser


def options_of(kind: type[RmapScheme], pairs: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` words as the scheme's options, each of its default's type. Raises `ConfigError`."""
    from sandbox.machine import check_options

    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"--option {pair!r} is not KEY=VALUE: write an option of the card, '=' and a value")
        default = kind.card.options.get(key, ("",))[0]
        options[key] = _value(key, text, default)
    check_options(kind, options)
    return options


def _value(key: str, text: str, default: bool | int | float | str) -> bool | int | float | str:
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        return type(default)(text) if isinstance(default, (int, float)) else text
    except (ValueError, KeyError):
        kind = "true or false" if isinstance(default, bool) else "a number"
        raise ConfigError(f"--option {key}={text}: {text!r} is not {kind}") from None


def main(words: list[str]) -> int:
    given = make_parser().parse_args(words)
    try:
        seconds = float(given.seconds)
        if not 0 < seconds < 1e6:
            raise ValueError
    except ValueError:
        raise ConfigError(f"--seconds {given.seconds!r} is not a number of seconds above 0") from None
    if given.json is not None:
        _check_writable(given.json)
    from sandbox.schemes.registry import load_scheme
    from sandbox.schemes.spec import parse_spec, typed_options

    scheme, written = parse_spec(given.scheme)
    kind = load_scheme(scheme)
    options = {**typed_options(given.scheme, kind, written), **options_of(kind, given.option)}
    kind.configure(
        MachineFacts(), options
    )  # a value that cannot be is a mistake of the command line, not of the scheme

    from sandbox.kit import suite
    from sandbox.kit.replay import write_script

    handle_interrupt(signal.default_int_handler)  # what is known so far is shown
    report = suite.run(scheme, kind, options, seconds, _progress if sys.stderr.isatty() else None)
    script = None
    if report.first is not None and report.first.steps:
        try:
            script = write_script(scheme, report.first, Path.cwd())
        except OSError as error:
            print(
                f"rmapbox: the script of the first failure cannot be written here: "
                f"{(error.strerror or str(error)).lower()}",
                file=sys.stderr,
            )
    _print(given.scheme, kind, report, script)
    if given.json is not None:
        write_json(given.json, (json.dumps(as_dict(scheme, kind, options, report, script), indent=1) + "\n").encode())
    if report.interrupted:
        return INTERRUPT_STATUS
    return 0 if report.passed else 1


def as_dict(
    scheme: str, kind: type[RmapScheme], options: dict[str, Any], report: Report, script: Path | None
) -> dict[str, Any]:
    """What `--json` writes."""
    return {
        "scheme": scheme,
        "name": kind.card.name,
        "options": options,
        "passed": report.passed,
        "interrupted": report.interrupted,
        "seconds": round(report.seconds, 1),
        "checks": [
            {
                "name": row.name,
                "verdict": row.verdict,
                "count": row.count,
                "unit": row.unit,
                "note": row.note,
                "failures": [failure.text for failure in row.failures],
            }
            for row in report.rows
        ],
        "script": None if script is None else str(script),
    }


def _progress(done: int, of: int) -> None:
    end = "\r" if done < of else "\r" + " " * 40 + "\r"
    print(f"{done} of {of} jobs done", end=end, file=sys.stderr, flush=True)


def _print(scheme: str, kind: type[RmapScheme], report: Report, script: Path | None) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from sandbox.lab.console import TableConsole

    console = TableConsole(width=None if sys.stdout.isatty() else 140, highlight=False)
    table = Table(title=f"{kind.card.name}: {kind.card.title}", title_justify="left", box=box.SIMPLE)
    table.add_column("check")
    table.add_column("result", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("of what, and what is to be said", overflow="fold")
    for row in report.rows:
        style = {"ok": "green", "FAILED": "bold red"}.get(row.verdict, "dim")
        said = [row.unit + (f" ({row.note})" if row.note else "")] if row.count or not row.note else [row.note]
        said += [failure.text for failure in row.failures[:1]]
        if len(row.failures) > 1:
            said.append(f"and {len(row.failures) - 1} more")
        table.add_row(row.name, Text(row.verdict, style), str(row.count or "-"), Text("\n".join(said)))
    console.print(table)
    if report.passed:
        console.print(Text(f"{scheme}: all of it holds ({report.seconds:.0f} s)."))
        return
    if report.interrupted and all(row.verdict != "FAILED" for row in report.rows):
        console.print(Text(f"{scheme}: interrupted; nothing was found until then ({report.seconds:.0f} s)."))
        return
    console.print(Text(f"{scheme}: it does not hold ({report.seconds:.0f} s)."))
    if script is not None:
        console.print(Text(f"The first failure, made small: python {script.name}\n"))
        console.print(Text(script.read_text()), soft_wrap=True)
