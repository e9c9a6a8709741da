"""`rmapbox schemes`: the reverse-mapping schemes that can be named, each with its card; `new` and `check` are the kit
for one of your own."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from mmcore.errors import ConfigError, PluginError
from mmcore.rmap import MachineFacts
from sandbox.cli.arguments import Parser
from sandbox.configfile import nearest

if TYPE_CHECKING:
    from mmcore.rmap import Card, Setup

_SUBCOMMANDS = ("new", "check")
_USAGE = """rmapbox schemes [NAME]...
       rmapbox schemes new NAME [--dir DIR]
       rmapbox schemes check SCHEME [OPTIONS]"""


def card_lines(card: Card, setup: Setup) -> list[str]:
    """A scheme's card and what it asks of the core (`mmcore.rmap.scheme`) as the lines of the listing."""
    lines = [f"{card.name}: {card.title}"]
    for label, text in (
        ("kernels", card.kernels),
        ("origin", card.origin),
        ("complexity", card.complexity),
        ("file index", setup.file_index),
    ):
        lines.append(f"    {label:<12}{text}")
    for name, size, remark in card.structures:
        lines.append(f"    {'structure':<12}{name}, {size}{': ' + remark if remark else ''}")
    for name, (default, meaning) in card.options.items():
        shown = str(default).lower() if isinstance(default, bool) else default
        lines.append(f"    {'option':<12}{name} = {shown}: {meaning}")
    if setup.incomplete:
        lines.append(f"    {'incomplete':<12}{setup.incomplete}")
    for reference in card.references:
        lines.append(f"    {'see':<12}{reference}")
    return lines


def main(words: list[str]) -> int:
    """Lists the schemes with their cards, or with `new` or `check` first, makes one or holds one to the contract."""
    if words and words[0] == "new":
        from sandbox.cli.schemes_new import main as new

        return new(words[1:])
    if words and words[0] == "check":
        from sandbox.cli.schemes_check import main as check

        return check(words[1:])
    parser = Parser(
        prog="rmapbox schemes",
        usage=_USAGE,
        description="List the reverse-mapping schemes: where each comes from, what it stores, what it costs.\n"
        "`new` writes a scheme to start from, `check` runs the conformance suite against one.",
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="only these; also path/to/file.py:Class, and NAME:key=value"
    )
    names = parser.parse_args(words).names
    from sandbox.schemes.registry import scheme_names

    broken: PluginError | None = None
    for name in names or scheme_names():
        if name not in scheme_names() and difflib.get_close_matches(name, _SUBCOMMANDS, 1, 0.6):
            raise ConfigError(f"schemes {name}: {nearest(name, _SUBCOMMANDS)}")
        try:
            lines = card_lines(*_card(name))
        except PluginError as error:
            if names:
                raise
            broken = broken or error  # another package's: the rest are worth showing all the same
            continue
        print("\n".join(lines))
    if broken is not None:
        raise broken
    return 0


def _card(text: str) -> tuple[Card, Setup]:
    """The card of NAME, or of what serves NAME:key=value. Raises `ConfigError` and `PluginError`."""
    from sandbox.schemes.registry import load_scheme
    from sandbox.schemes.spec import parse_spec, typed_options

    name, options = parse_spec(text)
    scheme = load_scheme(name)
    setup = scheme.configure(MachineFacts(), typed_options(text, scheme, options))
    return (setup.scheme or scheme).card, setup
