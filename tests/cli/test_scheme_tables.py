"""The table [rmap.NAME] reaches a scheme however it is named: by its card's name, in the configuration or on the
command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmcore.errors import ConfigError
from sandbox.configfile import build_config
from sandbox.machine import build_memory

SCHEME = """
from mmcore.rmap import Card
from rmap_plugins.anon_vma import AnonVma

class Mine(AnonVma):
    card = Card(name="my_scheme", title="t", kernels="k", origin="o", complexity="c", options={"depth": (1,
        "how deep")})
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(SCHEME)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("scheme", ["mine.py", "mine.py:Mine", "./mine.py:Mine", "absolute"])
@pytest.mark.parametrize("given", ["command line", "file"])
def test_a_scheme_given_by_file_has_its_table(scheme: str, given: str, directory: Path) -> None:
    scheme = f"{directory}/mine.py:Mine" if scheme == "absolute" else scheme
    (directory / "rmapbox.toml").write_text(
        (f'[rmap]\nscheme = "{scheme}"\n' if given == "file" else "") + "[rmap.my_scheme]\ndepth = 3\n"
    )
    config = build_config(None, {"scheme": scheme} if given == "command line" else {}, {})
    assert config.scheme_options == {"depth": 3}
    assert build_memory(config).scheme.options == {"depth": 3}


def test_a_table_by_path_and_others_tables(directory: Path) -> None:
    (directory / "rmapbox.toml").write_text(
        '[rmap.my_scheme]\ndepth = 3\n[rmap."mine.py:Mine"]\ndepth = 4\n[rmap.pte_chain]\nhighpte = true\n'
    )
    assert build_config(None, {"scheme": "mine.py:Mine"}, {}).scheme_options == {"depth": 4}
    assert build_config(None, {"scheme": "pte_chain"}, {}, ["mine.py:Mine"]).scheme_options == {"highpte": True}


def test_a_misspelt_table_names_the_nearest(directory: Path) -> None:
    (directory / "rmapbox.toml").write_text("[rmap.my_schem]\ndepth = 3\n")
    with pytest.raises(ConfigError, match="did you mean 'my_scheme'"):
        build_config(None, {"scheme": "mine.py:Mine"}, {})


def test_run_and_compare(rmapbox, directory: Path) -> None:  # type: ignore[no-untyped-def]
    (directory / "rmapbox.toml").write_text('[rmap.my_scheme]\ndepth = "wide"\n')
    for words in (["run", "--rmap", "mine.py"], ["compare", "--rmap", "pte_chain,mine.py"]):
        assert "[rmap.my_scheme] depth = 'wide': write it as its default 1" in rmapbox(*words, "hello").error_line()
