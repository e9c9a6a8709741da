"""The bundled programs take their arguments in order or by name, and refuse what is none."""

from __future__ import annotations

import subprocess

import pytest

from sandbox import toolchain
from sandbox.kit.programs import native_works

WITH_DEFAULTS = sorted(name for name, program in toolchain.bundled().items() if program.defaults)


def natively(name, *words):
    if toolchain.find_compiler() is None or not native_works():
        pytest.skip("this host runs no i386 programs")
    done = subprocess.run(
        ["setarch", "i686", "-R", "-3", str(toolchain.program_path(name)), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.parametrize("name", WITH_DEFAULTS)
def test_every_bundled_program_takes_its_arguments_by_name(name):
    defaults = toolchain.bundled()[name].defaults
    if name == "rmap_bench":  # prints times
        defaults = {"row": "list"}
    if name == "rmap_test":
        defaults = {"iterations": "2", "areas": "20", "pages": "8", "tasks": "8"}
    status, out, _ = natively(name, *(f"{key}={value}" for key, value in reversed(defaults.items())))
    assert status == 0
    if name not in ("rmap_bench",):
        assert out == natively(name)[1]
        key = next(iter(defaults))
        status, _, err = natively(name, f"{key}=much")
        assert status == 1 and err.startswith(f"much: {key}")


@pytest.mark.parametrize(
    "words, said",
    [
        (["pages=8", "16"], None),
        (["8", "writes=3"], None),
        (["pagse=3"], "pagse=3: no such argument; there are, in this order or as NAME=VALUE: pages, children, writes"),
        (["1", "2", "1", "4"], "4: no such argument"),
        (["3", "pages=4"], "pages=4: pages is given twice"),
        (["pages="], ": pages must be a number"),
    ],
)
def test_a_word_that_is_no_argument_is_refused(words, said):
    status, _, err = natively("fork_cow", *words)
    assert (status, err) == (0, "") if said is None else status == 1 and err.startswith(said)
