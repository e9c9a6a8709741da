"""`rmapbox programs`: the bundled guest programs, each with its card."""

from __future__ import annotations

from mmcore.errors import ConfigError
from sandbox import toolchain
from sandbox.cli.arguments import Parser


def main(words: list[str]) -> int:
    """Lists the bundled programs, or shows the named ones whole: what each drives, its arguments, what to look at."""
    parser = Parser(
        prog="rmapbox programs",
        description="List the bundled programs, or show NAME: what it does and drives, its arguments, what to look at.",
        epilog="Arguments stand in the order shown, each with its default; or anywhere as NAME=VALUE.",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="a bundled program; all of them without it")
    names = parser.parse_args(words).names
    bundled = toolchain.bundled()
    for name in names:
        if name not in bundled:
            from sandbox.configfile import nearest

            raise ConfigError(f"no bundled program is called {name!r}: {nearest(name, bundled)}")
    for name in names or sorted(bundled):
        _show(bundled[name])
        if names:
            _show_usage(bundled[name])
    return 0


def _show(program: toolchain.BundledProgram) -> None:
    print(f"{program.name}: {program.summary}")
    for label, text in (("drives", program.drives), ("arguments", program.arguments), ("look at", program.look_at)):
        if text:
            print(f"    {label:<10}{text}")


def _show_usage(program: toolchain.BundledProgram) -> None:
    """How its arguments are written, by the example of its own defaults."""
    defaults = program.defaults
    if defaults and not program.arguments.startswith("["):
        last = list(defaults)[-1]
        print(f"    as in     rmapbox run {program.name} {' '.join(defaults.values())}")
        print(f"    or        rmapbox run {program.name} {last}={defaults[last]}")
