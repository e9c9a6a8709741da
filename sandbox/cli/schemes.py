"""`rmapbox schemes`: the reverse-mapping schemes that can be named, each with its card."""

from __future__ import annotations


def schemes() -> None:
    """List the schemes with their cards."""
    raise NotImplementedError
