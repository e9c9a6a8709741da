"""`rmapbox run`: one program, one machine, one result."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from mmcore.errors import ConfigError

TIME_LIMIT_STATUS = 124
INTERRUPT_STATUS = 130


def _environment(pairs: list[str]) -> dict[str, str]:
    environment = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"--env {pair!r} is not K=V: write a name, '=' and a value, as in LC_ALL=C")
        environment[name] = value
    return environment


def run(
    program: Annotated[str, typer.Argument(metavar="PROGRAM", help="An i386 ELF file, a C file, or a bundled program.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARG", help="Everything after PROGRAM is the program's.")] = None,
    rmap: Annotated[str | None, typer.Option("--rmap", metavar="NAME", help="Scheme, or path/to/file.py:Class.")] = None,
    config: Annotated[str | None, typer.Option("--config", metavar="FILE", help="Default: ./rmapbox.toml.")] = None,
    memory: Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="RAM, as in 64M.")] = None,
    swap: Annotated[str | None, typer.Option("--swap", metavar="SIZE", help="Swap, as in 128M.")] = None,
    paging: Annotated[str | None, typer.Option("--paging", metavar="pae|2level", help="Page-table format.")] = None,
    mount: Annotated[list[str] | None, typer.Option(
        "--mount", metavar="HOST:GUEST[:ro|rw]", help="Show a host file or directory to the guest.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", metavar="K=V", help="Set an environment variable.")] = None,
    stdin: Annotated[str | None, typer.Option("--stdin", metavar="FILE", help="The guest's standard input.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Randomise addresses, from this seed.")] = None,
    clock: Annotated[str | None, typer.Option(
        "--clock", metavar="virtual|host", help="host: the guest's clocks follow wall time.")] = None,
    time_limit: Annotated[str | None, typer.Option("--time-limit", metavar="SECONDS", help="Wall time, then 124.")] = None,
    audit: Annotated[str | None, typer.Option("--audit", metavar="off|end|full", help="Check all state.")] = None,
    pressure: Annotated[bool, typer.Option("--pressure", help="Size RAM to a share of what the program touches.")] = False,
    json: Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write the whole result.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No status line, no summary.")] = False,
) -> int:
    """Run PROGRAM in the sandbox; the summary goes to stderr, the guest's output passes through."""
    from sandbox.configfile import build_config

    overrides: dict[str, Any] = {}
    names: dict[str, str] = {}
    given = (("memory", memory), ("swap", swap), ("paging", paging), ("clock", clock), ("audit", audit), ("seed", seed),
             ("scheme", rmap), ("stdin", stdin), ("time_limit", _seconds(time_limit)))
    for field, value in given:
        if value is not None:
            overrides[field] = value
            names[field] = "--" + ("rmap" if field == "scheme" else field.replace("_", "-"))
    if mount:
        overrides["mounts"], names["mounts"] = tuple(mount), "--mount"
    if env:
        overrides["env"], names["env"] = _environment(env), "--env"
    settings = build_config(config, overrides, names)
    if pressure and memory is not None:
        raise ConfigError("--pressure and --memory exclude each other: --pressure finds the size itself")
    if json is not None:
        _check_writable(json)

    from sandbox.machine import Machine

    argv = [program, *(arguments or [])]
    terminal = not quiet and sys.stderr.isatty()
    if pressure:
        from sandbox.pressure import run_under_pressure

        result = run_under_pressure(settings, argv, status=sys.stderr if terminal else None)
    else:
        result = Machine(settings).run(argv, status=sys.stderr if terminal else None)
    if json is not None:
        with open(json, "wb") as file:
            file.write(result.to_json())
    _report(result, quiet)
    return {"time_limit": TIME_LIMIT_STATUS, "interrupted": INTERRUPT_STATUS}.get(result.ended, result.exit_status)


def _seconds(text: str | None) -> float | str | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text  # Config says what a time limit is


def _check_writable(path: str) -> None:
    """Fail before the run, not after it, when the result cannot be written."""
    directory = os.path.dirname(path) or "."
    if os.path.isdir(path) or not os.access(path if os.path.exists(path) else directory, os.W_OK):
        raise ConfigError(f"--json {path}: cannot write there: give a file in a directory that exists and is writable")


def _report(result, quiet: bool) -> None:
    from sandbox.lab.crash import crash_report
    from sandbox.lab.summary import summary

    if quiet:
        return
    lines = [crash_report(crash) for crash in result.notes.crashes]
    lines.append(summary(result))
    try:
        print("\n".join(lines), file=sys.stderr, flush=True)
    except OSError:
        pass  # stderr is gone; the status and the file still tell
