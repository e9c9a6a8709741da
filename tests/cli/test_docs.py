"""The documents show what the command prints: the README's summary has the lines of a real one, every option and key is
told."""

import json
import pydoc
import re
import shlex

import pytest

from sandbox import toolchain
from sandbox.cli import compare
from sandbox.cli.run import make_parser
from sandbox.config import Config
from sandbox.configfile import KEYS
from tests.cli.conftest import ROOT

README = (ROOT / "README.md").read_text()
RUNNING = (ROOT / "docs" / "running.md").read_text()


def labels(text):
    """The words that open each line of a summary."""
    return [re.match(r"rmapbox:| *[a-z]+( [a-z]+)?", line)[0].strip() for line in text.strip().splitlines()]


def test_the_readmes_summary_is_one(rmapbox):
    shown = re.search(r"```\n(rmapbox: .*?)```", README, re.DOTALL)[1]
    ran = rmapbox("run", "fork_cow", "--pressure", "--rmap", "anon_vma")
    assert labels(shown) == labels(ran.err)
    told = "".join(re.findall(r"```\n((?:rmapbox: |tasks|reclaim|low memory).*?)```", RUNNING, re.DOTALL))
    assert labels(told) == labels(ran.err)


def test_the_readmes_programs_and_schemes_exist(rmapbox):
    programs, schemes = rmapbox("programs").out, rmapbox("schemes").out
    shown = set(re.findall(r"rmapbox (?:run|compare) (\w+) +--pressure --rmap ([\w,]+)", README))
    assert len(shown) >= 3
    for program, names in shown:
        assert f"{program}:" in programs
        for scheme in names.split(","):
            assert f"{scheme}:" in schemes


def test_the_readmes_table_is_part_of_one(rmapbox):
    shown = re.search(r"```\n( +pte_chain +anon_vma\n.*?)```", README, re.DOTALL)[1].splitlines()
    ran = rmapbox("compare", "fork_cow", "--pressure", "--rmap", "pte_chain,anon_vma")
    assert ran.status == 0, ran.err
    names = [[re.split(r"  +", line.strip())[0] for line in text] for text in (shown, ran.out.splitlines())]
    assert len(shown) > 10 and [name for name in names[0] if name not in names[1]] == []


def test_every_option_is_in_the_document():
    for name in make_parser().own_options():
        if name not in ("-h", "--help"):
            assert f"`{name}" in RUNNING, name


def test_what_compare_takes_and_writes_is_in_the_documents(rmapbox, tmp_path):
    own = compare.make_parser().own_options()
    for name in own.keys() - make_parser().own_options().keys():
        assert f"`{name}`" in RUNNING, name
    assert rmapbox("compare", "hello", "--rmap", "pte_chain,anon_vma", "--quiet", "--json", "c.json").status == 0
    raw = json.loads((tmp_path / "c.json").read_text())
    text = (ROOT / "docs" / "result-keys.md").read_text().partition("## The file of a comparison")[2]
    for key in {*raw, *raw["table"][0]}:
        assert f"`{key}`" in text, key


def test_every_setting_is_in_the_document():
    text = (ROOT / "docs" / "configuration.md").read_text()
    for table in KEYS.values():
        for key in table:
            assert re.search(rf"\| {key} \|", text), key
    for field in Config.__struct_fields__:
        assert re.search(rf"\| {field} \|\n", text), field


def test_every_key_of_a_result_is_in_the_document(rmapbox, tmp_path):
    assert rmapbox("run", "--quiet", "--json", "r.json", "hello").status == 0
    raw = json.loads((tmp_path / "r.json").read_text())
    text = (ROOT / "docs" / "result-keys.md").read_text()
    owner_keys = {key for owner in raw["lowmem"]["owners"].values() for key in owner}
    meters = {key for key in raw["meters"] if not key.startswith("file_")}
    for key in {*raw, *raw["lowmem"], *raw["audit"], *raw["tasks"][0], *owner_keys, *meters}:
        assert f"`{key}`" in text, key
    for name in raw["lowmem"]["owners"]:
        assert name.startswith("slab:") or f"`{name.partition(':')[0]}" in text, name


def test_every_program_is_in_the_document():
    """In the table, or in a section of its own that shows the arguments of its card."""
    text = (ROOT / "docs" / "programs.md").read_text()
    for name, program in toolchain.bundled().items():
        section = re.search(rf"^### {name}\n\nArguments: `(.*)`", text, re.MULTILINE)
        if section:
            assert section[1] == program.arguments
        else:
            row = re.search(rf"^\| `{name}` \|.*", text, re.MULTILINE)
            assert row and all(argument in row[0] for argument in program.defaults), name


def test_the_picture_of_the_document_is_one(rmapbox):
    """All but what the compiler of the host decides: addresses, frames, and what is swapped out."""

    def shape(text):
        return [re.sub(r"[0-9a-f]{3,8}\b.*|0x.*", "", line) for line in text.splitlines()]

    command, shown = re.search(
        r"```\nrmapbox ([^\n]* --picture [^\n]*)\n```.*?```\n(picture .*?)```", RUNNING, re.S
    ).groups()
    found = rmapbox(*command.split()).err
    assert len(shape(shown)) == 11 and shape(found[found.index("picture ") :]) == shape(shown)


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


def test_the_headers_that_a_c_file_may_include_are_listed():
    text = (ROOT / "docs/running.md").read_text()
    listed = re.findall(
        r"[\w/]+\.h\b", "".join(line for line in text.splitlines(keepends=True) if line.startswith("> "))
    )
    include = ROOT / "guest_programs/runtime/include"
    assert sorted(listed) == sorted(path.relative_to(include).as_posix() for path in include.rglob("*.h"))


def test_every_test_file_that_a_document_names_exists():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {
        (page.name, file) for page in pages for file in re.findall(r"tests/[\w/.-]+\.(?:py|c)\b", page.read_text())
    }
    assert len(named) > 50
    assert not [(page, file) for page, file in named if not (ROOT / file).is_file()]


def test_what_a_document_calls_by_name_is_there():
    """Modules, classes and functions in backticks, as in the glossary: `mmcore.physical.frames.Frames`."""
    texts = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    names = {
        name
        for path in texts
        for name in re.findall(r"`((?:mmcore|sandbox|rmap_plugins)(?:\.\w+)+)(?:\([^`]*\))?`", path.read_text())
    }
    assert len(names) >= 25
    assert not [name for name in sorted(names) if pydoc.locate(name) is None]
