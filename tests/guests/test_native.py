"""Every bundled program, natively: it builds, ends well, and prints the same each time."""

from __future__ import annotations

import re

import pytest

from sandbox import toolchain
from tests.guests.native import run_native

# Arguments beside the defaults that reach what the defaults do not: sizes that do not divide, one page, many processes.
VARIANTS: dict[str, list[list[str]]] = {
    "hello": [["one", "two words", ""]],
    "fork_cow": [["1", "1", "1"], ["37", "8", "37"], ["600", "2", "0"]],
    "fork_tree": [["1", "1", "20"], ["24", "7", "200", "5"], ["12", "40", "150", "99"]],
    "mremap_pingpong": [["1", "3", "0"], ["2", "5", "3"], ["700", "4", "1"]],
    "mprotect_split": [["2", "8", "3"], ["33", "40", "9"]],
    "shared_map": [["1", "1", "2"], ["9", "5", "2"]],
    "swap_storm": [["1p", "1"], ["65p", "2", "3"], ["2", "3"]],
    "stack_grow": [["1", "0"], ["1000", "3"]],
    "segv_repair": [["3"], ["70"]],
    "threads": [["1", "1", "1"], ["16", "40", "3"]],
    "pipe_pingpong": [["0", "0"], ["1", "1000"]],
    "mmfuzz": [[str(seed), "300", pages] for seed, pages in ((2, "64"), (3, "8"), (4, "9"), (5, "200"), (6, "1024"))],
}
TIMED = {"rmap_bench"}  # prints nanoseconds


def test_every_program_has_variants():
    assert set(toolchain.bundled()) == set(VARIANTS) | TIMED


@pytest.mark.parametrize("name, arguments", [(name, arguments) for name, variants in VARIANTS.items() for arguments in ([], *variants)],
                         ids=lambda value: value if isinstance(value, str) else " ".join(value) or "defaults")
def test_runs_twice_alike(native, guest_elf, tmp_path, name, arguments):
    program = guest_elf(name)
    first = native(program, arguments, cwd=tmp_path)
    second = native(program, arguments)
    assert first.stderr == b"" and first.status == 0, first
    assert first.stdout.endswith(b"\n")
    assert (first.stdout, first.status) == (second.stdout, second.status)
    assert not list(tmp_path.iterdir()), "a program leaves no file behind"


def test_output_names_nothing_of_the_host(native, guest_elf):
    """No address: none of the numbers printed lies in an area of the program (checked where a slip is likeliest)."""
    for name in ("segv_repair", "stack_grow", "mmfuzz", "threads"):
        for word in re.findall(rb"\b0x[0-9a-f]+\b", native(guest_elf(name)).stdout):
            pytest.fail(f"{name} prints {word.decode()}")


def test_fuzz_seeds_differ(native, guest_elf):
    program = guest_elf("mmfuzz")
    assert native(program, ["1", "50"]).stdout != native(program, ["2", "50"]).stdout


def test_fuzz_reaches_every_call(native, guest_elf):
    """The calls succeed and fail in every way that a seed can be expected to meet."""
    text = native(guest_elf("mmfuzz"), ["7", "3000"]).stdout.decode()
    for line in (r"mmap \d+\+\d+ private rw fixed: page", r"mmap .* shared file .*: page", r"mmap .* private file .*: page", r"not replacing.*: EEXIST",
                 r"mmap .*: elsewhere", r"munmap .*: 0", r"mprotect .*: 0", r"mprotect .*: ENOMEM", r"mremap \d+\+\d+ to \d+\+\d+: page",
                 r"mremap .*\+0 to .*: page", r"mremap .*\+0 to .*: EINVAL", r"in place: ENOMEM", r"in place: page", r"anywhere: elsewhere",
                 r"hole \d+: EFAULT", r"DONTNEED: 0", r"mlock .*: 0", r"msync .*: ENOMEM", r"brk \+\d+: 0", r"fork, to run", r"child exits 0",
                 r"write .*: all", r"then SIGSEGV MAPERR", r"then SIGSEGV ACCERR", r"then SIGBUS", r"pread .* into \d+: EFAULT", r"ftruncate \d+: 0",
                 r"\d+ child ", r"\d+ grandchild "):
        assert re.search(line, text), line


def test_bench_prints_one_line_per_row(native, guest_elf):
    program = guest_elf("rmap_bench")
    rows = native(program, ["list"]).stdout.decode().split()
    assert rows[:3] == ["touch", "cow", "fork64"] and len(rows) == 16
    for row in rows:
        result = native(program, [row, "2"])
        assert re.fullmatch(rf"{row} [1-9]\d* [1-9]\d*\n", result.stdout.decode()), result


@pytest.mark.parametrize("name, arguments, words", [
    ("fork_cow", ["many"], b"many: pages must be a number from 1 to"),
    ("swap_storm", ["0"], b"0: megabytes must be a number from 1 to"),
    ("rmap_bench", ["tuoch"], b"tuoch: no such row"),
])
def test_bad_arguments_are_told(native, guest_elf, name, arguments, words):
    result = native(guest_elf(name), arguments)
    assert result.status == 1 and words in result.stderr and result.stderr.count(b"\n") == 1


def test_native_runner_reports_signals_and_hangs(native, compile_guest):
    dies = compile_guest("#include <stdlib.h>\nint main(void) { abort(); }\n", "dies")
    assert native(dies).status == 128 + 6
    hangs = compile_guest("#include <unistd.h>\nint main(void) { fork(); for (;;) pause(); }\n", "hangs")
    with pytest.raises(TimeoutError, match="hangs"):
        run_native(hangs, timeout=0.3)
