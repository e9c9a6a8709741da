"""futex: sleeping on a word of user memory.

A futex is named by where its word lies: (mm, address) for private ones and for anonymous private memory, (mapping, page
offset, offset in page) for shared memory, so that processes that map one file at different addresses meet.
Linux: kernel/futex.c; WAIT, WAKE, REQUEUE, CMP_REQUEUE as in 2.6.7, bitsets, WAKE_OP and robust lists as in later
kernels.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Generator, Hashable
from typing import TYPE_CHECKING

from mmcore.areas.vma import VM_READ, VM_WRITE
from mmcore.errors import NotHere, SysError
from mmcore.physical.frames import PG_ANON
from mmcore.wait import WaitQueue
from sandbox.kernel.sched import ERESTART_RESTARTBLOCK, Interrupted, Wait
from sandbox.kernel.task import Task
from sandbox.kernel.timespec import CLOCK_MONOTONIC, CLOCK_REALTIME, deadline_of
from sandbox.kernel.uaccess import TASK_SIZE, get_user32, prefault, put_user32

if TYPE_CHECKING:
    from collections.abc import Callable

(
    FUTEX_WAIT,
    FUTEX_WAKE,
    FUTEX_FD,
    FUTEX_REQUEUE,
    FUTEX_CMP_REQUEUE,
    FUTEX_WAKE_OP,
    FUTEX_LOCK_PI,
    FUTEX_UNLOCK_PI,
    FUTEX_TRYLOCK_PI,
    FUTEX_WAIT_BITSET,
    FUTEX_WAKE_BITSET,
) = range(11)
_PI_COMMANDS = {
    FUTEX_LOCK_PI,
    FUTEX_UNLOCK_PI,
    FUTEX_TRYLOCK_PI,
    11,
    12,
    13,
}  # and WAIT_REQUEUE_PI, CMP_REQUEUE_PI, LOCK_PI2
FUTEX_PRIVATE = 128
FUTEX_CLOCK_REALTIME = 256
MATCH_ANY = 0xFFFFFFFF
FUTEX_WAITERS, FUTEX_OWNER_DIED, FUTEX_TID_MASK = 0x80000000, 0x40000000, 0x3FFFFFFF
ROBUST_LIST_LIMIT = 2048


class FutexWaiter:
    """One sleeper. `queue` has the task in it while it sleeps; `key` is None once it was woken."""

    __slots__ = ("key", "bitset", "queue")

    def __init__(self, key: Hashable, bitset: int, queue: WaitQueue) -> None:
        self.key: Hashable = key
        self.bitset = bitset
        self.queue = queue


def futex_key(task: Task, addr: int, private: bool, write: bool = False) -> Hashable:
    """What the word at `addr` is called; a shared one by its page, brought in for it. `write`: the call will store
    there. Raises EINVAL (unaligned), EFAULT and MustWait. Linux: get_futex_key, 6.18."""
    if addr & 3:
        raise SysError(errno.EINVAL)
    if addr >= TASK_SIZE:
        raise SysError(errno.EFAULT)
    mm = task.mm
    if private:
        return mm, addr
    vma = mm.find_vma(addr)
    if vma is None or vma.vm_start > addr:
        raise SysError(errno.EFAULT)
    mem = task.mem
    if vma.vm_flags & VM_WRITE:
        pfn = mem.faults.fault_in(mm, addr, True)
        if mem.frames.flags[pfn] & PG_ANON:
            return mm, addr
    else:
        if write or not vma.vm_flags & VM_READ:
            raise SysError(errno.EFAULT)
        pfn = mem.faults.fault_in(mm, addr, False)
        if mem.is_reserved(pfn) or mem.frames.flags[pfn] & PG_ANON:
            raise SysError(errno.EFAULT)  # nobody can change the word
    return vma.mapping, mem.frames.index[pfn], addr & 0xFFF


def _wake(task: Task, key: Hashable, n: int, bitset: int) -> int:
    """Wakes the first `n` sleepers that match, in order of arrival; how many."""
    futexes = task.kernel.futexes
    waiters = futexes.get(key)
    if not waiters or n <= 0:
        return 0
    woken = 0
    kept = []
    for waiter in waiters:
        if woken < n and waiter.bitset & bitset:
            waiter.key = None
            waiter.queue.wake_all()
            woken += 1
        else:
            kept.append(waiter)
    if kept:
        futexes[key] = kept
    else:
        del futexes[key]
    return woken


def wake_address(task: Task, addr: int, n: int) -> None:
    """The kernel's own wake-up (clear_child_tid, robust futexes): of private and of shared sleepers."""
    keys = []
    for private in (True, False):
        key = futex_key(task, addr, private)
        if key not in keys:
            keys.append(key)
            _wake(task, key, n, MATCH_ANY)


def _forget(task: Task, waiter: FutexWaiter) -> bool:
    """The sleeper gives up; False: it was woken meanwhile."""
    key = waiter.key
    if key is None:
        return False
    waiters = task.kernel.futexes[key]
    waiters.remove(waiter)
    if not waiters:
        del task.kernel.futexes[key]
    return True


def futex_wait(
    task: Task, addr: int, value: int, private: bool, bitset: int, deadline: int | None
) -> Generator[Wait, bool, int]:
    """Sleeps if the word still has `value`. Raises EAGAIN at once if not."""
    key = futex_key(task, addr, private)
    if get_user32(task, addr) != value:
        raise SysError(errno.EAGAIN)
    return _futex_sleep(task, key, addr, value, private, bitset, deadline)


def _futex_sleep(
    task: Task, key: Hashable, addr: int, value: int, private: bool, bitset: int, deadline: int | None
) -> Generator[Wait, bool, int]:
    queue = WaitQueue(f"futex {addr:#x}")
    waiter = FutexWaiter(key, bitset, queue)
    task.kernel.futexes.setdefault(key, []).append(waiter)
    try:
        while (yield Wait((queue,), deadline)) and waiter.key is not None:
            pass  # woken by a signal
    except Interrupted:
        if not _forget(task, waiter):
            return 0
        if deadline is None:
            raise
        task.restart_block = lambda: futex_wait(task, addr, value, private, bitset, deadline)
        raise Interrupted(ERESTART_RESTARTBLOCK) from None
    if _forget(task, waiter):
        raise SysError(errno.ETIMEDOUT)
    return 0


def _requeue(task: Task, key: Hashable, key2: Hashable, nr_wake: int, nr_requeue: int) -> int:
    woken = _wake(task, key, nr_wake, MATCH_ANY)
    futexes = task.kernel.futexes
    waiters = futexes.get(key)
    if not waiters or nr_requeue <= 0 or key == key2:
        return woken
    moved, rest = waiters[:nr_requeue], waiters[nr_requeue:]
    for waiter in moved:
        waiter.key = key2
    futexes.setdefault(key2, []).extend(moved)
    if rest:
        futexes[key] = rest
    else:
        del futexes[key]
    return woken + len(moved)


def signed(value: int, bits: int = 32) -> int:
    return value - (1 << bits) if value >> bits - 1 else value


def _wake_op(task: Task, addr: int, addr2: int, nr_wake: int, nr_wake2: int, code: int, private: bool) -> int:
    """Changes the second word, wakes sleepers on the first, and on the second if its old value passes the
    comparison."""
    key, key2 = futex_key(task, addr, private), futex_key(task, addr2, private, write=True)
    op, cmp = code >> 28 & 7, code >> 24 & 15
    arg, cmp_arg = signed(code >> 12 & 0xFFF, 12), signed(code & 0xFFF, 12)
    if code >> 31:
        arg = 1 << (arg & 31)
    if op > 4 or cmp > 5:
        raise SysError(errno.ENOSYS)
    prefault(task, addr2, 4, True)
    old = get_user32(task, addr2)
    put_user32(task, addr2, (arg, old + arg, old | arg, old & ~arg, old ^ arg)[op])
    old = signed(old)
    woken = _wake(task, key, nr_wake, MATCH_ANY)
    if (old == cmp_arg, old != cmp_arg, old < cmp_arg, old <= cmp_arg, old > cmp_arg, old >= cmp_arg)[cmp]:
        woken += _wake(task, key2, nr_wake2, MATCH_ANY)
    return woken


def do_futex(
    task: Task,
    addr: int,
    op: int,
    value: int,
    timeout: int,
    addr2: int,
    value3: int,
    get_timespec: Callable[[Task, int], int],
) -> int | Generator[Wait, bool, int]:
    command = op & 127
    private = bool(op & FUTEX_PRIVATE)
    if command in _PI_COMMANDS:
        raise NotHere(errno.ENOSYS, "priority inheritance (futex)")
    if op & FUTEX_CLOCK_REALTIME and command != FUTEX_WAIT_BITSET:
        raise SysError(errno.ENOSYS)
    if command in (FUTEX_WAIT, FUTEX_WAIT_BITSET):
        deadline = None
        if timeout:
            ns = get_timespec(task, timeout)
            if command == FUTEX_WAIT:
                deadline = task.kernel.clock.now + ns
            else:
                deadline = deadline_of(task, CLOCK_REALTIME if op & FUTEX_CLOCK_REALTIME else CLOCK_MONOTONIC, ns)
        bitset = MATCH_ANY if command == FUTEX_WAIT else value3
        if not bitset:
            raise SysError(errno.EINVAL)
        return futex_wait(task, addr, value, private, bitset, deadline)
    if command in (FUTEX_WAKE, FUTEX_WAKE_BITSET):
        bitset = MATCH_ANY if command == FUTEX_WAKE else value3
        if not bitset:
            raise SysError(errno.EINVAL)
        return _wake(task, futex_key(task, addr, private), max(1, signed(value)), bitset)
    if command in (FUTEX_REQUEUE, FUTEX_CMP_REQUEUE):
        nr_wake, nr_requeue = signed(value), signed(timeout)
        if nr_wake < 0 or nr_requeue < 0:
            raise SysError(errno.EINVAL)
        key, key2 = futex_key(task, addr, private), futex_key(task, addr2, private)
        if command == FUTEX_CMP_REQUEUE and get_user32(task, addr) != value3:
            raise SysError(errno.EAGAIN)
        return _requeue(task, key, key2, nr_wake, nr_requeue)
    if command == FUTEX_WAKE_OP:
        return _wake_op(task, addr, addr2, signed(value), signed(timeout), value3, private)
    raise SysError(errno.ENOSYS)


# --- robust futexes


def _owner_died(task: Task, addr: int) -> None:
    """The dying thread held this lock: the word says so, and one sleeper hears of it."""
    if addr & 3:
        return
    value = get_user32(task, addr)
    if value & FUTEX_TID_MASK == task.pid:
        put_user32(task, addr, value & FUTEX_WAITERS | FUTEX_OWNER_DIED)
        if value & FUTEX_WAITERS:
            wake_address(task, addr, 1)


def exit_robust_list(task: Task) -> None:
    """Walks the list of locks that a thread holds as it dies. May raise MustWait; repeating it does no harm. Linux:
    exit_robust_list."""
    head = task.robust_list
    entry = get_user32(task, head)
    offset = struct.unpack("<i", struct.pack("<I", get_user32(task, head + 4)))[0]
    pending = get_user32(task, head + 8) & ~1
    for _ in range(ROBUST_LIST_LIMIT):
        entry &= ~1
        if entry == head:
            break
        following = get_user32(task, entry)
        if entry != pending:
            _owner_died(task, (entry + offset) & 0xFFFFFFFF)
        entry = following
    if pending:
        _owner_died(task, (pending + offset) & 0xFFFFFFFF)
    task.robust_list = 0
