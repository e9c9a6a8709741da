"""Options that had no effect, or another than they said."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest

from mmcore.errors import ConfigError
from sandbox import Config, Machine
from sandbox.program import load_program
from sandbox.schemes.registry import load_scheme
from sandbox.status import INTERVAL
from tests.cli.conftest import COMMAND

SHOW = r"""
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    char text[20];
    int fd = open(argv[1], O_RDONLY), n = read(fd, text, sizeof text);
    if (n > 0) write(1, text, n);
    return n <= 0;
}
"""
SCHEME = """
from beside_{tag} import {base}, TITLE
class Base({base}):
    card = {base}.card
    assert TITLE == "{tag}"
    def walk(self, walk):
        import later_{tag}
        return super().walk(walk)
"""


def plugin(directory: Path, name: str = "my.py", tag: str = "one", base: str = "AnonVma") -> Path:
    """A scheme whose file imports a module that stands beside it, at once and later."""
    directory.mkdir(exist_ok=True)
    module = {"AnonVma": "anon_vma", "PteChain": "pte_chain"}[base]
    (directory / f"beside_{tag}.py").write_text(f"from rmap_plugins.{module} import {base}\nTITLE = {tag!r}\n")
    (directory / f"later_{tag}.py").write_text("")
    path = directory / name
    path.write_text(SCHEME.format(tag=tag, base=base))
    return path


# --- mounts


@pytest.mark.parametrize(
    "guest",
    ["/proc", "/proc/", "//proc", "/proc/version", "/proc/new", "/sys", "/sys/kernel/new", "/./proc", "/data/./x"],
)
def test_nothing_is_mounted_over_the_kernels_own(tmp_path: Path, guest: str) -> None:
    with pytest.raises(ConfigError, match="choose a path of its own|absolute path below /"):
        Config(mounts=(f"{tmp_path}:{guest}",))


def test_a_mount_that_another_hides_or_a_link_leads_away_from(tmp_path: Path, rmapbox) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    line = rmapbox("run", "--mount", "a:/d", "--mount", "b:/d/", "hello").error_line()
    assert "b:/d/: a is mounted there already: choose another path" in line
    line = rmapbox("run", "--mount", "a/f:/etc/mtab", "hello").error_line()
    assert "/etc/mtab cannot be a mount point (Too many levels of symbolic links): choose a path of its own" in line
    assert "/proc/f" in rmapbox("run", "--mount", "a/f:/proc/f", "hello").error_line()


def test_other_places_are_obeyed(tmp_path: Path, rmapbox, compile_c) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f").write_text("A")
    program = compile_c(SHOW)
    for mount, seen in (
        ("a:/process", "/process/f"),
        ("a:/dev", "/dev/f"),
        ("a/f:/dev/null", "/dev/null"),
        ("a:/tmp/sys", "/tmp/sys/f"),
    ):
        assert rmapbox("run", "--quiet", "--mount", mount, program, seen).out == "A", mount


# --- the configuration's paths


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path, rmapbox, compile_c) -> None:
    place = tmp_path / "elsewhere"
    plugin(place)
    (place / "data").mkdir()
    (place / "data" / "f").write_text("here")
    (place / "box.toml").write_text(
        '[rmap]\nscheme = "my.py:Base"\n[rmap."my.py:Base"]\nera = "2.6.9"\n[guest]\nmounts = ["data:/d"]\n'
    )
    ran = rmapbox("run", "--quiet", "--config", "elsewhere/box.toml", compile_c(SHOW), "/d/f")
    assert (ran.status, ran.out) == (0, "here"), ran.err


def test_a_scheme_file_imports_what_stands_beside_it(tmp_path: Path, rmapbox) -> None:
    plugin(tmp_path / "lab")
    ran = rmapbox("run", "--quiet", "--rmap", "lab/my.py:Base", "hello")
    assert ran.status == 0, ran.err


def test_two_scheme_files_with_modules_of_one_name(tmp_path: Path) -> None:
    for name, base in (("first", "AnonVma"), ("second", "PteChain")):
        plugin(tmp_path / name, base=base)
    kinds = [load_scheme(str(tmp_path / name / "my.py") + ":Base") for name in ("first", "second", "first")]
    assert [kind.card.name for kind in kinds] == ["anon_vma", "pte_chain", "anon_vma"]


@pytest.mark.parametrize("name", ["x=1.py", "era=2.6.9/my.py", "a=b/c=d.py"])
def test_a_scheme_file_with_an_equals_sign(tmp_path: Path, rmapbox, name: str) -> None:
    path = tmp_path / name
    plugin(path.parent, path.name)
    assert rmapbox("run", "--quiet", "--rmap", f"{name}:Base", "hello").status == 0
    assert rmapbox("run", "--quiet", "--rmap", f"{name}:Base:era=2.6.9", "hello").status == 0
    assert "no scheme is named" in rmapbox("run", "--rmap", "era=2.6.9", "hello").error_line()


# --- the program


def test_a_program_for_the_486_runs(tmp_path: Path, rmapbox, compile_c) -> None:
    """e_machine 6: natively it is executed as any other."""
    image = bytearray(load_program(str(compile_c(SHOW))).image)
    image[18] = 6
    path = tmp_path / "for486"
    path.write_bytes(image)
    assert rmapbox("run", "--quiet", path, "/etc/hostname").out == "rmapbox\n"
    image[18] = 62
    path.write_bytes(image)
    assert "an ELF file for x86-64, not for i386" in rmapbox("run", path).error_line()


# --- signals

SPIN = """
#include <poll.h>
#include <unistd.h>
int main(void)
{
    struct pollfd input = { .fd = 0, .events = POLLIN };
    write(1, "go\\n", 3);
    while (poll(&input, 1, 0) == 0)
        for (volatile int i = 0; i < 100000; i++);
    write(1, "end", 3);
    return 0;
}
"""
"""Says that it runs, and runs until its input ends: however fast the machine is, it runs when the test acts."""


def signalled(
    program: Path, number: int, environment: dict[str, str], *words: str, preexec=None
) -> tuple[int, bytes, bytes]:
    """(status, output, errors) of a run that got the signal while its guest ran; the guest's input ends after that, if
    the run has not."""
    with subprocess.Popen(
        [*COMMAND, "run", "--quiet", *words, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        preexec_fn=preexec,
    ) as process:
        assert process.stdout is not None and process.stdout.read(3) == b"go\n"
        process.send_signal(number)
        if preexec is None:
            process.wait(60)
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_sigint_that_was_ignored_stays_so(environment, compile_c) -> None:
    program = compile_c(SPIN)

    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    assert signalled(program, signal.SIGINT, environment, preexec=ignore)[:2] == (0, b"end")
    status, out, _ = signalled(program, signal.SIGINT, environment)
    assert status == 130 and out == b""


def test_a_foreign_alarm_is_no_time_limit(environment, compile_c) -> None:
    """It ends the command as it ends any other that did not ask for it; ignored at start, it does nothing."""
    program = compile_c(SPIN)
    for words in ((), ("--time-limit", "50")):
        assert signalled(program, signal.SIGALRM, environment, *words)[0] == -signal.SIGALRM
    ignore = lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN)  # noqa: E731
    assert signalled(program, signal.SIGALRM, environment, preexec=ignore)[:2] == (0, b"end")


def test_an_alarm_of_the_embedding_program_is_its_own(compile_c) -> None:
    program = str(compile_c(SPIN))
    load_program(program)
    source, sink = os.pipe()
    rung: list[float] = []

    def ring(*_) -> None:
        rung.append(time.monotonic())
        if len(rung) == 3:
            os.close(sink)

    before, stdin = signal.signal(signal.SIGALRM, ring), os.dup(0)
    os.dup2(source, 0)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)
        result = Machine(Config(time_limit=None)).run([program], capture=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.dup2(stdin, 0)
        os.close(stdin)
        os.close(source)
    assert result.ended == "exited" and len(rung) >= 3


# --- terminals, tables, files


def on_a_terminal(
    environment: dict[str, str], cwd: Path, *words: str, until: bytes = b"", linger: float = 0.0
) -> bytes:
    """What the command writes to a terminal. Its input ends `linger` seconds after it has written `until`."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=subprocess.PIPE, stdout=slave, stderr=slave, env=environment, cwd=cwd
    )
    assert process.stdin is not None
    os.close(slave)
    seen = b""
    while True:
        if until in seen and not process.stdin.closed:
            time.sleep(linger)
            process.stdin.close()
        try:
            data = os.read(master, 65536)
        except OSError:  # EIO: the other side is gone
            break
        if not data:
            break
        seen += data
    os.close(master)
    assert process.wait(60) == 0
    return seen


@pytest.mark.parametrize("columns", ["0", "\u00b2"])
def test_a_size_that_is_none_hides_no_table(tmp_path: Path, environment, rmapbox, columns: str) -> None:
    assert rmapbox("run", "--quiet", "--json", "r.json", "hello").status == 0
    for words, row in (
        (("lowmem", "r.json"), b"kernel_image"),
        (("compare", "hello", "--rmap", "anon_vma,pte_chain"), b"pte_chain"),
    ):
        shown = on_a_terminal({**environment, "COLUMNS": columns, "LINES": columns, "TERM": "xterm"}, tmp_path, *words)
        assert row in shown and shown.count(b"\n") > 10, words


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_without_escape_sequences_gets_none(tmp_path: Path, environment, compile_c, term: str) -> None:
    program = str(compile_c(SPIN))
    plain, run = {**environment, "TERM": term}, ("run", "--time-limit", "60", program)
    assert b"\x1b" not in on_a_terminal(plain, tmp_path, "compare", "hello", "--rmap", "anon_vma,pte_chain")
    assert b"\x1b" not in on_a_terminal(plain, tmp_path, *run, until=b"go", linger=3 * INTERVAL)
    assert b"\x1b[K" in on_a_terminal({**environment, "TERM": "xterm"}, tmp_path, *run, until=b"\x1b[K")


def test_a_configuration_that_begins_with_a_byte_order_mark(tmp_path: Path, rmapbox) -> None:
    (tmp_path / "rmapbox.toml").write_bytes(b'\xef\xbb\xbf[machine]\r\nmemory = "32M"\r\n')
    ran = rmapbox("run", "--quiet", "--json", "r.json", "hello")
    assert ran.status == 0, ran.err
    assert f'"memory": {32 << 20}' in (tmp_path / "r.json").read_text()


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
