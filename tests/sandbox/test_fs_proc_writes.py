"""Writing to files of /proc with a position and without, and advice on them: a file without a page cache is fine."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.fs.rw import _write_at
from sandbox.fs.uapi import O_RDWR
from sandbox.toolchain import compile_c
from tests.guests.native import native_agrees, run_native, why_not_native
from tests.sandbox.box import Box
from tests.sandbox.fs_world import World

SOURCES = Path(__file__).parent / "c"


def test_every_answer_is_linux() -> None:
    reason = why_not_native()
    if reason:
        pytest.skip(reason)
    program = compile_c(SOURCES / "proc_writes.c", flags=(f"-I{SOURCES}",))
    box = Box()
    ending = box.run(program)
    native = native_agrees(lambda: run_native(program), box.out.encode())
    assert box.out.splitlines() == native.stdout.decode().splitlines()
    assert ending.status == native.status == 0


def test_pwrite_to_a_sysctl_leaves_the_position() -> None:
    world = World()
    file = world.open("/proc/sys/vm/swappiness", O_RDWR)
    assert _write_at(world.task, file, 0, b"33\n") == 3
    assert file.pos == 0 and world.mem.reclaim.swappiness == 33
    assert file.accept(world.task, b"44\n") == 3
    assert file.pos == 3 and world.mem.reclaim.swappiness == 44
