"""Tables on standard output, as `rich` draws them, and what a terminal can do."""

from __future__ import annotations

import os
import textwrap
from typing import IO, Any, NoReturn

from rich.console import Console


class TableConsole(Console):
    """A console that leaves a reader who went (`... | head`) to the command, which knows the exit status; rich's own
    would exit with 1.

    A size in the environment that is none (COLUMNS=0) is not taken for one: nothing fits into it, and nothing would be
    printed.
    """

    def __init__(self, **options: Any) -> None:
        environment = {
            name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES") or _is_size(value)
        }
        super().__init__(_environ=environment, **options)

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def wrapped(lines: list[str], stream: IO[str], indent: int = 12) -> list[str]:
    """`lines` for `stream`: broken between words where it is a terminal, and as they are where it is not (a pipe's
    reader wants them whole)."""
    if not stream.isatty():
        return lines
    width = max(TableConsole(file=stream).width, 2 * indent)
    found: list[str] = []
    for line in lines:
        lead = " " * (len(line) - len(line.lstrip()))
        found += (
            textwrap.wrap(
                line,
                width,
                subsequent_indent=lead + " " * (indent - len(lead) if len(lead) < indent else 0),
                break_long_words=False,
                break_on_hyphens=False,
                drop_whitespace=True,
                replace_whitespace=False,
            )
            if len(line) > width
            else [line]
        )
    return found


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0
