"""--mount: what the guest sees of the host, what it may change, and that it gets out nowhere."""

from __future__ import annotations

import errno
import gc
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from mmcore.errors import ConfigError, SysError
from sandbox.config import Mount
from sandbox.fs.namei import walk
from sandbox.fs.uapi import O_CREAT, O_RDWR, O_TRUNC, O_WRONLY
from tests.sandbox.fs_world import World


def world(host: Path, mode: str = "ro", **options: Any) -> World:
    return World(mounts=[Mount(str(host), "/host", mode)], **options)


def error_of(call: Any, *args: Any, **kw: Any) -> int:
    with pytest.raises(SysError) as caught:
        call(*args, **kw)
    return caught.value.errno


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    host = tmp_path / "shown"
    (host / "sub").mkdir(parents=True)
    (host / "z").write_bytes(b"last")
    (host / "big").write_bytes(bytes(range(256)) * 2000)
    (host / "sub" / "x").write_text("deep")
    (host / "inside").symlink_to("sub/x")
    (tmp_path / "secret").write_text("not for the guest")
    (host / "outside").symlink_to("../secret")
    (host / "absolute").symlink_to(tmp_path / "secret")
    (host / "outdir").symlink_to("..")
    os.mkfifo(host / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(host / "sock"))
    listener.close()
    return host


def test_reads_and_listing(tree: Path) -> None:
    w = world(tree)
    file = w.open("/host/big")
    pieces = [w.patiently(lambda at=at: file.pread(at, 65536)) for at in range(0, 600_000, 65536)]
    data = b"".join(pieces)
    assert data == (tree / "big").read_bytes()
    names = [name for name, _, _ in walk(w.task, b"/host").inode.entries(walk(w.task, b"/host"))]
    assert names == [
        b"absolute",
        b"big",
        b"fifo",
        b"inside",
        b"outdir",
        b"outside",
        b"sub",
        b"z",
    ]  # sorted; the socket hidden
    assert error_of(w.open, "/host/sock") == errno.ENOENT
    assert w.patiently(lambda: w.open("/host/inside").pread(0, 99)) == b"deep"


def test_no_link_leads_out(tree: Path) -> None:
    w = world(tree)
    for path in ("/host/outside", "/host/absolute", "/host/outdir/secret", "/host/sub/../../secret", "/host/../secret"):
        assert error_of(w.open, path) == errno.ENOENT
    # swapped for a link to the outside after the guest has seen it as a directory
    walk(w.task, b"/host/sub")
    (tree / "sub" / "x").unlink()
    (tree / "sub").rmdir()
    (tree / "sub").symlink_to(tree.parent)
    assert error_of(w.open, "/host/sub/secret") in (errno.ELOOP, errno.ENOTDIR)


def test_read_only_means_that(tree: Path) -> None:
    w = world(tree)
    for call in (
        lambda: w.open("/host/z", O_RDWR),
        lambda: w.open("/host/new", O_CREAT | O_WRONLY),
        lambda: w.open("/host/z", O_TRUNC),
    ):
        assert error_of(call) == errno.EROFS
    host = walk(w.task, b"/host")
    assert error_of(host.inode.unlink, host, walk(w.task, b"/host/z")) == errno.EROFS
    assert error_of(walk(w.task, b"/host/z").inode.truncate, 0) == errno.EROFS
    assert sorted(os.listdir(tree)) == sorted(
        ["absolute", "big", "fifo", "inside", "outdir", "outside", "sock", "sub", "z"]
    )


def test_numbers_and_times_are_not_the_hosts(tree: Path, tmp_path: Path) -> None:
    def facts(host: Path) -> list[tuple[bytes, int, int, int, int]]:
        w = world(host)
        top = walk(w.task, b"/host")
        rows = []
        for name, ino, _ in top.inode.entries(top):
            inode = walk(w.task, b"/host/" + name, None, False).inode
            assert inode.ino == ino
            rows.append((name, ino, inode.mtime, inode.uid, inode.nlink))
        return rows

    import shutil

    copy = tmp_path / "copy"
    for name in ("fifo", "sock"):
        (tree / name).unlink()
    shutil.copytree(tree, copy, symlinks=True)
    assert facts(tree) == facts(copy)


def test_writes_reach_the_host(tree: Path) -> None:
    w = world(tree, "rw")
    file = w.open("/host/new", O_CREAT | O_RDWR, 0o640)
    file.accept(w.task, b"abc" * 3000)
    assert file.pread(0, 6) == b"abcabc"
    w.vfs.sync()
    assert (tree / "new").read_bytes() == b"abc" * 3000
    assert (tree / "new").stat().st_mode & 0o777 == 0o640
    w.patiently(lambda: file.inode.truncate(5))
    assert (tree / "new").stat().st_size == 5
    top = walk(w.task, b"/host")
    top.inode.rename(walk(w.task, b"/host/new"), walk(w.task, b"/host/sub"), b"moved", None)
    assert (tree / "sub" / "moved").exists() and file.path == "/host/sub/moved"
    top.inode.create(w.task, top, b"dir", 0o040755)
    top.inode.create(w.task, top, b"sl", 0o120777, 0, b"z")
    assert (tree / "dir").is_dir() and os.readlink(tree / "sl") == "z"
    top.inode.link(top, b"hard", walk(w.task, b"/host/z").inode)
    assert (tree / "hard").stat().st_nlink == 2 and walk(w.task, b"/host/z").inode.nlink == 2
    # removed while open: the open file still reads and writes
    keep = w.open("/host/z", O_RDWR)
    for name in (b"z", b"hard"):
        top.inode.unlink(top, walk(w.task, b"/host/" + name))
    assert not (tree / "z").exists() and not (tree / "hard").exists()
    assert w.patiently(lambda: keep.pread(0, 9)) == b"last"
    keep.accept(w.task, b"LAST")
    keep.put()
    top.inode.rmdir(top, walk(w.task, b"/host/dir"))
    assert error_of(top.inode.rmdir, top, walk(w.task, b"/host/sub")) == errno.ENOTEMPTY
    file.put()


def test_pages_are_dropped_clean_and_read_again(tree: Path) -> None:
    w = world(tree)
    file = w.open("/host/big")
    first = w.patiently(lambda: file.pread(0, 65536))
    assert len(file.mapping.pages) >= 16
    w.mem.clock.advance_to(w.mem.clock.now + 10**9)
    for path, data in (("/proc/sys/vm/drop_caches", b"1\n"),):
        w.open(path, O_WRONLY).accept(w.task, data)
    assert len(file.mapping.pages) == 0
    assert w.patiently(lambda: file.pread(0, 65536)) == first


def test_a_single_file_and_wrong_mounts(tree: Path) -> None:
    w = World(mounts=[Mount(str(tree / "z"), "/etc/passwd")])
    assert w.patiently(lambda: w.open("/etc/passwd").pread(0, 9)) == b"last"
    with pytest.raises(ConfigError, match="nothing-here"):
        World(mounts=[Mount(str(tree / "nothing-here"), "/x")])
    with pytest.raises(ConfigError, match="neither|regular"):
        World(mounts=[Mount(str(tree / "fifo"), "/x")])


def test_many_files_hold_few_descriptors(tmp_path: Path) -> None:
    for i in range(200):
        (tmp_path / f"f{i:03}").write_text(str(i))
    gc.collect()  # what earlier tests left behind holds descriptors of its own
    before = len(os.listdir("/proc/self/fd"))
    w = world(tmp_path)
    files = [w.open(f"/host/f{i:03}") for i in range(200)]
    assert len(os.listdir("/proc/self/fd")) - before <= 66
    for i, file in enumerate(files):
        assert w.patiently(lambda file=file: file.pread(0, 9)) == str(i).encode()
        file.put()
    w.vfs.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_reclaim_gets_names_and_inodes_back(tmp_path: Path) -> None:
    for i in range(400):
        (tmp_path / f"f{i:03}").write_text(str(i))
    w = world(tmp_path)
    top = walk(w.task, b"/host")
    listing = top.inode.entries(top)
    held = w.open("/host/f000")
    full = w.objects()
    assert top.sb.shrink(10_000, 0) == 401
    w.vfs.trim()
    left = w.objects()
    assert left["inode_cache"] == full["inode_cache"] - 399 and left["dentry_cache"] == full["dentry_cache"] - 399
    assert w.patiently(lambda: held.pread(0, 9)) == b"0"
    assert top.inode.entries(top) == listing  # the same numbers again
