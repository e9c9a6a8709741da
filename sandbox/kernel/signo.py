"""Signal numbers, sets and codes of i386. Linux: include/asm-i386/signal.h, siginfo.h, 2.6.7.

A set of signals is an int; signal n is bit n-1.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.kernel.timers import PosixTimer

(
    SIGHUP,
    SIGINT,
    SIGQUIT,
    SIGILL,
    SIGTRAP,
    SIGABRT,
    SIGBUS,
    SIGFPE,
    SIGKILL,
    SIGUSR1,
    SIGSEGV,
    SIGUSR2,
    SIGPIPE,
    SIGALRM,
    SIGTERM,
    SIGSTKFLT,
    SIGCHLD,
    SIGCONT,
    SIGSTOP,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    SIGURG,
    SIGXCPU,
    SIGXFSZ,
    SIGVTALRM,
    SIGPROF,
    SIGWINCH,
    SIGIO,
    SIGPWR,
    SIGSYS,
) = range(1, 32)
SIGRTMIN = 32
NSIG = 64

NAMES = {number: name for name, number in list(globals().items()) if name.startswith("SIG") and name != "SIGRTMIN"}

SIG_DFL = 0
SIG_IGN = 1

SA_NOCLDSTOP = 1
SA_NOCLDWAIT = 2
SA_SIGINFO = 4
SA_RESTORER = 0x04000000
SA_ONSTACK = 0x08000000
SA_RESTART = 0x10000000
SA_NODEFER = 0x40000000
SA_RESETHAND = 0x80000000

SS_ONSTACK = 1
SS_DISABLE = 2
SS_AUTODISARM = 0x80000000
MINSIGSTKSZ = 2048

# si_code
SI_USER = 0
SI_KERNEL = 0x80
SI_QUEUE = -1
SI_TIMER = -2
SI_TKILL = -6
ILL_ILLOPN = 2
FPE_INTDIV, FPE_INTOVF, FPE_FLTDIV, FPE_FLTOVF, FPE_FLTUND, FPE_FLTRES, FPE_FLTINV = range(1, 8)
SEGV_MAPERR, SEGV_ACCERR = 1, 2
BUS_ADRALN, BUS_ADRERR = 1, 2
TRAP_BRKPT, TRAP_TRACE = 1, 2
CLD_EXITED, CLD_KILLED, CLD_DUMPED, CLD_TRAPPED, CLD_STOPPED, CLD_CONTINUED = range(1, 7)


def bit(sig: int) -> int:
    return 1 << (sig - 1)


def sigset(*signals: int) -> int:
    return sum(1 << (sig - 1) for sig in signals)


UNBLOCKABLE = sigset(SIGKILL, SIGSTOP)
STOP_SIGNALS = sigset(SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU)
IGNORED_BY_DEFAULT = sigset(SIGCONT, SIGCHLD, SIGWINCH, SIGURG)
SYNCHRONOUS = sigset(SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS)


def valid_signal(sig: int) -> bool:
    """Can it be sent? Linux: valid_signal, without the 0 that sends nothing."""
    return 0 < sig <= NSIG


def name(sig: int) -> str:
    return NAMES.get(sig) or f"SIGRTMIN+{sig - SIGRTMIN}"


class SigInfo:
    """One queued signal: `code`, `errno` (only a program's own sigqueue sets it) and the union of siginfo_t as
    packed bytes."""

    __slots__ = ("sig", "code", "fields", "errno", "owner", "timer")

    def __init__(self, sig: int, code: int = SI_USER, fields: bytes = b"", errno: int = 0) -> None:
        self.sig = sig
        self.code = code
        self.fields = fields
        self.errno = errno
        self.owner = -1  # the user in whose RLIMIT_SIGPENDING it counts while it is queued
        self.timer: PosixTimer | None = None  # the POSIX timer that sent it

    def pack(self) -> bytes:
        """The 128 bytes of siginfo_t as the guest sees them."""
        return struct.pack("<3i", self.sig, self.errno, self.code) + self.fields.ljust(116, b"\0")


def user_info(sig: int, pid: int, uid: int, code: int = SI_USER) -> SigInfo:
    """kill and tkill: who sent it."""
    return SigInfo(sig, code, struct.pack("<iI", pid, uid))


def fault_info(sig: int, code: int, address: int) -> SigInfo:
    return SigInfo(sig, code, struct.pack("<I", address))


def child_info(sig: int, code: int, pid: int, uid: int, status: int, utime: int, stime: int) -> SigInfo:
    """SIGCHLD; `utime` and `stime` in clock ticks of 10 ms."""
    return SigInfo(sig, code, struct.pack("<iI3i", pid, uid, status, utime & 0x7FFFFFFF, stime & 0x7FFFFFFF))
