"""Answers of a real kernel (6.18, x86-64, 32-bit task under `setarch -R -3`, root), call by call, in the order in
which they were recorded.

Each table starts in a fresh address space with a stack at its place. A row: what is called, and the address or errno it
answered.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from mmcore.areas.mm import Mm
from mmcore.areas.vma import VM_SHARED
from mmcore.calls.brk import set_brk
from mmcore.calls.exec_stack import bprm_stack, setup_arg_pages
from mmcore.calls.fremap import remap_file_pages
from mmcore.calls.madvise import do_madvise, do_mincore, do_msync
from mmcore.calls.mlock import do_mlock, do_mlockall, do_munlock, do_munlockall
from mmcore.calls.mmap import do_mmap, do_munmap
from mmcore.calls.mprotect import do_mprotect
from mmcore.calls.mremap import do_mremap
from mmcore.errors import SysError
from rmap_plugins.anon_vma import AnonVma
from sandbox.kit.files import tmpfs_file
from sandbox.kit.machine import CpulessMachine

ANON, FIXED, NOREPLACE = 0x22, 0x32, 0x100022
A, B = 0x20000000, 0x21000000


class ReadOnly:
    """A file opened for reading; `mapping` None: a kind that cannot be mapped."""

    def __init__(self, file: Any, mode: int = 1) -> None:
        self.file = file
        self.mapping = file.mapping if file is not None else None
        self.f_mode = mode

    def get(self) -> None:
        self.file.get()

    def put(self) -> None:
        self.file.put()

    def mmap_file(self, shared: bool, length: int) -> None:
        raise SysError(errno.ENODEV)


class Guest:
    """An address space with system calls: each returns the result or minus the errno."""

    def __init__(self) -> None:
        self.machine = CpulessMachine(AnonVma, memory=32 << 20)
        self.mem = self.machine.mem
        self.mm: Mm = self.machine.new_mm()
        stack = bprm_stack(self.mem, self.mm, 0xC0000000)
        setup_arg_pages(self.mem, stack, 0xC0000000, executable=False)
        self.file = tmpfs_file(self.mem, 2)

    def _do(self, function: Callable[..., Any], *args: Any) -> int:
        try:
            result = function(self.mem, self.mm, *args)
        except SysError as error:
            return -error.errno
        return result if isinstance(result, int) and not isinstance(result, bool) else 0

    def mmap(self, addr: int, length: int, prot: int, flags: int, file: Any = None, pgoff: int = 0) -> int:
        return self._do(do_mmap, addr, length, prot, flags, file, pgoff)

    def munmap(self, addr: int, length: int) -> int:
        return self._do(do_munmap, addr, length)

    def mprotect(self, addr: int, length: int, prot: int) -> int:
        return self._do(do_mprotect, addr, length, prot)

    def mremap(self, addr: int, old: int, new: int, flags: int, to: int = 0) -> int:
        return self._do(do_mremap, addr, old, new, flags, to)

    def madvise(self, addr: int, length: int, advice: int) -> int:
        return self._do(do_madvise, addr, length, advice)

    def msync(self, addr: int, length: int, flags: int) -> int:
        try:
            return -errno.ENOMEM if do_msync(self.mem, self.mm, addr, length, flags)[1] else 0
        except SysError as error:
            return -error.errno

    def __getattr__(self, name: str) -> Callable[..., int]:
        function = {
            "mlock": do_mlock,
            "munlock": do_munlock,
            "mlockall": do_mlockall,
            "munlockall": do_munlockall,
            "mincore": do_mincore,
            "brk": set_brk,
            "remap": remap_file_pages,
        }[name]
        return lambda *args: self._do(function, *args)

    def maps(self) -> list[tuple[int, int, str]]:
        """(start, end, permissions) after joining neighbours alike in permissions, file and offset; without the
        stack."""
        out: list[list[Any]] = []
        for v in self.mm.vmas[:-1]:
            key = (v.permissions(), v.mapping)
            if (
                out
                and out[-1][1] == v.vm_start
                and out[-1][2] == key
                and (v.mapping is None or out[-1][3] == v.vm_pgoff)
            ):
                out[-1][1], out[-1][3] = v.vm_end, v.vm_pgoff + v.pages
            else:
                out.append([v.vm_start, v.vm_end, key, v.vm_pgoff + v.pages])
        return [(start, end, key[0]) for start, end, key, _ in out]


@pytest.fixture
def guest() -> Guest:
    return Guest()


def check(guest: Guest, rows: list[tuple[str, tuple[Any, ...], int]]) -> None:
    for name, args, expected in rows:
        got = getattr(guest, name)(*args)
        assert got == expected, (
            f"{name}{args}: {got if got < 0 else hex(got)}, expected {expected if expected < 0 else hex(expected)}"
        )
        guest.machine.audit(f"{name}{args}")


def test_mmap(guest):
    check(
        guest,
        [
            ("mmap", (0, 0, 3, ANON), -errno.EINVAL),
            ("mmap", (0, 0xFFFFFFFF, 3, ANON), -errno.ENOMEM),
            ("mmap", (0, 0xC0000000, 3, ANON), -errno.ENOMEM),
            ("mmap", (0, 0xBFFF0000, 3, ANON), -errno.ENOMEM),
            ("mmap", (A, 0x1000, 3, FIXED), A),
            ("mmap", (A, 0x1000, 3, NOREPLACE), -errno.EEXIST),
            ("mmap", (A + 0x1000, 0x1000, 3, NOREPLACE), A + 0x1000),
            ("mmap", (A + 1, 0x1000, 3, FIXED), -errno.EINVAL),
            ("mmap", (A + 1, 0x1000, 3, ANON), 0xB7FFF000),  # the hint is taken
            ("mmap", (A + 0x5001, 0x1000, 3, ANON), A + 0x5000),  # rounded down
            ("mmap", (0xBFFFF000, 0x2000, 3, FIXED), -errno.ENOMEM),
            ("mmap", (0xC0000000, 0x1000, 3, FIXED), -errno.ENOMEM),
            ("mmap", (0xFFFF0000, 0x20000, 3, FIXED), -errno.ENOMEM),
            ("mmap", (0, 0x1000, 3, FIXED), 0),  # root may
            ("munmap", (0, 0x1000), 0),
            ("mmap", (0x1000, 0x1000, 3, ANON), 0x10000),  # a low hint goes up to mmap_min_addr
            ("mmap", (0xFFF, 0x1000, 3, ANON), 0xB7FFE000),
            ("mmap", (0, 0x1000, 3, 0x20), -errno.EINVAL),
            ("mmap", (0, 0x1000, 3, 0x23), -errno.EINVAL),
            ("mmap", (0, 0x1000, 3, 0x2F), -errno.EINVAL),
            ("mmap", (0, 0x1000, 0xFF, ANON), 0xB7FFD000),  # unknown protection bits are ignored
            ("mmap", (0, 0x1000, 3, 0x121), -errno.EINVAL),  # shared does not grow
            ("mmap", (0, 0x1000, 3, 0x122), 0xB7FFC000),
            ("mmap", (0, 0x1000, 3, ANON, None, 0xFFFFFFFF), 0xB7EFB000),  # 256 pages below what grows down stay free
            ("mmap", (0, 0x3000, 3, 0x21, None, 0xFFFFFFFF), 0xB7EF8000),
        ],
    )


def test_mmap_of_files(guest):
    read_only, write_only = ReadOnly(guest.file), ReadOnly(guest.file, 2)
    check(
        guest,
        [
            ("mmap", (0, 0x1000, 3, 1, read_only), -errno.EACCES),
            ("mmap", (0, 0x1000, 1, 1, read_only), 0xB7FFF000),
            ("mmap", (0, 0x1000, 3, 2, read_only), 0xB7FFE000),
            ("mmap", (0, 0x1000, 1, 3, read_only), 0xB7FFD000),
            ("mmap", (0, 0x1000, 1, 0x80003, read_only), -errno.EOPNOTSUPP),
            ("mmap", (0, 0x1000, 1, 0x80001, read_only), 0xB7FFC000),  # plain MAP_SHARED ignores what it does not know
            ("mmap", (0, 0x1000, 1, 0x10000003, read_only), 0xB7FFB000),
            ("mmap", (0, 0x1000, 1, 0x102, read_only), -errno.EINVAL),
            ("mmap", (0, 0x1000, 1, 0, read_only), -errno.EINVAL),
            ("mmap", (0, 0, 1, 0, read_only), -errno.EINVAL),
            ("mmap", (0, 0x1000, 2, 1, write_only), -errno.EACCES),
            ("mmap", (0, 0x1000, 2, 2, write_only), -errno.EACCES),
            ("mmap", (0, 0x1000, 1, 2, ReadOnly(None)), -errno.ENODEV),
            ("mprotect", (0xB7FFF000, 0x1000, 3), -errno.EACCES),
            ("mprotect", (0xB7FFE000, 0x1000, 3), 0),
        ],
    )
    assert [v.vm_flags & VM_SHARED for v in guest.mm.vmas if v.mapping is not None and v.vm_start == 0xB7FFF000] == [0]


def test_munmap(guest):
    check(
        guest,
        [
            ("mmap", (A, 0x1000, 3, FIXED), A),
            ("munmap", (A + 1, 0x1000), -errno.EINVAL),
            ("munmap", (A, 0), -errno.EINVAL),
            ("munmap", (0xC0000000, 0x1000), -errno.EINVAL),
            ("munmap", (0xBFFFF000, 0x2000), -errno.EINVAL),
            ("munmap", (A, 0xFFFFFFFF), -errno.EINVAL),
            ("munmap", (0x50000000, 0x1000), 0),
            ("munmap", (0xD0000000, 0x1000), -errno.EINVAL),
            ("munmap", (0x10000000, 0x20000000), 0),
        ],
    )
    assert guest.maps() == []


def test_mprotect(guest):
    check(
        guest,
        [
            ("mmap", (A, 0x8000, 3, FIXED), A),
            ("munmap", (A + 0x3000, 0x1000), 0),
            ("mprotect", (A, 0x8000, 1), -errno.ENOMEM),
            ("mprotect", (A + 1, 0x1000, 1), -errno.EINVAL),
            ("mprotect", (A, 0, 0x1234), 0),
            ("mprotect", (A, 0x1000, 0x100), -errno.EINVAL),
            ("mprotect", (A, 0x1000, 8), 0),
            ("mprotect", (A, 0x1000, 0x01000003), -errno.EINVAL),
            ("mprotect", (A, 0x1000, 0x03000003), -errno.EINVAL),
            ("mprotect", (A, 0x1000, 0x02000003), -errno.EINVAL),
            ("mprotect", (0x30000000, 0x1000, 1), -errno.ENOMEM),
            ("mprotect", (A, 0xFFFFFFFF, 1), -errno.ENOMEM),
            ("mprotect", (0xBFFFF000, 0x1000, 0x01000003), 0),
            ("mprotect", (A + 0x3000, 0x1000, 3), -errno.ENOMEM),
            ("mprotect", (A + 0x2000, 0x2000, 3), -errno.ENOMEM),
        ],
    )
    assert guest.maps() == [(A, A + 0x2000, "r--p"), (A + 0x2000, A + 0x3000, "rw-p"), (A + 0x4000, A + 0x8000, "rw-p")]


def test_mremap(guest):
    check(
        guest,
        [
            ("mmap", (A, 0x8000, 3, FIXED), A),
            ("mremap", (A, 0x1000, 0, 1), -errno.EINVAL),
            ("mremap", (A + 1, 0x1000, 0x1000, 1), -errno.EINVAL),
            ("mremap", (A, 0x1000, 0x1000, 8), -errno.EINVAL),
            ("mremap", (A, 0x1000, 0x1000, 2, B), -errno.EINVAL),
            (
                "mremap",
                (A, 0x1000, 0x1000, 5, B),
                -errno.EINVAL,
            ),  # DONTUNMAP, which Linux has had since 5.7, is refused here
            ("mremap", (A, 0x1000, 0xC0001000, 1), -errno.EINVAL),
            ("mremap", (A, 0x1000, 0x1000, 3, B + 1), -errno.EINVAL),
            ("mremap", (A, 0x1000, 0x1000, 3, 0xC0000000), -errno.EINVAL),
            ("mremap", (A, 0x2000, 0x2000, 3, A + 0x1000), -errno.EINVAL),
            ("mremap", (A, 0x2000, 0x2000, 3, A - 0x1000), -errno.EINVAL),
            ("mremap", (A, 0x2000, 0x2000, 3, A), -errno.EINVAL),
            ("mremap", (A, 0x2000, 0x1000, 3, A + 0x1000), -errno.EINVAL),
            ("mremap", (A, 0, 0x1000, 3, A), -errno.EINVAL),
            ("mremap", (0x30000000, 0x1000, 0x2000, 1), -errno.EFAULT),
            ("mremap", (A, 0, 0x1000, 1), -errno.EINVAL),
            ("mremap", (A, 0x9000, 0xA000, 1), -errno.EFAULT),
            ("mremap", (A, 0x9000, 0x9000, 1), A),
            ("mremap", (A, 0x1000, 0x2000, 0), -errno.ENOMEM),
            ("mremap", (A, 0x8000, 0x9000, 0), A),
            ("mremap", (A, 0x9000, 0xC000, 0), A),
            ("mremap", (A + 0x1000, 0x2000, 0x4000, 1), 0xB7FFC000),
            ("mremap", (A + 0x4000, 0x3000, 0x3000, 3, B), B),
            ("mremap", (B, 0x3000, 0x1000, 3, B + 0x10000), B + 0x10000),
            ("mremap", (A, 0x1000, 0x1000, 3, 0x1000), 0x1000),
            ("mremap", (0x1000, 0x1000, 0x1000, 3, A), A),
        ],
    )
    assert guest.maps() == [
        (A, A + 0x1000, "rw-p"),
        (A + 0x3000, A + 0x4000, "rw-p"),
        (A + 0x7000, A + 0xC000, "rw-p"),
        (B + 0x10000, B + 0x11000, "rw-p"),
        (0xB7FFC000, 0xB8000000, "rw-p"),
    ]


def test_mremap_of_shared_memory_copies_it(guest):
    check(
        guest,
        [
            ("mmap", (B + 0x100000, 0x4000, 3, 0x31), B + 0x100000),
            ("mremap", (B + 0x100000, 0, 0x2000, 1), 0xB7FFE000),
            ("mremap", (B + 0x101000, 0, 0x8000, 3, B + 0x200000), B + 0x200000),
            ("mremap", (B + 0x100000, 0x4000, 0x6000, 0), B + 0x100000),
        ],
    )
    assert [(v.vm_start, v.vm_end, v.vm_pgoff) for v in guest.mm.vmas[:-1]] == [
        (B + 0x100000, B + 0x106000, 0),
        (B + 0x200000, B + 0x208000, 1),
        (0xB7FFE000, 0xB8000000, 0),
    ]
    machine, mm = guest.machine, guest.mm
    machine.store(mm, B + 0x101000, 77)
    assert machine.load(mm, B + 0x200000) == machine.load(mm, 0xB7FFF000) == 77


def test_mremap_across_areas(guest):
    check(
        guest,
        [
            ("mmap", (A, 0x3000, 3, FIXED), A),
            ("mmap", (A + 0x3000, 0x3000, 1, FIXED), A + 0x3000),
            ("mmap", (A + 0x7000, 0x3000, 3, FIXED), A + 0x7000),
            ("mmap", (B, 0x10000, 1, FIXED), B),
            ("mremap", (A, 0xA000, 0xA000, 3, B), B),
        ],
    )
    assert guest.maps() == [
        (B, B + 0x3000, "rw-p"),
        (B + 0x3000, B + 0x7000, "r--p"),
        (B + 0x7000, B + 0xA000, "rw-p"),
        (B + 0xA000, B + 0x10000, "r--p"),
    ]
    check(
        guest,
        [
            ("mremap", (B, 0xA000, 0xB000, 3, A), -errno.EFAULT),
            ("mremap", (B, 0xA000, 0x9000, 3, A), -errno.EFAULT),
            ("mremap", (B - 0x1000, 0xB000, 0xB000, 3, A), -errno.EFAULT),
            ("mremap", (A, 0x40000000, 0x40000000, 3, A + 0x1000), -errno.EINVAL),
            ("munmap", (0x10000000, 0x20000000), 0),
            ("mmap", (A, 0x3000, 3, FIXED), A),
            ("mmap", (A + 0x4000, 0x3000, 3, FIXED), A + 0x4000),
            ("mremap", (A, 0x8000, 0x1000, 0), A),  # shrinking unmaps whatever lies there
        ],
    )
    assert guest.maps() == [(A, A + 0x1000, "rw-p")]


# advice -> answer for anonymous private memory, anonymous shared memory
ADVICE = {
    0: (0, 0),
    1: (0, 0),
    2: (0, 0),
    3: (0, 0),
    4: (0, 0),
    5: (-22, -22),
    6: (-22, -22),
    7: (-22, -22),
    8: (0, -22),
    9: (-22, 0),
    10: (0, 0),
    11: (0, 0),
    12: (-22, -22),
    13: (-22, -22),
    14: (-22, -22),
    15: (-22, -22),
    16: (0, 0),
    17: (0, 0),
    18: (0, -22),
    19: (0, 0),
    20: (0, 0),
    21: (0, 0),
    22: (0, 0),
    23: (0, 0),
    24: (0, 0),
    25: (-22, -22),
    26: (-22, -22),
    29: (-22, -22),
    100: (-22, -22),
}


def test_madvise(guest):
    assert guest.mmap(A, 0x4000, 3, FIXED) == A
    assert guest.mmap(A + 0x6000, 0x2000, 1, FIXED) == A + 0x6000
    assert guest.mmap(B, 0x4000, 3, 0x31) == B
    for advice, (private, shared) in ADVICE.items():
        assert guest.madvise(A, 0x1000, advice) == private, advice
        assert guest.madvise(B, 0x1000, advice) == shared, advice
    guest.machine.audit()
    check(
        guest,
        [
            ("madvise", (A, 0x8000, 4), -errno.ENOMEM),
            ("madvise", (A, 0x8000, 0), -errno.ENOMEM),
            ("madvise", (A + 1, 0x1000, 0), -errno.EINVAL),
            ("madvise", (A, 0xFFFFFFFF, 0), -errno.ENOMEM),
            ("madvise", (A, 0, 4), 0),
            ("madvise", (A, 0, 99), -errno.EINVAL),
            ("madvise", (A + 0x4000, 0x1000, 4), -errno.ENOMEM),
            ("madvise", (A, 0x8000, 3), -errno.ENOMEM),
            ("madvise", (A, 0x8000, 22), -errno.ENOMEM),
            ("mlock", (A, 0x1000), 0),
            ("madvise", (A, 0x1000, 4), -errno.EINVAL),
            ("madvise", (A, 0x1000, 8), -errno.EINVAL),
            ("madvise", (A, 0x1000, 20), -errno.EINVAL),
            ("madvise", (A, 0x1000, 21), -errno.EINVAL),
            ("madvise", (A, 0x1000, 24), 0),
            ("madvise", (A, 0x2000, 4), -errno.EINVAL),
            ("mmap", (B + 0x10000, 0x4000, 0, FIXED), B + 0x10000),
            ("madvise", (B + 0x10000, 0x1000, 22), -errno.EINVAL),
            ("madvise", (B + 0x10000, 0x1000, 4), 0),
        ],
    )


def test_mlock(guest):
    check(
        guest,
        [
            ("mmap", (A, 0x4000, 3, FIXED), A),
            ("mmap", (A + 0x6000, 0x2000, 1, FIXED), A + 0x6000),
            ("mlock", (A, 0x8000), -errno.ENOMEM),
            ("mlock", (A + 0x4FFF, 1), -errno.ENOMEM),
            ("mlock", (A, 0), 0),
            ("mlock", (0x40000000, 0), 0),
            ("mlock", (A, 0xFFFFFFFF), -errno.ENOMEM),
            ("munlock", (A, 0x8000), -errno.ENOMEM),
            ("munlock", (A + 0x4000, 0x1000), -errno.ENOMEM),
            ("mlock", (A, 0x1000, 2), -errno.EINVAL),
            ("mlock", (A, 0x1000, 1), 0),
            ("mlockall", (0,), -errno.EINVAL),
            ("mlockall", (4,), -errno.EINVAL),
            ("mlockall", (8,), -errno.EINVAL),
            ("mlockall", (2,), 0),
            ("mmap", (0, 0x1000, 0, ANON), 0xB7FFF000),
            ("mmap", (0, 0x1000, 1, ANON), 0xB7FFE000),
            ("munlockall", (), 0),
            ("mmap", (B, 0x4000, 0, FIXED), B),
            ("mlock", (B, 0x1000), -errno.ENOMEM),  # locked, but there is nothing to bring in
            ("munlock", (B, 0x1000), 0),
        ],
    )
    assert guest.mm.locked_vm == 0


def test_msync_mincore(guest):
    check(
        guest,
        [
            ("mmap", (B, 0x4000, 3, 0x31), B),
            ("madvise", (B, 0x1000, 23), 0),
            ("mlock", (B, 0x1000), 0),
            ("msync", (B, 0x1000, 4), 0),
            ("msync", (B, 0x1000, 2), -errno.EBUSY),
            ("msync", (B, 0x1000, 6), -errno.EBUSY),
            ("msync", (B, 0x1000, 5), -errno.EINVAL),
            ("msync", (B, 0x1000, 8), -errno.EINVAL),
            ("msync", (B, 0x1000, 0), 0),
            ("msync", (B + 1, 0x1000, 1), -errno.EINVAL),
            ("msync", (B, 0x6000, 1), -errno.ENOMEM),
            ("msync", (B, 0x6000, 4), -errno.ENOMEM),
            ("msync", (B, 0, 4), 0),
            ("msync", (B, 0xFFFFFFFF, 4), -errno.ENOMEM),
            ("msync", (0x50000000, 0x1000, 1), -errno.ENOMEM),
            ("mincore", (B, 0x5000), -errno.ENOMEM),
            ("mincore", (B + 1, 0x1000), -errno.EINVAL),
            ("mincore", (0xBFFFF000, 0x2000), -errno.ENOMEM),
            ("mincore", (0x50000000, 0xF0000000), -errno.ENOMEM),
        ],
    )
    assert do_mincore(guest.mem, guest.mm, B, 0x4000) == b"\1\0\0\0"
    assert do_mincore(guest.mem, guest.mm, B, 0x1001) == b"\1\0"
    assert do_mincore(guest.mem, guest.mm, B, 0) == b""


def test_remap_file_pages(guest):
    check(
        guest,
        [
            ("mmap", (A, 0x4000, 3, FIXED), A),
            ("mmap", (B, 0x4000, 3, 0x31), B),
            ("remap", (B, 0x1000, 0, 2, 0), 0),
            ("remap", (B, 0x1000, 1, 2, 0), -errno.EINVAL),
            ("remap", (B, 0, 0, 2, 0), -errno.EINVAL),
            ("remap", (B + 1, 0x1FFF, 0, 2, 0), 0),
            ("remap", (B, 0x5000, 0, 0, 0), -errno.EINVAL),
            ("remap", (A, 0x1000, 0, 2, 0), -errno.EINVAL),
            ("remap", (B + 0x2000, 0x1000, 0, 9, 0), 0),  # beyond the end: the access will tell
            ("remap", (B + 0x3000, 0x1000, 0, 0, 0x10000), 0),
        ],
    )


def test_brk(guest):
    mm = guest.mm
    k = mm.start_brk = mm.brk = 0x0804F000
    assert guest.mmap(0x08048000, 0x1000, 1, 0x32) == 0x08048000
    check(
        guest,
        [
            ("brk", (0,), k),
            ("brk", (k + 0x1001,), k + 0x1001),
            ("brk", (k + 0x2000,), k + 0x2000),
            ("brk", (k - 1,), k + 0x2000),
            ("brk", (k + 0x800,), k + 0x800),
            ("brk", (k,), k),
            ("brk", (0xBFFF0000,), k),
            ("brk", (0x10000,), k),
            ("mmap", (k + 0x10000, 0x1000, 3, 0x132), k + 0x10000),
            ("brk", (k + 0x8000,), k),  # too near to what grows down
            ("mmap", (k + 0x200000, 0x1000, 3, 0x132), k + 0x200000),
            ("munmap", (k + 0x10000, 0x1000), 0),
            ("brk", (k + 0x1FE000,), k),
            ("brk", (k + 0x1FF000,), k),
            ("brk", (k + 0x200000,), k),
            ("brk", (k + 0xFF000,), k + 0xFF000),
            ("brk", (k + 0xFE000,), k + 0xFE000),
            ("brk", (k + 0x100000,), k + 0xFE000),
            ("munmap", (k, 0x10000), 0),
            ("brk", (k + 0x200,), k + 0x200),
        ],
    )
    assert guest.maps() == [(0x08048000, 0x08049000, "r--p"), (k + 0x200000, k + 0x201000, "rw-p")]
