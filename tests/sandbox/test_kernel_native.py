"""What native Linux prints, the sandbox prints: signals, processes, time, futexes.

Each program's output on a real kernel is recorded beside its source; where the host runs i386 programs it is checked
again.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import toolchain
from tests.guests.native import native_agrees, run_native, why_not_native
from tests.sandbox.box import Box

PROGRAMS = Path(__file__).parent / "programs"
NAMES = sorted(path.stem for path in PROGRAMS.glob("*.c"))


def build(name: str) -> Path:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    return toolchain.compile_c(PROGRAMS / f"{name}.c")


def recorded(name: str) -> list[str]:
    return (PROGRAMS / f"{name}.out").read_text().splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_native_prints_what_is_recorded(name: str) -> None:
    reason = why_not_native()
    if reason:
        pytest.skip(reason)
    result = native_agrees(lambda: run_native(build(name)), (PROGRAMS / f"{name}.out").read_bytes())
    assert result.status == 0, result.stderr
    assert result.stdout.decode().splitlines() == recorded(name)


@pytest.mark.parametrize("paging", ["pae", "2level"])
@pytest.mark.parametrize("name", NAMES)
def test_sandbox_prints_the_same(name: str, paging: str) -> None:
    box = Box(paging=paging, time_limit=60)
    ending = box.run(build(name))
    assert box.out.splitlines() == recorded(name)
    assert (ending.kind, ending.status) == ("exited", 0)


@pytest.mark.parametrize("name", NAMES)
def test_runs_repeat(name: str) -> None:
    """Equal inputs, equal event hash; and the machine's memory is whole again once every task is gone."""
    hashes = []
    for _ in range(2):
        box = Box(time_limit=60)
        box.run(build(name))
        hashes.append(box.kernel.event_hash())
        assert not box.mem.mms
        assert box.kernel.objects.task_struct.objects == 0
        assert box.kernel.objects.sighand.objects == 0
        assert box.kernel.objects.signal.objects == 0
        assert box.kernel.objects.files.objects == 0
        assert box.kernel.objects.fs.objects == 0
        assert box.kernel.objects.sigqueue.objects == 0
        assert not box.kernel.futexes
    assert hashes[0] == hashes[1]
