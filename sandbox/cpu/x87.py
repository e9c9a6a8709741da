"""The host's x87 for what this Unicorn release computes otherwise than a processor (x87.c), and a trial of all that was
found wrong in it.

The helpers in x87.c find the engine's FPU by offsets that are private to a Unicorn release. They are measured on a
scratch engine, which is stopped in a known state of its FPU; where they cannot be found, Unicorn's own helpers stay,
and `wrong` says what that means.
"""

import struct

from unicorn import UC_ARCH_X86, UC_MODE_32, Uc
from unicorn.x86_const import UC_CPU_X86_COREDUO, UC_X86_REG_CR4, UC_X86_REG_EAX, UC_X86_REG_ECX

from sandbox.cpu.interpose import ffi, lib
from sandbox.hostlimits import check_address_space

_CODE, _DATA, _PAGE = 0x1000, 0x2000, 0x1000
_OSFXSR = 1 << 9  # of CR4: SSE is allowed
_ST1, _ST0, _RESULT = _DATA, _DATA + 16, _DATA + 32
_LOAD = (
    b"\xdb\x2d" + struct.pack("<I", _ST1) + b"\xdb\x2d" + struct.pack("<I", _ST0) + b"\xdb\xe2"
)  # fld st1; fld st0; fnclex
_STORE = b"\xdb\x3d" + struct.pack("<I", _RESULT)  # fstp
_STORE_STATUS = b"\xdd\x3d" + struct.pack("<I", _RESULT)  # fnstsw
_SCRATCH = struct.pack("<I", _DATA + 64)
_ULPS = 16  # processors differ among themselves by one; double precision is out by hundreds

# Ten bytes of an extended real, as printed: sign and exponent, mantissa.
_ONE, _THIRD, _3_25, _NAN = (
    "3fff8000000000000000",
    "3ffdaaaaaaaaaaaaaaab",
    "4000d000000000000000",
    "7fffc111110000000000",
)

# name, opcode, ST1, ST0, the result
_VALUES = (
    ("fprem", b"\xd9\xf8", "3fe18000000000000000", "3fffffffffffffffffff", "3fe0ffffffff80000000"),
    ("fprem1", b"\xd9\xf5", "3fe18000000000000000", "3fffffffffffffffffff", "bfc08000000000000000"),
    ("fyl2x", b"\xd9\xf1", _ONE, _THIRD, "bfffcae00d1cfdeb43cf"),
    ("f2xm1", b"\xd9\xf0", _ONE, _THIRD, "3ffd85145f31ae515c45"),
    ("fpatan", b"\xd9\xf3", _ONE, _THIRD, "3fff9fe0bb5bd42affec"),
    ("fsin", b"\xd9\xfe", _ONE, _THIRD, "3ffda786103454063563"),
    ("fcos", b"\xd9\xff", _ONE, _THIRD, "3ffef1e8b2cc8cc1656b"),
    ("fsqrt", b"\xd9\xfa", _ONE, _THIRD, "3ffe93cd3a2c8198e269"),
)
# name, code, ST0, the first bytes of what it stores
_STORES = (
    ("fbstp", b"\xdf\x35" + struct.pack("<I", _RESULT), "bffc8000000000000000", "00000000000000000080"),
    # mov eax, 1; cvtsi2sd xmm1, eax; mov al, 3; cvtsi2sd xmm0, eax; divsd xmm1, xmm0; stmxcsr
    (
        "exception flags of SSE",
        bytes.fromhex("b801000000f20f2ac8b003f20f2ac0f20f5ec80fae1d") + struct.pack("<I", _RESULT),
        _ONE,
        "a01f0000",
    ),
)
# name, code, ST0, the exception flag it sets
_FLAGS = (
    ("IE of fcom", b"\xd8\xd1", _NAN, 0x01),
    ("IE of fcomi", b"\xdb\xf1", _NAN, 0x01),
    ("PE of fistp", b"\xdb\x1d" + _SCRATCH, _3_25, 0x20),
    ("PE of fisttp", b"\xdb\x0d" + _SCRATCH, _3_25, 0x20),
)


# --- where the engine keeps its FPU

_EAX, _ECX = 0x5E110001, 0x5E110002
_CONTROL = 0x0F7F  # rounds towards zero, 64-bit mantissas
_TOWARDS_ZERO, _MANTISSA, _INEXACT = 3, 80, 0x20  # as the soft floating point writes them
_SEEN = 4096  # bytes of the engine's CPU state that are searched
_B, _A = "4005e8a1b2c3d4e5f800", "40019abcdef012345800"  # ST1, ST0; a remainder that double precision gets right
_KNOWN = (  # ... an inexact addition, and the call by which the engine shows where its state is
    b"\xd9\x2d"
    + struct.pack("<I", _DATA + 64)  # fldcw
    + b"\xd9\xeb\xd8\xc1\xdd\xd8"  # fldpi; fadd st, st(1); fstp st
    + b"\xd9\xf8"  # fprem
)


def measure() -> int:
    """Measures where the engine keeps its FPU, and gives it to x87.c; the offset of the soft floating point's exception
    flags behind the general registers, or 0: Unicorn's own helpers stay."""
    lib.x87_set_offsets(ffi.NULL)
    uc = _engine()
    uc.reg_write(UC_X86_REG_EAX, _EAX)
    uc.reg_write(UC_X86_REG_ECX, _ECX)
    uc.mem_write(_DATA + 64, struct.pack("<H", _CONTROL))
    _run(uc, _B, _A, _KNOWN)
    if lib.x87_last_caller() == ffi.NULL:
        return 0
    found = _find(bytes(ffi.buffer(lib.x87_last_caller(), _SEEN)))
    if found is None:
        return 0
    lib.x87_set_offsets(ffi.new("struct x87_offsets *", found))
    return found["flags"]


def _find(state: bytes) -> dict[str, int] | None:
    """The fields of `struct x87_offsets` in the state of a CPU that has run `_KNOWN`; None where one is not as
    expected."""
    b, a = (bytes.fromhex(real)[::-1] for real in (_B, _A))
    registers = [
        at for at in range(0, _SEEN - 8 * 16, 4) if state[at + 96 : at + 106] == a and state[at + 112 : at + 122] == b
    ]
    if len(registers) != 1 or struct.unpack_from("<2Q", state) != (_EAX, _ECX):
        return None
    (at,) = registers
    top = [
        i
        for i in range(at - 32, at - 12, 4)
        if struct.unpack_from("<I2xH8B", state, i) == (6, _CONTROL, 1, 1, 1, 1, 1, 1, 0, 0)
    ]
    flags = [
        i
        for i in range(at + 8 * 16, at + 12 * 16)
        if (state[i - 1], state[i + 1]) == (_TOWARDS_ZERO, _MANTISSA) and state[i] & _INEXACT
    ]
    if len(top) != 1 or len(flags) != 1:
        return None
    return {
        "top": top[0],
        "status": top[0] + 4,
        "control": top[0] + 6,
        "tags": top[0] + 8,
        "registers": at,
        "flags": flags[0],
    }


# --- what comes out wrong


def wrong() -> list[str]:
    """Names of the instructions and flags that come out wrong here."""
    measure()
    uc = _engine()
    names = []
    for name, code, st1, st0, right in _VALUES:
        head, mantissa = _split(_run(uc, st1, st0, code + _STORE))
        right_head, exact = _split(bytes.fromhex(right)[::-1])
        if head != right_head or abs(mantissa - exact) > _ULPS:
            names.append(name)
    for name, code, st0, stored in _STORES:
        if not _run(uc, _ONE, st0, code).startswith(bytes.fromhex(stored)):
            names.append(name)
    for name, code, st0, flag in _FLAGS:
        if not _run(uc, _ONE, st0, code + _STORE_STATUS)[0] & flag:
            names.append(name)
    return names


def _engine() -> Uc:
    check_address_space()
    uc = Uc(UC_ARCH_X86, UC_MODE_32)
    uc.ctl_set_cpu_model(UC_CPU_X86_COREDUO)
    uc.mem_map(_CODE, 2 * _PAGE)
    uc.reg_write(UC_X86_REG_CR4, _OSFXSR)
    return uc


def _split(real: bytes) -> tuple[int, int]:
    """(sign and exponent, mantissa)."""
    mantissa, head = struct.unpack("<QH", real)
    return head, mantissa


def _run(uc: Uc, st1: str, st0: str, code: bytes) -> bytes:
    """The ten bytes that `code` stored, with two operands on the stack of a fresh FPU."""
    code = b"\xdb\xe3" + _LOAD + code  # fninit
    uc.mem_write(_ST1, bytes.fromhex(st1)[::-1])
    uc.mem_write(_ST0, bytes.fromhex(st0)[::-1])
    uc.mem_write(_CODE, code)
    uc.ctl_remove_cache(_CODE, _CODE + _PAGE)
    uc.emu_start(_CODE, _CODE + len(code))
    return bytes(uc.mem_read(_RESULT, 10))
