"""`rmapbox compare`: one program under several schemes, proved to look the same from inside, and what each scheme
cost."""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mmcore.errors import ConfigError, InvariantViolation
from sandbox.cli.arguments import Parser, Words, split, split_tail
from sandbox.cli.run import add_options, check_given, overrides_of, tell_strays, write_json
from sandbox.hostsignals import handle_interrupt, restore_interrupt

if TYPE_CHECKING:
    from argparse import Namespace

    from rich.progress import Progress, TaskID

    from sandbox.config import Config
    from sandbox.lab.compare import Comparison, Contender

NO_COMPARISON_STATUS = 1
PATIENCE_S = 2.0
"""Seconds of silence on standard input after which somebody is told that it is being read."""


def make_parser() -> Parser:
    """rmapbox's own options of `compare`."""
    parser = Parser(
        prog="rmapbox compare",
        usage="rmapbox compare [OPTIONS] PROGRAM [ARG]... --rmap NAME,NAME[,NAME]...",
        description="Run PROGRAM under several reverse-mapping schemes, check that it sees the same under each, and "
        "print what each scheme cost.",
        epilog="The options are those of `rmapbox run` and stand before PROGRAM, right after it, or after its\n"
        "arguments from --rmap on. The program's output is compared, not shown; what it wrote is, when it\n"
        "fails. Exit status: 0 when the guests saw the same, 1 when not or when the program failed, 124 when\n"
        "the time limit cut a run, 130 after Ctrl-C, 2 for rmapbox's own errors.",
    )
    parser.add_argument(
        "--rmap",
        dest="schemes",
        metavar="NAME[:key=value],...",
        action="append",
        help="the schemes, the first is what the others are measured by; may be repeated",
    )
    parser.add_argument(
        "--output-only", action="store_true", help="judge by output and exit status, not by memory and files"
    )
    parser.add_argument(
        "--allow-failure", action="store_true", help="the program is meant to fail: compare it whatever its exit status"
    )
    add_options(parser)
    return parser


def main(words: list[str]) -> int:
    """Runs, judges, prints the table on standard output."""
    parser = make_parser()
    own, program, arguments = split_compare(words, parser.own_options())
    given = parser.parse_args(own)
    if program is None:
        parser.error("PROGRAM is missing: give an i386 ELF file, a C file, or a bundled program's name")
    argv = [program, *arguments]

    from sandbox.lab.compare import Cut, compare
    from sandbox.lab.compare_head import head
    from sandbox.lab.compare_table import print_table, rows
    from sandbox.lab.console import wrapped
    from sandbox.program import load_program
    from sandbox.status import can_rewrite

    contenders = _contenders(given)
    check_given(given)
    if not given.quiet:
        tell_strays(
            words, program, arguments, parser.own_options(), "stand before PROGRAM, right after it, or from --rmap on"
        )
    load_program(program, mounts=bool(contenders[0].config.mounts))  # compiled once, and a mistake is told once
    stdin = _standard_input(contenders[0].config)
    for contender in contenders:
        contender.config.stdin = stdin
    before = handle_interrupt(signal.default_int_handler)  # so that the bars leave the terminal as it was
    try:
        with _progress(
            len(contenders) * (2 if given.pressure else 1), can_rewrite(sys.stderr) and not given.quiet
        ) as watch:
            found = compare(contenders, argv, pressure=given.pressure, memory=not given.output_only, watch=watch)
    except Cut as cut:
        _tell(str(cut), cut.said)
        return cut.status
    finally:
        restore_interrupt(before)
    table = rows(found.results)
    if given.json is not None:
        import msgspec

        values = found.as_dict([row.as_dict() for row in table])
        write_json(given.json, msgspec.json.format(msgspec.json.encode(values), indent=2) + b"\n")
    violations = [
        f"under {label}: {line}"
        for label, result in zip(found.schemes, found.results)
        for line in result.notes.violations
    ]
    if violations:
        raise InvariantViolation("\n".join(violations))
    if found.difference is not None or (found.failed and not given.allow_failure):
        _tell_refusal(found)
        return NO_COMPARISON_STATUS
    if not given.quiet:
        print("\n".join(wrapped(head(found), sys.stdout)))
        print_table(table, found.schemes)
    return 0


def _tell(line: str, said: list[str]) -> None:
    """A line of ours on standard error, and below it what the programs wrote."""
    try:
        print("\n".join([f"rmapbox: {line}", *said]), file=sys.stderr, flush=True)
    except OSError:
        pass  # nobody reads it any more; the exit status still tells


def _tell_refusal(found: Comparison) -> None:
    """Why there is no table: the program failed, or the guests saw different things, or both."""
    from sandbox.lab.failure import how_they_failed, what_they_said

    how, said = how_they_failed(found.schemes, found.results), what_they_said(found.schemes, found.results)
    program = " ".join(found.argv)
    if not how:
        line = found.difference or ""
    elif found.difference is None:
        line = (
            f"{program}: the program failed: {how}: nothing is compared; --allow-failure compares a program that "
            f"is meant to fail"
        )
    else:
        line = f"{program}: the program failed: {how}; {found.difference}"
    _tell(line, said)


def split_compare(words: list[str], options: Mapping[str, bool]) -> Words:
    """`words` sorted by owner, as `split` does; where no --rmap stands in front, the first one behind PROGRAM begins
    rmapbox's options again.

    Raises `ConfigError`.
    """
    found = split(words, options)
    if any(word.partition("=")[0] == "--rmap" for word in found.own):
        return found
    ours = words[: words.index("--")] if "--" in words else words
    at = next((number for number, word in enumerate(ours) if word.partition("=")[0] == "--rmap"), None)
    if at is None:
        return found
    front = split(words[:at], options)
    return Words(front.own + split_tail(words[at:], options), front.program, front.arguments)


def _contenders(given: Namespace) -> list[Contender]:
    """The schemes of --rmap, each with its whole configuration. Raises `ConfigError` and `PluginError`."""
    from sandbox.configfile import build_config
    from sandbox.lab.compare import Contender
    from sandbox.schemes.registry import load_scheme
    from sandbox.schemes.spec import parse_spec, with_options

    texts = [text.strip() for word in given.schemes or () for text in word.split(",")]
    if len(texts) < 2:
        raise ConfigError(
            "compare takes two schemes or more: --rmap NAME,NAME, as in --rmap pte_chain,anon_vma (`rmapbox schemes` "
            "lists them)"
        )
    specs = [parse_spec(text) for text in texts]
    overrides, names = overrides_of(given)
    contenders: list[Contender] = []
    for text, (scheme, options) in zip(texts, specs):
        config = build_config(
            given.config, {**overrides, "scheme": scheme}, {**names, "scheme": "--rmap"}, [name for name, _ in specs]
        )
        defaults = {key: default for key, (default, _) in load_scheme(scheme).card.options.items()}
        with_options(config, text, options)
        for label, other in contenders:
            if other.scheme == scheme and {**defaults, **other.scheme_options} == {**defaults, **config.scheme_options}:
                raise ConfigError(
                    f"--rmap: {text} is the same as {label}: name each scheme once, or with options that differ, as "
                    f"in NAME:key=value"
                )
        if config.clock != "virtual":
            raise ConfigError("compare needs --clock virtual: a run that follows the host's clock does not repeat")
        contenders.append(Contender(text, config))
    short = [_short(text) for text in texts]
    return [
        Contender(name if short.count(name) == 1 else text, config) for name, (text, config) in zip(short, contenders)
    ]


def _short(text: str) -> str:
    """The scheme as typed, without the directories of a file."""
    path, colon, rest = text.partition(":")
    return os.path.basename(path) + colon + rest


def _standard_input(config: Config) -> str | bytes:
    """What every run gets: the file of --stdin, else the command's own standard input, read whole once; empty when that
    is a terminal."""
    if config.stdin is not None:
        if stat.S_ISREG(os.stat(config.stdin).st_mode):
            return config.stdin
        with open(config.stdin, "rb") as file:
            return file.read()
    if os.isatty(0):
        return b""
    if not select.select([0], [], [], PATIENCE_S)[0]:
        print(
            "rmapbox: reading the standard input, which every run gets whole; `</dev/null` or --stdin FILE does "
            "without",
            file=sys.stderr,
            flush=True,
        )
    return b"".join(iter(lambda: os.read(0, 1 << 20), b""))


class _Progress:
    """A bar over all runs, and a line per run that is under way."""

    def __init__(self, bars: Progress, runs: int) -> None:
        self._bars = bars
        self._all = bars.add_task("runs", total=runs, text="")
        self._lines: dict[str, TaskID] = {}

    def status(self, label: str, line: str) -> None:
        if label not in self._lines:
            self._lines[label] = self._bars.add_task(label, total=None, text="")
        self._bars.update(self._lines[label], text=line)

    def done(self, label: str) -> None:
        if label in self._lines:
            self._bars.remove_task(self._lines.pop(label))
        self._bars.advance(self._all)


@contextmanager
def _progress(runs: int, terminal: bool) -> Iterator[_Progress | None]:
    """Bars on standard error while the runs last, when that is a terminal."""
    if not terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from sandbox.lab.console import TableConsole

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=TableConsole(stderr=True), transient=True) as bars:
        yield _Progress(bars, runs)
