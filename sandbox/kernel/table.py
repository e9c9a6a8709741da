"""The system call table of i386: number -> function, filled by the decorator in the modules of this package.

A system call is `sys_x(task, a, b, ...) -> int`: arguments are unsigned 32-bit integers, the result is >= 0, an error
is `raise SysError(errno)`. One that waits is a generator (see sandbox.kernel.sched.Wait) and returns its result.
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
    """Enters the function below it as system call `nr`. Several may be stacked (old and new number of one call)."""

    def enter(function: F) -> F:
        if table[nr] is not None:
            raise ValueError(f"system call {nr} ({name}) is already {names[nr]}")
        table[nr] = (function, nargs, EVENT_SYSCALL | nr << 32)
        names[nr] = name
        return function

    return enter


def name_of(nr: int) -> str:
    return names.get(nr) or KNOWN.get(nr) or f"syscall_{nr}"


# Calls that are not there, by their names for the summary of a run; docs/missing.md says what they are about. ENOSYS,
# as all numbers without a name.
KNOWN = {
    17: "break",
    21: "mount",
    22: "umount",
    26: "ptrace",
    31: "stty",
    32: "gtty",
    35: "ftime",
    44: "prof",
    52: "umount2",
    53: "lock",
    56: "mpx",
    58: "ulimit",
    59: "oldolduname",
    86: "uselib",
    98: "profil",
    101: "ioperm",
    110: "iopl",
    112: "idle",
    113: "vm86old",
    117: "ipc",
    124: "adjtimex",
    127: "create_module",
    128: "init_module",
    129: "delete_module",
    130: "get_kernel_syms",
    131: "quotactl",
    135: "sysfs",
    137: "afs_syscall",
    149: "_sysctl",
    166: "vm86",
    167: "query_module",
    169: "nfsservctl",
    188: "getpmsg",
    189: "putpmsg",
    217: "pivot_root",
    222: "tux",
    245: "io_setup",
    246: "io_destroy",
    247: "io_getevents",
    248: "io_submit",
    249: "io_cancel",
    253: "lookup_dcookie",
    254: "epoll_create",
    255: "epoll_ctl",
    256: "epoll_wait",
    273: "vserver",
    274: "mbind",
    275: "get_mempolicy",
    276: "set_mempolicy",
    277: "mq_open",
    278: "mq_unlink",
    279: "mq_timedsend",
    280: "mq_timedreceive",
    281: "mq_notify",
    282: "mq_getsetattr",
    283: "kexec_load",
    286: "add_key",
    287: "request_key",
    288: "keyctl",
    289: "ioprio_set",
    290: "ioprio_get",
    291: "inotify_init",
    292: "inotify_add_watch",
    293: "inotify_rm_watch",
    294: "migrate_pages",
    310: "unshare",
    313: "splice",
    315: "tee",
    316: "vmsplice",
    319: "epoll_pwait",
    321: "signalfd",
    322: "timerfd_create",
    323: "eventfd",
    325: "timerfd_settime",
    326: "timerfd_gettime",
    327: "signalfd4",
    328: "eventfd2",
    329: "epoll_create1",
    332: "inotify_init1",
    336: "perf_event_open",
    337: "recvmmsg",
    338: "fanotify_init",
    339: "fanotify_mark",
    341: "name_to_handle_at",
    342: "open_by_handle_at",
    343: "clock_adjtime",
    345: "sendmmsg",
    346: "setns",
    347: "process_vm_readv",
    348: "process_vm_writev",
    349: "kcmp",
    350: "finit_module",
    351: "sched_setattr",
    352: "sched_getattr",
    354: "seccomp",
    357: "bpf",
    374: "userfaultfd",
    377: "copy_file_range",
    380: "pkey_mprotect",
    381: "pkey_alloc",
    382: "pkey_free",
    384: "arch_prctl",
    385: "io_pgetevents",
    393: "semget",
    394: "semctl",
    395: "shmget",
    396: "shmctl",
    397: "shmat",
    398: "shmdt",
    399: "msgget",
    400: "msgsnd",
    401: "msgrcv",
    402: "msgctl",
    405: "clock_adjtime64",
    410: "timerfd_gettime64",
    411: "timerfd_settime64",
    416: "io_pgetevents_time64",
    417: "recvmmsg_time64",
    418: "mq_timedsend_time64",
    419: "mq_timedreceive_time64",
    420: "semtimedop_time64",
    424: "pidfd_send_signal",
    425: "io_uring_setup",
    426: "io_uring_enter",
    427: "io_uring_register",
    428: "open_tree",
    429: "move_mount",
    430: "fsopen",
    431: "fsconfig",
    432: "fsmount",
    433: "fspick",
    434: "pidfd_open",
    437: "openat2",
    438: "pidfd_getfd",
    440: "process_madvise",
    441: "epoll_pwait2",
    442: "mount_setattr",
    443: "quotactl_fd",
    444: "landlock_create_ruleset",
    445: "landlock_add_rule",
    446: "landlock_restrict_self",
    447: "memfd_secret",
    448: "process_mrelease",
    449: "futex_waitv",
    450: "set_mempolicy_home_node",
    451: "cachestat",
    453: "map_shadow_stack",
    454: "futex_wake",
    455: "futex_wait",
    456: "futex_requeue",
    457: "statmount",
    458: "listmount",
    459: "lsm_get_self_attr",
    460: "lsm_set_self_attr",
    461: "lsm_list_modules",
    462: "mseal",
    463: "setxattrat",
    464: "getxattrat",
    465: "listxattrat",
    466: "removexattrat",
    467: "open_tree_attr",
}
