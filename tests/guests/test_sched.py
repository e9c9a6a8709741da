"""Who gets the CPU: a waiter that was woken has its turn, whatever the loop that holds the lock does meanwhile, and
nice has weight."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from sandbox.result import Result

PROGRAMS = Path(__file__).with_name("programs")
PADDINGS = range(0, 20000, 1713)  # half of them did not end in 4 s while nothing preempted

SHARES = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    volatile unsigned *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 2; i++)
        if (!fork()) {
            syscall(SYS_nice, atoi(argv[1 + i]));
            while (!shared[2]) if (++shared[i] == 20000000) shared[2] = 1;
            _exit(0);
        }
    wait(0); wait(0);
    printf("%u %u\n", shared[0], shared[1]);
    return 0;
}
"""


def boxed(program: Path, *arguments: object, **settings: object) -> Result:
    config = Config(**{"stdin": b"", "time_limit": 20, **settings})  # type: ignore[arg-type]
    return Machine(config).run([str(program), *map(str, arguments)], capture=True)


@pytest.fixture(scope="module")
def turns() -> Path:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    return toolchain.compile_c(PROGRAMS / "turns.c")


@pytest.mark.parametrize("kind", ["record", "flock", "futex"])
def test_a_woken_waiter_has_its_turn(turns: Path, kind: str) -> None:
    """Within a few slices: the loop's turns times their length have a bound."""
    for padding in PADDINGS:
        result = boxed(turns, kind, padding)
        assert result.exit_status == 0, (padding, result.notes.detail)
        assert result.virtual_ns < 150_000_000, padding


def test_lock2_of_will_it_scale(turns: Path) -> None:
    """The program that showed it, through the runtime's own fcntl."""
    program = toolchain.compile_c(PROGRAMS / "starve.c")
    for padding in (1, 900, 5139, 8565, 17130):
        result = boxed(program, padding)
        assert result.stdout == b"the child had it\n" and result.virtual_ns < 150_000_000, padding


def test_a_run_is_repeated(turns: Path) -> None:
    first, again = (boxed(turns, "record", 900).event_hash for _ in range(2))
    assert first is not None and first == again


def test_three_waiters_and_the_loop(turns: Path) -> None:
    """All were woken and all are owed: they go in the order of their wake-up."""
    for padding in PADDINGS[1:]:
        result = boxed(turns, "record", padding, 3)
        assert result.exit_status == 0, (padding, result.notes.detail)
        assert result.virtual_ns < 300_000_000, padding


@pytest.mark.parametrize(("nice", "least", "most"), [((0, 0), 0.7, 1.4), ((0, 19), 6.0, 14.0), ((-20, 0), 1.4, 2.8)])
def test_nice_has_weight(tmp_path: Path, nice: tuple[int, int], least: float, most: float) -> None:
    """Shares as 2.6.7's time slices: 200, 102 and 10 ms at nice -20, 0 and 19."""
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    source = tmp_path / "shares.c"
    source.write_text(SHARES)
    one, two = map(int, boxed(toolchain.compile_c(source), *nice).stdout.split())
    assert least < one / two < most
