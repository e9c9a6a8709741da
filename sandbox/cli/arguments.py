"""Whose word is it: rmapbox's or the program's.

`rmapbox run` takes its own options before PROGRAM or right after it (`rmapbox run fork_cow --pressure 512`). From the
first word after PROGRAM that is none of them, everything is the program's, untouched; `--` says so at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from mmcore.errors import ConfigError


def arrange(words: list[str], options: Mapping[str, bool]) -> list[str]:
    """`words` of `run` as [options..., "--", PROGRAM, ARG...]. `options` maps each option to whether it takes a value.

    Raises `ConfigError` for a word right after PROGRAM that is an option misspelt.
    """
    own: list[str] = []
    at = _take(words, 0, options, own)
    if at < len(words) and words[at] == "--":
        return own + words[at:]
    if at == len(words) or words[at].startswith("-") and words[at] != "-":
        return words  # no program, or an unknown option before it: the parser has the right words for both
    program = words[at]
    at = _take(words, at + 1, options, own)
    if at < len(words):
        if words[at] == "--":
            at += 1
        elif words[at].startswith("--"):
            name = words[at].partition("=")[0]
            close = difflib.get_close_matches(name, options, n=1, cutoff=0.75)
            if close:
                raise ConfigError(f"no such option {name}: did you mean {close[0]}? "
                                  f"(to pass it to {program}, write -- before it)")
    return [*own, "--", program, *words[at:]]


def _take(words: list[str], at: int, options: Mapping[str, bool], own: list[str]) -> int:
    """Move the known options from `words[at:]` to `own`; the index of the first word that is none."""
    while at < len(words):
        name, equals, _ = words[at].partition("=")
        if name not in options:
            break
        own.append(words[at])
        at += 1
        if options[name] and not equals and at < len(words):
            own.append(words[at])
            at += 1
    return at
