"""Locks and FIFOs while memory is short: a call that fails leaves nothing behind."""

from __future__ import annotations

import stat

import pytest

from mmcore.errors import OutOfMemory
from sandbox.fs.dentry import Dentry
from sandbox.fs.inode import Inode
from sandbox.fs.locks import forget_posix, set_posix
from sandbox.fs.pipe import open_fifo_now
from sandbox.fs.uapi import F_UNLCK, F_WRLCK
from sandbox.kit.injection import OBJECT, Failing
from tests.sandbox.fs_world import World


def failing_object(world: World, n: int) -> Failing:
    """The allocation of the n-th object of a slab (from 1) finds no memory."""
    return Failing(world.mem.pages, n, counts=lambda order: order == OBJECT)


def objects(world: World) -> dict[str, int]:
    return {name: cache.objects for name, cache in world.mem.slab.caches.items() if cache.objects}


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("kind", [F_WRLCK, F_UNLCK])
def test_a_record_lock_that_finds_no_memory(n: int, kind: int) -> None:
    world = World()
    inode = world.open("/tmp/locked", 0o102).inode
    owner, cache = world.task.files, inode.sb.caches.file_lock
    set_posix(inode, owner, F_WRLCK, 0, 99, 1)
    with failing_object(world, n), pytest.raises(OutOfMemory):
        set_posix(inode, owner, kind, 10, 19, 1)
    assert cache.objects == 1 and [(lock.start, lock.end) for lock in inode.locks] == [(0, 99)]
    forget_posix(inode, owner)
    assert cache.objects == 0


def test_a_fifo_that_nobody_could_open_is_no_pipe() -> None:
    world = World()
    caches = world.vfs.root_sb.caches
    inode = Inode(world.vfs.root_sb, stat.S_IFIFO | 0o600, caches.inode)
    dentry = Dentry(None, b"fifo", inode, world.vfs.root_sb)
    held = objects(world)
    with failing_object(world, 3), pytest.raises(OutOfMemory):  # two are the pipe's, the third the open file
        open_fifo_now(world.task, dentry, 0)
    assert inode.pipe is None and objects(world) == held and caches.pipes.used[0] == 0
