"""prctl: what a process or thread says about itself, one function per option. Linux: kernel/sys.c, 2.6.7; later options
as in 6.1."""

from __future__ import annotations

import errno
from collections.abc import Callable

from mmcore.errors import NotHere, SysError
from sandbox.kernel.signo import NSIG
from sandbox.kernel.table import syscall
from sandbox.kernel.task import CAP_LAST_CAP, Task
from sandbox.kernel.uaccess import copy_from_user, copy_to_user, put_user32

(PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE) = range(1, 5)
PR_GET_KEEPCAPS, PR_SET_KEEPCAPS = 7, 8
PR_GET_TIMING, PR_SET_TIMING = 13, 14
PR_SET_NAME, PR_GET_NAME = 15, 16
PR_GET_SECCOMP = 21
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_GET_TSC, PR_SET_TSC = 25, 26
PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 29, 30
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 38, 39
PR_GET_TID_ADDRESS = 40
PR_GET_THP_DISABLE = 42
PR_TSC_ENABLE, PR_TSC_SIGSEGV = 1, 2
# What Linux on a PC knows besides.
_NOT_HERE = {
    22: "PR_SET_SECCOMP",
    27: "PR_GET_SECUREBITS",
    28: "PR_SET_SECUREBITS",
    31: "PR_TASK_PERF_EVENTS_DISABLE",
    32: "PR_TASK_PERF_EVENTS_ENABLE",
    33: "PR_MCE_KILL",
    34: "PR_MCE_KILL_GET",
    35: "PR_SET_MM",
    41: "PR_SET_THP_DISABLE",
    47: "PR_CAP_AMBIENT",
    52: "PR_GET_SPECULATION_CTRL",
    53: "PR_SET_SPECULATION_CTRL",
    57: "PR_SET_IO_FLUSHER",
    58: "PR_GET_IO_FLUSHER",
    59: "PR_SET_SYSCALL_USER_DISPATCH",
    62: "PR_SCHED_CORE",
    65: "PR_SET_MDWE",
    66: "PR_GET_MDWE",
    67: "PR_SET_MEMORY_MERGE",
    68: "PR_GET_MEMORY_MERGE",
    77: "PR_TIMER_CREATE_RESTORE_IDS",
    78: "PR_FUTEX_HASH",
    0x41555856: "PR_GET_AUXV",
    0x53564D41: "PR_SET_VMA",
}

Option = Callable[[Task, int, int, int, int], int]
_OPTIONS: dict[int, Option] = {}


def _option(number: int) -> Callable[[Option], Option]:
    def enter(function: Option) -> Option:
        _OPTIONS[number] = function
        return function

    return enter


@syscall(172, "prctl", 5)
def sys_prctl(task: Task, option: int, a: int, b: int, c: int, d: int) -> int:
    do = _OPTIONS.get(option)
    if do is None:
        raise NotHere(errno.EINVAL, f"{_NOT_HERE[option]} (prctl)") if option in _NOT_HERE else SysError(errno.EINVAL)
    return do(task, a, b, c, d)


def _flag(value: int) -> bool:
    if value > 1:
        raise SysError(errno.EINVAL)
    return bool(value)


# --- name and parent


@_option(PR_SET_NAME)
def _set_name(task: Task, a: int, *_: int) -> int:
    task.comm = copy_name(task, a).decode("utf-8", "surrogateescape")
    return 0


@_option(PR_GET_NAME)
def _get_name(task: Task, a: int, *_: int) -> int:
    copy_to_user(task, a, task.comm.encode("utf-8", "surrogateescape")[:15].ljust(16, b"\0"))
    return 0


def copy_name(task: Task, addr: int) -> bytes:
    """At most 15 bytes of a string."""
    data = bytearray()
    while len(data) < 15:
        byte = copy_from_user(task, addr + len(data), 1)
        if byte == b"\0":
            break
        data += byte
    return bytes(data)


@_option(PR_SET_PDEATHSIG)
def _set_pdeathsig(task: Task, a: int, *_: int) -> int:
    if a > NSIG:
        raise SysError(errno.EINVAL)
    task.pdeath_signal = a
    return 0


@_option(PR_GET_PDEATHSIG)
def _get_pdeathsig(task: Task, a: int, *_: int) -> int:
    put_user32(task, a, task.pdeath_signal)
    return 0


@_option(PR_SET_CHILD_SUBREAPER)
def _set_subreaper(task: Task, a: int, *_: int) -> int:
    task.signal.subreaper = bool(a)
    return 0


@_option(PR_GET_CHILD_SUBREAPER)
def _get_subreaper(task: Task, a: int, *_: int) -> int:
    put_user32(task, a, int(task.signal.subreaper))
    return 0


@_option(PR_GET_TID_ADDRESS)
def _get_tid_address(task: Task, a: int, *_: int) -> int:
    put_user32(task, a, task.clear_child_tid)
    return 0


# --- privileges


@_option(PR_GET_DUMPABLE)
def _get_dumpable(task: Task, *_: int) -> int:
    return int(task.mm.dumpable)


@_option(PR_SET_DUMPABLE)
def _set_dumpable(task: Task, a: int, *_: int) -> int:
    task.mm.dumpable = int(_flag(a))
    return 0


@_option(PR_GET_KEEPCAPS)
def _get_keepcaps(task: Task, *_: int) -> int:
    return int(task.keep_caps)


@_option(PR_SET_KEEPCAPS)
def _set_keepcaps(task: Task, a: int, *_: int) -> int:
    task.keep_caps = _flag(a)
    return 0


@_option(PR_CAPBSET_READ)
def _capbset_read(task: Task, a: int, *_: int) -> int:
    if a > CAP_LAST_CAP:
        raise SysError(errno.EINVAL)
    return task.cap_bset >> a & 1


@_option(PR_CAPBSET_DROP)
def _capbset_drop(task: Task, a: int, *_: int) -> int:
    """Dropped, inherited and shown; capabilities here are being root or not, so what exec grants stays the same."""
    if task.euid:
        raise SysError(errno.EPERM)
    if a > CAP_LAST_CAP:
        raise SysError(errno.EINVAL)
    task.cap_bset &= ~(1 << a)
    return 0


@_option(PR_SET_NO_NEW_PRIVS)
def _set_no_new_privs(task: Task, a: int, b: int, c: int, d: int) -> int:
    if a != 1 or b or c or d:
        raise SysError(errno.EINVAL)
    task.no_new_privs = True
    return 0


@_option(PR_GET_NO_NEW_PRIVS)
def _get_no_new_privs(task: Task, a: int, b: int, c: int, d: int) -> int:
    if a or b or c or d:
        raise SysError(errno.EINVAL)
    return int(task.no_new_privs)


@_option(PR_GET_SECCOMP)
def _get_seccomp(task: Task, *_: int) -> int:
    return 0


# --- time and memory


@_option(PR_GET_TIMING)
def _get_timing(task: Task, *_: int) -> int:
    return 0


@_option(PR_SET_TIMING)
def _set_timing(task: Task, a: int, *_: int) -> int:
    if a:
        raise SysError(errno.EINVAL)
    return 0


@_option(PR_GET_TSC)
def _get_tsc(task: Task, a: int, *_: int) -> int:
    put_user32(task, a, PR_TSC_SIGSEGV if task.no_tsc else PR_TSC_ENABLE)
    return 0


@_option(PR_SET_TSC)
def _set_tsc(task: Task, a: int, *_: int) -> int:
    if a not in (PR_TSC_ENABLE, PR_TSC_SIGSEGV):
        raise SysError(errno.EINVAL)
    task.no_tsc = a == PR_TSC_SIGSEGV
    return 0


@_option(PR_SET_TIMERSLACK)
def _set_timerslack(task: Task, a: int, *_: int) -> int:
    """0 goes back to what the parent had at fork."""
    task.timer_slack = a or task.default_timer_slack
    return 0


@_option(PR_GET_TIMERSLACK)
def _get_timerslack(task: Task, *_: int) -> int:
    return task.timer_slack


@_option(PR_GET_THP_DISABLE)
def _get_thp_disable(task: Task, a: int, b: int, c: int, d: int) -> int:
    if a or b or c or d:
        raise SysError(errno.EINVAL)
    return 0
