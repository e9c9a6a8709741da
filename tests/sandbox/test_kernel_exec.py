"""Loading programs: hand-made ELF images, position-independent ones and interpreters, broken headers, failing
allocations."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from sandbox.kernel import exec as exec_module
from sandbox.kernel.binfmt import script_interpreter
from sandbox.kernel.segments import UserDesc
from sandbox.kit.injection import Failing
from tests.guests.native import run_native, why_not_native
from tests.sandbox.box import Box

EXEC, DYN = 2, 3
LOAD, INTERP, GNU_STACK = 1, 3, 0x6474E551
R, W, X = 4, 2, 1
EXIT = b"\xb8\x01\0\0\0\xcd\x80"  # mov $1,%eax; int $0x80
WHERE = (
    b"\xe8\0\0\0\0\x5b\xc1\xeb\x18" + EXIT
)  # call 1f; 1: pop %ebx; shr $24,%ebx; exit(ebx): the top byte of where it runs
FORTY_TWO = b"\xbb\x2a\0\0\0" + EXIT


def elf(
    code: bytes, kind: int = EXEC, base: int = 0x08048000, interp: bytes = b"", bss: int = 0, **header: int
) -> bytes:
    """One read-write-execute segment with headers and code; optionally an interpreter's name, and `bss` bytes behind
    the file."""
    count = 2 + bool(interp)
    start = 52 + 32 * count
    tail = interp + b"\0" if interp else b""
    size = start + len(code) + len(tail)
    fields = {"ident": 1, "machine": 3, "phentsize": 32, "phnum": count, "entry": base + start, **header}
    ident = b"\x7fELF" + bytes((fields["ident"], 1, 1)) + bytes(9)
    ehdr = struct.pack(
        "<16sHHIIIIIHHHHHH",
        ident,
        kind,
        fields["machine"],
        1,
        fields["entry"],
        52,
        0,
        0,
        52,
        fields["phentsize"],
        fields["phnum"],
        40,
        0,
        0,
    )
    segments = struct.pack("<8I", LOAD, 0, base, base, size, size + bss, R | W | X, 4096)
    segments += struct.pack("<8I", GNU_STACK, 0, 0, 0, 0, 0, R | W, 16)
    if interp:
        segments += struct.pack(
            "<8I", INTERP, start + len(code), base + start + len(code), 0, len(tail), len(tail), R, 1
        )
    return ehdr + segments + code + tail


def test_position_independent_program_goes_where_linux_puts_it(tmp_path: Path) -> None:
    path = tmp_path / "pie"
    path.write_bytes(elf(WHERE, DYN, 0))
    path.chmod(0o755)
    box = Box()
    status = box.run(path.read_bytes()).status
    assert status == 0xB7
    if not why_not_native():
        assert run_native(path).status == status


def test_interpreter_runs_first(tmp_path: Path) -> None:
    """The interpreter goes to the mmap region, the program that names it to 0x400000."""
    interp = tmp_path / "ld"
    interp.write_bytes(elf(WHERE, DYN, 0))
    interp.chmod(0o755)
    program = tmp_path / "dynamic"
    program.write_bytes(elf(FORTY_TWO, DYN, 0, interp=str(interp).encode()))
    program.chmod(0o755)
    box = Box()
    box.vfs.write_file(str(interp), interp.read_bytes(), 0o755)
    assert box.run(program.read_bytes()).status == 0xB7
    if not why_not_native():
        assert run_native(program).status == 0xB7


def test_interpreter_sees_the_program_in_the_auxiliary_vector() -> None:
    """It jumps to AT_ENTRY, which lies in the program: 42."""
    # lea 8(%esp) past argc, argv[0], NULL; skip the environment; find tag 9; jump
    find = bytes.fromhex("8d74240cad85c075fbad89c3ad83fb0975f7ffe0")
    box = Box()
    box.vfs.write_file("/lib/ld", elf(find, DYN, 0), 0o755)
    assert box.run(elf(FORTY_TWO, DYN, 0, interp=b"/lib/ld")).status == 42


def test_missing_and_bad_interpreters() -> None:
    ending = Box().run(elf(FORTY_TWO, interp=b"/lib/none"))
    assert ending.status == 127 and "ENOENT" in ending.detail[0]
    box = Box()
    box.vfs.write_file("/lib/ld", b"no ELF at all", 0o755)
    ending = box.run(elf(FORTY_TWO, interp=b"/lib/ld"))
    assert ending.status == 126 and "ELIBBAD" in ending.detail[0]


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"\x7fELF",
        elf(EXIT, ident=2),
        elf(EXIT, machine=62),
        elf(EXIT, kind=1),
        elf(EXIT, phentsize=56),
        elf(EXIT, phnum=0),
        elf(EXIT)[:40],
    ],
    ids=["empty", "magic only", "64-bit class", "x86-64", "object file", "entry size", "no headers", "cut short"],
)
def test_what_is_not_a_program(image: bytes) -> None:
    ending = Box().run(image)
    assert (ending.kind, ending.status) == ("exited", 126)
    assert "ENOEXEC" in ending.detail[0]


def test_segments_beyond_user_space_kill() -> None:
    ending = Box().run(elf(EXIT, base=0xBFFFF000, bss=0x10000))
    assert (ending.kind, ending.signal) == ("signalled", 11)


def test_bss_is_zero_and_brk_follows_it() -> None:
    # The last 4 bytes of bss plus the first after the file: sum must be 0. brk(0) - end of bss, rounded: exit with the
    # low byte of their page difference.
    base, bss = 0x08048000, 0x5000
    size = 52 + 64
    code_at = base + size
    last = base + bss  # inside bss for sure
    code = (
        b"\xa1"
        + struct.pack("<I", last)
        + b"\x89\xc6"
        + b"\xb8\x2d\0\0\0\x31\xdb\xcd\x80"
        + b"\x2d"
        + struct.pack("<I", base)
        + b"\xc1\xe8\x0c\x89\xc3\x01\xf3"
        + EXIT
    )
    assert code_at > base
    box = Box()
    # file bytes + bss reach into the sixth page: brk starts at page 6
    assert box.run(elf(code, bss=bss)).status == 6


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"#!/bin/sh\n", (b"/bin/sh", None)),
        (b"#! /bin/sh -e \n", (b"/bin/sh", b"-e")),
        (b"#!/bin/sh\ta  b\t\n", (b"/bin/sh", b"a  b")),
        (b"#!/bin/sh", (b"/bin/sh", None)),
        (b"\x7fELF", None),
    ],
)
def test_script_lines(line: bytes, expected: tuple[bytes, bytes | None] | None) -> None:
    assert script_interpreter(line) == expected


def test_exec_fails_at_every_allocation_and_leaves_the_old_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the point of no return the caller gets ENOMEM and goes on (it exits with 12); after it the program is
    killed. Nothing is left behind."""

    # execve(name, NULL, NULL); exit(-eax); the name stands behind the code
    def call(name_at: int) -> bytes:
        return (
            b"\xb8\x0b\0\0\0\xbb"
            + struct.pack("<I", name_at)
            + b"\x31\xc9\x31\xd2\xcd\x80\xf7\xd8\x89\xc3"
            + EXIT
            + b"/bin/new\0"
        )

    base = 0x08048000
    caller = elf(call(base + elf(call(0)).index(b"/bin/new")))
    real_execve = exec_module.do_execve
    endings = []
    for n in range(1, 121):
        box = Box()

        def armed(*args, n=n, box=box):
            with Failing(box.mem.pages, n):
                return (yield from real_execve(*args))

        monkeypatch.setattr("sandbox.syscalls.process.do_execve", armed)
        box.vfs.write_file("/bin/new", elf(FORTY_TWO), 0o755)
        ending = box.run(caller)
        endings.append((ending.kind, ending.status or ending.signal))
        assert box.kernel.objects.task_struct.objects == box.mem.mm_cache.objects == box.mem.vma_cache.objects == 0
        if endings[-1] == ("exited", 42):
            break
    assert endings[-1] == ("exited", 42)
    assert ("exited", 12) in endings
    assert set(endings) <= {("exited", 12), ("exited", 42), ("signalled", 9), ("signalled", 11)}
    before = [ending == ("exited", 12) for ending in endings[:-1]]
    assert before == sorted(before, reverse=True), "an error after the point of no return was survived"


def test_descriptors_round_trip() -> None:
    for base, limit, flags in ((0, 0xFFFFF, 0x51), (0x12345678, 0xABCDE, 0x1), (0xFFFFF000, 0xFFF, 0x59)):
        desc = UserDesc(6, base, limit, flags)
        back = UserDesc.from_descriptor(6, desc.descriptor())
        assert (back.base, back.limit, back.flags) == (base, limit, flags)
    assert UserDesc(6, 0, 0, 0x28).descriptor() == 0
