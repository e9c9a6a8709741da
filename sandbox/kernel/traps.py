"""CPU exceptions that are neither a system call nor a page fault: the signal each one is.

Linux: arch/i386/kernel/traps.c, 2.6.7; siginfo codes and addresses as current kernels give them to 32-bit programs.
"""

from __future__ import annotations

import struct

from mmcore.errors import MustWait, SysError
from mmcore.paging.fault import SIGBUS as FAULT_SIGBUS
from mmcore.paging.fault import SIGSEGV_ACCERR
from sandbox.cpu import CpuError, CpuGap, trap
from sandbox.cpu.insn import is_rdtsc
from sandbox.cpu.regs import EAX, EDX, EIP
from sandbox.cpu.trap import PF_PROT, PF_USER
from sandbox.kernel.signals import force_sig, kill_group
from sandbox.kernel.signo import (
    BUS_ADRALN,
    BUS_ADRERR,
    FPE_FLTDIV,
    FPE_FLTINV,
    FPE_FLTOVF,
    FPE_FLTRES,
    FPE_FLTUND,
    FPE_INTDIV,
    ILL_ILLOPN,
    SEGV_ACCERR,
    SEGV_MAPERR,
    SI_KERNEL,
    SIGBUS,
    SIGFPE,
    SIGILL,
    SIGSEGV,
    SIGTRAP,
    TRAP_TRACE,
    SigInfo,
    fault_info,
)
from sandbox.kernel.task import Task
from sandbox.kernel.uaccess import TASK_SIZE, copy_from_user

TSC_PER_NS = 2  # a 2 GHz machine
TF = 0x100
MF, XM = 16, 19

# kind -> (vector, signal, si_code or None for SI_KERNEL without an address)
_SIGNALS = {
    trap.PROTECTION: (13, SIGSEGV, None),
    trap.ILLEGAL: (6, SIGILL, ILL_ILLOPN),
    trap.DIVIDE: (0, SIGFPE, FPE_INTDIV),
    trap.BREAKPOINT: (3, SIGTRAP, None),
    trap.OVERFLOW: (4, SIGSEGV, None),
    trap.BAD_INT: (13, SIGSEGV, None),
    trap.ALIGNMENT: (17, SIGBUS, BUS_ADRALN),
    trap.DEBUG: (1, SIGTRAP, TRAP_TRACE),
}


def do_trap(task: Task, kind: int, error_code: int, vector: int) -> None:
    """Turns an exception into a signal, or does for the program what the CPU would not (rdtsc)."""
    if kind == trap.PROTECTION and _emulate_rdtsc(task):
        return
    regs = task.regs
    eip = regs[EIP]
    if kind == trap.FPU:
        task.trap_no, task.error_code = vector, 0
        force_sig(task, fault_info(SIGFPE, _fpu_code(task, vector), eip))
        return
    number, sig, code = _SIGNALS[kind]
    task.trap_no = vector if kind == trap.BAD_INT else number
    task.error_code = error_code if kind == trap.PROTECTION else 0
    force_sig(task, SigInfo(sig, SI_KERNEL, bytes(4)) if code is None else fault_info(sig, code, eip))


def state_lost(task: Task, error: CpuError) -> None:
    """The emulator lost the program's state. A gap costs the process its life, at once: no handler can run on registers
    that are gone. Raises `error` when it is the machine that is broken."""
    if not isinstance(error, CpuGap):
        raise error
    task.kernel.note(f"{task.comm}[{task.pid}] killed by SIGSEGV: {error}")
    kill_group(task.signal, SIGSEGV)


def bad_area(task: Task, answer: int, address: int, error_code: int) -> None:
    """A page fault the program may not make. `answer` is the core's: SIGSEGV_MAPERR, SIGSEGV_ACCERR or SIGBUS."""
    task.trap_no = 14
    task.error_code = error_code | PF_USER
    if address >= TASK_SIZE:
        task.error_code &= ~PF_PROT  # what the kernel maps there is not told
    task.cr2 = address
    if answer == FAULT_SIGBUS:
        force_sig(task, fault_info(SIGBUS, BUS_ADRERR, address))
    else:
        force_sig(task, fault_info(SIGSEGV, SEGV_ACCERR if answer == SIGSEGV_ACCERR else SEGV_MAPERR, address))


def _emulate_rdtsc(task: Task) -> bool:
    """rdtsc is made to trap, so that it shows virtual time. False: another instruction, or forbidden (PR_SET_TSC)."""
    eip = task.regs[EIP]
    try:
        code = copy_from_user(task, eip, min(15, 4096 - (eip & 0xFFF)))
    except (SysError, MustWait):
        return False
    length = is_rdtsc(code)
    if not length or task.no_tsc:
        return False
    value = task.kernel.timers.now() * TSC_PER_NS
    regs = task.regs
    regs[EAX] = value & 0xFFFFFFFF
    regs[EDX] = value >> 32 & 0xFFFFFFFF
    regs[EIP] = eip + length
    return True


def _fpu_code(task: Task, vector: int) -> int:
    """Which floating-point error, from the status and the masks. Linux: fpu__exception_code."""
    fx = task.ctx.fpu_state()
    if vector == XM:
        mxcsr = struct.unpack_from("<I", fx, 24)[0]
        error = ~(mxcsr >> 7) & mxcsr
    else:
        control, status = struct.unpack_from("<HH", fx, 0)
        error = status & ~control
    for mask, code in ((1, FPE_FLTINV), (4, FPE_FLTDIV), (8, FPE_FLTOVF), (0x12, FPE_FLTUND), (0x20, FPE_FLTRES)):
        if error & mask:
            return code
    return 0
