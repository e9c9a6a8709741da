"""The crash report: why a guest died of SIGSEGV, SIGBUS, SIGILL or SIGFPE.

A pure function over `Crash`. It shows what a debugger would show first: the signal in words, the registers, the
instructions from EIP, and the areas on either side of the address, so that a jump through a null pointer, a write to
text and a run off the stack are told apart at a glance.
"""

from __future__ import annotations

import signal

from sandbox.result import Area, Crash

REGISTERS = (
    "eax",
    "ecx",
    "edx",
    "ebx",
    "esp",
    "ebp",
    "esi",
    "edi",
    "eip",
    "eflags",
    "cs",
    "ss",
    "ds",
    "es",
    "fs",
    "gs",
)
_ESP, _EIP = REGISTERS.index("esp"), REGISTERS.index("eip")

CODES: dict[tuple[int, int], str] = {
    (signal.SIGSEGV, 1): "nothing is mapped at the address",
    (signal.SIGSEGV, 2): "the mapping does not allow the access",
    (signal.SIGSEGV, 0x80): "general protection",
    (signal.SIGBUS, 1): "misaligned address",
    (signal.SIGBUS, 2): "beyond the end of the mapped file",
    (signal.SIGILL, 1): "illegal opcode",
    (signal.SIGILL, 2): "illegal operand",
    (signal.SIGILL, 5): "privileged opcode",
    (signal.SIGFPE, 1): "integer division by zero",
    (signal.SIGFPE, 2): "integer overflow",
    (signal.SIGFPE, 3): "floating-point division by zero",
    (signal.SIGFPE, 7): "invalid floating-point operation",
}
"""(signal, si_code) in words. Linux: include/uapi/asm-generic/siginfo.h."""

INSTRUCTIONS = 6


def disassemble(code: bytes, address: int, count: int = INSTRUCTIONS) -> list[str]:
    """At most `count` i386 instructions of `code`, which stands at `address`, one line each."""
    from capstone import CS_ARCH_X86, CS_MODE_32, Cs

    lines = []
    for insn in Cs(CS_ARCH_X86, CS_MODE_32).disasm(code, address, count):
        lines.append(f"{insn.address:08x}  {insn.bytes.hex(' '):<24} {insn.mnemonic} {insn.op_str}".rstrip())
    if not lines and code:
        lines.append(f"{address:08x}  {code[:8].hex(' '):<24} (not an instruction)")
    return lines


def areas_around(areas: list[Area], address: int) -> list[tuple[str, Area]]:
    """The areas that explain `address`: the one that holds it (">") or else its neighbours below and above (" ")."""
    below = above = None
    for area in areas:
        if area.start <= address < area.end:
            return [(">", area)]
        if area.end <= address:
            below = area
        elif above is None:
            above = area
    return [(" ", area) for area in (below, above) if area is not None]


def _area_line(mark: str, area: Area) -> str:
    return f"  {mark} {area.start:08x}-{area.end:08x} {area.perms} {area.name}".rstrip()


def more_crashes(counts: dict[str, int], kinds: int = 4) -> list[str]:
    """One line for all crashes beyond those reported in full ("NAME by SIGNAL" -> how many), or none."""
    if not counts:
        return []
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(f"{what} x{count}" for what, count in ordered[:kinds])
    others = sum(count for _, count in ordered[kinds:])
    return [
        f"and {sum(counts.values())} more killed by faults of their own: {text}"
        + (f", others x{others}" if others else "")
    ]


def crash_report(crash: Crash) -> str:
    """The whole report, several lines, without a final newline."""
    name = signal.Signals(crash.signal).name
    why = CODES.get((crash.signal, crash.code), f"si_code {crash.code}")
    lines = [f"{crash.comm}[{crash.pid}] killed by {name}: {why}, address {crash.address:#010x}"]
    for first in range(0, len(REGISTERS), 4):
        lines.append("  " + "  ".join(f"{REGISTERS[i]:>6} {crash.registers[i]:08x}" for i in range(first, first + 4)))
    eip = crash.registers[_EIP]
    if crash.code_bytes:
        text = disassemble(crash.code_bytes, eip)
        lines += [f"  {'=>' if i == 0 else '  '} {line}" for i, line in enumerate(text)]
    else:
        lines.append(f"  => {eip:08x}  (not readable: the program jumped here)")
    shown: set[tuple[int, int]] = set()
    for label, address in (("address", crash.address), ("eip", eip), ("esp", crash.registers[_ESP])):
        around = areas_around(crash.areas, address)
        if all((area.start, area.end) in shown for _, area in around):
            continue
        lines.append(f"  around {label} {address:08x}:")
        for mark, area in around:
            lines.append(_area_line(mark, area))
            shown.add((area.start, area.end))
    return "\n".join(lines)
