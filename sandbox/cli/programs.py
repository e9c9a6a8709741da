"""`rmapbox programs`: the bundled guest programs, each with its card."""

from __future__ import annotations

from sandbox import toolchain
from sandbox.cli.arguments import Parser


def main(words: list[str]) -> int:
    """List the bundled programs: what each drives, its arguments, what to look at."""
    Parser(prog="rmapbox programs", description="List the bundled programs: what each drives, its arguments, what to look at."
           ).parse_args(words)
    for name, program in sorted(toolchain.bundled().items()):
        print(f"{name}: {program.summary}")
        for label, text in (("drives", program.drives), ("arguments", program.arguments), ("look at", program.look_at)):
            if text:
                print(f"    {label:<10}{text}")
    return 0
