"""The few instructions the kernel must recognise in a trap, by their bytes."""

# operand size, address size, lock, rep/repne and segment overrides
_PREFIXES = frozenset((0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65))
_LONGEST = 15  # bytes in an i386 instruction, at most


def is_rdtsc(code: bytes) -> int:
    """Length in bytes of the `rdtsc` at the start of `code`, prefixes included; 0 if it is another instruction.

    CR4.TSD is set, so that a program never sees the host's clock: `rdtsc` arrives as a PROTECTION trap with EIP at it,
    and the kernel answers from the virtual clock.
    """
    at = 0
    while at < len(code) and code[at] in _PREFIXES:
        if code[at] == 0xF0:
            return 0  # a locked rdtsc is #UD
        at += 1
    if at + 2 <= min(len(code), _LONGEST) and code[at] == 0x0F and code[at + 1] == 0x31:
        return at + 2
    return 0
