"""Calls on files of /proc that give a position, or advice: who asks counts, and a file without a page cache is fine."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from mmcore.errors import SysError
from sandbox.fs.dentry import Dentry
from sandbox.fs.proc_task import store_for
from sandbox.fs.pseudofs import PseudoFile, PseudoInode, Text
from sandbox.fs.rw import _write_at
from sandbox.fs.uapi import O_RDWR
from sandbox.syscalls.filectl import sys_fadvise64, sys_readahead
from tests.sandbox.fs_world import World

POSIX_FADV_DONTNEED = 4


def slack_file(world: World, task: Any) -> PseudoFile:
    """/proc/PID/timerslack_ns of `task`, opened."""
    task.timer_slack = task.default_timer_slack = 50_000
    sb = world.vfs.open(None, b"/proc", 0, 0).dentry.sb
    node = Text(lambda: f"{task.timer_slack}\n", store_for(task, "timerslack_ns"), 0o666, 77)
    return PseudoFile(Dentry(None, b"timerslack_ns", PseudoInode(sb, node), sb), O_RDWR, node)


def test_pwrite_is_judged_by_the_writer() -> None:
    world = World()
    file = slack_file(world, world.task)
    with pytest.raises(SysError) as refused:
        _write_at(world.user, file, 0, b"1\n")
    assert refused.value.errno == errno.EPERM and world.task.timer_slack == 50_000
    assert _write_at(world.task, file, 0, b"70000\n") == 6 and world.task.timer_slack == 70_000


def test_pwrite_leaves_the_position() -> None:
    world = World()
    file = world.open("/proc/sys/vm/swappiness", O_RDWR)
    assert _write_at(world.task, file, 3, b"33\n") == 3
    assert file.pos == 0 and world.mem.reclaim.swappiness == 33
    assert file.accept(world.task, b"44\n") == 3
    assert file.pos == 3 and world.mem.reclaim.swappiness == 44


def test_advice_on_a_file_without_a_page_cache() -> None:
    world = World()
    fd = world.task.files.install(world.open("/proc/meminfo"))
    assert sys_fadvise64(world.task, fd, 0, 0, 0, POSIX_FADV_DONTNEED) == 0
    with pytest.raises(SysError) as refused:
        sys_readahead(world.task, fd, 0, 0, 4096)
    assert refused.value.errno == errno.EINVAL
