"""The errors of the memory management, sorted by who caused them.

guest-visible   SysError and OutOfMemory carry an errno; one border (the system-call dispatcher) turns them into
                `-errno`
not yet         MustWait: an access has to wait for page I/O; always raised before any side effect, so the caller may
                restart
the user's      ConfigError, PluginError: one line that names file, key and remedy
corruption      InvariantViolation: what broke, and a dump
end of the run  OomPanic, Hung
"""

from __future__ import annotations

import errno as _errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmcore.wait import WaitQueue


def errno_name(errno: int) -> str:
    """The kernel's name of an error; Python knows two of them by another, the C library's."""
    return {95: "EOPNOTSUPP", 35: "EDEADLK"}.get(errno) or _errno.errorcode.get(errno, str(errno))


class SysError(Exception):
    """A failure the guest sees as `-errno`."""

    def __init__(self, errno: int, why: str = "") -> None:
        super().__init__(errno, why)
        self.errno = errno
        self.why = why

    def __str__(self) -> str:
        name = errno_name(self.errno)
        return f"{name}: {self.why}" if self.why else name


class NotHere(SysError):
    """Refused because this machine does not have it, where Linux would do it: `why` names it for the summary of a
    run."""


class OutOfMemory(SysError):
    """An allocation of emulated memory failed (ENOMEM)."""

    def __init__(self, why: str = "") -> None:
        super().__init__(_errno.ENOMEM, why)


class MustWait(Exception):
    """An access must wait on `queue` and then start over. Raised only before side effects; for a page under I/O by
    `AwaitedPages.must_wait`, which keeps the page for whoever waits."""

    def __init__(self, queue: WaitQueue) -> None:
        super().__init__(queue)
        self.queue = queue


class BeyondEof(Exception):
    """A fault on a file mapping lies beyond the end of the file (the guest gets SIGBUS)."""


class ConfigError(Exception):
    """The user's configuration cannot be used; the message names the key and the remedy."""


class PluginError(Exception):
    """A reverse-mapping scheme cannot be loaded or breaks the contract; the message names it and the hook."""


class InvariantViolation(Exception):
    """The emulated kernel's state contradicts itself."""


class OomPanic(Exception):
    """The OOM killer found nothing left to kill."""


class Hung(Exception):
    """No progress for so long in virtual time that the run is given up."""
