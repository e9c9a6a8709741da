"""Schemes that lie, schemes that never return, readers that go, disks that are full: one clear line, the right status,
and no process left."""

import os
import signal
import subprocess
import time
from dataclasses import replace

import pytest

from mmcore.errors import PluginError
from mmcore.memory import Memory, MemoryConfig
from rmap_plugins.anon_vma import AnonVma
from sandbox.cli import main
from sandbox.kit import suite
from tests.cli.conftest import COMMAND

LIES = '''"""Schemes that lie."""
from dataclasses import replace

from mmcore.rmap import COPY, Setup
from rmap_plugins.anon_vma import AnonVma


class Lies(AnonVma):
    card = replace(AnonVma.card, name="lies", options={})


class CheckIsNoList(Lies):
    def check(self): return 5


class Nowhere(Lies):
    def walk(self, walk): pass


class AlwaysCopy(Lies):
    def add_anon(self, *_): return COPY


class NoLayout(Lies):
    @classmethod
    def configure(cls, machine, options): return None


class NoClass(Lies):
    @classmethod
    def configure(cls, machine, options): return Setup(scheme=7)


class NoIndex(Lies):
    @classmethod
    def configure(cls, machine, options): return Setup(file_index="hash")


class Ends(Lies):
    def add_anon(self, *_): raise SystemExit(0)


class Loops(Lies):
    def add_anon(self, *_):
        while True:
            pass
'''
PRESSED = ("--quiet", "--memory", "5632K", "--audit", "end")


@pytest.fixture
def lies(tmp_path):
    (tmp_path / "lies.py").write_text(LIES)


@pytest.mark.usefixtures("lies")
@pytest.mark.parametrize(
    "name, said",
    [
        ("CheckIsNoList", "check() answers 5: it must be a list of texts"),
        ("NoLayout", "answers None: it must be a Setup"),
        ("NoClass", "scheme = 7 must be a class that derives from WalkScheme"),
        ("NoIndex", "file_index = 'hash' must be one of list, prio_tree, interval_tree"),
        ("Ends", "failed in add_anon (lies.py, line"),
    ],
)
def test_a_wrong_answer_is_told_as_the_schemes(rmapbox, name, said):
    ran = rmapbox("run", *PRESSED, "--rmap", f"lies.py:{name}", "hello")
    assert said in ran.error_line() and "report it" not in ran.err


@pytest.mark.usefixtures("lies")
def test_what_the_audit_finds_is_told_under_the_schemes_name(rmapbox):
    line = rmapbox("run", *PRESSED, "--rmap", "lies.py:AlwaysCopy", "fork_cow", "512", "3", "128").error_line()
    assert "under scheme 'lies.py:AlwaysCopy'" in line and "if the scheme is yours, mend it there" in line
    os.unlink(line.rsplit(" ", 1)[1])


@pytest.mark.usefixtures("lies")
def test_a_walk_that_finds_nothing_is_suspected_when_memory_runs_out(rmapbox):
    ran = rmapbox("run", "--memory", "5632K", "--rmap", "lies.py:Nowhere", "fork_cow", "512", "3", "128")
    assert ran.status == 1 and "hung" in ran.err
    assert "walks found 0 PTEs; --audit full tells whether it misses any" in ran.err


@pytest.mark.parametrize("stage", [9, 38])
def test_stages_that_find_no_anonymous_page_say_so_when_memory_runs_out(rmapbox, stage):
    start = time.monotonic()
    ran = rmapbox("run", "--pressure", "--rmap", f"rmap_series:stage={stage}", "fork_cow")
    assert ran.status == 1 and "hung" in ran.err and time.monotonic() - start < 60
    assert (
        f"after rmap {stage} nothing leads to anonymous pages; pages whose PTEs are not found cannot be swapped out"
        in ran.err
    )


def test_a_negative_size_is_refused():
    class Negative(AnonVma):
        @classmethod
        def configure(cls, machine, options):
            return replace(super().configure(machine, options), vma=-500)

    with pytest.raises(PluginError, match="vma = -500 must be a number of bytes"):
        Memory(MemoryConfig(8 << 20, 0), Negative)


def test_a_scheme_file_that_ends_the_command_is_an_error(rmapbox, tmp_path):
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(0)\n")
    assert "ends.py cannot be loaded: SystemExit: 0" in rmapbox("run", "--rmap", "ends.py:X", "hello").error_line()


@pytest.mark.parametrize(
    "words, said",
    [
        (["run", "hello", "--rmap", "anon_vma:sharing"], "'sharing' is not an option: write anon_vma:key=value"),
        (["run", "hello", "--rmap", "anon_vma:"], "write anon_vma:key=value"),
        (["run", "hello", "--rmap", "./notes.txt:X"], "not a Python file; give path/to/file.py:Class"),
        (["run", "hello", "--rmap", "qqqq"], "there are anon_vma, "),
        (["run", "some_dir"], "is a directory, not a file"),
        (["schemes", "rmap_series:stage=3"], "stage = 3 is not a number from 7 to 40"),
        (["schemes", "check", "rmap_series:stage=3"], "stage = 3 is not a number from 7 to 40"),
        (["schemes", "check", "anon_vma", "--option", "era=9"], "era = '9' is not 2.6.7 or 2.6.9"),
    ],
)
def test_mistakes_are_one_line_with_the_remedy(rmapbox, tmp_path, words, said):
    (tmp_path / "some_dir").mkdir()
    assert said in rmapbox(*words).error_line()


def test_the_card_of_a_stage_tells_of_that_stage(rmapbox):
    shown = rmapbox("schemes", "rmap_series:stage=9").out
    assert (
        "after rmap 9" in shown
        and "nothing leads to anonymous pages" in shown
        and "areas sharing the anon_vma" not in shown
        and "2.6.33" not in shown
    )


def test_a_broken_package_does_not_hide_the_other_schemes(capsys, monkeypatch):
    import sandbox.schemes.registry as registry

    class Entry:
        name, value = "broken", "nowhere:Nothing"

        def load(self):
            raise SystemExit(0)

    monkeypatch.setattr(registry, "_installed", lambda: [Entry()])
    assert main.command(["schemes"]) == 2
    out, err = capsys.readouterr()
    assert (
        "virtual_scan: " in out
        and err == "rmapbox: scheme 'broken': its package cannot be loaded (nowhere:Nothing): SystemExit: 0\n"
    )


def test_our_options_behind_the_programs_arguments_are_spoken_of(rmapbox):
    ran = rmapbox("run", "hello", "one", "--rmap", "pte_chain")
    assert ran.status == 0 and "argument 2: --rmap" in ran.out and "rmapbox: --rmap goes to hello" in ran.err
    for words in (["--", "one", "--rmap", "pte_chain"], ["--quiet", "one", "--rmap", "pte_chain"]):
        ran = rmapbox("run", "hello", *words)
        assert "argument 2: --rmap" in ran.out and "goes to" not in ran.err


# --- output that goes nowhere


@pytest.mark.parametrize("words", [["schemes"], ["programs"], ["compare", "hello", "--rmap", "anon_vma,pte_chain"]])
def test_a_full_disk_is_not_an_internal_error(tmp_path, environment, words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=120,
        )
    assert done.returncode == 2
    assert (
        done.stderr
        == b"rmapbox: the output cannot be written: no space left on device: make room, or let it go elsewhere\n"
    )


@pytest.mark.parametrize("words", [["schemes"], ["compare", "hello", "--rmap", "anon_vma,pte_chain"]])
def test_a_reader_that_went_is_neither_an_error_nor_a_difference(tmp_path, environment, words):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=120,
        )
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_the_report_of_a_check_that_cannot_be_written(capsys, monkeypatch):
    report = suite.Report([suite.CheckRow("contract", "points", count=1)], None, 1.0)
    monkeypatch.setattr(suite, "run", lambda *_: report)
    assert main.command(["schemes", "check", "anon_vma:sharing=false", "--json", "/dev/full"]) == 2
    assert (
        capsys.readouterr().err
        == "rmapbox: --json /dev/full: no space left on device: the result is not written; give another place\n"
    )


# --- schemes that never return


def _live(session):
    """Processes of the session that are no zombies."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{int(entry)}/stat") as file:
                state, _, _, sid = file.read().rsplit(")", 1)[1].split()[:4]
        except (ValueError, OSError):
            continue
        if int(sid) == session and state != "Z":
            found.append(int(entry))
    return found


@pytest.mark.usefixtures("lies")
def test_ctrl_c_ends_a_run_whose_scheme_never_returns(tmp_path, environment):
    process = subprocess.Popen(
        [*COMMAND, "run", "--rmap", "lies.py:Loops", "hello"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        time.sleep(2.0)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=15)[1]
    finally:
        process.kill()
    assert process.returncode == 130 and err.startswith(b"rmapbox: interrupted") and b"Traceback" not in err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_job_of_a_check_outlives_it(tmp_path, environment, how):
    process = subprocess.Popen(
        [*COMMAND, "schemes", "check", "anon_vma"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while len(jobs := _live(process.pid)) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(how)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert len(jobs) >= 2 and process.returncode == (130 if how == signal.SIGINT else -how)
    deadline = time.monotonic() + 10
    while _live(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _live(process.pid)


def test_a_check_of_a_scheme_that_loops_gives_up_early(monkeypatch):
    def forever():
        while True:
            time.sleep(1)

    rows = [suite.CheckRow(name, "things") for name in ("first", "second", "third")]
    jobs = [suite.Job(name, forever, 0.5) for name in ("first", "second", *["third"] * 50)]
    monkeypatch.setattr(suite, "jobs", lambda *_: (rows, jobs))
    report = suite.run("loops", AnonVma, {}, 1.0)
    assert report.seconds < 20 and not report.passed
    assert [row.verdict for row in rows] == [suite.FAILED, suite.FAILED, suite.NOT_TRIED] and "did not end" in rows[
        2
    ].note
