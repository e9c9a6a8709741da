"""A run of the kit is a list of operations: doing it again, telling what went wrong, and finding the few operations
that matter.

Every operation takes small integers modulo what there is, so any part of a run is a run; `shrink` may leave out what
it likes.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmcore.errors import InvariantViolation, MustWait, PluginError
from sandbox.kit.watch import watched
from sandbox.kit.world import Step, World
from sandbox.schemes.registry import load_scheme

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmcore.rmap import RmapScheme

SPARE = {"ample": None, "scarce": 200}
"""Free frames the machine starts with."""


@dataclass(frozen=True)
class Cell:
    """A machine for a run. `watch`: each hook call is held to the contract; `look`: at the end every page goes and
    is read again; `leave`: the run ends with the exit of all, and nothing may be left but `at_hand` objects in each
    of the scheme's caches."""

    paging: str = "pae"
    memory: str = "ample"
    watch: bool = False
    look: bool = True
    leave: bool = True
    at_hand: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.paging}, {self.memory} memory"


@dataclass(frozen=True)
class Failure:
    """What went wrong. `kind` is equal for failures that look alike (numbers aside); `text` is one line; `steps`
    the run until then."""

    kind: tuple[str, str]
    text: str
    steps: tuple[Step, ...] = ()
    cell: Cell = Cell()


def boot(kind: type[RmapScheme], cell: Cell) -> World:
    """A world on a machine of this cell."""
    world = World(watched(kind, cell.options) if cell.watch else kind, cell.paging, SPARE[cell.memory], **cell.options)
    world.at_hand = cell.at_hand
    return world


def replay(
    kind: type[RmapScheme], cell: Cell, steps: Sequence[Step], tell: Callable[[str], object] | None = None
) -> Failure | None:
    """Does the operations on a new machine; the failure, if there is one. `tell` is called with each operation in
    words."""
    world: World | None = None
    try:
        world = boot(kind, cell)
        for name, arguments, options in steps:
            before = len(world.trace)
            try:
                world.step(name, *arguments, **options)
            finally:
                if tell is not None:
                    for line in world.trace[before:]:
                        tell(line)
        if cell.look:
            world.last_look()
        if cell.leave:
            world.leave()
    except (Exception, RecursionError) as error:
        return failure_of(error, kind, world.history if world is not None else (), cell)
    return None


def failure_of(error: BaseException, kind: type, steps: Sequence[Step] = (), cell: Cell = Cell()) -> Failure:
    """The failure that an exception stands for. Never raises."""
    lines = [line.strip() for line in (str(error) or type(error).__name__).splitlines() if line.strip()]
    telling = lines[1] if len(lines) > 1 and lines[0].startswith("audit") else lines[0]
    place = scheme_place(error, kind)
    text = (
        telling
        if isinstance(error, (AssertionError, PluginError)) or len(lines) > 1
        else f"{type(error).__name__}: {telling}"
    )
    if isinstance(error, MustWait):
        text = "the operation waits for a page that nothing will ever complete"
    if place and not isinstance(error, AssertionError):
        text = f"{place}: {text}"
    elif isinstance(error, AssertionError) and not str(error):
        text = f"{_own_place(error)}: an assertion of the comparison fails"
    skeleton = re.sub(r"0x[0-9a-f]+|\b[0-9a-f]*\d[0-9a-f]*\b", "N", telling.partition("(")[0].partition(": frame")[0])
    skeleton = re.sub(r"after .*?: ", "", skeleton, count=1)
    crashed = place and not isinstance(
        error, (AssertionError, InvariantViolation)
    )  # then where it did says more than what it said
    return Failure((type(error).__name__, place if crashed else skeleton[:60]), text, tuple(steps), cell)


def scheme_place(error: BaseException, kind: type[RmapScheme]) -> str:
    """file:line of the innermost frame in the scheme's own code, "" when the error did not pass through it."""
    modules = {
        base.__module__
        for base in kind.__mro__
        if base.__module__.partition(".")[0] not in ("builtins", "mmcore", "sandbox")
    }
    place = ""
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_globals.get("__name__", "") in modules:
            place = f"{os.path.basename(frame.f_code.co_filename)}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place


def _own_place(error: BaseException) -> str:
    place = "?"
    traceback = error.__traceback__
    while traceback is not None:
        place = f"{os.path.basename(traceback.tb_frame.f_code.co_filename)}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place


# --- the few operations that matter


def shrink(kind: type[RmapScheme], failure: Failure, seconds: float = 15.0) -> Failure:
    """The same kind of failure with as few operations as can be found in the time: delta debugging, then smaller
    numbers."""
    deadline = time.process_time() + seconds
    best = failure

    def fails(steps: Sequence[Step]) -> bool:
        nonlocal best
        again = replay(kind, failure.cell, steps)
        if again is None or again.kind != failure.kind or len(again.steps) > len(best.steps):
            return False
        # What stands after the operation that failed was never done.
        best = again
        return True

    if not fails(failure.steps):
        return failure
    piece = max(1, len(best.steps) // 2)
    while time.process_time() < deadline:
        at = 0
        shrunk = False
        while at < len(best.steps) and time.process_time() < deadline:
            if fails(best.steps[:at] + best.steps[at + piece :]):
                shrunk = True
            else:
                at += piece
        if piece == 1 and not shrunk:
            break
        piece = max(1, piece // 2)
    _smaller_numbers(best, fails, deadline)
    return best


def _smaller_numbers(start: Failure, fails: Callable[[Sequence[Step]], bool], deadline: float) -> None:
    """Zero for each number that need not be another, no failing allocation where none is needed."""
    steps = list(start.steps)
    for k, (name, arguments, options) in enumerate(steps):
        for i, value in enumerate(arguments):
            if value and time.process_time() < deadline:
                simpler = (name, (*steps[k][1][:i], 0, *steps[k][1][i + 1 :]), steps[k][2])
                if fails((*steps[:k], simpler, *steps[k + 1 :])):
                    steps[k] = simpler
        if options and fails((*steps[:k], (name, steps[k][1], {}), *steps[k + 1 :])):
            steps[k] = (name, steps[k][1], {})


# --- a script for the user

_SCRIPT = '''"""{text}

Found by `rmapbox schemes check {scheme}` ({cell}) and made small. `python {file}` does it again.
"""

from sandbox.kit.replay import Cell, again

STEPS = [
{steps}
]

if __name__ == "__main__":
    again({scheme!r}, {cell_source}, STEPS)
'''


def script(scheme: str, failure: Failure, file: str) -> str:
    """The text of a Python script that does a failing run again; `scheme` as the user named it."""
    steps = "\n".join(f"    ({name!r}, {arguments!r}, {options!r})," for name, arguments, options in failure.steps)
    text = failure.text.replace("\\", "\\\\").replace('"""', "'''")
    return _SCRIPT.format(
        text=text, scheme=scheme, cell=failure.cell, file=file, steps=steps, cell_source=_cell_source(failure.cell)
    )


def _cell_source(cell: Cell) -> str:
    default = Cell()
    given = {name: getattr(cell, name) for name in ("paging", "memory", "watch", "look", "leave", "at_hand", "options")}
    return f"Cell({', '.join(f'{name}={value!r}' for name, value in given.items() if value != getattr(default, name))})"


def write_script(scheme: str, failure: Failure, directory: Path) -> Path:
    """Puts the script beside the user; the name is the scheme's, with a number where that exists already."""
    stem = re.sub(r"\W+", "_", scheme.partition(".py")[0].rpartition("/")[2]) + "_fails"
    path = directory / f"{stem}.py"
    number = 1
    while path.exists():
        number += 1
        path = directory / f"{stem}_{number}.py"
    path.write_text(script(scheme, failure, path.name))
    return path


def again(scheme: str, cell: Cell, steps: Sequence[Step]) -> None:
    """What the script does: prints the operations and how they end; exit status 1 when the failure is still there."""
    kind = load_scheme(scheme)
    failure = replay(
        kind,
        replace(cell, options=dict(cell.options)),
        [(name, tuple(arguments), dict(options)) for name, arguments, options in steps],
        print,
    )
    print(f"FAILED {failure.text}" if failure is not None else "ok: nothing is wrong now")
    sys.exit(1 if failure is not None else 0)
