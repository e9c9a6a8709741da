"""A host file written through shared mappings, with and without dirty tracking: contents as native Linux leaves them;
only the count of faults differs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from sandbox import Config, Machine, toolchain
from sandbox.result import Result
from tests.guests.native import run_native, why_not_native

SOURCE = r"""
#include "rmapbox.h"
#include <sys/resource.h>

/* argv[1]: a file. Maps it twice, writes through both mappings and with write(), forks writers,
    syncs in every way there is. */
#define N 24
int main(int argc, char **argv)
{
    int fd = open(argv[1], O_RDWR);
    must(argc == 2 && fd >= 0);
    char *a = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *b = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *copy = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    must(a != MAP_FAILED && b != MAP_FAILED && copy != MAP_FAILED);
    uint32_t hash = hash_words(HASH_START, a, N * PAGE);
    for (int round = 0; round < 6; round++) {
        for (int page = round; page < N; page += 3)
            fill_page((page & 1 ? a : b) + page * PAGE, (uint32_t)(round * 100 + page));
        copy[round * PAGE] = 1;
        must(pwrite(fd, "written", 7, round * PAGE + 50) == 7);
        pid_t child = fork_quietly();
        if (!child) {
            fill_page(a + (20 + (round & 1)) * PAGE, (uint32_t)round);
            _exit(!page_is(b + (20 + (round & 1)) * PAGE, (uint32_t)round));
        }
        printf("child %d\n", reap(child));
        must((round & 1 ? msync(a, N * PAGE, MS_SYNC) : fsync(fd)) == 0);
        must(mprotect(a, 4 * PAGE, PROT_READ) == 0 && mprotect(a, 4 * PAGE, PROT_READ | PROT_WRITE) == 0);
        if (round == 3)
            reclaim(60);
        a[round * PAGE + 8] = (char)round;
        hash = hash_words(hash, b, N * PAGE);
        hash = hash_words(hash, copy, N * PAGE);
        printf("round %d: %08x\n", round, hash);
    }
    return 0;
}
"""


@cache
def program(directory: Path) -> Path:
    if toolchain.find_compiler() is None:
        pytest.skip(f"no compiler for guest programs: {toolchain.REMEDY}")
    source = directory / "mapped_file.c"
    source.write_text(SOURCE)
    return toolchain.compile_c(source)


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mapped")


def boxed(where: Path, **settings: object) -> tuple[Result, bytes]:
    data = where / "data"
    data.mkdir(exist_ok=True)
    (data / "file").write_bytes(bytes(range(256)) * 384)
    config = Config(mounts=(f"{data}:/data:rw",), stdin=b"", time_limit=120, audit="full", **settings)  # type: ignore[arg-type]
    result = Machine(config).run([str(program(where)), "/data/file"], capture=True)
    assert result.exit_status == 0 and result.audit.violations == 0, result.stdout
    return result, (data / "file").read_bytes()


@pytest.mark.parametrize("memory", ["64M", "6M"])
@pytest.mark.parametrize("scheme, paging", [("anon_vma", "pae"), ("pte_chain", "2level")])
def test_contents_as_natively(where: Path, scheme: str, paging: str, memory: str) -> None:
    answers = [boxed(where, scheme=scheme, paging=paging, memory=memory, dirty_tracking=on) for on in (False, True)]
    assert answers[0][0].stdout == answers[1][0].stdout and answers[0][1] == answers[1][1]
    faults = [result.vmstat["pgfault"] for result, _ in answers]
    assert faults[1] > faults[0] + 30, "the first write after each sync is a fault"
    reason = why_not_native()
    if reason:
        pytest.skip(reason)
    native = where / "native"
    native.write_bytes(bytes(range(256)) * 384)
    wanted = run_native(program(where), [str(native)])
    assert wanted.status == 0 and answers[1][0].stdout == wanted.stdout and answers[1][1] == native.read_bytes()
