"""System calls on a file as a whole: size, room, write-back, advice, memfd. Linux: fs/open.c, fs/buffer.c,
mm/fadvise.c, 2.6.7; fallocate 2.6.23."""

from __future__ import annotations

from errno import EBADF, EFBIG, EINVAL, EISDIR, ENODEV, ENOSPC, EOPNOTSUPP, EROFS, ESPIPE, ETXTBSY
from stat import S_ISDIR, S_ISFIFO, S_ISREG
from typing import TYPE_CHECKING

from mmcore.errors import MustWait, NotHere, SysError
from mmcore.files.filespace import FileSpace
from sandbox.fs.at import fget, s32, s64
from sandbox.fs.dentry import Dentry
from sandbox.fs.file import File, RegularFile
from sandbox.fs.hooks import send_signal
from sandbox.fs.inode import drop_privileges, permission
from sandbox.fs.leases import wait_broken
from sandbox.fs.memfd import check_resize_seals, check_write_seals
from sandbox.fs.namei import walk
from sandbox.fs.notify import touched
from sandbox.fs.rw import page_wait
from sandbox.fs.sysctl import drop_clean
from sandbox.fs.tmpfs import TmpfsInode
from sandbox.fs.uapi import (
    DN_MODIFY,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_ZERO_RANGE,
    FMODE_READ,
    FMODE_WRITE,
    MAX_LFS_FILESIZE,
    MAY_WRITE,
    MFD_ALLOW_SEALING,
    MFD_CLOEXEC,
    MFD_HUGETLB,
    O_LARGEFILE,
    O_WRONLY,
)
from sandbox.kernel.rlimits import RLIMIT_FSIZE
from sandbox.kernel.sched import TASK_UNINTERRUPTIBLE, Wait
from sandbox.kernel.signo import SIGXFSZ
from sandbox.kernel.table import syscall
from sandbox.kernel.uaccess import strncpy_from_user

if TYPE_CHECKING:
    from mmcore.files.shmem import ShmemSpace
    from sandbox.kernel.sched import Call
    from sandbox.kernel.task import Task

_SYNC_FILE_RANGE = 7  # WAIT_BEFORE, WRITE, WAIT_AFTER
POSIX_FADV_DONTNEED, POSIX_FADV_NOREUSE = 4, 5


# size
def _truncate(task: Task, path: int, length: int) -> int | Call:
    if length < 0:
        raise SysError(EINVAL)
    dentry = walk(task, strncpy_from_user(task, path))
    inode = dentry.inode
    if S_ISDIR(inode.mode):
        raise SysError(EISDIR)
    if not S_ISREG(inode.mode):
        raise SysError(EINVAL)
    permission(task, inode, MAY_WRITE)
    if inode.sb.readonly:
        raise SysError(EROFS)
    if inode.writers < 0:
        raise SysError(ETXTBSY)
    if inode.leases:
        return _truncate_leased(task, dentry, length)
    _set_size(task, dentry, length)
    return 0


def _truncate_leased(task: Task, dentry: Dentry, length: int) -> int | Call:
    yield from wait_broken(task, dentry.inode, O_WRONLY)
    while True:
        try:
            _set_size(task, dentry, length)
            return 0
        except MustWait as wait:
            yield page_wait(wait)


def _set_size(task: Task, dentry: Dentry, length: int) -> None:
    inode = dentry.inode
    if length > inode.i_size and length > task.signal.rlimits[RLIMIT_FSIZE][0]:
        send_signal(task, SIGXFSZ)
        raise SysError(EFBIG)
    inode.truncate(length)
    drop_privileges(task, inode)
    touched(dentry, DN_MODIFY)


def _ftruncate(task: Task, fd: int, length: int, small: bool) -> int:
    if length < 0:
        raise SysError(EINVAL)
    file = fget(task, fd)
    if not S_ISREG(file.inode.mode) or not file.f_mode & FMODE_WRITE:
        raise SysError(EINVAL)
    if small and length > 0x7FFFFFFF and not file.f_flags & O_LARGEFILE:
        raise SysError(EINVAL)
    _set_size(task, file.dentry, length)
    return 0


@syscall(92, "truncate", 2)
def sys_truncate(task: Task, path: int, length: int) -> int | Call:
    return _truncate(task, path, s32(length))


@syscall(193, "truncate64", 3)
def sys_truncate64(task: Task, path: int, low: int, high: int) -> int | Call:
    return _truncate(task, path, s64(low, high))


@syscall(93, "ftruncate", 2)
def sys_ftruncate(task: Task, fd: int, length: int) -> int:
    return _ftruncate(task, fd, s32(length), True)


@syscall(194, "ftruncate64", 3)
def sys_ftruncate64(task: Task, fd: int, low: int, high: int) -> int:
    return _ftruncate(task, fd, s64(low, high), False)


# room
def _reserve_pages(mapping: ShmemSpace, first: int, last: int) -> None:
    """Gives every page of the range a frame; on failure takes back what it gave."""
    added: list[int] = []
    for index in range(first, last + 1):
        try:
            if mapping.reserve(index):
                added.append(index)
        except SysError as error:
            for done in added:
                mapping.drop_pages(done, done + 1)
            raise SysError(ENOSPC) from error  # for want of memory too


def _fallocate(task: Task, dentry: Dentry, mode: int, offset: int, length: int) -> Call:
    inode = dentry.inode
    end = offset + length
    assert isinstance(inode, TmpfsInode) and inode.mapping is not None
    mapping = inode.mapping
    if mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE):
        check_write_seals(inode)
        while True:
            try:
                mapping.punch_hole(offset, end)
                break
            except MustWait as wait:
                yield page_wait(wait)
    if not mode & FALLOC_FL_PUNCH_HOLE:
        if end > inode.i_size:
            check_resize_seals(inode, end)
        _reserve_pages(mapping, offset >> 12, end - 1 >> 12)
        if end > inode.i_size and not mode & FALLOC_FL_KEEP_SIZE:
            inode.i_size = end
    drop_privileges(task, inode)
    inode.touch()
    touched(dentry, DN_MODIFY)
    return 0


@syscall(324, "fallocate", 6)
def sys_fallocate(
    task: Task, fd: int, mode: int, offset_low: int, offset_high: int, len_low: int, len_high: int
) -> int | Call:
    offset, length = s64(offset_low, offset_high), s64(len_low, len_high)
    file = fget(task, fd)
    if offset < 0 or length <= 0:
        raise SysError(EINVAL)
    if mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE):
        raise SysError(EOPNOTSUPP)
    if mode & FALLOC_FL_PUNCH_HOLE and (not mode & FALLOC_FL_KEEP_SIZE or mode & FALLOC_FL_ZERO_RANGE):
        raise SysError(EOPNOTSUPP)
    if not file.f_mode & FMODE_WRITE:
        raise SysError(EBADF)
    inode = file.inode
    if S_ISFIFO(inode.mode):
        raise SysError(ESPIPE)
    if S_ISDIR(inode.mode):
        raise SysError(EISDIR)
    if not S_ISREG(inode.mode):
        raise SysError(ENODEV)
    if offset + length > MAX_LFS_FILESIZE:
        raise SysError(EFBIG)
    if not isinstance(inode, TmpfsInode):
        raise NotHere(EOPNOTSUPP, "room for files of a mount (fallocate)")
    if mode & FALLOC_FL_ZERO_RANGE:
        raise SysError(EOPNOTSUPP)  # tmpfs has none
    return _fallocate(task, file.dentry, mode, offset, length)


# write-back and advice
def _fsync(file: File) -> Call:
    """Waits until the file's pages are on the host; EIO if that failed."""
    inode = file.inode
    inode.fsync()
    mapping = inode.mapping
    if not isinstance(mapping, FileSpace):
        return 0
    while (queue := mapping.under_writeback()) is not None:
        yield Wait((queue,), None, TASK_UNINTERRUPTIBLE)
    error = mapping.take_error()
    if error:
        raise SysError(error)
    return 0


def _fsync_file(task: Task, fd: int) -> int | Call:
    file = fget(task, fd)
    if not (S_ISREG(file.inode.mode) or S_ISDIR(file.inode.mode)):
        raise SysError(EINVAL)
    if not isinstance(file.inode.mapping, FileSpace):
        return 0
    return _fsync(file)


@syscall(118, "fsync", 1)
def sys_fsync(task: Task, fd: int) -> int | Call:
    return _fsync_file(task, fd)


@syscall(148, "fdatasync", 1)
def sys_fdatasync(task: Task, fd: int) -> int | Call:
    return _fsync_file(task, fd)


@syscall(36, "sync", 0)
def sys_sync(task: Task) -> int:
    task.kernel.vfs.sync()
    return 0


@syscall(344, "syncfs", 1)
def sys_syncfs(task: Task, fd: int) -> int:
    fget(task, fd).inode.sb.sync()
    return 0


@syscall(314, "sync_file_range", 6)
def sys_sync_file_range(
    task: Task, fd: int, offset_low: int, offset_high: int, n_low: int, n_high: int, flags: int
) -> int:
    if flags & ~_SYNC_FILE_RANGE or s64(offset_low, offset_high) < 0 or s64(n_low, n_high) < 0:
        raise SysError(EINVAL)
    file = fget(task, fd)
    if not (S_ISREG(file.inode.mode) or S_ISDIR(file.inode.mode)):
        raise SysError(ESPIPE)
    file.inode.fsync()
    return 0


def _fadvise(task: Task, fd: int, advice: int) -> int:
    """POSIX_FADV_*: checked; pages are read and dropped by demand alone."""
    file = fget(task, fd)
    if S_ISFIFO(file.inode.mode):
        raise SysError(ESPIPE)
    if advice > POSIX_FADV_NOREUSE:
        raise SysError(EINVAL)
    if advice == POSIX_FADV_DONTNEED and isinstance(file, RegularFile):
        drop_clean(task.mem, file.mapping)
    return 0


@syscall(250, "fadvise64", 5)
def sys_fadvise64(task: Task, fd: int, low: int, high: int, length: int, advice: int) -> int:
    return _fadvise(task, fd, advice)


@syscall(272, "fadvise64_64", 6)
def sys_fadvise64_64(task: Task, fd: int, low: int, high: int, len_low: int, len_high: int, advice: int) -> int:
    if s64(len_low, len_high) < 0:
        raise SysError(EINVAL)
    return _fadvise(task, fd, advice)


@syscall(225, "readahead", 4)
def sys_readahead(task: Task, fd: int, low: int, high: int, count: int) -> int:
    file = fget(task, fd)
    if not file.f_mode & FMODE_READ:
        raise SysError(EBADF)
    if not S_ISREG(file.inode.mode):
        raise SysError(EINVAL)
    if isinstance(file, RegularFile):
        file.mapping.read_ahead(s64(low, high) >> 12, min(count >> 12, 512))
    return 0


# files without a name
@syscall(356, "memfd_create", 2)
def sys_memfd_create(task: Task, name_at: int, flags: int) -> int:
    if flags & MFD_HUGETLB:
        raise NotHere(EINVAL, "huge pages (memfd_create)")
    if flags & ~(
        MFD_CLOEXEC | MFD_ALLOW_SEALING | 8 | 16
    ):  # NOEXEC_SEAL and EXEC are accepted: nothing here checks them
        raise SysError(EINVAL)
    try:
        name = strncpy_from_user(task, name_at, 250)
    except SysError as error:
        raise SysError(EINVAL if error.errno == 36 else error.errno) from None
    file = task.kernel.vfs.memfd_create(task, name, bool(flags & MFD_ALLOW_SEALING))
    try:
        return task.files.install(file, bool(flags & MFD_CLOEXEC))
    except SysError:
        file.put()
        raise
