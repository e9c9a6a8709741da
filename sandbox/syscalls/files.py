"""System calls on open files: reading, writing, positions, opening and closing. Linux: fs/read_write.c, fs/open.c,
2.6.7; later calls as in 6.1.

Counts are unsigned and cut at MAX_RW_COUNT, as a 64-bit kernel has it (an i386 kernel answers EINVAL from 2 GB on).
"""

from __future__ import annotations

from errno import EAGAIN, EBADF, EINVAL, EISDIR, EOPNOTSUPP, ESPIPE
from stat import S_ISDIR
from typing import TYPE_CHECKING

from mmcore.errors import MustWait, SysError
from sandbox.fs.at import CWD, base_of, fget, fget_read, fget_write, s32, s64
from sandbox.fs.file import File
from sandbox.fs.leases import Breaking
from sandbox.fs.notify import touched
from sandbox.fs.rw import (
    CHUNK,
    copy_in,
    copy_out,
    gather,
    has_waited,
    import_iovec,
    page_wait,
    read_iov,
    read_wait,
    step,
    wait_for_input,
    wait_for_room,
    write_iov,
)
from sandbox.fs.uapi import (
    DN_ACCESS,
    FMODE_READ,
    FMODE_WRITE,
    MAX_RW_COUNT,
    O_APPEND,
    O_CLOEXEC,
    O_CREAT,
    O_NONBLOCK,
    O_TRUNC,
    O_WRONLY,
)
from sandbox.kernel.sched import Interrupted, Wait
from sandbox.kernel.table import syscall
from sandbox.kernel.uaccess import copy_to_user, pin_user, put_user64, read_mm, strncpy_from_user, write_mm

if TYPE_CHECKING:
    from sandbox.fs.dentry import Dentry
    from sandbox.fs.file import Opening
    from sandbox.kernel.sched import Call
    from sandbox.kernel.task import Task

_RWF_SUPPORTED = 0x0F  # HIPRI, DSYNC, SYNC, NOWAIT: accepted, they change nothing here
_RWF_APPEND = 0x10
_CLOSE_RANGE_UNSHARE, _CLOSE_RANGE_CLOEXEC = 2, 4


@syscall(3, "read", 3)
def sys_read(task: Task, fd: int, buf: int, n: int) -> int | Call:
    fds = task.files.fds
    file = fds[fd] if fd < len(fds) else None
    if file is None or not file.f_mode & FMODE_READ:
        raise SysError(EBADF)
    if 0 < n <= CHUNK and not (file.regular and has_waited(task)):
        data = file.peek(task, n)
        if data:
            n = len(data)
            try:
                write_mm(task.mem, task.mm, buf, data)
            except SysError:
                n = copy_out(task, buf, data)
            file.consume(n)
            return n
        if data is not None:
            return 0
        if file.f_flags & O_NONBLOCK:
            raise SysError(EAGAIN)
        return read_wait(task, file, buf, n)
    if file.is_dir:
        raise SysError(EISDIR)
    if not n:
        return 0
    n = min(n, MAX_RW_COUNT)
    return read_iov(task, file, [(buf, n)], n)


@syscall(4, "write", 3)
def sys_write(task: Task, fd: int, buf: int, n: int) -> int | Call:
    fds = task.files.fds
    file = fds[fd] if fd < len(fds) else None
    if file is None or not file.f_mode & FMODE_WRITE:
        raise SysError(EBADF)
    if 0 < n <= CHUNK and not (file.regular and has_waited(task)):
        try:
            data = read_mm(task.mem, task.mm, buf, n)
        except SysError:
            data = copy_in(task, buf, n)
        taken = file.accept(task, data)
        if taken == len(data):
            return taken
        if not taken and file.f_flags & O_NONBLOCK and not file.regular:
            raise SysError(EAGAIN)
        return write_iov(task, file, [(buf, n)], n, taken)
    if not n:
        return 0
    n = min(n, MAX_RW_COUNT)
    return write_iov(task, file, [(buf, n)], n)


@syscall(145, "readv", 3)
def sys_readv(task: Task, fd: int, vec: int, count: int) -> int | Call:
    file = fget_read(task, fd)
    iov, total = import_iovec(task, vec, count)
    if file.is_dir:
        raise SysError(EISDIR)
    return read_iov(task, file, iov, total)


@syscall(146, "writev", 3)
def sys_writev(task: Task, fd: int, vec: int, count: int) -> int | Call:
    file = fget_write(task, fd)
    iov, total = import_iovec(task, vec, count)
    if total <= CHUNK and not (file.regular and has_waited(task)):
        # Nothing has changed so far, so a page to wait for restarts the call; most calls end here without a generator.
        if not total:
            return 0
        data = gather(task, iov, 0, total)
        taken = file.accept(task, data)
        if taken == len(data):
            return taken
        return write_iov(task, file, iov, total, taken)
    return write_iov(task, file, iov, total)


def _positioned(task: Task, file: File, low: int, high: int) -> int:
    pos = s64(low, high)
    if pos < 0:
        raise SysError(EINVAL)
    return pos


@syscall(180, "pread64", 5)
def sys_pread64(task: Task, fd: int, buf: int, n: int, low: int, high: int) -> int | Call:
    file = fget_read(task, fd)
    pos = _positioned(task, file, low, high)
    n = min(n, MAX_RW_COUNT)
    if n <= CHUNK and not (n and has_waited(task)):
        data = file.pread(pos, n)
        if not data:
            return 0
        done = copy_out(task, buf, data)
        touched(file.dentry, DN_ACCESS)
        return done
    return read_iov(task, file, [(buf, n)], n, pos)


@syscall(181, "pwrite64", 5)
def sys_pwrite64(task: Task, fd: int, buf: int, n: int, low: int, high: int) -> int | Call:
    file = fget_write(task, fd)
    pos = _positioned(task, file, low, high)
    n = min(n, MAX_RW_COUNT)
    if not file.seekable and not n:
        raise SysError(ESPIPE)
    if file.regular and file.f_flags & O_APPEND:  # as Linux does, against POSIX
        pos = file.inode.i_size
    return write_iov(task, file, [(buf, n)], n, 0, pos) if n else 0


@syscall(333, "preadv", 5)
def sys_preadv(task: Task, fd: int, vec: int, count: int, low: int, high: int) -> int | Call:
    file = fget_read(task, fd)
    pos = _positioned(task, file, low, high)
    iov, total = import_iovec(task, vec, count)
    file.pread(pos, 0)
    return read_iov(task, file, iov, total, pos)


@syscall(334, "pwritev", 5)
def sys_pwritev(task: Task, fd: int, vec: int, count: int, low: int, high: int) -> int | Call:
    file = fget_write(task, fd)
    pos = _positioned(task, file, low, high)
    iov, total = import_iovec(task, vec, count)
    if not total:
        return 0
    if file.regular and file.f_flags & O_APPEND:
        pos = file.inode.i_size
    return write_iov(task, file, iov, total, 0, pos)


@syscall(378, "preadv2", 6)
def sys_preadv2(task: Task, fd: int, vec: int, count: int, low: int, high: int, flags: int) -> int | Call:
    if flags & ~_RWF_SUPPORTED:
        raise SysError(EOPNOTSUPP)
    if s64(low, high) == -1:
        return sys_readv(task, fd, vec, count)
    return sys_preadv(task, fd, vec, count, low, high)


@syscall(379, "pwritev2", 6)
def sys_pwritev2(task: Task, fd: int, vec: int, count: int, low: int, high: int, flags: int) -> int | Call:
    if flags & ~(_RWF_SUPPORTED | _RWF_APPEND):
        raise SysError(EOPNOTSUPP)
    if s64(low, high) == -1:
        return sys_writev(task, fd, vec, count)
    if flags & _RWF_APPEND:
        size = fget_write(task, fd).inode.i_size
        low, high = size & 0xFFFFFFFF, size >> 32
    return sys_pwritev(task, fd, vec, count, low, high)


# positions
@syscall(19, "lseek", 3)
def sys_lseek(task: Task, fd: int, offset: int, whence: int) -> int:
    """The low 32 bits of the position, as a 64-bit kernel answers its 32-bit programs (an i386 kernel: EOVERFLOW beyond
    2 GB)."""
    return fget(task, fd).llseek(s32(offset), whence) & 0xFFFFFFFF


@syscall(140, "_llseek", 5)
def sys_llseek(task: Task, fd: int, high: int, low: int, result: int, whence: int) -> int:
    file = fget(task, fd)
    pin_user(task, result, 8, True)
    put_user64(task, result, file.llseek(s64(low, high), whence))
    return 0


# opening and closing
def do_open(task: Task, dirfd: int, path_at: int, flags: int, mode: int) -> int | Call:
    """open(2): a descriptor, or a generator that waits for a FIFO's other end."""
    path = strncpy_from_user(task, path_at)
    files = task.files
    vfs = task.kernel.vfs
    vfs.trim()
    base = base_of(task, dirfd, path)
    try:
        opened = vfs.open_may_wait(task, path, flags, mode, base)
    except Breaking as wait:
        return _install_later(task, _open_broken(task, path, flags, mode, base, wait), flags)
    if not isinstance(opened, File):
        return _install_later(task, opened, flags)
    try:
        return files.install(opened, bool(flags & O_CLOEXEC))
    except SysError:
        opened.put()
        raise


def _open_broken(task: Task, path: bytes, flags: int, mode: int, base: Dentry | None, wait: Breaking) -> Opening:
    """Opens once the leases in the way are given back."""
    while True:
        yield Wait([wait.queue])
        try:
            opened = task.kernel.vfs.open_may_wait(task, path, flags, mode, base)
        except Breaking as again:
            wait = again
            continue
        return opened if isinstance(opened, File) else (yield from opened)


def _install_later(task: Task, opening: Opening, flags: int) -> Call:
    file = yield from opening
    try:
        return task.files.install(file, bool(flags & O_CLOEXEC))
    except SysError:
        file.put()
        raise


@syscall(5, "open", 3)
def sys_open(task: Task, path: int, flags: int, mode: int) -> int | Call:
    return do_open(task, CWD, path, flags, mode)


@syscall(295, "openat", 4)
def sys_openat(task: Task, dirfd: int, path: int, flags: int, mode: int) -> int | Call:
    return do_open(task, dirfd, path, flags, mode)


@syscall(8, "creat", 2)
def sys_creat(task: Task, path: int, mode: int) -> int | Call:
    return do_open(task, CWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode)


@syscall(6, "close", 1)
def sys_close(task: Task, fd: int) -> int:
    task.files.close(fd, task)
    return 0


@syscall(436, "close_range", 3)
def sys_close_range(task: Task, first: int, last: int, flags: int) -> int:
    if first > last or flags & ~(_CLOSE_RANGE_UNSHARE | _CLOSE_RANGE_CLOEXEC):
        raise SysError(EINVAL)
    if flags & _CLOSE_RANGE_UNSHARE and task.files.users > 1:
        address = task.kernel.objects.files.alloc()
        own = task.files.copy()
        task.files.put(task)
        task.files, task.files_addr = own, address
    files = task.files
    for fd in range(first, min(last, len(files.fds) - 1) + 1):
        if files.fds[fd] is not None:
            if flags & _CLOSE_RANGE_CLOEXEC:
                files.cloexec.add(fd)
            else:
                files.close(fd, task)
    return 0


# between files
def _copy(task: Task, source: File, target: File, pos: int | None, total: int) -> Call:
    """Moves up to `total` bytes; from `pos` when given. A generator that returns how many."""
    done = 0
    source.count += 1
    target.count += 1
    try:
        while done < total:
            try:
                at = source.pos if pos is None else pos + done
                want = step(task, source, total - done, at)
                data = source.peek(task, want) if pos is None else source.pread(at, want)
                if data is None:
                    if done:
                        break
                    yield wait_for_input(task, source)
                    continue
                if not data:
                    break
                taken = target.accept(task, data)
            except MustWait as wait:
                yield page_wait(wait)
                continue
            except SysError:
                if done:
                    break
                raise
            if not taken:
                try:
                    yield wait_for_room(target)
                except (SysError, Interrupted):
                    if done:
                        break
                    raise
                continue
            if pos is None:
                source.consume(taken)
            else:
                touched(source.dentry, DN_ACCESS)
            done += taken
            task.mem.awaited.let_go(task)
            if len(data) < want and not source.regular:
                break
        return done
    finally:
        source.put()
        target.put()


def _sendfile(task: Task, out_fd: int, in_fd: int, offset_at: int, n: int, size: int) -> Call:
    source, target = fget_read(task, in_fd), fget_write(task, out_fd)
    if S_ISDIR(source.inode.mode) or target.f_flags & O_APPEND:
        raise SysError(EINVAL)
    if not source.seekable:
        raise SysError(ESPIPE if offset_at else EINVAL)
    n = min(n, MAX_RW_COUNT)
    if not offset_at:
        return (yield from _copy(task, source, target, None, n))
    pin_user(task, offset_at, size, True)
    pos = int.from_bytes(copy_in(task, offset_at, size), "little", signed=True)
    if pos < 0:
        raise SysError(EINVAL)
    done = yield from _copy(task, source, target, pos, n)
    copy_to_user(task, offset_at, (pos + done).to_bytes(size, "little"))
    return done


@syscall(187, "sendfile", 4)
def sys_sendfile(task: Task, out_fd: int, in_fd: int, offset: int, n: int) -> int | Call:
    return _sendfile(task, out_fd, in_fd, offset, n, 4)


@syscall(239, "sendfile64", 4)
def sys_sendfile64(task: Task, out_fd: int, in_fd: int, offset: int, n: int) -> int | Call:
    return _sendfile(task, out_fd, in_fd, offset, n, 8)
