"""The command `rmapbox`: its subcommands, and the one place where errors become a line and an exit status.

Exit status: the guest's own for `run` (128 + signal when killed), 124 at the time limit, 130 after Ctrl-C, 2 for every
error of the tool itself. No error shows a traceback: the user's are one line with the remedy, ours are one line with the
name of the file that holds the details.
"""

from __future__ import annotations

import os
import sys
import tempfile

import typer

from mmcore.errors import ConfigError, InvariantViolation, PluginError
from sandbox.cli.arguments import arrange
from sandbox.cli.doctor import doctor
from sandbox.cli.lowmem import lowmem
from sandbox.cli.programs import programs
from sandbox.cli.run import run
from sandbox.cli.schemes import schemes

ERROR_STATUS = 2
INTERRUPT_STATUS = 130

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
ClickException: type[Exception] = UsageError.__bases__[0]
"""Typer bundles click in some releases and imports it in others; its own exception leads to the right base in both."""

app = typer.Typer(
    name="rmapbox",
    help="Run i386 Linux programs over a re-created 2.6 memory management with a pluggable reverse-mapping scheme.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command(
    context_settings={"allow_interspersed_args": False},
    epilog="Everything after PROGRAM goes to the program. Its exit status is the command's (128 + signal when killed); "
           "124 at the time limit, 130 after Ctrl-C, 2 for rmapbox's own errors.",
)(run)
app.command()(lowmem)
app.command()(schemes)
app.command()(programs)
app.command()(doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"rmapbox {version('rmapbox')}")
        except PackageNotFoundError:
            print("rmapbox (not installed)")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version and exit."),
) -> None:
    pass


def _run_options() -> dict[str, bool]:
    """Each option of `run`, and whether it takes a value."""
    command = typer.main.get_command(app).commands["run"]
    options = {name: not param.is_flag for param in command.params if param.param_type_name == "option" for name in param.opts}
    return {**options, "--help": False}


def complain(text: str) -> None:
    """One line on stderr, whatever the message holds."""
    line = "; ".join(part.strip() for part in text.splitlines() if part.strip())
    try:
        print(f"rmapbox: {line}", file=sys.stderr, flush=True)
    except OSError:
        pass  # nobody reads stderr any more; the exit status still says it


def _write_details(error: BaseException) -> str:
    """Write the traceback of `error` into a new file and return its path ("" when even that fails)."""
    import traceback

    try:
        handle, path = tempfile.mkstemp(prefix="rmapbox-", suffix=".txt")
        with os.fdopen(handle, "w", errors="backslashreplace") as file:
            traceback.print_exception(error, file=file)
        return path
    except OSError:
        return ""


def _own_fault(what: str, error: BaseException) -> int:
    path = _write_details(error)
    complain(f"{what}: {str(error) or type(error).__name__}; "
             + (f"please report it with {path}" if path else "details could not be written"))
    return ERROR_STATUS


def command(arguments: list[str] | None = None) -> int:
    """Run the command line `arguments` (default: the process's own) and return its exit status."""
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        if not words:
            words = ["--help"]
        if words[0] == "run":
            words[1:] = arrange(words[1:], _run_options())
        status = app(args=words, prog_name="rmapbox", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except UsageError as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "rmapbox"
        complain(f"{error.format_message().rstrip('.')}; see `{path} --help`")
    except (ClickException, ConfigError, PluginError) as error:
        complain(getattr(error, "message", "") or str(error))
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted")
        return INTERRUPT_STATUS
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains once more when it closes stdout
    except InvariantViolation as error:
        return _own_fault("the emulated kernel contradicts itself", error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        if where:
            complain(f"{where}{(error.strerror or str(error)).lower()}")
        else:
            return _own_fault("internal error", error)
    except Exception as error:  # the last guard: a user never sees a traceback
        return _own_fault("internal error", error)
    return ERROR_STATUS


def main() -> None:
    """Entry point of the console script."""
    sys.exit(command())


if __name__ == "__main__":
    main()
