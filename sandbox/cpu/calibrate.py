"""Where a saved context keeps what has no register number: the error code, the exception in flight, `exception_is_int`,
and the registers.

The offsets are private to a Unicorn release. They are measured, on a scratch engine, by provoking faults whose outcome
is known and looking for the one place that agrees with all of them; no such place, or two, and the CPU does not start.
(Unicorn 2.1.4: GPRs from 40, EIP 168, CR2 480, error_code 5424, old_exception 5536, of 5,608 bytes.)
"""

import functools
import mmap
import struct
from collections.abc import Sequence
from typing import Any

from unicorn import x86_const

from sandbox.cpu import boot, unicorn_api, x87
from sandbox.cpu.errors import CpuError
from sandbox.cpu.unicorn_api import ffi, lib

_SIZE = 16 * 4096
_PDPT, _PD, _PT, _GDT, _BOOT = 0xB000, 0x2000, 0x3000, 0x8000, 0x9000
_GDT_VA, _BOOT_VA = 0xC0000000, 0xC0001000
_FS_BASE, _GS_BASE = 0x5EF50000, 0x5EC50000
_GPRS = (
    0x5E110001,
    0x5E110002,
    0x5E110003,
    0x5E110004,
    _GDT_VA + boot.STACK_OFFSET,
    0x5E110006,
    0x5E110007,
    0x5E110008,
)
_EFLAGS, _USER_EFLAGS = 0x8D7, 0x246
_FETCH, _STORE = 0x5A5A5004, 0x3C3C3008  # nothing is mapped at either

# offset in the boot page, code, vector expected
_CODE = (
    (0x00, b"\xcf", 14),  #                          iret to _FETCH: #PF, user, instruction fetch
    (0x10, b"\xa3" + struct.pack("<I", _STORE), 14),  # mov [_STORE], eax: #PF, write
    (0x20, b"\xcd\x81", 0x81),  #                    int 0x81
    (0x30, b"\x66\xb8\x38\x12\x8e\xe8", 13),  #      mov ax, 0x1238; mov gs, ax: #GP(0x1238)
)


@functools.cache
def offsets() -> Any:
    """The measured `struct offsets` of trap.c, installed in the trap loop as well. Raises CpuError."""
    before, *after = _snapshots()  # after: a fetch, a store, a software interrupt, a protection fault

    cr2 = _unique("CR2", "Q", (before, *after), (0, _FETCH, _STORE, 0, 0))
    eip = _unique("EIP", "Q", after, (_FETCH, _BOOT_VA + 0x10, _BOOT_VA + 0x22, _BOOT_VA + 0x34))
    cr3 = cr2 + 8
    fs = _only("FS", [i for i in range(8, len(before) - 40, 4) if before[i - 8 : i + 16] == _segment_cache(6)])
    caches = [struct.unpack_from("<I", before, fs - 8 + 24 * i)[0] for i in range(-4, 2)]
    if caches != [boot.USER_DS, boot.KERNEL_CS, boot.KERNEL_DS, boot.USER_DS, 6 * 8 + 3, 7 * 8 + 3]:
        raise _unknown("segment registers")
    if any(struct.unpack_from("<Q", snapshot, cr3)[0] != _PDPT for snapshot in (before, *after)):
        raise _unknown("CR3")

    found = ffi.new(
        "struct offsets *",
        {
            "gpr": _unique("general registers", "8Q", (before,), (_GPRS,)),
            "eip": eip,
            "eflags": _unique("EFLAGS", "Q", after, (_USER_EFLAGS, _EFLAGS, _EFLAGS, _EFLAGS)),
            "cr2": cr2,
            "cr3": cr3,
            "fs": fs,
            "error_code": _unique("error code", "i", after, (0x14, 2, 0, 0x1238)),
            "is_int": _unique("exception_is_int", "i", (before, *after), (0, 0, 0, 1, 0)),
            "old_exception": _unique("old_exception", "i", (before, *after), (-1, 14, 14, -1, 13)),
        },
    )
    lib.trap_set_offsets(found)
    return found


@functools.cache
def fpu_flags() -> int:
    """Where a saved context keeps the exception flags of the soft floating point that x87's status word has not got
    yet; 0: it never gets them."""
    at = x87.measure()
    return offsets().gpr + at if at else 0


def _unknown(what: str) -> CpuError:
    return CpuError(
        f"cannot find the {what} in this Unicorn's saved state: install the release that rmapbox asks for (pip "
        f"install unicorn==2.1.4)"
    )


def _only(what: str, places: list[int]) -> int:
    if len(places) != 1:
        raise _unknown(what)
    return places[0]


def _unique(what: str, code: str, snapshots: Sequence[bytes], expected: Sequence) -> int:
    """The one offset at which every snapshot holds its expected value(s)."""
    forms = [struct.pack(f"<{code}", *(value if isinstance(value, tuple) else (value,))) for value in expected]
    width = len(forms[0])
    rarest = max(range(len(forms)), key=lambda i: width - forms[i].count(0))  # zeros are everywhere
    places, at = [], -1
    while (at := snapshots[rarest].find(forms[rarest], at + 1)) >= 0:
        if at % 4 == 0 and all(snapshot[at : at + width] == form for snapshot, form in zip(snapshots, forms)):
            places.append(at)
    return _only(what, places)


def _descriptor(base: int) -> int:
    return 0x00C0F3000000FFFF | (base & 0xFFFFFF) << 16 | (base >> 24) << 56


def _segment_cache(index: int) -> bytes:
    """What the engine caches after loading entry 6 or 7: selector, base, limit in bytes, upper half of the
    descriptor."""
    base = (_FS_BASE, _GS_BASE)[index - 6]
    return struct.pack("<I4xQII", index * 8 + 3, base, 0x0FFFFFFF, _descriptor(base) >> 32)


def _snapshots() -> list[bytes]:
    """Saved states of a scratch engine: before anything ran, and after each piece of `_CODE`, run from that state."""
    return _probe(mmap.mmap(-1, _SIZE))  # not closed here: where the probe fails, its error still holds views of it


def _probe(ram: mmap.mmap) -> list[bytes]:
    def put(at: int, *entries: int) -> None:
        ram[at : at + 8 * len(entries)] = struct.pack(f"<{len(entries)}Q", *entries)

    put(_PDPT, 0, 0, 0, _PD | 1)
    put(_PD, _PT | 0x63)
    put(_PT, _GDT | 0x63, _BOOT | 0x63)
    gdt = memoryview(ram)[_GDT : _GDT + boot.GDT_ENTRIES * 8].cast("Q")
    boot.write_gdt(gdt)
    gdt[6], gdt[7] = _descriptor(_FS_BASE), _descriptor(_GS_BASE)
    gdt.release()
    for at, code, _ in _CODE:
        ram[_BOOT + at : _BOOT + at + len(code)] = code
    frame = boot.iret_frame(_FETCH, _USER_EFLAGS, 0)
    ram[_GDT + boot.STACK_OFFSET : _GDT + boot.STACK_OFFSET + len(frame)] = frame

    pointer = ffi.from_buffer(ram)
    uc = unicorn_api.open_engine(int(ffi.cast("uintptr_t", pointer)), _SIZE)
    state = unicorn_api.attach(uc, False)
    boot.start_paging(uc, "pae", _PDPT, _GDT_VA)
    for name, value in zip("EAX ECX EDX EBX ESP EBP ESI EDI".split(), _GPRS):
        uc.reg_write(getattr(x86_const, f"UC_X86_REG_{name}"), value)
    uc.reg_write(x86_const.UC_X86_REG_FS, 6 * 8 + 3)
    uc.reg_write(x86_const.UC_X86_REG_GS, 7 * 8 + 3)
    uc.reg_write(x86_const.UC_X86_REG_EFLAGS, _EFLAGS)

    start = unicorn_api.new_task(state)
    lib.trap_task_save(state, start)
    size = state.context_size
    taken = [bytes(ffi.buffer(start.saved, size))]
    for at, _, vector in _CODE:
        task = unicorn_api.new_task(state)
        lib.trap_task_copy(state, task, start)
        if lib.trap_probe(state, task, _BOOT_VA + at) != vector:
            raise _unknown("outcome of a known fault")
        taken.append(bytes(ffi.buffer(task.saved, size)))
    del uc
    ffi.release(pointer)
    return taken
