"""Files as programs in the field met them: what native Linux answers is what is answered here."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from sandbox.config import Mount
from sandbox.result import Result
from tests.guests.native import run_native, why_not_native

FIELD = Path(__file__).with_name("field")


def program(name: str) -> Path:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    return toolchain.compile_c(FIELD / f"{name}.c")


def boxed(name: str, *arguments: str, **settings: object) -> Result:
    config = Config(**{"stdin": b"", "time_limit": 60, "audit": "end", **settings})  # type: ignore[arg-type]
    result = Machine(config).run([str(program(name)), *arguments], capture=True)
    assert result.exit_status == 0 and result.audit.violations == 0, result.notes.detail
    return result


def lines(result: Result) -> list[str]:
    return result.stdout.decode().splitlines()


def native(name: str, *arguments: str, root: bool = False, cwd: Path | None = None) -> list[str]:
    reason = why_not_native() or ("natively it asks what root may do" if root and os.geteuid() else "")
    if reason:
        pytest.skip(reason)
    return run_native(program(name), arguments, cwd=cwd).stdout.decode().splitlines()


def test_a_running_program_is_not_written(tmp_path: Path) -> None:
    result = boxed("etxtbsy")
    assert lines(result) == ["exec while open for writing: Text file busy", "open running for writing: Text file busy",
                             "open running truncating: Text file busy", "truncate running: Text file busy", "creat running: Text file busy",
                             "after: ok"]
    assert lines(result) == native("etxtbsy", cwd=tmp_path)


def test_privileges_holes_fifos_links_pipes(tmp_path: Path) -> None:
    """Who writes keeps or loses set-user-ID; SEEK_DATA; mkfifo; the size of descriptor links; F_SETPIPE_SZ."""
    result = boxed("filemisc", "/tmp")
    if not os.path.isdir("/dev/shm"):
        pytest.skip("natively it needs a tmpfs")
    place = Path("/dev/shm") / f"rmapbox-{os.getpid()}"
    place.mkdir()
    try:
        place.chmod(0o777)
        assert lines(result) == native("filemisc", str(place), root=True)
    finally:
        for left in place.iterdir():
            left.unlink()
        place.rmdir()


def test_a_fifo_in_a_writable_mount(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    result = boxed("filemisc", "/m", mounts=(Mount(str(tmp_path), "/m", "rw"),))
    said = lines(result)
    at = said.index("mkfifo ok")
    assert said[at:at + 3] == ["mkfifo ok", "again File exists", "mode 10640 size 0"]
    assert said[at + 4:at + 7] == ["read 7 through", "mode 10600", "listed 1, rename ok, unlink ok"]
    assert not any(stat.S_ISFIFO(path.lstat().st_mode) for path in tmp_path.iterdir())
