"""Which x87 instructions this Unicorn release computes otherwise than a processor: each tried once, on an engine of its own."""

import struct

from unicorn import UC_ARCH_X86, UC_MODE_32, Uc
from unicorn.x86_const import UC_CPU_X86_COREDUO

from sandbox.hostlimits import check_address_space

_CODE, _DATA, _PAGE = 0x1000, 0x2000, 0x1000
_ST1, _ST0, _RESULT = _DATA, _DATA + 16, _DATA + 32
_LOAD = b"\xdb\x2d" + struct.pack("<I", _ST1) + b"\xdb\x2d" + struct.pack("<I", _ST0) + b"\xdb\xe2"  # fld st1; fld st0; fnclex
_STORE = b"\xdb\x3d" + struct.pack("<I", _RESULT)  # fstp
_STORE_STATUS = b"\xdd\x3d" + struct.pack("<I", _RESULT)  # fnstsw
_SCRATCH = struct.pack("<I", _DATA + 64)
_ULPS = 16  # processors differ among themselves by one; double precision is out by hundreds

# Ten bytes of an extended real, as printed: sign and exponent, mantissa.
_ONE, _THIRD, _3_25, _NAN = "3fff8000000000000000", "3ffdaaaaaaaaaaaaaaab", "4000d000000000000000", "7fffc111110000000000"

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
# name, code, ST0, the exception flag it sets
_FLAGS = (
    ("IE of fcom", b"\xd8\xd1", _NAN, 0x01),
    ("IE of fcomi", b"\xdb\xf1", _NAN, 0x01),
    ("PE of fistp", b"\xdb\x1d" + _SCRATCH, _3_25, 0x20),
    ("PE of fisttp", b"\xdb\x0d" + _SCRATCH, _3_25, 0x20),
)


def wrong() -> list[str]:
    """Names of the instructions and flags that come out wrong here."""
    check_address_space()
    uc = Uc(UC_ARCH_X86, UC_MODE_32)
    uc.ctl_set_cpu_model(UC_CPU_X86_COREDUO)
    uc.mem_map(_CODE, 2 * _PAGE)
    names = []
    for name, code, st1, st0, right in _VALUES:
        head, mantissa = _split(_run(uc, st1, st0, code + _STORE))
        right_head, exact = _split(bytes.fromhex(right)[::-1])
        if head != right_head or abs(mantissa - exact) > _ULPS:
            names.append(name)
    for name, code, st0, flag in _FLAGS:
        if not _run(uc, _ONE, st0, code + _STORE_STATUS)[0] & flag:
            names.append(name)
    return names


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
