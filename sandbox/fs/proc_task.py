"""/proc/PID: the texts about one process. Linux: fs/proc/array.c and fs/proc/task_mmu.c, 2.6.7; lines that came later
as in 6.1 where programs read them."""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL, EPERM
from typing import TYPE_CHECKING

import numpy as np

from mmcore.errors import MustWait, SysError
from mmcore.physical.pgtable import TASK_SIZE
from mmcore.physical.pterange import PteRange
from sandbox.fs import proc_areas
from sandbox.fs.file import file_of
from sandbox.fs.inode import BOOT_S
from sandbox.kernel.rlimits import RLIMIT_RSS, RLIMIT_SIGPENDING
from sandbox.kernel.sched import state_letter
from sandbox.kernel.uaccess import read_mm

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.areas.vma import VmArea
    from mmcore.memory import Memory
    from sandbox.fs.vfs import Vfs
    from sandbox.kernel.task import Task

USER_HZ_NS = 10_000_000
_NAME_COLUMN = 49  # of the file name in maps: 25 + 4 x 6 on a 32-bit kernel
_STATE_NAMES = {"R": "running", "S": "sleeping", "D": "disk sleep", "T": "stopped", "Z": "zombie", "X": "dead"}


def alive(vfs: Vfs, task: Task) -> bool:
    return vfs.kernel is not None and vfs.kernel.tasks.get(task.pid) is task


def _escape(name: str) -> str:
    return name.replace("\n", "\\012")


# areas
def area_name(mm: Mm, vma: VmArea) -> str:
    """What maps shows at the end of the line: the file, [heap], [stack] or nothing."""
    if vma.vm_file is not None:
        return _escape(vma.vm_file.path)
    if vma.vm_start < mm.brk and vma.vm_end > mm.start_brk:
        return "[heap]"
    if vma.vm_start <= mm.start_stack < vma.vm_end:
        return "[stack]"
    return ""


def area_line(mm: Mm, vma: VmArea) -> str:
    """One line of maps without its newline. Linux: show_map, fs/proc/task_mmu.c."""
    pgoff = dev = ino = 0
    file = file_of(vma)
    if file is not None:
        pgoff = vma.vm_pgoff << 12
        dev, ino = file.inode.sb.dev, file.inode.ino
    line = (
        f"{vma.vm_start:08x}-{vma.vm_end:08x} {vma.permissions()} {pgoff:08x} {dev >> 20:02x}:{dev & 0xFFFFF:02x} "
        f"{ino} "
    )
    name = area_name(mm, vma)
    return f"{line:<{_NAME_COLUMN}}{name}" if name else line


def maps(task: Task) -> str:
    mm = task.mm
    if mm is None:
        return ""
    return "".join(area_line(mm, vma) + "\n" for vma in mm.vmas)


def swap_entries(mem: Memory, mm: Mm) -> int:
    """Pages of the mm that are in swap: entries of its page tables that are neither present nor empty nor a nonlinear
    file's."""
    entries = PteRange.of(mem.pgtables, mm.pgd, 0, TASK_SIZE).read().entries
    return int(np.count_nonzero(mem.pgtables.np_swapped(entries)))


# status, stat, statm
def _mask(bits: int) -> str:
    return f"{bits & (1 << 64) - 1:016x}"


def _signal_sets(task: Task) -> tuple[int, int]:
    """(ignored, caught) as bit sets."""
    ignored = caught = 0
    for sig in range(1, 65):
        handler = task.sighand.action[sig].handler
        if handler == 1:
            ignored |= 1 << sig - 1
        elif handler:
            caught |= 1 << sig - 1
    return ignored, caught


def _memory_lines(task: Task) -> list[str]:
    mm, mem = task.mm, task.mem
    text = min(((mm.end_code + 4095 & ~4095) - (mm.start_code & ~4095)) >> 10, mm.exec_vm << 2)
    rows = (
        ("VmPeak", max(mm.hiwater_vm, mm.total_vm) << 2),
        ("VmSize", mm.total_vm << 2),
        ("VmLck", mm.locked_vm << 2),
        ("VmPin", 0),
        ("VmHWM", max(mm.hiwater_rss, mm.rss) << 2),
        ("VmRSS", mm.rss << 2),
        ("RssAnon", mm.anon_rss << 2),
        ("RssFile", mm.rss - mm.anon_rss - mm.shmem_rss << 2),
        ("RssShmem", mm.shmem_rss << 2),
        ("VmData", mm.data_vm << 2),
        ("VmStk", mm.stack_vm << 2),
        ("VmExe", text),
        ("VmLib", (mm.exec_vm << 2) - text),
        ("VmPTE", mm.nr_ptes << 2),
        ("VmSwap", swap_entries(mem, mm) << 2),
    )
    return [f"{name}:\t{kb:8d} kB" for name, kb in rows]


def status(task: Task) -> str:
    letter = state_letter(task.state)
    signal = task.signal
    fds = len(task.files.fds) if task.files is not None else 0
    size = 0 if task.files is None else max(32, 1 << max(0, fds - 1).bit_length())
    lines = [
        f"Name:\t{_escape(task.comm)}",
        f"Umask:\t{task.fs.umask if task.fs is not None else 0:04o}",
        f"State:\t{letter} ({_STATE_NAMES[letter]})",
        f"Tgid:\t{task.tgid}",
        "Ngid:\t0",
        f"Pid:\t{task.pid}",
        f"PPid:\t{task.ppid}",
        "TracerPid:\t0",
        f"Uid:\t{task.uid}\t{task.euid}\t{task.suid}\t{task.fsuid}",
        f"Gid:\t{task.gid}\t{task.egid}\t{task.sgid}\t{task.fsgid}",
        f"FDSize:\t{size}",
        "Groups:\t" + "".join(f"{gid} " for gid in task.groups),
        f"NStgid:\t{task.tgid}",
        f"NSpid:\t{task.pid}",
        f"NSpgid:\t{signal.pgrp}",
        f"NSsid:\t{signal.session}",
        f"Kthread:\t{int(task.mm is None and letter != 'Z')}",
    ]
    if task.mm is not None:
        lines += _memory_lines(task)
    queued = task.kernel.sigpending[task.uid]
    ignored, caught = _signal_sets(task) if task.sighand is not None else (0, 0)
    capabilities = _mask(0xFFFFFEFF if task.euid == 0 else 0)
    lines += [
        f"Threads:\t{len(signal.threads)}",
        f"SigQ:\t{queued}/{signal.rlimits[RLIMIT_SIGPENDING][0]}",
        f"SigPnd:\t{_mask(task.pending.set)}",
        f"ShdPnd:\t{_mask(signal.shared.set)}",
        f"SigBlk:\t{_mask(task.blocked)}",
        f"SigIgn:\t{_mask(ignored)}",
        f"SigCgt:\t{_mask(caught)}",
        f"CapInh:\t{_mask(0)}",
        f"CapPrm:\t{capabilities}",
        f"CapEff:\t{capabilities}",
        f"CapBnd:\t{_mask(task.cap_bset)}",
        f"CapAmb:\t{_mask(0)}",
        f"NoNewPrivs:\t{int(task.no_new_privs)}",
        "Seccomp:\t0",
        "Seccomp_filters:\t0",
        "Cpus_allowed:\t1",
        "Cpus_allowed_list:\t0",
        "Mems_allowed:\t1",
        "Mems_allowed_list:\t0",
        f"voluntary_ctxt_switches:\t{task.nvcsw}",
        f"nonvoluntary_ctxt_switches:\t{task.nivcsw}",
    ]
    return "\n".join(lines) + "\n"


def stat(task: Task) -> str:
    """The 44 fields of 2.6.7's stat and those that followed up to exit_code (52)."""
    mm, signal = task.mm, task.signal
    user, system = signal.cpu_times()
    ignored, caught = _signal_sets(task) if task.sighand is not None else (0, 0)
    min_flt = signal.min_flt + sum(t.min_flt for t in signal.threads)
    maj_flt = signal.maj_flt + sum(t.maj_flt for t in signal.threads)
    eip = esp = 0  # shown of a task that dumps core alone (4.11 and later)
    text = (mm.start_code, mm.end_code, mm.start_stack) if mm else (0, 0, 0)
    data = (mm.start_data, mm.end_data, mm.start_brk) if mm else (0, 0, 0)
    strings = (mm.arg_start, mm.arg_end, mm.env_start, mm.env_end) if mm else (0, 0, 0, 0)
    fields = [
        task.pid,
        f"({_escape(task.comm)})",
        state_letter(task.state),
        task.ppid,
        signal.pgrp,
        signal.session,
        0,
        -1,
        task.flags,
        min_flt,
        signal.cmin_flt,
        maj_flt,
        signal.cmaj_flt,
        user // USER_HZ_NS,
        system // USER_HZ_NS,
        signal.cutime_ns // USER_HZ_NS,
        signal.cstime_ns // USER_HZ_NS,
        20 + task.nice,
        task.nice,
        len(signal.threads),
        0,
        (task.start_ns + BOOT_S * 1_000_000_000) // USER_HZ_NS,
        mm.total_vm << 12 if mm else 0,
        mm.rss if mm else 0,
        min(signal.rlimits[RLIMIT_RSS][0], 0xFFFFFFFF),
        *text,
        esp,
        eip,
        task.pending.set & 0x7FFFFFFF,
        task.blocked & 0x7FFFFFFF,
        ignored & 0x7FFFFFFF,
        caught & 0x7FFFFFFF,
        0,
        0,
        0,
        task.exit_signal,
        0,
        task.rt_priority,
        task.policy,
        0,
        0,
        0,
        *data,
        *strings,
        task.exit_code,
    ]
    return " ".join(map(str, fields)) + "\n"


def statm(task: Task) -> str:
    mm = task.mm
    if mm is None:
        return "0 0 0 0 0 0 0\n"
    text = (mm.end_code + 4095 >> 12) - (mm.start_code >> 12)
    return f"{mm.total_vm} {mm.rss} {mm.rss - mm.anon_rss} {text} 0 {mm.data_vm + mm.stack_vm} 0\n"


# what lies in the process's own memory
def _range(task: Task, start: int, end: int) -> bytes:
    """User memory of the task, as far as it can be read; one page at most, as 2.6.7 gave."""
    mm = task.mm
    if mm is None or end <= start:
        return b""
    try:
        return read_mm(task.mem, mm, start, min(end - start, 4096))
    except MustWait:
        raise
    except SysError:
        return b""


def cmdline(task: Task) -> bytes:
    return _range(task, task.mm.arg_start, task.mm.arg_end) if task.mm is not None else b""


def environ(task: Task) -> bytes:
    return _range(task, task.mm.env_start, task.mm.env_end) if task.mm is not None else b""


def auxv(task: Task) -> bytes:
    return task.mm.saved_auxv if task.mm is not None else b""


# the rest
_LIMITS = (
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
)


def limits(task: Task) -> str:
    def shown(value: int) -> str:
        return "unlimited" if value >= (1 << 64) - 1 else str(value)

    lines = [f"{'Limit':<25} {'Soft Limit':<20} {'Hard Limit':<20} {'Units':<10}"]
    for (name, unit), (soft, hard) in zip(_LIMITS, task.signal.rlimits, strict=True):
        lines.append(f"{name:<25} {shown(soft):<20} {shown(hard):<20} {unit:<10}")
    return "\n".join(lines) + "\n"


def wchan(task: Task) -> str:
    return "0"


def oom_score(task: Task) -> str:
    return f"{task.mem.oom.badness(task) if task.mm is not None else 0}\n"


def oom_score_adj(task: Task) -> str:
    return f"{task.signal.oom_score_adj}\n"


TEXTS: dict[str, Callable[[Task], str | bytes]] = {
    "auxv": auxv,
    "cmdline": cmdline,
    "comm": lambda task: task.comm + "\n",
    "environ": environ,
    "limits": limits,
    "maps": maps,
    "oom_score": oom_score,
    "oom_score_adj": oom_score_adj,
    "smaps": proc_areas.smaps,
    "smaps_rollup": proc_areas.smaps_rollup,
    "stat": stat,
    "statm": statm,
    "status": status,
    "syscall": proc_areas.syscall,
    "timerslack_ns": lambda task: f"{task.timer_slack}\n",
    "wchan": wchan,
}


SEQ_FILES = frozenset({"comm", "timerslack_ns"})  # of those that are written to
MODES = {"auxv": 0o400, "environ": 0o400, "syscall": 0o400, "timerslack_ns": 0o666}


def store_for(task: Task, name: str) -> Callable[[Task | None, bytes], None] | None:
    """What a write to /proc/PID/`name` does, or None where it is refused."""
    if name == "oom_score_adj":

        def store_adj(writer: Task | None, data: bytes) -> None:
            try:
                value = int(data.strip() or b"x")
            except ValueError:
                raise SysError(EINVAL) from None
            if not -1000 <= value <= 1000:
                raise SysError(EINVAL)
            task.signal.oom_score_adj = value

        return store_adj
    if name == "timerslack_ns":

        def store_slack(writer: Task | None, data: bytes) -> None:
            if writer is not None and writer.signal is not task.signal and writer.euid:
                raise SysError(EPERM)
            try:
                task.timer_slack = int(data.strip()) or task.default_timer_slack
            except ValueError:
                raise SysError(EINVAL) from None

        return store_slack
    if name == "comm":

        def store_comm(writer: Task | None, data: bytes) -> None:
            name = data.split(b"\0")[0].rstrip(b"\n")[:15]
            task.comm = name.decode("utf-8", "surrogateescape")

        return store_comm
    return None
