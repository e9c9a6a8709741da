"""The contents of a swap device's slots: in a file of the host without a name, not in the process.

A slot that was never written reads as zeros and takes no room; the file is made with the first page that goes out.
"""

from __future__ import annotations

import os
import tempfile
from typing import IO

from mmcore.errors import ConfigError
from mmcore.physical.ram import PAGE_SHIFT, PAGE_SIZE

_ZEROS = bytes(PAGE_SIZE)


class SwapStore:
    """Pages of 4096 bytes by slot."""

    __slots__ = ("_fd", "_file")

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None  # closed, and so gone, when we go
        self._fd = -1

    def write(self, slot: int, page: memoryview) -> None:
        """Raises ConfigError when the host has no room."""
        try:
            if self._fd < 0:
                self._open()
            done = os.pwrite(self._fd, page, slot << PAGE_SHIFT)
            while done < PAGE_SIZE:
                done += os.pwrite(self._fd, page[done:], (slot << PAGE_SHIFT) + done)
        except OSError as error:
            raise ConfigError(
                f"the host cannot hold what is swapped out ({error.strerror}, in {tempfile.gettempdir()}): make room "
                "there, set TMPDIR, or give the machine less --swap"
            ) from error

    def _open(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="rmapbox-swap-", buffering=0)
        self._fd = self._file.fileno()

    def read(self, slot: int, page: memoryview) -> None:
        """Fills `page`."""
        n = os.preadv(self._fd, [page], slot << PAGE_SHIFT) if self._fd >= 0 else 0
        if n < PAGE_SIZE:
            page[n:] = _ZEROS[n:]

    def page(self, slot: int) -> bytes:
        """A copy."""
        page = bytearray(PAGE_SIZE)
        self.read(slot, memoryview(page))
        return bytes(page)
