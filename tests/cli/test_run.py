"""`rmapbox run` end to end: output, status, result, and what each mistake is told."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from sandbox.result import read_result
from tests.cli.conftest import COMMAND, SHOW

CRASH = "int main(void) { *(volatile int *)0x10 = 1; return 0; }\n"
DIVIDE = "int main(int argc, char **argv) { volatile int zero = argc - argc; return 100 / zero; }\n"
ILLEGAL = 'int main(void) { __asm__ volatile("ud2"); return 0; }\n'
SPIN = '#include <stdio.h>\nint main(void) { puts("on"); fflush(stdout); for (volatile int i = 0;; i++); }\n'
WAIT = "#include <unistd.h>\nint main(void) { int p[2]; char c; pipe(p); read(p[0], &c, 1); return 0; }\n"
ECHO = """#include <unistd.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
    char buffer[256];
    int n;
    while ((n = read(0, buffer, sizeof buffer)) > 0)
        write(1, buffer, n);
    write(2, "to stderr\\n", 10);
    return argc > 1 ? atoi(argv[1]) : 0;
}
"""


def test_hello_prints_and_exits_with_its_status(rmapbox):
    ran = rmapbox("run", "hello")
    assert ran.status == 0, ran.err
    assert "ello" in ran.out
    assert "exited, status 0" in ran.err and "low memory" in ran.err and 8 <= len(ran.err.splitlines()) <= 16


def test_quiet_says_nothing_and_changes_nothing(rmapbox):
    loud, quiet = rmapbox("run", "hello"), rmapbox("run", "--quiet", "hello")
    assert quiet.err == "" and quiet.out == loud.out and quiet.status == loud.status


def test_output_and_status_are_the_guests(rmapbox, compile_c):
    source = compile_c(ECHO)
    ran = rmapbox("run", "--quiet", source, "7", stdin=b"in\0\xff\nout")
    assert (ran.status, ran.out, ran.err) == (7, b"in\0\xff\nout".decode(errors="replace"), "to stderr\n")


def test_stdin_from_a_file(rmapbox, compile_c, tmp_path):
    source = compile_c(ECHO)
    (tmp_path / "in").write_bytes(b"from the file\n")
    assert rmapbox("run", "--quiet", "--stdin", "in", source, stdin=b"not this").out == "from the file\n"


def test_the_result_file_has_exactly_the_documented_keys(rmapbox, tmp_path):
    assert rmapbox("run", "--quiet", "--json", "r.json", "--rmap", "pte_chain", "hello").status == 0
    keys = [
        "exit_status",
        "scheme",
        "config",
        "virtual_ns",
        "wall_s",
        "ended",
        "vmstat",
        "meters",
        "lowmem",
        "tasks",
        "audit",
        "event_hash",
        "walk_lengths",
        "memory_hash",
        "oom",
        "highmem",
    ]
    raw = json.loads((tmp_path / "r.json").read_text())
    assert list(raw) == keys
    assert (raw["scheme"], raw["ended"], raw["exit_status"]) == ("pte_chain", "exited", 0)
    assert raw["tasks"][0]["comm"] == "hello" and raw["tasks"][0]["peak_rss"] > 0
    assert raw["vmstat"]["pgfault"] > 0 and raw["virtual_ns"] > 0


@pytest.mark.parametrize("scheme", ["anon_vma", "pte_chain"])
@pytest.mark.parametrize("paging", ["pae", "2level"])
def test_low_memory_adds_up(rmapbox, tmp_path, scheme, paging):
    assert rmapbox("run", "--quiet", "--json", "r.json", "--rmap", scheme, "--paging", paging, "fork_cow").status == 0
    low = read_result(str(tmp_path / "r.json")).lowmem
    for moment in (low, low.at_peak):
        assert moment.free + sum(owner.bytes for owner in moment.owners.values()) == low.total
        assert all(owner.peak_bytes >= owner.bytes for owner in moment.owners.values())
    assert low.at_peak.free == low.min_free <= low.free


def test_runs_repeat_whatever_the_hash_seed_and_the_reports(rmapbox, tmp_path):
    hashes = set()
    for number, (seed, extra) in enumerate([("0", []), ("1", ["--audit", "full"]), ("2", ["--quiet"])]):
        ran = rmapbox(
            "run", "--memory", "6M", *extra, "--json", f"{number}.json", "fork_cow", env={"PYTHONHASHSEED": seed}
        )
        assert ran.status == 0, ran.err
        result = read_result(str(tmp_path / f"{number}.json"))
        hashes.add((result.event_hash, result.virtual_ns))
        assert result.vmstat["pswpin"] > 0
    assert len(hashes) == 1 and next(iter(hashes))[0]


def test_the_host_clock_has_no_hash(rmapbox, tmp_path):
    assert rmapbox("run", "--quiet", "--clock", "host", "--json", "r.json", "hello").status == 0
    assert read_result(str(tmp_path / "r.json")).event_hash is None


@pytest.mark.parametrize("scheme", ["anon_vma", "pte_chain"])
def test_pressure_makes_the_scheme_work(rmapbox, tmp_path, scheme):
    ran = rmapbox("run", "fork_cow", "--pressure", "--rmap", scheme, "--json", "r.json", "2048")
    assert ran.status == 0, ran.err
    assert "RAM sized to" in ran.err
    result = read_result(str(tmp_path / "r.json"))
    assert result.meters["walks"] > 0 and result.meters["hits"] > 0 and result.vmstat["pswpout"] > 0


def test_pressure_makes_a_scheme_without_walks_scan(rmapbox, tmp_path):
    ran = rmapbox(
        "run", "fork_cow", "--pressure", "--rmap", "virtual_scan", "--audit", "end", "--json", "r.json", "2048"
    )
    assert ran.status == 0, ran.err
    assert re.search(r"^scans +\d+ of address spaces: \d+ PTEs taken away", ran.err, re.M) and "walks" not in ran.err
    result = read_result(str(tmp_path / "r.json"))
    meters = result.meters
    assert (
        meters["scans"] > 0
        and meters["scan_unmapped"] > 100
        and meters["mms_visited"] >= meters["scans"]
        and result.vmstat["pswpout"] > 0
    )
    assert meters["walks"] == meters["file_walks"] == 0 == result.audit.violations


def test_pressure_and_memory_exclude_each_other(rmapbox):
    assert "exclude each other" in rmapbox("run", "hello", "--pressure", "--memory", "16M").error_line()


@pytest.mark.parametrize(
    "text, number, words",
    [
        (CRASH, signal.SIGSEGV, ["nothing is mapped at the address", "0x00000010", "eip", "mov", "around address"]),
        (DIVIDE, signal.SIGFPE, ["division by zero", "idiv"]),
        (ILLEGAL, signal.SIGILL, ["illegal", "ud2"]),
    ],
)
def test_a_crash_is_reported(rmapbox, compile_c, text, number, words):
    ran = rmapbox("run", compile_c(text))
    assert ran.status == 128 + number, ran.err
    assert f"killed by {signal.Signals(number).name}" in ran.err
    for word in words:
        assert word in ran.err, ran.err


def test_the_time_limit(rmapbox, compile_c, tmp_path):
    ran = rmapbox("run", "--time-limit", "0.7", "--json", "r.json", compile_c(SPIN))
    assert ran.status == 124 and "time limit" in ran.err and "Traceback" not in ran.err
    result = read_result(str(tmp_path / "r.json"))
    assert result.ended == "time_limit" and result.event_hash is None and result.exit_status == 124


def test_ctrl_c_still_writes_the_summary(compile_c, tmp_path, environment):
    source = compile_c(SPIN)
    process = subprocess.Popen(
        [*COMMAND, "run", "--json", "r.json", str(source)],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"on\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert b"interrupted" in err and b"low memory" in err and b"Traceback" not in err
    assert read_result(str(tmp_path / "r.json")).ended == "interrupted"


def test_a_deadlock_says_what_is_waited_for(rmapbox, compile_c):
    ran = rmapbox("run", compile_c(WAIT))
    assert "no task can ever run" in ran.err and "pipe" in ran.err and ran.status != 0


def test_mounts_show_only_what_they_name(rmapbox, compile_c, tmp_path):
    source = compile_c(
        ECHO.replace("read(0,", "read(f,")
        .replace("int n;", 'int n, f = open("/data/in", O_RDONLY);')
        .replace("#include <stdlib.h>", "#include <stdlib.h>\n#include <fcntl.h>")
    )
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "in").write_text("mounted\n")
    assert rmapbox("run", "--quiet", "--mount", "d:/data", source).out == "mounted\n"
    assert rmapbox("run", "--quiet", source).out == ""


def test_a_plugin_from_a_file(rmapbox, tmp_path):
    (tmp_path / "mine.py").write_text("from rmap_plugins.anon_vma import AnonVma\n\n\nclass Mine(AnonVma):\n    pass\n")
    ran = rmapbox("run", "--rmap", "mine.py:Mine", "hello")
    assert ran.status == 0, ran.err


@pytest.mark.parametrize(
    "words, said",
    [
        (["run", "hello", "--rmap", "anon_vam"], "anon_vma"),
        (["run", "hello", "--rmap", "nofile.py:X"], "nofile.py"),
        (["run", "hello", "--memory", "64Q"], "--memory '64Q' is not a size"),
        (["run", "hello", "--memory", "100K"], "too small to boot"),
        (["run", "hello", "--memory", "65G"], "at most 64G"),
        (["run", "hello", "--swap", "lots"], "--swap 'lots' is not a size"),
        (["run", "hello", "--paging", "4level"], "--paging '4level' is not one of pae, 2level"),
        (["run", "hello", "--time-limit", "x"], "--time-limit 'x' is not a number of seconds"),
        (["run", "hello", "--mount", "nowhere:/x"], "no such file or directory on the host"),
        (["run", "hello", "--env", "novalue"], "not K=V"),
        (["run", "hello", "--stdin", "nofile"], "--stdin nofile: no such file"),
        (["run", "hello", "--json", "no/dir/r.json"], "cannot write there"),
        (["run", "hello", "--config", "no.toml"], "no.toml: cannot read"),
        (["run", "helo"], "did you mean 'hello'"),
        (["run", "hello", "--presure"], "did you mean --pressure"),
        (["run", "./nothing"], "no such file"),
        (["run", "/bin/sh"], "not for i386"),
        (["run", "/etc/passwd"], "not an ELF file"),
        (["run"], "PROGRAM"),
        (["lowmem", "no.json"], "no.json: cannot read"),
        (["walk"], "walk"),
    ],
)
def test_mistakes_are_one_line_with_the_remedy(rmapbox, words, said):
    assert said in rmapbox(*words).error_line()


def test_a_program_that_does_not_compile(rmapbox, compile_c):
    line = rmapbox("run", compile_c("int main(void) { return nonsense; }\n")).error_line()
    assert "does not compile" in line and "nonsense" in line


def test_a_scheme_without_its_hooks_is_named(rmapbox, tmp_path):
    (tmp_path / "half.py").write_text("class Half:\n    pass\n")
    assert "Half" in rmapbox("run", "--rmap", "half.py:Half", "hello").error_line()


def test_the_file_of_the_working_directory_and_its_mistakes(rmapbox, tmp_path):
    (tmp_path / "rmapbox.toml").write_text('[machine]\nmemroy = "16M"\n')
    assert (
        "rmapbox.toml: unknown key 'memroy' in [machine]: did you mean 'memory'?"
        in rmapbox("run", "hello").error_line()
    )
    (tmp_path / "rmapbox.toml").write_text('[rmap]\nscheme = "pte_chain"\n')
    assert "scheme pte_chain" in rmapbox("run", "hello").err


def test_an_unreadable_program(rmapbox, tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"\x7fELF")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads everything")
    assert "may not read" in rmapbox("run", path).error_line()


def test_lowmem_of_two_runs(rmapbox):
    assert rmapbox("run", "--quiet", "--json", "a.json", "hello").status == 0
    assert rmapbox("run", "--quiet", "--json", "b.json", "--rmap", "pte_chain", "hello").status == 0
    ran = rmapbox("lowmem", "a.json", "b.json")
    assert ran.status == 0
    for word in ("anon_vma", "pte_chain", "mem_map", "kernel_image", "slab:task_struct", "total"):
        assert word in ran.out


def test_the_lists(rmapbox):
    schemes, programs = rmapbox("schemes"), rmapbox("programs")
    assert schemes.status == programs.status == 0
    assert "pte_chain:" in schemes.out and "anon_vma:" in schemes.out and "complexity" in schemes.out
    assert "fork_cow:" in programs.out and "arguments" in programs.out


def test_the_doctor(rmapbox):
    ran = rmapbox("doctor")
    assert ran.status == 0, ran.out
    assert "unicorn        release 2.1.4" in ran.out and "calibration" in ran.out


HOG = """#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/wait.h>
int main(void)
{
    int status, child = fork();
    if (!child)
        for (volatile char *m; (m = malloc(1 << 20));)
            for (int at = 0; at < 1 << 20; at += 4096)
                m[at] = 1;
    waitpid(child, &status, 0);
    printf("signal %d\\n", status & 127);
    return 0;
}
"""


def test_the_oom_killer_ends_one_task_and_says_so(rmapbox, compile_c):
    ran = rmapbox("run", "--memory", "8M", "--swap", "4M", "--audit", "full", compile_c(HOG, "hog.c"))
    assert (ran.status, ran.out) == (0, "signal 9\n"), ran.err
    assert re.search(r"oom killer  .*Killed process 3 \(hog\)", ran.err) and "0 violations" in ran.err


def test_closed_descriptors_are_the_null_device(environment, tmp_path):
    script = " ".join([*COMMAND, "run --quiet hello <&- >&- 2>&-"])
    assert subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, timeout=60, check=False).returncode == 0


def test_a_reader_that_goes_away(environment, compile_c, tmp_path):
    """The guest gets SIGPIPE, as it would natively, and the command says no more than that."""
    source = compile_c('#include <stdio.h>\nint main(void) { for (;;) puts("line"); }\n')
    script = " ".join([*COMMAND, f"run --json r.json {source} | head -n 1"])
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, timeout=60, capture_output=True, check=False
    )
    assert done.stdout == b"line\n" and b"killed by SIGPIPE" in done.stderr and b"Traceback" not in done.stderr
    assert read_result(str(tmp_path / "r.json")).exit_status == 128 + signal.SIGPIPE


def test_the_time_limit_holds_while_the_host_keeps_the_guest_waiting(environment, compile_c, tmp_path):
    """A pipe that nobody writes to and nobody closes."""
    reader, writer = os.pipe()
    try:
        done = subprocess.run(
            [*COMMAND, "run", "--time-limit", "0.5", str(compile_c(ECHO))],
            cwd=tmp_path,
            env=environment,
            stdin=reader,
            capture_output=True,
            timeout=30,
            check=False,
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert done.returncode == 124 and b"time limit" in done.stderr


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "out.txt"])
def test_json_to_standard_output_keeps_what_stands_there(tmp_path: Path, environment, compile_c, name: str) -> None:
    with open(tmp_path / "out.txt", "wb") as out:
        out.write(b"before\n")
        out.flush()
        done = subprocess.run(
            [*COMMAND, "run", "--quiet", "--json", name, str(compile_c(SHOW)), "/etc/hostname"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out.txt").read_text()
    assert text.startswith("before\nrmapbox\n{") and text.count('"virtual_ns"') == 1


def test_programs_shows_one(rmapbox):
    ran = rmapbox("programs", "fork_server")
    assert ran.status == 0 and ran.out.count("\n    arguments ") == 1 and ran.out.startswith("fork_server: ")
    assert "rmapbox run fork_server 8 64 16 2 yes\n" in ran.out and "rmapbox run fork_server reclaim=yes\n" in ran.out
    assert "did you mean 'fork_server'?" in rmapbox("programs", "fork_servr").error_line()


def test_lowmem_reads_a_comparison(rmapbox):
    assert rmapbox("compare", "hello", "--rmap", "pte_chain,anon_vma", "--json", "c.json").status == 0
    ran = rmapbox("lowmem", "c.json")
    assert ran.status == 0 and "pte_chain" in ran.out and "anon_vma" in ran.out, ran.err
