"""`rmapbox programs`: the bundled guest programs, each with its card."""

from __future__ import annotations

from sandbox import toolchain


def programs() -> None:
    """List the bundled programs: what each drives, its arguments, what to look at."""
    for name, program in sorted(toolchain.bundled().items()):
        print(f"{name}: {program.summary}")
        for label, text in (("drives", program.drives), ("arguments", program.arguments), ("look at", program.look_at)):
            if text:
                print(f"    {label:<10}{text}")
