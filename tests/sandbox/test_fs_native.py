"""Whole programs that print the answer of every file system call: here as natively, line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.toolchain import compile_c
from tests.guests.native import NativeResult, native_agrees, run_native, why_not_native
from tests.sandbox.box import Box

SOURCES = Path(__file__).parent / "c"


@pytest.mark.parametrize("paging", ["pae", "2level"])
@pytest.mark.parametrize("name", ["fs_names", "fs_data"])
def test_every_answer_is_linux(name: str, paging: str, tmp_path: Path) -> None:
    reason = why_not_native()
    shm = Path("/dev/shm")
    if reason or not shm.is_dir():
        pytest.skip(reason or "no /dev/shm: the probes compare with a native tmpfs")
    import os
    import shutil
    import tempfile

    if os.geteuid():
        pytest.skip("the probes make device nodes and change owners: run as root")
    program = compile_c(SOURCES / f"{name}.c", flags=(f"-I{SOURCES}",))
    box = Box(paging=paging)
    box.vfs.fs.chdir(box.vfs.mkdir(b"/tmp/work"))
    ending = box.run(program)

    def on_tmpfs() -> NativeResult:
        work = tempfile.mkdtemp(dir=shm)
        try:
            return run_native(program, cwd=work)
        finally:
            shutil.rmtree(work)

    native = native_agrees(on_tmpfs, box.out.encode())
    assert box.out.splitlines() == native.stdout.decode().splitlines()
    assert ending.status == native.status == 0
