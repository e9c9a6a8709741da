"""The command `rmapbox`: its subcommands, and the one place where errors become a line and an exit status.

Exit status: the guest's own for `run` (128 + signal when killed), 1 from `compare` when the guests saw different things
or the program failed, 124 at the time limit, 130 after Ctrl-C, 141 when nobody reads the output any more, 2 for every
error of the tool itself. No error shows a traceback: the user's are one line with the remedy, ours are one line with
the name of the file that holds the details.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from importlib import import_module
from types import FrameType

from sandbox.hostsignals import handle_interrupt

ERROR_STATUS = 2
INTERRUPT_STATUS = 130
PIPE_STATUS = 128 + signal.SIGPIPE  # what a shell shows of any other program in `... | head`
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

COMMANDS = {
    "run": "run a program in the sandbox",
    "compare": "run a program under several schemes, prove it saw the same, and print what each cost",
    "lowmem": "print the low-memory table of one or more results, side by side",
    "schemes": "list the reverse-mapping schemes; `new` and `check`: write one, hold one to the contract",
    "programs": "list the bundled guest programs with their cards",
    "doctor": "say what this host can do, and which command fixes what is missing",
}
"""Each a module of `sandbox.cli` with `main(words) -> exit status`, imported when it is asked for."""


_MACHINES = ("run", "compare", "schemes")


def usage() -> str:
    """What `rmapbox --help` prints."""
    lines = [
        "usage: rmapbox COMMAND [OPTIONS] ...",
        "",
        "Run i386 Linux programs over a re-created 2.6 memory management with a pluggable reverse-mapping scheme.",
        "",
    ]
    lines += [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    return "\n".join([*lines, "", "`rmapbox COMMAND --help` tells more; `rmapbox --version` the version."])


def version() -> str:
    """The installed release."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"rmapbox {version('rmapbox')}"
    except PackageNotFoundError:
        return "rmapbox, not installed"


def dispatch(words: list[str]) -> int:
    """Runs the command line `words`; its exit status. Raises what goes wrong."""
    from mmcore.errors import ConfigError

    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else ERROR_STATUS
    if words[0] == "--version":
        print(version())
        return 0
    if words[0] not in COMMANDS:
        from sandbox.configfile import nearest

        raise ConfigError(f"no such command {words[0]!r}: {nearest(words[0], COMMANDS)}")
    if words[0] in _MACHINES:
        from sandbox.hostlimits import check_address_space

        check_address_space()  # before numpy is loaded, whose libraries end the process by themselves, too
    return import_module(f"sandbox.cli.{words[0]}").main(words[1:])


def complain(text: str) -> None:
    """One line on stderr, whatever the message holds."""
    line = "; ".join(part.strip() for part in text.splitlines() if part.strip())
    try:
        print(f"rmapbox: {line}", file=sys.stderr, flush=True)
    except OSError:
        pass  # nobody reads stderr any more; the exit status still says it


def _write_details(error: BaseException) -> str:
    """Writes the traceback of `error` into a new file and returns its path ("" when even that fails)."""
    import tempfile
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
    first = "; ".join(
        (str(error) or type(error).__name__).splitlines()[:2]
    )  # the second names the first thing that is wrong
    remedy = (
        f"if the scheme is yours, mend it there; else please report it with {path}"
        if "scheme" in first
        else f"please report it with {path}"
    )
    complain(f"{what}: {first}; " + (remedy if path else "its details could not be written"))
    return ERROR_STATUS


def _forget_stdout() -> None:
    """What is still in its buffer is lost; else the interpreter would complain once more when it closes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def command(words: list[str] | None = None) -> int:
    """Runs the command line `words` (default: the process's own) and returns its exit status. Never raises."""
    from mmcore.errors import ConfigError, InvariantViolation, PluginError

    try:
        status = dispatch(list(sys.argv[1:] if words is None else words))
        sys.stdout.flush()
        return status
    except SystemExit as stop:  # argparse, after it has printed --help
        return stop.code if isinstance(stop.code, int) else 0
    except (ConfigError, PluginError) as error:
        complain(str(error))
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPT_STATUS
    except BrokenPipeError:
        _forget_stdout()
        return PIPE_STATUS
    except InvariantViolation as error:
        return _own_fault("the emulated kernel contradicts itself", error)
    except (MemoryError, RuntimeError, OSError) as error:
        return _worlds_error(error)
    except Exception as error:  # the last guard: a user never sees a traceback
        return _own_fault("internal error", error)
    return ERROR_STATUS


def _worlds_error(error: MemoryError | RuntimeError | OSError) -> int:
    """The host lacks something, or refuses a file; else it is an internal error after all."""
    from sandbox.hostlimits import shortage

    lacking = shortage(error)
    if lacking is not None:
        complain(lacking)
    elif not isinstance(error, OSError):
        return _own_fault("internal error", error)
    else:
        if not error.filename and error.errno in _FULL:
            _forget_stdout()
            complain(
                f"the output cannot be written: {(error.strerror or str(error)).lower()}: make room, or let it go "
                f"elsewhere"
            )
            return ERROR_STATUS
        if not error.filename:
            return _own_fault("internal error", error)
        complain(f"{error.filename}: {(error.strerror or str(error)).lower()}")
    return ERROR_STATUS


def _open_standard_descriptors() -> None:
    """A command started with 0, 1 or 2 closed gets the null device there, as a shell's `>/dev/null`: nothing else must
    land there."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            setattr(sys, name, open(fd, mode, closefd=False))


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C while no guest runs (then the kernel's loop has a handler of its own): at once, for an exception in the
    middle of an import of C code comes out as anything."""
    complain("interrupted")
    os._exit(INTERRUPT_STATUS)


def main() -> None:
    """Entry point of the console script.

    The cyclic garbage collector looks at every object again and again while hundreds of modules are imported and a
    machine is built; nothing of that is garbage. Afterwards it runs, but rarely.
    """
    handle_interrupt(_leave)
    gc.set_threshold(100_000, 50, 100)
    _open_standard_descriptors()
    sys.exit(command())


if __name__ == "__main__":
    main()
