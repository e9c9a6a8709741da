"""What one run is made of: the settings of the machine, the scheme and the guest.

`Config` is the one place where settings are checked. The command line, `rmapbox.toml` and Python all build it; a wrong
value raises `ConfigError`, one line that names the setting and what would be right. The name in that line is the one
the user wrote: `--memory` on the command line, `rmapbox.toml: machine.memory` in the file, `memory` in Python.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterable
from typing import Any

import msgspec

from mmcore.errors import ConfigError
from mmcore.memory import MAX_MEMORY, MIN_LOWMEM, MIN_MEMORY
from mmcore.physical.zones import LOWMEM_BYTES
from sandbox.hostlimits import deleted_directory
from sandbox.schemes.registry import check_name

PAGE_SIZE = 4096
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

MAX_SWAP = 64 * GIB
"""Swap slots fit the 24 offset bits of a 2-level PTE's swap entry. Linux: include/asm-i386/pgtable.h, 2.6.7."""
MAX_SWAP_AREAS = 31  # types of swap entries, but for that of migration. Linux: MAX_SWAPFILES, 2.6.18
MAX_SWAP_PRIORITY = 0x7FFF  # Linux: SWAP_FLAG_PRIO_MASK

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_ENV = {"HOME": "/root", "PATH": DEFAULT_PATH, "LC_ALL": "C", "TZ": "UTC"}

CHOICES = {
    "paging": ("pae", "2level"),
    "clock": ("virtual", "host"),
    "audit": ("off", "end", "full"),
    "layout": ("topdown", "legacy"),
    "accounting": ("isolated", "historic"),
}

_SIZE = re.compile(r"(\d+)\s*(?:([KMGT])(?:i?B)?|B)?", re.IGNORECASE)
_SHIFT = {"K": 10, "M": 20, "G": 30, "T": 40}


class BadValue(ConfigError):
    """A setting with a wrong value; `field` is its name in `Config`, `text` what is wrong and what would be right."""

    def __init__(self, field: str, text: str):
        super().__init__(f"{field} {text}")
        self.field = field
        self.text = text


def parse_size(value: int | str, field: str = "size") -> int:
    """Bytes meant by `value`: an int, or a string such as "65536", "64K", "64M", "1G" ("64MB" and "64MiB" too; all
    binary).

    Raises `BadValue` for anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise BadValue(field, f"{value!r} is not a size: write bytes, or a whole number with K, M or G, as in 64M")
    return int(match[1]) << _SHIFT.get((match[2] or "").upper(), 0)


def format_size(size: int) -> str:
    """`size` bytes as the shortest exact string that `parse_size` reads back: 67108864 -> "64M"."""
    for unit, shift in (("G", 30), ("M", 20), ("K", 10)):
        if size and not size & ((1 << shift) - 1):
            return f"{size >> shift}{unit}"
    return str(size)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint: "did you mean 'X'?" for the member of `known` closest to `word`, else the list of them all."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known are {', '.join(known)}" if known else "none is known here"


class Mount(msgspec.Struct, frozen=True):
    """A host file or directory shown to the guest at an absolute path, read-only unless `mode` is "rw"."""

    host: str
    guest: str
    mode: str = "ro"

    @classmethod
    def parse(cls, text: str) -> Mount:
        """HOST:GUEST, HOST:GUEST:ro or HOST:GUEST:rw."""
        parts = text.split(":") if isinstance(text, str) else []
        if len(parts) not in (2, 3) or not all(parts):
            raise BadValue("mounts", f"{text!r} is not a mount: write HOST:GUEST, HOST:GUEST:ro or HOST:GUEST:rw")
        return cls(*parts)

    def check(self) -> None:
        """Raises `BadValue` unless the host side is readable and the guest side can be a mount point."""
        if self.mode not in ("ro", "rw"):
            raise BadValue("mounts", f"{self.host}:{self.guest}:{self.mode}: {self.mode!r} must be ro or rw")
        names = self.guest_names()
        if not self.guest.startswith("/") or not names or "." in names or ".." in names:
            raise BadValue("mounts", f"{self.guest!r}: the guest's side is an absolute path below /, as in /data")
        gone = deleted_directory(self.host)
        if gone:
            raise BadValue("mounts", f"{self.host}: {gone}")
        if names[0] in ("proc", "sys"):
            raise BadValue(
                "mounts",
                f"{self.guest!r}: /{names[0]} is the guest kernel's own: choose a path of its own, as in /data",
            )
        if not os.path.exists(self.host):
            raise BadValue("mounts", f"{self.host}: no such file or directory on the host")
        wanted = os.R_OK | (os.W_OK if self.mode == "rw" else 0) | (os.X_OK if os.path.isdir(self.host) else 0)
        if not os.access(self.host, wanted):
            raise BadValue("mounts", f"{self.host}: this user may not {'write' if self.mode == 'rw' else 'read'} it")

    def guest_names(self) -> list[str]:
        """The components of the guest's path."""
        return [name for name in self.guest.split("/") if name]

    def __str__(self) -> str:
        return f"{self.host}:{self.guest}:{self.mode}"


class _Checked(msgspec.StructMeta):
    """Makes an unknown name among the settings an error of ours, with the nearest one, instead of a TypeError."""

    def __call__(cls, *positional: Any, **settings: Any) -> Any:  # noqa: N805  a class of classes
        for name in settings:
            if name not in cls.__struct_fields__:
                raise BadValue(name, f"is no setting: {nearest(name, cls.__struct_fields__)}")
        return super().__call__(*positional, **settings)


class Config(msgspec.Struct, kw_only=True, metaclass=_Checked):
    """Everything that decides a run, checked when it is built (`ConfigError` names the setting).

    Sizes are bytes, or strings such as "64M"; `swap` may be several areas by commas, each with a priority where
    wanted, as in "64M:5,32M": it is then their sum, and `swap_areas` has each. `env` is added to a small fixed
    environment (nothing of the host's leaks in). `page_cluster` None is the kernel's choice (2 below 16 MB, else 3).
    RAM beyond `lowmem` is high memory; with `highpte` page tables prefer it. `smp` and `cache_line` change only sizes
    of structures. `stdin` is the path of a host file, or bytes, delivered whole; None is the command's own input.
    `seed` turns address-space randomisation on and feeds it; without a seed nothing is random. `dirty_tracking` notices
    the first write to each page of a shared file mapping, as 2.6.19 and later do. `time_limit` is wall seconds.
    """

    memory: int | str = 64 * MIB
    swap: int | str = 128 * MIB
    swap_areas: tuple[tuple[int, int | None], ...] = ()
    paging: str = "pae"
    lowmem: int | str = LOWMEM_BYTES
    highpte: bool = False
    overcommit: int = 0
    overcommit_ratio: int = 50
    swappiness: int = 60
    page_cluster: int | None = None
    layout: str = "topdown"
    smp: bool = False
    cache_line: int = 32
    clock: str = "virtual"
    seed: int | None = None
    dirty_tracking: bool = False
    time_limit: float | None = None
    scheme: str = "anon_vma"
    scheme_options: dict[str, Any] = {}
    accounting: str = "isolated"
    mounts: tuple[Mount | str, ...] = ()
    env: dict[str, str] = {}
    stdin: str | bytes | None = None
    audit: str = "off"

    def __post_init__(self) -> None:
        self._sizes()
        self._choices()
        if self.seed is not None:
            self._whole("seed", 0, (1 << 63) - 1)
        if self.time_limit is not None:
            self._time_limit()
        if not isinstance(self.scheme, str) or not self.scheme:
            raise BadValue("scheme", "must be a scheme's name, or path/to/file.py:Class")
        check_name(self.scheme)
        if not isinstance(self.scheme_options, dict):
            raise BadValue("scheme_options", "must be a table of the scheme's own options")
        self._mounts()
        self._env()
        self._stdin()

    def _sizes(self) -> None:
        given = self.memory
        self.memory = self._pages("memory")
        self._swap()
        self.lowmem = self._pages("lowmem")
        if self.memory < MIN_MEMORY:
            text = f"{given} bytes (there is no unit)" if str(given).strip().isdigit() else str(given)
            raise BadValue("memory", f"{text} is too small to boot: give at least {format_size(MIN_MEMORY)}")
        most = MAX_MEMORY.get(self.paging, self.memory)  # paging is checked next
        if self.memory > most:
            raise BadValue(
                "memory",
                f"{format_size(self.memory)} is more than {self.paging} page tables can name: give at most "
                f"{format_size(most)}" + (", or pae paging" if self.paging == "2level" else ""),
            )
        if not MIN_LOWMEM <= self.lowmem <= LOWMEM_BYTES:
            raise BadValue(
                "lowmem",
                f"{format_size(self.lowmem)} is not from {format_size(MIN_LOWMEM)} to {format_size(LOWMEM_BYTES)}, "
                "which is what a kernel at 0xC0000000 can have",
            )

    def _swap(self) -> None:
        """Areas as they were given, or one; kept when only another setting changes."""
        if isinstance(self.swap, str) and ("," in self.swap or ":" in self.swap):
            self.swap_areas = tuple(self._swap_area(text.strip()) for text in self.swap.split(","))
            self.swap = sum(size for size, _ in self.swap_areas)
        size = self.swap = self._pages("swap")
        if sum(each for each, _ in self.swap_areas) != size or not self.swap_areas:
            self.swap_areas = ((size, None),)
        if size > MAX_SWAP:
            raise BadValue(
                "swap",
                f"{format_size(size)} is more than swap entries can number: give at most {format_size(MAX_SWAP)}",
            )
        if len(self.swap_areas) > MAX_SWAP_AREAS:
            raise BadValue("swap", f"{len(self.swap_areas)} areas are more than there can be: at most {MAX_SWAP_AREAS}")

    @staticmethod
    def _swap_area(text: str) -> tuple[int, int | None]:
        size, _, priority = text.partition(":")
        pages = parse_size(size, "swap") & ~(PAGE_SIZE - 1)
        if pages < 2 * PAGE_SIZE:
            raise BadValue("swap", f"{text!r}: an area needs two pages at least, as in 64M or 64M:5")
        if not priority and ":" not in text:
            return pages, None
        if not priority.isdecimal() or int(priority) > MAX_SWAP_PRIORITY:
            raise BadValue("swap", f"{text!r}: a priority is a whole number from 0 to {MAX_SWAP_PRIORITY}, as in 64M:5")
        return pages, int(priority)

    def _choices(self) -> None:
        for field, allowed in CHOICES.items():
            value = getattr(self, field)
            if value not in allowed:
                raise BadValue(field, f"{value!r} is not one of {', '.join(allowed)}")
        self._whole("overcommit", 0, 2)
        self._whole("swappiness", 0, 100)
        self._whole("overcommit_ratio", 0, 1000)
        if self.page_cluster is not None:
            self._whole("page_cluster", 0, 8)
        if self.cache_line not in (32, 64, 128):
            raise BadValue("cache_line", f"{self.cache_line!r} is not one of 32, 64, 128")
        for field in ("smp", "highpte", "dirty_tracking"):
            if not isinstance(getattr(self, field), bool):
                raise BadValue(field, f"{getattr(self, field)!r} is not true or false")

    def _mounts(self) -> None:
        """No two at one place."""
        mounts = [mount if isinstance(mount, Mount) else Mount.parse(mount) for mount in self.mounts]
        taken: dict[tuple[str, ...], Mount] = {}
        for mount in mounts:
            mount.check()
            other = taken.setdefault(tuple(mount.guest_names()), mount)
            if other is not mount:
                raise BadValue(
                    "mounts",
                    f"{mount.host}:{mount.guest}: {other.host} is mounted there already: choose another path for one "
                    f"of them",
                )
        self.mounts = tuple(mounts)

    def _pages(self, field: str) -> int:
        size = parse_size(getattr(self, field), field)
        if 0 < size < PAGE_SIZE:
            raise BadValue(
                field,
                f"{getattr(self, field)} is {size} bytes, less than a page: add the unit that is missing, as in "
                f"{size}M",
            )
        return size & ~(PAGE_SIZE - 1)

    def _whole(self, field: str, low: int, high: int) -> None:
        value = getattr(self, field)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise BadValue(field, f"{value!r} is not a whole number from {low} to {high}")

    def _time_limit(self) -> None:
        value = self.time_limit
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e9:
            raise BadValue("time_limit", f"{value!r} is not a number of seconds above 0")
        self.time_limit = float(value)

    def _env(self) -> None:
        if not isinstance(self.env, dict):
            raise BadValue("env", "must be a table of names and values")
        for name, value in self.env.items():
            if not isinstance(name, str) or not name or "=" in name or not isinstance(value, str):
                raise BadValue("env", f"{name!r} = {value!r}: names and values are strings, and a name holds no '='")
            if "\0" in name + value:
                raise BadValue("env", f"{name!r}: an environment string cannot hold a NUL")

    def _stdin(self) -> None:
        source = self.stdin
        if isinstance(source, os.PathLike):
            source = self.stdin = os.fspath(source)
        if source is None or isinstance(source, bytes):
            return
        if not isinstance(source, str):
            raise BadValue("stdin", f"{source!r} is neither a path nor bytes")
        reason = unreadable(source)
        if not reason and stat.S_ISCHR(os.stat(source).st_mode) and source != os.devnull:
            reason = "is a device, and the input is read whole: give a file or a pipe"
        if reason:
            raise BadValue("stdin", f"{source}: {reason}")

    def mount_list(self) -> list[Mount]:
        """`mounts`, each one parsed."""
        return [mount for mount in self.mounts if isinstance(mount, Mount)]

    def environment(self) -> dict[str, str]:
        """The guest's whole environment: the fixed one with `env` over it, in a fixed order."""
        return {**DEFAULT_ENV, **dict(sorted(self.env.items()))}

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values for the result: sizes in bytes, mounts as HOST:GUEST:mode, stdin as its path
        (or its length when it was given as bytes)."""
        values = {field: getattr(self, field) for field in self.__struct_fields__}
        values["mounts"] = [str(mount) for mount in self.mounts]
        values["swap_areas"] = [list(area) for area in self.swap_areas]
        if isinstance(self.stdin, bytes):
            values["stdin"] = f"<{len(self.stdin)} bytes>"
        return values

    def replace(self, **changes: Any) -> Config:
        """A copy with `changes`, checked anew."""
        return Config(**{**{field: getattr(self, field) for field in self.__struct_fields__}, **changes})


def unreadable(path: str) -> str | None:
    """Why the host file `path` cannot be read, in words for the end of an error line, or None when it can."""
    if not os.path.exists(path):
        return "no such file"
    if os.path.isdir(path):
        return "is a directory, not a file"
    if not os.access(path, os.R_OK):
        return "this user may not read it (chmod +r, or run as its owner)"
    return None
