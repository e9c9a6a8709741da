"""What is swapped out lies in a file of the host."""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path

import pytest

from mmcore.errors import ConfigError
from mmcore.swap.store import SwapStore
from rmap_plugins.anon_vma import AnonVma
from sandbox.kit.machine import CpulessMachine


def test_slots_keep_what_was_written_and_are_zeros_before() -> None:
    store = SwapStore()
    page = memoryview(bytearray(os.urandom(4096)))
    assert store.page(7) == bytes(4096)
    store.write(9, page)
    store.write(1 << 22, page)  # 16 GB on: the file has holes
    assert store.page(9) == store.page(1 << 22) == bytes(page)
    assert store.page(8) == store.page(10) == store.page((1 << 22) + 5) == bytes(4096)
    into = memoryview(bytearray(b"x" * 4096))
    store.read((1 << 22) + 1, into)
    assert bytes(into) == bytes(4096)


def test_the_file_has_no_name_and_goes_with_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gc.collect()  # what earlier tests left behind holds descriptors of its own
    open_files = len(os.listdir("/proc/self/fd"))
    store = SwapStore()
    store.write(1, memoryview(bytes(4096)))
    assert not list(tmp_path.iterdir()) and len(os.listdir("/proc/self/fd")) == open_files + 1
    del store
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_full_disk_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    m = CpulessMachine(AnonVma, swap=8 << 20)
    mm = m.new_mm()
    at = m.mmap(mm, 100)
    for k in range(100):
        m.store(mm, at + (k << 12), k)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(ConfigError, match="cannot hold what is swapped out .No space left.*TMPDIR.*--swap") as error:
        m.mem.reclaim.shrink_all(50)
    assert "\n" not in str(error.value)


def test_writes_that_come_short_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda fd, page, at: whole(fd, page[:1000], at))
    store = SwapStore()
    page = memoryview(bytearray(os.urandom(4096)))
    store.write(3, page)
    assert store.page(3) == bytes(page)


def test_swap_takes_no_memory_of_the_process() -> None:
    m = CpulessMachine(AnonVma, memory=16 << 20, swap=256 << 20)
    mm = m.new_mm()
    at = m.mmap(mm, 24_000)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) << 12

    for k in range(4_000):
        m.store(mm, at + (k << 12), k)
    before = resident()
    for k in range(4_000, 24_000):
        m.store(mm, at + (k << 12), k)
    assert m.mem.vmstat.pswpout > 20_000
    assert resident() - before < 30 << 20, "of 80 MB that are out"
    assert all(m.load(mm, at + (k << 12)) == k for k in range(0, 24_000, 371))
