"""`rmapbox run`: one program, one machine, one result."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from mmcore.errors import ConfigError, InvariantViolation
from sandbox.cli.arguments import Parser, split

if TYPE_CHECKING:
    from argparse import Namespace

    from sandbox.result import Result

_OPTION = {"mounts": "--mount"}


def _environment(pairs: list[str]) -> dict[str, str]:
    environment = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"--env {pair!r} is not K=V: write a name, '=' and a value, as in LC_ALL=C")
        environment[name] = value
    return environment


def make_parser() -> Parser:
    """rmapbox's own options of `run`."""
    parser = Parser(
        prog="rmapbox run",
        usage="rmapbox run [OPTIONS] PROGRAM [ARG]...",
        description="Run PROGRAM: an i386 ELF file, a C file, or the name of a bundled program (`rmapbox programs`).",
        epilog="Options stand before PROGRAM or right after it; everything after the first other word is the "
        "program's, and\n"
        "-- says so at once. Exit status: the program's (128 + signal when killed); 124 at the time limit, 130 after\n"
        "Ctrl-C, 2 for rmapbox's own errors.",
    )
    parser.add_argument(
        "--rmap",
        dest="scheme",
        metavar="NAME[:key=value]",
        help="reverse-mapping scheme with its options, or path/to/file.py:Class",
    )
    parser.add_argument(
        "--picture",
        dest="pictures",
        metavar="PID:ADDRESS[@peak]",
        action="append",
        default=[],
        help="draw what leads from this page to its PTEs: just before the process gives its memory up (exit, or exec; "
        "the last time counts), or @peak: when least low memory is free; may be repeated. The program is process 2",
    )
    add_options(parser)
    return parser


def add_options(parser: Parser) -> None:
    """The options that `run` and `compare` have in common: all but the scheme."""
    add = parser.add_argument
    add("--config", metavar="FILE", help="settings; default: rmapbox.toml in the working directory, if there")
    add("--memory", metavar="SIZE", help="RAM, as in 64M")
    add("--swap", metavar="SIZE", help="swap, as in 128M; areas with priorities as in 64M:5,128M")
    add(
        "--smp",
        action="store_true",
        default=None,
        help="sizes of structures as in an SMP kernel; there is one processor either way",
    )
    add(
        "--accounting",
        metavar="isolated|historic",
        help="sizes of structures: 2.6.7's and the scheme's own (default), or of the release that shipped it",
    )
    add("--paging", metavar="pae|2level", help="page-table format")
    add(
        "--mount",
        dest="mounts",
        metavar="HOST:GUEST[:ro|rw]",
        action="append",
        help="show a host file or directory to the guest",
    )
    add("--env", metavar="K=V", action="append", help="set a variable of the guest's environment")
    add("--stdin", metavar="FILE", help="the guest's standard input")
    add("--seed", metavar="N", help="randomise the address space, from this seed")
    add(
        "--clock",
        metavar="virtual|host",
        help="host: the guest's clocks follow wall time, and the disk takes none (for benchmarks)",
    )
    add("--time-limit", metavar="SECONDS", help="stop after so much wall time, with exit status 124")
    add("--audit", metavar="off|end|full", help="compare all bookkeeping with the page tables")
    add("--pressure", action="store_true", help="size RAM to a share of what the program touches")
    add("--json", metavar="FILE", help="write the whole result")
    add("--quiet", action="store_true", help="no status line, no summary")


def overrides_of(given: Namespace) -> tuple[dict[str, Any], dict[str, str]]:
    """What the command line sets, but for the scheme: (fields of `Config`, field -> the option's name)."""
    overrides: dict[str, Any] = {}
    names: dict[str, str] = {}
    for field in ("memory", "swap", "paging", "smp", "accounting", "clock", "audit", "stdin", "mounts"):
        value = getattr(given, field)
        if value is not None:
            overrides[field], names[field] = value, _OPTION.get(field, f"--{field}")
    for field, number in (("seed", int), ("time_limit", float)):
        value = getattr(given, field)
        if value is not None:
            overrides[field], names[field] = _number(value, number), "--" + field.replace("_", "-")
    if given.env:
        overrides["env"], names["env"] = _environment(given.env), "--env"
    return overrides, names


def check_given(given: Namespace) -> None:
    """Raises `ConfigError` for options that exclude each other, and for a `--json` that could not be written."""
    if given.pressure and given.memory is not None:
        raise ConfigError("--pressure and --memory exclude each other: --pressure finds the size itself")
    if given.json is not None:
        _check_writable(given.json)


def write_json(path: str, data: bytes) -> None:
    """The file of `--json`. Raises `ConfigError`."""
    try:
        with _opened(path) as file:
            file.write(data)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"--json {path}: {reason}: the result is not written; give another place") from None


def _opened(path: str) -> BinaryIO:
    """A file to write anew; what is one of our own descriptors already (/dev/stdout, the file standard output goes to)
    is written on."""
    sys.stdout.flush()
    numbered = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", path)
    for fd in (int(numbered[1]),) if numbered else (1, 2):
        if numbered or (os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(fd))):
            return open(os.dup(fd), "wb")
    return open(path, "wb")


def main(words: list[str]) -> int:
    """Runs a program; the summary goes to stderr, the guest's output passes through."""
    from sandbox.configfile import build_config
    from sandbox.picturing import parse_request
    from sandbox.schemes.spec import parse_spec, with_options

    parser = make_parser()
    own, program, arguments = split(words, parser.own_options())
    given = parser.parse_args(own)
    if program is None:
        parser.error("PROGRAM is missing: give an i386 ELF file, a C file, or a bundled program's name")
    overrides, names = overrides_of(given)
    options: dict[str, str] = {}
    if given.scheme is not None:
        overrides["scheme"], options = parse_spec(given.scheme)
        names["scheme"] = "--rmap"
    settings = with_options(build_config(given.config, overrides, names), given.scheme, options)
    check_given(given)
    for text in given.pictures:
        parse_request(text)
    if not given.quiet:
        tell_strays(words, program, arguments, parser.own_options(), "stand before them")

    from sandbox.machine import Machine
    from sandbox.status import can_rewrite

    argv = [program, *arguments]
    terminal = not given.quiet and can_rewrite(sys.stderr)
    if given.pressure:
        from sandbox.pressure import run_under_pressure

        result = run_under_pressure(settings, argv, status=sys.stderr if terminal else None, pictures=given.pictures)
    else:
        result = Machine(settings).run(argv, status=sys.stderr if terminal else None, pictures=given.pictures)
    try:
        if given.json is not None:
            write_json(given.json, result.to_json())
    finally:
        _report(result, given.quiet)
    if result.notes.violations:
        from sandbox.schemes.blame import foreign
        from sandbox.schemes.registry import load_scheme

        where = f"under scheme {settings.scheme!r}: " if foreign(load_scheme(settings.scheme)) else ""
        raise InvariantViolation(where + "\n".join(result.notes.violations))
    return result.exit_status


def tell_strays(words: list[str], program: str, arguments: list[str], options: dict[str, bool], where: str) -> None:
    """A word of ours among the program's arguments is the program's, and most often was not meant to be. `where` ours
    stand."""
    stray = next((word for word in arguments if word.startswith("--") and word.partition("=")[0] in options), None)
    if stray is not None and "--" not in words:
        print(
            f"rmapbox: {stray} goes to {program}, for it stands behind its arguments: rmapbox's own options {where} "
            "(with -- before the arguments nothing is said)",
            file=sys.stderr,
            flush=True,
        )


def _number(text: str, kind: type[int] | type[float]) -> int | float | str:
    """`text` as a number, or as it is: `Config` says then what is wrong with it."""
    try:
        return kind(text)
    except ValueError:
        return text


def _check_writable(path: str) -> None:
    """Fails before the run, not after it, when the result cannot be written."""
    from sandbox.hostlimits import deleted_directory

    gone = deleted_directory(path)
    if gone:
        raise ConfigError(f"--json {path}: {gone}")
    directory = os.path.dirname(path) or "."
    if os.path.isdir(path) or not os.access(path if os.path.exists(path) else directory, os.W_OK):
        raise ConfigError(f"--json {path}: cannot write there: give a file in a directory that exists and is writable")


def _report(result: Result, quiet: bool) -> None:
    from sandbox.lab.console import wrapped
    from sandbox.lab.crash import crash_report, more_crashes
    from sandbox.lab.picture import shown
    from sandbox.lab.summary import summary

    lines: list[str] = []
    if not quiet:
        lines += [crash_report(crash) for crash in result.notes.crashes]
        lines += more_crashes(result.notes.more_crashes)
        lines += wrapped(summary(result).splitlines(), sys.stderr)
    lines += [shown(page, sys.stderr.encoding) for page in result.notes.pictures]  # asked for, so told with --quiet too
    if not lines:
        return
    try:
        print("\n".join(lines), file=sys.stderr, flush=True)
    except OSError:
        pass  # stderr is gone; the status and the file still tell
