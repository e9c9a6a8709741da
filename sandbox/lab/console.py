"""Tables on standard output, as `rich` draws them."""

from __future__ import annotations

from typing import NoReturn

from rich.console import Console


class TableConsole(Console):
    """A console that leaves a reader who went (`... | head`) to the command, which knows the exit status; rich's own would exit with 1."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError
