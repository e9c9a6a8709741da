"""From what the user typed to an i386 ELF image: a file, a C file, or the name of a bundled program.

The checks here are for the user's eyes, before anything boots; the guest kernel's own loader decides again when it
executes the image.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmcore.errors import ConfigError
from sandbox import toolchain
from sandbox.config import unreadable
from sandbox.configfile import nearest
from sandbox.kernel.binfmt import ET_DYN, ET_EXEC, PT_INTERP, PT_LOAD, is_i386

_EHDR = struct.Struct("<16sHHIIIIIHHHHHH")
_PHDR = struct.Struct("<8I")

_MACHINES = {8: "MIPS", 20: "PowerPC", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}
_BUILD_IT = "give the C file, or compile it with `gcc -m32 -static`"


class Program(NamedTuple):
    """A program to copy into the guest: its `name` there and its ELF `image`."""

    name: str
    image: bytes


def argument_list(program: str | os.PathLike | Sequence[str | os.PathLike]) -> list[str]:
    """The program with its arguments as a list of strings; one string or path is a program without arguments. Raises
    `ConfigError`."""
    words = [program] if isinstance(program, (str, os.PathLike)) else list(program)
    if not words:
        raise ConfigError("no program given")
    for word in words:
        if not isinstance(word, (str, os.PathLike)):
            raise ConfigError(f"{word!r}: program and arguments are strings: write {str(word)!r}")
    argv = [os.fspath(word) for word in words]
    if isinstance(program, str) and len(parts := program.split()) > 1 and not os.path.exists(program):
        raise ConfigError(f"{program!r}: no such program: arguments stand in a list, as in {parts!r}")
    return argv


def load_program(word: str, *, mounts: bool = False) -> Program:
    """The program meant by `word`: the file of that name if there is one, else the bundled program.

    With `mounts`, a dynamically linked program is let through: its interpreter may be in one of them.
    Raises `ConfigError`, one line with the remedy.
    """
    if "/" in word or os.path.isfile(word):
        reason = unreadable(word)
        if not reason and not os.path.isfile(word):
            reason = "is neither a file nor a bundled program's name"
        if reason:
            raise ConfigError(f"{word}: {reason}")
        name, path = os.path.basename(word), Path(word)
        if word.endswith(".c"):
            name, path = name[:-2], _compile(word)
    else:
        bundled = toolchain.bundled()
        if word not in bundled and os.path.isdir(word):
            raise ConfigError(
                f"{word}: is a directory, not a file: give an i386 executable, a .c file or a bundled program's name"
            )
        if word not in bundled:
            raise ConfigError(
                f"{word}: neither a file nor a bundled program: {nearest(word, bundled)} "
                f"(`rmapbox programs` lists them)"
            )
        name, path = word, _bundled(word)
    image = path.read_bytes()
    check_image(word, image, mounts=mounts)
    return Program(name, image)


def _compile(source: str) -> Path:
    try:
        return toolchain.compile_c(Path(source))
    except toolchain.CompileError as error:
        raise ConfigError(f"{source}: does not compile: {one_line(error)}") from None


def _bundled(name: str) -> Path:
    try:
        return toolchain.program_path(name)
    except toolchain.CompileError as error:
        raise ConfigError(f"{name}: the bundled program does not compile: {one_line(error)}") from None


def one_line(error: BaseException) -> str:
    """The message of `error` on one line."""
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip()) or type(error).__name__


def check_image(name: str, image: bytes, *, mounts: bool = False) -> None:
    """Raises `ConfigError` unless `image` is an i386 executable the guest can load; the line says what it is
    instead."""
    if image[:2] == b"#!":
        raise ConfigError(
            f"{name}: a script, not an ELF file: run its interpreter and pass the script to it (--mount shows it)"
        )
    if image[:4] != b"\x7fELF":
        raise ConfigError(f"{name}: not an ELF file: give an i386 executable, a .c file or a bundled program's name")
    if len(image) < 20:
        raise ConfigError(f"{name}: truncated ELF file ({len(image)} bytes): copy or build it again")
    machine = int.from_bytes(image[18:20], "little" if image[5] == 1 else "big")
    if not is_i386(image, machine):
        kind = _MACHINES.get(machine, f"machine {machine}")
        raise ConfigError(f"{name}: an ELF file for {kind}, not for i386: {_BUILD_IT}")
    if len(image) < _EHDR.size:
        raise ConfigError(f"{name}: truncated ELF file ({len(image)} bytes): copy or build it again")
    _, e_type, _, _, _, phoff, _, _, _, phentsize, phnum, *_ = _EHDR.unpack_from(image)
    if e_type not in (ET_EXEC, ET_DYN) or phentsize != _PHDR.size or phnum == 0:
        raise ConfigError(f"{name}: an ELF file but not an executable (an object file or library?): link it first")
    if phoff + phnum * _PHDR.size > len(image):
        raise ConfigError(f"{name}: truncated ELF file: its program headers lie beyond its end; copy or build it again")
    for number in range(phnum):
        p_type, offset, _, _, filesz, *_ = _PHDR.unpack_from(image, phoff + number * _PHDR.size)
        if p_type in (PT_LOAD, PT_INTERP) and offset + filesz > len(image):
            raise ConfigError(
                f"{name}: truncated ELF file: segment {number} ends at {offset + filesz}, "
                f"the file at {len(image)}; copy or build it again"
            )
        if p_type == PT_INTERP and not mounts:
            interpreter = image[offset : offset + filesz].rstrip(b"\0").decode(errors="replace")
            raise ConfigError(
                f"{name}: dynamically linked, and the guest has no {interpreter}: link it with -static, "
                f"or --mount the libraries"
            )
