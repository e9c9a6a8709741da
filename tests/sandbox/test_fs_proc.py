"""/proc: formats, exact counts, and what a write does."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import numpy as np
import pytest

from mmcore.errors import SysError
from mmcore.physical.frames import FREE, NR_OWNERS, PAGETABLE, SLAB
from sandbox.fs import kpage
from sandbox.fs.uapi import O_RDWR, O_WRONLY
from sandbox.kit.machine import CpulessMachine
from sandbox.schemes.registry import load_scheme
from sandbox.toolchain import compile_c
from tests.sandbox.box import Box
from tests.sandbox.fs_world import World

SOURCES = Path(__file__).parent / "c"


def table(text: bytes) -> dict[str, int]:
    return {line.split(":")[0]: int(line.split()[1]) for line in text.decode().splitlines()}


def test_meminfo_is_the_machines_own_account() -> None:
    world = World(memory=16 << 20, swap=8 << 20)
    rows = table(world.vfs.read_file("/proc/meminfo"))
    assert rows["MemTotal"] == rows["LowTotal"] == world.mem.total_pages * 4
    assert rows["MemFree"] == rows["LowFree"] == world.mem.pages.nr_free() * 4
    file = world.open("/tmp/f", 0o102)
    file.accept(world.task, b"q" * 409_600)
    after = table(world.vfs.read_file("/proc/meminfo"))
    assert after["Cached"] - rows["Cached"] == 400
    assert rows["SwapTotal"] == rows["SwapFree"] == (8 << 10) - 4
    names = [line.split(b":")[0].decode() for line in world.vfs.read_file("/proc/meminfo").splitlines()]
    assert names[:5] == ["MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached"] and names[-1] == "VmallocChunk"


def test_frame_tables_are_the_machines_own_account() -> None:
    """Every frame of every zone is told of; what is free, of slabs, of tables and mapped adds up."""
    machine = CpulessMachine(load_scheme("anon_vma"), memory=64 << 20, lowmem=32 << 20, swap=8 << 20)
    mem, mm = machine.mem, machine.new_mm()
    at = machine.mmap(mm, 300)
    for page in range(300):
        machine.store(mm, at + (page << 12), 1)
    child = machine.fork(mm)
    machine.store(child, at, 2)
    counts, flags = kpage.counts(mem, 0, mem.frames.nr), kpage.flags(mem, 0, mem.frames.nr)
    assert len(counts) == len(flags) == 64 << 8 and counts.sum() == mm.rss + child.rss

    def marked(bit: int) -> int:
        return int(np.count_nonzero(flags >> np.uint64(bit) & np.uint64(1)))

    owners = np.bincount(mem.frames.np_owner, minlength=NR_OWNERS)
    assert marked(kpage.KPF_BUDDY) == owners[FREE] and marked(kpage.KPF_SLAB) == owners[SLAB]
    assert marked(kpage.KPF_PGTABLE) == owners[PAGETABLE] >= mem.vmstat.nr_page_table_pages
    assert marked(kpage.KPF_MMAP) == mem.vmstat.nr_mapped and marked(kpage.KPF_ZERO_PAGE) == 1
    assert marked(kpage.KPF_ANON) == 301 and flags[mem.zero_pfn] >> np.uint64(kpage.KPF_RESERVED) & np.uint64(1)
    assert kpage.flags(mem, 100, 9000).tolist() == flags[100:9000].tolist()


def test_slabinfo_and_buddyinfo_count_exactly() -> None:
    world = World()
    files = [world.open("/dev/null") for _ in range(40)]
    text = world.vfs.read_file("/proc/slabinfo").decode()
    row = next(line.split() for line in text.splitlines() if line.startswith("filp "))
    cache = world.mem.slab.caches["filp"]
    assert int(row[1]) == 41 == cache.objects + 1  # the file being read is one of them
    assert int(row[2]) == cache.slabs * cache.per_slab and int(row[3]) == 160
    lines = text.splitlines()
    assert lines[0] == "slabinfo - version: 2.0" and lines[1].startswith(
        "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables "
    )
    row_format = re.compile(r"(\S+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) : tunables +0 +0 +0 : slabdata +(\d+) +(\d+) +0")
    rows = [row_format.fullmatch(line) for line in lines[2:]]
    assert all(rows) and [match[1] for match in rows if match] == sorted(world.mem.slab.caches)
    for match in rows:
        cache = world.mem.slab.caches[match[1]]
        objects, room, size, per_slab, pages, active, slabs = map(int, match.groups()[1:])
        assert (room, size, per_slab, pages) == (slabs * per_slab, cache.size, cache.per_slab, 1 << cache.order)
        assert slabs == cache.slabs and objects - cache.objects in (0, 1), (
            "reading the file took an object of some caches"
        )
        assert -(-objects // per_slab) <= active <= min(slabs, objects)
    for file in files:
        file.put()
    free = 0
    for line in world.vfs.read_file("/proc/buddyinfo").decode().splitlines():
        free += sum(int(n) << order for order, n in enumerate(line.split()[4:]))
    assert free + sum(len(zone.pcp) for zone in world.mem.pages.zones) >= world.mem.pages.nr_free() >= free


def test_vmstat_has_the_names_of_2_6_7_in_order() -> None:
    lines = World().vfs.read_file("/proc/vmstat").decode().splitlines()
    assert [line.split()[0] for line in lines][:6] == [
        "nr_dirty",
        "nr_writeback",
        "nr_unstable",
        "nr_page_table_pages",
        "nr_mapped",
        "nr_slab",
    ]
    assert lines[-1].startswith("pgrotated ") and all(line.split()[1].isdigit() for line in lines)


def test_sysctls_change_the_machine() -> None:
    world = World()
    world.open("/proc/sys/vm/swappiness", O_WRONLY).accept(world.task, b"7\n")
    world.open("/proc/sys/vm/overcommit_memory", O_RDWR).accept(world.task, b"2\n")
    assert world.mem.reclaim.swappiness == 7 and world.mem.overcommit.mode == 2
    assert world.vfs.read_file("/proc/sys/vm/swappiness") == b"7\n"
    for text in (b"101", b"-1", b"many"):
        with pytest.raises(SysError) as caught:
            world.open("/proc/sys/vm/swappiness", O_WRONLY).accept(world.task, text)
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(SysError) as caught:
        world.open("/proc/sys/kernel/osrelease", O_WRONLY, task=world.user)
    assert caught.value.errno == errno.EACCES


def test_rmapbox_reclaim_reclaims() -> None:
    world = World(swap=16 << 20)
    world.open("/tmp/f", 0o102).accept(world.task, b"r" * 2_000_000)
    world.mem.reclaim.lru_add_drain()
    scanned = world.mem.vmstat.pgscan_direct_normal + world.mem.vmstat.pgscan_direct_dma
    world.open("/proc/sys/vm/rmapbox_reclaim", O_WRONLY).accept(world.task, b"64\n")
    after = world.mem.vmstat
    assert (
        after.pgscan_direct_normal + after.pgscan_direct_dma + after.pgscan_kswapd_normal + after.pgscan_kswapd_dma
        > scanned
    )


def test_an_open_proc_file_costs_its_objects_until_closed() -> None:
    world = World()
    before = world.objects()
    file = world.open("/proc/uptime")
    during = world.objects()
    assert (
        during["proc_inode_cache"] == before.get("proc_inode_cache", 0) + 1
        and during["dentry_cache"] == before["dentry_cache"] + 1
    )
    file.put()
    assert world.objects() == before


def test_a_process_describes_itself() -> None:
    box = Box()
    ending = box.run(compile_c(SOURCES / "fs_self.c", flags=(f"-I{SOURCES}",)), "one", "two words")
    assert ending.status == 0, box.out
    out = box.out
    maps = out.split("== maps\n")[1].split("== ")[0].splitlines()
    assert maps[-1].endswith("[stack]") and maps[-1][49:] == "[stack]" and " rw-p 00000000 00:00 0 " in maps[-1]
    assert any(line[49:].startswith("/bin/fs_self") and " r-xp " in line for line in maps)
    assert any(line[49:] == "[heap]" for line in maps)
    assert any(" rw-s 00000000 00:" in line and line[49:] == "/dev/zero (deleted)" for line in maps)
    stat = out.split("== stat\n")[1].split("== ")[0]
    fields = stat[stat.rindex(")") + 2 :].split()
    assert len(fields) == 50 and fields[0] == "R" and int(fields[20]) > 1 << 17
    status = out.split("== status\n")[1].split("== ")[0]
    rows = dict(line.split(":\t", 1) for line in status.splitlines())
    assert rows["Tgid"] == rows["Pid"] and rows["State"] == "R (running)" and rows["Threads"] == "1"
    assert int(rows["VmRSS"].split()[0]) == int(fields[21]) * 4
    assert int(rows["VmSize"].split()[0]) << 10 == int(fields[20])
    program = out.split("exe ")[1].splitlines()[0]
    assert program.startswith("/bin/fs_self") and rows["Name"] == program[5:20]
    assert out.split("== cmdline\n")[1].split("\n")[0] == f"{program}|one|two words|"
    assert "cwd /\n" in out and "fd0 /dev/null\n" in out
