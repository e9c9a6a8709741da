"""The laboratory from Python: what a user types at a prompt, and what the documents show."""

import re

import pytest

import sandbox
from sandbox import Config, ConfigError, Machine, PluginError, compare
from tests.cli.conftest import ROOT

SMALL = Config(memory="8M", swap="8M")


@pytest.fixture(scope="module")
def result():
    return Machine(SMALL).run("hello", capture=True)


def test_a_string_is_a_program_without_arguments(result):
    assert result.exit_status == 0 and result.stdout == Machine(SMALL).run(["hello"], capture=True).stdout
    for wrong, said in (
        ("fork_cow 512", r"arguments stand in a list, as in \['fork_cow', '512'\]"),
        (["fork_cow", 512], "write '512'"),
        ([], "no program"),
    ):
        with pytest.raises(ConfigError, match=said):
            Machine(SMALL).run(wrong)


def test_a_result_shows_its_summary(result):
    assert len(repr(result)) < 200 and "exited, status 0" in repr(result) and "\n" not in repr(result)
    assert {line[:12].strip() for line in str(result).splitlines()} >= {"machine", "faults", "walks", "low memory"}
    assert result._repr_html_().startswith("<pre>rmapbox: exited")


@pytest.mark.parametrize(
    "settings, error, said",
    [
        ({"memroy": "8M"}, ConfigError, "did you mean 'memory'"),
        ({"scheme": "anon_vna"}, PluginError, "did you mean 'anon_vma'"),
        ({"swapiness": 3}, ConfigError, "'swappiness'"),
    ],
)
def test_the_nearest_name(settings, error, said, rmapbox, tmp_path):
    with pytest.raises(error, match=said):
        Config(**settings)
    ((key, value),) = settings.items()
    table = "rmap" if key == "scheme" else "machine"
    (tmp_path / "rmapbox.toml").write_text(f"[{table}]\n{key} = {value!r}\n")
    assert said in rmapbox("run", "hello").error_line()


def test_a_comparison_gives_rows_for_a_data_frame():
    found = compare("hello", ["pte_chain", "anon_vma"], SMALL)
    assert found.same and "saw the same" in repr(found) and len(repr(found)) < 200
    rows = found.rows()
    assert all(list(row) == ["section", "name", "scheme", "value", "ratio"] for row in rows)
    faults = {row["scheme"]: row for row in rows if (row["section"], row["name"]) == ("faults", "all")}
    assert [faults[scheme]["value"] for scheme in found.schemes] == [
        result.vmstat["pgfault"] for result in found.results
    ]
    assert faults["pte_chain"]["ratio"] == 1
    for schemes, said in (
        (["anon_vma"], "two schemes"),
        ("anon_vma", "two schemes"),
        (["anon_vma"] * 2, "given twice"),
    ):
        with pytest.raises(ConfigError, match=said):
            compare("hello", schemes, SMALL)


def test_the_public_names_are_there_and_in_the_document():
    text = (ROOT / "docs" / "running.md").read_text()
    for name in sandbox.__all__:
        assert getattr(sandbox, name) is not None and f"{name}" in text, name


@pytest.mark.parametrize("document", ["README.md", "docs/running.md"])
def test_the_examples_run(document, capfd):
    blocks = re.findall(r"```python\n(from sandbox .*?)```", (ROOT / document).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, document, "exec"), {})
    assert capfd.readouterr().out
