"""What the host may have too little of: memory, address space, descriptors, a working directory. Told as such, with
what helps, never as a fault of ours."""

from __future__ import annotations

import errno
import mmap
import os

from mmcore.errors import ConfigError

TRANSLATOR_BYTES = 1 << 30
"""What Unicorn 2.1 reserves for translated code. Without it, it ends the process by itself."""
_SPARE_BYTES = 64 << 20
_NORESERVE = 0x4000  # missing from CPython 3.11's mmap module

_NO_MEMORY = (
    "this host gives the command not enough memory: lift `ulimit -v`, free some, or give a smaller "
    "--memory, --swap or --stdin"
)
_NO_TASKS = "this host starts no more processes or threads: raise `ulimit -u`, or end some programs"
_WORDS = {
    errno.ENOMEM: _NO_MEMORY,
    errno.EMFILE: "too many open files: raise this process's limit (ulimit -n 1024)",
    errno.ENFILE: "too many open files on this host: close some programs, or raise fs.file-max",
}


def shortage(error: BaseException) -> str | None:
    """The line to say when `error` is the host's shortage of something, else None."""
    if isinstance(error, MemoryError):
        return _NO_MEMORY
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return _NO_TASKS
    if isinstance(error, BlockingIOError) and not hasattr(error, "characters_written"):
        return _NO_TASKS  # of fork: a write that would block tells how much it has written
    if not isinstance(error, OSError):
        return None
    if isinstance(error, FileNotFoundError) and not error.filename and _gone():
        return f"the working directory was deleted: {_ELSEWHERE}"
    return _WORDS.get(error.errno or 0)


def check_address_space() -> None:
    """Raises `ConfigError` when the emulated processor would not find room in this process's address space."""
    try:
        mmap.mmap(
            -1,
            TRANSLATOR_BYTES + _SPARE_BYTES,
            mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE,
            mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
        ).close()
    except OSError as error:
        raise ConfigError(
            f"the emulated processor reserves {TRANSLATOR_BYTES >> 20} MB of address space, and this process gets no "
            f"such room "
            f"({(error.strerror or str(error)).lower()}): lift its limit (ulimit -v unlimited)"
        ) from None


_ELSEWHERE = "change into one that is there, or give absolute paths"


def _gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def deleted_directory(path: str) -> str | None:
    """Why the relative `path` leads nowhere: the working directory was deleted. None for all others."""
    return f"the working directory was deleted: {_ELSEWHERE}" if not os.path.isabs(path) and _gone() else None
