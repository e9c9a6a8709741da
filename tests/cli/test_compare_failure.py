"""A compared program that fails is not a comparison: it is told in the first line, with the program's own error, and
costs the exit status."""

import json

import pytest

from sandbox.config import Config
from sandbox.kit import programs
from sandbox.lab import compare
from sandbox.lab.failure import failed, how_they_failed, what_they_said
from sandbox.pressure import run_under_pressure
from sandbox.result import Notes
from tests.cli.test_compare import BOTH, LIAR
from tests.cli.test_lab import make_result

CRASH = """#include <stdio.h>
int main(void)
{
    fprintf(stderr, "about to \\033[31mfall\\n");
    *(volatile int *)4 = 1;
    return 0;
}
"""
# What a program of its own makes of the scheme below, which refuses every fork: an ending that only one scheme leads
# to.
FORKS = """#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/wait.h>
int main(int argc, char **argv)
{
    int pid = fork(), fds[2];
    if (!pid)
        _exit(0);
    if (pid > 0) {
        wait(NULL);
        return 0;
    }
    fprintf(stderr, "no child\\n");
    switch (argv[1][0]) {
    case 's': raise(SIGTERM); break;
    case 'd': pipe(fds); read(fds[0], fds, 1); break; /* nobody can ever write */
    case 'm': for (;;) memset(malloc(1 << 20), 1, 1 << 20);
    }
    return 5;
}
"""
CHILD_OF_OOM = """#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/wait.h>
int main(void)
{
    if (!fork())
        for (;;)
            memset(malloc(1 << 20), 1, 1 << 20);
    wait(NULL);
    return 0;
}
"""
GREEDY = """#include <stdio.h>
int main(void) { for (int i = 1; i <= 30; i++) fprintf(stderr, "line %d\\n", i); puts("done"); return 3; }
"""


@pytest.fixture
def no_fork(tmp_path):
    (tmp_path / "liar.py").write_text(LIAR)
    return ["--rmap", "anon_vma,liar.py:NoFork"]


def test_an_option_behind_the_arguments_is_told_and_so_is_what_it_led_to(rmapbox, tmp_path):
    ran = rmapbox("compare", "fork_server", "4", "16", "0", "--pressure", *BOTH, "--json", "c.json")
    lines = ran.err.splitlines()
    assert ran.status == 1 and ran.out == ""
    assert lines[0].startswith("rmapbox: --pressure goes to fork_server") and "from --rmap on" in lines[0]
    assert lines[1].startswith(
        "rmapbox: fork_server 4 16 0 --pressure: the program failed: exited, status 1, under pte_chain, anon_vma: "
        "nothing is compared"
    )
    assert "--allow-failure" in lines[1] and lines[2:] == [
        "under pte_chain, anon_vma:",
        "  on standard error:",
        "    --pressure: rounds must be a number from 0 to 1000",
    ]
    raw = json.loads((tmp_path / "c.json").read_text())
    said = {"ended": "exited, status 1", "stderr": "--pressure: rounds must be a number from 0 to 1000\n"}
    assert raw["same"] is True and raw["failed"] == {"pte_chain": said, "anon_vma": said}


@pytest.mark.parametrize("words", [["--", "--pressure"], ["--quiet", "--pressure"]])
def test_it_is_not_told_when_meant_or_unwanted(rmapbox, words):
    ran = rmapbox(
        "compare",
        *(["--quiet"] if "--quiet" in words else []),
        *BOTH,
        "hello",
        *[word for word in words if word != "--quiet"],
    )
    assert ran.status == 0 and ran.err == "", ran.err


def test_failing_may_be_meant(rmapbox, compile_c, tmp_path):
    ran = rmapbox("compare", compile_c(GREEDY), *BOTH, "--allow-failure", "--json", "c.json")
    assert ran.status == 0 and ran.err == ""
    first = ran.out.splitlines()[0]
    assert (
        "the program failed, as it may (--allow-failure), and the guests saw the same under pte_chain, anon_vma"
        in first
    )
    assert "the last 12 of 30 lines on standard error:" in ran.out and "line 30" in ran.out and "line 18" not in ran.out
    raw = json.loads((tmp_path / "c.json").read_text())
    assert raw["same"] is True and list(raw["failed"]) == ["pte_chain", "anon_vma"]
    assert rmapbox("compare", "hello", *BOTH, "--json", "c.json").status == 0
    assert json.loads((tmp_path / "c.json").read_text())["failed"] == {}


def test_a_signal_is_shown_with_its_crash_report_and_no_escape_sequence(rmapbox, compile_c):
    ran = rmapbox("compare", compile_c(CRASH), *BOTH)
    assert (
        ran.status == 1
        and ran.out == ""
        and "the program failed: killed by SIGSEGV, status 139, under pte_chain, anon_vma" in ran.err.splitlines()[0]
    )
    assert (
        r"about to \x1b[31mfall" in ran.err
        and "nothing is mapped at the address, address 0x00000004" in ran.err
        and "=> " in ran.err
    )


@pytest.mark.parametrize(
    "how, words",
    [
        ("s", "killed by SIGTERM, status 143"),
        ("d", "deadlock: no task can ever run again"),
        ("x", "exited, status 5"),
        ("m", "killed by SIGKILL, status 137"),
    ],
)
def test_an_end_under_one_scheme_only(rmapbox, compile_c, no_fork, how, words):
    ran = rmapbox("compare", compile_c(FORKS), how, *no_fork, "--memory", "8M", "--swap", "1M")
    first, *rest = ran.err.splitlines()
    assert ran.status == 1 and ran.out == "" and first.startswith("rmapbox: ")
    assert (
        f"prog.c {how}: the program failed: {words}, under liar.py:NoFork; liar.py:NoFork: the guest saw something "
        f"else than under anon_vma" in first
    )
    assert f"it ended otherwise: {words}, instead of exited, status 0" in first
    assert rest[:3] == ["under liar.py:NoFork:", "  on standard error:", "    no child"]
    assert ("oom killer" in ran.err) == (how == "m") and not any(line.startswith("under anon_vma") for line in rest)


def test_a_run_that_hangs_under_one_scheme_only(monkeypatch):
    """Made by hand, for how far a run gets within a limit of wall time is the host's affair."""
    ends = [
        make_result(notes=Notes(stderr=b"")),
        make_result(ended="time_limit", exit_status=124, notes=Notes(stderr=b"no child\n")),
    ]
    monkeypatch.setattr(compare, "run_children", lambda jobs, argv, **_: ends)
    with pytest.raises(compare.Cut) as caught:
        compare.compare([compare.Contender("a", Config()), compare.Contender("b", Config())], ["prog"])
    assert (
        str(caught.value)
        == "the run under b was stopped at the time limit; under a: exited, status 0: nothing is compared"
    )
    assert caught.value.status == 124 and caught.value.said == ["under b:", "  on standard error:", "    no child"]


def test_a_task_that_the_oom_killer_ended_is_seen_though_the_program_went_on(rmapbox, compile_c):
    ran = rmapbox("compare", compile_c(CHILD_OF_OOM), *BOTH, "--memory", "6M", "--swap", "0", "--output-only")
    assert ran.status == 0, ran.err
    assert "  oom killer  " in ran.out.split("low memory when least")[0]


def test_failures_that_are_alike_are_told_once():
    labels = ["a", "b", "c", "d"]
    results = [
        make_result(exit_status=2, notes=Notes(stderr=b"no\n", stdout=b"")),
        make_result(notes=Notes(stderr=b"fine\n")),
        make_result(exit_status=2, notes=Notes(stderr=b"no\n", stdout=b"")),
        make_result(ended="hung", notes=Notes(stdout=b"one\n")),
    ]
    assert [failed(result) for result in results] == [True, False, True, True]
    assert (
        how_they_failed(labels, results) == "exited, status 2, under a, c; hung: no progress in virtual time, under d"
    )
    assert what_they_said(labels, results) == [
        "under a, c:",
        "  on standard error:",
        "    no",
        "under d:",
        "  nothing on standard error",
        "  on standard output:",
        "    one",
    ]


def test_pressure_measured_on_a_program_that_failed_says_so(compile_c, tmp_path):
    """The first run of --pressure is quiet: what it measured is not what the second one does."""
    source = compile_c(
        "#include <stdio.h>\n#include <string.h>\nint main(void) { char line[80]; long kb = 0; FILE *f = "
        'fopen("/proc/meminfo", "r");\n'
        'while (fgets(line, sizeof line, f)) if (sscanf(line, "MemTotal: %ld", &kb) == 1) break; return kb > '
        "100000; }\n"
    )
    result = run_under_pressure(Config(), [str(source)])
    assert result.exit_status == 0 and result.notes.pressure.endswith(
        "; measured, with ample memory, on a program that failed: exited, status 1"
    )


def test_lowmem_names_the_results_of_programs_that_failed(rmapbox):
    assert rmapbox("run", "--quiet", "--json", "a.json", "hello").status == 0
    assert rmapbox("run", "--quiet", "--json", "b.json", "fork_cow", "x").status == 1
    ran = rmapbox("lowmem", "a.json", "b.json")
    assert (
        ran.status == 0
        and ran.err == "rmapbox: b.json: the program failed: exited, status 1: what it held may not compare\n"
    )


def test_a_bundled_program_that_fails_everywhere_proves_no_scheme(monkeypatch):
    monkeypatch.setitem(programs.PROGRAMS, "fork_cow", (("0",), "8M"))
    failure, _ = programs.try_program("fork_cow", "pte_chain", {}, "pae")
    assert (
        failure is not None
        and "fails, as under anon_vma, and so proves nothing: exited, status 1: '0: pages must be a number"
        in str(failure)
    )
