"""/proc: the texts about the machine. Formats are 2.6.7's, with the fields that tools of today ask for.

Linux: fs/proc/proc_misc.c, mm/slab.c (slabinfo 2.0), mm/swapfile.c, drivers/block/genhd.c, 2.6.7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mmcore.physical.frames import SLAB
from mmcore.physical.slab import PAGE_OFFSET
from sandbox.fs.dentry import d_path
from sandbox.fs.devices import DISK_NAME, swap_name
from sandbox.fs.inode import BOOT_EPOCH_S, BOOT_S
from sandbox.kernel.sched import TASK_RUNNING, TASK_UNINTERRUPTIBLE

if TYPE_CHECKING:
    from sandbox.fs.vfs import Vfs

RELEASE = "2.6.7-rmapbox"
VERSION = "#1 Sat May 22 00:00:00 UTC 2004"
VMALLOC_START_GAP, VMALLOC_END = 8 << 20, 0xFF7FE000  # Linux: include/asm-i386/pgtable.h, 2.6.7
_TICK = 10_000_000


def meminfo(vfs: Vfs) -> str:
    mem = vfs.mem
    free = mem.pages.nr_free()
    cached = sum(len(space.pages) for space in mem.mappings.values())
    zones = mem.pages.zones
    vmalloc_total = (
        VMALLOC_END - (PAGE_OFFSET + (mem.pages.lowmem_end << 12) + VMALLOC_START_GAP & ~(VMALLOC_START_GAP - 1))
    ) >> 10
    vmalloc_used = sum(frames + 1 for _, frames in mem.slab.vmalloc_areas()) << 2
    swap_total, swap_free = mem.swap.si_swapinfo()
    shmem = sum(len(space.pages) for space in mem.mappings.values() if space.is_shmem)
    low = sum(z.pages_low for z in zones)
    # What could be had without swapping: free pages above the low watermark, and the clean half of the files' cache at
    # least. Linux: 3.14.
    available = max(0, free - low + cached - shmem - min((cached - shmem) // 2, low))
    rows = (
        ("MemTotal", mem.total_pages << 2),
        ("MemFree", free << 2),
        ("MemAvailable", available << 2),
        ("Buffers", 0),
        ("Cached", cached << 2),
        ("SwapCached", len(mem.swap.cache) << 2),
        ("Active", sum(z.nr_active for z in zones) << 2),
        ("Inactive", sum(z.nr_inactive for z in zones) << 2),
        ("HighTotal", zones[2].present_pages << 2),
        ("HighFree", zones[2].free_pages << 2),
        ("LowTotal", mem.low_pages << 2),
        ("LowFree", free - zones[2].free_pages << 2),
        ("SwapTotal", swap_total << 2),
        ("SwapFree", swap_free << 2),
        ("Dirty", mem.vmstat.nr_dirty << 2),
        ("Writeback", mem.vmstat.nr_writeback << 2),
        ("Mapped", mem.vmstat.nr_mapped << 2),
        ("Shmem", shmem << 2),
        ("Slab", mem.pages.owned[SLAB] << 2),
        ("CommitLimit", mem.overcommit.commit_limit() << 2),
        ("Committed_AS", mem.overcommit.committed << 2),
        ("PageTables", mem.vmstat.nr_page_table_pages << 2),
        ("VmallocTotal", vmalloc_total),
        ("VmallocUsed", vmalloc_used),
        ("VmallocChunk", vmalloc_total - vmalloc_used),
    )
    return "".join(f"{name + ':':<13}{kb:8d} kB\n" for name, kb in rows)


def vmstat(vfs: Vfs) -> str:
    return "".join(f"{name} {value}\n" for name, value in vfs.mem.sync_vmstat().as_dict().items())


def cpuinfo(vfs: Vfs) -> str:
    flags = "fpu vme de pse tsc msr pae mce cx8 mtrr pge mca cmov pat clflush mmx fxsr sse sse2 nx pni"
    rows = (
        ("processor", "0"),
        ("vendor_id", "GenuineIntel"),
        ("cpu family", "6"),
        ("model", "14"),
        ("model name", "Genuine Intel(R) CPU           T2600  @ 2.16GHz"),
        ("stepping", "8"),
        ("cpu MHz", "2000.000"),
        ("cache size", "2048 KB"),
        ("fdiv_bug", "no"),
        ("hlt_bug", "no"),
        ("f00f_bug", "no"),
        ("coma_bug", "no"),
        ("fpu", "yes"),
        ("fpu_exception", "yes"),
        ("cpuid level", "10"),
        ("wp", "yes"),
        ("flags", flags),
        ("bogomips", "4000.00"),
    )
    return "".join(f"{name}\t{'' if len(name) > 7 else chr(9)}: {value}\n" for name, value in rows) + "\n"


def _ticks(vfs: Vfs) -> tuple[int, int, int, int]:
    """(user, nice, system, idle) clock ticks since boot. Idle is what nobody used: it never goes back, since what was
    used is counted up to now."""
    user = nice = system = 0
    if vfs.kernel is not None:
        vfs.kernel.account()
        loop = vfs.kernel.loop
        user, nice, system = loop.user_ns, loop.nice_ns, loop.system_ns
    idle = vfs.clock.now + BOOT_S * 1_000_000_000 - user - nice - system
    return user // _TICK, nice // _TICK, system // _TICK, idle // _TICK


def stat(vfs: Vfs) -> str:
    """The cpu lines have the ten numbers of today, which today's tools insist on; nothing is ever stolen or a
    guest's."""
    user, nice, system, idle = _ticks(vfs)
    kernel = vfs.kernel
    forks, switches = (kernel.total_forks, kernel.nr_switches) if kernel is not None else (0, 0)
    states = [task.state for task in kernel.tasks.values()] if kernel is not None else []
    cpu = f"{user} {nice} {system} {idle} 0 0 0 0 0 0"
    page = vfs.mem.vmstat
    return (
        f"cpu  {cpu}\ncpu0 {cpu}\nintr 0\nctxt {switches}\nbtime {_btime(vfs)}\nprocesses "
        f"{forks}\n"
        f"procs_running {max(1, states.count(TASK_RUNNING))}\nprocs_blocked {states.count(TASK_UNINTERRUPTIBLE)}\n"
        f"page {page.pgpgin} {page.pgpgout}\nswap {page.pswpin} {page.pswpout}\n"
    )


def _btime(vfs: Vfs) -> int:
    """When the machine was switched on, by the calendar as it stands."""
    return vfs.kernel.timers.realtime_offset // 1_000_000_000 if vfs.kernel is not None else BOOT_EPOCH_S - BOOT_S


def uptime(vfs: Vfs) -> str:
    *_, idle = _ticks(vfs)
    centi = (vfs.kernel.timers.now() if vfs.kernel is not None else vfs.clock.now + BOOT_S * 1_000_000_000) // _TICK
    return f"{centi // 100}.{centi % 100:02d} {idle // 100}.{idle % 100:02d}\n"


def loadavg(vfs: Vfs) -> str:
    kernel = vfs.kernel
    tasks = list(kernel.tasks.values()) if kernel is not None else []
    running = max(1, sum(1 for task in tasks if task.state == TASK_RUNNING))
    return f"0.00 0.00 0.00 {running}/{max(1, len(tasks))} {max((task.pid for task in tasks), default=0)}\n"


def version(vfs: Vfs) -> str:
    return f"Linux version {RELEASE} (rmapbox@localhost) (gcc version 3.3.3) {VERSION}\n"


def filesystems(vfs: Vfs) -> str:
    return "".join(f"nodev\t{name}\n" for name in ("sysfs", "rootfs", "proc", "pipefs", "tmpfs", "hostfs"))


def mounts(vfs: Vfs) -> str:

    lines = []
    for sb in vfs.supers:
        at = d_path(sb.root).decode("utf-8", "surrogateescape") if sb.root is not None else "/"
        source = "rootfs" if sb is vfs.root_sb else sb.source
        escaped = at.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")
        lines.append(f"{source} {escaped} {sb.fstype} {'ro' if sb.readonly else 'rw'},noatime 0 0\n")
    return "".join(lines)


def buddyinfo(vfs: Vfs) -> str:
    lines = []
    for zone in vfs.mem.pages.zones:
        if zone.present_pages:
            lines.append(
                f"Node 0, zone {zone.name:>8} " + "".join(f"{len(area):6d} " for area in zone.free_area) + "\n"
            )
    return "".join(lines)


def slabinfo(vfs: Vfs) -> str:
    """Every count is exact: objects in use, objects there is room for, slabs with an object in use, slabs."""
    lines = [
        "slabinfo - version: 2.0\n",
        "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <batchcount> "
        "<limit> <sharedfactor>"
        " : slabdata <active_slabs> <num_slabs> <sharedavail>\n",
    ]
    for name, cache in sorted(vfs.mem.slab.caches.items()):
        active = sum(slab.inuse > 0 for slab in cache._slabs.values())
        lines.append(
            f"{name:<17} {cache.objects:6d} {cache.slabs * cache.per_slab:6d} {cache.size:6d} {cache.per_slab:4d} "
            f"{1 << cache.order:4d}"
            f" : tunables {0:4d} {0:4d} {0:4d} : slabdata {active:6d} {cache.slabs:6d} {0:6d}\n"
        )
    return "".join(lines)


def swaps(vfs: Vfs) -> str:
    text = "Filename\t\t\t\tType\t\tSize\tUsed\tPriority\n"
    for number, area in enumerate(vfs.mem.swap.areas):
        if area.on:
            used = area.total - area.nr_free
            text += f"{'/dev/' + swap_name(number):<40}partition\t{area.total << 2}\t{used << 2}\t{area.priority}\n"
    return text


def diskstats(vfs: Vfs) -> str:
    """The disk, with today's 17 numbers: requests, merged, sectors of 512 bytes and ms, of reads and of writes; under
    way, ms busy, ms of all requests together; nothing is ever discarded or flushed."""
    disk = vfs.mem.disk
    numbers = [n for done in disk.done for n in (done.requests, done.merged, done.pages << 3, done.ns // 1_000_000)]
    numbers += [
        disk.queued,
        disk.busy_ns // 1_000_000,
        sum(done.ns for done in disk.done) // 1_000_000,
        0,
        0,
        0,
        0,
        0,
        0,
    ]
    return f"   3       0 {DISK_NAME} " + " ".join(map(str, numbers)) + "\n"


def zoneinfo(vfs: Vfs) -> str:
    lines = []
    for zone in vfs.mem.pages.zones:
        if not zone.present_pages:
            continue
        lines.append(
            f"Node 0, zone {zone.name:>8}\n  pages free     {zone.free_pages}\n        min      {zone.pages_min}\n   "
            f"     low      {zone.pages_low}\n"
            f"        high     {zone.pages_high}\n        active   {zone.nr_active}\n        inactive "
            f"{zone.nr_inactive}\n"
            f"        scanned  {zone.pages_scanned}\n        spanned  {zone.end_pfn - zone.start_pfn}\n        "
            f"present  {zone.present_pages}\n"
            f"        protection: ({', '.join(map(str, zone.protection))})\n"
            f"  all_unreclaimable: {int(zone.all_unreclaimable)}\n  prev_priority:     {zone.prev_priority}\n"
        )
    return "".join(lines)


def devices(vfs: Vfs) -> str:
    return "Character devices:\n  1 mem\n  5 /dev/tty\n136 pts\n\nBlock devices:\n  3 ide0\n"


def boot_cmdline(vfs: Vfs) -> str:
    return f"mem={vfs.mem.config.memory_bytes >> 10}k\n"


TEXTS: dict[str, Callable[[Vfs], str]] = {
    "buddyinfo": buddyinfo,
    "cmdline": boot_cmdline,
    "cpuinfo": cpuinfo,
    "devices": devices,
    "diskstats": diskstats,
    "filesystems": filesystems,
    "loadavg": loadavg,
    "meminfo": meminfo,
    "slabinfo": slabinfo,
    "stat": stat,
    "swaps": swaps,
    "uptime": uptime,
    "version": version,
    "vmstat": vmstat,
    "zoneinfo": zoneinfo,
}
