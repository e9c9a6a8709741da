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
    "fork_server": [["1", "1", "0", "0"], ["40", "10", "10", "3"], ["12", "64", "0"], ["3", "9", "reclaim=no"]],
    "exec_shells": [["1", "0", "1", "0"], ["2", "2", "4", "3"], ["10", "3", "1", "20"]],
    # Morton's three tests with a tenth of his sizes, the second and third letter of his options in other shapes, and
    # the fourth pattern.
    "rmap_test": [
        ["-l", "-i", "10", "-n", "10", "-s", "60", "-t", "10"],
        ["-v", "-r", "-V2", "-i1", "-n", "10", "-s60", "-t10"],
        ["-vl", "-i", "10", "-n", "1000", "-s", "7", "-t", "1"],
        ["-h", "-t5", "-n7", "-i3"],
        ["-i0", "-n1", "-s1", "-t1"],
    ],
    "mmap_windows": [["2", "1"], ["50", "7"], ["300", "8", "remap"], ["2", "1", "remap"]],
    "shared_segment": [["1", "1"], ["20", "100", "file"], ["1", "1", "file"]],
    "lowmem_crisis": [["1", "4096"], ["12", "8M"], ["5", "3M", "attach"], ["1", "4K", "attach"]],
    "desktop": [["1", "0", "1", "0", "0", "1"], ["30", "3", "7", "0", "5", "9"], ["3", "2", "1", "5", "0", "100"]],
    "mlock_pressure": [["1", "1", "1"], ["100", "3", "3"]],
    "oom_bomb": [["1M", "fork", "0"], ["3M", "shared", "1", "1"], ["40M", "fork", "2"]],
    "mremap_storm": [["1", "1", "0"], ["2", "2", "2"], ["5", "60", "4"]],
    "mprotect_storm": [["1", "1", "0"], ["2", "3", "2", "3"], ["100", "1", "2", "4"]],
    "fork_chain": [["1", "1"], ["60", "64", "5", "exit", "7"], ["30", "64", "5", "stay"], ["1", "1", "0", "stay"]],
    "vma_explosion": [
        ["1"],
        ["3", "protections", "2", "2"],
        ["300", "file", "4", "3"],
        ["200", "apart", "3"],
        ["9", "reclaim=no"],
    ],
    "mmfuzz": [[str(seed), "300", pages] for seed, pages in ((2, "64"), (3, "8"), (4, "9"), (5, "200"), (6, "1024"))],
}
TIMED = {"rmap_bench"}  # prints nanoseconds


def test_every_program_has_variants():
    assert set(toolchain.bundled()) == set(VARIANTS) | TIMED


@pytest.mark.parametrize(
    "name, arguments",
    [(name, arguments) for name, variants in VARIANTS.items() for arguments in ([], *variants)],
    ids=lambda value: value if isinstance(value, str) else " ".join(value) or "defaults",
)
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
    for line in (
        r"mmap \d+\+\d+ private rw fixed: page",
        r"mmap .* shared file .*: page",
        r"mmap .* private file .*: page",
        r"not replacing.*: EEXIST",
        r"mmap .*: elsewhere",
        r"munmap .*: 0",
        r"mprotect .*: 0",
        r"mprotect .*: ENOMEM",
        r"mremap \d+\+\d+ to \d+\+\d+: page",
        r"mremap .*\+0 to .*: page",
        r"mremap .*\+0 to .*: EINVAL",
        r"in place: ENOMEM",
        r"in place: page",
        r"anywhere: elsewhere",
        r"hole \d+: EFAULT",
        r"DONTNEED: 0",
        r"mlock .*: 0",
        r"msync .*: ENOMEM",
        r"brk \+\d+: 0",
        r"fork, to run",
        r"child exits 0",
        r"write .*: all",
        r"then SIGSEGV MAPERR",
        r"then SIGSEGV ACCERR",
        r"then SIGBUS",
        r"pread .* into \d+: EFAULT",
        r"ftruncate \d+: 0",
        r"\d+ child ",
        r"\d+ grandchild ",
    ):
        assert re.search(line, text), line


def test_bench_prints_one_line_per_row(native, guest_elf):
    program = guest_elf("rmap_bench")
    rows = native(program, ["list"]).stdout.decode().split()
    assert rows[:3] == ["touch", "cow", "fork64"] and len(rows) == 16
    for row in rows:
        result = native(program, [row, "2"])
        assert re.fullmatch(rf"{row} [1-9]\d* [1-9]\d*\n", result.stdout.decode()), result


@pytest.mark.parametrize(
    "name, arguments, words",
    [
        ("fork_cow", ["many"], b"many: pages must be a number from 1 to"),
        ("swap_storm", ["0"], b"0: megabytes must be a number from 1 to"),
        ("rmap_bench", ["tuoch"], b"tuoch: no such row"),
        ("fork_server", ["2", "8", "9"], b"9: written must be a number from 0 to 8"),
        ("fork_server", ["reclaim=never"], b"never: reclaim must be yes or no"),
        ("exec_shells", ["+shell"], b"+shell: the program starts its parts itself"),
        ("exec_shells", ["9", "1000", "8"], b"more than 10000000 processes"),
        ("rmap_test", ["-x"], b"-x: no such option"),
        ("rmap_test", ["-i"], b"-i: a number must follow"),
        ("rmap_test", ["-n0"], b"0: -n must be a number from 1 to"),
        ("rmap_test", ["-t", "many"], b"many: -t must be a number from 1 to"),
        ("rmap_test", ["a", "b"], b"b: one file is enough"),
        ("rmap_test", ["/"], b"/: File exists; name a file that can be made anew"),
        ("rmap_test", ["-n", "65000", "-s", "600"], b"more than 600000 pages"),
        ("mmap_windows", ["9", "1", "both"], b"both: how must be mmap or remap"),
        ("shared_segment", ["1", "1", "sysv"], b"sysv: kind must be anonymous or file"),
        ("lowmem_crisis", ["2", "8M", "clone"], b"clone: how must be fork or attach"),
        ("oom_bomb", ["0"], b"limit=0 would take all memory of this computer: it is for a sandbox"),
        ("oom_bomb", ["1M", "clone"], b"clone: how must be touch, fork or shared"),
        ("mremap_storm", ["0"], b"0: processes must be a number from 1 to"),
        ("mprotect_storm", ["65000", "600"], b"more than 600000 pages"),
        ("fork_chain", ["9", "9", "1", "die"], b"die: mode must be exit or stay"),
        ("fork_chain", ["2000", "9", "1", "stay"], b"2000: of generations that stay there can be 1000"),
        ("vma_explosion", ["65001"], b"65001: areas must be a number from 1 to 65000"),
        ("vma_explosion", ["5", "stacks"], b"stacks: kind must be apart, protections or file"),
    ],
)
def test_bad_arguments_are_told(native, guest_elf, name, arguments, words):
    result = native(guest_elf(name), arguments)
    assert result.status == 1 and words in result.stderr and result.stderr.count(b"\n") == 1


def test_rmap_test_takes_a_file_and_leaves_none(native, guest_elf, tmp_path):
    """As in Morton's command lines the file comes last; one that exists is not overwritten."""
    program = guest_elf("rmap_test")
    result = native(program, ["-l", "-i", "1", "-n", "2", "-s", "2", "-t", "2", "foo"], cwd=tmp_path)
    assert result.status == 0 and not list(tmp_path.iterdir()), result
    (tmp_path / "foo").write_text("mine")
    assert native(program, ["foo"], cwd=tmp_path).status == 1 and (tmp_path / "foo").read_text() == "mine"


def test_a_member_that_dies_ends_its_gang(native, compile_guest):
    """The leader does not wait for ever, and says why; the other members go with it."""
    dies = compile_guest(
        """#include "gang.h"
        int main(void)
        {
            gang_open();
            for (int i = 0; i < 3; i++)
                if (!gang_fork()) {
                    if (i == 1)
                        _exit(0);
                    gang_report(0, 0);
                    gang_wait();
                    _exit(0);
                }
            gang_collect(3);
            return 0;
        }""",
        "dies_early",
    )
    result = native(dies)
    assert (result.status, result.stderr) == (1, b"FAILED: a process of the gang died\n")


def test_native_runner_reports_signals_and_hangs(native, compile_guest):
    dies = compile_guest("#include <stdlib.h>\nint main(void) { abort(); }\n", "dies")
    assert native(dies).status == 128 + 6
    hangs = compile_guest("#include <unistd.h>\nint main(void) { fork(); for (;;) pause(); }\n", "hangs")
    with pytest.raises(TimeoutError, match="hangs"):
        run_native(hangs, timeout=0.3)
