"""Runs the command as a user does: in a process of its own, from a directory of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import toolchain

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "sandbox.cli.main"]

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
"""Prints the first bytes of the file that it is given."""

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


class Ran:
    """Outcome of one command: `status`, `out` and `err` as text."""

    def __init__(self, done):
        self.status = done.returncode
        self.out = done.stdout.decode(errors="replace")
        self.err = done.stderr.decode(errors="replace")

    def error_line(self):
        """The one line on stderr of a failed command, checked to be one."""
        assert self.status == 2, self.err
        assert "Traceback" not in self.err
        lines = self.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("rmapbox: "), self.err
        return lines[0]


@pytest.fixture
def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def rmapbox(tmp_path, environment):
    """rmapbox(*words, stdin=bytes, env={}) -> Ran; the working directory is tmp_path."""

    def call(*words, stdin=b"", env=None, timeout=120):
        return Ran(
            subprocess.run(
                [*COMMAND, *map(str, words)],
                input=stdin,
                capture_output=True,
                cwd=tmp_path,
                env={**environment, **(env or {})},
                timeout=timeout,
                check=False,
            )
        )

    return call


@pytest.fixture
def compile_c(tmp_path):
    """compile_c(text) -> path of a .c file; skips the test where no compiler makes i386 programs."""
    if toolchain.find_compiler() is None:
        pytest.skip("no compiler for i386 programs: " + toolchain.REMEDY)

    def write(text, name="prog.c"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write
