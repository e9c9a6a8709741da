"""What the machine has not: one list in the docs, held against the machine, and the line of the summary that names what
a program asked for."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from sandbox.fs import procfs
from sandbox.fs.namei import walk
from sandbox.kernel import table
from sandbox.lab.summary import summary
from sandbox.syscalls import load_all
from tests.guests.test_proc import natively, program
from tests.sandbox.fs_world import World

DOC = (Path(__file__).parents[2] / "docs" / "missing.md").read_text()


NEWEST = (6, 18)  # the Linux whose calls and files the list knows


def section(title: str) -> list[list[str]]:
    """The rows of a section's table, as lists of cells."""
    text = DOC.split(f"## {title}\n")[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("|")
    ][2:]


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
    there = {
        f"{where}/{entry.decode()}"
        for where in ("/proc", "/proc/sys/kernel", "/proc/sys/fs", "/proc/sys/vm")
        for entry in listing(world, where)
    }
    there |= {f"/proc/PID/{entry.decode()}" for entry in procfs._NUMBERS}
    assert "/proc/PID/smaps" in there and "/proc/meminfo" in there
    rows = {line.split(b":")[0].decode() for line in world.vfs.read_file("/proc/meminfo").splitlines()}
    for where, cell in section("Files of /proc"):
        if "status" in where:
            continue  # a task is needed to see them: test_rows_of_status
        for name in names(cell):
            assert name not in rows if "meminfo" in where else f"{names(where)[0]}/{name}" not in there, (
                f"{where}: {name} is there"
            )


def test_every_call_of_i386_is_there_or_listed() -> None:
    """By the numbers that the host's headers give for i386, whatever this machine's own table says."""
    load_all()
    compiler = toolchain.find_compiler()
    if compiler is None:
        pytest.skip(f"no compiler to ask for the numbers: {toolchain.REMEDY}")
    asked = subprocess.run(
        ["cc", "-E", "-dM", "-"], input="#include <asm/unistd_32.h>\n", capture_output=True, text=True, check=False
    )
    numbers = {int(nr): name for name, nr in re.findall(r"#define __NR_(\w+) (\d+)$", asked.stdout, re.M)}
    if len(numbers) < 400:
        pytest.skip("this host has no asm/unistd_32.h")
    newest = max(table.KNOWN)
    assert not [
        f"{nr} {name}"
        for nr, name in numbers.items()
        if nr <= newest and table.table[nr] is None and nr not in table.KNOWN
    ]
    assert not [
        f"{nr} {name}, not {table.name_of(nr)}"
        for nr, name in numbers.items()
        if nr <= newest and table.name_of(nr) != name
    ]


def test_every_file_of_a_native_proc_is_there_or_listed() -> None:
    if tuple(map(int, platform.release().split("-")[0].split(".")[:2])) > NEWEST:
        pytest.skip("a Linux newer than the list")
    world = World()
    rows = {where: set(names(cell)) for where, cell in section("Files of /proc")}
    there = {"`/proc/PID`": {entry.decode() for entry in procfs._NUMBERS}}
    there |= {
        f"`{where}`": {entry.decode() for entry in listing(world, where)} for where in ("/proc/sys/fs", "/proc/sys/vm")
    }
    for where, ours in there.items():
        native = set(os.listdir(where.strip("`").replace("PID", "self")))
        assert native - ours <= rows[where], where
    ours = {line.split(b":")[0].decode() for line in world.vfs.read_file("/proc/meminfo").splitlines()}
    assert {line.split(":")[0] for line in Path("/proc/meminfo").read_text().splitlines()} - ours <= rows[
        "rows of `/proc/meminfo`"
    ]


def test_rows_of_status() -> None:
    """In native's order; what native has besides is listed."""
    result = Machine(Config(stdin=b"", time_limit=60)).run([str(program("status_rows"))], capture=True)
    ours = [line.split(":")[0] for line in result.stdout.decode().splitlines()]
    missing = {name for where, cell in section("Files of /proc") if "status" in where for name in names(cell)}
    assert not missing & set(ours)
    if tuple(map(int, platform.release().split("-")[0].split(".")[:2])) > NEWEST:
        pytest.skip("a Linux newer than the list")
    native = [line.split(":")[0] for line in natively("status_rows")]
    assert set(native) - set(ours) <= missing
    assert [name for name in native if name in ours] == [name for name in ours if name in native]


def test_directories_that_stand_whole_in_the_list() -> None:
    world = World()
    for where, cell in section("All that is there"):
        assert sorted(entry.decode() for entry in listing(world, where.strip("`"))) == sorted(names(cell)), where


def test_every_refusal_for_want_of_support_is_listed() -> None:
    """Whatever the machine's text raises as NotHere stands in the document by its call; so does every option that has a
    name of its own."""
    refused = " ".join(" ".join(row) for row in section("What calls refuse"))
    root = Path(__file__).parents[2]
    found = [
        text
        for folder in ("sandbox", "mmcore")
        for path in (root / folder).rglob("*.py")
        for text in re.findall(r'NotHere\([\w.]+, f?"([^"]+)"', path.read_text())
    ]
    assert len(found) > 15
    for text in found:
        call = text.rsplit("(", 1)[-1].rstrip(")") if text.endswith(")") else text.split()[0]
        assert f"`{call}`" in refused or call in refused, text
        if text.startswith(("MADV_", "MREMAP_", "MAP_", "O_", "F_", "RENAME_")):
            assert f"`{text.split()[0]}`" in refused, text


def test_the_summary_names_what_a_mount_cannot(tmp_path: Path) -> None:
    result = Machine(Config(stdin=b"", time_limit=60, mounts=[f"{tmp_path}:/here:rw"])).run(
        [str(program("asks")), "mount", "/here"], capture=True
    )
    lines = [line.removeprefix("not here    ") for line in summary(result).splitlines() if line.startswith("not here")]
    assert lines == [
        "O_TMPFILE in a mount (open): EOPNOTSUPP x1",
        "RENAME_EXCHANGE in a mount (renameat2): EINVAL x1",
        "room for files of a mount (fallocate): EOPNOTSUPP x1",
    ]


def listing(world: World, path: str) -> list[bytes]:
    dentry = walk(world.task, path.encode())
    return [name for name, _, _ in dentry.inode.entries(dentry)]


@pytest.mark.parametrize("quiet", [False, True])
def test_the_summary_names_what_was_asked_for(quiet: bool) -> None:
    result = Machine(Config(stdin=b"", time_limit=60)).run(
        [str(program("asks")), *(["nothing"] if quiet else [])], capture=True
    )
    lines = [line.removeprefix("not here    ") for line in summary(result).splitlines() if line.startswith("not here")]
    assert lines == (
        []
        if quiet
        else [
            "system calls answered ENOSYS: epoll_create1 x1, mount x1",
            "F_DUPFD_QUERY (fcntl): EINVAL x1",
            "MADV_GUARD_INSTALL (madvise): EINVAL x1",
            "MREMAP_DONTUNMAP (mremap): EINVAL x1",
            "PR_GET_AUXV (prctl): EINVAL x1",
            "PR_SET_SECCOMP (prctl): EINVAL x1",
            "RENAME_WHITEOUT (renameat2): EINVAL x1",
            "huge pages (mmap): ENOMEM x1",
            "namespaces (clone): EINVAL x1",
            "pidfds (waitid): EINVAL x1",
            "priority inheritance (futex): ENOSYS x1",
            "sockets of AF_INET: EAFNOSUPPORT x1",
            "sockets of AF_UNIX: EAFNOSUPPORT x3",
        ]
    )
    refused = " ".join(" ".join(row) for row in section("What calls refuse"))
    for line in lines[1:]:
        what, call = re.match(r"(\S+)[^(]*(?:\((\w+)\))?", line).groups()  # type: ignore[union-attr]
        assert what in refused or call in refused, line
