"""Whose fault is it? An exception that passed through a user's own scheme is told as that scheme's, with the line, not
as an internal error."""

from __future__ import annotations

import os
from types import FrameType

from mmcore.errors import ConfigError, MustWait, PluginError, SysError
from sandbox.schemes.registry import FILE_MODULE

BUNDLED = "rmap_plugins"


def _foreign(frame: FrameType, scheme: type | None) -> bool:
    """Does the frame run code of a scheme that is not ours?"""
    module = frame.f_globals.get("__name__", "")
    if module.startswith(FILE_MODULE):
        return True
    return scheme is not None and module == scheme.__module__ and foreign(scheme)


def foreign(scheme: type | None) -> bool:
    """Is the scheme's class none of the bundled ones?"""
    return scheme is not None and scheme.__module__.partition(".")[0] != BUNDLED


def scheme_fault(error: BaseException, name: str, scheme: type | None = None) -> PluginError | None:
    """A `PluginError` that says where the scheme called `name` failed; None when `error` came from elsewhere, or says
    enough itself."""
    if isinstance(error, (ConfigError, PluginError, SysError, MustWait, KeyboardInterrupt)):
        return None
    place = None
    traceback = error.__traceback__
    while traceback is not None:
        if _foreign(traceback.tb_frame, scheme):
            place = (traceback.tb_frame.f_code, traceback.tb_lineno)
        traceback = traceback.tb_next
    if place is None:
        return None
    code, line = place
    text = "; ".join(part.strip() for part in str(error).splitlines() if part.strip())
    what = type(error).__name__ + (f": {text}" if text else "")
    return PluginError(
        f"scheme {name!r} failed in {code.co_name} ({os.path.basename(code.co_filename)}, line {line}): {what}; "
        f"correct it there"
    )
