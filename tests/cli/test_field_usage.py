"""What the documents promise a new user: arguments by name, examples that do what they are there for, options and
messages that say what is meant."""

import json
import re
import shlex
import subprocess

import pytest

from sandbox import toolchain
from sandbox.config import BadValue, Config
from sandbox.kit.programs import native_works
from tests.cli.conftest import ROOT

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


def readme_lines(start):
    return [
        shlex.split(line)
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith(start) and "--pressure" in line
    ]


@pytest.mark.parametrize("words", readme_lines("rmapbox compare "), ids=" ".join)
def test_the_readmes_examples_of_pressure_are_under_pressure(words, rmapbox, tmp_path):
    ran = rmapbox("compare", "--json", "c.json", *words[2:])
    assert ran.status == 0, ran.err
    raw = json.loads((tmp_path / "c.json").read_text())
    assert "touch more" not in raw["pressure"]
    assert all(result["vmstat"]["pswpout"] > 100 for result in raw["results"])


def test_programs_shows_one(rmapbox):
    ran = rmapbox("programs", "fork_server")
    assert ran.status == 0 and ran.out.count("\n    arguments ") == 1 and ran.out.startswith("fork_server: ")
    assert "rmapbox run fork_server 8 64 16 2\n" in ran.out and "rmapbox run fork_server rounds=2\n" in ran.out
    assert "did you mean 'fork_server'?" in rmapbox("programs", "fork_servr").error_line()


def test_lowmem_reads_a_comparison(rmapbox):
    assert rmapbox("compare", "hello", "--rmap", "pte_chain,anon_vma", "--json", "c.json").status == 0
    ran = rmapbox("lowmem", "c.json")
    assert ran.status == 0 and "pte_chain" in ran.out and "anon_vma" in ran.out, ran.err


@pytest.mark.parametrize(
    "setting, value, said",
    [
        ("memory", "64", "64 is 64 bytes, less than a page: add the unit that is missing, as in 64M"),
        ("memory", "65536", "65536 bytes (there is no unit) is too small to boot: give at least 5M"),
        ("memory", "64K", "64K is too small to boot: give at least 5M"),
        ("swap", 128, "128 is 128 bytes, less than a page: add the unit that is missing, as in 128M"),
    ],
)
def test_a_size_without_its_unit(setting, value, said):
    with pytest.raises(BadValue) as caught:
        Config(**{setting: value})
    assert caught.value.text == said
    assert Config(swap=0).swap == 0


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


def test_the_headers_that_a_c_file_may_include_are_listed():
    text = (ROOT / "docs/running.md").read_text()
    listed = re.findall(
        r"[\w/]+\.h\b", "".join(line for line in text.splitlines(keepends=True) if line.startswith("> "))
    )
    include = ROOT / "guest_programs/runtime/include"
    assert sorted(listed) == sorted(path.relative_to(include).as_posix() for path in include.rglob("*.h"))
