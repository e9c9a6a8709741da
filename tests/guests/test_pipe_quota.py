"""/proc/sys/fs/pipe-max-size, pipe-user-pages-soft and -hard: what they say holds for whoever is not root."""

from __future__ import annotations

import errno
import os

import pytest

from tests.guests.test_proc import boxed, natively
from tests.sandbox.fs_world import World


def test_as_natively() -> None:
    """A user's 1025th pipe has two pages where the limit is as it was at boot."""
    lines = boxed("pipe_quota").stdout.decode().splitlines()
    assert lines == [
        "pipe-user-pages-soft 16384",
        "pipe-user-pages-hard 0",
        "pipe 0: 16",
        "pipe 1024: 2",
        "grow to 8: 32768, error 0",
        "grow to 16: -1, error 1",
        "grow to 32: -1, error 1",
    ]
    if os.geteuid():
        pytest.skip("natively not asked: becoming another user is root's")
    theirs = natively("pipe_quota")
    if theirs[:2] != lines[:2]:
        pytest.skip(f"natively not asked: this host has other limits: {theirs[:2]}")
    assert lines == theirs


def test_limits_that_root_sets() -> None:
    """Not asked natively, for these are the host's; Linux: fs/pipe.c."""
    assert boxed("pipe_quota", "limits").stdout.decode().splitlines() == [
        f"bad {errno.EINVAL} {errno.EINVAL} {errno.EINVAL}",
        "set 0 0 0",
        "pipe-max-size 131072",
        "pipe-user-pages-soft 64",
        "pipe-user-pages-hard 72",
        "grow to 64: 262144, error 0",
        f"set by a user {errno.EACCES}",
        "pipe 0: 16",
        "pipe 4: 2",
        f"pipe 8: -{errno.ENFILE}",
        f"fifo {errno.ENOMEM}",
        "fifo 0 of 2",
        "grow to 8: 32768, error 0",
        "grow to 32: -1, error 1",
        "grow to 16: 65536, error 0",
    ]


def test_what_is_closed_or_fails_is_given_back() -> None:
    from sandbox.fs.pipe import create_pipe

    world = World()
    quota = world.vfs.caches.pipes
    ends = create_pipe(world.user, world.vfs.pipe_sb, 0)
    assert quota.used[1000] == 16
    assert ends[0].resize(8192, False) == 8192 and quota.used[1000] == 2
    for end in ends:
        end.put()
    assert quota.used[1000] == 0
