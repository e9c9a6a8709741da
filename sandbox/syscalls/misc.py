"""The system as a program sees it: names, load, randomness, process switches, and calls that only answer.

Linux: kernel/sys.c, kernel/printk.c, drivers/char/random.c, 2.6.7; getrandom and membarrier of later kernels.
"""

from __future__ import annotations

import errno
import struct

from mmcore.errors import NotHere, SysError
from sandbox.kernel.exec import READ_IMPLIES_EXEC
from sandbox.kernel.table import syscall
from sandbox.kernel.task import Task
from sandbox.kernel.timers import NSEC
from sandbox.kernel.uaccess import copy_from_user, copy_to_user, strncpy_from_user

SYSNAME, RELEASE, MACHINE = b"Linux", b"2.6.7-rmapbox", b"i686"
VERSION = b"#1 Sat May 22 00:00:00 UTC 2004"
UTS_FIELD = 65
ADDR_NO_RANDOMIZE = 0x0040000
_GRND_NONBLOCK, _GRND_RANDOM, _GRND_INSECURE = 1, 2, 4


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
    """Sizes in bytes, or where RAM and swap are more than 32 bits count, in pages; no load average, for load is
    nobody's here."""
    kernel, mem = task.kernel, task.mem
    swap_total, swap_free = mem.swap.si_swapinfo()
    high = mem.pages.zones[2]
    each = 4096 if mem.total_pages + swap_total < 1 << 20 else 1
    copy_to_user(
        task,
        addr,
        struct.pack(
            "<i3I6IHHIII8x",
            kernel.timers.now() // NSEC,
            0,
            0,
            0,
            mem.total_pages * each,
            mem.pages.nr_free() * each,
            0,
            0,
            swap_total * each,
            swap_free * each,
            min(kernel.nr_tasks, 65535),
            0,
            high.present_pages * each,
            high.free_pages * each,
            4096 // each,
        ),
    )
    return 0


@syscall(355, "getrandom", 3)
def sys_getrandom(task: Task, addr: int, n: int, flags: int) -> int:
    if flags & ~(_GRND_NONBLOCK | _GRND_RANDOM | _GRND_INSECURE) or (flags & _GRND_RANDOM and flags & _GRND_INSECURE):
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
            task.mm.read_implies_exec = bool(persona & READ_IMPLIES_EXEC)
    return old


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


MEMBARRIER_QUERY, MEMBARRIER_GET_REGISTRATIONS = 0, 512
_GLOBAL, _GLOBAL_EXPEDITED, _REGISTER_GLOBAL = 1, 2, 4
_PRIVATE, _REGISTER_PRIVATE, _PRIVATE_SYNC_CORE, _REGISTER_PRIVATE_SYNC_CORE = 8, 16, 32, 64
_PRIVATE_RSEQ, _REGISTER_PRIVATE_RSEQ = 128, 256
# barrier -> the registration it needs; a registration's own number is its bit in mm.membarrier
_BARRIERS = {
    _GLOBAL: 0,
    _GLOBAL_EXPEDITED: 0,
    _PRIVATE: _REGISTER_PRIVATE,
    _PRIVATE_SYNC_CORE: _REGISTER_PRIVATE_SYNC_CORE,
}
_REGISTRATIONS = (_REGISTER_GLOBAL, _REGISTER_PRIVATE, _REGISTER_PRIVATE_SYNC_CORE)


@syscall(375, "membarrier", 3)
def sys_membarrier(task: Task, command: int, flags: int, cpu: int) -> int:
    """One CPU: every barrier is there already, for those who registered. Linux: kernel/sched/membarrier.c, 6.3, without
    rseq."""
    if flags:
        raise SysError(errno.EINVAL)
    mm = task.mm
    if command == MEMBARRIER_QUERY:
        return sum(_BARRIERS) + sum(_REGISTRATIONS) + MEMBARRIER_GET_REGISTRATIONS
    if command in _BARRIERS:
        if _BARRIERS[command] & ~mm.membarrier:
            raise SysError(errno.EPERM)
        return 0
    if command in _REGISTRATIONS:
        mm.membarrier |= command
        return 0
    if command == MEMBARRIER_GET_REGISTRATIONS:
        # Registering for the core-serialising barrier shows as the plain one too, though that still refuses to work.
        return mm.membarrier | (_REGISTER_PRIVATE if mm.membarrier & _REGISTER_PRIVATE_SYNC_CORE else 0)
    if command in (_PRIVATE_RSEQ, _REGISTER_PRIVATE_RSEQ):
        raise NotHere(errno.EINVAL, "restartable sequences (membarrier)")
    raise SysError(errno.EINVAL)


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
