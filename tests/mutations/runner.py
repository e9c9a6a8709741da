"""Deliberate faults in a scheme's source, and whether the kit notices.

A mutant is a piece of Python and its replacement; the changed source is compiled as a module of its own, in memory, and
the scheme in it is held to the kit's quick checks until one fails. The tables lie beside this file, one per scheme:
`MUTANTS`, and `SURVIVORS` with the reason why nothing can notice. A table may have `counts(kind, options)`, which
raises AssertionError where a fault makes nothing wrong and only costs: it alone is asked of mutants with `costs`.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import linecache
import signal
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mmcore.rmap.scheme import RmapScheme
from sandbox.kit.replay import Failure, failure_of
from sandbox.kit.suite import quick
from tests.mutations.fragments import replaced

_numbers = itertools.count()
_CPU_SECONDS = 40.0  # of one mutant; all checks of a scheme that works take a fifth of it


@dataclass(frozen=True)
class Mutant:
    """`old`, a piece of Python, stands exactly once in the scheme's file, or in its definition `at`, however it is laid
    out there (`fragments.py`), and becomes `new`. `options`: those the fault needs to show. `costs`: nothing becomes
    wrong, the scheme does more than it has to, and its table's `counts` has to notice."""

    name: str
    old: str
    new: str
    options: tuple[tuple[str, object], ...] = ()
    costs: bool = False
    at: str = ""

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


@cache
def source_of(module: str) -> tuple[str, Path]:
    spec = importlib.util.find_spec(module)  # type: ignore[attr-defined]
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin)
    return path.read_text(), path


def mutated(module: str, mutant: Mutant) -> type[RmapScheme]:
    """The scheme of `module` (a dotted name) with the fault in it."""
    text, path = source_of(module)
    changed = replaced(text, mutant.old, mutant.new, mutant.at)
    name = f"mutant_{next(_numbers)}_{path.stem}"
    made = types.ModuleType(name)
    made.__file__ = f"<{name}>"
    sys.modules[name] = made  # dataclasses look their module up
    linecache.cache[made.__file__] = (len(changed), None, changed.splitlines(True), made.__file__)
    exec(compile(changed, made.__file__, "exec"), made.__dict__)
    found = [
        c for c in vars(made).values() if inspect.isclass(c) and issubclass(c, RmapScheme) and c.__module__ == name
    ]
    # The last one: a file may build its scheme from classes above it.
    return found[-1]


def killed(module: str, mutant: Mutant, counts: Callable[[type, dict[str, Any]], None] | None = None) -> Failure | None:
    """What the kit says of the mutant, or `counts` if it only costs; None: it survives. A mutant that loops is ended,
    and the kit's children would be too."""
    kind, options = mutated(module, mutant), dict(mutant.options)

    def too_long(signum: int, frame: Any) -> None:
        raise TimeoutError("does not end")

    old = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, _CPU_SECONDS)
    try:
        if counts is None or not mutant.costs:
            return quick(kind, options)
        counts(kind, options)
        return None
    except (AssertionError, TimeoutError) as error:
        return failure_of(error, kind)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)
