"""How much memory may be promised: the three overcommit modes.

 0  guess     refuse only what RAM and swap together could never hold
 1  always
 2  never     the sum of all promises stays below RAM * ratio / 100 + swap

Every private writable page is a promise (VM_ACCOUNT), counted when the area is made or first becomes writable and given
back when it goes; tmpfs counts its own. Linux: mm/util.c __vm_enough_memory, 5.1 and later (mode 0 of 2.6.7 weighed
free pages; a guest compares with native).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmcore.areas.vma import VM_GROWSDOWN, VM_LOCKED, VM_SHARED, VM_WRITE
from mmcore.errors import OutOfMemory

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory

OVERCOMMIT_GUESS, OVERCOMMIT_ALWAYS, OVERCOMMIT_NEVER = 0, 1, 2
_USER_RESERVE = 128 << 20 >> 12  # pages: sysctl_user_reserve_kbytes, mode 2
_ADMIN_RESERVE = 8 << 20 >> 12  # pages: sysctl_admin_reserve_kbytes, mode 2

RLIMIT_DATA, RLIMIT_STACK, RLIMIT_MEMLOCK, RLIMIT_AS = 2, 3, 8, 9
RLIM_INFINITY = 1 << 62  # any limit this large, or none, is infinite


class Overcommit:
    """The machine's commit account. `committed` in pages (/proc/meminfo's Committed_AS)."""

    __slots__ = ("mem", "mode", "ratio", "committed")

    def __init__(self, mem: Memory) -> None:
        self.mem = mem
        self.mode = mem.config.overcommit
        self.ratio = mem.config.overcommit_ratio
        self.committed = 0

    def commit_limit(self) -> int:
        """Pages that mode 2 lets be promised (/proc/meminfo's CommitLimit)."""
        return self.mem.total_pages * self.ratio // 100 + self.mem.swap.total

    def vm_enough_memory(self, mm: Mm | None, pages: int) -> None:
        """Promises `pages` or raises OutOfMemory, promising nothing."""
        mode = self.mode
        if mode == OVERCOMMIT_GUESS:
            mem = self.mem
            if pages > mem.total_pages + mem.swap.total:
                raise OutOfMemory(f"{pages} pages are more than RAM and swap together")
        elif mode == OVERCOMMIT_NEVER:
            allowed = self.commit_limit()
            if not capable(self.mem):
                allowed -= _ADMIN_RESERVE
            if mm is not None:
                allowed -= min(mm.total_vm // 32, _USER_RESERVE)
            if self.committed + pages >= allowed:
                raise OutOfMemory(f"{self.committed} + {pages} pages of commit, limit {allowed}")
        self.committed += pages

    def charge(self, pages: int) -> None:
        """vm_enough_memory on behalf of the current task (fork, tmpfs). Raises OutOfMemory."""
        self.vm_enough_memory(self.mem.current.mm, pages)

    def uncharge(self, pages: int) -> None:
        """Takes promises back."""
        self.committed -= pages


def capable(mem: Memory) -> bool:
    """Whether the current task is privileged (CAP_SYS_ADMIN, CAP_IPC_LOCK, CAP_SYS_RAWIO: here all the same as being
    root)."""
    return mem.current.euid == 0


def rlimit(mem: Memory, which: int) -> int:
    """The current task's soft limit, in bytes."""
    limits = mem.current.rlimits
    if limits is None:
        return RLIM_INFINITY
    return limits[which][0]


def may_expand_vm(mem: Memory, mm: Mm, flags: int, pages: int) -> bool:
    """Whether RLIMIT_AS and RLIMIT_DATA let `mm` grow by `pages`. Linux: mm/mmap.c, 4.5."""
    limits = mem.current.rlimits
    if limits is None:
        return True
    if mm.total_vm + pages > limits[RLIMIT_AS][0] >> 12:
        return False
    limit = limits[RLIMIT_DATA][0]
    is_data_mapping = flags & (VM_WRITE | VM_SHARED | VM_GROWSDOWN) == VM_WRITE  # private, writable, not a stack
    return not (limit < RLIM_INFINITY and is_data_mapping and mm.data_vm + pages > limit >> 12)


def mlock_future_ok(mem: Memory, mm: Mm, flags: int, nbytes: int) -> bool:
    """Whether RLIMIT_MEMLOCK lets an area with `flags` grow by `nbytes`. Linux: mm/mmap.c, 6.5."""
    if not flags & VM_LOCKED or capable(mem):
        return True
    return mm.locked_vm + (nbytes + 4095 >> 12) <= rlimit(mem, RLIMIT_MEMLOCK) >> 12


def can_do_mlock(mem: Memory) -> bool:
    return rlimit(mem, RLIMIT_MEMLOCK) != 0 or capable(mem)
