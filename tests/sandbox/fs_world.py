"""A file tree without a processor: memory, Vfs and a task that is nothing but credentials, descriptors and a working
directory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from mmcore.errors import MustWait
from mmcore.memory import Memory, MemoryConfig
from sandbox.fs.fdtable import FileTable, FsStruct
from sandbox.fs.vfs import Vfs
from sandbox.schemes.registry import load_scheme

UNLIMITED = (1 << 64) - 1


class World:
    """`task` is root's; `user` somebody else's (uid 1000)."""

    def __init__(self, memory: int = 16 << 20, swap: int = 16 << 20, **options: Any) -> None:
        self.mem = Memory(MemoryConfig(memory_bytes=memory, swap_bytes=swap, overcommit=1), load_scheme("anon_vma"))
        self.vfs = Vfs(self.mem, **options)
        self.kernel = SimpleNamespace(vfs=self.vfs, clock=self.mem.clock, tasks={}, hostname=b"box", mem=self.mem)
        self.vfs.attach(self.kernel)
        self.task = self.make_task(0, 1)
        self.user = self.make_task(1000, 2)

    def make_task(self, uid: int, pid: int) -> Any:
        return SimpleNamespace(
            kernel=self.kernel,
            mem=self.mem,
            mm=None,
            pid=pid,
            tgid=pid,
            uid=uid,
            euid=uid,
            gid=uid,
            egid=uid,
            fsuid=uid,
            fsgid=uid,
            groups=(),
            fs=FsStruct(self.vfs.root),
            files=FileTable(),
            signal=SimpleNamespace(rlimits=[(UNLIMITED, UNLIMITED)] * 16, pgrp=pid),
            blocked=0,
        )

    def open(self, path: str, flags: int = 0, mode: int = 0o644, task: Any = None) -> Any:
        return self.vfs.open(task or self.task, path.encode(), flags, mode)

    def patiently(self, step: Any) -> Any:
        """Runs a step that may have to wait for I/O, letting virtual time pass."""
        try:
            for _ in range(10_000):
                try:
                    return step()
                except MustWait:
                    self.mem.clock.advance_to(self.mem.clock.next_due())
            raise AssertionError("waited for ever")
        finally:
            self.mem.awaited.let_go(self.mem.current)

    def objects(self) -> dict[str, int]:
        """Objects in use of every cache that files and names take from."""
        names = (
            "filp",
            "dentry_cache",
            "inode_cache",
            "shmem_inode_cache",
            "proc_inode_cache",
            "file_lock_cache",
            "size-64",
            "size-4096",
            "size-128",
        )
        return {name: cache.objects for name, cache in self.mem.slab.caches.items() if name in names and cache.objects}
