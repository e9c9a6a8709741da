"""Command lines: what is rmapbox's, what is the program's, and how a mistake is told.

`rmapbox run` takes its own options before PROGRAM or right after it (`rmapbox run fork_cow --pressure 512`). From the
first word after PROGRAM that is none of them, everything is the program's, untouched; `--` says so at once.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from mmcore.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `ConfigError`: one line, printed by whoever prints all the others."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")

    def own_options(self) -> dict[str, bool]:
        """Each option, and whether it takes a value."""
        return {name: action.nargs != 0 for action in self._actions for name in action.option_strings}


class Words(NamedTuple):
    """A command line of `run`: rmapbox's `own` words, the `program` (None when there is none), its `arguments`."""

    own: list[str]
    program: str | None
    arguments: list[str]


def split(words: list[str], options: Mapping[str, bool]) -> Words:
    """`words` of `run` sorted by owner. `options` maps each of rmapbox's options to whether it takes a value.

    Raises `ConfigError` for an unknown option before PROGRAM, and for a misspelt one right after it.
    """
    own: list[str] = []
    at = _take(words, 0, options, own)
    if at < len(words) and words[at] == "--":
        at += 1
        return Words(own, words[at], words[at + 1 :]) if at < len(words) else Words(own, None, [])
    if at == len(words):
        return Words(own, None, [])
    if words[at].startswith("-") and words[at] != "-":
        _misspelt(words[at], options, 0.0, "")
    program = words[at]
    at = _take(words, at + 1, options, own)
    if at < len(words):
        if words[at] == "--":
            at += 1
        elif words[at].startswith("--"):
            _misspelt(words[at], options, 0.75, f" (to pass it to {program}, write -- before it)")
    return Words(own, program, words[at:])


def split_tail(words: list[str], options: Mapping[str, bool]) -> list[str]:
    """`words`, all of which are to be rmapbox's own. Raises `ConfigError` at the first that is not."""
    own: list[str] = []
    at = _take(words, 0, options, own)
    if at < len(words):
        if words[at].startswith("-"):
            _misspelt(words[at], options, 0.0, "")
        raise ConfigError(
            f"{words[at]!r} stands among rmapbox's options and is none: the program's arguments come before them"
        )
    return own


def _misspelt(word: str, options: Mapping[str, bool], likeness: float, hint: str) -> None:
    """Raises `ConfigError` when `word` is like an option of ours by at least `likeness`."""
    name = word.partition("=")[0]
    close = difflib.get_close_matches(name, options, n=1, cutoff=likeness or 0.6)
    if close:
        raise ConfigError(f"no such option {name}: did you mean {close[0]}?{hint}")
    if not likeness:
        raise ConfigError(f"no such option {name}; see `rmapbox run --help`")


def _take(words: list[str], at: int, options: Mapping[str, bool], own: list[str]) -> int:
    """Moves the known options from `words[at:]` to `own`; the index of the first word that is none."""
    while at < len(words):
        name, equals, _ = words[at].partition("=")
        if name not in options:
            break
        own.append(words[at])
        at += 1
        if options[name] and not equals and at < len(words):
            own[-1] = f"{name}={words[at]}"  # so that a value which starts with a dash is still a value
            at += 1
    return at
