"""What the machine has not: one list in the docs, held against the machine, and the line of the summary that names what a program asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandbox import Config, Machine
from sandbox.fs import procfs
from sandbox.fs.namei import walk
from sandbox.lab.summary import summary
from sandbox.syscalls import load_all, table
from tests.guests.test_field_proc import program
from tests.sandbox.fs_world import World

DOC = (Path(__file__).parents[2] / "docs" / "missing.md").read_text()


def section(title: str) -> list[list[str]]:
    """The rows of a section's table, as lists of cells."""
    text = DOC.split(f"## {title}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("|")][2:]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_missing_call_stands_in_the_list() -> None:
    load_all()
    listed = [name for _, cell in section("System calls that answer ENOSYS") for name in names(cell)]
    assert len(listed) == len(set(listed))
    quiet = {"clone3", "rseq", "modify_ldt"}
    assert set(listed) - quiet == set(table.KNOWN.values())
    assert quiet <= set(table.names.values())
    assert not [nr for nr in table.KNOWN if table.table[nr] is not None], "a call that is there now"


def test_every_missing_file_is_missing() -> None:
    world = World()
    there = {f"{where}/{entry.decode()}" for where in ("/proc", "/proc/sys/kernel", "/proc/sys/fs", "/proc/sys/vm") for entry in listing(world, where)}
    there |= {f"/proc/PID/{entry.decode()}" for entry in procfs._NUMBERS}
    assert "/proc/PID/smaps" in there and "/proc/meminfo" in there
    rows = {line.split(b":")[0].decode() for line in world.vfs.read_file("/proc/meminfo").splitlines()}
    for where, cell in section("Files of /proc"):
        for name in names(cell):
            assert name not in rows if "meminfo" in where else f"{names(where)[0]}/{name}" not in there, f"{where}: {name} is there"


def listing(world: World, path: str) -> list[bytes]:
    dentry = walk(world.task, path.encode())
    return [name for name, _, _ in dentry.inode.entries(dentry)]


@pytest.mark.parametrize("quiet", [False, True])
def test_the_summary_names_what_was_asked_for(quiet: bool) -> None:
    result = Machine(Config(stdin=b"", time_limit=60)).run([str(program("asks")), *(["nothing"] if quiet else [])], capture=True)
    lines = [line.removeprefix("not here    ") for line in summary(result).splitlines() if line.startswith("not here")]
    assert lines == ([] if quiet else [
        "system calls answered ENOSYS: epoll_create1 x1, mount x1", "MADV_GUARD_INSTALL (madvise): EINVAL x1", "MREMAP_DONTUNMAP (mremap): EINVAL x1",
        "PR_SET_SECCOMP (prctl): EINVAL x1", "huge pages (mmap): ENOMEM x1", "namespaces (clone): EINVAL x1", "pidfds (waitid): EINVAL x1",
        "priority inheritance (futex): ENOSYS x1", "sockets of AF_INET: EAFNOSUPPORT x1", "sockets of AF_UNIX: EAFNOSUPPORT x3"])
    refused = " ".join(" ".join(row) for row in section("What calls refuse"))
    for line in lines[1:]:
        what, call = re.match(r"(\S+)[^(]*(?:\((\w+)\))?", line).groups()  # type: ignore[union-attr]
        assert what in refused or call in refused, line
