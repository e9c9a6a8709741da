"""The machine: memory under a scheme, processor, file systems and kernel put together, run once, and told about.

    Machine(Config(...)).run(["fork_cow", "512"])  ->  Result

One `run` is one boot: nothing of an earlier run is left in a later one.
"""

from __future__ import annotations

import errno
import os
import posixpath
import time
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any

from mmcore.audit import Auditor
from mmcore.errors import ConfigError, InvariantViolation, OomPanic, SysError, errno_name
from mmcore.memory import Memory, MemoryConfig
from mmcore.physical.frames import FREE
from mmcore.rmap import RmapScheme
from sandbox.auditing import AuditingCpu, pinned
from sandbox.config import Config
from sandbox.configfile import nearest
from sandbox.kernel.signo import name as signal_name
from sandbox.kernel.table import name_of
from sandbox.picturing import PictureTaker
from sandbox.program import Program, argument_list, load_program
from sandbox.result import (
    Area,
    AuditResult,
    Crash,
    HighMem,
    LowMem,
    Notes,
    Owner,
    PageShown,
    Result,
    Snapshot,
    TaskResult,
)
from sandbox.schemes.blame import foreign, scheme_fault
from sandbox.schemes.registry import load_scheme
from sandbox.status import Sample, StatusLine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmcore.areas.mm import Mm
    from mmcore.outside import MappedFile, Victim
    from sandbox.kernel.crash import CrashInfo
    from sandbox.kernel.kernel import Ending, Processor
    from sandbox.kernel.task import Task
    from sandbox.result import MemoryImage

TIME_LIMIT_STATUS, INTERRUPT_STATUS, STUCK_STATUS = 124, 130, 1
_GIVEN_UP = ("hung", "oom_panic")  # inside an allocation
_CUT = {"time_limit": TIME_LIMIT_STATUS, "interrupted": INTERRUPT_STATUS}

Sink = Callable[[bytes], None]


class HostTerminal(int):
    """A host descriptor of a terminal that a status line is drawn on: `write` takes the line away first."""

    line: StatusLine

    def __new__(cls, fd: int, line: StatusLine) -> HostTerminal:
        self = super().__new__(cls, fd)
        self.line = line
        return self

    def __call__(self, data: bytes) -> None:
        self.line.around(self._write, data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self, view) :]
        except OSError as error:  # the terminal is gone: the guest's error, as without a status line
            raise SysError(error.errno or errno.EIO) from None


class Machine:
    """A machine as `config` describes it."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()

    def run(
        self,
        program: str | os.PathLike | Sequence[str | os.PathLike],
        *,
        capture: bool = False,
        status: IO[str] | None = None,
        hash_memory: bool = False,
        pictures: Sequence[str] = (),
    ) -> Result:
        """Boot, run `program` (a name or file, see `sandbox.program`; or a list of it and its arguments) to its end,
        return the result.

        The guest's output goes to this process's descriptors 1 and 2, or with `capture` into the result. `status` is a
        terminal to keep a status line on. `hash_memory` fills the result's `memory_hash` (null for a run that was cut),
        `pictures` (as `--picture` has them) the pages to draw in its notes; nothing else depends on either. Ctrl-C ends
        the run, not the caller. Raises `ConfigError`, `PluginError`, and InvariantViolation when an audit in mid-run
        finds something wrong (one at the end counts it in the result).
        """
        argv = argument_list(program)
        start = time.monotonic()
        loaded = load_program(argv[0], mounts=bool(self.config.mounts))
        scheme = load_scheme(self.config.scheme)
        try:
            return self._run(_Boot(self.config, loaded, argv, scheme, hash_memory, pictures), start, capture, status)
        except BaseException as error:
            fault = scheme_fault(error, self.config.scheme, scheme)
            if fault is not None:
                raise fault from error
            if isinstance(error, InvariantViolation) and foreign(scheme):
                raise InvariantViolation(f"under scheme {self.config.scheme!r}: {error}") from error
            raise

    def _run(self, running: _Boot, start: float, capture: bool, status: IO[str] | None) -> Result:
        out: list[bytes] = []
        err: list[bytes] = []
        sinks: tuple[int | Sink, int | Sink] = (out.append, err.append) if capture else (1, 2)
        if status is not None:
            with StatusLine(running.sample, status) as line:
                ending = running.run(
                    *(HostTerminal(sink, line) if isinstance(sink, int) and os.isatty(sink) else sink for sink in sinks)
                )
        else:
            ending = running.run(*sinks)
        result = running.result(ending, time.monotonic() - start)
        if capture:
            result.notes.stdout, result.notes.stderr = b"".join(out), b"".join(err)
        return result


def program_place(name: str, config: Config) -> bytes:
    """Where the guest finds its program `name`: in /bin, or in a directory of its own when a mount lies over that
    place.

    A mount is the host's: the program's copy must not be written into it.
    """
    for directory in ("/bin", *(f"/program{number or ''}" for number in range(len(config.mounts) + 1))):
        path = f"{directory}/{name}"
        if not any(
            f"{path}/".startswith(posixpath.normpath("/" + mount.guest.strip("/")) + "/")
            for mount in config.mount_list()
        ):
            break
    return os.fsencode(path)


def check_options(scheme: type[RmapScheme], options: dict[str, Any]) -> None:
    """Raises `ConfigError` for an option that the scheme's card does not list, or whose value is of another type."""
    card = scheme.card
    for key, value in options.items():
        if key not in card.options:
            raise ConfigError(f"[rmap.{card.name}] has no option {key!r}: {nearest(key, card.options)}")
        default = card.options[key][0]
        if type(value) is not type(default):
            raise ConfigError(f"[rmap.{card.name}] {key} = {value!r}: write it as its default {default!r} is written")


def build_memory(
    config: Config,
    scheme: type[RmapScheme] | None = None,
    tasks: Callable[[], Iterable[Victim]] = tuple,
    shmem_zero_setup: Callable[[int, bool], MappedFile] | None = None,
) -> Memory:
    """The memory of the machine `config` describes (`scheme`: its class, when loaded already; `tasks` and
    `shmem_zero_setup`: what Memory asks of the kernel above it), booted. Raises `PluginError` and `ConfigError`."""
    scheme = scheme or load_scheme(config.scheme)
    check_options(scheme, config.scheme_options)
    return Memory(
        MemoryConfig(
            memory_bytes=int(config.memory),
            swap_bytes=int(config.swap),
            swap_areas=config.swap_areas,
            paging=config.paging,
            lowmem_bytes=int(config.lowmem),
            highpte=config.highpte,
            overcommit=config.overcommit,
            overcommit_ratio=config.overcommit_ratio,
            swappiness=config.swappiness,
            page_cluster=-1 if config.page_cluster is None else config.page_cluster,
            layout=config.layout,
            smp=config.smp,
            cache_line=config.cache_line,
            accounting=config.accounting,
            seed=config.seed,
            dirty_tracking=config.dirty_tracking,
            scheme_options=config.scheme_options,
        ),
        scheme,
        tasks,
        shmem_zero_setup,
    )


class _Boot:
    """One boot."""

    def __init__(
        self,
        config: Config,
        program: Program,
        argv: list[str],
        scheme: type[RmapScheme],
        hash_memory: bool,
        pictures: Sequence[str],
    ) -> None:
        from sandbox.fs.vfs import Vfs
        from sandbox.kernel.boot import boot_cpu
        from sandbox.kernel.kernel import Kernel
        from sandbox.syscalls import load_all

        load_all()
        self.config = config
        self.program = program
        self.argv = argv
        self.kernel: Kernel = None  # type: ignore[assignment]  # made after the memory that asks it
        self.mem = mem = build_memory(
            config,
            scheme,
            tasks=lambda: self.kernel.oom_candidates() if self.kernel else (),
            # Not mmcore's own: /proc/PID/maps shows its device and inode as any file's
            shmem_zero_setup=lambda size, reserve: self.vfs.shmem_zero_setup(size, reserve),
        )
        self.auditor = Auditor(mem, lambda: pinned(self.kernel))
        cpu = boot_cpu(mem)
        doorway: Processor = cpu if config.audit != "full" else AuditingCpu(cpu, self.auditor, lambda: self.kernel)
        self.vfs = Vfs(mem, mounts=config.mount_list(), seed=config.seed)
        self.kernel = Kernel(
            mem,
            doorway,
            self.vfs,
            clock=config.clock,
            seed=config.seed,
            time_limit=config.time_limit,
            mm_ended=self._mm_ended if hash_memory or pictures else None,
        )
        # Files bear the time that the guest reads, though it sets the clock
        self.vfs.attach(self.kernel, self.kernel.timers.realtime)
        self.recorder: MemoryRecorder | None = None
        self.image: MemoryImage | None = None
        if hash_memory:
            from sandbox.lab.memhash import MemoryRecorder

            self.recorder = MemoryRecorder(mem, self.kernel, self.vfs)
        self.taker = PictureTaker(mem, self.kernel, pictures) if pictures else None
        self.shown: list[PageShown] = []
        if self.taker is not None:
            mem.at_low = self.taker.low

    def run(self, stdout: int | Sink, stderr: int | Sink) -> Ending:
        """The program from its first instruction to the end of the run; the kernel's Ending."""
        path = program_place(self.program.name, self.config)
        self.terminal_input = self.config.stdin is None and os.isatty(0)
        try:
            self.vfs.write_file(path, self.program.image, 0o755)
            files = self.vfs.stdio(0 if self.config.stdin is None else self.config.stdin, stdout, stderr)
        except (SysError, OomPanic) as error:
            raise ConfigError(
                f"{self.argv[0]}: does not fit into a machine of this size ({error}): give more --memory or --swap"
            ) from None
        environment = self.config.environment()
        envp = [os.fsencode(f"{name}={value}") for name, value in environment.items()]
        argv = [self._called(path, environment.get("PATH", "")), *(os.fsencode(word) for word in self.argv[1:])]
        self.kernel.spawn_init(path, argv, envp, files, self.vfs.fs)
        ending = self.kernel.run()
        if self.config.audit == "full":
            self.auditor.pictures = -1  # of every frame, this once
        if self.config.audit != "off" and not ending.torn:
            self.auditor.audit("at the end", given_up=ending.kind in _GIVEN_UP)
        if self.taker is not None:
            self.shown = self.taker.finish(ending.torn)
        if self.recorder is not None and not ending.torn and ending.kind not in _CUT:
            self.image = self.recorder.image()
        self.vfs.sync()
        self.vfs.close()
        return ending

    def _mm_ended(self, task: Task, mm: Mm, how: str) -> None:
        """Before an address space is taken apart: who looks at it once more."""
        if self.recorder is not None:
            self.recorder.ended(task, mm, how)
        if self.taker is not None:
            self.taker.ended(task, mm, how)

    def _called(self, path: bytes, search: str) -> bytes:
        """The program's argv[0]: as the user typed it where the guest finds a file by it, itself or along PATH, else
        the place of its copy."""
        typed = os.fsencode(self.argv[0])
        places = (
            [typed]
            if b"/" in typed
            else [os.fsencode(f"{directory}/") + typed for directory in search.split(":") if directory]
        )
        return typed if any(self.vfs.exists(place) for place in places) else path

    def sample(self) -> Sample:
        """For the status line; read from another thread, so from plain counters only."""
        mem, swap = self.mem, self.mem.swap
        return Sample(
            mem.clock.now,
            self.kernel.nr_tasks,
            mem.vmstat.pgfault,
            mem.pages.owned[FREE] << 12,
            (swap.total - swap.nr_swap_pages) << 12,
        )

    def result(self, ending: Ending, wall_s: float) -> Result:
        """Everything the run leaves, read before the machine is let go."""
        mem, kernel, config = self.mem, self.kernel, self.config
        repeats = config.clock == "virtual" and not self.terminal_input and ending.kind not in _CUT
        notes = Notes(
            detail="\n".join(ending.detail),
            signal=ending.signal,
            file_index=_file_index(mem),
            oom_kills=[str(kill) for kill in mem.oom.kills],
            unknown_syscalls={name_of(nr): count for nr, count in kernel.unknown_syscalls.items()},
            not_here={f"{what}: {errno_name(code)}": count for (what, code), count in kernel.not_here.items()},
            crashes=[_crash(info) for info in kernel.crashes],
            more_crashes={
                f"{comm} by {signal_name(number)}": count for (comm, number), count in kernel.more_crashes.items()
            },
            violations=list(self.auditor.violations),
            memory=self.image,
            pictures=self.shown,
        )
        return Result(
            exit_status=exit_status(ending),
            scheme=mem.scheme.card.name,
            config=config.as_dict(),
            virtual_ns=mem.clock.now,
            wall_s=round(wall_s, 6),
            ended=ending.kind,
            vmstat=mem.sync_vmstat().as_dict(),
            meters=mem.meters.as_dict(),
            lowmem=lowmem(mem),
            tasks=[TaskResult(task.pid, task.comm, task.status, task.peak_rss << 12) for task in kernel.task_records()],
            audit=AuditResult(self.auditor.checks, len(self.auditor.violations)),
            event_hash=kernel.event_hash() if repeats else None,
            walk_lengths={"scheme": mem.rmap.walk_lengths.as_dict(), "file": mem.rmap.file_walk_lengths.as_dict()},
            memory_hash=_memory_hash(self.image),
            highmem=highmem(mem),
            oom=list(mem.oom.reports),
            notes=notes,
        )


def _memory_hash(image: MemoryImage | None) -> str | None:
    if image is None:
        return None
    from sandbox.lab.memhash import memory_hash

    return memory_hash(image)


def exit_status(ending: Ending) -> int:
    """The command's status for a run that ended so: the guest's, or 124, 130, and 1 for a guest that could not go
    on."""
    if ending.kind in _CUT:
        return _CUT[ending.kind]
    if ending.signal:
        return 128 + ending.signal
    if ending.status is not None:
        return ending.status
    return STUCK_STATUS


def _owner(fields: dict[str, Any]) -> Owner:
    return Owner(**{"peak_bytes": fields["bytes"], **fields})


def lowmem(mem: Memory) -> LowMem:
    """The low-memory account of a machine, now and at its fullest."""
    report = mem.lowmem_report()
    owners = {name: _owner(fields) for name, fields in report["owners"].items()}
    peak = {name: _owner(fields) for name, fields in report["at_peak"].items()}
    return LowMem(
        report["present"],
        report["free"],
        report["min_free"],
        owners,
        Snapshot(mem.at_peak["owned"][FREE] << 12, peak),
        _scheme_bytes(mem, owners),
    )


def highmem(mem: Memory) -> HighMem | None:
    """The account of high memory; None for a machine that has none."""
    report = mem.highmem_report()
    if not report["total"]:
        return None
    owners = {name: _owner(fields) for name, fields in report["owners"].items()}
    return HighMem(report["total"], report["free"], report["min_free"], owners)


def _scheme_bytes(mem: Memory, owners: dict[str, Owner]) -> dict[str, int]:
    """Low memory that is the scheme's, by structure: fields as bytes in use, its own caches in whole frames."""
    setup = mem.setup

    def objects(name: str) -> int:
        return owners[name].peak_objects or 0 if name in owners else 0

    inodes = sum(objects(name) for name in owners if name.endswith("inode_cache"))
    fields = {
        "mem_map": mem.frames.nr * setup.page,
        "vm_area_struct": objects("slab:vm_area_struct") * setup.vma,
        "mm_struct": objects("slab:mm_struct") * setup.mm,
        "inodes": inodes * setup.address_space,
    }
    caches = {
        cache.name: owners[f"slab:{cache.name}"].peak_bytes
        for cache in mem.scheme.env.scheme_caches
        if f"slab:{cache.name}" in owners
    }
    return {name: size for name, size in {**fields, **caches}.items() if size}


def _file_index(mem: Memory) -> str:
    """Of a scheme that walks file pages by their file's index, else ""."""
    return mem.setup.file_index if mem.rmap.exact and not mem.setup.files else ""


def _crash(info: CrashInfo) -> Crash:
    return Crash(
        info.pid,
        info.comm,
        info.signal,
        info.code,
        info.address,
        list(info.registers),
        bytes(info.code_bytes),
        [Area(*area) for area in info.areas],
    )
