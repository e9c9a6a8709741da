"""The system call table of i386: number -> function, filled by the decorator in the modules of this package.

A system call is ``sys_x(task, a, b, ...) -> int``: arguments are unsigned 32-bit integers, the result is >= 0, an error is
``raise SysError(errno)``. One that waits is a generator (see sandbox.kernel.sched.Wait) and returns its result.
Linux: arch/i386/kernel/entry.S (sys_call_table); numbers above 285 from arch/x86/entry/syscalls/syscall_32.tbl.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from sandbox.kernel.sched import Wait

NR_SYSCALLS = 512

Handler = Callable[..., int | Generator[Wait, bool, int]]
F = TypeVar("F", bound=Handler)

# (function, number of arguments, tag for the event log), or None.
table: list[tuple[Handler, int, int] | None] = [None] * NR_SYSCALLS
names: dict[int, str] = {}

EVENT_SYSCALL = 2 << 60


def syscall(nr: int, name: str, nargs: int) -> Callable[[F], F]:
    """Enters the function below it as system call ``nr``. Several may be stacked (old and new number of one call)."""

    def enter(function: F) -> F:
        if table[nr] is not None:
            raise ValueError(f"system call {nr} ({name}) is already {names[nr]}")
        table[nr] = (function, nargs, EVENT_SYSCALL | nr << 32)
        names[nr] = name
        return function

    return enter


def name_of(nr: int) -> str:
    return names.get(nr) or KNOWN.get(nr) or f"syscall_{nr}"


# Names of calls that real programs try and that answer ENOSYS here, for the summary of a run.
KNOWN = {
    26: "ptrace", 31: "stty", 32: "gtty", 53: "lock", 56: "mpx", 58: "ulimit", 86: "uselib", 101: "ioperm", 110: "iopl",
    113: "vm86old", 117: "ipc", 124: "adjtimex", 128: "init_module", 131: "quotactl", 135: "sysfs", 149: "_sysctl", 166:
    "vm86", 188: "getpmsg", 217: "pivot_root", 222: "tux", 245: "io_setup", 254: "epoll_create", 255: "epoll_ctl", 256:
    "epoll_wait", 274: "mbind", 275: "get_mempolicy", 276: "set_mempolicy", 277: "mq_open", 283: "kexec_load", 286:
    "add_key", 287: "request_key", 288: "keyctl", 289: "ioprio_set", 290: "ioprio_get", 291: "inotify_init", 292:
    "inotify_add_watch", 293: "inotify_rm_watch", 294: "migrate_pages", 310: "unshare", 313: "splice", 315: "tee", 316:
    "vmsplice", 319: "epoll_pwait", 321: "signalfd", 322: "timerfd_create", 323: "eventfd", 325:
    "timerfd_settime", 326: "timerfd_gettime", 327: "signalfd4", 328: "eventfd2", 329: "epoll_create1", 332:
    "inotify_init1", 336: "perf_event_open", 338: "fanotify_init", 349: "kcmp", 350: "finit_module", 351: "sched_setattr",
    352: "sched_getattr", 354: "seccomp", 357: "bpf", 374: "userfaultfd", 377: "copy_file_range", 380: "pkey_mprotect", 381:
    "pkey_alloc", 384: "arch_prctl", 385: "io_pgetevents", 424: "pidfd_send_signal", 425: "io_uring_setup", 434:
    "pidfd_open", 438: "pidfd_getfd", 440: "process_madvise", 441: "epoll_pwait2", 444: "landlock_create_ruleset", 449:
    "futex_waitv", 452: "fchmodat2", 454: "futex_wake",
}
