"""`rmapbox.toml`: the same settings as the command line's, in tables.

    [machine]  memory swap paging overcommit overcommit_ratio swappiness page_cluster layout smp cache_line clock seed
               dirty_tracking time_limit
    [rmap]     scheme accounting, and a table of its own options for each scheme: [rmap.anon_vma]
    [guest]    mounts env stdin
    [audit]    when

Paths in the file are relative to the file. A key that no table knows is an error that names the nearest one.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from typing import Any

from mmcore.errors import ConfigError
from sandbox.config import BadValue, Config, Mount, nearest
from sandbox.schemes.registry import names_file

FILE_NAME = "rmapbox.toml"

KEYS: dict[str, dict[str, str]] = {
    "machine": {
        name: name
        for name in (
            "memory",
            "swap",
            "paging",
            "overcommit",
            "overcommit_ratio",
            "swappiness",
            "page_cluster",
            "layout",
            "smp",
            "cache_line",
            "clock",
            "seed",
            "dirty_tracking",
            "time_limit",
        )
    },
    "rmap": {"scheme": "scheme", "accounting": "accounting"},
    "guest": {"mounts": "mounts", "env": "env", "stdin": "stdin"},
    "audit": {"when": "audit"},
}
"""table -> key -> the field of `Config` it sets."""


def read_file(path: str) -> tuple[dict[str, Any], dict[str, str], dict[str, dict]]:
    """The settings of one file: (fields of `Config`, field -> the name to use in errors, scheme name -> its options).

    Raises `ConfigError` for a file that cannot be read, is not TOML, or holds an unknown table or key.
    """
    try:
        with open(path, "rb") as file:
            tables = tomllib.loads(file.read().decode("utf-8-sig"))  # editors of Windows begin a file with a BOM
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {(error.strerror or str(error)).lower()}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    options: dict[str, dict] = {}
    for table, entries in tables.items():
        known = KEYS.get(table)
        if known is None:
            raise ConfigError(f"{path}: unknown table [{table}]: {nearest(table, KEYS)}")
        if not isinstance(entries, dict):
            raise ConfigError(f"{path}: {table!r} must be a table: write [{table}] and its keys below it")
        for key, value in entries.items():
            if table == "rmap" and isinstance(value, dict) and key not in known:
                options[key] = value
                continue
            if key not in known:
                raise ConfigError(f"{path}: unknown key {key!r} in [{table}]: {nearest(key, known)}")
            fields[known[key]] = value
            names[known[key]] = f"{path}: {table}.{key}"
    directory = os.path.dirname(path)
    _resolve_paths(directory, fields, names)
    return fields, names, {_scheme_path(directory, name): own for name, own in options.items()}


def _scheme_path(directory: str, scheme: str) -> str:
    """A scheme's name as it is; a scheme's file relative to `directory`."""
    return os.path.join(directory, scheme) if names_file(scheme) else scheme


def _resolve_paths(directory: str, fields: dict[str, Any], names: dict[str, str]) -> None:
    """Makes the host paths of `fields` relative to `directory`, where the file stands."""
    if isinstance(fields.get("scheme"), str):
        fields["scheme"] = _scheme_path(directory, fields["scheme"])
    if isinstance(fields.get("stdin"), str):
        fields["stdin"] = os.path.join(directory, fields["stdin"])
    if "mounts" in fields:
        if not isinstance(fields["mounts"], list):
            raise ConfigError(f'{names["mounts"]} must be a list of strings, as in ["data:/data:ro"]')
        try:
            mounts = [Mount.parse(text) for text in fields["mounts"]]
        except BadValue as error:
            raise ConfigError(f"{names['mounts']} {error.text}") from None
        fields["mounts"] = tuple(Mount(os.path.join(directory, m.host), m.guest, m.mode) for m in mounts)


def _card_name(scheme: str) -> str:
    """What the card of a scheme given as a file calls it: its table is [rmap.NAME]. Raises PluginError."""
    from sandbox.schemes.registry import load_scheme

    return load_scheme(scheme).card.name


def build_config(
    path: str | None, overrides: dict[str, Any], override_names: dict[str, str], schemes: Iterable[str] = ()
) -> Config:
    """The settings of one run: the file `path` (None: `rmapbox.toml` in the working directory if it is there) under
    `overrides` (fields of `Config`; `override_names` names each in errors).

    `mounts` and `env` of both add up; any other override wins. `schemes`: others that the file may have tables for,
    because other runs beside this one use them. Raises `ConfigError`.
    """
    if path is None and os.path.exists(FILE_NAME):
        path = FILE_NAME
    fields, names, options = read_file(path) if path is not None else ({}, {}, {})
    merged = {**fields, **overrides}
    names = {**names, **override_names}
    if "mounts" in fields and "mounts" in overrides:
        merged["mounts"] = (*fields["mounts"], *overrides["mounts"])
    if isinstance(fields.get("env"), dict) and "env" in overrides:
        merged["env"] = {**fields["env"], **overrides["env"]}
    try:
        config = Config(**merged)
    except BadValue as error:
        raise ConfigError(f"{names.get(error.field, error.field)} {error.text}") from None
    if options:
        from sandbox.schemes.registry import scheme_names

        names_of_files = {scheme: _card_name(scheme) for scheme in (config.scheme, *schemes) if names_file(scheme)}
        known = {*scheme_names(), config.scheme, *schemes, *names_of_files.values()}
        for name in options:
            if name not in known:
                raise ConfigError(f"{path}: unknown scheme in [rmap.{name}]: {nearest(name, known)}")
        config.scheme_options = {
            **options.get(names_of_files.get(config.scheme, ""), {}),
            **options.get(config.scheme, {}),
        }
    return config
