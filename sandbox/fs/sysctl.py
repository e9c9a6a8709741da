"""/proc/sys: what can be read and set while the machine runs.

    vm/rmapbox_reclaim   ours: writing N reclaims N pages now; absent natively, so programs can skip it
    vm/*                 overcommit_memory, overcommit_ratio, swappiness, page-cluster, min_free_kbytes, max_map_count,
                         drop_caches
    kernel/*             names of the system, pid_max, boot_id, core_pattern ...
    fs/*                 files, leases; what users may take by pipes

Linux: kernel/sysctl.c, 2.6.7 (drop_caches: 2.6.16).
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL
from typing import TYPE_CHECKING

from mmcore.errors import NotHere, SysError
from mmcore.physical.frames import PG_DIRTY, PG_LOCKED, PG_WRITEBACK
from sandbox.fs.leases import LEASE_BREAK_S
from sandbox.fs.pipequota import PipeQuota, round_size
from sandbox.fs.proc_system import RELEASE, VERSION
from sandbox.fs.pseudofs import Dir, PseudoNode, Text
from sandbox.kernel.task import CAP_LAST_CAP

if TYPE_CHECKING:
    from mmcore.files.filemap import AddressSpace
    from mmcore.memory import Memory
    from sandbox.fs.vfs import Vfs
    from sandbox.kernel.task import Task


CORE_PATTERN_MAX = 127


def parse_int(data: bytes) -> int:
    """The number written to a sysctl file; EINVAL."""
    try:
        return int(data.split(b"\0")[0].strip())
    except ValueError:
        raise SysError(EINVAL) from None


def drop_clean(mem: Memory, space: AddressSpace) -> None:
    """Drops the pages of a file that are clean, unmapped and held by the cache alone; tmpfs has no other copy and keeps
    its own."""
    if space.is_shmem:
        return
    frames = mem.frames
    for index, pfn in list(space.pages.items()):
        if (
            frames.count[pfn] == 1
            and not frames.mapcount[pfn]
            and not frames.flags[pfn] & (PG_LOCKED | PG_DIRTY | PG_WRITEBACK)
        ):
            space.drop_pages(index, index + 1)


def _setting(get: Callable[[], int], put: Callable[[int], None], low: int, high: int) -> Text:
    """A number between `low` and `high`, both included."""

    def store(task: Task | None, data: bytes) -> None:
        value = parse_int(data)
        if not low <= value <= high:
            raise SysError(EINVAL)
        put(value)

    return Text(lambda: f"{get()}\n", store)


def _fixed(value: str) -> Text:
    return Text(lambda: value + "\n")


def _pipes(quota: PipeQuota) -> dict[str, PseudoNode]:
    def set_max_size(value: int) -> None:
        quota.max_size = round_size(value)

    def set_hard(value: int) -> None:
        quota.hard = value

    def set_soft(value: int) -> None:
        quota.soft = value

    return {
        "pipe-max-size": _setting(lambda: quota.max_size, set_max_size, 0, 1 << 31),
        "pipe-user-pages-hard": _setting(lambda: quota.hard, set_hard, 0, 0xFFFFFFFF),
        "pipe-user-pages-soft": _setting(lambda: quota.soft, set_soft, 0, 0xFFFFFFFF),
    }


def tree(vfs: Vfs) -> Dir:
    return Dir({"fs": _fs(vfs), "kernel": _kernel(vfs), "vm": _vm(vfs.mem)})


def _vm(mem: Memory) -> Dir:
    def reclaim(task: Task | None, data: bytes) -> None:
        pages = parse_int(data)
        if pages < 0:
            raise SysError(EINVAL)
        mem.reclaim.shrink_all(pages)

    def drop_caches(task: Task | None, data: bytes) -> None:
        what = parse_int(data)
        if not 1 <= what <= 4:
            raise SysError(EINVAL)
        if what & 1:
            for addr in sorted(mem.mappings):
                drop_clean(mem, mem.mappings[addr])

    def set_overcommit(value: int) -> None:
        mem.overcommit.mode = value

    def set_ratio(value: int) -> None:
        mem.overcommit.ratio = value

    def set_page_cluster(value: int) -> None:
        mem.swap.page_cluster = value

    def set_swappiness(value: int) -> None:
        mem.reclaim.swappiness = value

    return Dir(
        {
            "drop_caches": Text(lambda: "0\n", drop_caches),
            "max_map_count": Text(lambda: "65530\n"),
            "min_free_kbytes": Text(lambda: f"{mem.pages.min_free_kbytes}\n"),
            "overcommit_memory": _setting(lambda: mem.overcommit.mode, set_overcommit, 0, 2),
            "overcommit_ratio": _setting(lambda: mem.overcommit.ratio, set_ratio, 0, 1000),
            "page-cluster": _setting(lambda: mem.swap.page_cluster, set_page_cluster, 0, 5),
            "rmapbox_reclaim": Text(lambda: "0\n", reclaim),
            "swappiness": _setting(lambda: mem.reclaim.swappiness, set_swappiness, 0, 100),
        }
    )


def _kernel(vfs: Vfs) -> Dir:
    def hostname() -> bytes:
        return (vfs.kernel.hostname if vfs.kernel is not None else vfs.hostname) + b"\n"

    def set_hostname(task: Task | None, data: bytes) -> None:
        vfs.kernel.hostname = data.split(b"\n")[0][:64]

    def set_core_pattern(task: Task | None, data: bytes) -> None:
        if data.startswith(b"|"):
            raise NotHere(EINVAL, "a program that takes core files (core_pattern)")
        vfs.core_pattern = data.split(b"\n")[0].split(b"\0")[0][:CORE_PATTERN_MAX]

    def set_core_uses_pid(value: int) -> None:
        vfs.core_uses_pid = value

    bits = vfs.rng.getrandbits
    boot_id = f"{bits(32):08x}-{bits(16):04x}-4{bits(12):03x}-8{bits(12):03x}-{bits(48):012x}"
    return Dir(
        {
            "cap_last_cap": _fixed(str(CAP_LAST_CAP)),
            "core_pattern": Text(lambda: vfs.core_pattern + b"\n", set_core_pattern),
            "core_uses_pid": _setting(lambda: vfs.core_uses_pid, set_core_uses_pid, 0, 1),
            "domainname": _fixed("(none)"),
            "hostname": Text(hostname, set_hostname),
            "ngroups_max": _fixed("65536"),
            "osrelease": _fixed(RELEASE),
            "ostype": _fixed("Linux"),
            "pid_max": _fixed("32768"),
            "random": Dir({"boot_id": _fixed(boot_id), "entropy_avail": _fixed("4096"), "poolsize": _fixed("4096")}),
            "randomize_va_space": _fixed("0"),
            "shmall": _fixed("2097152"),
            "shmmax": _fixed("33554432"),
            "shmmni": _fixed("4096"),
            "tainted": _fixed("0"),
            "threads-max": Text(lambda: f"{vfs.mem.total_pages // 16}\n"),
            "version": _fixed(VERSION),
        }
    )


def _fs(vfs: Vfs) -> Dir:
    file_max = vfs.mem.total_pages * 4 // 10
    return Dir(
        {
            "file-max": Text(lambda: f"{file_max}\n"),
            "file-nr": Text(lambda: f"{vfs.caches.filp.objects}\t0\t{file_max}\n"),
            "lease-break-time": _fixed(str(LEASE_BREAK_S)),
            "nr_open": _fixed("1048576"),
            **_pipes(vfs.caches.pipes),
        }
    )
