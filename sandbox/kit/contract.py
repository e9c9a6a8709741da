"""What can be said of a scheme before it runs: its card, its setup, its options, hooks that are none."""

from __future__ import annotations

import difflib
import inspect
import itertools
from collections.abc import Iterator
from typing import Any

from mmcore.errors import PluginError
from mmcore.memory import Memory, MemoryConfig, configure
from mmcore.rmap.scheme import Card, MachineFacts, RmapScheme, ScanScheme, WalkScheme

_MOST = 256  # bytes a scheme adds to one structure; the largest of history are below 64


def points(kind: type[RmapScheme], options: dict[str, Any]) -> Iterator[str]:
    """One text per point looked at, "" where all is well."""
    yield from _card(kind.card)
    yield from _setups(kind, options)
    yield from _hooks(kind)
    yield from _machines(kind, options)


def _card(card: Card) -> Iterator[str]:
    for name in ("name", "title", "kernels", "origin", "complexity"):
        value = getattr(card, name)
        yield "" if isinstance(value, str) and value.strip() else f"card: {name} = {value!r} must be a text"
    for row in card.structures:
        fits = isinstance(row, tuple) and len(row) == 3 and all(isinstance(text, str) for text in row)
        yield "" if fits else f"card: the structure {row!r} must be (name, bytes, remark), all texts"
    for name, option in card.options.items():
        fits = isinstance(option, tuple) and len(option) == 2 and isinstance(option[1], str)
        yield "" if fits else f"card: the option {name} must be (default, meaning)"


def _setups(kind: type[RmapScheme], options: dict[str, Any]) -> Iterator[str]:
    facts = itertools.product(("pae", "2level"), (False, True), (32, 64, 128), ("isolated", "historic"))
    given = (options, {name: row[0] for name, row in kind.card.options.items()} | options)
    for machine, chosen in itertools.product(itertools.starmap(MachineFacts, facts), given):
        try:
            setup = configure(kind, machine, chosen)
        except PluginError as error:
            yield str(error)
            continue
        sizes = {name: getattr(setup, name) for name in ("page", "vma", "mm", "address_space")}
        bad = {name: size for name, size in sizes.items() if size > _MOST}
        yield f"configure({machine}): {bad} must be bytes, from 0 to {_MOST}" if bad else ""
        same = kind.configure(machine, chosen) == setup
        yield "" if same else f"configure({machine}) answers differently when it is asked again"


def _face(kind: type[RmapScheme]) -> type[RmapScheme]:
    """The class of the contract that the scheme derives from."""
    return WalkScheme if issubclass(kind, WalkScheme) else ScanScheme


def _hooks(kind: type[RmapScheme]) -> Iterator[str]:
    """A method named almost like a hook is one that nobody calls."""
    hooks = [name for name, _ in inspect.getmembers(_face(kind), inspect.isroutine) if not name.startswith("_")]
    for name, member in inspect.getmembers(kind, inspect.isfunction):
        if name.startswith("_") or name in hooks or member.__module__.startswith("mmcore."):
            continue
        close = difflib.get_close_matches(name, hooks, 1, 0.88)
        yield (
            f"the method {name} is no hook, and so is never called: did you mean {close[0]}? (a helper's name may "
            f"start with _)"
            if close
            else ""
        )


def _machines(kind: type[RmapScheme], options: dict[str, Any]) -> Iterator[str]:
    """It boots on every machine, and nothing is taken before the first area."""
    for paging, smp, accounting in itertools.product(("pae", "2level"), (False, True), ("isolated", "historic")):
        config = MemoryConfig(
            memory_bytes=8 << 20,
            swap_bytes=8 << 20,
            paging=paging,
            smp=smp,
            accounting=accounting,
            scheme_options=options,
        )
        try:
            mem = Memory(config, kind)
        except PluginError as error:
            yield f"does not boot ({paging}, smp {smp}, {accounting}): {error}"
            continue
        wrong = mem.scheme.check()
        yield f"check() on a fresh machine answers {wrong!r}" if wrong != [] else ""
        taken = [cache.name for cache in mem.scheme.env.scheme_caches if cache.objects > 1]
        yield f"a fresh machine holds objects of {', '.join(taken)}" if taken else ""
