"""Moving bytes between user memory and open files.

    one buffer, at most CHUNK bytes, nothing to wait for     done at once: the system calls' own fast path
    anything else                                            the generators here, CHUNK by CHUNK

A chunk that must wait for a page starts over and loses nothing (a read goes on page by page then, as it needs all pages
of a chunk at once, and a write takes the user's bytes once): a file gives its bytes up (`consume`) only when they are
with the user, and takes them (`accept`) whole or in part before the count is noted. A bad pointer in the middle ends
a transfer early; at its start it is EFAULT.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from errno import EAGAIN, EFAULT, EINVAL
from typing import TYPE_CHECKING

from mmcore.errors import MustWait, SysError
from mmcore.physical.ram import PAGE_SIZE
from sandbox.fs.file import File, within_limit
from sandbox.fs.inode import drop_privileges
from sandbox.fs.notify import touched
from sandbox.fs.uapi import DN_ACCESS, DN_MODIFY, MAX_RW_COUNT, O_NONBLOCK, UIO_MAXIOV
from sandbox.kernel.sched import TASK_UNINTERRUPTIBLE, Interrupted, Wait
from sandbox.kernel.uaccess import copy_from_user, copy_to_user, write_mm

if TYPE_CHECKING:
    from sandbox.kernel.task import Task

CHUNK = 1 << 16

Iov = list[tuple[int, int]]
"""(address, length) of each user buffer."""

Transfer = Generator[Wait, bool, int]


def import_iovec(task: Task, address: int, count: int) -> tuple[Iov, int]:
    """(buffers, total bytes) of an array of struct iovec. EINVAL, EFAULT. Linux: import_iovec, lib/iov_iter.c."""
    if count > UIO_MAXIOV:
        raise SysError(EINVAL)
    words = struct.unpack(f"<{2 * count}I", copy_from_user(task, address, 8 * count))
    iov = []
    total = 0
    for i in range(0, 2 * count, 2):
        length = words[i + 1]
        if length & 0x80000000:
            raise SysError(EINVAL)
        length = min(length, MAX_RW_COUNT - total)
        if length:
            iov.append((words[i], length))
        total += length
    return iov, total


def copy_in(task: Task, address: int, n: int) -> bytes:
    """Up to `n` bytes from the user, fewer if a page on the way cannot be read. EFAULT when not even one can;
    MustWait."""
    try:
        return copy_from_user(task, address, n)
    except SysError as error:
        if error.errno != EFAULT:
            raise
    parts = []
    end = address + n
    while address < end:
        part = min(end - address, PAGE_SIZE - (address & PAGE_SIZE - 1))
        try:
            parts.append(copy_from_user(task, address, part))
        except SysError:
            break
        address += part
    if not parts:
        raise SysError(EFAULT)
    return b"".join(parts)


def copy_out(task: Task, address: int, data: bytes) -> int:
    """Bytes of `data` that reached the user. EFAULT when none did; MustWait."""
    try:
        copy_to_user(task, address, data)
        return len(data)
    except SysError as error:
        if error.errno != EFAULT:
            raise
    done = 0
    while done < len(data):
        part = min(len(data) - done, PAGE_SIZE - (address + done & PAGE_SIZE - 1))
        try:
            copy_to_user(task, address + done, data[done : done + part])
        except SysError:
            break
        done += part
    if not done:
        raise SysError(EFAULT)
    return done


def gather(task: Task, iov: Iov, skip: int, n: int) -> bytes:
    """`n` bytes from the buffers, `skip` into them; fewer before a bad page."""
    parts: list[bytes] = []
    for address, length in iov:
        if skip >= length:
            skip -= length
            continue
        part = min(length - skip, n)
        try:
            data = copy_in(task, address + skip, part)
        except SysError:
            if not parts:
                raise
            break
        parts.append(data)
        n -= part
        if len(data) < part or not n:
            break
        skip = 0
    return parts[0] if len(parts) == 1 else b"".join(parts)


def scatter(task: Task, iov: Iov, skip: int, data: bytes) -> int:
    """Puts `data` into the buffers, `skip` into them; how much arrived."""
    done = 0
    for address, length in iov:
        if skip >= length:
            skip -= length
            continue
        piece = data[done : done + length - skip]
        try:
            k = copy_out(task, address + skip, piece)
        except SysError:
            if not done:
                raise
            break
        done += k
        if k < len(piece) or done == len(data):
            break
        skip = 0
    return done


def has_waited(task: Task) -> bool:
    """The task's call starts over, because a page had to be waited for."""
    return task in task.mem.awaited.held


def step(task: Task, file: File, left: int, pos: int) -> int:
    """How much to read at `pos` in one go: a chunk, of a file the rest of a page while there are pages to wait
    for."""
    return min(left, PAGE_SIZE - (pos & PAGE_SIZE - 1) if file.regular and has_waited(task) else CHUNK)


def page_wait(wait: MustWait) -> Wait:
    """The wait for a page under I/O: no signal ends it."""
    return Wait((wait.queue,), None, TASK_UNINTERRUPTIBLE)


def wait_for_input(task: Task, file: File) -> Wait:
    """What a reader of a file without input yields. EAGAIN when the file is not to block."""
    if file.f_flags & O_NONBLOCK:
        raise SysError(EAGAIN)
    return file.input_wait(task)


def wait_for_room(file: File) -> Wait:
    """What a writer yields whose file takes nothing. EAGAIN when the file is not to block."""
    if file.f_flags & O_NONBLOCK:
        raise SysError(EAGAIN)
    return Wait(file.write_queues())


def read_wait(task: Task, file: File, address: int, n: int) -> Transfer:
    """read(2) of at most CHUNK bytes that found nothing yet: waits, then reads once."""
    file.count += 1
    try:
        while True:
            yield file.input_wait(task)
            data = file.peek(task, n)
            if data:
                n = len(data)
                try:
                    write_mm(task.mem, task.mm, address, data)
                except SysError:
                    n = copy_out(task, address, data)
                file.consume(n)
                return n
            if data is not None:
                return 0
    finally:
        file.count -= 1
        if not file.count:
            file.release()


def read_iov(task: Task, file: File, iov: Iov, total: int, pos: int | None = None) -> Transfer:
    """Reads into the buffers; from `pos` without moving the file's position when given."""
    done = 0
    awaited = task.mem.awaited
    file.count += 1
    try:
        while done < total:
            want = step(task, file, total - done, file.pos if pos is None else pos + done)
            try:
                data = file.peek(task, want) if pos is None else file.pread(pos + done, want)
                if data is None:
                    if done:
                        break
                    yield wait_for_input(task, file)
                    continue
                if not data:
                    break
                copied = scatter(task, iov, done, data)
            except MustWait as wait:
                yield page_wait(wait)
                continue
            except SysError:
                if done:
                    break
                raise
            if pos is None:
                file.consume(copied)
            elif copied:
                touched(file.dentry, DN_ACCESS)
            done += copied
            awaited.let_go(task)
            if copied < len(data) or (len(data) < want and not file.regular):
                break
        return done
    finally:
        file.put()


def write_iov(task: Task, file: File, iov: Iov, total: int, done: int = 0, pos: int | None = None) -> Transfer:
    """Writes the buffers from byte `done` on; to `pos` (of byte 0) without moving the file's position when
    given."""
    let_go = task.mem.awaited.let_go
    data = b""
    kept = False  # `data` is with us already, and waits for pages of the file
    file.count += 1
    try:
        while done < total:
            want = min(CHUNK, total - done)
            try:
                if not kept:
                    data = gather(task, iov, done, want)
                    kept = file.regular
                    let_go(task)
                if pos is None:
                    taken = file.accept(task, data)
                else:
                    if file.regular:
                        data = within_limit(task, pos + done, data)
                    taken = _write_at(task, file, pos + done, data)
            except MustWait as wait:
                yield page_wait(wait)
                continue
            except SysError:
                if done:
                    break
                raise
            done += taken
            kept = False
            let_go(task)
            if taken == len(data):
                if taken < want:
                    break
            elif not taken:
                if file.regular:
                    break
                try:
                    yield wait_for_room(file)
                except (SysError, Interrupted):
                    if done:
                        break
                    raise
        return done
    finally:
        file.put()


def _write_at(task: Task, file: File, pos: int, data: bytes) -> int:
    """Bytes written at `pos`; the file's position stays."""
    taken = file.pwrite(pos, data, task)
    drop_privileges(task, file.inode)
    if taken:
        touched(file.dentry, DN_MODIFY)
    return taken
