"""The toolchain: what is compiled when, what the user is told, and what is shipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import toolchain

needs_compiler = pytest.mark.skipif(
    toolchain.find_compiler() is None, reason=f"no compiler for guest programs: {toolchain.REMEDY}"
)
ROOT = Path(toolchain.__file__).resolve().parent.parent


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rmapbox"


@pytest.fixture
def other_compiler(monkeypatch):
    """other_compiler(command): as if only this one were there."""

    def choose(command: str) -> None:
        monkeypatch.setenv("RMAPBOX_CC", command)
        toolchain._probed.cache_clear()

    yield choose
    toolchain._probed.cache_clear()


def write(directory: Path, text: str, name: str = "program.c") -> Path:
    path = directory / name
    path.write_text(text)
    return path


@needs_compiler
def test_compiles_once(cache, tmp_path, monkeypatch):
    source = write(tmp_path, "int main(void) { return 0; }\n")
    first = toolchain.compile_c(source)
    assert first.parent == cache and first.read_bytes()[:4] == b"\x7fELF" and os.access(first, os.X_OK)
    before = first.stat()
    assert toolchain.compile_c(source) == first and first.stat().st_ino == before.st_ino
    assert not list(cache.glob("building-*")), "nothing half-made is left"


@needs_compiler
def test_cache_knows_all_that_decides(cache, tmp_path):
    header = write(tmp_path, "#define STATUS 1\n", "status.h")
    source = write(tmp_path, '#include "status.h"\nint main(void) { return STATUS; }\n')
    first = toolchain.compile_c(source)
    header.write_text("#define STATUS 2\n")
    second = toolchain.compile_c(source)
    assert second != first and second != toolchain.compile_c(source, flags=("-O0",))
    header.write_text("#define STATUS 1\n")
    assert toolchain.compile_c(source) == first


@needs_compiler
def test_output_is_placed(cache, tmp_path):
    wanted = tmp_path / "bin-of-mine"
    assert toolchain.compile_c(write(tmp_path, "int main(void) { return 0; }\n"), wanted) == wanted
    assert wanted.read_bytes()[:4] == b"\x7fELF" and os.access(wanted, os.X_OK)


@needs_compiler
@pytest.mark.parametrize(
    "text, words",
    [
        ("int main(void) { return x; }\n", "program.c:1:25: error: 'x' undeclared"),
        ("#include <math.h>\nint main(void) { }\n", "the guest runtime has no <math.h>"),
        ("int frobnicate(int); int main(void) { return frobnicate(1); }\n", "the guest runtime has no frobnicate()"),
    ],
)
def test_errors_are_the_compilers_first_lines(cache, tmp_path, text, words):
    if toolchain.find_compiler().kind != "gcc":
        pytest.skip("the words are gcc's")
    with pytest.raises(toolchain.CompileError) as caught:
        toolchain.compile_c(write(tmp_path, text))
    message = str(caught.value)
    assert words in message and len(message.splitlines()) <= 4 and str(tmp_path) not in message


def test_missing_source_is_named(cache, tmp_path):
    with pytest.raises(toolchain.CompileError, match="absent.c: No such file"):
        toolchain.compile_c(tmp_path / "absent.c")


def test_without_a_compiler_the_remedy_is_named(cache, tmp_path, other_compiler):
    other_compiler("/nowhere/gcc")
    source = write(tmp_path, "int main(void) { return 0; }\n")
    assert toolchain.find_compiler() is None
    with pytest.raises(toolchain.CompileError, match=r"apt-get install gcc, or pip install \"rmapbox\[toolchain\]\""):
        toolchain.compile_c(source)
    (entry,) = toolchain.compiler_report()
    assert entry["works"] is False and "apt-get install gcc" in str(entry["remedy"])
    assert toolchain.build_all(tmp_path / "bin") == {} and not (tmp_path / "bin").exists()


def test_a_compiler_that_fails_is_refused(tmp_path, other_compiler):
    broken = write(tmp_path, "#!/bin/sh\necho 'gcc: error: i386 is beyond me' >&2\nexit 1\n", "gcc")
    broken.chmod(0o755)
    other_compiler(str(broken))
    assert toolchain.find_compiler() is None
    assert "i386 is beyond me" in str(toolchain.compiler_report()[0]["remedy"])


@needs_compiler
def test_report_of_a_working_compiler():
    entry = toolchain.compiler_report()[-1]
    assert entry["works"] is True and entry["remedy"] == "" and entry["version"] and entry["runtime"] in ("own", "musl")


def test_cards_are_complete():
    programs = toolchain.bundled()
    assert list(programs) == sorted(programs) and "fork_cow" in programs
    for program in programs.values():
        assert all((program.summary, program.drives, program.arguments, program.look_at)), program.name
        assert program.summary.endswith(".") and "  " not in program.look_at
    assert programs["fork_cow"].defaults == {"pages": "256", "children": "3", "writes": "64"}


@pytest.mark.parametrize(
    "text, words",
    [
        ("int main(void) { }\n", "must have the keys name, summary"),
        ("/*\n * name: odd\n * summary: x\n * drives: x\n * look at: x\n * arguments: x\n */\n", "in this order"),
        ("/*\n * name: even\n * summary: x\n * drives: x\n * arguments: x\n * look at: x\n */\n", "named 'even'"),
    ],
)
def test_bad_cards_are_told(tmp_path, text, words):
    with pytest.raises(toolchain.CompileError, match=words):
        toolchain.parse_card(write(tmp_path, text, "odd.c"))


@needs_compiler
def test_shipped_programs_are_used_while_they_fit(cache, tmp_path, monkeypatch):
    only = {name: toolchain.bundled()[name] for name in ("hello", "pipe_pingpong")}
    monkeypatch.setattr(toolchain, "bundled", lambda: only)
    shipped = tmp_path / "bin"
    assert toolchain.build_all(shipped) == {name: shipped / name for name in only}
    monkeypatch.setattr(toolchain, "SHIPPED", shipped)
    assert toolchain.program_path("hello") == shipped / "hello"
    recorded = json.loads((shipped / toolchain.MANIFEST).read_text())
    recorded["hello"] = "another source"
    (shipped / toolchain.MANIFEST).write_text(json.dumps(recorded))
    assert toolchain.program_path("hello").parent == cache
    assert toolchain.program_path("pipe_pingpong") == shipped / "pipe_pingpong"


def test_cache_falls_back(tmp_path, monkeypatch):
    blocked = write(tmp_path, "", "a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert toolchain.cache_directory() == tmp_path / "home" / ".cache" / "rmapbox"
    monkeypatch.setenv("HOME", str(blocked))
    monkeypatch.setattr(toolchain.tempfile, "gettempdir", lambda: str(tmp_path))
    assert toolchain.cache_directory() == tmp_path / f"rmapbox-{os.getuid()}"


def test_needs_nothing_but_the_standard_library():
    """setup.py uses the file before anything is installed."""
    code = (
        "import sys; sys.modules.update(unicorn=None, mmcore=None, numpy=None, msgspec=None); from sandbox import "
        "toolchain; print(len(toolchain.bundled()))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    assert int(done.stdout) >= 13
