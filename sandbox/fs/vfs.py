"""The guest's file tree: what is mounted, what stands in it at boot, and opening files in it.

    /            tmpfs: bin dev dev/shm etc proc root sys tmp usr/bin var/tmp ...     its files are pages of guest RAM
    /proc /sys   made when read
    /GUEST       one host directory or file per --mount

`Vfs(mem, mounts=...)` builds it; `attach(kernel)` gives /proc its tasks; `stdio()` makes descriptors 0, 1 and 2.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from errno import EACCES, EEXIST, EINVAL, EISDIR, ELOOP, ENOENT, ENOTDIR, EOPNOTSUPP, EOVERFLOW, EPERM, EROFS, ETXTBSY
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG, S_ISDIR, S_ISLNK, S_ISREG, S_ISVTX
from typing import TYPE_CHECKING

from mmcore.areas.overcommit import Overcommit
from mmcore.errors import ConfigError, NotHere, SysError
from mmcore.files.filespace import FileSpace
from mmcore.files.shmem import ShmemSpace, ShmemSuper
from sandbox.fs import procfs, sysfs
from sandbox.fs.console import Console, Sink, input_file, is_terminal, output_file
from sandbox.fs.dentry import Dentry
from sandbox.fs.devices import NODES, PTS0, open_special, swap_dev, swap_name
from sandbox.fs.fdtable import FileTable, FsStruct
from sandbox.fs.file import File, PathFile, RegularFile
from sandbox.fs.hostfs import HostSuper
from sandbox.fs.inode import BOOT_EPOCH_S, Caches, SuperBlock, drop_privileges, owned, permission
from sandbox.fs.leases import break_lease
from sandbox.fs.memfd import memfd
from sandbox.fs.namei import child_of, walk, walk_parent
from sandbox.fs.notify import happened, touched
from sandbox.fs.pseudofs import mount_root
from sandbox.fs.tmpfs import TmpfsInode, TmpfsSuper
from sandbox.fs.uapi import (
    DN_CREATE,
    DN_MODIFY,
    EXT2_SUPER_MAGIC,
    MAX_NON_LFS,
    MAX_SYMLINKS,
    MAY_EXEC,
    MAY_READ,
    MAY_WRITE,
    O_ACCMODE,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_LARGEFILE,
    O_NOATIME,
    O_NOCTTY,
    O_NOFOLLOW,
    O_PATH,
    O_RDWR,
    O_TMPFILE,
    O_TRUNC,
    PIPEFS_MAGIC,
    PROC_SUPER_MAGIC,
    S_IFMT,
    SYSFS_MAGIC,
    TMPFS_MAGIC,
    makedev,
)

if TYPE_CHECKING:
    from mmcore.clock import VirtualClock
    from mmcore.memory import Memory
    from sandbox.config import Mount
    from sandbox.fs.file import Opening
    from sandbox.fs.pseudofs import Dir
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task import Task

_ACCESS = (MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE)
_NOT_KEPT = O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY  # act at open only

PASSWD = (
    b"root:x:0:0:root:/root:/bin/sh\n"
    b"daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
    b"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
)
GROUP = b"root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n"
_DIRECTORIES = (
    ("bin", 0o755),
    ("sbin", 0o755),
    ("dev", 0o755),
    ("dev/shm", 0o1777),
    ("dev/pts", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("lib", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/lib", 0o755),
    ("var", 0o755),
    ("var/tmp", 0o1777),
)
_LINKS = (
    ("dev/fd", b"/proc/self/fd"),
    ("dev/stdin", b"/proc/self/fd/0"),
    ("dev/stdout", b"/proc/self/fd/1"),
    ("dev/stderr", b"/proc/self/fd/2"),
    ("etc/mtab", b"/proc/mounts"),
)


class SharedMemoryFile(RegularFile):
    """The nameless file of a shared anonymous area, with the `promised` pages of commit that go when it goes."""

    __slots__ = ("_overcommit", "_promised")

    def __init__(self, dentry: Dentry, overcommit: Overcommit, promised: int) -> None:
        super().__init__(dentry, O_RDWR)
        self._overcommit, self._promised = overcommit, promised

    def release(self) -> None:
        super().release()
        self._overcommit.uncharge(self._promised)


class Vfs:
    """All file systems of one machine. `mounts`: objects with host, guest (str) and mode ("ro" or "rw"); `seed`
    feeds /dev/urandom.

    `kernel` (from `attach`) has tasks, clock, mem and current; without one /proc shows no processes.
    """

    def __init__(
        self, mem: Memory, clock: VirtualClock | None = None, mounts: Iterable[Mount] = (), seed: int | None = None
    ) -> None:
        self.mem = mem
        self.clock = clock or mem.clock
        self.kernel: Kernel = None  # type: ignore[assignment]  # /proc and the like ask whether it is there yet
        self.console: Console | None = None
        self.rng = random.Random(0x6D61 if seed is None else seed)
        self.realtime: Callable[[], int] = lambda: BOOT_EPOCH_S * 1_000_000_000 + self.clock.now
        self.caches = Caches(mem)
        self.supers: list[SuperBlock] = []  # in order of mounting
        self.host_supers: list[HostSuper] = []
        self.hostname = b"rmapbox"
        # A tmpfs mounted beside a disk takes half of memory at most; this one is all the disk there is, so swap counts
        # too.
        self.root_sb = self._tmpfs(1, "rootfs", mem.total_pages // 2 + mem.swap.total)
        self.root = self.root_sb.root
        self.supers.append(self.root_sb)
        self.shm_sb = self._tmpfs(
            4, "shm", None
        )  # memfd and shared anonymous memory; mounted nowhere, as Linux's shm_mnt
        self.pipe_sb = SuperBlock("pipefs", "none", makedev(0, 5), PIPEFS_MAGIC, self.caches, self._now)
        self._populate()
        self._mount(
            SuperBlock("proc", "proc", makedev(0, 2), PROC_SUPER_MAGIC, self.caches, self._now),
            "proc",
            procfs.tree(self),
        )
        self._mount(
            SuperBlock("sysfs", "sysfs", makedev(0, 3), SYSFS_MAGIC, self.caches, self._now),
            "sys",
            sysfs.tree(len(self.mem.swap.areas)),
        )
        for number, mount in enumerate(mounts):
            self.mount_host(mount.host, mount.guest, mount.mode == "ro", number)
        self.fs = FsStruct(self.root)

    def attach(self, kernel: Kernel, realtime: Callable[[], int] | None = None) -> None:
        """The kernel is there. `realtime()`: its clock, ns since 1970, for the times of files; without it they go by
        the time since boot."""
        self.kernel = kernel
        self.realtime = realtime or self.realtime

    core_pattern = b"core"
    core_uses_pid = 0

    def _now(self) -> int:
        return self.realtime()

    def _tmpfs(self, minor: int, source: str, max_blocks: int | None) -> TmpfsSuper:
        """A tmpfs of at most `max_blocks` pages, and half as many inodes as the machine has pages (2.6.7's
        defaults)."""
        mem = self.mem
        blocks = ShmemSuper(max_blocks)
        return TmpfsSuper(
            "tmpfs",
            source,
            makedev(0, minor),
            TMPFS_MAGIC,
            self.caches,
            self._now,
            new_space=lambda inode: ShmemSpace(mem, inode, blocks),
            blocks=blocks,
            max_inodes=mem.total_pages // 2,
            open_special=lambda task, dentry, flags: open_special(self, task, dentry, flags),
        )

    # boot
    def _populate(self) -> None:
        for path, mode in _DIRECTORIES:
            self.mkdir(path.encode(), mode)
        for name, dev in NODES.items():
            self._make(f"dev/{name}".encode(), S_IFCHR | 0o666, dev)
        for number, area in enumerate(self.mem.swap.areas):
            if area.total:
                self._make(f"dev/{swap_name(number)}".encode(), S_IFBLK | 0o660, swap_dev(number))
        for path, target in _LINKS:
            self._make(path.encode(), S_IFLNK | 0o777, 0, target)
        self.write_file("/etc/passwd", PASSWD)
        self.write_file("/etc/group", GROUP)
        self.write_file("/etc/hostname", self.hostname + b"\n")

    def _make(self, path: bytes, mode: int, rdev: int = 0, target: bytes = b"") -> Dentry:
        parent, name, _ = walk_parent(None, b"/" + path.lstrip(b"/"), None, self.root)
        return parent.inode.create(None, parent, name, mode, rdev, target)

    def mkdir(self, path: bytes, mode: int = 0o755) -> Dentry:
        """A directory at `path` for boot, with those above it; one that stands already is fine."""
        at = self.root
        names = [n for n in path.split(b"/") if n]
        for i, name in enumerate(names):
            child = child_of(at, name)
            if child is None:
                child = at.inode.create(None, at, name, S_IFDIR | (mode if i == len(names) - 1 else 0o755))
            at = child.mounted or child
            if not S_ISDIR(at.inode.mode):
                raise SysError(ENOTDIR)
        return at

    def write_file(self, path: str | bytes, data: bytes, mode: int = 0o644) -> Dentry:
        """A regular file of `data` at `path`, for boot (the program is copied in so). Replaces one that stands
        there; makes directories above."""
        raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
        head, _, name = raw.rpartition(b"/")
        parent = self.mkdir(head)
        dentry = child_of(parent, name)
        if dentry is None:
            dentry = parent.inode.create(None, parent, name, S_IFREG | mode)
        else:
            dentry.inode.truncate(0)
            dentry.inode.mode = S_IFREG | mode
        mapping = dentry.inode.mapping
        assert mapping is not None
        chunk = 1 << 20
        for pos in range(0, len(data), chunk):
            mapping.write(pos, data[pos : pos + chunk])
        return dentry

    def read_file(self, path: str) -> bytes:
        """The whole of a file (tests, reports)."""
        file = self.open(None, path.encode(), 0, 0)
        try:
            return file.pread(0, max(file.inode.i_size, 1 << 20))
        finally:
            file.put()

    def exists(self, path: bytes) -> bool:
        """Whether a walk from the root ends at a regular file."""
        try:
            return S_ISREG(walk(None, path, self.root, True, self.root).inode.mode)
        except SysError:
            return False

    def _mount(self, sb: SuperBlock, path: str, tree: Dir) -> None:

        self._cover(self.mkdir(path.encode()), mount_root(sb, tree))

    def _cover(self, at: Dentry, root: Dentry) -> None:
        at.mounted = root.get()
        root.sb.covered = at.get()
        self.supers.append(root.sb)

    def mount_host(self, host: str, guest: str, readonly: bool, number: int) -> None:
        """Shows a host directory or file at `guest`; the mount point is made. Raises ConfigError when the host's side
        cannot be read."""
        try:
            sb = HostSuper(
                "hostfs",
                host,
                makedev(0, 16 + number),
                EXT2_SUPER_MAGIC,
                self.caches,
                self._now,
                path=os.fsencode(os.path.abspath(host)),
                readonly=readonly,
                new_space=lambda inode: FileSpace(self.mem, inode, inode),
            )
        except SysError as error:
            raise ConfigError(
                f"--mount {host}:{guest}: the host says {os.strerror(error.errno)}: give a readable directory or "
                f"regular file"
            ) from None
        sb.source = "host"
        self.mem.reclaim.register_shrinker(sb.shrink)
        self.host_supers.append(sb)
        assert sb.root is not None
        try:
            if S_ISDIR(sb.root.inode.mode):
                at = self.mkdir(os.fsencode(guest))
            else:
                head, _, name = os.fsencode(guest).rpartition(b"/")
                parent = self.mkdir(head)
                at = child_of(parent, name) or parent.inode.create(None, parent, name, S_IFREG | 0o644)
                if S_ISLNK(at.inode.mode):
                    raise SysError(ELOOP)  # nobody would get to it: the guest goes on to what the link names
        except SysError as error:
            raise ConfigError(
                f"--mount {host}:{guest}: {guest} cannot be a mount point ({os.strerror(error.errno)}): choose a "
                f"path of its own"
            ) from None
        self._cover(at, sb.root)

    # standard descriptors
    def stdio(self, stdin: str | bytes | int | None, stdout: Sink = 1, stderr: Sink = 2) -> FileTable:
        """Descriptors 0, 1, 2 of the first task. `stdin`: path of a host file, bytes, a host descriptor, or None for
        an empty input."""
        table = FileTable()
        tty_fd = next((fd for fd in (stdin, stdout, stderr) if isinstance(fd, int) and os.isatty(fd)), None)
        if tty_fd is not None:
            in_fd = stdin if isinstance(stdin, int) and os.isatty(stdin) else None
            sink = next((s for s in (stdout, stderr) if is_terminal(s)), stdout)
            self.console = Console(in_fd, sink, tty_fd)
            self._make(b"dev/pts/0", S_IFCHR | 0o620, PTS0)
        table.install(self._stdin_file(stdin))
        for sink in (stdout, stderr):
            if is_terminal(sink) and self.console is not None:
                table.install(self.open(None, b"/dev/pts/0", O_RDWR, 0))
            else:
                table.install(output_file(self.pipe_sb, sink))
        return table

    def _stdin_file(self, stdin: str | bytes | int | None) -> File:
        if stdin is None:
            return self.open(None, b"/dev/null", O_RDWR, 0)
        if isinstance(stdin, int):
            if os.isatty(stdin) and self.console is not None:
                return self.open(None, b"/dev/pts/0", O_RDWR, 0)
            if not S_ISREG(os.fstat(stdin).st_mode):
                return input_file(self.pipe_sb, stdin)
            data = b"".join(iter(lambda: os.read(stdin, 1 << 20), b""))
        elif isinstance(stdin, str):
            try:
                with open(stdin, "rb") as source:
                    data = source.read()
            except OSError as error:
                raise ConfigError(f"--stdin {stdin}: {error.strerror}: give a readable file") from None
        else:
            data = stdin
        dentry = self.shm_sb.nameless(None, 0o600, b"stdin")
        file = RegularFile(dentry, 0)
        for pos in range(0, len(data), 1 << 20):
            file.mapping.write(pos, data[pos : pos + (1 << 20)])
        return file

    def shmem_zero_setup(self, size: int, reserve: bool = True) -> File:
        """The file behind shared anonymous memory of `size` bytes; one reference for the caller. `reserve`: all of
        it is promised now (shmem_acct_size). Raises OutOfMemory. Linux: shmem_zero_setup, 2.6.7."""
        overcommit = self.mem.overcommit
        promised = size + 4095 >> 12 if reserve else 0
        overcommit.charge(promised)
        try:
            dentry = self.shm_sb.nameless(None, 0o777, b"dev/zero")
            file = SharedMemoryFile(dentry, overcommit, promised)
        except SysError:
            overcommit.uncharge(promised)
            raise
        file.inode.i_size = size
        return file

    def memfd_create(self, task: Task, name: bytes, sealable: bool) -> File:
        return memfd(task, self.shm_sb, name, sealable)

    def sync(self) -> None:
        """Dirty pages of every mount go to the host (sync(2), and the end of a run)."""
        for sb in self.supers:
            sb.sync()

    def close(self) -> None:
        """The machine is switched off: the host's descriptors are closed, its terminal is as it was. `sync` comes
        before."""
        if self.console is not None:
            self.console.restore()
        for sb in self.host_supers:
            sb.close()

    def trim(self) -> None:
        """At the start of a system call: what slab reclaim asked for is given back."""
        for sb in self.host_supers:
            if sb.surplus:
                sb.trim()

    # opening
    def open(self, task: Task | None, path: bytes, flags: int, mode: int, base: Dentry | None = None) -> File:
        """An open file, one reference the caller's. Never waits: a FIFO without a partner is EACCES. Errors as
        open(2)."""
        file = self.open_may_wait(task, path, flags | O_LARGEFILE, mode, base)
        if not isinstance(file, File):
            file.close()
            raise SysError(EACCES)
        return file

    def open_may_wait(
        self, task: Task | None, path: bytes, flags: int, mode: int, base: Dentry | None = None
    ) -> File | Opening:
        """As `open`; for a FIFO whose other end is missing a generator that waits for it and returns the File. Raises
        Breaking."""
        root = task.fs.root if task is not None else self.root
        if flags & O_PATH:
            flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW
        elif flags & O_TMPFILE == O_TMPFILE:
            return self._open_tmpfile(task, path, flags, mode, base, root)
        if flags & O_CREAT and flags & O_DIRECTORY:
            raise SysError(EINVAL)  # since 6.3; before, a regular file was made
        if not flags & O_CREAT:
            dentry = walk(task, path, base, not flags & O_NOFOLLOW, root)
            return self.may_open(task, dentry, flags, False)
        return self._open_create(task, path, flags, mode, base, root)

    def _open_create(
        self, task: Task | None, path: bytes, flags: int, mode: int, base: Dentry | None, root: Dentry
    ) -> File | Opening:
        for _ in range(MAX_SYMLINKS + 1):
            parent, name, slash = walk_parent(task, path, base, root)
            if not name or name in (b".", b".."):
                raise SysError(EEXIST if flags & O_EXCL else EISDIR)
            child = child_of(parent, name)
            if slash:
                raise SysError(EISDIR)
            if child is None:
                if parent.inode.sb.readonly:
                    raise SysError(EROFS)
                permission(task, parent.inode, MAY_WRITE | MAY_EXEC)
                umask = task.fs.umask if task is not None else 0
                child = parent.inode.create(task, parent, name, S_IFREG | mode & 0o7777 & ~umask)
                happened(parent.inode, DN_CREATE)
                return self.may_open(task, child, flags, True)
            if flags & O_EXCL:
                raise SysError(EEXIST)
            if child.mounted is not None:
                child = child.mounted
            if not S_ISLNK(child.inode.mode):
                return self.may_open(task, child, flags, False)
            if flags & O_NOFOLLOW:
                raise SysError(ELOOP)
            target = child.inode.follow_link(task)
            if isinstance(target, Dentry):
                return self.may_open(task, target, flags, False)
            path, base = target, parent
        raise SysError(ELOOP)

    def _open_tmpfile(
        self, task: Task | None, path: bytes, flags: int, mode: int, base: Dentry | None, root: Dentry
    ) -> File:
        if not flags & O_ACCMODE:
            raise SysError(EINVAL)
        parent = walk(task, path, base, True, root)
        if not S_ISDIR(parent.inode.mode):
            raise SysError(ENOTDIR)
        permission(task, parent.inode, MAY_WRITE | MAY_EXEC)
        inode = parent.inode
        if not isinstance(inode, TmpfsInode):
            raise NotHere(EOPNOTSUPP, "O_TMPFILE in a mount (open)")
        dentry = inode.tmpfile(task, parent, mode & 0o7777 & ~(task.fs.umask if task is not None else 0), b"#tmpfile")
        return RegularFile(dentry, flags & ~O_TMPFILE)

    def may_open(self, task: Task | None, dentry: Dentry, flags: int, created: bool) -> File | Opening:
        """Opens what a walk found, after the checks of open(2). Linux: may_open and open_namei, fs/namei.c, 2.6.7."""
        inode = dentry.inode
        kind = inode.mode & S_IFMT
        if flags & O_PATH:
            if flags & O_DIRECTORY and kind != S_IFDIR:
                raise SysError(ENOTDIR)
            return PathFile(dentry, flags)
        if kind == S_IFLNK:
            raise SysError(ELOOP)
        access = _ACCESS[flags & O_ACCMODE]
        if kind == S_IFDIR:
            if access & MAY_WRITE or flags & O_CREAT:
                raise SysError(EISDIR)
        elif flags & O_DIRECTORY:
            raise SysError(ENOTDIR)
        if not created:
            permission(task, inode, access | (MAY_WRITE if flags & O_TRUNC else 0))
            if flags & O_NOATIME and not owned(task, inode):
                raise SysError(EPERM)
            if kind == S_IFREG:
                if (access & MAY_WRITE or flags & O_TRUNC) and inode.writers < 0:
                    raise SysError(ETXTBSY)
                if inode.i_size > MAX_NON_LFS and not flags & O_LARGEFILE:
                    raise SysError(EOVERFLOW)
                if inode.leases and task is not None:
                    break_lease(task, inode, flags)
        file = inode.open(task, dentry, flags & ~_NOT_KEPT)
        if flags & O_TRUNC and kind == S_IFREG and not created:
            assert isinstance(file, File)
            try:
                inode.truncate(0)
            except SysError:
                file.put()
                raise
            drop_privileges(task, inode)
            touched(dentry, DN_MODIFY)
        return file


def may_delete(task: Task | None, parent: Dentry, child: Dentry) -> None:
    """May the task remove the name? EROFS, EACCES, or EPERM in a sticky directory."""
    if parent.inode.sb.readonly:
        raise SysError(EROFS)
    permission(task, parent.inode, MAY_WRITE | MAY_EXEC)
    if (
        task is not None
        and task.fsuid
        and parent.inode.mode & S_ISVTX
        and task.fsuid not in (child.inode.uid, parent.inode.uid)
    ):
        raise SysError(EPERM)


def may_create(task: Task | None, parent: Dentry) -> None:
    if parent.inode.sb.readonly:
        raise SysError(EROFS)
    if not parent.hashed:
        raise SysError(ENOENT)
    permission(task, parent.inode, MAY_WRITE | MAY_EXEC)
