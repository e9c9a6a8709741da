"""`sandbox.compare`: one program under several schemes, from Python."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmcore.errors import ConfigError
from sandbox.config import Config
from sandbox.lab.compare import Comparison, Contender
from sandbox.lab.compare import compare as run_compared
from sandbox.program import argument_list
from sandbox.schemes.spec import parse_spec, with_options


def compare(
    program: str | os.PathLike | Sequence[str | os.PathLike],
    schemes: Sequence[str],
    config: Config | None = None,
    *,
    pressure: bool = False,
    memory: bool = True,
) -> Comparison:
    """Runs `program` (a name or file, or a list of it and its arguments) under each of `schemes`, on the machine of
    `config` otherwise.

    A scheme is written as after --rmap, its options behind it: "pte_chain:cache_line=64"; the first is what the others
    are measured by. `pressure` gives all of them the machine of the one that needs most; without `memory` only output
    and ending are judged. Standard input is `config.stdin`, empty when that is None. Whether the guests saw the same is
    the result's `same`, nothing is raised for it. Raises `ConfigError`, `PluginError`, and `sandbox.lab.compare.Cut`
    when the time limit cut a run.
    """
    argv = argument_list(program)
    if isinstance(schemes, str) or len(schemes) < 2:
        raise ConfigError("compare takes a list of two schemes or more, as in ['pte_chain', 'anon_vma']")
    if len(set(schemes)) < len(schemes):
        raise ConfigError(
            "compare: a scheme is given twice: name each once, or with options that differ, as in "
            "'pte_chain:cache_line=64'"
        )
    base = config or Config()
    if base.clock != "virtual":
        raise ConfigError("compare needs clock='virtual': a run that follows the host's clock does not repeat")
    contenders = []
    for text in schemes:
        name, options = parse_spec(text)
        own = base.scheme_options if name == base.scheme else {}
        stdin = b"" if base.stdin is None else base.stdin
        contenders.append(
            Contender(text, with_options(base.replace(scheme=name, scheme_options=own, stdin=stdin), text, options))
        )
    return run_compared(contenders, argv, pressure=pressure, memory=memory)
