"""`rmapbox compare` end to end: guests that saw the same, guests that did not, and what each mistake is told."""

import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time

import pytest

from sandbox.cli import main as command
from sandbox.cli.arguments import Words
from sandbox.cli.compare import make_parser, split_compare
from sandbox.lab import child
from sandbox.lab import children as lab_children
from sandbox.lab.compare import difference, output_difference
from sandbox.lab.compare_table import PER_TABLE, print_table, quantile, rows
from sandbox.result import Notes, Owner
from tests.cli.conftest import COMMAND, ROOT
from tests.cli.test_lab import make_result

BOTH = ["--rmap", "pte_chain,anon_vma"]
SCAN = f"{ROOT}/tests/mmcore/scan_scheme.py:ScanEverything"
SPIN = '#include <stdio.h>\nint main(void) { puts("on"); fflush(stdout); for (volatile int i = 0;; i++); }\n'
CAT = """#include <unistd.h>
int main(void)
{
    char buffer[256];
    int n;
    while ((n = read(0, buffer, sizeof buffer)) > 0)
        write(1, buffer, n);
    return 3;
}
"""
MARKED = """#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>
int main(int argc, char **argv)
{
    unsigned *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[0] = 0x5eed;
    page[1024] = 1;
    int pid = fork();
    if (pid < 0) {
        puts("cannot fork");
        return 5;
    }
    if (!pid)
        _exit(0);
    wait(NULL);
    for (int line = 0; line < 3; line++)
        printf("line %d of %s\\n", line, argv[0]);
    if (argc > 1)
        printf("the mark is %u\\n", page[10]);
    return 0;
}
"""
# A scheme that is anon_vma but for one word: in the first page of a fork that starts with the mark of MARKED.
LIAR = """import numpy as np
from rmap_plugins.anon_vma import AnonVma


class Liar(AnonVma):
    def dup(self, src, dst, pfns, src_ptes, dst_ptes, token):
        super().dup(src, dst, pfns, src_ptes, dst_ptes, token)
        words = self.env.ram.np32.reshape(-1, 1024)
        for pfn in pfns[words[pfns, 0] == 0x5EED].tolist():
            words[pfn, 10] = 4711


class NoFork(AnonVma):
    def mm_created(self, mm, parent):
        if parent is None:
            return super().mm_created(mm, parent)
        from mmcore.errors import OutOfMemory
        raise OutOfMemory("not today")


class Broken(AnonVma):
    def mm_created(self, mm, parent):
        if parent is None:
            return super().mm_created(mm, parent)
        raise ZeroDivisionError("by zero")


class Killed(AnonVma):
    def mm_created(self, mm, parent):
        if parent is None:
            return super().mm_created(mm, parent)
        import os
        os.kill(os.getpid(), 9)
"""


@pytest.fixture
def liar(tmp_path):
    (tmp_path / "liar.py").write_text(LIAR)
    return "liar.py"


def failed(ran):
    """The first line of a comparison that found a difference, and the only one unless the program failed."""
    assert (
        ran.status == 1
        and ran.out == ""
        and (ran.err.count("\n") == 1 or "the program failed" in ran.err)
        and "Traceback" not in ran.err
    ), ran.err
    assert ran.err.startswith("rmapbox: "), ran.err
    return ran.err.splitlines(keepends=True)[0]


# --- the same


def test_three_schemes_one_from_a_file(rmapbox, tmp_path):
    ran = rmapbox(
        "compare", "fork_cow", "512", "--rmap", f"pte_chain,anon_vma,{SCAN}", "--memory", "6M", "--json", "c.json"
    )
    assert ran.status == 0 and ran.err == "", ran.err
    head = ran.out.splitlines()[0]
    assert head == "fork_cow 512: the guests saw the same under pte_chain, anon_vma, scan_scheme.py:ScanEverything"
    for words in (
        "exited, status 0",
        "4 address spaces",
        "6M memory",
        "slab:pte_chain",
        "vm_area_struct, bytes each",
        "candidates",
        "median",
        "work per page reclaimed",
        "work per fork",
        "copies on write",
        "virtual, ms",
    ):
        assert words in ran.out, words
    assert max(map(len, ran.out.partition("differed most")[2].splitlines()[1:])) <= 120
    raw = json.loads((tmp_path / "c.json").read_text())
    assert list(raw) == [
        "program",
        "arguments",
        "schemes",
        "same",
        "difference",
        "failed",
        "pressure",
        "results",
        "table",
    ]
    assert (raw["program"], raw["arguments"], raw["same"], raw["difference"], raw["pressure"]) == (
        "fork_cow",
        ["512"],
        True,
        None,
        None,
    )
    results = raw["results"]
    assert [result["scheme"] for result in results] == ["pte_chain", "anon_vma", "scan_everything"]
    assert len({result["memory_hash"] for result in results}) == 1 and results[0]["memory_hash"]
    assert len({(result["config"]["memory"], result["config"]["swap"]) for result in results}) == 1
    table = {(row["section"], row["name"]): row for row in raw["table"]}
    walks = table["walks", "candidates"]
    assert (
        walks["values"] == [result["meters"]["candidates"] + result["meters"]["file_candidates"] for result in results]
        and walks["ratios"][0] == 1
    )
    assert walks["ratios"][1] == pytest.approx(walks["values"][1] / walks["values"][0], rel=1e-5)
    assert all(any(row["values"]) for row in raw["table"])


def test_pressure_gives_all_the_same_machine(rmapbox, tmp_path):
    ran = rmapbox("compare", *BOTH, "fork_cow", "--pressure", "--json", "c.json", "512", "3")
    assert ran.status == 0, ran.err
    raw = json.loads((tmp_path / "c.json").read_text())
    one, two = (result["config"] for result in raw["results"])
    assert one["memory"] == two["memory"] and one["swap"] == two["swap"] and one["memory"] < 64 << 20
    assert "the same for all, the most that any of them needs: pte_chain" in ran.out and raw["pressure"] in ran.out
    assert all(result["vmstat"]["pswpout"] > 0 for result in raw["results"])
    alone = {}
    for scheme in ("pte_chain", "anon_vma"):
        assert (
            rmapbox("run", "--rmap", scheme, "fork_cow", "--pressure", "--quiet", "--json", "r.json", "512", "3").status
            == 0
        )
        alone[scheme] = json.loads((tmp_path / "r.json").read_text())["config"]["memory"]
    assert one["memory"] == max(alone.values())


def test_options_of_one_scheme_against_themselves(rmapbox, tmp_path):
    (tmp_path / "rmapbox.toml").write_text("[rmap.pte_chain]\ncache_line = 64\n")
    ran = rmapbox(
        "compare",
        "hello",
        "--rmap",
        "pte_chain,pte_chain:cache_line=128",
        "--rmap",
        "pte_chain:cache_line=32:highpte=true",
        "--json",
        "c.json",
    )
    assert ran.status == 0, ran.err
    raw = json.loads((tmp_path / "c.json").read_text())
    assert [result["config"]["scheme_options"] for result in raw["results"]] == [
        {"cache_line": 64},
        {"cache_line": 128},
        {"cache_line": 32, "highpte": True},
    ]
    assert raw["schemes"] == ["pte_chain", "pte_chain:cache_line=128", "pte_chain:cache_line=32:highpte=true"]


def test_a_table_for_a_scheme_of_a_file(rmapbox, tmp_path, liar):
    (tmp_path / "rmapbox.toml").write_text('[rmap."liar.py:Liar"]\nsharing = false\n[rmap.anon_vma]\nsharing = false\n')
    ran = rmapbox("compare", "hello", "--rmap", "pte_chain,liar.py:Liar", "--json", "c.json")
    assert ran.status == 0, ran.err
    options = [
        result["config"]["scheme_options"] for result in json.loads((tmp_path / "c.json").read_text())["results"]
    ]
    assert options == [{}, {"sharing": False}]


def test_run_takes_the_same_spelling(rmapbox, tmp_path):
    assert (
        rmapbox("run", "--quiet", "--rmap", "pte_chain:cache_line=64:highpte=TRUE", "--json", "r.json", "hello").status
        == 0
    )
    raw = json.loads((tmp_path / "r.json").read_text())
    assert (
        raw["config"]["scheme_options"] == {"cache_line": 64, "highpte": True}
        and raw["config"]["scheme"] == "pte_chain"
    )


def test_every_run_gets_the_whole_input(rmapbox, compile_c, tmp_path):
    source = compile_c(CAT)
    ran = rmapbox("compare", source, *BOTH, "--allow-failure", stdin=b"to all of them\n")
    assert ran.status == 0 and "exited, status 3; 15 bytes of output" in ran.out, ran.out + ran.err
    (tmp_path / "in").write_bytes(b"four")
    assert (
        "4 bytes of output"
        in rmapbox("compare", source, "--stdin", "in", *BOTH, "--allow-failure", stdin=b"not this").out
    )


def test_quiet_says_nothing(rmapbox, tmp_path):
    ran = rmapbox("compare", "hello", "--quiet", *BOTH, "--json", "c.json")
    assert (ran.status, ran.out, ran.err) == (0, "", "") and (tmp_path / "c.json").exists()


def test_audit_and_paging_mean_what_they_mean_for_run(rmapbox, tmp_path):
    ran = rmapbox(
        "compare",
        "fork_tree",
        *BOTH,
        "--audit",
        "full",
        "--paging",
        "2level",
        "--seed",
        "7",
        "--swap",
        "32M",
        "--env",
        "A=B",
        "--json",
        "c.json",
    )
    assert ran.status == 0, ran.err
    for result in json.loads((tmp_path / "c.json").read_text())["results"]:
        config = result["config"]
        assert (config["paging"], config["seed"], config["swap"], config["env"]) == ("2level", 7, 32 << 20, {"A": "B"})
        assert result["audit"]["checks"] > 5 and result["audit"]["violations"] == 0


def test_a_terminal_gets_bars_and_keeps_nothing_of_them(environment, tmp_path):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, "compare", "fork_cow", "3000", *BOTH, "--memory", "12M"],
        cwd=tmp_path,
        env={**environment, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
    )
    os.close(slave)
    shown = bytearray()
    try:
        while chunk := os.read(master, 4096):
            shown += chunk
    except OSError:
        pass  # EIO: the other side has closed
    out, _ = process.communicate(timeout=60)
    os.close(master)
    assert process.returncode == 0 and b"the guests saw the same" in out
    assert b"runs" in shown and b"2/2" in shown and b"s virtual" in shown
    assert shown.endswith(b"\x1b[2K") or b"\x1b[1A\x1b[2K" in shown[-200:]


# --- not the same


def test_a_scheme_that_alters_a_word_of_memory(rmapbox, compile_c, liar, tmp_path):
    ran = rmapbox("compare", compile_c(MARKED), "--rmap", "pte_chain,anon_vma,liar.py:Liar", "--json", "c.json")
    line = failed(ran)
    assert line.startswith(
        "rmapbox: liar.py:Liar: the guest saw something else than under pte_chain: memory of prog[2] at its exit: "
        "page 0x"
    )
    assert "has other contents, in " in line and "without fault of the scheme" in line
    raw = json.loads((tmp_path / "c.json").read_text())
    assert raw["same"] is False and f"rmapbox: {raw['difference']}\n" == ran.err
    hashes = [result["memory_hash"] for result in raw["results"]]
    assert hashes[0] == hashes[1] != hashes[2]


def test_memory_can_be_left_out(rmapbox, compile_c, liar):
    """For programs that keep what a clock says: virtual time passes differently under each scheme."""
    words = ["compare", compile_c(MARKED), "--rmap", "anon_vma,liar.py:Liar"]
    assert failed(rmapbox(*words)).endswith(
        "--output-only judges without memory (a program that reads clocks or the kernel's counters, or whose "
        "processes race, may do so without fault of the scheme)\n"
    )
    ran = rmapbox(*words, "--output-only")
    assert ran.status == 0 and "memory was not compared" in ran.out
    assert "'the mark is 4711'" in failed(
        rmapbox("compare", compile_c(MARKED), "mark", "--rmap", "anon_vma,liar.py:Liar", "--output-only")
    )


def test_the_first_line_that_differs_is_shown(rmapbox, compile_c, liar):
    line = failed(rmapbox("compare", compile_c(MARKED), "mark", "--rmap", "anon_vma,liar.py:Liar"))
    assert "line 4: 'the mark is 4711' instead of 'the mark is 0'" in line and "of memory" not in line


def test_another_errno_and_another_end(rmapbox, compile_c, liar):
    line = failed(rmapbox("compare", compile_c(MARKED), "--rmap", "anon_vma,liar.py:NoFork"))
    assert "byte 0, line 1: 'cannot fork' instead of 'line 0 of" in line
    assert "it ended otherwise: exited, status 5, instead of exited, status 0" in line


@pytest.mark.parametrize(
    "first, other, words",
    [
        (b"same", b"same", None),
        (b"one\ntwo\n", b"one\ntoo\n", "byte 5, line 2: 'too' instead of 'two'"),
        (b"one\ntwo\n", b"one\n", "byte 4, line 2: the end instead of 'two'"),
        (b"one\ntwo", b"one\ntw", "byte 6, line 2: the end after 'tw' instead of 'two'"),
        (b"", b"x", "byte 0, line 1: 'x' instead of the end"),
        ("für".encode(), "fär".encode(), "byte 2, line 1: 'fär' instead of 'für'"),
        (b"\xff", b"\xfe", r"byte 0, line 1: '\xfe' instead of '\xff'"),
        (
            b"a" * 100 + b"b" * 100,
            b"a" * 100 + b"c" * 100,
            f"byte 100, line 1: ...'{'a' * 28}{'c' * 28}'... instead of ...'{'a' * 28}{'b' * 28}'...",
        ),
    ],
)
def test_where_outputs_differ(first, other, words):
    found = output_difference("standard output", first, other)
    assert found == (words and f"standard output differs at {words}")


def test_standard_error_and_the_end_count_too():
    one = make_result(notes=Notes(stdout=b"x", stderr=b"a"))
    assert difference(one, make_result(notes=Notes(stdout=b"x", stderr=b"b"))).startswith(
        "standard error differs at byte 0"
    )
    assert difference(one, make_result(ended="deadlock", notes=Notes(stdout=b"x", stderr=b"a"))).startswith(
        "it ended otherwise: deadlock"
    )
    assert difference(one, make_result("pte_chain", user=30, notes=Notes(stdout=b"x", stderr=b"a"))) is None


# --- what goes wrong


def test_a_scheme_that_raises_is_named_with_its_line(rmapbox, compile_c, liar):
    line = rmapbox("compare", compile_c(MARKED), "--rmap", "anon_vma,liar.py:Broken").error_line()
    assert (
        line == "rmapbox: scheme 'liar.py:Broken' failed in mm_created (liar.py, line 25): ZeroDivisionError: by zero; "
        "correct it there"
    )


def test_a_run_that_is_killed_is_told(rmapbox, compile_c, liar):
    line = rmapbox("compare", compile_c(MARKED), "--rmap", "anon_vma,liar.py:Killed").error_line()
    assert "the run under liar.py:Killed was killed by SIGKILL" in line and "--memory" in line


def test_an_internal_error_of_a_run_keeps_its_details(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(
        lab_children,
        "_START",
        "import sandbox.machine as m\nm.load_program = None\nfrom sandbox.lab.child import main; main()",
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert command.command(["compare", "hello", "--stdin", "/dev/null", *BOTH]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and re.search(
        r"internal error: under (pte_chain|anon_vma): 'NoneType' object is not callable \(TypeError\)", err
    )
    (details,) = tmp_path.glob("rmapbox-*.txt")
    assert "in run" in details.read_text() and "sandbox/machine.py" in details.read_text()


def test_a_run_that_never_starts(capsys, monkeypatch):
    monkeypatch.setattr(lab_children, "_START", "raise SystemExit('no such thing')")
    assert command.command(["compare", "hello", "--stdin", "/dev/null", *BOTH]) == 2
    assert "ended with status 1 before it was done: no such thing" in capsys.readouterr().err


def test_the_time_limit(rmapbox, compile_c, tmp_path):
    ran = rmapbox("compare", compile_c(SPIN), "--time-limit", "0.5", *BOTH, "--json", "c.json")
    assert ran.status == 124 and ran.out == ""
    assert (
        ran.err.splitlines()[0]
        == "rmapbox: the runs under pte_chain, anon_vma were stopped at the time limit: nothing is compared"
    )


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def started(process, count=1):
    """The runs of a comparison, once they are there."""
    for _ in range(300):
        found = children(process.pid)
        if len(found) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError("no run was started")


def gone(pids):
    for _ in range(200):
        if not any(
            os.path.exists(f"/proc/{pid}") and open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
            for pid in pids
        ):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("whole_group", [True, False])
def test_ctrl_c_ends_all_runs(compile_c, tmp_path, environment, whole_group):
    process = subprocess.Popen(
        [*COMMAND, "compare", str(compile_c(SPIN)), *BOTH],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        runs = started(process)
        time.sleep(0.8)
        if whole_group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, b"", b"rmapbox: interrupted\n")
    assert gone(runs)


def test_no_run_outlives_the_command(compile_c, tmp_path, environment):
    process = subprocess.Popen(
        [*COMMAND, "compare", str(compile_c(SPIN)), *BOTH],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    runs = started(process)
    time.sleep(0.8)
    process.kill()
    process.wait()
    assert gone(runs)


@pytest.mark.parametrize(
    "words, said",
    [
        (["hello"], "compare takes two schemes or more: --rmap NAME,NAME"),
        (["hello", "--rmap", "anon_vma"], "two schemes or more"),
        (
            ["hello", "--rmap", "anon_vma,pte_chian"],
            "no reverse-mapping scheme is called 'pte_chian'; did you mean 'pte_chain'?",
        ),
        (["hello", "--rmap", "anon_vma,anon_vma"], "anon_vma is the same as anon_vma: name each scheme once"),
        (["hello", "--rmap", "anon_vma,anon_vma:sharing=true"], "anon_vma:sharing=true is the same as anon_vma"),
        (["hello", "--rmap", "anon_vma,,pte_chain"], "no scheme is named"),
        (
            ["hello", "--rmap", "anon_vma,anon_vma:shareing=false"],
            "anon_vma has no option 'shareing': did you mean 'sharing'?",
        ),
        (["hello", "--rmap", "anon_vma,anon_vma:sharing=no"], "sharing = 'no': write it true or false"),
        (["hello", "--rmap", "anon_vma,pte_chain:cache_line=x"], "cache_line = 'x': write it as its default 32 is"),
        (["hello", "--rmap", "anon_vma,pte_chain:cache_line=64:cache_line=32"], "option 'cache_line' is given twice"),
        (["hello", "--rmap", "anon_vma,pte_chain:cache_line=64:more"], "'more' is not an option: write NAME:key=value"),
        (["hello", "--rmap", "anon_vma,:sharing=false"], "no scheme is named"),
        (["hello", "--rmap", "anon_vma,none.py:X"], "there is no file none.py"),
        (["hello", *BOTH, "--clock", "host"], "compare needs --clock virtual"),
        (["hello", *BOTH, "--memory", "8M", "--pressure"], "exclude each other"),
        (["hello", *BOTH, "--memory", "8Q"], "--memory '8Q' is not a size"),
        (["hello", *BOTH, "--mount", ".:/data:rw"], "each would write to .: mount it ro"),
        (["hello", *BOTH, "--json", "no/dir"], "cannot write there"),
        (["hello", "x", *BOTH, "y"], "'y' stands among rmapbox's options"),
        (["hello", "x", *BOTH, "--presure"], "did you mean --pressure?"),
        (["hello", *BOTH, "--stdin", "nofile"], "--stdin nofile: no such file"),
        (["helo", *BOTH], "did you mean 'hello'"),
        (BOTH, "PROGRAM is missing"),
    ],
)
def test_mistakes_are_one_line_with_the_remedy(capsys, monkeypatch, tmp_path, words, said):
    monkeypatch.chdir(tmp_path)
    assert command.command(["compare", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("rmapbox: ") and err.count("\n") == 1 and said in err, err


def test_run_tells_the_mistakes_of_the_spelling_too(rmapbox):
    assert (
        "--rmap anon_vma:sharing=yes: sharing = 'yes': write it true or false"
        in rmapbox("run", "hello", "--rmap", "anon_vma:sharing=yes").error_line()
    )


def test_an_error_of_the_machine_names_the_run(rmapbox, tmp_path):
    (tmp_path / "in").write_bytes(bytes(6 << 20))
    line = rmapbox("compare", "hello", *BOTH, "--memory", "5M", "--swap", "0", "--stdin", "in").error_line()
    assert re.match("rmapbox: under (pte_chain|anon_vma): hello: does not fit into a machine of this size", line)


# --- the command line and the table


@pytest.mark.parametrize(
    "words, own, program, arguments",
    [
        ("prog --rmap a,b 1 2", "--rmap=a,b", "prog", "1 2"),
        ("--rmap a,b prog 1 2", "--rmap=a,b", "prog", "1 2"),
        ("prog 1 2 --rmap a,b --memory 8M --quiet", "--rmap=a,b --memory=8M --quiet", "prog", "1 2"),
        ("--quiet prog --swap 8M 1 --rmap=a,b", "--quiet --swap=8M --rmap=a,b", "prog", "1"),
        ("prog --rmap a,b 1 --rmap c", "--rmap=a,b", "prog", "1 --rmap c"),
        ("prog -- 1 --rmap c", "", "prog", "1 --rmap c"),
        ("prog 1 2", "", "prog", "1 2"),
    ],
)
def test_where_the_options_stand(words, own, program, arguments):
    assert split_compare(words.split(), make_parser().own_options()) == Words(own.split(), program, arguments.split())


def test_quantiles_of_walks():
    lengths = {"1": 50, "2-3": 40, "4-7": 5, "16-31": 5}
    assert [quantile(lengths, share) for share in (0.5, 0.51, 0.9, 0.91, 0.96, 1.0)] == [
        "1",
        "2-3",
        "2-3",
        "4-7",
        "16-31",
        "16-31",
    ]
    assert quantile({}, 0.5) is None


def costly(scheme, factor, **meters):
    result = make_result(scheme)
    result.meters.update(
        walks=100 * factor, candidates=300 * factor, forks=4, fork_links=8 * factor, fork_allocations=factor, **meters
    )
    result.walk_lengths = {"scheme": {"1": 60, "2-3": 40 * factor}}
    result.lowmem.owners[f"slab:{scheme}"] = Owner(
        4096, 8192 * factor, object_size=12, objects=1, peak_objects=10 * factor, slabs=1
    )
    result.lowmem.at_peak.owners[f"slab:{scheme}"] = Owner(8192 * factor, 8192 * factor)
    return result


def test_the_rows_of_the_table():
    table = {(row.section, row.name): row for row in rows([costly("one", 1), costly("two", 3, mremap_copies=5)])}

    def row(section, name):
        found = table[section, name]
        return found.values, found.ratios

    low = "low memory when least was free, kB"
    assert row(low, "slab:one") == ([8, 0], [1, 0])
    assert row(low, "slab:two") == ([0, 24], [None, None])
    assert row(low, "user_pages") == ([200, 200], [1, 1])
    assert row("slab caches, each at its fullest", "two, objects of 12") == ([0, 30], [None, None])
    assert row("walks", "walks") == ([100, 300], [1, 3])
    assert row("walks by objects looked at", "2-3") == ([40, 120], [1, 3])
    assert row("walks by objects looked at", "median") == (["1", "2-3"], [None, None])
    assert row("work per page reclaimed", "candidates") == (
        [pytest.approx(300 / 99, rel=1e-3), pytest.approx(900 / 99, rel=1e-3)],
        [1, pytest.approx(3, rel=1e-3)],
    )
    assert row("work per fork", "links") == ([2, 6], [1, 3])
    assert row("work per fork", "allocations") == ([0.25, 0.75], [1, 3])
    assert row("the scheme in all", "copies forced by mremap") == ([0, 5], [None, None])
    assert row("faults", "all") == ([1234, 1234], [1, 1])
    assert ("the scheme in all", "merges refused") not in table


def test_nothing_is_divided_by_zero():
    result = make_result()
    result.vmstat["pgsteal_dma"] = 0
    table = rows([result, make_result()])
    found = {(row.section, row.name): row.values for row in table}
    assert found["work per page reclaimed", "candidates"] == [None, pytest.approx(22 / 99, rel=1e-3)]
    assert not any(section == "work per fork" for section, _ in found)


@pytest.mark.parametrize("count, tables", [(2, 1), (PER_TABLE, 1), (PER_TABLE + 1, 2), (8, 4)])
def test_the_table_fits_and_more_schemes_go_below(count, tables):
    schemes = [f"anon_vma_chain:era={number}.6.34" for number in range(count)]
    out = io.StringIO()
    print_table(rows([costly("x", number + 1) for number in range(count)]), schemes, out)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 120
    assert sum("candidates" in line for line in lines) == 2 * tables
    assert sum("walks by objects" in line for line in lines) == tables
    candidates = [line for line in lines if line.strip().startswith("candidates")][::2]
    assert [line.split()[1] for line in candidates] == ["300"] * tables  # the first scheme leads each
    assert f"{count}.00x" in candidates[-1]
    assert sum(line.count("x") for line in candidates) == count - 1
    whole = [line for line in lines if "virtual, ms" in line]
    assert all(line.split()[2] == "1500.00" for line in whole) and len(whole) == tables  # no cell is broken


def test_a_narrow_terminal_gets_fewer_side_by_side(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = io.StringIO()
    out.isatty = lambda: True
    monkeypatch.setenv("TERM", "dumb")
    print_table(rows([costly("x", number + 1) for number in range(4)]), ["one", "two", "three", "four"], out)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("walks by objects" in line for line in lines) == 3


def test_messages_are_whole():
    reader, writer = os.pipe()
    child.send(writer, ("status", "x" * 10))
    os.close(writer)
    data = os.read(reader, 1 << 16)
    os.close(reader)
    assert child.LENGTH.unpack_from(data)[0] == len(data) - child.LENGTH.size


def test_smp_and_accounting_are_options(rmapbox, tmp_path):
    ran = rmapbox(
        "compare", "hello", "--rmap", "pte_chain,anon_vma", "--smp", "--accounting", "historic", "--json", "c.json"
    )
    assert ran.status == 0, ran.err
    for result in json.loads((tmp_path / "c.json").read_text())["results"]:
        assert result["config"]["smp"] is True and result["config"]["accounting"] == "historic"
    assert (
        "--accounting 'modern' is not one of isolated, historic"
        in rmapbox("run", "--accounting", "modern", "hello").error_line()
    )
