"""How many pages of pipes a user may have: /proc/sys/fs/pipe-max-size, pipe-user-pages-soft and -hard. Linux:
fs/pipe.c, 6.1.

A pipe counts with its room, full or empty, for the user who made it. Beyond the soft limit a new pipe has two pages and
none grows; beyond the hard one there is no new pipe. Root's pipes count, but no limit holds for root.
"""

from __future__ import annotations

from collections import Counter
from errno import EPERM

from mmcore.errors import SysError
from mmcore.physical.ram import PAGE_SIZE

PIPE_BUFFERS = 16
_MIN_BUFFERS = 2


def round_size(nbytes: int) -> int:
    """Room for `nbytes`: a power of two of pages."""
    return max(PAGE_SIZE, 1 << max(0, nbytes - 1).bit_length())


class PipeQuota:
    """`max_size` in bytes; `soft` and `hard` in pages, 0 for no limit; `used`: pages by user."""

    __slots__ = ("max_size", "soft", "hard", "used")

    def __init__(self) -> None:
        self.max_size = 1 << 20
        self.soft = 1024 * PIPE_BUFFERS  # as many pipes as a process has descriptors
        self.hard = 0
        self.used: Counter[int] = Counter()

    def _beyond(self, pages: int) -> tuple[bool, bool]:
        return 0 < self.soft < pages, 0 < self.hard < pages

    def take(self, uid: int, privileged: bool, refusal: int) -> int:
        """The pages that a new pipe of `uid` gets. Raises `refusal` beyond the hard limit."""
        pages = PIPE_BUFFERS if privileged else min(PIPE_BUFFERS, self.max_size // PAGE_SIZE)
        if not privileged:
            if self._beyond(self.used[uid] + pages)[0]:
                pages = _MIN_BUFFERS
            if self._beyond(self.used[uid] + pages)[1]:
                raise SysError(refusal)
        self.used[uid] += pages
        return pages

    def resize(self, uid: int, old: int, new: int, privileged: bool) -> None:
        """A pipe of `uid` goes from `old` to `new` pages, if it may: EPERM."""
        if (
            new > old
            and not privileged
            and (new * PAGE_SIZE > self.max_size or any(self._beyond(self.used[uid] - old + new)))
        ):
            raise SysError(EPERM)
        self.used[uid] += new - old

    def give(self, uid: int, pages: int) -> None:
        self.used[uid] -= pages
