"""Processes and signals: limits that hold, deeds that stand, what a program is told about itself and may do to others,
as natively."""

from __future__ import annotations

import io
import os
import platform
import re
import shutil
import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from sandbox import Config, Machine
from tests.guests.native import native_agrees, run_native, why_not_native
from tests.guests.test_proc import PROGRAMS, boxed, natively, program


@pytest.mark.parametrize("name", ["badptid", "e2big", "lostresult", "overrun", "sigpending", "timersig"])
def test_as_natively(name: str) -> None:
    result = boxed(name)
    if name == "timersig" and tuple(map(int, platform.release().split("-")[0].split(".")[:2])) < (6, 13):
        pytest.skip("before Linux 6.13 a signal outlived its timer")
    assert result.stdout.decode().splitlines() == natively(name)


def test_results_that_wait_for_a_page() -> None:
    """Where the result's page has to come in first the call waits before it does anything."""
    result = boxed("lostresult", scheme="pte_chain", paging="2level", memory="6M", overcommit=1)
    assert result.stdout.decode().splitlines() == natively("lostresult")


def test_argv_0_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the user typed: a path of the host, a path from here, a C file, a name."""
    path = program("reexec")
    assert natively("reexec") == ["by its path", "again"]
    shutil.copy(path, tmp_path / "here")
    shutil.copy(PROGRAMS / "reexec.c", tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    for word, mounts, called in (
        (str(path), [], "path"),
        ("./here", [], "path"),
        (f"../{tmp_path.name}/here", [], "path"),
        ("reexec.c", [], "path"),
        ("here", [], "name"),
        ("here", [f"{tmp_path}/empty:/bin"], "path"),
        (str(path), [f"{path.parent}:{path.parent}"], "path"),
    ):
        result = Machine(Config(stdin=b"", time_limit=60, mounts=mounts)).run([word], capture=True)
        assert result.stdout.decode().splitlines() == [f"by its {called}", "again"], word


def cores_natively() -> bool:
    """Does this host leave cores as a fresh Linux would, by the name "core" in the working directory, and may we raise
    the limit?"""
    kernel = Path("/proc/sys/kernel")
    return (
        not os.geteuid()
        and (kernel / "core_pattern").read_text() == "core\n"
        and (kernel / "core_uses_pid").read_text() == "0\n"
    )


def test_who_leaves_a_core(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    result = Machine(Config(stdin=b"", time_limit=60, mounts=[f"{tmp_path}/here:/here:rw"])).run(
        [str(program("coredump")), "/here"], capture=True
    )
    lines = result.stdout.decode().splitlines()
    assert (
        lines[0] == "signal 6: status 86 code 3 value 6, file 1 mode 600"
        and lines[3] == "signal 15: status f code 2 value 15, file 0 mode 0"
    )
    assert boxed("coredump_flag").stdout == b"6 core 1\n"
    core = (tmp_path / "here" / "core").read_bytes()
    assert b"written in its own memory" in core and b"written in shared memory" in core
    if not cores_natively():
        pytest.skip("this host leaves its cores elsewhere, or raising the limit is not for us")
    (tmp_path / "native").mkdir()
    assert natively("coredump", str(tmp_path / "native")) == lines
    assert set(elements(core)) <= set(elements((tmp_path / "native" / "core").read_bytes()))


def elements(core: bytes) -> list[tuple[object, ...]]:
    """What a core file has of all that a native one has: kinds and sizes of notes, and the segments of the program and
    of what it wrote."""
    elf = ELFFile(io.BytesIO(core))
    found: list[tuple[object, ...]] = []
    for segment in elf.iter_segments():
        if segment["p_type"] == "PT_NOTE":
            found += [
                (note["n_type"], note["n_descsz"])
                for note in segment.iter_notes()
                if note["n_type"] not in ("NT_AUXV", "NT_FILE")
            ]
        elif segment["p_vaddr"] < 0x50000000:
            found.append((segment["p_vaddr"], segment["p_memsz"], segment["p_filesz"], segment["p_flags"]))
    return found


@pytest.mark.parametrize("scheme", ["anon_vma", "pte_chain"])
def test_core_of_what_is_on_swap(scheme: str, tmp_path: Path) -> None:
    result = boxed(
        "core_swapped", "/here", memory="8M", swap="64M", scheme=scheme, overcommit=1, mounts=[f"{tmp_path}:/here:rw"]
    )
    assert result.stdout == b"8b\n" and result.vmstat["pswpout"] > 500
    (core,) = tmp_path.iterdir()
    assert re.fullmatch(r"%of\.core_swapped-\w+\.3\.11\.0", core.name)
    data = core.read_bytes()
    (area,) = [segment for segment in ELFFile(io.BytesIO(data)).iter_segments() if segment["p_vaddr"] == 0x50000000]
    words = struct.unpack_from(f"<{area['p_filesz'] // 4}I", data, area["p_offset"])
    assert words[7::1024] == tuple(range(1, 2601))
    (notes,) = [segment for segment in ELFFile(io.BytesIO(data)).iter_segments() if segment["p_type"] == "PT_NOTE"]
    status = data[notes["p_offset"] + 20 :][:144]
    assert struct.unpack_from("<i", status, 24) == (3,) and struct.unpack_from("<I", status, 72 + 12) == (0x1234567,)


def test_another_users_process_and_prctl_as_natively() -> None:
    """EPERM for another user's process; membarrier's registrations; close_range that unshares; subreaper, timer slack,
    rdtsc, arguments."""
    result = boxed("others")
    lines = result.stdout.decode().splitlines()
    assert result.exit_status == 0
    assert "user at root: robust Operation not permitted, setaffinity Operation not permitted" in lines[1]
    assert (
        "inherited 0, adopted by the subreaper 1" in lines
        and "reaped it: 1 status 7; none left No child process" in lines
    )
    if why_not_native() or os.geteuid():
        pytest.skip(why_not_native() or "natively it asks what root may do")
    assert lines == native_agrees(lambda: run_native(program("others")), result.stdout).stdout.decode().splitlines()


def host(name: str, tmp_path: Path, *arguments: str) -> list[str]:
    if why_not_native():
        pytest.skip(why_not_native())
    return run_native(program(name), arguments, cwd=tmp_path, timeout=60).stdout.decode().splitlines()


def test_the_core_flag_is_set_as_natively(tmp_path: Path) -> None:
    """Natively the flag says that a core went to a file or a program; with a pattern that is neither it is not set."""
    ours = boxed("coredump_flag").stdout.decode().splitlines()
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    if pattern.startswith(("|", "/", "@", "\n")) or os.geteuid():
        pytest.skip(f"this host leaves its cores elsewhere: {pattern.strip()}")
    assert ours == host("coredump_flag", tmp_path)


def test_the_waiter_gets_the_lock_as_natively(tmp_path: Path) -> None:
    assert boxed("starve", "900").stdout.decode().splitlines() == host("starve", tmp_path, "900")
