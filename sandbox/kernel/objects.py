"""The kernel objects of the process side in emulated low memory: task_struct, kernel stack, and what tasks share.

Allocation raises OutOfMemory and leaves nothing behind; the caller frees what it got. Linux: kernel/fork.c, 2.6.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmcore.errors import OutOfMemory
from mmcore.physical.frames import STACK
from mmcore.physical.gfp import GFP_ATOMIC, GFP_KERNEL
from sandbox.kernel.task import OBJECT_SIZES, STACK_ORDER

if TYPE_CHECKING:
    from mmcore.memory import Memory


class KernelObjects:
    """One slab cache per kind. Addresses are kernel addresses (0xc0000000 + physical)."""

    __slots__ = ("pages", "task_struct", "signal", "sighand", "files", "fs", "sigqueue")

    def __init__(self, mem: Memory) -> None:
        self.pages = mem.pages
        line = mem.config.cache_line
        caches = {
            name: mem.slab.cache(name, size, hwcache=line if aligned else 0)
            for name, (size, aligned) in OBJECT_SIZES.items()
        }
        self.task_struct = caches["task_struct"]
        self.signal = caches["signal_cache"]
        self.sighand = caches["sighand_cache"]
        self.files = caches["files_cache"]
        self.fs = caches["fs_cache"]
        self.sigqueue = caches["sigqueue"]

    def alloc_task(self) -> tuple[int, int]:
        """(address of a task_struct, first frame of its kernel stack). Linux: dup_task_struct."""
        addr = self.task_struct.alloc()
        try:
            return addr, self.pages.alloc_pages(STACK_ORDER, GFP_KERNEL, STACK)
        except OutOfMemory:
            self.task_struct.free(addr)
            raise

    def free_task(self, addr: int, stack: int) -> None:
        self.pages.free_pages(stack, STACK_ORDER)
        self.task_struct.free(addr)

    def alloc_sigqueue(self) -> int:
        return self.sigqueue.alloc(GFP_ATOMIC)

    def free_sigqueue(self, addr: int) -> None:
        if addr:
            self.sigqueue.free(addr)
