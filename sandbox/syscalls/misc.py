"""The system as a program sees it: names, load, randomness, process switches, and calls that only answer.

Linux: kernel/sys.c, kernel/printk.c, drivers/char/random.c, 2.6.7; getrandom and membarrier of later kernels.
"""

from __future__ import annotations

import errno
import struct

from mmcore.errors import SysError
from sandbox.kernel.task import Task
from sandbox.kernel.timers import NSEC
from sandbox.kernel.uaccess import copy_from_user, copy_to_user, put_user32, strncpy_from_user
from sandbox.syscalls.table import syscall

SYSNAME, RELEASE, MACHINE = b"Linux", b"2.6.7-rmapbox", b"i686"
VERSION = b"#1 Sat May 22 00:00:00 UTC 2004"
UTS_FIELD = 65
ADDR_NO_RANDOMIZE = 0x0040000

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
PR_SET_THP_DISABLE, PR_GET_THP_DISABLE = 41, 42


@syscall(122, "uname", 1)
def sys_uname(task: Task, addr: int) -> int:
    kernel = task.kernel
    fields = (SYSNAME, kernel.hostname, RELEASE, VERSION, MACHINE, kernel.domainname)
    copy_to_user(task, addr, b"".join(field.ljust(UTS_FIELD, b"\0") for field in fields))
    return 0


@syscall(109, "olduname", 1)
def sys_olduname(task: Task, addr: int) -> int:
    fields = (SYSNAME, task.kernel.hostname, RELEASE, VERSION, MACHINE)
    copy_to_user(task, addr, b"".join(field[:8].ljust(9, b"\0") for field in fields))
    return 0


def _new_name(task: Task, addr: int, length: int) -> bytes:
    if task.euid:
        raise SysError(errno.EPERM)
    if length >= UTS_FIELD:
        raise SysError(errno.EINVAL)
    return copy_from_user(task, addr, length)


@syscall(74, "sethostname", 2)
def sys_sethostname(task: Task, addr: int, length: int) -> int:
    task.kernel.hostname = _new_name(task, addr, length)
    return 0


@syscall(121, "setdomainname", 2)
def sys_setdomainname(task: Task, addr: int, length: int) -> int:
    task.kernel.domainname = _new_name(task, addr, length)
    return 0


@syscall(116, "sysinfo", 1)
def sys_sysinfo(task: Task, addr: int) -> int:
    """Sizes in bytes; no load average, for load is nobody's here."""
    kernel, mem = task.kernel, task.mem
    page = 4096
    swap_total, swap_free = mem.swap.si_swapinfo()
    copy_to_user(task, addr, struct.pack(
        "<i3I6IHHIII8x", kernel.timers.now() // NSEC, 0, 0, 0, mem.total_pages * page, mem.pages.nr_free() * page, 0, 0,
        swap_total * page & 0xFFFFFFFF, swap_free * page & 0xFFFFFFFF, min(kernel.nr_tasks, 65535), 0, 0, 0, 1,
    ))
    return 0


@syscall(355, "getrandom", 3)
def sys_getrandom(task: Task, addr: int, n: int, flags: int) -> int:
    if flags & ~7 or flags & 6 == 6:
        raise SysError(errno.EINVAL)
    n = min(n, 0x7FFFF000)
    done = 0
    while done < n:
        part = min(n - done, 4096 - (addr + done & 4095))
        try:
            copy_to_user(task, addr + done, task.kernel.random_bytes(part))
        except SysError:
            if not done:
                raise
            break
        done += part
    return done


@syscall(136, "personality", 1)
def sys_personality(task: Task, persona: int) -> int:
    old = task.personality
    if persona != 0xFFFFFFFF:
        task.personality = persona
        if task.mm is not None:
            task.mm.read_implies_exec = bool(persona & 0x0400000)
    return old


@syscall(172, "prctl", 5)
def sys_prctl(task: Task, option: int, a: int, b: int, c: int, d: int) -> int:
    if option == PR_SET_NAME:
        name = copy_name(task, a)
        task.comm = name.decode("utf-8", "surrogateescape")
    elif option == PR_GET_NAME:
        copy_to_user(task, a, task.comm.encode("utf-8", "surrogateescape")[:15].ljust(16, b"\0"))
    elif option == PR_SET_PDEATHSIG:
        if a > 64:
            raise SysError(errno.EINVAL)
        task.pdeath_signal = a
    elif option == PR_GET_PDEATHSIG:
        put_user32(task, a, task.pdeath_signal)
    elif option == PR_GET_DUMPABLE:
        return task.dumpable
    elif option == PR_SET_DUMPABLE:
        if a > 1:
            raise SysError(errno.EINVAL)
        task.dumpable = a
    elif option == PR_GET_KEEPCAPS:
        return int(task.keep_caps)
    elif option == PR_SET_KEEPCAPS:
        if a > 1:
            raise SysError(errno.EINVAL)
        task.keep_caps = bool(a)
    elif option in (PR_GET_TIMING, PR_GET_SECCOMP, PR_GET_THP_DISABLE):
        return 0
    elif option == PR_SET_TIMING:
        if a:
            raise SysError(errno.EINVAL)
    elif option == PR_CAPBSET_READ:
        if a > 40:
            raise SysError(errno.EINVAL)
        return 1
    elif option in (PR_CAPBSET_DROP, PR_SET_TSC):
        return 0
    elif option == PR_GET_TSC:
        put_user32(task, a, 1)
    elif option == PR_SET_TIMERSLACK:
        task.timer_slack = a or 50_000
    elif option == PR_GET_TIMERSLACK:
        return task.timer_slack
    elif option == PR_SET_CHILD_SUBREAPER:
        task.signal.subreaper = bool(a)
    elif option == PR_GET_CHILD_SUBREAPER:
        put_user32(task, a, int(task.signal.subreaper))
    elif option == PR_SET_NO_NEW_PRIVS:
        if a != 1 or b or c or d:
            raise SysError(errno.EINVAL)
        task.no_new_privs = True
    elif option == PR_GET_NO_NEW_PRIVS:
        if a or b or c or d:
            raise SysError(errno.EINVAL)
        return int(task.no_new_privs)
    elif option == PR_GET_TID_ADDRESS:
        put_user32(task, a, task.clear_child_tid)
    else:
        raise SysError(errno.EINVAL)
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


@syscall(103, "syslog", 3)
def sys_syslog(task: Task, action: int, addr: int, length: int) -> int:
    """The kernel's log is empty; its buffer would hold 16 KB."""
    if action == 10:
        return 16384
    if action > 10:
        raise SysError(errno.EINVAL)
    return 0


@syscall(88, "reboot", 4)
def sys_reboot(task: Task, magic: int, magic2: int, command: int, addr: int) -> int:
    """Restart, halt and power-off end the run."""
    if task.euid:
        raise SysError(errno.EPERM)
    if magic != 0xFEE1DEAD or magic2 not in (672274793, 85072278, 369367448, 537993216):
        raise SysError(errno.EINVAL)
    if command in (0x01234567, 0xCDEF0123, 0x4321FEDC):
        task.kernel.note(f"{task.comm}[{task.pid}] halted the machine")
        task.kernel.kill_everybody()
    return 0


@syscall(111, "vhangup", 0)
def sys_vhangup(task: Task) -> int:
    return 0


@syscall(134, "bdflush", 2)
def sys_bdflush(task: Task, function: int, data: int) -> int:
    return 0


@syscall(375, "membarrier", 3)
def sys_membarrier(task: Task, command: int, flags: int, cpu: int) -> int:
    """One CPU: every barrier is there already. Query answers with the commands accepted."""
    if flags:
        raise SysError(errno.EINVAL)
    if command == 0:
        return 0x7F
    if command & command - 1 or command > 0x40:
        raise SysError(errno.EINVAL)
    return 0


@syscall(51, "acct", 1)
def sys_acct(task: Task, path: int) -> int:
    if path:
        strncpy_from_user(task, path)
    raise SysError(errno.ENOSYS)


def _refused(nr: int, name: str) -> None:
    """A call that every program tries and that is not there: ENOSYS, and not worth a line in the summary."""

    def refuse(task: Task) -> int:
        raise SysError(errno.ENOSYS)

    syscall(nr, name, 0)(refuse)


for _nr, _name in ((123, "modify_ldt"), (386, "rseq"), (435, "clone3")):
    _refused(_nr, _name)
