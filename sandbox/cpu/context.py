"""The CPU state of one task: registers that Python may change, and behind them the engine's whole saved state."""

import struct
from typing import TYPE_CHECKING, Any

from unicorn import x86_const as x86

from sandbox.cpu import calibrate
from sandbox.cpu.unicorn_api import ffi, lib, new_task

if TYPE_CHECKING:
    from sandbox.cpu.cpu import Cpu

_FXSAVE_BYTES = 512
_ST_AT, _XMM_AT = 32, 160
_MXCSR_MASK = 0xFFFF
_NOTED = 0x3D  # IE, ZE, OE, UE and PE, at the same places in the soft floating point's flags and in the status word

# name, register, format, offset in an FXSAVE image
_CONTROL = (
    (x86.UC_X86_REG_FOP, "<H", 6),
    (x86.UC_X86_REG_FIP, "<I", 8),
    (x86.UC_X86_REG_FCS, "<H", 12),
    (x86.UC_X86_REG_FDP, "<I", 16),
    (x86.UC_X86_REG_FDS, "<H", 20),
    (x86.UC_X86_REG_MXCSR, "<I", 24),
    (x86.UC_X86_REG_FPCW, "<H", 0),
    (x86.UC_X86_REG_FPSW, "<H", 2),
)


class Context:
    """One task's CPU state. Made by `Cpu.new_context`.

    `regs` is sixteen 32-bit values (indices in regs.py). What Python writes there is what the guest sees at its next
    run, with two rules of the kernel's own: EFLAGS keeps only what a program may change, and FS and GS are loaded from
    the descriptor table at every run (so `Cpu.set_tls` takes effect without touching them; a selector the guest could
    not load becomes 0). CS, SS, DS and ES are for reading.
    """

    __slots__ = ("regs", "_cpu", "_task", "_flags")

    def __init__(self, cpu: "Cpu") -> None:
        self._cpu = cpu
        self._task = task = new_task(cpu._state)
        self.regs: memoryview[int] = memoryview(ffi.buffer(task.regs)).cast("B").cast("I")
        flags = calibrate.fpu_flags()
        self._flags = memoryview(ffi.buffer(task.saved + flags, 1)).cast("B") if flags else bytearray(1)
        lib.trap_task_copy(cpu._state, task, cpu._template)

    def door(self) -> Any:
        """What the function of `Cpu.door` takes for this context."""
        return self._task

    def copy(self) -> "Context":
        """A second context in the same state, FPU included: what a forked child starts with."""
        other = Context(self._cpu)
        lib.trap_task_copy(self._cpu._state, other._task, self._task)
        return other

    def reset(self) -> None:
        """Back to the state of a new program: general registers and EIP 0, flat segments, FS and GS null, FPU as FINIT
        leaves it."""
        lib.trap_task_copy(self._cpu._state, self._task, self._cpu._template)

    def fpu_state(self) -> bytes:
        """x87 and SSE state, 512 bytes as FXSAVE lays them out."""
        image = bytearray(_FXSAVE_BYTES)
        for register, form, at in _CONTROL:
            struct.pack_into(form, image, at, self._read(register) & (1 << 8 * struct.calcsize(form)) - 1)
        image[2] |= self._flags[0] & _NOTED
        tags = self._read(x86.UC_X86_REG_FPTAG)
        image[4] = sum(1 << i for i in range(8) if tags >> 2 * i & 3 != 3)
        struct.pack_into("<I", image, 28, _MXCSR_MASK)
        value = ffi.new("uint8_t[16]")
        for i in range(8):
            lib.trap_task_reg_read(self._task, x86.UC_X86_REG_XMM0 + i, value)
            image[_XMM_AT + 16 * i : _XMM_AT + 16 * i + 16] = ffi.buffer(value)
            lib.trap_task_reg_read(self._task, x86.UC_X86_REG_ST0 + i, value)
            image[_ST_AT + 16 * i : _ST_AT + 16 * i + 10] = ffi.buffer(value)[:10]
        return bytes(image)

    def set_fpu_state(self, data: bytes) -> None:
        """Loads x87 and SSE state from an FXSAVE image. Reserved bits of MXCSR are dropped. Raises ValueError unless
        512 bytes long."""
        if len(data) != _FXSAVE_BYTES:
            raise ValueError(f"an FXSAVE image has {_FXSAVE_BYTES} bytes, not {len(data)}")
        for register, form, at in _CONTROL:
            value = struct.unpack_from(form, data, at)[0]
            self._write(register, value & _MXCSR_MASK if register == x86.UC_X86_REG_MXCSR else value)
        self._flags[0] = 0
        # FXSAVE keeps one bit a register, "in use"; the finer tags follow from the contents
        self._write(x86.UC_X86_REG_FPTAG, sum(3 << 2 * i for i in range(8) if not data[4] >> i & 1))
        for i in range(8):
            at = _XMM_AT + 16 * i
            lib.trap_task_reg_write(self._task, x86.UC_X86_REG_XMM0 + i, bytes(data[at : at + 16]))
            at = _ST_AT + 16 * i
            lib.trap_task_reg_write(self._task, x86.UC_X86_REG_ST0 + i, bytes(data[at : at + 16]))

    def _read(self, register: int) -> int:
        value = ffi.new("uint64_t *")
        lib.trap_task_reg_read(self._task, register, value)
        return value[0]

    def _write(self, register: int, value: int) -> None:
        lib.trap_task_reg_write(self._task, register, ffi.new("uint64_t *", value))
