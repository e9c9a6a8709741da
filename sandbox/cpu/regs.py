"""Indices into `Context.regs`, sixteen 32-bit values. The first eight are in the order in which i386 instructions
number them."""

from collections.abc import Iterable

EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
EIP, EFLAGS = 8, 9
CS, SS, DS, ES, FS, GS = range(10, 16)

NAMES = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "eflags", "cs", "ss", "ds", "es", "fs", "gs")


def describe(regs: Iterable[int]) -> str:
    """The register file on one line, for error messages and crash reports."""
    return " ".join(
        f"{name}={value:08x}" if i < 10 else f"{name}={value:x}" for i, (name, value) in enumerate(zip(NAMES, regs))
    )
