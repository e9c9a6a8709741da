"""What is not rmapbox's fault is not told as its fault: a scheme's constructor, a host short of something, a working
directory that is gone."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from mmcore.errors import PluginError
from sandbox import Config, Machine
from sandbox.cli import main, run

ROOT = Path(__file__).resolve().parents[2]
GIB = 1 << 30

SCHEME = """
from rmap_plugins.anon_vma import AnonVma

class Mine(AnonVma):
    def __init__(self, env, options):
        self.count = 0
"""


def rmapbox(*words: str, cwd: Path | None = None, before: object = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox.cli.main", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=60,
        preexec_fn=before,
    )  # type: ignore[call-overload, no-any-return]


def one_line(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == 2 and ran.stdout == ""
    assert ran.stderr.startswith("rmapbox: ") and ran.stderr.count("\n") == 1 and "internal error" not in ran.stderr
    return ran.stderr


def test_a_constructor_without_super(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SCHEME)
    with pytest.raises(
        PluginError, match=r"Mine\.__init__ \(mine\.py, line 5\).*call super\(\)\.__init__\(env, options\)"
    ):
        Machine(Config(scheme=f"{file}:Mine")).run(["hello"])
    file = ROOT / "tests/guests/programs/initnosuper.py"
    assert "Base.__init__ (initnosuper.py, line " in one_line(
        rmapbox("run", "--quiet", "--rmap", f"{file}:Base", "hello")
    )


@pytest.mark.parametrize("size", [GIB // 10, GIB // 2, GIB, GIB * 5 // 4])
@pytest.mark.parametrize(
    "words", [("run", "--quiet", "hello"), ("compare", "--rmap", "anon_vma,pte_chain", "hello"), ("schemes",)]
)
def test_too_little_address_space(size: int, words: tuple[str, ...]) -> None:
    ran = rmapbox(*words, before=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)))
    if words == ("schemes",) and ran.returncode == 0:
        return  # it makes no machine: what fits may run
    assert "ulimit -v" in one_line(ran)


def test_the_doctor_says_so() -> None:
    ran = rmapbox("doctor", before=lambda: resource.setrlimit(resource.RLIMIT_AS, (GIB, GIB)))
    line = next(line for line in ran.stdout.splitlines() if "address space" in line)
    assert ran.returncode == 2 and line.startswith("missing") and "; lift its limit (ulimit -v unlimited)" in line


@pytest.mark.parametrize(
    "error, remedy",
    [
        (MemoryError(), "ulimit -v"),
        (OSError(errno.ENOMEM, "x"), "--memory"),
        (OSError(errno.EMFILE, "x"), "ulimit -n"),
        (OSError(errno.EMFILE, "x", "/some/file"), "ulimit -n"),
        (OSError(errno.ENFILE, "x"), "fs.file-max"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (BlockingIOError(errno.EAGAIN, "x"), "ulimit -u"),
    ],
)
def test_shortages(
    error: Exception, remedy: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(run, "main", short)
    assert main.command(["run"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and remedy in err and "internal" not in err


def test_too_few_descriptors(tmp_path: Path) -> None:
    source = tmp_path / "a.c"
    source.write_text("int main(void) { return 0; }\n")
    ran = rmapbox("run", "--quiet", str(source), before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5)))
    assert "too many open files" in one_line(ran) and "apt-get" not in ran.stderr


WITHOUT_PROCESSES = """
import os, resource
from sandbox import Config
from sandbox.hostlimits import shortage
from sandbox.lab.children import run_children
jobs = [("anon_vma", Config())]
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
if os.geteuid() == 0:
    os.setuid(65534)  # root has no such limit
try:
    run_children(jobs, ["hello"])
except OSError as error:
    print(shortage(error))
"""


def test_a_host_that_starts_no_process() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_PROCESSES],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert ran.stdout == "this host starts no more processes or threads: raise `ulimit -u`, or end some programs\n", (
        ran.stderr
    )


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--quiet", "--json", "x.json", "hello"),
        ("run", "--quiet", "--mount", ".:/m", "hello"),
        ("run", "--quiet", "--mount", "x:/m", "hello"),
        ("compare", "--json", "x.json", "--rmap", "anon_vma,pte_chain", "hello"),
        ("schemes", "check", "--json", "x.json", "anon_vma"),
    ],
)
def test_a_working_directory_that_is_gone(tmp_path: Path, words: tuple[str, ...]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    ran = rmapbox(*words, cwd=gone, before=gone.rmdir)
    assert "the working directory was deleted: change into one that is there, or give absolute paths" in one_line(ran)
