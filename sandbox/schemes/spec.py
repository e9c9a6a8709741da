"""How a user names a scheme: `NAME`, `path/to/file.py` or `path/to/file.py:Class`, each with options of its own behind
colons.

    anon_vma    anon_vma_chain:era=2.6.34    pte_chain:cache_line=64:highpte=true    mine.py:MyScheme:depth=3

The options are those of the scheme's card (`rmapbox schemes`) and beat the table [rmap.NAME] of the configuration.
"""

from __future__ import annotations

from typing import Any

from mmcore.errors import ConfigError
from mmcore.rmap import MachineFacts, RmapScheme
from sandbox.config import Config
from sandbox.configfile import nearest
from sandbox.schemes.registry import load_scheme

_BOOLEANS = {"true": True, "false": False}


def parse_spec(text: str) -> tuple[str, dict[str, str]]:
    """(the scheme as `load_scheme` takes it, its options as they were written). Raises `ConfigError`."""
    parts = text.split(":")
    name: list[str] = []
    options: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or (not name and ("/" in part or part.endswith(".py"))):  # a path may hold an equals sign
            if options:
                raise ConfigError(f"--rmap {text}: {part!r} is not an option: write NAME:key=value")
            name.append(part)
            continue
        if key in options:
            raise ConfigError(f"--rmap {text}: option {key!r} is given twice")
        options[key] = value
    if not name or not name[0]:
        raise ConfigError(f"--rmap {text!r}: no scheme is named: write NAME, or NAME:key=value")
    return ":".join(name), options


def typed_options(text: str, scheme: type[RmapScheme], options: dict[str, str]) -> dict[str, Any]:
    """The options with values of the types that the scheme's card gives them. Raises `ConfigError`."""
    card = scheme.card
    values: dict[str, Any] = {}
    for key, word in options.items():
        if key not in card.options:
            raise ConfigError(f"--rmap {text}: {card.name} has no option {key!r}: {nearest(key, card.options)}")
        default = card.options[key][0]
        try:
            if isinstance(default, bool):
                values[key] = _BOOLEANS[word.lower()]
            else:
                values[key] = type(default)(word)
        except (KeyError, ValueError):
            kind = "true or false" if isinstance(default, bool) else f"as its default {default!r} is"
            raise ConfigError(f"--rmap {text}: {key} = {word!r}: write it {kind}") from None
    return values


def with_options(config: Config, text: str, options: dict[str, str]) -> Config:
    """`config`, whose scheme `text` named, with the options of `text` over its own. Raises `ConfigError` and
    `PluginError`."""
    if options:
        scheme = load_scheme(config.scheme)
        config.scheme_options = {**config.scheme_options, **typed_options(text, scheme, options)}
        scheme.configure(MachineFacts(), config.scheme_options)
    return config
