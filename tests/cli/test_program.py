"""What the user may name as PROGRAM, and what each wrong file is told."""

import struct
from pathlib import Path

import pytest

from mmcore.errors import ConfigError
from sandbox.program import check_image, load_program
from tests.cli.conftest import SHOW


def elf(*, machine=3, elf_class=1, e_type=2, segments=((1, 0, 0x54 + 32),), size=None):
    header = struct.pack(
        "<4sBBB9xHHIIIIIHHHHHH",
        b"\x7fELF",
        elf_class,
        1,
        1,
        e_type,
        machine,
        1,
        0x8048000,
        52,
        0,
        0,
        52,
        32,
        len(segments),
        0,
        0,
        0,
    )
    body = b"".join(
        struct.pack("<8I", kind, offset, 0x8048000, 0, filesz, filesz, 5, 4096) for kind, offset, filesz in segments
    )
    image = (header + body).ljust(0x54 + 32 if size is None else size, b"\0")
    return image if size is None else image[:size]


def test_a_good_image_passes():
    check_image("x", elf())


@pytest.mark.parametrize(
    "image, words",
    [
        (b"", "not an ELF file"),
        (b"int main;", "not an ELF file"),
        (b"#!/bin/sh\n", "a script"),
        (b"\x7fELF\1\1\1", "truncated ELF"),
        (elf()[:40], "truncated ELF"),
        (elf(size=60), "program headers lie beyond its end"),
        (elf(segments=((1, 0, 100000),)), "segment 0 ends at 100000"),
        (elf(machine=62, elf_class=2), "for x86-64, not for i386.*gcc -m32"),
        (elf(machine=183, elf_class=2), "for AArch64"),
        (elf(machine=40), "for ARM"),
        (elf(e_type=1), "not an executable"),
    ],
)
def test_wrong_images(image, words):
    with pytest.raises(ConfigError, match=words) as caught:
        check_image("prog", image)
    assert str(caught.value).startswith("prog: ") and "\n" not in str(caught.value)


def test_dynamic_linking_needs_a_mount():
    image = bytearray(elf(segments=((3, 84, 18),), size=102))
    image[84:102] = b"/lib/ld-linux.so.2"
    with pytest.raises(ConfigError, match=r"no /lib/ld-linux.so.2: link it with -static"):
        check_image("prog", bytes(image))
    check_image("prog", bytes(image), mounts=True)


def test_a_program_for_the_486_runs(tmp_path: Path, rmapbox, compile_c) -> None:
    """e_machine 6: natively it is executed as any other."""
    image = bytearray(load_program(str(compile_c(SHOW))).image)
    image[18] = 6
    path = tmp_path / "for486"
    path.write_bytes(image)
    assert rmapbox("run", "--quiet", path, "/etc/hostname").out == "rmapbox\n"
    image[18] = 62
    path.write_bytes(image)
    assert "an ELF file for x86-64, not for i386" in rmapbox("run", path).error_line()
