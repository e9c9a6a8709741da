"""What mmcore asks of objects that live above it: tasks, files, inodes.

 sandbox (or a test's stand-in)        mmcore
 Task, with credentials and limits     mem.current: Caller        whose fault or call is served now
 the same                              mem.tasks(): Victim        whom the OOM killer may choose
 File                                  vma.vm_file: MappedFile    what an area maps, one reference per area
 program                               mm.exe_file: Counted       what it runs, one reference per address space
 Inode                                 mapping.host: CachedInode  whose pages a page cache holds

Whoever offers the attributes will do; nothing derives from these classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmcore.areas.mm import Mm
    from mmcore.files.filemap import AddressSpace


class Caller(Protocol):
    """A task on whose behalf the core works. Wherever the core keeps one in a dict it is known by identity."""

    pid: int
    memdie: bool  # the OOM killer chose it: it may use the reserves
    fault_major: bool  # the fault under way had to wait
    min_flt: int  # faults that did not
    maj_flt: int  # faults that did

    @property
    def mm(self) -> Mm | None:
        """None: a kernel thread, or not yet in an address space."""

    @property
    def comm(self) -> str:
        """The program's name."""

    @property
    def euid(self) -> int:
        """0: it is privileged."""

    @property
    def rlimits(self) -> Sequence[tuple[int, int]] | None:
        """(soft, hard) by the number of the limit, in bytes; None: it has none."""


class Victim(Caller, Protocol):
    """A task that may have to pay when memory and swap are gone."""

    nice: int
    start_ns: int  # since boot
    swapoff: bool  # it empties the swap device: the first to go

    @property
    def uid(self) -> int: ...

    @property
    def cpu_ns(self) -> int:
        """User and system time it has used."""

    def kill(self, sig: int) -> None:
        """Sends `sig` to its whole process, in the kernel's name."""


class Counted(Protocol):
    """Something that lives as long as somebody holds a reference to it."""

    def get(self) -> object:
        """One reference more."""

    def put(self) -> None:
        """One less; the last one frees it."""


class MappedFile(Counted, Protocol):
    """An open file, as an area holds it."""

    @property
    def path(self) -> str:
        """As /proc/PID/maps shows it."""

    @property
    def f_mode(self) -> int:
        """FMODE_READ | FMODE_WRITE, as it was opened."""

    @property
    def inode(self) -> CachedInode: ...

    @property
    def mapping(self) -> AddressSpace | None:
        """Its pages; None for a device, and for a file that has none."""


@runtime_checkable
class Device(Protocol):
    """What a file whose `mapping` is None has too."""

    def mmap_file(self, shared: bool, length: int) -> object:
        """None: it maps as anonymous memory of `length` bytes, as /dev/zero does. Raises ENODEV where the kind cannot
        be mapped."""


class CachedInode(Protocol):
    """The inode whose pages an AddressSpace holds."""

    i_size: int  # bytes
    ino: int  # its number, by which a file without a name is known

    @property
    def addr(self) -> int:
        """Its kernel address, which nothing else uses while it lives."""
