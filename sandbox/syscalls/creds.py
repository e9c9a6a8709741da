"""User and group ids. The machine's programs run as root unless they drop it; capabilities follow from being root.

Linux: kernel/sys.c, kernel/uid16.c, kernel/capability.c, 2.6.7. The old calls have 16-bit ids, -1 means "leave it".
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

from mmcore.errors import SysError
from sandbox.kernel.table import syscall
from sandbox.kernel.task import Task
from sandbox.kernel.uaccess import copy_from_user, copy_to_user, get_user32, put_user32

OVERFLOW_ID = 65534
KEEP = 0xFFFFFFFF
NGROUPS_MAX = 65536
CAPABILITY_WORDS = {0x19980330: 1, 0x20071026: 2, 0x20080522: 2}
CAPABILITY_NEWEST = 0x20080522
FULL_LOW, FULL_HIGH = 0xFFFFFFFF, 0x1FF


def high2low(ident: int) -> int:
    return ident if ident < 65536 else OVERFLOW_ID


def low2high(ident: int) -> int:
    ident &= 0xFFFF
    return KEEP if ident == 0xFFFF else ident


def _getter(nr: int, name: str, field: str, old: bool) -> None:
    if old:

        def get(task: Task) -> int:
            return high2low(getattr(task, field))
    else:

        def get(task: Task) -> int:
            return getattr(task, field)

    syscall(nr, name, 0)(get)


for _nr, _name, _field, _old in (
    (24, "getuid", "uid", True),
    (47, "getgid", "gid", True),
    (49, "geteuid", "euid", True),
    (50, "getegid", "egid", True),
    (199, "getuid32", "uid", False),
    (200, "getgid32", "gid", False),
    (201, "geteuid32", "euid", False),
    (202, "getegid32", "egid", False),
):
    _getter(_nr, _name, _field, _old)


def may_look(task: Task, target: Task) -> bool:
    """May the task see into the target? Linux: ptrace_may_access with PTRACE_MODE_READ_REALCREDS, 4.5."""
    if target.signal is task.signal or not task.euid:
        return True
    same = task.uid == target.uid == target.euid == target.suid and task.gid == target.gid == target.egid == target.sgid
    return same and (target.mm is None or target.mm.dumpable == 1)


def same_owner(task: Task, target: Task) -> bool:
    """May the task schedule the target? CAP_SYS_NICE goes with root. Linux: check_same_owner, kernel/sched/core.c."""
    return not task.euid or task.euid in (target.uid, target.euid)


Widths = Callable[[int], int]  # of an id: between 16 and 32 bits, or as it is


class Ids:
    """The four ids of one kind of a task, user (UserIds) or group (GroupIds)."""

    __slots__ = ("task",)

    def __init__(self, task: Task) -> None:
        self.task = task

    def get(self) -> tuple[int, int, int]:
        """The ids: real, effective, saved."""
        raise NotImplementedError

    def fs(self) -> int:
        """The id that counts for files."""
        raise NotImplementedError

    def _put(self, real: int, effective: int, saved: int, fs: int) -> None:
        raise NotImplementedError

    def set(self, real: int, effective: int, saved: int) -> None:
        if effective != self.get()[1] or effective != self.fs():
            _changed(self.task)
        self._put(real, effective, saved, effective)

    def set_one(self, ident: int) -> int:
        """setuid, setgid."""
        if ident == KEEP:
            raise SysError(errno.EINVAL)
        real, _, saved = self.get()
        if not self.task.euid:
            self.set(ident, ident, ident)
        elif ident in (real, saved):
            self.set(real, ident, saved)
        else:
            raise SysError(errno.EPERM)
        return 0

    def set_re(self, real: int, effective: int) -> int:
        """setreuid, setregid."""
        r, e, s = self.get()
        if self.task.euid and (real not in (KEEP, r, e) or effective not in (KEEP, r, e, s)):
            raise SysError(errno.EPERM)
        new_real = r if real == KEEP else real
        new_effective = e if effective == KEEP else effective
        new_saved = new_effective if real != KEEP or (effective != KEEP and effective != r) else s
        self.set(new_real, new_effective, new_saved)
        return 0

    def set_res(self, real: int, effective: int, saved: int) -> int:
        """setresuid, setresgid."""
        mine = self.get()
        if self.task.euid and any(ident not in (KEEP, *mine) for ident in (real, effective, saved)):
            raise SysError(errno.EPERM)
        self.set(*(old if new == KEEP else new for old, new in zip(mine, (real, effective, saved), strict=True)))
        return 0

    def set_fs(self, ident: int) -> int:
        """setfsuid, setfsgid: the old one, always."""
        old = self.fs()
        if ident != KEEP and (not self.task.euid or ident in (*self.get(), old)):
            if ident != old:
                _changed(self.task)
            self._put(*self.get(), ident)
        return old


class UserIds(Ids):
    """Those of a user."""

    __slots__ = ()

    def get(self) -> tuple[int, int, int]:
        return self.task.uid, self.task.euid, self.task.suid

    def fs(self) -> int:
        return self.task.fsuid

    def _put(self, real: int, effective: int, saved: int, fs: int) -> None:
        task = self.task
        task.uid, task.euid, task.suid, task.fsuid = real, effective, saved, fs


class GroupIds(Ids):
    """Those of a group."""

    __slots__ = ()

    def get(self) -> tuple[int, int, int]:
        return self.task.gid, self.task.egid, self.task.sgid

    def fs(self) -> int:
        return self.task.fsgid

    def _put(self, real: int, effective: int, saved: int, fs: int) -> None:
        task = self.task
        task.gid, task.egid, task.sgid, task.fsgid = real, effective, saved, fs


def _changed(task: Task) -> None:
    """Another user: his memory may hold what only the old one should see. Linux: commit_creds, kernel/cred.c."""
    if task.mm is not None:
        task.mm.dumpable = 0
    task.pdeath_signal = 0


def _setters(
    kind: str,
    ids: type[Ids],
    one: tuple[int, int],
    re: tuple[int, int],
    res: tuple[int, int],
    getres: tuple[int, int],
    fs: tuple[int, int],
) -> None:
    """Enters the old (16-bit) and the new (32-bit) number of each setter."""
    for i, (widen, suffix) in enumerate(((low2high, ""), (lambda ident: ident, "32"))):
        narrow = high2low if i == 0 else (lambda ident: ident)

        def set_one(task: Task, a: int, widen: Widths = widen) -> int:
            return ids(task).set_one(widen(a))

        def set_re(task: Task, a: int, b: int, widen: Widths = widen) -> int:
            return ids(task).set_re(widen(a), widen(b))

        def set_res(task: Task, a: int, b: int, c: int, widen: Widths = widen) -> int:
            return ids(task).set_res(widen(a), widen(b), widen(c))

        def set_fs(task: Task, a: int, widen: Widths = widen, narrow: Widths = narrow) -> int:
            return narrow(ids(task).set_fs(widen(a)))

        def get_res(
            task: Task, a: int, b: int, c: int, form: str = "<H" if i == 0 else "<I", narrow: Widths = narrow
        ) -> int:
            for addr, ident in zip((a, b, c), ids(task).get(), strict=True):
                copy_to_user(task, addr, struct.pack(form, narrow(ident)))
            return 0

        syscall(one[i], f"set{kind}{suffix}", 1)(set_one)
        syscall(re[i], f"setre{kind}{suffix}", 2)(set_re)
        syscall(res[i], f"setres{kind}{suffix}", 3)(set_res)
        syscall(getres[i], f"getres{kind}{suffix}", 3)(get_res)
        syscall(fs[i], f"setfs{kind}{suffix}", 1)(set_fs)


_setters("uid", UserIds, (23, 213), (70, 203), (164, 208), (165, 209), (138, 215))
_setters("gid", GroupIds, (46, 214), (71, 204), (170, 210), (171, 211), (139, 216))


def _getgroups(task: Task, size: int, addr: int, form: str) -> int:
    groups = task.groups
    if size >> 31:
        raise SysError(errno.EINVAL)
    if size:
        if size < len(groups):
            raise SysError(errno.EINVAL)
        copy_to_user(task, addr, struct.pack(f"<{len(groups)}{form}", *groups))
    return len(groups)


def _setgroups(task: Task, size: int, addr: int, form: str) -> int:
    if task.euid:
        raise SysError(errno.EPERM)
    if size > NGROUPS_MAX:
        raise SysError(errno.EINVAL)
    task.groups = tuple(
        sorted(struct.unpack(f"<{size}{form}", copy_from_user(task, addr, size * struct.calcsize("<" + form))))
    )
    return 0


@syscall(80, "getgroups", 2)
def sys_getgroups16(task: Task, size: int, addr: int) -> int:
    return _getgroups(task, size, addr, "H")


@syscall(81, "setgroups", 2)
def sys_setgroups16(task: Task, size: int, addr: int) -> int:
    return _setgroups(task, size, addr, "H")


@syscall(205, "getgroups32", 2)
def sys_getgroups(task: Task, size: int, addr: int) -> int:
    return _getgroups(task, size, addr, "I")


@syscall(206, "setgroups32", 2)
def sys_setgroups(task: Task, size: int, addr: int) -> int:
    return _setgroups(task, size, addr, "I")


# --- capabilities


def _cap_header(task: Task, header: int) -> tuple[int, Task]:
    version = get_user32(task, header)
    words = CAPABILITY_WORDS.get(version)
    if words is None:
        put_user32(task, header, CAPABILITY_NEWEST)
        raise SysError(errno.EINVAL)
    pid = struct.unpack("<i", copy_from_user(task, header + 4, 4))[0]
    if pid < 0:
        raise SysError(errno.EINVAL)
    target = task.kernel.find_task(pid) if pid else task
    if target is None:
        raise SysError(errno.ESRCH)
    return words, target


@syscall(184, "capget", 2)
def sys_capget(task: Task, header: int, data: int) -> int:
    try:
        words, target = _cap_header(task, header)
    except SysError as error:
        if error.errno == errno.EINVAL and not data:
            return 0
        raise
    root = target.euid == 0
    sets = [(FULL_LOW, FULL_LOW, 0), (FULL_HIGH, FULL_HIGH, 0)] if root else [(0, 0, 0)] * 2
    if data:
        copy_to_user(task, data, b"".join(struct.pack("<3I", *one) for one in sets[:words]))
    return 0


@syscall(185, "capset", 2)
def sys_capset(task: Task, header: int, data: int) -> int:
    """Accepted from root and without effect: capabilities here are being root or not."""
    words, target = _cap_header(task, header)
    if target is not task:
        raise SysError(errno.EPERM)
    effective = [struct.unpack_from("<I", copy_from_user(task, data + 12 * i, 12))[0] for i in range(words)]
    if task.euid and any(effective):
        raise SysError(errno.EPERM)
    return 0
