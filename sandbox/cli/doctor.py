"""`rmapbox doctor`: what this host can do, and the command that fixes what is missing."""

from __future__ import annotations


def doctor() -> None:
    """Check compiler, native i386, Unicorn and its calibration."""
    raise NotImplementedError
