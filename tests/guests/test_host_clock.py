"""`--clock host`: the guest measures wall time. What the disk would have taken is no part of it; what the guest itself
slept is."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain

PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static long long now(void) { int t[2]; syscall(SYS_clock_gettime, 1, t); return t[0] * 1000000000LL + t[1]; }
int main(int argc, char **argv)
{
    int pages = atoi(argv[1]), rounds = atoi(argv[2]), second[2] = {1, 0};
    char *p = mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long long start = now();
    pid_t sleeper = fork();
    if (!sleeper) {
        syscall(SYS_nanosleep, second, 0);
        printf("slept %lld\n", now() - start);
        return 0;
    }
    if (!rounds) wait(0);
    start = now();
    for (int k = 0; k < rounds; k++)
        for (int i = 0; i < pages; i++) p[i * 4096] += 1;
    printf("worked %lld\n", now() - start);
    wait(0);
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    source = tmp_path_factory.mktemp("clock") / "swaps.c"
    source.write_text(PROGRAM)
    return toolchain.compile_c(source)


@pytest.mark.parametrize("scheme", ["anon_vma", "pte_chain"])
def test_a_guest_that_swaps_measures_wall_time(program: Path, scheme: str) -> None:
    config = Config(
        stdin=b"", time_limit=60, memory="8M", swap="32M", overcommit=1, clock="host", scheme=scheme, audit="end"
    )
    result = Machine(config).run([str(program), "3000", "3"], capture=True)
    seen = {name: int(ns) for name, ns in (line.split() for line in result.stdout.decode().splitlines())}
    assert result.exit_status == 0 and result.vmstat["pswpin"] > 100 and result.audit.violations == 0
    assert seen["worked"] < result.wall_s * 1e9, (
        "no more than the run took altogether, without the sleep that came after it"
    )
    assert seen["slept"] >= 1_000_000_000, "a sleep is as long as was asked for"


def test_a_sleep_is_seen_and_not_waited_for(program: Path) -> None:
    result = Machine(Config(stdin=b"", time_limit=60, clock="host")).run([str(program), "1", "0"], capture=True)
    slept = int(result.stdout.split()[1])
    assert 1_000_000_000 <= slept < 1_000_000_000 + result.wall_s * 1e9
