"""What a run leaves behind. Every summary, table and plot is made from it; `docs/result-keys.md` documents the keys.

`Result` is what `--json` writes (fields of the struct = keys of the file, in this order, nothing else) plus `notes`,
which stays in this process: what only makes sense right after the run.
"""

from __future__ import annotations

import html
from typing import Any, NamedTuple

import msgspec

from mmcore.errors import ConfigError
from mmcore.reclaim.oomreport import OomReport
from mmcore.rmap import Picture

ENDED = ("exited", "signalled", "time_limit", "interrupted", "deadlock", "hung", "oom_panic")


class Owner(msgspec.Struct, omit_defaults=True):
    """Who holds low memory: `bytes` in whole frames, at the moment of the table; `peak_bytes` its own largest ever.

    Slab caches also say what is in the frames: `used_bytes` of objects, `object_size` in bytes, `objects` live,
    `peak_objects`, `slabs`.
    """

    bytes: int
    peak_bytes: int
    used_bytes: int | None = None
    object_size: int | None = None
    objects: int | None = None
    peak_objects: int | None = None
    slabs: int | None = None


class Snapshot(msgspec.Struct):
    """The owners at one moment: `total` low memory in bytes = `free` + the sum of the owners' `bytes`."""

    free: int
    owners: dict[str, Owner]


class LowMem(msgspec.Struct):
    """Low memory: at exit (`free`, `owners`), and `at_peak`, when free low memory was least (`min_free`). Bytes."""

    total: int
    free: int
    min_free: int
    owners: dict[str, Owner]
    at_peak: Snapshot
    scheme: dict[str, int] = {}
    """What of it is the scheme's, by structure, each at its own fullest: its fields in the kernel's structures, its own
    slab caches."""


class HighMem(msgspec.Struct):
    """High memory at exit, and how little of it was ever free (`min_free`). Bytes; `total` = `free` + the sum of the
    owners' `bytes`."""

    total: int
    free: int
    min_free: int
    owners: dict[str, Owner]


class TaskResult(msgspec.Struct):
    """One process that ran: `exit_status` as a shell shows it (128 + signal), null while it lives; `peak_rss` in
    bytes."""

    pid: int
    comm: str
    exit_status: int | None
    peak_rss: int


class AuditResult(msgspec.Struct):
    """How many times the auditor went over everything, and how often something was wrong."""

    checks: int = 0
    violations: int = 0


class Area(msgspec.Struct):
    """One line of the memory map around a crash: addresses, "rwxp", and the file or [heap], [stack]."""

    start: int
    end: int
    perms: str
    name: str


class Crash(msgspec.Struct):
    """A task killed by its own fault: siginfo's `code` and `address`, the 16 registers in the order of
    `sandbox.lab.crash.REGISTERS`, `code_bytes` from EIP (empty if unreadable), and the task's areas."""

    pid: int
    comm: str
    signal: int
    code: int
    address: int
    registers: list[int]
    code_bytes: bytes
    areas: list[Area]


class Pages(NamedTuple):
    """Digests of pages that are not all zeros: their `numbers` as 32-bit integers, ascending, and 8 bytes of digest for
    each."""

    numbers: bytes
    digests: bytes


class SpaceMemory(NamedTuple):
    """An address space when it `ended` ("exit", "exec", "end of the run"): the process's `number`-th; its `areas` as
    lines of text, its `pages` by address >> 12."""

    pid: int
    number: int
    comm: str
    ended: str
    areas: list[str]
    pages: Pages


class FileMemory(NamedTuple):
    """A file of the guest's: `size` in bytes, `pages` by offset >> 12."""

    name: str
    size: int
    pages: Pages


class MemoryImage(NamedTuple):
    """What `memory_hash` is made of (`sandbox.lab.memhash`)."""

    spaces: list[SpaceMemory]
    files: list[FileMemory]


class PageShown(NamedTuple):
    """What `--picture` asked for, as it was `wanted` ("2:0x8050000@peak"): its `picture` at the `moment` ("as sh[2]
    exits"), with the `names` of address spaces by kernel address; or None, for a `reason`."""

    wanted: str
    moment: str = ""
    picture: Picture | None = None
    names: dict[int, str] = {}  # noqa: RUF012  only read
    reason: str = ""


class Notes(msgspec.Struct):
    """What the command says after the run and the result file does not hold."""

    detail: str = ""
    """More about how the run ended: what each task waits for in a deadlock, whom the OOM killer ended."""
    signal: int | None = None
    """The signal that killed the first process, if one did."""
    oom_kills: list[str] = []
    unknown_syscalls: dict[str, int] = {}
    not_here: dict[str, int] = {}
    """Asked for and refused because the machine does not have it: "WHAT: ERRNO" -> how often."""
    crashes: list[Crash] = []
    """The first few tasks that faults of their own killed."""
    more_crashes: dict[str, int] = {}
    """The others: "NAME by SIGNAL" -> how many."""
    violations: list[str] = []
    """What the auditor found at the end."""
    file_index: str = ""
    """How the areas of a file are kept, where the scheme finds file pages by them: list, prio_tree or interval_tree."""
    pressure: str = ""
    """How `--pressure` sized the machine, in one line."""
    memory: MemoryImage | None = None
    """What `memory_hash` was made of, when it was asked for."""
    pictures: list[PageShown] = []
    """The pages that `--picture` asked for."""
    stdout: bytes | None = None
    """The guest's output when it was captured, else None."""
    stderr: bytes | None = None


class Result(msgspec.Struct):
    """The outcome of a run. Times: `virtual_ns` of the emulated machine, `wall_s` of the host."""

    exit_status: int
    scheme: str
    config: dict[str, Any]
    virtual_ns: int
    wall_s: float
    ended: str
    vmstat: dict[str, int]
    meters: dict[str, int]
    lowmem: LowMem
    tasks: list[TaskResult]
    audit: AuditResult
    event_hash: str | None
    walk_lengths: dict[str, dict[str, int]] = {}
    """For the walks of the "scheme" and of the "file" index: how many objects were looked at ("0", "1", "2-3", "4-7",
    ...) -> walks."""
    memory_hash: str | None = None
    oom: list[OomReport] = []
    """The first few times that memory ran out, and the last."""
    highmem: HighMem | None = None
    """None: the machine has low memory only."""
    """Over the contents of all memory and files at their end, when asked for (`Machine.run(hash_memory=True)`)."""
    notes: Notes = msgspec.field(default_factory=Notes)

    def __repr__(self) -> str:
        return (
            f"<Result: {self.ended}, status {self.exit_status}; scheme {self.scheme}, {self.virtual_ns / 1e9:.3f} "
            f"s virtual; print() shows the summary>"
        )

    def __str__(self) -> str:
        """The summary that `rmapbox run` prints."""
        from sandbox.lab.summary import summary

        return summary(self)

    def _repr_html_(self) -> str:
        """The same summary, for notebooks."""
        return f"<pre>{html.escape(str(self))}</pre>"

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts and numbers under exactly the documented keys."""
        return {name: msgspec.to_builtins(getattr(self, name)) for name in self.__struct_fields__ if name != "notes"}

    def to_json(self) -> bytes:
        """The text that `--json` writes."""
        return msgspec.json.format(msgspec.json.encode(self.as_dict()), indent=2) + b"\n"

    @property
    def stdout(self) -> bytes | None:
        """The guest's standard output, when `Machine.run` captured it."""
        return self.notes.stdout

    @property
    def stderr(self) -> bytes | None:
        """The guest's standard error, when `Machine.run` captured it."""
        return self.notes.stderr


class ComparisonFile(msgspec.Struct):
    """What `rmapbox compare --json` wrote, as far as its results go: `schemes` name the `results`, in order."""

    schemes: list[str]
    results: list[Result]


def read_results(path: str) -> list[tuple[str, Result]]:
    """The results in `path`, each with a name: of one run (the name is the path), or of a comparison (path and scheme).
    Raises `ConfigError`."""
    try:
        return [(path, read_result(path))]
    except ConfigError as error:
        try:
            with open(path, "rb") as file:
                found = msgspec.json.decode(file.read(), type=ComparisonFile)
        except (OSError, msgspec.DecodeError, msgspec.ValidationError):
            raise error from None
    return [(f"{path}, {scheme}", result) for scheme, result in zip(found.schemes, found.results)]


def read_result(path: str) -> Result:
    """The result that `--json` wrote to `path`. Raises `ConfigError` when it is not one."""
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Result)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read it: {(error.strerror or str(error)).lower()}") from None
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"{path}: not a result of `rmapbox run --json` or `rmapbox compare --json`: {error}"
        ) from None
